"""What gpu-check.sh does; see there."""

import argparse
import contextlib
import csv
import datetime
import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

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
# How often a step is timed with each table of tilings.
TURNS = 3
# What a part of PyTorch's needs to end after its last round.
ENDING = 20
# Seconds that a process has to be gone after it was killed.
LETTING_GO = 10
NO_TIME = "there was no time left"


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
        found = subprocess.run([python, "-c", find], capture_output=True, text=True)
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
    def __init__(self, arguments, work, began):
        self.kerase, self.device, self.timeout = arguments.kerase, arguments.device, arguments.timeout
        self.work = Path(work)
        self.environment = environment(arguments.wheels, self.work / "site")
        self.ends = began + arguments.budget
        self.simulated = set()
        # Whether a training ends that lets launches overlap.
        self.overlaps = True

    def left(self):
        """Seconds of the budget; less than one is nothing."""
        left = self.ends - time.monotonic()
        return left if left >= 1 else 0

    def limit(self):
        """Seconds that the next command may take."""
        left = self.left()
        if not left:
            raise NotAvailable(NO_TIME)
        return min(self.timeout, left)

    def call(self, command, most=float("inf"), refused=None, **variables):
        """Runs a command for so many seconds at most, with further variables in its environment; its standard output, or
        Failed with the end of what it said. Where it says what is `refused`, or the budget ends before it, it is not
        available."""
        command = [str(word) for word in command]
        shown = self.shown(shlex.join([*(f"{name}={value}" for name, value in variables.items()), *command]))
        limit = min(most, self.limit())
        # Files: a pipe would be read for as long as anything that the command started has it.
        file = lambda: tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        with file() as output, file() as errors:
            try:
                # In a session of its own: what it starts ends with it, and leaves the GPU.
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd=ROOT, start_new_session=True,
                    env=self.environment | variables,
                )
            except OSError as error:
                raise Failed(f"cannot be run: {error}", command=shown) from None
            try:
                code = process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                end(process)
            out, err = (stream.seek(0) or stream.read() for stream in (output, errors))
        self.refuse(out + err, refused)
        if code is None:
            said = self.shown(err[-4000:].strip())
            if limit < min(most, self.timeout):
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
        return text.replace(str(self.work), "WORK").replace(f"{ROOT}/", "").replace(str(self.kerase), "kerase")

    def json(self, *words, **variables):
        output = self.call([self.kerase, *words, "--json"], **variables)
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

    def training(self, run, device, steps, precision="fp32", network=TINY, shape=TINY_DATA):
        words = ["train", "--data", self.data(*shape), "--out", self.work / run, "--overwrite", "--max-steps", steps]
        return [self.kerase, *words, "--acceleration", 4, *network, "--device", device, "--precision", precision]

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
            self.call(on, most=STARTING)
        except Failed as why:
            failed = why
        try:
            self.call(off, most=STARTING, KERASE_OVERLAP="off")
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
        often = ["--device", self.device, *self.often()]
        unfinished = None
        try:
            with keeping(found):
                for allowed in ["off", "dependent", "beside", "on"]:
                    # Of a small network launches hardly meet; of the paper's they do.
                    for name, network, shape in [("tiny", TINY, TINY_DATA), ("paper", PAPER, PAPER_DATA)]:
                        run = f"overlap-{name}-{allowed}"
                        self.call(self.training(run, self.device, STEPS, "tf32", network, shape), KERASE_OVERLAP=allowed)
                        weights[allowed, name] = self.weights(run)
                    found[allowed] = self.json("bench", "--step", *often, KERASE_OVERLAP=allowed)
                # Kernels that split a multiprocessor's cache otherwise cannot share it: does it help if all split it alike?
                alike = self.json("bench", "--step", *often, KERASE_OVERLAP="on", KERASE_CARVEOUT="100")
                found["on, all split alike"] = alike
        except NotAvailable as why:
            unfinished = why
        different = [allowed for (allowed, name), kept in weights.items() if kept != weights["off", name]]
        if different := list(dict.fromkeys(different)):
            raise Failed(f"weights differ with KERASE_OVERLAP={', '.join(different)}", result=found)
        if unfinished:
            raise unfinished
        return found

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

    def sanitizer(self, tool, clean, steps):
        command = [self.program("compute-sanitizer"), "--tool", tool, "--error-exitcode", 99]
        command += self.training(tool, self.device, steps, "tf32")
        said = self.call(command, refused=REFUSED)
        summary = [line.strip("= ") for line in said.splitlines() if "SUMMARY" in line]
        # Where it could not attach, it says so and ends well.
        if not any(re.search(clean, line) for line in summary) or "before first instrumented" in said:
            raise Failed("it did not say that all is well", said=self.shown(said.strip()[-4000:]))
        return {"summary": summary, "tool": tool, "steps": steps}

    def memcheck(self):
        # The third step is the first that only replays what was recorded.
        return self.sanitizer("memcheck", r"ERROR SUMMARY: 0 errors", 3)

    def racecheck(self):
        # Many times as slow. The kernels of the first step are those of any.
        return self.sanitizer("racecheck", r"RACECHECK SUMMARY: 0 hazards", 1)

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
        python = self.python_with_torch()
        # The CPU has float32 alone.
        precision = "fp32" if self.device == "cpu" else precision
        bench = ["bench", "--step", "--json", "--device", self.device, "--precision", precision, *of_kerase]
        bench = shlex.join([str(self.kerase), *bench])
        command = [python, ROOT / "scripts" / "bench_pytorch.py", "--device", self.device, *of_pytorch, *self.often()]
        budget = max(1, self.limit() - ENDING)
        output = self.shown(self.call([*command, "--rounds", 3, "--budget", budget, "--alternate", bench]))
        result = readable(output)
        if result is None:
            raise Failed("what it printed is no JSON", said=output.strip()[-4000:])
        return result

    def python_with_torch(self):
        test = "import torch, fastmri"
        test += "; assert torch.cuda.is_available()" if self.device.startswith("cuda") else ""
        for python in pythons():
            with contextlib.suppress(Failed):
                self.call([python, "-c", test])
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
PARTS = ["info", "starts", "validate-tf32", "bench", "overlap", "pytorch-tf32", "operations", "step", "validate-bf16"]
PARTS += ["validate", "train", "tilings-tf32", "tilings-bf16", "pytorch-bf16", "pytorch-low-memory", "pytorch", "ranks"]
PARTS += ["kernels", "memcheck", "racecheck", "demo", "pytorch-compiled"]


