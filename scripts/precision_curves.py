#!/usr/bin/env python3
"""Trains one network in every precision on the emulated device, in float64 and from several seeds on the CPU, and
compares: benches/results/precision-curves.json and .svg, and a table in docs/tensor-cores.md.

    python3 scripts/precision_curves.py            trains, which takes minutes, and writes all three
    python3 scripts/precision_curves.py --draw     compares again what the JSON has, and writes all three

The exit code is 1 where a precision's end lies further from float64's than any two seeds' ends lie from each other: the
mean loss of the last epoch, or the PSNR or SSIM of the validation after it. Two ends of a training as chaotic as this one
differ by more than one of the seeds' standard deviations every second time.
Needs no packages; cargo builds kerase and examples/train_fp64.rs.
"""

import argparse
import datetime
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_pytorch import commit, machine

ROOT = Path(__file__).resolve().parent.parent
JSON = ROOT / "benches" / "results" / "precision-curves.json"
SVG = JSON.with_suffix(".svg")
DOCUMENT = ROOT / "docs" / "tensor-cores.md"
BUILD = "cargo build --release --bin kerase --example train_fp64"
# The paper's channels, whose eighteen are no multiple of what tensor cores take; otherwise small.
NETWORK = "--cascades 2 --chans 18 --pools 2 --sens-chans 4 --sens-pools 2"
SAMPLING = "--mask equispaced_fraction --acceleration 4 --center-fraction 0.16"
VOLUMES = "--anatomy brain --slices 2 --coils 2 --matrix 48 32 --recon 32 32"
EPOCH, EPOCHS = 10, 5  # slices, which are steps
SETS = {"train": "--volumes 5", "validation": "--volumes 4 --first 101"}
SEEDS = range(1, 7)  # the first is that of all precisions
MEASURES = {"loss": "loss, last epoch", "psnr": "validation PSNR, dB", "ssim": "validation SSIM"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="train nothing")
    if parser.parse_args().draw:
        result = json.loads(JSON.read_text())
        result.update(compared(result))
    else:
        result = train()
    JSON.write_text(json.dumps(result, indent=1) + "\n")
    SVG.write_text(figure(result))
    write_table(table(result))
    print(table(result))
    if not result["within_spread"]:
        sys.exit("a precision ends further from float64 than seeds from each other")


def train():
    before = {"date": datetime.date.today().isoformat(), "commit": commit(), "machine": machine()}
    call(shlex.split(BUILD), cwd=ROOT)
    built = ROOT / "target" / "release"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, volumes in SETS.items():
            call([built / "kerase", "simulate", *shlex.split(f"{VOLUMES} {volumes}"), "--out", folder / name])

        def run(device, precision, seed):
            out = folder / f"{device}-{precision}-{seed}"
            print(f"{device}, {precision}, seed {seed}", file=sys.stderr)
            if precision == "fp64":
                call([built / "examples" / "train_fp64", folder / f"cpu-fp32-{seed}", out])
            else:
                options = f"--max-steps {EPOCH * EPOCHS} --device {device} --precision {precision} --seed {seed}"
                sets = ["--data", folder / "train", "--validation", folder / "validation"]
                words = shlex.split(f"{NETWORK} {SAMPLING} {options}")
                call([built / "kerase", "train", *sets, *words, "--out", out])
            return {"device": device, "precision": precision, "seed": seed, **logged(out / "metrics.jsonl")}

        runs = [run("cpu", "fp32", seed) for seed in SEEDS]
        runs.append(run("cpu", "fp64", SEEDS[0]))
        runs += [run("emulated", precision, SEEDS[0]) for precision in ("fp32", "tf32", "bf16")]
    report = {
        "network": NETWORK,
        "sampling": SAMPLING,
        "volumes": VOLUMES,
        "sets": SETS,
        "slices": EPOCH,
        "steps": EPOCH * EPOCHS,
        "runs": runs,
    }
    return {**before, "command": "python3 scripts/precision_curves.py", **compared(report), **report}


def call(command, **options):
    environment = {"KERASE_CUDA": "off", **os.environ}
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{done.stderr}\nfailed with exit code {done.returncode}: {shlex.join(map(str, command))}")


