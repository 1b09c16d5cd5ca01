"""Pooling over sliding windows: maxima, averages and sums. See functional.py, which makes them public."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import has_torch_function_unary

from torch_pooling._library import _C
from torch_pooling._traced import (
    Ints,
    Padding,
    channels_last,
    traced_avg_pool,
    traced_max_pool,
    traced_sum_pool,
)


def max_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
) -> Any:
    """Maximum over sliding windows of ``input`` [N, C, L] or [C, L], as ``torch.nn.functional.max_pool1d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 1 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual elements below every value, on both sides, at most half the dilated kernel; or one (begin, end) pair for each
            axis, each below the dilated kernel; or "valid" (none), "same" (output size ceil(input / stride), the odd element
            at the end, as in Keras), "same_lower" (at the start). ceil_mode has no effect on the last two.
        dilation: distance between the elements of a window.
        ceil_mode: allow a last window that overhangs the end.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes, without padding.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    A NaN wins over everything; of equal values the first wins. A window with no element inside the input gives -inf (the
    lowest value for integers), index 0 and no gradient.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(
            max_pool1d, 1, data_format, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_max_pool(
            max_pool1d, 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )
    return _C.max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
) -> Any:
    """Maximum over sliding windows of ``input`` [N, C, H, W] or [C, H, W], as ``torch.nn.functional.max_pool2d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 2 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual elements below every value, on both sides, at most half the dilated kernel; or one (begin, end) pair for each
            axis, each below the dilated kernel; or "valid" (none), "same" (output size ceil(input / stride), the odd element
            at the end, as in Keras), "same_lower" (at the start). ceil_mode has no effect on the last two.
        dilation: distance between the elements of a window.
        ceil_mode: allow a last window that overhangs the end.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes, without padding.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    A NaN wins over everything; of equal values the first wins. A window with no element inside the input gives -inf (the
    lowest value for integers), index 0 and no gradient.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(
            max_pool2d, 2, data_format, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_max_pool(
            max_pool2d, 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )
    return _C.max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
) -> Any:
    """Maximum over sliding windows of ``input`` [N, C, D, H, W] or [C, D, H, W], as ``torch.nn.functional.max_pool3d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 3 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual elements below every value, on both sides, at most half the dilated kernel; or one (begin, end) pair for each
            axis, each below the dilated kernel; or "valid" (none), "same" (output size ceil(input / stride), the odd element
            at the end, as in Keras), "same_lower" (at the start). ceil_mode has no effect on the last two.
        dilation: distance between the elements of a window.
        ceil_mode: allow a last window that overhangs the end.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes, without padding.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    A NaN wins over everything; of equal values the first wins. A window with no element inside the input gives -inf (the
    lowest value for integers), index 0 and no gradient.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(
            max_pool3d, 3, data_format, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_max_pool(
            max_pool3d, 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )
    return _C.max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Ints = 1,
    data_format: str = "channels_first",
) -> Tensor:
    """Average over sliding windows of ``input`` [N, C, L] or [C, L], as ``torch.nn.functional.avg_pool1d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 1 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual zeros, on both sides, at most half the dilated kernel; or one (begin, end) pair for each
            axis, each below the dilated kernel; or "valid" (none), "same" (output size ceil(input / stride), the odd element
            at the end, as in Keras), "same_lower" (at the start). ceil_mode has no effect on the last two.
        ceil_mode: allow a last window that overhangs the end; what overhangs is never counted.
        count_include_pad: whether padding counts in the divisor, also that of "same" (Keras: False).
        divisor_override: divide by this instead of the number of elements; any int but 0.
        dilation: distance between the elements of a window (beyond torch).
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(
            avg_pool1d, 1, data_format, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override,
            dilation=dilation,
        )
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
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Ints = 1,
    data_format: str = "channels_first",
) -> Tensor:
    """Average over sliding windows of ``input`` [N, C, H, W] or [C, H, W], as ``torch.nn.functional.avg_pool2d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 2 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual zeros, on both sides, at most half the dilated kernel; or one (begin, end) pair for each
            axis, each below the dilated kernel; or "valid" (none), "same" (output size ceil(input / stride), the odd element
            at the end, as in Keras), "same_lower" (at the start). ceil_mode has no effect on the last two.
        ceil_mode: allow a last window that overhangs the end; what overhangs is never counted.
        count_include_pad: whether padding counts in the divisor, also that of "same" (Keras: False).
        divisor_override: divide by this instead of the number of elements; any int but 0.
        dilation: distance between the elements of a window (beyond torch).
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(
            avg_pool2d, 2, data_format, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override,
            dilation=dilation,
        )
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
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Ints = 1,
    data_format: str = "channels_first",
) -> Tensor:
    """Average over sliding windows of ``input`` [N, C, D, H, W] or [C, D, H, W], as ``torch.nn.functional.avg_pool3d``.

    Args:
        kernel_size: elements of a window along each axis: an int or 3 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual zeros, on both sides, at most half the dilated kernel; or one (begin, end) pair for each
            axis, each below the dilated kernel; or "valid" (none), "same" (output size ceil(input / stride), the odd element
            at the end, as in Keras), "same_lower" (at the start). ceil_mode has no effect on the last two.
        ceil_mode: allow a last window that overhangs the end; what overhangs is never counted.
        count_include_pad: whether padding counts in the divisor, also that of "same" (Keras: False).
        divisor_override: divide by this instead of the number of elements; any int but 0.
        dilation: distance between the elements of a window (beyond torch).
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(
            avg_pool3d, 3, data_format, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override,
            dilation=dilation,
        )
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_avg_pool(
            avg_pool3d, 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        )
    return _C.avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
    )


def sum_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    *,
    dilation: Ints = 1,
    data_format: str = "channels_first",
) -> Tensor:
    """Sum over sliding windows of ``input`` [N, C, L] or [C, L]: ``avg_pool1d`` without its division.

    Args:
        kernel_size: elements of a window along each axis: an int or 1 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual zeros, on both sides, at most half the dilated kernel; or one (begin, end) pair for each
            axis, each below the dilated kernel; or "valid" (none), "same" (output size ceil(input / stride), the odd element
            at the end, as in Keras), "same_lower" (at the start). ceil_mode has no effect on the last two.
        ceil_mode: allow a last window that overhangs the end.
        dilation: distance between the elements of a window.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(sum_pool1d, 1, data_format, input, kernel_size, stride, padding, ceil_mode, dilation=dilation)
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_sum_pool(sum_pool1d, 1, input, kernel_size, stride, padding, ceil_mode, dilation)
    return _C.sum_pool(1, input, kernel_size, stride, padding, ceil_mode, dilation)


