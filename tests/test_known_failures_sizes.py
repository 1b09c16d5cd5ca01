"""Failures that users of other pooling libraries reported: output sizes, divisors, integer ranges, bad parameters.

Each test carries the report's number (pt = pytorch/pytorch, ort = onnxruntime, ...), and pins what is right.
"""
from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from battery import LAYOUTS, arrange
from torch_pooling import functional

OPS = torch.ops.torch_pooling
INF = float("inf")


def test_pt45357_pt46929_ceil_mode_never_starts_a_window_beyond_the_input() -> None:
    input = torch.arange(42.0).view(1, 1, 6, 7)
    found = functional.max_pool2d(input, 1, 2, ceil_mode=True)
    assert torch.equal(found, input[..., ::2, ::2]) and found.shape == (1, 1, 3, 4)
    assert functional.avg_pool2d(input, 1, 2, ceil_mode=True).shape == (1, 1, 3, 4)
    assert functional.max_pool1d(torch.zeros(1, 1, 5), 2, 2, 1, ceil_mode=True).shape[-1] == 3
    assert functional.avg_pool1d(torch.zeros(1, 1, 5), 2, 2, 1, ceil_mode=True).shape[-1] == 3


def test_pt183528_ort16203_divisor_counts_padding_but_not_the_overhang() -> None:
    input = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    found = functional.avg_pool2d(input, 3, 2, 1, ceil_mode=True)
    expected = torch.tensor([14 / 9, 20 / 6, 12 / 6, 38 / 6, 11, 6, 27 / 6, 30 / 4, 16 / 4])
    torch.testing.assert_close(found.flatten(), expected)
    shown = [1.5556, 3.3333, 2, 6.3333, 11, 6, 4.5, 7.5, 4]
    torch.testing.assert_close(found.flatten(), torch.tensor(shown), atol=1e-4, rtol=0)


def test_coremltools2772_ceil_mode_with_a_stride_beyond_the_kernel() -> None:
    found = functional.avg_pool2d(torch.arange(49.0).view(1, 1, 7, 7), 2, 3, ceil_mode=True)
    assert found.flatten().tolist() == [4, 7, 9.5, 25, 28, 30.5, 42.5, 45.5, 48]


@pytest.mark.parametrize("counts", [False, True])
def test_pt36977_pt41368_no_window_of_padding_alone(counts: bool) -> None:
    for height, width in itertools.product(range(1, 9), range(1, 9)):
        input = torch.ones(1, 1, height, width)
        found = functional.avg_pool2d(input, (1, 2), 2, (0, 1), ceil_mode=True, count_include_pad=counts)
        assert bool(found.isfinite().all()) and bool((found > 0).all())
        for axis, (size, kernel, padding) in enumerate(((height, 1, 0), (width, 2, 1))):
            outputs = math.ceil((size + 2 * padding - kernel) / 2) + 1
            outputs -= (outputs - 1) * 2 >= size + padding
            assert found.shape[2 + axis] == outputs


def test_pt198119_pt100987_gradient_of_the_overhang_is_shared_by_the_clipped_window() -> None:
    input = torch.zeros(1, 1, 5, 5, requires_grad=True)
    functional.avg_pool2d(input, 2, 2, ceil_mode=True).sum().backward()
    side = torch.tensor([2.0, 2, 2, 2, 1])
    assert input.grad is not None
    torch.testing.assert_close(input.grad[0, 0], 1 / (side[:, None] * side))
    compiled = torch.compile(lambda x: functional.avg_pool2d(x, 2, 2, ceil_mode=True), backend="aot_eager", fullgraph=True)
    (grad,) = torch.autograd.grad(compiled(input).sum(), input)
    assert torch.equal(grad, input.grad)


