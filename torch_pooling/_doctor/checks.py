# SPDX-License-Identifier: BSD-3-Clause
"""Every public function on a few inputs, against torch's own operators: rows as data, one comparison (_demo/agreement.py).

What torch has no function for (sums, dilated averages, uneven padding, combinations) is compared with what _by_torch.py makes
of torch's other operators. Each row runs on every instruction set of this processor, and on the GPU where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as torch_functional

from torch_pooling import _by_torch, _library, functional
from torch_pooling._demo.agreement import compare

SIZES = {1: (67,), 2: (19, 35), 3: (7, 9, 17)}  # no multiple of a vector: the ends of rows are looked at too
SOME = [(torch.float32, "channels_first"), (torch.float32, "channels_last"), (torch.bfloat16, "channels_first")]
ALL = [*SOME, (torch.float64, "channels_first"), (torch.float16, "channels_first"), (torch.float16, "channels_last")]


@dataclass(frozen=True)
class Check:
    function: str  # in torch_pooling.functional
    title: str
    rank: int
    ours: Callable[[Tensor], Tensor]
    theirs: Callable[[Tensor], Tensor]
    selects: bool = False  # values are copies of inputs, and must be equal

    def takes(self, dtype: torch.dtype) -> bool:
        """A combination adds up the gradients of its parts, which in 16 bits are rounded first: more than a comparison allows."""
        return self.function not in ("concat_pool", "mixed_pool", "spatial_pyramid_pool") or dtype.itemsize > 2


def checks() -> Iterator[Check]:
    """Every function of torch_pooling.functional, each at least once."""
    for rank in (1, 2, 3):
        yield from _like_torch(rank)
        yield from _beyond_torch(rank)


def _like_torch(rank: int) -> Iterator[Check]:
    windows: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("max_pool", (3, 2, 1), {}), ("max_pool", (2, 2), {"ceil_mode": True}), ("max_pool", (3, 1, 2), {"dilation": 2}),
        ("avg_pool", (3, 2, 1), {}), ("avg_pool", (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}),
        ("adaptive_max_pool", (5,), {}), ("adaptive_avg_pool", (5,), {}), ("adaptive_avg_pool", (1,), {}),
    ]
    for stem, arguments, named in windows:
        name = f"{stem}{rank}d"
        said = ", ".join(["x", *map(str, arguments), *(f"{key}={value}" for key, value in named.items())])
        ours = partial(_called, getattr(functional, name), arguments, named)
        theirs = partial(_called, getattr(torch_functional, name), arguments, named)
        if "dilation" in named:  # torch refuses a padding above half of the undilated kernel
            theirs = partial(_called, _by_torch.max_pool, (rank, [3], [1], [2], [2], 0), {})
        yield Check(name, f"{name}({said})", rank, ours, theirs, selects="max" in stem)


def _called(function: Callable[..., Tensor], arguments: tuple[Any, ...], named: dict[str, Any], x: Tensor) -> Tensor:
    return function(x, *arguments, **named)


def _beyond_torch(rank: int) -> Iterator[Check]:
    def check(name: str, said: str, ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], selects: bool = False) -> Check:
        return Check(name, f"{name}(x{said}), rank {rank}", rank, ours, theirs, selects)

    def adaptive(kind: str, size: int) -> Callable[[Tensor], Tensor]:
        return lambda x: getattr(torch_functional, f"adaptive_{kind}_pool{rank}d")(x, size)

    average, maximum = adaptive("avg", 1), adaptive("max", 1)
    averages, maxima = (getattr(torch_functional, f"{kind}_pool{rank}d") for kind in ("avg", "max"))
    avg_pool, max_pool, sum_pool = (f"{stem}_pool{rank}d" for stem in ("avg", "max", "sum"))
    yield check(avg_pool, ", 3, 2, dilation=2", lambda x: getattr(functional, avg_pool)(x, 3, 2, dilation=2),
                lambda x: _by_torch.avg_pool(x, rank, [3], [2], [0], [2], 0, True, None))
    yield check(max_pool, ", 3, 2, 'same'", lambda x: getattr(functional, max_pool)(x, 3, 2, "same"),
                lambda x: _by_torch.max_pool(x, rank, [3], [2], [0], [1], 2), True)
    yield check(sum_pool, ", 3, 2, 1", lambda x: getattr(functional, sum_pool)(x, 3, 2, 1),
                lambda x: _by_torch.sum_pool(x, rank, [3], [2], [1], [1], 0))
    yield check("global_avg_pool", "", functional.global_avg_pool, average)
    yield check("global_max_pool", "", functional.global_max_pool, maximum, True)
    yield check("concat_pool", "", functional.concat_pool, lambda x: torch.cat([average(x), maximum(x)], 1))
    yield check("avgmax_pool", "", functional.avgmax_pool, lambda x: (average(x) + maximum(x)) / 2)
    yield check("mixed_pool", "", functional.mixed_pool, lambda x: torch.cat([maxima(x, 3, 1, 1), averages(x, 3, 1, 1)], 1))
    yield check("spatial_pyramid_pool", "", lambda x: functional.spatial_pyramid_pool(x, (1, 2)).unflatten(1, (-1, 1)),
                lambda x: torch.cat([average(x).flatten(1), adaptive("avg", 2)(x).flatten(1)], 1).unflatten(1, (-1, 1)))


def input_for(check: Check, dtype: torch.dtype, layout: str, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    content = torch.randn(2, 19, *SIZES[check.rank], generator=generator)
    if layout == "channels_last":
        content = content.movedim(1, -1).contiguous().movedim(-1, 1)
    return content.to(device, dtype)


def places() -> Iterator[tuple[str, str, list[tuple[torch.dtype, str]]]]:
    """(what runs, device, types and layouts): every instruction set, and the GPU; the choice of the user is put back afterwards."""
    if _library.compiled_instruction_sets():
        chosen = _library.instruction_set()
        try:
            for name in _library.instruction_sets():
                _library.force_instruction_set(name)
                yield name, "cpu", ALL if name == chosen else SOME
        finally:
            _library.force_instruction_set(chosen)
    if _library.cuda_version() is not None and torch.cuda.is_available():
        yield "cuda", "cuda", ALL


def run() -> Iterator[tuple[str, int, list[str]]]:
    """For each function: its name, how many comparisons there were, and a sentence for each that failed."""
    counts: dict[str, int] = {}
    failures: dict[str, list[str]] = {}
    for place, device, inputs in places():
        for check in checks():
            for dtype, layout in (each for each in inputs if check.takes(each[0])):
                said = said_of(check, input_for(check, dtype, layout, device))
                counts[check.function] = counts.get(check.function, 0) + 1
                if said is not None:
                    where = f"{str(dtype).removeprefix('torch.')}, {layout}, {place}"
                    failures.setdefault(check.function, []).append(f"{check.title}, {where}: {said}")
    for name in counts:
        yield name, counts[name], failures.get(name, [])


def said_of(check: Check, x: Tensor) -> str | None:
    try:
        return compare(check.ours, check.theirs, x, selects=check.selects)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
