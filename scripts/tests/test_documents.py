"""Documents that scripts write are what they would write now, from the results that are here and this executable."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support import KERASE, ROOT, kerase, scratch, script

import precision_curves
import scaling


class Readme(unittest.TestCase):
    def setUp(self):
        """A checkout of what the script looks at."""
        self.root = Path(tempfile.mkdtemp(dir=scratch()))
        (self.root / "scripts").mkdir()
        for name in ["README.md", "scripts/update_readme.py"]:
            shutil.copy(ROOT / name, self.root / name)
        shutil.copytree(ROOT / "benches/results", self.root / "benches/results")

    def check(self, *words):
        command = [sys.executable, self.root / "scripts/update_readme.py", *words]
        return subprocess.run(command, capture_output=True, text=True)

    def test_its_tables_are_those_of_the_results(self):
        done = self.check("--check")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_number_that_changed_is_seen_in_every_table(self):
        readme = self.root / "README.md"
        before = readme.read_text()
        for name, key in [("pytorch-cpu-paper-train.json", "train_seconds"), ("loader-cpu.json", "median_slices_per_second"),
                          ("demo.json", "summary")]:
            file = self.root / "benches/results" / name
            text = file.read_text()
            result = json.loads(text)
            if key == "summary":
                result[key][0]["scores"]["psnr"]["mean"] += 1
            else:
                of = result[key] if key in result else result["median"][key]
                of[next(iter(of))] *= 1.1
            file.write_text(json.dumps(result))
            done = self.check("--check")
            self.assertIn("run scripts/update_readme.py", done.stderr, name)
            self.assertEqual((done.returncode, readme.read_text()), (1, before))
            # And written, where that is asked for.
            self.assertEqual(self.check().returncode, 0)
            self.assertNotEqual(readme.read_text(), before)
            file.write_text(text)
            self.check()
            self.assertEqual(readme.read_text(), before)


class Predictions(unittest.TestCase):
    def test_the_step_is_predicted_from_what_kerase_plans(self):
        document = Path(tempfile.mkdtemp(dir=scratch())) / "tensor-cores.md"
        text = (ROOT / "docs/tensor-cores.md").read_text()
        # Every number of the tables is to come back.
        emptied = re.sub(r"(<!-- (predicted-\w+) -->\n).*?(<!-- /\2 -->)", r"\1\3", text, flags=re.DOTALL)
        document.write_text(emptied)
        done = script("predict_step.py", "--kerase", KERASE, "--doc", document)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLess(len(emptied), len(text))
        self.assertEqual(document.read_text(), text, "run scripts/predict_step.py")

    def test_ranks_are_predicted_from_what_kerase_plans(self):
        document = Path(tempfile.mkdtemp(dir=scratch())) / "scaling.md"
        text = (ROOT / "docs/scaling.md").read_text()
        document.write_text(re.sub(r"(<!-- scaling -->\n).*?(<!-- /scaling -->)", r"\1\2", text, flags=re.DOTALL))
        plan = kerase(*"bench --plan H100 --precision tf32 --mode train --json".split())
        done = script("scaling.py", "--into", document, input=plan)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(document.read_text(), text, "run scripts/scaling.py, as it says")

    def test_the_sum_over_ranks_takes_what_a_ring_does(self):
        gradient, inside, outside = 120e6, 450e9, 50e9
        self.assertEqual(scaling.all_reduce(1, gradient, inside, outside), 0)
        # Over two GPUs each sends half, twice.
        two = scaling.all_reduce(2, gradient, inside, outside)
        self.assertAlmostEqual(two, gradient / (0.8 * inside) + 2 * 3e-6, places=12)
        self.assertGreater(scaling.all_reduce(16, gradient, inside, outside), scaling.all_reduce(8, gradient, inside, outside))


class PrecisionCurves(unittest.TestCase):
    result = json.loads(precision_curves.JSON.read_text())

    def test_table_and_figure_are_those_of_the_curves(self):
        result = self.result | precision_curves.compared(self.result)
        self.assertEqual(result, self.result)
        self.assertIn(precision_curves.table(result), precision_curves.DOCUMENT.read_text())
        self.assertEqual(precision_curves.figure(result), precision_curves.SVG.read_text())

    def test_an_end_beyond_the_seeds_is_no_pass(self):
        apart = json.loads(json.dumps(self.result))
        run = next(run for run in apart["runs"] if run["precision"] == "bf16")
        run["validation"][-1]["psnr"] += 2 * self.result["spread"]["psnr"]["range"]
        self.assertTrue(precision_curves.compared(self.result)["within_spread"])
        self.assertFalse(precision_curves.compared(apart)["within_spread"])


if __name__ == "__main__":
    unittest.main()
