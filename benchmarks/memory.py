# SPDX-License-Identifier: BSD-3-Clause
"""Where a large output's memory comes from, which on the CPU can cost more than the pooling itself.

recycled  the allocator keeps freed memory, so outputs land on pages that are mapped already, as in a long training run:
          glibc without mmap and without trimming, on a heap whose pages are touched beforehand
fresh     every output of 128 KiB or more is mapped anew and its first touch faults the pages in: glibc's own behaviour
          at the start of a process, held there, because left alone it drifts towards recycling as blocks are freed
"""

from __future__ import annotations

import ctypes
import resource
import statistics
from collections.abc import Callable

import torch

MODES = ("recycled", "fresh")
HEAP = 2**30  # bytes
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # parameters of mallopt, from malloc.h


def choose(mode: str) -> None:
    """Sets the allocator for the rest of the process, or until the next call. RuntimeError where it cannot be set (no glibc)."""
    settings = {
        "recycled": ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1)),
        "fresh": ((MMAP_MAX, 65536), (MMAP_THRESHOLD, 128 * 1024), (TRIM_THRESHOLD, 128 * 1024)),
    }[mode]
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not all(mallopt(parameter, value) for parameter, value in settings):
        raise RuntimeError(f"this C library has no mallopt that would take the settings for {mode} memory")
    if mode == "recycled":
        # Freed aligned blocks are often a few bytes too short for the next request of the same size, so the heap still
        # grows now and then; touched once in one piece, it grows over pages that are there.
        torch.empty(HEAP, dtype=torch.uint8).fill_(1)


def page_faults(call: Callable[[], object]) -> int:
    """Median over three runs: the proof that the mode holds (recycled: about 0; fresh: the output's pages)."""
    counts = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        call()
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return round(statistics.median(counts))
