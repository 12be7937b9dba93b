#!/usr/bin/env bash
# The main job: makes talking-face videos of the rows in misc/demo.csv. Sets itself up; extra flags go to test.py, e.g.
#   bash experiments/demo_vox.sh --gpu_ids -1
# With the published weights (checkpoints/demo) it runs the published command; without them the small model that comes
# with the project, which this project trained on synthetic people.
set -euo pipefail
. "$(dirname "$0")/../scripts/setup_env.sh"
cd "$(dirname "$0")/.."

if ! compgen -G "checkpoints/demo/*_net_*.pth" >/dev/null && [ -e checkpoints/synthetic/latest_net_G.pth ]; then
  rows=misc/demo.csv
  [ ! -e misc/demo_synthetic.csv ] || rows=misc/demo_synthetic.csv # the authors' samples have taken the other's place
  echo "model: checkpoints/synthetic, small and trained on synthetic people; it animates those in misc/, not photos."
  echo "The published weights, for real faces: python scripts/download_checkpoints.py --samples, then run this again."
  exec "$PYTHON" test.py --name synthetic \
    --meta_path_vox "$rows" \
    --gpu_ids 0 \
    --nThreads 2 \
    --input_id_feature \
    --driving_pose \
    --gen_video \
    "$@"
fi

echo "model: checkpoints/demo, the published weights"
exec "$PYTHON" test.py --name demo \
  --meta_path_vox misc/demo.csv \
  --dataset_mode voxtest \
  --netG modulate \
  --netA resseaudio \
  --netA_sync ressesync \
  --netD multiscale \
  --netV resnext \
  --netE fan \
  --model av \
  --gpu_ids 0 \
  --clip_len 1 \
  --batchSize 16 \
  --style_dim 2560 \
  --nThreads 4 \
  --input_id_feature \
  --generate_interval 1 \
  --style_feature_loss \
  --use_audio 1 \
  --noise_pose \
  --driving_pose \
  --gen_video \
  --generate_from_audio_only \
  "$@"
