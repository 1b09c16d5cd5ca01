"""Pooling over adaptive windows: averages and maxima. See functional.py, which makes them public."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import has_torch_function_unary

from torch_pooling._library import _C
from torch_pooling._traced import OutputSize, channels_last, traced_adaptive_avg_pool, traced_adaptive_max_pool


def adaptive_avg_pool1d(input: Tensor, output_size: OutputSize, *, data_format: str = "channels_first") -> Tensor:
    """Average of ``input`` [N, C, L] or [C, L] down (or up) to ``output_size``, as torch's.

    Output o of O along an axis of size I averages elements floor(o * I / O) to ceil((o + 1) * I / O) - 1.

    Args:
        output_size: an int.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(adaptive_avg_pool1d, 1, data_format, input, output_size)
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_avg_pool(adaptive_avg_pool1d, 1, input, output_size)
    return _C.adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: OutputSize, *, data_format: str = "channels_first") -> Tensor:
    """Average of ``input`` [N, C, H, W] or [C, H, W] down (or up) to ``output_size``, as torch's.

    Output o of O along an axis of size I averages elements floor(o * I / O) to ceil((o + 1) * I / O) - 1.

    Args:
        output_size: an int or 2 of them, None keeping the input's size.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(adaptive_avg_pool2d, 2, data_format, input, output_size)
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_avg_pool(adaptive_avg_pool2d, 2, input, output_size)
    return _C.adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: OutputSize, *, data_format: str = "channels_first") -> Tensor:
    """Average of ``input`` [N, C, D, H, W] or [C, D, H, W] down (or up) to ``output_size``, as torch's.

    Output o of O along an axis of size I averages elements floor(o * I / O) to ceil((o + 1) * I / O) - 1.

    Args:
        output_size: an int or 3 of them, None keeping the input's size.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(adaptive_avg_pool3d, 3, data_format, input, output_size)
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_avg_pool(adaptive_avg_pool3d, 3, input, output_size)
    return _C.adaptive_avg_pool(3, input, output_size)


def adaptive_max_pool1d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False, *, data_format: str = "channels_first"
) -> Any:
    """Maximum of ``input`` [N, C, L] or [C, L] down (or up) to ``output_size``, as torch's.

    Windows are those of the adaptive averages, ties and NaN as in ``max_pool1d``.

    Args:
        output_size: an int.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(adaptive_max_pool1d, 1, data_format, input, output_size, return_indices)
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_max_pool(adaptive_max_pool1d, 1, input, output_size, return_indices)
    return _C.adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False, *, data_format: str = "channels_first"
) -> Any:
    """Maximum of ``input`` [N, C, H, W] or [C, H, W] down (or up) to ``output_size``, as torch's.

    Windows are those of the adaptive averages, ties and NaN as in ``max_pool2d``.

    Args:
        output_size: an int or 2 of them, None keeping the input's size.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(adaptive_max_pool2d, 2, data_format, input, output_size, return_indices)
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_max_pool(adaptive_max_pool2d, 2, input, output_size, return_indices)
    return _C.adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False, *, data_format: str = "channels_first"
) -> Any:
    """Maximum of ``input`` [N, C, D, H, W] or [C, D, H, W] down (or up) to ``output_size``, as torch's.

    Windows are those of the adaptive averages, ties and NaN as in ``max_pool3d``.

    Args:
        output_size: an int or 3 of them, None keeping the input's size.
        return_indices: also return the int64 position of each maximum in the flattened spatial axes.
        data_format: "channels_last" takes and returns [N, *spatial, C] (or [*spatial, C]), as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not supported.
    """
    if data_format != "channels_first":
        return channels_last(adaptive_max_pool3d, 3, data_format, input, output_size, return_indices)
    if is_dynamo_compiling() or has_torch_function_unary(input):
        return traced_adaptive_max_pool(adaptive_max_pool3d, 3, input, output_size, return_indices)
    return _C.adaptive_max_pool(3, input, output_size, return_indices)
