#!/usr/bin/env bash
# The page in the browser, from a photo to a video by clicking. Sets itself up, and prints the address to open; further
# flags go to app.py, e.g.
#   bash experiments/app.sh --port 8000
set -euo pipefail
. "$(dirname "$0")/../scripts/setup_env.sh" app
cd "$(dirname "$0")/.."
exec "$PYTHON" app.py "$@"
