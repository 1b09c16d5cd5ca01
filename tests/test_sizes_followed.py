"""Sizes that are not those of the example: torch.jit.trace and torch.export must follow them, and what compiled code is called with is
checked as it is elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torch_pooling
from torch_pooling import functional

EXAMPLE, OTHER = (1, 3, 8, 8), (2, 3, 20, 13)
Function = Callable[[Tensor], Any]

TRACED: dict[str, Function] = {
    "indices": lambda x: functional.max_pool2d(x, 2, return_indices=True),
    "indices, padded": lambda x: functional.max_pool2d(x, 3, 2, 1, return_indices=True),
    "indices of adaptive windows": lambda x: functional.adaptive_max_pool2d(x, 3, return_indices=True),
    "indices of kept axes": lambda x: functional.adaptive_max_pool2d(x, (None, 2), return_indices=True),
    "indices of planes": lambda x: functional.global_max_pool(x, return_indices=True),
    "indices, channels last": lambda x: functional.max_pool2d(x, 3, 2, 1, return_indices=True, data_format="channels_last"),
    "indices of volumes": lambda x: functional.max_pool3d(x, (1, 2, 2), return_indices=True),
    "a kernel as large as the input": lambda x: functional.avg_pool2d(x, x.size()[2:]),
    "a kernel as large as the input, maxima": lambda x: functional.max_pool2d(x, x.size()[2:]),
    "a kernel, and a stride of its own": lambda x: functional.max_pool2d(x, (x.shape[2] // 2, 2), (x.shape[2] // 4, 1), return_indices=True),
    "half the size": lambda x: functional.adaptive_avg_pool2d(x, (x.shape[2] // 2, x.shape[3] // 2)),
    "one size for all axes": lambda x: functional.adaptive_avg_pool2d(x, x.shape[3] // 3),
    "a kept axis": lambda x: functional.adaptive_avg_pool2d(x, (None, 1)),
    "uneven padding": lambda x: functional.sum_pool2d(x, 3, 1, ((x.shape[2] // 8, 1), (0, 1))),
    "same padding": lambda x: functional.max_pool2d(x, 3, 2, "same"),
    "a mask": lambda x: functional.global_max_pool(x, mask=x[:, 0] > 0, return_indices=True),
    "a mask, averages": lambda x: functional.global_avg_pool(x, mask=x[:, 0] > 0),
    "concatenated": lambda x: functional.concat_pool(x, 2),
    "a pyramid": lambda x: functional.spatial_pyramid_pool(x, (1, 2)),
    "a converted layer": torch_pooling.convert(nn.MaxPool2d(2, return_indices=True)),
}


def same(first: Any, second: Any) -> bool:
    pairs = zip(first, second, strict=True) if isinstance(first, tuple) else [(first, second)]
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("name", TRACED)
def test_jit_trace_follows_sizes(name: str) -> None:
    function = TRACED[name]
    traced = torch.jit.trace(function, torch.randn(EXAMPLE), check_trace=False)
    for shape in (EXAMPLE, OTHER):
        input = torch.randn(shape)
        assert same(traced(input), function(input)), shape


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("function", [
    lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), lambda x: F.adaptive_max_pool2d(x, 2, return_indices=True),
    lambda x: F.max_pool2d(x, x.size()[2:]), lambda x: F.max_pool2d(x, 2),
])  # fmt: skip
def test_jit_trace_inside_override(function: Function) -> None:
    with torch_pooling.override():
        traced = torch.jit.trace(function, torch.randn(EXAMPLE), check_trace=False)
    input = torch.randn(OTHER)
    assert same(traced(input), function(input))


class Chosen(nn.Module):
    """Pools of some rows: how many, only the run knows."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, input: Tensor, rows: Tensor) -> Any:
        return self.function(input[:, :, rows])


@pytest.mark.parametrize("function", [
    lambda x: functional.max_pool2d(x, 3, 2, 1), lambda x: functional.max_pool2d(x, 3, 2, 1, return_indices=True),
    lambda x: functional.max_pool2d(x, 3, 2, 1, ceil_mode=True), lambda x: functional.avg_pool2d(x, 3, 2, 1),
    lambda x: functional.adaptive_avg_pool2d(x, 2), lambda x: functional.adaptive_max_pool2d(x, (2, None), return_indices=True),
    lambda x: functional.avg_pool1d(x[0], 2), functional.global_max_pool,
])  # fmt: skip
def test_export_of_sizes_that_depend_on_data(function: Function) -> None:
    input, rows = torch.randn(4, 3, 16, 16), torch.arange(16) < 12
    program = torch.export.export(Chosen(function), (input, rows)).module()
    for count in (12, 9):
        rows = torch.arange(16) < count
        assert same(program(input, rows), function(input[:, :, rows]))


