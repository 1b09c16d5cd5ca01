"""Pooling geometry as data: one table of sliding, adaptive and global windows that every battery walks over.

A Case says what to pool and how, never what to expect: `case.windows` asks the reference, `case.call` calls a
library (torch.nn.functional or torch_pooling.functional). CHANNELS rotate through the table, so that every
vector width meets every kind of window, with its neighbours on both sides.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Any

from torch import Tensor

import reference

Size = int | tuple[int, ...]
Padding = Size | str | tuple[tuple[int, int], ...]
CHANNELS = (1, 2, 3, 5, 7, 8, 9, 16, 17, 31, 33, 64, 65)
WIDTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65)


@dataclass(frozen=True)
class Case:
    """One call: the spatial size of the input and the arguments, as a user writes them."""

    name: str
    family: str  # "sliding", "adaptive" or "global"
    size: tuple[int, ...]
    kernel: Size = 1
    stride: Size | None = None
    padding: Padding = 0
    dilation: Size = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None
    output: int | tuple[int | None, ...] = 1
    batch: int = 2
    channels: int = 3
    average_only: bool = False  # differs from another case in arguments that maxima do not have

    @property
    def rank(self) -> int:
        return len(self.size)

    def spread(self, value: Size) -> tuple[int, ...]:
        return (value,) * self.rank if isinstance(value, int) else value

    @property
    def has_average(self) -> bool:
        """avg_pool3d, and no other function, refuses a kernel that is larger than the input without its padding."""
        return self.rank < 3 or self.pads_beyond_torch or self.family != "sliding" or all(k <= n for k, n in zip(self.spread(self.kernel), self.size))

    @property
    def pads_beyond_torch(self) -> bool:
        return isinstance(self.padding, str) or (isinstance(self.padding, tuple) and isinstance(self.padding[0], tuple))

    @property
    def pads(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of each axis, at its start and at its end."""
        if isinstance(self.padding, str):
            kernel, dilation = self.spread(self.kernel), self.spread(self.dilation)
            stride = kernel if self.stride is None else self.spread(self.stride)
            rule = reference.named_padding
            named = [rule(self.padding, *axis) for axis in zip(self.size, kernel, stride, dilation, strict=True)]
            return tuple(begin for begin, _ in named), tuple(end for _, end in named)
        if self.pads_beyond_torch:
            begins, ends = zip(*self.padding)  # type: ignore[arg-type]
            return begins, ends
        return self.spread(self.padding), self.spread(self.padding)  # type: ignore[arg-type]

    @property
    def operator_padding(self) -> tuple[list[int], int]:
        """What the operators take for it: a list, and a sizing."""
        if self.padding in ("same", "same_lower"):
            return [0], 2 if self.padding == "same" else 3
        begins, ends = self.pads
        return [*begins, *ends] if self.pads_beyond_torch and self.padding != "valid" else list(begins), int(self.ceil_mode)

    @property
    def windows(self) -> reference.Windows:
        return _windows(replace(self, name="", batch=0, channels=0))

    @property
    def divisors(self) -> list[int]:
        if self.family != "sliding":
            return self.windows.divisors(False)
        return self.windows.divisors(self.count_include_pad, self.divisor)

    def call(self, library: ModuleType, kind: str, input: Tensor, return_indices: bool = False) -> Any:
        """`kind`_pool of the input by `library`, kind "avg" or "max"."""
        extra: dict[str, Any] = {"return_indices": True} if return_indices else {}
        if self.family == "global":
            return getattr(library, f"global_{kind}_pool")(input, **extra)
        if self.family == "adaptive":
            return getattr(library, f"adaptive_{kind}_pool{self.rank}d")(input, self.output, **extra)
        function = getattr(library, f"{kind}_pool{self.rank}d")
        if kind == "max":
            return function(input, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode, **extra)
        # Only where used: torch's averages have no dilation, and its avg_pool1d has no divisor.
        extra |= {"dilation": self.dilation} if self.dilation != 1 else {}
        extra |= {"divisor_override": self.divisor} if self.divisor is not None else {}
        return function(
            input, self.kernel, self.stride, self.padding, self.ceil_mode, self.count_include_pad, **extra
        )

    def torch_has(self, kind: str) -> bool:
        """Whether torch defines this call at all."""
        if self.family == "global":
            return False
        if self.family == "adaptive":
            return True
        if self.pads_beyond_torch:
            return False
        kernel, padding = self.spread(self.kernel), self.pads[0]
        if any(p > k // 2 for p, k in zip(padding, kernel)):
            return False
        if kind == "max":
            return all(len(cell) for cell in self.windows.cells)
        return self.has_average and self.dilation == 1 and not (self.rank == 1 and self.divisor is not None)


@lru_cache(maxsize=64)
def _windows(case: Case) -> reference.Windows:
    if case.family == "global":
        return reference.whole(case.size)
    if case.family == "adaptive":
        output = case.output if isinstance(case.output, tuple) else (case.output,) * case.rank
        return reference.adaptive(case.size, output)
    kernel, dilation = case.spread(case.kernel), case.spread(case.dilation)
    stride = kernel if case.stride is None else case.spread(case.stride)
    ceil_mode = case.ceil_mode and case.padding not in ("same", "same_lower")
    return reference.sliding(case.size, kernel, stride, *case.pads, dilation, ceil_mode)


def _name(size: Sequence[int], kernel: Size, stride: Size | None, padding: Padding, dilation: Size) -> str:
    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return "x".join(map(text, value)) if isinstance(value[0], int) else "_".join(map(text, value))
        return str(value)

    name = f"{text(tuple(size))}-k{text(kernel)}"
    name += f"s{text(stride)}" if stride is not None else ""
    name += f"p{text(padding)}" if padding else ""
    return name + (f"d{text(dilation)}" if dilation != 1 else "")


def sliding(
    size: int | tuple[int, ...],
    kernel: Size,
    stride: Size | None = None,
    padding: Padding = 0,
    dilation: Size = 1,
    **more: Any,
) -> Case:
    shape = (size,) if isinstance(size, int) else size
    name = _name(shape, kernel, stride, padding, dilation) + "".join(f"-{key}{value}" for key, value in more.items())
    for long, short in (("ceil_modeTrue", "ceil"), ("count_include_padFalse", "nopad"), ("-average_onlyTrue", "")):
        name = name.replace(long, short)
    return Case(name, "sliding", shape, kernel, stride, padding, dilation, **more)


def adaptive(size: tuple[int, ...], output: int | tuple[int | None, ...], **more: Any) -> Case:
    name = f"{'x'.join(map(str, size))}-to-{output}".replace(", ", "x") + "".join(f"-{k}{v}" for k, v in more.items())
    return Case(f"adaptive-{name}", "adaptive", size, output=output, **more)


def whole(size: tuple[int, ...], **more: Any) -> Case:
    return Case("global-" + "x".join(map(str, size)) + "".join(f"-{k}{v}" for k, v in more.items()), "global", size, **more)


def _sliding_1d() -> list[Case]:
    cases = [sliding(width, 3, stride, 1) for width in WIDTHS for stride in (1, 2)]
    cases += [sliding(29, kernel, stride, kernel // 2) for kernel in (1, 2, 3, 4, 5, 6, 7) for stride in (1, 3, 5)]
    return cases + [
        sliding(5, 5),
        sliding(9, 2, 5),
        sliding(8, 3, 6, 1, 2, ceil_mode=True),
        sliding(2, 2, 1, 1, 3),  # a window without a tap inside the input
        sliding(13, 3, 2, 1, 2),
        sliding(19, 3, 1, 1, 3, ceil_mode=True),
        sliding(33, 4, 2, 2, 1, ceil_mode=True, count_include_pad=False),
        sliding(1000, 31, 1, 15),
        sliding(1100, 6, 1, 1, 3, channels=40),
        sliding(700, 256, 7, 128),  # 256 taps: the last window whose offsets fit a byte
        sliding(700, 257, 7, 128),
        sliding(5000, 3, 1, 1, batch=1),
        sliding(5000, 1921, 960, 960, batch=1),
        sliding(5000, 160, 80, channels=2),
        sliding(5000, 101, 1, 50, batch=1, channels=1),
        sliding(16387, 4, 2, batch=1, channels=1),
        sliding(66000, 65536, 97, batch=1, channels=2),  # the last window whose offsets fit 16 bits
        sliding(66000, 65537, 97, batch=1, channels=2),
    ]


def _sliding_2d() -> list[Case]:
    cases = [sliding((4, width), 3, stride, 1) for width in WIDTHS for stride in (1, 2)]
    cases += [sliding((5, width), 2) for width in WIDTHS if width > 1]
    cases += [sliding((5, width), 3, 2) for width in WIDTHS if width > 2]
    cases += [sliding((3, width), 2, 2, 1) for width in (23, 24, 65, 67)]
    cases += [sliding((11, 19), k, s, k // 2) for k in (1, 2, 3, 4, 5, 6, 7) for s in (1, 2, 3, 4, 5)]
    cases += [sliding((5, 6), 3, 1, 1, channels=channels) for channels in CHANNELS]
    cases += [sliding((7, 6), 2, channels=channels) for channels in CHANNELS]
    cases += [sliding((6, 7), 3, 2, 1, channels=channels, ceil_mode=True) for channels in CHANNELS]
    for kernel, stride, padding in (
        ((1, 3), (2, 1), (0, 1)),
        ((3, 1), (1, 2), (1, 0)),
        ((2, 5), (1, 3), (1, 2)),
        ((5, 2), (3, 1), (2, 0)),
        ((3, 2), (2, 3), (0, 1)),
        ((1, 1), (3, 2), (0, 0)),
        ((7, 1), (1, 1), (3, 0)),
        ((1, 9), (1, 1), (0, 4)),
    ):
        cases += [
            sliding((10, 21), kernel, stride, padding),
            sliding((9, 34), kernel, stride, padding, ceil_mode=True, count_include_pad=False),
        ]
    cases += [sliding((3, width), k, s, k // 2) for width in (129, 140, 263) for k, s in ((3, 1), (3, 2), (2, 2), (3, 3))]
    for dilation in (2, 3, (1, 3), (3, 1), (2, 1)):
        cases += [
            sliding((12, 20), 3, 1, 1, dilation),
            sliding((11, 18), (2, 3), (2, 1), (1, 0), dilation, ceil_mode=True),
        ]
    cases += [
        sliding((12, 13), 3, 1, 2, 2),  # padding up to half the dilated kernel
        sliding((12, 13), 3, 1, 2, 2, count_include_pad=False, average_only=True),
        sliding((12, 13), 3, 2, 3, 3, ceil_mode=True),
        sliding((2, 13), 2, None, 1, 3),  # windows without a tap inside the input
        sliding((2, 13), 2, 1, 1, 3, count_include_pad=False, average_only=True),
        sliding((1, 40), (3, 2), (6, 1), 1, (2, 3), ceil_mode=True),
    ]
    for size, kernel, stride, padding in (
        ((7, 8), 3, 2, 1),
        ((8, 7), 3, 2, 0),
        ((7, 7), 2, 3, 0),
        ((6, 9), (2, 4), (3, 3), (1, 2)),
        ((17, 31), 5, 4, 2),
    ):
        for ceil_mode in (False, True):
            cases += [sliding(size, kernel, stride, padding, ceil_mode=ceil_mode)]
            for more in ({"count_include_pad": False}, {"divisor": 1}, {"divisor": 7}, {"divisor": -3}):
                cases += [sliding(size, kernel, stride, padding, ceil_mode=ceil_mode, average_only=True, **more)]
    return cases + [
        sliding((7, 9), (7, 9)),
        sliding((4, 4), (4, 2), (1, 5), (2, 1)),
        sliding((3, 3), 4, 1, 2),
        sliding((9, 9), 2, 5),
        sliding((13, 40), (1, 2), (4, 6)),
        sliding((40, 37), 31, 1, 15, channels=2, batch=1),
        sliding((33, 70), 65, 3, 32, channels=2, batch=1),
        sliding((60, 64), 101, 4, 50, channels=1, batch=1),
        sliding((33, 45), (31, 5), (1, 2), (15, 2), channels=9, batch=1),
        sliding((20, 41), (5, 31), (2, 1), (2, 15), channels=3, batch=1),
        sliding((20, 24), 16, 2, 8),  # 256 taps
        sliding((20, 24), (16, 17), 2, 8),  # 272 taps
        sliding((24, 21), 17, 1, 8, channels=17, batch=1),
        sliding((260, 259), 256, 3, channels=2, batch=1),  # 65536 taps
        sliding((260, 262), 257, 3, channels=2, batch=1),  # 66049 taps
        sliding((7, 7), 3, 1, 1, batch=5, channels=65),
        sliding((3, 3), 3, 1, 1, batch=7, channels=33),
        sliding((1, 1), 1, batch=9, channels=17),
        sliding((1, 1), 3, 2, 1, batch=9, channels=17),
        sliding((64, 65), 3, 1, 1, batch=1, channels=2),
        sliding((64, 65), 2, batch=1, channels=8),
        sliding((35, 36), 3, 2, batch=1, channels=19),
        sliding((35, 36), 5, 1, 2, batch=1, channels=4),
        sliding((30, 30), 13, 1, 6, batch=1, channels=3),
        sliding((230, 84), 5, 1, 2, batch=1, channels=2),  # more rows than are reduced at once
        sliding((15, 20), (4, 7), 1, (0, 3), (2, 1), batch=1, channels=5),
        sliding((9, 7), (15, 16), 1, (7, 8), batch=1, channels=9),  # longer than the plane
        sliding((75, 150), 9, 1, 4, batch=1, channels=2),  # from here on several tiles of a GPU's block, in both directions
        sliding((70, 67), (7, 9), (2, 1), (3, 4), 2, batch=1, channels=9),
        sliding((34, 40), (9, 5), (1, 3), (4, 2), batch=1, channels=19),
    ]


def _sliding_3d() -> list[Case]:
    cases = [sliding((3, 4, width), 3, 1, 1) for width in (1, 2, 7, 8, 9, 16, 17, 33)]
    cases += [sliding((4, 5, 6), 2, channels=channels) for channels in CHANNELS]
    cases += [sliding((3, 5, 4), 3, 2, 1, channels=channels) for channels in CHANNELS]
    for more in ({"count_include_pad": False}, {"divisor": 5}, {"divisor": -2}):
        cases += [sliding((4, 5, 6), 3, 2, 1, ceil_mode=True, average_only=True, **more)]
    return cases + [
        sliding((4, 8, 9), (1, 3, 3), (1, 2, 2), (0, 1, 1)),
        sliding((3, 7, 70), (1, 3, 3), (1, 2, 2), (0, 1, 1)),
        sliding((4, 6, 67), 3, 2, 1),
        sliding((5, 6, 66), 2),
        sliding((4, 7, 101), (2, 3, 2), (1, 2, 2), (1, 1, 1), (2, 1, 1)),
        sliding((5, 7, 18), (3, 1, 1), 1, (1, 0, 0)),
        sliding((5, 6, 17), (2, 1, 3), (3, 2, 1), (1, 0, 1)),
        sliding((7, 8, 9), 2, 1, 1, (1, 2, 3)),
        sliding((7, 8, 9), 3, 1, 1, (3, 1, 2), ceil_mode=True),
        sliding((5, 6, 7), 2, 3, 1, ceil_mode=True),
        sliding((5, 6, 7), 2, 3, 1, ceil_mode=True, count_include_pad=False, average_only=True),
        # Divided by different counts, after more than a few taps of two axes.
        sliding((8, 1, 6), (6, 1, 6), None, (0, 0, 1), ceil_mode=True, count_include_pad=False, average_only=True),
        sliding((4, 5, 6), (4, 5, 6)),
        sliding((9, 10, 11), 7, 2, 3),  # 343 taps
        sliding((1, 1, 1), 1, batch=5, channels=9),
        sliding((8, 12, 16), 3, 1, 1, batch=1, channels=4),
        sliding((5, 5, 5), 1, (5, 4, 3)),
        sliding((2, 9, 2), 2, 1, 1, 3),  # windows without a tap inside the input
    ]


def _padded_beyond_torch() -> list[Case]:
    """'same' and its kin, and paddings that differ from end to end, up to the whole window but one element."""
    cases = [sliding(width, k, s, "same") for width, k, s in ((1, 2, 1), (7, 2, 1), (17, 4, 2), (33, 3, 2), (64, 6, 1), (65, 9, 3))]
    cases += [sliding((9, width), k, s, name) for width in (8, 33, 130) for k, s in ((2, 1), (3, 2), (4, 3)) for name in ("same", "same_lower")]
    cases += [sliding((5, 6), 2, 1, "same", channels=channels) for channels in CHANNELS]
    cases += [sliding((6, 7), 3, 2, ((0, 1), (2, 0)), channels=channels) for channels in CHANNELS]
    for padding in ("same", "same_lower", ((2, 0), (0, 3)), ((1, 2), (3, 1))):
        for more in ({"count_include_pad": False}, {"divisor": 3}, {"ceil_mode": True}):
            cases += [sliding((11, 14), (3, 4), (2, 3), padding, average_only="ceil_mode" not in more, **more)]
    return cases + [
        sliding(13, 5, 2, ((4, 0),)),
        sliding(13, 5, 1, ((0, 4),)),
        sliding(13, 4, 3, ((3, 3),), ceil_mode=True),
        sliding(13, 4, 3, ((3, 3),), ceil_mode=True, count_include_pad=False, average_only=True),
        sliding((10, 11), 3, 2, "valid"),
        sliding((10, 11), 3, 2, "valid", ceil_mode=True),
        sliding((9, 10), 3, 1, "same", 2),
        sliding((9, 10), (2, 3), 2, "same_lower", (3, 2), count_include_pad=False, average_only=True),
        sliding((2, 13), 2, 1, "same", 5),  # windows without a tap inside the input
        sliding((12, 13), 3, 1, ((4, 1), (0, 3)), 2),
        sliding((40, 37), 30, 1, "same", channels=2, batch=1),
        sliding((40, 41), (9, 31), (2, 1), ((8, 1), (3, 30)), channels=5, batch=1),
        sliding((20, 24), 17, 1, "same_lower", channels=17, batch=1),
        sliding((35, 36), 3, 2, "same", batch=1, channels=19),
        sliding((64, 65), 3, 1, "same", batch=1, channels=2),
        sliding((3, 3), 7, 2, "same", batch=2, channels=9),
        sliding((3, 5, 4), 2, 1, "same", channels=5),
        sliding((3, 5, 4), 3, 2, "same_lower", channels=8),
        sliding((5, 4, 6), (2, 3, 4), (2, 1, 3), ((1, 0), (0, 2), (3, 1)), channels=3),
        sliding((5, 4, 6), (2, 3, 4), (2, 1, 3), ((1, 0), (0, 2), (3, 1)), count_include_pad=False, average_only=True),
        sliding((2, 2, 2), 3, 1, "same"),  # a kernel larger than the input, which torch's avg_pool3d has not
    ]


def _adaptive() -> list[Case]:
    cases = [adaptive((size,), out) for size, out in ((10, 3), (224, 13), (5, 3), (2, 4), (13, 7), (20, 1), (8, 4))]
    cases += [adaptive((17,), 17), adaptive((1,), 5), adaptive((5000,), 7, batch=1), adaptive((9, 8), (None, 1))]
    cases += [adaptive((5, 7), (2, 3), channels=channels) for channels in CHANNELS]
    cases += [adaptive((14, 14), 7), adaptive((13, 13), 7), adaptive((7, 5), (3, 4)), adaptive((8, 8), 4)]
    cases += [adaptive((9, 7), 1), adaptive((17, 33), (5, None)), adaptive((1, 1), (3, 2)), adaptive((2, 3), (4, 7))]
    cases += [adaptive((30, 30), out) for out in (2, 3, 6)] + [adaptive((224, 10), (13, 3), batch=1)]
    cases += [adaptive((3, 3), (None, None)), adaptive((4, 65), (1, 9)), adaptive((6, 64), (6, 4)), adaptive((40, 40), 1)]
    cases += [adaptive((300, 300), (1, 2), batch=1, channels=2)]
    cases += [adaptive((9, 40), (70, 90), batch=1, channels=2), adaptive((40, 19), (90, 100), batch=1, channels=3)]
    cases += [adaptive((3, 4, 5), (2, 2, 2), channels=channels) for channels in (1, 3, 8, 17, 33)]
    cases += [adaptive((4, 5, 6), (2, 3, 4)), adaptive((4, 5, 6), (None, 3, 1)), adaptive((2, 2, 4), 2)]
    # Rows of many vectors, which several rows of gradients repeat.
    cases += [adaptive((10, 300), (3, 150), batch=1, channels=2), adaptive((13, 61), (7, 23), batch=1, channels=5)]
    cases += [adaptive((2, 56), (4, 22), batch=1, channels=3), adaptive((2, 150), (5, 61), batch=1, channels=3)]  # rows written again
    return cases + [adaptive((3, 5, 7), 1), adaptive((1, 2, 3), (2, 4, 6)), adaptive((6, 6, 8), (3, 2, 4))]


def _whole() -> list[Case]:
    sizes = ((1,), (7,), (64,), (5000,), (1, 1), (7, 7), (3, 65), (14, 14), (8, 16), (2, 3, 5), (4, 7, 9))
    return [whole(size) for size in sizes] + [whole((7, 7), channels=channels) for channels in CHANNELS]


def _rotate_channels(cases: list[Case]) -> list[Case]:
    """Give the cases that name no channels a count of their own, small where the plane is large."""
    result = []
    for number, case in enumerate(cases):
        if "channels" not in case.name:
            choices = CHANNELS if math.prod(case.size) <= 400 else (1, 3, 9)
            case = replace(case, channels=choices[number % len(choices)])
        result.append(case)
    return result


CASES = _rotate_channels(_sliding_1d() + _sliding_2d() + _sliding_3d() + _padded_beyond_torch() + _adaptive() + _whole())
AVERAGES = [case for case in CASES if case.has_average]
MAXIMA = [case for case in CASES if not case.average_only]
assert len({case.name for case in CASES}) == len(CASES)