def sum_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    *,
    dilation: Ints = 1,
    data_format: str = "channels_first",
) -> Tensor:
    """Sum over sliding windows of ``input`` [N, C, H, W] or [C, H, W]: ``avg_pool2d`` without its division.

    Args:
        kernel_size: elements of a window along each axis: an int or 2 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual zeros, on both sides, at most half the dilated kernel; or one (begin, end) pair for each
            axis, each below the dilated kernel; or "valid" (none), "same" (output size ceil(input / stride), the odd element
            at the end, as in Keras), "same_lower" (at the start). ceil_mode has no effect on the last two.
        ceil_mode: allow a last window that overhangs the end.
        dilation: distance between the elements of a window.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(sum_pool2d, 2, data_format, input, kernel_size, stride, padding, ceil_mode, dilation=dilation)
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_sum_pool(sum_pool2d, 2, input, kernel_size, stride, padding, ceil_mode, dilation)
    return _C.sum_pool(2, input, kernel_size, stride, padding, ceil_mode, dilation)


def sum_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    *,
    dilation: Ints = 1,
    data_format: str = "channels_first",
) -> Tensor:
    """Sum over sliding windows of ``input`` [N, C, D, H, W] or [C, D, H, W]: ``avg_pool3d`` without its division.

    Args:
        kernel_size: elements of a window along each axis: an int or 3 of them.
        stride: from window to window; default ``kernel_size``.
        padding: virtual zeros, on both sides, at most half the dilated kernel; or one (begin, end) pair for each
            axis, each below the dilated kernel; or "valid" (none), "same" (output size ceil(input / stride), the odd element
            at the end, as in Keras), "same_lower" (at the start). ceil_mode has no effect on the last two.
        ceil_mode: allow a last window that overhangs the end.
        dilation: distance between the elements of a window.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(sum_pool3d, 3, data_format, input, kernel_size, stride, padding, ceil_mode, dilation=dilation)
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_sum_pool(sum_pool3d, 3, input, kernel_size, stride, padding, ceil_mode, dilation)
    return _C.sum_pool(3, input, kernel_size, stride, padding, ceil_mode, dilation)
