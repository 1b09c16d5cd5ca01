"""Failures that users of other pooling libraries reported: memory, types and accumulation, autograd extras.

Each test carries the report's number (pt = pytorch/pytorch, tf = tensorflow, ...), and pins what is right.
"""
from __future__ import annotations

import subprocess
import sys
import weakref
from typing import Any

import pytest
import torch

from battery import LAYOUTS, arrange
from torch_pooling import functional

OPS = torch.ops.torch_pooling
HALVES = (torch.float16, torch.bfloat16)


def _saved_bytes(call: Any, input: torch.Tensor) -> int:
    saved = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        call(input)
    return sum(saved)


def test_pt103785_pt105687_onednn259_saved_bytes() -> None:
    """Averages save nothing; maxima one byte an output up to 256 taps, two beyond, indices only when asked for."""
    input = torch.randn(2, 3, 40, 40, requires_grad=True)
    assert _saved_bytes(lambda x: functional.avg_pool2d(x, 3, 2, 1), input) == 0
    assert _saved_bytes(lambda x: functional.adaptive_avg_pool2d(x, 7), input) == 0
    assert _saved_bytes(functional.global_avg_pool, input) == 0
    assert _saved_bytes(lambda x: functional.max_pool2d(x, 2), input) == 2 * 3 * 20 * 20
    assert _saved_bytes(lambda x: functional.max_pool2d(x, 16, 8), input) == 2 * 3 * 4 * 4
    assert _saved_bytes(lambda x: functional.max_pool2d(x, (16, 17), 8), input) == 2 * (2 * 3 * 4 * 3)
    assert _saved_bytes(lambda x: functional.adaptive_max_pool2d(x, 7), input) == 2 * 3 * 7 * 7


@pytest.mark.parametrize(
    ("taps", "dtype"), [(256, torch.uint8), (257, torch.uint16), (65536, torch.uint16), (65537, torch.int32)]
)
def test_pt122832_offsets_take_the_smallest_type(taps: int, dtype: torch.dtype) -> None:
    input = torch.zeros(1, 1, taps + 3)
    input[..., taps - 1] = 1  # the last tap of the first window
    values, offsets = OPS.max_pool_with_offsets(input, 1, [taps], [1], [0], [1], False)
    assert offsets.dtype == dtype and offsets.flatten().long().tolist() == [taps - 1 - i for i in range(4)]
    assert values.flatten().tolist() == [1] * 4
    indices = OPS.max_pool_indices(offsets, [taps + 3], 1, [taps], [1], [0], [1], False)
    assert indices.flatten().tolist() == [taps - 1] * 4
    leaf = input.clone().requires_grad_()
    functional.max_pool1d(leaf, taps, 1).sum().backward()
    assert leaf.grad is not None and leaf.grad[..., taps - 1] == 4 and leaf.grad.sum() == 4


NAMES = [f"{family}{kind}_pool2d" for family in ("", "adaptive_") for kind in ("max", "avg")]


@pytest.mark.parametrize("name", NAMES)
def test_tf2169_the_graph_does_not_keep_the_input(name: str) -> None:
    leaf = torch.randn(2, 3, 8, 8, requires_grad=True)
    input = leaf * 1
    output = getattr(functional, name)(input, 2)
    alive = weakref.ref(input)
    with torch.no_grad():
        input.zero_()  # and its values are not needed: this would be an error if they were
    del input
    assert alive() is None
    output.sum().backward()
    assert leaf.grad is not None and leaf.grad.sum() != 0


def test_backpack15_compact_offsets_are_to_be_had_and_lead_to_indices() -> None:
    input = torch.randn(2, 3, 9, 9)
    window: tuple[Any, ...] = (2, [3], [2], [1], [1], False)
    values, offsets = OPS.max_pool_with_offsets(input, *window)
    expected = functional.max_pool2d(input, 3, 2, 1, return_indices=True)
    assert torch.equal(values, expected[0]) and torch.equal(OPS.max_pool_indices(offsets, [9, 9], *window), expected[1])


