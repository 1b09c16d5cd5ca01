"""What the batteries share: memory arrangements of a tensor, answers of the reference, comparison.

Inputs and gradients are multiples of 1/8 with at most 7 bits: exact in every floating type, full of ties, and
their sums are exact too, so one float64 answer serves all types and hardly any tolerance is left to give.
"""
from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

import reference
from cases import CASES, Case

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
VIEWS = ("contiguous", "sliced", "stepped", "transposed", "expanded", "shifted")
GRAD_VIEWS = ("contiguous", "sliced", "other_layout", "ones", "transposed", "shifted", "stepped")
LAYOUTS = ("channels_first", "channels_last")


@dataclass(frozen=True)
class Variant:
    """How a case's input and grad_output are presented. `constant`: equal along one axis (stride 0)."""

    dtype: torch.dtype
    layout: str
    view: str
    grad_view: str
    batched: bool

    @property
    def constant(self) -> str:
        if self.view == "expanded":
            return "batch" if self.batched else "channel"
        return {"expanded_channels": "channel", "expanded_width": "width"}.get(self.view, "")

    @property
    def ones(self) -> bool:
        return self.grad_view == "ones"


def variants(case: Case, dtypes: tuple[torch.dtype, ...]) -> list[Variant]:
    """Every type in both layouts; views, gradient views and unbatched inputs take turns through the table."""
    number = _NUMBER[case.name]
    result = []
    for i, dtype in enumerate(dtypes):
        for j, layout in enumerate(LAYOUTS):
            turn = number + 3 * i + 7 * j
            batched = case.family == "global" or turn // 6 % 3 > 0
            result.append(Variant(dtype, layout, VIEWS[turn % 6], GRAD_VIEWS[turn % 7], batched))
    return result


_NUMBER = {case.name: number for number, case in enumerate(CASES)}


def arrange(content: Tensor, rank: int, layout: str, view: str = "contiguous") -> Tensor:
    """A tensor equal to `content` ([N, C, *spatial] or [C, *spatial]) that lies in memory as asked, among poison.

    "expanded" has stride 0 along the first axis, "expanded_channels" and "expanded_width" along others: the content must be constant there.
    """
    if view.startswith("expanded"):
        axis = {"expanded": 0, "expanded_channels": content.dim() - rank - 1, "expanded_width": content.dim() - 1}[view]
        return arrange(content.narrow(axis, 0, min(1, content.shape[axis])), rank, layout).expand(content.shape)
    if view == "ones":
        return torch.ones((), dtype=content.dtype).expand(content.shape)
    dims = content.dim()
    order = list(range(dims))
    if layout == "channels_last":
        order.append(order.pop(dims - rank - 1))
    if view == "transposed":  # two axes change places in memory: dense in neither layout
        one, other = order.index(dims - rank if rank > 1 else 0), order.index(dims - rank + 1 if rank > 1 else 1)
        order[one], order[other] = order[other], order[one]
    memory = content.permute(order)
    # A value that shows in every answer that reads it.
    poison = float("nan") if content.dtype.is_floating_point else torch.iinfo(content.dtype).max
    if view == "sliced":
        buffer = torch.full([size + 3 for size in memory.shape], poison, dtype=content.dtype)
        place = buffer[tuple(slice(1, 1 + size) for size in memory.shape)]
    elif view == "stepped":
        buffer = torch.full([*memory.shape[:-1], 2 * memory.shape[-1] + 1], poison, dtype=content.dtype)
        place = buffer[..., 1::2]
    elif view == "shifted":  # dense, but one element after an aligned address
        buffer = torch.full([memory.numel() + 2], poison, dtype=content.dtype)
        place = buffer[1:-1].view(memory.shape)
    else:
        place = torch.empty(memory.shape, dtype=content.dtype)
    return place.copy_(memory).permute([order.index(axis) for axis in range(dims)])


