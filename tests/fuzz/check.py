# SPDX-License-Identifier: BSD-3-Clause
"""Makes a Row's call with torch_pooling and holds values, indices, gradient, types, shapes and layout to the answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

import torch
from torch import Tensor

from battery import arrange, assert_exact, assert_layout
from fuzz.answers import Answer, answer_of
from fuzz.draw import Row, draw
from fuzz.values import content_of, grad_of, lengths_of, mask_of
from torch_pooling import _library, functional

_in_use: tuple[str, bool] | None = None


def use(isa: str, past_caches: bool) -> None:
    """The kernels of a row. Forgotten by `restore`."""
    global _in_use
    if _in_use != (isa, past_caches):
        _library.force_instruction_set(isa or None)
        _library.store_past_caches_from(1 if past_caches else None)
        _in_use = (isa, past_caches)


def restore() -> None:
    use("", False)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Of calls of ours alone, forward and backward: an autograd engine runs the latter of CPU tensors in the thread that asks."""
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)


def call(row: Row, input: Tensor, return_indices: bool = False) -> Any:
    """The function of a row, in channels-first shape, on the threads of the row."""
    with _threads(row.threads):
        return _call(row, input, return_indices)


def _call(row: Row, input: Tensor, return_indices: bool) -> Any:
    case, kind, last = row.case, row.kind, row.channels_last_shape
    extra: dict[str, Any] = {"data_format": "channels_last"} if last else {}
    if return_indices:
        extra["return_indices"] = True
    channel = input.dim() - case.rank - 1
    given = input.movedim(channel, -1) if last else input
    if kind in ("concat", "avgmax"):
        result = getattr(functional, f"{kind}_pool")(given, case.output, **row.more, **extra)
    elif kind == "pyramid":
        return functional.spatial_pyramid_pool(given, **row.more, **extra)
    elif kind == "mixed":
        result = functional.mixed_pool(given, case.kernel, case.stride, case.padding, **extra)  # type: ignore[arg-type]
    elif case.family == "global":
        masked, keep = row.more.get("masked"), row.more.get("keepdim", True)
        if masked:
            extra[masked] = lengths_of(row) if masked == "lengths" else mask_of(row)
        result = getattr(functional, f"global_{kind}_pool")(given, keepdim=keep, **extra)
        if not keep:
            shape = (*input.shape[:2], *(1,) * case.rank)
            return tuple(part.view(shape) for part in result) if return_indices else result.view(shape)
    elif case.family == "adaptive":
        result = getattr(functional, f"adaptive_{kind}_pool{case.rank}d")(given, case.output, **extra)
    else:
        function = getattr(functional, f"{kind}_pool{case.rank}d")
        window = (case.kernel, case.stride, case.padding)
        if kind == "max":
            result = function(given, *window, case.dilation, case.ceil_mode, **extra)
        elif kind == "sum":
            result = function(given, *window, case.ceil_mode, dilation=case.dilation, **extra)
        else:
            result = function(given, *window, case.ceil_mode, case.count_include_pad, case.divisor, dilation=case.dilation, **extra)
    if not last:
        return result
    return tuple(part.movedim(-1, channel) for part in result) if return_indices else result.movedim(-1, channel)


def _unit(row: Row, values: str) -> float:
    """What answers of a row are computed in multiples of: float64 cannot hold sums of the largest float64 numbers."""
    return 2.0**64 if values == "huge" and row.variant.dtype == torch.float64 else 1.0


def _bound(scale: Tensor, roundings: int, info: torch.finfo) -> Tensor:
    """What so many roundings of a type may be off by; see answers.py. Below the smallest normal number each is off by half a step at most,
    and in float64 the answer's are as well."""
    half_steps = info.smallest_normal * info.eps * (1 if info.bits == 64 else 0.5)
    return roundings * (info.eps / 2 / (1 - roundings * info.eps / 2) * scale + half_steps)


def assert_near(
    actual: Tensor, expected: Tensor, scale: Tensor, roundings: int, stored: int, what: str, unit: float = 1.0, divisor: int = 0
) -> None:
    """`expected` and `scale` are in multiples of `unit`. `divisor`: of numbers so large that sums may overflow, what a scale lacks to be
    such a sum; 0 of all others. Where one may, whatever follows from infinities is right, but no finite number that is not near."""
    assert actual.shape == expected.shape, f"{what}: shape {list(actual.shape)}, expected {list(expected.shape)}"
    dtype, found = actual.dtype, actual.double() / unit
    info, wide = torch.finfo(dtype), torch.finfo(torch.float64 if actual.dtype == torch.float64 else torch.float32)
    bound = _bound(scale, roundings, wide) + _bound(scale, stored, info)
    if dtype == torch.float64 or dtype == torch.float32:
        # The answer itself is rounded where it is float64, too; and once to float32.
        allowed = bound + (info.eps / 2) * expected.abs() * (roundings > 0 or dtype == torch.float32)
    else:
        top = (expected.abs() + bound).clamp(min=info.smallest_normal)
        allowed = bound + info.eps / 2 * torch.exp2(top.log2().floor())
    if dtype != torch.float64:  # nothing but zeros, or a maximum beside averages (scales of float64 may have become zero)
        allowed = torch.where(scale == 0, 0.0, allowed)
    good = ((found - expected).abs() <= allowed) & expected.isfinite()
    good |= (found == expected) | (found.isnan() & expected.isnan())
    if not bool(good.all()):
        too_large = (expected.abs() + bound >= info.max / unit) & expected.isfinite() & found.isinf() & (found.sign() == expected.sign())
        good |= too_large
        if divisor:
            overflow = scale * divisor + bound * divisor >= wide.max / unit
            if stored:  # of results of the type itself
                overflow |= scale + bound >= info.max / unit
            good |= overflow & ~found.isfinite()
    if not bool(good.all()):
        wrong = (~good).nonzero()
        at = tuple(wrong[0].tolist())
        raise AssertionError(
            f"{what}: {len(wrong)} of {actual.numel()} differ; at {at}: {actual[at].item()!r}, expected {expected[at].item()!r} "
            f"+- {allowed[at].item():.3g}" + (f" times {unit:g}" if unit != 1 else "")
        )


