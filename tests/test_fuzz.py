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

from cases import sliding
from conftest import INSTRUCTION_SETS
from fuzz import check
from fuzz.draw import KINDS, Row, draw
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
        assert len({getattr(row.variant, field) for row in rows}) == {"dtype": 9, "layout": 2, "view": 6, "grad_view": 7, "batched": 2}[field]
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
