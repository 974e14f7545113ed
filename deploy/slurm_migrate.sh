#!/bin/bash
# Runs a weightbridge migration plan as a Slurm job array: a slice of the plan an array task.
#
#   sbatch --array=0-15 slurm_migrate.sh /shared/plan.jsonl
#
# Further arguments go to weightbridge: sbatch ... slurm_migrate.sh /shared/plan.jsonl --delete-originals
# The program is found on the path, or named by WEIGHTBRIDGE. A task that dies with its node is queued
# again and goes on from the plan's journal.
#
#SBATCH --job-name=weightbridge-migrate
#SBATCH --array=0-7
#SBATCH --cpus-per-task=2
#SBATCH --mem=640M
#SBATCH --requeue
#SBATCH --output=weightbridge-%A-%a.log
set -euo pipefail

plan=${1:?usage: sbatch --array=0-N slurm_migrate.sh PLAN [ARGUMENT...]}
shift

# Slurm counts array tasks as --array says: from its lowest number, here to 0.
first=${SLURM_ARRAY_TASK_MIN:-0}
task=$((${SLURM_ARRAY_TASK_ID:?run this with sbatch --array} - first))
count=${SLURM_ARRAY_TASK_COUNT:?run this with sbatch --array}

# Buffers of 256 MiB; the rest of --mem is for the program, headers and names of tensors.
exec "${WEIGHTBRIDGE:-weightbridge}" migrate run "$plan" \
    --task "$task/$count" \
    --threads "${SLURM_CPUS_PER_TASK:-2}" \
    --memory 256MiB \
    "$@"