def _compare(row: Row, found: Tensor, answer: Answer, what: str) -> None:
    assert found.dtype == row.variant.dtype, f"{what}: type {found.dtype}"
    if answer.scale is None:
        assert_exact(found, answer.values, what)
        return
    divisor = answer.divisor if row.values == "huge" else 0
    assert_near(found, answer.values, answer.scale, answer.roundings, answer.stored, what, _unit(row, row.values), divisor)


def _unbatched(row: Row, tensor: Tensor) -> Tensor:
    return tensor if row.variant.batched else tensor[0]


def _presented_grad(row: Row, grad: Tensor) -> Tensor:
    variant = row.variant
    view, layout = variant.grad_view, variant.layout
    if view == "other_layout":
        view, layout = "contiguous", "channels_first" if layout == "channels_last" else "channels_last"
    given = _unbatched(row, grad).to(variant.dtype)
    if given.dim() == 2 and row.case.rank > 1 or row.kind == "pyramid":  # rows have no axes in space
        return given.t().contiguous().t() if view == "transposed" else given
    return arrange(given, row.case.rank, layout, view)


def make(seed: int, number: int) -> Row:
    """The row of that number: the same everywhere, on builds with the same instruction sets."""
    return draw(Random((seed << 40) + number), instruction_sets=_library.instruction_sets())


def check(row: Row) -> None:
    """Raises AssertionError, or whatever the call raises, where the row is not as it should be."""
    use(row.isa, row.past_caches)
    case, variant = row.case, row.variant
    content = content_of(row)
    unit = 1.0 if row.kind == "max" else _unit(row, row.values)
    answer = answer_of(row, content if unit == 1 else content / unit)
    if not variant.batched:
        answer = answer.of_first()
    input = arrange(_unbatched(row, content).to(variant.dtype), case.rank, variant.layout, variant.view)
    with torch.no_grad():
        plain = call(row, input)
    _compare(row, plain, answer, "value")
    floating = variant.dtype.is_floating_point
    output = plain
    if floating:
        input.requires_grad_()
        output = call(row, input)
        _compare(row, output, answer, "value with gradient")
    if answer.indices is not None:
        both = call(row, input, return_indices=True)
        _compare(row, both[0], answer, "value beside indices")
        assert both[1].dtype == torch.int64
        assert_exact(both[1], answer.indices, "indices")
        if row.seed % 2:
            output = both[0]
    has_layout = row.kind != "pyramid" and "masked" not in row.more and plain.numel() > 0
    if has_layout:
        assert_layout(plain.detach(), input, case, variant, "output")
    if not floating:
        return
    grad, exact = grad_of(row, output.shape if variant.batched else torch.Size((1, *output.shape)))
    presented = _presented_grad(row, grad).requires_grad_(row.again)
    with _threads(row.threads):
        (found,) = torch.autograd.grad(output, input, presented, create_graph=row.again)
    unit = _unit(row, row.grads)
    expected, scale = (_unbatched(row, part) for part in answer.pull(grad / unit))
    assert found.dtype == variant.dtype
    divisor = answer.divisor if row.grads == "huge" else 0
    assert_near(found.detach(), expected, scale, answer.pull_roundings(exact), answer.pull_stored, "gradient", unit, divisor)
    if has_layout:
        assert_layout(found.detach(), input, case, variant, "grad_input")
    if row.again:
        _check_again(row, answer, input, presented, found)


def _check_again(row: Row, answer: Answer, input: Tensor, grad_output: Tensor, grad_input: Tensor) -> None:
    """The other way through the linear map whose adjoint the gradient is: its own gradient, and the tangents of jvp."""
    other = replace(row, values=("eighths", "normal", "nan")[row.seed % 3], seed=row.seed + 3)
    content = content_of(other)
    expected = answer.push(other.values, content)
    if not row.variant.batched:
        expected = expected.of_first()
    tangent = arrange(_unbatched(row, content).to(row.variant.dtype), row.case.rank, row.variant.layout, row.variant.view)
    with _threads(row.threads):
        (second,) = torch.autograd.grad(grad_input, grad_output, tangent)
        values, pushed = torch.func.jvp(lambda x: call(row, x), (input.detach(),), (tangent,))
    _compare(other, second, expected, "second derivative")
    _compare(other, pushed, expected, "tangent")
    _compare(row, values, answer, "value with tangent")
