#!/usr/bin/env bash
# Everything worth knowing about the CUDA path, on a machine with an NVIDIA GPU, and no network needed:
#
#   benchmarks/gpu.sh OUTDIR [--part N]     N: 1 tests and a dozen rows, 2 all rows, 3 torch.compile, JAX and profiles, 4 sanitizer
#
# Each part ends within 8 minutes (MINUTES=8) and writes its results as it goes, so a part that is cut off keeps what it has.
# PYTHON names an interpreter with a CUDA torch; a wheel in dist/ is used if there is one, else this folder is compiled for the GPU
# at hand, once, into OUTDIR/lib.
# SPDX-License-Identifier: BSD-3-Clause
set -uo pipefail

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -ge 1 ] || usage
out=$(mkdir -p "$1" && cd "$1" && pwd)
part=all
[ $# -eq 1 ] || { [ "$2" = --part ] && part=${3:?}; } || usage
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
deadline=$((${MINUTES:-8} * 60))
failed=0

log() { printf '%s %s\n' "$(date +%T)" "$*" | tee -a "$out/log.txt"; }
# step NAME COMMAND...: its output goes to NAME.txt; stops with the time of the part.
step() {
  local name=$1 left=$((deadline - (SECONDS - started)))
  shift
  [ "$left" -gt 5 ] || { log "$name: no time left"; failed=1; return 1; }
  if timeout "$left" "$@" > "$out/$name.txt" 2>&1; then log "$name: ok"; else log "$name: FAILED or cut off ($?), see $name.txt"; failed=1; return 1; fi
}

prepare() {
  started=$SECONDS
  "$python" - <<'END' || { log "no GPU that torch can use"; exit 1; }
import torch
assert torch.cuda.is_available(), "torch sees no GPU"
print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())
END
  if [ ! -d "$out/lib/torch_pooling" ]; then
    local wheel
    wheel=$(ls "$root"/dist/*.whl 2>/dev/null | tail -1)
    if [ -n "$wheel" ]; then
      step wheel "$python" -m pip install --no-deps --no-index --target "$out/lib" "$wheel" || exit 1
    else
      (cd "$root" && step build "$python" setup.py --quiet build --build-lib "$out/lib" --build-temp "$out/objects") || exit 1
    fi
  fi
  ln -sfn "$root/benchmarks" "$out/lib/benchmarks"
  cd "$out/lib" || exit 1
  nvidia-smi > "$out/nvidia-smi.txt" 2>&1
}

rows=("$python" -m benchmarks --device cuda)

part1() {
  step determinism "$python" -m benchmarks.gpu determinism
  step graphs_and_streams "$python" -m benchmarks.gpu graphs
  step large "$python" -m benchmarks.gpu large
  step dozen "${rows[@]}" --quick --out "$out/dozen.jsonl"
  step tests env TORCH_POOLING_TEST_DEVICE=cuda "$python" -m pytest -q -p no:cacheprovider -x --maxfail 50 \
    "$root/tests/test_forward.py" "$root/tests/test_backward.py" "$root/tests/test_any_offsets.py"
}
part2() {
  step copies "$python" -m benchmarks.gpu copies
  step all_rows "${rows[@]}" --group all --seconds 0.2 --out "$out/all.jsonl"
}
part3() {
  step compiled "$python" -m benchmarks.gpu compiled --out "$out/compiled.jsonl"
  step jax "$python" -m benchmarks.gpu jax --out "$out/jax.jsonl"
  if command -v ncu > /dev/null; then
    step ncu ncu --set full --launch-count 1 --target-processes all -f -o "$out/slowest" "$python" -m benchmarks.gpu slowest "$out/all.jsonl"
  else
    log "ncu: not installed"
  fi
}
part4() {
  command -v compute-sanitizer > /dev/null || { log "compute-sanitizer: not installed"; return; }
  step memcheck compute-sanitizer --tool memcheck --error-exitcode 9 "$python" -m benchmarks.gpu reduced
  step racecheck compute-sanitizer --tool racecheck --error-exitcode 9 "$python" -m benchmarks.gpu reduced
}

for number in 1 2 3 4; do
  if [ "$part" = all ] || [ "$part" = "$number" ]; then
    log "part $number"
    prepare
    started=$SECONDS
    "part$number"
  fi
done
exit "$failed"
