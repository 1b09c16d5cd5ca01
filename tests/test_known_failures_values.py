"""Failures that users of other pooling libraries reported: NaN, infinities, indices, ties, layouts, strides.

Each test carries the report's number (pt = pytorch/pytorch, ort = onnxruntime, tf = tensorflow, ...), and pins what
is right.
"""
from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import reference
from battery import LAYOUTS, arrange, assert_close, assert_exact
from torch_pooling import functional

NAN, INF = float("nan"), float("inf")


def test_pt7645_pt39846_nan_wins(isa: str) -> None:
    input = torch.randn(2, 3, 16, 16)
    input[0, 0, 5, 7] = NAN
    for layout in LAYOUTS:
        found = functional.max_pool2d(arrange(input, 2, layout), 4)
        assert found[0, 0, 1, 1].isnan() and int(found.isnan().sum()) == 1
        assert functional.max_pool2d(arrange(torch.full_like(input, NAN), 2, layout), 4).isnan().all()
        assert functional.adaptive_max_pool2d(arrange(input, 2, layout), 4)[0, 0, 1, 1].isnan()
        assert functional.global_max_pool(arrange(input, 2, layout))[0, 0].isnan()


def test_two_nans_give_the_index_of_the_last(isa: str) -> None:
    input = torch.tensor([[[[1.0, NAN, 3.0, NAN, 9.0, 2.0]]]])
    for layout in LAYOUTS:
        tensor = arrange(input.expand(1, 5, 1, 6).clone(), 2, layout)
        assert functional.max_pool2d(tensor, (1, 6), return_indices=True)[1].flatten().tolist() == [3] * 5
        assert functional.adaptive_max_pool2d(tensor, 1, return_indices=True)[1].flatten().tolist() == [3] * 5
        assert functional.global_max_pool(tensor, return_indices=True)[1].flatten().tolist() == [3] * 5


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pt1465_pt20465_pt40131_windows_full_of_minus_infinity(rank: int, isa: str) -> None:
    """Value -inf, index of the first tap inside the input, gradient there."""
    size = (4, 6, 5)[3 - rank :]
    content = np.full((2, 19, *size), -INF)
    windows = reference.sliding(size, [3] * rank, [2] * rank, [1] * rank, [1] * rank, [1] * rank)
    values, indices = reference.maximum(content, windows)
    for layout in LAYOUTS:
        input = arrange(torch.tensor(content, dtype=torch.float32), rank, layout).requires_grad_()
        found, chosen = getattr(functional, f"max_pool{rank}d")(input, 3, 2, 1, return_indices=True)
        assert found.isneginf().all() and torch.equal(chosen, torch.from_numpy(indices))
        expected = reference.maximum_backward(np.ones(values.shape), indices, windows)
        for result in (found, getattr(functional, f"max_pool{rank}d")(input, 3, 2, 1)):
            (grad,) = torch.autograd.grad(result, input, torch.ones_like(result))
            assert_exact(grad, torch.from_numpy(expected), layout)


