#!/usr/bin/env bash
# Class of recordings by a trained model; utils/classify.sh --help says how.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
exec python3 -m dnf classify "$@"
