#!/usr/bin/env python3
"""What the ranks' gradients cost: the time of a step on 1 to 64 GPUs, predicted from a plan and from links' data sheets.

    kerase bench --plan H100 --precision tf32 --mode train --json | scripts/scaling.py [--into docs/scaling.md]

Each rank takes one slice a step. An all-reduce of B bytes over n GPUs takes 2(n - 1)/n * B / bandwidth, where the bandwidth
is that of the slowest link of the ring (nccl-tests, doc/PERFORMANCE.md), plus a latency for each hop.
"""

import argparse
import json
import sys

GPUS_PER_NODE = 8
# How much of a link's data sheet NCCL is taken to reach with messages of 100 MB.
REACHED = 0.8
# Of a step of a ring, in seconds: over NVLink and over a network.
LATENCY = {"node": 3e-6, "network": 8e-6}

# Bytes a second one way for each GPU: within a node, and out of it where all GPUs of a node send at once.
LINKS = {
    "NVLink 4, 8 × 400 Gb/s a node": (450e9, 50e9),
    "NVLink 4, 2 × 200 Gb/s a node": (450e9, 2 * 25e9 / GPUS_PER_NODE),
    "PCIe 4, 100 Gb/s a node": (25e9, 12.5e9 / GPUS_PER_NODE),
}


def all_reduce(size: int, gradient: float, inside: float, outside: float) -> float:
    """Seconds. Between nodes each GPU sends its eighth on its own: NCCL reduces within a node first."""
    if size == 1:
        return 0.0
    local = min(size, GPUS_PER_NODE)
    nodes = size // local
    seconds = 2 * (local - 1) * (gradient / local / (REACHED * inside) + LATENCY["node"])
    if nodes > 1:
        part = gradient / local
        seconds += 2 * (nodes - 1) * (part / nodes / (REACHED * outside) + LATENCY["network"])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=29_936_966, help="of the network [default: the paper's]")
    parser.add_argument("--over-floor", type=float, default=2.0, help="a step's time over its floor [default: 2]")
    parser.add_argument("--into", metavar="FILE", help="replace the table between the markers in FILE")
    arguments = parser.parse_args()
    plan = json.load(sys.stdin)
    if isinstance(plan, list):
        parser.error(f"a plan for {len(plan)} GPUs: name one with --plan")
    floor = plan["total"]["floor_seconds"]
    step, gradient = arguments.over_floor * floor, 4 * arguments.parameters

    lines = [
        f"{plan['ceiling']['name']}, {plan['device'].split(', ')[1]}: a step of one slice at {arguments.over_floor:g} × its "
        f"floor of {1e3 * floor:.1f} ms, gradients of {gradient / 1e6:.1f} MB.",
        "",
        "| GPUs | " + " | ".join(f"{name}: ms for gradients | slices/s | of ideal" for name in LINKS) + " |",
        "|--:|" + "--:|--:|--:|" * len(LINKS),
    ]
    for size in (1, 2, 4, 8, 16, 32, 64):
        cells = []
        for inside, outside in LINKS.values():
            seconds = all_reduce(size, gradient, inside, outside)
            cells += [f"{1e3 * seconds:.2f}", f"{size / (step + seconds):.0f}", f"{step / (step + seconds):.2f}"]
        lines.append(f"| {size} | " + " | ".join(cells) + " |")
    table = "\n".join(lines)
    if not arguments.into:
        print(table)
        return
    begin, end = "<!-- scaling -->\n", "<!-- /scaling -->"
    with open(arguments.into) as file:
        text = file.read()
    before, rest = text.split(begin)
    _, after = rest.split(end)
    with open(arguments.into, "w") as file:
        file.write(before + begin + table + "\n" + end + after)


if __name__ == "__main__":
    main()
