"""NaN, infinities, ties, signed zeros, the ends of each type's range: in every lane, of rows and of channels.

NaN beats every number in a maximum and the last NaN of a window gives the index, as in torch; the first of equal
values wins; nothing leaks from one window into its neighbours.
"""
from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as torch_functional

import reference
from battery import FLOATS, INTEGERS, LAYOUTS, arrange, assert_exact, present_array
from torch_pooling import functional

NAN, INF = float("nan"), float("inf")
# (size, kernel, stride, padding, dilation): small windows, all strides, large windows, several ranks.
GEOMETRIES: tuple[tuple[tuple[int, ...], int, int, int, int], ...] = (
    ((37,), 3, 1, 1, 1),
    ((41,), 2, 2, 0, 1),
    ((300,), 31, 1, 15, 1),
    ((300,), 65, 7, 32, 1),
    ((9, 37), 3, 1, 1, 1),
    ((9, 38), 3, 2, 1, 1),
    ((8, 40), 2, 2, 0, 1),
    ((12, 33), 3, 1, 1, 2),
    ((10, 35), 5, 3, 2, 1),
    ((24, 40), 17, 1, 8, 1),
    ((23, 21), 5, 1, 2, 1),
    ((7, 6), 8, 1, 4, 1),
    ((19, 17), 4, 1, 3, 2),
    ((4, 5, 19), 3, 2, 1, 1),
    ((4, 5, 18), 2, 1, 0, 1),
)


def _epsilon(dtype: torch.dtype) -> float:
    """A rounding of the type, or sixteen of what it is added up in."""
    return max(torch.finfo(dtype).eps, 16 * torch.finfo(torch.promote_types(dtype, torch.float32)).eps)


