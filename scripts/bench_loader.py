#!/usr/bin/env python3
"""Times how quickly fastMRI's SliceDataset with PyTorch's DataLoader, and kerase's loader, read the same files.

    target/release/kerase simulate --anatomy brain --fastmri --volumes 4 --out DIR
    .venv/bin/python scripts/bench_loader.py --data DIR --rounds 5 --out benches/results/loader-cpu.json

Each round runs `kerase bench --data DIR --loader-only` and then, for each number of workers, fastMRI's in a process of
its own; prints medians and ratios, and writes everything as JSON where --out says.

All read k-space and target of every slice in shuffled order, one slice a batch, and make no masks. Files are in the page
cache, for all: they are read once before, and each process reads them once untimed. So what is compared is copying,
parsing and handing over, not the disk. kerase also looks for NaN in what it reads. fastMRI's is timed in two ways:

- to_tensor: as fastMRI trains, by its own to_tensor (which copies) and the DataLoader's collation (which copies again);
- view: the least that PyTorch can do, tensors that share h5py's memory, not collated.

Workers stay alive from pass to pass, so starting them is not timed; kerase's threads are started in each pass. kerase
gives the memory of a slice back to its loader, as its training does; fastMRI's processes have glibc keep freed memory, as
in bench_pytorch.py.
"""

import argparse
import datetime
import json
import os
import shlex
import statistics
import sys
import time
from pathlib import Path

from bench_pytorch import ALLOCATOR, commit, machine, peak_rss_mb, positive, run_json

WAYS = ("to_tensor", "view")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of fastMRI's multi-coil files")
    parser.add_argument("--kerase", default="target/release/kerase", help="(default target/release/kerase)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 4], help="num_workers (default 0 2 4)")
    parser.add_argument("--rounds", type=positive, default=5, help="(default 5)")
    parser.add_argument("--out", type=Path, help="a file for the JSON")
    # What a process of its own is asked for.
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


# --- timing fastMRI -------------------------------------------------------------------------------------------------


def to_tensor(kspace, mask, target, attributes, name, number):
    from fastmri.data.transforms import to_tensor

    return to_tensor(kspace), to_tensor(target)


def view(kspace, mask, target, attributes, name, number):
    import torch

    return torch.view_as_real(torch.from_numpy(kspace)), torch.from_numpy(target)


def time_fastmri(args):
    from importlib.metadata import version

    import torch
    from fastmri.data import SliceDataset

    (workers,) = args.workers
    dataset = SliceDataset(args.data, "multicoil", transform={"to_tensor": to_tensor, "view": view}[args.way])
    # Without collation a batch size of 1 is that of None: a sample as it is.
    batch = {"batch_size": 1} if args.way == "to_tensor" else {"batch_size": None}
    loader = torch.utils.data.DataLoader(
        dataset,
        **batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(42),
    )
    for _ in range(2):  # the first is not timed
        start, read, slices = time.perf_counter(), 0, 0
        for kspace, target in loader:
            read += kspace.nbytes + target.nbytes
            slices += 1
        seconds = time.perf_counter() - start
    return {
        "program": f"fastMRI {version('fastmri')}, PyTorch {torch.__version__}",
        "way": args.way,
        "workers": workers,
        "slices": slices,
        "bytes": read,
        "seconds": seconds,
        "slices_per_second": slices / seconds,
        "bytes_per_second": read / seconds,
        "peak_rss_mb": peak_rss_mb(),
    }


# --- side by side ---------------------------------------------------------------------------------------------------


def passes_of_kerase(report):
    """By name: one timed pass for each number of threads, after one that is not looked at."""
    shared = {key: report[key] for key in ("program", "slices", "bytes")}
    return {f"kerase, {each['threads']} threads": {**shared, **each} for each in report["again"]}


def alternate(args):
    files = sorted(args.data.iterdir())
    for file in files:  # into the page cache
        with file.open("rb") as opened:
            while opened.read(1 << 24):
                pass
    ours = [args.kerase, "bench", "--data", str(args.data), "--loader-only", "--iters", "1", "--json"]
    theirs = {
        f"fastMRI, {workers} workers, {way}": [sys.executable, __file__, "--data", str(args.data), "--workers", str(workers), "--way", way]
        for way in WAYS
        for workers in args.workers
    }
    # That there are more workers than cores is meant.
    environment = {**os.environ, **ALLOCATOR, "PYTHONWARNINGS": "ignore::UserWarning"}
    runs = {}
    for i in range(args.rounds):
        for name, run in passes_of_kerase(run_json(ours, dict(os.environ))).items():
            runs.setdefault(name, []).append(run)
        for name, command in theirs.items():
            runs.setdefault(name, []).append(run_json(command, environment))
        print(f"round {i + 1} of {args.rounds} done", file=sys.stderr)
    amounts = {(run["slices"], run["bytes"]) for found in runs.values() for run in found}
    if len(amounts) != 1:
        sys.exit(f"not the same was read: slices and bytes {sorted(amounts)}")
    medians = {name: statistics.median(run["slices_per_second"] for run in found) for name, found in runs.items()}
    default = [name for name in runs if name.startswith("kerase")][-1]  # so many threads has training
    ((slices, total),) = amounts
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "command": shlex.join(["scripts/bench_loader.py", "--rounds", str(args.rounds)]),
        "files": len(files),
        "slices": slices,
        "bytes": total,
        "page_cache": "warm",
        "rounds": args.rounds,
        "median_slices_per_second": medians,
        "kerase": default,
        "kerase_over": {name: medians[default] / median for name, median in medians.items() if name != default},
        "runs": runs,
    }


def table(result):
    each = result["bytes"] / result["slices"]
    lines = [
        f"{result['files']} files, {result['slices']} slices of {each / 1e6:.1f} MB, in the page cache; "
        f"medians of {result['rounds']} rounds",
        f"{'':36} {'slices/s':>9} {'GB/s':>6} {'ms/slice':>9} {'of ' + result['kerase']:>20}",
    ]
    for name, rate in result["median_slices_per_second"].items():
        share = rate / result["median_slices_per_second"][result["kerase"]]
        lines.append(f"{name:36} {rate:9.1f} {rate * each / 1e9:6.2f} {1e3 / rate:9.2f} {share:20.2f}")
    return "\n".join(lines)


def main():
    args = parse()
    if args.way:
        print(json.dumps(time_fastmri(args)))
        return
    try:
        result = alternate(args)
    except FileNotFoundError as error:
        sys.exit(str(error))
    print(table(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
