"""gpu-check.sh where something goes wrong: what fails, what is not there, what hangs, time that ends, and results of other
calls. Most of it with an executable that answers as the real one did (fakes/kerase)."""

import argparse
import hashlib
import json
import os
import shlex
import signal
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from support import Machine, alive, answers, executable, scratch, until

import gpu_check

HANGS = 60


class Parts(unittest.TestCase):
    """What comes of a part."""

    def test_one_that_fails_fails_the_whole_and_the_others_run(self):
        machine = Machine()
        machine.rules({"words": "validate bf16", "print": '{"failures": ["conv3x3"]}', "say": "it is wrong", "exit": 1})
        self.assertEqual(machine.check("--only", "validate-tf32,validate-bf16,bench"), 1, machine.said)
        report = machine.report()
        self.assertEqual(report["status"], "failed")
        part = report["parts"]["validate-bf16"]
        found = {key: part[key] for key in ["status", "why", "result", "said"]}
        self.assertEqual(found, {"status": "failed", "why": "exit code 1", "result": {"failures": ["conv3x3"]},
                                 "said": "it is wrong"})
        self.assertIn("validate --device cuda:0 --precision bf16", part["command"])
        self.assertEqual([report["parts"][name]["status"] for name in ["validate-tf32", "bench"]], ["run", "run"])
        self.assertIn("it is wrong", machine.said)

    def test_a_tool_that_is_missing_is_not_available_and_never_a_pass(self):
        machine = Machine()
        info = json.loads((answers() / "info").read_text())
        info["build"]["nccl"] = "libnccl.so.2 cannot be loaded"
        machine.rules({"words": "info", "print": json.dumps(info)})
        # What a toolkit brings would be found.
        toolkit = Path("/usr/local/cuda/bin")
        tools = [part for part, tool in [("kernels", "ncu"), ("memcheck", "compute-sanitizer")]
                 if not (toolkit / tool).exists()]
        asked = [*tools, "ranks", "pytorch-tf32"]
        self.assertEqual(machine.check("--only", ",".join(["info", *asked])), 0, machine.said)
        report = machine.report()
        self.assertEqual(report["status"], "incomplete")
        for part in asked:
            self.assertEqual(report["parts"][part]["status"], "not available", part)
        self.assertIn("none has torch and fastmri", report["parts"]["pytorch-tf32"]["why"])
        self.assertEqual(report["parts"]["ranks"]["why"], "libnccl.so.2 cannot be loaded")
        self.assertEqual(machine.files(".md"), [])

    def test_fastmri_has_to_be_brought_along(self):
        machine = Machine()
        machine.pytorch()
        machine.check("--only", "pytorch-tf32")
        self.assertEqual(machine.part("pytorch-tf32")["status"], "not available", machine.said)

    def test_what_tools_find_is_a_failure_and_their_silence_no_pass(self):
        machine = Machine()
        for name in ["compute-sanitizer", "ncu"]:
            machine.command(name)
        for says, parts in [
            (None, {"memcheck": "run", "racecheck": "run", "kernels": "run"}),
            ("error", {"memcheck": "failed", "racecheck": "failed"}),
            ("said alone", {"memcheck": "failed", "racecheck": "failed"}),
            ("nothing", {"memcheck": "failed", "racecheck": "failed"}),
            ("silent", {"memcheck": "failed", "racecheck": "failed"}),
            ("refused", {"memcheck": "not available", "racecheck": "not available", "kernels": "not available"}),
        ]:
            variables = {"FAKE_TOOL": says} if says else {}
            code = machine.check("--only", ",".join(parts), **variables)
            found = {part: machine.part(part)["status"] for part in parts}
            self.assertEqual(found, parts, f"{says}: {machine.said}")
            self.assertEqual(code, int("failed" in parts.values()), machine.said)
        self.assertIn("ERR_NVGPUCTRPERM", machine.part("kernels")["why"])

    def test_each_command_of_a_sanitizer_has_to_be_clean(self):
        machine = Machine()
        machine.command("compute-sanitizer")
        for part, words, kept in [
            ("memcheck", "train", []),
            ("memcheck", "validate tf32", ["training"]),
            ("memcheck", "validate bf16", ["training", "tf32"]),
            ("racecheck", "bf16 conv3x3", ["training", "tf32 conv3x3", "tf32 conv_transpose"]),
            ("racecheck", "bf16 conv_transpose", ["training", "tf32 conv3x3", "tf32 conv_transpose", "bf16 conv3x3"]),
        ]:
            for says in ["said alone", "silent"]:
                machine.check("--only", part, FAKE_TOOL=says, FAKE_TOOL_OF=words)
                found = machine.part(part)
                self.assertEqual((found["status"], found["why"]), ("failed", "it did not say that all is well"), words)
                self.assertEqual(list(found["result"]["summaries"]), kept, words)
                for word in words.split():
                    self.assertIn(word, found["command"])

    def test_what_sanitizers_watch(self):
        machine = Machine()
        machine.command("compute-sanitizer")
        machine.check("--only", "memcheck,racecheck")
        asked = [call for call in machine.asked("tools") if " train " not in call]
        validate = "validate --device cuda:0 --precision"
        # Whole, but without the paper's layers; and what reads past a buffer of its own finds no other.
        self.assertEqual(asked[:2], [f"memcheck 512 {validate} tf32", f"memcheck 512 {validate} bf16"])
        self.assertEqual(asked[2:], [f"racecheck 0 {validate} {precision} --only {name}" for precision in ["tf32", "bf16"]
                                     for name in ["conv3x3", "conv_transpose"]])
        trained = [call.split() for call in machine.asked("tools") if " train " in call]
        self.assertEqual([(words[0], words[words.index("--max-steps") + 1]) for words in trained],
                         [("memcheck", "3"), ("racecheck", "1")])

    def test_kernels_without_a_time_are_left_out_and_counted(self):
        header = '"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"\n'
        row = lambda name, value, unit="us": f'"1","{name}(float*)","gpu__time_duration.sum","{unit}","{value}"\n'
        # An update whose time is not there ends a step all the same.
        untimed = row("conv", "n/a") + row("conv", "", "") + row("update_adam", "nan")
        two = header + 2 * row("conv", "1,500") + row("update_adam", "2") + untimed
        self.assertEqual(gpu_check.kernel_times(two), {"steps": 2, "skipped": 3, "kernels": {
            "conv": {"calls": 1, "ms": 1.5}, "update_adam": {"calls": 0.5, "ms": 0.001}}})
        self.assertNotIn("skipped", gpu_check.kernel_times(header + row("update_adam", "2")))

    def test_weights_that_overlapping_changes_have_the_rest_go_without(self):
        machine = Machine()
        machine.rules({"words": "train", "environment": {"KERASE_OVERLAP": "off"}, "weights": "others"})
        self.assertEqual(machine.check("--only", "starts,bench,overlap"), 1)
        self.assertIn("weights differ", machine.part("starts")["why"])
        bench = next(call for call in machine.calls() if "bench" in call)
        self.assertTrue(bench.startswith("KERASE_OVERLAP=off bench --step"), machine.calls())
        # With which kind they differ is still to be seen.
        self.assertEqual(machine.part("overlap")["why"], "weights differ with KERASE_OVERLAP=dependent, beside, on")

    def test_a_training_that_ends_without_overlapping_alone_has_the_rest_go_without(self):
        machine = Machine()
        machine.rules({"words": "train", "environment": {"KERASE_OVERLAP": "off"}}, {"words": "train", "exit": 70})
        self.assertEqual(machine.check("--only", "starts,bench,overlap"), 1)
        self.assertEqual(machine.part("overlap")["why"], "KERASE_OVERLAP=off")
        self.assertIn("exit code 70; works with KERASE_OVERLAP=off alone", machine.part("starts")["why"])
        self.assertTrue(machine.calls()[-1].startswith("KERASE_OVERLAP=off bench --step"), machine.calls())

    def test_overlap_names_the_kind_that_changes_weights(self):
        machine = Machine()
        machine.rules({"words": "train", "environment": {"KERASE_OVERLAP": "beside"}, "weights": "others"})
        self.assertEqual(machine.check("--only", "overlap"), 1)
        self.assertEqual(machine.part("overlap")["why"], "weights differ with KERASE_OVERLAP=beside")
        self.assertIn("on", machine.part("overlap")["result"])

    def test_kinds_of_overlap_are_timed_in_turn(self):
        machine = Machine()
        self.assertEqual(machine.check("--only", "overlap"), 0, machine.said)
        benches = [call.partition(" bench --step")[0] for call in machine.calls() if "bench" in call]
        kinds = [f"KERASE_OVERLAP={kind}" for kind in ["off", "dependent", "beside", "on"]]
        # All are timed before any is again, so that a clock that drifts is seen.
        self.assertEqual(benches, 2 * [*kinds, *(f"{kind} KERASE_CARVEOUT=100" for kind in kinds[1:])])
        names = ["off", "dependent", "beside", "on", *(f"{kind}, all split alike" for kind in ["dependent", "beside", "on"])]
        self.assertEqual({name: len(steps) for name, steps in machine.part("overlap")["result"].items()},
                         dict.fromkeys(names, 2))

    def test_another_build_is_timed_in_turn(self):
        machine = Machine()
        rival = machine.rival()
        info = json.loads((answers() / "info").read_text())
        info["build"]["commit"] = "0123456"
        told = {"program": "kerase-before", "words": "info", "print": json.dumps(info)}
        for weights, same in [({}, True), ({"weights": "others"}, False)]:
            machine.rules(told, {"program": "kerase-before", "words": "train bf16", **weights})
            # Other bits are no failure.
            self.assertEqual(machine.check("--only", "rival", "--rival", rival), 0, machine.said)
            found = machine.part("rival")["result"]
            self.assertEqual(found["executable_sha256"], hashlib.sha256(rival.read_bytes()).hexdigest())
            self.assertEqual(found["build"]["commit"], "0123456")
            for precision, equal in [("tf32", True), ("bf16", same)]:
                self.assertIs(found[precision]["same_weights"], equal)
                self.assertEqual([list(turn) for turn in found[precision]["turns"]], 3 * [["kerase", "rival"]])
                benches = [call for call in machine.calls() if "bench" in call and f"--precision {precision}" in call]
                self.assertEqual([call.startswith("kerase-before: ") for call in benches], 3 * [False, True])
        self.assertNotIn(str(machine.folder), (machine.results / machine.files()[0]).read_text())

    def test_without_another_build_there_is_no_rival(self):
        machine = Machine()
        self.assertEqual(machine.check("--only", "rival"), 0)
        self.assertEqual((machine.part("rival")["status"], machine.part("rival")["why"]),
                         ("not available", "--rival names no other build"))

    def test_what_another_build_came_to_is_kept_where_it_ends(self):
        machine = Machine()
        machine.rules({"program": "kerase-before", "words": "bench bf16", "exit": 3})
        self.assertEqual(machine.check("--only", "rival", "--rival", machine.rival()), 1)
        part = machine.part("rival")
        self.assertEqual((part["status"], part["why"]), ("failed", "exit code 3"))
        self.assertTrue(part["command"].startswith("rival bench --step"), part["command"])
        self.assertEqual(len(part["result"]["tf32"]["turns"]), 3)

    def test_losses_that_differ_are_too_few_or_no_numbers_fail(self):
        machine = Machine()
        lines = (answers() / "run/metrics.jsonl").read_text().splitlines()
        right = [line["loss"] for line in map(json.loads, lines) if line["kind"] == "step"]
        for losses, status in [
            (right, "run"),
            ([right[0] * 1.0001, *right[1:]], "failed"),
            ([*right[:3], right[3] * 1.01, *right[4:]], "failed"),
            # From there on they are shown, not judged.
            ([*right[:4], right[4] * 1.01, *right[5:]], "run"),
            ([float("nan")] * 10, "failed"),
            (right[:9], "failed"),
        ]:
            machine.rules({"words": "train cuda:0", "losses": losses})
            machine.check("--only", "train")
            self.assertEqual(machine.part("train")["status"], status, losses)

    def test_ranks_that_change_weights_fail(self):
        machine = Machine()
        machine.rules({"words": "train --gpus", "weights": "others"})
        self.assertEqual(machine.check("--only", "ranks"), 1)
        self.assertEqual(machine.part("ranks")["why"], "weights differ")

    def test_an_executable_without_kernels_fails(self):
        machine = Machine()
        info = json.loads((answers() / "info").read_text())
        info["build"]["kernels"] = {"absent": "KERASE_CUDA=off was set"}
        machine.rules({"words": "info", "print": json.dumps(info)})
        self.assertEqual(machine.check("--only", "info"), 1)
        self.assertIn("KERASE_CUDA=off was set", machine.part("info")["why"])

    def test_an_answer_that_cannot_be_read_fails(self):
        machine = Machine()
        machine.rules({"words": "bench", "print": "thread panicked"})
        self.assertEqual(machine.check("--only", "bench"), 1)
        self.assertEqual(machine.part("bench")["why"], "what it printed is no JSON")

    def test_another_device_than_was_asked_for_fails(self):
        machine = Machine()
        self.assertEqual(machine.check("--only", "bench", "--device", "cuda:1"), 1)
        self.assertIn("asked for cuda:1, timed on cuda:0", machine.part("bench")["why"])

    def test_an_executable_of_another_machine_fails(self):
        machine = Machine()
        executable(machine.kerase, "\x7fELF of something else")
        self.assertEqual(machine.check("--only", "info"), 1, machine.said)
        self.assertIn("cannot be run", machine.part("info")["why"])


