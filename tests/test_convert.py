"""convert() and revert(): in place, exact inverses, and nothing of a model is lost on the way.

The state of a model is taken down before and after (classes, attributes, hooks, names, tensors, repr), so that a mark left
behind by either direction shows. timm and fastai are not installed here: modules of their names with classes as theirs take their place.
"""

from __future__ import annotations

import copy
import io
import pickle
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import torch_pooling

POOLS = {
    **{f"MaxPool{r}d": lambda r=r: getattr(nn, f"MaxPool{r}d")(3, 2, 1, ceil_mode=True) for r in (1, 2, 3)},
    **{f"AvgPool{r}d": lambda r=r: getattr(nn, f"AvgPool{r}d")(2, 2, count_include_pad=False) for r in (1, 2, 3)},
    **{f"AdaptiveAvgPool{r}d": lambda r=r: getattr(nn, f"AdaptiveAvgPool{r}d")(3) for r in (1, 2, 3)},
    **{f"AdaptiveMaxPool{r}d": lambda r=r: getattr(nn, f"AdaptiveMaxPool{r}d")(3, return_indices=True) for r in (1, 2, 3)},
}
per_pool = pytest.mark.parametrize("name", POOLS)


class Doubled(nn.MaxPool2d):
    """Keeps torch's forward."""

    extra = "kept"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.own = [1, 2]


