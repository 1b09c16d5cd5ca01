"""What a compiler or an override of ``__torch_function__`` sees of the functional API.

Under a compiler each function becomes the operators of ``torch.ops.torch_pooling``; otherwise the public function itself is
handed to the override, with its own arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function, has_torch_function_unary

from torch_pooling import _by_torch
from torch_pooling._library import ops

Ints = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]
OutputSize = int | Sequence[int | None]


def _list(value: Ints | None) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, (tuple, list)) else [value]  # type: ignore[list-item]


def _check(name: str, flags: dict[str, Any], **ints: Any) -> None:
    """What the extension's parser refuses, in compiled code, which does not come there."""
    for argument, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name}(): argument '{argument}' must be bool, not {type(value).__name__}")
    for argument, value in ints.items():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(each, (tuple, list)) and argument == "padding":
                _check(name, {}, padding=each)
            elif isinstance(each, (bool, float)):
                raise TypeError(f"{name}(): argument '{argument}' must be int or tuple of ints, not {type(each).__name__}")


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


def window_args(
    name: str, rank: int, kernel_size: Ints, stride: Ints | None, padding: Padding, dilation: Ints, flags: dict[str, bool]
) -> tuple[int, list[int], list[int], list[int], list[int], int]:
    """What the operators take for a window. No list is empty: packages of AOTInductor do not keep those."""
    _check(name, flags, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
    ints, sizing = _padding(name, rank, padding, flags["ceil_mode"])
    kernel = _list(kernel_size)
    return rank, kernel, _list(stride) or kernel, ints, _list(dilation), sizing


def serves(input: Tensor) -> bool:
    """Under a compiler: do our kernels take tensors of this device? See is_ours, which a compiler cannot look into."""
    return input.device.type in ("cpu", "cuda", "meta")


def channels_last(function: Callable[..., Any], rank: int, data_format: str, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """``function`` of a tensor [N, *spatial, C], or [*spatial, C]: a view goes in, and a view of the same kind comes out."""
    if data_format != "channels_last":
        name = function.__name__
        raise ValueError(f"{name}(): argument 'data_format' must be 'channels_first' or 'channels_last', not {data_format!r}")
    if not isinstance(input, Tensor) and has_torch_function_unary(input):  # a proxy of torch.fx: it has no axes to move
        return handle_torch_function(function, (input,), input, *args, data_format=data_format, **kwargs)
    if not isinstance(input, Tensor) or input.dim() <= rank:
        return function(input, *args, **kwargs)  # which says what is wrong
    last = input.dim() - 1  # numbered from the front: ONNX's older exporter gets the others wrong
    result = function(input.movedim(last, last - rank), *args, **kwargs)
    if isinstance(result, tuple):
        return tuple(part.movedim(last - rank, last) for part in result)
    return result.movedim(last - rank, last)


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
    flags = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    window = window_args(function.__name__, rank, kernel_size, stride, padding, dilation, flags)
    _check(function.__name__, {}, divisor_override=divisor_override)
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
    window = window_args(function.__name__, rank, kernel_size, stride, padding, dilation, {"ceil_mode": ceil_mode})
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
    window = window_args(function.__name__, rank, kernel_size, stride, padding, dilation, {"ceil_mode": ceil_mode})
    if not serves(input):
        return _by_torch.max_pool(input, *window, return_indices=return_indices)
    if not return_indices:
        return ops.max_pool(input, *window)
    output, offsets = ops.max_pool_with_offsets(input, *window, True)  # 32-bit offsets whatever the sizes will be
    return output, ops.max_pool_indices(offsets, input.shape[-rank:], *window)


def _sizes(name: str, kept: Sequence[int], output_size: OutputSize) -> list[int]:
    """One for each axis, None standing for the input's own size, of which ``kept`` are those of the spatial axes."""
    rank = len(kept)
    if rank > 1 and isinstance(output_size, range):
        output_size = list(output_size)
    if not isinstance(output_size, (tuple, list)):
        _check(name, {}, output_size=output_size)
        return [output_size] * rank  # type: ignore[list-item]
    if len(output_size) != rank:
        raise RuntimeError(f"{name}: output_size must be a single int or a tuple of {rank} elements, but got {len(output_size)}")
    if rank == 1 and output_size[0] is None:
        raise TypeError(f"{name}(): argument 'output_size' must be int or tuple of ints, not NoneType")
    _check(name, {}, output_size=output_size)
    return [kept[axis] if size is None else size for axis, size in enumerate(output_size)]


def traced_adaptive_avg_pool(function: Callable[..., Tensor], rank: int, input: Tensor, output_size: OutputSize) -> Tensor:
    if not is_dynamo_compiling():
        return handle_torch_function(function, (input,), input, output_size)
    sizes = _sizes(function.__name__, input.shape[-rank:], output_size)
    return ops.adaptive_avg_pool(input, sizes) if serves(input) else _by_torch.adaptive_avg_pool(input, sizes)


def traced_adaptive_max_pool(
    function: Callable[..., Any], rank: int, input: Tensor, output_size: OutputSize, return_indices: bool
) -> Any:
    if not is_dynamo_compiling():
        return handle_torch_function(function, (input,), input, output_size, return_indices=return_indices)
    sizes = _sizes(function.__name__, input.shape[-rank:], output_size)
    if not serves(input):
        return _by_torch.adaptive_max_pool(input, sizes, return_indices)
    if not return_indices:
        return ops.adaptive_max_pool(input, sizes)
    output, offsets = ops.adaptive_max_pool_with_offsets(input, sizes, True)
    return output, ops.adaptive_max_pool_indices(offsets, input.shape[-rank:])
