# SPDX-License-Identifier: BSD-3-Clause
"""python -m benchmarks.override: what override() costs those who do not pool, and a pooling call that is rerouted.

torch.relu of a 1x4x4x4 float32 tensor, one thread, outside and inside in many short rounds that take turns; beside it the same
call under a TorchFunctionMode, the way not taken, and max_pool2d outside, inside and as a function of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import sys
import timeit
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as theirs
from torch.overrides import TorchFunctionMode

import torch_pooling

LIMIT = 1.02  # of relu inside to relu outside


class Mode(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **kwargs or {})


X = torch.randn(1, 4, 4, 4)
ROWS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {  # what is called, and inside what
    "relu, outside": (lambda: torch.relu(X), contextlib.nullcontext),
    "relu, inside": (lambda: torch.relu(X), torch_pooling.override),
    "relu, a TorchFunctionMode": (lambda: torch.relu(X), Mode),
    "max_pool2d, outside": (lambda: theirs.max_pool2d(X, 2), contextlib.nullcontext),
    "max_pool2d, inside": (lambda: theirs.max_pool2d(X, 2), torch_pooling.override),
    "torch_pooling's max_pool2d": (lambda: torch_pooling.functional.max_pool2d(X, 2), contextlib.nullcontext),
    "entering and leaving": (lambda: torch_pooling.override().__enter__().__exit__(), contextlib.nullcontext),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.override", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--calls", type=int, default=1000, help="in each round")
    parser.add_argument("--strict", action="store_true", help=f"exit status 1 where relu costs more than {LIMIT} times as much inside")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    gc.disable()
    timers = {name: timeit.Timer(call) for name, (call, _) in ROWS.items()}
    found: dict[str, list[float]] = {name: [] for name in ROWS}
    for turn in range(options.rounds):
        for name in list(ROWS) if turn % 2 == 0 else list(ROWS)[::-1]:
            with ROWS[name][1]():
                found[name].append(timers[name].timeit(options.calls) / options.calls * 1e6)
    print(f"microseconds a call, median (fastest) of {options.rounds} rounds of {options.calls}; torch {torch.__version__}")
    for name, times in found.items():
        print(f"  {name:<28} {statistics.median(times):6.3f} ({min(times):.3f})")
    ratio = statistics.median(inside / outside for inside, outside in zip(found["relu, inside"], found["relu, outside"]))
    least = min(found["relu, inside"]) / min(found["relu, outside"])
    print(f"relu inside to outside: {ratio:.3f} (fastest rounds {least:.3f}); limit {LIMIT}")
    return int(options.strict and min(ratio, least) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
