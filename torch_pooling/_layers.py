"""What is built from pooling: global heads, with masks and lengths. See functional.py, which makes them public."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function, has_torch_function_unary

from torch_pooling._adaptive import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)
from torch_pooling._elsewhere import has_kernels
from torch_pooling._library import ops

_ADAPTIVE_AVG = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)
_ADAPTIVE_MAX = (adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d)


def _channels_first(name: str, input: Tensor, data_format: str) -> Tensor:
    """The input as [N, C, *spatial], a view."""
    if data_format == "channels_first":
        return input
    if data_format != "channels_last":
        raise ValueError(f"{name}(): argument 'data_format' must be 'channels_first' or 'channels_last', not {data_format!r}")
    return input.movedim(-1, 1) if isinstance(input, Tensor) and input.dim() > 1 else input


def _check_flags(name: str, **flags: Any) -> None:
    for argument, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name}(): argument '{argument}' must be bool, not {type(value).__name__}")


def _spatial_rank(name: str, input: Tensor) -> int:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' must be Tensor, not {type(input).__name__}")
    rank = input.dim() - 2
    if not 1 <= rank <= 3:
        raise RuntimeError(f"{name}: expected input [N, C, *spatial] with 1 to 3 spatial axes, but got {input.dim()}-D")
    return rank


def _valid(name: str, input: Tensor, mask: Tensor | None, lengths: Tensor | None) -> Tensor:
    """What counts: bool [N, *spatial], from a checked mask or lengths."""
    rank = _spatial_rank(name, input)
    if mask is not None and lengths is not None:
        raise ValueError(f"{name}(): arguments 'mask' and 'lengths' exclude each other, but both are given")
    given, value = ("mask", mask) if mask is not None else ("lengths", lengths)
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}(): argument '{given}' must be Tensor, not {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"{name}(): argument '{given}' must be a dense Tensor, not one of layout {value.layout}")
    if value.device != input.device:
        raise RuntimeError(f"{name}: {given} must be on the device of input, {input.device}, but is on {value.device}")
    if mask is not None:
        wanted = (input.shape[0], *input.shape[2:])
        if mask.dtype != torch.bool:
            raise TypeError(f"{name}(): argument 'mask' must be of type bool, not {mask.dtype}")
        if mask.shape != wanted:
            raise RuntimeError(f"{name}: mask must be [N, *spatial], {list(wanted)}, but has sizes {list(mask.shape)}")
        return mask
    if rank != 1:
        raise RuntimeError(f"{name}: lengths are for inputs [N, C, L] with one spatial axis, but input is {input.dim()}-D")
    if value.dtype not in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64):
        raise TypeError(f"{name}(): argument 'lengths' must be of an integer type, not {value.dtype}")
    if value.shape != input.shape[:1]:
        raise RuntimeError(f"{name}: lengths must be [N], [{input.shape[0]}], but has sizes {list(value.shape)}")
    # Positions from 1 on, made from the lengths: as many as those are shards of, in a DTensor.
    return value.new_ones(input.shape[2], dtype=torch.int64).cumsum(0) <= value.unsqueeze(1)


_REALS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


def _to_mask(name: str, input: Tensor, types: tuple[torch.dtype, ...]) -> Tensor:
    """The input of a masked pool, of the type that autocast gives to one without a mask: volumes are pooled in float32, on the CPU."""
    if input.dtype not in types:
        supported = ", ".join(str(each).removeprefix("torch.") for each in types)
        raise NotImplementedError(f"{name}: not implemented for input of type {input.dtype}; supported are {supported}")
    if input.dim() == 5 and input.dtype in _REALS[2:] and input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return input.float()
    return input


def _kept(output: Tensor, keepdim: bool, data_format: str) -> Tensor:
    if not keepdim:
        return output.flatten(1)
    return output if data_format == "channels_first" else output.movedim(1, -1)


def global_avg_pool(
    input: Tensor,
    *,
    keepdim: bool = True,
    mask: Tensor | None = None,
    lengths: Tensor | None = None,
    data_format: str = "channels_first",
) -> Tensor:
    """Average of ``input`` [N, C, *spatial], 1 to 3 spatial axes, over all of them: [N, C, 1, ...], or [N, C] without ``keepdim``.

    Args:
        mask: bool [N, *spatial], True where a position counts; the divisor is their number, shared by all channels.
        lengths: integers [N], for one spatial axis: the first so many positions count; beyond its end all, below 0 none.
        data_format: "channels_last" takes [N, *spatial, C] and gives [N, 1, ..., C], as views.

    A row with nothing to count gives 0, and its gradient is 0. What does not count may be NaN.

    Raises RuntimeError for another number of axes, an empty spatial axis or wrong sizes, ValueError for mask and lengths at once
    or an unknown name, TypeError for arguments of a wrong type and NotImplementedError for a type of input that is not supported.
    """
    if has_torch_function_unary(input):
        chosen = {"mask": mask, "lengths": lengths, "data_format": data_format}
        return handle_torch_function(global_avg_pool, (input,), input, keepdim=keepdim, **_named(chosen))
    _check_flags("global_avg_pool", keepdim=keepdim)
    input = _channels_first("global_avg_pool", input, data_format)
    if mask is None and lengths is None:
        output = _ADAPTIVE_AVG[_spatial_rank("global_avg_pool", input) - 1](input, 1)
        return _kept(output, keepdim, data_format)
    valid = _valid("global_avg_pool", input, mask, lengths)
    output = _masked_avg(_to_mask("global_avg_pool", input, _REALS), valid)
    return _kept(output, keepdim, data_format)


def _masked_avg(input: Tensor, valid: Tensor) -> Tensor:
    """[N, C, 1, ...]; valid: bool [N, *spatial]."""
    if has_kernels(input):
        return ops.masked_avg_pool(input, valid)
    valid = valid.unsqueeze(1)
    wide = torch.float64 if input.dtype == torch.float64 else torch.float32
    axes = tuple(range(2, input.dim()))
    # The average over all, made one over what counts: the same bits as without a mask, where everything does.
    mean = _ADAPTIVE_AVG[len(axes) - 1](torch.where(valid, input, 0).to(wide), 1)
    # A number divided by a tensor would be multiplied by its reciprocal, and 49 times one 49th is not 1.
    counted = valid.sum(axes, keepdim=True).clamp(min=1).to(wide)
    share = torch.ones_like(counted) * math.prod(input.shape[2:]) / counted
    return (mean * share).to(input.dtype)


def global_max_pool(
    input: Tensor,
    *,
    keepdim: bool = True,
    return_indices: bool = False,
    mask: Tensor | None = None,
    lengths: Tensor | None = None,
    data_format: str = "channels_first",
) -> Any:
    """Maximum of ``input`` [N, C, *spatial], 1 to 3 spatial axes, over all of them: [N, C, 1, ...], or [N, C] without ``keepdim``.

    Args:
        return_indices: also return the int64 position of each maximum in the flattened spatial axes.
        mask: bool [N, *spatial], True where a position counts.
        lengths: integers [N], for one spatial axis: the first so many positions count; beyond its end all, below 0 none.
        data_format: "channels_last" takes [N, *spatial, C] and gives [N, 1, ..., C], as views.

    A row with nothing to count gives 0 and index 0, and its gradient is 0. What does not count may be NaN.

    Raises RuntimeError for another number of axes, an empty spatial axis or wrong sizes, ValueError for mask and lengths at once
    or an unknown name, TypeError for arguments of a wrong type and NotImplementedError for a type of input that is not supported.
    """
    if has_torch_function_unary(input):
        chosen = {"mask": mask, "lengths": lengths, "data_format": data_format}
        return handle_torch_function(
            global_max_pool, (input,), input, keepdim=keepdim, return_indices=return_indices, **_named(chosen)
        )
    _check_flags("global_max_pool", keepdim=keepdim, return_indices=return_indices)
    input = _channels_first("global_max_pool", input, data_format)
    if mask is not None or lengths is not None:
        valid = _valid("global_max_pool", input, mask, lengths)
        masked = _masked_max(_to_mask("global_max_pool", input, _REALS + _INTEGERS), valid, return_indices)
        kept = tuple(_kept(part, keepdim, data_format) for part in masked)
        return kept if return_indices else kept[0]
    result = _ADAPTIVE_MAX[_spatial_rank("global_max_pool", input) - 1](input, 1, return_indices)
    if return_indices:
        return tuple(_kept(part, keepdim, data_format) for part in result)
    return _kept(result, keepdim, data_format)


def _masked_max(input: Tensor, valid: Tensor, return_indices: bool) -> tuple[Tensor, ...]:
    """[N, C, 1, ...], and indices where they are asked for; valid: bool [N, *spatial]."""
    if has_kernels(input):
        if not return_indices:
            return (ops.masked_max_pool(input, valid),)
        wide = is_dynamo_compiling() or any(not isinstance(size, int) for size in input.shape)  # whatever the sizes will be
        values, offsets = ops.masked_max_pool_with_offsets(input, valid, wide)
        return values, offsets.long()  # positions in a window that is the plane
    valid = valid.unsqueeze(1)
    lowest = -torch.inf if input.is_floating_point() else torch.iinfo(input.dtype).min
    with torch.no_grad():
        _, indices = _ADAPTIVE_MAX[input.dim() - 3](torch.where(valid, input, lowest), 1, True)
    found = valid.flatten(2).any(2).view(-1, *(1,) * (input.dim() - 1))
    # Among nothing but the lowest value the first position wins: take the first that counts.
    first = valid.flatten(2).int().argmax(2).view_as(found)
    at = valid.expand_as(input).flatten(2).gather(2, indices.flatten(2)).view_as(indices)
    indices = torch.where(at, indices, first)
    # Read from the input, so that the gradient goes there as well.
    values = torch.where(found, input.flatten(2).gather(2, indices.flatten(2)).view_as(indices), 0)
    return values, indices


def _named(arguments: dict[str, Any]) -> dict[str, Any]:
    """Those that a caller chose: an override sees a plain call as it was made."""
    return {name: value for name, value in arguments.items() if value is not None and not (name == "data_format" and value == "channels_first")}
