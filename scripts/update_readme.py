#!/usr/bin/env python3
"""Writes the README's tables from benches/results/, between the markers <!-- NAME --> and <!-- /NAME -->.

    python3 scripts/update_readme.py            write
    python3 scripts/update_readme.py --check    fail where the README says something else
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches" / "results"


def load(name):
    return json.loads((RESULTS / name).read_text())


def origin(result):
    return f"{result['machine']}; {result['date']}, commit {result['commit']}"


def speed():
    rows = ["| network and slice | | kerase | PyTorch | ratio |", "|---|---|---|---|---|"]
    results = [load(path.name) for path in sorted(RESULTS.glob("pytorch-*.json"))]
    for result in results:
        run = result["runs"]["kerase"][0]
        network = "{cascades} cascades, chans {chans}, pools {pools}; {coils} coils, {height} × {width}".format(**run)
        for key, name, unit, scale in [
            ("train_seconds", "training step", "s", 1),
            ("inference_seconds", "inference", "s", 1),
            # In MiB, whatever the key says.
            ("peak_rss_mb", "peak memory", "GiB", 1 / 1024),
        ]:
            if key in result["median"]:
                ours, theirs = (scale * result["median"][key][who] for who in ("kerase", "pytorch"))
                what = name if key != "peak_rss_mb" or "train_seconds" not in run else f"{name} of training"
                rows.append(f"| {network} | {what} | {ours:.3g} {unit} | {theirs:.3g} {unit} | {ours / theirs:.2f} |")
                network = ""
    origins = sorted({origin(result) for result in results})
    return "\n".join([*rows, "", *(f"<sub>{text}</sub>" for text in origins)])


def loader():
    result = load("loader-cpu.json")
    rows = ["| reading fastMRI files | slices/s | GB/s | of kerase's rate |", "|---|--:|--:|--:|"]
    ours = result["median_slices_per_second"][result["kerase"]]
    each = result["bytes"] / result["slices"]
    for name, rate in result["median_slices_per_second"].items():
        rows.append(f"| {name} | {rate:.1f} | {rate * each / 1e9:.2f} | {rate / ours:.2f} |")
    return "\n".join([*rows, "", f"<sub>{result['slices']} slices of {each / 1e6:.1f} MB; {origin(result)}</sub>"])


def demo():
    result = load("demo.json")
    scores = {(row["set"], row["model"]): row["scores"] for row in result["summary"]}
    rows = ["| | brain PSNR | brain SSIM | knee PSNR | knee SSIM |", "|---|---|---|---|---|"]
    for model in ("original", "oracle", "unlearned"):
        cells = []
        for organ in ("brain", "knee"):
            psnr, ssim = (scores[organ, model][key] for key in ("psnr", "ssim"))
            cells += [f"{psnr['mean']:.2f} ± {psnr['sd']:.2f} dB", f"{ssim['mean']:.3f} ± {ssim['sd']:.3f}"]
        rows.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", f"<sub>{origin(result)}; {result['seconds'] / 60:.1f} minutes</sub>"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    readme = ROOT / "README.md"
    text = before = readme.read_text()
    for name, table in (("speed", speed), ("loader", loader), ("demo", demo)):
        head, rest = text.split(f"<!-- {name} -->", 1)
        _, tail = rest.split(f"<!-- /{name} -->", 1)
        text = f"{head}<!-- {name} -->\n{table()}\n<!-- /{name} -->{tail}"
    if not args.check:
        readme.write_text(text)
    elif text != before:
        sys.exit("README.md differs from benches/results/: run scripts/update_readme.py")


if __name__ == "__main__":
    main()
