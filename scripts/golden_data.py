"""Makes tests/golden/data: what numpy, h5py and fastMRI say about masks and files, for the tests of src/data.

    python scripts/golden_data.py               writes tests/golden/data anew
    python scripts/golden_data.py --check DIR   reads every *.h5 in DIR (written by kerase) with h5py and fastMRI

Needs numpy, h5py, torch and fastmri; their versions are recorded in the golden files.
"""

import argparse
import hashlib
import json
import math
import random
import sys
from pathlib import Path

import fastmri
import h5py
import numpy as np
import torch
from fastmri.data import subsample
from fastmri.data.mri_data import SliceDataset
from fastmri.data.transforms import VarNetDataTransform
from fastmri.models.varnet import SensitivityModel

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "data"
VERSIONS = {
    "numpy": np.__version__,
    "h5py": h5py.__version__,
    "hdf5": h5py.version.hdf5_version,
    "torch": torch.__version__.split("+")[0],
    "fastmri": fastmri.__version__,
}
KINDS = {
    "random": subsample.RandomMaskFunc,
    "equispaced": subsample.EquiSpacedMaskFunc,
    "equispaced_fraction": subsample.EquispacedMaskFractionFunc,
    "magic": subsample.MagicMaskFunc,
    "magic_fraction": subsample.MagicMaskFractionFunc,
}
SENS = SensitivityModel(chans=1, num_pools=1)


def bits(mask):
    """Columns as hex digits, the first column in the highest bit."""
    return np.packbits(np.asarray(mask).astype(bool).ravel()).tobytes().hex()


def band(mask, num_low_frequencies):
    """What the sensitivity network of fastMRI sees, as [from, to]."""
    tensor = torch.as_tensor(np.asarray(mask).astype(bool)).reshape(1, 1, 1, -1, 1)
    pad, count = SENS.get_pad_and_num_low_freqs(tensor, num_low_frequencies)
    return [int(pad), int(pad + count)]


# ---------------------------------------------------------------------------------------------- masks


def numpy_streams():
    cases = []
    for seed in [0, 42, 2**32 - 1, "file1000001.h5", "file_brain_AXT2_200_2000019.h5", "é.h5"]:
        rng = np.random.RandomState(seed if isinstance(seed, int) else tuple(map(ord, seed)))
        highs = [1, 2, 3, 4, 8, 100, 2**20 + 1, 2**31 - 1] * 3
        cases.append(
            {
                "seed": seed,
                "highs": highs,
                "randint": [int(rng.randint(high)) for high in highs],
                "uniform": [float(x) for x in rng.uniform(size=5)],
                "rand": [float(x) for x in rng.rand(3)],
                "choice": [int(rng.choice([10, 20, 30])) for _ in range(12)],
            }
        )
    return cases


def mask_case(kind, columns, fractions, accelerations, seed, padding=None):
    function = KINDS[kind](fractions, accelerations)
    case = {
        # False: fastMRI's allow_any_combination, which kerase does not have.
        "draw": [kind, columns, fractions, accelerations, seed, False, padding],
    }
    try:
        key = seed if isinstance(seed, int) else tuple(map(ord, seed))
        kspace = torch.ones(2, 3, columns, 2)
        masked, mask, low = fastmri.data.transforms.apply_mask(kspace, function, seed=key, padding=padding)
        assert torch.equal(masked[0, 0, :, 0] != 0, mask.ravel() != 0)
        case |= {"mask": bits(mask), "low": int(low)}
        if columns > 1:  # torch's argmin refuses what is left of the centre of one column: nothing
            case |= {"band": band(mask, int(low)), "found": band(mask, 0)}
    except (ValueError, ZeroDivisionError, AssertionError) as error:
        case |= {"error": type(error).__name__}
    return case


def masks():
    names = ["file1000001.h5", "file_brain_AXT2_200_2000019.h5", "phantom_0.h5"]
    settings = [([0.08], [4]), ([0.04], [8]), ([0.08, 0.04], [4, 8])]
    cases = []
    for kind in KINDS:
        for columns in [320, 322, 368, 372, 15]:
            for number, (fractions, accelerations) in enumerate(settings):
                for name in names if number == 2 else names[number : number + 1]:
                    cases.append(mask_case(kind, columns, fractions, accelerations, name))
        for seed in [0, 7, 4294967295]:
            cases.append(mask_case(kind, 368, [0.08, 0.04, 0.02], [4, 8, 16], seed))
        for padding in [[0, 320], [18, 350], [24, 400], [1, 319]]:
            cases.append(mask_case(kind, 320, [0.08], [4], names[0], padding=padding))
        # Where things get tight: no centre, no undersampling, a centre that is too large, few columns.
        for columns, fraction, acceleration in [
            (64, 0.0, 4), (64, 0.1, 1), (64, 0.25, 4), (64, 0.5, 4), (64, 1.0, 4), (64, 1.0, 1), (320, 0.125, 8),
            (1, 0.5, 2), (2, 0.5, 2), (5, 0.3, 3), (25, 0.1, 4), (25, 0.5, 2), (320, 0.08, 16), (12, 0.08, 4),
        ]:  # fmt: skip
            for seed in [1, 2]:
                cases.append(mask_case(kind, columns, [fraction], [acceleration], seed))
    return cases


