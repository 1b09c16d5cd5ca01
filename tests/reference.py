"""Pooling written from its definition in NumPy: float64 for floating inputs, exact integers for integers.

A window is the list of input cells that one output reads. `sliding`, `adaptive` and `whole` list them, axis by
axis, in plain Python; the reductions then loop over outputs and know nothing of stride, padding or dilation.
Deliberately naive, no torch in it. Arrays are [N, C, *spatial]; indices are flat positions in the spatial plane.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Axis:
    """One axis: for each output, the input positions it reads, and how many taps an average counts with padding."""

    size: int
    positions: tuple[tuple[int, ...], ...]  # positions inside the input, ascending
    numbers: tuple[tuple[int, ...], ...]  # the number of each of these taps in the window, from 0
    counted: tuple[int, ...]  # taps on the input or its padding (not on ceil_mode's overhang)
    taps: int  # taps of a window, inside or not


def sliding_axis(
    size: int, kernel: int, stride: int, begin: int = 0, end: int = 0, dilation: int = 1, ceil_mode: bool = False
) -> Axis:
    """A sliding window over `size` elements with `begin` and `end` elements of padding."""
    reach = dilation * (kernel - 1) + 1
    room = size + begin + end - reach
    steps = -(-room // stride) if ceil_mode else room // stride
    outputs = steps + 1
    if ceil_mode and (outputs - 1) * stride >= size + begin:
        outputs -= 1  # the last window must start inside the input or the padding before it
    positions, numbers, counted = [], [], []
    for output in range(outputs):
        taps = [(number, output * stride - begin + number * dilation) for number in range(kernel)]
        inside = [(number, position) for number, position in taps if 0 <= position < size]
        positions.append(tuple(position for _, position in inside))
        numbers.append(tuple(number for number, _ in inside))
        counted.append(sum(position < size + end for _, position in taps))
    return Axis(size, tuple(positions), tuple(numbers), tuple(counted), kernel)


def named_padding(name: str, size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Padding before and after an axis, as TensorFlow defines "SAME": enough that ceil(size / stride) windows fit."""
    if name == "valid":
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if name == "same" else (large, small)


