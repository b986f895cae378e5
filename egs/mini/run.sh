#!/usr/bin/env bash
# The mini recipe: accented English made on the spot. See README.md here, and ../../run.sh --help.
cd "$(dirname "${BASH_SOURCE[0]}")" && exec ../../run.sh --recipe mini "$@"
