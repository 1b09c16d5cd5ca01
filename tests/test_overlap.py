"""Gradients of maxima by how many windows read one element, which strides and dilations with common factors make more than overlap shows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from emulated import EMULATED
from torch_pooling import functional

OPS = torch.ops.torch_pooling
# Size, kernel, stride, padding, dilation.
CROSSED: list[tuple[tuple[int, ...], Any, Any, Any, Any]] = [
    ((64, 64), (8, 10), 2, 0, 2),
    ((48, 48), 8, 2, 0, 2),
    ((112, 112), 9, 4, 0, 4),
    ((48, 40, 40), (5, 4, 4), 2, 0, 2),
    ((3, 700), (1, 80), (1, 4), 0, (1, 4)),
    ((3, 700), (1, 80), (1, 4), 0, (1, 6)),
    ((40, 41), (7, 5), (2, 3), (3, 2), (4, 3)),
    ((40, 41), (6, 5), (6, 4), 2, (4, 6)),
    ((400,), 60, 3, 30, 6),
    ((42, 60), (3, 60), (1, 4), 0, 1),
    ((42, 60), (3, 59), (1, 6), (1, 29), 1),
]


def gradients(pool: Callable[..., Any], x: Tensor, args: tuple[Any, ...]) -> Tensor:
    output = pool(x, *args)
    return torch.autograd.grad(output, x, torch.arange(1.0, output.numel() + 1).view(output.shape).to(output.dtype))[0]


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("call", CROSSED, ids=str)
def test_an_element_that_wins_every_window(call: tuple[Any, ...], layout: str, each_isa: Callable[[], Any]) -> None:
    size, kernel, stride, padding, dilation = call
    rank = len(size)
    x = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(1))
    for place in ([n // 2 for n in size], [n // 2 + 1 for n in size], [n // 3 for n in size]):
        x[(..., *place)] = 100
    args = (kernel, stride, padding, dilation)
    expected = gradients(getattr(torch.nn.functional, f"max_pool{rank}d"), x.double().requires_grad_(), args)
    given = x.movedim(1, -1).contiguous().movedim(-1, 1) if layout == "channels_last" else x
    for _ in each_isa():
        for dtype in (torch.float32, torch.float64):
            found = gradients(getattr(functional, f"max_pool{rank}d"), given.to(dtype).requires_grad_(), args)
            assert torch.equal(found.double(), expected), dtype


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("window", [
    ((3, 16), (3, 2**29), (3, 8), (0, 0, 0, 2**29 - 1)),  # taps from 2^30 on
    ((4, 4), (4, 2**31 - 1), (4, 2**30), (0, 0, 0, 2**31 - 2)),  # taps that are 2^32 apart
    ((5, 20), (3, 2**31 - 1), (2, 2**30), (1, 2**30 - 1, 1, 2**30 - 1)),
], ids=str)  # fmt: skip
def test_windows_of_a_thousand_million_taps(window: Any, channels_last: bool, each_isa: Callable[[], Any]) -> None:
    size, kernel, stride, padding = window
    x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(2))
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    args = (2, kernel, stride, padding, (1,), 0)
    for _ in each_isa():
        output, offsets = OPS.max_pool_with_offsets(x, *args)
        grad = torch.arange(1.0, output.numel() + 1).view(output.shape)
        grad = grad.contiguous(memory_format=torch.channels_last) if channels_last else grad
        indices = OPS.max_pool_indices(offsets, list(size), *args)
        assert torch.equal(x.flatten(2).gather(2, indices.flatten(2)).view_as(output), output)
        expected = torch.zeros(x.flatten(2).shape).scatter_add_(2, indices.flatten(2), grad.flatten(2)).view(x.shape)
        assert torch.equal(OPS.max_pool_backward(grad, offsets, list(size), *args, channels_last), expected)


GUARDED = """
import ctypes, mmap, sys, torch
from torch_pooling import functional
pages = ctypes.CDLL(None)
pages.mmap.restype = ctypes.c_void_p
pages.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
pages.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

def guarded(tensor):  # the same content, and nothing behind it
    size, page = tensor.numel() * tensor.element_size(), mmap.PAGESIZE
    whole = -(-size // page) * page
    start = pages.mmap(None, whole + page, 3, 0x22, -1, 0)
    assert pages.mprotect(start + whole, page, 0) == 0
    memory = (ctypes.c_char * size).from_address(start + whole - size)
    return torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape).copy_(tensor)

torch.set_num_threads(int(sys.argv[1]))
window = (2, [2, 100], [64, 128], [0], [1], 0)
for planes in (2, 3, 16, 65):
    x = torch.randn(1, planes, 64, 128)
    output, offsets = torch.ops.torch_pooling.max_pool_with_offsets(x, *window)
    grad = torch.randn(output.shape)
    expected = torch.ops.torch_pooling.max_pool_backward(grad, offsets, [64, 128], *window, False)
    found = torch.ops.torch_pooling.max_pool_backward(guarded(grad), guarded(offsets), [64, 128], *window, False)
    assert torch.equal(found, expected)