def test_compiled_indices_of_minus_infinity_lie_inside() -> None:
    """torch's inductor returned -7 here, and its backward raised."""

    def pool(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return functional.max_pool2d(x, 3, 2, 1, return_indices=True)

    input = torch.full((1, 1, 6, 6), -INF, requires_grad=True)
    found, indices = torch.compile(pool, backend="aot_eager", fullgraph=True)(input)
    assert torch.equal(indices, pool(input)[1]) and int(indices.min()) == 0
    (grad,) = torch.autograd.grad(found, input, torch.ones_like(found))
    assert grad.sum() == found.numel()


@pytest.mark.parametrize("channels", [3, 19])
def test_channels_last_3d_tail_of_minus_infinity(channels: int, isa: str) -> None:
    """torch's vector tail forgot the depth: index 0 instead of 64."""
    input = arrange(torch.full((1, channels, 6, 4, 4), -INF), 3, "channels_last").requires_grad_()
    found, indices = functional.max_pool3d(input, 2, return_indices=True)
    assert indices[0, :, 2, 0, 0].tolist() == [64] * channels
    (grad,) = torch.autograd.grad(found, input, torch.ones_like(found))
    assert torch.equal(grad[:, :, ::2, ::2, ::2], torch.ones(1, channels, 3, 2, 2)) and grad.sum() == found.numel()


def test_ort29637_dilation_and_head_padding(isa: str) -> None:
    input = torch.tensor([[[1.0, 9, 2, 8, 3, 7, 4, 6, 5]]])
    found, indices = functional.max_pool1d(input, 2, 1, 1, 2, return_indices=True)
    assert found.flatten().tolist() == [9, 2, 9, 3, 8, 4, 7, 5, 6]
    assert indices.flatten().tolist() == [1, 2, 1, 4, 3, 6, 5, 8, 7]


def test_pt76432_burn4466_dilation_in_strided_and_uneven_windows(isa: str) -> None:
    content = np.random.default_rng(2).integers(-50, 50, (2, 5, 11, 13)).astype(float)
    answers = []
    for dilation in ((1, 3), (3, 1), (2, 2)):
        windows = reference.sliding((11, 13), (3, 3), (1, 1), (1, 1), (1, 1), dilation)
        values, indices = reference.maximum(content, windows)
        answers.append(values)
        for layout in LAYOUTS:
            found, chosen = functional.max_pool2d(
                arrange(torch.tensor(content), 2, layout), 3, 1, 1, dilation, return_indices=True
            )
            assert_exact(found, torch.from_numpy(values), (dilation, layout))
            assert_exact(chosen, torch.from_numpy(indices), (dilation, layout))
    assert answers[0].shape != answers[1].shape


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_tf22025_pt38986_pt1197_indices_are_flat_in_the_unpadded_plane(rank: int) -> None:
    """Not in the batch, not in the padded plane, not in the channels; and of the values' shape without a batch."""
    input = torch.randn(3, 4, *[7] * rank)
    for layout, tensor in itertools.product(LAYOUTS, (input, input[0])):
        tensor = arrange(tensor, rank, layout)
        for name, arguments in ((f"max_pool{rank}d", (3, 2, 1)), (f"adaptive_max_pool{rank}d", (3,))):
            values, indices = getattr(functional, name)(tensor, *arguments, return_indices=True)
            assert indices.shape == values.shape and indices.dtype == torch.int64
            planes = tensor.flatten(-rank)
            assert torch.equal(planes.gather(-1, indices.flatten(-rank)).view(values.shape), values)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pt67697_adaptive_maxima_are_the_same_in_both_layouts(rank: int, isa: str) -> None:
    size = (5, 9, 13)[3 - rank :]
    input = torch.randn(2, 19, *size)
    found = [getattr(functional, f"adaptive_max_pool{rank}d")(arrange(input, rank, layout), 4, True) for layout in LAYOUTS]
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_tf4886_jax13600_pt56734_the_first_of_equals_takes_the_whole_gradient(isa: str) -> None:
    for layout, channels in itertools.product(LAYOUTS, (1, 9)):
        input = arrange(torch.full((1, channels, 4, 6), 2.0), 2, layout).requires_grad_()
        for output in (functional.max_pool2d(input, 2), functional.adaptive_max_pool2d(input, (2, 3))):
            (grad,) = torch.autograd.grad(output, input, torch.ones_like(output))
            assert torch.equal(grad[:, :, ::2, ::2], torch.ones(1, channels, 2, 3)) and grad.sum() == 6 * channels
        (grad,) = torch.autograd.grad(functional.global_max_pool(input).sum(), input)
        assert torch.equal(grad.flatten(2)[..., 0], torch.ones(1, channels)) and grad.sum() == channels


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 5, 33])
def test_pt109586_tinygrad7726_negative_integers_with_padding(dtype: torch.dtype, channels: int, isa: str) -> None:
    input = arrange(torch.full((2, channels, 7, 7), -5, dtype=dtype), 2, "channels_last")
    found = functional.max_pool2d(input, 3, 2, 1)
    assert found.dtype == dtype and bool((found == -5).all())


# --- layout, strides, aliasing


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pt188344_pt107201_pt171869_average_gradients_in_both_layouts(rank: int, isa: str) -> None:
    """Padding, ceil_mode and divisors: the first really pads, which torch's own test once forgot."""
    size = (5, 6, 7)[3 - rank :]
    random = np.random.default_rng(4)
    seen = set()
    for padding, ceil_mode, counts, divisor in itertools.product((0, 1), (False, True), (False, True), (None, 5)):
        windows = reference.sliding(size, [3] * rank, [2] * rank, [padding] * rank, [padding] * rank, [1] * rank, ceil_mode)
        divisors = windows.divisors(counts, divisor)
        grad = random.integers(-8, 9, (2, 19, *windows.output_size)).astype(float)
        expected = torch.from_numpy(reference.average_backward(grad, windows, divisors))
        scale = torch.from_numpy(reference.average_backward(np.abs(grad), windows, divisors))
        seen.add((padding, windows.output_size))
        for layout in LAYOUTS:
            input = arrange(torch.zeros(2, 19, *size), rank, layout).requires_grad_()
            more = {"ceil_mode": ceil_mode, "count_include_pad": counts, "divisor_override": divisor}
            output = getattr(functional, f"avg_pool{rank}d")(input, 3, 2, padding, **more)
            (found,) = torch.autograd.grad(output, input, arrange(torch.tensor(grad).float(), rank, layout))
            assert_close(found, expected, scale, (layout, padding, more))
    assert len({output for _, output in seen}) > 1


def test_adaptive_average_gradients_of_windows_that_are_not_square(isa: str) -> None:
    """An old tail loop divided by width times width; channels do not fill a vector."""
    windows = reference.adaptive((6, 20), (3, 4))
    grad = np.random.default_rng(6).integers(-8, 9, (2, 19, 3, 4)).astype(float)
    expected = torch.from_numpy(reference.average_backward(grad, windows, windows.divisors(False)))
    for layout in LAYOUTS:
        input = arrange(torch.zeros(2, 19, 6, 20), 2, layout).requires_grad_()
        output = functional.adaptive_avg_pool2d(input, (3, 4))
        (found,) = torch.autograd.grad(output, input, torch.tensor(grad).float())
        assert_close(found, expected, expected.abs(), layout)


