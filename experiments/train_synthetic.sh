#!/usr/bin/env bash
# The model in checkpoints/synthetic, from nothing: synthetic people, all stages, measuring, packing. For a CPU; hours.
# Stopped (Ctrl-C) and started again it goes on where it was.
#   bash experiments/train_synthetic.sh
set -euo pipefail
. "$(dirname "$0")/../scripts/setup_env.sh"
cd "$(dirname "$0")/.."
WORK="${WORK:-checkpoints/small}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OMP_WAIT_POLICY=passive
# large buffers are kept rather than given back and faulted in again: a third of the time of a step
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=268435456 GLIBC_TUNABLES=glibc.malloc.hugetlb=1

# data NAME SPEAKERS CLIPS FIRST: people and their list; those that are there already are kept
data() {
  "$PYTHON" scripts/make_synthetic_data.py --output "$WORK/$1" --num_speakers "$2" --clips_per_speaker "$3" --seconds 3 \
    --start_speaker "$4"
  [ -e "$WORK/$1_lists_$2/train.csv" ] ||
    "$PYTHON" scripts/prepare_voxceleb2.py --root "$WORK/$1" --output "$WORK/$1_lists_$2"
}

# stage NAME FLAGS...: trains, or goes on, or does nothing when it is finished; two processes of one thread each
stage() {
  local name="$1"
  shift
  [ -e "$WORK/$name/done" ] && return 0
  [ -e "$WORK/$name/latest_state.pth" ] && set -- "$@" --continue_train
  "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node 2 train.py --name "$name" \
    --checkpoints_dir "$WORK" --val_list "$WORK/val_lists_16/train.csv" --probe_path checkpoints/probe/probe.pth \
    --gpu_ids -1 --nThreads 1 --seed 1 --no_tensorboard --save_freq 100 --print_freq 20 --val_freq 200 "$@"
  touch "$WORK/$name/done"
}

# every size of picture learns from people of its own; a stage that is finished needs its people no more
people="${PEOPLE:-500}"
data val 16 2 40000
# bfloat16 is the faster of the two on AMD's and on those of Intel's that have AMX
precision=fp32
if grep -qs avx512_bf16 /proc/cpuinfo && grep -qsE 'AuthenticAMD|amx_bf16' /proc/cpuinfo; then precision=bf16; fi
train=(--precision "$precision" --no_sync_batch_norm --augment_sound 1 --cache_gb 4
  --attributes_path "$WORK/teacher/probe.pth")

[ -e "$WORK/joint56/done" ] || data small "$people" 1 0
small=("${train[@]}" --train_list "$WORK/small_lists_$people/train.csv")
# reads pose, mouth and blink off frames: what sound and mouths have in common begins with it, and G learns by it,
# more so from 112 px on, where they can be seen. Another one measures.
[ -e "$WORK/teacher/probe.pth" ] ||
  "$PYTHON" scripts/train_probe.py --output "$WORK/teacher" --clips "$WORK/small_lists_$people/train.csv" \
    --num_identities 400 --frames 24000 --minutes 5 --seed 11 --threads 2
stage recognition "${small[@]}" --train_recognition --network_file experiments/networks/small_112.json --batchSize 32 \
  --niter 12 --niter_decay 7
# the contrastive loss begins at chance: at weight 1 its noise drowned what E was to read, and E fell silent
features=(--contrastive_form cosine --lambda_contrastive 0.1 --lambda_readings 5 --lambda_standard 0.3)
stage sync "${small[@]}" --train_sync --network_file experiments/networks/small_112.json --batchSize 8 --clip_len 4 \
  --num_clips 6 --frame_interval 2 --augment_shape 0.2 "${features[@]}" --niter 3 --niter_decay 2

# G grows from 56 to 224 px, because small pictures teach pose and mouth at a fraction of the cost. D learns from the first
# step: with its random weights for features G took three times as long to place eyes and mouths. V is held to names only
# lightly, or its map keeps who it is and not what he looks like.
# Pose is learned with hardly any distortion of E's frames, since a tapered frame looks like a nod, and with the numbers of
# the pose code held apart from one another and from the sound, since they would all say yaw otherwise.
joint=(--batchSize 16 --clip_len 2 --frame_interval 12 "${features[@]}"
  --no_vgg_loss --generate_from_audio_only --no_noise --no_amsgrad --no_TTUR --beta1 0.5 --beta2 0.99 --lambda_r1 1
  --lambda_attributes 8 --lambda_independence 0.5 --augment_shape 0.2 --ema 0.998 --val_batches 2)
stage joint56 "${small[@]}" "${joint[@]}" --network_file experiments/networks/small_56.json --lr 1e-3 \
  --load_pretrain "$WORK/recognition" "$WORK/sync" --lambda_identity 0.05 \
  --niter 60 --niter_decay 62

[ -e "$WORK/joint112/done" ] || data middle "$people" 1 10000
joint+=(--lambda_identity 0)
stage joint112 "${train[@]}" "${joint[@]}" --train_list "$WORK/middle_lists_$people/train.csv" \
  --network_file experiments/networks/small_112.json --lr 1e-3 --load_pretrain "$WORK/joint56" --grow_G \
  --niter 75 --niter_decay 80

[ -e "$WORK/joint224/done" ] || data large "$people" 1 20000
# R1 grows with the number of pixels that D sees, and a square of 112 px is a quarter of the frame
stage joint224 "${train[@]}" "${joint[@]}" --train_list "$WORK/large_lists_$people/train.csv" \
  --network_file experiments/networks/small.json --lr 1e-3 --load_pretrain "$WORK/joint112" --grow_G \
  --lambda_contrastive 0.5 --lambda_r1 0.25 --lambda_attributes 12 --niter 70 --niter_decay 70

"$PYTHON" scripts/export_model.py --source "$WORK/joint224" --output checkpoints/synthetic --overwrite
"$PYTHON" scripts/measure_synthetic.py --name synthetic