class Shouting(nn.MaxPool2d):
    """Overrides it."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight * 2


def network() -> nn.Module:
    torch.manual_seed(3)
    shared = nn.MaxPool2d(2)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), shared, nn.Conv2d(4, 4, 3, padding=1), shared,
        nn.ModuleDict({"pools": nn.ModuleList([nn.AvgPool2d(2), Doubled(3, 1, 1)])}), nn.AdaptiveAvgPool2d((2, None)),
    )
    model.forward = types.MethodType(run, model)
    return model


def run(self: nn.Sequential, input: Tensor) -> Tensor:
    for layer in self:
        for one in layer["pools"] if isinstance(layer, nn.ModuleDict) else [layer]:
            input = one(input)
    return input


def picture(*sizes: int) -> Tensor:
    return torch.randn(*(sizes or (2, 3, 24, 20)), generator=torch.Generator().manual_seed(4))


def described(model: nn.Module) -> list[Any]:
    return [
        (name, type(layer), type(layer).__mro__, repr(layer), sorted(vars(layer)), layer.training, len(layer._forward_hooks))
        for name, layer in model.named_modules(remove_duplicate=False)
    ]


def trained(model: nn.Module, input: Tensor) -> list[Tensor]:
    model.zero_grad()
    leaf = input.clone().requires_grad_()
    output = model(leaf)
    output.square().sum().backward()
    return [output.detach(), leaf.grad, *(parameter.grad.clone() for parameter in model.parameters())]


@per_pool
def test_a_layer_alone(name: str) -> None:
    layer = POOLS[name]().eval()
    before, text = described(layer), repr(layer)
    assert torch_pooling.convert(layer) is layer
    assert type(layer) is getattr(torch_pooling, name) and isinstance(layer, getattr(nn, name))
    assert repr(layer) == text and not layer.training
    input = picture(2, 3, *(11, 9, 8)[: int(name[-2])])
    ours, torchs = layer(input), POOLS[name]()(input)
    torch.testing.assert_close(ours, torchs)
    assert torch_pooling.revert(layer) is layer
    assert described(layer) == before


def test_there_and_back() -> None:
    model, input = network(), picture()
    before, results = described(model), trained(model, input)
    state = copy.deepcopy(model.state_dict())
    torch_pooling.convert(model)
    assert type(model[2]) is torch_pooling.MaxPool2d and model[2] is model[4]
    own = model[5]["pools"][1]
    assert isinstance(own, Doubled) and isinstance(own, torch_pooling.MaxPool2d) and own.own == [1, 2] and own.extra == "kept"
    assert [name for name, _ in model.named_modules()] == [name for name, *_ in before if name != "4"]
    assert model.state_dict().keys() == state.keys()
    torch.testing.assert_close(trained(model, input), results)
    again = described(model)
    assert described(torch_pooling.convert(model)) == again, "converting twice is converting once"
    torch_pooling.revert(model)
    assert described(model) == before
    for one, other in zip(trained(model, input), results):
        assert torch.equal(one, other)
    assert described(torch_pooling.revert(model)) == before


def test_it_is_our_kernels_that_run() -> None:
    model = torch_pooling.convert(network())
    output = model(picture())
    assert output.grad_fn.name() == "AvgPoolBackward"


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "save"])
def test_converted_models_travel(how: str) -> None:
    model = torch_pooling.convert(nn.Sequential(nn.MaxPool2d(2), Doubled(3, 1, 1), nn.AdaptiveAvgPool2d(2)))
    if how == "pickle":
        other = pickle.loads(pickle.dumps(model))
    elif how == "deepcopy":
        other = copy.deepcopy(model)
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    assert described(other) == described(model) and other[1].own == [1, 2]
    assert torch.equal(other(picture()), model(picture()))
    torch_pooling.revert(other)
    assert [type(layer) for layer in other] == [nn.MaxPool2d, Doubled, nn.AdaptiveAvgPool2d]
    assert isinstance(model[0], torch_pooling.MaxPool2d), "the copy is apart"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol(protocol: int) -> None:
    layer = torch_pooling.convert(Doubled(2))
    assert type(pickle.loads(pickle.dumps(layer, protocol))) is type(layer)


def test_hooks_flags_and_attributes_stay() -> None:
    model = network().eval()
    calls: list[str] = []
    model[2].register_forward_hook(lambda *_: calls.append("forward"))
    handle = model[2].register_forward_pre_hook(lambda *_: calls.append("before"))
    model[6].register_full_backward_hook(lambda *_: calls.append("backward"))
    model[2].mine = "a note"
    torch_pooling.convert(model)
    trained(model, picture())
    assert calls == ["before", "forward"] * 2 + ["backward"]
    assert model[2].mine == "a note" and not any(layer.training for layer in model.modules())
    handle.remove()
    torch_pooling.revert(model)
    calls.clear()
    trained(model, picture())
    assert calls == ["forward"] * 2 + ["backward"] and model[2].mine == "a note"


def test_parametrizations_of_a_pool_itself() -> None:
    layer = nn.MaxPool2d(2)
    layer.register_parameter("scale", nn.Parameter(torch.tensor(8.0)))
    parametrize.register_parametrization(layer, "scale", Halved())
    copied = copy.deepcopy(layer)
    before = [vars(type(layer)).keys(), type(layer).__bases__, list(vars(layer))]
    torch_pooling.convert(layer)
    assert isinstance(layer, torch_pooling.MaxPool2d) and layer.scale == 8 and parametrize.is_parametrized(layer)
    assert not isinstance(copied, torch_pooling.MaxPool2d)
    layer.scale = torch.tensor(3.0)
    assert torch.equal(layer(picture()), nn.MaxPool2d(2)(picture()))
    torch_pooling.revert(layer)
    assert [vars(type(layer)).keys(), type(layer).__bases__, list(vars(layer))] == before and layer.scale == 3
    torch_pooling.convert(layer)
    parametrize.remove_parametrizations(layer, "scale")
    assert type(layer) is torch_pooling.MaxPool2d and layer.scale == 3
    assert type(torch_pooling.revert(layer)) is nn.MaxPool2d


def test_parametrizations_of_neighbours() -> None:
    model = network()
    parametrize.register_parametrization(model[0], "weight", Halved())
    results = trained(model, picture())
    torch.testing.assert_close(trained(torch_pooling.convert(model), picture()), results)


def test_overridden_forwards_are_left_alone_and_named() -> None:
    model = nn.Sequential(nn.MaxPool2d(2), nn.Sequential(Shouting(2)))
    with pytest.warns(UserWarning, match=r"left 1 pooling layers alone.*1\.0 \(Shouting: it overrides forward\)"):
        torch_pooling.convert(model)
    assert type(model[1][0]) is Shouting and type(model[0]) is torch_pooling.MaxPool2d
    assert torch.equal(model(picture()), nn.Sequential(nn.MaxPool2d(2), Shouting(2))(picture()))


def test_a_class_that_names_torchs_forward_runs_ours() -> None:
    class Named(nn.MaxPool2d):
        forward = nn.MaxPool2d.forward

    output = torch_pooling.convert(Named(2))(picture().requires_grad_())
    assert output.grad_fn.name() == "MaxPoolBackward"


def test_layers_built_as_ours_stay_ours() -> None:
    class Own(torch_pooling.MaxPool2d):
        def forward(self, input: Tensor) -> Any:
            return super().forward(input)

    model = nn.Sequential(torch_pooling.AvgPool2d(2, dilation=2), nn.AvgPool2d(2), Own(2))
    before = described(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch_pooling.convert(model)
        torch_pooling.revert(model)
    assert described(model) == before


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.MaxPool2d(2), Shouting(2), nn.ReLU())
    with pytest.warns(UserWarning):
        torch_pooling.convert(model, summary=True)
    text = capsys.readouterr().out
    assert "0: MaxPool2d swapped" in text and "1: Shouting left alone" in text and "1 layers swapped, 1 left alone" in text
    torch_pooling.revert(model, summary=True)
    assert "0: MaxPool2d restored" in capsys.readouterr().out
    torch_pooling.convert(nn.MaxPool2d(2))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("function", [torch_pooling.convert, torch_pooling.revert])
def test_only_modules(function: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="'model' must be torch.nn.Module, not builtin_function_or_method"):
        function(torch.relu)


def test_scripting_says_to_revert() -> None:
    model = torch_pooling.convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1))))
    with pytest.raises(RuntimeError, match=r"torch_pooling\.revert\(model\)"):
        torch.jit.script(model)
    with pytest.raises(RuntimeError, match=r"torch_pooling\.revert\(model\)"):
        torch.jit.script(torch_pooling.ConcatPooling())
    traced = torch.jit.trace(model, picture())
    assert torch.equal(traced(picture()), model(picture()))
    scripted = torch.jit.script(torch_pooling.revert(model))
    assert torch.equal(scripted(picture()), model(picture()))


def test_scripted_parts_are_not_touched() -> None:
    model = nn.Sequential(torch.jit.script(nn.MaxPool2d(2)), nn.MaxPool2d(2))
    torch_pooling.convert(model)
    assert not isinstance(model[0], torch_pooling.MaxPool2d) and type(model[1]) is torch_pooling.MaxPool2d
    assert torch.equal(model(picture()), nn.MaxPool2d(4)(picture()))


# --- timm and fastai --------------------------------------------------------------------------------------------------

TIMM, FASTAI = "timm.layers.adaptive_avgmax_pool", "fastai.layers"
SOURCES = {
    TIMM: """
