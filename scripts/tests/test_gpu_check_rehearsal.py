"""gpu-check.sh as it is run on a GPU, with the executable itself and a driver that stands in for NVIDIA's: every part, each
command line as kerase takes it, and what is read from its answers. Networks are small (fakes/small-kerase), and CUDA's tools
and PyTorch are stood in for."""

import re
import unittest
from pathlib import Path

from support import ROOT, SCRIPTS, Machine

import gpu_check


class Rehearsal(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.machine = machine = Machine("small-kerase")
        for name in ["compute-sanitizer", "ncu", "nvidia-smi"]:
            machine.command(name)
        cls.copy = machine.folder / "copy"
        cls.code = machine.check("--wheels", machine.pytorch(), "--rival", machine.rival(), "--copy", cls.copy,
                                 "--budget", 540, "--timeout", 150)
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

    def test_all_that_is_written_is_copied(self):
        files = lambda folder: {file.name: file.read_bytes() for file in folder.iterdir()}
        self.assertEqual(files(self.copy), files(self.machine.results))
        self.assertEqual({Path(name).suffix for name in files(self.copy)}, {".json", ".md"})

    def test_steps_with_other_tilings_are_timed_in_turn(self):
        for part in ["tilings-tf32", "tilings-bf16"]:
            turns = self.result(part)["steps"]
            self.assertEqual([{name: step.get("tilings_of_this_pass") for name, step in turn.items()} for turn in turns],
                             3 * [{"as it is": None, "better": 2, "better, not of filters": 1}])

    def test_overlap_is_measured_in_all_its_kinds(self):
        kinds = ["off", "dependent", "beside", "on", *(f"{kind}, all split alike" for kind in ["dependent", "beside", "on"])]
        self.assertEqual(list(self.result("overlap")), kinds)
        for steps in self.result("overlap").values():
            self.assertEqual([step["device"].split()[0] for step in steps], 2 * ["cuda:0"])

    def test_another_build_of_the_same_has_the_same_weights(self):
        found = self.result("rival")
        self.assertEqual(found["build"], self.result("info")["build"])
        self.assertNotEqual(found["executable_sha256"], self.report["executable_sha256"])
        for precision in ["tf32", "bf16"]:
            self.assertIs(found[precision]["same_weights"], True)
            for turn in found[precision]["turns"]:
                self.assertEqual([step["precision"] for step in turn.values()], 2 * [precision])

    def test_sanitizers_watch_a_training_and_operations(self):
        for tool, names in [("memcheck", ["tf32", "bf16"]), ("racecheck", [
                f"{precision} {name}" for precision in ["tf32", "bf16"] for name in ["conv3x3", "conv_transpose"]])]:
            self.assertEqual(list(self.result(tool)["summaries"]), ["training", *names])

    def test_clocks_are_there_of_what_takes_long(self):
        self.assertEqual(self.report["parts"]["overlap"]["clocks_mhz"], [1980, 1980, 1980])

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
        for part, key, ours, theirs, ratio, rounds in rows[2:]:
            result = self.result(part)
            median = result["median"][key]
            self.assertEqual([ours, theirs], [f"{median[name]:.4g}" for name in ["kerase", "pytorch"]])
            self.assertEqual(ratio, f"{median['pytorch'] / median['kerase']:.2f}")
            self.assertEqual((rounds, result["rounds"]), ("3", 3))

    def test_pytorch_computes_what_kerase_does(self):
        for part, (precision, of_kerase, _) in gpu_check.PYTORCH.items():
            for run in self.result(part)["runs"]["kerase"]:
                self.assertEqual(run["precision"], precision, part)
                self.assertEqual(run["low_memory"], "--low-memory" in of_kerase, part)
            for run in self.result(part)["runs"]["pytorch"]:
                self.assertEqual(run["matmul"], "highest" if precision == "fp32" else "high", part)
                self.assertEqual(run["autocast"], "bf16" if precision == "bf16" else "off", part)
                self.assertEqual(run["compile"], part == "pytorch-compiled")
                self.assertEqual(run["iters"], 20)
            self.assertIn("--warm-up 50 --iters 50", self.result(part)["command"])


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