def test_pt114216_a_window_without_a_tap_inside() -> None:
    input = torch.arange(8.0).view(1, 1, 1, 8).requires_grad_()
    found, indices = functional.max_pool2d(input, 3, 6, 1, 2, ceil_mode=True, return_indices=True)
    assert found.isneginf().all() and (indices == 0).all()  # the taps of the first axis lie at -1, 1 and 3
    (grad,) = torch.autograd.grad(found, input, torch.ones_like(found))
    assert not grad.any()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_without_a_tap_inside_stay_inside_the_tensor(rank: int, layout: str, isa: str) -> None:
    """torch 2.13 corrupts its heap here: taps -1 and 2 of an axis of 2."""
    size = (*[2] * (rank - 1), 13) if rank > 1 else (2,)
    for dtype in (torch.float32, torch.bfloat16, torch.int8):
        input = arrange((torch.arange(6 * math.prod(size)) % 100).view(3, 2, *size).to(dtype), rank, layout)
        lowest = -INF if dtype.is_floating_point else -128
        found, indices = getattr(functional, f"max_pool{rank}d")(input, 2, None, 1, 3, return_indices=True)
        assert (found[:, :, 0] == lowest).all() and (indices[:, :, 0] == 0).all()
        assert bool((indices >= 0).all()) and bool((indices < math.prod(size)).all())
        assert torch.equal(getattr(functional, f"max_pool{rank}d")(input, 2, None, 1, 3), found)
        if dtype.is_floating_point:
            leaf = input.clone().requires_grad_()
            for result in (
                getattr(functional, f"max_pool{rank}d")(leaf, 2, None, 1, 3),
                getattr(functional, f"max_pool{rank}d")(leaf, 2, None, 1, 3, return_indices=True)[0],
            ):
                (grad,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
                assert int(grad.sum()) == int((found != lowest).sum())


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pt88464_pt21935_too_small_an_output_is_named(kind: str) -> None:
    function = getattr(functional, f"{kind}_pool1d")
    with pytest.raises(RuntimeError, match="would give output size -2"):
        function(torch.zeros(1, 1, 1), 4, 1, ceil_mode=True)
    with pytest.raises(RuntimeError, match="would give output size -4"):
        function(torch.zeros(1, 1, 2), 12, 2, ceil_mode=True)
    # With the default stride of 4 the last window starts inside: one output, as in torch.
    assert function(torch.zeros(1, 1, 1), 4, ceil_mode=True).shape == (1, 1, 1)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pt7541_pt44942_padding_up_to_half_the_dilated_kernel(rank: int) -> None:
    input = torch.randn(2, 3, *[9] * rank)
    found = getattr(functional, f"max_pool{rank}d")(input, 3, 1, 2, 2)
    assert found.shape == input.shape
    inner = (..., *[slice(4, 5)] * rank)
    assert torch.equal(found[inner], input[(..., *[slice(2, 7, 2)] * rank)].flatten(2).amax(2).view(2, 3, *[1] * rank))
    with pytest.raises(RuntimeError, match="pad"):
        getattr(functional, f"max_pool{rank}d")(input, 3, 1, 3, 2)


@pytest.mark.parametrize("name", ["max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"])
def test_pt3298_pt103423_too_much_padding_says_so_and_tells_the_limit(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)pad.*half.*kernel"):
        getattr(functional, name)(torch.zeros(1, 1, *[9] * int(name[-2])), 3, 1, 2)


def test_pt13386_sizes_are_computed_in_integers() -> None:
    """In float32, 19199996 / 7 was one too few."""
    length = 19_199_998
    for device in ("meta", "cpu"):
        input = torch.empty(1, 1, length, device=device)
        for function in (functional.max_pool1d, functional.avg_pool1d):
            if device == "meta":
                assert function(input, 1921, 1, 960).shape[-1] == length
            assert function(input, 1921, 960, 960).shape[-1] == (length - 1) // 960 + 1


@pytest.mark.slow
def test_pt13386_runs() -> None:
    length = 19_199_998
    input = torch.ones(1, 1, length)
    for function in (functional.max_pool1d, functional.avg_pool1d):
        found = function(input, 1921, 1, 960)
        assert found.shape[-1] == length
        torch.testing.assert_close(found[0, 0, 960:-960], torch.ones(length - 1920), rtol=1e-6, atol=0)


def test_pt179303_pt185361_pt94348_divisors() -> None:
    input = torch.arange(36.0).view(1, 1, 6, 6)
    with pytest.raises(RuntimeError, match="divisor"):
        functional.avg_pool2d(input, 2, divisor_override=0)
    with pytest.raises(RuntimeError, match="divisor"):
        functional.avg_pool2d(input.to("meta"), 2, divisor_override=0)
    compiled = torch.compile(lambda x: functional.avg_pool2d(x, 2, divisor_override=0), backend="aot_eager", fullgraph=True)
    with pytest.raises(RuntimeError, match="divisor"):
        compiled(input)
    assert torch.equal(functional.avg_pool2d(torch.ones(1, 1, 2, 2), 2, divisor_override=-1), torch.full((1, 1, 1, 1), -4.0))
    total = functional.avg_pool2d(input, 3, 2, 1, ceil_mode=True, divisor_override=1)
    assert total.shape == (1, 1, 4, 4) and total.flatten()[[0, -1]].tolist() == [0 + 1 + 6 + 7, 35]
    assert torch.equal(functional.avg_pool2d(input, 3, 2, 1, ceil_mode=True, divisor_override=4), total / 4)


def test_pt143720_a_single_element() -> None:
    input = torch.tensor([[[3.5]]])
    assert functional.avg_pool1d(input, 1).item() == 3.5
    compiled = torch.compile(lambda x: functional.avg_pool1d(x, 1), backend="aot_eager", fullgraph=True)
    assert compiled(input).item() == 3.5


# --- integer range


def test_pt189664_pt191566_a_dilation_that_a_single_tap_never_uses() -> None:
    input = torch.randn(2, 3, 5, 5)
    assert torch.equal(functional.max_pool2d(input, 1, 1, 0, 2**31 - 1), input)
    assert torch.equal(functional.avg_pool2d(input, 1, 1, dilation=2**31 - 1), input)


@pytest.mark.parametrize("huge", [2**31 - 1, 2**31, 2**62, 2**63 - 1])
def test_pt73190_pt142454_pt136719_pt54499_huge_windows(huge: int) -> None:
    for rank in (1, 2, 3):
        input = torch.randn(1, 1, *[5] * rank)
        for arguments in ((huge,), (2, 1, 0, huge), (huge, 1, 0, huge)):
            with pytest.raises(RuntimeError):
                getattr(functional, f"max_pool{rank}d")(input, *arguments)
        with pytest.raises(RuntimeError):
            getattr(functional, f"avg_pool{rank}d")(input, huge)


@pytest.mark.parametrize("name", ["adaptive_avg_pool", "adaptive_max_pool"])
def test_pt50960_pt73183_pt91552_pt107543_huge_adaptive_outputs(name: str) -> None:
    for rank, size in itertools.product((1, 2, 3), (10**12, 2**62, 2**63 - 1)):
        with pytest.raises(RuntimeError):
            getattr(functional, f"{name}{rank}d")(torch.randn(1, 1, *[5] * rank), size)


@pytest.mark.parametrize(("size", "outputs"), [(10, 3), (224, 13), (5, 3), (2, 4), (20_000_001, 3)])
def test_flaggems4915_paddle74279_window_edges_are_integers(size: int, outputs: int) -> None:
    """Windows begin at floor(i I / O) and end at ceil((i + 1) I / O); floats are wrong for large sizes."""
    for output in range(outputs):
        first, last = output * size // outputs, -(-(output + 1) * size // outputs)
        for position, inside in ((first - 1, False), (first, True), (last - 1, True), (last, False)):
            if 0 <= position < size:
                input = torch.zeros(1, 1, size, dtype=torch.int8)
                input[..., position] = 1
                assert bool(functional.adaptive_max_pool1d(input, outputs)[0, 0, output]) is inside, (output, position)
        if size < 1000:
            mean = functional.adaptive_avg_pool1d(torch.arange(float(size)).view(1, 1, -1), outputs)[0, 0, output]
            torch.testing.assert_close(mean.item(), (first + last - 1) / 2)


def test_pt38764_a_million_channels() -> None:
    input = torch.zeros(1, 1_000_000, 4, requires_grad=True)
    functional.max_pool1d(input, 2).sum().backward()
    assert input.grad is not None
    assert torch.equal(input.grad, torch.tensor([1.0, 0, 1, 0]).expand(1, 1_000_000, 4))


def test_nnlib508_more_than_2_to_23_outputs_of_a_large_window() -> None:
    """Not counted in float32 either."""
    input = torch.ones(1, 1, 2**23 + 300)
    assert bool((functional.avg_pool1d(input, 129, 1, 64, count_include_pad=False) == 1).all())


@pytest.mark.slow
def test_pt52822_pt68418_pt84018_pt167253_more_than_2_to_31_elements() -> None:
    """In and out, in one item, in both layouts; the index of a peak at the end does not fit 32 bits."""
    length = 2**31 + 7
    input = torch.zeros(1, 1, length, dtype=torch.int8)
    input[..., -1] = 5
    found = functional.max_pool1d(input, 2, 1, 1)
    assert found.shape[-1] == length + 1 and found[..., -2:].eq(5).all() and int(found.view(torch.int8).max(-1)[1]) == length - 1
    del found
    values, indices = functional.global_max_pool(input, return_indices=True)
    assert values.item() == 5 and indices.item() == length - 1
    planes = input[..., : 2**31].view(1, 2**13, 2**9, 2**9).permute(0, 3, 1, 2)  # channels-last
    planes[0, -1, -1, -1] = 7
    values, indices = functional.max_pool2d(planes, 4, 4, return_indices=True)
    assert int(values.amax()) == 7 and values[0, -1, -1, -1] == 7 and indices[0, -1, -1, -1] == 2**22 - 1


# --- bad parameters


@pytest.mark.parametrize("name", ["max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"])
def test_pt41767_zero_and_negative_parameters(name: str) -> None:
    input = torch.randn(1, 1, *[5] * int(name[-2]))
    for arguments in ((0,), (2, 0), (-2,), (2, -1), (2, 1, -1)):
        with pytest.raises(RuntimeError):
            getattr(functional, name)(input, *arguments)
    if name.startswith("max"):
        with pytest.raises(RuntimeError):
            getattr(functional, name)(input, 2, 1, 0, 0)


def test_pt194803_pt194800_a_gradient_larger_than_the_input_size_says() -> None:
    """torch reads or writes past its tensors; here the sizes are those of 64 x 64 windows on one element."""
    found = OPS.adaptive_avg_pool_backward(torch.ones(1, 2000, 64, 64), [1, 1], False)
    assert torch.equal(found, torch.full((1, 2000, 1, 1), 4096.0))
    for size in ([0, 0], [-1, 1], [1], [], [1, 1, 1, 1]):
        with pytest.raises(RuntimeError):
            OPS.adaptive_avg_pool_backward(torch.ones(1, 20, 6, 6), size, False)


def test_pt142459_pt122024_pt140923_pt141100_offsets_that_do_not_belong() -> None:
    window: tuple[Any, ...] = (3, [2], [2], [0], [1], False)
    grad = torch.ones(1, 2, 2, 2, 2)
    with pytest.raises(RuntimeError):
        OPS.max_pool_backward(grad, torch.zeros(0, 2, 2, 2, 2, dtype=torch.uint8), [4, 4, 4], *window, False)
    for value in (10**9, -(10**9), 8, -1):
        with pytest.raises(RuntimeError):
            OPS.max_pool_backward(grad, torch.full((1, 2, 2, 2, 2), value, dtype=torch.int64), [4, 4, 4], *window, False)


@pytest.mark.parametrize("name", ["max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"])
def test_pt4986_pt22337_inputs_smaller_than_the_kernel(name: str) -> None:
    rank = int(name[-2])
    for size in (1, 2):
        with pytest.raises(RuntimeError):
            getattr(functional, name)(torch.zeros(1, 1, *[size] * rank), 3)
    with pytest.raises(RuntimeError):
        getattr(functional, name)(torch.zeros(1, 1, *[5] * (rank - 1), 2), 3)


# --- empty


NAMES = [f"{family}{kind}_pool{rank}d" for family in ("", "adaptive_") for kind in ("max", "avg") for rank in (1, 2, 3)]


@pytest.mark.parametrize("name", NAMES)
def test_pt12013_pt38115_pt64306_no_items(name: str) -> None:
    """Forward, backward and double backward of a batch of 0; an empty spatial axis is an error."""
    rank = int(name[-2])
    input = torch.zeros(0, 3, *[6] * rank, requires_grad=True)
    output = getattr(functional, name)(input, 2)
    assert output.shape[:2] == (0, 3)
    grad_output = torch.zeros_like(output, requires_grad=True)
    (grad,) = torch.autograd.grad(output, input, grad_output, create_graph=True)
    assert grad.shape == input.shape
    (twice,) = torch.autograd.grad(grad, grad_output, torch.zeros_like(grad))
    assert twice.shape == output.shape
    with pytest.raises(RuntimeError):
        getattr(functional, name)(torch.zeros(2, 3, *[6] * (rank - 1), 0), 2)


def test_pt94696_pt94698_nothing_times_a_lot() -> None:
    assert functional.max_pool1d(torch.empty(0, 3, 2**31), 2).shape == (0, 3, 2**30)
    assert functional.avg_pool2d(torch.empty(0, 3, 2**20, 2**20), 2).shape == (0, 3, 2**19, 2**19)
    assert functional.adaptive_avg_pool1d(torch.empty(0, 3, 2**40), 2**20).shape == (0, 3, 2**20)