import torch, torch.nn as nn, torch.nn.functional as F
class AdaptiveAvgMaxPool2d(nn.Module):
    def __init__(self, output_size=1):
        super().__init__()
        self.output_size = output_size
    def forward(self, x):
        return 0.5 * (F.adaptive_avg_pool2d(x, self.output_size) + F.adaptive_max_pool2d(x, self.output_size))
class AdaptiveCatAvgMaxPool2d(nn.Module):
    def __init__(self, output_size=1):
        super().__init__()
        self.output_size = output_size
    def forward(self, x):
        return torch.cat((F.adaptive_avg_pool2d(x, self.output_size), F.adaptive_max_pool2d(x, self.output_size)), 1)
""",
    FASTAI: """
import torch, torch.nn as nn
class Meta(type):
    def __call__(cls, *args, **kwargs):
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.__init__(*args, **kwargs)
        return made
class Module(nn.Module, metaclass=Meta):
    def __init__(self): pass
class AdaptiveConcatPool2d(Module):
    def __init__(self, size=None):
        self.size = size or 1
        self.ap = nn.AdaptiveAvgPool2d(self.size)
        self.mp = nn.AdaptiveMaxPool2d(self.size)
    def forward(self, x): return torch.cat([self.mp(x), self.ap(x)], 1)
