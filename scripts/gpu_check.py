"""What gpu-check.sh does; see there."""

import argparse
import contextlib
import csv
import datetime
import hashlib
import itertools
import json
import math
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from bench_pytorch import tied

ROOT = Path(__file__).resolve().parent.parent
TINY = "--cascades 2 --chans 4 --pools 2 --sens-chans 2 --sens-pools 2".split()
TINY_DATA = 2, 4, 4, 128, 64
# What kerase has unless it is told otherwise is the paper's network.
PAPER, PAPER_DATA = [], (1, 2, 16, 640, 368)
STEPS = 10
# Of the first loss, in float32: one pass's rounding.
FIRST_LOSS = 1e-5
# Of the first losses. From the first update on a parameter whose gradient is near 0 may move by the learning rate either
# way, and what that makes of later ones grows from step to step: those are shown, not judged.
EARLY_STEPS, EARLY_LOSS = 4, 1e-3
# Seconds that a few steps of a tiny network may take, the data and the kernels' loading included.
STARTING = 90
# What CUDA's tools say where the machine does not let them watch, or they cannot.
REFUSED = r"ERR_NVGPUCTRPERM|LibraryNotLoaded|Device not supported"
# How often a step is timed with each table of tilings, and with each of two builds.
TURNS = 3
# How often it is timed with each kind of overlap: twice tells a clock that drifts from a gain.
PASSES = 2
# What a multiprocessor keeps as shared memory, in percent, where all kernels are to split its cache alike.
ALIKE = {"KERASE_CARVEOUT": "100"}
# Seconds from the start of a part of PyTorch's in which its rounds are to end; the first may take longer.
ROUNDS = 150
# What such a part needs to end after its last round.
ENDING = 20
# For commands that --timeout does not limit: PyTorch compiles and chooses algorithms, and sanitizers are slow.
BUDGET_ALONE = float("inf")
# Seconds that a process has to be gone after it was killed.
LETTING_GO = 10
NO_TIME = "there was no time left"
# What a GPU is asked once a second, after its index.
SAMPLED = {"clocks_mhz": "clocks.sm", "watts": "power.draw", "celsius": "temperature.gpu"}


class Ended(Exception):
    """A part came to no result; what it found until then."""

    def __init__(self, why, **found):
        super().__init__(why)
        self.found = {name: value for name, value in found.items() if value is not None}


class NotAvailable(Ended):
    """The part cannot run here."""


class Failed(Ended):
    """The part ran, and something is wrong."""


@contextlib.contextmanager
def keeping(found):
    """Whatever ends what is done here ends it with what was found by then."""
    try:
        yield
    except Ended as why:
        raise type(why)(str(why), **why.found | {"result": found}) from None


