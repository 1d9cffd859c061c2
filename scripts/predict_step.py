#!/usr/bin/env python3
"""predict_step.py [--kerase PROGRAM] [--doc FILE]: writes into docs/tensor-cores.md what the paper's training step and its
inference are predicted to take on an H100, and each operation of the step, beside their floors, for the first run on one to
test: where launches come one after the other (KERASE_OVERLAP=off), and where they overlap.

Floors, bytes, arithmetic and launches are what `kerase bench --plan H100 --json` counts; the 3x3 convolutions are taken
layer by layer from the tables under "Predictions" of the same document, which a test prints; instructions of the rest are
what scripts/count_kernels.py counted. How they make a time stands at the constants below, and the document says the same.
Needs no GPU.
"""

import argparse
import json
import re
import subprocess
from pathlib import Path

from count_kernels import CLOCK, COUNTS, SCHEDULERS

ROOT = Path(__file__).resolve().parent.parent

BANDWIDTH = 3.0e12  # bytes a second, of the 3.35 of the data sheet
# Operations a second, of the 66.9e12 of the data sheet, where CUDA cores multiply: half, as each multiply-add has about
# one other instruction beside it; a fifth for Fourier transforms, whose passes go through shared memory.
PRODUCTS, TRANSFORMS = 0.5 * 66.9e12, 0.2 * 66.9e12
# Products a second of transposed convolutions, on tensor cores: what mma.sync is thought to reach of the data sheet's.
MATRIX = {"tf32": 0.64 * 494.7e12, "bf16": 0.64 * 989.4e12}
# Bytes of the level-2 cache, of 50 MiB, that the gradient of a transposed convolution's weight finds its maps in, which that of
# the input has read before it; what is more comes from memory again.
CACHE = 40e6
GAP = 1e-6  # seconds from the end of a launch to the beginning of the next
EARLY_GAP = 0.6e-6  # the same, where the next has taken its places before: what is thought, as nobody has measured it here
SMALL = 2e-6  # of a launch that has next to nothing to do

CONVOLUTIONS = {"conv3x3": ["forward"], "conv3x3_backward": ["inputs", "filters"]}
TRANSFORMED = ["cascade_input", "normal_operator", "rss_output", "rss_output_backward", "sens_backward", "ifft2c"]
# What joins the parts of other launches, or lays filters out. Everything else that is launched is an operation's work: of that
# with whose name it begins, or of these.
PART_OF = {"conv_transpose_inputs": "conv_transpose_backward", "conv_transpose_weight": "conv_transpose_backward",
           "unet_part_moments": "unet_input", "unet_input_sums": "unet_input_backward", "update_": "update",
           "ssim_windows": "image_loss", "loss_gradient": "image_loss", "crop_to_target": "image_loss", "ifft_": "ifft2c"}
JOINS = ["norm_stats", "gradient_means", "add_parts", "add_all_parts", "conv3x3_filters", "unet_moments",
         "unet_output_d_moments", "unet_input_coefficients", "join_losses", "update_norm"]


# Kernels that run beside others, and how many of their launches: all, all but the first, or those of the backward pass.
BESIDE = {"conv3x3_weights": lambda n: n, "conv_transpose_weight": lambda n: n, "avg_pool": lambda n: n // 2,
          "cascade_dc": lambda n: n, "cascade_input": lambda n: n - 1, "normal_operator": lambda n: n}


def layers(document, precision):
    """Of each layer and pass of the 3x3 convolutions, the predicted seconds: alone, and where others fill its waits."""
    section = document.split(f"\n### {precision}\n", 1)[1].split("\n### ", 1)[0]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if match := re.fullmatch(r"(\d+) × (\d+) → (\d+), (\d+) × (\d+)", cells[0]):
            found[tuple(map(int, match.groups())), cells[1]] = [1e-6 * float(cell) for cell in (cells[-1], cells[-2])]
    return found


