#!/usr/bin/env bash
# Open data: native and Mandarin readers of English. See README.md here, and ../../run.sh --help.
cd "$(dirname "${BASH_SOURCE[0]}")" && exec ../../run.sh --recipe librispeech_speechocean "$@"
