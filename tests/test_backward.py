"""Gradients of every case against the reference, on every instruction set.

As test_forward: a test is one case and walks over instruction sets, types, layouts, memory arrangements of input
and grad_output (expanded ones included) and the batch axis.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

import battery
from battery import FLOATS, assert_close, assert_exact, assert_layout, describe, expect
from cases import AVERAGES, MAXIMA, Case
from torch_pooling import functional

EachIsa = Callable[[], Iterator[str]]


@pytest.mark.parametrize("case", MAXIMA, ids=lambda case: case.name)
def test_max(case: Case, each_isa: EachIsa) -> None:
    for variant in battery.variants(case, FLOATS):
        input = battery.make_input(case, variant).requires_grad_()
        expected = expect(battery.max_grad_answer(case, variant.constant, variant.ones), variant)
        values, indices = (expect(answer, variant) for answer in battery.max_answer(case, variant.constant))
        grad = battery.make_grad(case, variant)
        for isa in each_isa():
            what = describe(case, "max", variant, isa)
            output = case.call(functional, "max", input)
            assert_exact(output.detach(), values, what)
            (found,) = torch.autograd.grad(output, input, grad)
            assert found.dtype == input.dtype, what
            assert_exact(found, expected, what)
            assert_layout(found, input, case, variant, what)
            output, chosen = case.call(functional, "max", input, return_indices=True)
            assert_exact(output.detach(), values, f"{what}, with indices")
            assert_exact(chosen, indices, f"{what}, indices")
            (found,) = torch.autograd.grad(output, input, grad)
            assert_exact(found, expected, f"{what}, with indices")


@pytest.mark.parametrize("case", AVERAGES, ids=lambda case: case.name)
def test_avg(case: Case, each_isa: EachIsa) -> None:
    for variant in battery.variants(case, FLOATS):
        input = battery.make_input(case, variant).requires_grad_()
        expected, scale = (expect(answer, variant) for answer in battery.avg_grad_answer(case, variant.ones))
        grad = battery.make_grad(case, variant)
        for isa in each_isa():
            what = describe(case, "avg", variant, isa)
            output = case.call(functional, "avg", input)
            (found,) = torch.autograd.grad(output, input, grad)
            assert found.dtype == input.dtype, what
            assert_close(found, expected, scale, what)
            assert_layout(found, input, case, variant, what)
