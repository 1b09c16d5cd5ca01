# SPDX-License-Identifier: BSD-3-Clause
"""The numbers of a Row, from its seed: what its input, its grad_output and its mask hold."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fuzz.draw import Row

EXACT_SUMS = ("eighths", "ties", "zeros", "denormal", "nan", "infinite", "lowest")
_generator = torch.Generator()


def content_of(row: Row) -> Tensor:
    """[N, C, *spatial], float64 values that the row's type holds exactly, or int64."""
    case, dtype = row.case, row.variant.dtype
    _generator.manual_seed(row.seed)
    shape = (case.batch, case.channels, *case.size)
    content = _numbers(shape, row.values, dtype) if dtype.is_floating_point else _integers(shape, row.values, dtype)
    axis = {"batch": 0, "channel": 1, "width": len(shape) - 1}.get(row.variant.constant)
    return content if axis is None else content.narrow(axis, 0, min(1, shape[axis])).expand(shape).clone()


def _uniform(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=_generator, dtype=torch.float64)


def _numbers(shape: tuple[int, ...], values: str, dtype: torch.dtype) -> Tensor:
    info = torch.finfo(dtype)
    if values == "normal":
        return torch.randn(shape, generator=_generator, dtype=torch.float64).to(dtype).double()
    if values == "huge":
        return ((_uniform(shape) * 2 - 1) * info.max).to(dtype).double()
    most = 2 if values in ("ties", "zeros") else 63
    numbers = torch.randint(-most, most + 1, shape, generator=_generator).double()
    if values == "denormal":
        return numbers * (info.smallest_normal * info.eps)
    if values == "zeros":
        return torch.copysign(torch.zeros_like(numbers), numbers + 0.5)
    numbers /= 8
    if values == "nan":
        numbers[_uniform(shape) < 0.08] = math.nan
    elif values == "infinite":
        special = _uniform(shape)
        numbers[special < 0.05] = math.inf
        numbers[special > 0.95] = -math.inf
    elif values == "lowest":
        numbers[_uniform(shape) < 0.8] = -math.inf
    elif values not in ("eighths", "ties"):
        raise ValueError(f"unknown values {values!r}")
    return numbers


def _integers(shape: tuple[int, ...], values: str, dtype: torch.dtype) -> Tensor:
    info = torch.iinfo(dtype)
    if values == "huge":
        return torch.randint(max(info.min, -(2**62)), min(info.max, 2**62), shape, generator=_generator)
    most = 2 if values == "ties" else 63
    numbers = torch.randint(-most, most + 1, shape, generator=_generator) + (64 if dtype == torch.uint8 else 0)
    if values == "lowest":
        numbers[_uniform(shape) < 0.8] = info.min
    return numbers


def grad_of(row: Row, shape: torch.Size) -> tuple[Tensor, bool]:
    """float64 [N, ...] that the row's type holds, and whether sums of it are exact."""
    generator = torch.Generator().manual_seed(row.seed + 2)
    if row.variant.ones:
        return torch.ones(shape, dtype=torch.float64), True
    if row.grads == "normal":
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(row.variant.dtype).double(), False
    info = torch.finfo(row.variant.dtype)
    if row.grads == "huge":
        return ((torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1) * info.max).to(row.variant.dtype).double(), False
    grad = torch.randint(-63, 64, shape, generator=generator).double()
    if row.grads in ("denormal", "tiny"):  # tiny: up to twice the smallest normal number, most of them below it
        return grad * info.smallest_normal * (info.eps if row.grads == "denormal" else 1 / 32), True
    grad /= 8
    if row.grads == "nan":
        grad[torch.rand(shape, generator=generator) < 0.05] = math.nan
    elif row.grads == "infinite":
        special = torch.rand(shape, generator=generator)
        grad[special < 0.04] = math.inf
        grad[special > 0.96] = -math.inf
    elif row.grads != "eighths":
        raise ValueError(f"unknown gradients {row.grads!r}")
    return grad, True


def mask_of(row: Row) -> Tensor:
    """bool [N, *spatial]; of "lengths", also beyond both ends."""
    case = row.case
    _generator.manual_seed(row.seed + 1)
    if row.more["masked"] == "lengths":
        return torch.arange(case.size[0]) < lengths_of(row)[:, None]
    threshold = _uniform((case.batch, *(1,) * case.rank)) * 1.4 - 0.2
    return _uniform((case.batch, *case.size)) < threshold


def lengths_of(row: Row) -> Tensor:
    _generator.manual_seed(row.seed + 1)
    return torch.randint(-2, row.case.size[0] + 3, (row.case.batch,), generator=_generator)
