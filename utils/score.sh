#!/usr/bin/env bash
# Score other data with a trained model; see utils/score.sh --help.
[[ $- == *p* ]] || exec "$BASH" -p "${BASH_SOURCE[0]}" "$@"  # without functions and shell options of the environment
set +o posix
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec python3 -m dnf score "$@"