def layer(shape):
    """As the tables have it: "18+18->18 n1 640x368" is a layer of 36 channels in."""
    ins, out, n, height, width = re.fullmatch(r"([\d+]+)->(\d+) n(\d+) (\d+)x(\d+)", shape).groups()
    return int(n), sum(map(int, ins.split("+"))), int(out), int(height), int(width)


def read_again(row):
    """Bytes that the second kernel of a transposed convolution's backward reads from memory, of all calls."""
    ins, out = map(int, re.match(r"(\d+)->(\d+) ", row["shape"]).groups())
    # Both maps and the output's gradient of what is counted, which is the input's gradient too; the output has 4 times as
    # many pixels.
    maps = row["bytes"] / row["calls"] * (ins + 8 * out) / (2 * ins + 8 * out)
    return row["calls"] * max(0.0, maps - CACHE)


def seconds(row, of_layers, precision):
    """Of all calls of an operation at one shape, without what lies between launches."""
    name = row["operation"]
    if name in CONVOLUTIONS:
        return row["calls"] * sum(of_layers[layer(row["shape"]), part][0] for part in CONVOLUTIONS[name])
    moved = row["bytes"] / BANDWIDTH
    if name.startswith("conv_transpose"):
        if name == "conv_transpose_backward":
            moved += read_again(row) / BANDWIDTH
        return max(moved, row["matrix_flop"] / MATRIX[precision], row["flop"] / PRODUCTS)
    rate = TRANSFORMS if name in TRANSFORMED else PRODUCTS
    return max(moved, (row["matrix_flop"] + row["flop"]) / rate)


def overlapping_seconds(row, of_layers, precision):
    """The same, less what others have meanwhile."""
    name, calls = row["operation"], row["calls"]
    if name == "conv3x3_backward":
        alone, busy = zip(*(of_layers[layer(row["shape"]), part] for part in CONVOLUTIONS[name]))
        return calls * max(*alone, sum(busy))
    beside = BESIDE[name](calls) if name in BESIDE else 0
    return seconds(row, of_layers, precision) * (1 - beside / calls)


def unknown(kernel):
    raise SystemExit(f"predict_step.py: no operation is known that {kernel} is part of; see PART_OF")


def operation_of(kernel, operations):
    """The operation that a kernel works for, of those; None for one that joins parts of others."""
    if any(kernel.startswith(start) for start in JOINS):
        return None
    for start, operation in PART_OF.items():
        if kernel.startswith(start):
            return operation
    return max((name for name in operations if kernel.startswith(name)), key=len, default=None) or unknown(kernel)


def issued(count):
    """Seconds that a kernel's instructions are thought to take: one a clock of each scheduler, though PTX is no machine code."""
    return count["instructions"] / SCHEDULERS / CLOCK


def launches_of(plan, names):
    return sum(count for name, count in plan["launches"].items() if any(name.startswith(start) for start in names))


class Prediction:
    """What a pass is predicted to take, in order and overlapping: [seconds of each, …]."""

    def __init__(self, kerase, document, counts, precision, mode):
        command = [kerase, "bench", "--plan", "H100", "--precision", precision, "--mode", mode, "--json"]
        self.plan = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        of_layers, shapes = layers(document, precision), self.plan["shapes"]
        self.operations = {row["operation"]: [0.0, 0.0] for row in shapes}
        for row in shapes:
            for i, take in enumerate([seconds, overlapping_seconds]):
                # Inference pools nothing again.
                take = seconds if mode == "inference" and row["operation"] == "avg_pool" else take
                self.operations[row["operation"]][i] += take(row, of_layers, precision)
        counted = counts[f"{mode}, {precision}"]
        self.joins = 0.0
        instructions = dict.fromkeys(self.operations, 0.0)
        for name, count in counted.items():
            if operation := operation_of(name, self.operations):
                instructions[operation] += issued(count)
            else:
                self.joins += max(SMALL * count["launches"], issued(count), count["bytes"] / BANDWIDTH)
        for name, times in self.operations.items():
            # The 3x3 convolutions' model has machine code's instructions.
            if name not in CONVOLUTIONS and times[0] < instructions[name]:
                times[:] = [instructions[name] * time / times[0] for time in times]
        launched = sum(count["launches"] for count in counted.values())
        if launched != sum(self.plan["launches"].values()):
            raise SystemExit(f"predict_step.py: {COUNTS.name} has {launched} launches, and the plan others: count again")
        self.launches, self.small = sum(self.plan["launches"].values()), launches_of(self.plan, JOINS)
        beside = {name: count for name, count in BESIDE.items() if mode == "train" or name != "avg_pool"}
        in_order = self.launches - sum(count(launches_of(self.plan, [name])) for name, count in beside.items())
        self.gaps = [GAP * self.launches, EARLY_GAP * in_order]
        self.floor, self.bytes = self.plan["total"]["floor_seconds"], self.plan["total"]["bytes"]
        self.total = [sum(of_all) + self.joins + gap for of_all, gap in zip(zip(*self.operations.values()), self.gaps)]


