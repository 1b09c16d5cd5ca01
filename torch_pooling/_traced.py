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

from torch_pooling import _by_torch
from torch_pooling._library import ops

Ints = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]
OutputSize = int | Sequence[int | None]


def _list(value: Ints | None) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, (tuple, list)) else [value]  # type: ignore[list-item]


_SIZINGS = {"valid": 0, "same": 2, "same_lower": 3}  # as in csrc/core/window.h


def _padding(name: str, rank: int, padding: Padding, ceil_mode: bool) -> tuple[list[int], int]:
    """What the operators take for a padding: a list of ints, all starts before all ends, and a sizing."""
    if isinstance(padding, str):
        if padding not in _SIZINGS:
            raise ValueError(
                f"{name}(): argument 'padding' must be an int, a tuple of ints, one (begin, end) pair for each axis, 'valid', "
                f"'same' or 'same_lower', not {padding!r}"
            )
        return [0], _SIZINGS[padding] or int(ceil_mode)
    if not isinstance(padding, (tuple, list)) or not padding or not isinstance(padding[0], (tuple, list)):
        ints = _list(padding)  # type: ignore[arg-type]
        if len(ints) == 2 * rank:
            raise RuntimeError(f"{name}: padding must be a single int or a tuple of {rank} ints, but got {2 * rank} values")
        return ints, int(ceil_mode)
    if len(padding) != rank or any(not isinstance(pair, (tuple, list)) or len(pair) != 2 for pair in padding):
        raise RuntimeError(f"{name}: padding must have one (begin, end) pair for each of {rank} spatial axes, but got {padding}")
    return [pair[end] for end in (0, 1) for pair in padding], int(ceil_mode)


def serves(input: Tensor) -> bool:
    """Under a compiler: do our kernels take tensors of this device? See is_ours, which a compiler cannot look into."""
    return input.device.type in ("cpu", "cuda", "meta")


def channels_last(function: Callable[..., Any], rank: int, data_format: str, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """``function`` of a tensor [N, *spatial, C], or [*spatial, C]: a view goes in, and a view of the same kind comes out."""
    if data_format != "channels_last":
        name = function.__name__
        raise ValueError(f"{name}(): argument 'data_format' must be 'channels_first' or 'channels_last', not {data_format!r}")
    if not isinstance(input, Tensor) or input.dim() <= rank:
        return function(input, *args, **kwargs)  # which says what is wrong
    channel = -1 - rank
    result = function(input.movedim(-1, channel), *args, **kwargs)
    if isinstance(result, tuple):
        return tuple(part.movedim(channel, -1) for part in result)
    return result.movedim(channel, -1)


def traced_avg_pool(
    function: Callable[..., Tensor],
    rank: int,
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Padding,
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
    ints, sizing = _padding(function.__name__, rank, padding, ceil_mode)
    window = (rank, _list(kernel_size), _list(stride), ints, _list(dilation), sizing)
    if not serves(input):
        return _by_torch.avg_pool(input, *window, count_include_pad, divisor_override)
    return ops.avg_pool(input, *window, count_include_pad, divisor_override)


def traced_sum_pool(
    function: Callable[..., Tensor],
    rank: int,
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Padding,
    ceil_mode: bool,
    dilation: Ints,
) -> Tensor:
    if not is_dynamo_compiling():
        return handle_torch_function(
            function, (input,), input, kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode, dilation=dilation
        )
    ints, sizing = _padding(function.__name__, rank, padding, ceil_mode)
    window = (rank, _list(kernel_size), _list(stride), ints, _list(dilation), sizing)
    return ops.sum_pool(input, *window) if serves(input) else _by_torch.sum_pool(input, *window)


def traced_max_pool(
    function: Callable[..., Any],
    rank: int,
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Padding,
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
    ints, sizing = _padding(function.__name__, rank, padding, ceil_mode)
    window = (rank, _list(kernel_size), _list(stride), ints, _list(dilation), sizing)
    if not serves(input):
        return _by_torch.max_pool(input, *window, return_indices=return_indices)
    if not return_indices:
        return ops.max_pool(input, *window)
    output, offsets = ops.max_pool_with_offsets(input, *window, True)  # 32-bit offsets whatever the sizes will be
    return output, ops.max_pool_indices(offsets, input.shape[-rank:], *window)


def _sizes(kept: Sequence[int], output_size: OutputSize) -> list[int]:
    """One for each axis, None standing for the input's own size, of which ``kept`` are those of the spatial axes."""
    if isinstance(output_size, (tuple, list)):
        return [kept[axis] if size is None else size for axis, size in enumerate(output_size)]
    return [output_size] * len(kept)  # type: ignore[list-item]


def traced_adaptive_avg_pool(function: Callable[..., Tensor], rank: int, input: Tensor, output_size: OutputSize) -> Tensor:
    if not is_dynamo_compiling():
        return handle_torch_function(function, (input,), input, output_size)
    sizes = _sizes(input.shape[-rank:], output_size)
    return ops.adaptive_avg_pool(input, sizes) if serves(input) else _by_torch.adaptive_avg_pool(input, sizes)


def traced_adaptive_max_pool(
    function: Callable[..., Any], rank: int, input: Tensor, output_size: OutputSize, return_indices: bool
) -> Any:
    if not is_dynamo_compiling():
        return handle_torch_function(function, (input,), input, output_size, return_indices=return_indices)
    sizes = _sizes(input.shape[-rank:], output_size)
    if not serves(input):
        return _by_torch.adaptive_max_pool(input, sizes, return_indices)
    if not return_indices:
        return ops.adaptive_max_pool(input, sizes)
    output, offsets = ops.adaptive_max_pool_with_offsets(input, sizes, True)
    return output, ops.adaptive_max_pool_indices(offsets, input.shape[-rank:])
