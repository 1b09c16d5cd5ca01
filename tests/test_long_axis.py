"""One long window over each plane: of a few, threads reduce parts of it side by side; of many, the lanes of some are put together."""
from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_pooling import functional

EachIsa = Callable[[], Iterator[str]]
SHAPES = (  # [N, C, *spatial]
    (1, 3, 131_072 + 17), (2, 1, 513, 517), (1, 64, 47, 53), (3, 20, 11, 13, 61), (8, 130, 24, 24), (8, 70, 37, 31), (1, 9, 150, 120),
    (5, 7, 7, 7), (3, 37, 5, 9),
)  # fmt: skip
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def make(shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    content = torch.randint(-99, 100, shape, generator=generator).to(torch.float64) / 8  # many ties, exact in every type
    return (content.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else content).to(dtype)


def adaptive(kind: str, input: Tensor, **options: bool) -> Tensor | tuple[Tensor, Tensor]:
    result: Tensor | tuple[Tensor, Tensor] = getattr(functional, f"adaptive_{kind}_pool{input.dim() - 2}d")(input, 1, **options)
    return result


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(shape: tuple[int, ...], channels_last: bool, each_isa: EachIsa) -> None:
    for dtype in DTYPES:
        input = make(shape, dtype, channels_last)
        flat = input.double().flatten(2)
        for isa in each_isa():
            values, indices = adaptive("max", input, return_indices=True)
            assert torch.equal(values.flatten(1).double(), flat.amax(2)), (isa, dtype)
            assert torch.equal(indices.flatten(1), (flat == flat.amax(2, keepdim=True)).int().argmax(2)), (isa, dtype)  # the first one
            assert torch.equal(adaptive("max", input), values)
            mean = adaptive("avg", input)
            assert isinstance(mean, Tensor)
            torch.testing.assert_close(mean.flatten(1), flat.mean(2).to(dtype), atol=1e-6, rtol=torch.finfo(dtype).eps)


NARROW = (torch.bfloat16, torch.float16, torch.int16, torch.int8, torch.uint8)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 32_767), (1, 2, 32_768), (3, 5, 181, 182), (1, 67, 190, 191), (2, 3, 33, 32, 32), (1, 1, 1, 40_000)])
def test_more_positions_than_narrow_codes(shape: tuple[int, ...], channels_last: bool, each_isa: EachIsa) -> None:
    """Positions beyond 16 bits of types whose lanes have 16: at both ends, tied within and across parts, of NaN, infinities and zeros."""
    rank, positions = len(shape) - 2, torch.Size(shape[2:]).numel()
    for dtype in NARROW:
        base = make(shape, torch.float32, channels_last)
        base = base.abs() if dtype == torch.uint8 else base
        inputs = {name: base.clone(memory_format=torch.preserve_format) for name in ("ties", "first", "last", "equal")}
        inputs["first"][..., :1] = 100
        inputs["last"][_coordinates(positions - 1, shape[2:])] = 100
        inputs["equal"][:] = 5
        if dtype.is_floating_point:
            inputs["zeros"] = torch.where(base > 0, 0.0, -0.0)
            inputs["nothing"] = torch.full_like(base, float("-inf"))
            inputs["nan"] = base.clone(memory_format=torch.preserve_format)
            for place in (0, positions // 3, positions - 2):
                inputs["nan"][_coordinates(place, shape[2:])] = float("nan")
        for name, content in inputs.items():
            input = content.to(dtype)
            expected = getattr(torch.nn.functional, f"adaptive_max_pool{rank}d")(input.float(), 1, return_indices=True)
            for isa in each_isa():
                values, indices = adaptive("max", input, return_indices=True)
                assert torch.equal(indices, expected[1]), (name, dtype, isa)
                assert torch.equal(values.float().nan_to_num(99), expected[0].nan_to_num(99)), (name, dtype, isa)
                if name == "zeros":
                    assert torch.equal(values.float().signbit(), expected[0].signbit()), (dtype, isa)


def _coordinates(place: int, size: tuple[int, ...]) -> tuple[int, ...]:
    """Of a place in the first plane."""
    found: tuple[int, ...] = ()
    for length in reversed(size):
        place, at = divmod(place, length)
        found = (at, *found)
    return (0, 0, *found)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [SHAPES[2], SHAPES[6], SHAPES[7]])
def test_nan_and_infinities(shape: tuple[int, ...], channels_last: bool, each_isa: EachIsa) -> None:
    input = make(shape, torch.float32, channels_last)
    last = input[0, 0].numel() - 1
    for place, value in ((7, float("nan")), (last - 3, float("nan")), (last, float("inf"))):
        input[0, 0].view(-1)[place] = value
    input[0, 1] = float("-inf")
    input[0, 2].view(-1)[last] = 1000
    input[0, 3] = 0
    input[0, 3].view(-1)[0] = -0.0  # of equals the first one counts
    expected = torch.nn.functional.adaptive_max_pool2d(input, 1, return_indices=True)
    for isa in each_isa():
        values, indices = adaptive("max", input, return_indices=True)
        assert torch.equal(values.nan_to_num(), expected[0].nan_to_num()) and torch.equal(values.isnan(), expected[0].isnan()), isa
        assert torch.equal(indices, expected[1]), isa
        assert torch.equal(adaptive("max", input).view(torch.int32), values.view(torch.int32)), isa  # type: ignore[union-attr]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_threads_change_no_bit(shape: tuple[int, ...], channels_last: bool, threads: Callable[[int], None]) -> None:
    input = make(shape, torch.float32, channels_last) * 1.1
    threads(1)
    one = adaptive("avg", input), adaptive("max", input, return_indices=True)
    threads(2)
    two = adaptive("avg", input), adaptive("max", input, return_indices=True)
    assert torch.equal(one[0], two[0])  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(one[1], two[1], strict=True))


@pytest.mark.parametrize(("shape", "kernel"), [
    ((1, 1, 20, 100_000), (9, 40_000)), ((1, 2, 16, 200_000), (5, 70_000)), ((2, 1, 12, 70_000), (4, 32_768)), ((2, 1, 12, 70_000), (4, 32_769)),
])  # fmt: skip
def test_gradients_of_windows_with_more_columns_than_16_bits_number(shape: tuple[int, ...], kernel: tuple[int, int]) -> None:
    torch.manual_seed(1)
    input = torch.randn(shape, requires_grad=True)
    twin = input.detach().clone().requires_grad_()
    output = functional.max_pool2d(input, kernel, (1, 20_000))
    expected = F.max_pool2d(twin, kernel, (1, 20_000))
    grad = torch.arange(output.numel(), dtype=torch.float32).view(output.shape)  # sums are exact in any order
    assert torch.equal(output, expected)
    assert torch.equal(torch.autograd.grad(output, input, grad)[0], torch.autograd.grad(expected, twin, grad)[0])