class Time(unittest.TestCase):
    """What hangs, and what time is left for."""

    def test_a_command_that_hangs_is_ended_and_the_others_run(self):
        machine = Machine()
        machine.rules({"words": "bench", "sleep": HANGS})
        self.assertEqual(machine.check("--only", "bench,validate-tf32", "--timeout", 3), 1)
        self.assertEqual(machine.part("bench")["why"], "took longer than 3 s")
        self.assertEqual(machine.part("validate-tf32")["status"], "run")
        self.assertFalse(alive(str(machine.kerase)))

    def test_what_a_command_leaves_behind_is_not_waited_for(self):
        machine = Machine()
        left = f"{HANGS}.{os.getpid()}"
        machine.rules({"words": "bench", "leave": left, "escape": HANGS},
                      {"words": "validate", "leave": left, "escape": HANGS, "sleep": HANGS})
        began = time.monotonic()
        machine.check("--only", "bench,validate-tf32", "--timeout", 3)
        self.assertLess(time.monotonic() - began, HANGS / 2)
        self.assertFalse(alive(left))
        self.assertEqual([machine.part(name)["status"] for name in ["bench", "validate-tf32"]], ["run", "failed"])

    def test_an_earlier_result_outlives_a_call_without_time(self):
        machine = Machine()
        self.assertEqual(machine.check("--only", "step"), 0, machine.said)
        machine.rules({"words": "--step --cascades", "sleep": HANGS})
        machine.check("--only", "step", "--budget", 8)
        self.assertEqual(machine.part("step")["status"], "run")

    def test_a_run_that_is_told_to_end_says_where_and_leaves_nothing_at_work(self):
        machine = Machine()
        machine.rules({"words": "bench", "sleep": HANGS})
        process = machine.start("--only", "validate-tf32,bench,validate")
        self.assertTrue(until(lambda: any("bench" in call for call in machine.calls())))
        process.send_signal(signal.SIGTERM)
        process.communicate()
        self.assertNotEqual(process.returncode, 0)
        parts = machine.report()["parts"]
        self.assertEqual(parts["validate-tf32"]["status"], "run")
        self.assertEqual(parts["bench"], {"status": "not available", "why": "the run was cut off here"})
        self.assertEqual(parts["validate"]["why"], "not reached")
        self.assertFalse(alive(str(machine.kerase)))

    def test_nothing_outlives_a_run_that_is_killed(self):
        """Nor is what it found lost."""
        running = {}
        for part, words in [("bench", "bench"), ("memcheck", "train")]:
            machine = Machine()
            for name in ["nvidia-smi", "compute-sanitizer"]:
                machine.command(name)
            machine.rules({"words": words, "sleep": HANGS})
            process = machine.start("--only", f"validate-tf32,{part}", "--copy", machine.folder / "copy",
                                    TMPDIR=str(machine.folder))
            running[part] = machine, process, words
        for part, (machine, process, words) in running.items():
            self.assertTrue(until(lambda: any(words in call.split() for call in machine.calls())))
            if part == "bench":
                # Whoever kills it may kill what is to end its commands.
                self.kill_keeper(process)
            process.kill()
            process.communicate()
            self.assertTrue(until(lambda: not alive(str(machine.folder)), HANGS / 4), part)
            (copied,) = (machine.folder / "copy").iterdir()
            self.assertEqual(copied.read_text(), (machine.results / copied.name).read_text())
            parts = json.loads(copied.read_text())["parts"]
            self.assertEqual(parts["validate-tf32"]["status"], "run")
            self.assertEqual(parts[part]["why"], "the run was cut off here")

    def kill_keeper(self, process):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (keeper,) = (child for child in children if "read -r group" in Path(f"/proc/{child}/cmdline").read_text())
        os.kill(int(keeper), signal.SIGKILL)

    def test_pytorch_has_so_long_for_rounds_and_fewer_steps(self):
        folder = Path(tempfile.mkdtemp(dir=scratch()))
        arguments = argparse.Namespace(kerase=Path("kerase"), rival=None, device="cuda:0", timeout=600, budget=float("inf"),
                                       wheels=None)
        check = gpu_check.Check(arguments, folder, time.monotonic(), None)
        commands = []
        with mock.patch.object(check, "call", lambda command, **_: commands.append(list(map(str, command))) or "{}"):
            check.pytorch("tf32", ["--low-memory"], ["--mode", "train"])
        command = commands[-1]
        value = lambda words, name: words[words.index(name) + 1]
        self.assertTrue(100 < float(value(command, "--budget")) <= gpu_check.ROUNDS == 150)
        self.assertEqual([value(command, name) for name in ["--warm-up", "--iters", "--mode"]], ["5", "20", "train"])
        kerase = shlex.split(value(command, "--alternate"))
        self.assertEqual([value(kerase, name) for name in ["--warm-up", "--iters", "--precision"]], ["50", "50", "tf32"])


