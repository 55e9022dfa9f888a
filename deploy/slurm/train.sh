#!/bin/bash
# Train in a chain of Slurm jobs, each shorter than the partition's time limit:
#   for i in 1 2 3; do sbatch deploy/slurm/train.sh job.toml /shared/runs/digits; done
# Jobs of one name wait for each other (singleton). The first one starts the run, each later one
# resumes it; once the run has ended, the remaining jobs of the chain exit at once.
#SBATCH --job-name=dbp-train
#SBATCH --dependency=singleton
#SBATCH --ntasks=4
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
set -eu
job=$1 run=$2
seconds=${DBP_MAX_SECONDS:-3300}   # of training, in each job: leave time to start and to end

if [ ! -e "$run/spec.json" ]; then
  set -- "$job" --run "$run"
elif [ ! -e "$run/result.json" ] ||
     grep -Eq '"status": "stopped"|"reason": "time"' "$run/result.json"; then
  set -- --resume "$run"
elif grep -q '"status": "failed"' "$run/result.json"; then
  echo "$run has failed, see $run/result.json; to continue it: dbp train --resume $run" >&2
  exit 1
else
  echo "$run has ended"
  exit 0
fi
exec mpirun -n "${SLURM_NTASKS:-1}" dbp train "$@" --max-seconds "$seconds"
