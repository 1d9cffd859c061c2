"""Writes golden files: safetensors whose bytes depend on nothing but their contents.

The safetensors library keeps metadata in a hash map and so writes it in a new order on each run. Golden files are
under version control and must not change when nothing did, hence this writer; the library reads what it writes.
"""

import json
import struct
from pathlib import Path

import fastmri
import numpy as np
import scipy
import skimage
import torch

DTYPES = {np.dtype("f8"): "F64", np.dtype("f4"): "F32", np.dtype("i8"): "I64"}
LARGEST_FILE = 300_000  # bytes; the files live in the repository


def versions():
    """The programs that the numbers come from, for every file's metadata."""
    return {
        "torch_version": torch.__version__.split("+")[0],
        "fastmri_version": getattr(fastmri, "__version__", "unknown"),
        "numpy_version": np.__version__,
        "scipy_version": scipy.__version__,
        "skimage_version": skimage.__version__,
    }


def as_array(value):
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    value = np.asarray(value)
    shape = value.shape or (1,)  # scalars are stored as [1]
    return np.ascontiguousarray(value).reshape(shape)


def exact_f32(value):
    """The same numbers in float32. Refuses to round: golden inputs must be what PyTorch was given."""
    array = as_array(value)
    single = array.astype(np.float32)
    if not np.array_equal(single.astype(array.dtype), array):
        raise ValueError("these values are not exact in float32")
    return single


def encode(tensors, metadata):
    arrays = {name: as_array(value) for name, value in tensors.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    # Wide types first keeps every tensor aligned to its own size.
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header = {"__metadata__": {key: str(metadata[key]) for key in sorted(metadata)}}
    offset = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": DTYPES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(arrays[name].tobytes() for name in order)


def write(path, tensors, metadata):
    data = encode(tensors, {**versions(), **metadata})
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{path} would have {len(data)} bytes, more than {LARGEST_FILE}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    print(f"{path}: {len(data)} bytes, {len(tensors)} tensors")
