"""Output sizes, and with them values and indices, of every small geometry against torch and the reference.

Small planes are cheap, so nothing is sampled along one axis: all sizes, kernels, strides, paddings, dilations
and both rounding modes. Also here: batch and channel counts of 0, arguments in all spellings, results of the
global functions.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as torch_functional

import reference
from battery import assert_close, assert_exact
from torch_pooling import functional

WINDOWED = ("max", "avg")


def _outcome(call: Any, *args: Any, **kwargs: Any) -> Any:
    """What the call returns, or the type of what it raises."""
    try:
        return call(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - the type is what is compared
        return type(error)


def _same(ours: Any, theirs: Any, what: object) -> None:
    """The same tensors (NaN equal to NaN), or the same type of exception."""
    if isinstance(theirs, type) or isinstance(ours, type):
        assert ours is theirs, (what, ours, theirs)
    elif isinstance(theirs, tuple):
        assert isinstance(ours, tuple) and len(ours) == len(theirs), what
        for one, other in zip(ours, theirs, strict=True):
            _same(one, other, what)
    else:
        assert ours.dtype == theirs.dtype, (what, ours.dtype, theirs.dtype)
        assert ours.shape == theirs.shape, (what, ours.shape, theirs.shape)
        if ours.dtype.is_floating_point:
            assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-6, equal_nan=True), (what, ours, theirs)
        else:
            assert torch.equal(ours, theirs), (what, ours, theirs)


def _line(size: int) -> torch.Tensor:
    """[1, 2, size] in an order without pattern, with ties."""
    return ((torch.arange(2 * size) * 37 % 23) / 8 - 1).view(1, 2, size)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_every_small_sliding_window(kernel: int) -> None:
    checked = 0
    paddings = range(kernel // 2 + 1)
    grid = itertools.product(range(1, 13), (1, 2, 3, 4, 6), paddings, (1, 2, 3), (False, True))
    for size, stride, padding, dilation, ceil_mode in grid:
        what = (size, kernel, stride, padding, dilation, ceil_mode)
        input = _line(size)
        arguments = (input, kernel, stride, padding)
        if dilation == 1:
            for counts in (False, True):
                more = (ceil_mode, counts)
                theirs = _outcome(torch_functional.avg_pool1d, *arguments, *more)
                _same(_outcome(functional.avg_pool1d, *arguments, *more), theirs, what)
        more = (dilation, ceil_mode, True)
        theirs = _outcome(torch_functional.max_pool1d, *arguments, *more)
        ours = _outcome(functional.max_pool1d, *arguments, *more)
        windows = reference.Windows((reference.sliding_axis(size, kernel, stride, padding, padding, dilation, ceil_mode),))
        if isinstance(theirs, type) or all(len(cell) for cell in windows.cells):
            _same(ours, theirs, what)
        else:
            values, indices = reference.maximum(input.numpy(), windows)
            assert_exact(ours[0], torch.from_numpy(values), what)
            assert_exact(ours[1], torch.from_numpy(indices), what)
        checked += 1
    assert checked == 12 * 5 * 3 * 2 * (kernel // 2 + 1)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("rank", [2, 3])
def test_geometries_at_random_equal_torch(rank: int, layout: str) -> None:
    """Different arguments along each axis, forward and backward."""
    random = np.random.default_rng(rank)
    agreed = 0
    for _ in range(400):
        def draw(low: int, high: int) -> tuple[int, ...]:
            return tuple(int(value) for value in random.integers(low, high + 1, rank))

        kernel, stride, dilation = draw(1, 4), draw(1, 3), draw(1, 2)
        padding = tuple(int(random.integers(0, k // 2 + 1)) for k in kernel)
        shape = (2, int(random.choice([1, 3, 8, 17])), *draw(3, 11))
        ceil_mode, counts = bool(random.integers(2)), bool(random.integers(2))
        divisor = [None, None, 3, -2][random.integers(4)]
        input = torch.from_numpy(random.integers(-40, 41, shape)).double() / 8
        if layout == "channels_last":
            input = input.movedim(1, -1).contiguous().movedim(-1, 1)
        for kind in WINDOWED:
            more = (kernel, stride, padding)
            more += (dilation, ceil_mode, True) if kind == "max" else (ceil_mode, counts, divisor)
            what = (kind, shape, *more)
            if kind == "max":
                windows = reference.sliding(shape[2:], kernel, stride, padding, padding, dilation, ceil_mode)
                if not all(len(cell) for cell in windows.cells):
                    continue  # not torch's: its backward writes outside the tensor
            name = f"{kind}_pool{rank}d"
            theirs = _outcome(_forward_and_grad, getattr(torch_functional, name), input, more)
            _same(_outcome(_forward_and_grad, getattr(functional, name), input, more), theirs, what)
            agreed += isinstance(theirs, tuple)
    assert agreed > 500


def _forward_and_grad(function: Any, input: torch.Tensor, more: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
    leaf = input.detach().requires_grad_()
    result = function(leaf, *more)
    outputs = result if isinstance(result, tuple) else (result,)
    grad = (torch.arange(outputs[0].numel()) % 13).double().view_as(outputs[0]) - 6
    return (*(output.detach() for output in outputs), *torch.autograd.grad(outputs[0], leaf, grad))


def test_every_small_adaptive_window() -> None:
    for size, output in itertools.product(range(1, 21), range(0, 24)):
        what = (size, output)
        input = _line(size)
        theirs = _outcome(torch_functional.adaptive_avg_pool1d, input, output)
        _same(_outcome(functional.adaptive_avg_pool1d, input, output), theirs, what)
        theirs = _outcome(torch_functional.adaptive_max_pool1d, input, output, return_indices=True)
        _same(_outcome(functional.adaptive_max_pool1d, input, output, return_indices=True), theirs, what)


@pytest.mark.parametrize("rank", [2, 3])
def test_adaptive_windows_that_differ_along_the_axes(rank: int) -> None:
    random = np.random.default_rng(rank)
    for _ in range(150):
        shape = (2, 3, *(int(size) for size in random.integers(1, 9, rank)))
        output = tuple(None if size == 7 else int(size) for size in random.integers(1, 8, rank))
        input = torch.from_numpy(random.integers(-40, 41, shape)).double() / 8
        for kind in WINDOWED:
            name = f"adaptive_{kind}_pool{rank}d"
            more = (output, True) if kind == "max" else (output,)
            theirs = _forward_and_grad(getattr(torch_functional, name), input, more)
            _same(_forward_and_grad(getattr(functional, name), input, more), theirs, (name, shape, output))


# Every function with arguments that suit a plane of 6 along each axis.
CALLS = [
    *((f"{kind}_pool{rank}d", rank, (2,)) for kind in WINDOWED for rank in (1, 2, 3)),
    *((f"adaptive_{kind}_pool{rank}d", rank, (2,)) for kind in WINDOWED for rank in (1, 2, 3)),
]


@pytest.mark.parametrize(("name", "rank", "arguments"), CALLS, ids=[name for name, _, _ in CALLS])
def test_sizes_of_zero(name: str, rank: int, arguments: tuple[int, ...]) -> None:
    """No batch, no channels, an empty axis, in every combination: torch's shapes, gradients and exceptions.

    Only a gradient that torch refuses after a forward pass that it accepts may be given (it has no elements).
    """
    ours, theirs = getattr(functional, name), getattr(torch_functional, name)
    for batch, channels, *size in itertools.product((0, 1, None), (0, 2), *[(0, 6)] * rank):
        shape = [] if batch is None else [batch]
        input = torch.randn(*shape, channels, *size)
        _same(_outcome(ours, input, *arguments), _outcome(theirs, input, *arguments), (name, input.shape))
        if isinstance(_outcome(theirs, input, *arguments), torch.Tensor):
            expected = _outcome(_forward_and_grad, theirs, input, arguments)
            found = _outcome(_forward_and_grad, ours, input, arguments)
            if isinstance(expected, type) and isinstance(found, tuple):
                assert found[1].shape == input.shape and found[1].numel() == 0, (name, input.shape)
            else:
                _same(found, expected, (name, input.shape, "gradient"))


@pytest.mark.parametrize("kind", WINDOWED)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_results(kind: str, rank: int) -> None:
    """keepdim leaves axes of length 1, without it they go; indices are flat positions; batch 0 works."""
    input = _line(3 * 4**rank).view(3, 2, *[4] * rank)
    flat = input.flatten(2)
    function = getattr(functional, f"global_{kind}_pool")
    expected = flat.mean(2) if kind == "avg" else flat.amax(2)
    torch.testing.assert_close(function(input), expected.view(3, 2, *[1] * rank))
    torch.testing.assert_close(function(input, keepdim=True), expected.view(3, 2, *[1] * rank))
    torch.testing.assert_close(function(input, keepdim=False), expected)
    assert function(input[:0]).shape == (0, 2, *[1] * rank)
    assert function(input[:0], keepdim=False).shape == (0, 2)
    if kind == "max":
        values, indices = function(input, keepdim=False, return_indices=True)
        torch.testing.assert_close(values, expected)
        assert indices.dtype == torch.int64
        assert torch.equal(flat.gather(2, indices[..., None])[..., 0], expected)
        assert function(input, return_indices=True)[1].shape == (3, 2, *[1] * rank)
        leaf = input.clone().requires_grad_()
        function(leaf, keepdim=False, return_indices=True)[0].sum().backward()
        assert leaf.grad is not None
        assert torch.equal(leaf.grad.flatten(2).sum(2), torch.ones(3, 2))
    leaf = input[:0].clone().requires_grad_()
    function(leaf).sum().backward()
    assert leaf.grad is not None and leaf.grad.shape == leaf.shape


def test_spellings_of_the_arguments() -> None:
    """Everything that torch reads as sizes: ints, tuples and lists of one or rank values, an empty or missing stride."""
    input = torch.randn(2, 3, 9, 11)
    for kernel, stride, padding in (
        (3, None, 0),
        (3, [], 0),
        ((3,), (2,), (1,)),
        ([3, 2], [2, 1], [1, 0]),
        ((3, 3), 2, 1),
        (torch.Size([3, 2]), (2, 2), 0),
        (True, 1, 0),
        (np.int64(3), np.int64(2), np.int64(1)),
        (torch.tensor(3), 2, 1),
        (3.0, 2, 1),
        ((3, 2.0), 2, 1),
        ((3, None), 2, 1),
        ("3", 2, 1),
    ):
        for name in ("max_pool2d", "avg_pool2d"):
            theirs = _outcome(getattr(torch_functional, name), input, kernel, stride, padding)
            _same(_outcome(getattr(functional, name), input, kernel, stride, padding), theirs, (name, kernel, stride, padding))
    for output in (3, (3,), [3, 4], (None, 2), torch.Size([2, 2]), True, 3.0, (3, 2.0), "3", None):
        for name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
            theirs = _outcome(getattr(torch_functional, name), input, output)
            _same(_outcome(getattr(functional, name), input, output), theirs, (name, output))


def test_keywords_are_torchs() -> None:
    input = torch.randn(2, 3, 9, 11, 7)
    for rank in (1, 2, 3):
        x = input[(...,) + (0,) * (3 - rank)]
        sizes = {"kernel_size": 3, "stride": 2, "padding": 1}
        for name, more in (
            (f"max_pool{rank}d", sizes | {"dilation": 1, "ceil_mode": True, "return_indices": False}),
            (f"max_pool{rank}d", sizes | {"return_indices": True}),
            (f"avg_pool{rank}d", sizes | {"ceil_mode": True, "count_include_pad": False}),
            (f"adaptive_avg_pool{rank}d", {"output_size": 3}),
            (f"adaptive_max_pool{rank}d", {"output_size": 3, "return_indices": True}),
        ):
            _same(getattr(functional, name)(input=x, **more), getattr(torch_functional, name)(input=x, **more), name)
    more = {"kernel_size": 3, "divisor_override": 4}
    for rank in (2, 3):
        x, name = input[(...,) + (0,) * (3 - rank)], f"avg_pool{rank}d"
        _same(getattr(functional, name)(x, **more), getattr(torch_functional, name)(x, **more), name)


@pytest.mark.parametrize("plane", [(1 << 20,), (1500, 1400)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_large_averages_are_at_least_as_near_as_torchs(plane: tuple[int, ...], dtype: torch.dtype, isa: str) -> None:
    """Ordinary numbers this time, over a whole plane, one mean far from 0 and one near it."""
    generator = torch.Generator().manual_seed(7)
    input = torch.randn(2, 1, *plane, generator=generator) + torch.tensor([3.0, 0.0]).view(2, 1, *[1] * len(plane))
    input = input.to(dtype)
    exact = input.double().flatten(2).mean(2)
    ours = functional.global_avg_pool(input, keepdim=False).double()
    name = f"adaptive_avg_pool{len(plane)}d"
    theirs = getattr(torch_functional, name)(input, 1).double().flatten(1)
    scale = input.double().abs().flatten(2).mean(2)
    assert ((ours - exact).abs() <= (theirs - exact).abs() + torch.finfo(torch.float32).eps * scale).all(), (ours, theirs, exact)


def test_averages_of_ordinary_numbers(each_isa: Callable[[], Iterator[str]]) -> None:
    """float32 stays within half a rounding for each level of a pairwise sum, for windows of all sizes."""
    generator = torch.Generator().manual_seed(3)
    input = torch.randn(1, 3, 70, 71, generator=generator)
    for kernel in (1, 2, 3, 5, 9, 31, 65, 101):
        arguments = (kernel, 1, kernel // 2)
        expected = torch_functional.avg_pool2d(input.double(), *arguments)
        scale = torch_functional.avg_pool2d(input.double().abs(), *arguments)
        levels = math.log2(kernel * kernel) + 1
        for isa in each_isa():
            for layout in (torch.contiguous_format, torch.channels_last):
                found = functional.avg_pool2d(input.contiguous(memory_format=layout), *arguments)
                assert_close(found, expected, scale * levels / 8, (kernel, layout, isa))
