"""Large results ask for huge pages: the system's list of mappings says so (VmFlags: hg), and says no where that is switched off."""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from emulated import EMULATED
from torch_pooling import _library, functional

HAS_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage").exists() and Path("/proc/self/smaps").exists()
pytestmark = [
    pytest.mark.skipif(not HAS_HUGE_PAGES, reason="the system has no transparent huge pages"),
    pytest.mark.skipif(EMULATED, reason="about the results of the CPU's own kernels"),
]


def asks_for_huge_pages(tensor: Tensor) -> bool:
    place = tensor.data_ptr() + tensor.nbytes // 2
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        begin, dash, rest = line.partition(" ")[0].partition("-")
        if dash and all(digit in "0123456789abcdef" for digit in begin):
            inside = int(begin, 16) <= place < int(rest, 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    raise AssertionError("no mapping holds the tensor")


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    _library.use_huge_pages(True)
    _library.store_past_caches_from(None)


@pytest.mark.parametrize("channels_last", [False, True])
def test_outputs_offsets_and_gradients(channels_last: bool, restored: None) -> None:
    x = torch.randn(4, 64, 512, 512)  # 256 MiB: the C library maps and unmaps each result of an eighth of it
    x = x.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format).requires_grad_()
    for allowed in (True, False):
        _library.use_huge_pages(allowed)
        output = functional.max_pool2d(x, 2)
        (grad,) = torch.autograd.grad(output.sum(), x)
        assert asks_for_huge_pages(output) == asks_for_huge_pages(grad) == allowed
        assert grad.sum() == output.numel()
        del output, grad


@pytest.mark.parametrize("size", [256, 192], ids=["new", "used"])
def test_every_way_of_storing(size: int, restored: None) -> None:
    """Results of 32 MiB are new memory to each call and stored as usual, those of 18 MiB soon are not, and go either way."""
    x = torch.randint(-99, 99, (2, 64, size, size)).float().requires_grad_()
    expected = torch.nn.functional.max_pool2d(x, 3, 1, 1)
    (pulled,) = torch.autograd.grad(expected.sum(), x)
    for channels_last in (False, True):
        given = x.detach().to(memory_format=torch.channels_last if channels_last else torch.contiguous_format).requires_grad_()
        for least in (1, None, 1 << 50, 1):
            _library.store_past_caches_from(least)
            output = functional.max_pool2d(given, 3, 1, 1)
            (grad,) = torch.autograd.grad(output.sum(), given)
            assert torch.equal(output, expected)
            assert torch.equal(grad, pulled)
            del output, grad


@pytest.mark.parametrize("size, setting, asks", [(512, "1", True), (512, "0", False), (128, "1", False)])
def test_a_new_process(size: int, setting: str, asks: bool) -> None:
    """Results of 32 MiB and of 2 MiB, and the environment that forbids it."""
    code = (
        "import torch; from torch_pooling import functional; from test_first_touch import asks_for_huge_pages;"
        f"assert asks_for_huge_pages(functional.avg_pool2d(torch.randn(2, 64, {size}, {size}), 2)) is {asks}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TORCH_POOLING_HUGE_PAGES": setting}, cwd=Path(__file__).parent)
