"""ONNX export of converted models, by both of torch's exporters: standard nodes only, and ONNX Runtime gives the same outputs.

Eight small networks pool as eight well-known architectures do. Needs onnx, onnxscript and onnxruntime.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torch_pooling
from torch_pooling import functional

onnx = pytest.importorskip("onnx", reason="onnx is not installed (requirements-dev.txt has it)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (requirements-dev.txt has it)")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (requirements-dev.txt has it)")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporters, about themselves
per_exporter = pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "older"])


class Blocks(nn.Module):
    """Branches side by side, joined along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, input: Tensor) -> Tensor:
        return torch.cat([branch(input) for branch in self.branches], 1)


def conv(before: int, after: int, kernel: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.ReLU())


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "alexnet": (lambda: nn.Sequential(conv(3, 8), nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d((6, 6)), nn.Flatten(), nn.Linear(288, 5)),
                {"MaxPool"}),
    "vgg": (lambda: nn.Sequential(conv(3, 8), nn.MaxPool2d(2, 2), conv(8, 8), nn.MaxPool2d(2, 2), nn.AdaptiveAvgPool2d((2, 4))),
            {"MaxPool", "AveragePool"}),
    "resnet": (lambda: nn.Sequential(conv(3, 8), nn.MaxPool2d(3, 2, 1), conv(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
               {"MaxPool", "GlobalAveragePool"}),
    "squeezenet": (lambda: nn.Sequential(conv(3, 8), nn.MaxPool2d(3, 2, ceil_mode=True), conv(8, 5), nn.AdaptiveAvgPool2d((1, 1))),
                   {"MaxPool", "GlobalAveragePool"}),
    "inception": (lambda: nn.Sequential(conv(3, 8), Blocks(conv(8, 8), nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(8, 4, 1)),
                                                           nn.MaxPool2d(3, 1, 1)), nn.AdaptiveAvgPool2d(1)),
                  {"MaxPool", "AveragePool", "GlobalAveragePool"}),
    "densenet": (lambda: nn.Sequential(conv(3, 8), Blocks(conv(8, 4), nn.Identity()), nn.AvgPool2d(2, 2), nn.ReLU(),
                                       nn.AdaptiveAvgPool2d(1)), {"AveragePool", "GlobalAveragePool"}),
    "cbam": (lambda: nn.Sequential(conv(3, 8), Blocks(nn.AdaptiveMaxPool2d(1), nn.AdaptiveAvgPool2d(1)), conv(16, 8, 1)),
             {"GlobalMaxPool", "GlobalAveragePool"}),
    "pyramid": (lambda: nn.Sequential(conv(3, 8), nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
                                      Blocks(nn.AdaptiveMaxPool2d(5), nn.AdaptiveAvgPool2d(5))), {"AveragePool"}),
}


def picture(*sizes: int) -> Tensor:
    return torch.randn(*(sizes or (2, 3, 33, 35)), generator=torch.Generator().manual_seed(12))


def exported(model: nn.Module, input: Tensor, dynamo: bool, path: Path, **kwargs: Any) -> Any:
    if dynamo:
        torch.onnx.export(model, (input,), str(path), dynamo=True, verbose=False, **kwargs)
        return onnx.load(str(path))
    file = io.BytesIO()
    torch.onnx.export(model, (input,), file, dynamo=False, opset_version=17, **kwargs)
    path.write_bytes(file.getvalue())
    return onnx.load(str(path))


def nodes(program: Any) -> set[str]:
    assert {node.domain for node in program.graph.node} <= {"", "ai.onnx"}, "standard nodes only"
    assert not [function for function in program.functions if "torch_pooling" in function.domain]
    return {node.op_type for node in program.graph.node}


def outputs(path: Path, input: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(output) for output in session.run(None, {session.get_inputs()[0].name: input.numpy()})]


@per_exporter
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures(name: str, dynamo: bool, tmp_path: Path) -> None:
    make, expected_nodes = ARCHITECTURES[name]
    torch.manual_seed(2)
    model = make().eval()
    input = picture(2, 3, 32, 48) if name == "vgg" else picture()
    expected = model(input)
    program = exported(torch_pooling.convert(model), input, dynamo, tmp_path / "model.onnx")
    found = nodes(program)
    pools = {node for node in found if node.endswith("Pool")}
    if not dynamo and "GlobalMaxPool" in expected_nodes:  # for which the older exporter takes a window as large as the input
        expected_nodes = expected_nodes - {"GlobalMaxPool"} | {"MaxPool"}
    assert pools >= expected_nodes, found
    torch.testing.assert_close(outputs(tmp_path / "model.onnx", input)[0], expected, rtol=1e-4, atol=1e-5)
    assert isinstance(next(m for m in model.modules() if isinstance(m, nn.AdaptiveAvgPool2d)), torch_pooling.AdaptiveAvgPool2d)


