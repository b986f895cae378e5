#!/usr/bin/env bash
# All tests, or those that are named: tests/run.sh, tests/run.sh -m 'not slow', tests/run.sh tests/models/test_flows.py -k inverse
[[ $- == *p* ]] || exec "$BASH" -p "${BASH_SOURCE[0]}" "$@"  # without functions and shell options of the environment
set +o posix
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh
# Much of the time goes to waiting for schedulers, so there is a worker more than there are processors on a small machine.
[[ $* == *tests/* || $* == *"-n "* ]] || set -- -n 3 --no-loadscope-reorder "$@"
exec python3 -m pytest "$@"
