#!/usr/bin/env bash
# Print the benchmark table; see benchmarks/run.sh --help. Peers are installed in benchmarks/.peers, not in the environment.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"

install_peers() {  # the missing packages of peers.txt, one by one, so that a failure does not stop the others
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
