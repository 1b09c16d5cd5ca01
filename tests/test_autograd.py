"""Derivatives: gradcheck and gradgradcheck with every flag, and the ways in which people use autograd.

Every kind of window is differentiated in reverse and forward mode, batched, twice, reverse over reverse and forward
over reverse, in double precision against finite differences. The backward operators and the gathers, which the graph
of a second derivative is made of, are checked by themselves too. Then: checkpointing, autocast, hooks, graphs kept and
freed, grad modes, returned indices in the user's hands.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from cases import Case, adaptive, sliding, whole
from torch_pooling import functional

OPS = torch.ops.torch_pooling
# Small, since finite differences visit every element; one batch item and two channels unless the case is about them.
SMALL: list[Case] = [
    sliding(7, 3, 2, 1, batch=2, channels=2),
    sliding(8, 2, 3, 1, 2, ceil_mode=True, batch=1, channels=2),
    sliding((5, 4), (2, 3), (2, 1), "same", count_include_pad=False, batch=1, channels=2),
    sliding((4, 5), 3, 2, ((2, 0), (0, 1)), batch=1, channels=2),
    sliding(6, 3, 1, 1, count_include_pad=False, average_only=True, batch=1, channels=2),
    sliding(5, 3, 2, 0, divisor=2, ceil_mode=True, average_only=True, batch=1, channels=2),
    sliding((4, 4), 2, batch=1, channels=2),
    sliding((4, 5), 3, 1, 1, batch=1, channels=2),
    sliding((5, 4), (3, 2), (2, 1), (1, 0), (1, 2), ceil_mode=True, batch=1, channels=2),
    sliding((4, 4), 3, 2, 1, ceil_mode=True, count_include_pad=False, average_only=True, batch=1, channels=2),
    sliding((4, 5), 3, 2, 1, divisor=-3, average_only=True, batch=1, channels=2),
    sliding((5, 5), 2, 1, 1, 3, batch=1, channels=1),  # dilated: some windows have one tap, padding above half
    sliding((2, 4, 3), (1, 2, 3), (1, 2, 1), (0, 1, 1), batch=1, channels=2),
    sliding((3, 3, 3), 2, 2, 1, ceil_mode=True, batch=1, channels=1),
    sliding((3, 4, 4), 2, 1, 0, (1, 2, 1), batch=1, channels=1),
    adaptive((7,), 3, batch=1, channels=2),
    adaptive((3,), 5, batch=1, channels=2),
    adaptive((5, 4), (2, 3), batch=1, channels=2),
    adaptive((4, 3), (None, 2), batch=1, channels=2),
    adaptive((3, 4, 2), (2, 3, 2), batch=1, channels=1),
    whole((6,), batch=1, channels=2),
    whole((3, 4), batch=2, channels=2),
    whole((2, 3, 2), batch=1, channels=2),
]
CALLS = [(case, kind) for case in SMALL for kind in ("avg", "max") if kind == "avg" or not case.average_only]
per_call = pytest.mark.parametrize(
    ("case", "kind"), CALLS, ids=lambda value: value.name if isinstance(value, Case) else value
)
per_layout = pytest.mark.parametrize("layout", ["channels_first", "channels_last"])


def in_layout(tensor: Tensor, layout: str) -> Tensor:
    return tensor if layout == "channels_first" else tensor.movedim(1, -1).contiguous().movedim(-1, 1)


def distinct(shape: tuple[int, ...], layout: str = "channels_first") -> Tensor:
    """Numbers that differ by far more than a finite difference's step, in random order: no ties, no kinks."""
    generator = torch.Generator().manual_seed(11)
    count = torch.Size(shape).numel()
    content = (torch.randperm(count, generator=generator).double() - count / 2) / 8
    return in_layout(content.view(shape), layout)


def input_for(case: Case, layout: str = "channels_first", batched: bool = True) -> Tensor:
    return distinct((*((case.batch,) if batched else ()), case.channels, *case.size), layout)


