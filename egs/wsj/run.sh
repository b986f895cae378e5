#!/usr/bin/env bash
# The wsj recipe: a plain normalization flow of native English. See README.md here, and ../../run.sh --help.
cd "$(dirname "${BASH_SOURCE[0]}")" && exec ../../run.sh --recipe wsj "$@"
