"""Gradients of maxima in planes so large that tiles cut them, along each axis, where neighbours look at each other's outputs; and planes so
small that hundreds are taken together.

Gradients are small integers, whose sums are exact in any order; torch's are the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from emulated import EMULATED
from torch_pooling import functional

# Size (batch, channels, plane), function, its arguments.
SLIDING: list[tuple[tuple[int, ...], tuple[Any, ...]]] = [
    ((2, 1, 40, 40, 40), (4, 2, 1)),
    ((1, 3, 41, 39, 37), (3, 1, 0)),
    ((1, 3, 13, 48, 48), (2, 1, 0)),
    ((1, 2, 35, 40, 33), (3, 2, 1)),
    ((1, 2, 33, 31, 37), (2, 2, 1)),
    ((1, 8, 10, 35, 35), (3, 2, 1)),
    ((1, 15, 9, 50, 20), (4, 1, 2)),
    ((1, 16, 8, 28, 28), (2, 1, 0)),
    ((3, 33, 6, 22, 22), (3, 2, 1)),
    ((1, 130, 6, 20, 20), (4, 2, 1)),
    ((1, 1, 5, 300, 300), ((1, 4, 5), (1, 2, 3), (0, 1, 2))),
    ((1, 2, 2000, 6, 6), ((9, 2, 2), (2, 2, 2), (4, 0, 0))),
    ((1, 2, 300, 301), (7, 2, 3)),
    ((1, 5, 130, 131), (6, 3, 2)),
    ((1, 2, 100003), (30, 7, 15)),
]
SMALL: list[tuple[tuple[int, ...], tuple[Any, ...]]] = [
    ((7, 100, 5, 3, 3), (3, 2, 1)),
    ((1, 67, 4, 11, 15), (3, 2, 1)),
    ((2, 257, 3, 2, 11), (2, 1, 0)),
    ((3, 333, 7, 8), (5, 1, 2)),
    ((3, 171, 8, 5), (2, 2, 0)),
    ((1, 1001, 7), (3, 2, 1)),
]
ADAPTIVE: list[tuple[tuple[int, ...], tuple[Any, ...]]] = [
    ((1, 2, 40, 41, 43), (7,)),
    ((1, 16, 23, 23, 23), (7,)),
    ((1, 3, 30, 40, 37), ((13, 30, 50),)),
    ((2, 9, 101, 141), (6,)),
    ((1, 2, 300, 301), ((290, 70),)),
    ((1, 2, 100003), (1000,)),
    ((5, 203, 13, 14), (3,)),
    ((2, 130, 5, 9, 7), ((2, 4, 3),)),
]


CALLS = [("max_pool", *call) for call in SLIDING + SMALL] + [("adaptive_max_pool", *call) for call in ADAPTIVE]


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name, size, args", CALLS, ids=str)
@pytest.mark.skipif(EMULATED, reason="CUDA's kernels know no tiles of this kind")
def test_gradients_of_cut_planes(name: str, size: tuple[int, ...], args: tuple[Any, ...], layout: str, each_isa: Callable[[], Any]) -> None:
    rank = len(size) - 2
    random = torch.Generator().manual_seed(1)
    values = torch.randn(size, generator=random)
    threads = torch.get_num_threads()
    for dtype in (torch.float32, torch.bfloat16):
        rounded = values.to(dtype)
        x = rounded.float().requires_grad_()
        pooled = getattr(torch.nn.functional, f"{name}{rank}d")(x, *args)
        grad = torch.randint(-3, 4, pooled.shape, generator=random).float()
        (expected,) = torch.autograd.grad(pooled, x, grad)
        assert expected.abs().max() < 256  # exact in 16 bits
        given = rounded.movedim(1, -1).contiguous().movedim(-1, 1) if layout == "channels_last" else rounded
        given = given.detach().requires_grad_()
        for isa in each_isa():
            output = getattr(functional, f"{name}{rank}d")(given, *args)
            assert torch.equal(output.float(), pooled), (dtype, isa)
            with torch.no_grad():
                assert torch.equal(getattr(functional, f"{name}{rank}d")(given, *args), output), (dtype, isa)
            try:
                for count in (1, 3):
                    torch.set_num_threads(count)
                    (found,) = torch.autograd.grad(output, given, grad.to(dtype), retain_graph=True)
                    assert torch.equal(found.float(), expected), (dtype, isa, count)
            finally:
                torch.set_num_threads(threads)


@pytest.mark.parametrize("size, args", SMALL, ids=str)
def test_averages_of_many_small_planes(size: tuple[int, ...], args: tuple[Any, ...], each_isa: Callable[[], Any]) -> None:
    rank = len(size) - 2
    values = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for more in ({}, {"count_include_pad": False}):
        x = values.clone().requires_grad_()
        pooled = getattr(torch.nn.functional, f"avg_pool{rank}d")(x, *args, **more)
        grad = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        (expected,) = torch.autograd.grad(pooled, x, grad)
        for isa in each_isa():
            for dtype in (torch.float64, torch.float32):
                given = values.to(dtype).requires_grad_()
                output = getattr(functional, f"avg_pool{rank}d")(given, *args, **more)
                (found,) = torch.autograd.grad(output, given, grad.to(dtype))
                off = 32 * torch.finfo(dtype).eps  # windows of at most 27 elements, and as many to an input
                for one, other in ((output, pooled), (found, expected)):
                    assert (one.double() - other).abs().max() <= off * other.abs().max(), (isa, dtype)
                for count in (1, 2, 3):  # a plane has the same sums in any company
                    few = given[:1, :count].detach().requires_grad_()
                    alone = getattr(functional, f"avg_pool{rank}d")(few, *args, **more)
                    assert torch.equal(alone, output[:1, :count]), (isa, dtype, count)
                    (gradient,) = torch.autograd.grad(alone, few, grad[:1, :count].to(dtype))
                    assert torch.equal(gradient, found[:1, :count]), (isa, dtype, count)
