"""torch.fx.symbolic_trace of the functions: what a call is given must be in the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

import torch_pooling
from torch_pooling import functional

LAST: dict[str, Callable[[Tensor], Any]] = {
    "max_pool2d": lambda x: functional.max_pool2d(x, 3, 1, 1, data_format="channels_last"),
    "max_pool2d with indices": lambda x: functional.max_pool2d(x, 3, 1, 1, return_indices=True, data_format="channels_last"),
    "avg_pool2d": lambda x: functional.avg_pool2d(x, 3, 1, 1, dilation=1, data_format="channels_last"),
    "sum_pool2d": lambda x: functional.sum_pool2d(x, 3, 1, 1, data_format="channels_last"),
    "adaptive_max_pool2d": lambda x: functional.adaptive_max_pool2d(x, 4, data_format="channels_last"),
    "adaptive_avg_pool2d": lambda x: functional.adaptive_avg_pool2d(x, 4, data_format="channels_last"),
    "global_avg_pool": lambda x: functional.global_avg_pool(x, data_format="channels_last"),
    "global_max_pool": lambda x: functional.global_max_pool(x, data_format="channels_last"),
    "concat_pool": lambda x: functional.concat_pool(x, 4, data_format="channels_last"),
}


@pytest.mark.parametrize("name", LAST)
def test_fx_keeps_the_data_format(name: str) -> None:
    """All axes of one size, so that only values tell one format from the other."""
    input = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    traced = torch.fx.symbolic_trace(lambda x: LAST[name](x))
    found, expected = (pytree.tree_leaves(call(input)) for call in (traced, LAST[name]))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("pool", [functional.global_avg_pool, functional.global_max_pool])
def test_fx_traces_masks(pool: Callable[..., Tensor]) -> None:
    input, mask = torch.randn(2, 3, 4, 5), torch.arange(40).view(2, 4, 5) % 3 > 0
    input[..., 0, 0], mask[:, 0, 0] = 9.0, False  # which a maximum without the mask is
    traced = torch.fx.symbolic_trace(lambda x, m: pool(x, mask=m))
    assert torch.equal(traced(input, mask), pool(input, mask=mask))
    assert not torch.equal(traced(input, mask), pool(input))


class Projected(torch_pooling.MaxPool2d):
    """A layer of a user's, with weights."""

    def __init__(self) -> None:
        super().__init__(2)
        self.project = nn.Conv2d(3, 5, 1)

    def forward(self, input: Tensor) -> Tensor:
        result: Tensor = self.project(super().forward(input))
        return result


def test_fx_looks_into_classes_of_others() -> None:
    """As into theirs of torch.nn's pools; ours are leaves."""
    traced = torch.fx.symbolic_trace(nn.Sequential(Projected(), torch_pooling.AvgPool2d(2)))
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["0.project", "1"]
    input = torch.randn(1, 3, 8, 8)
    assert traced(input).shape == (1, 5, 2, 2)
