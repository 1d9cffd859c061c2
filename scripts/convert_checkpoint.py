#!/usr/bin/env python3
"""Converts VarNet weights between PyTorch and safetensors, under fastMRI's parameter names and in float32.

    convert_checkpoint.py brain_leaderboard_state_dict.pt model.safetensors
    convert_checkpoint.py epoch=49.ckpt model.safetensors
    convert_checkpoint.py --to-torch model.safetensors state_dict.pt

Reads a plain state dict, a Lightning checkpoint of VarNetModule, or a checkpoint of a training loop of one's own that has the
state dict under a name such as `model`: prefixes such as `varnet.` are taken off, and the buffers of losses and metrics are left
behind. A network that was saved whole needs --trust. The architecture and what a checkpoint says about itself (epoch,
global step, hyperparameters) go into the safetensors metadata, and come back as `<output>.json` with --to-torch.
"""

import argparse
import json
import re
import sys
from pathlib import Path

missing = None
try:
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file
except ImportError as error:
    missing = error

OURS = ("cascades.", "sens_net.")
PREFIXES = ("", "varnet.", "module.", "model.", "module.varnet.", "model.varnet.", "_orig_mod.")
# What training loops call the state dict in their checkpoints.
STATE_DICTS = ("state_dict", "model_state_dict", "model", "net", "network")
FIRST_CONV = "unet.down_sample_layers.0.layers.0.weight"


class Unusable(Exception):
    """The input cannot be converted; the message says why."""


def load_torch(path, trust):
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except FileNotFoundError:
        raise Unusable(f"{path} does not exist") from None
    except Exception as error:
        if not trust and "weights_only" in str(error):
            raise Unusable(
                f"{path} holds Python objects besides tensors, and loading those can run code. "
                "If you trust where it came from, add --trust."
            ) from error
        raise Unusable(f"{path} is not a PyTorch file ({type(error).__name__}: {error})") from error


def state_dict_of(found, path):
    """The tensors of a state dict or a checkpoint, and what a checkpoint says about itself."""
    about, outer = {}, found
    name = next((name for name in STATE_DICTS if isinstance(found, dict) and is_state(found.get(name))), None)
    if name is not None:
        about = {key: str(found[key]) for key in ("epoch", "global_step", "pytorch-lightning_version") if key in found}
        if found.get("hyper_parameters"):
            about["hyper_parameters"] = json.dumps(dict(found["hyper_parameters"]), default=str, sort_keys=True)
        found = found[name]
    if not isinstance(found, dict) and callable(getattr(found, "state_dict", None)):
        # A whole network.
        found = found.state_dict()
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        has = f"a dict with {', '.join(map(str, list(outer)[:8]))}" if isinstance(outer, dict) else f"a {type(outer).__name__}"
        raise Unusable(
            f"{path} holds {has}, neither a state dict nor a checkpoint with one: save the network's with "
            "torch.save(net.state_dict(), FILE)"
        )
    return found, about


def is_state(value):
    """Whether it may be a state dict, or a network that has one."""
    return isinstance(value, dict) or callable(getattr(value, "state_dict", None))


def fastmri_names(state, path):
    """The network's own tensors under fastMRI's names, and the names that are left behind."""
    for prefix in PREFIXES:
        kept = {k[len(prefix) :]: k for k in state if k.startswith(tuple(prefix + ours for ours in OURS))}
        if kept:
            left = sorted(set(state) - set(kept.values()))
            return {name: state[key] for name, key in kept.items()}, left
    shown = ", ".join(list(state)[:3]) or "nothing"
    raise Unusable(f"{path} is no VarNet: no parameter begins with cascades. or sens_net. (it has {shown}, …)")