def stored_bands():
    """The band that fastMRI finds in masks of every shape, dense, empty and lopsided ones included."""
    rng = np.random.RandomState(3)
    cases = []
    for columns in [2, 3, 7, 8, 16, 31]:
        for density in [0.0, 0.3, 0.7, 0.95, 1.0]:
            mask = rng.rand(columns) < density
            cases.append({"columns": columns, "mask": bits(mask), "band": band(mask, 0)})
    return cases


# ---------------------------------------------------------------------------------------------- files

SLICES, COILS, ROWS, COLUMNS = 2, 2, 4, 10
VARIABLE_LENGTH = {"contiguous.h5", "v114.h5", "gzip.h5", "bytes_header.h5", "mask_bool.h5", "big_endian.h5"}


def header(enc=(4, 10, 1), rec=(3, 5, 1), center=5, maximum=9, namespace=' xmlns="http://www.ismrm.org/ISMRMRD"',
           limits=True, recon=True):  # fmt: skip
    size = "<matrixSize><x>{}</x><y>{}</y><z>{}</z></matrixSize><fieldOfView_mm><x>1</x><y>1</y><z>1</z></fieldOfView_mm>"
    step = (
        f"<kspace_encoding_step_1><minimum>0</minimum><maximum>{maximum}</maximum>"
        f"<center>{center}</center></kspace_encoding_step_1>"
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<ismrmrdHeader{namespace}>\n'
        "  <!-- matrixSize of a comment -->"
        "<encoding>"
        f"<encodedSpace>{size.format(*enc)}</encodedSpace>"
        + (f"<reconSpace>{size.format(*rec)}</reconSpace>" if recon else "")
        + "<encodingLimits><kspace_encoding_step_0><maximum>77</maximum><center>33</center></kspace_encoding_step_0>"
        + (step if limits else "")
        + "</encodingLimits><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>\n"
    )


def kspace(seed):
    rng = np.random.RandomState(seed)
    values = rng.standard_normal((SLICES, COILS, ROWS, COLUMNS, 2)).astype(np.float32)
    return values.view(np.complex64)[..., 0]


def target(seed, slices=SLICES, shape=(3, 5)):
    return np.random.RandomState(1000 + seed).rand(slices, *shape).astype(np.float32)


def put(name, *, seed, xml=None, data=None, recon=True, mask=None, attrs=True, options=None, libver=None):
    """One file; `options` are h5py's storage options of k-space and target."""
    options = options or {}
    # A variable-length string costs a heap of 4 KiB, so only the readable files that test it have any.
    vlen = name in VARIABLE_LENGTH
    xml = header() if xml is None else xml
    xml = np.bytes_(xml) if isinstance(xml, str) and not vlen else xml
    with h5py.File(GOLDEN / name, "w", libver=libver) as file:
        if xml is not False:
            file.create_dataset("ismrmrd_header", data=xml)
        if data is not False:
            file.create_dataset("kspace", data=kspace(seed) if data is None else data, **options.get("kspace", {}))
        volume = target(seed) if recon is True else recon
        if volume is not False:
            file.create_dataset("reconstruction_rss", data=volume, **options.get("target", {}))
        if mask is not None:
            file.create_dataset("mask", data=mask)
        if attrs is True:
            text = str if vlen else np.bytes_
            attrs = {"acquisition": text("AXT2"), "patient_id": text(f"patient {seed}")}
            if volume is not False and not np.iscomplexobj(volume):
                attrs |= {"max": float(volume.max()), "norm": float(np.linalg.norm(volume))}
        for key, value in (attrs or {}).items():
            file.attrs[key] = value