def kernel_times(output):
    """Calls and milliseconds a step of each kernel, from Nsight Compute's CSV of some steps; the longest first."""
    lines = output.splitlines()
    header = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if header is None:
        raise Failed("ncu printed no table", said=output[-4000:])
    unit = {"ns": 1e-6, "nsecond": 1e-6, "us": 1e-3, "usecond": 1e-3, "ms": 1.0, "msecond": 1.0, "s": 1e3, "second": 1e3}
    kernels = {}
    for row in csv.DictReader(lines[header:]):
        if row["Metric Name"] == "gpu__time_duration.sum":
            entry = kernels.setdefault(row["Kernel Name"].split("(")[0], {"calls": 0, "ms": 0.0})
            entry["calls"] += 1
            entry["ms"] += float(row["Metric Value"].replace(",", "")) * unit[row["Metric Unit"]]
    # Each step ends with one of these.
    steps = kernels.get("update_adam", {"calls": 0})["calls"]
    if steps == 0:
        raise Failed("Nsight Compute saw no whole step", said="\n".join(lines[-20:]))
    a_step = {name: {"calls": entry["calls"] / steps, "ms": entry["ms"] / steps} for name, entry in kernels.items()}
    return {"steps": steps, "kernels": dict(sorted(a_step.items(), key=lambda item: -item[1]["ms"]))}


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
        said = subprocess.run([kerase, "info", "--json"], capture_output=True, text=True, timeout=STARTING)
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
        done = subprocess.run(query, capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip():
            found["driver"] = done.stdout.split()[0]
    return found


def commit(given, said):
    """What the executable says of itself; what it does not know, the checkout here may."""
    if given or said.get("commit"):
        return given or said["commit"]
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
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
            rows.append([part, key, ours, theirs, f"{ratio:.2f}"])
    if not rows:
        return ""
    rows = [["PyTorch", "", "kerase", "PyTorch", "ratio"], ["---", "---", "---:", "---:", "---:"], *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def outcome_of(check, part):
    """Runs a part."""
    began = time.monotonic()
    run = (lambda: check.pytorch(*PYTORCH[part])) if part in PYTORCH else getattr(check, part.replace("-", "_"))
    try:
        outcome = {"status": "run", "result": run()}
    except NotAvailable as why:
        outcome = {"status": "not available", "why": str(why), **why.found}
    except Failed as why:
        outcome = {"status": "failed", "why": str(why), **why.found}
    except Exception as error:  # whatever it is, the other parts are still worth having
        outcome = {"status": "failed", "why": f"{type(error).__name__}: {error}"}
    return outcome | {"seconds": round(time.monotonic() - began, 2)}


def save(target, report):
    """Whole, or as it was: earlier calls' results are in it."""
    report["status"] = overall(report["parts"])
    made = target.with_suffix(".new")
    made.write_text(json.dumps(report, indent=1) + "\n")
    made.replace(target)


def overall(parts):
    states = {part["status"] for part in parts.values()}
    return "failed" if "failed" in states else "incomplete" if "not available" in states else "complete"


def parse():
    parser = argparse.ArgumentParser(prog="gpu-check.sh", add_help=False)
    parser.add_argument("kerase", nargs="?", type=Path, default=ROOT / "target/release/kerase")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--commit")
    parser.add_argument("--only")
    parser.add_argument("--out", type=Path, default=ROOT / "benches/results")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--budget", type=float, default=float("inf"))
    parser.add_argument("--wheels", type=Path)
    arguments = parser.parse_args()
    arguments.only = arguments.only.split(",") if arguments.only else PARTS
    for part in arguments.only:
        if part not in PARTS:
            parser.error(f"there is no part {part}; there are {', '.join(PARTS)}")
    arguments.kerase = arguments.kerase.resolve()
    if not os.access(arguments.kerase, os.X_OK) or arguments.kerase.is_dir():
        parser.error(f"{arguments.kerase} is no executable: build it with cargo build --release and bring it along")
    return arguments


def main():
    began = time.monotonic()
    arguments = parse()
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
        "executable_sha256": hashlib.sha256(arguments.kerase.read_bytes()).hexdigest(),
        "status": "incomplete",
        "parts": parts,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    target, earlier = place(arguments.out, report)
    # What is asked for again stays until its turn comes, if it came to something.
    parts.update({part: outcome for part, outcome in earlier.items()
                  if part not in arguments.only or outcome["status"] != "not available"})

    # So that what was started ends, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("gpu-check.sh: was told to end"))
    with tempfile.TemporaryDirectory(prefix="kerase-gpu-check-") as work:
        check = Check(arguments, work, began)
        for part in arguments.only:
            print(f"{part:<20}", end="", flush=True)
            if not check.left():
                if parts[part]["status"] == "not available":
                    parts[part] = {"status": "not available", "why": NO_TIME}
                save(target, report)
                print(f"{'not available':<15}{NO_TIME}", flush=True)
                continue
            before = parts[part]
            # Before it runs, so that a run that is cut off says by what.
            parts[part] = {"status": "not available", "why": "the run was cut off here"}
            save(target, report)
            outcome = parts[part] = outcome_of(check, part)
            if outcome["status"] == "not available" and NO_TIME in outcome["why"] and before["status"] == "run":
                # It came to something in an earlier call, and now there was no time.
                parts[part] = before
            # After each part, so that a run that is cut off leaves what it found.
            save(target, report)
            print(f"{outcome['status']:<15}{outcome.get('why', '')}", flush=True)
            for line in outcome.get("said", "").splitlines()[-5:]:
                print(f"{'':<20}{line}", flush=True)

    if compared := table(parts):
        target.with_suffix(".md").write_text(
            f"{report['device']}, {report['date']}, commit {report['commit']}, `scripts/gpu-check.sh`\n\n{compared}"
        )
        print(compared)
    ran = [part for part, outcome in parts.items() if outcome["status"] == "run"]
    print(f"{report['status']} on {report['device']}: {len(ran)} of {len(PARTS)} parts ran; {target}")
    sys.exit(1 if report["status"] == "failed" else 0)


if __name__ == "__main__":
    main()
