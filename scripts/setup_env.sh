# shellcheck shell=bash
# Sets PYTHON to an interpreter with everything this project needs; to be sourced by the other scripts:
#
#   . scripts/setup_env.sh          what running needs
#   . scripts/setup_env.sh dev      also what the tests need
#   . scripts/setup_env.sh app      also what the page needs
#
# Which one: PYTHON=... if given, else the active virtual or conda environment, else .venv, which is made here.
# Which versions: those of constraints.txt, or with PCAVS_LATEST=1 the newest that requirements.txt allows. A torch
# that is there and fits requirements.txt stays: it may be the only build that knows this machine's card.
# Installing is skipped when nothing has changed since the last time, so the second call takes no time.

unset CDPATH # with it cd prints where it goes, and may go elsewhere
_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_lists=("$_root/requirements.txt")
case "${1:-}" in dev | app) _lists+=("$_root/requirements-$1.txt") ;; esac
_versions="$_root/constraints.txt"
[ "${PCAVS_LATEST:-0}" = 1 ] && _versions=latest

_version() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null; }

_fits() { case "$(_version "$1")" in 3.1[0-4].*) ;; *) return 1 ;; esac; }

# uv makes environments without pip, and so does whoever is interrupted while making one
_has_pip() { { "$1" -c 'import pip' || "$1" -m ensurepip; } >/dev/null 2>&1; }

_make_venv() {
  local candidate found=""
  for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
    _fits "$candidate" || { found="${found:-$(_version "$candidate")}"; continue; }
    echo "setup: making .venv with $("$candidate" --version)"
    if "$candidate" -m venv --clear "$_root/.venv" >/dev/null 2>&1 || "$candidate" -m virtualenv -q --clear "$_root/.venv"; then
      return 0
    fi
    rm -rf "$_root/.venv"
    echo "setup: $candidate cannot make virtual environments (on Debian and Ubuntu: apt-get install python3-venv)" >&2
    return 1
  done
  echo "setup: needs Python 3.10 to 3.14 and found ${found:-none}; install one, e.g. conda create -n pcavs python=3.12" \
    "and activate it, or give PYTHON=/path/to/python" >&2
  return 1
}

_choose_python() {
  local active=""
  if [ -n "${VIRTUAL_ENV:-}" ] || [ -n "${CONDA_PREFIX:-}" ]; then active="$(command -v python || true)"; fi
  if [ -n "${PYTHON:-}" ]; then
    # whoever sources this may change the folder afterwards
    case "$PYTHON" in */*) PYTHON="$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON")" || return 1 ;; esac
    echo "setup: using PYTHON=$PYTHON"
  elif [ -n "$active" ] && _fits "$active"; then
    PYTHON="$active"
    echo "setup: using the active environment"
  else
    [ -z "$active" ] || echo "setup: the active environment has Python $(_version "$active"), not 3.10 to 3.14: using .venv"
    _fits "$_root/.venv/bin/python" && _has_pip "$_root/.venv/bin/python" || _make_venv || return 1
    PYTHON="$_root/.venv/bin/python"
  fi
  _fits "$PYTHON" && return 0
  echo "setup: $PYTHON is Python $(_version "$PYTHON" || echo "that does not run"), needed is 3.10 to 3.14;" \
    "give another PYTHON=/path/to/python" >&2
  return 1
}

# The file whose presence says that these lists are installed in these versions. Goes with any change of the versions.
_stamp() {
  "$PYTHON" - "$_versions" "${_lists[@]}" <<'PY'
import contextlib, hashlib, pathlib, sys

versions, *lists = ("latest" if path == "latest" else pathlib.Path(path).read_text() for path in sys.argv[1:])
versions, lists = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in (sys.version + versions, "".join(lists)))
for stamp in pathlib.Path(sys.prefix).glob(".pcavs-*"):
    if not stamp.name.startswith(f".pcavs-{versions}-"):
        with contextlib.suppress(OSError):
            stamp.unlink()
print(pathlib.Path(sys.prefix) / f".pcavs-{versions}-{lists}")
PY
}

# `torch==...` of a torch that is installed and fits requirements.txt, else nothing
_torch_to_keep() {
  "$PYTHON" - "${_lists[0]}" <<'PY'
import importlib.metadata, pathlib, sys
from pip._vendor.packaging.requirements import Requirement

lines = [line.partition("#")[0].strip() for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
wanted = next(one for one in map(Requirement, filter(None, lines)) if one.name == "torch")
try:
    version = importlib.metadata.version("torch")
except importlib.metadata.PackageNotFoundError:
    sys.exit()
if wanted.specifier.contains(version, prereleases=True):
    print(f"torch=={version}")
PY
}

_pip_install() {
  local how=(-c "$_versions")
  [ "$_versions" != latest ] || how=(--upgrade)
  "$PYTHON" -m pip install --quiet --disable-pip-version-check "${how[@]}" "$@"
}

_install() {
  local stamp kept wanted=() list
  stamp="$(_stamp)" || return 1
  [ -e "$stamp" ] && return 0
  echo "setup: installing packages (the first time this takes some minutes)"
  _has_pip "$PYTHON" || { echo "setup: $PYTHON has no pip; python -m ensurepip, or give another PYTHON" >&2; return 1; }
  for list in "${_lists[@]}"; do wanted+=(-r "$list"); done
  kept="$(_torch_to_keep)" || return 1
  _pip_install "${wanted[@]}" ${kept:+"$kept"} ||
    { echo "setup: installing failed; the lines above say why" >&2; return 1; }
  # opencv-python needs libGL, which servers often lack; the headless build is the same without windows
  if ! "$PYTHON" -c 'import cv2' >/dev/null 2>&1; then
    echo "setup: opencv-python does not load here, taking opencv-python-headless"
    "$PYTHON" -m pip uninstall --quiet --yes opencv-python &&
      _pip_install --force-reinstall --no-deps opencv-python-headless &&
      "$PYTHON" -c 'import cv2' || { echo "setup: OpenCV cannot be loaded" >&2; return 1; }
  fi
  : >"$stamp" 2>/dev/null || true
}

_choose_python && _install && export PYTHON
