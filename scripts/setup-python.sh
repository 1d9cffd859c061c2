#!/usr/bin/env bash
# setup-python.sh [--cuda] [DIR]: makes a Python environment with PyTorch, fastMRI, h5py and safetensors, in pinned
# versions, for golden data (golden.py), side-by-side timings (bench_pytorch.py) and checkpoints. DIR: .venv.
#
# Without --cuda, PyTorch is for the CPU only: the NVIDIA libraries that its wheel links, some gigabytes, are replaced
# by stubs that answer "no device" (torch_stubs.py). With --cuda they are installed.
# PYTHON names the interpreter (default python3; 3.11 or later). A complete environment is left as it is.
set -euo pipefail

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
fail() { echo "setup-python.sh: $*" >&2; exit 2; }

cuda=false
dir=
for argument in "$@"; do
    case $argument in
        --cuda) cuda=true ;;
        -h | --help) usage; exit 0 ;;
        -*) fail "unknown option $argument; see --help" ;;
        *) [ -z "$dir" ] || fail "one directory, please: got $dir and $argument"; dir=$argument ;;
    esac
done
dir=${dir:-.venv}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}

command -v "$python" >/dev/null || fail "$python was not found; install Python 3.11 or later, or name one in PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" -V), and the pinned packages need 3.11 or later; name another one in PYTHON"
if ! $cuda; then
    for tool in gcc readelf; do
        command -v $tool >/dev/null || fail "$tool was not found: the stubs are built with it (or use --cuda)"
    done
fi

# Written last, with what it was made from, so that a broken or outdated environment is noticed and mended.
stamp=$dir/kerase-setup
wanted=$(cat "$here"/requirements*.txt "$here/torch_stubs.py" | sha256sum | cut -d' ' -f1)-$cuda
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    echo "$dir is complete"
    exit 0
fi
rm -f "$stamp"

"$python" -m venv "$dir"
pip() { "$dir/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
echo "installing into $dir (a few minutes, 2 GB) …"
# In this order pip has no unmet wish of torch to warn of.
pip install -r "$here/requirements.txt"
if $cuda; then
    pip install "$(grep '^torch==' "$here/requirements-no-deps.txt")"
fi
pip install --no-deps -r "$here/requirements-no-deps.txt"
if ! $cuda; then
    site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    "$dir/bin/python" "$here/torch_stubs.py" "$site/torch/lib"
fi

"$dir/bin/python" - <<'CHECK'
import h5py, safetensors, skimage, torch
from fastmri.models import VarNet

net = VarNet(1, 2, 1, 2, 1)
kspace, mask = torch.randn(1, 2, 16, 16, 2), torch.ones(1, 1, 1, 16, 1, dtype=torch.bool)
net(kspace, mask, 4).sum().backward()
print(f"torch {torch.__version__}, CUDA {'found' if torch.cuda.is_available() else 'not available'}: VarNet runs")
CHECK
echo "$wanted" >"$stamp"
echo "$dir is ready: $dir/bin/python scripts/golden.py"
