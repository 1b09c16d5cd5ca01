# SPDX-License-Identifier: BSD-3-Clause
"""Calls of every operator for distributed_scenarios.py, and what is known of an operator beforehand."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from torch_pooling._library import ops

WINDOWS = (  # dilated and padded; with pairs of padding in ceil_mode; 'same'
    (2, [3, 2], [2, 1], [1, 1], [1, 2], 0), (2, [3], [2], [0, 1, 2, 1], [1], 1), (2, [2], [], [0], [1], 2),
)
ADAPTIVE = ([1, 1], [4, 3], [1, 3])
COMBINED = (  # concatenated, averaged, and flattened: global and not
    (0, [1, 0], [3, 2, 3, 2], [], []), (1, [0, 1], [1, 1, 1, 1], [], []), (2, [1, 1], [1, 1, 3, 3], [], []),
    (0, [0, 1], [1, 1, 1, 1], [], []), (0, [1, 0], [3, 3], [1, 1], [1, 1]), (1, [0, 1], [2, 2, 2, 2], [], []),
    (2, [0, 0], [1, 1, 3, 3], [], []), (2, [1], [1, 1], [], []),
)


def operator_calls(
    batch: int = 3, channels: int = 5, channels_last: bool = False, few: bool = False
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls of every operator."""
    torch.manual_seed(2)
    x = torch.randn(batch, channels, 9, 7)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    last = channels_last
    for window in WINDOWS[:1] if few else WINDOWS:
        average = (*window, False, None)
        y = ops.avg_pool(x, *average)
        g = torch.randn_like(y)
        _, offsets = ops.max_pool_with_offsets(x, *window)
        yield "avg_pool", (x, *average)
        yield "avg_pool_backward", (g, [9, 7], *average, last)
        yield "sum_pool", (x, *window)
        yield "sum_pool_backward", (g, [9, 7], *window, last)
        yield "max_pool", (x, *window)
        yield "max_pool_with_offsets", (x, *window)
        yield "max_pool_backward", (g, offsets, [9, 7], *window, last)
        yield "max_pool_gather", (x, offsets, *window)
        yield "max_pool_indices", (offsets, [9, 7], *window)
    for size in ADAPTIVE[:2] if few else ADAPTIVE:
        y, offsets = ops.adaptive_max_pool_with_offsets(x, size)
        g = torch.randn_like(y)
        yield "adaptive_avg_pool", (x, size)
        yield "adaptive_avg_pool_backward", (g, [9, 7], last)
        yield "adaptive_max_pool", (x, size)
        yield "adaptive_max_pool_with_offsets", (x, size)
        yield "adaptive_max_pool_backward", (g, offsets, [9, 7], last)
        yield "adaptive_max_pool_gather", (x, offsets, size)
        yield "adaptive_max_pool_indices", (offsets, [9, 7])
    mask = torch.rand(batch, 9, 7) < 0.6
    g = torch.randn(batch, channels, 1, 1)
    yield "masked_avg_pool", (x, mask)
    yield "masked_avg_pool_backward", (g, mask, last)
    yield "masked_max_pool", (x, mask)
    yield "masked_max_pool_with_offsets", (x, mask)
    for form, kinds, sizes, stride, padding in COMBINED[:4] if few else COMBINED:
        shape = (2, form, kinds, sizes, stride, padding)
        y = ops.combined_pool(x, *shape)
        g = torch.randn_like(y)
        offsets = None
        yield "combined_pool", (x, *shape)
        if 1 in kinds:
            yield "combined_pool_with_offsets", (x, *shape)
            _, offsets = ops.combined_pool_with_offsets(x, *shape)
        yield "combined_pool_gather", (x, offsets, *shape)
        yield "combined_pool_backward", (g, offsets, [9, 7], *shape, last)


def lies_apart(name: str, args: tuple[Any, ...]) -> bool:
    """Whether the channels of a shard do not follow each other in the result, or in grad_output."""
    shape = args[-7:-1] if name == "combined_pool_backward" else args[-6:]
    return name.startswith("combined") and shape[1] != 1


def linear(name: str, args: tuple[Any, ...]) -> bool:
    if name == "combined_pool":
        return 1 not in args[3]
    return name.startswith(("avg", "sum", "adaptive_avg", "masked_avg")) or name.endswith(("backward", "gather"))