def logged(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    return {
        "loss": [line["loss"] for line in steps],
        "grad_norm": [line["grad_norm"] for line in steps],
        "validation": [
            {key: line[key] for key in ("step", "psnr", "ssim", "nmse")} for line in lines if line["kind"] == "validation"
        ],
    }


# --- comparing ------------------------------------------------------------------------------------------------------


def name_of(run):
    return f"{run['device']}, {run['precision']}"


def end_of(run, slices):
    last = run["validation"][-1]
    return {"loss": statistics.fmean(run["loss"][-slices:]), "psnr": last["psnr"], "ssim": last["ssim"]}


def compared(report):
    """The ends of the first seed's runs, beside the spread of the seeds' on the CPU."""
    runs, slices = report["runs"], report["slices"]
    reference = next(run for run in runs if run["precision"] == "fp64")
    of_seeds = [end_of(run, slices) for run in runs if run["device"] == "cpu" and run["precision"] == "fp32"]
    spread = {
        key: {"sd": statistics.stdev(values), "range": max(values) - min(values)}
        for key in MEASURES
        for values in [[end[key] for end in of_seeds]]
    }
    true = end_of(reference, slices)
    ends = {}
    for run in runs:
        if run["seed"] != reference["seed"]:
            continue
        end = end_of(run, slices)
        ends[name_of(run)] = {
            **end,
            "from_fp64": {key: end[key] - true[key] for key in MEASURES},
            "of_sd": {key: abs(end[key] - true[key]) / spread[key]["sd"] for key in MEASURES},
            "largest_step": max(abs(a - b) for a, b in zip(run["loss"], reference["loss"], strict=True)),
        }
    within = all(abs(end["from_fp64"][key]) <= spread[key]["range"] for end in ends.values() for key in MEASURES)
    return {"within_spread": within, "spread": spread, "ends": ends}


# --- table ----------------------------------------------------------------------------------------------------------


def table(result):
    shown = ["loss", "psnr", "ssim"]
    rows = [
        "| | " + " | ".join(MEASURES[key] for key in shown) + " | largest difference of a step's loss |",
        "|---|" + "--:|" * (len(shown) + 1),
    ]
    digits = {"loss": 5, "psnr": 3, "ssim": 5}
    for name, end in result["ends"].items():
        cells = []
        for key in shown:
            difference = "" if name == "cpu, fp64" else f" ({end['from_fp64'][key]:+.1e})"
            cells.append(f"{end[key]:.{digits[key]}f}{difference}")
        step = "" if name == "cpu, fp64" else f"{end['largest_step']:.1e}"
        rows.append(f"| {name} | {' | '.join(cells)} | {step} |")
    seeds = sum(run["device"] == "cpu" and run["precision"] == "fp32" for run in result["runs"])
    for key, name in (("sd", f"standard deviation of {seeds} seeds"), ("range", "largest difference of two of them")):
        spread = [f"{result['spread'][measure][key]:.1e}" for measure in shown]
        rows.append(f"| *{name}* | {' | '.join(spread)} | |")
    origin = f"{result['machine']}; {result['date']}, commit {result['commit']}"
    return "\n".join([*rows, "", f"<sub>In brackets: less float64's. {origin}</sub>"])


def write_table(text):
    document = DOCUMENT.read_text()
    head, rest = document.split("<!-- precision-curves -->", 1)
    _, tail = rest.split("<!-- /precision-curves -->", 1)
    DOCUMENT.write_text(f"{head}<!-- precision-curves -->\n{text}\n<!-- /precision-curves -->{tail}")


# --- figure ---------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 880, 660
COLOURS = {"cpu, fp32": "#888888", "emulated, fp32": "#1b9e77", "emulated, tf32": "#d95f02", "emulated, bf16": "#7570b3"}


class Axes:
    """A part of the figure, with its own scales. Values are clipped to them."""

    def __init__(self, box, x, y, log=False):
        self.left, self.top, self.width, self.height = box
        self.x, self.y, self.log, self.marks = x, y, log, []

    def place(self, x, y):
        low, high, y = (math.log10(max(value, 1e-300)) if self.log else value for value in (*self.y, y))
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = min(max((y - low) / (high - low), 0), 1)
        return f"{self.left + across * self.width:.1f},{self.top + (1 - up) * self.height:.1f}"

    def line(self, points, colour, width=1.5, dash=None):
        path = " ".join(self.place(x, y) for x, y in points)
        style = f' stroke-dasharray="{dash}"' if dash else ""
        self.marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{style}/>')

    def text(self, title, label, ticks, form):
        bottom, right = self.top + self.height, self.left + self.width
        marks = [words(self.left, self.top - 10, title, weight="bold"), words(right, bottom + 32, label, "end")]
        for tick in ticks:
            at = float(self.place(self.x[0], tick).split(",")[1])
            marks.append(f'<line x1="{self.left}" y1="{at}" x2="{right}" y2="{at}" stroke="#dddddd"/>')
            marks.append(words(self.left - 6, at + 4, form(tick), "end"))
        for tick in range(self.x[0], self.x[1] + 1, 10):
            at = self.place(tick, self.y[0]).split(",")[0]
            marks.append(words(at, bottom + 16, str(tick), "middle"))
        frame = f'<rect x="{self.left}" y="{self.top}" width="{self.width}" height="{self.height}" fill="none" stroke="#333333"/>'
        self.marks = [*marks, *self.marks, frame]


def words(x, y, text, anchor="start", weight="normal"):
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">{text}</text>'


def ticks_of(low, high):
    """Three to eight round numbers between the two."""
    step = 10 ** math.floor(math.log10(high - low))
    step = next(s for s in (step, step / 2, step / 5) if (high - low) / s >= 3)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def figure(result):
    runs, steps, slices = result["runs"], result["steps"], result["slices"]
    reference = next(run for run in runs if run["precision"] == "fp64")
    seeds = [run for run in runs if run["seed"] != reference["seed"]]
    same = [run for run in runs if run["seed"] == reference["seed"] and run is not reference]

    def of_psnr(run):
        return [(line["step"], line["psnr"]) for line in run["validation"]]

    def smooth(run):
        """The mean of an epoch's steps, since slices differ more than steps do."""
        return [(i, statistics.fmean(run["loss"][i - slices : i])) for i in range(slices, steps + 1)]

    def apart(run):
        return [(i + 1, max(abs(a - b), 1e-9)) for i, (a, b) in enumerate(zip(run["loss"], reference["loss"]))]

    def limits(curves):
        values = [y for curve in curves for _, y in curve]
        margin = 0.05 * (max(values) - min(values))
        return min(values) - margin, max(values) + margin

    everything = [reference, *seeds, *same]
    across = (0, steps)
    losses, psnrs = limits(map(smooth, everything)), limits(map(of_psnr, everything))
    differences = 1e-9, 10 ** math.ceil(math.log10(max(y for run in [*same, *seeds] for _, y in apart(run))))
    parts = [
        (Axes((70, 50, 340, 220), across, losses), smooth, f"loss, mean of {slices} steps", ticks_of(*losses), "{:.2f}"),
        (Axes((500, 50, 340, 220), across, psnrs), of_psnr, "PSNR of the validation, dB", ticks_of(*psnrs), "{:.1f}"),
    ]
    marks = []
    for axes, curve, title, ticks, form in parts:
        for run in seeds:
            axes.line(curve(run), "#cccccc")
        axes.line(curve(reference), "#000000", 3)
        for run in same:
            axes.line(curve(run), COLOURS[name_of(run)], 1.5, "6 4" if run["precision"] != "fp32" else None)
        axes.text(title, "step", ticks, form.format)
        marks += axes.marks
    axes = Axes((70, 340, 770, 220), across, differences, log=True)
    for run in seeds:
        axes.line(apart(run), "#cccccc")
    for run in same:
        axes.line(apart(run), COLOURS[name_of(run)])
    decades = range(-9, round(math.log10(differences[1])) + 1, 2)
    axes.text("difference of each step's loss from float64's", "step", [10.0**i for i in decades], "{:.0e}".format)
    marks += axes.marks

    entries = [("#000000", "cpu, fp64"), *((COLOURS[name_of(run)], name_of(run)) for run in same), ("#cccccc", "cpu, fp32, other seeds")]
    for i, (colour, name) in enumerate(entries):
        x, y = 80 + i % 3 * 260, 612 + i // 3 * 24
        marks.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 30}" y2="{y - 4}" stroke="{colour}" stroke-width="3"/>')
        marks.append(words(x + 38, y, name))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', *marks, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
