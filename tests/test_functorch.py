"""torch.func on every family: grad, vjp, jvp, jacrev, jacfwd, hessian, vmap in every position, and their nestings.

The expected value is what torch's own function gives under the same transform; where torch has no such call (dilated
averages, or a batching rule that torch lacks), the transform written out as a loop stands in for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import torch_pooling
from torch_pooling import functional

Function = Callable[[Tensor], Any]
# name -> (spatial size, ours, torch's)
FAMILIES: dict[str, tuple[tuple[int, ...], Function, Function]] = {}
for rank, size in ((1, (6,)), (2, (4, 5)), (3, (3, 4, 3))):
    for name, args, kwargs in (
        (f"max_pool{rank}d", (2,), {"stride": 1, "padding": 1}),
        (f"avg_pool{rank}d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
        (f"adaptive_max_pool{rank}d", (2,), {}),
        (f"adaptive_avg_pool{rank}d", (2,), {}),
    ):
        FAMILIES[name] = (
            size,
            lambda x, f=getattr(functional, name), a=args, k=kwargs: f(x, *a, **k),  # type: ignore[misc]
            lambda x, f=getattr(torch.nn.functional, name), a=args, k=kwargs: f(x, *a, **k),  # type: ignore[misc]
        )
    axes = tuple(range(-rank, 0))
    FAMILIES[f"global_avg_pool of {rank}"] = (
        size, functional.global_avg_pool, lambda x, a=axes: x.mean(a, keepdim=True))  # type: ignore[misc]
    FAMILIES[f"global_max_pool of {rank}"] = (
        size, functional.global_max_pool, lambda x, a=axes: x.amax(a, keepdim=True))  # type: ignore[misc]
per_family = pytest.mark.parametrize("family", FAMILIES)


def distinct(*shape: int) -> Tensor:
    """No two equal elements, so that a maximum has one place and amax agrees about it."""
    generator = torch.Generator().manual_seed(5)
    count = torch.Size(shape).numel()
    return ((torch.randperm(count, generator=generator).double() - count / 2) / 8).view(shape)


def setting(family: str) -> tuple[Function, Function, Tensor]:
    size, ours, torchs = FAMILIES[family]
    return ours, torchs, distinct(2, 2, *size)


def loss_of(function: Function) -> Callable[[Tensor], Tensor]:
    return lambda input: function(input).sin().sum()


def check(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def loop(function: Function, batch: Tensor, in_dim: int = 0, out_dim: int = 0) -> Tensor:
    """vmap by definition."""
    return torch.stack([function(item) for item in batch.unbind(in_dim)], out_dim)


@per_family
def test_grad_and_vjp(family: str) -> None:
    ours, torchs, input = setting(family)
    check(grad(loss_of(ours))(input), grad(loss_of(torchs))(input))
    output, pull = vjp(ours, input)
    expected, pull_expected = vjp(torchs, input)
    check(output, expected)
    cotangent = distinct(*output.shape)
    check(pull(cotangent), pull_expected(cotangent))


@per_family
def test_jvp(family: str) -> None:
    ours, torchs, input = setting(family)
    tangent = distinct(*input.shape).flip(-1)
    check(jvp(ours, (input,), (tangent,)), jvp(torchs, (input,), (tangent,)))


@per_family
def test_jacobians(family: str) -> None:
    ours, torchs, input = setting(family)
    expected = jacrev(torchs)(input)
    check(jacrev(ours)(input), expected)
    check(jacrev(ours, chunk_size=3)(input), expected)
    check(jacfwd(ours)(input), expected)
    check(torch.autograd.functional.jacobian(ours, input, vectorize=True), expected)
    check(torch.autograd.functional.jacobian(ours, input, vectorize=True, strategy="forward-mode"), expected)


@per_family
def test_hessian(family: str) -> None:
    ours, torchs, input = setting(family)
    input = input[:1, :1]
    expected = torch.autograd.functional.hessian(loss_of(torchs), input)
    assert expected.abs().sum() > 0
    check(hessian(loss_of(ours))(input), expected)
    check(jacrev(jacrev(loss_of(ours)))(input), expected)
    check(jacfwd(jacfwd(loss_of(ours)))(input), expected)
    check(jacrev(jacfwd(loss_of(ours)))(input), expected)


@pytest.mark.parametrize("out_dim", [0, 1, -1])
@pytest.mark.parametrize("in_dim", [0, 1, 2, -1])
@per_family
def test_vmap_dimensions(family: str, in_dim: int, out_dim: int) -> None:
    ours, torchs, input = setting(family)
    batch = torch.stack([input, -input, input.flip(-1)]).movedim(0, in_dim)
    check(vmap(ours, in_dim, out_dim)(batch), loop(torchs, batch, in_dim, out_dim))


@per_family
def test_vmap_of_unbatched_samples(family: str) -> None:
    """The use that vmap is made for: a model of one sample, mapped over the batch."""
    size, ours, torchs = FAMILIES[family]
    one = (1,) if family.startswith("global") else ()  # rank-free functions take [N, C, *spatial] only
    batch = distinct(3, *one, 2, *size)
    check(vmap(ours)(batch), loop(torchs, batch))
    check(vmap(grad(loss_of(ours)))(batch), loop(grad(loss_of(torchs)), batch))


@per_family
def test_vmap_in_chunks_and_nested(family: str) -> None:
    ours, torchs, input = setting(family)
    batch = torch.stack([input, -input, input.flip(0), input.flip(1)])
    check(vmap(ours, chunk_size=3)(batch), loop(torchs, batch))
    nested = torch.stack([batch, batch.flip(-1)], dim=2)
    expected = torch.stack([loop(torchs, inner) for inner in nested.unbind(2)])
    check(vmap(vmap(ours), in_dims=2)(nested), expected)


@per_family
def test_vmap_of_channels_last(family: str) -> None:
    ours, torchs, input = setting(family)
    batch = torch.stack([input, -input, input.flip(-1)])
    last = batch.movedim(2, -1).contiguous().movedim(-1, 2)
    assert not last.is_contiguous()
    check(vmap(ours)(last), loop(torchs, batch))
    check(vmap(grad(loss_of(ours)))(last), loop(grad(loss_of(torchs)), batch))
    check(vmap(jacfwd(ours))(last), loop(jacrev(torchs), batch))
    single = input.movedim(1, -1).contiguous().movedim(-1, 1)
    check(hessian(loss_of(ours))(single[:1, :1]), hessian_by_autograd(torchs, input[:1, :1]))


def hessian_by_autograd(function: Function, input: Tensor) -> Tensor:
    return torch.autograd.functional.hessian(loss_of(function), input)


@per_family
def test_transforms_compose(family: str) -> None:
    ours, torchs, input = setting(family)
    batch, tangents = torch.stack([input, -input, input.flip(-1)]), distinct(3, *input.shape)

    def tangent_of(function: Function) -> Callable[[Tensor, Tensor], Any]:
        return lambda x, t: jvp(function, (x,), (t,))[1]

    def product_with_hessian(function: Function) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, t: jvp(grad(loss_of(function)), (x,), (t,))[1]

    def by_autograd(x: Tensor, t: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (first,) = torch.autograd.grad(loss_of(torchs)(x), x, create_graph=True)
        return torch.autograd.grad(first, x, t)[0]

    expected = torch.stack([by_autograd(x, t) for x, t in zip(batch, tangents)])
    check(vmap(tangent_of(ours))(batch, tangents), torch.stack([tangent_of(torchs)(x, t) for x, t in zip(batch, tangents)]))
    check(vmap(product_with_hessian(ours))(batch, tangents), expected)
    check(grad(lambda x: vmap(ours)(x).sin().sum())(batch), loop(grad(loss_of(torchs)), batch))
    # Mapped tangents of one input: the gradient is mapped over, the saved offsets are not.
    check(
        vmap(tangent_of(ours), in_dims=(None, 0))(input, tangents),
        torch.stack([tangent_of(torchs)(input, t) for t in tangents]),
    )
    pull = vjp(ours, input)[1]
    cotangents = distinct(3, *torchs(input).shape)
    check(vmap(pull)(cotangents), (torch.stack([vjp(torchs, input)[1](c)[0] for c in cotangents]),))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_vmap_returns_indices(rank: int) -> None:
    """Indices stay positions in the plane: the mapped axis must not leak into them."""
    input = distinct(3, 2, 2, *(6, 4, 5)[:rank])
    for name, argument in ((f"max_pool{rank}d", 2), (f"adaptive_max_pool{rank}d", 3)):
        def ours(x: Tensor) -> Any:
            return getattr(functional, name)(x, argument, return_indices=True)

        expected = [getattr(torch.nn.functional, name)(x, argument, return_indices=True) for x in input]
        values, indices = vmap(ours)(input)
        check(values, torch.stack([value for value, _ in expected]))
        assert torch.equal(indices, torch.stack([index for _, index in expected]))
        value_grad = vmap(grad(lambda x: ours(x)[0].sin().sum()))(input)
        check(value_grad, vmap(grad(lambda x: getattr(functional, name)(x, argument).sin().sum()))(input))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_dilated_average(rank: int) -> None:
    """Beyond torch, so against the definition: a depthwise mean over dilated taps, as a strided unfold."""
    input = distinct(3, 2, 2, *(7, 6, 5)[:rank])

    def ours(x: Tensor) -> Tensor:
        return getattr(functional, f"avg_pool{rank}d")(x, 2, 1, dilation=2)

    def definition(x: Tensor) -> Tensor:
        for axis in range(-rank, 0):
            x = (x.narrow(axis, 0, x.size(axis) - 2) + x.narrow(axis, 2, x.size(axis) - 2)) / 2
        return x

    check(vmap(ours)(input), definition(input))
    check(vmap(grad(loss_of(ours)))(input), vmap(grad(loss_of(definition)))(input))
    check(jacfwd(ours)(input[0]), jacrev(definition)(input[0]))


def test_per_sample_gradients_of_a_model() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch_pooling.MaxPool2d(2), torch.nn.Conv2d(3, 2, 1), torch_pooling.AvgPool2d(2, 1),
        torch_pooling.AdaptiveMaxPool2d(2), torch_pooling.GlobalAvgPool(keepdim=False),
    ).double()
    parameters = dict(model.named_parameters())
    inputs = torch.randn(4, 1, 9, 9, dtype=torch.float64)

    def loss(parameters: dict[str, Tensor], input: Tensor) -> Tensor:
        return functional_call(model, parameters, (input.unsqueeze(0),)).square().sum()

    together = vmap(grad(loss), in_dims=(None, 0))(parameters, inputs)
    for number, input in enumerate(inputs):
        model.zero_grad()
        loss(parameters, input).backward()
        for name, parameter in model.named_parameters():
            check(together[name][number], parameter.grad)


@pytest.mark.parametrize("family", ["max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"])
def test_vmap_over_nothing(family: str) -> None:
    """A mapped dimension of size 0 keeps the other sizes."""
    for shape in ((0, 2, 3, 6, 6), (0, 3, 6, 6)):
        sizes = (2, 2) if "adaptive" in family else (3, 3)
        assert torch.vmap(lambda x: getattr(functional, family)(x, 2))(torch.empty(shape)).shape == (*shape[:-2], *sizes)
    assert torch.vmap(lambda x: functional.concat_pool(x, 2))(torch.empty(0, 2, 3, 6, 6)).shape == (0, 2, 6, 2, 2)
