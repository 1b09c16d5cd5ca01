"""Forward values, indices, types and layouts of every case against the reference, on every instruction set.

A test is one case; it walks over instruction sets, types, layouts, memory arrangements and the batch axis.
The reference itself is held against torch where torch defines the call.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as torch_functional

import battery
from battery import FLOATS, INTEGERS, Variant, assert_close, assert_exact, assert_layout, describe, expect
from cases import AVERAGES, CASES, MAXIMA, Case
from torch_pooling import functional

EachIsa = Callable[[], Iterator[str]]


@pytest.mark.parametrize("case", MAXIMA, ids=lambda case: case.name)
def test_max(case: Case, each_isa: EachIsa) -> None:
    for variant in battery.variants(case, FLOATS + INTEGERS):
        input = battery.make_input(case, variant)
        values, indices = (expect(answer, variant) for answer in battery.max_answer(case, variant.constant))
        if not variant.dtype.is_floating_point:
            values = _as_integers(values, variant.dtype)
        for isa in each_isa():
            what = describe(case, "max", variant, isa)
            with torch.no_grad():
                plain = case.call(functional, "max", input)
                both = case.call(functional, "max", input, return_indices=True)
            assert isinstance(both, tuple) and len(both) == 2, what
            assert plain.dtype == both[0].dtype == input.dtype and both[1].dtype == torch.int64, what
            assert_exact(plain, values, what)
            assert_exact(both[0], values, f"{what}, with indices")
            assert_exact(both[1], indices, f"{what}, indices")
            for output in (plain, *both):
                assert_layout(output, input, case, variant, what)


def _as_integers(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The reference pools an eighth of the integers; a window without an element gives the lowest one."""
    empty = values.isneginf()
    scaled = values.masked_fill(empty, 0) * 8 + (64 if dtype == torch.uint8 else 0)
    return scaled.long().masked_fill(empty, torch.iinfo(dtype).min)


@pytest.mark.parametrize("case", AVERAGES, ids=lambda case: case.name)
def test_avg(case: Case, each_isa: EachIsa) -> None:
    for variant in battery.variants(case, FLOATS):
        input = battery.make_input(case, variant)
        values, scale = (expect(answer, variant) for answer in battery.avg_answer(case, variant.constant))
        for isa in each_isa():
            what = describe(case, "avg", variant, isa)
            output = case.call(functional, "avg", input)
            assert output.dtype == input.dtype, what
            assert_close(output, values, scale, what)
            assert_layout(output, input, case, variant, what)


@pytest.mark.parametrize("case", [case for case in AVERAGES if case.family == "sliding"], ids=lambda case: case.name)
def test_avg_of_int64(case: Case, each_isa: EachIsa) -> None:
    for variant in battery.variants(case, (torch.int64,)):
        input = battery.make_input(case, variant)
        expected = expect(battery.avg_int_answer(case, variant.constant), variant)
        for isa in each_isa():
            what = describe(case, "avg", variant, isa)
            output = case.call(functional, "avg", input)
            assert output.dtype == torch.int64, what
            assert_exact(output, expected, what)


def test_reference_equals_torch() -> None:
    """What the other tests compare with is itself what torch computes, to the last bit in float64."""
    compared = 0
    for case in CASES:
        if case.family == "global":
            continue
        input = torch.tensor(battery.input_content(case, "") / 8, requires_grad=True)
        grad = torch.tensor(battery.grad_content(case, False) / 8)
        if case.torch_has("max") and not case.average_only:
            values, indices = case.call(torch_functional, "max", input, return_indices=True)
            expected = battery.max_answer(case, "")
            assert np.array_equal(values.detach().numpy(), expected[0]), case.name
            assert np.array_equal(indices.numpy(), expected[1]), case.name
            (found,) = torch.autograd.grad(values, input, grad)
            assert np.array_equal(found.numpy(), battery.max_grad_answer(case, "", False)), case.name
            compared += 1
        if case.torch_has("avg"):
            output = case.call(torch_functional, "avg", input)
            assert_close(output.detach(), *map(torch.from_numpy, battery.avg_answer(case, "")), case.name)
            (found,) = torch.autograd.grad(output, input, grad)
            assert_close(found, *map(torch.from_numpy, battery.avg_grad_answer(case, False)), case.name)
            compared += 1
    assert compared > 300


def test_reference_of_int64_averages_equals_torch() -> None:
    for case in AVERAGES:
        if case.family == "sliding" and case.torch_has("avg"):
            output = case.call(torch_functional, "avg", torch.tensor(battery.input_content(case, "")))
            assert np.array_equal(output.numpy(), battery.avg_int_answer(case, "")), case.name


def test_the_table_covers_every_variant() -> None:
    """The turns that views take through the table leave no combination of type, layout, view and batch axis out."""
    chosen: list[Variant] = [variant for case in CASES for variant in battery.variants(case, FLOATS + INTEGERS)]
    assert len({(each.dtype, each.layout, each.view, each.batched) for each in chosen}) == 9 * 2 * 6 * 2
    assert len({(each.dtype, each.layout, each.view, each.grad_view) for each in chosen}) == 9 * 2 * 6 * 7