def check_all_first(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> None:
    assert gradcheck(
        function, inputs, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True,
        check_grad_dtypes=True, check_undefined_grad=True,
    )


def check_all_second(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> None:
    assert gradgradcheck(
        function, inputs, check_fwd_over_rev=True, check_rev_over_rev=True, check_batched_grad=True,
        check_grad_dtypes=True,
    )


@per_layout
@per_call
def test_gradcheck(case: Case, kind: str, layout: str) -> None:
    check_all_first(lambda input: case.call(functional, kind, input), (input_for(case, layout).requires_grad_(),))


@per_layout
@per_call
def test_gradgradcheck(case: Case, kind: str, layout: str) -> None:
    check_all_second(lambda input: case.call(functional, kind, input), (input_for(case, layout).requires_grad_(),))


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("case", [case for case in SMALL if case.family != "global" and not case.average_only][::2],
                         ids=lambda case: case.name)
def test_unbatched(case: Case, kind: str) -> None:
    input = input_for(case, batched=False).requires_grad_()
    check_all_first(lambda input: case.call(functional, kind, input), (input,))
    check_all_second(lambda input: case.call(functional, kind, input), (input,))


@pytest.mark.parametrize("case", [case for case in SMALL if not case.average_only], ids=lambda case: case.name)
def test_values_beside_returned_indices(case: Case) -> None:
    """The integer output must not disturb any of the derivative checks of the first."""
    input = input_for(case).requires_grad_()
    values, indices = case.call(functional, "max", input, return_indices=True)
    assert values.requires_grad and not indices.requires_grad and indices.grad_fn is None
    check_all_first(lambda input: case.call(functional, "max", input, return_indices=True)[0], (input,))


def backward_operators(case: Case) -> dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]]:
    """Every differentiable backward and gather operator on this case, with the shape of its differentiable argument."""
    input = input_for(case)
    spatial, shape = list(case.size), tuple(input.shape)
    if case.family == "sliding":
        stride = [] if case.stride is None else list(case.spread(case.stride))
        window = (case.rank, list(case.spread(case.kernel)), stride, case.operator_padding[0],
                  list(case.spread(case.dilation)), case.operator_padding[1])
        average = (*window, case.count_include_pad, case.divisor)
        out = tuple(OPS.avg_pool(input, *average).shape)
        found = {"avg_pool_backward": (lambda grad: OPS.avg_pool_backward(grad, spatial, *average, False), out)}
        if not case.average_only:
            _, offsets = OPS.max_pool_with_offsets(input, *window)
            found["max_pool_backward"] = (
                lambda grad: OPS.max_pool_backward(grad, offsets, spatial, *window, False), out)
            found["max_pool_gather"] = (lambda input: OPS.max_pool_gather(input, offsets, *window), shape)
        return found
    output = list(case.windows.output_size)
    _, offsets = OPS.adaptive_max_pool_with_offsets(input, output)
    out = (*shape[:2], *output)
    return {
        "adaptive_avg_pool_backward": (lambda grad: OPS.adaptive_avg_pool_backward(grad, spatial, False), out),
        "adaptive_max_pool_backward": (
            lambda grad: OPS.adaptive_max_pool_backward(grad, offsets, spatial, False), out),
        "adaptive_max_pool_gather": (lambda input: OPS.adaptive_max_pool_gather(input, offsets, output), shape),
    }


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_backward_operators_by_themselves(case: Case) -> None:
    for function, shape in backward_operators(case).values():
        argument = distinct(shape).requires_grad_()
        check_all_first(function, (argument,))
        check_all_second(function, (argument,))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoint(use_reentrant: bool) -> None:
    for case, kind in CALLS:
        input = input_for(case).requires_grad_()
        case.call(functional, kind, input).square().sum().backward()
        expected, input.grad = input.grad, None
        output = checkpoint(lambda input: case.call(functional, kind, input), input, use_reentrant=use_reentrant)
        output.square().sum().backward()
        assert torch.equal(input.grad, expected), case.name


def torchs_answer(case: Case, kind: str, input: Tensor) -> Tensor:
    """torch's own function for the case; a global pool is torch's adaptive one with one output."""
    if case.family == "global":
        return getattr(nn.functional, f"adaptive_{kind}_pool{case.rank}d")(input, 1)
    return case.call(nn.functional, kind, input)


COMPARABLE = [(case, kind) for case, kind in CALLS if case.family == "global" or case.torch_has(kind)]
per_comparable = pytest.mark.parametrize(
    ("case", "kind"), COMPARABLE, ids=lambda value: value.name if isinstance(value, Case) else value
)


