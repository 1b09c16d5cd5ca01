"""Tensors of more than 2^31 elements, forward and backward, against the same call on slices. Run alone: `make test-large`.

Every product of sizes, strides and positions passes 2^31 somewhere in them, so that an offset of 32 bits would go elsewhere. What is
held at a time stays below 20 GiB.
"""
from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from torch_pooling import functional

pytestmark = pytest.mark.large


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    gc.collect()
    yield
    torch.set_num_threads(before)
    gc.collect()


def pattern(count: int, dtype: torch.dtype, most: int = 127) -> Tensor:
    """0 to most - 1 in an order without period that a window would meet, block by block (no tensor of another type as large)."""
    result = torch.empty(count, dtype=dtype)
    for begin in range(0, count, 1 << 26):
        end = min(count, begin + (1 << 26))
        numbers = torch.arange(begin, end)
        result[begin:end] = ((numbers * 7919 + (numbers >> 13)) % most).to(dtype)
    return result


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_int8_maxima(layout: str) -> None:
    """2.2 GB in, k2 s2; values and, at the far end, indices."""
    shape = (5, 7, 8000, 7800)  # 2,184,000,000 elements
    count = 5 * 7 * 8000 * 7800
    flat = pattern(count, torch.int8)
    if layout == "channels_first":
        input = flat.view(shape)
    else:
        input = flat.view(5, 8000, 7800, 7).permute(0, 3, 1, 2)
    assert input.numel() > 2**31
    output = functional.max_pool2d(input, 2)
    for sample, rows in ((0, slice(0, 20)), (2, slice(3000, 3020)), (4, slice(3980, 4000))):
        part = input[sample : sample + 1, :, 2 * rows.start : 2 * rows.stop]
        expected = functional.max_pool2d(part.contiguous(), 2)
        assert torch.equal(output[sample : sample + 1, :, rows], expected)
        by_hand = part.unflatten(2, (20, 2)).unflatten(4, (3900, 2)).amax((3, 5))
        assert torch.equal(expected, by_hand)
    del output
    values = functional.global_max_pool(input)
    assert torch.equal(values, torch.full_like(values, 126))