UNFOLD = """
import resource
import torch
from torch_pooling import functional

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)

pool = getattr(functional, sys.argv[1])
image = torch.randn(1, 1, 224, 224, requires_grad=True)
weight = torch.randn(1, 1, 113, 113, requires_grad=True)
stack = torch.randn(2, 1, 1, 224, 224)
torch.vmap(lambda x: pool(x, 3))(stack)  # what is allocated once is allocated here
before = peak()
output = pool(image, 112, 1)
(grad,) = torch.autograd.grad(output, image, weight, create_graph=True)
torch.autograd.grad(grad.square().sum(), weight)
torch.vmap(lambda x: pool(x, 112, 1))(stack)
print(peak() - before)
"""


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_tinygrad87_no_window_is_ever_unfolded(kind: str) -> None:
    """112 x 112 windows, forward, backward, double backward and vmap: an unfolded copy would take 600 MB."""
    command = [sys.executable, "-c", "import sys" + UNFOLD, f"{kind}_pool2d"]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 50_000  # KiB


# --- types and accumulation


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pt52719_pt104602_pt140696_the_mean_of_ones_is_one(dtype: torch.dtype, layout: str, isa: str) -> None:
    image = arrange(torch.ones(2, 5, 64, 64, dtype=dtype), 2, layout)
    volume = arrange(torch.ones(1, 5, 1, 64, 64, dtype=dtype), 3, layout)
    for output in (
        functional.avg_pool2d(image, 64), functional.adaptive_avg_pool2d(image, 1), functional.global_avg_pool(image),
        functional.adaptive_avg_pool2d(image, (1, 2)), functional.adaptive_avg_pool3d(volume, (1, 1, 2)),
        functional.avg_pool3d(volume, (1, 64, 64)), functional.global_avg_pool(volume), functional.avg_pool1d(image.flatten(2), 4096),
    ):  # fmt: skip
        assert bool((output == 1).all())


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pt34934_pt186087_half_gradients_are_summed_in_float(dtype: torch.dtype, layout: str, isa: str) -> None:
    """4225 windows share one peak; 4096 outputs share one element. In half, sums stick at 2048 (bfloat16 at 256)."""
    peak = torch.zeros(1, 3, 65, 65, dtype=dtype)
    peak[..., 32, 32] = 1
    input = arrange(peak, 2, layout).requires_grad_()
    output = functional.max_pool2d(input, 65, 1, 32)
    (grad,) = torch.autograd.grad(output, input, torch.ones_like(output))
    assert (grad[..., 32, 32] == torch.tensor(4225.0).to(dtype)).all()
    assert grad.double().sum() == 3 * torch.tensor(4225.0).to(dtype).double()
    one = arrange(torch.ones(1, 3, 1, 1, dtype=dtype), 2, layout).requires_grad_()
    for function in (functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d):
        output = function(one, 64)
        (grad,) = torch.autograd.grad(output, one, torch.ones_like(output))
        assert (grad == 4096).all(), function
    wide = arrange(torch.ones(1, 3, 65, 65, dtype=dtype), 2, layout).requires_grad_()
    output = functional.avg_pool2d(wide, 65, 1, 32, divisor_override=1)
    (grad,) = torch.autograd.grad(output, wide, torch.ones_like(output))
    assert (grad[..., 32, 32] == torch.tensor(4225.0).to(dtype)).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_pt83321_pt176393_average_3d_has_the_16_bit_types(dtype: torch.dtype) -> None:
    input = torch.arange(64.0).view(1, 1, 4, 4, 4).to(dtype).requires_grad_()
    output = functional.avg_pool3d(input, 2)
    assert output.dtype == dtype and torch.equal(output.float(), functional.avg_pool3d(input.detach().float(), 2))
    output.sum().backward()
    assert input.grad is not None and bool((input.grad == 0.125).all())


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_pt107412_pt33086_integer_maxima_in_every_rank(dtype: torch.dtype) -> None:
    for rank in (1, 2, 3):
        input = torch.arange(4**rank).view(1, 1, *[4] * rank).to(dtype)
        for name, argument in ((f"max_pool{rank}d", 2), (f"adaptive_max_pool{rank}d", 2)):
            output = getattr(functional, name)(input, argument)
            assert output.dtype == dtype and torch.equal(output, input[(..., *[slice(1, None, 2)] * rank)])


def test_pt143801_pt143752_integers_are_refused_alike_when_compiled() -> None:
    for name in ("adaptive_avg_pool1d", "avg_pool1d"):
        function = getattr(functional, name)
        input = torch.zeros(1, 1, 8, dtype=torch.int64 if name.startswith("adaptive") else torch.int32)
        for call in (function, torch.compile(function, backend="aot_eager")):
            with pytest.raises(Exception, match="not implemented for"):
                call(input, 2)


