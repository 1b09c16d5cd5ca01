"""Conformance with tests that nobody here wrote: the operator database that ships inside torch.

Every sample input and every error input that the database holds for the twelve pooling functions runs through our
function and through torch's, as given and in channels-last: values, indices, gradients, dtypes, strides. Where torch
lacks a dtype on the CPU, the float64 answer stands in for it. The numbers of samples are asserted, so that nothing
can drop out unseen. One test item covers all samples of one function, dtype and layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

from torch_pooling import functional

# Samples for each function in the database of torch 2.13, whatever the dtype.
SAMPLES: dict[str, int] = {
    "max_pool1d": 864, "max_pool2d": 1440, "max_pool3d": 576,
    "avg_pool1d": 9, "avg_pool2d": 7, "avg_pool3d": 8,
    "adaptive_max_pool1d": 8, "adaptive_max_pool2d": 24, "adaptive_max_pool3d": 20,
    "adaptive_avg_pool1d": 6, "adaptive_avg_pool2d": 10, "adaptive_avg_pool3d": 12,
}
# Samples of the functions for which torch 2.13 claims the dtype on the CPU.
SUPPORTED_BY_TORCH: dict[torch.dtype, int] = {
    torch.float32: 2984, torch.float64: 2984, torch.bfloat16: 2976, torch.float16: 2976,
    torch.int64: 2040, torch.int32: 2016, torch.int16: 2016, torch.int8: 2016, torch.uint8: 2016,
}
# Samples that run here: every function takes the floating types, every maximum takes the integers, and windowed
# averages take int64.
SUPPORTED_HERE: dict[torch.dtype, int] = {
    torch.float32: 2984, torch.float64: 2984, torch.bfloat16: 2984, torch.float16: 2984,
    torch.int64: 2956, torch.int32: 2932, torch.int16: 2932, torch.int8: 2932, torch.uint8: 2932,
}
ERRORS = 67
PINNED = torch.__version__.startswith("2.13.")
LAYOUTS = ("as_given", "channels_last")
Tensors = tuple[torch.Tensor, ...]

OPERATORS: dict[str, OpInfo] = {
    op.name.rpartition(".")[2]: op for op in op_db
    if op.name.startswith("nn.functional.") and op.name.rpartition(".")[2] in SAMPLES
}


def accepted_here(name: str, dtype: torch.dtype) -> bool:
    if dtype.is_floating_point or "max" in name:
        return True
    return dtype == torch.int64 and name.startswith("avg")


ITEMS = [(name, dtype) for name in SAMPLES for dtype in SUPPORTED_HERE if accepted_here(name, dtype)]


def samples_of(name: str, dtype: torch.dtype) -> list[SampleInput]:
    torch.manual_seed(0)  # the database draws from the global generator
    return list(OPERATORS[name].sample_inputs("cpu", dtype, requires_grad=dtype.is_floating_point))


def in_layout(input: torch.Tensor, layout: str, channel: int) -> torch.Tensor:
    """The same values, as the database gave them or with the channel dimension innermost in memory."""
    if layout == "as_given":
        return input.detach()
    return input.detach().movedim(channel, -1).contiguous().movedim(-1, channel)


def is_channels_last(tensor: torch.Tensor, channel: int) -> bool:
    return tensor.movedim(channel, -1).is_contiguous()


def check_strides(ours: torch.Tensor, torchs: torch.Tensor | None, input: torch.Tensor, channel: int) -> None:
    """Either exactly torch's strides, or the input's memory format where torch drops it."""
    if torchs is not None and ours.stride() == torchs.stride():
        return
    keeps = (is_channels_last(input, channel) and is_channels_last(ours, channel)) or (
        input.is_contiguous() and ours.is_contiguous())
    assert keeps, f"input {input.stride()} gave {ours.stride()}, torch {None if torchs is None else torchs.stride()}"


def outputs_and_gradient(
    function: Callable[..., Any], input: torch.Tensor, sample: SampleInput, grad_output: torch.Tensor | None,
) -> tuple[Tensors, torch.Tensor | None]:
    """Outputs, always as a tuple, and the input's gradient if a grad_output is given."""
    leaf = input.detach().requires_grad_(grad_output is not None)
    result = function(leaf, *sample.args, **sample.kwargs)
    outputs = result if isinstance(result, tuple) else (result,)
    gradient = None
    if grad_output is not None:
        # The product hands grad_output on as it is; it spares autograd's slow comparison of shapes.
        total = (outputs[0] * grad_output.to(outputs[0].dtype)).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
    return tuple(output.detach() for output in outputs), gradient


def check_close(ours: torch.Tensor, torchs: torch.Tensor, exact: bool, scale: float) -> None:
    """Bit-equal where nothing is rounded; else a few units in the last place of the largest term."""
    if torch.equal(ours, torchs):
        return
    if exact:
        torch.testing.assert_close(ours, torchs, rtol=0, atol=0)
    else:
        eps = torch.finfo(ours.dtype).eps
        torch.testing.assert_close(ours, torchs, rtol=4 * eps, atol=4 * eps * scale)


def check_as_near_as_torch(ours: torch.Tensor, torchs: torch.Tensor | None, exact: torch.Tensor, scale: float) -> None:
    """No element further from the float64 answer than torch's (or than the rounded answer, where torch has none).

    A sum kept in float32 and rounded once is the best that a 16-bit result can be, but for float32's own rounding.
    """
    slack = 64 * torch.finfo(torch.float32).eps * scale
    peer = exact.to(ours.dtype) if torchs is None else torchs
    worse = (ours.double() - exact).abs() - (peer.double() - exact).abs()
    assert (worse <= slack).all(), f"further from the float64 answer than torch: {worse}, allowed {slack}"


