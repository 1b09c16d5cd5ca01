# SPDX-License-Identifier: BSD-3-Clause
"""python -m benchmarks.layers: operators that read their input once, beside their parts alone and the compositions they replace.

Rows of 64 MB and more. The limits, as ratios of medians: concat_pool at most 1.15 times the slower of its two reductions and 1.5
times faster than the two and cat; mixed_pool at most 1.6 times its maximum alone and 1.5 times faster than its composition; the
pyramid at most 1.25 times its finest level alone; with a mask, of which seven positions in ten count, a global pool at most twice as long as
without and 1.5 times faster than what it replaces. Compositions are ours, torch's, and the modules of timm and fastai where these
packages can be imported. mixed_pool writes two results as large as its input; beside it stands what copies of the input into one and
into two places take, by stores that pass the caches: the least that a maximum and that mixed_pool can take. All calls of a row take
turns, so that a busy moment hits all of them.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as theirs

from benchmarks import copying, memory
from torch_pooling import functional as ours
from torch_pooling._demo.stopwatch import alternate, medians

Call = Callable[[Tensor], Tensor]
SHAPES = ((32, 512, 32, 32), (32, 64, 112, 112), (64, 1024, 16, 16))


# Of concat_pool: package, module, class.
PEERS = (
    ("timm", "timm.layers.adaptive_avgmax_pool", "AdaptiveCatAvgMaxPool2d"),
    ("fastai", "fastai.layers", "AdaptiveConcatPool2d"),
)


def peers() -> dict[str, Call]:
    """Modules that can be imported; the reason for each other one is printed."""
    found: dict[str, Call] = {}
    for package, module, name in PEERS:
        try:
            found[package] = getattr(importlib.import_module(module), name)(1)
        except Exception as error:  # a package that is there and broken is left out like one that is not
            print(f"{package}: left out, {type(error).__name__}: {error}")
    return found


@cache
def mask_of(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.7


def mask(x: Tensor) -> Tensor:
    return mask_of((x.shape[0], *x.shape[2:]))


def average(x: Tensor, pool: Call) -> Tensor:
    """Of what counts, from a pool of all."""
    counts = mask(x).unsqueeze(1)
    return pool(torch.where(counts, x, 0)) * (x[0, 0].numel() / counts.sum((2, 3), keepdim=True))


def maximum(x: Tensor, pool: Call) -> Tensor:
    return pool(torch.where(mask(x).unsqueeze(1), x, -torch.inf))


def cat(*parts: Call) -> Call:
    return lambda x: torch.cat([part(x).flatten(1) if x.dim() < 4 else part(x) for part in parts], 1)


# name, ours, its parts (the slowest counts), compositions, most times the parts, least times faster than compositions
ROWS: list[tuple[str, Call, list[Call], list[Call], float, float]] = [
    (
        "concat_pool",
        ours.concat_pool,
        [ours.global_avg_pool, ours.global_max_pool],
        [
            cat(ours.global_avg_pool, ours.global_max_pool),
            cat(lambda x: theirs.adaptive_avg_pool2d(x, 1), lambda x: theirs.adaptive_max_pool2d(x, 1)),
        ],
        1.15,
        1.5,
    ),
    (
        "mixed_pool",
        ours.mixed_pool,
        [lambda x: ours.max_pool2d(x, 3, 1, 1)],
        [
            cat(lambda x: ours.max_pool2d(x, 3, 1, 1), lambda x: ours.avg_pool2d(x, 3, 1, 1)),
            cat(lambda x: theirs.max_pool2d(x, 3, 1, 1), lambda x: theirs.avg_pool2d(x, 3, 1, 1)),
        ],
        1.6,
        1.5,
    ),
    (
        "masked avg",
        lambda x: ours.global_avg_pool(x, mask=mask(x)),
        [ours.global_avg_pool],
        [lambda x: average(x, ours.global_avg_pool), lambda x: average(x, lambda kept: kept.mean((2, 3), keepdim=True))],
        2,
        1.5,
    ),
    (
        "masked max",
        lambda x: ours.global_max_pool(x, mask=mask(x)),
        [ours.global_max_pool],
        [lambda x: maximum(x, ours.global_max_pool), lambda x: maximum(x, lambda kept: kept.amax((2, 3), keepdim=True))],
        2,
        1.5,
    ),
    ("pyramid avg", ours.spatial_pyramid_pool, [lambda x: ours.adaptive_avg_pool2d(x, 4)], [], 1.25, 0),
    ("pyramid max", lambda x: ours.spatial_pyramid_pool(x, mode="max"), [lambda x: ours.adaptive_max_pool2d(x, 4)], [], 1.25, 0),
]


def milliseconds(calls: list[Call], input: Tensor, seconds: float) -> list[float]:
    samples = alternate({str(place): lambda call=call: call(input) for place, call in enumerate(calls)}, seconds=seconds, least=9)  # type: ignore[misc]
    return [value * 1e3 for value in medians(samples).values()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a regular expression that names of operators must match")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row, all calls together")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", choices=memory.MODES, default="recycled")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    memory.choose(options.memory)
    missed = 0
    modules = peers()
    streaming = copying.compile_streaming()
    print(f"{options.threads} threads, {options.memory} memory, float32, medians, ms")
    print("| operator | input | layout | ours | slowest part | ratio | limit | compositions | times faster | limit | copies |")
    print("|" + "---|" * 11)
    for shape in SHAPES:
        for layout in (torch.contiguous_format, torch.channels_last):
            input = torch.randn(shape).contiguous(memory_format=layout)
            for name, pool, parts, composed_of, most, least in ROWS:
                if not re.search(options.only, name):
                    continue
                theirs_too = modules if name == "concat_pool" else {}
                names, compositions = ["ours", "torch", *theirs_too], [*composed_of, *theirs_too.values()]
                copies = copying.copies_into(input, streaming) if name == "mixed_pool" else []
                with torch.inference_mode():
                    ignoring = [lambda _, copy=copy: copy() for copy in copies]
                    own, *others = milliseconds([pool, *parts, *compositions, *ignoring], input, options.seconds)
                copied = [others.pop() for _ in copies][::-1]
                part, composed = max(others[: len(parts)]), others[len(parts) :]
                faster = min(composed) / own if composed else 0.0
                missed += own > most * part or faster < least
                words = ", ".join(f"{who} {value:.2f}" for who, value in zip(names, composed, strict=False))
                floor = ", ".join(f"into {places} {value:.2f}" for places, value in enumerate(copied, 1))
                print(
                    f"| {name} | {'x'.join(map(str, shape))} | {'first' if layout == torch.contiguous_format else 'last'} | {own:.2f} "
                    f"| {part:.2f} | {own / part:.2f} | {most} | {words} | {f'{faster:.2f} | {least}' if composed else ' | '} | {floor} |",
                    flush=True,
                )
    print(f"{missed} rows beyond their limits")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