def test_largest_half_numbers_do_not_overflow(isa: str) -> None:
    for layout in LAYOUTS:
        input = arrange(torch.full((1, 9, 8, 8), 65504.0, dtype=torch.float16), 2, layout)
        for output in (functional.avg_pool2d(input, 4), functional.adaptive_avg_pool2d(input, 3), functional.global_avg_pool(input)):
            assert bool((output == 65504).all())


# --- autograd extras


def test_pt4497_double_backward_of_max_pool3d() -> None:
    input = torch.randperm(2 * 4 * 4 * 4).double().view(1, 2, 4, 4, 4).requires_grad_()
    for call in (lambda x: functional.max_pool3d(x, 2), lambda x: functional.max_pool3d(x, 3, 1, 1)):
        assert torch.autograd.gradcheck(call, input)
        assert torch.autograd.gradgradcheck(call, input)


def test_jax628_jax274_forward_mode() -> None:
    input, tangent = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6)
    values, pushed = torch.func.jvp(lambda x: functional.max_pool2d(x, 2), (input,), (tangent,))
    indices = functional.max_pool2d(input, 2, return_indices=True)[1]
    assert torch.equal(pushed, tangent.flatten(2).gather(2, indices.flatten(2)).view_as(values))
    _, pushed = torch.func.jvp(lambda x: functional.avg_pool2d(x, 2), (input,), (tangent,))
    assert torch.equal(pushed, functional.avg_pool2d(tangent, 2))


def test_pt191678_double_backward_of_a_maximum_under_vmap_in_channels_last() -> None:
    def inner(x: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(x, 3, 2, 1).pow(3).sum()

    def outer(x: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(inner)(x).pow(2).sum()

    stack = torch.randn(4, 2, 3, 6, 7)
    last = torch.stack([item.contiguous(memory_format=torch.channels_last) for item in stack])
    expected = torch.stack([torch.func.grad(outer)(item) for item in stack])
    for tensor in (stack, last, stack.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)):
        torch.testing.assert_close(torch.vmap(torch.func.grad(outer))(tensor), expected)


class Labelled(torch.Tensor):
    """A subclass that counts the functions it sees."""

    seen: list[str] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(getattr(func, "__name__", str(func)))
        return super().__torch_function__(func, types, args, kwargs or {})


def test_pt84127_subclasses_see_the_call() -> None:
    plain = torch.randn(2, 3, 8, 8)
    for name, argument in (("max_pool2d", 2), ("avg_pool2d", 2), ("adaptive_avg_pool2d", 2), ("adaptive_max_pool2d", 2)):
        Labelled.seen.clear()
        found = getattr(functional, name)(plain.as_subclass(Labelled), argument)
        assert isinstance(found, Labelled) and Labelled.seen
        assert torch.equal(found.as_subclass(torch.Tensor), getattr(functional, name)(plain, argument))


def test_pt103892_pt185575_dynamic_sizes_compile_once() -> None:
    graphs = 0

    def count(graph: torch.fx.GraphModule, _: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return graph.forward

    @torch.compile(backend=count, fullgraph=True, dynamic=True)
    def pool(x: torch.Tensor, size: int) -> torch.Tensor:
        return functional.adaptive_avg_pool2d(functional.max_pool2d(x, 3, 2, 1), size)

    for height, width, size in ((20, 30, 4), (21, 33, 5), (40, 26, 6)):
        input = torch.randn(2, 3, height, width)
        expected = torch.nn.functional.adaptive_avg_pool2d(torch.nn.functional.max_pool2d(input, 3, 2, 1), size)
        torch.testing.assert_close(pool(input, size), expected)
    assert graphs == 1


def test_tf94119_denormal_bfloat16_gradients(isa: str) -> None:
    for layout in LAYOUTS:
        input = arrange(torch.zeros(1, 3, 4, 4, 4, dtype=torch.bfloat16), 3, layout).requires_grad_()
        output = functional.avg_pool3d(input, 2)
        tiny = torch.finfo(torch.bfloat16).smallest_normal
        (grad,) = torch.autograd.grad(output, input, torch.full_like(output, tiny))
        assert bool((grad == tiny / 8).all())
