"""override(): torch's own pooling, unmodified, on our kernels; inside, in this thread, and nowhere else.

Which kernels ran is read off the graph node of a result (ours are called MaxPoolBackward and AvgPoolBackward, torch's
MaxPool2DWithIndicesBackward0 and so on) or, where there is no graph, off the operators that a profile lists.
"""

from __future__ import annotations

import copy
import gc
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

import torch_pooling
from torch_pooling import override

SIZES = {1: (11,), 2: (11, 9), 3: (7, 9, 8)}


def picture(rank: int = 2, requires_grad: bool = False) -> Tensor:
    return torch.randn(2, 3, *SIZES[rank], generator=torch.Generator().manual_seed(5)).requires_grad_(requires_grad)


def first(result: Any) -> Tensor:
    return result[0] if isinstance(result, tuple) else result


def is_ours(result: Any) -> bool:
    return first(result).grad_fn.name() in ("MaxPoolBackward", "AvgPoolBackward")


def operators(call: Callable[[], Any]) -> set[str]:
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        call()
    return {event.key for event in seen.key_averages()}


def runs_ours(call: Callable[[], Any]) -> bool:
    return any(name.startswith("torch_pooling::") for name in operators(call))


def pool2(input: Tensor) -> Tensor:
    return F.max_pool2d(input, 2)


CALLS: dict[str, tuple[int, Callable[[Tensor], Any]]] = {}
for _r in (1, 2, 3):
    CALLS |= {
        f"F.max_pool{_r}d": (_r, lambda x, r=_r: getattr(F, f"max_pool{r}d")(x, 3, 2, 1, ceil_mode=True)),
        f"F.max_pool{_r}d indices": (_r, lambda x, r=_r: getattr(F, f"max_pool{r}d")(x, 3, 2, 1, return_indices=True)),
        f"F.avg_pool{_r}d": (_r, lambda x, r=_r: getattr(F, f"avg_pool{r}d")(x, 3, 2, 1, True, False)),
        f"F.adaptive_avg_pool{_r}d": (_r, lambda x, r=_r: getattr(F, f"adaptive_avg_pool{r}d")(x, 4)),
        f"F.adaptive_avg_pool{_r}d global": (_r, lambda x, r=_r: getattr(F, f"adaptive_avg_pool{r}d")(x, 1)),
        f"F.adaptive_max_pool{_r}d": (_r, lambda x, r=_r: getattr(F, f"adaptive_max_pool{r}d")(x, 4)),
        f"F.adaptive_max_pool{_r}d indices": (_r, lambda x, r=_r: getattr(F, f"adaptive_max_pool{r}d")(x, 4, True)),
        f"torch.max_pool{_r}d": (_r, lambda x, r=_r: getattr(torch, f"max_pool{r}d")(x, 2)),
        f"nn.MaxPool{_r}d": (_r, lambda x, r=_r: getattr(nn, f"MaxPool{r}d")(2, dilation=2)(x)),
        f"nn.AvgPool{_r}d": (_r, lambda x, r=_r: getattr(nn, f"AvgPool{r}d")(2)(x)),
        f"nn.AdaptiveAvgPool{_r}d": (_r, lambda x, r=_r: getattr(nn, f"AdaptiveAvgPool{r}d")(3)(x)),
        f"nn.AdaptiveMaxPool{_r}d": (_r, lambda x, r=_r: getattr(nn, f"AdaptiveMaxPool{r}d")(3)(x)),
        f"ours.max_pool{_r}d": (_r, lambda x, r=_r: getattr(torch_pooling.functional, f"max_pool{r}d")(x, 2)),
    }
CALLS |= {
    "F.avg_pool2d divisor": (2, lambda x: F.avg_pool2d(x, 3, divisor_override=5)),
    "F.avg_pool3d divisor": (3, lambda x: F.avg_pool3d(x, 3, divisor_override=5)),
    "F.adaptive_avg_pool2d None": (2, lambda x: F.adaptive_avg_pool2d(x, (None, 4))),
    "torch.avg_pool1d": (1, lambda x: torch.avg_pool1d(x, 2)),
    "torch.adaptive_avg_pool1d": (1, lambda x: torch.adaptive_avg_pool1d(x, 2)),
    "torch.adaptive_max_pool1d": (1, lambda x: torch.adaptive_max_pool1d(x, 2)),
    "torch.max_pool1d_with_indices": (1, lambda x: torch.max_pool1d_with_indices(x, 2)),
    "aten.max_pool2d_with_indices": (2, lambda x: torch.ops.aten.max_pool2d_with_indices(x, [2])),
    "aten.max_pool3d_with_indices": (3, lambda x: torch.ops.aten.max_pool3d_with_indices(x, [2])),
    "aten._adaptive_avg_pool2d": (2, lambda x: torch.ops.aten._adaptive_avg_pool2d(x, [4, 3])),
    "aten._adaptive_avg_pool3d": (3, lambda x: torch.ops.aten._adaptive_avg_pool3d(x, [4, 3, 2])),
    "torchscript": (2, lambda x: torch.jit.script(pool2)(x)),
}
per_call = pytest.mark.parametrize("name", CALLS)