def _random(case: Case, what: str, size: tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng(zlib.crc32(f"{case.name}/{what}".encode()))
    return random.integers(-63, 64, (case.batch, case.channels, *size))


def _held(content: np.ndarray, constant: str) -> np.ndarray:
    if constant == "batch":
        return np.broadcast_to(content[:1], content.shape)
    return np.broadcast_to(content[:1, :1], content.shape) if constant == "channel" else content


@lru_cache(maxsize=32)
def input_content(case: Case, constant: str) -> np.ndarray:
    """Integers; floating inputs are an eighth of them."""
    return _held(_random(case, "input", case.size), constant)


@lru_cache(maxsize=32)
def grad_content(case: Case, ones: bool) -> np.ndarray:
    content = _random(case, "grad_output", case.windows.output_size)
    return np.full_like(content, 8) if ones else content


@lru_cache(maxsize=32)
def max_answer(case: Case, constant: str) -> tuple[np.ndarray, np.ndarray]:
    """Maxima (an eighth of the content's) and indices."""
    return reference.maximum(input_content(case, constant) / 8, case.windows)


@lru_cache(maxsize=32)
def max_grad_answer(case: Case, constant: str, ones: bool) -> np.ndarray:
    return reference.maximum_backward(grad_content(case, ones) / 8, max_answer(case, constant)[1], case.windows)


@lru_cache(maxsize=32)
def avg_answer(case: Case, constant: str) -> tuple[np.ndarray, np.ndarray]:
    """Averages, and averages of absolute values: the scale that rounding errors are measured by."""
    content = input_content(case, constant) / 8
    return (
        reference.average(content, case.windows, case.divisors),
        np.abs(reference.average(np.abs(content), case.windows, case.divisors)),
    )


@lru_cache(maxsize=32)
def avg_int_answer(case: Case, constant: str) -> np.ndarray:
    return reference.average(input_content(case, constant), case.windows, case.divisors)


@lru_cache(maxsize=32)
def avg_grad_answer(case: Case, ones: bool) -> tuple[np.ndarray, np.ndarray]:
    """Gradients, and their scale. Quotients do not add up exactly, so the scale grows with their number."""
    grad, divisors = grad_content(case, ones) / 8, case.divisors
    scale = reference.average_backward(np.abs(grad), case.windows, [abs(divisor) for divisor in divisors])
    terms = reference.average_backward(np.ones_like(grad), case.windows, [1] * len(divisors))
    return reference.average_backward(grad, case.windows, divisors), scale * (1 + terms / 32)


def make_input(case: Case, variant: Variant) -> Tensor:
    return present(input_content(case, variant.constant), case, variant, variant.view)


def make_grad(case: Case, variant: Variant) -> Tensor:
    view, layout = variant.grad_view, variant.layout
    if view == "other_layout":
        view, layout = "contiguous", LAYOUTS[layout == LAYOUTS[0]]
    return present(grad_content(case, variant.ones), case, variant, view, layout)


def present(
    content: np.ndarray, case: Case, variant: Variant, view: str = "contiguous", layout: str | None = None
) -> Tensor:
    """Integers [N, C, *spatial] as the variant's tensor."""
    tensor = torch.tensor(content if variant.batched else content[0])
    if variant.dtype.is_floating_point:
        tensor = tensor / 8
    elif variant.dtype == torch.uint8:
        tensor = tensor + 64
    return arrange(tensor.to(variant.dtype), case.rank, layout or variant.layout, view)


def expect(answer: np.ndarray, variant: Variant) -> Tensor:
    """The reference's answer, in its own type, without the batch axis where the input has none."""
    return present_array(answer if variant.batched else answer[0])


def present_array(array: np.ndarray) -> Tensor:
    """As a tensor of its own type, on the device of the run."""
    return torch.from_numpy(array).to(torch.get_default_device())


def assert_exact(actual: Tensor, expected: Tensor, what: object) -> None:
    """Equal after rounding the expected value to the actual type once; NaN equals NaN, 0 equals -0."""
    assert actual.shape == expected.shape, (what, actual.shape, expected.shape)
    rounded = expected.to(actual.dtype)
    same = actual == rounded
    if actual.dtype.is_floating_point:
        same |= actual.isnan() & rounded.isnan()
    if not bool(same.all()):
        wrong = (~same).nonzero()
        at = tuple(wrong[0].tolist())
        raise AssertionError(
            f"{what}: {len(wrong)} of {actual.numel()} differ; at {at}: {actual[at].item()}, expected {rounded[at].item()}"
        )


def tolerance(expected: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """4 roundings of the accumulation type on `scale`, and for 16-bit types one final rounding to nearest."""
    if dtype in (torch.float32, torch.float64):
        return 4 * torch.finfo(dtype).eps * scale
    info = torch.finfo(dtype)
    ulp = info.eps * torch.exp2(expected.abs().clamp(min=info.smallest_normal).log2().floor())
    return ulp / 2 + 4 * torch.finfo(torch.float32).eps * scale


def assert_close(actual: Tensor, expected: Tensor, scale: Tensor, what: object) -> None:
    """An average: within `tolerance` of the float64 answer."""
    assert actual.shape == expected.shape, (what, actual.shape, expected.shape)
    error = (actual.double() - expected).abs()
    wrong = ~(error <= tolerance(expected, scale, actual.dtype))
    if bool(wrong.any()):
        at = tuple(wrong.nonzero()[0].tolist())
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {actual.numel()} differ; at {at}: {actual[at].item()!r}, "
            f"expected {expected[at].item()!r}"
        )


def layouts_of(tensor: Tensor, rank: int) -> set[str]:
    """The layouts in which the tensor is dense: both, where sizes of 1 make them the same."""
    dense = {"channels_first"} if tensor.is_contiguous() else set()
    if tensor.movedim(tensor.dim() - rank - 1, -1).is_contiguous():
        dense.add("channels_last")
    return dense


def assert_layout(output: Tensor, input: Tensor, case: Case, variant: Variant, what: object) -> None:
    """The output (or grad_input) is dense, and in the input's layout where torch or we recognise one.

    We do in every dense input; torch also in 4-D and 5-D ones that are not dense, by the order of their strides.
    """
    found = layouts_of(output, case.rank)
    assert found, (what, "is dense in no layout", output.shape, output.stride())
    wanted = layouts_of(input, case.rank) if variant.view in ("contiguous", "shifted") else set()
    if variant.view in ("sliced", "stepped") and variant.batched and case.rank > 1:
        wanted = {variant.layout} if case.channels > 1 and max(case.size) > 1 else set()
    if wanted:
        assert found & wanted, (what, "has another layout than its input", output.stride(), input.stride())


def describe(case: Case, kind: str, variant: Variant, isa: str) -> str:
    batch = "batched" if variant.batched else "unbatched"
    dtype = str(variant.dtype).removeprefix("torch.")
    where = f"{variant.layout} {variant.view} {batch} grad:{variant.grad_view}"
    return f"{kind} {case.name} N={case.batch} C={case.channels} {dtype} {where} on {isa}"