def test_one_plane_of_more_than_2_to_the_31() -> None:
    """Positions inside a plane beyond 2^31: int8, one channel, indices at its end."""
    length = 2**31 + 7
    input = pattern(length, torch.int8, 100).view(1, 1, length)
    input[..., -3] = 120
    output, index = functional.global_max_pool(input, return_indices=True)
    assert output.item() == 120 and index.item() == length - 3
    output = functional.max_pool1d(input, 1000, 1000)
    assert output.shape[-1] == length // 1000
    assert torch.equal(output[..., -5:], input[..., : length // 1000 * 1000][..., -5000:].unflatten(-1, (5, 1000)).amax(-1))
    values, indices = functional.max_pool1d(input, 4103, 4096, return_indices=True)  # the last window ends where the row does
    assert values[..., -1].item() == 120 and indices[..., -1].item() == length - 3
    assert torch.equal(input.gather(2, indices), values)


def test_float16_averages() -> None:
    """4.3 GB in; every sum is exact, so slices give the same bits. The gradient has as many elements."""
    shape = (3, 11, 8190, 8002)  # 2,162,700,540 elements
    flat = pattern(3 * 11 * 8190 * 8002, torch.float16, 16)
    input = flat.view(shape)
    output = functional.avg_pool2d(input, 2)
    for sample, row in ((0, 0), (1, 2000), (2, 4085)):
        part = input[sample : sample + 1, :, 2 * row : 2 * row + 20]
        expected = part.float().unflatten(2, (10, 2)).unflatten(4, (4001, 2)).mean((3, 5)).half()
        assert torch.equal(output[sample : sample + 1, :, row : row + 10], expected)
    del input, flat
    gc.collect()
    leaf = torch.zeros(1, dtype=torch.float16).expand(shape).requires_grad_()  # a leaf without memory of its own
    result = functional.avg_pool2d(leaf, 2)
    grad = pattern(result.numel(), torch.float16, 16).view(result.shape)
    del result
    gradient = torch.ops.torch_pooling.avg_pool_backward(grad, shape[2:], 2, [2], [2], [0], [1], 0, True, None, False)
    for sample, row in ((0, 0), (2, 4085)):
        part = grad[sample : sample + 1, :, row : row + 10] / 4
        assert torch.equal(gradient[sample : sample + 1, :, 2 * row : 2 * row + 20], part.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_one_row_of_more_than_2_to_the_31_floats() -> None:
    """float16, [1, 1, 2^31 + 7]: windows of four, one average of all, and a gradient, spot-checked at the far end."""
    length = 2**31 + 7
    input = pattern(length, torch.float16, 16).view(1, 1, length)
    output = functional.avg_pool1d(input, 4, 4)
    assert output.shape[-1] == length // 4
    covered = length // 4 * 4
    tail = input[..., covered - 4000 : covered].float().unflatten(-1, (1000, 4)).mean(-1).half()
    assert torch.equal(output[..., -1000:], tail)
    mean = functional.global_avg_pool(input)
    assert abs(mean.item() - 7.5) < 0.01
    del input
    gc.collect()
    gradient = torch.ops.torch_pooling.avg_pool_backward(output, [length], 1, [4], [4], [0], [1], 0, True, None, False)
    assert gradient.shape[-1] == length
    assert torch.equal(gradient[..., covered - 4000 : covered], (tail / 4).repeat_interleave(4, -1))
    assert not bool(gradient[..., covered:].any())


def test_gradient_of_a_maximum() -> None:
    """2^31 and more elements of float16 from offsets of a byte: 4.3 GB out, 1.1 + 0.5 GB in."""
    shape = (3, 11, 8190, 8002)
    outputs = (3, 11, 4095, 4001)
    count = 3 * 11 * 4095 * 4001
    grad = pattern(count, torch.float16, 16).view(outputs)
    offsets = pattern(count, torch.uint8, 4).view(outputs)
    gradient = torch.ops.torch_pooling.max_pool_backward(grad, offsets, shape[2:], 2, [2], [2], [0], [1], 0, False)
    for sample, row in ((0, 0), (1, 2000), (2, 4085)):
        part, tap = (tensor[sample : sample + 1, :, row : row + 10] for tensor in (grad, offsets))
        found = gradient[sample : sample + 1, :, 2 * row : 2 * row + 20].unflatten(2, (10, 2)).unflatten(4, (4001, 2))
        for number in range(4):
            assert torch.equal(found[:, :, :, number // 2, :, number % 2], torch.where(tap == number, part, 0))


@pytest.mark.parametrize("pool", [functional.max_pool1d, functional.avg_pool1d])
def test_gradients_in_one_row_of_more_than_2_to_the_31(pool: Callable[..., Tensor]) -> None:
    """float16, [1, 1, 2^31 + 7]: windows that overlap by seven and end where the row does, against the same windows in a row of their own."""
    length, stride, windows = 2**31 + 7, 4096, 20
    leaf = pattern(length, torch.float16, 16).view(1, 1, length)
    leaf[..., -3] = 20
    part = leaf[..., -windows * stride - 7 :].clone().requires_grad_()
    output = pool(leaf.requires_grad_(), stride + 7, stride)
    grad = pattern(output.numel(), torch.float16, 16).view(output.shape)
    grad[..., -1] = 3
    (gradient,) = torch.autograd.grad(output, leaf, grad)
    expected_output = pool(part, stride + 7, stride)
    (expected,) = torch.autograd.grad(expected_output, part, grad[..., -windows:])
    assert torch.equal(output[..., -windows:], expected_output)
    assert gradient.shape == leaf.shape and torch.equal(gradient[..., -windows * stride :], expected[..., 7:])
    assert bool(gradient[..., -3].any())
    del gradient, expected, output, grad
    gc.collect()
    if pool is functional.max_pool1d:
        (gradient,) = torch.autograd.grad(functional.global_max_pool(leaf), leaf, torch.ones(1, 1, 1, dtype=torch.float16))
        assert gradient[..., -3].item() == 1 and int(torch.count_nonzero(gradient)) == 1


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("pool", [functional.adaptive_max_pool2d, functional.adaptive_avg_pool2d])
def test_adaptive_windows(pool: Callable[..., Tensor], layout: str) -> None:
    """2.2e9 elements of float16 in 35 planes, forward and backward, windows of two sizes an axis, whose sums are exact in float32: samples
    have the bits of the same call on each alone."""
    samples, channels, rows, columns = 5, 7, 8192, 7500
    flat = pattern(samples * channels * rows * columns, torch.float16, 16)
    assert flat.numel() > 2**31
    if layout == "channels_first":
        leaf = flat.view(samples, channels, rows, columns)
    else:
        leaf = flat.view(samples, rows, columns, channels).permute(0, 3, 1, 2)
    parts = {sample: leaf[sample : sample + 1].clone().requires_grad_() for sample in (0, 4)}
    output = pool(leaf.requires_grad_(), (7, 11))
    grad = pattern(output.numel(), torch.float16, 16).view(output.shape)
    (gradient,) = torch.autograd.grad(output, leaf, grad)
    for sample, part in parts.items():
        expected = pool(part, (7, 11))
        assert torch.equal(output[sample : sample + 1], expected)
        assert torch.equal(gradient[sample : sample + 1], torch.autograd.grad(expected, part, grad[sample : sample + 1])[0])
    assert bool(gradient[4, -1, rows // 7 * 6 :, columns // 11 * 10 :].any())


def test_one_volume_in_channels_last() -> None:
    """One item of 2.2e9 elements of float16: values, indices and a gradient at its ends."""
    channels, depth, height, width = 64, 258, 400, 330
    flat = pattern(channels * depth * height * width, torch.float16, 16)
    leaf = flat.view(1, depth, height, width, channels).permute(0, 4, 1, 2, 3)
    assert leaf.numel() > 2**31
    parts = {first: leaf[:, :, first : first + 2].clone().requires_grad_() for first in (0, 128, 256)}
    output, indices = functional.max_pool3d(leaf.requires_grad_(), 2, return_indices=True)
    grad = pattern(output.numel(), torch.float16, 16).view(output.shape)
    (gradient,) = torch.autograd.grad(output, leaf, grad)
    for first, part in parts.items():
        plane = slice(first // 2, first // 2 + 1)
        expected, places = functional.max_pool3d(part, 2, return_indices=True)
        assert torch.equal(output[:, :, plane], expected) and torch.equal(indices[:, :, plane], places + first * height * width)
        assert torch.equal(gradient[:, :, first : first + 2], torch.autograd.grad(expected, part, grad[:, :, plane])[0])
