# SPDX-License-Identifier: BSD-3-Clause
"""One generator of whole calls: operator, sizes, windows, type, memory, values. A Row is data, and its repr is a test's row.

`draw` asks a `random.Random` for numbers and for nothing else. A plain one gives thousands of rows a second, each repeatable
from its seed; hypothesis' own (`st.randoms(use_true_random=False)`) gives the same rows, and shrinks them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

import torch

from battery import FLOATS, GRAD_VIEWS, INTEGERS, LAYOUTS, Variant
from battery import VIEWS as BATTERY_VIEWS
from cases import CHANNELS, Case, Padding, Size

KINDS = ("max", "avg", "sum", "concat", "avgmax", "pyramid", "mixed")
# What a tensor holds. "eighths" are exact in every type and so are their sums; "lowest" is -inf (or the lowest integer) mostly.
VALUES = ("eighths", "normal", "ties", "zeros", "huge", "denormal", "nan", "infinite", "lowest")
GRADS = ("eighths", "normal", "huge", "denormal", "tiny", "nan", "infinite")
VIEWS = (*BATTERY_VIEWS, "expanded_channels", "expanded_width")
THREADS = ((8, 1), (1, 2), (1, 5))  # with their weights
MOST_ELEMENTS, LARGE_ELEMENTS = 12_000, 60_000
WIDE_ELEMENTS, WIDE_CHANNELS = 1_200_000, 3000  # where threads share one row of many channels
Item = TypeVar("Item")


@dataclass(frozen=True)
class Row:
    """One call. `more`: arguments of combined and masked operators. `seed`: of the values."""

    kind: str
    case: Case
    variant: Variant
    values: str = "eighths"
    grads: str = "eighths"
    seed: int = 0
    channels_last_shape: bool = False  # data_format="channels_last"
    isa: str = ""
    past_caches: bool = False
    threads: int = 1
    again: bool = False  # also the gradient of the gradient, and a tangent
    more: dict[str, Any] = field(default_factory=dict)


def one_of(random: Random, *choices: tuple[int, Item]) -> Item:
    """Choices with their weights."""
    place = random.randrange(sum(weight for weight, _ in choices))
    for weight, choice in choices:
        if place < weight:
            return choice
        place -= weight
    raise AssertionError("weights add up")


def among(random: Random, items: Sequence[Item]) -> Item:
    return items[random.randrange(len(items))]


def between(random: Random, low: int, high: int) -> int:
    return low + random.randrange(high - low + 1)


def draw(random: Random, kind: str | None = None, instruction_sets: Sequence[str] = ("",)) -> Row:
    """A call that is legal, of one kind or of any."""
    kind = kind or one_of(random, (10, "max"), (8, "avg"), (2, "sum"), (1, "concat"), (1, "avgmax"), (1, "pyramid"), (1, "mixed"))
    threads = one_of(random, *THREADS)
    # What is small is one thread's, whatever there are: below 32768 taps, or 64 KiB.
    many = threads > 1 and random.randrange(3) == 2
    large, wide = random.randrange(40 if threads == 1 else 10) == 0, random.randrange(800 if threads == 1 else 150) == 0
    size = _size(random, large)
    more: dict[str, Any] = {}
    if kind in ("max", "avg", "sum"):
        families = (("sliding", 7), ("adaptive", 3), ("global", 2)) if kind != "sum" else (("sliding", 1),)
        family = one_of(random, *((weight, name) for name, weight in families))
        case = _geometry(random, family, kind, size, large)
        if family == "global":
            more = _head(random, kind, len(size))
    elif kind == "mixed":
        case = _mixed(random, size)
    else:
        case = Case("", "adaptive", size, output=_output(random, size, named=kind != "pyramid"))
        if kind == "concat":
            more["order"] = among(random, (("avg", "max"), ("max", "avg")))
        if kind == "pyramid":
            more = {"levels": tuple(between(random, 1, 6) for _ in range(between(random, 1, 4))), "mode": among(random, ("avg", "max"))}
    combined = kind in ("concat", "avgmax", "pyramid", "mixed")
    batched = combined or case.family == "global" or random.randrange(4) > 0
    case = _with_planes(random, case, batched, WIDE_ELEMENTS if wide else LARGE_ELEMENTS if large or many else MOST_ELEMENTS, wide or many)
    if kind == "max" and not more.get("masked"):
        dtype = among(random, FLOATS) if random.randrange(3) else among(random, INTEGERS)
    else:
        long = large and max(case.spread(case.kernel)) > 99  # torch has no averages of integers in 1-D, and the reference takes a minute
        integers = kind in ("avg", "sum") and case.family == "sliding" and random.randrange(8) == 0 and not long
        dtype = torch.int64 if integers else among(random, FLOATS)
    channels_last_shape = random.randrange(8) == 0
    variant = Variant(dtype, among(random, LAYOUTS), among(random, VIEWS), among(random, GRAD_VIEWS), batched)
    values = among(random, VALUES if dtype.is_floating_point else ("eighths", "ties", "lowest", "huge"))
    if values in ("huge", "lowest") and kind in ("avg", "sum") and not dtype.is_floating_point:
        values = "eighths"  # the sum of such integers is not defined
    grads = one_of(random, *((5 if grads in ("eighths", "normal") else 1, grads) for grads in GRADS))
    return Row(
        kind, case, variant, values, grads, random.randrange(1 << 30),
        channels_last_shape, among(random, instruction_sets), random.randrange(10) == 0, threads, random.randrange(8) == 7, more,
    )  # fmt: skip


def _size(random: Random, large: bool) -> tuple[int, ...]:
    """Small, with one axis now and then beyond the widest vectors; large planes beyond a tile."""
    rank = one_of(random, (3, 1), (5, 2), (3, 3))
    if large:
        return tuple(between(random, 1, most) for most in {1: (20_000,), 2: (150, 160), 3: (12, 40, 45)}[rank])
    size = [between(random, 1, 9) for _ in range(rank)]
    if random.randrange(3) == 0:
        size[-1 if random.randrange(3) else 0] = between(random, 8, one_of(random, (4, 40), (1, 150)))
    return tuple(size)


def _with_planes(random: Random, case: Case, batched: bool, most_elements: int, wide: bool) -> Case:
    most = max(1, most_elements // math.prod(case.size))
    channels = min(between(random, 200, WIDE_CHANNELS) if wide else among(random, CHANNELS), most)
    batch = min(one_of(random, (1, 0), (8, 1), (8, 2), (3, 3), (1, 7)), max(1, most // channels))
    return replace(case, channels=channels, batch=batch if batched else 1)


def _as_written(random: Random, values: Sequence[int]) -> Size:
    """An int where all are equal, mostly."""
    return values[0] if len(set(values)) == 1 and random.randrange(4) else tuple(values)


def _geometry(random: Random, family: str, kind: str, size: tuple[int, ...], large: bool) -> Case:
    if family == "global":
        return Case("", "global", size)
    if family == "adaptive":
        return Case("", "adaptive", size, output=_output(random, size, named=True))
    return _sliding(random, kind, size, large)


def _output(random: Random, size: tuple[int, ...], named: bool) -> Any:
    """An adaptive output size: below the input's, equal, above, or None."""
    if random.randrange(5) == 0:
        return between(random, 1, 7)
    return tuple(
        None if named and len(size) > 1 and random.randrange(8) == 0
        else one_of(random, (4, between(random, 1, length)), (1, between(random, 1, min(2 * length, 40))), (1, 1)) for length in size
    )  # fmt: skip


