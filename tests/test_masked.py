"""Global pools with a mask: values, positions and gradients against the definition, on every way that the kernels take."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from emulated import EMULATED
from torch_pooling import functional

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
NUMBERS = (*FLOATS, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
LAYOUTS = ("channels_first", "channels_last")
# Around a vector's length, short and odd; offsets of 8, 16 and 32 bits.
SHAPES: list[tuple[int, ...]] = [
    (7, 5, 13), (7, 3, 1), (7, 2, 15), (7, 2, 16), (7, 1, 17), (7, 33, 31), (7, 4, 257), (7, 64, 64), (7, 3, 5, 4), (7, 17, 7, 7), (7, 2, 3, 4, 5),
    (7, 1, 9, 31), (7, 2, 300),
]  # fmt: skip
# Planes, or in channels-last samples, that are reduced in blocks, of one and of several rows of channels.
LONG: list[tuple[int, ...]] = [(2, 1, 140_001), (2, 3, 70_000), (1, 70, 5000), (1, 130, 70, 41), (2, 1025, 401)]


def masks(batch: int, size: tuple[int, ...]) -> Tensor:
    """Of the first samples: none counts, all do, a beginning, an end, one, the first and the last; else at random."""
    torch.manual_seed(batch)
    positions = math.prod(size)
    mask = torch.rand(batch, positions) < 0.6
    some = torch.arange(positions)
    rows = (some < 0, some >= 0, some < max(1, positions // 2), some >= positions // 2, some == positions // 3, (some == 0) | (some == positions - 1))
    for row, chosen in zip(range(batch if batch > 2 else 0), rows, strict=False):
        mask[row] = chosen
    return mask.view(batch, *size)


def values(shape: tuple[int, ...], dtype: torch.dtype, layout: str) -> Tensor:
    torch.manual_seed(sum(shape))
    drawn = torch.randn(shape, dtype=torch.float64)
    if not dtype.is_floating_point:
        drawn = (drawn * 3).round() + (5 if dtype == torch.uint8 else 0)  # many are equal
    drawn = drawn.clamp(min=0 if dtype == torch.uint8 else -100).to(dtype)
    return drawn.movedim(1, -1).contiguous().movedim(-1, 1) if layout == "channels_last" else drawn


def largest(row: Tensor, counts: Tensor) -> tuple[Tensor, int]:
    """The first of the largest elements that count, of NaNs the last; 0 at 0 where there is none."""
    places = counts.nonzero().flatten()
    if len(places) == 0:
        return torch.zeros((), dtype=row.dtype), 0
    kept = row[places]
    if row.dtype.is_floating_point and kept.isnan().any():
        place = places[kept.isnan()].max()
    else:
        place = places[(kept == kept.max()).nonzero().min()]
    return row[place], int(place)


def expected_max(input: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    rows = [largest(plane, counts) for sample, counts in zip(input.flatten(2), mask.flatten(1), strict=True) for plane in sample]
    shape = (*input.shape[:2], *(1,) * (input.dim() - 2))
    return torch.stack([value for value, _ in rows]).view(shape), torch.tensor([place for _, place in rows]).view(shape)


def expected_avg(input: Tensor, mask: Tensor) -> Tensor:
    kept = torch.where(mask.unsqueeze(1), input.double(), 0).flatten(2)
    count = mask.flatten(1).sum(1).clamp(min=1)[:, None]
    return (kept.sum(2) / count).view(*input.shape[:2], *(1,) * (input.dim() - 2))


def close_average(found: Tensor, input: Tensor, mask: Tensor) -> None:
    """Within some roundings of the type they are added in, and that of the result."""
    expected, size = expected_avg(input, mask), expected_avg(input.abs(), mask)
    added_in, own = torch.finfo(torch.float32 if found.itemsize < 4 else found.dtype), torch.finfo(found.dtype)
    assert found.dtype == input.dtype
    assert ((found.double() - expected).abs() <= added_in.eps * 8 * size + own.eps * expected.abs() + own.smallest_normal * own.eps).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, *LONG], ids=str)
def test_averages(shape: tuple[int, ...], layout: str, each_isa: Callable[[], Iterator[str]]) -> None:
    mask = masks(shape[0], shape[2:])
    for dtype in FLOATS:
        input = values(shape, dtype, layout)
        hidden = torch.where(mask.unsqueeze(1), input, torch.nan)
        for _ in each_isa():
            close_average(functional.global_avg_pool(hidden, mask=mask), input, mask)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, *LONG], ids=str)
def test_maxima(shape: tuple[int, ...], layout: str, each_isa: Callable[[], Iterator[str]]) -> None:
    mask = masks(shape[0], shape[2:])
    for dtype in NUMBERS:
        input = values(shape, dtype, layout)
        value, place = expected_max(input, mask)
        extreme = torch.nan if dtype.is_floating_point else torch.iinfo(dtype).max
        hidden = torch.where(mask.unsqueeze(1), input, torch.tensor(extreme, dtype=dtype))
        for _ in each_isa():
            found, indices = functional.global_max_pool(hidden, mask=mask, return_indices=True)
            assert found.dtype == dtype and torch.equal(found, value) and torch.equal(indices, place)
            assert torch.equal(functional.global_max_pool(hidden, mask=mask), value)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(7, 5, 13), (7, 3, 40, 9), (2, 1, 140_001), (1, 70, 5000)], ids=str)
def test_lowest_values_and_nan(shape: tuple[int, ...], layout: str, each_isa: Callable[[], Iterator[str]]) -> None:
    """Where all that counts is the lowest value there is, its first one wins, not an element that was replaced by that value."""
    mask = masks(shape[0], shape[2:])
    mask[0].view(-1)[: mask[0].numel() // 2] = False
    for dtype in NUMBERS:
        input = torch.full(shape, -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min, dtype=dtype)
        input[:, 1:].view(*shape[:1], -1)[:, ::7] = 1
        if dtype.is_floating_point:
            input[:, 2:3].flatten(2)[..., ::5] = torch.nan
            assert shape[1] < 3 or input.isnan().any()
        input = input.movedim(1, -1).contiguous().movedim(-1, 1) if layout == "channels_last" else input
        value, place = expected_max(input, mask)
        for _ in each_isa():
            found, indices = functional.global_max_pool(input, mask=mask, return_indices=True)
            torch.testing.assert_close(found, value, rtol=0, atol=0, equal_nan=True)
            assert torch.equal(indices, place)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, (1, 3, 140_001), (3, 70, 5000)], ids=str)
def test_gradients(shape: tuple[int, ...], layout: str, each_isa: Callable[[], Iterator[str]]) -> None:
    mask = masks(shape[0], shape[2:])
    counted = mask.unsqueeze(1).expand(shape)
    count = mask.flatten(1).sum(1).clamp(min=1).view(-1, *(1,) * (len(shape) - 1))
    for dtype in FLOATS:
        input = values(shape, dtype, layout).requires_grad_()
        grad = torch.randn(*shape[:2], *(1,) * (len(shape) - 2)).to(dtype)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        shares = torch.where(counted, (grad.to(wide) / count.to(wide)).to(dtype), 0)
        taken = torch.zeros(shape, dtype=dtype).flatten(2)
        taken.scatter_(2, expected_max(input.detach(), mask)[1].flatten(2), torch.where(mask.flatten(1).any(1)[:, None, None], grad.flatten(2), 0))
        for _ in each_isa():
            (of_average,) = torch.autograd.grad(functional.global_avg_pool(input, mask=mask), input, grad)
            assert torch.equal(of_average, shares) and of_average.stride() == input.stride()
            (of_maximum,) = torch.autograd.grad(functional.global_max_pool(input, mask=mask), input, grad)
            assert torch.equal(of_maximum, taken.view(shape)) and of_maximum.stride() == input.stride()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_derivatives(layout: str) -> None:
    input = values((4, 3, 5, 4), torch.float64, layout).requires_grad_()
    mask = masks(4, (5, 4))
    for pool in (functional.global_avg_pool, functional.global_max_pool):
        def call(x: Tensor, pool: Callable[..., Tensor] = pool) -> Tensor:
            return pool(x, mask=mask)

        assert torch.autograd.gradcheck(call, (input,), check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
        assert torch.autograd.gradgradcheck(call, (input,))
        plain = torch.func.vmap(lambda x, m, pool=pool: pool(x, mask=m))(input.unsqueeze(1), mask.unsqueeze(1)).squeeze(1)
        assert torch.equal(plain, call(input))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_planes_that_end_in_what_does_not_count(layout: str, dtype: torch.dtype, each_isa: Callable[[], Iterator[str]]) -> None:
    """The bits of the plane without its end, on the CPU: padding a batch changes nothing."""
    if EMULATED:
        pytest.skip("a GPU adds up whole planes in an order that depends on their length; see docs/cuda.md")
    for channels, length, kept in ((3, 9, 5), (3, 100, 37), (3, 700, 699), (3, 5000, 2049), (3, 150_000, 140_011), (9, 150_000, 140_011)):
        input = values((2, channels, length), dtype, layout)
        short = values((2, channels, length), dtype, "channels_first")[..., :kept].contiguous()
        if layout == "channels_last":
            short = short.movedim(1, -1).contiguous().movedim(-1, 1)
        lengths = torch.tensor([kept, kept])
        for _ in each_isa():
            assert torch.equal(functional.global_avg_pool(input, lengths=lengths), functional.global_avg_pool(short))
            assert torch.equal(functional.global_max_pool(input, lengths=lengths), functional.global_max_pool(short))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 16, 140_000), (8, 64, 50, 50), (3, 7, 140_000), (2, 3, 140_000), (9, 3, 30), (1, 64, 70, 70)], ids=str)
def test_masks_that_leave_nothing_out(shape: tuple[int, ...], layout: str) -> None:
    """The bits of no mask, also beside a sample of which something is left out, and wherever the mask lies in memory."""
    positions = math.prod(shape[2:])
    one_more = (shape[0] + 1, *shape[1:])
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        input = values(one_more, dtype, layout)
        memory = torch.ones(one_more[0] * positions + 16, dtype=torch.bool)
        for pool in (functional.global_avg_pool, functional.global_max_pool):
            plain = pool(input)
            for begin in (0, 1, 8):
                mask = memory[begin : begin + one_more[0] * positions].view(one_more[0], *shape[2:])
                assert torch.equal(pool(input, mask=mask), plain)
            mask = memory[: one_more[0] * positions].clone().view(one_more[0], *shape[2:])
            mask[-1].view(-1)[positions // 3] = False
            assert torch.equal(pool(input, mask=mask)[:-1], plain[:-1])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(9, 33, 13, 11), (2, 3, 300_000), (1, 96, 9000)], ids=str)
def test_threads(shape: tuple[int, ...], layout: str, threads: Callable[[int], None]) -> None:
    mask = masks(shape[0], shape[2:])
    for dtype in (torch.float32, torch.bfloat16):
        input = values(shape, dtype, layout).requires_grad_()
        found = []
        for count in (1, 2, 3, 8):
            threads(count)
            average = functional.global_avg_pool(input, mask=mask)
            found.append([average, *functional.global_max_pool(input, mask=mask, return_indices=True), *torch.autograd.grad(average.sum(), input)])
        for other in found[1:]:
            assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_views_and_empty_batches() -> None:
    """Masks and inputs that do not lie together, and shapes without elements."""
    input = torch.randn(4, 6, 10, 8)
    mask = torch.rand(4, 16, 10) < 0.5
    given, chosen = input[:, ::2, 1:, ::2], mask[:, ::4, 1:].transpose(1, 2)
    for pool in (functional.global_avg_pool, functional.global_max_pool):
        plain = pool(given.contiguous(), mask=chosen.contiguous())
        assert torch.equal(pool(given, mask=chosen), plain)
        assert torch.equal(pool(given, mask=chosen.contiguous()), plain)
        one = torch.tensor(True).expand(4, 10, 8)
        assert torch.equal(pool(input, mask=one), pool(input))
        empty = input[:0].requires_grad_()
        found = pool(empty, mask=mask[:0, :10, :8])
        assert found.shape == (0, 6, 1, 1) and torch.autograd.grad(found.sum(), empty)[0].shape == (0, 6, 10, 8)


def test_operators_refuse_wrong_masks() -> None:
    ops = torch.ops.torch_pooling
    input, mask = torch.randn(2, 3, 4, 5), torch.ones(2, 4, 5, dtype=torch.bool)
    for operator in (ops.masked_avg_pool, ops.masked_max_pool, ops.masked_max_pool_with_offsets):
        with pytest.raises(RuntimeError, match="mask must be of type bool"):
            operator(input, mask.int())
        with pytest.raises(RuntimeError, match=r"mask must have sizes \[N, \*spatial\], \[2, 4, 5\], but has \[2, 5, 4\]"):
            operator(input, mask.mT)
        with pytest.raises(RuntimeError, match="mask must be on cpu, but is on meta"):
            operator(input, mask.to("meta"))
        with pytest.raises(RuntimeError, match="1 to 3 spatial axes, but got 2-D"):
            operator(input[0, 0], mask)
    with pytest.raises(NotImplementedError, match="supported are float32"):
        ops.masked_avg_pool(input.int(), mask)
    grad = torch.ones(2, 3, 1, 1)
    assert torch.equal(ops.masked_avg_pool_backward(grad, mask, False), torch.full_like(input, 1 / 20))
    for wrong, words in (
        ((grad[:1], mask, False), "mask must have the batch of grad_output, 1, but has 2"),
        ((grad[..., 0], mask, False), "expected grad_output to be 4-D"),
        ((grad.expand(2, 3, 2, 1), mask, False), "spatial axis 0 must have size 1"),
        ((grad, mask[0, 0], False), "1 to 3 spatial axes"),
    ):
        with pytest.raises(RuntimeError, match=words):
            ops.masked_avg_pool_backward(*wrong)


def test_traced_and_compiled() -> None:
    input, mask = torch.randn(3, 4, 6, 5), masks(3, (6, 5))
    for pool in (functional.global_avg_pool, functional.global_max_pool):
        traced = torch.jit.trace(lambda x, m, pool=pool: pool(x, mask=m), (input, mask))
        other, changed = torch.randn(2, 7, 9, 4), masks(2, (9, 4))
        assert torch.equal(traced(other, changed), pool(other, mask=changed))
        compiled = torch.compile(lambda x, m, pool=pool: pool(x, mask=m), backend="aot_eager", dynamic=True, fullgraph=True)
        for x, m in ((input, mask), (other, changed)):
            x = x.clone().requires_grad_()
            (expected,) = torch.autograd.grad(pool(x, mask=m).sin().sum(), x)
            (found,) = torch.autograd.grad(compiled(x, m).sin().sum(), x)
            assert torch.equal(found, expected)
