"""What broke elsewhere about padding that differs from end to end: divisors, and copies of the input."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as torch_functional
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from torch_pooling import functional


@pytest.mark.parametrize("pads", [(0, 3), (3, 0), (2, 6), (6, 1)])
def test_ort24681_paddle54404_burn5450_pads_at_either_end_count(pads: tuple[int, int], isa: str) -> None:
    """k7 s3: divided by 7 where padding counts, the end's too; by what lies inside where it does not."""
    input = torch.arange(1.0, 33).view(1, 2, 16)
    padded = torch_functional.pad(input, pads)
    inside = torch_functional.pad(torch.ones_like(input), pads)
    sums, counts = (torch_functional.avg_pool1d(part, 7, 3) * 7 for part in (padded, inside))
    found = functional.avg_pool1d(input, 7, 3, (pads,))
    torch.testing.assert_close(found, sums / 7)
    torch.testing.assert_close(functional.avg_pool1d(input, 7, 3, (pads,), count_include_pad=False), sums / counts)
    image = input.view(1, 1, 2, 16).expand(1, 3, 2, 16)
    top = functional.avg_pool2d(image, (2, 7), (1, 3), ((1, 0), pads), count_include_pad=False)  # top and bottom differ, too
    expected = torch_functional.avg_pool2d(torch_functional.pad(image, (*pads, 1, 0)), (2, 7), (1, 3))
    count = torch_functional.avg_pool2d(torch_functional.pad(torch.ones_like(image), (*pads, 1, 0)), (2, 7), (1, 3))
    torch.testing.assert_close(top, expected / count)


class Allocations(TorchDispatchMode):
    """The largest tensor that any operator made."""

    def __init__(self) -> None:
        super().__init__()
        self.most, self.names = 0, set[str]()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        self.names.add(str(function))
        for part in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(part, Tensor):
                self.most = max(self.most, part.numel())
        return result


@pytest.mark.parametrize("padding", ["same", "same_lower", ((0, 1), (0, 1))], ids=str)
@pytest.mark.parametrize("kind", ["max", "avg", "sum"])
def test_keras18657_pt71362_padding_makes_no_copy(kind: str, padding: object) -> None:
    """No tensor as large as the input is made, by no operator that pads."""
    input = torch.randn(2, 8, 256, 256)
    pool = getattr(functional, f"{kind}_pool2d")
    with Allocations() as seen, torch.no_grad():
        output = pool(input, 2, 2, padding)
    assert seen.most <= output.numel() <= input.numel() // 3
    assert not [name for name in seen.names if "pad." in name or "constant_pad" in name]


def test_cunn106_a_maximum_keeps_one_byte_for_an_output() -> None:
    """And neither its input nor its output."""
    saved: list[Tensor] = []
    input = torch.randn(1, 4, 32, 32, requires_grad=True)

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = functional.max_pool2d(input, 3, 2, "same")
    assert [(tensor.dtype, tensor.numel()) for tensor in saved] == [(torch.uint8, output.numel())]
