"""What is reduced once for several results: rows of 3x3 windows that move by one, and the lanes of small planes. Against torch in float64."""
from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_pooling import functional

EachIsa = Callable[[], Iterator[str]]
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SPECIAL = (float("nan"), float("-inf"), float("inf"), 0.0, -0.0)


def make(*shape: int, special: bool) -> Tensor:
    """Small integers, tied within most windows; in half of the tests one element in nine is not finite, or a zero of either sign."""
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randint(-3, 4, shape, generator=generator).double()
    if special:
        which = torch.randint(0, 9 * len(SPECIAL), shape, generator=generator)
        for number, value in enumerate(SPECIAL):
            x[which == number] = value
    return x


@pytest.mark.parametrize("channels", [1, 3, 7, 16, 17, 31, 33, 64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_three_by_three(channels: int, layout: torch.memory_format, each_isa: EachIsa) -> None:
    for height, width in [(1, 1), (1, 2), (2, 3), (3, 4), (1, 5), (4, 1), (5, 7), (3, 8), (2, 9), (40, 6), (9, 33), (17, 70)]:
        for special in (False, True):
            exact = make(2, channels, height, width, special=special).requires_grad_()
            values, indices = F.max_pool2d(exact, 3, 1, 1, return_indices=True)
            weights = make(*values.shape, special=False)
            (gradient,) = torch.autograd.grad(values, exact, weights)
            for dtype in DTYPES:
                x = exact.detach().to(dtype).contiguous(memory_format=layout).requires_grad_()
                for isa in each_isa():
                    what = (height, width, special, dtype, isa)
                    found, where = functional.max_pool2d(x, 3, 1, 1, return_indices=True)
                    torch.testing.assert_close(found.double(), values, rtol=0, atol=0, equal_nan=True, msg=str(what))
                    assert torch.equal(where, indices), what
                    for pooled in (functional.max_pool2d(x, 3, 1, 1), found):
                        (ours,) = torch.autograd.grad(pooled, x, weights.to(dtype))
                        assert torch.equal(ours.double(), gradient), what


@pytest.mark.parametrize("planes", [(1, 15), (1, 16), (3, 37)])
@pytest.mark.parametrize("taps", [15, 16, 17, 31, 32, 33, 49, 64, 127, 128, 129, 256, 257])
def test_small_planes(taps: int, planes: tuple[int, int], each_isa: EachIsa) -> None:
    for special in (False, True):
        x = make(*planes, taps, special=special)
        x[:, ::5] = 0.0 if special else 2.0  # planes of equals
        if special:
            x[:, 1::5], x[:, 2::5, ::2] = float("nan"), -0.0
        values, indices = F.adaptive_max_pool1d(x, 1, return_indices=True)
        for dtype in DTYPES:
            input = x.to(dtype)
            for isa in each_isa():
                found, where = functional.adaptive_max_pool1d(input, 1, return_indices=True)
                torch.testing.assert_close(found.double(), values, rtol=0, atol=0, equal_nan=True, msg=str((special, dtype, isa)))
                assert torch.equal(where, indices), (special, dtype, isa)
                numbers = ~found.isnan()  # of NaN, keys of 16 bits keep nothing
                assert torch.equal(found.signbit()[numbers], input.gather(2, where).signbit()[numbers]), (special, dtype, isa)