@pytest.fixture(autouse=True)
def outside() -> Iterator[None]:
    """Every test begins and ends outside."""
    assert not runs_ours(lambda: pool2(picture()))
    yield
    assert not runs_ours(lambda: pool2(picture()))


@per_call
def test_every_way_of_calling(name: str) -> None:
    rank, call = CALLS[name]
    input = picture(rank, True)
    theirs = call(input)
    with override():
        ours = call(input)
    assert is_ours(ours) and (is_ours(theirs) == name.startswith("ours"))
    again = call(input)
    assert first(again).grad_fn.name() == first(theirs).grad_fn.name()
    torch.testing.assert_close(ours, theirs)
    slopes = torch.randn(first(theirs).shape, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(torch.autograd.grad(first(ours), input, slopes), torch.autograd.grad(first(theirs), input, slopes))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@per_call
def test_under_grad_modes(name: str, mode: Callable[[], Any]) -> None:
    rank, call = CALLS[name]
    with mode():
        input = picture(rank)  # under inference_mode an inference tensor
        expected = call(input)
        with override():
            assert runs_ours(lambda: call(input))
            torch.testing.assert_close(call(input), expected)
        assert runs_ours(lambda: call(input)) == name.startswith("ours")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_entered_before_the_grad_mode(mode: Callable[[], Any]) -> None:
    with override(), mode():
        assert runs_ours(lambda: pool2(picture()))
    with override():
        with torch.inference_mode():
            made = picture()
        assert runs_ours(lambda: pool2(made))


def test_nesting_and_exceptions() -> None:
    input = picture(requires_grad=True)
    one = override()
    with one:
        with one, override():
            assert is_ours(pool2(input))
        assert is_ours(pool2(input))
        with pytest.raises(ZeroDivisionError), override():
            _ = 1 // 0
        with pytest.raises(RuntimeError, match="stride"):
            F.max_pool2d(input, 2, stride=0)
        assert is_ours(pool2(input))
    assert not is_ours(pool2(input))
    with pytest.raises(ZeroDivisionError):
        with override():
            _ = 1 // 0
    assert not is_ours(pool2(input))


def test_contexts_that_do_not_end_in_order() -> None:
    input, one, two = picture(requires_grad=True), override(), override()
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert is_ours(pool2(input))
    two.__exit__(None, None, None)
    assert not is_ours(pool2(input))


def test_leaving_without_having_entered() -> None:
    with pytest.raises(RuntimeError, match="thread that entered it"):
        override().__exit__(None, None, None)
    errors: list[BaseException] = []

    def leave(one: override) -> None:
        try:
            one.__exit__(None, None, None)
        except RuntimeError as error:
            errors.append(error)

    with override() as one:
        thread = threading.Thread(target=leave, args=(one,))
        thread.start()
        thread.join()
        assert len(errors) == 1 and is_ours(pool2(picture(requires_grad=True)))


def test_decorated_functions() -> None:
    @override()
    def decorated(input: Tensor, depth: int = 3) -> Tensor:
        """Says so."""
        return pool2(input) if depth == 0 else decorated(input, depth - 1)

    assert decorated.__name__ == "decorated" and decorated.__doc__ == "Says so."
    input = picture(requires_grad=True)
    assert is_ours(decorated(input)) and not is_ours(pool2(input))


def test_decorated_generators_are_inside_while_they_run() -> None:
    @override()
    def results(input: Tensor) -> Iterator[Tensor]:
        for _ in range(3):
            yield pool2(input)

    input = picture(requires_grad=True)
    for result in results(input):
        assert is_ours(result) and not is_ours(pool2(input))
    cut = results(input)
    next(cut)
    cut.close()
    assert not is_ours(pool2(input))


def test_what_cannot_be_decorated() -> None:
    async def coroutine() -> None: ...

    with pytest.raises(TypeError, match="coroutine function coroutine"):
        override()(coroutine)
    with pytest.raises(TypeError, match="decorates functions"):
        override()(nn.MaxPool2d)


def test_other_threads_are_outside() -> None:
    input, seen = picture(requires_grad=True), {}
    inside, done = threading.Event(), threading.Event()

    def outsider() -> None:
        inside.wait(20)
        seen["outsider"] = is_ours(pool2(input))
        done.set()

    def insider() -> None:
        with override():
            inside.set()
            done.wait(20)
            seen["insider"] = is_ours(pool2(input))

    threads = [threading.Thread(target=target) for target in (outsider, insider)]
    for thread in threads:
        thread.start()
    assert inside.wait(20)
    assert not is_ours(pool2(input))
    for thread in threads:
        thread.join()
    assert seen == {"outsider": False, "insider": True}


def test_many_threads_at_once() -> None:
    input, wrong = picture(requires_grad=True), []

    def work(number: int) -> None:
        for turn in range(200):
            if (turn + number) % 2:
                with override():
                    if not is_ours(pool2(input)):
                        wrong.append((number, turn, "inside"))
            elif is_ours(pool2(input)):
                wrong.append((number, turn, "outside"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_gradients_and_higher_gradients() -> None:
    input = picture().double().requires_grad_()
    with override():
        function = lambda x: F.avg_pool2d(F.max_pool2d(x, 3, 2), 2)  # noqa: E731
        assert torch.autograd.gradcheck(function, input, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, input)


def test_backward_of_either_side_on_the_other() -> None:
    input = picture(requires_grad=True)
    (expected,) = torch.autograd.grad(pool2(input).square().sum(), input)
    with override():
        inside = pool2(input)
    (gradient,) = torch.autograd.grad(inside.square().sum(), input)
    assert torch.equal(gradient, expected)
    outside = pool2(input)
    with override():
        (gradient,) = torch.autograd.grad(outside.square().sum(), input)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_inside(reentrant: bool) -> None:
    input = picture(requires_grad=True)
    seen: list[bool] = []

    def block(x: Tensor) -> Tensor:
        with torch.enable_grad():
            seen.append(is_ours(pool2(x.detach().requires_grad_())))
        return pool2(x * 2)

    with override():
        checkpoint(block, input, use_reentrant=reentrant).sum().backward()
    assert seen == [True, True], "the second is the recomputation, in the backward"


def test_functorch() -> None:
    input = picture(requires_grad=False)
    loss = lambda x: F.avg_pool2d(pool2(x), 2).square().sum()  # noqa: E731
    expected = torch.func.grad(loss)(input), torch.func.vmap(pool2)(input), torch.func.vmap(torch.func.grad(loss))(input)
    with override():
        assert runs_ours(lambda: torch.func.vmap(torch.func.grad(loss))(input))
        results = torch.func.grad(loss)(input), torch.func.vmap(pool2)(input), torch.func.vmap(torch.func.grad(loss))(input)
        primal, tangent = torch.func.jvp(loss, (input,), (torch.ones_like(input),))
    torch.testing.assert_close(results, expected)
    torch.testing.assert_close(tangent, expected[0].sum())
    seen = []

    def mapped(x: Tensor) -> Tensor:  # entered inside a transform
        with override():
            result = pool2(x)
        seen.append(runs_ours(lambda: pool2(x)))
        return result

    assert torch.equal(torch.func.vmap(mapped)(input), expected[1]) and seen == [False]


@pytest.mark.parametrize("rank", [2, 3])
def test_autocast(rank: int) -> None:
    input = picture(rank)
    call = lambda: getattr(F, f"avg_pool{rank}d")(input.bfloat16(), 2)  # noqa: E731
    with torch.autocast("cpu", torch.bfloat16):
        expected = call()
        with override():
            result = call()
    assert result.dtype == expected.dtype
    torch.testing.assert_close(result, expected)


def test_jit_trace_records_what_ran() -> None:
    with override():
        traced = torch.jit.trace(pool2, picture())
    assert "torch_pooling::max_pool" in str(traced.graph)
    assert torch.equal(traced(picture()), pool2(picture()))


def test_memory_formats_and_models() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(2))
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = torch.randn(2, 3, 24, 24).to(memory_format=layout).requires_grad_()
        expected = model(leaf)
        with override():
            result = model(leaf)
        assert result.stride() == expected.stride()
        torch.testing.assert_close(result, expected)
        torch.testing.assert_close(
            torch.autograd.grad(result.square().sum(), leaf), torch.autograd.grad(expected.square().sum(), leaf)
        )


def test_nothing_else_is_rerouted() -> None:
    input = picture()
    calls = [lambda: F.conv2d(input, torch.ones(2, 3, 3, 3)), lambda: input.relu().sum(), lambda: F.lp_pool2d(input.abs(), 2, 2),
             lambda: F.max_unpool2d(*F.max_pool2d(input, 2, return_indices=True), 2, output_size=(11, 9)), lambda: copy.deepcopy(input)]
    with override():
        results = [call() for call in calls]
    for result, call in zip(results, calls):
        torch.testing.assert_close(result, call())


def test_everything_is_left_when_generators_are_forgotten() -> None:
    def forgetful() -> Iterator[int]:
        with override():
            yield from itertools.count()

    one = forgetful()
    next(one)
    assert is_ours(pool2(picture(requires_grad=True))), "as with torch.no_grad: a plain generator leaves its context open"
    del one
    gc.collect()
    assert not is_ours(pool2(picture(requires_grad=True)))
