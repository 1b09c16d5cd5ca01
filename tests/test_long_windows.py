"""Long windows that overlap and move by several positions: blocks in rows of single elements (csrc/cpu/slide.inl), and their gradients, whose
windows differ in length by one and serve several elements each."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from emulated import EMULATED
from torch_pooling import functional

EachIsa = Callable[[], Iterator[str]]
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# ([N, C, *spatial], kernel_size, stride, padding); elements are read 32 to 400 times along the row.
CASES: dict[str, tuple[tuple[int, ...], Any, Any, Any]] = {
    "a multiple of the stride": ((1, 2, 6000), 1500, 3, 0),
    "no multiple of it": ((2, 1, 5003), 1301, 4, 650),
    "padded at one end alone": ((1, 3, 4001), 1999, 5, 999),
    "hardly longer than the window": ((1, 2, 2100), 2000, 3, 60),
    "longer than the row": ((1, 2, 1900), 2000, 3, 900),
    "moving by two": ((1, 2, 5000), 1025, 2, 500),
    "few rows of a plane": ((1, 2, 3, 4000), (3, 1200), (1, 3), (1, 600)),
    "down a single column": ((1, 2, 5000, 1), (1300, 1), (3, 1), (500, 0)),
    "down two columns": ((1, 2, 3000, 2), (1300, 1), (3, 1), (500, 0)),
    "moving by more than half of it": ((1, 1, 9000), 1500, 800, 0),
}


def content(shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool, kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    values = torch.randint(-50, 51, shape, generator=generator).to(torch.float64)  # ties; sums are exact in 64 bits
    if kind == "special":
        flat = values.flatten()
        flat[torch.randperm(flat.numel(), generator=generator)[:9]] = torch.tensor([torch.nan, torch.inf, -torch.inf] * 3, dtype=torch.float64)
    if kind == "zeros":
        values = torch.where(values > 0, -values, values)
        values[torch.rand(shape, generator=generator) < 0.01] = 0.0
        values[torch.rand(shape, generator=generator) < 0.01] = -0.0
    values = values.to(dtype)
    return values.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else values


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_maxima(name: str, channels_last: bool, each_isa: EachIsa) -> None:
    shape, *window = CASES[name]
    rank = len(shape) - 2
    ours, theirs = getattr(functional, f"max_pool{rank}d"), getattr(F, f"max_pool{rank}d")
    for kind in ("ties", "special", "zeros"):
        for dtype in DTYPES:
            input = content(shape, dtype, channels_last, kind)
            values, indices = theirs(input.double(), *window, return_indices=True)
            found = {}
            for isa in each_isa():
                mine, places = ours(input, *window, return_indices=True)
                alone = ours(input, *window)
                for result in (mine, alone):
                    assert torch.equal(result.double().nan_to_num(nan=1e6), values.nan_to_num(nan=1e6)), (kind, dtype, isa)
                assert torch.equal(places, indices), (kind, dtype, isa)
                found[isa] = alone
            signs = {tuple(result.signbit().flatten().tolist()) for result in found.values()} if kind == "zeros" else {()}
            assert len(signs) == 1, "which zero depends on the instruction set"


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_averages_and_gradients(name: str, channels_last: bool, each_isa: EachIsa) -> None:
    shape, *window = CASES[name]
    rank = len(shape) - 2
    ours, theirs = getattr(functional, f"avg_pool{rank}d"), getattr(F, f"avg_pool{rank}d")
    for include in (True, False):
        for dtype in DTYPES:
            input = content(shape, dtype, channels_last, "ties").requires_grad_()
            exact = input.detach().double().contiguous().requires_grad_()
            expected = theirs(exact, *window, count_include_pad=include)
            grad = content(tuple(expected.shape), dtype, channels_last, "ties")
            magnitudes = torch.autograd.grad(expected, exact, grad.double().contiguous().abs(), retain_graph=True)[0]
            expected.backward(grad.double().contiguous())
            # Elements that more than 128 windows read are added up in 64 bits, on a CPU.
            few = expected[0, 0].numel() <= 128 or name == "moving by more than half of it"
            few = dtype != torch.float64 and (few or EMULATED)
            added = 32 * torch.finfo(torch.float32 if few else torch.float64).eps * float(magnitudes.max())
            for _isa in each_isa():
                input.grad = None
                output = ours(input, *window, count_include_pad=include)
                output.backward(grad)
                assert input.grad is not None
                assert exact.grad is not None
                eps = torch.finfo(dtype).eps
                # Sums are exact, but on a GPU, where one axis is divided before the other is added up.
                added_in = torch.float64 if dtype == torch.float64 else torch.float32
                divided = 32 * torch.finfo(added_in).eps * 25 if EMULATED else 0
                torch.testing.assert_close(output.detach().double(), expected.detach(), atol=divided, rtol=eps)
                torch.testing.assert_close(input.grad.double(), exact.grad, atol=added, rtol=eps)


def test_gradients_of_many_windows_keep_their_digits(each_isa: EachIsa) -> None:
    """20,000 windows read an element: added up in 64 bits. In float32 one after the other, 1.7e-4 of it was lost."""
    length, kernel = 60_000, 20_000
    for stride in (1, 2, 3):
        outputs = (length - kernel) // stride + 1
        changes = torch.zeros(length + 1, dtype=torch.int64)  # how many windows read a position: where they begin and end
        changes[: outputs * stride : stride] += 1
        changes[kernel : kernel + outputs * stride : stride] -= 1
        expected = changes.cumsum(0)[:length].double() * float(torch.tensor(0.1)) / kernel
        for layout in (torch.contiguous_format, torch.channels_last):
            input = torch.ones(1, 4, length, 1).to(memory_format=layout).requires_grad_()
            for isa in each_isa():
                output = functional.avg_pool2d(input, (kernel, 1), (stride, 1))
                (found,) = torch.autograd.grad(output, input, torch.full_like(output, 0.1))
                for channel in found[0, :, :, 0].double():
                    torch.testing.assert_close(channel, expected, atol=0, rtol=2**-23, msg=lambda text: f"{isa}, {stride}: {text}")  # noqa: B023


@pytest.mark.parametrize("kernel", [31, 101])
@pytest.mark.parametrize("channels", [16, 32])
def test_few_large_tiles(channels: int, kernel: int, each_isa: EachIsa) -> None:
    """One image whose rows make few tiles, in channels-last: cut evenly, or by channels. Sums of integers are exact in 32 bits, too."""
    if EMULATED:
        pytest.skip("about the CPU's tiles")
    x = content((1, channels, 256, 256), torch.float32, True, "ties")
    middle, wide = kernel // 2, x.double().contiguous()
    axes = ((kernel, 1), 1, (middle, 0)), ((1, kernel), 1, (0, middle))
    largest = F.max_pool2d(F.max_pool2d(wide, *axes[0]), *axes[1])
    mean = F.avg_pool2d(F.avg_pool2d(wide, *axes[0], divisor_override=1), *axes[1], divisor_override=1) / kernel**2
    first = functional.max_pool2d(x.contiguous(), kernel, 1, middle, return_indices=True)[1]
    for isa in each_isa():
        leaf = x.detach().requires_grad_()
        average = functional.avg_pool2d(leaf, kernel, 1, middle)
        assert torch.equal(average, mean.float()), isa
        assert torch.equal(torch.autograd.grad(average, leaf, x)[0], mean.float()), isa  # its own inverse, for it is symmetric
        assert torch.equal(functional.max_pool2d(x, kernel, 1, middle), largest.float()), isa
        values, indices = functional.max_pool2d(x, kernel, 1, middle, return_indices=True)
        assert torch.equal(values, largest.float()) and torch.equal(indices, first), isa


@pytest.mark.parametrize("channels_last", [False, True])
def test_windows_that_overlap_are_summed_axis_by_axis(channels_last: bool, each_isa: EachIsa) -> None:
    """101x101 in float32 lanes: as many roundings as the taps of both axes together, and those of the quotient."""
    if EMULATED:
        pytest.skip("about the CPU's lanes")
    x = content((1, 5, 130, 130), torch.float64, channels_last, "ties").mul_(torch.pi).to(torch.float32)
    axes = ((101, 1), 1, (50, 0)), ((1, 101), 1, (0, 50))
    exact, size = (F.avg_pool2d(F.avg_pool2d(wide, *axes[0]), *axes[1]) for wide in (x.double().contiguous(), x.double().contiguous().abs()))
    for isa in each_isa():
        error = (functional.avg_pool2d(x, 101, 1, 50).double() - exact).abs() / size
        assert error.max() <= (2 * 101 + 2) * 2**-24, (isa, float(error.max()) * 2**24)
