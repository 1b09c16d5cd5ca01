"""Memory: strides of results, arrangements of the input, aliasing, and the split over threads.

Results have torch's strides or keep the input's layout where torch drops it (avg_pool3d, adaptive 3-D, 1-D and
unbatched inputs in channels-last). The batteries check the layout of every case; here are the odd shapes.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as torch_functional

from battery import LAYOUTS, arrange, layouts_of
from torch_pooling import functional

# Arguments that fit every plane below.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    **{f"max_pool{rank}d": (3, 2, 1) for rank in (1, 2, 3)},
    **{f"avg_pool{rank}d": (1, 2) for rank in (1, 2, 3)},
    **{f"adaptive_max_pool{rank}d": (2,) for rank in (1, 2, 3)},
    **{f"adaptive_avg_pool{rank}d": (2,) for rank in (1, 2, 3)},
}
NAMES = list(FUNCTIONS)


def _rank(name: str) -> int:
    return int(name[-2])


def _inputs(rank: int) -> list[torch.Tensor]:
    """Ordinary and ambiguous sizes (single channels, planes and items), in both layouts, with and without batch."""
    inputs = []
    for batch in (None, 1, 2):
        for channels in (1, 3):
            for size in ((5, 6, 7), (1, 1, 1), (4, 1, 1), (1, 1, 4)):
                shape = ([] if batch is None else [batch]) + [channels, *size[3 - rank :]]
                inputs += [arrange(torch.randn(shape), rank, layout) for layout in LAYOUTS]
    return inputs


@pytest.mark.parametrize("name", NAMES)
def test_strides_are_torchs_or_the_inputs(name: str) -> None:
    for input in _inputs(_rank(name)):
        what = (input.shape, input.stride())
        leaf, peer = input.clone().requires_grad_(), input.clone().requires_grad_()
        output = getattr(functional, name)(leaf, *FUNCTIONS[name])
        expected = getattr(torch_functional, name)(peer, *FUNCTIONS[name])
        wanted = layouts_of(input, _rank(name))
        assert output.stride() == expected.stride() or layouts_of(output, _rank(name)) & wanted, (what, output.stride())
        if wanted == {"channels_first"}:
            assert output.stride() == expected.stride(), (what, output.stride())
        if wanted == {"channels_last"}:
            assert "channels_last" in layouts_of(output, _rank(name)), (what, output.stride())
        (grad,) = torch.autograd.grad(output, leaf, torch.ones_like(output))
        (peers,) = torch.autograd.grad(expected, peer, torch.ones_like(expected))
        assert grad.stride() == peers.stride() or layouts_of(grad, _rank(name)) & wanted, (what, grad.stride())


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_results_keep_the_layout(kind: str, rank: int) -> None:
    for layout in LAYOUTS:
        input = arrange(torch.randn(2, 3, *[5] * rank), rank, layout).requires_grad_()
        output = getattr(functional, f"global_{kind}_pool")(input)
        assert layouts_of(output, rank) == {"channels_first", "channels_last"}
        (grad,) = torch.autograd.grad(output, input, torch.ones_like(output))
        assert layouts_of(grad, rank) == {layout}


def _same_as_copied(name: str, input: torch.Tensor, what: str) -> None:
    """Values, indices and gradients of the tensor as it lies equal those of a contiguous copy by torch."""
    arguments = FUNCTIONS[name]
    indices = {"return_indices": True} if "max" in name else {}
    leaf, copy = input.detach().requires_grad_(), input.detach().clone().contiguous().requires_grad_()
    ours = getattr(functional, name)(leaf, *arguments, **indices)
    theirs = getattr(torch_functional, name)(copy, *arguments, **indices)
    if indices:
        assert torch.equal(ours[1], theirs[1]), (name, what)
        ours, theirs = ours[0], theirs[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6, msg=f"{name} {what}")
    grad = torch.randn(theirs.shape)
    (found,), (expected,) = torch.autograd.grad(ours, leaf, grad), torch.autograd.grad(theirs, copy, grad)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, msg=f"{name} {what}: gradient")


@pytest.mark.parametrize("name", NAMES)
def test_strange_strides(name: str) -> None:
    """Strides that a user can make and that name no layout: repeated, overlapping, meaningless where a size is 1."""
    rank = _rank(name)
    size = (5, 6, 7)[3 - rank :]
    base = torch.randn(4000)
    dense = [42, 7, 1][3 - rank :]
    _same_as_copied(name, torch.randn(()).expand(2, 3, *size), "one element everywhere")
    _same_as_copied(name, torch.randn(2, 1, *size).expand(2, 3, *size), "one channel repeated")
    _same_as_copied(name, torch.randn(2, 3, *size[:-1], 1).expand(2, 3, *size), "one column repeated")
    _same_as_copied(name, base.as_strided((2, 3, *size), (5, 3, *(step + 1 for step in dense))), "overlapping")
    _same_as_copied(name, base.as_strided((2, 1, *size), (300, 1, *dense)), "single channel, stride 1")
    _same_as_copied(name, base.as_strided((2, 1, *size), (300, 999, *dense)), "single channel, stride 999")
    _same_as_copied(name, base.as_strided((1, 3, *size), (7, 300, *dense)), "single item, stride 7")
    _same_as_copied(name, torch.randn(2, *size, 8).movedim(-1, 1)[:, 2:5], "some channels of channels-last")
    _same_as_copied(name, torch.randn(2, 8, *size)[:, 1::3], "some channels of channels-first")
    _same_as_copied(name, torch.randn(*size, 3, 2).permute(-1, -2, *range(rank)), "axes reversed")
    _same_as_copied(name, torch.randn(3, *size).transpose(0, 1).unsqueeze(0).transpose(1, 2), "transposed twice")
    _same_as_copied(name, torch.randn(*size, 3).movedim(-1, 0), "unbatched channels-last")
    _same_as_copied(name, torch.complex(*torch.randn(2, 2, 3, *size)).conj().imag, "negated lazily")
    _same_as_copied(name, torch.view_as_real(torch.complex(*torch.randn(2, 2, 3, *size)))[..., 0], "every other element")


@pytest.mark.parametrize("name", NAMES)
def test_no_result_shares_memory(name: str) -> None:
    """Also where pooling is the identity, forward and backward."""
    rank = _rank(name)
    arguments: tuple[Any, ...] = (1, 1) if not name.startswith("adaptive") else (4 if rank == 1 else (4,) * rank,)
    for shape in ((2, 3, *[4] * rank), (3, *[4] * rank)):
        input = torch.randn(shape, requires_grad=True)
        before = input.detach().clone()
        output = getattr(functional, name)(input, *arguments)
        grad = torch.randn(shape)
        (found,) = torch.autograd.grad(output, input, grad)
        assert torch.equal(output, before) and torch.equal(found, grad)
        found.zero_()
        output.detach().zero_()
        assert torch.equal(input.detach(), before)
        assert bool(grad.any())


THREADED = (
    ("max_pool2d", (1, 3, 150, 160), (3, 1, 1)),
    ("max_pool2d", (1, 64, 56, 56), (3, 2, 1)),
    ("max_pool2d", (2, 5, 90, 91), (31, 1, 15)),
    ("avg_pool2d", (1, 2, 150, 160), (3, 1, 1, False, False)),
    ("avg_pool2d", (1, 64, 56, 56), (2,)),
    ("avg_pool2d", (1, 1, 200, 201), (31, 1, 15)),
    ("max_pool1d", (1, 2, 60001), (4, 2)),
    ("avg_pool1d", (1, 1, 60001), (160, 80)),
    ("max_pool3d", (1, 2, 20, 40, 41), (3, 2, 1)),
    ("avg_pool3d", (1, 3, 20, 40, 41), (3, 1, 1)),
    ("adaptive_max_pool2d", (1, 4, 130, 131), (7,)),
    ("adaptive_avg_pool2d", (1, 4, 130, 131), (7,)),
    ("adaptive_avg_pool3d", (1, 2, 20, 41, 50), ((3, 7, 9),)),
    ("global_avg_pool", (2, 3, 300, 301), ()),
    ("global_max_pool", (2, 3, 300, 301), ()),
    ("global_avg_pool", (4, 512, 7, 7), ()),
)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "shape", "arguments"), THREADED, ids=lambda value: str(value).replace(" ", ""))
def test_threads_change_nothing(
    name: str, shape: tuple[int, ...], arguments: tuple[Any, ...], layout: str, threads: Callable[[int], None]
) -> None:
    """Work large enough to be split gives the same bits on 1 to 7 threads, forward and backward."""
    generator = torch.Generator().manual_seed(1)
    rank = len(shape) - 2
    input = arrange(torch.randn(shape, generator=generator), rank, layout).requires_grad_()
    answers = []
    for count in (1, 2, 3, 7):
        threads(count)
        output = getattr(functional, name)(input, *arguments)
        grad = (torch.arange(output.numel()) % 101).float().view_as(output) - 50
        answers.append((output.detach(), *torch.autograd.grad(output, input, grad)))
    for output, found in answers[1:]:
        assert torch.equal(output, answers[0][0])
        assert torch.equal(found, answers[0][1])
    if not name.startswith("global"):
        peer = getattr(torch_functional, name)(input, *arguments)
        torch.testing.assert_close(answers[0][0], peer.detach(), rtol=1e-6, atol=2e-6)
        (expected,) = torch.autograd.grad(peer, input, grad)
        torch.testing.assert_close(answers[0][1], expected, rtol=1e-5, atol=1e-5)
