#!/usr/bin/env bash
# Stage 4, full size: image quality on LRW, whose clips have words but no speakers, so that there is no identity loss.
#   LRW=/path/to/lipread_mp4 bash experiments/finetune_lrw.sh --gpu_ids 0,1,2,3
# With the head-pose confusion term: add --train_dis_pose --clip_len 20 --generate_interval 20 --num_clips 1
set -euo pipefail
. "$(dirname "$0")/../scripts/setup_env.sh"
cd "$(dirname "$0")/.."
exec "$PYTHON" train.py --name vox_lrw --dataset_mode lrw --dataroot "${LRW:-lipread_mp4}" \
  --load_pretrain checkpoints/vox \
  --clip_len 6 --num_clips 2 --generate_interval 6 --batchSize 8 --accumulate 2 \
  --precision fp16 --gradient_checkpointing --clip_grad 10 --ema 0.999 \
  --generate_from_audio_only --lr 2e-4 --niter 5 --niter_decay 5 --nThreads 8 "$@"
