"""Our operators in terms of torch's own: for tensors that our kernels do not take, and for what is exported to other runtimes.

Arguments are those of the operators in csrc/ops/schema.cpp. torch's own function is called wherever it can do what is asked;
what it has no arguments for (uneven padding, dilation of averages) is padded, sliced and summed, one axis after the other.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Reduce = Callable[[Tensor, int], Tensor]

# torch's functions as they are when this is imported: programs put ours in their places.
_TORCHS: dict[str, Callable[..., Any]] = {
    f"{kind}_pool{rank}d": getattr(F, f"{kind}_pool{rank}d")
    for kind in ("max", "avg", "adaptive_max", "adaptive_avg")
    for rank in (1, 2, 3)
}


def torchs(kind: str, rank: int) -> Callable[..., Any]:
    """torch.nn.functional's own function of that name."""
    return _TORCHS[f"{kind}_pool{rank}d"]


class Window:
    """A sliding window with one entry for each axis: sizes, paddings at both ends, and how many outputs there are."""

    def __init__(
        self,
        input: Tensor,
        rank: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        sizing: int,
    ) -> None:
        self.rank = rank
        self.kernel = _each(kernel_size, rank)
        self.stride = _each(stride or kernel_size, rank)
        self.dilation = _each(dilation, rank)
        self.ceil, self.same = sizing == 1, sizing in (2, 3)
        self.input = spatial_sizes(input, rank)
        self.reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation)]
        if self.same:  # ceil(input / stride) outputs, the odd element at the end or, 'same_lower', at the start
            needed = [self._needed(axis) for axis in range(rank)]
            self.begin = [(total + (sizing == 3)) // 2 for total in needed]
            self.end = [total - begin for total, begin in zip(needed, self.begin)]
            return
        pads = list(padding) if len(padding) == 2 * rank else _each(padding, rank) * 2
        self.begin, self.end = pads[:rank], pads[rank:]

    def _needed(self, axis: int) -> int:
        """The padding of 'same'."""
        size, stride, reach = self.input[axis], self.stride[axis], self.reach[axis]
        if stride == 1:
            return reach - 1
        self._must_be_known(axis, "padding='same'")
        return max((-(-size // stride) - 1) * stride + reach - size, 0)

    def outputs(self, axis: int) -> int:
        size, stride = self.input[axis], self.stride[axis]
        if self.same:
            return -(-size // stride)
        free = size + self.begin[axis] + self.end[axis] - self.reach[axis]
        if not self.ceil:
            return free // stride + 1
        self._must_be_known(axis, "ceil_mode=True with uneven padding or dilation")
        outputs = -(-free // stride) + 1
        # The last window starts inside the input or the padding before it.
        return outputs - 1 if (outputs - 1) * stride >= size + self.begin[axis] else outputs

    def _must_be_known(self, axis: int, what: str) -> None:
        """A decision about a size is one for the size of the example, which an exported graph would keep for all."""
        if in_onnx_export() and not isinstance(self.input[axis], int):
            raise NotImplementedError(
                f"{what} of an axis whose size is not known has no form in ONNX, but spatial axis {axis} is dynamic: "
                "export with a fixed size of this axis"
            )

    def is_torchs(self) -> bool:
        """Can torch's own functions pad like this?"""
        return self.begin == self.end and all(2 * begin <= kernel for begin, kernel in zip(self.begin, self.kernel))


def in_onnx_export() -> bool:
    onnx = sys.modules.get("torch.onnx")  # whoever exports has imported it
    return onnx is not None and onnx.is_in_onnx_export()


def pinned(input: Tensor, rank: int) -> Tensor:
    """The same, in a graph that then refuses other spatial sizes: to the older exporter of ONNX, which alone knows what axes are to be
    dynamic, sizes are the numbers of its example, and what was decided by them holds for no others."""
    if not (torch.jit.is_tracing() and in_onnx_export()):
        return input
    return input.expand(*(-1,) * (input.dim() - rank), *spatial_sizes(input, rank))


def spatial_sizes(input: Tensor, rank: int) -> list[int]:
    """As numbers: to torch.jit.trace a size is a tensor, and it warns of everyone who looks."""
    if not torch.jit.is_tracing():
        return list(input.shape[-rank:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return [int(size) for size in input.shape[-rank:]]


def _each(values: Sequence[int], rank: int) -> list[int]:
    return list(values) * rank if len(values) == 1 else list(values)


def _padded(input: Tensor, begin: Sequence[int], end: Sequence[int], value: float) -> Tensor:
    flat = [pad for axis in reversed(range(len(begin))) for pad in (begin[axis], end[axis])]
    return F.pad(input, flat, value=value) if any(flat) else input


def max_pool(input: Tensor, rank: int, *args: Any, return_indices: bool = False) -> Any:
    window = Window(input, rank, *args)
    function = torchs("max", rank)
    if window.same:
        input = pinned(input, rank)
    if window.is_torchs():
        return function(input, window.kernel, window.stride, window.begin, window.dilation, window.ceil, return_indices)
    input = pinned(input, rank)
    if return_indices:
        raise NotImplementedError(
            f"max_pool{rank}d: return_indices=True with a padding that torch's own max_pool{rank}d does not take is not "
            f"supported for an input on {input.device} or in an export; padding: {window.begin} before, {window.end} after"
        )
    lowest = -torch.inf if input.is_floating_point() else torch.iinfo(input.dtype).min
    output = function(
        _padded(input, window.begin, window.end, lowest), window.kernel, window.stride, 0, window.dilation, window.ceil
    )
    for axis in range(rank):
        output = output.narrow(axis - rank, 0, window.outputs(axis))
    return output


def avg_pool(input: Tensor, rank: int, *args: Any) -> Tensor:
    *sliding, count_include_pad, divisor_override = args
    window = Window(input, rank, *sliding)
    if window.same:
        input = pinned(input, rank)
    if window.is_torchs() and max(window.dilation) == 1 and (rank > 1 or divisor_override is None):
        divisor = () if rank == 1 else (divisor_override,)
        function = torchs("avg", rank)
        return function(input, window.kernel, window.stride, window.begin, window.ceil, count_include_pad, *divisor)
    input = pinned(input, rank)
    total = _sums(input, window)
    if divisor_override is not None:
        count: Any = divisor_override
    else:
        none = [0] * rank
        ones = input.new_ones(window.input, dtype=total.dtype)
        count = _sums(_padded(ones, window.begin, window.end, 1) if count_include_pad else ones, window,
                      none if count_include_pad else window.begin)
    rounding = None if total.is_floating_point() else "trunc"
    return torch.div(total, count, rounding_mode=rounding).to(input.dtype)


def sum_pool(input: Tensor, rank: int, *args: Any) -> Tensor:
    return _sums(pinned(input, rank), Window(input, rank, *args)).to(input.dtype)


def _sums(input: Tensor, window: Window, begin: Sequence[int] | None = None) -> Tensor:
    """Axis by axis, one strided slice for each tap."""
    if input.dtype in (torch.bfloat16, torch.float16):
        input = input.float()
    for axis in range(window.rank):
        dim, before = axis - window.rank, (begin or window.begin)[axis]
        span = (window.outputs(axis) - 1) * window.stride[axis] + 1
        missing = span + window.reach[axis] - 1 - before - spatial_sizes(input, -dim)[0]
        # At most as much as is padded at the end, unless a last window overhangs; a symbol must not be decided about.
        missing = max(missing, 0) if isinstance(missing, int) else window.end[axis]
        pads = [0] * (2 * -dim)
        pads[-2:] = [before, missing]
        padded = F.pad(input, pads) if before or missing else input
        taps = [tap * window.dilation[axis] for tap in range(window.kernel[axis])]
        total = padded.narrow(dim, taps[0], span)[_strided(dim, window.stride[axis])]
        for tap in taps[1:]:
            total = total + padded.narrow(dim, tap, span)[_strided(dim, window.stride[axis])]
        input = total
    return input


def _strided(dim: int, step: int) -> tuple[Any, ...]:
    return (..., slice(None, None, step), *(slice(None),) * (-dim - 1))


def adaptive_avg_pool(input: Tensor, output_size: Sequence[int]) -> Tensor:
    return torchs("adaptive_avg", len(output_size))(input, list(output_size))


def adaptive_max_pool(input: Tensor, output_size: Sequence[int], return_indices: bool = False) -> Any:
    return torchs("adaptive_max", len(output_size))(input, list(output_size), return_indices)


def combined_pool(
    input: Tensor,
    rank: int,
    form: int,
    kinds: Sequence[int],
    sizes: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (),
    *,
    adaptive: tuple[Callable[..., Tensor], Callable[..., Tensor]] = (adaptive_avg_pool, adaptive_max_pool),
) -> Tensor:
    """``adaptive``: what averages and what takes maxima over adaptive windows."""
    parts = []
    for number, kind in enumerate(kinds):
        if stride:
            window = (rank, sizes, stride, padding, [1], 0)
            parts.append(max_pool(input, *window) if kind else avg_pool(input, *window, True, None))
        else:
            parts.append(adaptive[kind](input, list(sizes[number * rank : (number + 1) * rank])))
    if form == 0:
        return torch.cat(parts, 1)
    if form == 1:
        return sum(parts[1:], parts[0]) / len(parts)
    if form == 2:
        return torch.cat([part.flatten(1) for part in parts], 1)
    raise ValueError(f"combined_pool: form must be 0, 1 or 2, but got {form}")
