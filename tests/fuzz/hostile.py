# SPDX-License-Identifier: BSD-3-Clause
"""Wrong calls through torch.ops: a right call of an operator with one to three arguments replaced by what does not belong there.

Right ones are of every rank, type, layout and sizing (good_calls.py), drawn with the rest.

Each must end in an exception that names an argument it complains of (or the operator, where torch refuses before we are asked), or
in the answer that the same content gives as a plain tensor, of the sizes that the meta device promises. Memory is limited, so
that a size taken on trust shows as such.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from fuzz.named import judge
from good_calls import ALL, DTYPES, Base, calls, operator_of, takes

MEMORY = 8 << 30  # bytes a worker may map beyond what it starts with
INTS = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 100, -1, -2, -7, 2**31 - 1, 2**31, 2**31 + 1, 2**32, 2**32 + 3, 3_037_000_500, 2**40, 2**62, 2**63 - 1,
    -(2**31), -(2**63), 2**63,
)  # fmt: skip
NO_INTS = (None, "a", "", 1.5, math.nan, True, [], [[1]], {}, torch.float32, ..., b"3", 1j, (3,), 10**30)
REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, OverflowError)


class Subclass(Tensor):
    """A tensor of another class that changes nothing."""


def _sparse(tensor: Tensor) -> Tensor:
    return tensor.to_sparse()


def _csr(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).to_sparse_csr() if tensor.dim() > 1 else tensor.view(1, -1).to_sparse_csr()


def _quantised(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor.float(), 0.5, 3, torch.quint8)


def _inference(tensor: Tensor) -> Tensor:
    with torch.inference_mode():
        return tensor.clone()


def _resized(tensor: Tensor) -> Tensor:
    """Without memory, though it has sizes."""
    empty = tensor.clone()
    empty.untyped_storage().resize_(0)
    return empty


def _to_shape(shape: Callable[[list[int]], list[int]]) -> Callable[[Tensor], Tensor]:
    return lambda tensor: torch.zeros(shape(list(tensor.shape)), dtype=tensor.dtype)


TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "None": lambda tensor: None,
    "number": lambda tensor: 3,
    "list": lambda tensor: [1.0, 2.0],
    "text": lambda tensor: "a",
    "array": lambda tensor: tensor.numpy(),
    "meta": lambda tensor: tensor.to("meta"),
    "sparse": _sparse,
    "csr": _csr,
    "mkldnn": lambda tensor: tensor.float().to_mkldnn(),
    "quantised": _quantised,
    "nested": lambda tensor: torch.nested.nested_tensor([tensor.reshape(-1)[:2], tensor.reshape(-1)[:3]]),
    "scalar": lambda tensor: torch.zeros((), dtype=tensor.dtype),
    "1-D": lambda tensor: torch.zeros(4, dtype=tensor.dtype),
    "one axis more": lambda tensor: tensor.unsqueeze(0),
    "one axis less": lambda tensor: tensor[0],
    "spatial": lambda tensor: tensor[0, 0],
    "no batch": lambda tensor: tensor[:0],
    "no channels": lambda tensor: tensor[:, :0],
    "no width": lambda tensor: tensor[..., :0],
    "batch + 1": _to_shape(lambda shape: [shape[0] + 1, *shape[1:]]),
    "channels + 1": _to_shape(lambda shape: [*shape[:1], shape[1] + 1, *shape[2:]]),
    "width + 1": _to_shape(lambda shape: [*shape[:-1], shape[-1] + 1]),
    "width - 1": lambda tensor: tensor[..., :-1],
    "large": _to_shape(lambda shape: [*shape[:2], *(70 for _ in shape[2:])]),
    "huge batch": lambda tensor: tensor[:1].expand(2**40, *tensor.shape[1:]),
    "huge channels": lambda tensor: tensor[:, :1].expand(tensor.shape[0], 2**40, *tensor.shape[2:]),
    "huge plane": lambda tensor: tensor[..., :1, :1].expand(*tensor.shape[:-2], 2**31, 2**31),
    "without memory": _resized,
    "expanded": lambda tensor: tensor[:1].expand(tensor.shape),
    "overlapping": lambda tensor: tensor.as_strided(tensor.shape, (1,) * tensor.dim()),
    "flipped": lambda tensor: tensor.transpose(-1, -2).contiguous().transpose(-1, -2),
    "negative": lambda tensor: torch._neg_view(tensor) if tensor.is_floating_point() else tensor,
    "conjugate": lambda tensor: torch.complex(tensor.float(), tensor.float()).conj(),
    "subclass": lambda tensor: tensor.as_subclass(Subclass),
    "parameter": lambda tensor: torch.nn.Parameter(tensor.clone(), requires_grad=False),
    "inference": _inference,
    "with gradient": lambda tensor: tensor.clone().requires_grad_() if tensor.is_floating_point() else tensor,
    "not a leaf": lambda tensor: tensor.clone().requires_grad_() * 2 if tensor.is_floating_point() else tensor,
    "out of range": lambda tensor: torch.full_like(tensor, 250),
    "below range": lambda tensor: torch.full_like(tensor, -1, dtype=torch.int64 if not tensor.is_floating_point() else tensor.dtype),
    "far out of range": lambda tensor: torch.full_like(tensor, 2**62, dtype=torch.int64 if not tensor.is_floating_point() else tensor.dtype),
    **{
        str(dtype): lambda tensor, dtype=dtype: tensor.to(dtype)
        for dtype in (
            torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64, torch.float16,
            torch.bfloat16, torch.float64, torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2,
        )
    },
}  # fmt: skip
OPERATORS = list(ALL)
DTYPES_OF = {operator: [dtype for dtype in DTYPES if takes(operator, dtype)] for operator in OPERATORS}


@dataclass(frozen=True)
class Hostile:
    """`spoiled`: of each argument, a name in TENSORS, or the value itself."""

    operator: str  # a key of ALL
    base: Base
    spoiled: dict[str, Any]

    @property
    def good(self) -> dict[str, Any]:
        return calls(self.base)[self.operator]


def _draw_value(random: Random, good: Any) -> Any:
    if isinstance(good, Tensor):
        return list(TENSORS)[random.randrange(len(TENSORS))]
    if random.randrange(6) == 0:
        return NO_INTS[random.randrange(len(NO_INTS))]
    if isinstance(good, list) and random.randrange(8):
        length = len(good) if random.randrange(3) else random.randrange(9)
        kept = [good[place % len(good)] if good else 1 for place in range(length)]
        common = INTS[random.randrange(len(INTS))] if random.randrange(4) == 0 else None  # whose product may be no number of 64 bits
        for place in range(length):
            if random.randrange(2):
                kept[place] = INTS[random.randrange(len(INTS))] if common is None else common
        return kept
    return INTS[random.randrange(len(INTS))]


def make(seed: int, number: int) -> Hostile:
    random = Random((seed << 40) + number)
    operator = OPERATORS[random.randrange(len(OPERATORS))]
    dtypes = DTYPES_OF[operator]
    base = Base(1 + random.randrange(3), dtypes[random.randrange(len(dtypes))], random.randrange(2) == 1, random.randrange(4))
    good = calls(base)[operator]
    arguments = list(good)
    count = (1, 1, 1, 2, 2, 3)[random.randrange(6)]
    chosen = {arguments[random.randrange(len(arguments))] for _ in range(count)}
    return Hostile(operator, base, {name: _draw_value(random, good[name]) for name in arguments if name in chosen})


_limited = False


def limit_memory() -> None:
    global _limited
    if not _limited:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
        _limited = True


def _parts(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _plain(value: Any) -> Any:
    """The same content in ordinary memory."""
    if not isinstance(value, Tensor):
        return value
    plain = value.detach().as_subclass(Tensor)
    return torch.empty(plain.shape, dtype=plain.dtype).copy_(plain.resolve_neg())


def check(hostile: Hostile) -> None:
    limit_memory()
    good = hostile.good
    call = dict(good)
    for name, value in hostile.spoiled.items():
        if isinstance(good[name], Tensor):
            try:
                call[name] = TENSORS[value](good[name])
            except REFUSALS:  # torch has no such tensor
                return
        else:
            call[name] = value
    operator = operator_of(hostile.operator)
    try:
        result = _parts(operator(**call))
    except REFUSALS as error:
        assert judge(str(error), hostile.spoiled, good), f"an error that does not name what is wrong: {type(error).__name__}: {str(error)[:300]}"
        return
    except MemoryError:
        return
    _check_result(hostile, operator, call, result)


def _check_result(hostile: Hostile, operator: Any, call: dict[str, Any], result: tuple[Tensor, ...]) -> None:
    tensors = [value for value in call.values() if isinstance(value, Tensor)]
    on_meta = [tensor.is_meta for tensor in tensors]
    if any(on_meta):
        assert all(on_meta) and all(part.is_meta for part in result), "a result of memory that is not there"
        return
    if any(value == "without memory" for value in hostile.spoiled.values() if isinstance(value, str)):
        raise AssertionError("accepted a tensor without memory")
    shapes = operator(**{name: value.to("meta") if isinstance(value, Tensor) else value for name, value in call.items()})
    for part, shape in zip(result, _parts(shapes), strict=True):
        assert part.shape == shape.shape and part.dtype == shape.dtype, f"{part.shape} {part.dtype}, on meta {shape.shape} {shape.dtype}"
    if sum(part.nbytes for part in result) > MEMORY // 4:  # no room for another
        return
    leaves = [tensor for tensor in tensors if tensor.requires_grad]
    if leaves and result[0].requires_grad and result[0].numel() > 0:  # of an empty one the gradient is refused, as torch's
        assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(result[0].sum(), leaves))
    if any(tensor.numel() > 2**32 for tensor in tensors):  # expanded: an answer of no elements, and no copy to compare it with
        assert all(part.numel() == 0 for part in result)
        return
    expected = _parts(operator(**{name: _plain(value) for name, value in call.items()}))
    for part, plain in zip(result, expected, strict=True):
        assert type(part) is type(result[0]) and torch.equal(part.detach().as_subclass(Tensor), plain), "another answer than a plain tensor's"
