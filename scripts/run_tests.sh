#!/usr/bin/env bash
# Everything that must hold: style, types, tests. Sets itself up; arguments go to pytest, e.g. -k audio, -m slow or -n 0
# (one process in place of two).
set -euo pipefail
. "$(dirname "$0")/../scripts/setup_env.sh" dev
cd "$(dirname "$0")/.."
echo "ruff"
"$PYTHON" -m ruff check .
echo "mypy"
"$PYTHON" -m mypy
echo "pytest"
exec "$PYTHON" -m pytest -n 2 --dist loadfile "$@"
