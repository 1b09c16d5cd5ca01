"""Calls that nobody draws at random: outputs without elements, pyramids of very fine levels, windows far longer than their input, planes
of one column."""
from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from emulated import EMULATED
from torch_pooling import functional

EachIsa = Callable[[], Iterator[str]]
FUNCTIONS: dict[str, Callable[..., Tensor]] = {"concat_pool": functional.concat_pool, "avgmax_pool": functional.avgmax_pool}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_no_outputs_is_refused(name: str, layout: torch.memory_format, each_isa: EachIsa) -> None:
    """As by single pools, torch's and ours; the results themselves are empty."""
    for size in ((0, 0), (0, 1), (1, 0), (7, 0), (0, 7)):
        input = torch.randn(2, 3, 5, 5).to(memory_format=layout).requires_grad_()
        for _ in each_isa():
            output = FUNCTIONS[name](input, size)
            assert output.shape == (2, 6 if name == "concat_pool" else 3, *size)
            with pytest.raises(RuntimeError, match=rf"the gradient of an empty output, of output_size \[{size[0]}, {size[1]}\]"):
                output.sum().backward()


def averages(input: Tensor, level: int) -> Tensor:
    """Of windows that divide the plane evenly: the long ones by sums without rounding."""
    side = input.shape[-1] // level
    windows = input.double().unfold(2, side, side).unfold(3, side, side).flatten(-2)
    if level > 8:
        return windows.mean(-1)
    sums = [math.fsum(window.tolist()) for window in windows.reshape(-1, side * side)]
    return torch.tensor(sums, dtype=torch.float64).reshape(windows.shape[:-1]) / side**2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("size", "levels"), [(1024, (1, 512)), (224, (1, 56)), (224, (1, 2, 7, 28)), (56, (1, 28)), (96, (1, 3, 24, 48))])
def test_coarse_levels_of_a_fine_pyramid(size: int, levels: tuple[int, ...], dtype: torch.dtype, each_isa: EachIsa) -> None:
    """Averages of averages, but not of so many that they would be added up one by one: as near as the level alone."""
    constant = torch.full((1, 2, size, size), 0.1, dtype=dtype)
    drawn = torch.rand(1, 2, size, size, generator=torch.Generator().manual_seed(size), dtype=dtype) + 0.5
    for layout in (torch.contiguous_format, torch.channels_last):
        for input in (constant, drawn):
            content = input.to(memory_format=layout)
            parts = [averages(input, level).flatten(1) for level in levels]
            for _ in each_isa():
                found = functional.spatial_pyramid_pool(content, levels)
                roundings = 128 if EMULATED else 32  # a block of threads adds up rows in float64, without more
                torch.testing.assert_close(found.double(), torch.cat(parts, 1), atol=0, rtol=roundings * torch.finfo(dtype).eps)


LONG = """
import resource, sys, torch
from torch_pooling import functional
k = (1 << 24) - 1
x = torch.randn(1, 17, 2, requires_grad=True)
y = torch.randn(2, 3, 5, 2, 2, requires_grad=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
torch.autograd.grad(functional.max_pool1d(x, k, 1, k // 2).sum(), x)
torch.autograd.grad(functional.max_pool3d(y, (2, 1, k), 1, ((0, 1), (0, 0), (0, k - 1)), (1, 1, 1)).sum(), y)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_a_window_far_longer_than_its_input_takes_no_memory_for_it() -> None:
    found = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 100 << 10, "KiB"


COLUMNS: dict[str, tuple[Any, ...]] = {
    "2 s2": (2, 2, 0), "3 s1": (3, 1, 1), "3 s2": (3, 2, 1), "9 s1": (9, 1, 4), "160 s80": (160, 80, 0), "31 s3": (31, 3, 15),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("place", ["last", "middle", "two"])
def test_planes_of_one_column_are_rows(name: str, place: str, each_isa: EachIsa) -> None:
    """The same bits as from the row that they are: [N, C, T, 1], and volumes [D, 1, W] and [D, 1, 1]."""
    kernel, stride, padding = COLUMNS[name]
    generator = torch.Generator().manual_seed(kernel)
    for dtype in (torch.float32, torch.bfloat16):
        row = torch.randint(-9, 10, (2, 5, 4, 611) if place == "middle" else (2, 5, 611), generator=generator).to(dtype)
        at = {"last": [3], "middle": [3], "two": [3, 4]}[place]
        column = row
        for axis in at:
            column = column.unsqueeze(axis)
        rank = column.dim() - 2

        def sizes(value: int, unit: int, place: str = place) -> tuple[int, ...]:
            return {"last": (value, unit), "middle": (unit, unit, value), "two": (value, unit, unit)}[place]

        window = (sizes(kernel, 1), sizes(stride, 1), sizes(padding, 0))
        flat = ((1, kernel), (1, stride), (0, padding)) if place == "middle" else (kernel, stride, padding)
        for _ in each_isa():
            for kind in ("max", "avg"):
                results = []
                for input, arguments in ((row, flat), (column, window)):
                    leaf = input.clone().requires_grad_()
                    output = getattr(functional, f"{kind}_pool{input.dim() - 2}d")(leaf, *arguments)
                    gradient = torch.arange(output.numel()).reshape(output.shape) % 17 - 8
                    results.append((output, *torch.autograd.grad(output, leaf, gradient.to(dtype))))
                for one, other in zip(*results, strict=True):
                    assert torch.equal(one.flatten(), other.flatten()), (rank, kind, dtype)
            indices = getattr(functional, f"max_pool{rank}d")(column, *window, return_indices=True)[1]
            expected = getattr(F, f"max_pool{rank}d")(column.float(), *window, return_indices=True)[1]
            assert torch.equal(indices, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shift", [1, 127, 255, 1023, 12345, 32767, 32768, 40961])
def test_maxima_of_all_16_bit_numbers(dtype: torch.dtype, shift: int, each_isa: EachIsa) -> None:
    """Each number beside another one, in both orders: torch's maxima of them as float32, and with positions the bits of the one that won."""
    bits = torch.arange(-32768, 32768, dtype=torch.int16)
    pairs = torch.stack([bits, bits.roll(shift)], 1).view(dtype)  # of 65536 channels
    row = pairs.reshape(1, 1, -1)
    pixels = pairs[None, :, None].to(memory_format=torch.channels_last)
    for input, window in ((row, (2, 2)), (row, (3, 1, 1)), (row, (5, 1, 2)), (pixels, ((1, 2), 1))):
        rank = input.dim() - 2
        expected, places = getattr(F, f"max_pool{rank}d")(input.float(), *window, return_indices=True)
        winners = input.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)
        number = ~winners.isnan()
        for name in each_isa():
            output, indices = getattr(functional, f"max_pool{rank}d")(input, *window, return_indices=True)
            assert torch.equal(indices, places), name
            assert torch.equal(output.isnan(), ~number), name
            assert torch.equal(output[number].view(torch.int16), winners[number].view(torch.int16)), name
            output = getattr(functional, f"max_pool{rank}d")(input, *window)
            torch.testing.assert_close(output.float(), expected, rtol=0, atol=0, equal_nan=True)