class Clocks(unittest.TestCase):
    """What nvidia-smi says beside the parts."""

    def check(self, samples, seconds=2.5, **variables):
        """A part of so many seconds, and one that is over before much is said."""
        machine = Machine()
        if samples is not None:
            machine.command("nvidia-smi")
            variables["FAKE_SAMPLES"] = samples
        machine.rules({"words": "bench", "sleep": seconds})
        self.assertEqual(machine.check("--only", "bench", **variables), 0, machine.said)
        return machine

    def sampled(self, machine):
        return {key: value for key, value in machine.part("bench").items() if key in gpu_check.SAMPLED}

    def test_each_part_has_those_of_its_time(self):
        machine = self.check("0, 1200, 90.5, 40\n0, 1980, [N/A], 61\n0, n/a, 700.25, 50\n0, 1755, [Unknown Error], 45\n"
                             "GPU is lost")
        self.assertEqual(self.sampled(machine), {
            "clocks_mhz": [1200, 1755, 1980], "watts": [90.5, 395.375, 700.25], "celsius": [40, 47.5, 61]})
        # One for all of the call, and it ends with it.
        self.assertEqual(sum("-lms" in call for call in machine.asked("nvidia-smi")), 1)
        self.assertFalse(alive(str(machine.commands)))

    def test_what_is_said_before_and_after_is_not_of_it(self):
        folder = Path(tempfile.mkdtemp(dir=scratch()))
        watch = gpu_check.Watch("cpu", folder)
        with watch.file.open("a") as file:
            file.write("0, 300, 50, 30\n")
        before = watch.now()
        self.assertEqual(watch.since(before), {})
        with watch.file.open("a") as file:
            # The last is not whole.
            file.write("0, 1980, 650, 60\n0, 1980, 650, 6")
        found = {"clocks_mhz": [1980, 1980, 1980], "watts": [650, 650, 650], "celsius": [60, 60, 60]}
        self.assertEqual(watch.since(before), found)

    def test_it_ends_when_it_is_closed(self):
        machine = Machine()
        machine.command("nvidia-smi")
        path = os.pathsep.join([str(machine.commands), os.environ["PATH"]])
        with mock.patch.dict(os.environ, {**machine.variables, "PATH": path}):
            watch = gpu_check.Watch("cuda:0", machine.folder)
        self.assertTrue(until(lambda: watch.since(0)))
        watch.close()
        self.assertEqual(watch.process.returncode, -signal.SIGKILL)

    def test_of_several_gpus_each_has_its_own(self):
        machine = self.check("0, 300, 50, 30\n1, 1980, 650, [N/A]")
        self.assertEqual(self.sampled(machine), {
            "clocks_mhz": {"0": [300, 300, 300], "1": [1980, 1980, 1980]}, "watts": {"0": [50, 50, 50], "1": [650, 650, 650]},
            "celsius": [30, 30, 30]})

    def test_where_nothing_is_said_nothing_is_known_and_nothing_fails(self):
        for samples in [None, "fails", "", "[N/A], [N/A], [N/A], [N/A]"]:
            self.assertEqual(self.sampled(self.check(samples, seconds=1.5)), {}, samples)

    def test_it_watches_the_gpu_that_is_checked_where_that_is_known(self):
        uuid = "GPU-8a56f3c1-0c9f-4e1b-9d3e-0123456789ab"
        ordered = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        for device, variables, expected in [
            ("cuda:0", {}, []),
            ("cuda:0", {"CUDA_VISIBLE_DEVICES": uuid}, ["-i", uuid]),
            ("cuda", {"CUDA_VISIBLE_DEVICES": f"{uuid},1"}, ["-i", uuid]),
            ("cuda:1", {"CUDA_VISIBLE_DEVICES": f"0, {uuid}"}, ["-i", uuid]),
            # nvidia-smi counts otherwise, unless CUDA is told to count so, too; and takes no part of a name.
            ("cuda:0", {"CUDA_VISIBLE_DEVICES": "3"}, []),
            ("cuda:0", {"CUDA_VISIBLE_DEVICES": "3"} | ordered, ["-i", "3"]),
            ("cuda:1", ordered, ["-i", "1"]),
            ("cuda:1", {"CUDA_VISIBLE_DEVICES": "3"} | ordered, []),
            ("cuda:0", {"CUDA_VISIBLE_DEVICES": "GPU-8a56"}, []),
            ("cuda:0", {"CUDA_VISIBLE_DEVICES": f"MIG-{uuid}"}, []),
            ("cuda:0", {"CUDA_VISIBLE_DEVICES": ""}, []),
        ]:
            with mock.patch.dict(os.environ, variables):
                for name in {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"} - set(variables):
                    os.environ.pop(name, None)
                self.assertEqual(gpu_check.which_gpu(device), expected, variables)


class Budget(unittest.TestCase):
    """A budget that ends while something is at work. All wait for theirs at the same time."""

    @classmethod
    def setUpClass(cls):
        training = lambda allowed, **does: {"words": "train", "environment": {"KERASE_OVERLAP": allowed}, **does}
        later = {"words": "--step --cascades", "sleep": HANGS}
        cls.running = {}
        cls.start("bench", "validate-tf32,bench,validate", 15, {"words": "bench", "sleep": HANGS})
        cls.start("starts", "starts", 20, training("off", sleep=HANGS), {"words": "train", "exit": 70})
        cls.start("step", "step", 20, later, {"words": "--step", "exit": 1, "print": '{"a": 1}'})
        cls.start("overlap", "overlap", 20, training("dependent", weights="others"), training("beside", sleep=HANGS))
        cls.start("half", "step", 15, later)
        # What --timeout does not limit.
        cls.start("sanitizer", "memcheck", 20, {"words": "validate tf32", "sleep": 4},
                  {"words": "validate bf16", "sleep": HANGS}, timeout=3)
        cls.start("round", "pytorch-tf32", gpu_check.ENDING + 10, {"words": "bench", "sleep": 4}, timeout=3)
        cls.start("no round", "pytorch-tf32", 15, {"words": "bench", "sleep": HANGS}, timeout=3)

    @classmethod
    def start(cls, name, parts, budget, *rules, timeout=600):
        machine = Machine()
        machine.command("compute-sanitizer")
        wheels = machine.pytorch()
        machine.rules(*rules)
        words = ["--only", parts, "--budget", budget, "--timeout", timeout, "--wheels", wheels]
        cls.running[name] = machine, machine.start(*words)

    @classmethod
    def tearDownClass(cls):
        for _, process in cls.running.values():
            process.terminate()
            process.communicate()

    def ended(self, name):
        """The machine, once its gpu-check has ended, and the exit code."""
        machine, process = self.running[name]
        machine.said = "".join(process.communicate())
        return machine, process.returncode

    def test_it_is_no_failure_and_no_pass(self):
        machine, code = self.ended("bench")
        self.assertEqual(code, 0, machine.said)
        report = machine.report()
        self.assertEqual(report["status"], "incomplete")
        self.assertEqual(report["parts"]["validate-tf32"]["status"], "run")
        for part in ["bench", "validate"]:
            self.assertEqual(report["parts"][part]["status"], "not available")
            self.assertIn("there was no time left", report["parts"][part]["why"])
        self.assertFalse(any("fp32" in call for call in machine.calls()), machine.calls())

    def test_it_hides_no_failure(self):
        for part, why in [
            ("starts", "exit code 70; with KERASE_OVERLAP=off there was no time left"),
            ("step", "whole: exit code 1; one cascade: there was no time left"),
            ("overlap", "weights differ with KERASE_OVERLAP=dependent"),
        ]:
            machine, code = self.ended(part)
            outcome = machine.part(part)
            self.assertEqual((code, outcome["status"]), (1, "failed"), f"{part}: {machine.said}")
            self.assertIn(why, outcome["why"])
        self.assertEqual(self.running["step"][0].part("step")["result"]["whole"]["result"], {"a": 1})

    def test_what_was_found_before_is_kept(self):
        machine, code = self.ended("half")
        self.assertEqual((code, machine.part("step")["status"]), (0, "not available"), machine.said)
        self.assertIn("whole", machine.part("step")["result"])

    def test_a_sanitizer_has_all_of_it(self):
        machine, code = self.ended("sanitizer")
        outcome = machine.part("memcheck")
        self.assertEqual((code, outcome["status"]), (0, "not available"), machine.said)
        self.assertIn("there was no time left", outcome["why"])
        self.assertEqual(list(outcome["result"]["summaries"]), ["training", "tf32"])

    def test_pytorch_has_all_of_it(self):
        machine, code = self.ended("round")
        self.assertEqual((code, machine.part("pytorch-tf32")["status"]), (0, "run"), machine.said)
        # Others would have ended too late.
        self.assertLess(machine.part("pytorch-tf32")["result"]["rounds"], 3)
        machine, code = self.ended("no round")
        self.assertEqual((code, machine.part("pytorch-tf32")["status"]), (0, "not available"), machine.said)


class Calls(unittest.TestCase):
    """Results of several calls."""

    def statuses(self, machine):
        return {name: part["status"] for name, part in machine.report()["parts"].items() if part["status"] != "not available"}

    def test_parts_of_the_same_executable_gather_in_one_file(self):
        machine = Machine()
        machine.rules({"words": "validate", "exit": 1})
        machine.check("--only", "info,validate-tf32")
        machine.rules()
        # What failed before still has.
        self.assertEqual(machine.check("--only", "bench"), 1)
        self.assertEqual(self.statuses(machine), {"info": "run", "validate-tf32": "failed", "bench": "run"})
        self.assertEqual(machine.report()["status"], "failed")
        # What is run again is what it is now.
        self.assertEqual(machine.check("--only", "validate-tf32"), 0)
        self.assertEqual(self.statuses(machine), {"info": "run", "validate-tf32": "run", "bench": "run"})
        self.assertEqual(len(list(machine.results.iterdir())), 1)

    def test_what_there_is_no_time_to_run_again_stays(self):
        machine = Machine()
        machine.check("--only", "info,validate-tf32")
        machine.check("--only", "info,validate-tf32,bench", "--budget", 0)
        self.assertEqual(self.statuses(machine), {"info": "run", "validate-tf32": "run"})
        self.assertEqual(machine.part("bench")["why"], "there was no time left")

    def test_another_executable_and_another_device_have_files_of_their_own(self):
        machine = Machine()
        machine.check("--only", "info")
        machine.another_build()
        machine.check("--only", "bench")
        machine.check("--only", "validate-tf32", "--device", "cuda")
        names = machine.files()
        self.assertEqual(len(names), 3)
        # Two of one executable, asked for by other names.
        self.assertEqual(sum(name.endswith("-2.json") for name in names), 1, names)
        ran = []
        for name in names:
            parts = json.loads((machine.results / name).read_text())["parts"]
            ran += [[part for part, outcome in parts.items() if outcome["status"] == "run"]]
        self.assertEqual(sorted(ran), [["bench"], ["info"], ["validate-tf32"]])
        # Each goes on in its own.
        machine.check("--only", "info", "--device", "cuda")
        machine.check("--only", "info")
        self.assertEqual(machine.files(), names)

    def test_a_file_that_cannot_be_read_is_left_as_it_is(self):
        machine = Machine()
        machine.check("--only", "info")
        (name,) = machine.files()
        (machine.results / name).write_text('{"parts": ')
        self.assertEqual(machine.check("--only", "info"), 0)
        self.assertEqual(machine.files(), [name.replace(".json", "-2.json"), name])
        self.assertEqual((machine.results / name).read_text(), '{"parts": ')


class Arguments(unittest.TestCase):
    def test_what_is_wrong_is_said_before_anything_runs(self):
        machine = Machine()
        self.assertEqual(machine.check("--only", "validate-fp32"), 2)
        self.assertIn("there is no part validate-fp32; there are info, starts", machine.said)
        self.assertEqual(machine.check("--only", "rival", "--rival", machine.folder / "absent"), 2)
        self.assertIn("absent is no executable: build it", machine.said)
        os.remove(machine.kerase)
        self.assertEqual(machine.check("--only", "info"), 2)
        self.assertIn("is no executable: build it", machine.said)
        self.assertFalse(machine.results.exists())


if __name__ == "__main__":
    unittest.main()
