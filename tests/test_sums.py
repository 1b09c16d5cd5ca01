"""Sums over sliding windows: averages without their division, in every respect but the last."""
from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

import battery
import reference
from battery import FLOATS, assert_close, assert_exact, assert_layout, describe, expect
from cases import CASES, Case
from torch_pooling import SumPool2d, functional

SLIDING = [case for case in CASES if case.family == "sliding" and not case.average_only]


def total(case: Case, input: torch.Tensor) -> torch.Tensor:
    pool = getattr(functional, f"sum_pool{case.rank}d")
    found: torch.Tensor = pool(input, case.kernel, case.stride, case.padding, case.ceil_mode, dilation=case.dilation)
    return found


@pytest.mark.parametrize("case", SLIDING[::3], ids=lambda case: case.name)
def test_sums_and_their_gradients(case: Case) -> None:
    ones = [1] * len(case.windows.cells)
    for variant in battery.variants(case, FLOATS):
        what = describe(case, "sum", variant, "")
        input = battery.make_input(case, variant).detach().requires_grad_()
        content = battery.input_content(case, variant.constant) / 8
        values = expect(reference.average(content, case.windows, ones), variant)
        scale = expect(reference.average(abs(content), case.windows, ones), variant)
        output = total(case, input)
        assert output.dtype == input.dtype
        if variant.dtype == torch.float16 and values.abs().max() > 60000:
            continue
        assert_close(output.detach(), values, scale, what)
        assert_layout(output, input, case, variant, what)
        grad = battery.make_grad(case, variant)
        (found,) = torch.autograd.grad(output, input, grad)
        grads = battery.grad_content(case, variant.ones) / 8
        expected = expect(reference.average_backward(grads, case.windows, ones), variant)
        scale = expect(reference.average_backward(abs(grads), case.windows, ones), variant)
        assert_close(found, expected, scale, f"{what}, gradient")
        assert_layout(found, input, case, variant, what)


@pytest.mark.parametrize("case", SLIDING[::5], ids=lambda case: case.name)
def test_int64(case: Case) -> None:
    content = battery.input_content(case, "")
    expected = reference.average(content, case.windows, [1] * len(case.windows.cells))
    assert_exact(total(case, torch.tensor(content)), torch.from_numpy(expected), case.name)


def test_derivatives_of_every_kind() -> None:
    for layout, padding in itertools.product(battery.LAYOUTS, (1, "same", ((2, 0), (0, 1)))):
        input = battery.arrange(torch.randn(2, 2, 4, 5, dtype=torch.float64), 2, layout).requires_grad_()

        def pool(x: torch.Tensor, padding: Any = padding) -> torch.Tensor:
            return functional.sum_pool2d(x, 3, 2, padding, dilation=1)

        assert torch.autograd.gradcheck(pool, input, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
        assert torch.autograd.gradgradcheck(pool, input, check_fwd_over_rev=True, check_batched_grad=True)
        mapped = torch.func.vmap(pool)(torch.stack([input, 2 * input]))
        assert torch.equal(mapped[1], pool(2 * input))


def test_errors_name_the_operator() -> None:
    input = torch.zeros(1, 2, 6, 6)
    with pytest.raises(RuntimeError, match="sum_pool2d: kernel_size must be greater than zero, but got 0"):
        functional.sum_pool2d(input, 0)
    with pytest.raises(TypeError, match=r"sum_pool2d\(\): argument 'stride'"):
        functional.sum_pool2d(input, 2, 1.5)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="sum_pool2d.*int64"):
        functional.sum_pool2d(input.to(torch.int32), 2)
    with pytest.raises(ValueError, match="data_format"):
        functional.sum_pool2d(input, 2, data_format="NHWC")


def test_module() -> None:
    module = SumPool2d(3, 2, "same", data_format="channels_last")
    assert repr(module) == "SumPool2d(kernel_size=3, stride=2, padding=same, dilation=1, ceil_mode=False, data_format='channels_last')"
    input = torch.randn(2, 7, 8, 3)
    assert torch.equal(module(input), functional.sum_pool2d(input, 3, 2, "same", data_format="channels_last"))
