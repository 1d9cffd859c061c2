"""What tests of scripts share: the executable, with a driver that stands in for NVIDIA's, and a place for gpu-check.sh to run
in, with commands of the tests' own."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCRIPTS = HERE.parent
FAKES = HERE / "fakes"
sys.path.insert(0, str(SCRIPTS))

# check-scripts.sh has looked for both.
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
KERASE = TARGET / "release/kerase"
STAND_IN = TARGET / "tmp/stand-in"

SMALL = "--cascades 1 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1".split()
SMALL_SLICE = "--coils 2 --height 64 --width 48".split()


def environment(**variables):
    """This process's, without what decides how kerase and gpu-check.sh work, and with the stand-in driver."""
    plain = {name: value for name, value in os.environ.items()
             if not name.startswith(("KERASE", "STAND_IN", "CUDA_", "PYTHON"))}
    libraries = os.pathsep.join(filter(None, [str(STAND_IN), plain.get("LD_LIBRARY_PATH")]))
    return {**plain, "LD_LIBRARY_PATH": libraries, "PYTHONDONTWRITEBYTECODE": "1", **variables}


def kerase(*words, **variables):
    """What the executable prints."""
    done = subprocess.run([KERASE, *map(str, words)], capture_output=True, text=True, env=environment(**variables))
    assert done.returncode == 0, f"kerase {words}: {done.stderr}"
    return done.stdout


def script(name, *words, **options):
    """Runs a script in Python, and how it ended."""
    command = [sys.executable, SCRIPTS / name, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), **options)


@functools.cache
def answers():
    """A folder with what kerase prints and leaves, which fakes/kerase answers with."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    sizes = "--anatomy brain --volumes 1 --slices 2 --coils 2 --matrix 64 48".split()
    kerase("simulate", *sizes, "--out", folder / "data")
    kerase("train", "--data", folder / "data", "--out", folder / "run", *SMALL, "--acceleration", 4, "--max-steps", 10,
           "--device", "cpu")
    (folder / "info").write_text(kerase("info", "--json"))
    (folder / "bench").write_text(kerase("bench", "--step", *SMALL, *SMALL_SLICE, "--device", "cuda:0", "--json"))
    (folder / "validate").write_text(kerase("validate", "--only", "announce", "--device", "cuda:0", "--json"))
    return folder


@functools.cache
def scratch():
    """Gone when the tests end."""
    made = tempfile.TemporaryDirectory(prefix="kerase-check-scripts-")
    # Kept alive by the cache.
    scratch.made = made
    return Path(made.name)


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


def alive(word):
    """Whether a process has this in its command line."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word in (folder / "cmdline").read_text():
                return True
        except OSError:
            continue
    return False


def until(true, seconds=30):
    """Waits for something; whether it came."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class Machine:
    """Where gpu-check.sh runs: commands that it finds before the system's, an executable, and a folder for results."""

    def __init__(self, kerase="kerase"):
        """kerase: which of fakes/ is its executable."""
        self.folder = Path(tempfile.mkdtemp(dir=scratch()))
        self.commands, self.results = self.folder / "commands", self.folder / "results"
        self.commands.mkdir()
        self.kerase = Path(shutil.copy(FAKES / kerase, self.folder / "kerase"))
        self.variables = {"FAKE_RULES": str(self.folder / "rules"), "FAKE_CALLS": str(self.folder / "calls")}
        if kerase == "kerase":
            self.variables["FAKE_ANSWERS"] = str(answers())
        # Without what this machine's own has installed: no torch, no NCCL.
        self.python = executable(self.folder / "python", f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
        self.rules()

    def rules(self, *rules):
        """What the fake executable does other than it is asked; see there."""
        (self.folder / "rules").write_text(json.dumps(rules))
        (self.folder / "calls").write_text("")

    def another_build(self):
        with self.kerase.open("a") as file:
            file.write("# another\n")

    def rival(self):
        """Another build beside the executable, whose name begins with the executable's."""
        return executable(self.folder / "kerase-before", self.kerase.read_text() + "# another\n")

    def command(self, name):
        """Has one of fakes/ in place of a command."""
        shutil.copy(FAKES / name, self.commands / name)

    def pytorch(self):
        """Has an interpreter with a torch that computes nothing, and a wheel of such a fastMRI: the folder for --wheels."""
        packages, wheels = self.folder / "packages", self.folder / "wheels"
        shutil.copytree(FAKES / "torch", packages / "torch")
        wheels.mkdir()
        with zipfile.ZipFile(wheels / "fastmri-0.3.0-py3-none-any.whl", "w") as wheel:
            wheel.write(FAKES / "fastmri/__init__.py", "fastmri/__init__.py")
        executable(self.python, f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{packages}" exec "{sys.executable}" "$@"\n')
        return wheels

    def start(self, *words, **variables):
        """Begins gpu-check.sh."""
        path = os.pathsep.join([str(self.commands), os.environ["PATH"]])
        given = {"PATH": path, "PYTHON": str(self.python), "KERASE_REAL": str(KERASE), "KERASE_ROOT": str(ROOT),
                 **self.variables, **variables}
        command = [SCRIPTS / "gpu-check.sh", "--out", self.results, *map(str, words), self.kerase]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder,
                                env=environment(**given))

    def check(self, *words, **variables):
        """gpu-check.sh, run to its end: its exit code, and what it said."""
        process = self.start(*words, **variables)
        try:
            out, err = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            # It ends what it started.
            process.terminate()
            raise
        self.said = out + err
        return process.returncode

    def calls(self):
        """The commands of the fake executable, without those that look what it is."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if line != "info --json"]

    def asked(self, tool):
        """What one of CUDA's tools was asked."""
        file = self.folder / f"calls.{tool}"
        return file.read_text().splitlines() if file.exists() else []

    def files(self, ending=".json"):
        return sorted(path.name for path in self.results.iterdir() if path.suffix == ending)

    def report(self):
        """The report, where there is one."""
        (name,) = self.files()
        return json.loads((self.results / name).read_text())

    def part(self, name):
        return self.report()["parts"][name]