def architecture(weights, path):
    """VarNet's arguments, from names and shapes."""

    def unet(prefix, what):
        first = weights.get(f"{prefix}.{FIRST_CONV}")
        if first is None:
            raise Unusable(f"{path} lacks {prefix}.{FIRST_CONV}, the first convolution of the {what}")
        levels = [m for m in (re.match(re.escape(prefix) + r"\.unet\.down_sample_layers\.(\d+)\.", n) for n in weights) if m]
        return first.shape[0], 1 + max(int(m.group(1)) for m in levels)

    cascades = {int(m.group(1)) for m in (re.match(r"cascades\.(\d+)\.", name) for name in weights) if m}
    if cascades != set(range(len(cascades))) or not cascades:
        raise Unusable(f"{path} has cascades {sorted(cascades)}, which are not numbered from 0 without a gap")
    chans, pools = unet("cascades.0.model", "first cascade")
    sens_chans, sens_pools = unet("sens_net.norm_unet", "sensitivity network")
    return {
        "num_cascades": len(cascades),
        "chans": chans,
        "pools": pools,
        "sens_chans": sens_chans,
        "sens_pools": sens_pools,
    }


def check(weights, arguments, path):
    """Compares names and shapes with the network that fastMRI builds from these arguments."""
    from fastmri.models import VarNet

    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in VarNet(**arguments).state_dict().items()}
    for name in sorted(set(expected) | set(weights)):
        if name not in weights:
            raise Unusable(f"{path} lacks {name} of {expected[name]}, for a network of {arguments}")
        if name not in expected:
            raise Unusable(f"{path} has {name}, which a network of {arguments} does not")
        if tuple(weights[name].shape) != expected[name]:
            raise Unusable(f"{path}: {name} is {tuple(weights[name].shape)}, expected {expected[name]} for {arguments}")
        if not torch.isfinite(weights[name]).all():
            raise Unusable(f"{path}: {name} has NaN or infinite values")


def to_safetensors(args):
    state, about = state_dict_of(load_torch(args.input, args.trust), args.input)
    weights, left = fastmri_names(state, args.input)
    arguments = architecture(weights, args.input)
    check(weights, arguments, args.input)
    weights = {name: value.detach().to(torch.float32).contiguous().clone() for name, value in weights.items()}
    metadata = {**about, **{key: str(value) for key, value in arguments.items()}, "format": "pt"}
    save_file(weights, args.output, metadata)
    if left:
        print(f"left behind: {', '.join(left)}")
    return arguments, weights


def to_torch(args):
    try:
        with safe_open(args.input, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise Unusable(f"{args.input} does not exist") from None
    except SafetensorError as error:
        raise Unusable(f"{args.input} is not a safetensors file: {error}") from error
    weights, left = fastmri_names(weights, args.input)
    if left:
        raise Unusable(f"{args.input} has {left[0]}, which is no parameter of VarNet")
    arguments = architecture(weights, args.input)
    check(weights, arguments, args.input)
    torch.save(weights, args.output)
    metadata = {key: value for key, value in metadata.items() if key != "format"}
    if metadata:
        Path(f"{args.output}.json").write_text(json.dumps(metadata, indent=2, sort_keys=True) + "\n")
    return arguments, weights


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--to-torch", action="store_true", help="from safetensors to a PyTorch state dict")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument("--trust", action="store_true", help="load a PyTorch file that holds arbitrary Python objects")
    args = parser.parse_args()
    if missing:
        print(f"convert_checkpoint.py: {missing}: scripts/setup-python.sh .venv installs what it needs", file=sys.stderr)
        return 2
    written = [args.output, *([Path(f"{args.output}.json")] if args.to_torch else [])]
    there = [str(file) for file in written if file.exists()]
    if there and not args.overwrite:
        print(f"convert_checkpoint.py: {there[0]} exists: name another file, or add --overwrite", file=sys.stderr)
        return 2
    try:
        arguments, weights = (to_torch if args.to_torch else to_safetensors)(args)
    except Unusable as error:
        print(f"convert_checkpoint.py: {error}", file=sys.stderr)
        return 2
    except (OSError, SafetensorError, RuntimeError) as error:  # what the two libraries raise when they cannot write
        print(f"convert_checkpoint.py: cannot write {args.output}: {error}", file=sys.stderr)
        return 2
    count = sum(value.numel() for value in weights.values())
    print(f"{args.output}: {len(weights)} tensors, {count} parameters, {arguments}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
