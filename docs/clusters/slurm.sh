#!/bin/bash
# Two machines with eight GPUs each, one torchrun on each: sbatch docs/clusters/slurm.sh
#SBATCH --job-name=verydeep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue

# The folder of the run must be on a disk that all machines see: any of them may have to go on after a restart.
DATA=${DATA:-/data/ilsvrc-*.tar}
RUN=${RUN:-/shared/runs/net-d}
FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# SLURM's warning two minutes before the end reaches every rank; they save together, and the requeued job goes on.
srun torchrun \
  --nnodes "$SLURM_NNODES" --nproc-per-node 8 --max-restarts 3 \
  --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$FIRST:29500" \
  -m verydeep train "$DATA" --out "$RUN" --net D
