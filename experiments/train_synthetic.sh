#!/usr/bin/env bash
# The model in checkpoints/synthetic, from nothing: synthetic people, all stages, measuring, packing. For a CPU; hours.
# Stopped (Ctrl-C) and started again it goes on where it was.
#   bash experiments/train_synthetic.sh
set -euo pipefail
. "$(dirname "$0")/../scripts/setup_env.sh"
cd "$(dirname "$0")/.."
WORK="${WORK:-checkpoints/small}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OMP_WAIT_POLICY=passive

"$PYTHON" scripts/make_synthetic_data.py --output "$WORK/train" --num_speakers 153 --clips_per_speaker 3 --seconds 3
"$PYTHON" scripts/make_synthetic_data.py --output "$WORK/val" --num_speakers 16 --clips_per_speaker 2 --seconds 3 \
  --start_speaker 40000
[ -e "$WORK/lists/train.csv" ] || "$PYTHON" scripts/prepare_voxceleb2.py --root "$WORK/train" --output "$WORK/lists"
[ -e "$WORK/val_lists/train.csv" ] || "$PYTHON" scripts/prepare_voxceleb2.py --root "$WORK/val" --output "$WORK/val_lists"

# stage NAME FLAGS...: trains, or goes on, or does nothing when it is finished; two processes of one thread each
stage() {
  local name="$1"
  shift
  [ -e "$WORK/$name/done" ] && return 0
  [ -e "$WORK/$name/latest_state.pth" ] && set -- "$@" --continue_train
  "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node 2 train.py --name "$name" \
    --checkpoints_dir "$WORK" --train_list "$WORK/lists/train.csv" --val_list "$WORK/val_lists/train.csv" \
    --gpu_ids -1 --nThreads 1 --seed 1 --no_tensorboard --save_freq 100 --print_freq 20 "$@"
  touch "$WORK/$name/done"
}

# the generator grows from 56 to 224 px, because small pictures teach pose and mouth at a fraction of the cost
joint=(--num_clips 2 --frame_interval 2 --contrastive_form cosine --no_vgg_loss --generate_from_audio_only --ema 0.995)
stage recognition --train_recognition --network_file experiments/networks/small_112.json \
  --batchSize 32 --niter 30 --niter_decay 30 --cache_gb 3
stage sync --train_sync --network_file experiments/networks/small_112.json --num_clips 6 --frame_interval 2 \
  --contrastive_form cosine --batchSize 4 --niter 3 --niter_decay 4 --cache_gb 4
stage joint56 "${joint[@]}" --network_file experiments/networks/small_56.json --lambda_contrastive 1 --batchSize 12 \
  --load_pretrain "$WORK/recognition" "$WORK/sync" --no_TTUR --lr 1.5e-3 --fix_netD --no_gan_loss \
  --niter 20 --niter_decay 20 --cache_gb 4
stage joint112 "${joint[@]}" --network_file experiments/networks/small_112.json --lambda_contrastive 1 --batchSize 12 \
  --load_pretrain "$WORK/joint56" --grow_G --generate_interval 2 --niter 10 --niter_decay 5 --cache_gb 4
stage joint224 "${joint[@]}" --network_file experiments/networks/small.json --lambda_contrastive 1 --batchSize 8 \
  --load_pretrain "$WORK/joint112" --grow_G --generate_interval 4 --niter 5 --niter_decay 5 --cache_gb 8

"$PYTHON" scripts/export_model.py --source "$WORK/joint224" --output checkpoints/synthetic
"$PYTHON" scripts/measure_synthetic.py --name synthetic
