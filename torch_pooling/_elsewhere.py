"""Calls that our kernels do not serve: tensors that are not ours, and the exporters to ONNX.

Quantised and oneDNN tensors and other devices (MPS, XPU) run torch's own operators. In an ONNX export, which cannot know our
operators, a call becomes what ONNX Runtime and its like have: MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool, and slices
and reductions for adaptive windows of unequal sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from torch_pooling import _by_torch
from torch_pooling._by_torch import in_onnx_export
from torch_pooling._library import _C, is_ours, ops, set_detour, set_exports
from torch_pooling._traced import _sizes, serves, window_args

_ADAPTIVE = ([0] * 4, [0] * 4)  # see is_nothing in csrc/ops/combined.h


def detour(stem: str, rank: int, input: Tensor, *args: Any) -> Any:
    """What the extension asks before it runs a kernel; NotImplemented: it shall. Arguments are those of csrc/module.cpp."""
    exports = in_onnx_export()
    if not exports and is_ours(input):
        return NotImplemented
    name = f"{stem}{rank}d"
    if exports and torch.jit.is_tracing() and input.dim() == rank + 1:  # the older exporter makes wrong nodes of what has no batch
        results = detour(stem, rank, input.unsqueeze(0), *args)
        return tuple(part.squeeze(0) for part in results) if isinstance(results, tuple) else results.squeeze(0)
    if stem.startswith("adaptive"):
        if isinstance(args[0], (tuple, list)) and any(not isinstance(size, int) for size in args[0]):
            input = _by_torch.pinned(input, rank)  # None, or the size of some tensor
        sizes = _sizes(name, _by_torch.spatial_sizes(input, rank), args[0])
        if stem == "adaptive_avg_pool":
            return onnx_adaptive_avg_pool(input, sizes) if exports else _by_torch.adaptive_avg_pool(input, sizes)
        return (onnx_adaptive_max_pool if exports else _by_torch.adaptive_max_pool)(input, sizes, bool(args[1]))
    if stem == "max_pool":
        kernel_size, stride, padding, dilation, ceil_mode, return_indices = args
        return _by_torch.max_pool(
            input, rank, *_window(name, rank, kernel_size, stride, padding, dilation, ceil_mode), return_indices=bool(return_indices)
        )
    if stem == "avg_pool":
        kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation = args
        window = _window(name, rank, kernel_size, stride, padding, dilation, ceil_mode)
        if exports and divisor_override is not None:  # which both exporters drop without a word
            return _by_torch.sum_pool(input, rank, *window) / divisor_override
        return _by_torch.avg_pool(input, rank, *window, count_include_pad, divisor_override)
    if stem == "sum_pool":
        kernel_size, stride, padding, ceil_mode, dilation = args
        return _by_torch.sum_pool(input, rank, *_window(name, rank, kernel_size, stride, padding, dilation, ceil_mode))
    raise NotImplementedError(f"{name} has no form in torch's operators")


def _window(name: str, rank: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> tuple[Any, ...]:
    return window_args(name, rank, kernel_size, stride, padding, dilation, {"ceil_mode": ceil_mode})[1:]


def has_kernels(input: Tensor) -> bool:
    """Whether a call of an operator of ours is what shall run, or be recorded."""
    return serves(input) if is_dynamo_compiling() else is_ours(input) and not in_onnx_export()


def combined_pool(input: Tensor, rank: int, form: int, kinds: list[int], sizes: list[int], *moves: list[int]) -> Tensor:
    """``moves``: stride and padding of sliding windows; without, windows are adaptive."""
    if has_kernels(input):
        if is_dynamo_compiling():
            return ops.combined_pool(input, rank, form, kinds, sizes, *(moves or _ADAPTIVE))
        return _C.combined_pool(rank, input, form, kinds, sizes, *(moves or _ADAPTIVE))
    if not is_dynamo_compiling() and in_onnx_export():
        adaptive = onnx_adaptive_avg_pool, onnx_adaptive_max_pool
        return _by_torch.combined_pool(input, rank, form, kinds, sizes, *moves, adaptive=adaptive)
    return _by_torch.combined_pool(input, rank, form, kinds, sizes, *moves)


# --- ONNX -------------------------------------------------------------------------------------------------------------


def onnx_adaptive_avg_pool(input: Tensor, output_size: Sequence[int]) -> Tensor:
    rank = len(output_size)
    if all(size == 1 for size in output_size):
        return _global(input, rank, "avg")
    even = _even(input, output_size)
    if even is not None:
        return _evenly(input, output_size, even, "avg")
    for axis, size in enumerate(output_size):
        input = _reduce_axis(input, axis - rank, size, "mean")
    return input


def onnx_adaptive_max_pool(input: Tensor, output_size: Sequence[int], return_indices: bool = False) -> Any:
    rank = len(output_size)
    of_all = all(size == 1 for size in output_size)
    if of_all and not return_indices:
        return _global(input, rank, "max")
    even = _even(input, output_size)
    if of_all and even is None:  # a size is not known
        return tuple(part.reshape(*part.shape, *(1,) * rank) for part in input.flatten(-rank).max(-1))
    if even is not None:
        if return_indices:
            return _by_torch.torchs("max", rank)(_by_torch.pinned(input, rank), even, even, return_indices=True)
        return _evenly(input, output_size, even, "max")
    if return_indices:
        raise NotImplementedError(
            f"adaptive_max_pool{rank}d: return_indices=True with an output_size, {list(output_size)}, that does not divide the input's "
            "sizes has no form in ONNX"
        )
    for axis, size in enumerate(output_size):
        input = _reduce_axis(input, axis - rank, size, "amax")
    return input


def _evenly(input: Tensor, output_size: Sequence[int], even: Sequence[int], kind: str) -> Tensor:
    """A window that slides. The older exporter makes it of torch's operator, if it finds that the sizes are known."""
    rank = len(even)
    if not torch.jit.is_tracing():
        return _by_torch.torchs(kind, rank)(input, even, even)
    if input.dim() != rank + 2:
        return _evenly(input.unsqueeze(0), output_size, even, kind).squeeze(0)
    return _by_torch.torchs(f"adaptive_{kind}", rank)(input, list(output_size))


