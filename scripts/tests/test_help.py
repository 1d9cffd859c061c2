"""What scripts say of themselves."""

import subprocess
import unittest

from support import SCRIPTS, script

IN_PYTHON = ["bench_loader.py", "bench_pytorch.py", "convert_checkpoint.py", "count_kernels.py", "precision_curves.py",
             "predict_step.py", "scaling.py", "update_readme.py"]
IN_BASH = ["gpu-check.sh", "install-nvcc.sh", "kernel-resources.sh", "sanitize.sh", "setup-python.sh"]


class Help(unittest.TestCase):
    def test_scripts_in_python_have_it_without_packages(self):
        for name in IN_PYTHON:
            done = script(name, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)

    def test_scripts_in_bash_print_their_first_lines(self):
        for name in IN_BASH:
            done = subprocess.run([SCRIPTS / name, "--help"], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)
            self.assertTrue(done.stdout.startswith(name), name)
            self.assertNotIn("set -", done.stdout, name)

    def test_what_scripts_in_bash_do_not_know_is_refused(self):
        for name in IN_BASH:
            done = subprocess.run([SCRIPTS / name, "--unknown"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, name)
            self.assertIn("--unknown", done.stderr, name)


if __name__ == "__main__":
    unittest.main()
