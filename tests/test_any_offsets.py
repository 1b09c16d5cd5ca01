"""Offsets that no maximum would give.

On every device one that names a tap outside the input sends its gradient nowhere, and all others send theirs to the element they
name. One that names no tap of its window is refused on the CPU (test_errors_direct.py). A GPU cannot refuse without waiting for
the device: there it gathers 0, has index 0, and sends its gradient nowhere, and nothing else changes.
"""
from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import torch_pooling  # noqa: F401 - registers the operators
from emulated import EMULATED
from torch_pooling import _library

ON_GPU = _library.cuda_version() is not None and torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
OPS = torch.ops.torch_pooling

# kernel, stride, padding, spatial size: small windows, one that overlaps much, one that does not, and three axes.
WINDOWS = (
    ([3, 3], [2, 2], [1, 1], [9, 12]),
    ([3, 3], [2, 2], [1, 1], [8, 64]),
    ([3, 3], [1, 1], [1, 1], [10, 21]),
    ([9, 7], [1, 1], [4, 3], [14, 16]),
    ([4, 5], [4, 5], [0, 0], [12, 15]),
    ([9, 9], [1, 1], [4, 4], [37, 70]),  # several tiles of a block
    ([15, 16], [2, 1], [7, 8], [20, 20]),
    ([3, 3], [1, 1], [1, 1], [70, 80]),  # planes too large to be listed
    ([5, 5], [2, 2], [2, 2], [140, 150]),
)
WINDOWS_3D = (([5, 5, 5], [1, 1, 1], [2, 2, 2], [6, 7, 8]),)
BAD = {torch.uint8: (255,), torch.int32: (100_000, -1, -(2**31)), torch.int64: (2**32, 2**62, -1, -(2**63))}


def layout(tensor: Tensor, channels_last: bool) -> Tensor:
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else tensor.contiguous()


@pytest.mark.skipif(not EMULATED and not ON_GPU, reason="the CPU's own operators refuse such offsets")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kernel, stride, padding, size", WINDOWS + WINDOWS_3D)
def test_bad_offsets_are_harmless(
    kernel: list[int], stride: list[int], padding: list[int], size: list[int], channels_last: bool
) -> None:
    rank = len(size)
    window = (rank, kernel, stride, padding, [1] * rank, False)
    input = layout(torch.randn(2, 4, *size, device=DEVICE), channels_last)
    output, offsets = OPS.max_pool_with_offsets(input, *window)
    grad = layout(torch.randint(-8, 9, output.shape, device=DEVICE).float(), channels_last)  # sums are exact in any order
    flat = offsets.permute(0, *range(2, rank + 2), 1).reshape(-1) if channels_last else offsets.reshape(-1)
    for dtype, place in product(BAD, (0, 5, flat.numel() - 1)):
        for value in BAD[dtype]:
            bad = offsets.to(dtype, copy=True)
            mask = torch.zeros(flat.numel(), dtype=torch.bool, device=DEVICE)
            mask[place] = True
            mask = mask.view(offsets.shape)
            bad[mask] = value
            expected = OPS.max_pool_backward(grad.masked_fill(mask, 0), offsets, size, *window, channels_last)
            assert torch.equal(OPS.max_pool_backward(grad, bad, size, *window, channels_last), expected)
            assert torch.equal(OPS.max_pool_gather(input, bad, *window), output.masked_fill(mask, 0))
            indices = OPS.max_pool_indices(offsets, size, *window).masked_fill(mask, 0)
            assert torch.equal(OPS.max_pool_indices(bad, size, *window), indices)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("changed", [1, 10_000])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kernel, stride, padding, size", WINDOWS + WINDOWS_3D)
