"""A right call of every operator of torch.ops.torch_pooling, as keyword arguments: what tests of wrong calls start from.

`calls(base)` gives them for one rank, type, layout and sizing; ALL and SINGLE are those of `Base()`.
"""
from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import torch_pooling  # noqa: F401 - registers the operators

OPS = torch.ops.torch_pooling
Calls = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Base:
    rank: int = 2
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    sizing: int = 0  # 0 floor, 1 ceil, 2 same, 3 same_lower: see csrc/ops/schema.cpp


@dataclass(frozen=True)
class _Geometry:
    size: list[int]
    kernel_size: list[int]
    padding: list[int]
    output_size: list[int]  # of adaptive pools
    part: list[int]  # of combined ones


GEOMETRIES = {
    1: _Geometry([7], [3], [1], [4], [3]),
    2: _Geometry([5, 6], [3, 2], [1, 0], [2, 4], [2, 3]),  # sliding windows give 3 x 3 outputs
    3: _Geometry([3, 5, 6], [2, 3, 2], [1, 1, 0], [2, 2, 4], [2, 3, 2]),
}
FLOATING = (torch.float32, torch.bfloat16, torch.float64)
DTYPES = (*FLOATING, torch.int8, torch.int64)


def takes(operator: str, dtype: torch.dtype) -> bool:
    """Maxima are of any numbers, sums and averages of sliding windows of int64 too, the rest of floating ones."""
    if dtype in FLOATING:
        return True
    if operator.startswith(("max_pool", "adaptive_max_pool", "masked_max_pool")):
        return not operator.endswith("backward")
    return dtype == torch.int64 and operator in ("avg_pool", "sum_pool")


def _laid_out(tensor: Tensor, base: Base) -> Tensor:
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1) if base.channels_last else tensor.contiguous()


def _input(base: Base) -> Tensor:
    shape = (2, 3, *GEOMETRIES[base.rank].size)
    return _laid_out(((torch.arange(torch.Size(shape).numel()) * 7) % 11).to(base.dtype).view(shape), base)


def _grad(shape: torch.Size, base: Base) -> Tensor:
    return _laid_out((torch.arange(shape.numel()) - 20).to(base.dtype).view(shape), base)


def window(base: Base) -> dict[str, Any]:
    geometry, one = GEOMETRIES[base.rank], [1] * base.rank
    return {
        "rank": base.rank, "kernel_size": geometry.kernel_size, "stride": [2] * base.rank,
        "padding": geometry.padding if base.sizing < 2 else [0] * base.rank, "dilation": one, "sizing": base.sizing,
    }  # fmt: skip


def _single(base: Base) -> Calls:
    input, sliding, geometry = _input(base), window(base), GEOMETRIES[base.rank]
    output_size, input_size, last = geometry.output_size, geometry.size, {"channels_last": base.channels_last}
    output, offsets = OPS.max_pool_with_offsets(input, **sliding)
    adaptive_output, adaptive = OPS.adaptive_max_pool_with_offsets(input, output_size)
    grad, adaptive_grad = _grad(output.shape, base), _grad(adaptive_output.shape, base)
    average = sliding | {"count_include_pad": True, "divisor_override": None}
    return {
        "max_pool": {"input": input, **sliding},
        "max_pool_with_offsets": {"input": input, **sliding, "wide_offsets": False},
        "avg_pool": {"input": input, **average},
        "sum_pool": {"input": input, **sliding},
        "adaptive_avg_pool": {"input": input, "output_size": output_size},
        "adaptive_max_pool": {"input": input, "output_size": output_size},
        "adaptive_max_pool_with_offsets": {"input": input, "output_size": output_size, "wide_offsets": False},
        "avg_pool_backward": {"grad_output": grad, "input_size": input_size, **average, **last},
        "sum_pool_backward": {"grad_output": grad, "input_size": input_size, **sliding, **last},
        "max_pool_backward": {"grad_output": grad, "offsets": offsets, "input_size": input_size, **sliding, **last},
        "max_pool_gather": {"input": input, "offsets": offsets, **sliding},
        "max_pool_indices": {"offsets": offsets, "input_size": input_size, **sliding},
        "adaptive_avg_pool_backward": {"grad_output": adaptive_grad, "input_size": input_size, **last},
        "adaptive_max_pool_backward": {"grad_output": adaptive_grad, "offsets": adaptive, "input_size": input_size, **last},
        "adaptive_max_pool_gather": {"input": input, "offsets": adaptive, "output_size": output_size},
        "adaptive_max_pool_indices": {"offsets": adaptive, "input_size": input_size},
    }


def _combined(base: Base) -> Calls:
    """Concatenations and means of an average and a maximum; pyramids of both; both of sliding windows."""
    geometry, one = GEOMETRIES[base.rank], [1] * base.rank
    ways: dict[str, dict[str, Any]] = {
        "": {"form": 0, "sizes": geometry.part * 2, "stride": [], "padding": []},
        ":mean": {"form": 1, "sizes": geometry.part * 2, "stride": [], "padding": []},
        ":pyramid": {"form": 2, "sizes": one + geometry.part, "stride": [], "padding": []},
        ":sliding": {
            "form": 0, "sizes": geometry.kernel_size, "stride": [2, 1, 2][: base.rank],
            "padding": geometry.padding + [1 - begin for begin in geometry.padding],
        },
    }  # fmt: skip
    input, calls = _input(base), {}
    for way, chosen in ways.items():
        both = {"rank": base.rank, "kinds": [0, 1], **chosen}
        output, offsets = OPS.combined_pool_with_offsets(input, **both)
        saved = {"grad_output": _grad(output.shape, base), "offsets": offsets, "input_size": geometry.size}
        calls |= {
            f"combined_pool{way}": {"input": input, **both},
            f"combined_pool_with_offsets{way}": {"input": input, **both, "wide_offsets": False},
            f"combined_pool_gather{way}": {"input": input, "offsets": offsets, **both},
            f"combined_pool_backward{way}": {**saved, **both, "channels_last": base.channels_last},
        }
    return calls


def _masked(base: Base) -> Calls:
    input = _input(base)
    shape = (2, *input.shape[2:])
    mask = torch.arange(torch.Size(shape).numel()).view(shape) % 3 > 0
    grad = (torch.arange(6) - 2).to(base.dtype).view(2, 3, *[1] * base.rank)
    return {
        "masked_avg_pool": {"input": input, "mask": mask},
        "masked_avg_pool_backward": {"grad_output": grad, "mask": mask, "channels_last": base.channels_last},
        "masked_max_pool": {"input": input, "mask": mask},
        "masked_max_pool_with_offsets": {"input": input, "mask": mask, "wide_offsets": False},
    }


@functools.cache
def calls(base: Base) -> Calls:
    """Of every operator that takes that type."""
    every = _single(base) | (_combined(base) if base.dtype in FLOATING else {}) | _masked(base)
    return {name: call for name, call in every.items() if takes(name, base.dtype)}


def operator_of(name: str) -> Any:
    """Of a key of ALL."""
    return getattr(OPS, name.partition(":")[0])


SINGLE = _single(Base())
ALL = calls(Base())
SIZE = GEOMETRIES[2].size
INPUT: Tensor = SINGLE["max_pool"]["input"]
GRAD: Tensor = SINGLE["avg_pool_backward"]["grad_output"]
