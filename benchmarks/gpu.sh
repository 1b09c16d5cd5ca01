#!/usr/bin/env bash
# Everything worth knowing about the CUDA path, on a machine with an NVIDIA GPU, and no network needed:
#
#   benchmarks/gpu.sh OUTDIR [--part N]     N: 1 tests and a dozen rows, 2 all rows, 3 torch.compile, JAX and profiles, 4 sanitizer
#
# Each part ends within 4 minutes (MINUTES=4) and writes its results as it goes, so a part that is cut off keeps what it has. All of
# them, without what was built, are in OUTDIR/results.tgz in the end.
# PYTHON names an interpreter with a CUDA torch; a wheel in dist/ that is for it is used, else this folder is compiled for the GPU
# at hand, once, into OUTDIR/lib. DEVICE=cpu rehearses all of it on small tensors, where there is no GPU.
# SPDX-License-Identifier: BSD-3-Clause
set -uo pipefail

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -ge 1 ] || usage
part=all
case $# in
  1) ;;
  3) [ "$2" = --part ] || usage; part=$3 ;;
  *) usage ;;
esac
case $part in all | 1 | 2 | 3 | 4) ;; *) usage ;; esac
out=$(mkdir -p "$1" && cd "$1" && pwd) || exit 2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$(command -v "${PYTHON:-python3}") || { echo "there is no ${PYTHON:-python3}: name an interpreter in PYTHON" >&2; exit 2; }
case $python in /*) ;; *) python=$PWD/$python ;; esac
device=${DEVICE:-cuda}
minutes=${MINUTES:-4}
failed=0

log() { printf '%s %s\n' "$(date +%T)" "$*" | tee -a "$out/log.txt"; }
# step SHARE NAME COMMAND...: its output goes to NAME.txt; it may take SHARE percent of the time that its part has left.
step() {
  local left=$(((minutes * 60 - (SECONDS - started)) * $1 / 100)) name=$2 status=0
  shift 2
  [ "$left" -gt 5 ] || { log "$name: no time left"; failed=1; return 1; }
  if [ "$(type -t "$1")" = function ]; then  # which timeout cannot run
    "$@" > "$out/$name.txt" 2>&1 || status=$?
  else
    timeout --kill-after=10 "$left" "$@" > "$out/$name.txt" 2>&1 || status=$?
  fi
  case $status in
    0) log "$name: ok" ;;
    124 | 137) log "$name: cut off after $left s, see $name.txt"; failed=1 ;;
    *) log "$name: FAILED ($status), see $name.txt"; failed=1 ;;
  esac
  return "$status"
}

# One without kernels for this device is of no use here.
install_wheel() {
  "$python" -m pip install --no-deps --no-index --upgrade --target "$out/lib" "$1" || return
  [ "$device" != cuda ] || (cd "$out/lib" && "$python" -c 'import sys; from torch_pooling import _library; sys.exit(not _library.cuda_version())')
}

# Belongs to the time of the part that comes first.
prepare() {
  if [ "$device" = cuda ]; then
    step 100 gpu "$python" -c 'import torch; print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())' || exit 1
    nvidia-smi > "$out/nvidia-smi.txt" 2>&1
  fi
  if [ ! -e "$out/lib/ready" ]; then
    local tag wheels
    tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    wheels=("$root"/dist/*-"$tag"-*.whl)
    mkdir -p "$out/lib"
    if ! { [ -e "${wheels[-1]}" ] && step 100 wheel install_wheel "${wheels[-1]}"; }; then
      cd "$root" && step 100 build env TORCH_CUDA_ARCH_LIST= TORCH_POOLING_WARNINGS=allowed "$python" setup.py --quiet build \
        --build-lib "$out/lib" --build-temp "$out/objects" || exit 1
    fi
    ln -sfn "$root/benchmarks" "$out/lib/benchmarks"
    touch "$out/lib/ready"
  fi
  cd "$out/lib" || exit 1
}

on=(--device "$device")
few=(--seconds 0.2)  # for every row and mode, of which there are 1200
if [ "$device" != cuda ]; then
  on+=(--elements 5000)
  few=(--seconds 0.001 --only '2048x7x7' --dtype float32)
fi
rows=("$python" -m benchmarks --device "$device")
extra=("$python" -m benchmarks.gpu "${on[@]}")
tests=("$root"/tests/test_{any_offsets,special_values,forward,backward}.py)

part1() {
  # The tests of the reference alone are the CPU's. One instruction set's name, so that each case is run once.
  step 40 tests env TORCH_POOLING_TEST_DEVICE="$device" TORCH_POOLING_ISA=scalar "$python" -m pytest -q -p no:cacheprovider \
    --maxfail 50 -k "not reference" "${tests[@]}"
  step 30 doctor "$python" -m torch_pooling doctor  # every function, the combined ones too
  step 30 graphs "${extra[@]}" graphs
  step 40 determinism "${extra[@]}" determinism
  step 40 large "${extra[@]}" large
  if [ "$device" = cuda ]; then
    step 100 dozen "${rows[@]}" --quick --out "$out/dozen.jsonl"
  else
    step 100 dozen "${rows[@]}" --group all "${few[@]}" --out "$out/dozen.jsonl"
  fi
}
part2() {
  step 20 copies "${extra[@]}" copies
  step 100 all_rows "${rows[@]}" --group all "${few[@]}" --out "$out/all.jsonl"
}
part3() {
  if ! command -v ncu > /dev/null; then
    log "ncu: not installed"
  elif [ ! -e "$out/all.jsonl" ]; then
    log "ncu: needs the rows of part 2"
  else
    step 35 ncu ncu --clock-control none --set full --kernel-name-base demangled --kernel-name regex:torch_pooling --launch-count 40 \
      -f -o "$out/slowest" "${extra[@]}" slowest "$out/all.jsonl"
  fi
  step 60 compiled "${extra[@]}" compiled --out "$out/compiled.jsonl"
  step 100 jax env XLA_PYTHON_CLIENT_PREALLOCATE=false "${extra[@]}" jax --out "$out/jax.jsonl"
}
part4() {
  command -v compute-sanitizer > /dev/null || { log "compute-sanitizer: not installed"; return; }
  # Every tensor an allocation of its own: what lies beyond one is then nobody's memory.
  # Calls of the runtime that fail are torch's own questions. Races are looked for in our kernels only, which keeps it in time.
  local check=(compute-sanitizer --error-exitcode 9)
  step 40 memcheck env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "${check[@]}" --tool memcheck --report-api-errors no "${extra[@]}" reduced
  step 60 racecheck "${check[@]}" --tool racecheck --kernel-regex kns=torch_pooling "${extra[@]}" reduced
  step 100 synccheck "${check[@]}" --tool synccheck --kernel-regex kns=torch_pooling "${extra[@]}" reduced
}

for number in 1 2 3 4; do
  if [ "$part" = all ] || [ "$part" = "$number" ]; then
    started=$SECONDS
    log "part $number"
    prepare
    "part$number"
  fi
done
tar -czf "$out/results.tgz" -C "$out" --exclude=./lib --exclude=./objects --exclude=./results.tgz .
exit "$failed"
