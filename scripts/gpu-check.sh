#!/usr/bin/env bash
# gpu-check.sh [OPTIONS] [KERASE]: checks and measures a kerase executable that was built elsewhere on a machine with
# a GPU, and writes benches/results/DEVICE-DATE-SHA.json, with a table of the times beside it; SHA begins the executable's
# SHA-256. KERASE: target/release/kerase.
#
# Needs the NVIDIA driver and Python 3.9 with its standard library; compute-sanitizer and PyTorch with fastMRI where
# they are to be used. The exit code is 1 where a part failed. A part that could not run is "not available", and the
# whole is then "incomplete": it is never a pass.
#
#   --device NAME     what to check (default cuda:0)
#   --commit HASH     what the executable was built from (default: what it says itself, or git's HEAD here)
#   --only PARTS      with commas, of, in this order: info, starts (a short training; where it works with
#                     KERASE_OVERLAP=off alone, or to other bits, the others of this call are run so), validate-tf32, bench,
#                     overlap (what it gains that launches overlap, and that it changes no bit), pytorch-tf32, operations,
#                     step (the paper's network in every precision against float64), validate-bf16, validate, train,
#                     tilings-tf32 and tilings-bf16 (which of convolutions are quicker than those in use, what a step gains
#                     by them, and the file that src/cuda/conv/tilings.toml would be), pytorch-bf16, pytorch-low-memory (beside
#                     kerase with that option), pytorch, ranks (a training over NCCL, on one GPU), kernels (times by ncu),
#                     memcheck, racecheck, demo, pytorch-compiled. bench is in TF32; each pytorch part compares with kerase
#                     in the precision that PyTorch is allowed. Parts that were run before with the same executable stay in
#                     the file
#   --out DIR         where the JSON goes (default benches/results)
#   --timeout SECONDS for each command (default 600)
#   --budget SECONDS  for all of it: what would begin later is left out, and what is at work then is ended; neither is a
#                     failure, and what an earlier call has of the former stays (default: no end)
#   --wheels DIR      pure Python packages that the machine's PyTorch lacks, such as fastMRI's:
#                     pip download --no-deps -d DIR fastmri==0.3.0
#   PYTHON            the interpreter that has PyTorch (default: .venv/bin/python, then python3)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
command -v python3 >/dev/null || { echo "gpu-check.sh: python3 was not found" >&2; exit 2; }
exec python3 -u "$here/gpu_check.py" "$@"