def _kernels(random: Random, size: tuple[int, ...]) -> list[int]:
    same = random.randrange(2) == 0
    first = one_of(random, (6, between(random, 1, 4)), (2, between(random, 1, 9)), (1, between(random, 1, 33)))
    return [first if same else one_of(random, (5, between(random, 1, 4)), (1, between(random, 1, max(size)))) for _ in size]


def _sliding(random: Random, kind: str, size: tuple[int, ...], large: bool) -> Case:
    rank = len(size)
    kernel = _kernels(random, size)
    dilated = random.randrange(4) == 0 and not (large and kind != "max")
    dilation = [between(random, 1, one_of(random, (5, 3), (1, 9))) for _ in size] if dilated else [1] * rank
    form = "ints" if large else one_of(random, (7, "ints"), (1, "same"), (1, "same_lower"), (1, "valid"), (2, "pairs"))
    begin, end = [0] * rank, [0] * rank
    for axis in range(rank):
        if form == "same" or form == "same_lower":
            break
        # The dilation, then the kernel, give way until a window fits.
        while True:
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            if form == "ints":
                # Averages take the padding of the undilated kernel, mostly, which torch has as well.
                most = reach // 2 if random.randrange(3) == 0 else kernel[axis] // 2
                begin[axis] = end[axis] = between(random, 0, most)
            elif form == "pairs":
                begin[axis], end[axis] = between(random, 0, reach - 1), between(random, 0, reach - 1)
            fits = reach <= size[axis] + begin[axis] + end[axis]
            refused = kind == "avg" and rank == 3 and form != "pairs" and kernel[axis] > size[axis]  # as torch's avg_pool3d does
            if fits and not refused:
                break
            dilation[axis] = 1
            if refused or dilation[axis] * (kernel[axis] - 1) + 1 > size[axis]:
                kernel[axis] = between(random, 1, size[axis])
    stride: Size | None = None
    if random.randrange(4):
        strides = [between(random, 1, one_of(random, (6, 3), (1, kernel[axis] + 3))) for axis in range(rank)]
        stride = _as_written(random, [strides[0]] * rank if random.randrange(2) else strides)
    padding: Padding = _as_written(random, begin)
    if form == "pairs":
        padding = tuple(zip(begin, end, strict=True))
    elif form != "ints":
        padding = form
    average = kind == "avg"
    return Case(
        "", "sliding", size, _as_written(random, kernel), stride, padding, _as_written(random, dilation),
        ceil_mode=random.randrange(3) == 0, count_include_pad=not average or random.randrange(3) > 0,
        divisor=among(random, (1, 2, 7, -3)) if average and random.randrange(6) == 0 else None,
    )  # fmt: skip


def _mixed(random: Random, size: tuple[int, ...]) -> Case:
    """What max and average pools take alike."""
    kernel = [min(between(random, 1, 5), length) for length in size]
    padding = [between(random, 0, length // 2) for length in kernel]
    stride = [between(random, 1, 3) for _ in size]
    return Case("", "sliding", size, tuple(kernel), tuple(stride), tuple(padding))


def _head(random: Random, kind: str, rank: int) -> dict[str, Any]:
    """Of global pools: `keepdim`, and sometimes "mask" or "lengths", whose values come from the seed."""
    forms = ("", "", "mask", "lengths") if rank == 1 else ("", "mask")
    form = among(random, forms)
    return {"keepdim": random.randrange(2) == 0, **({"masked": form} if form else {})}
