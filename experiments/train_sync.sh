#!/usr/bin/env bash
# Stage 2, full size: A_sync hears and E sees what is said, from clips of 12 frames, two of each video.
#   LIST=lists/train.csv VAL=lists/val.csv bash experiments/train_sync.sh --gpu_ids 0,1,2,3
set -euo pipefail
. "$(dirname "$0")/../scripts/setup_env.sh"
cd "$(dirname "$0")/.."
exec "$PYTHON" train.py --train_sync --name vox_sync \
  --train_list "${LIST:-lists/train.csv}" ${VAL:+--val_list "$VAL"} \
  --clip_len 12 --num_clips 2 --batchSize 16 --precision fp16 --lr 1e-3 --niter 10 --niter_decay 10 --nThreads 8 "$@"
