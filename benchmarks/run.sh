#!/usr/bin/env bash
# The benchmark table; benchmarks/run.sh --help says how. Peers go to benchmarks/.peers, not into the environment.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"

install_peers() {  # those of peers.txt that are not there, one by one, so that one that fails keeps no other away
  local peer folder=$DNF_ROOT/benchmarks/.peers
  while read -r peer; do
    [[ $peer != \#* && ! -e $folder/.$peer ]] || continue
    if python3 -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$folder" "$peer"; then
      touch "$folder/.$peer"
    else
      echo "benchmarks/run.sh: pip cannot install $peer: the table leaves it out" >&2
    fi
  done <"$DNF_ROOT/benchmarks/peers.txt"
}

[[ " $* " == *" --quick "* || " $* " == *" --help "* ]] || install_peers
exec python3 -m benchmarks.speed "$@"
