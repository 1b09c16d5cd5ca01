"""Whole models under torch.compile, torch.export, AOTInductor, torch.fx; compiled code and override().

A compiled function runs our kernels where it is called inside override() and torch's outside, whichever side it was compiled on,
also when its code comes from the caches on disk.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

import torch_pooling
from test_override import is_ours, operators, runs_ours
from torch_pooling import override


@pytest.fixture(autouse=True)
def forget_compiled_code() -> None:
    torch._dynamo.reset()
    counters.clear()


class Net(nn.Module):
    """Pooling as layers; `functions` adds what is called as a function, which only override() reaches."""

    def __init__(self, functions: bool = False) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.functions = functions
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(16, 8, 1)
        self.stem, self.down = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, ceil_mode=True)
        self.average, self.maximum = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(2)

    def forward(self, input: Tensor) -> Tensor:
        features = self.stem(self.first(input).relu())
        features = self.second(torch.cat([features, F.max_pool2d(features, 3, 1, 1) if self.functions else features], 1))
        features = self.down(features)
        return self.average(features).flatten(1) + self.maximum(features).flatten(2).sum(2)


def picture(size: int = 24, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, size, size + 5, generator=torch.Generator().manual_seed(size))


def trained(model: Callable[[Tensor], Tensor], input: Tensor) -> tuple[Tensor, Tensor]:
    leaf = input.clone().requires_grad_()
    output = model(leaf)
    return output, torch.autograd.grad(output.square().sum(), leaf)[0]


@pytest.mark.parametrize("way", ["converted", "inside override"])
def test_five_image_sizes_are_one_compilation(way: str) -> None:
    model = Net(functions=way != "converted")
    expected = {size: trained(model, picture(size)) for size in (24, 31, 40, 53, 66)}
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    if way == "converted":
        torch_pooling.convert(model)
        for size, results in expected.items():
            torch.testing.assert_close(trained(compiled, picture(size)), results)
    else:
        with override():
            for size, results in expected.items():
                torch.testing.assert_close(trained(compiled, picture(size)), results)
    assert counter.frame_count == 1
    assert not counters["graph_break"]


def compiled_models_notice_changed_layers() -> bool:
    """torch 2.11 on Python 3.13 goes on with what it compiled, whatever changes in a layer: other sizes than the model itself gives."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))
    compiled, input = torch.compile(model, fullgraph=True, backend="eager"), picture(25)
    compiled(input), compiled(input)
    model[1].ceil_mode = True
    return compiled(input).shape == model(input).shape


def test_a_model_compiled_before_it_is_converted_is_compiled_again() -> None:
    if not compiled_models_notice_changed_layers():
        pytest.skip("this torch's compiled models do not notice that torch's own layers change")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected = compiled(picture())
    assert not runs_ours(lambda: compiled(picture()))
    torch_pooling.convert(model)
    assert runs_ours(lambda: compiled(picture())) and torch.equal(compiled(picture()), expected)
    torch_pooling.revert(model)
    assert not runs_ours(lambda: compiled(picture()))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("compiled_inside", [False, True])
def test_compiled_on_one_side_and_called_on_the_other(compiled_inside: bool, gradients: bool) -> None:
    counter = CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, backend=counter)
    def function(input: Tensor) -> Tensor:
        return F.avg_pool2d(F.max_pool2d(input, 3, 2, 1), 2)

    input = picture().requires_grad_(gradients)
    expected = F.avg_pool2d(F.max_pool2d(input, 3, 2, 1), 2)
    def call() -> None:
        torch.testing.assert_close(function(input), expected)

    for inside in (compiled_inside, not compiled_inside, compiled_inside, not compiled_inside):
        if inside:
            with override():
                call()  # compiling calls torch's operators too
                seen = operators(call)
        else:
            call()
            seen = operators(call)
        assert ("torch_pooling::avg_pool" in seen) == inside
        assert ("aten::avg_pool2d" in seen) != inside
    assert counter.frame_count == 2, "once for each side"


def test_entering_inside_a_compiled_function_breaks_the_graph_and_works() -> None:
    def function(input: Tensor) -> Tensor:
        with override():
            result = F.max_pool2d(input.relu(), 2)
        return result + 1

    compiled = torch.compile(function, backend="aot_eager")
    assert torch.equal(compiled(picture()), function(picture()))
    assert runs_ours(lambda: compiled(picture()))
    assert not runs_ours(lambda: F.max_pool2d(picture(), 2))


def test_a_decorated_function_calls_a_compiled_one() -> None:
    inner = torch.compile(lambda input: F.max_pool2d(input, 2) * 2, fullgraph=True, backend="aot_eager")

    @override()
    def outer(input: Tensor) -> Tensor:
        return inner(input)

    assert runs_ours(lambda: outer(picture())) and not runs_ours(lambda: inner(picture()))


