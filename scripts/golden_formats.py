"""Makes tests/golden/formats: tiny files of M4Raw's, CMRxRecon's and BART's layouts, with what numpy and fastMRI say is
in them, and coil compression in numpy; for tests/data_formats.rs, tests/convert.rs and tests/virtual_coils.rs.

    python scripts/golden_formats.py               writes tests/golden/formats anew
    python scripts/golden_formats.py --check DIR   reads every *.cfl in DIR (written by kerase) as BART's cfl.py does

Where the layouts are documented: docs/data.md.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import fastmri
import h5py
import numpy as np
import torch

from golden_data import VERSIONS, header, one_file_dataset, sha256

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "formats"


def noise(seed, shape, dtype=np.complex64):
    """Standard normal complex numbers of which no two are the same."""
    values = np.random.RandomState(seed).standard_normal((*shape, 2))
    return (values[..., 0] + 1j * values[..., 1]).astype(dtype)


def rss(kspace):
    """`[…, coils, rows, columns]` to `[…, rows, columns]`, by fastMRI, as CMRxRecon's tutorial does it."""
    data = torch.view_as_real(torch.from_numpy(kspace.astype(np.complex128)))
    return fastmri.rss(fastmri.complex_abs(fastmri.ifft2c(data)), dim=-3).numpy()


# -------------------------------------------------------------------------------------------------- M4Raw


def m4raw():
    """What the tutorial of mylyu/M4Raw prints: these three datasets and attributes, and images as large as k-space."""
    kspace = noise(1, (2, 4, 8, 10))
    images = rss(kspace).astype(np.float32)
    path = GOLDEN / "2022061003_T201.h5"
    with h5py.File(path, "w") as file:
        file["ismrmrd_header"] = np.bytes_(header(enc=(8, 10, 1), rec=(8, 10, 1)))
        file["kspace"] = kspace
        file["reconstruction_rss"] = images
        file.attrs["acquisition"] = "AXT2"
        file.attrs["max"] = float(images.max())
        file.attrs["patient_id"] = "88448eec"
    with tempfile.TemporaryDirectory() as scratch:
        dataset = one_file_dataset(path, Path(scratch))
        samples = [dataset[i] for i in range(len(dataset))]
    assert len(samples) == 2 and samples[0][3]["padding_right"] == 10
    return {
        "name": path.name,
        "matrix": [8, 10],
        "max": float(samples[0][3]["max"]),
        "kspace": [sha256(sample[0], "<c8") for sample in samples],
        "target": [sha256(sample[2], "<f4") for sample in samples],
    }


# -------------------------------------------------------------------------------------------------- CMRxRecon


def matlab(path, variables, *, double=False, chunks=True):
    """Writes variables as MATLAB 7.3 does: reversed axes, a user block, complex numbers as real and imag."""
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            stored = np.ascontiguousarray(value.T)
            number, cls = ("<f8", b"double") if double else ("<f4", b"single")
            if np.iscomplexobj(stored):
                pairs = np.empty(stored.shape, [("real", number), ("imag", number)])
                pairs["real"], pairs["imag"] = stored.real, stored.imag
                stored = pairs
            options = dict(compression="gzip", compression_opts=3) if chunks else {}
            dataset = file.create_dataset(name, data=stored, **options)
            dataset.attrs["MATLAB_class"] = np.bytes_(cls)
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2024 HDF5 schema 1.00 ."
    with open(path, "r+b") as file:
        file.write(text.ljust(116) + bytes(8) + b"\x00\x02IM")


def masked(kspace, columns):
    """MATLAB's `kspace_full .* mask` for masks along ny, the second axis."""
    mask = np.zeros(kspace.shape[1], bool)
    mask[columns] = True
    return kspace * mask[None, :, None, None, None], mask


