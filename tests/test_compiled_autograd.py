"""Compiled autograd: backward passes through our nodes as graphs, whose numbers are the layer's and whose sizes and tensors are inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F

from torch_pooling import convert
from torch_pooling import functional as ours

POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "max_pool2d": lambda x: ours.max_pool2d(x, 3, 2, 1),
    "max_pool2d of pairs": lambda x: ours.max_pool2d(x, 3, 2, ((1, 0), (0, 1)), dilation=(1, 2)),
    "avg_pool2d": lambda x: ours.avg_pool2d(x, 3, 1, 1),
    "avg_pool2d without padding": lambda x: ours.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "avg_pool2d by 5": lambda x: ours.avg_pool2d(x, 3, 1, 1, divisor_override=5),
    "sum_pool2d": lambda x: ours.sum_pool2d(x, 3, 1, 1),
    "adaptive_max_pool2d": lambda x: ours.adaptive_max_pool2d(x, (3, 2)),
    "adaptive_avg_pool2d": lambda x: ours.adaptive_avg_pool2d(x, (3, 2)),
    "values with indices": lambda x: ours.max_pool2d(x, 2, return_indices=True)[0],
    "concat_pool": ours.concat_pool,
    "mixed_pool": lambda x: ours.mixed_pool(x, 2),
    "pyramid of averages": lambda x: ours.spatial_pyramid_pool(x, (1, 2), mode="avg"),
    "masked": lambda x: ours.global_avg_pool(x, mask=(torch.arange(x[:, 0].numel()) % 3 > 0).view(x[:, 0].shape)),
}


@pytest.fixture(autouse=True)
def compiled_autograd() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(compiled_autograd=True):
        yield
    torch._dynamo.reset()


def leaf(size: int, channels_last: bool = False) -> Tensor:
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    return (x.to(memory_format=torch.channels_last) if channels_last else x).requires_grad_()


def loss_of(pool: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    output = pool(x)
    return (output.square() * torch.arange(1.0, output.numel() + 1).view_as(output)).sum()


def backward(loss: Tensor, backend: Any = "eager", **options: Any) -> None:
    torch.compile(lambda: loss.backward(**options), backend=backend)()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])  # calls our nodes; traces through them
@pytest.mark.parametrize("name", POOLS)
def test_gradients_are_those_of_eager(name: str, backend: str) -> None:
    for size in (8, 9):
        expected, x = leaf(size, size == 9), leaf(size, size == 9)
        loss_of(POOLS[name], expected).backward()
        backward(loss_of(POOLS[name], x), backend)
        assert x.grad is not None and expected.grad is not None
        assert torch.equal(x.grad, expected.grad) and x.grad.stride() == expected.grad.stride()


def test_windows_that_only_differ_in_their_numbers_are_not_mistaken() -> None:
    names = ["avg_pool2d", "avg_pool2d without padding", "avg_pool2d by 5", "sum_pool2d"]
    gradients = []
    for name in names:
        expected, x = leaf(8), leaf(8)
        loss_of(POOLS[name], expected).backward()
        backward(loss_of(POOLS[name], x))
        assert x.grad is not None and expected.grad is not None
        assert torch.equal(x.grad, expected.grad)
        gradients.append(x.grad)
    assert not any(torch.equal(a, b) for n, a in enumerate(gradients) for b in gradients[:n])


def test_sizes_are_inputs_of_the_graph() -> None:
    def graphs(pool: Callable[[Tensor], Tensor]) -> int:
        torch._dynamo.reset()
        counter = CompileCounterWithBackend("eager")
        for size in (8, 9, 10, 11, 12, 13):
            backward(loss_of(pool, leaf(size)), counter)
        return counter.frame_count

    mine = graphs(POOLS["adaptive_max_pool2d"])
    assert mine < 6 and mine <= graphs(lambda x: F.adaptive_max_pool2d(x, (3, 2)))


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d", "concat_pool"])
def test_gradients_of_gradients(name: str) -> None:
    def second(x: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(loss_of(POOLS[name], x), x, create_graph=True)
        return gradient.pow(3).sum()

    expected, x = leaf(8), leaf(8)
    second(expected).backward()
    backward(second(x))
    assert x.grad is not None and expected.grad is not None
    torch.testing.assert_close(x.grad, expected.grad)


def test_offsets_packed_by_hooks_are_unpacked_in_the_graph() -> None:
    calls = []

    def unpack(packed: Tensor) -> Tensor:
        calls.append(packed.dtype)
        return packed.clone()

    expected, x = leaf(8), leaf(8)
    ours.max_pool2d(expected, 2).sum().backward()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.clone(), unpack):
        output = ours.max_pool2d(x, 2)
    backward(output.sum())
    assert x.grad is not None and expected.grad is not None
    assert torch.equal(x.grad, expected.grad) and torch.uint8 in calls


def test_a_graph_can_be_kept_and_is_gone_otherwise() -> None:
    x = leaf(8)
    loss = loss_of(POOLS["max_pool2d"], x)
    backward(loss, retain_graph=True)
    backward(loss)
    expected = leaf(8)
    loss_of(POOLS["max_pool2d"], expected).backward()
    assert x.grad is not None and expected.grad is not None
    torch.testing.assert_close(x.grad, 2 * expected.grad)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        backward(loss)


def test_a_training_step() -> None:
    def model() -> nn.Module:
        torch.manual_seed(3)
        return convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)))

    def step(net: nn.Module, x: Tensor) -> None:
        net(x).square().sum().backward()

    eager, compiled = model(), model()
    x = leaf(16).detach()
    with torch._dynamo.config.patch(compiled_autograd=False):
        step(eager, x)
    torch.compile(step, backend="aot_eager")(compiled, x)
    for a, b in zip(eager.parameters(), compiled.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(a.grad, b.grad)
