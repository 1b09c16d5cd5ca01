"""What a compiler or an override of ``__torch_function__`` sees of the functional API.

Under a compiler each function becomes the operators of ``torch.ops.torch_pooling``; otherwise the public function itself is
handed to the override, with its own arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function

from torch_pooling._library import ops

Ints = int | Sequence[int]
OutputSize = int | Sequence[int | None]


def _list(value: Ints | None) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, (tuple, list)) else [value]  # type: ignore[list-item]


def traced_avg_pool(
    function: Callable[..., Tensor],
    rank: int,
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dilation: Ints,
) -> Tensor:
    if not is_dynamo_compiling():
        return handle_torch_function(
            function,
            (input,),
            input,
            kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=divisor_override,
            **({} if dilation == 1 else {"dilation": dilation}),
        )
    window = (rank, _list(kernel_size), _list(stride), _list(padding), _list(dilation), ceil_mode)
    return ops.avg_pool(input, *window, count_include_pad, divisor_override)


def traced_max_pool(
    function: Callable[..., Any],
    rank: int,
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    if not is_dynamo_compiling():
        return handle_torch_function(
            function,
            (input,),
            input,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
            return_indices=return_indices,
        )
    window = (rank, _list(kernel_size), _list(stride), _list(padding), _list(dilation), ceil_mode)
    if not return_indices:
        return ops.max_pool(input, *window)
    output, offsets = ops.max_pool_with_offsets(input, *window, True)  # 32-bit offsets whatever the sizes will be
    return output, ops.max_pool_indices(offsets, input.shape[-rank:], *window)


def _sizes(rank: int, input: Tensor, output_size: OutputSize) -> list[int]:
    if isinstance(output_size, (tuple, list)):
        kept = input.shape[-rank:]
        return [kept[axis] if size is None else size for axis, size in enumerate(output_size)]
    return [output_size] * rank  # type: ignore[list-item]


def traced_adaptive_avg_pool(function: Callable[..., Tensor], rank: int, input: Tensor, output_size: OutputSize) -> Tensor:
    if not is_dynamo_compiling():
        return handle_torch_function(function, (input,), input, output_size)
    return ops.adaptive_avg_pool(input, _sizes(rank, input, output_size))


def traced_adaptive_max_pool(
    function: Callable[..., Any], rank: int, input: Tensor, output_size: OutputSize, return_indices: bool
) -> Any:
    if not is_dynamo_compiling():
        return handle_torch_function(function, (input,), input, output_size, return_indices=return_indices)
    sizes = _sizes(rank, input, output_size)
    if not return_indices:
        return ops.adaptive_max_pool(input, sizes)
    output, offsets = ops.adaptive_max_pool_with_offsets(input, sizes, True)
    return output, ops.adaptive_max_pool_indices(offsets, input.shape[-rank:])
