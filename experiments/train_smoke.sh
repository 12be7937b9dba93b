#!/usr/bin/env bash
# All stages with tiny networks on a handful of synthetic clips, on the CPU, in a few minutes; shows that losses fall.
#   bash experiments/train_smoke.sh              STEPS=60 of each stage
#   STEPS=4 WORK=/tmp/smoke bash experiments/train_smoke.sh
set -euo pipefail
. "$(dirname "$0")/../scripts/setup_env.sh"
cd "$(dirname "$0")/.."
STEPS="${STEPS:-60}"
WORK="${WORK:-checkpoints/smoke}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # networks this small lose time to a second thread

rm -rf "$WORK/recognition" "$WORK/sync" "$WORK/joint"
"$PYTHON" scripts/make_synthetic_data.py --output "$WORK/data" --num_speakers 4 --clips_per_speaker 2 --seconds 1
common=(--checkpoints_dir "$WORK" --dataroot "$WORK/data" --network_file experiments/networks/tiny.json --gpu_ids -1
  --nThreads 0 --cache_gb 1 --batchSize 4 --max_steps "$STEPS" --print_freq 1 --no_tensorboard --seed 1)
"$PYTHON" train.py --train_recognition --name recognition "${common[@]}"
"$PYTHON" train.py --train_sync --name sync --num_clips 2 --contrastive_form cosine "${common[@]}"
"$PYTHON" train.py --name joint --num_clips 2 --contrastive_form cosine --lambda_contrastive 1 --no_vgg_loss --ema 0.9 \
  --load_pretrain "$WORK/recognition" "$WORK/sync" "${common[@]}"
"$PYTHON" scripts/compare_losses.py "$WORK/recognition" "$WORK/sync" "$WORK/joint"
echo "weights, logs and pages are in $WORK"