def magnitude(tensor: torch.Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def torch_fails(name: str, dtype: torch.dtype, layout: str) -> bool:
    """torch's channels-last max_pool3d counts positions in the input's own type: 180 of them overflow 8 bits."""
    return name == "max_pool3d" and layout == "channels_last" and dtype in (torch.int8, torch.uint8)


def check_sample(name: str, dtype: torch.dtype, layout: str, sample: SampleInput) -> None:
    ours, torchs = getattr(functional, name), OPERATORS[name].op
    rank = int(name[-2])
    channel = sample.input.dim() - rank - 1  # 1 in a batch, 0 unbatched
    input = in_layout(sample.input, layout, channel)
    torch_has_it = dtype in OPERATORS[name].dtypes and not torch_fails(name, dtype, layout)
    rounds = dtype in (torch.bfloat16, torch.float16)  # compared by their distance from the float64 answer
    grad_output = None
    if dtype.is_floating_point:
        like, _ = outputs_and_gradient(ours, input, sample, None)
        grad_output = in_layout(torch.randn_like(like[0]), layout, channel)

    actual, gradient = outputs_and_gradient(ours, input, sample, grad_output)
    expected: Tensors | None = None
    exact: Tensors | None = None
    expected_gradient = exact_gradient = None
    if torch_has_it:
        expected, expected_gradient = outputs_and_gradient(torchs, input, sample, grad_output)
    if rounds or not torch_has_it:
        exact, exact_gradient = outputs_and_gradient(torchs, input.double(), sample, grad_output)

    truth = expected or exact
    assert truth is not None
    assert [output.shape for output in actual] == [output.shape for output in truth]
    assert [output.dtype for output in actual] == [dtype] + [torch.int64] * (len(truth) - 1)
    for position, output in enumerate(actual):
        check_strides(output, expected[position] if expected else None, input, channel)
    for indices, indices_expected in zip(actual[1:], truth[1:]):
        check_close(indices, indices_expected, True, 0)
    if "max" in name or not dtype.is_floating_point:
        check_close(actual[0], truth[0].to(dtype), True, 0)
    elif rounds:
        assert exact is not None
        check_as_near_as_torch(actual[0], expected[0] if expected else None, exact[0], magnitude(input))
    else:
        check_close(actual[0], truth[0], False, magnitude(input))

    if grad_output is None:
        return
    assert gradient is not None and gradient.dtype == dtype and gradient.shape == input.shape
    check_strides(gradient, expected_gradient, input, channel)
    if rounds:
        assert exact_gradient is not None
        check_as_near_as_torch(gradient, expected_gradient, exact_gradient, magnitude(grad_output))
    else:
        assert expected_gradient is not None
        check_close(gradient, expected_gradient, False, magnitude(grad_output))


@pytest.fixture(autouse=True)
def one_thread(threads: Callable[[int], None]) -> None:
    """The samples are tiny: waking a second thread for torch's kernels takes longer than all the rest."""
    threads(1)


def test_database_has_the_twelve_functions() -> None:
    assert set(OPERATORS) == set(SAMPLES)


@pytest.mark.parametrize("dtype", SUPPORTED_HERE, ids=str)
def test_number_of_samples(dtype: torch.dtype) -> None:
    """The totals; that the database holds these numbers of samples is asserted where they run."""
    assert sum(SAMPLES[name] for name, item in ITEMS if item == dtype) == SUPPORTED_HERE[dtype]
    if PINNED:
        claimed = sum(count for name, count in SAMPLES.items() if dtype in OPERATORS[name].dtypes)
        assert claimed == SUPPORTED_BY_TORCH[dtype]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "dtype"), ITEMS, ids=str)
def test_samples(name: str, dtype: torch.dtype, layout: str) -> None:
    checked = 0
    for sample in samples_of(name, dtype):
        try:
            check_sample(name, dtype, layout, sample)
        except Exception as error:
            where = f"sample {checked}: {tuple(sample.input.shape)} {sample.args} {sample.kwargs}"
            raise AssertionError(where) from error
        checked += 1
    assert checked == SAMPLES[name] if PINNED else checked > 0


def error_inputs() -> Iterator[tuple[str, SampleInput]]:
    torch.manual_seed(0)
    for name, op in OPERATORS.items():
        if op.error_inputs_func is not None:
            for error in op.error_inputs("cpu"):
                yield name, error.sample_input


def test_error_inputs() -> None:
    """The same exception type as torch raises, for every wrong call that the database knows."""
    checked = 0
    for name, sample in error_inputs():
        where = f"error input {checked}: {name} of {tuple(sample.input.shape)} {sample.args} {sample.kwargs}"
        with pytest.raises(Exception) as torchs:  # noqa: B017 (which type it is, is the question)
            OPERATORS[name].op(sample.input, *sample.args, **sample.kwargs)
        try:
            result = getattr(functional, name)(sample.input, *sample.args, **sample.kwargs)
        except Exception as error:
            assert type(error) is torchs.type, f"{where}: {error!r} but torch {torchs.value!r}"
            assert str(error), where
        else:
            pytest.fail(f"{where}: returned {result}, torch raises {torchs.value!r}")
        checked += 1
    assert checked == ERRORS if PINNED else checked > 0
