#!/usr/bin/env bash
# kernel-resources.sh [--markdown FILE] [--arch LIST] [KERNEL.cu ...]: what each kernel takes of a GPU: registers,
# spills, static shared memory, stack, the blocks that fit a multiprocessor, and the tensor-core instructions and
# 16-byte loads in its machine code; for every architecture that kerase is built for. Needs nvcc, but no GPU.
#
# Kernels: all of kernels/*.cu. LIST: as in CUDA_COMPUTE_CAP, default 80,86,89,90a. nvcc is looked for as the build
# does (NVCC, CUDA_HOME, CUDA_PATH, PATH, /usr/local/cuda, .nvcc); cuobjdump and nvdisasm lie beside it or in PATH.
# The exit code is 1 where a kernel spills registers, a convolution for tensor cores has none of their instructions, a
# row kernel has no 16-byte load, or a kernel for 9.0 and later touches memory before it has waited for the launches
# before it, and 2 where something could not be compiled.
set -euo pipefail

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
fail() { echo "kernel-resources.sh: $*" >&2; exit 2; }

markdown=
architectures=80,86,89,90a
kernels=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --markdown) [ $# -ge 2 ] || fail "--markdown needs a file"; markdown=$2; shift ;;
        --arch) [ $# -ge 2 ] || fail "--arch needs a list"; architectures=$2; shift ;;
        -*) fail "unknown option $1; see --help" ;;
        *) kernels+=("$1") ;;
    esac
    shift
