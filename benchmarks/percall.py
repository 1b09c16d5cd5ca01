# SPDX-License-Identifier: BSD-3-Clause
"""python -m benchmarks.percall: what one call costs when there is next to nothing to pool, ours beside torch's.

A 1x4x4x4 float32 input, one thread, the four families with and without grad, in many short rounds that take turns, so
that a busy moment of the machine hits both. Overhead has no average case, only interference on top: the limit is put to
the median over the rounds of the difference and of the ratio, and the fastest rounds are shown beside it.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import timeit
from collections.abc import Sequence

import torch
from torch.nn import functional as theirs

from torch_pooling import functional as ours

FAMILIES = {"max_pool2d": "2", "avg_pool2d": "2", "adaptive_avg_pool2d": "2", "adaptive_max_pool2d": "2"}
RATIO, MICROSECONDS = 1.25, 0.6  # a call may take so many times torch's, or so much longer, whichever is more


def rounds(function: str, argument: str, grad: bool, count: int, calls: int) -> list[tuple[float, float]]:
    """Microseconds for one call, (torch's, ours), round by round."""
    x = torch.randn(1, 4, 4, 4).requires_grad_(grad)
    pair = [timeit.Timer(f"f(x, {argument})", globals={"f": getattr(module, function), "x": x}) for module in (theirs, ours)]
    for timer in pair:
        timer.timeit(calls)
    found = []
    for turn in range(count):
        order = pair if turn % 2 == 0 else pair[::-1]
        times = {id(timer): timer.timeit(calls) / calls * 1e6 for timer in order}
        found.append((times[id(pair[0])], times[id(pair[1])]))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.percall", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--calls", type=int, default=1000, help="in each round")
    parser.add_argument("--strict", action="store_true", help="exit status 1 where a family is over the limit")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    gc.disable()
    over = False
    print(f"microseconds a call, median (fastest) of {options.rounds} rounds of {options.calls}; torch {torch.__version__}")
    print(f"limit: {RATIO}x torch's or {MICROSECONDS} more\n")
    print(f"{'':<20} {'grad':<4} {'torch':>14} {'ours':>14} {'ratio':>6} {'difference':>10}")
    for function, argument in FAMILIES.items():
        for grad in (False, True):
            found = rounds(function, argument, grad, options.rounds, options.calls)
            torchs, ourss = ([pair[whose] for pair in found] for whose in (0, 1))
            ratio = statistics.median(b / a for a, b in found)
            difference = statistics.median(b - a for a, b in found)
            fine = ratio <= RATIO or difference <= MICROSECONDS
            over = over or not fine
            cells = [f"{statistics.median(times):.2f} ({min(times):.2f})" for times in (torchs, ourss)]
            figures = f"{cells[0]:>14} {cells[1]:>14} {ratio:>5.2f}x {difference:>+10.2f}  {'within' if fine else 'OVER'}"
            print(f"{function:<20} {'on' if grad else 'off':<4} {figures}", flush=True)
    return 1 if over and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
