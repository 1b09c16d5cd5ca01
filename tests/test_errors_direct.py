"""Operators called directly with malformed arguments: always a Python exception, never a crash.

Backward, gather and indices operators take tensors and sizes that must fit each other; a user, a fuzzer or a
tracer may hand them anything. Each row takes one good call and spoils one argument.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from good_calls import GRAD, INPUT, OPS, SIZE
from good_calls import SINGLE as GOOD

HUGE = 2**62
OPERATORS = list(GOOD)


def _with(argument: str) -> list[str]:
    return [name for name, call in GOOD.items() if argument in call]


def _call(name: str, call: dict[str, Any]) -> Any:
    return getattr(OPS, name)(**call)


def _refused(name: str, argument: str, value: Any) -> None:
    call = GOOD[name] | {argument: value}
    try:
        _call(name, call)
    except Exception:  # noqa: BLE001 - any Python exception will do
        return
    shown = (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else value
    raise AssertionError(f"{name} accepted {argument}={shown}")


def _still_right() -> None:
    """After the bad calls the good ones give the answers they gave before."""
    for name, before in ANSWERS.items():
        after = _call(name, GOOD[name])
        for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (before, after)), strict=True):
            assert torch.equal(one, other), name


ANSWERS = {name: _call(name, call) for name, call in GOOD.items()}


@pytest.mark.parametrize("name", [name for name in OPERATORS if "rank" in GOOD[name]])
def test_windows(name: str) -> None:
    for rank in (-1, 0, 1, 3, 4, 5, HUGE, -HUGE):
        _refused(name, "rank", rank)
    for value in ([], [3, 3, 3], [0], [-1], [3, 0], [2, -5], [HUGE], [2**63 - 1], [2**31], [-HUGE, 2], [100], None, "a", 1.5):
        _refused(name, "kernel_size", value)
    for value in ([1, 1, 1], [0], [-1], [2, 0], [-HUGE], None, "a"):
        _refused(name, "stride", value)
    for value in ([], [0, 0, 0], [-1], [2, 2], [HUGE], [0, 2**63 - 1], [-HUGE], None):
        _refused(name, "padding", value)
    for value in ([], [1, 1, 1], [0], [-1], [HUGE], [2**31], [2**63 - 1], [1, -HUGE], None):
        _refused(name, "dilation", value)
    for value in ([3, 0, 0, 0], [0, 0, 0, 2], [0, -1, 0, 0], [0, 0, 0, HUGE]):  # pairs: all starts, then all ends
        _refused(name, "padding", value)
    for value in (-1, 4, HUGE, "a", None, 2, 3):  # 2 and 3 pad by themselves
        _refused(name, "sizing", value)
    if "divisor_override" in GOOD[name]:
        _refused(name, "divisor_override", 0)
        _refused(name, "divisor_override", "a")
    _still_right()


@pytest.mark.parametrize("name", _with("input_size"))
def test_input_sizes(name: str) -> None:
    wrong = [[], [5], [5, 6, 1, 1], [0, 6], [5, 0], [-5, 6], [5, -1], [HUGE, 6], [5, 2**63 - 1], [-HUGE, -HUGE], [2**33, 2**33], None, "a"]
    if "rank" in GOOD[name]:
        wrong += [[5, 6, 1], [50, 6], [5, 8], [1, 1], [7, 6]]  # sizes that give other outputs
    for value in wrong:
        _refused(name, "input_size", value)
    _still_right()


@pytest.mark.parametrize("name", _with("output_size"))
def test_output_sizes(name: str) -> None:
    for value in ([], [2] * 4, [-1, 2], [2, -HUGE], [HUGE, HUGE], [2**63 - 1, 1], [10**12, 1], None, "a", [1.5, 2]):
        _refused(name, "output_size", value)
    _still_right()


def _shapes(shape: torch.Size, rank: int) -> list[list[int]]:
    """Shapes that do not fit: other ranks, batches, channels and spatial sizes, and empty ones."""
    batch, channels, *size = shape
    bigger, smaller = [n + 1 for n in size], [n - 1 for n in size]
    return [
        [], [4], size, [1, batch, channels, *size],
        [batch + 1, channels, *size], [0, channels, *size], [batch, channels + 1, *size], [batch, 0, *size], [channels, *size],
        [batch, channels, *bigger], [batch, channels, *smaller], [batch, channels, size[0], size[1] + 1],
        [batch, channels, 0, size[1]], [batch, channels, 0, 0], [batch, channels, 1000, 1000],
    ]  # fmt: skip


def _wrong_dtypes(tensor: Tensor) -> list[Tensor]:
    return [tensor.to(dtype) for dtype in (torch.bool, torch.complex64, torch.float8_e4m3fn)]


def _no_tensors(tensor: Tensor) -> list[Any]:
    return [None, "a", 1, [1.0], torch.float32, tensor.to("meta"), tensor.to_sparse()]


@pytest.mark.parametrize("name", [name for name in _with("grad_output") if "offsets" in GOOD[name]])
def test_grad_outputs_that_do_not_fit_their_offsets(name: str) -> None:
    good = GOOD[name]["grad_output"]
    for shape in _shapes(good.shape, 2):
        _refused(name, "grad_output", torch.zeros(shape))
    for value in _wrong_dtypes(good) + _no_tensors(good):
        _refused(name, "grad_output", value)
    _still_right()


@pytest.mark.parametrize("name", ["avg_pool_backward", "adaptive_avg_pool_backward"])
def test_grad_outputs(name: str) -> None:
    """Batch and channels come from grad_output; its rank, spatial size and type must fit."""
    good = GOOD[name]["grad_output"]
    batch, channels, *size = good.shape
    shapes = [[], [4], size, [1, batch, channels, *size]]
    if name == "avg_pool_backward":
        shapes += [shape for shape in _shapes(good.shape, 2) if len(shape) == 4 and shape[2:] != size]
    for shape in shapes:
        _refused(name, "grad_output", torch.zeros(shape))
    wrong = [value for value in _no_tensors(good) if not (isinstance(value, Tensor) and value.is_meta)]
    for value in _wrong_dtypes(good) + wrong:
        _refused(name, "grad_output", value)
    for shape in ([0, channels, *size], [batch, channels + 4, *size], [channels, *size]):  # these do fit
        found = _call(name, GOOD[name] | {"grad_output": torch.ones(shape)})
        assert list(found.shape) == [*shape[:-2], *SIZE]
    _still_right()


@pytest.mark.parametrize("name", _with("offsets"))
def test_offset_tensors(name: str) -> None:
    """Offsets of another shape, of a type that counts nothing, on another device, or no tensor at all."""
    good = GOOD[name]["offsets"]
    if "input" in GOOD[name] or "grad_output" in GOOD[name]:
        for shape in _shapes(good.shape, 2):
            _refused(name, "offsets", torch.zeros(shape, dtype=good.dtype))
    else:
        for shape in ([], [4]):
            _refused(name, "offsets", torch.zeros(shape, dtype=good.dtype))
    for dtype in (torch.float32, torch.float16, torch.bool, torch.complex64):
        _refused(name, "offsets", good.to(dtype))
    wrong = _no_tensors(good)
    if name.endswith("indices"):  # the only tensor: on meta it is a right call
        wrong = [value for value in wrong if not (isinstance(value, Tensor) and value.is_meta)]
    for value in wrong:
        _refused(name, "offsets", value)
    _still_right()


@pytest.mark.parametrize("name", _with("offsets"))
def test_offsets_outside_their_window(name: str) -> None:
    """A number that names no tap of its window is refused, wherever it stands."""
    good = GOOD[name]["offsets"]
    taps = 6 if "rank" in GOOD[name] else 3 * 3
    wrong: list[tuple[torch.dtype, int]] = [(torch.uint8, 255), (torch.int32, taps + 10), (torch.int32, -1), (torch.int32, 2**31 - 1)]
    wrong += [(torch.int64, value) for value in (-1, 10**9, -(10**9), 2**32, 2**62, -(2**63))]
    if "rank" in GOOD[name]:
        wrong += [(torch.uint8, taps), (torch.int32, taps)]
    for (dtype, value), place in itertools.product(wrong, (0, 7, good.numel() - 1)):
        offsets = good.to(dtype, copy=True)
        offsets.view(-1)[place] = value
        _refused(name, "offsets", offsets)
    _still_right()


def test_offsets_that_point_at_padding() -> None:
    """A tap of the window, but none of the input: refused, or taken as a window that holds nothing."""
    offsets = torch.zeros_like(GOOD["max_pool_backward"]["offsets"])  # tap 0 of the first row lies in the padding
    inside = torch.ones(3, 3, dtype=torch.bool)
    inside[0] = False
    for channels_last in (False, True):
        try:
            call = GOOD["max_pool_backward"] | {"offsets": offsets, "grad_output": torch.ones_like(GRAD), "channels_last": channels_last}
            found = _call("max_pool_backward", call)
        except RuntimeError:
            continue
        assert torch.equal(found.sum((2, 3)), torch.full((2, 3), 6.0))
    for name in ("max_pool_gather", "max_pool_indices"):
        try:
            found = _call(name, GOOD[name] | {"offsets": offsets})
        except RuntimeError:
            continue
        if name == "max_pool_indices":
            assert int(found.min()) >= 0 and int(found.max()) < 30
        else:
            assert torch.equal(found[:, :, 1:], INPUT[:, :, 1::2, ::2])
    _still_right()


@pytest.mark.parametrize("name", _with("input"))
def test_inputs(name: str) -> None:
    good = GOOD[name]["input"]
    shapes: list[list[int]] = [[], [4], [5, 6], [1, 2, 3, 5, 6, 1]]
    if "offsets" in GOOD[name]:
        shapes += [[1, 3, 5, 6], [0, 3, 5, 6], [2, 4, 5, 6], [2, 0, 5, 6], [3, 5, 6], [2, 3, 0, 6]]
    if name == "max_pool_gather":
        shapes += [[2, 3, 7, 6], [2, 3, 5, 8], [2, 3, 1, 1]]
    for shape in shapes:
        _refused(name, "input", torch.zeros(shape))
    wrong: list[Any] = [value for value in _no_tensors(good) if not (isinstance(value, Tensor) and value.is_meta)]
    if "offsets" in GOOD[name]:
        wrong.append(good.to("meta"))
    for value in _wrong_dtypes(good) + wrong:
        _refused(name, "input", value)
    _still_right()


def test_an_adaptive_gradient_larger_than_its_input() -> None:
    """Shapes that have crashed others: one input element for many outputs is legal, and is pooled right."""
    grad = torch.ones(1, 200, 64, 64)
    for channels_last in (False, True):
        found = OPS.adaptive_avg_pool_backward(grad, [1, 1], channels_last)
        assert torch.equal(found, torch.full((1, 200, 1, 1), 4096.0))
        values, offsets = OPS.adaptive_max_pool_with_offsets(torch.zeros(1, 200, 1, 1), [64, 64])
        found = OPS.adaptive_max_pool_backward(grad, offsets, [1, 1], channels_last)
        assert torch.equal(found, torch.full((1, 200, 1, 1), 4096.0)) and values.shape == grad.shape


def test_good_offsets_in_any_integer_type_and_memory() -> None:
    """What is refused above is refused for its values: the same offsets, wider or strided, are welcome."""
    good = GOOD["max_pool_backward"]["offsets"]
    arrangements: list[Callable[[Tensor], Tensor]] = [
        lambda offsets: offsets.to(torch.int32),
        lambda offsets: offsets.contiguous(memory_format=torch.channels_last),
        lambda offsets: offsets.repeat_interleave(2, 3)[..., ::2],
        lambda offsets: offsets.transpose(2, 3).contiguous().transpose(2, 3),
    ]
    for arrange, name in itertools.product(arrangements, ("max_pool_backward", "max_pool_gather", "max_pool_indices")):
        assert torch.equal(_call(name, GOOD[name] | {"offsets": arrange(good)}), ANSWERS[name]), name
