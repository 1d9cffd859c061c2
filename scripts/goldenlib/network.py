"""fastMRI's VarNet in float64: output, loss and every gradient, for small networks that each cover something."""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from fastmri.data.transforms import center_crop_to_smallest
from fastmri.losses import SSIMLoss
from fastmri.models import VarNet
from fastmri.models.varnet import SensitivityModel

from . import phantom, store

L1_WEIGHT = 1e-5  # of the paper's code: SSIM loss + 1e-5 · L1


@dataclass
class Case:
    name: str
    covers: str
    height: int
    width: int
    coils: int
    cascades: int
    chans: int
    pools: int
    sens_chans: int
    sens_pools: int
    target: tuple  # [h, w] of the target; smaller than the image in at least one direction in most cases
    low_frequencies: int  # columns of the centre that are sampled
    given: bool = True  # False: fastMRI finds num_low_frequencies from the mask
    acceleration: int = 3
    offset: int = 0
    batch: int = 1
    seed: int = 0
    small: bool = False  # store gradients, maps and output in float32, to stay under the size limit


CASES = [
    Case("tiny", "the smallest whole network, for debugging", 10, 12, 2, 1, 2, 1, 2, 1, (10, 12), 4),
    Case("two_cascades", "even sizes, four coils, a cropped target", 20, 22, 4, 2, 3, 2, 2, 1, (18, 16), 5, seed=1),
    Case(
        "odd_one_coil",
        "odd sizes, one coil, three levels, uneven padding to multiples of 16",
        33, 41, 1, 1, 2, 3, 3, 1, (27, 27), 7, acceleration=4, offset=1, seed=2,
    ),
    Case(
        "four_pools", "the paper's four levels, one channel, padding in one direction only",
        32, 40, 2, 1, 1, 4, 2, 1, (32, 32), 6, acceleration=4, offset=2, seed=3,
    ),
    Case(
        "eight_coils_stored_mask",
        "eight coils, three cascades, num_low_frequencies found from the mask",
        16, 18, 8, 3, 2, 1, 2, 1, (16, 14), 6, given=False, acceleration=4, offset=1, seed=4,
    ),
    Case(
        "batch_of_two",
        "two slices with their own max_value; a target wider than it is high",
        19, 17, 2, 2, 2, 2, 2, 1, (13, 17), 4, batch=2, seed=5,
    ),
    Case("four_chans", "four channels, sensitivity network of another shape", 16, 24, 2, 1, 4, 1, 2, 2, (16, 16), 4, seed=6),
    Case(
        "reflect_padding",
        "five levels: 48 → 24 → 12 → 6 → 3 → 1, so that the U-Net reflect-pads where a size was odd",
        33, 65, 1, 1, 1, 5, 1, 1, (14, 13), 8, acceleration=4, seed=7, small=True,
    ),
    Case(
        "eight_cascades",
        "more cascades than show the sensitivity maps their gradients at a time",
        12, 14, 3, 8, 2, 1, 2, 1, (12, 12), 4, seed=8,
    ),
]  # fmt: skip


def varnet(case):
    """A network with PyTorch's own initialisation in float32, data consistency weights moved off 1, in float64."""
    torch.manual_seed(1000 + case.seed)
    net = VarNet(case.cascades, case.sens_chans, case.sens_pools, case.chans, case.pools)
    with torch.no_grad():
        for i, cascade in enumerate(net.cascades):
            cascade.dc_weight.fill_(0.9 + 0.15 * i)
    return net.double()


def slices_of(case):
    mask = phantom.equispaced_mask(case.width, case.acceleration, case.low_frequencies, case.offset)
    return phantom.slices(case.seed, case.batch, case.coils, case.height, case.width, mask, case.target)


def forward(net, kspace, mask, num_low_frequencies):
    mask = torch.from_numpy(mask).bool().reshape(1, 1, 1, -1, 1).expand(kspace.shape[0], -1, -1, -1, -1)
    return net(kspace, mask, num_low_frequencies), net.sens_net(kspace, mask, num_low_frequencies)


