"""The modules are torch.nn's: constructor, attributes, repr, results, pickling, copies, hooks, tracing.

Each row names a class and constructor arguments; torch.nn's class of that name and ours get the same ones and must
not differ in anything but speed. Our own additions (GlobalAvgPool, GlobalMaxPool, dilated averages) follow.
"""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_pooling
from torch_pooling import functional

Row = tuple[str, tuple[Any, ...], dict[str, Any]]
NAMES = [f"{kind}Pool{rank}d" for kind in ("Max", "Avg", "AdaptiveAvg", "AdaptiveMax") for rank in (1, 2, 3)]
ROWS: list[Row] = [
    *((f"{kind}Pool{rank}d", (3,), {}) for kind in ("Max", "Avg") for rank in (1, 2, 3)),
    *((f"{kind}Pool{rank}d", (2, 1, 1, ), {}) for kind in ("Max", "Avg") for rank in (1, 2, 3)),
    *((f"Adaptive{kind}Pool{rank}d", (2,), {}) for kind in ("Max", "Avg") for rank in (1, 2, 3)),
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True}),
    ("MaxPool2d", ((3, 2),), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "return_indices": True}),
    ("MaxPool3d", ((1, 2, 3),), {"stride": 2, "padding": (0, 1, 1), "ceil_mode": True, "return_indices": True}),
    ("MaxPool2d", (3, 2, 1, 1, True, False), {}),
    ("AvgPool1d", (3, 2, 1, True, False), {}),
    ("AvgPool1d", ((3,), (2,), (1,)), {}),
    ("AvgPool2d", ((3, 2),), {"stride": (2, 3), "padding": (1, 0), "ceil_mode": True, "count_include_pad": False}),
    ("AvgPool2d", (3,), {"divisor_override": 5}),
    ("AvgPool3d", ((1, 2, 3),), {"stride": (2, 1, 1), "padding": (0, 1, 1), "divisor_override": -2}),
    ("AdaptiveAvgPool2d", ((3, None),), {}),
    ("AdaptiveAvgPool3d", ((None, 2, 1),), {}),
    ("AdaptiveMaxPool1d", (4,), {"return_indices": True}),
    ("AdaptiveMaxPool2d", ((None, 3), True), {}),
    ("AdaptiveMaxPool3d", (2,), {"return_indices": True}),
]


def row_id(row: Row) -> str:
    name, args, kwargs = row
    return f"{name}({', '.join([*map(str, args), *(f'{key}={value}' for key, value in kwargs.items())])})"


def both(row: Row) -> tuple[nn.Module, nn.Module]:
    """Ours and torch.nn's, from the same arguments."""
    name, args, kwargs = row
    return getattr(torch_pooling, name)(*args, **kwargs), getattr(nn, name)(*args, **kwargs)


def input_for(name: str, batched: bool = True) -> Tensor:
    spatial = (9, 8, 7)[: int(name[-2])]
    generator = torch.Generator().manual_seed(7)
    return torch.randn(*((2,) if batched else ()), 3, *spatial, generator=generator)


def check_same_result(ours: nn.Module, theirs: nn.Module, input: Tensor) -> None:
    actual, expected = ours(input), theirs(input)
    assert type(actual) is type(expected)
    torch.testing.assert_close(actual, expected)


per_row = pytest.mark.parametrize("row", ROWS, ids=row_id)
per_name = pytest.mark.parametrize("name", NAMES)


@per_name
def test_is_torchs_class_with_torchs_constructor(name: str) -> None:
    ours, theirs = getattr(torch_pooling, name), getattr(nn, name)
    assert issubclass(ours, theirs) and ours is not theirs
    assert ours.__name__ == name and ours.__doc__
    parameters = inspect.signature(ours).parameters
    expected = inspect.signature(theirs).parameters
    shared = {key: value for key, value in parameters.items() if key in expected}
    assert list(shared) == list(expected) == list(parameters)[: len(expected)]
    for key, value in expected.items():
        assert (shared[key].kind, shared[key].default) == (value.kind, value.default), key
    extra = [value for key, value in parameters.items() if key not in expected]
    assert all(value.kind is inspect.Parameter.KEYWORD_ONLY for value in extra), "what torch lacks is keyword-only"
    assert set(theirs.__constants__) <= set(ours.__constants__)


@per_row
def test_attributes_and_repr_are_torchs(row: Row) -> None:
    ours, theirs = both(row)
    assert isinstance(ours, type(theirs))
    assert repr(ours) == repr(theirs)
    assert ours.extra_repr() == theirs.extra_repr()
    for constant in theirs.__constants__:
        assert getattr(ours, constant) == getattr(theirs, constant)
        assert type(getattr(ours, constant)) is type(getattr(theirs, constant))
    assert ours.training and not ours.eval().training
    assert dict(ours.state_dict()) == {} and not list(ours.parameters())


@per_row
def test_results_are_torchs(row: Row) -> None:
    ours, theirs = both(row)
    check_same_result(ours, theirs, input_for(row[0]))
    check_same_result(ours, theirs, input_for(row[0], batched=False))


