"""fastMRI's evaluation measures on volumes, its SSIM loss with gradients, and the mean ± deviation it reports."""

import numpy as np
import torch
from fastmri import evaluate
from runstats import Statistics

from . import network, phantom, store

VOLUMES = {  # slices, height, width; 7×7 has a single SSIM window
    "even": (3, 24, 20),
    "odd": (2, 31, 17),
    "one_window": (1, 7, 7),
}


def volume(rng, shape):
    target = np.stack([phantom.PEAK * phantom.bodies(rng, *shape[1:]) for _ in range(shape[0])])
    prediction = 0.97 * target + 0.05 * phantom.PEAK * rng.standard_normal(shape)
    return target.astype(np.float32), np.abs(prediction).astype(np.float32)


def measures(target, prediction, maximum):
    """Of the volume, and of each slice with the volume's range: [psnr, ssim, nmse] and [slices, 3]."""
    whole = [
        evaluate.psnr(target, prediction, maximum),
        evaluate.ssim(target, prediction, maximum).item(),
        evaluate.nmse(target, prediction),
    ]
    maximum = target.max() if maximum is None else maximum
    slices = [
        [
            evaluate.psnr(t, p, maximum),
            evaluate.ssim(t[None], p[None], maximum).item(),
            evaluate.nmse(t, p),
        ]
        for t, p in zip(target, prediction)
    ]
    return np.array(whole, dtype=np.float64), np.array(slices, dtype=np.float64)


def write_volumes(folder):
    rng = np.random.default_rng(40)
    tensors = {}
    for name, shape in VOLUMES.items():
        target, prediction = volume(rng, shape)
        maximum = float(1.2 * target.max())
        tensors[f"{name}.target"], tensors[f"{name}.prediction"] = target, prediction
        tensors[f"{name}.max_value"] = maximum
        wide = target.astype(np.float64), prediction.astype(np.float64)
        for label, value in (("own_max", None), ("given_max", maximum)):
            tensors[f"{name}.{label}"], tensors[f"{name}.{label}.slices"] = measures(*wide, value)
            # What fastMRI prints: its files are float32, and so is skimage's arithmetic on them.
            tensors[f"{name}.{label}.f32"], _ = measures(target, prediction, value)
    metadata = {"covers": "psnr, ssim, nmse in this order; float64 unless the name ends in .f32"}
    store.write(folder / "volumes.safetensors", tensors, metadata)


def write_ssim_loss(folder):
    tensors = {}
    for name, shape in {"one_window": (1, 7, 7), "odd": (1, 13, 9), "batch": (2, 16, 21)}.items():
        rng = np.random.default_rng(len(tensors))
        target, prediction = volume(rng, shape)
        data_range = torch.linspace(1.1, 1.4, shape[0], dtype=torch.float64) * float(target.max())
        output = torch.from_numpy(prediction).double().requires_grad_()
        wide = torch.from_numpy(target).double()
        loss = network.ssim_loss()(output.unsqueeze(1), wide.unsqueeze(1), data_range=data_range)
        (gradient,) = torch.autograd.grad(loss, output)
        tensors |= {
            f"{name}.target": target,
            f"{name}.output": prediction,
            f"{name}.data_range": data_range,
            f"{name}.loss": loss,
            f"{name}.output_grad": gradient,
        }
    store.write(folder / "ssim_loss.safetensors", tensors, {"covers": "SSIMLoss and its gradient, float64 (window weights too)"})


def write_deviation(folder):
    values = np.random.default_rng(41).normal(38, 2, 11)
    statistics = Statistics(values)
    tensors = {"values": values, "mean": statistics.mean(), "sd": statistics.stddev()}
    store.write(folder / "deviation.safetensors", tensors, {"covers": "runstats, which fastMRI's Metrics uses"})


def write_all(folder):
    write_volumes(folder)
    write_ssim_loss(folder)
    write_deviation(folder)
