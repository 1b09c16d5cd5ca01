"""Windows of few taps that move by three, four and five along rows: taken out of several vectors by shuffles (csrc/cpu/turns.inl), their
gradients put back in turns. Rows around whole numbers of vectors."""
from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_pooling import functional

EachIsa = Callable[[], Iterator[str]]
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
WIDTHS = (7, 23, 47, 48, 49, 63, 64, 81, 95, 97, 160, 193, 257)
WINDOWS = [
    (kernel, stride, padding)
    for stride in (3, 4, 5)
    for kernel in (1, 2, 3, 4, 5, 6, 7)
    for padding in sorted({0, kernel // 2})
]


def numbers(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Ties, and sums that are exact."""
    return torch.randint(0 if dtype == torch.uint8 else -9, 10, shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def compared(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.double().nan_to_num(nan=1e6), other.double().nan_to_num(nan=1e6))


@pytest.mark.parametrize("kernel, stride, padding", WINDOWS, ids=str)
def test_maxima_and_their_gradients(kernel: int, stride: int, padding: int, each_isa: EachIsa) -> None:
    for isa in each_isa():
        for width in WIDTHS:
            if width + 2 * padding < kernel:
                continue
            for dtype in (*FLOATS, *(INTEGERS if width < 60 else ())):
                input = numbers((2, 3, width), dtype)
                if dtype.is_floating_point:
                    input[0, 1, width // 3], input[1, 0, width // 2], input[1, 2, :] = torch.nan, torch.inf, -torch.inf
                expected, indices = F.max_pool1d(input.double(), kernel, stride, padding, return_indices=True)
                assert compared(functional.max_pool1d(input, kernel, stride, padding), expected), (isa, width, dtype)
                leaf = input.requires_grad_(dtype.is_floating_point)
                found, places = functional.max_pool1d(leaf, kernel, stride, padding, return_indices=True)
                assert compared(found.detach(), expected) and torch.equal(places, indices), (isa, width, dtype)
                if dtype.is_floating_point:
                    grad = numbers(tuple(found.shape), dtype)
                    scattered = torch.zeros(input.shape, dtype=torch.float64).scatter_add_(2, indices, grad.double())
                    assert compared(torch.autograd.grad(found, leaf, grad)[0], scattered), (isa, width, dtype)


@pytest.mark.parametrize("kernel, stride, padding", WINDOWS, ids=str)
def test_averages_and_their_gradients(kernel: int, stride: int, padding: int, each_isa: EachIsa) -> None:
    for isa in each_isa():
        for width in WIDTHS:
            if width + 2 * padding < kernel:
                continue
            for dtype in FLOATS:
                input = numbers((2, 3, width), dtype).requires_grad_()
                exact = input.detach().double().requires_grad_()
                for include in (True, False):
                    expected = F.avg_pool1d(exact, kernel, stride, padding, count_include_pad=include)
                    found = functional.avg_pool1d(input, kernel, stride, padding, count_include_pad=include)
                    eps = torch.finfo(dtype).eps
                    torch.testing.assert_close(found.detach().double(), expected.detach(), rtol=eps, atol=0, msg=lambda t: f"{isa} {width}: {t}")  # noqa: B023
                    grad = numbers(tuple(found.shape), dtype)
                    one, other = torch.autograd.grad(found, input, grad)[0], torch.autograd.grad(expected, exact, grad.double())[0]
                    torch.testing.assert_close(one.double(), other, rtol=2 * eps, atol=20 * torch.finfo(torch.float32).eps)


@pytest.mark.parametrize("kernel, stride, padding", [(3, 3, 0), (3, 3, 1), (4, 4, 0), (5, 3, 2), (5, 5, 1), (7, 4, 3), (2, 3, 1)], ids=str)
@pytest.mark.parametrize("rank", [2, 3])
def test_planes_and_volumes(rank: int, kernel: int, stride: int, padding: int, each_isa: EachIsa) -> None:
    for sizes in ((37, 50), (49, 113), (20, 193)):
        shape = (2, 3, 9, *sizes) if rank == 3 else (2, 3, *sizes)
        for dtype in (torch.float32, torch.bfloat16):
            input = numbers(shape, dtype).requires_grad_()
            exact = input.detach().double().requires_grad_()
            for kind in ("max", "avg"):
                name = f"{kind}_pool{rank}d"
                expected = getattr(F, name)(exact, kernel, stride, padding)
                grad = numbers(tuple(expected.shape), dtype)
                other = torch.autograd.grad(expected, exact, grad.double())[0]
                eps = torch.finfo(dtype).eps
                for _ in each_isa():
                    found = getattr(functional, name)(input, kernel, stride, padding)
                    torch.testing.assert_close(found.detach().double(), expected.detach(), rtol=0 if kind == "max" else eps, atol=0)
                    one = torch.autograd.grad(found, input, grad)[0]
                    torch.testing.assert_close(one.double(), other, rtol=2 * eps, atol=20 * torch.finfo(torch.float32).eps)
