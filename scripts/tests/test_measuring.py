"""What measures: kernels counted without a GPU, kerase beside PyTorch, reading beside fastMRI's."""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from support import (FAKES, KERASE, SCRIPTS, SMALL, SMALL_SLICE, TARGET, alive, answers, environment, kerase, scratch,
                     until)

import bench_loader
import bench_pytorch
import count_kernels


class Counts(unittest.TestCase):
    def test_kernels_are_counted_as_often_as_kerase_plans_them(self):
        with mock.patch.object(count_kernels, "BUILT", TARGET / "tmp"):
            for precision, mode in [("tf32", "train"), ("bf16", "inference")]:
                network = [*SMALL, *SMALL_SLICE]
                counted = count_kernels.by_kernel(count_kernels.lines_of(KERASE, precision, mode, network))
                plan = kerase("bench", "--plan", "H100", "--precision", precision, "--mode", mode, *network, "--json")
                launches = {name: kernel.launches for name, kernel in counted.items()}
                self.assertEqual(launches, json.loads(plan)["launches"], f"{precision}, {mode}")
                for name, kernel in counted.items():
                    self.assertGreater(kernel.instructions, 0, name)
                table = count_kernels.table(counted)
                self.assertIn(f"| **all** | {sum(launches.values()):.0f} |", table)
                self.assertEqual(len(table.splitlines()), 3 + len(counted))


class BesidePyTorch(unittest.TestCase):
    def command(self, *words, alternate="kerase bench --step --json"):
        with mock.patch.object(sys, "argv", ["bench_pytorch.py", "--alternate", alternate, *words]):
            return bench_pytorch.kerase_command(bench_pytorch.parse())

    def test_kerase_is_asked_for_the_same(self):
        for words, precision in [
            (["--device", "cpu"], None),
            (["--device", "cuda:0"], "fp32"),
            (["--device", "cuda:0", "--matmul", "high"], "tf32"),
            (["--device", "cuda:0", "--matmul", "high", "--autocast", "bf16"], "bf16"),
        ]:
            command = self.command(*words, "--coils", "3", "--mode", "train")
            self.assertEqual(bench_pytorch.option(command, "--device"), words[1])
            self.assertEqual(bench_pytorch.option(command, "--precision"), precision)
            for name, value in [("--coils", "3"), ("--cascades", "12"), ("--mode", "train"), ("--iters", "5")]:
                self.assertEqual(bench_pytorch.option(command, name), value)

    def test_what_the_command_names_is_left(self):
        command = self.command("--device", "cuda", alternate="kerase bench --precision=bf16 --device cuda:1")
        self.assertEqual([word for word in command if "precision" in word], ["--precision=bf16"])
        self.assertEqual(command.count("--device"), 1)
        command = self.command("--iters", "7", "--warm-up", "2", alternate="kerase bench --warm-up=50")
        self.assertEqual([bench_pytorch.option(command, name) for name in ["--warm-up", "--iters"]], ["50", "7"])
        self.assertFalse("--warm-up" in command)
        command = self.command("--iters", "7", "--warm-up", "2", alternate="kerase bench --iters 50")
        self.assertEqual([bench_pytorch.option(command, name) for name in ["--warm-up", "--iters"]], ["2", "50"])
        self.assertEqual(command.count("--iters"), 1)

    def test_a_gpu_is_not_compared_with_a_cpu(self):
        with self.assertRaisesRegex(SystemExit, "both a GPU, or neither"):
            self.command("--device", "cpu", alternate="kerase bench --device cuda:0")
        # What auto is, only its run says.
        done = self.run_with_fakes(0, "--device", "cpu", answer='{"device": "cuda:0", "train_seconds": 1}', more="--device auto")
        self.assertIn("kerase computes on cuda:0, and PyTorch on cpu", done.stderr)
        self.assertNotEqual(done.returncode, 0)

    def run_with_fakes(self, seconds, *words, answer='{"device": "cuda:0", "train_seconds": 1}', more=""):
        """Beside a PyTorch that computes nothing, and a command that sleeps and prints."""
        program = Path(tempfile.mkdtemp(dir=scratch())) / "program.sh"
        program.write_text(f"sleep {seconds}\necho 'a line'\necho '{answer}'\n")
        command = [sys.executable, SCRIPTS / "bench_pytorch.py", "--alternate", f"sh {program} {more}", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment(PYTHONPATH=str(FAKES)))

    def test_no_round_begins_that_would_end_too_late(self):
        began = time.monotonic()
        done = self.run_with_fakes(1, "--device", "cuda", "--rounds", "50", "--budget", "4")
        result = json.loads(done.stdout)
        self.assertLess(result["rounds"], 5)
        self.assertEqual(len(result["runs"]["kerase"]), result["rounds"])
        self.assertLess(time.monotonic() - began, 20)

    def test_what_it_runs_ends_with_it(self):
        seconds = f"60.{os.getpid()}"
        command = [sys.executable, SCRIPTS / "bench_pytorch.py", "--alternate", f"sh -c 'exec sleep {seconds}'"]
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
        slept = f"sleep\0{seconds}"
        self.assertTrue(until(lambda: alive(slept)))
        process.kill()
        process.wait()
        self.assertTrue(until(lambda: not alive(slept), 10))

    def test_an_answer_without_times_is_refused(self):
        done = self.run_with_fakes(0, "--device", "cuda", "--rounds", "1", answer='{"device": "cuda:0"}')
        self.assertIn("nothing to compare", done.stderr)
        done = self.run_with_fakes(0, "--device", "cuda", answer="killed")
        self.assertIn("printed no JSON object", done.stderr)

    def test_sizes_are_positive(self):
        for words in [["--coils", "0"], ["--rounds", "-1"], ["--height", "many"]]:
            done = subprocess.run([sys.executable, SCRIPTS / "bench_pytorch.py", *words], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(words[0], done.stderr)


class BesideFastMri(unittest.TestCase):
    def test_what_kerase_says_of_reading_is_understood(self):
        said = kerase("bench", "--data", answers() / "data", "--loader-only", "--iters", 1, "--json")
        passes = bench_loader.passes_of_kerase(json.loads(said))
        # One for each number of threads, the last with as many as a training has.
        self.assertTrue(passes)
        for name, each in passes.items():
            self.assertRegex(name, r"^kerase, \d+ threads$")
            self.assertEqual(each["slices"], 2)
            self.assertGreater(each["bytes"], 2 * 8 * 2 * 64 * 48)
            self.assertGreater(each["slices_per_second"], 0)


if __name__ == "__main__":
    unittest.main()
