#!/bin/bash
# One node, all its GPUs: a training that continues by itself when it is preempted or runs out of time.
#
#   sbatch scripts/slurm/node.sh train --data brain/train --data knee/train --out run
#
# Takes kerase's own command line. Adjust what stands between the lines; everything else follows from it.
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
# SIGUSR1 to all ranks two minutes before the end: they finish their step, save, and leave.
#SBATCH --signal=USR1@120
# module load nccl
# ---------------------------------------------------------------------------------------------------------------------
set -euo pipefail

: "${KERASE:=kerase}"
out=$(sed -n 's/.*--out[ =]\([^ ]*\).*/\1/p' <<<"$*")
[ -n "$out" ] || { echo "node.sh: the command line has no --out" >&2; exit 2; }

# --kill-on-bad-exit: SLURM too ends what is left when a rank fails. --resume auto: a requeued job goes on.
srun --kill-on-bad-exit=1 "$KERASE" "$@" --resume auto

# Ranks leave with 0 whether the run is over or was stopped; its summary says which.
summary=$out/summary.json
[ -f "$out/unlearning.json" ] && summary=$out/unlearning.json
if ! grep -q '"finished": true' "$summary"; then
    echo "unfinished: the job is queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
