"""Pooling functions with the names, arguments, results and errors of ``torch.nn.functional``.

Tensors are ``[N, C, *spatial]`` or, unbatched, ``[C, *spatial]``, in channels-first or channels-last memory; results keep the
memory format. Supported types on the CPU: float32, float64, bfloat16 and float16 everywhere; int8, uint8, int16, int32 and
int64 for maxima; int64 for windowed averages (which truncate towards zero).

Each function enters C++ directly; under a compiler it calls the operator in ``torch.ops.torch_pooling``, and arguments that
override ``__torch_function__`` are handed the function itself.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function, has_torch_function_unary

from torch_pooling._library import _C
from torch_pooling._traced import (
    Ints,
    OutputSize,
    traced_adaptive_avg_pool,
    traced_adaptive_max_pool,
    traced_avg_pool,
    traced_max_pool,
)

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "global_avg_pool",
    "global_max_pool",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
]

# --- sliding windows ------------------------------------------------------------------------------------------------------


def max_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum over sliding windows of ``input`` [N, C, L] or [C, L], as ``torch.nn.functional.max_pool1d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 1 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual elements below every value on both sides, at most half the dilated kernel.
        dilation: distance between the elements of a window.
        ceil_mode: allow a last window that overhangs the end.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes.

    A NaN wins over everything; of equal values the first wins. A window with no element inside the input gives -inf (the
    lowest value for integers), index 0 and no gradient.

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_max_pool(
            max_pool1d, 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )
    return _C.max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum over sliding windows of ``input`` [N, C, H, W] or [C, H, W], as ``torch.nn.functional.max_pool2d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 2 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual elements below every value on both sides, at most half the dilated kernel.
        dilation: distance between the elements of a window.
        ceil_mode: allow a last window that overhangs the end.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes.

    A NaN wins over everything; of equal values the first wins. A window with no element inside the input gives -inf (the
    lowest value for integers), index 0 and no gradient.

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_max_pool(
            max_pool2d, 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )
    return _C.max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum over sliding windows of ``input`` [N, C, D, H, W] or [C, D, H, W], as ``torch.nn.functional.max_pool3d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 3 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual elements below every value on both sides, at most half the dilated kernel.
        dilation: distance between the elements of a window.
        ceil_mode: allow a last window that overhangs the end.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes.

    A NaN wins over everything; of equal values the first wins. A window with no element inside the input gives -inf (the
    lowest value for integers), index 0 and no gradient.

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_max_pool(
            max_pool3d, 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )
    return _C.max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Ints = 1,
) -> Tensor:
    """Average over sliding windows of ``input`` [N, C, L] or [C, L], as ``torch.nn.functional.avg_pool1d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 1 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual zeros on both sides, at most half the dilated kernel.
        ceil_mode: allow a last window that overhangs the end; what overhangs is never counted.
        count_include_pad: whether padding counts in the divisor.
        divisor_override: divide by this instead of the number of elements; any int but 0.
        dilation: distance between the elements of a window (beyond torch).

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_avg_pool(
            avg_pool1d, 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        )
    return _C.avg_pool(
        1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
    )


def avg_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Ints = 1,
) -> Tensor:
    """Average over sliding windows of ``input`` [N, C, H, W] or [C, H, W], as ``torch.nn.functional.avg_pool2d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 2 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual zeros on both sides, at most half the dilated kernel.
        ceil_mode: allow a last window that overhangs the end; what overhangs is never counted.
        count_include_pad: whether padding counts in the divisor.
        divisor_override: divide by this instead of the number of elements; any int but 0.
        dilation: distance between the elements of a window (beyond torch).

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_avg_pool(
            avg_pool2d, 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        )
    return _C.avg_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
    )


def avg_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Ints = 1,
) -> Tensor:
    """Average over sliding windows of ``input`` [N, C, D, H, W] or [C, D, H, W], as ``torch.nn.functional.avg_pool3d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 3 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual zeros on both sides, at most half the dilated kernel.
        ceil_mode: allow a last window that overhangs the end; what overhangs is never counted.
        count_include_pad: whether padding counts in the divisor.
        divisor_override: divide by this instead of the number of elements; any int but 0.
        dilation: distance between the elements of a window (beyond torch).

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_avg_pool(
            avg_pool3d, 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        )
    return _C.avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
    )


# --- adaptive windows -----------------------------------------------------------------------------------------------------


