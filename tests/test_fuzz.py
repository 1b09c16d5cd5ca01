"""Random calls of every operator against torch, or the reference where torch has no such call: values, indices, gradients.

tests/fuzz draws them; here hypothesis does, so that what fails is shrunk to the simplest call that does. The draws are the same
in every run: `make fuzz` is for new ones. Also here: that the fuzzer sees the errors it is there for.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from cases import sliding
from conftest import INSTRUCTION_SETS
from fuzz import check
from fuzz.draw import GRADS, KINDS, Row, draw
from fuzz.found import FOUND

EXAMPLES = {"max": 600, "avg": 600, "sum": 200}


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    yield
    check.restore()


@pytest.mark.parametrize("kind", KINDS)
def test_random_calls(kind: str) -> None:
    @settings(
        derandomize=True, database=None, deadline=None, max_examples=EXAMPLES.get(kind, 150), print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.randoms(use_true_random=False))
    def run(random: Random) -> None:
        row = draw(random, kind, INSTRUCTION_SETS)
        try:
            check.check(row)
        except Exception as error:
            raise AssertionError(f"{error}\nAs a row of tests/fuzz/found.py:\n    {row!r},") from error

    run()


@pytest.mark.parametrize("row", FOUND, ids=lambda row: f"{row.kind}-{'x'.join(map(str, row.case.size))}-{row.values}")
def test_found(row: Row) -> None:
    for isa, past_caches, layout in itertools.product(INSTRUCTION_SETS, (False, True), ("channels_first", "channels_last")):
        check.check(replace(row, isa=isa, past_caches=past_caches, variant=replace(row.variant, layout=layout)))


def test_a_seed_gives_the_same_rows() -> None:
    rows = [draw(Random(seed)) for seed in range(300)]
    assert rows == [draw(Random(seed)) for seed in range(300)]
    assert {row.kind for row in rows} == set(KINDS)


def test_what_is_drawn_covers_the_arguments() -> None:
    """Every form of every argument appears among a few thousand rows, and rows survive a round through their repr."""
    rows = [draw(Random(seed), instruction_sets=INSTRUCTION_SETS) for seed in range(4000)]
    names = {"Row": Row, "Case": type(rows[0].case), "Variant": type(rows[0].variant), "torch": torch}
    assert eval(repr(rows[:50]), names) == rows[:50]
    sliding_rows = [row.case for row in rows if row.kind in ("max", "avg", "sum") and row.case.family == "sliding"]
    assert {str(case.padding) for case in sliding_rows} >= {"same", "same_lower", "valid", "0"}
    assert any(case.pads_beyond_torch and not isinstance(case.padding, str) for case in sliding_rows)
    assert {case.rank for case in sliding_rows} == {1, 2, 3} and {case.ceil_mode for case in sliding_rows} == {True, False}
    assert {case.count_include_pad for case in sliding_rows} == {True, False}
    assert {case.divisor for case in sliding_rows} == {None, 1, 2, 7, -3}
    assert any(min(map(len, case.windows.cells)) == 0 for case in sliding_rows if max(case.size) < 9 and case.dilation != 1)
    for field in ("dtype", "layout", "view", "grad_view", "batched"):
        assert len({getattr(row.variant, field) for row in rows}) == {"dtype": 9, "layout": 2, "view": 8, "grad_view": 7, "batched": 2}[field]
    assert {row.grads for row in rows} == set(GRADS)
    assert {(row.threads, row.again, len(row.case.size)) for row in rows} == set(itertools.product((1, 2, 5), (False, True), (1, 2, 3)))
    assert {row.values for row in rows} >= {"huge", "denormal", "nan", "infinite", "ties", "lowest", "zeros"}
    assert {row.more.get("masked") for row in rows} == {None, "mask", "lengths"}
    assert {row.case.batch for row in rows} >= {0, 1, 2, 7}


@pytest.mark.parametrize("what", ["value", "index", "gradient", "rounding", "type"])
def test_it_sees_errors(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong element, of one call, in each kind of result."""
    kind = "max" if what == "index" else "avg"
    right = check.functional

    class Wrong:
        @staticmethod
        def pool(input: torch.Tensor, *args: Any, return_indices: bool = False, **more: Any) -> Any:
            function = getattr(right, f"{kind}_pool2d")
            result = function(input, *args, **more, **({"return_indices": True} if return_indices else {}))
            if what == "index":
                if return_indices:
                    result[1].view(-1)[5] += 1
                return result
            one = torch.zeros_like(result)
            one.view(-1)[5] = {"value": 0.125, "gradient": 0.0, "rounding": 1e-6, "type": 0.0}[what]
            if what == "gradient":
                return torch.where(torch.arange(result.numel()).view_as(result) == 5, result.detach(), result)
            return (result + one).double() if what == "type" else result + one

    row = Row(kind, sliding((5, 6), 3, 2, 1, batch=2, channels=3), FOUND[0].variant, seed=3)
    row = replace(row, variant=replace(row.variant, view="contiguous", grad_view="contiguous"))
    check.check(row)
    monkeypatch.setattr(check, "functional", type("Module", (), {f"{kind}_pool2d": staticmethod(Wrong.pool)}))
    with pytest.raises(AssertionError):
        check.check(row)


