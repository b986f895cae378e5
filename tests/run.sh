#!/usr/bin/env bash
# All tests, or those that are named: tests/run.sh, tests/run.sh -m 'not slow', tests/run.sh tests/models/test_flows.py -k inverse
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh
[[ $# -gt 0 ]] || set -- -n 2 --dist loadfile  # much of the time goes to waiting for schedulers
exec python3 -m pytest "$@"
