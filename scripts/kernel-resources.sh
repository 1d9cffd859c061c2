#!/usr/bin/env bash
# kernel-resources.sh [--markdown FILE] [--arch LIST] [KERNEL.cu ...]: what each kernel takes of a GPU: registers,
# spills, static shared memory, stack; for every architecture that kerase is built for. Needs nvcc, but no GPU.
#
# Kernels: all of kernels/*.cu. LIST: as in CUDA_COMPUTE_CAP, default 80,86,89,90a. nvcc is looked for as the build
# does (NVCC, CUDA_HOME, CUDA_PATH, PATH, /usr/local/cuda, .nvcc). The exit code is 1 where a kernel spills registers
# and 2 where something could not be compiled.
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
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

nvcc, include, architectures, markdown, *kernels = sys.argv[1:]
architectures = [a.strip().removeprefix("sm_").replace(".", "") for a in architectures.split(",")]
host = os.environ.get("NVCC_CCBIN") or os.environ.get("CXX", "")
HEADER = ["kernel", "file", "arch", "registers", "spill stores", "spill loads", "static shared", "stack"]


def compile(job):
    kernel, architecture = job
    command = [nvcc, "-cubin", "-std=c++17", "-O3", f"-arch=sm_{architecture}", "-Xptxas", "-v", "-I", include]
    command += ["-ccbin", host] if host and not re.search(r"\s", host) else []
    done = subprocess.run([*command, "-o", os.devnull, kernel], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def parse(text):
    """ptxas prints, for each function: its name, a line of stack and spills, and for kernels a line of registers."""
    found, name = {}, None
    for line in text.splitlines():
        if match := re.search(r"Function properties for (\S+)", line):
            name = match[1]
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            found[name] = dict(zip(["stack", "spill stores", "spill loads"], map(int, match.groups())))
        elif (match := re.search(r"Used (\d+) registers", line)) and name in found:
            shared = re.search(r"(\d+) bytes smem", line)
            found[name] |= {"registers": int(match[1]), "static shared": int(shared[1]) if shared else 0}
            name = None
    return found


jobs = [(kernel, architecture) for kernel in kernels for architecture in architectures]
with ThreadPoolExecutor(os.cpu_count()) as pool:
    outputs = list(pool.map(compile, jobs))
failed = [(job, text) for job, (code, text) in zip(jobs, outputs) if code != 0]
for (kernel, architecture), text in failed:
    print(f"nvcc cannot compile {kernel} for sm_{architecture}:\n{text.strip()}", file=sys.stderr)
if failed:
    sys.exit(2)

rows = []
for (kernel, architecture), (_, text) in zip(jobs, outputs):
    for name, values in parse(text).items():
        known = {"kernel": name, "file": Path(kernel).name, "arch": f"sm_{architecture}"} | values
        # A function that was not inlined has no registers of its own.
        rows.append([str(known.get(column, "-")) for column in HEADER])
order = {f"sm_{a}": i for i, a in enumerate(architectures)}
rows.sort(key=lambda row: (row[1], row[0], order[row[2]]))

widths = [max(map(len, column)) for column in zip(HEADER, *rows)]
line = lambda row: "  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths)))
print("\n".join(line(row).rstrip() for row in [HEADER, *rows]))
if markdown:
    align = ["---"] * 3 + ["---:"] * (len(HEADER) - 3)
    version = re.search(r"V([\d.]+)", subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout)[1]
    head = "# What each kernel takes of a GPU\n\nRegisters of a thread; bytes of a block's static shared memory, and of a"
    head += " thread's spills and stack. Written by\n`scripts/kernel-resources.sh --markdown docs/kernel-resources.md`, with"
    head += f" nvcc {version}.\n\n"
    Path(markdown).write_text(head + "".join(f"| {' | '.join(row)} |\n" for row in [HEADER, align, *rows]))

spilled = sorted({f"{row[0]} ({row[2]})" for row in rows if row[4] != "0" or row[5] != "0"})
if spilled:
    print(f"registers are spilled by {', '.join(spilled)}", file=sys.stderr)
    sys.exit(1)
print(f"{len({(row[0], row[1]) for row in rows})} kernels, no spills", file=sys.stderr)
PYTHON
