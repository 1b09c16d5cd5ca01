"""torch.library.opcheck, all four of its tests, on every registered operator.

Those are: the schema tells the truth about mutation and aliasing; autograd is registered at the right key; the fake
kernel gives the same shapes, dtypes and strides as the real one, with symbolic sizes too; forward and backward survive
AOTAutograd with dynamic shapes. The list of operators is compared with the dispatcher's own, so that a new operator
cannot stay unchecked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from cases import Case, adaptive, sliding

OPS = torch.ops.torch_pooling
SHAPES = ("batched", "channels_last", "unbatched", "empty_batch")
SLIDING = [
    sliding(9, 3, 2, 1, ceil_mode=True),
    sliding((5, 6), 2, 1, "same"),
    sliding((5, 6), 3, 2, ((2, 0), (0, 1))),
    sliding((6, 7), (3, 2), (2, 1), (1, 0), (1, 2), count_include_pad=False),
    sliding((6, 7), 2, divisor=3),
    sliding((4, 5, 6), (1, 2, 3), 2, (0, 1, 1)),
]
ADAPTIVE = [adaptive((7,), 3), adaptive((5, 6), (2, 4)), adaptive((4, 3, 5), (2, 3, 1))]
Call = tuple[str, tuple[Any, ...]]


def in_shape(case: Case, shape: str, generator: torch.Generator) -> Tensor:
    input = torch.randn(2, 3, *case.size, dtype=torch.float64, generator=generator)
    if shape == "channels_last":
        return input.movedim(1, -1).contiguous().movedim(-1, 1)
    return {"batched": input, "unbatched": input[0], "empty_batch": input[:0]}[shape]


def leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def sliding_calls(case: Case, input: Tensor, channels_last: bool) -> Iterator[Call]:
    spatial = list(case.size)
    stride = [] if case.stride is None else list(case.spread(case.stride))
    window = (case.rank, list(case.spread(case.kernel)), stride, case.operator_padding[0],
              list(case.spread(case.dilation)), case.operator_padding[1])
    average = (*window, case.count_include_pad, case.divisor)
    grad_output = torch.ones_like(OPS.avg_pool(input, *average))
    yield "avg_pool", (leaf(input), *average)
    yield "avg_pool_backward", (leaf(grad_output), spatial, *average, channels_last)
    yield "sum_pool", (leaf(input), *window)
    yield "sum_pool_backward", (leaf(grad_output), spatial, *window, channels_last)
    _, offsets = OPS.max_pool_with_offsets(input, *window)
    yield "max_pool", (leaf(input), *window)
    yield "max_pool_with_offsets", (leaf(input), *window)
    yield "max_pool_backward", (leaf(grad_output), offsets, spatial, *window, channels_last)
    yield "max_pool_gather", (leaf(input), offsets, *window)
    yield "max_pool_indices", (offsets, spatial, *window)


def adaptive_calls(case: Case, input: Tensor, channels_last: bool) -> Iterator[Call]:
    spatial, output = list(case.size), list(case.windows.output_size)
    grad_output = torch.ones_like(OPS.adaptive_avg_pool(input, output))
    yield "adaptive_avg_pool", (leaf(input), output)
    yield "adaptive_avg_pool_backward", (leaf(grad_output), spatial, channels_last)
    _, offsets = OPS.adaptive_max_pool_with_offsets(input, output)
    yield "adaptive_max_pool", (leaf(input), output)
    yield "adaptive_max_pool_with_offsets", (leaf(input), output)
    yield "adaptive_max_pool_backward", (leaf(grad_output), offsets, spatial, channels_last)
    yield "adaptive_max_pool_gather", (leaf(input), offsets, output)
    yield "adaptive_max_pool_indices", (offsets, spatial)


def masked_calls(shape: str) -> Iterator[Call]:
    input = in_shape(adaptive((5, 6), 1), shape, torch.Generator().manual_seed(1))
    mask = (torch.arange(2 * 5 * 6).view(2, 5, 6) % 3 > 0)[: input.shape[0]]
    yield "masked_avg_pool", (leaf(input), mask)
    yield "masked_avg_pool_backward", (leaf(torch.ones_like(input[..., :1, :1])), mask, shape == "channels_last")
    yield "masked_max_pool", (leaf(input), mask)
    yield "masked_max_pool_with_offsets", (leaf(input), mask)


def calls(case: Case, shape: str) -> Iterator[Call]:
    input = in_shape(case, shape, torch.Generator().manual_seed(1))
    make = sliding_calls if case.family == "sliding" else adaptive_calls
    return make(case, input, shape == "channels_last")


def registered_operators() -> set[str]:
    names = torch._C._dispatch_get_all_op_names()
    return {name.removeprefix("torch_pooling::").split(".")[0] for name in names if name.startswith("torch_pooling::")}


def test_every_operator_is_checked() -> None:
    checked = {name for case in (SLIDING[0], ADAPTIVE[0]) for name, _ in calls(case, "batched")}
    combined = {f"combined_pool{suffix}" for suffix in ("", "_with_offsets", "_gather", "_backward")}  # in test_combined.py
    masked = {name for name, _ in masked_calls("batched")}
    assert checked | combined | masked == registered_operators() and len(checked) >= 16


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", [*SLIDING, *ADAPTIVE], ids=lambda case: case.name)
def test_opcheck(case: Case, shape: str) -> None:
    check_all(calls(case, shape))


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "unbatched"])
def test_opcheck_of_masked(shape: str) -> None:
    check_all(masked_calls(shape))


def check_all(every: Iterator[Call]) -> None:
    for name, args in every:
        result = opcheck(getattr(OPS, name).default, args, raise_exception=False)
        assert set(result) == {
            "test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"}
        assert set(result.values()) == {"SUCCESS"}, (name, result)


@pytest.mark.parametrize("name", ["max_pool_with_offsets", "adaptive_max_pool_with_offsets"])
def test_wide_offsets(name: str) -> None:
    """The form that traced graphs hold: 32 bits whatever the window."""
    input = torch.randn(2, 3, 8, 8)
    window: tuple[Any, ...] = ([2, 2],) if name.startswith("adaptive") else (2, [2], [], [0], [1], False)
    opcheck(getattr(OPS, name).default, (leaf(input), *window), {"wide_offsets": True})
    values, narrow = getattr(OPS, name)(input, *window)
    values_too, wide = getattr(OPS, name)(input, *window, wide_offsets=True)
    assert narrow.dtype == torch.uint8 and wide.dtype == torch.int32
    assert torch.equal(values, values_too) and torch.equal(narrow.int(), wide)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bfloat16], ids=str)
def test_other_dtypes(dtype: torch.dtype) -> None:
    """opcheck without a gradient where there is none."""
    input = torch.arange(2 * 3 * 36).view(2, 3, 6, 6).to(dtype)
    window = (2, [3], [2], [1], [1], False)
    for name, args in (
        ("max_pool", window), ("max_pool_with_offsets", window), ("adaptive_max_pool", ([4, 3],)),
        *([("avg_pool", (*window, True, None))] if dtype != torch.int8 else []),
        *([("adaptive_avg_pool", ([4, 3],))] if dtype.is_floating_point else []),
    ):
        opcheck(getattr(OPS, name).default, (input, *args))


def test_schemas_can_be_read() -> None:
    """Names in the schemas are the field's, and no operator mutates or aliases."""
    for name in registered_operators():
        schema = getattr(OPS, name).default._schema
        assert not schema.is_mutable
        assert all(argument.alias_info is None for argument in [*schema.arguments, *schema.returns])
        assert schema.arguments[0].name in ("input", "grad_output", "offsets")