""",
}


@pytest.fixture
def others() -> Iterator[Callable[[str], Any]]:
    """Loads a stand-in for timm's or fastai's module under its name."""
    loaded: list[str] = []

    def load(name: str) -> Any:
        if name in sys.modules:
            pytest.fail(f"{name} is loaded: this test would not know whose it is")
        module = types.ModuleType(name)
        exec(SOURCES[name], module.__dict__)
        parts = name.split(".")
        for parent in (".".join(parts[:length]) for length in range(1, len(parts))):
            sys.modules[parent] = types.ModuleType(parent)
            loaded.append(parent)
        sys.modules[name] = module
        loaded.append(name)
        return module

    yield load
    for name in loaded:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("module", "name", "size", "ours"),
    [
        (TIMM, "AdaptiveAvgMaxPool2d", 1, "AvgMaxPooling"),
        (TIMM, "AdaptiveAvgMaxPool2d", (3, 2), "AvgMaxPooling"),
        (TIMM, "AdaptiveCatAvgMaxPool2d", 1, "ConcatPooling"),
        (TIMM, "AdaptiveCatAvgMaxPool2d", 2, "ConcatPooling"),
        (FASTAI, "AdaptiveConcatPool2d", 1, "ConcatPooling"),
        (FASTAI, "AdaptiveConcatPool2d", 2, "ConcatPooling"),
    ],
)
def test_pools_of_others_in_their_own_order(
    module: str, name: str, size: Any, ours: str, others: Callable[[str], Any]
) -> None:
    original = getattr(others(module), name)
    model = nn.Sequential(original(size), nn.ReLU())
    before, theirs = described(model), trained(model, picture())
    torch_pooling.convert(model)
    assert isinstance(model[0], getattr(torch_pooling, ours)) and isinstance(model[0], original)
    assert type(model[0]).__name__ == name
    result = trained(model, picture())
    torch.testing.assert_close(result, theirs)
    leaf = picture().requires_grad_()
    assert model[0](leaf).grad_fn.name().startswith("CombinedPool")
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert type(other[0]) is type(model[0]) and torch.equal(other(picture()), result[0])
    assert described(torch_pooling.revert(model)) == before
    assert torch.equal(trained(model, picture())[0], theirs[0])


def test_a_namesake_is_somebody_else() -> None:
    class AdaptiveCatAvgMaxPool2d(nn.Module):
        pass

    model = AdaptiveCatAvgMaxPool2d()
    assert type(torch_pooling.convert(model)) is AdaptiveCatAvgMaxPool2d
    assert TIMM not in sys.modules and FASTAI not in sys.modules


def test_attributes_that_are_ours_by_name_leave_a_layer_alone() -> None:
    """What a layer calls dilation or data_format is not what our forward would take it for."""
    named, formatted, plain = nn.AvgPool2d(2), nn.MaxPool2d(2), nn.MaxPool2d(2)
    named.dilation, formatted.data_format = 2, "NCHW"  # type: ignore[assignment]
    model = nn.Sequential(named, formatted, plain)
    with pytest.warns(UserWarning, match="'dilation' of its own.*'data_format' of its own"):
        torch_pooling.convert(model)
    assert type(named) is nn.AvgPool2d and type(formatted) is nn.MaxPool2d and type(plain) is torch_pooling.MaxPool2d


def test_classes_that_register_their_subclasses_are_asked_once() -> None:
    seen: list[str] = []

    class Registered:
        def __init_subclass__(cls, *, tag: str) -> None:
            seen.append(tag)

    class Pool(Registered, nn.MaxPool2d, tag="mine"):
        pass

    model = torch_pooling.convert(nn.Sequential(Pool(2), nn.AvgPool2d(2)))
    assert seen == ["mine"] and isinstance(model[0], Pool) and isinstance(model[0], torch_pooling.MaxPool2d)
    assert isinstance(pickle.loads(pickle.dumps(torch_pooling.revert(model)[1])), nn.AvgPool2d)
