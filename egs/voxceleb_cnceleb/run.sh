#!/usr/bin/env bash
# English against Mandarin in the wild: VoxCeleb and CN-Celeb. See README.md here, and ../../run.sh --help.
cd "$(dirname "${BASH_SOURCE[0]}")" && exec ../../run.sh --recipe voxceleb_cnceleb "$@"
