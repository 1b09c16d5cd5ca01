"""Brute-force proof of the window arithmetic in csrc/core/window.h, on tens of thousands of geometries.

`_library.sliding_window` and `adaptive_window` answer with what the kernels use: the input positions that each output
reads, and the outputs that read each input. Here both are compared with the definition, written in three lines, and
with each other. Everything else in this project trusts that the two directions are inverse relations.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch

from torch_pooling import _library

Lists = list[list[int]]


def inverse(inputs: Lists, size: int) -> Lists:
    """For each of `size` inputs the outputs, ascending, whose list names it."""
    outputs: Lists = [[] for _ in range(size)]
    for output, positions in enumerate(inputs):
        for position in positions:
            outputs[position].append(output)
    return outputs


def number_of_windows(size: int, kernel: int, stride: int, begin: int, end: int, dilation: int, ceil: bool) -> int:
    """Windows of the padded axis, by walking: with ceil_mode also the one that overhangs, if it starts early enough."""
    reach = dilation * (kernel - 1) + 1
    starts = range(-begin, size + end - reach + 1, stride)
    number = len(starts)
    leftover = size + end - reach - starts[-1] if number else 0
    next_start = -begin + number * stride
    return number + (ceil and leftover > 0 and next_start < size)


def geometries() -> Iterator[tuple[int, int, int, int, int, int, bool]]:
    """size, kernel, stride, padding_begin, padding_end, dilation, ceil_mode; at least one window each."""
    for size, kernel, stride, dilation in product((*range(1, 13), 16, 23, 31, 32), range(1, 6), range(1, 6), range(1, 4)):
        reach = dilation * (kernel - 1) + 1
        symmetric = {(padding, padding) for padding in range(reach)}
        for begin, end in sorted(symmetric | {(0, reach - 1), (reach - 1, 0), (reach // 2, reach // 3)}):
            if size + begin + end >= reach:
                for ceil_mode in (False, True):
                    yield size, kernel, stride, begin, end, dilation, ceil_mode


GEOMETRIES = list(geometries())


def test_enough_geometries() -> None:
    assert len(GEOMETRIES) > 10_000
    dilated = [g for g in GEOMETRIES if g[5] > 1]
    no_tap = [g for g in dilated if not all(_library.sliding_window(*g)[0])]
    assert len(dilated) > 1000 and len(no_tap) > 100, "windows without a single tap inside the input must be among them"


def test_sliding_windows_are_the_definition_both_ways() -> None:
    for geometry in GEOMETRIES:
        size, kernel, stride, begin, end, dilation, ceil_mode = geometry
        inputs, outputs = _library.sliding_window(*geometry)
        windows = number_of_windows(*geometry)
        taps = [[o * stride - begin + t * dilation for t in range(kernel)] for o in range(windows)]
        assert inputs == [[i for i in window if 0 <= i < size] for window in taps], geometry
        assert outputs == inverse(inputs, size), geometry


def test_output_size_is_torchs() -> None:
    """torch's own word on the number of windows, for every geometry that torch accepts."""
    compared = 0
    for size, kernel, stride, begin, end, dilation, ceil_mode in GEOMETRIES:
        if begin == end and begin <= kernel // 2:
            input = torch.empty(1, 1, size, device="meta")
            expected = torch.nn.functional.max_pool1d(input, kernel, stride, begin, dilation, ceil_mode).size(-1)
            inputs, _ = _library.sliding_window(size, kernel, stride, begin, end, dilation, ceil_mode)
            assert len(inputs) == expected, (size, kernel, stride, begin, dilation, ceil_mode)
            compared += 1
    assert compared > 3_000


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_overhanging_window_must_start_inside(ceil_mode: bool) -> None:
    """The two geometries in which libraries most often differ: a last window that would see nothing but padding."""
    inputs, outputs = _library.sliding_window(5, 2, 2, 1, 1, 1, ceil_mode)
    assert inputs == [[0], [1, 2], [3, 4]] and outputs == [[0], [1], [1], [2], [2]]
    inputs, _ = _library.sliding_window(6, 1, 2, 0, 0, 1, ceil_mode)
    assert inputs == [[0], [2], [4]]


def test_adaptive_windows_are_the_definition_both_ways() -> None:
    for size, windows in product(range(1, 41), range(1, 41)):
        inputs, outputs = _library.adaptive_window(size, windows)
        starts = [o * size // windows for o in range(windows)]
        ends = [-((-(o + 1) * size) // windows) for o in range(windows)]
        assert inputs == [list(range(start, end)) for start, end in zip(starts, ends)], (size, windows)
        assert outputs == inverse(inputs, size), (size, windows)


def test_adaptive_windows_are_self_dual() -> None:
    """The outputs that read input i, of I inputs and O outputs, are the window of output i of O inputs, I outputs."""
    for size, windows in product(range(1, 41), range(1, 41)):
        inputs, outputs = _library.adaptive_window(size, windows)
        assert _library.adaptive_window(windows, size) == (outputs, inputs), (size, windows)


def test_adaptive_windows_are_torchs() -> None:
    """Which inputs torch averages, read off its gradient: one hot output at a time, many sizes at once."""
    for size, windows in product((1, 2, 3, 5, 7, 8, 13, 16, 31), (1, 2, 3, 4, 6, 7, 10, 13, 16, 33)):
        batch = torch.zeros(windows, 1, size, requires_grad=True)  # item b asks for output b alone
        averages = torch.nn.functional.adaptive_avg_pool1d(batch, windows)
        averages.diagonal(dim1=0, dim2=2).sum().backward()
        assert batch.grad is not None
        read = [row.nonzero().flatten().tolist() for row in batch.grad[:, 0]]
        assert _library.adaptive_window(size, windows)[0] == read, (size, windows)


def test_adaptive_edges_are_integer_arithmetic() -> None:
    """Sizes at which edges computed in float32 (or with floor for the end) are off by one."""
    for size, windows in ((10, 3), (224, 13), (5, 3), (2, 4), (100_003, 3), (100_003, 17)):
        inputs, _ = _library.adaptive_window(size, windows)
        edges = [(window[0], window[-1] + 1) for window in inputs]
        expected = [(o * size // windows, (o * size + size + windows - 1) // windows) for o in range(windows)]
        assert edges == expected, (size, windows)