def cmrxrecon():
    """Arrays are MATLAB's (nx, ny, coils, slices, frames) here, as the Format_*.txt of CMRxRecon say."""
    cases = []

    def full(name, variable, seed, shape, **options):
        kspace = noise(seed, shape, np.complex128 if options.get("double") else np.complex64)
        matlab(GOLDEN / name, {variable: kspace}, **options)
        nx, ny, coils, slices, frames = (*shape, 1, 1)[:5]
        # Slice number t * slices + z.
        flat = np.stack([
            kspace.reshape(nx, ny, coils, slices, frames)[:, :, :, z, t].transpose(2, 0, 1)
            for t in range(frames) for z in range(slices)
        ])  # fmt: skip
        images = rss(flat.astype(np.complex64))
        cases.append({
            "file": name, "name": name.replace("/", "_").replace(".mat", ".h5"), "frames": frames,
            "slices": frames * slices, "coils": coils, "matrix": [nx, ny], "max": float(images.max()),
            "norm": float(np.linalg.norm(images)), "mask": None,
            "kspace": [sha256(slice, "<c8") for slice in flat],
            "first": [[float(slice[0, 0, 1].real), float(slice[0, 0, 1].imag)] for slice in flat],
            "target": [image.ravel().tolist() for image in images],
        })  # fmt: skip
        return kspace

    kspace = full("P001/cine_sax.mat", "kspace_full", 11, (6, 8, 3, 2, 3))
    full("P001/cine_lax.mat", "kspace_full", 12, (7, 5, 2, 3, 2), double=True, chunks=False)
    full("P002/cine_sax.mat", "kspace", 13, (4, 6, 2, 2, 2), chunks=False)
    full("P002/blackblood.mat", "kspace_full", 14, (4, 6, 2, 3))
    full("P002/T1w.mat", "kspace_full", 15, (4, 6, 2))

    for name, variable in [("P003/cine_sax.mat", "kspace_sub04"), ("P003/cine_sax_kus_Uniform4.mat", "kus")]:
        sampled, mask = masked(kspace, [0, 3, 4, 5, 7])
        matlab(GOLDEN / name, {variable: sampled})
        cases.append({
            "file": name, "name": name.replace("/", "_").replace(".mat", ".h5"), "frames": 3, "slices": 6, "coils": 3,
            "matrix": [6, 8], "max": None, "norm": None, "mask": mask.tolist(),
            "kspace": [sha256(sampled[:, :, :, z, t].transpose(2, 0, 1), "<c8") for t in range(3) for z in range(2)],
            "first": [[0.0, 0.0]] * 6, "target": None,
        })  # fmt: skip
    matlab(GOLDEN / "P003/cine_sax_mask.mat", {"mask04": np.ones((6, 8))})

    # What is refused.
    turning = kspace.copy()
    for t in range(3):
        turning[..., t] = masked(kspace, [t, 3, 4, 5])[0][..., t]
    matlab(GOLDEN / "bad/kt.mat", {"kus": turning})
    radial = kspace.copy()
    radial[np.add.outer(np.arange(6), np.arange(8)) % 3 == 0] = 0
    matlab(GOLDEN / "bad/radial.mat", {"kus": radial})
    matlab(GOLDEN / "bad/zeros.mat", {"kus": kspace * 0})
    matlab(GOLDEN / "bad/single.mat", {"kspace_single_full": kspace[:, :, 0]})
    matlab(GOLDEN / "bad/rank.mat", {"kspace_full": kspace[:, :, 0, 0, 0]})
    matlab(GOLDEN / "bad/real.mat", {"kspace_full": kspace.real})
    broken = kspace.copy()
    broken[0, 0, 0, 1, 2] = np.nan
    matlab(GOLDEN / "bad/nan.mat", {"kspace_full": broken})
    matlab(GOLDEN / "bad/nothing.mat", {"image": kspace.real})
    (GOLDEN / "bad/old.mat").write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x01IM" + bytes(64))
    return cases


# -------------------------------------------------------------------------------------------------- BART


def write_cfl(name, array):
    """As BART's python/cfl.py: dimensions with a blank behind each, then the array in column-major order."""
    (GOLDEN / f"{name}.hdr").write_text("# Dimensions\n" + "".join(f"{size} " for size in array.shape) + "\n")
    (GOLDEN / f"{name}.cfl").write_bytes(array.astype("<c8").tobytes(order="F"))


def bart():
    """k-space of M4Raw's and CMRxRecon's files by dimension (0 read, 1 phase, 3 coils, 10 time, 13 slices), images."""
    with h5py.File(GOLDEN / "2022061003_T201.h5") as file:
        kspace, images = file["kspace"][()], file["reconstruction_rss"][()]
    dims = lambda **sizes: [sizes.get(f"d{i}", 1) for i in range(16)]  # noqa: E731
    write_cfl("bart_kspace", kspace.transpose(2, 3, 1, 0).reshape(dims(d0=8, d1=10, d3=4, d13=2), order="F"))
    write_cfl("bart_images", images.transpose(1, 2, 0).reshape(dims(d0=8, d1=10, d13=2), order="F"))
    cine = noise(11, (6, 8, 3, 2, 3))
    write_cfl("bart_cine", cine.transpose(0, 1, 2, 4, 3).reshape(dims(d0=6, d1=8, d3=3, d10=3, d13=2), order="F"))
    return {"slices": [sha256(slice, "<c8") for slice in kspace]}


def check(directory):
    """Reads every cfl of a directory and prints what is in it."""
    for path in sorted(Path(directory).glob("*.cfl")):
        lines = path.with_suffix(".hdr").read_text().splitlines()
        dims = [int(size) for size in lines[1].split()]
        array = np.fromfile(path, "<c8").reshape(dims, order="F")
        print(f"{path.name}: {dims}, norm {np.linalg.norm(array):.6f}")


# -------------------------------------------------------------------------------------------------- coil compression


def compression():
    """Virtual coils of M4Raw's file from columns 3..7 of all slices: eigenvectors of the coils' Gram matrix, each turned
    so that its largest entry is real and positive."""
    with h5py.File(GOLDEN / "2022061003_T201.h5") as file:
        kspace = file["kspace"][()].astype(np.complex128)
    calibration = kspace[..., 3:7].transpose(1, 0, 2, 3).reshape(4, -1)
    values, vectors = np.linalg.eigh(calibration @ calibration.conj().T)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(4)]
    vectors = vectors * (largest.conj() / np.abs(largest))
    cases = []
    for count in range(1, 5):
        compressed = np.einsum("ck,scyx->skyx", vectors[:, :count].conj(), kspace)
        cases.append({
            "coils": count, "energy": float(values[:count].sum() / values.sum()),
            "matrix": [[[float(z.real), float(z.imag)] for z in vectors[:, k].conj()] for k in range(count)],
            "slice": [[float(z.real), float(z.imag)] for z in compressed[1].ravel()],
        })  # fmt: skip
    return {"file": "2022061003_T201.h5", "columns": [3, 7], "cases": cases}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="DIR", help="read the *.cfl that kerase wrote into DIR")
    arguments = parser.parse_args()
    if arguments.check:
        return check(arguments.check)
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir(parents=True)
    content = {"m4raw": m4raw(), "cmrxrecon": cmrxrecon(), "bart": bart(), "compression": compression()}
    head = {"made by": "scripts/golden_formats.py", "versions": VERSIONS}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in (head | content).items()]
    (GOLDEN / "formats.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    files = [path for path in GOLDEN.rglob("*") if path.is_file()]
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files)} bytes in tests/golden/formats")


if __name__ == "__main__":
    sys.exit(main())