@per_row
def test_copies_and_pickles(row: Row) -> None:
    ours, theirs = both(row)
    ours.mark = ["anything a user hangs on it"]
    buffer = io.BytesIO()
    torch.save(ours, buffer)
    buffer.seek(0)
    twins = [
        copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)),
        torch.load(buffer, weights_only=False),
    ]
    for twin in twins:
        assert type(twin) is type(ours) and repr(twin) == repr(theirs)
        assert twin.mark == ours.mark
        check_same_result(twin, theirs, input_for(row[0]))
    assert twins[1].mark is not ours.mark


def test_state_dict_of_a_model_moves_both_ways() -> None:
    def model(library: Any) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), library.MaxPool2d(2), library.AvgPool2d(2, 1), library.AdaptiveAvgPool2d(1)
        )

    ours, theirs = model(torch_pooling), model(nn)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.load_state_dict(theirs.state_dict(), strict=True).missing_keys == []
    assert theirs.load_state_dict(ours.state_dict(), strict=True).unexpected_keys == []
    input = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(ours(input), theirs(input))


def test_attributes_changed_later_count() -> None:
    """People edit layers of a finished model: m.ceil_mode = True, m.stride = 1."""
    for name, changes in (
        ("MaxPool2d", {"kernel_size": 2, "stride": 1, "padding": 1, "ceil_mode": True}),
        ("MaxPool1d", {"return_indices": True, "dilation": 2}),
        ("AvgPool2d", {"kernel_size": (2, 1), "count_include_pad": False, "padding": (1, 0)}),
        ("AvgPool3d", {"divisor_override": 7}),
        ("AdaptiveAvgPool2d", {"output_size": (1, 3)}),
        ("AdaptiveMaxPool3d", {"return_indices": True, "output_size": 2}),
    ):
        ours, theirs = both((name, (3,), {}))
        for attribute, value in changes.items():
            setattr(ours, attribute, value)
            setattr(theirs, attribute, value)
        check_same_result(ours, theirs, input_for(name))


@per_name
def test_a_subclass_works(name: str) -> None:
    base = getattr(torch_pooling, name)
    scaled = type("Scaled", (base,), {"forward": lambda self, input: 2 * base.forward(self, input)})
    input = input_for(name)
    assert torch.equal(scaled(3)(input), 2 * base(3)(input))
    assert isinstance(scaled(3), getattr(nn, name))


@per_name
def test_module_hooks(name: str) -> None:
    ours, seen = getattr(torch_pooling, name)(3), []
    ours.register_forward_pre_hook(lambda module, args: seen.append("before"))
    ours.register_forward_hook(lambda module, args, output: seen.append("after"))
    ours.register_full_backward_hook(lambda module, into, out_of: seen.append((into[0].shape, out_of[0].shape)))
    input = input_for(name).requires_grad_()
    output = ours(input)
    output.sum().backward()
    assert seen == ["before", "after", (input.shape, output.shape)]


@per_name
def test_is_a_leaf_for_fx_as_torchs_is(name: str) -> None:
    class Net(nn.Module):
        def __init__(self, library: Any) -> None:
            super().__init__()
            self.pool = getattr(library, name)(3)
            self.body = nn.Sequential(nn.ReLU(), getattr(library, name)(2))

        def forward(self, input: Tensor) -> Tensor:
            return self.body(self.pool(input)) + 1

    ours, theirs = Net(torch_pooling), Net(nn)
    traced = torch.fx.symbolic_trace(ours)
    nodes = [(node.op, str(node.target)) for node in traced.graph.nodes]
    expected = [(node.op, str(node.target)) for node in torch.fx.symbolic_trace(theirs).graph.nodes]
    assert nodes == expected and ("call_module", "pool") in nodes and ("call_module", "body.1") in nodes
    input = torch.randn(2, 3, *(12, 13, 11)[: int(name[-2])])
    assert torch.equal(traced(input), ours(input))
    assert type(traced.pool) is type(ours.pool)
    again = torch.fx.symbolic_trace(pickle.loads(pickle.dumps(torch.fx.symbolic_trace(ours.body))))
    assert torch.equal(again(input), ours.body(input)) and type(getattr(again, "1")) is type(ours.pool)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@per_name
def test_jit_trace(name: str) -> None:
    ours, theirs = both((name, (3,), {}))
    input = input_for(name)
    traced = torch.jit.trace(ours, input)
    torch.testing.assert_close(traced(input), theirs(input))
    other = torch.randn(4, 2, *(5, 6, 10)[: int(name[-2])])
    torch.testing.assert_close(traced(other), theirs(other))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("keepdim", [True, False])
