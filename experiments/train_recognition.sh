#!/usr/bin/env bash
# Stage 1, full size: V learns who a face is. LIST is what scripts/prepare_voxceleb2.py wrote; extra flags go to train.py.
#   LIST=lists/train.csv VAL=lists/val.csv bash experiments/train_recognition.sh --gpu_ids 0,1,2,3
set -euo pipefail
. "$(dirname "$0")/../scripts/setup_env.sh"
cd "$(dirname "$0")/.."
exec "$PYTHON" train.py --train_recognition --name vox_recognition \
  --train_list "${LIST:-lists/train.csv}" ${VAL:+--val_list "$VAL"} \
  --batchSize 64 --lr 1e-3 --niter 10 --niter_decay 10 --nThreads 8 "$@"