def test_pt107842_permuted_sliced_expanded_and_ambiguous_inputs() -> None:
    dense = torch.randn(4, 6, 8, 10)
    views = [
        dense.permute(1, 0, 3, 2), dense.permute(3, 2, 1, 0), dense.transpose(0, 2), dense[:, 1:4], dense[:, :, 1::2, ::3],
        dense[:1].expand(5, 6, 8, 10), dense[:, :1].expand(4, 7, 8, 10), dense[:, :, :1].expand(4, 6, 5, 10),
        dense[:, :1], dense[:, :, :1, :1], dense[:1, :1].as_strided((1, 1, 8, 10), (1, 1, 10, 1)),
    ]  # fmt: skip
    for number, view in enumerate(views):
        for name in ("adaptive_max_pool2d", "adaptive_avg_pool2d"):
            function = getattr(functional, name)
            copy = view.clone(memory_format=torch.contiguous_format)
            torch.testing.assert_close(function(view, (1, 2)), function(copy, (1, 2)), msg=f"{number} {name}")
        assert torch.equal(functional.max_pool2d(view, 1), view), number


def test_pt193492_pt113013_adaptive_average_of_a_transposed_view() -> None:
    def position(x: torch.Tensor) -> torch.Tensor:
        return functional.adaptive_avg_pool1d(x.transpose(1, 2), 4).argmax(-1)

    input = torch.randn(2, 13, 5)
    expected = torch.nn.functional.adaptive_avg_pool1d(input.transpose(1, 2).contiguous(), 4).argmax(-1)
    assert torch.equal(position(input), expected)
    assert torch.equal(torch.compile(position, backend="aot_eager", fullgraph=True)(input), expected)


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_cunn199_gradients_that_are_expanded_or_not_contiguous(kind: str) -> None:
    for layout in LAYOUTS:
        input = arrange(torch.randn(3, 5, 8, 9), 2, layout).requires_grad_()
        output = getattr(functional, f"{kind}_pool2d")(input, 3, 2, 1)
        strange = [
            torch.ones(()).expand(output.shape), torch.randn(1, 1, 1, 5).expand(output.shape), torch.randn(3, 1, 4, 1).expand(output.shape),
            torch.randn(5, 4, 5, 3).permute(3, 2, 1, 0), torch.randn(3, 5, 8, 10)[:, :, ::2, ::2],
        ]  # fmt: skip
        for grad in strange:
            (found,) = torch.autograd.grad(output, input, grad, retain_graph=True)
            (expected,) = torch.autograd.grad(output, input, grad.clone(memory_format=torch.contiguous_format), retain_graph=True)
            assert torch.equal(found, expected)


def test_pt34083_pt28714_many_channels_and_tall_planes() -> None:
    input = torch.randn(2, 512, 5, 5).half().contiguous(memory_format=torch.channels_last)
    assert torch.equal(functional.max_pool2d(input, 3, 2, 1), functional.max_pool2d(input.contiguous(), 3, 2, 1))
    tall = torch.zeros(1, 1, 16_777_217, 2, dtype=torch.int8)
    tall[..., -1, -1] = 3
    found, index = functional.max_pool2d(tall, (1, 2), return_indices=True)
    assert found.shape == (1, 1, 16_777_217, 1) and found[..., -1, 0] == 3 and index[..., -1, 0] == 2 * 16_777_217 - 1
    last = arrange(tall.expand(1, 2, 16_777_217, 2), 2, "channels_last")
    assert functional.max_pool2d(last, (1, 2))[..., -1, 0].tolist() == [[3, 3]]


def test_pt60524_adaptive_average_3d_of_a_flat_volume() -> None:
    input = torch.arange(16.0).view(1, 1, 2, 2, 4).requires_grad_()
    output = functional.adaptive_avg_pool3d(input, 2)
    assert output.flatten().tolist() == [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 14.5]
    (grad,) = torch.autograd.grad(output, input, torch.arange(8.0).view_as(output))
    assert torch.equal(grad.flatten(), torch.arange(8.0).repeat_interleave(2) / 2)


def test_pt177568_an_unbatched_image_whose_rows_lie_next_to_each_other() -> None:
    """[C, H, W] with stride 1 along H is no channels-last tensor."""
    image = torch.randn(3, 7, 5).transpose(1, 2)  # strides 35, 1, 5
    assert image.stride(1) == 1
    for name, arguments in (("max_pool2d", (2,)), ("avg_pool2d", (2,)), ("adaptive_avg_pool2d", (2,)), ("adaptive_max_pool2d", (3,))):
        function = getattr(functional, name)
        found = function(image, *arguments)
        assert torch.equal(found, function(image.contiguous(), *arguments))
        assert found.is_contiguous()
