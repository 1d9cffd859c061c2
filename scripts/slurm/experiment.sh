#!/bin/bash
# A study over several GPUs, one a task of an array: each takes what nobody else has begun, until nothing is left.
#
#   sbatch --array=0-7 scripts/slurm/experiment.sh experiments/paper.toml --out study
#
# All tasks work in one directory on a file system that all nodes share. A task that is preempted is queued again and goes
# on with what it had begun; one that finds nothing left to begin waits for what the others have begun, so take no more tasks
# than the study has runs side by side (--dry-run lists them).
#SBATCH --job-name=kerase-study
#SBATCH --output=%x-%A-%a.log
#SBATCH --open-mode=append
# ---------------------------------------------------------------------------------------------------------------------
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
# No module to load: one GPU needs NVIDIA's driver alone.
# ---------------------------------------------------------------------------------------------------------------------
set -euo pipefail

: "${KERASE:=kerase}"
# As in node.sh: SLURM runs a copy of this file, from where its neighbours are not.
out=
previous=
for argument in "$@"; do
    case $previous in --out) out=$argument ;; esac
    case $argument in --out=*) out=${argument#--out=} ;; esac
    previous=$argument
done
[ -n "$out" ] || { echo "experiment.sh: the command line has no --out" >&2; exit 2; }

# srun does not take this from sbatch by itself.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
srun "$KERASE" experiment "$@"
if [ ! -f "$out/results.json" ]; then
    echo "unfinished: the task is queued again"
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