@pytest.mark.parametrize("function", [functional.max_pool2d, functional.adaptive_max_pool2d])
def test_export_of_an_axis_without_an_upper_limit(function: Callable[..., Any]) -> None:
    class Model(nn.Module):
        def forward(self, input: Tensor) -> Any:
            return function(input, 2, return_indices=True)

    height = torch.export.Dim("height", min=4)
    program = torch.export.export(Model(), (torch.randn(2, 3, 16, 16),), dynamic_shapes=({2: height},)).module()
    input = torch.randn(2, 3, 23, 16)
    assert same(program(input), function(input, 2, return_indices=True))


@pytest.mark.slow
def test_aot_inductor_keeps_arguments_that_were_left_out(tmp_path: Path) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            pyramid = functional.spatial_pyramid_pool(x, (1, 2))
            return [functional.max_pool2d(x, 2), functional.avg_pool2d(x, 2), functional.concat_pool(x, 2), pyramid, functional.mixed_pool(x)]

    input = torch.randn(2, 3, 14, 14)
    with torch.no_grad():
        program = torch.export.export(Model(), (input,))
        path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "model.pt2"))
        for found, expected in zip(torch._inductor.aoti_load_package(path)(input), Model()(input), strict=True):
            torch.testing.assert_close(found, expected)


WRONG: dict[str, tuple[Function, tuple[int, ...]]] = {
    "three sizes for two axes": (lambda x: functional.adaptive_avg_pool2d(x, (2, 2, 2)), (2, 3, 8, 8)),  # type: ignore[arg-type]
    "two sizes for one axis": (lambda x: functional.adaptive_max_pool1d(x, (2, 2)), (2, 3, 8)),  # type: ignore[arg-type]
    "one size for two axes": (lambda x: functional.adaptive_max_pool2d(x, (2,)), (2, 3, 8, 8)),
    "no size for the one axis": (lambda x: functional.adaptive_avg_pool1d(x, (None,)), (2, 3, 8)),  # type: ignore[arg-type]
    "ceil_mode": (lambda x: functional.max_pool2d(x, 2, ceil_mode=1), (2, 3, 8, 8)),  # type: ignore[arg-type]
    "count_include_pad": (lambda x: functional.avg_pool2d(x, 2, count_include_pad=0), (2, 3, 8, 8)),  # type: ignore[arg-type]
    "kernel_size": (lambda x: functional.max_pool2d(x, True), (2, 3, 8, 8)),
    "stride": (lambda x: functional.sum_pool2d(x, 2, 1.0), (2, 3, 8, 8)),  # type: ignore[arg-type]
    "output_size": (lambda x: functional.adaptive_avg_pool2d(x, True), (2, 3, 8, 8)),
    "padding": (lambda x: functional.max_pool2d(x, 2, 1, True), (2, 3, 8, 8)),
    "pairs of paddings": (lambda x: functional.avg_pool2d(x, 2, 1, ((True, 0), (0, 0))), (2, 3, 8, 8)),
    "divisor_override": (lambda x: functional.avg_pool2d(x, 2, divisor_override=True), (2, 3, 8, 8)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRONG)
def test_compiled_code_refuses_what_is_refused_elsewhere(name: str) -> None:
    function, shape = WRONG[name]
    with pytest.raises((TypeError, RuntimeError)) as eager:
        function(torch.randn(shape))
    torch._dynamo.reset()
    with pytest.raises((TypeError, RuntimeError)) as compiled:
        torch.compile(function, backend="eager")(torch.randn(shape))
    assert str(eager.value).splitlines()[0] in str(compiled.value)


@pytest.mark.parametrize(("function", "size", "rank"), [
    (F.adaptive_avg_pool2d, (2, 2, 2), 2), (F.adaptive_avg_pool3d, (2, 2), 3), (F.adaptive_max_pool2d, (2, 2, 2), 2),
    (F.adaptive_avg_pool1d, (2, 2), 1), (F.adaptive_max_pool1d, (2, 2), 1),
])  # fmt: skip
def test_override_leaves_a_wrong_number_of_sizes_to_torch(function: Callable[..., Any], size: tuple[int, ...], rank: int) -> None:
    input = torch.randn(2, 3, *(8,) * rank)
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whatever torch raises
        function(input, size)
    with torch_pooling.override(), pytest.raises(type(expected.value)) as found:
        function(input, size)
    assert str(found.value).splitlines()[0] == str(expected.value).splitlines()[0]