@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16], ids=str)
@per_comparable
def test_autocast_dtypes_are_torchs(case: Case, kind: str, lower: torch.dtype) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        input = input_for(case).to(dtype).requires_grad_()
        twin = input.detach().clone().requires_grad_()
        with torch.autocast("cpu", lower):
            actual, expected = case.call(functional, kind, input), torchs_answer(case, kind, twin)
        assert actual.dtype == expected.dtype, dtype
        assert (actual.dtype == torch.float32) == (dtype == torch.float32 or (case.rank == 3 and dtype.itemsize == 2))
        torch.testing.assert_close(actual, expected)
        actual.sum().backward()
        expected.sum().backward()
        assert input.grad.dtype == dtype
        torch.testing.assert_close(input.grad, twin.grad)


def test_autocast_in_a_model_and_switched_off_inside() -> None:
    convolution, input = nn.Conv3d(2, 3, 1), torch.randn(1, 2, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        features = convolution(input)
        assert features.dtype == torch.bfloat16
        assert functional.avg_pool3d(features, 2).dtype == torch.float32
        for indexed in (functional.max_pool3d, F.max_pool3d):  # torch has no rule for these
            values, indices = indexed(features, 2, return_indices=True)
            assert values.dtype == torch.bfloat16 and indices.dtype == torch.int64
        assert functional.max_pool2d(features[:, :, 0], 2).dtype == torch.bfloat16
        with torch.autocast("cpu", enabled=False):
            assert functional.avg_pool3d(features, 2).dtype == torch.bfloat16


@per_call
def test_backward_twice_through_a_kept_graph(case: Case, kind: str) -> None:
    input = input_for(case).requires_grad_()
    output = case.call(functional, kind, input)
    grad_output = distinct(tuple(output.shape))
    output.backward(grad_output, retain_graph=True)
    once = input.grad.clone()
    assert once.abs().sum() > 0
    output.backward(grad_output)
    assert torch.equal(input.grad, 2 * once)
    if kind == "max":  # the offsets are freed; an average has nothing to free
        with pytest.raises(RuntimeError, match="second time"):
            output.backward(grad_output)


@per_call
def test_inputs_changed_in_place_after_the_forward(case: Case, kind: str) -> None:
    """Nothing of the input is saved, so what happens to it later cannot matter: torch's own pools refuse this."""
    leaf = input_for(case).requires_grad_()
    case.call(functional, kind, leaf * 1).sum().backward()
    expected, leaf.grad = leaf.grad, None
    hidden = leaf * 1
    output = case.call(functional, kind, hidden)
    hidden.detach().zero_()
    hidden.mul_(0)
    output.sum().backward()
    assert torch.equal(leaf.grad, expected)


@pytest.mark.parametrize("case", [case for case in SMALL if not case.average_only], ids=lambda case: case.name)
def test_returned_indices_belong_to_the_user(case: Case) -> None:
    input = input_for(case).requires_grad_()
    case.call(functional, "max", input).sum().backward()
    expected, input.grad = input.grad, None
    values, indices = case.call(functional, "max", input, return_indices=True)
    kept = indices.clone()
    indices.fill_(-(2**40))
    values.sum().backward()
    assert torch.equal(input.grad, expected)
    assert torch.equal(case.call(functional, "max", input, return_indices=True)[1], kept)


@per_layout
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_indices_feed_max_unpool(rank: int, layout: str) -> None:
    size = (6, 8, 4)[:rank]
    unpool = getattr(nn, f"MaxUnpool{rank}d")(2)
    results = []
    for library in (functional, nn.functional):
        input = in_layout(torch.arange(2 * 3 * torch.Size(size).numel()).double().sin().view(2, 3, *size), layout)
        input.requires_grad_()
        pooled, indices = getattr(library, f"max_pool{rank}d")(input, 2, return_indices=True)
        restored = unpool(pooled, indices, output_size=input.shape)
        (restored * in_layout(torch.linspace(-1, 1, input.numel()).double().view(input.shape), layout)).sum().backward()
        results.append((restored, indices, input.grad))
    for actual, expected in zip(*results):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


MODES: list[Callable[[], AbstractContextManager[Any]]] = [
    nullcontext, torch.no_grad, torch.inference_mode, torch.enable_grad]


@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(MODES, MODES)))
def test_grad_modes_nest_as_for_torch(outer: Callable[..., Any], inner: Callable[..., Any]) -> None:
    for case, kind in COMPARABLE[::3]:
        for requires_grad in (False, True):
            input = input_for(case).requires_grad_(requires_grad)
            with outer(), inner():
                actual, expected = case.call(functional, kind, input), torchs_answer(case, kind, input)
            assert actual.requires_grad == expected.requires_grad
            assert actual.is_inference() == expected.is_inference()
            assert (actual.grad_fn is None) == (expected.grad_fn is None)
            torch.testing.assert_close(actual, expected)