FUNCTIONS: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Any]]] = {
    "max 1d": ((2, 3, 17), lambda x: functional.max_pool1d(x, 3, 2, 1)),
    "max 3d": ((2, 3, 7, 9, 8), lambda x: functional.max_pool3d(x, 3, 2, 1, ceil_mode=True)),
    "max dilated": ((2, 3, 17, 18), lambda x: functional.max_pool2d(x, 3, 1, 2, 2)),
    "max same": ((2, 3, 17, 18), lambda x: functional.max_pool2d(x, 3, 2, "same")),
    "max pairs": ((2, 3, 17, 18), lambda x: functional.max_pool2d(x, 3, 2, ((0, 1), (2, 1)), ceil_mode=True)),
    "max indices": ((2, 3, 16, 18), lambda x: functional.max_pool2d(x, 2, return_indices=True)),
    "average 1d": ((2, 3, 17), lambda x: functional.avg_pool1d(x, 3, 2, 1)),
    "average 3d": ((2, 3, 7, 9, 8), lambda x: functional.avg_pool3d(x, 3, 2, 1)),
    "average dilated": ((2, 3, 17, 18), lambda x: functional.avg_pool2d(x, 3, 2, 1, dilation=2)),
    "average same": ((2, 3, 17, 18), lambda x: functional.avg_pool2d(x, 3, 2, "same", count_include_pad=False)),
    "average ceil": ((2, 3, 17, 18), lambda x: functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True)),
    "average divisor": ((2, 3, 16, 18), lambda x: functional.avg_pool2d(x, 2, divisor_override=3)),
    "sum": ((2, 3, 17, 18), lambda x: functional.sum_pool2d(x, 3, 2, 1)),
    "adaptive average 1d": ((2, 3, 17), lambda x: functional.adaptive_avg_pool1d(x, 5)),
    "adaptive average 3d": ((2, 3, 7, 9, 8), lambda x: functional.adaptive_avg_pool3d(x, (2, None, 1))),
    "adaptive maximum 1d": ((2, 3, 17), lambda x: functional.adaptive_max_pool1d(x, 5)),
    "adaptive maximum 3d": ((2, 3, 7, 9, 8), lambda x: functional.adaptive_max_pool3d(x, (2, 9, 3))),
    "adaptive upwards": ((2, 3, 5, 4), lambda x: functional.adaptive_avg_pool2d(x, 7)),
    "adaptive even indices": ((2, 3, 16, 18), lambda x: functional.adaptive_max_pool2d(x, (4, 6), True)),
    "global average": ((2, 3, 17, 18), lambda x: functional.global_avg_pool(x, keepdim=False)),
    "global maximum": ((2, 3, 17, 18), functional.global_max_pool),
    "global of a volume": ((2, 3, 7, 9, 8), functional.global_avg_pool),
    "unbatched window": ((3, 17, 18), lambda x: functional.max_pool2d(x, 3, 2, 1)),
    "unbatched average": ((3, 17, 18), lambda x: functional.avg_pool2d(x, 3, 2, 1)),
    "unbatched global": ((3, 17, 18), lambda x: functional.adaptive_avg_pool2d(x, 1)),
    "unbatched indices": ((3, 16, 18), lambda x: functional.max_pool2d(x, 2, return_indices=True)),
    "concatenated": ((2, 3, 17, 18), lambda x: functional.concat_pool(x, 1)),
    "average and maximum": ((2, 3, 17, 18), lambda x: functional.avgmax_pool(x, 4)),
    "mixed": ((2, 3, 17, 18), functional.mixed_pool),
    "pyramid": ((2, 3, 17, 18), lambda x: functional.spatial_pyramid_pool(x, (1, 2, 4), "max")),
}


class Called(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = FUNCTIONS[name][1]

    def forward(self, input: Tensor) -> Any:
        return self.function(input)


@per_exporter
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str, dynamo: bool, tmp_path: Path) -> None:
    input = picture(*FUNCTIONS[name][0])
    model = Called(name).eval()
    expected = model(input)
    nodes(exported(model, input, dynamo, tmp_path / "model.onnx"))
    for result, one in zip(outputs(tmp_path / "model.onnx", input), expected if isinstance(expected, tuple) else (expected,)):
        torch.testing.assert_close(result, one, rtol=1e-5, atol=1e-6)


