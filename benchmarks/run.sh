#!/usr/bin/env bash
# The benchmark table: benchmarks/run.sh [--threads N] [--device cuda] [--rounds N]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
python3 -c 'import zuko' 2>/dev/null || python3 -m pip install --quiet -c "$DNF_ROOT/constraints.txt" zuko
exec python3 "$DNF_ROOT/benchmarks/speed.py" "$@"
