"""gpu-check.sh as it is run on a GPU, with the executable itself and a driver that stands in for NVIDIA's: every part, each
command line as kerase takes it, and what is read from its answers. Networks are small (fakes/small-kerase), and CUDA's tools
and PyTorch are stood in for."""

import re
import unittest

from support import ROOT, SCRIPTS, Machine

import gpu_check


class Rehearsal(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.machine = machine = Machine("small-kerase")
        for name in ["compute-sanitizer", "ncu", "nvidia-smi"]:
            machine.command(name)
        cls.code = machine.check("--wheels", machine.pytorch(), "--budget", 540, "--timeout", 150)
        cls.report = machine.report()

    def result(self, part):
        return self.report["parts"][part]["result"]

    def test_every_part_passes(self):
        self.assertEqual(self.code, 0, self.machine.said)
        self.assertEqual(self.report["status"], "complete", self.machine.said)
        self.assertEqual(list(self.report["parts"]), gpu_check.PARTS)
        parts = len(gpu_check.PARTS)
        self.assertIn(f"complete on stand-in: {parts} of {parts} parts ran", self.machine.said)

    def test_it_says_what_was_checked_on_what(self):
        self.assertEqual(self.report["machine"], {
            "name": "stand-in", "memory": "8192 MiB", "compute_capability": "9.0", "driver": "580.65.06"})
        self.assertEqual(self.report["commit"], self.result("info")["build"]["commit"])
        named = "{device}-{date}-{sha}.json".format(**self.report, sha=self.report["executable_sha256"][:8])
        self.assertEqual(self.machine.files(), [named])

    def test_no_path_of_the_machine_is_published(self):
        (name,) = self.machine.files()
        text = (self.machine.results / name).read_text()
        for path in [str(ROOT), str(self.machine.folder), "kerase-gpu-check-"]:
            self.assertNotIn(path, text)

    def test_steps_with_other_tilings_are_timed_in_turn(self):
        for part in ["tilings-tf32", "tilings-bf16"]:
            turns = self.result(part)["steps"]
            self.assertEqual([{name: step.get("tilings_of_this_pass") for name, step in turn.items()} for turn in turns],
                             3 * [{"as it is": None, "better": 2, "better, not of filters": 1}])

    def test_overlap_is_measured_in_all_its_kinds(self):
        self.assertEqual(list(self.result("overlap")), ["off", "dependent", "beside", "on", "on, all split alike"])

    def test_kernels_are_those_of_a_step(self):
        kernels = self.result("kernels")["kernels"]
        self.assertEqual(self.result("kernels")["steps"], 2)
        self.assertEqual(kernels["update_adam"], {"calls": 1, "ms": 0.0015})
        self.assertEqual(kernels["cascade_update"]["calls"], 12)

    def test_losses_of_both_devices_are_there(self):
        found = self.result("train")
        self.assertEqual([len(found["cpu_losses"]), len(found["device_losses"])], 2 * [gpu_check.STEPS])

    def test_the_table_has_medians_of_the_same_pass(self):
        (name,) = self.machine.files(".md")
        text = (self.machine.results / name).read_text()
        self.assertTrue(text.startswith(f"stand-in, {self.report['date']}, commit {self.report['commit']}, "), text)
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
        parts = list(dict.fromkeys(row[0] for row in rows[2:]))
        self.assertEqual(parts, list(gpu_check.PYTORCH))
        for part, key, ours, theirs, ratio in rows[2:]:
            result = self.result(part)
            median = result["median"][key]
            self.assertEqual([ours, theirs], [f"{median[name]:.4g}" for name in ["kerase", "pytorch"]])
            self.assertEqual(ratio, f"{median['pytorch'] / median['kerase']:.2f}")
            self.assertEqual(result["rounds"], 3)

    def test_pytorch_computes_what_kerase_does(self):
        for part, (precision, of_kerase, _) in gpu_check.PYTORCH.items():
            for run in self.result(part)["runs"]["kerase"]:
                self.assertEqual(run["precision"], precision, part)
                self.assertEqual(run["low_memory"], "--low-memory" in of_kerase, part)
            for run in self.result(part)["runs"]["pytorch"]:
                self.assertEqual(run["matmul"], "highest" if precision == "fp32" else "high", part)
                self.assertEqual(run["autocast"], "bf16" if precision == "bf16" else "off", part)
                self.assertEqual(run["compile"], part == "pytorch-compiled")


class Documentation(unittest.TestCase):
    def test_the_parts_that_it_names_are_there(self):
        head = (SCRIPTS / "gpu-check.sh").read_text().split("set -euo", 1)[0].replace("\n#", " ")
        listed = re.search(r"--only PARTS(.*)--out DIR", head, re.DOTALL)[1]
        at = [re.search(rf"(?<![\w-]){part}(?![\w-])", listed) for part in gpu_check.PARTS]
        missing = [part for part, found in zip(gpu_check.PARTS, at) if not found]
        self.assertEqual(missing, [])
        places = [found.start() for found in at]
        self.assertEqual(places, sorted(places), "they are not in their order")
        for given in re.findall(r"--only (\S+)", (ROOT / "CONTRIBUTING.md").read_text()):
            # Other commands have an option of this name, too.
            if "," in given:
                self.assertEqual(set(given.split(",")) - set(gpu_check.PARTS), set())


if __name__ == "__main__":
    unittest.main()
