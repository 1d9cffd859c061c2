#!/usr/bin/env bash
# install-nvcc.sh [DIR]: puts NVIDIA's CUDA compiler, in pinned versions, into DIR (default: .nvcc beside Cargo.toml,
# where the build looks for it), for machines that have no CUDA toolkit. About 280 MB, no root, no GPU, no driver.
#
# What it compiles needs a driver for CUDA 13.0 (580 or newer) on the machine that runs it. For older drivers, build
# with the toolkit that came with them: NVCC or CUDA_HOME names it.
# PYTHON names the interpreter whose pip is used (default python3). A complete folder is left as it is.
set -euo pipefail

packages=(
    nvidia-cuda-nvcc==13.0.88
    nvidia-nvvm==13.0.88
    nvidia-cuda-crt==13.0.88
    nvidia-cuda-runtime==13.0.96
    # cuda_fp16.h and cuda_bf16.h include its nv/target.
    nvidia-cuda-cccl==13.0.85
    # To look at machine code; the first versions that were published for CUDA 13.
    nvidia-cuda-cuobjdump==13.2.51
    nvidia-cuda-nvdisasm==13.2.51
)

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
fail() { echo "install-nvcc.sh: $*" >&2; exit 2; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=$(dirname "$here")/.nvcc
case $# in
    0) ;;
    1) case $1 in
        -h | --help) usage; exit 0 ;;
        -*) fail "unknown option $1; see --help" ;;
        *) dir=$1 ;;
    esac ;;
    *) fail "one directory, please: got $*" ;;
esac
python=${PYTHON:-python3}
home=$dir/nvidia/cu13
# shellcheck disable=SC2054 # nvcc's commas
architectures=(-gencode arch=compute_80,code=sm_80 -gencode arch=compute_86,code=sm_86
    -gencode arch=compute_89,code=sm_89 -gencode arch=compute_90a,code=sm_90a
    -gencode arch=compute_80,code=compute_80 -gencode arch=compute_90,code=compute_90)

# Empty while the installation is under way, so that one that broke off is made anew, and nothing else is removed.
stamp=$dir/kerase-setup
wanted="${packages[*]}"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && [ -x "$home/bin/nvcc" ]; then
    echo "$dir is complete: $("$home/bin/nvcc" --version | grep release)"
    exit 0
fi

"$python" -m pip --version >/dev/null 2>&1 ||
    fail "$python has no pip; install python3-pip, or name another interpreter in PYTHON"
host=${NVCC_CCBIN:-${CXX:-g++}}
command -v "$host" >/dev/null ||
    fail "$host was not found: nvcc needs a host C++ compiler; install g++, or name one in NVCC_CCBIN"
if [ -e "$dir" ] && [ ! -f "$stamp" ] && [ -n "$(ls -A "$dir")" ]; then
    fail "$dir has something else in it; name an empty or new directory"
fi

echo "installing nvcc 13.0 into $dir …"
rm -rf "$dir"
mkdir -p "$dir"
: >"$stamp"
PIP_ROOT_USER_ACTION=ignore "$python" -m pip --quiet --disable-pip-version-check install --no-deps --no-compile \
    --target "$dir" "${packages[@]}"
# Some wheels lose the mark of executables when pip unpacks them.
chmod -R u+rwX "$home"
find "$home/bin" "$home/nvvm/bin" -type f -exec chmod +x {} +

sample=$(mktemp -d)
trap 'rm -rf "$sample"' EXIT
cat >"$sample/sample.cu" <<'KERNEL'
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>
extern "C" __global__ void sample(const float* from, float* to, unsigned count) {
    unsigned const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[i] = __bfloat162float(__float2bfloat16(from[i]));
}
KERNEL
"$home/bin/nvcc" -ccbin "$host" -std=c++17 -O3 -fatbin "${architectures[@]}" -o "$sample/sample.fatbin" \
    "$sample/sample.cu" || fail "nvcc was installed, but does not compile a kernel with $host (see above)"

echo "$wanted" >"$stamp"
# A build that found no compiler does not look again until its own script has changed.
[ ! -f "$here/../build.rs" ] || touch "$here/../build.rs"
echo "$dir is ready: $("$home/bin/nvcc" --version | grep release), $(du -sh "$dir" | cut -f1)"
echo "it compiled a kernel for sm_80, sm_86, sm_89, sm_90a and PTX; cargo build --release uses it from now on"
