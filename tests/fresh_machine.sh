#!/usr/bin/env bash
# The README's two commands on a bare Debian, from nothing, as an ordinary user. Needs root, debootstrap and 15 GB:
#
#   bash tests/fresh_machine.sh bookworm          both (Debian 12, Python 3.11)
#   bash tests/fresh_machine.sh trixie demo       only bash experiments/demo_vox.sh (Debian 13, Python 3.13)
#   bash tests/fresh_machine.sh sid tests         only bash scripts/run_tests.sh (Python 3.14)
#   bash tests/fresh_machine.sh bookworm page     bash experiments/app.sh, to be opened from here, until Ctrl-C
#
# A new folder under TMPDIR gets that Debian with python3, python3-venv and git on it, and a clone of the last commit:
# what is not committed is not tried. Debian's mirror, pip's settings and the certificate they name are this machine's.
# The folder goes at the end, at Ctrl-C too. The last lines say minutes and result; exit status 0 if all passed.
set -euo pipefail
set -m # the commands run in the background, so that a signal ends them at once

usage="usage: bash tests/fresh_machine.sh bookworm|trixie|sid [demo|tests|page]"
suite="${1:?$usage}"
case "${2:-both}" in
  demo) commands=(experiments/demo_vox.sh) ;;
  tests) commands=(scripts/run_tests.sh) ;;
  page) commands=(experiments/app.sh) ;;
  both) commands=(experiments/demo_vox.sh scripts/run_tests.sh) ;;
  *) echo "$usage" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "fresh_machine: needs root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "fresh_machine: needs debootstrap: apt-get install debootstrap" >&2; exit 1; }

folder="$(mktemp -d -t fresh_machine.XXXXXX)"
root="$folder/$suite"
running=""
# shellcheck disable=SC2317 # called by the trap
clean() {
  [ -z "$running" ] || kill -KILL "$running" 2>/dev/null || true
  for _ in 1 2 3; do rm -rf --one-file-system "$folder" 2>/dev/null && return; sleep 2; done
  echo "fresh_machine: $folder could not be removed" >&2
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command whose mounts and processes nobody else sees, and which end with it.
apart() {
  local status=0
  unshare --mount --pid --fork --kill-child -- "$@" </dev/null &
  running=$!
  wait "$running" || status=$?
  running=""
  return "$status"
}

echo "fresh_machine: making Debian $suite in $root"
# shellcheck disable=SC2016 # apt-get fills it in
mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 2>/dev/null | head -n 1)"
apart debootstrap --variant=minbase --include=python3,python3-venv,git,ca-certificates \
  "$suite" "$root" ${mirror:+"$mirror"} >"$folder/log" 2>&1 || { tail -n 5 "$folder/log" >&2; exit 1; }
chmod 755 "$folder"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/" # names of servers, and its own

# pip's settings, but for packages on this machine's disk, and what a processor or a network needs
settings=()
while IFS='=' read -r key value; do
  value="${value//\'/}"
  case "$value" in *file:*) continue ;; esac
  [ ! -d "$value" ] || continue
  [ ! -f "$value" ] || install -D -m 644 "$value" "$root$value"
  key="${key##*.}"
  key="${key//-/_}"
  settings+=("PIP_${key^^}=$value")
done < <(python3 -m pip config list 2>/dev/null | sort -r) # the environment's, which win, come last
while read -r setting; do settings+=("$setting"); done < <(env | grep -iE '^((https?|no)_proxy|OPENBLAS_[A-Z0-9_]+)=')

chroot "$root" useradd --create-home --shell /bin/bash someone
git clone --quiet --no-hardlinks "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)" "$root/home/someone/project"
chroot "$root" chown -R someone: /home/someone
python="$(chroot "$root" python3 --version)"

failed=0
results=()
for command in "${commands[@]}"; do
  started=$SECONDS
  result=passed
  echo "fresh_machine: bash $command"
  # process 1 has to be a shell that waits: a Python there would not hear every signal
  # shellcheck disable=SC2016 # the inner shell's own variables
  apart bash -euc '
    root=$1 && shift
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    chroot --userspec=someone:someone "$root" env -i "$@" || exit' \
    - "$root" HOME=/home/someone USER=someone LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin "${settings[@]}" \
    bash -c "cd ~/project && exec bash $command" || { result="FAILED with $?" && failed=1; }
  results+=("$(printf '%s, %s: bash %s %s, %.1f minutes' "$suite" "$python" "$command" "$result" \
    "$(((SECONDS - started) * 10 / 60))e-1")")
done
printf 'fresh_machine: %s\n' "${results[@]}"
exit "$failed"
