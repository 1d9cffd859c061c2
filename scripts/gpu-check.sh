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
#                     overlap (what each kind of it gains, and that none changes a bit), rival (--rival's steps in turn with
#                     this one's, and whether a training with both comes to the same bits), pytorch-tf32, operations, step (the
#                     paper's network in every precision against float64), validate-bf16, validate, train, tilings-tf32 and
#                     tilings-bf16 (which of convolutions are quicker than those in use, what a step gains by them, and the
#                     file that src/cuda/conv/tilings.toml would be), pytorch-bf16, pytorch-low-memory (beside kerase with
#                     that option), pytorch, ranks (a training over NCCL, on one GPU), kernels (times by ncu), memcheck and
#                     racecheck (a short training and single operations, watched by compute-sanitizer), demo,
#                     pytorch-compiled. bench is in TF32; each pytorch part compares with kerase in the precision that
#                     PyTorch is allowed. Parts that were run before with the same executable stay in the file
#   --rival PROGRAM   another build of kerase, for the part of that name
#   --out DIR         where the JSON goes, and the table (default benches/results)
#   --copy DIR        where each file that is written there is copied at once: what is found so far is here even if this is
#                     killed
#   --timeout SECONDS for each command (default 600), except those of PyTorch and compute-sanitizer, which only the budget
#                     ends; of the former's rounds none begins that would end later than 150 seconds after the part began
#   --budget SECONDS  for all of it: what would begin later is left out, and what is at work then is ended; neither is a
#                     failure, and what an earlier call has of the former stays (default: no end)
#   --wheels DIR      pure Python packages that the machine's PyTorch lacks, such as fastMRI's:
#                     pip download --no-deps -d DIR fastmri==0.3.0
#   PYTHON            the interpreter that has PyTorch (default: .venv/bin/python, then python3)
#
# Meanwhile nvidia-smi, where there is one, says once a second what the GPU does: a part that takes long enough has its clock
# in MHz, its power in watts and its temperature in degrees, of each the least, the median and the most. With several GPUs it
# is the one that was checked if CUDA_VISIBLE_DEVICES names it by its UUID, or CUDA_DEVICE_ORDER is PCI_BUS_ID; otherwise all,
# by their index.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case " $* " in *" -h "* | *" --help "*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
command -v python3 >/dev/null || { echo "gpu-check.sh: python3 was not found" >&2; exit 2; }
exec python3 -u "$here/gpu_check.py" "$@"
