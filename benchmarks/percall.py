# SPDX-License-Identifier: BSD-3-Clause
"""python -m benchmarks.percall: what one call costs when there is next to nothing to pool, ours beside torch's.

A 1x4x4x4 float32 input, one thread, the four families with and without grad, and the layers beside the calls of torch's that they
replace, in many short rounds that take turns, so that a busy moment of the machine hits both. Overhead has no average case, only
interference on top: the limit is put to the median over the rounds of the difference and of the ratio, and the fastest rounds are
shown beside it.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import timeit
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as theirs

from torch_pooling import functional as ours

Call = Callable[[Tensor], Tensor]
MASK = torch.tensor([[[True, True, False, True]] * 4])


def family(name: str) -> tuple[Call, Call]:
    torchs, own = getattr(theirs, name), getattr(ours, name)
    return (lambda x: torchs(x, 2)), (lambda x: own(x, 2))


def masked_average(x: Tensor) -> Tensor:
    return (x * MASK.unsqueeze(1)).sum((2, 3), keepdim=True) / MASK.sum((1, 2)).view(-1, 1, 1, 1)


# torch's and ours
CALLS: dict[str, tuple[Call, Call]] = {
    **{name: family(name) for name in ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d")},
    "global_avg_pool": (lambda x: x.mean((2, 3), keepdim=True), ours.global_avg_pool),
    "concat_pool": (lambda x: torch.cat([theirs.adaptive_avg_pool2d(x, 1), theirs.adaptive_max_pool2d(x, 1)], 1), ours.concat_pool),
    "avgmax_pool": (lambda x: (theirs.adaptive_avg_pool2d(x, 1) + theirs.adaptive_max_pool2d(x, 1)) * 0.5, ours.avgmax_pool),
    "mixed_pool": (lambda x: torch.cat([theirs.max_pool2d(x, 3, 1, 1), theirs.avg_pool2d(x, 3, 1, 1)], 1), ours.mixed_pool),
    "spatial_pyramid_pool": (
        lambda x: torch.cat([theirs.adaptive_avg_pool2d(x, level).flatten(1) for level in (1, 2, 4)], 1),
        ours.spatial_pyramid_pool,
    ),
    "masked global_avg_pool": (masked_average, lambda x: ours.global_avg_pool(x, mask=MASK)),
    "masked global_max_pool": (
        lambda x: x.masked_fill(~MASK.unsqueeze(1), -torch.inf).amax((2, 3), keepdim=True),
        lambda x: ours.global_max_pool(x, mask=MASK),
    ),
}
RATIO, MICROSECONDS = 1.25, 0.6  # a call may take so many times torch's, or so much longer, whichever is more


def rounds(both: tuple[Call, Call], grad: bool, count: int, calls: int) -> list[tuple[float, float]]:
    """Microseconds for one call, (torch's, ours), round by round."""
    x = torch.randn(1, 4, 4, 4).requires_grad_(grad)
    pair = [timeit.Timer("f(x)", globals={"f": call, "x": x}) for call in both]
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
    print(f"{'':<22} {'grad':<4} {'torch':>14} {'ours':>14} {'ratio':>6} {'difference':>10}")
    for function, both in CALLS.items():
        for grad in (False, True):
            found = rounds(both, grad, options.rounds, options.calls)
            torchs, ourss = ([pair[whose] for pair in found] for whose in (0, 1))
            ratio = statistics.median(b / a for a, b in found)
            difference = statistics.median(b - a for a, b in found)
            fine = ratio <= RATIO or difference <= MICROSECONDS
            over = over or not fine
            cells = [f"{statistics.median(times):.2f} ({min(times):.2f})" for times in (torchs, ourss)]
            figures = f"{cells[0]:>14} {cells[1]:>14} {ratio:>5.2f}x {difference:>+10.2f}  {'within' if fine else 'OVER'}"
            print(f"{function:<22} {'on' if grad else 'off':<4} {figures}", flush=True)
    return 1 if over and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