def test_sizes_that_stay_open(tmp_path: Path) -> None:
    """Batch and image sizes of a residual network's pools may stay unknown."""
    model = torch_pooling.convert(ARCHITECTURES["resnet"][0]().eval())
    open_sizes = {"input": {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=8), 3: torch.export.Dim("w", min=8)}}
    exported(model, picture(), True, tmp_path / "model.onnx", dynamic_shapes=tuple(open_sizes.values()))
    for input in (picture(), picture(5, 3, 64, 40)):
        torch.testing.assert_close(outputs(tmp_path / "model.onnx", input)[0], model(input), rtol=1e-4, atol=1e-5)


OPEN: dict[str, Callable[[Tensor], Any]] = {
    "adaptive, even": lambda x: functional.adaptive_avg_pool2d(x, 7),
    "adaptive, uneven": lambda x: functional.adaptive_max_pool2d(x, (3, 4)),
    "adaptive, kept": lambda x: functional.adaptive_avg_pool2d(x, (None, 1)),
    "adaptive, as it is": lambda x: functional.adaptive_avg_pool2d(x, (14, 4)),
    "indices of planes": lambda x: functional.adaptive_max_pool2d(x, 1, return_indices=True),
    "indices": lambda x: functional.max_pool2d(x, 2, return_indices=True),
    "concatenated": lambda x: functional.concat_pool(x, 3),
    "a mask": lambda x: functional.global_max_pool(x, mask=x[:, 0] > 0),
    "same": lambda x: functional.max_pool2d(x, 3, 2, "same"),
    "same, by one": lambda x: functional.avg_pool2d(x, 4, 1, "same"),
    "pairs": lambda x: functional.avg_pool2d(x, 3, 2, ((0, 1), (1, 2)), count_include_pad=False),
    "pairs, ceil": lambda x: functional.max_pool2d(x, 3, 2, ((0, 1), (1, 2)), ceil_mode=True),
    "dilated": lambda x: functional.avg_pool2d(x, 3, 2, 1, dilation=2),
    "sum": lambda x: functional.sum_pool2d(x, 3, 2, 1),
    "ceil": lambda x: functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "channels last": lambda x: functional.max_pool2d(x, 2, data_format="channels_last"),
}
NEVER_REFUSED = {"indices", "ceil", "channels last", "a mask", "indices of planes", "same, by one", "pairs", "dilated", "sum"}


@per_exporter
@pytest.mark.parametrize("name", OPEN)
def test_other_sizes_give_the_right_result_or_an_error(name: str, dynamo: bool, tmp_path: Path) -> None:
    """Axes that are to stay open, where the older exporter knows only the sizes of its example."""

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return OPEN[name](x)

    path, free = tmp_path / "model.onnx", torch.export.Dim.DYNAMIC
    how: dict[str, Any] = {"dynamic_shapes": ({2: free, 3: free},)} if dynamo else {"input_names": ["x"], "dynamic_axes": {"x": [2, 3]}}
    try:
        exported(Model().eval(), picture(1, 3, 14, 14), dynamo, path, **how)
    except Exception as error:
        assert not dynamo or name not in NEVER_REFUSED, error
        return
    refused = 0
    for shape in ((1, 3, 14, 14), (1, 3, 28, 28), (1, 3, 17, 13), (1, 3, 13, 17)):
        input = picture(*shape)
        expected = OPEN[name](input)
        try:
            found = outputs(path, input)
        except Exception:
            refused += 1
            assert not dynamo and shape != (1, 3, 14, 14)
            continue
        for result, one in zip(found, expected if isinstance(expected, tuple) else (expected,), strict=True):
            torch.testing.assert_close(result, one, rtol=1e-5, atol=1e-6)
    assert refused in (0, 3)


@per_exporter
def test_inside_override_the_exporters_see_torchs_operators(dynamo: bool, tmp_path: Path) -> None:
    model, input = nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)).eval(), picture()
    with torch_pooling.override():
        assert nodes(exported(model, input, dynamo, tmp_path / "model.onnx")) >= {"MaxPool"}
    torch.testing.assert_close(outputs(tmp_path / "model.onnx", input)[0], model(input), rtol=1e-4, atol=1e-5)


@per_exporter
def test_what_has_no_form_is_an_error(dynamo: bool, tmp_path: Path) -> None:
    class Indices(nn.Module):
        def forward(self, input: Tensor) -> Any:
            return functional.adaptive_max_pool2d(input, 5, True)

    # torch's newer exporter tries another way after the first, and reports the last error.
    with pytest.raises(Exception, match="adaptive_max_pool_with_offsets" if dynamo else "has no form in ONNX"):
        exported(Indices(), picture(), dynamo, tmp_path / "model.onnx")


def test_nothing_of_it_lasts() -> None:
    """After an export our kernels run again."""
    leaf = picture().requires_grad_()
    assert functional.max_pool2d(leaf, 2).grad_fn.name() == "MaxPoolBackward"
    assert F.max_pool2d(leaf, 2).grad_fn.name() != "MaxPoolBackward"