def end(process):
    """Ends a command with all that it started. One that the driver does not let go is left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=LETTING_GO)


class Keeper:
    """Ends the command that is at work where this process is killed. Its children end then by themselves (`tied`), but what
    they started, such as all that CUDA's tools watch, does not."""

    SCRIPT = 'while read -r group; do kept=$group; done; [ -z "$kept" ] || kill -9 "-$kept"'

    def __init__(self):
        # In a session of its own, as whoever kills this one may kill all of its session.
        self.process = subprocess.Popen(
            ["sh", "-c", self.SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def keep(self, group):
        """The group of processes that is at work now; "" is none."""
        with contextlib.suppress(OSError):
            os.write(self.process.stdin.fileno(), f"{group}\n".encode())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Watch:
    """nvidia-smi, beside all that runs: how fast, hungry and warm the GPU is. And as long as one program has it open no other
    has to wake it, which takes seconds each time where the driver does not persist. Where there is none, or it says nothing,
    nothing is known."""

    def __init__(self, device, work):
        self.file = work / "nvidia-smi.csv"
        self.file.touch()
        query = f"--query-gpu=index,{','.join(SAMPLED.values())}"
        command = ["nvidia-smi", *which_gpu(device), query, "--format=csv,noheader,nounits", "-lms", "1000"]
        self.process = None
        if device.startswith("cuda"):
            with self.file.open("w") as output, contextlib.suppress(OSError):
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL, start_new_session=True,
                    preexec_fn=tied(),
                )

    def now(self):
        return self.file.stat().st_size

    def since(self, before):
        """Least, median and most of all that it said since then, as far as they are numbers; of several GPUs by their index,
        as which of them is at work is not known."""
        said = self.file.read_bytes()[before:].decode(errors="replace")
        # What follows the last end of a line may not be whole.
        rows = [line.split(",") for line in said.split("\n")[:-1]]
        found = {}
        for index, *values in (row for row in rows if len(row) == 1 + len(SAMPLED)):
            for name, value in zip(SAMPLED, map(number, values)):
                if value is not None:
                    found.setdefault(name, {}).setdefault(index.strip(), []).append(value)
        spread = lambda values: [min(values), statistics.median(values), max(values)]
        spreads = {name: {index: spread(values) for index, values in gpus.items()} for name, gpus in found.items()}
        return {name: gpus if len(gpus) > 1 else next(iter(gpus.values())) for name, gpus in spreads.items()}

    def close(self):
        if self.process is not None:
            end(self.process)


def which_gpu(device):
    """nvidia-smi's option for a device of CUDA's, as far as it can be known: CUDA counts those that it may see, and puts the
    fastest first unless it is told otherwise."""
    named = device.partition(":")[2] or "0"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and named.isdigit():
        # One that is not among them kerase refuses.
        named = next(itertools.islice(visible.split(","), int(named), None), "").strip()
    uuid = re.fullmatch(r"GPU(-[0-9a-f]+){5}", named)
    index = named.isdigit() and os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return ["-i", named] if uuid or index else []


def number(text):
    """What tools print of a measurement; None where it is none, such as n/a."""
    try:
        value = float(text.replace(",", ""))
    except (AttributeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def environment(wheels, site):
    """This process's, with the Python packages of some wheels, unpacked into a folder, and with pip's NCCL."""
    variables = dict(os.environ)
    add = lambda name, *places: variables.update({name: os.pathsep.join([*places, *filter(None, [variables.get(name)])])})
    for wheel in sorted(wheels.glob("*.whl")) if wheels else []:
        # Of pure Python: an archive of what is imported.
        zipfile.ZipFile(wheel).extractall(site)
    if site.exists():
        add("PYTHONPATH", str(site))
    find = "import nvidia.nccl; print(*(place + '/lib' for place in nvidia.nccl.__path__), sep='\\n')"
    for python in pythons():
        found = subprocess.run([python, "-c", find], capture_output=True, text=True, preexec_fn=tied())
        if found.returncode == 0:
            # Last: what the machine has itself goes first.
            add("LD_LIBRARY_PATH", *filter(None, [variables.pop("LD_LIBRARY_PATH", None)]), *found.stdout.split())
            break
    return variables


def pythons():
    """Interpreters that may have PyTorch, and are there."""
    named = os.environ.get("PYTHON")
    return list(filter(shutil.which, [named] if named else [str(ROOT / ".venv/bin/python"), "python3"]))


class Check:
    def __init__(self, arguments, work, began, keeper):
        self.kerase, self.device, self.timeout = arguments.kerase, arguments.device, arguments.timeout
        self.other, self.work, self.keeper = arguments.rival, Path(work), keeper
        self.environment = environment(arguments.wheels, self.work / "site")
        self.ends = began + arguments.budget
        self.simulated = set()
        # Whether a training ends that lets launches overlap.
        self.overlaps = True

    def left(self):
        """Seconds of the budget; less than one is nothing."""
        left = self.ends - time.monotonic()
        return left if left >= 1 else 0

    def call(self, command, most=None, refused=None, **variables):
        """Runs a command for so many seconds at most (--timeout's), with further variables in its environment; its standard
        output, or Failed with the end of what it said. Where it says what is `refused`, or the budget ends before it, it is
        not available."""
        command = [str(word) for word in command]
        shown = self.shown(shlex.join([*(f"{name}={value}" for name, value in variables.items()), *command]))
        most, left = self.timeout if most is None else most, self.left()
        if not left:
            raise NotAvailable(NO_TIME)
        limit = min(most, left)
        # Files: a pipe would be read for as long as anything that the command started has it.
        file = lambda: tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        with file() as output, file() as errors:
            try:
                # In a session of its own: what it starts ends with it, and leaves the GPU.
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd=ROOT, start_new_session=True,
                    env=self.environment | variables, preexec_fn=tied(),
                )
            except OSError as error:
                raise Failed(f"cannot be run: {error}", command=shown) from None
            self.keeper.keep(process.pid)
            try:
                code = process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                end(process)
                self.keeper.keep("")
            out, err = (stream.seek(0) or stream.read() for stream in (output, errors))
        self.refuse(out + err, refused)
        if code is None:
            said = self.shown(err[-4000:].strip())
            if limit < most:
                raise NotAvailable(f"{NO_TIME}: it was given {limit:.0f} s", command=shown, said=said)
            raise Failed(f"took longer than {limit:.0f} s", command=shown, said=said)
        if code != 0:
            result = readable(self.shown(out))
            said = ("" if result else out[-4000:]) + err[-4000:]
            raise Failed(f"exit code {code}", command=shown, said=self.shown(said.strip()), result=result)
        return out

    @staticmethod
    def refuse(said, refused):
        line = next((line for line in said.splitlines() if re.search(refused, line)), None) if refused else None
        if line is not None:
            raise NotAvailable(line.strip("= "))

    def shown(self, text):
        """Without the paths of this machine."""
        text = text.replace(str(self.work), "WORK")
        programs = {str(self.kerase): "kerase"} | ({str(self.other): "rival"} if self.other else {})
        # Of two paths one may begin with the other.
        for program in sorted(programs, key=len, reverse=True):
            text = text.replace(program, programs[program])
        return text.replace(f"{ROOT}/", "")

    def json(self, *words, program=None, **variables):
        output = self.call([program or self.kerase, *words, "--json"], **variables)
        output = self.shown(output)
        result = readable(output)
        if result is None:
            raise Failed("what it printed is no JSON", said=output.strip()[-4000:])
        return result

    def data(self, volumes, slices, coils, rows, columns):
        shape = [volumes, slices, coils, rows, columns]
        folder = self.work / "-".join(map(str, ["data", *shape]))
        if folder not in self.simulated:
            self.call([self.kerase, "simulate", "--anatomy", "brain", "--volumes", volumes, "--slices", slices]
                      + ["--coils", coils, "--matrix", rows, columns, "--out", folder, "--overwrite"])
            self.simulated.add(folder)
        return folder

    def training(self, run, device, steps, precision="fp32", network=TINY, shape=TINY_DATA, program=None):
        words = ["train", "--data", self.data(*shape), "--out", self.work / run, "--overwrite", "--max-steps", steps]
        words += ["--acceleration", 4, *network, "--device", device, "--precision", precision]
        return [program or self.kerase, *words]

    def weights(self, run):
        return (self.work / run / "model.safetensors").read_bytes()

    # ---- the parts, in their order -------------------------------------------------------------------------

    def info(self):
        found = self.json("info")
        if self.device.startswith("cuda") and "absent" in found["build"]["kernels"]:
            raise Failed(f"this executable has no GPU kernels: {found['build']['kernels']['absent']}", result=found)
        return found

    def starts(self):
        """A short training, with launches that overlap and without: the same bits. Where they are not, or it ends without
        alone, all that comes after goes without."""
        on, off = (self.training(run, self.device, STEPS, "fp32" if self.device == "cpu" else "tf32")
                   for run in ["starts", "starts-off"])
        failed = None
        try:
            self.call(on, most=min(STARTING, self.timeout))
        except Failed as why:
            failed = why
        try:
            self.call(off, most=min(STARTING, self.timeout), KERASE_OVERLAP="off")
        except NotAvailable as why:
            if failed is None:
                raise
            raise Failed(f"{failed}; with KERASE_OVERLAP=off {why}", **failed.found) from None
        if failed is None and self.weights("starts") == self.weights("starts-off"):
            return {"steps": STEPS}
        self.environment["KERASE_OVERLAP"] = "off"
        self.overlaps = failed is None
        if failed is None:
            raise Failed("weights differ from those with KERASE_OVERLAP=off, which all that comes now has")
        raise Failed(f"{failed}; works with KERASE_OVERLAP=off alone, which all that comes now has", **failed.found)

    def validate(self, precision="fp32"):
        if self.device == "cpu" and precision != "fp32":
            raise NotAvailable(f"the CPU has no {precision}")
        paper = ["--paper"] if self.device.startswith("cuda") else []
        return self.json("validate", "--device", self.device, "--precision", precision, *paper)

    def step(self):
        """The paper's network at its size, in every precision, against float64 on the CPU; and one cascade of it, where
        tensor cores leave a gradient that can be judged."""
        found, ended = {}, []
        for name, cascades in [("whole", []), ("one cascade", ["--cascades", 1])]:
            try:
                found[name] = self.json("validate", "--step", "--device", self.device, *cascades)
            except Ended as why:
                found[name] = why.found
                ended.append((type(why), f"{name}: {why}"))
        if ended:
            kind = Failed if any(kind is Failed for kind, _ in ended) else NotAvailable
            raise kind("; ".join(why for _, why in ended), result=found)
        return found

    def kernels(self):
        """Time of each kernel over a training step, by Nsight Compute: one after the other, caches as they are."""
        program = self.program("ncu")
        step = [self.kerase, "bench", "--step", "--mode", "train", "--iters", 1, "--device", self.device, "--json"]
        options = ["--metrics", "gpu__time_duration.sum", "--clock-control", "none", "--cache-control", "none"]
        options += ["--graph-profiling", "node"]
        return kernel_times(self.call([program, *options, "--csv", *step], refused=REFUSED, KERASE_OVERLAP="off"))

    def program(self, name):
        """One of CUDA's tools."""
        if not self.device.startswith("cuda"):
            raise NotAvailable(f"{name} watches GPUs, not {self.device}")
        homes = [os.environ[variable] + "/bin" for variable in ["CUDA_HOME", "CUDA_PATH"] if os.environ.get(variable)]
        places = [os.environ.get("PATH", ""), *homes, "/usr/local/cuda/bin"]
        program = shutil.which(name, path=os.pathsep.join(places))
        if program is None:
            raise NotAvailable(f"{name} was not found")
        return program

    def validate_tf32(self):
        return self.validate("tf32")

    def validate_bf16(self):
        return self.validate("bf16")

    def train(self):
        losses = {}
        for run, device in [("on-cpu", "cpu"), ("on-device", self.device)]:
            self.call(self.training(run, device, STEPS))
            lines = (self.work / run / "metrics.jsonl").read_text().splitlines()
            losses[run] = [line["loss"] for line in map(json.loads, lines) if line["kind"] == "step"]
        cpu, device = losses["on-cpu"], losses["on-device"]
        if not len(cpu) == len(device) == STEPS:
            raise Failed(f"{STEPS} steps were asked for, {len(cpu)} and {len(device)} were logged", **losses)
        apart = [abs(a - b) / abs(a) for a, b in zip(cpu, device)]
        found = {"cpu_losses": cpu, "device_losses": device, "first_apart": apart[0], "most_apart": max(apart)}
        # Written so that a NaN is a failure.
        if not (apart[0] <= FIRST_LOSS and all(a <= EARLY_LOSS for a in apart[:EARLY_STEPS])):
            raise Failed(f"losses differ by more than {FIRST_LOSS} at first or {EARLY_LOSS} in {EARLY_STEPS} steps", **found)
        return found

    def ranks(self):
        """NCCL at world size 1 takes the code of any number, and changes no bit."""
        if not self.device.startswith("cuda"):
            raise NotAvailable(f"NCCL connects GPUs, not {self.device}")
        nccl = self.json("info")["build"]["nccl"]
        if not nccl[:1].isdigit():
            raise NotAvailable(nccl)
        self.call(self.training("alone", self.device, STEPS, "tf32"))
        self.call([*self.training("connected", self.device, STEPS, "tf32"), "--gpus", 1])
        if self.weights("alone") != self.weights("connected"):
            raise Failed("weights differ", nccl=nccl)
        return {"nccl": nccl, "steps": STEPS}

    def overlap(self):
        """What runs at the same time, left out: the same bits, and what it gains."""
        if not self.device.startswith("cuda"):
            raise NotAvailable(f"nothing overlaps on {self.device}")
        # Where weights differ it says with which kind of overlap they do.
        if not self.overlaps or os.environ.get("KERASE_OVERLAP") == "off":
            raise NotAvailable("KERASE_OVERLAP=off")
        found, weights = {}, {}
        kinds = {allowed: {"KERASE_OVERLAP": allowed} for allowed in ["off", "dependent", "beside", "on"]}
        # Kernels that split a multiprocessor's cache otherwise cannot share it: does it help if all split it alike?
        alike = {f"{allowed}, all split alike": kinds[allowed] | ALIKE for allowed in ["dependent", "beside", "on"]}
        unfinished = None
        try:
            with keeping(found):
                for allowed, variables in kinds.items():
                    # Of a small network launches hardly meet; of the paper's they do.
                    for name, network, shape in [("tiny", TINY, TINY_DATA), ("paper", PAPER, PAPER_DATA)]:
                        run = f"overlap-{name}-{allowed}"
                        self.call(self.training(run, self.device, STEPS, "tf32", network, shape), **variables)
                        weights[allowed, name] = self.weights(run)
                for name, variables in PASSES * list((kinds | alike).items()):
                    step = self.json("bench", "--step", "--device", self.device, *self.often(), **variables)
                    found.setdefault(name, []).append(step)
        except NotAvailable as why:
            unfinished = why
        different = [allowed for (allowed, name), kept in weights.items() if kept != weights["off", name]]
        if different := list(dict.fromkeys(different)):
            raise Failed(f"weights differ with KERASE_OVERLAP={', '.join(different)}", result=found)
        if unfinished:
            raise unfinished
        return found

    def rival(self):
        """Another build's step, in turn with this one's. Whether both train to the same bits is said, not judged: they need
        not."""
        if self.other is None:
            raise NotAvailable("--rival names no other build")
        found = {"executable_sha256": sha256(self.other), "build": self.json("info", program=self.other)["build"]}
        programs = {"kerase": self.kerase, "rival": self.other}
        with keeping(found):
            # The CPU has float32 alone.
            for precision in ["fp32"] if self.device == "cpu" else ["tf32", "bf16"]:
                found[precision] = {"same_weights": self.same_weights(programs, precision), "turns": []}
                step = ["bench", "--step", "--device", self.device, "--precision", precision, *self.often()]
                for _ in range(TURNS):
                    turn = {name: self.json(*step, program=program) for name, program in programs.items()}
                    found[precision]["turns"].append(turn)
        return found

    def same_weights(self, programs, precision):
        """Whether a short training ends with the same bits, whichever of them trains."""
        weights = set()
        for name, program in programs.items():
            run = f"rival-{name}-{precision}"
            self.call(self.training(run, self.device, STEPS, precision, program=program))
            weights.add(self.weights(run))
        return len(weights) == 1

    def tilings(self, precision):
        """What other tilings of convolutions gain: each alone, and together in a step, with those of filters and without,
        whose gradients run beside others there."""
        if not self.device.startswith("cuda"):
            raise NotAvailable(f"what is quicker on {self.device} says nothing of GPUs")
        file, no_filters = self.work / f"tilings-{precision}.toml", self.work / f"no-filters-{precision}.toml"
        bench = ["bench", "--device", self.device, "--precision", precision]
        found = {"tuned": self.json(*bench, "--tune", file, "--iters", 9), "file": file.read_text()}
        lines = found["file"].splitlines()
        no_filters.write_text("\n".join(line for line in lines if "filters" not in line) + "\n")
        tables = {"as it is": [], "better": ["--tilings", file], "better, not of filters": ["--tilings", no_filters]}
        # Of no better ones there is nothing to time, and kerase takes no empty table.
        tables = {name: more for name, more in tables.items() if not more or " = " in more[1].read_text()}
        found["steps"] = []
        with keeping(found):
            # In turn, as clocks change.
            for _ in range(TURNS):
                turn = {name: self.json(*bench, "--step", *self.often(), *more) for name, more in tables.items()}
                found["steps"].append(turn)
        return found

    def tilings_tf32(self):
        return self.tilings("tf32")

    def tilings_bf16(self):
        return self.tilings("bf16")

    def demo(self):
        """The README's first command; its figures stand beside benches/results/demo.json, which is the CPU's."""
        out = self.work / "demo"
        began = time.monotonic()
        self.call([self.kerase, "demo", "--device", self.device, "--out", out])
        seconds = round(time.monotonic() - began, 2)
        return {"seconds": seconds, "summary": json.loads((out / "metrics.json").read_text())["summary"]}

    def sanitizer(self, tool, clean, steps, options, validations):
        """A short training, whose buffers are cut from one allocation, and operations by themselves, whose buffers are
        allocations; for these the tool has further options."""
        command = [self.program("compute-sanitizer"), "--tool", tool, "--error-exitcode", 99]
        runs = {"training": [*command, *self.training(tool, self.device, steps, "tf32")]}
        for precision, only in itertools.product(["tf32", "bf16"], validations):
            words = ["validate", "--device", self.device, "--precision", precision, *only]
            runs[" ".join([precision, *only[1:]])] = [*command, *options, self.kerase, *words]
        found = {"tool": tool, "steps": steps, "summaries": {}}
        with keeping(found):
            for name, run in runs.items():
                found["summaries"][name] = self.summary(run, clean)
        return found

    def summary(self, command, clean):
        """What a sanitizer says in the end, if it is that all is well."""
        said = self.call(command, most=BUDGET_ALONE, refused=REFUSED)
        summary = [line.strip("= ") for line in said.splitlines() if "SUMMARY" in line]
        # Where it could not attach, it says so and ends well.
        if not any(re.search(clean, line) for line in summary) or "before first instrumented" in said:
            raise Failed("it did not say that all is well", command=self.shown(shlex.join(map(str, command))),
                         said=self.shown(said.strip()[-4000:]))
        return summary

    def memcheck(self):
        # The third step is the first that only replays what was recorded. Padding, so that what reads past the end of an
        # allocation does not meet the next.
        return self.sanitizer("memcheck", r"ERROR SUMMARY: 0 errors", 3, ["--padding", 512], [[]])

    def racecheck(self):
        # Many times as slow. The kernels of the first step are those of any; convolutions have kernels beside those.
        convolutions = [["--only", name] for name in ["conv3x3", "conv_transpose"]]
        return self.sanitizer("racecheck", r"RACECHECK SUMMARY: 0 hazards", 1, [], convolutions)

    def bench(self):
        result = self.json("bench", "--step", "--device", self.device, *self.often())
        if not str(result.get("device", "")).startswith(self.device):
            raise Failed(f"asked for {self.device}, timed on {result.get('device')}", result=result)
        return result

    def often(self):
        """On a GPU a second's warm-up, as its clock rises only then; a CPU's step may take seconds itself."""
        return ["--warm-up", 50, "--iters", 50] if self.device.startswith("cuda") else []

    def operations(self):
        return self.json("bench", "--operations", "--device", self.device)

    def pytorch(self, precision, of_kerase, of_pytorch):
        rounds_end = min(time.monotonic() + ROUNDS, self.ends - ENDING)
        python = self.python_with_torch()
        # The CPU has float32 alone.
        precision = "fp32" if self.device == "cpu" else precision
        bench = ["bench", "--step", "--json", "--device", self.device, "--precision", precision, *of_kerase]
        bench = shlex.join(map(str, [self.kerase, *bench, *self.often()]))
        command = [python, ROOT / "scripts" / "bench_pytorch.py", "--device", self.device, *of_pytorch]
        # Its steps take longer, and find the GPU warm from kerase's.
        command += ["--warm-up", 5, "--iters", 20] if self.device.startswith("cuda") else []
        command += ["--rounds", 3, "--budget", max(1, rounds_end - time.monotonic()), "--alternate", bench]
        output = self.shown(self.call(command, most=BUDGET_ALONE))
        result = readable(output)
        if result is None:
            raise Failed("what it printed is no JSON", said=output.strip()[-4000:])
        return result

    def python_with_torch(self):
        test = "import torch, fastmri"
        test += "; assert torch.cuda.is_available()" if self.device.startswith("cuda") else ""
        for python in pythons():
            with contextlib.suppress(Failed):
                self.call([python, "-c", test], most=BUDGET_ALONE)
                return python
        tried = ", ".join(pythons()) or "no interpreter"
        raise NotAvailable(self.shown(f"of {tried} none has torch and fastmri that work on {self.device}; --wheels brings fastmri"))


# kerase's precision and options, and what PyTorch is allowed, by part.
PYTORCH = {
    "pytorch": ("fp32", [], []),
    "pytorch-tf32": ("tf32", [], ["--matmul", "high"]),
    "pytorch-low-memory": ("tf32", ["--low-memory"], ["--matmul", "high", "--mode", "train"]),
    # Compiling takes minutes, and inference would be compiled apart.
    "pytorch-compiled": ("tf32", [], ["--matmul", "high", "--channels-last", "--compile", "--mode", "train"]),
    "pytorch-bf16": ("bf16", [], ["--matmul", "high", "--channels-last", "--autocast", "bf16"]),
}
# What says most comes first, and what may hang last: time on a GPU may end before the parts do.
PARTS = ["info", "starts", "validate-tf32", "bench", "overlap", "rival", "pytorch-tf32", "operations", "step"]
PARTS += ["validate-bf16", "validate", "train", "tilings-tf32", "tilings-bf16", "pytorch-bf16", "pytorch-low-memory"]
PARTS += ["pytorch", "ranks", "kernels", "memcheck", "racecheck", "demo", "pytorch-compiled"]


def kernel_times(output):
    """Calls and milliseconds a step of each kernel, from Nsight Compute's CSV of some steps; the longest first. A launch that
    it has no time of is left out."""
    lines = output.splitlines()
    header = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if header is None:
        raise Failed("ncu printed no table", said=output[-4000:])
    unit = {"ns": 1e-6, "nsecond": 1e-6, "us": 1e-3, "usecond": 1e-3, "ms": 1.0, "msecond": 1.0, "s": 1e3, "second": 1e3}
    kernels, steps, skipped = {}, 0, 0
    for row in csv.DictReader(lines[header:]):
        if row["Metric Name"] != "gpu__time_duration.sum":
            continue
        name, duration = row["Kernel Name"].split("(")[0], number(row["Metric Value"])
        # Each step ends with one of these, timed or not.
        steps += name == "update_adam"
        if duration is None:
            skipped += 1
            continue
        entry = kernels.setdefault(name, {"calls": 0, "ms": 0.0})
        entry["calls"] += 1
        entry["ms"] += duration * unit[row["Metric Unit"]]
    if steps == 0:
        raise Failed("Nsight Compute saw no whole step", said="\n".join(lines[-20:]))
    a_step = {name: {"calls": entry["calls"] / steps, "ms": entry["ms"] / steps} for name, entry in kernels.items()}
    found = {"steps": steps, "kernels": dict(sorted(a_step.items(), key=lambda item: -item[1]["ms"]))}
    return found | ({"skipped": skipped} if skipped else {})


def readable(text):
    """The JSON that a program printed, which may follow other lines; None where there is none."""
    for start in [0, *(match.start() for match in re.finditer(r"^\{", text, re.MULTILINE))]:
        try:
            return json.loads(text[start:])
        except ValueError:
            continue
    return None


def build(kerase):
    """What the executable says of itself and of this machine, as far as it runs."""
    try:
        said = subprocess.run([kerase, "info", "--json"], capture_output=True, text=True, timeout=STARTING, preexec_fn=tied())
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return (readable(said.stdout) or {}).get("build", {})


def describe(device, said):
    """A GPU as kerase has it, which counts those that CUDA_VISIBLE_DEVICES leaves, in CUDA's order; nvidia-smi does neither.
    Of anything else the name that was asked for."""
    gpus = {gpu["device"]: gpu for gpu in said.get("gpus", [])}
    gpu = gpus.get("cuda:0" if device == "cuda" else device)
    if gpu is None:
        return {"name": device}
    memory = f"{gpu['memory_bytes'] / 2**20:.0f} MiB"
    found = {"name": gpu["name"], "memory": memory, "compute_capability": gpu["compute_capability"]}
    # One driver has all of them.
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which("nvidia-smi"):
        done = subprocess.run(query, capture_output=True, text=True, preexec_fn=tied())
        if done.returncode == 0 and done.stdout.strip():
            found["driver"] = done.stdout.split()[0]
    return found


def sha256(program):
    return hashlib.sha256(program.read_bytes()).hexdigest()


def commit(given, said):
    """What the executable says of itself; what it does not know, the checkout here may."""
    if given or said.get("commit"):
        return given or said["commit"]
    git = ["git", "rev-parse", "--short", "HEAD"]
    try:
        head = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, preexec_fn=tied())
    except OSError:
        head = None
    if head is None or head.returncode != 0:
        sys.exit("gpu-check.sh: this is no git checkout; say with --commit what the executable was built from")
    return head.stdout.strip()


