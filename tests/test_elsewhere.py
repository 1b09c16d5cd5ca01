"""Inputs that are not ours run torch's operators, through our functions and converted layers; and what those make of paddings,
dilations and combinations that torch has no function for equals our kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torch_pooling
from test_override import operators, picture
from torch_pooling import _by_torch, _traced, functional, override

REAL = torch.randn(2, 4, 12, 10, generator=torch.Generator().manual_seed(8))
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "max": lambda: nn.MaxPool2d(3, 2, 1),
    "average": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "adaptive average": lambda: nn.AdaptiveAvgPool2d(3),
    "global average": lambda: nn.AdaptiveAvgPool2d(1),
}


def outcome(call: Callable[[], Any]) -> Any:
    """What it gives, or the kind of error."""
    try:
        result = call()
    except Exception as error:
        return type(error)
    if result.is_quantized:
        return result.int_repr(), result.q_scale(), result.q_zero_point()
    return result.to_dense() if result.is_mkldnn else result


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", ["quantised", "onednn", "sparse"])
def test_converted_layers_give_what_torchs_give(kind: str, name: str) -> None:
    if kind == "onednn" and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    made: dict[str, Callable[[], Tensor]] = {
        "quantised": lambda: torch.quantize_per_tensor(REAL, 0.05, 7, torch.quint8),
        "onednn": lambda: REAL.to_mkldnn(),
        "sparse": lambda: REAL.to_sparse(),
    }
    input, layer = made[kind](), LAYERS[name]()
    expected = outcome(lambda: layer(input))
    torch_pooling.convert(layer)
    seen = operators(lambda: outcome(lambda: layer(input)))
    assert not any(key.startswith("torch_pooling::") for key in seen)
    result = outcome(lambda: layer(input))
    if isinstance(expected, tuple):
        assert torch.equal(result[0], expected[0]) and result[1:] == expected[1:]
    elif isinstance(expected, Tensor):
        assert torch.equal(result, expected)
    else:
        assert result is expected


@pytest.mark.parametrize("name", LAYERS)
def test_meta(name: str) -> None:
    layer = LAYERS[name]()
    expected = layer(REAL.to("meta"))
    result = torch_pooling.convert(layer)(REAL.to("meta"))
    assert result.device.type == "meta" and result.shape == expected.shape and result.dtype == expected.dtype


def test_combined_pools_of_quantised_inputs() -> None:
    input = torch.quantize_per_tensor(REAL, 0.05, 7, torch.quint8)
    result = functional.spatial_pyramid_pool(input, (1, 2), "avg")
    assert result.is_quantized and result.shape == (2, 4 * 5)


def test_wrong_arguments_are_still_named() -> None:
    input = torch.quantize_per_tensor(REAL, 0.05, 7, torch.quint8)
    with pytest.raises(ValueError, match="'padding' must be"):
        functional.max_pool2d(input, 3, padding="sane")
    with pytest.raises(RuntimeError, match="output_size must be a single int or a tuple of 2"):
        functional.adaptive_avg_pool2d(input, (1, 2, 3))


PADDINGS: tuple[Any, ...] = ("same", "same_lower", "valid", "pairs")


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (4, 3, 1), (3, 2, 2), (2, 3, 2)])
def test_expressed_in_torchs_operators(rank: int, kernel: int, stride: int, dilation: int, padding: Any, ceil_mode: bool) -> None:
    """Values and gradients, against our kernels, which the batteries hold to the definition."""
    given: Any = tuple((axis % 2, 1) for axis in range(rank)) if padding == "pairs" else padding
    input = torch.randn(2, 3, *(13, 11, 9)[:rank], dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    ints, sizing = _traced._padding("pool", rank, given, ceil_mode)
    window = ([kernel], [stride], ints, [dilation], sizing)

    def check(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor]) -> None:
        leaf = input.clone().requires_grad_()
        result, expected = theirs(leaf), ours(leaf)
        torch.testing.assert_close(result, expected)
        slopes = torch.randn_like(result)
        torch.testing.assert_close(torch.autograd.grad(result, leaf, slopes), torch.autograd.grad(expected, leaf, slopes))

    ours = {name: getattr(functional, f"{name}_pool{rank}d") for name in ("max", "avg", "sum")}
    check(lambda x: ours["max"](x, kernel, stride, given, dilation, ceil_mode), lambda x: _by_torch.max_pool(x, rank, *window))
    check(lambda x: ours["sum"](x, kernel, stride, given, ceil_mode, dilation=dilation), lambda x: _by_torch.sum_pool(x, rank, *window))
    for divisor, include in ((None, True), (None, False), (7, True)):
        check(
            lambda x, d=divisor, i=include: ours["avg"](x, kernel, stride, given, ceil_mode, i, d, dilation=dilation),
            lambda x, d=divisor, i=include: _by_torch.avg_pool(x, rank, *window, i, d),
        )


def test_indices_with_uneven_padding_elsewhere() -> None:
    with pytest.raises(NotImplementedError, match="return_indices=True"):
        _by_torch.max_pool(REAL, 2, [3], [2], [0], [1], 2, return_indices=True)


@pytest.mark.parametrize("form", ["concat", "avgmax", "mixed", "pyramid"])
def test_combinations(form: str) -> None:
    calls: dict[str, tuple[Callable[[Tensor], Tensor], tuple[Any, ...]]] = {
        "concat": (lambda x: functional.concat_pool(x, (3, 2), order=("max", "avg")), (0, [1, 0], [3, 2, 3, 2], [], [])),
        "avgmax": (lambda x: functional.avgmax_pool(x, 3), (1, [0, 1], [3, 3, 3, 3], [], [])),
        "mixed": (functional.mixed_pool, (0, [1, 0], [3, 3], [1, 1], [1, 1])),
        "pyramid": (lambda x: functional.spatial_pyramid_pool(x, (1, 3), "max"), (2, [1, 1], [1, 1, 3, 3], [], [])),
    }
    ours, arguments = calls[form]
    torch.testing.assert_close(_by_torch.combined_pool(REAL, 2, *arguments), ours(REAL))


def test_torch_takes_what_it_can() -> None:
    """The plain case is one call of torch's own function, whatever else this file can do."""
    window = ([3, 2], [2], [1, 1], [1], 1)
    seen = operators(lambda: _by_torch.avg_pool(REAL, 2, *window, False, 5))
    assert "aten::avg_pool2d" in seen and "aten::add" not in seen
    assert torch.equal(_by_torch.max_pool(REAL, 2, *window), F.max_pool2d(REAL, (3, 2), 2, 1, ceil_mode=True))


