#!/bin/bash
# Several nodes: as node.sh, with ranks that meet over the network.
#
#   sbatch scripts/slurm/nodes.sh train --data brain/train --data knee/train --batch 16 --out run
#
# Give --batch, the slices of a step over all ranks: the study is then the same on any number of nodes.
#SBATCH --job-name=kerase
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
# ---------------------------------------------------------------------------------------------------------------------
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@300
# module load nccl
# Where NCCL picks the wrong network:  export NCCL_SOCKET_IFNAME=ib0
# Where ports 20000 … 31999 of the first node are closed:  export MASTER_PORT=29500
# ---------------------------------------------------------------------------------------------------------------------
exec bash "$(dirname "$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p')")/node.sh" "$@"
