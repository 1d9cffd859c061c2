"""Small multi-coil slices that look like MRI to a network: smooth bodies, smooth coils with phase, fastMRI's scale."""

from dataclasses import dataclass

import fastmri
import numpy as np
import torch

PEAK = 4e-4  # fastMRI's images peak between 1e-5 and 1e-3; a network must cope without a rescaling by hand
NOISE = 0.01  # of the peak, complex, per coil


@dataclass
class Slices:
    kspace: torch.Tensor  # [N, coils, H, W, 2] f64, masked; every value exact in float32
    mask: np.ndarray  # [W] f64, 0 or 1
    target: torch.Tensor  # [N, h, w] f64, RSS of the full k-space, centre-cropped
    max_value: torch.Tensor  # [N] f64, as a file's `max`: the peak of a volume that the slice is only a part of


def bodies(rng, height, width):
    """A few soft-edged ellipses, [H, W], peak 1."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")

    def ellipse(cy, cx, ry, rx, angle):
        dy, dx = y - cy, x - cx
        a, b = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
        r = np.sqrt((a / rx) ** 2 + (b / ry) ** 2)
        return 1 / (1 + np.exp((r - 1) * 12))

    image = 0.6 * ellipse(0, 0, 0.85, 0.75, 0.1)
    for _ in range(5):
        cy, cx = rng.uniform(-0.5, 0.5, 2)
        ry, rx = rng.uniform(0.1, 0.35, 2)
        image += rng.uniform(-0.3, 0.5) * ellipse(cy, cx, ry, rx, rng.uniform(0, np.pi))
    image = np.clip(image, 0, None)
    return image / image.max()


def coils(rng, count, height, width):
    """Gaussian lobes around the body, each with a linear phase: complex [coils, H, W]."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    maps = []
    for coil in range(count):
        angle = 2 * np.pi * coil / count + rng.uniform(-0.2, 0.2)
        lobe = np.exp(-((y - np.sin(angle)) ** 2 + (x - np.cos(angle)) ** 2) / 1.8)
        phase = rng.uniform(-np.pi, np.pi) + rng.uniform(-1, 1) * y + rng.uniform(-1, 1) * x
        maps.append(lobe * np.exp(1j * phase))
    return np.stack(maps)


def slices(seed, batch, coil_count, height, width, mask, target_shape):
    rng = np.random.default_rng(seed)
    kspace, target = [], []
    sens = coils(rng, coil_count, height, width)
    for _ in range(batch):
        images = PEAK * bodies(rng, height, width) * sens
        images = images + NOISE * PEAK * (
            rng.standard_normal(images.shape) + 1j * rng.standard_normal(images.shape)
        )
        full = fastmri.fft2c(torch.view_as_real(torch.from_numpy(images)))
        full = full.float().double()
        image = fastmri.rss_complex(fastmri.ifft2c(full), dim=0)
        h, w = target_shape
        top, left = (height - h) // 2, (width - w) // 2
        target.append(image[top : top + h, left : left + w])
        # + 0.0 removes the sign of zeros, as fastMRI's apply_mask does.
        kspace.append(full * torch.from_numpy(mask)[None, None, :, None] + 0.0)
    target = torch.stack(target)
    max_value = target.amax(dim=(1, 2)) * torch.linspace(1.15, 1.3, batch, dtype=torch.float64)
    return Slices(torch.stack(kspace), mask, target, max_value)


def equispaced_mask(width, acceleration, low_frequencies, offset=0):
    """Every `acceleration`th column from `offset`, and `low_frequencies` central ones, as fastMRI places them."""
    mask = np.zeros(width)
    mask[offset::acceleration] = 1
    pad = (width - low_frequencies + 1) // 2
    mask[pad : pad + low_frequencies] = 1
    return mask
