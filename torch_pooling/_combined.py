"""Several reductions of one input, which is read once: concatenation, mean, mixture, pyramid. See functional.py.

Each function is one call of the operator ``combined_pool``, whose kernels write straight into the result. Inputs are always
[N, C, *spatial] with 1 to 3 spatial axes (with ``data_format="channels_last"`` [N, *spatial, C]).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from torch import SymInt, Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from torch_pooling._elsewhere import combined_pool
from torch_pooling._layers import _channels_first, _spatial_rank
from torch_pooling._traced import Ints, OutputSize

_CONCAT, _MEAN, _FLAT = 0, 1, 2  # Form in csrc/core/combined.h
_KINDS = {"avg": 0, "max": 1}
_MOST_LEVELS = 8


def _handed_over(function: Callable[..., Tensor], input: Tensor, data_format: str, *args: Any, **kwargs: Any) -> Any:
    if data_format != "channels_first":
        kwargs["data_format"] = data_format
    return handle_torch_function(function, (input,), input, *args, **kwargs)


def _ints(name: str, argument: str, values: Sequence[Any]) -> list[Any]:
    for value in values:
        if not isinstance(value, (int, SymInt, Integral)) or isinstance(value, bool):
            raise TypeError(f"{name}(): argument '{argument}' must be of ints, but holds {value!r}, a {type(value).__name__}")
    return [value if isinstance(value, (int, SymInt)) else int(value) for value in values]  # numpy's, say


def _check_order(name: str, order: Any) -> None:
    if type(order) is tuple and order == ("avg", "max"):
        return
    if not isinstance(order, (tuple, list)) or sorted(map(str, order)) != ["avg", "max"]:
        raise ValueError(f"{name}(): argument 'order' must be ('avg', 'max') or ('max', 'avg'), not {order!r}")


def _check_mode(name: str, mode: Any) -> None:
    if not isinstance(mode, str) or mode not in _KINDS:
        raise ValueError(f"{name}(): argument 'mode' must be 'avg' or 'max', not {mode!r}")


def _check_levels(name: str, levels: Any) -> None:
    if not isinstance(levels, (tuple, list)):
        raise TypeError(f"{name}(): argument 'levels' must be tuple of ints, not {type(levels).__name__}")


def _per_axis(name: str, argument: str, value: Any, rank: int, nothing: Sequence[int] = ()) -> list[Any]:
    """One int for every axis, or one for each; None stands for the values of ``nothing``, where there are any."""
    if type(value) is int:
        return [value] * rank
    values = list(value) if isinstance(value, (tuple, list)) else [value] * rank
    if len(values) != rank:
        raise RuntimeError(f"{name}: {argument} must be a single int or a tuple of {rank} elements, but got {len(values)}")
    if nothing:
        values = [kept if size is None else size for size, kept in zip(values, nothing, strict=True)]
    return _ints(name, argument, values)


def _output_sizes(name: str, input: Tensor, output_size: OutputSize, rank: int) -> list[int]:
    if type(output_size) is int:
        return [output_size] * rank
    return _per_axis(name, "output_size", output_size, rank, input.shape[2:])


def _placed(output: Tensor, data_format: str) -> Tensor:
    return output if data_format == "channels_first" else output.movedim(1, -1)


def concat_pool(
    input: Tensor,
    output_size: OutputSize = 1,
    *,
    order: Sequence[str] = ("avg", "max"),
    data_format: str = "channels_first",
) -> Tensor:
    """Adaptive average and adaptive maximum of ``input`` [N, C, *spatial], one after the other along the channels.

    Args:
        output_size: an int or one for each axis, None keeping the input's size.
        order: which comes first, ("avg", "max") or ("max", "avg"); fastai's AdaptiveConcatPool2d is the latter.
        data_format: "channels_last" takes [N, *spatial, C] and gives [N, *output_size, 2 C], as views.

    Returns [N, 2 C, *output_size].

    Raises RuntimeError for sizes out of range, ValueError for an unknown name or order, TypeError for arguments of the wrong type
    and NotImplementedError for a type of input that is not floating.
    """
    if has_torch_function_unary(input):
        return _handed_over(concat_pool, input, data_format, output_size, order=order)
    _check_order("concat_pool", order)
    input = _channels_first("concat_pool", input, data_format)
    rank = _spatial_rank("concat_pool", input)
    sizes = _output_sizes("concat_pool", input, output_size, rank)
    kinds = [_KINDS[kind] for kind in order]
    return _placed(combined_pool(input, rank, _CONCAT, kinds, [*sizes, *sizes]), data_format)


def avgmax_pool(input: Tensor, output_size: OutputSize = 1, *, data_format: str = "channels_first") -> Tensor:
    """(adaptive average + adaptive maximum) / 2 of ``input`` [N, C, *spatial]: [N, C, *output_size].

    Args:
        output_size: an int or one for each axis, None keeping the input's size.
        data_format: "channels_last" takes [N, *spatial, C] and gives [N, *output_size, C], as views.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not floating.
    """
    if has_torch_function_unary(input):
        return _handed_over(avgmax_pool, input, data_format, output_size)
    input = _channels_first("avgmax_pool", input, data_format)
    rank = _spatial_rank("avgmax_pool", input)
    sizes = _output_sizes("avgmax_pool", input, output_size, rank)
    return _placed(combined_pool(input, rank, _MEAN, [0, 1], [*sizes, *sizes]), data_format)


def spatial_pyramid_pool(
    input: Tensor, levels: Sequence[int] = (1, 2, 4), mode: str = "avg", *, data_format: str = "channels_first"
) -> Tensor:
    """Adaptive pools of ``input`` [N, C, *spatial] to ``level`` windows along every axis, for each level: a row of fixed length.

    Args:
        levels: 1 to 8 numbers of windows.
        mode: "avg" or "max".
        data_format: "channels_last" takes [N, *spatial, C]. The rows are the same.

    Returns [N, C * sum(level ** rank)]: level by level, each flattened as [C, *level] (He et al., 2014,
    https://arxiv.org/abs/1406.4729).

    Raises RuntimeError for levels out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not floating.
    """
    if has_torch_function_unary(input):
        return _handed_over(spatial_pyramid_pool, input, data_format, levels, mode)
    _check_mode("spatial_pyramid_pool", mode)
    _check_levels("spatial_pyramid_pool", levels)
    levels = _ints("spatial_pyramid_pool", "levels", levels)
    if not 1 <= len(levels) <= _MOST_LEVELS or any(level < 1 for level in levels):
        raise RuntimeError(f"spatial_pyramid_pool: levels must be 1 to {_MOST_LEVELS} numbers greater than zero, but got {levels}")
    input = _channels_first("spatial_pyramid_pool", input, data_format)
    rank = _spatial_rank("spatial_pyramid_pool", input)
    sizes = [level for level in levels for _ in range(rank)]
    return combined_pool(input, rank, _FLAT, [_KINDS[mode]] * len(levels), sizes)


def mixed_pool(
    input: Tensor, kernel_size: Ints = 3, stride: Ints = 1, padding: Ints = 1, *, data_format: str = "channels_first"
) -> Tensor:
    """Maximum and average over the same sliding windows of ``input`` [N, C, *spatial], one after the other along the channels.

    Args:
        kernel_size, stride, padding: as in ``max_pool2d`` and ``avg_pool2d``, an int or one for each axis; padding counts in averages.
        data_format: "channels_last" takes [N, *spatial, C] and gives [N, *output_size, 2 C], as views.

    Returns [N, 2 C, *output_size]: maxima first.

    Raises RuntimeError for sizes out of range, ValueError for an unknown name, TypeError for arguments of the wrong type and
    NotImplementedError for a type of input that is not floating.
    """
    if has_torch_function_unary(input):
        return _handed_over(mixed_pool, input, data_format, kernel_size, stride, padding)
    input = _channels_first("mixed_pool", input, data_format)
    rank = _spatial_rank("mixed_pool", input)
    window = (_per_axis("mixed_pool", name, value, rank)
              for name, value in (("kernel_size", kernel_size), ("stride", stride), ("padding", padding)))
    return _placed(combined_pool(input, rank, _CONCAT, [1, 0], *window), data_format)