def test_global_modules(rank: int, keepdim: bool) -> None:
    input = input_for(f"Pool{rank}d")
    spatial = tuple(range(2, 2 + rank))
    average = torch_pooling.GlobalAvgPool(keepdim=keepdim)
    torch.testing.assert_close(average(input), input.mean(spatial, keepdim=keepdim))
    maximum = torch_pooling.GlobalMaxPool(keepdim=keepdim)
    assert torch.equal(maximum(input), input.amax(spatial, keepdim=keepdim))
    values, indices = torch_pooling.GlobalMaxPool(keepdim=keepdim, return_indices=True)(input)
    assert torch.equal(values, maximum(input)) and indices.shape == values.shape
    assert torch.equal(indices.flatten(1), input.flatten(2).argmax(-1))
    for module in (average, maximum):
        assert isinstance(module, nn.Module) and module.keepdim is keepdim
        assert torch.equal(pickle.loads(pickle.dumps(module))(input), module(input))
        assert torch.equal(copy.deepcopy(module)(input), module(input))
        assert dict(module.state_dict()) == {}
        traced = torch.fx.symbolic_trace(nn.Sequential(module))
        assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "output"]
        assert torch.equal(traced(input), module(input))
        assert torch.equal(torch.jit.trace(module, input)(input), module(input))


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_modules_take_masks_and_formats(rank: int, data_format: str) -> None:
    input = input_for(f"Pool{rank}d")
    mask = torch.arange(input[:, 0].numel()).view(input[:, 0].shape) % 3 > 0
    kept = mask.unsqueeze(1).expand_as(input)
    axes = tuple(range(2, 2 + rank))
    expected = torch.where(kept, input, 0).sum(axes) / kept.sum(axes), torch.where(kept, input, -torch.inf).amax(axes)
    given = input if data_format == "channels_first" else input.movedim(1, -1)
    for module, value in zip((torch_pooling.GlobalAvgPool, torch_pooling.GlobalMaxPool), expected, strict=True):
        pool = module(keepdim=False, data_format=data_format)
        torch.testing.assert_close(pool(given, mask=mask), value)
        assert not torch.equal(pool(given), pool(given, mask=mask))
        kept_dims = module(data_format=data_format)(given, mask=mask)
        shape = (2, 3, *(1,) * rank) if data_format == "channels_first" else (2, *(1,) * rank, 3)
        assert kept_dims.shape == shape and torch.equal(kept_dims.flatten(1), pool(given, mask=mask))
        if rank == 1:
            lengths = torch.tensor([4, 9])
            assert torch.equal(pool(given, lengths=lengths), pool(given, mask=torch.arange(9) < lengths.unsqueeze(1)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_sum_modules(rank: int) -> None:
    kind, function = getattr(torch_pooling, f"SumPool{rank}d"), getattr(functional, f"sum_pool{rank}d")
    input = input_for(f"Pool{rank}d")
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((2,), {}), ((2, 2), {"ceil_mode": True}), ((2, 1), {"dilation": 3}), ((3, 2, "same"), {}),
    ]  # fmt: skip
    for args, more in calls:
        module = kind(*args, **more)
        assert torch.equal(module(input), function(input, *args, **more))
        assert torch.equal(pickle.loads(pickle.dumps(module))(input), module(input))
    assert kind(2, 2, ceil_mode=True)(input).shape != kind(2, 2)(input).shape
    last = kind(2, data_format="channels_last")(input.movedim(1, -1))
    assert torch.equal(last, function(input, 2).movedim(1, -1))


def test_global_modules_show_their_arguments() -> None:
    assert list(inspect.signature(torch_pooling.GlobalAvgPool).parameters)[:1] == ["keepdim"]
    assert list(inspect.signature(torch_pooling.GlobalMaxPool).parameters)[:2] == ["keepdim", "return_indices"]
    assert "keepdim=False" in repr(torch_pooling.GlobalAvgPool(keepdim=False))
    maximum = torch_pooling.GlobalMaxPool(keepdim=False, return_indices=True)
    assert "keepdim=False" in repr(maximum) and "return_indices=True" in repr(maximum)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_dilated_average_module(rank: int) -> None:
    name = f"AvgPool{rank}d"
    plain, dilated = getattr(torch_pooling, name)(2), getattr(torch_pooling, name)(2, stride=1, dilation=3)
    assert "dilation" not in repr(plain), "what torch lacks shows only when set"
    assert "dilation=3" in repr(dilated)
    input = input_for(name)
    expected = getattr(functional, f"avg_pool{rank}d")(input, 2, 1, dilation=3)
    for module in (dilated, copy.deepcopy(dilated), pickle.loads(pickle.dumps(dilated))):
        assert torch.equal(module(input), expected)
    assert expected.shape[2:] == torch.Size(size - 3 for size in input.shape[2:])


def test_public_names() -> None:
    for name in [*NAMES, "GlobalAvgPool", "GlobalMaxPool"]:
        module = getattr(torch_pooling, name)
        assert name in torch_pooling.__all__
        assert module is getattr(torch_pooling.modules, name)
    assert torch_pooling.functional is functional


def test_signatures() -> None:
    class Own(torch_pooling.MaxPool2d):
        def __init__(self, channels: int, *, extra: int = 1) -> None:
            super().__init__(2)

    class Inherited(torch_pooling.AvgPool2d):
        pass

    assert list(inspect.signature(Own).parameters) == ["channels", "extra"]
    assert list(inspect.signature(Inherited).parameters)[-2:] == ["dilation", "data_format"]