def ssim_loss():
    """SSIMLoss in float64 throughout. Its window's 1/49 is rounded to float32 when it is made, and .double() keeps that
    rounding: it moves losses by 1e-10 and gradients by 1e-8, which would hide errors of that size."""
    loss = SSIMLoss().double()
    loss.w.fill_(1 / loss.win_size**2)
    return loss


def losses(output, target, max_value):
    """As VarNetModule.training_step, with the L1 term of the paper's code: (loss, ssim, l1)."""
    target, output = center_crop_to_smallest(target, output)
    ssim = ssim_loss()(output.unsqueeze(1), target.unsqueeze(1), data_range=max_value)
    l1 = F.l1_loss(output, target)
    return ssim + L1_WEIGHT * l1, ssim, l1


def settings(case):
    found = {key: value for key, value in asdict(case).items() if key not in ("name", "target", "given", "small")}
    del found["low_frequencies"]
    found["num_low_frequencies"] = case.low_frequencies if case.given else 0
    found["l1_weight"] = L1_WEIGHT
    return found


def write_forward_backward(folder, case):
    net, data = varnet(case), slices_of(case)
    output, sens_maps = forward(net, data.kspace, data.mask, case.low_frequencies if case.given else None)
    loss, ssim, l1 = losses(output, data.target, data.max_value)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    pack = (lambda t: t.detach().float()) if case.small else (lambda t: t)
    tensors = {
        "kspace": store.exact_f32(data.kspace),
        "mask": data.mask,
        "target": data.target,
        "max_value": data.max_value,
        "sens_maps": pack(sens_maps),
        "output": pack(output),
        "loss": loss,
        "ssim": ssim,
        "l1": l1,
    }
    for (name, weight), gradient in zip(net.named_parameters(), gradients):
        tensors[f"weights.{name}"] = store.exact_f32(weight)
        tensors[f"grads.{name}"] = pack(gradient)
    store.write(folder / f"forward_backward_{case.name}.safetensors", tensors, settings(case))


def write_low_frequencies(folder):
    """SensitivityModel.get_pad_and_num_low_freqs on masks that are easy to get wrong."""
    width = 24
    masks = {
        "symmetric": phantom.equispaced_mask(width, 4, 6, 1),
        "uneven_centre": [1.0 if 9 <= i < 17 or i % 5 == 0 else 0.0 for i in range(width)],
        "one_column": [1.0 if i in (3, 12, 20) else 0.0 for i in range(width)],
        "no_centre": [1.0 if i in (3, 20) else 0.0 for i in range(width)],
        "left_only": [1.0 if 8 <= i < 12 else 0.0 for i in range(width)],
        # No zero to find: argmin gives 0, and so one column, on a mask that samples everything.
        "all": [1.0] * width,
        "all_right": [1.0 if i >= 8 else 0.0 for i in range(width)],
        "odd_width": phantom.equispaced_mask(23, 4, 5, 2),
        "odd_width_even_centre": phantom.equispaced_mask(23, 6, 6, 0),
    }
    model = SensitivityModel(1, 1)
    tensors = {}
    for name, mask in masks.items():
        mask = torch.tensor(mask, dtype=torch.float64)
        for given in (0, 4, 5):
            pad, count = model.get_pad_and_num_low_freqs(mask.bool().reshape(1, 1, 1, -1, 1), given)
            tensors[f"{name}.given_{given}"] = torch.cat([pad, count])
        tensors[f"{name}.mask"] = mask
    metadata = {"covers": "pad (the first kept column) and num_low_frequencies, given (4, 5) and found from the mask (0)"}
    store.write(folder / "low_frequencies.safetensors", tensors, metadata)


def write_all(folder):
    for case in CASES:
        write_forward_backward(folder, case)
    write_low_frequencies(folder)
