# Sets PYTHON to an interpreter with everything this project needs; to be sourced by the other scripts:
#
#   . scripts/setup_env.sh          what running needs
#   . scripts/setup_env.sh dev      also what the tests need
#
# Which one: PYTHON=... if given, else the active virtual or conda environment, else .venv, which is made here.
# Installing is skipped when nothing has changed since the last time, so the second call takes no time.

unset CDPATH # with it cd prints where it goes, and may go elsewhere
_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_lists=("$_root/requirements.txt")
[ "${1:-}" = dev ] && _lists+=("$_root/requirements-dev.txt")

_fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; }

# uv makes environments without pip, and so does whoever is interrupted while making one
_has_pip() { { "$1" -c 'import pip' || "$1" -m ensurepip; } >/dev/null 2>&1; }

_make_venv() {
  local candidate
  for candidate in python3 python3.11 python3.12 python3.10 python; do
    _fits "$candidate" || continue
    echo "setup: making .venv with $("$candidate" --version)"
    if "$candidate" -m venv --clear "$_root/.venv" >/dev/null 2>&1 || "$candidate" -m virtualenv -q --clear "$_root/.venv"; then
      return 0
    fi
    rm -rf "$_root/.venv"
    echo "setup: $candidate cannot make virtual environments (on Debian and Ubuntu: apt-get install python3-venv)" >&2
    return 1
  done
  echo "setup: needs Python 3.10, 3.11 or 3.12 and found none; install one, or give PYTHON=/path/to/python" >&2
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
    [ -z "$active" ] || echo "setup: the active environment is not Python 3.10, 3.11 or 3.12, using .venv"
    _fits "$_root/.venv/bin/python" && _has_pip "$_root/.venv/bin/python" || _make_venv || return 1
    PYTHON="$_root/.venv/bin/python"
  fi
  _fits "$PYTHON" || { echo "setup: $PYTHON is not a working Python 3.10, 3.11 or 3.12" >&2; return 1; }
}

_install() {
  local stamp lists=() list
  # what is installed belongs to these lists and this interpreter
  stamp="$("$PYTHON" - "${_lists[@]}" <<'PY'
import hashlib, pathlib, sys
text = sys.version + "".join(pathlib.Path(p).read_text() for p in sys.argv[1:])
print(pathlib.Path(sys.prefix) / f".pcavs-{hashlib.sha256(text.encode()).hexdigest()[:16]}")
PY
)" || return 1
  [ -e "$stamp" ] && return 0
  for list in "${_lists[@]}"; do lists+=(-r "$list"); done
  echo "setup: installing packages (the first time this takes some minutes)"
  _has_pip "$PYTHON" || echo "setup: $PYTHON has no pip" >&2
  "$PYTHON" -m pip install --quiet --disable-pip-version-check "${lists[@]}" ||
    { echo "setup: installing failed; the lines above say why" >&2; return 1; }
  # opencv-python needs libGL, which servers often lack; the headless build is the same without windows
  if ! "$PYTHON" -c 'import cv2' >/dev/null 2>&1; then
    echo "setup: opencv-python does not load here, taking opencv-python-headless"
    "$PYTHON" -m pip uninstall --quiet --yes opencv-python &&
      "$PYTHON" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps opencv-python-headless &&
      "$PYTHON" -c 'import cv2' || { echo "setup: OpenCV cannot be loaded" >&2; return 1; }
  fi
  : >"$stamp" 2>/dev/null || true
}

_choose_python && _install && export PYTHON
