#!/usr/bin/env python3
"""count_kernels.py [--markdown FILE] [--lines KERNEL] [--precision P] [--mode M] [-- OPTIONS]: counts what each kernel does in a
training step or an inference as a profiler would, without a GPU: instructions of warps, how often shared memory's banks are
asked, and which sectors of global memory.

Of the paper's network on 16 coils, 640 x 368, or what OPTIONS of `kerase bench` say. Each launch is run in part, by the machine
for PTX of tests/stand_in_driver/ptx; counts are of what all of it would take. `cargo test --release --test ptx` builds what
this needs, with nvcc. --lines prints the lines of source of one kernel that take most; --markdown writes tables of all kernels
of a training step, in TF32 and bf16, between the marks of FILE, and totals as JSON, which scripts/predict_step.py reads.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COUNTS = ROOT / "benches/results/kernel-counts.json"
BUILT = ROOT / "target/tmp"
# Instructions of warps that are enough of a launch.
ENOUGH = 200_000
# Of an H100: schedulers, each of which begins one instruction of a warp a clock.
SCHEDULERS, CLOCK = 132 * 4, 1.7e9
SECTOR = 32


def lines_of(kerase, precision, mode, options):
    """What the machine counted, a dictionary a kernel and a line of its source."""
    for needed in (BUILT / "stand-in/libcuda.so.1", BUILT / "ptx/made-from", kerase):
        if not needed.exists():
            sys.exit(f"count_kernels.py: {needed} is not there: `cargo test --release --test ptx`, with nvcc, makes what is needed")
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts"
        # Without a graph each launch is run once a step.
        environment = os.environ | {
            "LD_LIBRARY_PATH": f"{BUILT / 'stand-in'}:{os.environ.get('LD_LIBRARY_PATH', '')}", "KERASE_SYNC": "1",
            "STAND_IN_PTX": str(BUILT / "ptx"), "STAND_IN_COUNTS": str(counts), "STAND_IN_ENOUGH": str(ENOUGH),
            "STAND_IN_MEMORY": str(64 << 10)}
        command = [kerase, "bench", "--step", "--mode", mode, "--iters", "1", "--warm-up", "1", "--device", "cuda", "--precision", precision]
        done = subprocess.run(command + options, env=environment, capture_output=True, text=True)
        # Parts of launches leave nonsense, over which a training stops after its first step. An inference does not look.
        passes = 1 if "gradient of the benchmark's step is not finite" in done.stderr else 2
        if not counts.exists() or (done.returncode != 0) != (passes == 1):
            sys.exit(f"count_kernels.py: kerase bench failed:\n{done.stderr}")
        found = [json.loads(line) for line in counts.read_text().splitlines()]
    for each in found:
        for name, value in each.items():
            if name in ("shared", "global"):
                each[name] = [count / passes for count in value]
            elif name not in ("kernel", "file", "line"):
                each[name] = value / passes
    return found


class Kernel:
    def __init__(self):
        self.launches = self.warps = self.instructions = self.products = 0
        self.shared, self.globals = [0, 0, 0], [0, 0, 0]  # accesses, what they ask for, the least

    def add(self, line):
        self.instructions += line["instructions"]
        self.products += line["products"]
        for mine, name in ((self.shared, "shared"), (self.globals, "global")):
            for i, count in enumerate(line.get(name, [])):
                mine[i] += count

    def seconds(self):
        return self.instructions / SCHEDULERS / CLOCK


def by_kernel(found):
    kernels = collections.defaultdict(Kernel)
    for each in found:
        if "line" in each:
            kernels[each["kernel"]].add(each)
        else:
            kernels[each["kernel"]].launches, kernels[each["kernel"]].warps = each["launches"], each["warps"]
    return dict(sorted(kernels.items(), key=lambda item: -item[1].instructions))


def ratio(value, of):
    return f"{value / of:.2f}" if of else ""


def table(kernels):
    rows = ["| kernel | launches | 10⁶ instructions | of a warp | products | shared memory, 10⁶ passes | over the least "
            "| global memory, GB | over the least | ms of instructions |", "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    total = Kernel()
    for name, kernel in [*kernels.items(), (None, total)]:
        if name:
            for field in ("launches", "instructions", "products", "warps"):
                setattr(total, field, getattr(total, field) + getattr(kernel, field))
            for mine, other in ((total.shared, kernel.shared), (total.globals, kernel.globals)):
                mine[:] = [a + b for a, b in zip(mine, other)]
        rows.append(
            f"| {f'`{name}`' if name else '**all**'} | {kernel.launches:.0f} | {kernel.instructions / 1e6:.1f} "
            f"| {kernel.instructions / kernel.warps:.0f} | {100 * kernel.products / kernel.instructions:.1f} % "
            f"| {kernel.shared[1] / 1e6:.1f} | {ratio(kernel.shared[1], kernel.shared[2])} "
            f"| {kernel.globals[1] * SECTOR / 1e9:.2f} | {ratio(kernel.globals[1] * SECTOR, kernel.globals[2])} "
            f"| {1e3 * kernel.seconds():.2f} |")
    return "\n".join(rows)


def print_lines(found, name):
    lines = [each for each in found if each["kernel"] == name and "line" in each]
    if not lines:
        sys.exit(f"count_kernels.py: no kernel {name} was launched")
    warps = next(each["warps"] for each in found if each["kernel"] == name and "line" not in each)
    total = sum(line["instructions"] for line in lines)
    print(f"{name}: {total / warps:.0f} instructions of each of {warps:.0f} warps")
    print("instructions  share  shared: passes, least  global: sectors, least  line")
    for line in sorted(lines, key=lambda line: -line["instructions"])[:40]:
        path = Path(line["file"])
        text = path.read_text().splitlines()[line["line"] - 1].strip() if path.is_file() and line["line"] else ""
        shared, of_global = line.get("shared", [0, 0, 0]), line.get("global", [0, 0, 0])
        place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
        print(f"{line['instructions'] / warps:12.1f} {100 * line['instructions'] / total:5.1f} % {shared[1] / warps:15.1f} "
              f"{shared[2] / warps:6.1f} {of_global[1] / warps:16.1f} {of_global[2] / SECTOR / warps:6.1f}  "
              f"{place}:{line['line']}  {text[:70]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kerase", type=Path, default=ROOT / "target/release/kerase")
    parser.add_argument("--precision", default="tf32", choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--mode", default="train", choices=["train", "inference"])
    parser.add_argument("--lines", metavar="KERNEL")
    parser.add_argument("--markdown", metavar="FILE", type=Path)
    parser.add_argument("options", nargs="*", metavar="-- OPTIONS", help="of kerase bench")
    arguments = parser.parse_args()
    count = lambda precision, mode: lines_of(arguments.kerase, precision, mode, arguments.options)
    if arguments.lines:
        return print_lines(count(arguments.precision, arguments.mode), arguments.lines)
    if not arguments.markdown:
        return print(table(by_kernel(count(arguments.precision, arguments.mode))))
    document, totals = arguments.markdown.read_text(), {}
    for precision in ("tf32", "bf16"):
        for mode in ("train", "inference"):
            kernels = by_kernel(count(precision, mode))
            totals[f"{mode}, {precision}"] = {
                name: {"launches": kernel.launches, "instructions": round(kernel.instructions),
                       "bytes": round(kernel.globals[2])} for name, kernel in kernels.items()}
            if mode == "train":
                before, rest = document.split(f"<!-- counts-{precision} -->\n", 1)
                after = rest.split("<!-- /counts -->", 1)[1]
                document = f"{before}<!-- counts-{precision} -->\n{table(kernels)}\n<!-- /counts -->{after}"
    arguments.markdown.write_text(document)
    COUNTS.write_text(json.dumps(totals, indent=1) + "\n")


if __name__ == "__main__":
    main()
