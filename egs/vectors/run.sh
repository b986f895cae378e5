#!/usr/bin/env bash
# Vectors, one per utterance: yours with --data, else from known Gaussians. See README.md here, and ../../run.sh --help.
[[ $- == *p* ]] || exec "$BASH" -p "${BASH_SOURCE[0]}" "$@"  # without functions and shell options of the environment
export DNF_CALLER=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")" && exec ../../run.sh --recipe vectors "$@"