def _global(input: Tensor, rank: int, kind: str) -> Tensor:
    """The ONNX node by its name; torch's older exporter, which records torch's operators, makes it of them."""
    if torch.jit.is_tracing():
        return _by_torch.torchs(f"adaptive_{kind}", rank)(input, 1)
    if input.dim() != rank + 2:
        return _global(input.unsqueeze(0), rank, kind).squeeze(0)
    shape = (*input.shape[:2], *(1,) * rank)
    node = {"avg": "GlobalAveragePool", "max": "GlobalMaxPool"}[kind]
    return torch.onnx.ops.symbolic(node, (input,), dtype=input.dtype, shape=shape)


def _even(input: Tensor, output_size: Sequence[int]) -> list[int] | None:
    """The sizes of windows that are all alike, or None."""
    sizes = _by_torch.spatial_sizes(input, len(output_size))
    if not all(isinstance(size, int) for size in (*sizes, *output_size)):
        return None
    return None if any(size % out for size, out in zip(sizes, output_size)) else [size // out for size, out in zip(sizes, output_size)]


def _reduce_axis(input: Tensor, dim: int, output: int, reduce: str) -> Tensor:
    """Along one axis; windows are boxes, so axes can be reduced one after the other."""
    size = _by_torch.spatial_sizes(input, -dim)[0]
    function = getattr(torch, reduce)
    if output == 1:
        return function(input, dim, keepdim=True)
    if torch.jit.is_tracing():
        if output == size:
            return _by_torch.pinned(input, -dim)
        length = input.shape[dim]  # which the tracer follows: the windows are those of any size
        edges = [(out * length // output, ((out + 1) * length + output - 1) // output) for out in range(output)]
        windows = [(..., slice(*edge), *(slice(None),) * (-dim - 1)) for edge in edges]
        return torch.cat([function(input[window], dim, keepdim=True) for window in windows], dim)
    if output is size or (isinstance(size, int) and output == size):
        return input
    if not isinstance(size, int):
        raise NotImplementedError(
            f"an adaptive window of an axis whose size is not known has no form in ONNX, but output_size is {output} for axis {dim}: "
            "export with a fixed size of this axis"
        )
    edges = [(out * size // output, -(-(out + 1) * size // output)) for out in range(output)]
    return torch.cat([function(input.narrow(dim, begin, end - begin), dim, keepdim=True) for begin, end in edges], dim)


set_detour(detour)
set_exports(in_onnx_export)