@pytest.mark.slow
@pytest.mark.parametrize("gradients", [False, True])
def test_caches_on_disk_keep_the_sides_apart(gradients: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def fresh(input: Tensor) -> set[str]:
        """As a new process would: nothing is known but what lies on disk."""
        torch._dynamo.reset()
        function = lambda x: F.avg_pool2d(F.max_pool2d(x.sin(), 3, 2, 1), 2, 2)  # noqa: E731
        compiled = torch.compile(function, fullgraph=True)

        def call() -> None:
            result = compiled(input)
            torch.testing.assert_close(result, function(input))
            if gradients:  # a graph with a backward is kept once that is compiled too
                result.sum().backward()

        call()
        return operators(lambda: compiled(input))

    def hits() -> int:
        return counters["aot_autograd"]["autograd_cache_hit"]

    input = picture().requires_grad_(gradients)
    ran: list[tuple[bool, bool]] = []
    for inside in (False, True, False, True):
        if inside:
            with override():
                ran.append((inside, any(name.startswith("torch_pooling::") for name in fresh(input))))
        else:
            seen = fresh(input)
            ran.append((inside, any(name.startswith("torch_pooling::") for name in seen)))
    assert ran == [(False, False), (True, True), (False, False), (True, True)]
    assert hits() >= 1, "the cache was in use: else this proves nothing"


@pytest.mark.slow
def test_inductor_keeps_strides_and_gradients() -> None:
    model = Net().to(memory_format=torch.channels_last)
    body = nn.Sequential(model.first, nn.ReLU(), model.stem, model.down)
    input = picture().to(memory_format=torch.channels_last)
    output, gradient = trained(body, input)
    torch_pooling.convert(body)
    result, slopes = trained(torch.compile(body, fullgraph=True, dynamic=True), input)
    assert result.stride() == output.stride()
    torch.testing.assert_close((result, slopes), (output, gradient))


def test_export_round_trip(tmp_path: Path) -> None:
    model = torch_pooling.convert(Net().eval())
    size = torch.export.Dim("size", min=16, max=200)
    program = torch.export.export(model, (picture(),), dynamic_shapes={"input": {0: torch.export.Dim("batch"), 2: size}}, strict=False)
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    other = picture(24, batch=5)[:, :, :20].contiguous()
    for input in (picture(), other):
        assert torch.equal(loaded(input), model(input))
    assert any("torch_pooling.max_pool" in str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize("strict", [False, True])
def test_exporting_inside_override_records_torchs_operators_or_ours(strict: bool) -> None:
    """Either way the program runs, inside and outside, without this package's help at loading time being wrong."""
    model = Net(functions=True).eval()
    with override():
        program = torch.export.export(model, (picture(),), strict=strict)
    targets = {str(node.target) for node in program.graph.nodes if "pool" in str(node.target)}
    assert not any("torch_pooling" in target for target in targets), targets
    module = program.module()
    torch.testing.assert_close(module(picture()), model(picture()))
    with override():
        assert runs_ours(lambda: module(picture()))


@pytest.mark.slow
def test_aot_inductor_package(tmp_path: Path) -> None:
    model = torch_pooling.convert(Net().eval())
    with torch.no_grad():
        program = torch.export.export(model, (picture(),))
        path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "net.pt2"))
        loaded = torch._inductor.aoti_load_package(path)
        torch.testing.assert_close(loaded(picture()), model(picture()))
        assert runs_ours(lambda: loaded(picture()))


def test_fx_tracing_keeps_layers() -> None:
    model = torch_pooling.convert(Net())
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"][2] == "second"
    assert type(traced.get_submodule("stem")) is torch_pooling.MaxPool2d
    assert torch.equal(traced(picture()), model(picture()))
    torch_pooling.revert(traced)
    assert type(traced.get_submodule("stem")) is nn.MaxPool2d


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_feature_extraction() -> None:
    from torchvision.models import resnet18
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    def features(model: nn.Module) -> Any:
        names = get_graph_node_names(model)[1]
        return names, create_feature_extractor(model, ["maxpool", "layer2", "avgpool"])(torch.ones(1, 3, 64, 64))

    torch.manual_seed(1)
    model = resnet18(weights=None).eval()
    names, expected = features(model)
    converted_names, results = features(torch_pooling.convert(model))
    assert converted_names == names
    torch.testing.assert_close(results, expected)


def test_the_helper_tells_kernels_apart() -> None:
    leaf = picture().requires_grad_()
    assert is_ours(torch_pooling.functional.max_pool2d(leaf, 2)) and not is_ours(F.max_pool2d(leaf, 2))
