#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The suite on every torch and Python that can be had here, with clang, and without vectors (make test-matrix). A pair for which there
# is no interpreter or no wheel is named and left out; any other failure counts. Environments are .venv-matrix-*, kept for the next time.
#   TORCHES="2.11.0 2.13.0 2.15.0"  PYTHONS="3.10 3.11 3.12 3.13"  TESTS=tests
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0 summary=""
note() { summary+="$1"$'\n'; echo "== $1"; }
suite() {  # name, then settings of make
  local name=$1; shift
  if make test "$@" TESTS="${TESTS:-tests}"; then note "$name: passed"; else note "$name: FAILED"; failed=1; fi
}

for python in ${PYTHONS:-3.10 3.11 3.12 3.13}; do
  if ! "python$python" -c "" > /dev/null 2>&1; then note "python$python: not here"; continue; fi
  for torch in ${TORCHES:-2.11.0 2.13.0 2.15.0}; do
    if ! "python$python" -m pip index versions torch 2> /dev/null | tr -d , | grep -qwF -- "$torch"; then
      note "python$python, torch $torch: no wheel"
      continue
    fi
    suite "python$python, torch $torch" PYTHON="python$python" TORCH="torch==$torch" VENV=".venv-matrix-$python-$torch"
  done
done
# The extension in the tree is what was built last: each of these builds it again.
for compiler in clang++ clang++-14; do
  if command -v "$compiler" > /dev/null; then
    touch setup.py
    # The library, not what torch and the tests compile: Debian's clang comes without omp.h, which Inductor includes.
    if CXX="$compiler" make build VENV=.venv-matrix-clang; then
      suite "$compiler" VENV=.venv-matrix-clang
    else
      note "$compiler: FAILED to build"
      failed=1
    fi
    break
  fi
done
TORCH_POOLING_ISA=scalar suite "no vectors" VENV=.venv-matrix-scalar
printf '\n%s' "$summary"
exit "$failed"
