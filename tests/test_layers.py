"""data_format, masks and lengths: functions and modules."""
from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_pooling
from torch_pooling import functional

RANKS = (1, 2, 3)
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("max_pool{}d", (3, 2, 1), {}),
    ("max_pool{}d", (3, 2, "same"), {"return_indices": True}),
    ("avg_pool{}d", (3, 2, 1), {"count_include_pad": False, "dilation": 2}),
    ("sum_pool{}d", (2, 1, "same"), {"dilation": 2}),
    ("adaptive_avg_pool{}d", (3,), {}),
    ("adaptive_max_pool{}d", (3,), {"return_indices": True}),
]


def parts(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("name, args, more", CALLS)
def test_channels_last_functions(name: str, args: tuple[Any, ...], more: dict[str, Any], rank: int, batched: bool) -> None:
    function = getattr(functional, name.format(rank))
    input = torch.randn(*([2] if batched else []), *(7, 8, 9)[:rank], 5, requires_grad=True)
    first = input.detach().movedim(-1, -1 - rank).contiguous().requires_grad_()
    found = parts(function(input, *args, **more, data_format="channels_last"))
    expected = parts(function(first, *args, **more))
    for one, other in zip(found, expected, strict=True):
        assert one.is_contiguous()
        torch.testing.assert_close(one, other.movedim(-1 - rank, -1), rtol=1e-6, atol=1e-6)
    (grad,) = torch.autograd.grad(found[0].sin().sum(), input)
    (expected_grad,) = torch.autograd.grad(expected[0].sin().sum(), first)
    torch.testing.assert_close(grad, expected_grad.movedim(-1 - rank, -1), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="data_format"):
        function(input, *args, **more, data_format="NHWC")
    with pytest.raises((RuntimeError, IndexError)):  # torch's avg_pool2d, alone, raises the latter
        function(torch.zeros(()), *args, **more, data_format="channels_last")


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("kind, args", [("MaxPool", (3, 2)), ("AvgPool", (3, 2)), ("AdaptiveAvgPool", (3,)), ("AdaptiveMaxPool", (3,))])
def test_channels_last_modules(kind: str, args: tuple[Any, ...], rank: int) -> None:
    name = f"{kind}{rank}d"
    module = getattr(torch_pooling, name)(*args, data_format="channels_last")
    input = torch.randn(2, *(7, 8, 9)[:rank], 5)
    expected = getattr(torch_pooling, name)(*args)(input.movedim(-1, 1).contiguous())
    torch.testing.assert_close(module(input), expected.movedim(1, -1), rtol=1e-6, atol=1e-6)
    assert "data_format='channels_last'" in repr(module)
    assert repr(getattr(torch_pooling, name)(*args)) == repr(getattr(nn, name)(*args))
    again = pickle.loads(pickle.dumps(module))
    assert repr(again) == repr(module) and torch.equal(again(input), module(input))
    with pytest.raises(ValueError, match="data_format"):
        getattr(torch_pooling, name)(*args, data_format="NHWC")


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("kind", ["Max", "Avg"])
@pytest.mark.parametrize("padding", ["same", "pairs"])
def test_modules_take_new_paddings(padding: str, kind: str, rank: int) -> None:
    value: Any = "same" if padding == "same" else ((0, 1),) * rank
    module = getattr(torch_pooling, f"{kind}Pool{rank}d")(2, 1, value)
    input = torch.randn(2, 3, *(6,) * rank)
    function = getattr(functional, f"{kind.lower()}_pool{rank}d")
    assert torch.equal(module(input), function(input, 2, 1, value))
    assert str(value) in repr(module)


def oracle(kind: str, input: Tensor, valid: Tensor) -> Tensor:
    """[N, C], one row at a time, from the definition."""
    rows = []
    for sample, counts in zip(input, valid, strict=True):
        kept = sample[:, counts]
        if kept.shape[1] == 0:
            rows.append(sample.flatten(1)[:, 0] * 0)
        else:
            rows.append(kept.mean(1) if kind == "avg" else kept.amax(1))
    return torch.stack(rows)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_masks(kind: str, rank: int, data_format: str) -> None:
    torch.manual_seed(rank)
    size = (5, 4, 3)[:rank]
    input = torch.randn(4, 3, *size, dtype=torch.float64)
    mask = torch.rand(4, *size) < 0.5
    mask[1], mask[2] = False, True
    pool = getattr(functional, f"global_{kind}_pool")
    last = data_format == "channels_last"
    given = input.movedim(1, -1).contiguous() if last else input.clone()
    # What does not count may be anything.
    hidden = torch.where(mask.unsqueeze(-1 if last else 1), given, torch.nan).requires_grad_()
    found = pool(hidden, mask=mask, data_format=data_format)
    assert found.shape == ((4, *(1,) * rank, 3) if last else (4, 3, *(1,) * rank))
    plain = input.clone().requires_grad_()
    expected = oracle(kind, plain, mask)
    torch.testing.assert_close(found.reshape(4, 3), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(pool(hidden, mask=mask, keepdim=False, data_format=data_format), found.reshape(4, 3))
    (grad,) = torch.autograd.grad(found.sin().sum(), hidden)
    (expected_grad,) = torch.autograd.grad(expected.sin().sum(), plain)
    torch.testing.assert_close(grad.movedim(-1, 1) if last else grad, expected_grad, rtol=1e-12, atol=1e-12)
    assert not grad[1].any() and not found[1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_lengths_are_masks(kind: str, dtype: torch.dtype) -> None:
    input = torch.randn(5, 3, 9).to(dtype)
    lengths = torch.tensor([0, 1, 5, 9, 12])
    mask = torch.arange(9) < lengths.unsqueeze(1)
    pool = getattr(functional, f"global_{kind}_pool")
    found = pool(input, lengths=lengths)
    assert found.dtype == dtype and torch.equal(found, pool(input, mask=mask)) and not found[0].any()
    torch.testing.assert_close(found[3:], pool(input[3:]), rtol=1e-6, atol=1e-6)
    expected = oracle(kind, input.double(), mask).to(dtype)
    assert torch.equal(found.flatten(1), expected) or torch.allclose(found.flatten(1), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_a_mask_that_leaves_nothing_out(dtype: torch.dtype) -> None:
    """The bits of no mask: 49 times the reciprocal of 49, in float32 and float64, is not 1."""
    for length in range(1, 500):
        input = torch.randn(1, 3, length).to(dtype)
        plain = functional.global_avg_pool(input)
        assert torch.equal(functional.global_avg_pool(input, mask=torch.ones(1, length, dtype=torch.bool)), plain), length
        assert torch.equal(functional.global_avg_pool(input, lengths=torch.tensor([length])), plain), length


def test_masked_indices() -> None:
    input = torch.tensor([[[5.0, 1, 3, 3]], [[7, 8, 9, 9]], [[-torch.inf] * 4]])
    mask = torch.tensor([[False, True, True, True], [False] * 4, [False, False, True, True]])
    values, indices = functional.global_max_pool(input, mask=mask, return_indices=True)
    assert values.flatten().tolist() == [3, 0, -torch.inf] and indices.flatten().tolist() == [2, 0, 2]


def test_mask_errors() -> None:
    input = torch.zeros(2, 3, 4, 5)
    for pool in (functional.global_avg_pool, functional.global_max_pool):
        with pytest.raises(TypeError, match="mask.*bool"):
            pool(input, mask=torch.zeros(2, 4, 5))
        with pytest.raises(RuntimeError, match=r"mask must be \[N, \*spatial\], \[2, 4, 5\], but has sizes \[2, 5\]"):
            pool(input, mask=torch.zeros(2, 5, dtype=torch.bool))
        with pytest.raises(RuntimeError, match="lengths.*one spatial axis"):
            pool(input, lengths=torch.tensor([1, 2]))
        with pytest.raises(TypeError, match="lengths.*integer"):
            pool(input[:, 0], lengths=torch.tensor([1.0, 2.0]))
        with pytest.raises(RuntimeError, match=r"lengths must be \[N\], \[2\]"):
            pool(input[:, 0], lengths=torch.tensor([1, 2, 3]))
        with pytest.raises(ValueError, match="exclude"):
            pool(input[:, 0], lengths=torch.tensor([1, 2]), mask=torch.zeros(2, 5, dtype=torch.bool))
        with pytest.raises(TypeError, match="mask.*Tensor"):
            pool(input, mask=[True])
        with pytest.raises(TypeError, match="'mask' must be a dense Tensor, not one of layout torch.sparse_coo"):
            pool(input, mask=torch.ones(2, 4, 5, dtype=torch.bool).to_sparse())


OWN: dict[str, Callable[[Tensor, int], Any]] = {
    "sum_pool": lambda x, rank: getattr(functional, f"sum_pool{rank}d")(x, 2),
    "concat_pool": lambda x, rank: functional.concat_pool(x, 2),
    "avgmax_pool": lambda x, rank: functional.avgmax_pool(x, 2),
    "mixed_pool": lambda x, rank: functional.mixed_pool(x, 2),
    "spatial_pyramid_pool": lambda x, rank: functional.spatial_pyramid_pool(x, (1, 2), "max"),
    "masked avg": lambda x, rank: functional.global_avg_pool(x, mask=x[:, 0] > -1),
    "masked max": lambda x, rank: functional.global_max_pool(x, mask=x[:, 0] > -1),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("rank", RANKS)
def test_autocast_is_that_of_the_pools_they_are_made_of(rank: int, name: str) -> None:
    """Volumes are pooled in float32, all else in the type it comes in."""
    input = torch.randn(2, 3, *(9, 8, 7)[:rank], generator=torch.Generator().manual_seed(rank)).bfloat16()
    runs_in = torch.float32 if rank == 3 else torch.bfloat16
    expected = input.to(runs_in).requires_grad_()
    leaf = input.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = OWN[name](leaf, rank)
        peer = getattr(functional, f"avg_pool{rank}d")(leaf, 2)
        inside = torch.autograd.grad(found.float().square().sum(), leaf)[0]
    value = OWN[name](expected, rank)
    assert found.dtype == peer.dtype == runs_in and torch.equal(found, value)
    outside = torch.autograd.grad(value.float().square().sum(), expected)[0]
    assert inside.dtype == torch.bfloat16 and torch.equal(inside, outside.bfloat16())


def test_integers_beyond_64_bits_name_their_argument() -> None:
    input = torch.randn(1, 2, 4, 4)
    for call, words in (
        (lambda: functional.concat_pool(input, 2**70), r"concat_pool\(\): argument 'output_size'"),
        (lambda: functional.avgmax_pool(input, (1, 2**70)), r"avgmax_pool\(\): argument 'output_size'"),
        (lambda: functional.spatial_pyramid_pool(input, (1, 2**70)), r"spatial_pyramid_pool\(\): argument 'levels'"),
        (lambda: functional.mixed_pool(input, 2**70), r"mixed_pool\(\): argument 'kernel_size'"),
        (lambda: functional.mixed_pool(input, 3, 2**70), r"mixed_pool\(\): argument 'stride'"),
    ):
        with pytest.raises(ValueError, match=words + " overflows a 64-bit int"):
            call()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kinds", [[0, 0], [1, 1], [0, 1, 0, 1], [1, 0, 0]])
def test_several_parts_of_one_kind(kinds: list[int], layout: torch.memory_format) -> None:
    """The operator takes them, though no function asks for them: each part is what it is alone, and gradients add up."""
    ops = torch.ops.torch_pooling
    input = torch.randn(2, 5, 7, 9).contiguous(memory_format=layout)
    sizes = [3, 2] * len(kinds)
    if 1 in kinds:
        output, offsets = ops.combined_pool_with_offsets(input, 2, 0, kinds, sizes, [], [])
    else:
        output, offsets = ops.combined_pool(input, 2, 0, kinds, sizes, [], []), None
    assert torch.equal(ops.combined_pool(input, 2, 0, kinds, sizes, [], []), output)
    grad = torch.randn(output.shape)
    found = ops.combined_pool_backward(grad, offsets, [7, 9], 2, 0, kinds, sizes, [], [], False)
    expected = torch.zeros(input.shape)
    for part, kind in enumerate(kinds):
        mine = slice(5 * part, 5 * part + 5)
        leaf = input.clone().requires_grad_()
        alone = (functional.adaptive_max_pool2d if kind else functional.adaptive_avg_pool2d)(leaf, (3, 2))
        torch.testing.assert_close(output[:, mine], alone.detach(), rtol=1e-6, atol=1e-6)
        expected += torch.autograd.grad(alone, leaf, grad[:, mine])[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