@per_call
def test_inference_tensors_outside_their_mode(case: Case, kind: str) -> None:
    """Nothing is saved of the input, so even an inference tensor may be pooled where gradients are on."""
    with torch.inference_mode():
        input = input_for(case)
    output = case.call(functional, kind, input)
    assert not output.requires_grad and not output.is_inference()
    assert torch.equal(output, case.call(functional, kind, input.clone()))


@per_call
def test_backward_under_no_grad_and_create_graph(case: Case, kind: str) -> None:
    input = input_for(case).requires_grad_()
    output = case.call(functional, kind, input)
    (plain,) = torch.autograd.grad(output.sum(), input, retain_graph=True)
    with torch.no_grad():
        (quiet,) = torch.autograd.grad(output, input, torch.ones_like(output), retain_graph=True)
    assert torch.equal(plain, quiet) and not quiet.requires_grad
    weight = torch.ones_like(output).requires_grad_()
    (graph,) = torch.autograd.grad(output, input, weight, create_graph=True)
    assert graph.requires_grad and torch.equal(graph, plain)
    (back,) = torch.autograd.grad((graph * input.detach()).sum(), weight)
    expected = case.call(functional, kind, input.detach())  # every pool is linear where its arg-max stays
    torch.testing.assert_close(back, expected)


@per_call
def test_hooks(case: Case, kind: str) -> None:
    input = input_for(case).requires_grad_()
    output = case.call(functional, kind, input)
    output.sum().backward(retain_graph=True)
    expected, input.grad = input.grad, None
    seen: list[str] = []
    output.register_hook(lambda grad: seen.append("output") or 2 * grad)  # type: ignore[func-returns-value]
    input.register_hook(lambda grad: seen.append("input"))
    output.grad_fn.register_prehook(lambda grads: seen.append("before"))
    output.grad_fn.register_hook(lambda into, out_of: seen.append("after"))
    both = torch.autograd.graph.register_multi_grad_hook((output, input), lambda grads: seen.append("both"))
    input.register_post_accumulate_grad_hook(lambda leaf: seen.append("accumulated"))
    output.sum().backward()
    assert torch.equal(input.grad, 2 * expected)
    assert [seen.count(word) for word in ("output", "input", "before", "after", "both", "accumulated")] == [1] * 6
    assert seen.index("output") < seen.index("after") < seen.index("input") < seen.index("accumulated")
    both.remove()  # it holds the nodes that hold it, in torch's: nothing would free them


def test_saved_offsets_survive_packing() -> None:
    for case, kind in CALLS:
        input = input_for(case).requires_grad_()
        case.call(functional, kind, input).sum().backward()
        expected, input.grad = input.grad, None
        with torch.autograd.graph.save_on_cpu():
            output = case.call(functional, kind, input)
        output.sum().backward()
        assert torch.equal(input.grad, expected)


def test_one_input_pooled_many_times_accumulates() -> None:
    input = distinct((1, 2, 6, 6)).requires_grad_()
    parts = [
        functional.max_pool2d(input, 2), functional.avg_pool2d(input, 3, 1), functional.adaptive_max_pool2d(input, 4),
        functional.adaptive_avg_pool2d(input, 4), functional.global_max_pool(input), functional.global_avg_pool(input),
    ]
    separate = [torch.autograd.grad(part.sum(), input, retain_graph=True)[0] for part in parts]
    sum(part.sum() for part in parts).backward()
    torch.testing.assert_close(input.grad, torch.stack(separate).sum(0))


def test_expanded_and_undefined_grad_outputs() -> None:
    """sum() hands back a gradient of stride 0; an unused second result hands back none at all."""
    for case, kind in CALLS:
        input = input_for(case).requires_grad_()
        output = case.call(functional, kind, input)
        (expanded,) = torch.autograd.grad(output.sum(), input, retain_graph=True)
        (dense,) = torch.autograd.grad(output, input, torch.ones_like(output), retain_graph=True)
        assert torch.equal(expanded, dense)
        (nothing,) = torch.autograd.grad(output * 0, input, torch.zeros_like(output))
        assert torch.equal(nothing, torch.zeros_like(input))