# --- inside override() ------------------------------------------------------------------------------------------------

NOT_OURS: dict[str, Callable[[], Any]] = {
    "quantised": lambda: F.max_pool2d(torch.quantize_per_tensor(picture(), 0.1, 3, torch.quint8), 2).dequantize(),
    "quantised average": lambda: F.avg_pool2d(torch.quantize_per_tensor(picture(), 0.1, 3, torch.quint8), 2).dequantize(),
    "quantised adaptive": lambda: F.adaptive_avg_pool2d(torch.quantize_per_tensor(picture(), 0.1, 3, torch.quint8), 2).dequantize(),
    "meta": lambda: F.max_pool2d(picture().to("meta"), 2),
    "onednn": lambda: F.max_pool2d(picture().to_mkldnn(), 2).to_dense(),
    "integers in an average": lambda: F.avg_pool2d(torch.arange(64).view(1, 1, 8, 8).to(torch.int32), 2),
    "complex": lambda: F.avg_pool2d(picture().to(torch.complex64), 2),
    "sparse": lambda: F.max_pool2d(picture().to_sparse(), 2),
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_is_not_ours_is_torchs(name: str) -> None:
    """The same result, or the same error, as outside."""
    if name == "onednn" and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")

    def outcome() -> Any:
        try:
            return NOT_OURS[name]()
        except Exception as error:
            return type(error)

    expected = outcome()
    with override():
        assert not any(key.startswith("torch_pooling::") for key in operators(outcome))
        result = outcome()
    if isinstance(expected, Tensor) and expected.device.type != "meta":
        assert torch.equal(result, expected)
    elif isinstance(expected, Tensor):
        assert result.shape == expected.shape and result.device == expected.device
    else:
        assert result is expected


def test_programs_that_put_ours_in_the_place_of_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not ours still finds torch's own function, not itself."""
    for kind in ("max", "avg", "adaptive_max", "adaptive_avg"):
        for rank in (1, 2, 3):
            monkeypatch.setattr(F, f"{kind}_pool{rank}d", getattr(functional, f"{kind}_pool{rank}d"))
    input = REAL.to_mkldnn()
    expected = torch.max_pool2d(REAL, 2)
    assert torch.equal(F.max_pool2d(input, 2).to_dense(), expected)
    assert torch.equal(nn.MaxPool2d(2)(input).to_dense(), expected)
    assert torch.equal(F.max_pool2d(REAL, 2), expected)
    quantised = torch.quantize_per_tensor(REAL, 0.1, 3, torch.quint8)
    assert torch.equal(nn.AdaptiveAvgPool2d(1)(quantised).int_repr(), torch.nn.quantized.functional.adaptive_avg_pool2d(quantised, 1).int_repr())