"""


@pytest.mark.skipif(EMULATED, reason="of the CPU's kernels")
@pytest.mark.skipif(sys.platform != "linux", reason="protects a page of memory")
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_nothing_behind_the_last_plane_is_read(threads: int) -> None:
    result = subprocess.run([sys.executable, "-c", GUARDED, str(threads)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize(("value", "divisor"), [
    (2**53, 2**53 + 1), (2**63 - 1, 2**63 - 1), (-(2**63), 2**63 - 1), (2**62, 2**62 + 1), (2**53 + 1, -(2**53) - 1), (7, 2**60), (-9, -1),
])  # fmt: skip
def test_integers_are_divided_exactly(value: int, divisor: int) -> None:
    x = torch.full((1, 2, 3, 3), value)
    expected = torch.nn.functional.avg_pool2d(x, 1, divisor_override=divisor)
    assert torch.equal(functional.avg_pool2d(x, 1, divisor_override=divisor), expected)


def test_the_smallest_integer_divided_by_minus_one_wraps() -> None:
    """It ends the process where a processor divides it (torch's does)."""
    x = torch.full((1, 1, 2, 2), -(2**63))
    assert functional.avg_pool2d(x, 1, divisor_override=-1).flatten().tolist() == [-(2**63)] * 4


@pytest.mark.parametrize(("length", "kernel", "stride", "padding", "dilation"), [
    (2**17, 3, 2, 0, 65535), (2**17, 3, 3, 10, 10_007), (2**17, 5, 4, 1, 6), (1000, 9, 6, 4, 4), (1000, 3, 7, 1, 4), (1000, 3, 6, 1, 15),
])  # fmt: skip
def test_far_apart_taps(length: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    """Which outputs read an input, where taps are further apart than windows."""
    x = torch.randn(1, 1, length, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    output = functional.avg_pool1d(x, kernel, stride, padding, dilation=dilation)
    grad = torch.randn(output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    weights = torch.full((1, 1, kernel), 1 / kernel, dtype=torch.float64)
    (found,) = torch.autograd.grad(output, x, grad)
    peer = torch.nn.functional.conv1d(x, weights, stride=stride, padding=padding, dilation=dilation)
    torch.testing.assert_close(found, torch.autograd.grad(peer, x, grad)[0])


# Rank, sizes along the width, kernel, stride, padding, of all axes alike; channels.
FEW_READ: list[tuple[int, tuple[int, ...], int, int, int, tuple[int, ...]]] = [
    (1, (1, 2, 3, 5, 8, 33, 130), 3, 2, 1, (3, 64)),  # four positions side by side, read by one window, two, one and two
    (2, (3, 4, 5, 7, 9, 12, 17, 35), 3, 2, 1, (32, 48, 64, 65, 97)),
    (2, (3, 6, 11, 20), 3, 2, 0, (40, 96)),
    (3, (3, 5, 8, 9), 3, 2, 1, (32, 144)),  # of the latter up to four rows are read
    (2, (15, 16, 17, 28, 31, 32, 33, 47, 56, 65, 100, 129), 3, 2, 1, (2,)),  # rows that permutations fill, of 16 and of 32 lanes
    (2, (14, 16, 17, 30, 33, 64, 65), 2, 2, 0, (5,)),
    (2, (13, 20, 57), 4, 4, 1, (3,)),
    (2, (7, 8, 16, 21, 64, 70), 3, 1, 1, (1, 33, 64)),  # windows that move by one
    (2, (9, 18, 66), 2, 1, 0, (3, 33)),
    (2, (24, 25, 66), 5, 3, 2, (2, 32)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("case", FEW_READ, ids=str)
def test_gradients_that_are_exact_in_every_type(case: Any, layout: str, dtype: torch.dtype, each_isa: Callable[[], Any]) -> None:
    """Small whole numbers, whose sums no type rounds; the second call has a gradient of NaN and inf, which reach what they reach alone."""
    rank, widths, kernel, stride, padding, channels = case
    generator = torch.Generator().manual_seed(3)
    pool, torchs = (getattr(library, f"max_pool{rank}d") for library in (functional, torch.nn.functional))
    for width, channel_count in ((width, count) for width in widths for count in channels):
        size = (*((7, 6)[: rank - 1]), width)
        x = torch.randint(-60, 60, (2, channel_count, *size), generator=generator).double()
        expected_output = torchs(x.requires_grad_(), kernel, stride, padding)
        whole = torch.randint(-9, 10, expected_output.shape, generator=generator).double()
        special = whole.clone().view(-1)
        special[:: max(1, special.numel() // 7)] = torch.nan
        special[1 :: max(1, special.numel() // 5)] = torch.inf
        given = x.detach().movedim(1, -1).contiguous().movedim(-1, 1) if layout == "channels_last" else x.detach()
        for grad in (whole, special.view(whole.shape)):
            expected = torch.autograd.grad(expected_output, x, grad, retain_graph=True)[0]
            for isa in each_isa():
                ours = given.to(dtype).requires_grad_()
                found = torch.autograd.grad(pool(ours, kernel, stride, padding), ours, grad.to(dtype))[0]
                assert torch.equal(found.double().nan_to_num(99), expected.nan_to_num(99)), (width, channel_count, isa)
