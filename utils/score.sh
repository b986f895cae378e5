#!/usr/bin/env bash
# Scores of other data by a trained model; utils/score.sh --help says how.
[[ $- == *p* ]] || exec "$BASH" -p "${BASH_SOURCE[0]}" "$@"  # without functions and shell options of the environment
set +o posix
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec python3 -m dnf score "$@"