def _specials(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Numbers with a few (or only) special ones among them."""
    numbers = random.integers(-20, 21, shape) / 4
    if kind == "nan":
        numbers[random.random(shape) < 0.08] = NAN
    elif kind == "lowest":
        numbers[:] = -INF
    elif kind == "mostly lowest":
        numbers[random.random(shape) < 0.9] = -INF
    elif kind == "infinite":
        numbers[random.random(shape) < 0.02] = INF
        numbers[random.random(shape) < 0.02] = -INF
    elif kind == "all nan":
        numbers[:] = NAN
    elif kind == "nan among lowest":
        numbers[:] = -INF
        numbers[random.random(shape) < 0.1] = NAN
    elif kind == "one value":
        numbers[:] = 1.5
    elif kind == "zeros":
        numbers = np.where(random.random(shape) < 0.5, 0.0, -0.0)
    return numbers


KINDS = ("nan", "lowest", "mostly lowest", "infinite", "all nan", "nan among lowest", "one value", "zeros")


def _windows(geometry: tuple[tuple[int, ...], int, int, int, int]) -> reference.Windows:
    size, *axis = geometry
    kernel, stride, padding, dilation = ([value] * len(size) for value in axis)
    return reference.sliding(size, kernel, stride, padding, padding, dilation)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_max(geometry: Any, kind: str, isa: str) -> None:
    """Values with their sign, indices, and gradients, against the reference."""
    size, *arguments = geometry
    rank, windows = len(size), _windows(geometry)
    content = _specials(kind, (2, 9, *size), np.random.default_rng(11))
    answers = reference.maximum(content, windows)
    values, indices = (present_array(answer) for answer in answers)
    grads = reference.maximum_backward(np.ones(values.shape), answers[1], windows)
    for dtype, layout in itertools.product(FLOATS, LAYOUTS):
        what = (kind, geometry, dtype, layout)
        input = arrange(torch.tensor(content).to(dtype), rank, layout).requires_grad_()
        function = getattr(functional, f"max_pool{rank}d")
        plain = function(input.detach(), *arguments)
        output, chosen = function(input, *arguments, return_indices=True)
        saved = function(input, *arguments)
        for result in (plain, output.detach(), saved.detach()):
            assert_exact(result, values, what)
            if result is not plain:  # without an arg-max, a window that holds both zeros may give either
                same = torch.equal(result.signbit() | result.isnan(), values.signbit() | values.isnan())
                assert same, (what, "sign of zero")
        assert_exact(chosen, indices, what)
        for result in (output, saved):
            (found,) = torch.autograd.grad(result, input, torch.ones_like(result))
            assert_exact(found, present_array(grads), what)


@pytest.mark.parametrize("kind", ["nan", "infinite", "mostly lowest"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_avg(geometry: Any, kind: str, isa: str) -> None:
    """A NaN or infinity reaches exactly the windows that hold it; the finite ones next to them stay exact."""
    size, *arguments, dilation = geometry
    rank, windows = len(size), _windows(geometry)
    content = _specials(kind, (2, 9, *size), np.random.default_rng(12))
    with np.errstate(invalid="ignore"):
        expected = present_array(reference.average(content, windows, windows.divisors()))
        grad = _specials(kind, tuple(expected.shape), np.random.default_rng(13))
        pulled = present_array(reference.average_backward(grad, windows, windows.divisors()))
    for dtype, layout in itertools.product(FLOATS, LAYOUTS):
        input = arrange(torch.tensor(content).to(dtype), rank, layout).requires_grad_()
        output = getattr(functional, f"avg_pool{rank}d")(input, *arguments, dilation=dilation)
        (found,) = torch.autograd.grad(output, input, torch.tensor(grad).to(dtype))
        for actual, answer in ((output.detach(), expected), (found, pulled)):
            epsilon = _epsilon(dtype)
            torch.testing.assert_close(actual.double(), answer, rtol=epsilon, atol=epsilon, equal_nan=True)


@pytest.mark.parametrize("kind", ["nan", "infinite"])
def test_adaptive_and_global(kind: str, isa: str) -> None:
    for size, output in (((23,), 7), ((13, 37), 5), ((5, 7, 9), 3), ((40, 41), 1)):
        rank = len(size)
        content = _specials(kind, (2, 9, *size), np.random.default_rng(14))
        content[:, :3] = np.nan_to_num(content[:, :3], posinf=1, neginf=1)  # planes that hold none of it stay clean
        windows = reference.adaptive(size, [output] * rank)
        values, indices = reference.maximum(content, windows)
        with np.errstate(invalid="ignore"):
            averages = reference.average(content, windows, windows.divisors(False))
        for dtype, layout in itertools.product(FLOATS, LAYOUTS):
            what = (kind, size, output, dtype, layout)
            input = arrange(torch.tensor(content).to(dtype), rank, layout)
            found = [getattr(functional, f"adaptive_max_pool{rank}d")(input, output, return_indices=True)]
            found += [functional.global_max_pool(input, return_indices=True)] if output == 1 else []
            for maxima, chosen in found:
                assert_exact(maxima, present_array(values), what)
                assert_exact(chosen, present_array(indices), what)
            means = [getattr(functional, f"adaptive_avg_pool{rank}d")(input, output)]
            means += [functional.global_avg_pool(input)] if output == 1 else []
            for mean in means:
                epsilon = _epsilon(dtype)
                torch.testing.assert_close(mean.double(), present_array(averages), rtol=epsilon, atol=epsilon, equal_nan=True)


def test_one_special_value_in_every_place(isa: str) -> None:
    """A single NaN, infinity or peak at each position of a row, and in each channel, reaches its windows only."""
    for value, length, (kernel, stride) in itertools.product((NAN, INF, 9.0), (17, 35), ((3, 1), (3, 2), (2, 2), (15, 1))):
        rows = torch.zeros(length, 1, length)
        rows[range(length), 0, range(length)] = value
        for layout, input in (("rows", rows), ("channels", rows.permute(1, 0, 2)), ("lanes", rows.permute(1, 2, 0).contiguous().permute(0, 2, 1))):
            what = (value, length, kernel, stride, layout)
            maxima = functional.max_pool1d(input, kernel, stride)
            means = functional.avg_pool1d(input, kernel, stride)
            held = torch.zeros(length, maxima.shape[-1], dtype=torch.bool)
            for output in range(maxima.shape[-1]):
                held[output * stride : output * stride + kernel, output] = True
            expected = torch.zeros(held.shape).masked_fill(held, value).view(maxima.shape)
            assert_exact(maxima, expected, what)
            torch.testing.assert_close(means, expected / kernel, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=str)
def test_identical_channels_give_identical_results(dtype: torch.dtype, isa: str) -> None:
    """Bit for bit, whether a channel lies in a full vector or in the tail, for 1 to 33 channels."""
    random = np.random.default_rng(5)
    for rank, (size, kernel) in enumerate((((21,), 4), ((6, 7), 3), ((3, 4, 5), 2)), start=1):
        plane = present_array(random.normal(size=size) * 50)
        plane = plane.clamp(min=0).to(dtype) if dtype == torch.uint8 else plane.to(dtype)
        if dtype.is_floating_point:
            plane.view(-1)[7] = NAN
        for channels, layout in itertools.product(range(1, 34), LAYOUTS):
            what = (dtype, rank, channels, layout)
            input = arrange(plane.expand(2, channels, *size).clone(), rank, layout)
            results = [*getattr(functional, f"max_pool{rank}d")(input, kernel, 1, kernel // 2, return_indices=True)]
            results += [getattr(functional, f"adaptive_max_pool{rank}d")(input, 2), functional.global_max_pool(input)]
            if dtype.is_floating_point:
                results += [getattr(functional, f"avg_pool{rank}d")(input, kernel, 1, kernel // 2)]
                results += [getattr(functional, f"adaptive_avg_pool{rank}d")(input, 2), functional.global_avg_pool(input)]
            for result in results:
                first = result[:1, :1].expand_as(result)
                assert bool(((result == first) | ((result != result) & (first != first))).all()), what


def test_ends_of_the_range(isa: str) -> None:
    """Values at the ends of each type: integers as they are, 16-bit averages near the largest without overflow."""
    for dtype, layout in itertools.product(INTEGERS, LAYOUTS):
        info = torch.iinfo(dtype)
        for value in (info.min, info.max, info.min + 1):
            input = arrange(torch.full((2, 17, 5, 19), value, dtype=dtype), 2, layout)
            values, indices = functional.max_pool2d(input, 3, 2, 1, return_indices=True)
            assert bool((values == value).all()), (dtype, value, layout)
            expected = torch_functional.max_pool2d(torch.zeros(2, 17, 5, 19), 3, 2, 1, return_indices=True)[1]
            assert torch.equal(indices, expected), (dtype, value, layout)
    for layout in LAYOUTS:
        half = arrange(torch.full((2, 17, 9, 19), 65504.0, dtype=torch.float16), 2, layout)
        for output in (functional.avg_pool2d(half, 3, 1), functional.global_avg_pool(half), functional.adaptive_avg_pool2d(half, 4)):
            assert bool((output == 65504).all()), layout
        assert bool((functional.max_pool2d(half, 3, 1, 1) == 65504).all()), layout
    large = torch.full((1, 2, 64), 2**62, dtype=torch.int64)
    assert torch.equal(functional.max_pool1d(large, 4), large[..., ::4])


def test_denormal_numbers_survive(isa: str) -> None:
    for dtype in FLOATS:
        tiny = torch.finfo(dtype).smallest_normal / 8
        input = torch.full((2, 9, 6, 20), tiny, dtype=dtype)
        input[..., ::2] = -tiny
        for layout in LAYOUTS:
            found = functional.max_pool2d(arrange(input, 2, layout), 2)
            assert bool((found == tiny).all()), (dtype, layout)
            found = functional.avg_pool2d(arrange(input.abs(), 2, layout), 2)
            assert bool((found == tiny).all()), (dtype, layout)


def test_int64_averages_divide_towards_zero(isa: str) -> None:
    input = torch.tensor([[[-7, 0, 7, 0, -1, 0, 1, 0, 5, -6]]])
    for divisor in (None, 2, 3, -2):
        ours = functional.avg_pool1d(input, 2, 2, divisor_override=divisor)
        theirs = torch_functional.avg_pool2d(input.cpu()[:, :, None], (1, 2), divisor_override=divisor)[:, :, 0]
        assert torch.equal(ours.cpu(), theirs), divisor
