#!/usr/bin/env python3
"""Reads a run's event files with TensorBoard's own package and compares them with its metrics.jsonl.

    pip install tensorboard==2.21.0
    scripts/check_tensorboard.py RUN

Exit code 1 where a number differs, or something is missing that TensorBoard should show.
"""

import argparse
import io
import json
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, EventAccumulator


def single(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={SCALARS: 0, IMAGES: 0})
    events.Reload()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    by_kind: dict[str, dict[int, dict]] = {}
    for line in lines:
        by_kind.setdefault(line["kind"], {})[line["step"]] = line

    wrong = []
    compared = 0
    for tag, kind, key in [
        ("loss/step", "step", "loss"),
        ("optimiser/learning_rate", "step", "lr"),
        ("optimiser/gradient_norm", "step", "grad_norm"),
        ("pace/step_seconds", "step", "seconds"),
        ("loss/epoch", "epoch", "mean_loss"),
        ("validation/psnr", "validation", "psnr"),
        ("validation/ssim", "validation", "ssim"),
        ("validation/nmse", "validation", "nmse"),
    ]:
        logged = by_kind.get(kind, {})
        if not logged:
            continue
        shown = events.Scalars(tag)
        # Steps are shown once a second, the others always.
        if kind != "step" and {e.step for e in shown} != set(logged):
            wrong.append(f"{tag}: shown at {[e.step for e in shown]}, logged at {sorted(logged)}")
        steps = [e.step for e in shown]
        if steps != sorted(set(steps)):
            wrong.append(f"{tag}: a step is shown twice, or out of order: {steps}")
        for event in shown:
            compared += 1
            expected = single(logged[event.step][key]) if event.step in logged else None
            if expected != event.value:
                wrong.append(f"{tag} at step {event.step}: {event.value}, metrics.jsonl has {expected}")
    for tag in ("pace/slices_per_second", "pace/share_waiting_for_data"):
        if not events.Scalars(tag):
            wrong.append(f"{tag} is missing")
    images = events.Images("validation/slice") if "validation/slice" in events.Tags()["images"] else []
    if len(images) != len(by_kind.get("validation", {})):
        wrong.append(f"{len(images)} pictures for {len(by_kind.get('validation', {}))} validations")
    for image in images:
        header = io.BytesIO(image.encoded_image_string).read(24)
        if header[:8] != b"\x89PNG\r\n\x1a\n" or struct.unpack(">II", header[16:]) != (image.width, image.height):
            wrong.append(f"the picture of step {image.step} is no PNG of {image.width} x {image.height}")

    print("\n".join(wrong) if wrong else f"{run}: {compared} numbers and {len(images)} pictures are as metrics.jsonl says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
