#!/usr/bin/env bash
# Stage 3, full size: G and the head pose, from the weights of stages 1 and 2. For cards with 11 GB.
#   LIST=lists/train.csv VAL=lists/val.csv bash experiments/train_generator.sh --gpu_ids 0,1,2,3
set -euo pipefail
. "$(dirname "$0")/../scripts/setup_env.sh"
cd "$(dirname "$0")/.."
exec "$PYTHON" train.py --name vox \
  --train_list "${LIST:-lists/train.csv}" ${VAL:+--val_list "$VAL"} \
  --load_pretrain checkpoints/vox_recognition checkpoints/vox_sync \
  --clip_len 6 --num_clips 2 --generate_interval 6 --batchSize 8 --accumulate 2 \
  --precision fp16 --gradient_checkpointing --clip_grad 10 --ema 0.999 \
  --generate_from_audio_only --niter 10 --niter_decay 10 --nThreads 8 "$@"