def files():
    columns = np.arange(COLUMNS)
    dense = (columns >= 3) & (columns < 7) | (columns % 4 == 0)
    gzip = dict(compression="gzip", compression_opts=4, shuffle=True)

    # Files that fastMRI reads; everything about them is recorded from there.
    put("contiguous.h5", seed=1)
    put("chunked.h5", seed=2, options={"kspace": dict(chunks=(1, COILS, ROWS, COLUMNS)), "target": dict(chunks=(1, 3, 5))})
    put("gzip_shuffle.h5", seed=3, options={"kspace": dict(chunks=(1, 1, 3, 6), **gzip), "target": gzip})
    put("gzip.h5", seed=4, options={"kspace": dict(chunks=(2, 1, 3, 7), compression="gzip", fletcher32=True)})
    put("v114.h5", seed=5, libver=("v110", "v114"), options={"kspace": dict(chunks=(1, 1, 4, 10), **gzip)})
    put("v114_contiguous.h5", seed=6, libver=("v110", "v114"))
    put("fixed_strings.h5", seed=7, xml=np.bytes_(header()),
        attrs={"max": np.float32(0.75), "norm": np.array([2.5]), "acquisition": np.bytes_("CORPD_FBK"),
               "patient_id": np.bytes_("p é".encode())})  # fmt: skip
    put("bytes_header.h5", seed=8, xml=header().encode())
    put("padded_string.h5", seed=9, xml=np.array(header().encode(), dtype="S2000"))
    put("complex128.h5", seed=10, data=kspace(10).astype(np.complex128), recon=target(10).astype(np.float64))
    put("big_endian.h5", seed=11, data=kspace(11).astype(">c8"), recon=target(11).astype(">f4"))
    put("mask_bool.h5", seed=12, recon=False, mask=dense)
    put("mask_uint8.h5", seed=13, recon=False, mask=dense.astype(np.uint8))
    put("mask_int64.h5", seed=14, recon=False, mask=dense.astype(np.int64))
    put("mask_float.h5", seed=15, recon=False, mask=dense.astype(np.float32).reshape(1, 1, COLUMNS, 1))
    put("padding.h5", seed=16, recon=False, mask=np.ones(COLUMNS, bool), xml=header(center=3, maximum=6))
    put("odd_padding.h5", seed=17, xml=header(enc=(8, 13, 1), center=5, maximum=30))
    put("negative_padding.h5", seed=18, xml=header(center=8))
    put("no_attributes.h5", seed=19, attrs=None)
    put("two_encodings.h5", seed=20, xml=header().replace("</encoding>", "</encoding><encoding><encodedSpace>"
        "<matrixSize><x>1</x><y>1</y><z>1</z></matrixSize></encodedSpace></encoding>"))  # fmt: skip
    readable = sorted(path.name for path in GOLDEN.glob("*.h5"))

    # Files that fastMRI refuses, or reads as something that kerase cannot use.
    nan, infinite = kspace(30), kspace(31)
    nan[1, 1, 2, 3] = np.nan
    infinite[0, 0, 0, 0] = complex(0, -np.inf)
    put("bad_nan.h5", seed=30, data=nan)
    put("bad_infinite.h5", seed=31, data=infinite)
    put("bad_overflow.h5", seed=31, data=np.full((1, 1, 2, 2), 1e300 + 0j), recon=False)
    nan_target = target(32)
    nan_target[1, 2, 3] = np.nan
    put("bad_target_nan.h5", seed=32, recon=nan_target)
    put("bad_no_kspace.h5", seed=33, data=False)
    put("bad_single_coil.h5", seed=34, data=kspace(34)[:, 0])
    put("bad_rank.h5", seed=34, data=kspace(34)[0, 0])
    put("bad_real.h5", seed=35, data=kspace(35).real)
    put("bad_empty.h5", seed=36, data=kspace(36)[:0], recon=False)
    put("bad_no_coils.h5", seed=36, data=kspace(36)[:, :0], recon=False)
    put("bad_no_header.h5", seed=37, xml=False)
    put("bad_header_xml.h5", seed=38, xml="<ismrmrdHeader><encoding></ismrmrdHeader>")
    put("bad_header_recon.h5", seed=39, xml=header(recon=False))
    put("bad_header_number.h5", seed=39, xml=header(center="five"))
    put("bad_header_type.h5", seed=39, xml=np.arange(3))
    put("bad_target_slices.h5", seed=40, recon=target(40, slices=3))
    put("bad_target_rank.h5", seed=41, recon=target(41)[0])
    put("bad_target_type.h5", seed=41, recon=kspace(41)[:, 0])
    put("bad_mask_width.h5", seed=42, recon=False, mask=np.ones(COLUMNS - 2, bool))
    put("bad_mask_2d.h5", seed=43, recon=False, mask=np.ones((ROWS, COLUMNS), bool))
    put("bad_mask_values.h5", seed=43, recon=False, mask=np.full(COLUMNS, 0.5))
    put("bad_mask_type.h5", seed=43, recon=False, mask=np.bytes_("1111111111"))
    put("bad_mask_float16.h5", seed=43, recon=False, mask=dense.astype(np.float16))
    put("bad_target_float16.h5", seed=47, recon=target(47).astype(np.float16))
    # HDF5 2.0 has a storage layout that hdf5-pure does not know yet.
    put("bad_layout.h5", seed=46, recon=False, libver="latest", options={"kspace": dict(chunks=(1, 1, 4, 10), **gzip)})
    with h5py.File(GOLDEN / "bad_kspace_group.h5", "w") as file:
        file.create_group("kspace")
        file["ismrmrd_header"] = np.bytes_(header())
    put_links()
    put_unwritten()
    # Lenient where fastMRI raises: no limits, no namespace.
    put("lenient_no_limits.h5", seed=44, xml=header(limits=False))
    put("lenient_no_namespace.h5", seed=45, xml=header(namespace=""))
    return [describe(name) for name in readable]