def test_any_offsets_send_each_gradient_to_the_element_they_name(
    kernel: list[int], stride: list[int], padding: list[int], size: list[int], channels_last: bool, changed: int, dtype: torch.dtype
) -> None:
    """All of them random, or one alone: no way of the backward may rely on what a maximum would have given."""
    rank = len(size)
    window = (rank, kernel, stride, padding, [1] * rank, False)
    input = layout(torch.randn(2, 3, *size, device=DEVICE), channels_last)
    output, offsets = OPS.max_pool_with_offsets(input, *window)
    taps = torch.Size(kernel).numel()
    random = offsets.contiguous().to(dtype, copy=True)
    for place in torch.randperm(random.numel())[:changed].tolist():  # the first and the last tap often lie in the padding
        random.view(-1)[place] = int(torch.randint(0, taps, ())) if changed > 1 else taps - 1 if place % 2 else 0
    grad = layout(torch.randint(-8, 9, output.shape, device=DEVICE).float(), channels_last)
    indices = OPS.max_pool_indices(layout(random, channels_last), size, *window)
    # 0 where the tap lies in the padding
    named = OPS.max_pool_gather(torch.ones_like(input), layout(random, channels_last), *window)
    planes = torch.zeros(2, 3, torch.Size(size).numel(), device=DEVICE)
    planes.scatter_add_(2, indices.reshape(2, 3, -1), (grad * named).reshape(2, 3, -1))
    found = OPS.max_pool_backward(grad, layout(random, channels_last), size, *window, channels_last)
    assert torch.equal(found.reshape(2, 3, -1), planes)


@pytest.mark.parametrize("code", [None, 16, 56])
@pytest.mark.parametrize("kernel, stride, size", [
    ([200, 100], [200, 28], [200, 128]),
    ([150, 120], [150, 130], [150, 256]),  # apart, with a gap
    ([700, 100], [700, 28], [700, 128]),
    ([30, 20], [30, 2], [30, 40]),
    ([20, 17], [20, 17], [20, 34]),
])
def test_offsets_of_a_byte_for_windows_of_more_elements(
    kernel: list[int], stride: list[int], size: list[int], code: int | None, each_isa: Callable[[], Any]
) -> None:
    """No maximum gives them, but they are right: what compares 16 bits must not take the number of another tap for theirs."""
    window = (2, kernel, stride, [0, 0], [1, 1], False)
    shape = (1, 5, *((n - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True)))
    offsets = torch.randint(0, 256, shape, device=DEVICE) if code is None else torch.full(shape, code, device=DEVICE)
    grad = torch.randint(-8, 9, shape, device=DEVICE).float()
    indices = OPS.max_pool_indices(offsets, size, *window)
    planes = torch.zeros(1, 5, torch.Size(size).numel(), device=DEVICE)
    planes.scatter_add_(2, indices.reshape(1, 5, -1), grad.reshape(1, 5, -1))
    for isa in each_isa():
        for dtype, offset_type in product((torch.float32, torch.bfloat16, torch.float16), (torch.uint8, torch.int32)):
            found = OPS.max_pool_backward(grad.to(dtype), offsets.to(offset_type), size, *window, False)
            assert torch.equal(found.float().reshape(1, 5, -1), planes), (isa, dtype, offset_type)


@pytest.mark.skipif(not EMULATED and not ON_GPU, reason="the CPU's own operators refuse such offsets")
def test_offsets_beyond_a_shorter_adaptive_window_name_nothing() -> None:
    """Of 5 elements the windows are [0, 2), [1, 4) and [3, 5): a third tap is one of the second alone."""
    input = torch.tensor([[[1.0, 2, 3, 4, 5]]], device=DEVICE)
    offsets = torch.full((1, 1, 3), 2, dtype=torch.uint8, device=DEVICE)
    assert OPS.adaptive_max_pool_gather(input, offsets, [3]).tolist() == [[[0, 4, 0]]]
    assert OPS.adaptive_max_pool_indices(offsets, [5]).tolist() == [[[0, 3, 0]]]
    assert OPS.adaptive_max_pool_backward(torch.ones(1, 1, 3, device=DEVICE), offsets, [5], False).tolist() == [[[0, 0, 0, 1, 0]]]
