#!/usr/bin/env python3
"""torch_stubs.py TORCH_LIB: lets a CUDA build of PyTorch run on the CPU without NVIDIA's libraries.

The wheel's shared libraries name some twenty others (libcudart, libcublas, …) that must exist before Python can import
torch. For each that is missing from TORCH_LIB this builds one that has the symbols asked of it, under their versions;
every function returns 100, cudaErrorNoDevice, so torch.cuda.is_available() is False. Needs gcc and readelf.
"""

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

SYSTEM = re.compile(r"(lib(c|m|stdc\+\+|gcc_s|pthread|dl|rt|gomp|quadmath|z|gfortran)\.so|ld-linux)")
# Symbols without a version do not say which library they are from; these prefixes say that it is one of NVIDIA's.
NVIDIA = re.compile(
    r"(cu[A-Z]|cuda|__cuda|cublas|cudnn|cufft|cufile|cuFile|cupti|cusolver|cusparse"
    r"|nccl|nvJit|nvidia|nvml|nvrtc|nvshmem|nvtx)"
)


def readelf(option, library):
    return subprocess.run(["readelf", option, "--wide", library], check=True, capture_output=True, text=True).stdout


def needed_libraries(library):
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", readelf("--dynamic", library)))


def library_of_version(library):
    """Symbol version → the library that is to provide it, from the "version needs" section."""
    owner, current = {}, None
    for line in readelf("--version-info", library).splitlines():
        if found := re.search(r"File: (\S+)", line):
            current = found.group(1)
        elif current and (found := re.search(r"Name: (\S+)\s+Flags", line)):
            owner[found.group(1)] = current
    return owner


def symbols(library):
    """(name, version or None, defined here) of every dynamic symbol."""
    for line in readelf("--dyn-syms", library).splitlines():
        columns = line.split()
        if len(columns) >= 8 and columns[0].rstrip(":").isdigit():
            name, _, version = columns[7].partition("@")
            yield name, version.lstrip("@") or None, columns[6] != "UND"


def survey(folder):
    """What must be stubbed: library → version → symbols, where version None holds those without one."""
    libraries = sorted(folder.glob("*.so*"))
    if not libraries:
        sys.exit(f"torch_stubs.py: {folder} has no shared libraries; it should be torch's lib folder")
    present = {library.name for library in libraries}
    wanted, loose, defined = defaultdict(lambda: defaultdict(set)), set(), set()
    for library in libraries:
        owner = library_of_version(library)
        for name in needed_libraries(library) - present:
            if not SYSTEM.match(name):
                wanted[name]  # to exist, even if nothing is asked of it by version
        for name, version, is_defined in symbols(library):
            if is_defined:
                defined.add(name)
            elif version is None:
                if NVIDIA.match(name):
                    loose.add(name)
            elif version in owner and owner[version] in wanted:
                wanted[owner[version]][version].add(name)
    versioned = {name for versions in wanted.values() for names in versions.values() for name in names}
    # The loader looks a symbol without version up in every library, so any one stub can hold them all.
    runtime = next((name for name in sorted(wanted) if name.startswith("libcudart")), None)
    if runtime:
        wanted[runtime][None] = loose - defined - versioned
    return wanted


def build(target, versions, scratch):
    names = sorted(set().union(*versions.values())) if versions else []
    source, script = scratch / "stub.c", scratch / "stub.map"
    # An empty translation unit is not C.
    source.write_text("".join(f"long {name}(void) {{ return 100; }}\n" for name in names) or "int stub;\n")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-w", "-fno-builtin", "-o", target, source, f"-Wl,-soname,{target.name}"]
    mapped = {version: sorted(found) for version, found in versions.items() if version}
    if mapped:
        script.write_text(
            "".join(f"{version} {{ global: {' '.join(f'{n};' for n in found)} }};\n" for version, found in mapped.items())
        )
        command.append(f"-Wl,--version-script={script}")
    subprocess.run(command, check=True)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    wanted = survey(folder)
    with tempfile.TemporaryDirectory() as scratch:
        for name, versions in sorted(wanted.items()):
            build(folder / name, versions, Path(scratch))
    print(f"{len(wanted)} stub libraries in {folder}")


if __name__ == "__main__":
    main()
