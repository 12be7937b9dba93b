#!/usr/bin/env bash
# A photo and a voice become a talking face; sets itself up. The head moves by itself, or as a third argument says: a
# video, or words (docs/directing.md). Further flags go to test.py:
#   bash experiments/talk.sh me.jpg voice.m4a
#   bash experiments/talk.sh me.jpg voice.m4a "pose:0 yaw=0; 2 yaw=20" --seed 3
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: bash experiments/talk.sh PHOTO VOICE [HEAD] [FLAGS]" >&2
  exit 2
fi
. "$(dirname "$0")/../scripts/setup_env.sh"
sources=()
for source in "$@"; do
  case "$source" in --*) break ;; esac
  if [ -e "$source" ]; then source="$(cd "$(dirname "$source")" && pwd)/$(basename "$source")"; fi
  sources+=("$source")
done
shift "${#sources[@]}"
cd "$(dirname "$0")/.."

name=synthetic
if compgen -G "checkpoints/demo/*_net_*.pth" >/dev/null; then name=demo; fi
"$PYTHON" scripts/prepare_testing_files.py --align auto --csv_path misc/talk.csv \
  --src_input_path "${sources[0]}" \
  --src_audio_path "${sources[1]}" \
  --src_pose_path "${sources[2]:-idle}"
exec "$PYTHON" test.py --name "$name" \
  --meta_path_vox misc/talk.csv \
  --input_id_feature \
  --driving_pose \
  --gen_video \
  "$@"
