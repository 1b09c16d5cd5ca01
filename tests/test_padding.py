"""Padding beyond torch's: names and (begin, end) pairs. The batteries walk over the same (cases.py); here stand what Keras says,
how the arguments are spelled and refused, and what compilers make of them.
"""
from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import keras_same
import reference
from torch_pooling import functional

KINDS = ("max", "avg", "sum")


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    """What one test traced must not count against another's limit of recompilations."""
    torch._dynamo.reset()


def test_same_is_that_of_keras() -> None:
    table = json.loads(keras_same.PATH.read_text())
    geometries = list(keras_same.geometries())
    assert len(table) == len(geometries) == 17 * 7 * 4
    for (size, kernel, stride), (max_shape, max_digest, avg_shape, avg_digest) in zip(geometries, table, strict=True):
        what = (size, kernel, stride)
        first = torch.from_numpy(keras_same.image(size))
        for input, more in ((first, {}), (first.movedim(1, -1).contiguous(), {"data_format": "channels_last"})):
            maxima = functional.max_pool2d(input, kernel, stride, "same", **more)
            averages = functional.avg_pool2d(input, kernel, stride, "same", count_include_pad=False, **more)
            if more:
                assert maxima.is_contiguous() and averages.is_contiguous(), what
                maxima, averages = maxima.movedim(-1, 1), averages.movedim(-1, 1)
            assert list(maxima.shape[2:]) == max_shape and list(averages.shape[2:]) == avg_shape, what
            assert keras_same.digest(maxima.numpy()) == max_digest, what
            assert keras_same.digest(averages.numpy()) == pytest.approx(avg_digest, rel=1e-12, abs=1e-11), what


def test_every_small_pair_and_dilation() -> None:
    """1-D, against the reference: begin and end up to the dilated kernel less one."""
    checked = 0
    for size, kernel, stride, dilation, ceil_mode in itertools.product((1, 2, 5, 9), (1, 2, 3, 4), (1, 2, 3), (1, 2, 3), (False, True)):
        input = torch.from_numpy(keras_same.image((1, size))[:, :, 0])
        effective = dilation * (kernel - 1) + 1
        for begin, end in itertools.product(range(effective), repeat=2):
            if size + begin + end < effective:
                continue
            windows = reference.Windows((reference.sliding_axis(size, kernel, stride, begin, end, dilation, ceil_mode),))
            window = (kernel, stride, ((begin, end),))
            what = (size, *window, dilation, ceil_mode)
            values, indices = reference.maximum(input.numpy(), windows)
            found = functional.max_pool1d(input, *window, dilation, ceil_mode, True)
            assert np.array_equal(found[0].numpy(), values) and np.array_equal(found[1].numpy(), indices), what
            for counts in (True, False):
                expected = reference.average(input.numpy(), windows, windows.divisors(counts))
                averages = functional.avg_pool1d(input, *window, ceil_mode, counts, dilation=dilation)
                np.testing.assert_allclose(averages.numpy(), expected, rtol=1e-14, atol=1e-14, err_msg=str(what))
            checked += 1
    assert checked > 4000


def call(kind: str, rank: int, input: Tensor, *window: Any, **more: Any) -> Any:
    return getattr(functional, f"{kind}_pool{rank}d")(input, *window, **more)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_spellings(kind: str, rank: int) -> None:
    input = torch.arange(2.0 * 3 * 6**rank).view(2, 3, *(6,) * rank).sin()
    plain = call(kind, rank, input, 3, 2, 1)
    for padding in (((1, 1),) * rank, [[1, 1]] * rank, [(1, 1)] * rank, (1,) * rank, [1]):
        assert torch.equal(call(kind, rank, input, 3, 2, padding), plain), padding
    assert torch.equal(call(kind, rank, input, 3, 2, "valid"), call(kind, rank, input, 3, 2, 0))
    assert call(kind, rank, input, 3, 2, "same").shape[2:] == (3,) * rank
    for name in ("same", "same_lower"):
        ceil = call(kind, rank, input, 4, 4, name, ceil_mode=True)
        assert torch.equal(ceil, call(kind, rank, input, 4, 4, name)) and ceil.shape[2:] == (2,) * rank
    begins = call(kind, rank, input, 2, 1, "same_lower"), call(kind, rank, input, 2, 1, ((1, 0),) * rank)
    ends = call(kind, rank, input, 2, 1, "same"), call(kind, rank, input, 2, 1, ((0, 1),) * rank)
    assert torch.equal(*begins) and torch.equal(*ends) and not torch.equal(begins[0], ends[0])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "traced"])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_refusals_name_what_is_wrong(kind: str, rank: int, compiled: bool) -> None:
    input = torch.zeros(2, 3, *(6,) * rank)
    name = f"{kind}_pool{rank}d"

    def pool(padding: Any) -> Any:
        return call(kind, rank, input, 3, 2, padding)

    refused = torch.compile(pool, backend="eager", fullgraph=True) if compiled else pool
    assert torch.equal(refused(1), pool(1))  # it is not everything that is refused
    # The whole of what we say: an error of the compiler quotes this file, which speaks of padding, too.
    ours = rf"{name}(: |\(\): argument ')(\(begin, end\) )?padding'? (must|overflows)"
    errors: tuple[type[Exception], ...] = (Exception,) if compiled else (ValueError,)
    for bad in ("SAME", "full", ""):
        with pytest.raises(errors, match=ours):
            refused(bad)
    errors = (Exception,) if compiled else (RuntimeError, TypeError)
    wrong: list[Any] = [(0,) * (2 * rank), ((0, 0),) * (rank + 1), ((0, 0, 0),) * rank, ((0,),) * rank, ((3, 0),) * rank, ((0, 3),) * rank,
                        ((-1, 0),) * rank, ((0, 2**40),) * rank, True, ((True, 0),) * rank]
    for bad in wrong:
        with pytest.raises(errors, match=ours):
            refused(bad)
    if not compiled:
        with pytest.raises(RuntimeError, match=rf"{name}.*\(begin, end\).*\(0, 3\).*at most 2"):
            refused(((0, 3),) * rank)
        with pytest.raises(TypeError, match="padding"):
            refused(((0, 1.5),) * rank)


@pytest.mark.parametrize("kind", KINDS)
def test_same_does_not_recompile(kind: str) -> None:
    """The padding follows from a symbolic size, inside the operator."""
    compiles = 0

    def count(graph: Any, inputs: Any) -> Any:
        nonlocal compiles
        compiles += 1
        return graph.forward

    pool = torch.compile(lambda x: call(kind, 2, x, 3, 2, "same"), backend=count, fullgraph=True, dynamic=True)
    for height, width in ((7, 9), (8, 12), (17, 5), (30, 31)):
        input = torch.randn(2, 3, height, width)
        assert torch.equal(pool(input), call(kind, 2, input, 3, 2, "same"))
    assert compiles == 1


@pytest.mark.parametrize("padding", ["same", "same_lower", ((2, 0), (0, 1))])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_gradients(kind: str, padding: Any) -> None:
    input = torch.randn(2, 3, 7, 10, requires_grad=True)

    def pool(x: Tensor) -> Tensor:
        return call(kind, 2, x, 3, 2, padding)

    eager = torch.autograd.grad(pool(input).sin().sum(), input)[0]
    traced = torch.compile(pool, backend="aot_eager", fullgraph=True, dynamic=True)
    assert torch.equal(torch.autograd.grad(traced(input).sin().sum(), input)[0], eager)