def milliseconds(times, digits=2):
    return " | ".join(f"{1e3 * time:.{digits}f}" for time in times)


def table_of_operations(precision, of):
    lines = [f"| {precision}: operation | calls | GB | floor, ms | in order, ms | overlapping, ms |", "|---|--:|--:|--:|--:|--:|"]
    for row in of.plan["operations"]:
        times = [row["floor_seconds"], *of.operations[row["operation"]]]
        lines.append(f"| `{row['operation']}` | {row['calls']:.0f} | {row['bytes'] / 1e9:.2f} | {milliseconds(times)} |")
    lines.append(f"| joins and laid out filters | {of.small} | | | {milliseconds([of.joins] * 2)} |")
    lines.append(f"| between launches | {of.launches} | | | {milliseconds(of.gaps)} |")
    lines.append(f"| **step** | | {of.bytes / 1e9:.2f} | {milliseconds([of.floor, *of.total])} |")
    return "\n".join(lines)


def table_of_passes(passes):
    """passes: {heading: Prediction}"""
    of_3x3 = lambda of: sum(of.operations.get(name, [0.0])[0] for name in CONVOLUTIONS)
    others = lambda of: sum(row["bytes"] for row in of.plan["operations"] if row["operation"] not in CONVOLUTIONS)
    rows = {
        "floor, ms": lambda of: milliseconds([of.floor], 1),
        "3×3 convolutions, ms": lambda of: milliseconds([of_3x3(of)], 1),
        "other bytes, GB": lambda of: f"{others(of) / 1e9:.1f}",
        "launches": lambda of: str(of.launches),
        "of which small": lambda of: str(of.small),
        "in order, ms": lambda of: milliseconds([of.total[0]], 1),
        "overlapping, ms": lambda of: milliseconds([of.total[1]], 1),
        "overlapping, over the floor": lambda of: f"{of.total[1] / of.floor:.1f}",
    }
    lines = [f"| one slice of 16 coils, 640 × 368, on an H100 | {' | '.join(passes)} |", "|---|" + "--:|" * len(passes)]
    lines += [f"| {name} | {' | '.join(map(value, passes.values()))} |" for name, value in rows.items()]
    return "\n".join(lines)


def replaced(document, mark, text):
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, rest = document.split(begin, 1)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kerase", default=ROOT / "target/release/kerase", type=Path)
    parser.add_argument("--doc", default=ROOT / "docs/tensor-cores.md", type=Path)
    options = parser.parse_args()
    document = options.doc.read_text()
    both = ["tf32", "bf16"]
    counts = json.loads(COUNTS.read_text())
    passes = {f"{name}, {precision}": Prediction(options.kerase, document, counts, precision, mode)
              for name, mode in [("training", "train"), ("inference", "inference")] for precision in both}
    operations = "\n\n".join(table_of_operations(precision, passes[f"training, {precision}"]) for precision in both)
    document = replaced(document, "predicted-passes", table_of_passes(passes))
    options.doc.write_text(replaced(document, "predicted-operations", operations))


if __name__ == "__main__":
    main()
