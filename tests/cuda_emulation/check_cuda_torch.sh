#!/usr/bin/env bash
# Builds the real CUDA extension against a torch with CUDA, in an environment of its own, imports it and runs the CPU tests on it.
# No GPU is needed. Arguments: Python, requirement of torch, index to install it from (may be empty).
# SPDX-License-Identifier: BSD-3-Clause
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=$1 torch=$2 index=${3:-}
folder=build/cuda-torch
mkdir -p "$folder"
[ -x "$folder/venv/bin/python" ] || "$python" -m venv "$folder/venv"
pip() { PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 "$folder/venv/bin/python" -m pip "$@"; }
# shellcheck disable=SC2086
pip install --quiet ${index:+--index-url "$index"} $torch
pip install --quiet -r requirements-dev.txt

"$folder/venv/bin/python" - <<'END'
import sys, torch
if torch.version.cuda is None:
    sys.exit(f"torch {torch.__version__} is a build for the CPU: name one with CUDA, make check-cuda-torch CUDA_INDEX=...")
END

export TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-8.0;9.0}
"$folder/venv/bin/python" setup.py --quiet build --build-lib "$folder/lib" --build-temp "$folder/objects"
cd "$folder/lib"
../venv/bin/python -c 'from torch_pooling import _library; version = _library.cuda_version(); assert version, "no CUDA in this build"; print("built for CUDA", version, _library.cuda_architectures())'
../venv/bin/python -m pytest -q -n "${WORKERS:-2}" ../../../tests
