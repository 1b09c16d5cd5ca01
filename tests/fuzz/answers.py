# SPDX-License-Identifier: BSD-3-Clause
"""What a Row must give: torch in float64 where torch defines the call, else tests/reference.py, and how far off one may be.

Maxima, their indices and integers are exact. An average of n terms, in any order of additions, lies within n + 2 roundings of
the accumulation type (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2: at most n - 1 for the sum; two for
the division, by a reciprocal or not; one for the answer's own division, which counts where it is float64's, too) times the average
of absolute values; then there is one rounding to the result's type. Values whose sums are exact have the divisions' roundings only.
So have gradients, n being the number of outputs that read an input. The sums of a float64 answer may be off by as much as ours; that
both are at their worst at once is not allowed for. Several reductions at once add up results that are rounded to the tensor's type,
as a composition of single pools does: `stored`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as theirs
from torch import Tensor

import reference
from cases import Case
from fuzz.draw import Row
from fuzz.values import EXACT_SUMS, mask_of


@dataclass
class Answer:
    """Of a forward: float64 or int64 values and, of averages, their scale (the same of absolute values) and roundings."""

    values: Tensor
    indices: Tensor | None
    scale: Tensor | None
    roundings: int
    divisor: int  # the largest of any window: so many scales are at least the sum of absolute values
    pull: Callable[[Tensor], tuple[Tensor, Tensor]]  # the gradient for a grad_output, and its scale
    pull_roundings: Callable[[bool], int]  # given whether sums of grad_output are exact
    push: Callable[[str, Tensor], Answer]  # what the same linear map makes of a tangent: the average, or what lay where the maxima did
    stored: int = 0  # parts that are rounded to the result's type before they are added; of a gradient, `pull_stored`
    pull_stored: int = 0

    def of_first(self) -> Answer:
        """What is expected of an input without a batch axis."""
        values, indices, scale = (None if part is None else part[0] for part in (self.values, self.indices, self.scale))
        return replace(self, values=values, indices=indices, scale=scale)

    def of_none(self) -> Answer:
        values, indices, scale = (None if part is None else part[:0] for part in (self.values, self.indices, self.scale))
        return replace(self, values=values, indices=indices, scale=scale)


def answer_of(row: Row, content: Tensor) -> Answer:
    if row.case.batch == 0:  # the shapes of one sample, without it
        return _without_samples(answer_of_content(row, content.new_ones(1, *content.shape[1:])))
    return answer_of_content(row, content)


def _without_samples(one: Answer) -> Answer:
    def pull(grad: Tensor) -> tuple[Tensor, Tensor]:
        empty = one.pull(grad.new_ones(1, *grad.shape[1:]))[0][:0]
        return empty, empty

    def push(values: str, tangent: Tensor) -> Answer:
        return one.push(values, tangent.new_ones(1, *tangent.shape[1:])).of_none()

    return replace(one.of_none(), pull=pull, push=push)


def answer_of_content(row: Row, content: Tensor) -> Answer:
    if row.kind in ("concat", "avgmax", "pyramid", "mixed"):
        return _combined(row, content)
    if "masked" in row.more:
        return _masked(row, content)
    if row.kind == "max":
        return _maximum(row, content)
    return _average(row, content)


# --- averages and sums ------------------------------------------------------------------------------------------------


def taps_of(case: Case) -> int:
    if case.family == "global":
        return math.prod(case.size)
    if case.family == "adaptive":
        output = case.output if isinstance(case.output, tuple) else (case.output,) * case.rank
        return math.prod(-(-n // (o or n)) + 1 for n, o in zip(case.size, output))
    return math.prod(case.spread(case.kernel))


def readers_of(case: Case) -> int:
    """At most so many outputs read one input: one for each tap of a sliding window, the dual window of an adaptive one."""
    if case.family == "global":
        return 1
    if case.family == "adaptive":
        output = case.output if isinstance(case.output, tuple) else (case.output,) * case.rank
        return math.prod(-(-(o or n) // n) + 1 for n, o in zip(case.size, output))
    return math.prod(case.spread(case.kernel))


def _average(row: Row, content: Tensor) -> Answer:
    case, kind, samples = row.case, row.kind, len(content)
    divisors = None
    taps, readers = taps_of(case), readers_of(case)
    roundings = 3 if row.values in EXACT_SUMS else taps + 2
    if kind == "sum" and row.values in EXACT_SUMS:
        roundings = 0
    if _torch_averages(row):
        floating = content.is_floating_point()
        both = torch.cat([content, content.abs()]).requires_grad_(floating)
        output = _their_average(row, both)

        def pull(grad: Tensor) -> tuple[Tensor, Tensor]:
            (found,) = torch.autograd.grad(output, both, torch.cat([grad, grad.abs()]))
            return found[:samples], found[samples:].abs()

        values = output.detach()
        scale = values[samples:].abs() if floating else None
        values = values[:samples]
    else:
        windows = case.windows
        divisors = [1] * len(windows.cells) if kind == "sum" else case.divisors
        array = content.numpy()
        with np.errstate(invalid="ignore", over="ignore"):
            values = torch.from_numpy(reference.average(array, windows, divisors))
            scale = torch.from_numpy(reference.average(np.abs(array), windows, divisors)).abs() if content.is_floating_point() else None

        def pull(grad: Tensor) -> tuple[Tensor, Tensor]:
            positive = [abs(divisor) for divisor in divisors]
            with np.errstate(invalid="ignore"):
                return (
                    torch.from_numpy(reference.average_backward(grad.numpy(), windows, divisors)),
                    torch.from_numpy(reference.average_backward(grad.abs().numpy(), windows, positive)),
                )

    divisor = 1 if kind == "sum" else taps if case.divisor is None else abs(case.divisor)
    return Answer(values, None, scale, roundings, divisor, pull, lambda exact: 0 if exact and kind == "sum" else readers + 2, _push(row))


def _push(row: Row) -> Callable[[str, Tensor], Answer]:
    """Of averages, which are linear."""
    return lambda values, tangent: answer_of_content(replace(row, values=values), tangent)


def _gathered(answer: Answer, indices: Tensor, there: Tensor) -> Callable[[str, Tensor], Answer]:
    """Of maxima: what lies at their indices, and zero of windows that read nothing."""

    def push(values: str, tangent: Tensor) -> Answer:
        found = tangent.flatten(2).gather(2, indices.flatten(2)).view_as(indices)
        return replace(answer, values=torch.where(there, found, 0.0), indices=None)

    return push


def _torch_averages(row: Row) -> bool:
    case = row.case
    if case.family != "sliding":
        return True
    halves = all(p <= k // 2 for p, k in zip(case.pads[0], case.spread(case.kernel))) if not case.pads_beyond_torch else False
    fits = case.rank < 3 or all(k <= n for k, n in zip(case.spread(case.kernel), case.size))
    return halves and fits and case.dilation in (1, (1,) * case.rank) and (row.variant.dtype.is_floating_point or case.rank > 1)


def _their_average(row: Row, input: Tensor) -> Tensor:
    case = row.case
    if case.family != "sliding":
        return getattr(theirs, f"adaptive_avg_pool{case.rank}d")(input, 1 if case.family == "global" else case.output)
    kernel = case.spread(case.kernel)
    stride, padding = kernel if case.stride is None else case.spread(case.stride), case.pads[0]
    divisor = 1 if row.kind == "sum" else case.divisor
    if case.rank == 1 and divisor is not None:  # torch's avg_pool1d has no divisor
        window = ((1, *kernel), (1, *stride), (0, *padding))
        return theirs.avg_pool2d(input.unsqueeze(2), *window, case.ceil_mode, case.count_include_pad, divisor).squeeze(2)
    extra = {} if case.rank == 1 else {"divisor_override": divisor}
    function = getattr(theirs, f"avg_pool{case.rank}d")
    return function(input, kernel, stride, padding, case.ceil_mode, case.count_include_pad, **extra)


# --- maxima -----------------------------------------------------------------------------------------------------------


def _maximum(row: Row, content: Tensor) -> Answer:
    case, dtype = row.case, row.variant.dtype
    integers = not dtype.is_floating_point
    if _torch_maximum(row):
        leaf = content.double().requires_grad_(not integers)
        if case.family == "sliding":
            kernel, stride = case.spread(case.kernel), None if case.stride is None else case.spread(case.stride)
            function = getattr(theirs, f"max_pool{case.rank}d")
            output, indices = function(leaf, kernel, stride, case.pads[0], case.dilation, case.ceil_mode, return_indices=True)
        else:
            function = getattr(theirs, f"adaptive_max_pool{case.rank}d")
            output, indices = function(leaf, 1 if case.family == "global" else case.output, return_indices=True)
        values, there = output.detach().to(content.dtype), torch.ones((), dtype=torch.bool)

        def pull(grad: Tensor) -> tuple[Tensor, Tensor]:
            (found,) = torch.autograd.grad(output, leaf, grad)
            scale = torch.zeros_like(content).flatten(2).scatter_add_(2, indices.flatten(2), grad.abs().flatten(2))
            return found, scale.view_as(content)
    else:
        windows = case.windows
        lowest = torch.iinfo(dtype).min if integers else -np.inf
        found, chosen = reference.maximum(content.numpy(), windows, lowest)
        values, indices = torch.from_numpy(found), torch.from_numpy(chosen)
        there = torch.tensor([len(cell) > 0 for cell in windows.cells]).view(windows.output_size)

        def pull(grad: Tensor) -> tuple[Tensor, Tensor]:
            with np.errstate(invalid="ignore"):
                return (
                    torch.from_numpy(reference.maximum_backward(grad.numpy(), chosen, windows)),
                    torch.from_numpy(reference.maximum_backward(grad.abs().numpy(), chosen, windows)),
                )

    answer = Answer(values, indices, None, 0, 1, pull, lambda exact: 0 if exact else readers_of(case), _push(row))
    return replace(answer, push=_gathered(answer, indices, there))


def _torch_maximum(row: Row) -> bool:
    """Never where a dilated window may miss the input: torch's gradient then writes outside its memory."""
    case = row.case
    if not row.variant.dtype.is_floating_point and row.values == "huge" and row.variant.dtype == torch.int64:
        return False  # float64 does not hold them
    if case.family != "sliding":
        return True
    if case.pads_beyond_torch:
        return False
    kernel, dilation = case.spread(case.kernel), case.spread(case.dilation)
    reach_all = all(d <= n or k == 1 for d, n, k in zip(dilation, case.size, kernel))
    return reach_all and all(p <= k // 2 for p, k in zip(case.pads[0], kernel))


# --- heads and several at once ----------------------------------------------------------------------------------------


def _masked(row: Row, content: Tensor) -> Answer:
    given = mask_of(row) if row.case.batch else torch.ones(1, *row.case.size, dtype=torch.bool)
    mask = given.unsqueeze(1).expand_as(content).flatten(2)
    flat, ones = content.flatten(2), (1,) * row.case.rank
    count = mask.sum(2, keepdim=True)
    if row.kind == "avg":
        kept = torch.where(mask, flat, 0.0)
        values, scale = (part.sum(2, keepdim=True) / count.clamp(min=1).double() for part in (kept, kept.abs()))
        indices = None
        share = mask.double() / count.clamp(min=1)
    else:
        # Position by position, as a reader of the definition would: NaN wins, the first of equal ones else.
        rows, chosen = [], []
        for line, use in zip(flat.reshape(-1, flat.shape[2]).tolist(), mask.reshape(-1, flat.shape[2]).tolist()):
            best, at = 0.0, 0
            places = [place for place, used in enumerate(use) if used]
            for number, place in enumerate(places):
                if number == 0 or line[place] > best or math.isnan(line[place]):
                    best, at = line[place], place
            rows.append(best)
            chosen.append(at)
        values = torch.tensor(rows, dtype=content.dtype).view(*flat.shape[:2], 1)
        indices = torch.tensor(chosen).view(*flat.shape[:2], 1)
        scale = None
        share = torch.zeros_like(flat).scatter_(2, indices, (count > 0).to(flat.dtype))
    roundings = 3 if row.values in EXACT_SUMS else flat.shape[2] + 2
    pulled = 3 if row.kind == "avg" else 0  # one output reads an input: nothing is added, and a maximum's gradient not divided

    def pull(grad: Tensor) -> tuple[Tensor, Tensor]:
        with_share = torch.where(share > 0, grad.flatten(2) * share, 0.0).view_as(content)
        return with_share, with_share.abs()

    values = values.view(*content.shape[:2], *ones)
    indices = None if indices is None else indices.view_as(values)
    scale = None if scale is None else scale.view_as(values)
    answer = Answer(values, indices, scale, roundings, flat.shape[2], pull, lambda exact: pulled, _push(row))
    return answer if indices is None else replace(answer, push=_gathered(answer, indices, count.view_as(values) > 0))


def _parts(row: Row, input: Tensor) -> list[tuple[Tensor, bool]]:
    """The results of one kind, and whether each is a maximum."""
    case, rank = row.case, row.case.rank
    if row.kind == "mixed":
        window = (case.kernel, case.stride, case.padding)
        return [(getattr(theirs, f"{kind}_pool{rank}d")(input, *window), kind == "max") for kind in ("max", "avg")]
    if row.kind == "pyramid":
        calls: list[tuple[str, Any]] = [(row.more["mode"], level) for level in row.more["levels"]]
    else:
        calls = [(kind, case.output) for kind in row.more.get("order", ("avg", "max"))]
    return [(getattr(theirs, f"adaptive_{kind}_pool{rank}d")(input, size), kind == "max") for kind, size in calls]


def _joined(row: Row, parts: list[Tensor]) -> Tensor:
    if row.kind == "avgmax":
        return (parts[0] + parts[1]) / 2
    return torch.cat([part.flatten(1) for part in parts] if row.kind == "pyramid" else parts, 1)


def _finer(row: Row) -> int:
    """Roundings beyond the finest level's where coarser levels of a pyramid may be averages of its averages (design.md), whose sums are
    never exact: n - 1 additions of n averages and two for the division, one of them the 4's; by steps it is less, n1 + n2 <= n1 n2.
    Of other numbers the sum of steps is within that of all elements, likewise."""
    levels = row.more.get("levels", (1,))
    finest = max(levels)
    whole = all(n % finest == 0 for n in row.case.size) and all(finest % level == 0 for level in levels)
    averages = row.kind == "pyramid" and row.more["mode"] == "avg" and whole and finest > min(levels)
    return int((finest // min(levels)) ** row.case.rank) if averages else 0


def _combined(row: Row, content: Tensor) -> Answer:
    case, samples = row.case, len(content)
    leaf = torch.cat([content, content]).requires_grad_()
    parts = _parts(row, leaf)
    output = _joined(row, [part for part, _ in parts])
    # Maxima carry no rounding but, in a mean, those of the sum and the division.
    weights = [1.0 if row.kind == "avgmax" or not is_max else 0.0 for _, is_max in parts]
    scale = _joined(row, [part * weight for (part, _), weight in zip(_parts(row, content.abs()), weights)])
    taps = math.prod(case.size) if row.kind != "mixed" else taps_of(case)
    readers = 2 * readers_of(case)
    if row.kind == "pyramid":
        readers = sum(math.prod(-(-level // n) + 1 for n in case.size) for level in row.more["levels"])
    # Halves of numbers below the smallest normal one are off by half a step, a rounding of that one: in a mean each gradient is halved.
    halved = readers * torch.finfo(row.variant.dtype).smallest_normal if row.kind == "avgmax" else 0.0

    def pull(grad: Tensor) -> tuple[Tensor, Tensor]:
        (found,) = torch.autograd.grad(output, leaf, torch.cat([grad, grad.abs()]), retain_graph=True)
        return found[:samples], found[samples:] + halved

    def push(values: str, tangent: Tensor) -> Answer:
        both, pushed = torch.cat([tangent, tangent.abs()]), []
        for part, _ in parts:  # torch's own gradient of its gradient, in float64
            grad = torch.zeros_like(part).requires_grad_()
            (found,) = torch.autograd.grad(part, leaf, grad, retain_graph=True, create_graph=True)
            pushed += torch.autograd.grad(found, grad, both)
        scale = _joined(row, [part[samples:] * weight for part, weight in zip(pushed, weights)])
        return answer(values, _joined(row, [part[:samples] for part in pushed]), scale)

    def answer(values: str, found: Tensor, scale: Tensor) -> Answer:
        # One more than a single average: its sum with the maximum. The average was stored before.
        roundings, stored = (4 + _finer(row) if values in EXACT_SUMS else taps + 3), int(row.kind == "avgmax")
        # Whatever the order of parts, a gradient meets readers - 1 others. Each part is stored, which of all together is one rounding
        # of the scale; so is each sum of two, but that the last is the result's.
        divisor = 2 * taps if row.kind == "avgmax" else taps  # CUDA's kernels halve last
        return Answer(found, None, scale, roundings, divisor, pull, lambda exact: readers + 2, push, stored, len(parts) - 1)

    return answer(row.values, output.detach()[:samples], scale)