def _wrong(monkeypatch: pytest.MonkeyPatch, name: str, spoil: Any) -> None:
    """A function of ours whose results are spoiled."""
    right = getattr(check.functional, name)
    monkeypatch.setattr(check, "functional", type("Module", (), {name: staticmethod(lambda *args, **more: spoil(right(*args, **more)))}))


class _Scaled(torch.autograd.Function):
    """Itself, with a gradient, a tangent and the gradient of its gradient that are multiples of the right ones."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input: torch.Tensor, gradient: float, tangent: float, again: float) -> torch.Tensor:
        return input.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.factors = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        gradient, _, again = ctx.factors
        return (grad * gradient if again == 1 else _Scaled.apply(grad, again, 1.0, 1.0)), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, *_: Any) -> torch.Tensor:
        return tangent * ctx.factors[1]


PLAIN = Row("avg", sliding((5, 6), 3, 2, 1, batch=2, channels=3), replace(FOUND[0].variant, view="contiguous", grad_view="contiguous"), seed=3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("values", ["huge", "infinite", "lowest"])
def test_it_sees_a_finite_number_in_place_of_infinities(dtype: torch.dtype, values: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the sum may overflow, and what is right is not known in full."""
    row = replace(PLAIN, values=values, variant=replace(PLAIN.variant, dtype=dtype))
    check.check(row)
    for number in (-7.0, torch.finfo(dtype).max):
        with monkeypatch.context() as patch:
            _wrong(patch, "avg_pool2d", lambda result, number=number: torch.where(result.abs() < 100, result, number))
            with pytest.raises(AssertionError, match="differ"):
                check.check(row)


@pytest.mark.parametrize("grads", GRADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_it_sees_wrong_gradients_of_any_size(dtype: torch.dtype, grads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(PLAIN, grads=grads, variant=replace(PLAIN.variant, dtype=dtype))
    check.check(row)
    _wrong(monkeypatch, "avg_pool2d", lambda result: _Scaled.apply(result, -1.0, 1.0, 1.0))
    with pytest.raises(AssertionError, match="gradient"):
        check.check(row)


def test_it_sees_a_wrong_gradient_of_some_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [replace(PLAIN, threads=threads) for threads in (1, 2, 5)]
    _wrong(monkeypatch, "avg_pool2d", lambda result: _Scaled.apply(result, 0.5 if torch.get_num_threads() == 5 else 1.0, 1.0, 1.0))
    before = torch.get_num_threads()
    check.check(rows[0])
    check.check(rows[1])
    with pytest.raises(AssertionError, match="gradient"):
        check.check(rows[2])
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("what", ["second derivative", "tangent"])
def test_it_sees_wrong_second_derivatives_and_tangents(what: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(PLAIN, kind=kind, seed=4, again=True)
    check.check(row)
    factors = (1.0, 0.5, 1.0) if what == "tangent" else (1.0, 1.0, 0.5)
    _wrong(monkeypatch, f"{kind}_pool2d", lambda result: _Scaled.apply(result, *factors) if isinstance(result, torch.Tensor) else result)
    with pytest.raises(AssertionError, match=what):
        check.check(row)


@pytest.mark.parametrize("kind", KINDS)
def test_every_derivative_is_called(kind: str) -> None:
    """Second derivatives and tangents of maxima are gathers, which nothing else calls."""
    names: set[str] = set()

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function.namespace == "torch_pooling":
                names.add(function.__name__.split(".")[0])
            return function(*args, **(kwargs or {}))

    rows = (draw(Random(seed), kind) for seed in range(400))
    for row in [row for row in rows if row.variant.dtype.is_floating_point][:60]:
        with Names():
            check.check(replace(row, again=True))
    adaptive = {f"adaptive_{kind}_pool", f"adaptive_{kind}_pool_backward"}
    wanted = {
        "max": {"max_pool_gather", "adaptive_max_pool_gather", *adaptive}, "avg": {"avg_pool_backward", *adaptive}, "sum": {"sum_pool_backward"},
    }.get(kind, {"combined_pool_gather", "combined_pool_backward"})  # fmt: skip
    assert names >= wanted
