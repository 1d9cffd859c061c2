"""Adam with clipping: on gradients that are given, and over three steps of a tiny network."""

import torch

from . import network, store

CLIP = 0.5


def adam_steps(dtype, initial, gradients, rates, with_l1=0.0):
    """Parameters after each step [steps, n], Adam's moments at the end, and the norms before clipping [steps]."""
    parameter = torch.nn.Parameter(initial.to(dtype).clone())
    optimizer = torch.optim.Adam([parameter], lr=rates[0])
    after, norms = [], []
    for gradient, rate in zip(gradients, rates):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = gradient.to(dtype).clone() + with_l1 * torch.sign(parameter.detach())
        norms.append(torch.nn.utils.clip_grad_norm_([parameter], CLIP))
        optimizer.step()
        after.append(parameter.detach().clone())
    state = optimizer.state[parameter]
    return torch.stack(after), state["exp_avg"], state["exp_avg_sq"], torch.stack(norms)


def write_adam_steps(folder):
    torch.manual_seed(30)
    initial = 0.1 * torch.randn(64)
    initial[5] = 0.0  # sign(0) = 0 in the ℓ1 subgradient
    # The third gradient is below the clip; some entries are exactly zero, some minute.
    scale = torch.tensor([1.0, 3.0, 0.02, 0.5, 1e-3]).reshape(5, 1)
    gradients = scale * torch.randn(5, 64)
    gradients[:, 7] = 0.0
    gradients[:, 8] *= 1e-12
    rates = [1e-3, 1e-3, 1e-3, 1e-4, 1e-4]
    tensors = {
        "initial": store.exact_f32(initial),
        "gradients": store.exact_f32(gradients),
        "lr": torch.tensor(rates, dtype=torch.float64),
    }
    for label, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        for suffix, l1 in (("", 0.0), (".l1", 0.01)):
            after, exp_avg, exp_avg_sq, norms = adam_steps(dtype, initial, gradients, rates, l1)
            tensors[f"parameters.{label}{suffix}"] = after
            tensors[f"exp_avg.{label}{suffix}"] = exp_avg
            tensors[f"exp_avg_sq.{label}{suffix}"] = exp_avg_sq
            tensors[f"grad_norm.{label}{suffix}"] = norms
    metadata = {
        "covers": "Adam after clip_grad_norm_, a changing lr; with .l1, 0.01·sign(parameter) joins the gradient before the clip",
        "betas": "0.9,0.999", "eps": "1e-8", "clip": CLIP, "l1_gamma": 0.01,
    }  # fmt: skip
    store.write(folder / "adam_steps.safetensors", tensors, metadata)


def write_train_3_steps(folder):
    case = network.Case(
        "train_3_steps", "three Adam steps with clipping on slices 0, 1, 0",
        14, 18, 3, 2, 2, 1, 2, 1, (14, 14), 4, batch=2, seed=8,
    )  # fmt: skip
    net, data = network.varnet(case), network.slices_of(case)
    tensors = {
        "kspace": store.exact_f32(data.kspace),
        "mask": data.mask,
        "target": data.target,
        "max_value": data.max_value,
    }
    for name, weight in net.named_parameters():
        tensors[f"weights.{name}"] = store.exact_f32(weight)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    order, loss_values, norms = [0, 1, 0], [], []
    for i in order:
        optimizer.zero_grad()
        output, _ = network.forward(net, data.kspace[i : i + 1], data.mask, case.low_frequencies)
        loss, _, _ = network.losses(output, data.target[i : i + 1], data.max_value[i : i + 1])
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP))
        optimizer.step()
        loss_values.append(loss.detach())
    tensors["losses"], tensors["grad_norms"] = torch.stack(loss_values), torch.stack(norms)
    for name, weight in net.named_parameters():
        tensors[f"final.{name}"] = weight
    metadata = {**network.settings(case), "lr": 1e-3, "clip": CLIP, "slice_order": "0,1,0"}
    store.write(folder / "train_3_steps.safetensors", tensors, metadata)


def write_all(folder):
    write_adam_steps(folder)
    write_train_3_steps(folder)