def place(folder, report):
    """The file for a report, and the parts that it has already. Those that took turns with the same executable on the same
    device and day belong together; what belongs to others is left as it is."""
    slug = re.sub(r"[^a-z0-9]+", "-", report["device"].lower()).strip("-")
    stem = f"{slug}-{report['date']}-{report['executable_sha256'][:8]}"
    for number in itertools.count(1):
        target = folder / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")
        if not target.exists():
            return target, {}
        earlier = readable(target.read_text()) or {}
        if all(earlier.get(key) == report[key] for key in ["executable_sha256", "asked_for", "machine"]):
            return target, earlier["parts"]


def table(parts):
    """kerase beside each PyTorch that ran: medians of turns in one run."""
    rows = []
    for part in PYTORCH:
        result = parts[part].get("result", {})
        for key, ratio in result.get("pytorch_over_kerase", {}).items():
            both = result["median"][key]
            ours, theirs = (f"{both[name]:.4g}" for name in ["kerase", "pytorch"])
            rows.append([part, key, ours, theirs, f"{ratio:.2f}", str(result["rounds"])])
    if not rows:
        return ""
    rows = [["PyTorch", "", "kerase", "PyTorch", "ratio", "rounds"], ["---", "---", *4 * ["---:"]], *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def outcome_of(check, part, watch):
    """Runs a part."""
    began, before = time.monotonic(), watch.now()
    run = (lambda: check.pytorch(*PYTORCH[part])) if part in PYTORCH else getattr(check, part.replace("-", "_"))
    try:
        outcome = {"status": "run", "result": run()}
    except NotAvailable as why:
        outcome = {"status": "not available", "why": str(why), **why.found}
    except Failed as why:
        outcome = {"status": "failed", "why": str(why), **why.found}
    except Exception as error:  # whatever it is, the other parts are still worth having
        outcome = {"status": "failed", "why": f"{type(error).__name__}: {error}"}
    return outcome | {"seconds": round(time.monotonic() - began, 2), **watch.since(before)}


def write(file, text, copy):
    """A file and its copy in another folder, where there is one; each whole, or as it was: earlier calls' results are in
    it."""
    for folder in filter(None, [file.parent, copy]):
        made = folder / f"{file.name}.new"
        made.write_text(text)
        made.replace(folder / file.name)


def save(target, report, copy):
    report["status"] = overall(report["parts"])
    write(target, json.dumps(report, indent=1) + "\n", copy)


def overall(parts):
    states = {part["status"] for part in parts.values()}
    return "failed" if "failed" in states else "incomplete" if "not available" in states else "complete"


def parse():
    parser = argparse.ArgumentParser(prog="gpu-check.sh", add_help=False)
    parser.add_argument("kerase", nargs="?", type=Path, default=ROOT / "target/release/kerase")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--commit")
    parser.add_argument("--only")
    parser.add_argument("--rival", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "benches/results")
    parser.add_argument("--copy", type=Path)
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--budget", type=float, default=float("inf"))
    parser.add_argument("--wheels", type=Path)
    arguments = parser.parse_args()
    arguments.only = arguments.only.split(",") if arguments.only else PARTS
    for part in arguments.only:
        if part not in PARTS:
            parser.error(f"there is no part {part}; there are {', '.join(PARTS)}")
    for name in ["kerase", "rival"] if arguments.rival else ["kerase"]:
        program = getattr(arguments, name).resolve()
        if not os.access(program, os.X_OK) or program.is_dir():
            parser.error(f"{program} is no executable: build it with cargo build --release and bring it along")
        setattr(arguments, name, program)
    return arguments


def begin(arguments):
    """A report with what earlier calls have of it, and its file."""
    said = build(arguments.kerase)
    device = describe(arguments.device, said)
    parts = {part: {"status": "not available", "why": "not reached" if part in arguments.only else "not asked for"}
             for part in PARTS}
    report = {
        "device": device["name"],
        "date": datetime.date.today().isoformat(),
        "commit": commit(arguments.commit, said),
        "asked_for": arguments.device,
        "machine": device,
        "executable_sha256": sha256(arguments.kerase),
        "status": "incomplete",
        "parts": parts,
    }
    for folder in filter(None, [arguments.out, arguments.copy]):
        folder.mkdir(parents=True, exist_ok=True)
    target, earlier = place(arguments.out, report)
    # What is asked for again stays until its turn comes, if it came to something.
    parts.update({part: outcome for part, outcome in earlier.items()
                  if part not in arguments.only or outcome["status"] != "not available"})
    return report, target


def run_part(part, check, watch, parts, kept):
    """Runs a part where there is time, and has what it came to `kept`."""
    before = parts[part]
    print(f"{part:<20}", end="", flush=True)
    if not check.left():
        if before["status"] == "not available":
            parts[part] = {"status": "not available", "why": NO_TIME}
        kept()
        print(f"{'not available':<15}{NO_TIME}", flush=True)
        return
    # Before it runs, so that a run that is cut off says by what.
    parts[part] = {"status": "not available", "why": "the run was cut off here"}
    kept()
    outcome = parts[part] = outcome_of(check, part, watch)
    if outcome["status"] == "not available" and NO_TIME in outcome["why"] and before["status"] == "run":
        # It came to something in an earlier call, and now there was no time.
        parts[part] = before
    # After each part, so that a run that is cut off leaves what it found.
    kept()
    print(f"{outcome['status']:<15}{outcome.get('why', '')}", flush=True)
    for line in outcome.get("said", "").splitlines()[-5:]:
        print(f"{'':<20}{line}", flush=True)


def main():
    began = time.monotonic()
    arguments = parse()
    # So that what was started ends, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("gpu-check.sh: was told to end"))
    with contextlib.ExitStack() as ending:
        work = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="kerase-gpu-check-")))
        # The first to have the GPU open, and the last.
        watch = ending.enter_context(contextlib.closing(Watch(arguments.device, work)))
        keeper = ending.enter_context(contextlib.closing(Keeper()))
        report, target = begin(arguments)
        check = Check(arguments, work, began, keeper)
        for part in arguments.only:
            run_part(part, check, watch, report["parts"], lambda: save(target, report, arguments.copy))

    parts = report["parts"]
    if compared := table(parts):
        title = f"{report['device']}, {report['date']}, commit {report['commit']}, `scripts/gpu-check.sh`"
        write(target.with_suffix(".md"), f"{title}\n\n{compared}", arguments.copy)
        print(compared)
    ran = [part for part, outcome in parts.items() if outcome["status"] == "run"]
    print(f"{report['status']} on {report['device']}: {len(ran)} of {len(PARTS)} parts ran; {target}")
    sys.exit(1 if report["status"] == "failed" else 0)


if __name__ == "__main__":
    main()