def put_links():
    """k-space and masks that are somewhere else: behind a link, and in another file."""
    shape = (SLICES, COILS, ROWS, COLUMNS)
    with h5py.File(GOLDEN / "bad_soft_link.h5", "w") as file:
        file["measured"] = np.zeros(shape, np.complex64)
        file["kspace"] = h5py.SoftLink("/measured")
        file["ismrmrd_header"] = np.bytes_(header())
    with h5py.File(GOLDEN / "bad_virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(shape, np.complex64)
        layout[:] = h5py.VirtualSource("elsewhere.h5", "kspace", shape)
        file.create_virtual_dataset("kspace", layout)
        file["ismrmrd_header"] = np.bytes_(header())

    # In groups whose links are messages of a header.
    for name, libver, link, others in [
        ("bad_mask_soft_link.h5", "v110", h5py.SoftLink("/masks/own"), 0),
        ("bad_mask_external_link.h5", "earliest", h5py.ExternalLink("elsewhere.h5", "/mask"), 0),
        ("lenient_links.h5", "v110", None, 1),
    ]:
        put(name, seed=48, recon=False, libver=libver)
        with h5py.File(GOLDEN / name, "r+", libver=libver) as file:
            for i in range(others):
                file[f"other {i}"] = h5py.SoftLink("/nowhere")
            if link is not None:
                file["mask"] = link


def put_unwritten():
    """k-space of which less is in the file than it has numbers."""
    shape = (SLICES, COILS, ROWS, COLUMNS)
    for name, options in [
        ("bad_external.h5", dict(external=[("elsewhere.bin", 0, 8 * math.prod(shape))])),
        ("bad_unwritten.h5", {}),
        ("bad_unwritten_chunks.h5", dict(chunks=(1, 1, ROWS, COLUMNS))),
    ]:
        with h5py.File(GOLDEN / name, "w") as file:
            # Only one that is larger than its file is looked into for chunks.
            size = shape if "chunks" not in options else (100, *shape[1:])
            kspace = file.create_dataset("kspace", size, np.complex64, **options)
            if "chunks" in options:
                kspace[0] = 1
            file["ismrmrd_header"] = np.bytes_(header())
    # A copy of what another program still writes.
    with h5py.File(GOLDEN / "writing.h5", "w", libver="v110") as file:
        file["ismrmrd_header"] = np.bytes_(header())
        file.swmr_mode = True
        file.flush()
        (GOLDEN / "bad_in_use.h5").write_bytes((GOLDEN / "writing.h5").read_bytes())
    (GOLDEN / "writing.h5").unlink()


def sha256(array, dtype):
    return hashlib.sha256(np.ascontiguousarray(array).astype(dtype).tobytes()).hexdigest()


def one_file_dataset(path, scratch, transform=None):
    """fastMRI's dataset reads whole directories, so the file gets one of its own."""
    for old in scratch.iterdir():
        old.unlink()
    (scratch / path.name).symlink_to(path.resolve())
    return SliceDataset(scratch, "multicoil", transform=transform)


def describe(name):
    """What fastMRI's SliceDataset says of a file."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        dataset = one_file_dataset(GOLDEN / name, Path(scratch))
        slices = []
        for volume, mask, image, attrs, fname, index in dataset:
            assert fname == name and index == len(slices)
            slices.append(
                {
                    "kspace": sha256(volume, "<c8"),
                    "target": None if image is None else sha256(image, "<f4"),
                    "first": [float(volume.ravel()[1].real), float(volume.ravel()[1].imag)],
                }
            )
        entry = {
            "name": name,
            "slices": len(slices),
            "coils": volume.shape[0],
            "matrix": list(volume.shape[1:]),
            "target": None if image is None else list(image.shape),
            "padding": [attrs["padding_left"], attrs["padding_right"]],
            "encoding_size": list(attrs["encoding_size"]),
            "recon_size": list(attrs["recon_size"]),
            "mask": None if mask is None else bits(mask),
            "content": slices,
        }
        for key in ["max", "norm"]:
            entry[key] = float(np.ravel(attrs[key])[0]) if key in attrs else None
        for key in ["acquisition", "patient_id"]:
            value = attrs.get(key)
            entry[key] = value.decode() if isinstance(value, bytes) else value
        if mask is not None:
            # The mask as the network gets it, after fastMRI has cleared the padding.
            sample = VarNetDataTransform()(volume, mask, image, attrs, name, 0)
            entry["padded_mask"] = bits(sample.mask)
            entry["padded_band"] = band(sample.mask, sample.num_low_frequencies)
    return entry


# ---------------------------------------------------------------------------------------------- check


def check(directory):
    """Reads what kerase wrote with h5py and fastMRI; prints what it read, raises where something is wrong."""
    import tempfile

    paths = sorted(Path(directory).glob("*.h5"))
    if not paths:
        sys.exit(f"no *.h5 in {directory}")
    for path in paths:
        with h5py.File(path, "r") as file:
            keys = sorted(file)
            if "kspace" not in file:  # a leaderboard file
                assert keys == ["reconstruction"], keys
                images = file["reconstruction"]
                assert images.dtype == np.float32 and images.ndim == 3
                print(f"{path.name}: reconstruction {images.shape}, sum {float(np.sum(images, dtype=np.float64)):.6f}")
                continue
            assert keys == ["ismrmrd_header", "kspace", "reconstruction_rss"], keys
            assert file["kspace"].dtype == np.complex64 and file["kspace"].ndim == 4
            assert file["reconstruction_rss"].dtype == np.float32
            assert isinstance(file["ismrmrd_header"][()], bytes), "scalar string, as in fastMRI's files"
            volume = file["reconstruction_rss"][()]
            attrs = dict(file.attrs)
        assert sorted(attrs) == ["acquisition", "max", "norm", "patient_id"], sorted(attrs)
        assert isinstance(attrs["acquisition"], str) and isinstance(attrs["patient_id"], str)
        assert isinstance(attrs["max"], np.float64) and attrs["max"] == volume.max()
        assert isinstance(attrs["norm"], np.float64)
        norm = np.linalg.norm(volume.astype(np.float64))
        assert math.isclose(attrs["norm"], norm, rel_tol=1e-12), (attrs["norm"], norm)
        with tempfile.TemporaryDirectory() as scratch:
            mask = subsample.EquispacedMaskFractionFunc([0.2], [3])
            dataset = one_file_dataset(path, Path(scratch), VarNetDataTransform(mask))
            samples = list(dataset)
            raw = [one_file_dataset(path, Path(scratch))[i] for i in range(len(samples))]
        first = samples[0]
        assert len(samples) == len(volume) and first.crop_size == volume.shape[1:]
        print(
            f"{path.name}: {len(samples)} slices, k-space {tuple(first.masked_kspace.shape)}, "
            f"target {tuple(first.target.shape)}, padding {raw[0][3]['padding_left']}..{raw[0][3]['padding_right']}, "
            f"max {first.max_value:.6g}, sha256 of slice 0 {sha256(raw[0][0], '<c8')[:16]}"
        )
    print(f"checked {len(paths)} files: h5py and fastMRI read them")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="DIR", help="read the files that kerase wrote into DIR")
    arguments = parser.parse_args()
    if arguments.check:
        return check(arguments.check)

    random.seed(0)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for old in GOLDEN.glob("*.h5"):
        old.unlink()

    def write(name, **content):
        lines = [f"{json.dumps(key)}: [\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]"
                 for key, cases in content.items()]  # fmt: skip
        head = f'"made by": "scripts/golden_data.py",\n"versions": {json.dumps(VERSIONS)},\n'
        (GOLDEN / name).write_text("{\n" + head + ",\n".join(lines) + "\n}\n")

    write("masks.json", numpy=numpy_streams(), masks=masks(), stored=stored_bands())
    write("files.json", files=files())
    total = sum(path.stat().st_size for path in GOLDEN.iterdir())
    print(f"{len(list(GOLDEN.iterdir()))} files, {total} bytes in tests/golden/data")


if __name__ == "__main__":
    main()
