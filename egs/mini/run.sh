#!/usr/bin/env bash
# The mini recipe: synthetic accented English. See README.md here, and ../../run.sh --help.
[[ $- == *p* ]] || exec "$BASH" -p "${BASH_SOURCE[0]}" "$@"  # without functions and shell options of the environment
export DNF_CALLER=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")" && exec ../../run.sh --recipe mini "$@"
