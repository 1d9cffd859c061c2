#!/usr/bin/env python3
"""Makes tests/golden/: what PyTorch and fastMRI compute, for kerase's tests to compare with.

    .venv/bin/python scripts/golden.py [--out tests/golden] [--check]

The environment comes from scripts/setup-python.sh. Every file is safetensors; its metadata names the versions, the
architecture and the settings. Inputs are exact in float32; everything is computed in float64 on one thread, and a
second run gives the same bytes. `--check` writes nothing, and fails where the committed files differ.
"""

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

import torch

from goldenlib import metric, network, optimizer

FAMILIES = {"model": [network, optimizer], "metrics": [metric]}


def write_all(out):
    for folder, modules in FAMILIES.items():
        for module in modules:
            module.write_all(out / folder)


def differences(made, committed):
    def names(root):
        return {path.relative_to(root) for folder in FAMILIES for path in (root / folder).glob("*.safetensors")}

    for name in sorted(names(made) | names(committed)):
        a, b = made / name, committed / name
        if not (a.exists() and b.exists() and filecmp.cmp(a, b, shallow=False)):
            yield name


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=root / "tests" / "golden")
    parser.add_argument("--check", action="store_true", help="compare with what --out holds instead of writing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    if not args.check:
        write_all(args.out)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_all(Path(folder))
        found = list(differences(Path(folder), args.out))
    for name in found:
        print(f"differs: {name}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
