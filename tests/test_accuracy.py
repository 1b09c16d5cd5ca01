"""How near averages of whole planes come to the exact ones, which math.fsum adds up without an error, on every instruction set.

Other averages have the bounds of the battery and of tests/fuzz. Against torch's errors, with larger planes: benchmarks/accuracy.py.
"""
from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from battery import LAYOUTS, arrange
from emulated import EMULATED
from torch_pooling import functional

pytestmark = pytest.mark.skipif(EMULATED, reason="about the CPU's own kernels")
# Below and above the lengths from which other kernels add: 16, 1024 elements; of many columns, and of a plane cut into parts.
SHAPES = ((2, 3, 17), (3, 5, 7, 7), (2, 600, 3, 7), (1, 33, 13, 79), (1, 2, 40, 50), (1, 4, 100_003), (9, 1, 4, 5, 6))


def exact_means(input: Tensor) -> Tensor:  # [N, C]
    rows = input.double().flatten(2)
    return torch.tensor([[math.fsum(row.tolist()) / rows.shape[2] for row in sample] for sample in rows], dtype=torch.float64)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_means_of_whole_planes(shape: tuple[int, ...], layout: str, isa: str) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64) + 1
    # Roundings of the type: its own one, which in float64 may be that of the sum as well; of float32 those of a few taps at a time.
    for dtype, roundings in ((torch.float64, 1.0), (torch.float32, 2.0), (torch.bfloat16, 0.51), (torch.float16, 0.51)):
        input = arrange(numbers.to(dtype), len(shape) - 2, layout)
        exact, size = exact_means(input), exact_means(input.abs())
        for mean in (functional.global_avg_pool(input, keepdim=False), functional.concat_pool(input).flatten(1)[:, : shape[1]]):
            error = (mean.double() - exact).abs() / size
            assert error.max() <= roundings * torch.finfo(dtype).eps, (dtype, float(error.max()) / torch.finfo(dtype).eps)


def test_what_cancels_is_not_lost() -> None:
    """Large numbers that leave small ones behind, which a float64 sum forgets."""
    for columns in (1, 20):
        plane = torch.ones(1, columns, 12, 12, dtype=torch.float64)
        plane[:, :, 2, 3], plane[:, :, 7, 5] = 1e17, -1e17
        for layout in LAYOUTS:
            assert bool((functional.global_avg_pool(arrange(plane, 2, layout)) == 142 / 144).all()), (columns, layout)


def test_means_next_to_the_largest_number_are_finite() -> None:
    """What a sum's rounding errors are found by overflows there, and the sum does not."""
    x = torch.zeros(1, 1, 20, dtype=torch.float64)
    x[0, 0, 0], x[0, 0, 1] = -1.5 * 2.0**971, torch.finfo(torch.float64).max
    mean = x.sum() / 20
    assert mean.isfinite() and torch.equal(functional.global_avg_pool(x).flatten(), mean.view(1))
