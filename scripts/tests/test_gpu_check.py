"""gpu-check.sh where something goes wrong: what fails, what is not there, what hangs, time that ends, and results of other
calls. Most of it with an executable that answers as the real one did (fakes/kerase)."""

import json
import os
import signal
import time
import unittest
from pathlib import Path

from support import Machine, answers, executable

HANGS = 60


def alive(word):
    """Whether a process has this in its command line."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word in (folder / "cmdline").read_text():
                return True
        except OSError:
            continue
    return False


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

    def test_a_budget_that_ends_is_no_failure_and_no_pass(self):
        machine = Machine()
        machine.rules({"words": "bench", "sleep": HANGS})
        self.assertEqual(machine.check("--only", "validate-tf32,bench,validate", "--budget", 15), 0, machine.said)
        report = machine.report()
        self.assertEqual(report["status"], "incomplete")
        self.assertEqual(report["parts"]["validate-tf32"]["status"], "run")
        for part in ["bench", "validate"]:
            self.assertEqual(report["parts"][part]["status"], "not available")
            self.assertIn("there was no time left", report["parts"][part]["why"])
        self.assertFalse(any("fp32" in call for call in machine.calls()), machine.calls())

    def test_a_budget_that_ends_hides_no_failure(self):
        off = {"KERASE_OVERLAP": "off"}
        cases = {
            "starts": ([{"words": "train", "environment": off, "sleep": HANGS}, {"words": "train", "exit": 70}],
                       "exit code 70; with KERASE_OVERLAP=off there was no time left"),
            "step": ([{"words": "--step --cascades", "sleep": HANGS}, {"words": "--step", "exit": 1, "print": '{"a": 1}'}],
                     "whole: exit code 1; one cascade: there was no time left"),
            "overlap": ([{"words": "train", "environment": {"KERASE_OVERLAP": "dependent"}, "weights": "others"},
                         {"words": "train", "environment": {"KERASE_OVERLAP": "beside"}, "sleep": HANGS}],
                        "weights differ with KERASE_OVERLAP=dependent"),
        }
        running = {}
        for part, (rules, _) in cases.items():
            machine = Machine()
            machine.rules(*rules)
            running[part] = machine, machine.start("--only", part, "--budget", 20)
        for part, (machine, process) in running.items():
            said = process.communicate()
            outcome = machine.part(part)
            self.assertEqual((process.returncode, outcome["status"]), (1, "failed"), f"{part}: {said}")
            self.assertIn(cases[part][1], outcome["why"])
        self.assertEqual(running["step"][0].part("step")["result"]["whole"]["result"], {"a": 1})

    def test_what_was_found_before_time_ended_is_kept(self):
        machine = Machine()
        machine.rules({"words": "--step --cascades", "sleep": HANGS})
        self.assertEqual(machine.check("--only", "step", "--budget", 12), 0)
        self.assertEqual(machine.part("step")["status"], "not available")
        self.assertIn("whole", machine.part("step")["result"])

    def test_an_earlier_result_outlives_a_call_without_time(self):
        machine = Machine()
        self.assertEqual(machine.check("--only", "step"), 0, machine.said)
        machine.rules({"words": "--step --cascades", "sleep": HANGS})
        machine.check("--only", "step", "--budget", 12)
        self.assertEqual(machine.part("step")["status"], "run")

    def test_a_run_that_is_told_to_end_says_where_and_leaves_nothing_at_work(self):
        machine = Machine()
        machine.rules({"words": "bench", "sleep": HANGS})
        process = machine.start("--only", "validate-tf32,bench,validate")
        until = time.monotonic() + HANGS / 2
        while not any("bench" in call for call in machine.calls()) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        self.assertNotEqual(process.returncode, 0)
        parts = machine.report()["parts"]
        self.assertEqual(parts["validate-tf32"]["status"], "run")
        self.assertEqual(parts["bench"], {"status": "not available", "why": "the run was cut off here"})
        self.assertEqual(parts["validate"]["why"], "not reached")
        self.assertFalse(alive(str(machine.kerase)))


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
        os.remove(machine.kerase)
        self.assertEqual(machine.check("--only", "info"), 2)
        self.assertIn("is no executable: build it", machine.said)
        self.assertFalse(machine.results.exists())


if __name__ == "__main__":
    unittest.main()
