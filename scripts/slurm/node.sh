#!/bin/bash
# One node, all its GPUs: a training that continues by itself when it is preempted or runs out of time.
#
#   sbatch scripts/slurm/node.sh train --data brain/train --data knee/train --out run
#
# Takes the command line of kerase train or kerase unlearn, and adds --resume auto. $KERASE is the executable where it is not
# in the PATH. Adjust what stands between the lines; everything else follows from it.
#SBATCH --job-name=kerase
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
# ---------------------------------------------------------------------------------------------------------------------
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --requeue
# SIGUSR1 to all ranks so many seconds before the end: they finish their step, save, and leave. A validation under way is
# finished first: give them longer than it takes.
#SBATCH --signal=USR1@300
# module load nccl
# ---------------------------------------------------------------------------------------------------------------------
set -euo pipefail

: "${KERASE:=kerase}"
out=
previous=
for argument in "$@"; do
    case $previous in --out) out=$argument ;; esac
    case $argument in --out=*) out=${argument#--out=} ;; esac
    previous=$argument
done
[ -n "$out" ] || { echo "node.sh: the command line has no --out" >&2; exit 2; }

# srun does not take this from sbatch by itself.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
# --kill-on-bad-exit: SLURM too ends what is left when a rank fails. --resume auto: a requeued job goes on.
srun --kill-on-bad-exit=1 "$KERASE" "$@" --resume auto

# Ranks leave with 0 whether the run is over or was stopped; its summary says which, and there is none where they were stopped
# while they still waited for each other.
summary=$out/summary.json
[ "${1:-}" = unlearn ] && summary=$out/unlearning.json
if ! grep -q '"finished": true' "$summary" 2>/dev/null; then
    echo "unfinished: the job is queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
