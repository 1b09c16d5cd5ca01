# SPDX-License-Identifier: BSD-3-Clause
"""Is the machine ours alone? Times taken while another program wants the cores measure the scheduler, not the kernels.

With as many threads as cores, one core lost for a time slice stops every parallel loop for that long. The kernel counts
how often it took a core from us against our will; on a quiet machine that hardly happens.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import TypeVar

import torch

BUSY = 40.0  # involuntary switches a second: a quiet machine shows a handful, one busy neighbour some hundreds
Result = TypeVar("Result")


def watched(work: Callable[[], Result]) -> tuple[Result, float]:
    """What `work` answers, and how many times a second it was interrupted."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    result = work()
    spent = time.perf_counter() - begin
    return result, (resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before) / spent


def probe(seconds: float = 0.2) -> float:
    """Interruptions a second of some parallel work."""
    x = torch.zeros(400_000)

    def work() -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            x.add_(1)

    return watched(work)[1]


class Patience:
    """Spends up to `seconds` in all on waiting and measuring again; after that everything counts as it comes."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def measure(self, work: Callable[[], Result]) -> tuple[Result, float]:
        """`work`, repeated after a wait if it was interrupted and patience is left: the least interrupted one counts."""
        best = watched(work)
        while best[1] > BUSY and self.left > 0:
            begin = time.perf_counter()
            while probe() > BUSY and time.perf_counter() - begin < self.left:
                time.sleep(1)
            best = min(best, watched(work), key=lambda pair: pair[1])
            self.left -= time.perf_counter() - begin
        return best