done
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ ${#kernels[@]} -gt 0 ] || for file in "$root"/kernels/*.cu; do [ ! -e "$file" ] || kernels+=("$file"); done
[ ${#kernels[@]} -gt 0 ] || fail "there are no kernels in $root/kernels"
command -v python3 >/dev/null || fail "python3 was not found"

nvcc=
for candidate in "${NVCC:-}" "${CUDA_HOME:+$CUDA_HOME/bin/nvcc}" "${CUDA_PATH:+$CUDA_PATH/bin/nvcc}" nvcc \
    /usr/local/cuda/bin/nvcc "$root/.nvcc/nvidia/cu13/bin/nvcc"; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null; then nvcc=$candidate; break; fi
done
[ -n "$nvcc" ] || fail "no nvcc was found; scripts/install-nvcc.sh installs one"

exec python3 - "$nvcc" "$root/kernels" "$architectures" "$markdown" "${kernels[@]}" <<'PYTHON'
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

nvcc, include, architectures, markdown, *kernels = sys.argv[1:]
architectures = [a.strip().removeprefix("sm_").replace(".", "") for a in architectures.split(",")]
host = os.environ.get("NVCC_CCBIN") or os.environ.get("CXX", "")
HEADER = ["kernel", "file", "arch", "registers", "spilt", "shared", "stack", "threads", "blocks", "warps", "HMMA",
          "LDG.128"]
LEFT = 3  # columns of text

# What a multiprocessor has (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"): warps,
# blocks and KiB of shared memory. All of these have 65 536 registers, a quarter for each quarter of the warps.
MULTIPROCESSORS = {"80": (64, 32, 164), "86": (48, 16, 100), "89": (48, 24, 100), "90": (64, 32, 228)}

# A row kernel is one that transforms lines in shared memory. These read them by 8 bytes, and why.
BY_8_BYTES = {
    "ifft_columns": "a block reads some columns of each row, each of which has a weight and may have to be left out",
    "ifft_rows": "both shifts move single values, to where pairs are not aligned; a warp's 8 bytes follow each other",
}


def compile(job):
    """ptxas's report, what the PTX says of launches, and machine code: of one file, for one architecture."""
    (kernel, architecture), folder = job
    folder.mkdir()
    cubin = folder / "kernel.cubin"
    command = [nvcc, "-cubin", "-std=c++17", "-O3", f"-arch=sm_{architecture}", "-Xptxas", "-v", "-I", include]
    command += ["-ccbin", host] if host and not re.search(r"\s", host) else []
    # The PTX is made on the way to machine code, and kept costs nothing.
    command += ["--keep", "--keep-dir", folder, "-o", cubin, kernel]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return f"nvcc cannot compile {kernel} for sm_{architecture}:\n{(done.stdout + done.stderr).strip()}", None
    shown = subprocess.run([cuobjdump, "-sass", cubin], capture_output=True, text=True, env=environment)
    if shown.returncode != 0:
        return f"cuobjdump cannot read {kernel} for sm_{architecture}:\n{shown.stderr.strip()}", None
    found = resources(done.stdout + done.stderr)
    for parsed in launches((folder / Path(kernel).with_suffix(".ptx").name).read_text()), instructions(shown.stdout):
        for name, values in parsed.items():
            # A function that was not inlined is in the report alone.
            if name in found:
                found[name] |= values
    shutil.rmtree(folder)
    return None, found


def resources(text):
    """ptxas prints, for each function: its name, a line of stack and spills, and for kernels a line of registers."""
    found, name = {}, None
    for line in text.splitlines():
        if match := re.search(r"Function properties for (\S+)", line):
            name = match[1]
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            found[name] = {"stack": int(match[1]), "spilt": int(match[2]) + int(match[3])}
        elif (match := re.search(r"Used (\d+) registers", line)) and name in found:
            shared = re.search(r"(\d+) bytes smem", line)
            found[name] |= {"registers": int(match[1]), "static": int(shared[1]) if shared else 0}
            name = None
    return found


def launches(ptx):
    """Of each kernel in the PTX: the threads that its launch bounds allow, and whether launches give it memory."""
    found = {}
    for entry in re.split(r"^\.visible \.entry ", ptx, flags=re.M)[1:]:
        bound = re.search(r"^\.maxntid (\d+)(?:, (\d+), (\d+))?", entry, flags=re.M)
        threads = 1
        for extent in bound.groups() if bound else ():
            threads *= int(extent or 1)
        dynamic = re.search(r"\bdynamic_shared\b", entry) is not None
        found[re.match(r"\w+", entry)[0]] = {"threads": threads if bound else 1024, "dynamic": dynamic}
    return found


def instructions(sass):
    """Of each kernel, instructions as they stand in the code: on tensor cores, and loads of 16 bytes."""
    found = {}
    for function in sass.split("Function : ")[1:]:
        of_16_bytes = len(re.findall(r"\bLDG\.E\.(?:\w+\.)*128\b", function))
        memory = re.search(r"\b(?:LDG|LDGSTS|LD|STG|ST|RED|ATOM|ATOMG)\b", function)
        waits = re.search(r"\bACQBULK\b", function)
        found[function.split()[0]] = {"HMMA": len(re.findall(r"\bHMMA\.", function)), "LDG.128": of_16_bytes,
                                      "waits": waits is not None and (memory is None or waits.start() < memory.start())}
    return found


def blocks_at_once(architecture, registers, static, threads):
    """Blocks of a multiprocessor, as NVIDIA's cuda_occupancy.h counts them, without dynamic shared memory."""
    most_warps, most_blocks, kibibytes = MULTIPROCESSORS[architecture.rstrip("af")]
    up = lambda value, unit: -(-value // unit) * unit
    warps = -(-threads // 32)
    # A warp's registers come by 256, from those of its quarter; the driver keeps 1 KiB of each block's shared memory.
    by_registers = 65536 // 4 // up(registers * 32, 256) * 4 // warps
    by_shared = kibibytes * 1024 // up(static + 1024, 128)
    return min(most_blocks, most_warps // warps, by_registers, by_shared)


def row_of(kernel, architecture, name, values):
    known = {"kernel": name, "file": Path(kernel).name, "arch": f"sm_{architecture}"} | values
    if "registers" in values and "threads" in values:
        # Launches may give more shared memory than the compiler knows of, and fewer blocks then fit.
        mark = "+" if values["dynamic"] else ""
        known["shared"] = f"{values['static']}{mark}"
        if architecture.rstrip("af") in MULTIPROCESSORS:
            blocks = blocks_at_once(architecture, values["registers"], values["static"], values["threads"])
            known["blocks"] = ("≤ " if mark else "") + str(blocks)
            known["warps"] = ("≤ " if mark else "") + str(blocks * -(-values["threads"] // 32))
    # A function that was not inlined has no registers of its own.
    return [str(known.get(column, "-")) for column in HEADER]


# The disassembler is looked for in PATH by cuobjdump.
environment = os.environ | {"PATH": f"{Path(shutil.which(nvcc)).resolve().parent}{os.pathsep}{os.environ.get('PATH', '')}"}
cuobjdump = shutil.which("cuobjdump", path=environment["PATH"])
if not cuobjdump or not shutil.which("nvdisasm", path=environment["PATH"]):
    print("kernel-resources.sh: cuobjdump and nvdisasm lie neither beside nvcc nor in PATH", file=sys.stderr)
    sys.exit(2)

jobs = [(kernel, architecture) for kernel in kernels for architecture in architectures]
with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(os.cpu_count()) as pool:
    folders = [Path(temporary) / str(i) for i in range(len(jobs))]
    outputs = list(pool.map(compile, zip(jobs, folders)))
failures = [failure for failure, _ in outputs if failure]
if failures:
    print("\n".join(failures), file=sys.stderr)
    sys.exit(2)

found = [(*job, name, values) for job, (_, of_file) in zip(jobs, outputs) for name, values in of_file.items()]
rows = [row_of(*one) for one in found]
order = {f"sm_{a}": i for i, a in enumerate(architectures)}
rows.sort(key=lambda row: (row[1], row[0], order[row[2]]))

widths = [max(map(len, column)) for column in zip(HEADER, *rows)]
line = lambda row: "  ".join(c.ljust(w) if i < LEFT else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths)))
print("\n".join(line(row).rstrip() for row in [HEADER, *rows]))
if markdown:
    align = ["---"] * LEFT + ["---:"] * (len(HEADER) - LEFT)
    version = re.search(r"V([\d.]+)", subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout)[1]
    head = f"""# What each kernel takes of a GPU

Written by `scripts/kernel-resources.sh --markdown docs/kernel-resources.md`, with nvcc {version}.

- registers: of a thread; spilt, stack: bytes of a thread; shared: bytes of a block, without what a launch adds (`+`).
- threads: of a block, at most; blocks, warps: what a multiprocessor holds of them at a time, as far as registers, threads
  and static shared memory bound it (`≤` where launches add shared memory, which may bound it further).
- HMMA: instructions on tensor cores; LDG.128: loads of 16 bytes a thread from global memory; both as they stand in the
  machine code. The script fails where a convolution for tensor cores has none of the former, or a row kernel none of
  the latter.

Row kernels that load 8 bytes a thread:

"""
    head += "".join(f"- `{kernel}`: {why}.\n" for kernel, why in BY_8_BYTES.items()) + "\n"
    Path(markdown).write_text(head + "".join(f"| {' | '.join(row)} |\n" for row in [HEADER, align, *rows]))

complaints = []
for kernel, architecture, name, values in found:
    complain = lambda what: complaints.append(f"{name} (sm_{architecture}) {what}")
    if values["spilt"]:
        complain("spills registers")
    if "HMMA" not in values:
        continue
    # await_inputs() of common.cuh. What is compiled for less has no such instruction, and is not launched ahead.
    if int(architecture.rstrip("af")) >= 90 and not values["waits"]:
        complain("touches memory before it waits for the launches before it")
    file = Path(kernel)
    # What lays filters out for the others multiplies nothing.
    if "_mma" in file.name and "_filters_" not in name and not values["HMMA"]:
        complain("has no instruction on tensor cores")
    if re.search(r'#include "(cascade|fft)\.cuh"', file.read_text()):
        if not values["LDG.128"] and name not in BY_8_BYTES:
            complain("has no load of 16 bytes")
        if values["LDG.128"] and name in BY_8_BYTES:
            complain("has loads of 16 bytes, and is said to have none")
if complaints:
    print("\n".join(complaints), file=sys.stderr)
    sys.exit(1)
mma = len({name for _, _, name, values in found if values.get("HMMA")})
wide = len({name for _, _, name, values in found if values.get("LDG.128")})
print(f"{len({(row[0], row[1]) for row in rows})} kernels, no spills; {mma} on tensor cores, {wide} with loads of 16 bytes",
      file=sys.stderr)
PYTHON
