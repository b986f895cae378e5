#!/usr/bin/env bash
# All checks of a GPU in one call of less than 8 minutes, into a folder: tests, benchmark, profile, memory, classification.
#     benchmarks/gpu.sh [FOLDER]      writes machine.txt, tests.txt, speed.txt and speed.json; FOLDER is gpu by default
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../path.sh"
python3 -c 'import sys, torch; torch.cuda.is_available() or sys.exit(
  f"benchmarks/gpu.sh: PyTorch {torch.__version__} finds no GPU here: nvidia-smi must list one, and PyTorch be a build for CUDA")'
out=$(realpath -m "${1:-gpu}")
mkdir -p "$out"
cd "$DNF_ROOT"

status=0
python3 -m torch.utils.collect_env | tee "$out/machine.txt"
timeout 150 python3 -m pytest -q -n 0 tests/training/test_gradients.py |& tee "$out/tests.txt" || status=1
timeout 300 python3 -m benchmarks.speed --device cuda --profile --json "$out/speed.json" \
  --only 'train: ours($|, not compiled|, float32)|score|wav to decision' |& tee "$out/speed.txt" || status=1
echo "benchmarks/gpu.sh: the output is in $out" >&2
exit "$status"