def adaptive_avg_pool1d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Average of ``input`` [N, C, L] or [C, L] down (or up) to ``output_size``, as torch's.

    Output o of O along an axis of size I averages elements floor(o * I / O) to ceil((o + 1) * I / O) - 1.

    Args:
        output_size: an int.

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_avg_pool(adaptive_avg_pool1d, 1, input, output_size)
    return _C.adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Average of ``input`` [N, C, H, W] or [C, H, W] down (or up) to ``output_size``, as torch's.

    Output o of O along an axis of size I averages elements floor(o * I / O) to ceil((o + 1) * I / O) - 1.

    Args:
        output_size: an int or 2 of them, None keeping the input's size.

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_avg_pool(adaptive_avg_pool2d, 2, input, output_size)
    return _C.adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Average of ``input`` [N, C, D, H, W] or [C, D, H, W] down (or up) to ``output_size``, as torch's.

    Output o of O along an axis of size I averages elements floor(o * I / O) to ceil((o + 1) * I / O) - 1.

    Args:
        output_size: an int or 3 of them, None keeping the input's size.

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_avg_pool(adaptive_avg_pool3d, 3, input, output_size)
    return _C.adaptive_avg_pool(3, input, output_size)


def adaptive_max_pool1d(input: Tensor, output_size: OutputSize, return_indices: bool = False) -> Any:
    """Maximum of ``input`` [N, C, L] or [C, L] down (or up) to ``output_size``, as torch's.

    Windows are those of the adaptive averages, ties and NaN as in ``max_pool1d``.

    Args:
        output_size: an int.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes.

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_max_pool(adaptive_max_pool1d, 1, input, output_size, return_indices)
    return _C.adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: OutputSize, return_indices: bool = False) -> Any:
    """Maximum of ``input`` [N, C, H, W] or [C, H, W] down (or up) to ``output_size``, as torch's.

    Windows are those of the adaptive averages, ties and NaN as in ``max_pool2d``.

    Args:
        output_size: an int or 2 of them, None keeping the input's size.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes.

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_max_pool(adaptive_max_pool2d, 2, input, output_size, return_indices)
    return _C.adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: OutputSize, return_indices: bool = False) -> Any:
    """Maximum of ``input`` [N, C, D, H, W] or [C, D, H, W] down (or up) to ``output_size``, as torch's.

    Windows are those of the adaptive averages, ties and NaN as in ``max_pool3d``.

    Args:
        output_size: an int or 3 of them, None keeping the input's size.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes.

    Raises RuntimeError for sizes out of range, TypeError for arguments of the wrong type and NotImplementedError for a type
    of input that is not supported.
    """
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_max_pool(adaptive_max_pool3d, 3, input, output_size, return_indices)
    return _C.adaptive_max_pool(3, input, output_size, return_indices)


# --- global ---------------------------------------------------------------------------------------------------------------

_ADAPTIVE_AVG = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)
_ADAPTIVE_MAX = (adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d)


def _spatial_rank(name: str, input: Tensor) -> int:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' must be Tensor, not {type(input).__name__}")
    rank = input.dim() - 2
    if not 1 <= rank <= 3:
        raise RuntimeError(f"{name}: expected input [N, C, *spatial] with 1 to 3 spatial axes, but got {input.dim()}-D")
    return rank


def global_avg_pool(input: Tensor, *, keepdim: bool = True) -> Tensor:
    """Average of ``input`` [N, C, *spatial], 1 to 3 spatial axes, over all of them: [N, C, 1, ...], or [N, C] without ``keepdim``.

    Raises RuntimeError for another number of axes or an empty spatial axis, TypeError for an input that is no tensor and
    NotImplementedError for a type of input that is not supported.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(global_avg_pool, (input,), input, keepdim=keepdim)
    output = _ADAPTIVE_AVG[_spatial_rank("global_avg_pool", input) - 1](input, 1)
    return output if keepdim else output.flatten(1)


def global_max_pool(input: Tensor, *, keepdim: bool = True, return_indices: bool = False) -> Any:
    """Maximum of ``input`` [N, C, *spatial], 1 to 3 spatial axes, over all of them: [N, C, 1, ...], or [N, C] without ``keepdim``.

    Args:
        return_indices: also return the int64 position of each maximum in the flattened spatial axes.

    Raises RuntimeError for another number of axes or an empty spatial axis, TypeError for an input that is no tensor and
    NotImplementedError for a type of input that is not supported.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(global_max_pool, (input,), input, keepdim=keepdim, return_indices=return_indices)
    result = _ADAPTIVE_MAX[_spatial_rank("global_max_pool", input) - 1](input, 1, return_indices)
    if keepdim:
        return result
    return tuple(part.flatten(1) for part in result) if return_indices else result.flatten(1)
