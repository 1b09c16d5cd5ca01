# SPDX-License-Identifier: BSD-3-Clause
"""The yardstick: how fast this machine copies a row's input, by torch's copy_ and by stores that bypass the caches.

The better of the two is what a row's GB/s is a share of. The streaming copy is compiled on the spot with the machine's
C compiler and runs on torch's threads; without a compiler, or off x86-64, only the ordinary copy counts.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

SOURCE = r"""
#include <emmintrin.h>
#include <stddef.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* Each thread takes one run of whole 64-byte lines, streams it, and waits for its stores; all pointers 16-byte aligned. With `too` the
   same goes there as well. */
void streaming_copy(char* to, char* too, const char* from, size_t bytes) {
  size_t lines = bytes / 64;
#pragma omp parallel
  {
#ifdef _OPENMP
    size_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
#else
    size_t threads = 1, thread = 0;
#endif
    size_t begin = lines * thread / threads, end = lines * (thread + 1) / threads;
    for (size_t i = begin; i < end; ++i) {
      const __m128i* in = (const __m128i*)(from + i * 64);
      __m128i* out = (__m128i*)(to + i * 64);
      __m128i a = _mm_load_si128(in), b = _mm_load_si128(in + 1), c = _mm_load_si128(in + 2), d = _mm_load_si128(in + 3);
      _mm_stream_si128(out, a);
      _mm_stream_si128(out + 1, b);
      _mm_stream_si128(out + 2, c);
      _mm_stream_si128(out + 3, d);
      if (too) {
        out = (__m128i*)(too + i * 64);
        _mm_stream_si128(out, a);
        _mm_stream_si128(out + 1, b);
        _mm_stream_si128(out + 2, c);
        _mm_stream_si128(out + 3, d);
      }
    }
    _mm_sfence();
  }
  memcpy(to + lines * 64, from + lines * 64, bytes - lines * 64);
  if (too) memcpy(too + lines * 64, from + lines * 64, bytes - lines * 64);
}
"""


# Addresses to, also to (0 for nowhere), from; bytes.
Streaming = Callable[[int, int, int, int], None]


def compile_streaming() -> Streaming | None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or platform.machine() not in ("x86_64", "AMD64"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "copy.c"), Path(folder, "copy.so")
        source.write_text(SOURCE)
        # -fopenmp at compile time only: the calls bind to the runtime that torch has loaded, so its thread count holds.
        for link in (["-Wl,-z,now"], ["-fopenmp"]):
            command = [compiler, "-O2", "-fopenmp", "-fPIC", "-c", str(source), "-o", str(library.with_suffix(".o"))]
            linking = [compiler, "-shared", str(library.with_suffix(".o")), "-o", str(library), *link]
            if any(subprocess.run(step, capture_output=True).returncode for step in (command, linking)):
                return None
            try:
                function = ctypes.CDLL(str(library)).streaming_copy
            except OSError:
                continue
            function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
            function.restype = None
            return function
    return None


def copies(x: Tensor, streaming: Streaming | None) -> dict[str, Callable[[], object]]:
    """Calls that copy x into memory that is there already; 2 * x.nbytes is what each moves."""
    target = torch.empty_like(x).copy_(x)
    calls: dict[str, Callable[[], object]] = {"copy": lambda: target.copy_(x)}
    if streaming is not None and x.device.type == "cpu" and not (x.data_ptr() | target.data_ptr()) & 15:
        calls["streaming copy"] = lambda: streaming(target.data_ptr(), 0, x.data_ptr(), x.nbytes)
    return calls


def copies_into(x: Tensor, streaming: Streaming | None) -> list[Callable[[], object]]:
    """Calls that copy x into one place and into two: the least that operators with results as large as their input can take."""
    if streaming is None or x.device.type != "cpu" or (x.data_ptr() | x.nbytes) & 15:
        return []
    one, two = torch.zeros((2, x.nbytes), dtype=torch.uint8)
    return [lambda also=also: streaming(one.data_ptr(), also, x.data_ptr(), x.nbytes) for also in (0, two.data_ptr())]