def adaptive_axis(size: int, outputs: int) -> Axis:
    """`outputs` windows that cover `size` elements: output i reads floor(i I / O) up to ceil((i + 1) I / O)."""
    positions = []
    for output in range(outputs):
        first = output * size // outputs
        last = -(-(output + 1) * size // outputs)
        positions.append(tuple(range(first, last)))
    numbers = tuple(tuple(range(len(window))) for window in positions)
    counted = tuple(len(window) for window in positions)
    return Axis(size, tuple(positions), numbers, counted, max(counted, default=0))


@dataclass(frozen=True)
class Windows:
    """The windows of all outputs of a plane, from one Axis for each spatial axis."""

    axes: tuple[Axis, ...]

    @property
    def input_size(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def output_size(self) -> tuple[int, ...]:
        return tuple(len(axis.positions) for axis in self.axes)

    @cached_property
    def cells(self) -> list[np.ndarray]:
        """For each output in scan order: the flat positions it reads, in scan order."""
        strides = [math.prod(self.input_size[axis + 1 :]) for axis in range(len(self.axes))]
        along = [
            [np.asarray(window, dtype=np.int64) * stride for window in axis.positions]
            for axis, stride in zip(self.axes, strides)
        ]
        return [_outer_sum(windows) for windows in itertools.product(*along)]

    @cached_property
    def offsets(self) -> list[np.ndarray]:
        """For each output: the number, in the whole window, of each cell it reads (sliding windows)."""
        strides = [math.prod(axis.taps for axis in self.axes[i + 1 :]) for i in range(len(self.axes))]
        along = [
            [np.asarray(window, dtype=np.int64) * stride for window in axis.numbers]
            for axis, stride in zip(self.axes, strides)
        ]
        return [_outer_sum(windows) for windows in itertools.product(*along)]

    def divisors(self, count_include_pad: bool = True, divisor_override: int | None = None) -> list[int]:
        """What each output's sum is divided by."""
        if divisor_override is not None:
            return [divisor_override] * math.prod(self.output_size)
        if count_include_pad:
            return [math.prod(counts) for counts in itertools.product(*(axis.counted for axis in self.axes))]
        return [len(cell) for cell in self.cells]


def _outer_sum(windows: Sequence[np.ndarray]) -> np.ndarray:
    total = np.zeros(1, dtype=np.int64)
    for window in windows:
        total = (total[:, None] + window[None, :]).reshape(-1)
    return total


def sliding(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    begin: Sequence[int],
    end: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool = False,
) -> Windows:
    return Windows(
        tuple(sliding_axis(*axis, ceil_mode) for axis in zip(size, kernel, stride, begin, end, dilation, strict=True))
    )


def adaptive(size: Sequence[int], output_size: Sequence[int | None]) -> Windows:
    """None keeps an axis."""
    return Windows(
        tuple(
            adaptive_axis(inputs, inputs if outputs is None else outputs)
            for inputs, outputs in zip(size, output_size, strict=True)
        )
    )


def whole(size: Sequence[int]) -> Windows:
    """One window that is the whole plane."""
    return adaptive(size, [1] * len(size))


def _planes(array: np.ndarray) -> np.ndarray:
    wide = np.float64 if array.dtype.kind == "f" else np.int64
    return array.astype(wide).reshape(array.shape[0] * array.shape[1], -1)


def _shaped(planes: np.ndarray, like: np.ndarray, size: Sequence[int]) -> np.ndarray:
    return planes.reshape(*like.shape[:2], *size)


def average(inputs: np.ndarray, windows: Windows, divisors: Sequence[int]) -> np.ndarray:
    """Averages; integers are divided towards zero. A window without a cell gives 0."""
    planes = _planes(inputs)
    result = np.zeros((len(planes), len(windows.cells)), dtype=planes.dtype)
    for output, (cell, divisor) in enumerate(zip(windows.cells, divisors, strict=True)):
        if len(cell) == 0:
            continue
        total = planes[:, cell].sum(1)
        if planes.dtype.kind == "f":
            result[:, output] = total / divisor
        else:
            result[:, output] = np.sign(total) * np.sign(divisor) * (np.abs(total) // abs(divisor))
    return _shaped(result, inputs, windows.output_size)


def average_backward(grad_output: np.ndarray, windows: Windows, divisors: Sequence[int]) -> np.ndarray:
    grads = _planes(grad_output)
    result = np.zeros((len(grads), math.prod(windows.input_size)))
    for output, (cell, divisor) in enumerate(zip(windows.cells, divisors, strict=True)):
        if len(cell):
            result[:, cell] += grads[:, output : output + 1] / divisor
    return _shaped(result, grad_output, windows.input_size)


def _winners(window: np.ndarray) -> np.ndarray:
    """Position of the maximum in each row: the last NaN where there is one, else the first of the largest."""
    nan = np.isnan(window)
    last_nan = window.shape[1] - 1 - nan[:, ::-1].argmax(1)
    return np.where(nan.any(1), last_nan, np.where(nan, -np.inf, window).argmax(1))


def maximum(inputs: np.ndarray, windows: Windows, lowest: float | int = -np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Maxima and int64 flat indices. A window without a cell gives `lowest` and index 0."""
    planes = _planes(inputs)
    rows = np.arange(len(planes))
    values = np.full((len(planes), len(windows.cells)), lowest, dtype=planes.dtype)
    indices = np.zeros(values.shape, dtype=np.int64)
    for output, cell in enumerate(windows.cells):
        if len(cell):
            window = planes[:, cell]
            winner = _winners(window) if planes.dtype.kind == "f" else window.argmax(1)
            values[:, output] = window[rows, winner]
            indices[:, output] = cell[winner]
    return (_shaped(values, inputs, windows.output_size), _shaped(indices, inputs, windows.output_size))


def maximum_backward(grad_output: np.ndarray, indices: np.ndarray, windows: Windows) -> np.ndarray:
    """Each output's gradient goes to its index, and nowhere when its window has no cell."""
    grads = _planes(grad_output)
    chosen = indices.reshape(grads.shape)
    rows = np.arange(len(grads))
    result = np.zeros((len(grads), math.prod(windows.input_size)))
    for output, cell in enumerate(windows.cells):
        if len(cell):
            result[rows, chosen[:, output]] += grads[:, output]
    return _shaped(result, grad_output, windows.input_size)
