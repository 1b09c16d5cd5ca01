# SPDX-License-Identifier: BSD-3-Clause
"""Calls on which a long run disagreed, and what was wrong. FOUND is run by tests/test_fuzz.py on every instruction set.

HOSTILE are wrong calls, run by tests/test_hostile.py: the rows that `make hostile` prints (of "nan", `from math import nan`).
"""

from __future__ import annotations

from typing import Any

import torch

from battery import LAYOUTS, Variant
from cases import Case
from fuzz.draw import Row
from fuzz.hostile import Hostile
from good_calls import Base

_FIRST, _LAST = LAYOUTS
_LONG: dict[str, Any] = {"values": "lowest", "seed": 184063991}

FOUND = [
    # Averages of more than 1024 float32 elements with -inf among them: the lowest finite number came out, not -inf.
    Row("avg", Case("", "global", (8, 9, 23), batch=1, channels=7), Variant(torch.float32, _FIRST, "expanded", "shifted", True), **_LONG),
    Row("avg", Case("", "global", (6, 9, 23), batch=1, channels=9), Variant(torch.float32, _LAST, "transposed", "contiguous", True), **_LONG),
    Row(
        "pyramid", Case("", "adaptive", (38, 94), batch=3, channels=5), Variant(torch.float32, _FIRST, "expanded", "contiguous", True),
        **_LONG, more={"levels": (5, 1, 6), "mode": "avg"},
    ),
    # The gradient of a masked maximum of nothing but -inf went to an element that does not count.
    Row(
        "max", Case("", "global", (4, 7), batch=3, channels=17), Variant(torch.float64, _LAST, "contiguous", "other_layout", True),
        values="lowest", seed=165909130, more={"keepdim": True, "masked": "mask"},
    ),
    # The mean of an average and a maximum overflowed where only their sum is beyond the type.
    Row(
        "avgmax", Case("", "adaptive", (11, 7, 6), output=(21, 1, 2), batch=2, channels=3),
        Variant(torch.float16, _LAST, "transposed", "sliced", True), values="huge", grads="normal", seed=1036606659,
    ),
    # One result alone does not mean that its window is the whole plane.
    Row(
        "mixed", Case("", "sliding", (2,), (1,), (2,), (0,), batch=1, channels=1), Variant(torch.float32, _FIRST, "contiguous", "contiguous", True),
        channels_last_shape=True,
    ),
    # Without vectors, the position of a maximum was that of the first element.
    Row(
        "concat", Case("", "adaptive", (2,), output=1, batch=1, channels=1), Variant(torch.float32, _FIRST, "contiguous", "contiguous", True),
        more={"order": ("avg", "max")},
    ),
    # Two windows that read the same row divide by different counts.
    Row(
        "avg", Case("", "sliding", (1, 4), (4, 1), (2,), (2, 0), ceil_mode=True, batch=2, channels=33),
        Variant(torch.float32, _FIRST, "stepped", "ones", True), seed=801406946,
    ),
    # Of a row of results that is written twice, the end of the first went over the beginning of the second.
    Row(
        "concat", Case("", "adaptive", (2, 56), output=(4, 22), batch=2, channels=16), Variant(torch.float64, _FIRST, "sliced", "sliced", True),
        values="huge", grads="eighths", seed=266068263, isa="avx512", more={"order": ("avg", "max")},
    ),
    # CUDA kernels, axis by axis: an average of integers was divided, and rounded, once for each axis.
    Row(
        "avg", Case("", "sliding", (8, 1, 6), (6, 1, 6), None, (0, 0, 1), ceil_mode=True, count_include_pad=False, batch=1, channels=1),
        Variant(torch.int64, _FIRST, "contiguous", "contiguous", False), channels_last_shape=True,
    ),
    # More outputs than inputs in a plane: vectors of the gradient went beyond the tensor's end (seen under AddressSanitizer, and by free()).
    Row(
        "max", Case("", "sliding", (1,), (3,), 1, ((6, 5),), 3, ceil_mode=True, batch=1, channels=33),
        Variant(torch.float16, _FIRST, "sliced", "other_layout", True), values="infinite", grads="normal", seed=167372806, isa="avx512",
    ),
    # One row of more than a thousand channels, shared by threads, past the caches: parts without a position divided by zero.
    Row("avg", Case("", "global", (14, 14), batch=1, channels=2048), Variant(torch.float32, _FIRST, "contiguous", "contiguous", True)),
]  # fmt: skip

HOSTILE = [
    # spatial_pyramid_pool(x, (3037000500,)): a length that wraps around 64 bits to something small; it wrote beyond its result.
    Hostile("combined_pool:pyramid", Base(), {"kinds": [0], "sizes": [3037000500, 3037000500]}),
    # Division by the size of a level of nothing, which only the operators take.
    Hostile("combined_pool:pyramid", Base(), {"sizes": [1, 8, 0, 3]}),
    Hostile("combined_pool_backward:pyramid", Base(), {"sizes": [1, 8, 0, 3]}),
    # Padding without a stride was ignored.
    Hostile("combined_pool", Base(), {"padding": [1, 0, 0, 1]}),
    # A product of input_size beyond 64 bits was left to torch to refuse, whose words name no argument.
    Hostile("adaptive_max_pool_backward", Base(), {"grad_output": "meta", "offsets": "meta", "input_size": [2**31, 2**33]}),
    # A product of output_size beyond 64 bits: its strides wrapped around, and torch's words named no argument.
    Hostile("adaptive_max_pool", Base(), {"output_size": [2**32, 2**31 - 1]}),
    Hostile("adaptive_max_pool", Base(3, channels_last=True), {"input": "meta", "output_size": [2, 2**32, 2**31 - 1]}),
    Hostile("adaptive_max_pool_with_offsets", Base(3, torch.bfloat16, True), {"output_size": [2**40, 0, 3037000500]}),
    # So for a gradient of many channels, or of a large plane in each.
    Hostile("adaptive_avg_pool_backward", Base(), {"input_size": [2**31, 2**31 - 1]}),
    Hostile("adaptive_avg_pool_backward", Base(), {"grad_output": "meta", "input_size": [2**31, 2**31 - 1]}),
    # "rank must be 1, 2 or 3" of operators that take none.
    Hostile("adaptive_max_pool_indices", Base(), {"offsets": "scalar"}),
    Hostile("adaptive_max_pool", Base(), {"output_size": [2, 2, 2, 2]}),
    # Two averages over the same windows: the emulated kernels of CUDA wrote the second only.
    Hostile("combined_pool", Base(1, torch.float64, True), {"kinds": [0, 0]}),
    # Without data, wide offsets were of 32 bits whatever the window.
    Hostile("max_pool_with_offsets", Base(2, torch.int64, True, 2), {"kernel_size": [5, 2147483647], "wide_offsets": 1.5}),
]
