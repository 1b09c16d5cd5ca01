# SPDX-License-Identifier: BSD-3-Clause
"""Every operator once or more, as data, and what is measured of each: agreement, time and saved bytes, ours and torch's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as torch_functional

from torch_pooling import functional
from torch_pooling._demo.agreement import Pool, compare
from torch_pooling._demo.stopwatch import alternate, bytes_saved, medians


@dataclass(frozen=True)
class Operator:
    function: str  # in torch_pooling.functional
    arguments: tuple[int, ...]  # positional, after the input
    input: str  # a name that photographs.inputs() gives

    @property
    def title(self) -> str:
        return f"{self.function}({', '.join(['x', *map(str, self.arguments)])})"

    @property
    def selects(self) -> bool:
        return "max" in self.function

    def ours(self) -> Pool:
        function = getattr(functional, self.function)
        return lambda x: function(x, *self.arguments)

    def theirs(self) -> Pool:
        """torch's own; it has no global pooling, whose place an adaptive one with one output takes."""
        if not self.function.startswith("global"):
            function = getattr(torch_functional, self.function)
            return lambda x: function(x, *self.arguments)
        kind = "max" if self.selects else "avg"
        return lambda x: getattr(torch_functional, f"adaptive_{kind}_pool{x.dim() - 2}d")(x, 1)


OPERATORS = (
    Operator("max_pool2d", (2,), "features"),
    Operator("max_pool2d", (3, 2, 1), "features"),
    Operator("max_pool2d", (3, 1, 1), "features"),
    Operator("max_pool2d", (3, 2, 1), "features NHWC"),
    Operator("max_pool2d", (8,), "photographs"),
    Operator("avg_pool2d", (2,), "features"),
    Operator("avg_pool2d", (3, 2, 1), "features"),
    Operator("avg_pool2d", (3, 1, 1), "features"),
    Operator("avg_pool2d", (3, 2, 1), "features NHWC"),
    Operator("avg_pool2d", (8,), "photographs"),
    Operator("adaptive_max_pool2d", (7,), "features"),
    Operator("adaptive_avg_pool2d", (7,), "features"),
    Operator("global_max_pool", (), "features"),
    Operator("global_avg_pool", (), "features"),
    Operator("max_pool1d", (4, 2), "lines"),
    Operator("avg_pool1d", (4, 2), "lines"),
    Operator("adaptive_max_pool1d", (50,), "lines"),
    Operator("adaptive_avg_pool1d", (50,), "lines"),
    Operator("max_pool3d", (2,), "pan"),
    Operator("avg_pool3d", (2,), "pan"),
    Operator("adaptive_max_pool3d", (4,), "pan"),
    Operator("adaptive_avg_pool3d", (4,), "pan"),
)


@dataclass(frozen=True)
class Both:
    torch: float
    ours: float

    @property
    def ratio(self) -> float:
        """How many of ours go into one of torch's: above 1 is in our favour."""
        return self.torch / self.ours if self.ours else float("inf")


@dataclass(frozen=True)
class Measured:
    operator: Operator
    wrong: str | None
    forward: Both  # seconds, graph included as in training
    backward: Both  # seconds
    saved: Both  # bytes


def measure(operator: Operator, x: Tensor, *, seconds: float) -> Measured:
    """One row of the table; `seconds` is spent on the forward and again on the backward."""
    ours, theirs = operator.ours(), operator.theirs()
    wrong = compare(ours, theirs, x, selects=operator.selects)
    leaf = x.detach().clone().requires_grad_()
    saved = Both(bytes_saved(lambda: theirs(leaf)), bytes_saved(lambda: ours(leaf)))
    forward = medians(alternate({"torch": lambda: theirs(leaf), "ours": lambda: ours(leaf)}, seconds=seconds))

    outputs = {"torch": theirs(leaf), "ours": ours(leaf)}
    slopes = {name: torch.randn_like(output.detach()) for name, output in outputs.items()}

    def backward(name: str) -> object:
        return torch.autograd.grad(outputs[name], leaf, slopes[name], retain_graph=True)

    back = medians(alternate({"torch": lambda: backward("torch"), "ours": lambda: backward("ours")}, seconds=seconds))
    return Measured(operator, wrong, Both(**forward), Both(**back), saved)
