# SPDX-License-Identifier: BSD-3-Clause
"""Whether an error names what was wrong with a call: an argument that was spoiled, or one that it is compared with.

Where two arguments do not fit, an error may name either; where one is wrong by itself (a negative size, a type that is not pooled), only
that one. Which are compared, and by which other names users know them, is data below, and so are the words of torch's own that are
let pass, each only where a value it can be about was put in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

OURS = re.compile(r"(adaptive_)?(max|avg|sum)_pool|(combined|concat|avgmax|mixed|spatial_pyramid|global_avg|global_max)_pool")
# What an error complains of, behind the operator's name.
SUBJECT = re.compile(
    r"expected (\w+) (?:to|\[N)|not implemented for (\w+) of type|the (window) is too large|\(begin, end\) (padding)|elements of (output_size)"
    r"|(output sizes) \[|(parts) must|the gradient of (an empty output)|(a mean) is|spatial sizes of (mask)|(\w+) (?:must|has|of sizes|\[?\d|\[)"
)  # fmt: skip
# Arguments that a subject stands for: users know the sizes of combined pools as kernel_size or output_size.
STANDS_FOR: dict[str, tuple[str, ...]] = {
    "kernel_size": ("kernel_size", "sizes"),
    "output_size": ("output_size", "sizes"),
    "output sizes": ("sizes",),
    "parts": ("sizes",),
    "an empty output": ("sizes",),
    "a mean": ("kinds",),
    "window": ("kernel_size", "stride", "padding", "dilation", "sizes", "input_size"),  # all of which are told
}
_RESULT = ("grad_output", "offsets")  # in the shape of the output: compared with whatever decides that
_COUNTS = ("kernel_size", "stride", "padding", "dilation", "input_size", "sizes")  # lists whose length the rank says
# Of an argument that is right by itself, those that it may be found not to fit.
COMPARED: dict[str, tuple[str, ...]] = {
    "input": ("offsets", "mask", "kernel_size", "sizes", "output_size", "padding"),
    "grad_output": ("offsets", "mask", "input_size"),
    "mask": ("input", "grad_output"),
    "offsets": ("grad_output", "input", "input_size"),
    "input_size": (*_RESULT, "kernel_size", "sizes"),
    "output_size": ("input", "offsets"),
    "rank": ("input", *_RESULT, *_COUNTS),
    "kernel_size": (*_RESULT, "padding", "input"),
    "stride": (*_RESULT, "sizes", "padding"),  # whether it is empty, too
    "padding": (*_RESULT, "kernel_size", "input"),
    "dilation": (*_RESULT, "padding", "input"),
    "sizing": (*_RESULT, "padding", "kernel_size"),
    "sizes": (*_RESULT, "padding", "input"),
    "form": (*_RESULT, "sizes", "kinds"),
    "kinds": (*_RESULT, "sizes"),
}
# Where a comparison comes before a look at the value itself: a stride, whatever it is, says that `sizes` are of one window; of these, one axis
# is held against its padding before the next is looked at.
COMPARED_FIRST: dict[str, tuple[str, ...]] = {
    "stride": ("sizes",), "sizes": ("padding",), "kernel_size": ("padding",), "padding": ("kernel_size",),
}  # fmt: skip
# Errors whose words mislead, though they name something, and the arguments that they are about: to be removed from here when they are mended.
MISLEADING: dict[str, tuple[str, ...]] = {
    # These operators have no output_size: it is read off the tensor.
    r"adaptive_\w+_(backward|indices): output_size": (*_RESULT, "input_size"),
}

LEAST = {"kernel_size": 1, "stride": 1, "dilation": 1, "input_size": 1, "padding": 0, "output_size": 0, "sizes": 0}
RANGES = {"rank": (1, 3), "sizing": (0, 3), "form": (0, 2), "kinds": (0, 1)}
NEVER_POOLED = ("conjugate", "torch.complex64", "torch.complex128", "torch.float8_e4m3fn", "torch.float8_e5m2", "torch.uint32", "torch.uint64")


def _ints(value: Any) -> list[int]:
    return [each for each in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(each, int)]


def wrong_by_itself(name: str, value: Any, good: dict[str, Any]) -> bool:
    """Whatever the other arguments are. Only what is sure to be so."""
    if isinstance(good[name], Tensor):
        return value in NEVER_POOLED
    if name in ("output_size", "input_size") and isinstance(value, list) and len(value) != len(good[name]):  # wrong for a tensor first
        return False
    least, most = RANGES.get(name, (LEAST.get(name, -(2**63)), 2**63 - 1))
    return any(not least <= each <= most for each in _ints(value))


def _has(*kinds: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in kinds


def _large(value: Any) -> bool:
    return (isinstance(value, str) and value.startswith("huge")) or any(each >= 2**31 - 1 for each in _ints(value))


# What torch says before we are asked, or where it makes a result: no such backend, no such integer, no memory.
TORCHS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "backend": (r"Could not run 'torch_pooling::", _has("sparse", "csr", "mkldnn", "quantised", "nested")),
    "nested": (r"Internal error: NestedTensorImpl doesn't support sizes", _has("nested")),
    "sparse": (r"Sparse CSR tensors do not have", _has("csr")),
    "no tensor": (r"There were no tensor arguments to this function", _has("None")),
    "inference": (r"Inference tensors cannot be saved for backward", _has("inference")),
    # Integers from there on are no SymInt.
    "integer": (r".*SymIntArrayRef expected to contain only concrete|isIntList\(\) INTERNAL", lambda value: any(n < -(2**62) for n in _ints(value))),
    "memory": (r".*can't allocate memory", _large),
}


def judge(message: str, spoiled: dict[str, Any], good: dict[str, Any]) -> str | None:
    """In which way it names what was wrong; None where it does not."""
    if not OURS.match(message):
        schema = re.match(r"torch_pooling::\w+\(\) Expected a value of type '[^']+' for argument '(\w+)'", message)
        if schema:
            return "torch's, the argument" if schema[1] in spoiled else None
        for kind, (words, fits) in TORCHS.items():
            if re.match(words, message):
                return f"torch's, {kind}" if any(map(fits, spoiled.values())) else None
        return None
    found = SUBJECT.match(message.partition(": ")[2])
    if found is None:
        return None
    subject = str(found[found.lastindex or 0])
    if any(re.match(words, message) and not spoiled.keys().isdisjoint(about) for words, about in MISLEADING.items()):
        return "misleading"
    named = {name for name in STANDS_FOR.get(subject, (subject,)) if name in good}
    if not named.isdisjoint(spoiled):
        return "the argument"
    for name, value in spoiled.items():
        compared = (COMPARED_FIRST if wrong_by_itself(name, value, good) else COMPARED).get(name, ())
        if not named.isdisjoint(compared):
            return "one it is compared with"
    return None
