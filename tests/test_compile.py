"""Tracing: torch.compile, torch.export, fx, jit.trace, fake and meta tensors, symbolic sizes.

Everything goes through aot_eager, which traces forward and backward in full and then runs our own kernels: what can go
wrong is the tracing. A few Inductor runs are marked slow. Fake and meta answers (shapes, dtypes, strides) are compared
with real runs over the whole table of cases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch._dynamo.source import ConstantSource
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

import torch_pooling
from cases import CASES, Case, adaptive, sliding, whole
from torch_pooling import functional

COMPILED: list[Case] = [
    sliding(13, 3, 2, 1, ceil_mode=True),
    sliding(12, 2),
    sliding((9, 10), 3, 2, 1),
    sliding((9, 10), (3, 2), (2, 1), (1, 0), (1, 2), ceil_mode=True, count_include_pad=False),
    sliding((8, 9), 2, divisor=3, average_only=True),
    sliding((5, 8, 7), (1, 3, 3), (1, 2, 2), (0, 1, 1)),
    adaptive((11,), 5),
    adaptive((11, 10), (3, None)),
    adaptive((5, 6, 7), 2),
    whole((11,)),
    whole((9, 8)),
    whole((3, 5, 6)),
]
CALLS = [(case, kind) for case in COMPILED for kind in ("avg", "max") if kind == "avg" or not case.average_only]
per_call = pytest.mark.parametrize(
    ("case", "kind"), CALLS, ids=lambda value: value.name if isinstance(value, Case) else value
)
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{f"MaxPool{r}d": (lambda r=r: getattr(torch_pooling, f"MaxPool{r}d")(3, 2, 1), (9, 8, 7)[:r]) for r in (1, 2, 3)},
    **{f"AvgPool{r}d": (lambda r=r: getattr(torch_pooling, f"AvgPool{r}d")(2, 1), (9, 8, 7)[:r]) for r in (1, 2, 3)},
    **{f"AdaptiveMaxPool{r}d": (lambda r=r: getattr(torch_pooling, f"AdaptiveMaxPool{r}d")(3), (9, 8, 7)[:r])
       for r in (1, 2, 3)},
    **{f"AdaptiveAvgPool{r}d": (lambda r=r: getattr(torch_pooling, f"AdaptiveAvgPool{r}d")(3), (9, 8, 7)[:r])
       for r in (1, 2, 3)},
    "GlobalAvgPool": (lambda: torch_pooling.GlobalAvgPool(keepdim=False), (9, 8)),
    "GlobalMaxPool": (lambda: torch_pooling.GlobalMaxPool(), (9, 8)),
}
per_module = pytest.mark.parametrize("name", MODULES)
per_layout = pytest.mark.parametrize("layout", ["channels_first", "channels_last"])


@pytest.fixture(autouse=True)
def forget_compiled_code() -> None:
    torch._dynamo.reset()


def input_of(shape: tuple[int, ...], layout: str = "channels_first") -> Tensor:
    content = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    return content.movedim(1, -1).contiguous().movedim(-1, 1) if layout == "channels_last" else content


def input_for(case: Case, layout: str = "channels_first") -> Tensor:
    """No two sizes alike in any case: tracing would take equal sizes for the same one."""
    return input_of((case.batch, 4, *case.size), layout)


def forward_and_backward(function: Callable[[Tensor], Any], input: Tensor) -> tuple[Tensor, ...]:
    leaf = input.detach().requires_grad_()
    result = function(leaf)
    outputs = result if isinstance(result, tuple) else (result,)
    (gradient,) = torch.autograd.grad((outputs[0] * torch.arange(outputs[0].numel()).view(outputs[0].shape)).sum(), leaf)
    return (*outputs, gradient)


def check_same(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """Bit-equal and laid out alike: the same kernels ran."""
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected):
        assert one.dtype == other.dtype and one.shape == other.shape and one.stride() == other.stride()
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("layout", "dynamic"), [("channels_first", True), ("channels_last", True), ("channels_last", False)]
)
@per_call
def test_compile_functions(case: Case, kind: str, layout: str, dynamic: bool) -> None:
    def function(input: Tensor) -> Any:
        return case.call(functional, kind, input)

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, backend=counter, dynamic=dynamic)
    input = input_for(case, layout)
    check_same(forward_and_backward(compiled, input), forward_and_backward(function, input))
    with torch.no_grad():
        assert torch.equal(compiled(input), function(input))
    if dynamic:  # other sizes, one compilation with and one without a gradient
        larger = input_of((case.batch + 1, 5, *(size + 6 for size in case.size)), layout)
        check_same(forward_and_backward(compiled, larger), forward_and_backward(function, larger))
        assert counter.frame_count == 2


@per_module
def test_compile_modules(name: str) -> None:
    make, size = MODULES[name]
    module = make()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in ((2, 3, *size), (3, 4, *(extent + 5 for extent in size))):
        check_same(forward_and_backward(compiled, input_of(shape)), forward_and_backward(module, input_of(shape)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_compile_with_returned_indices(rank: int) -> None:
    sliding_max, adaptive_max = (getattr(functional, f"{name}max_pool{rank}d") for name in ("", "adaptive_"))

    def function(input: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first = sliding_max(input, 3, 2, 1, 1, True, True)
        second = adaptive_max(input, 2, return_indices=True)
        third, _ = functional.global_max_pool(input, return_indices=True)
        return first[0].flatten(1).sum(1) + second[0].flatten(1).sum(1) + third.flatten(1).sum(1), *first, second[1]

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((7, 8, 9)[:rank], (9, 12, 6)[:rank]):
        input = input_of((2, 3, *size))
        check_same(forward_and_backward(compiled, input), forward_and_backward(function, input))


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("family", ["sliding", "adaptive", "global"])
def test_one_compilation_for_many_image_sizes(family: str, kind: str) -> None:
    """Also across 256 window elements, where an eager run changes the type of the saved offsets.

    And with and without a last window that ceil_mode adds: that rule must not become a guard on the size.
    """
    case = {"sliding": sliding((1, 1), 2, 3, ceil_mode=True), "adaptive": adaptive((1, 1), 2),
            "global": whole((1, 1))}[family]
    counter = CompileCounterWithBackend("aot_eager")

    def function(input: Tensor) -> Any:
        return case.call(functional, kind, input)

    compiled = torch.compile(function, fullgraph=True, backend=counter, dynamic=True)
    for height, width in ((10, 11), (16, 17), (33, 32), (40, 57), (63, 64)):
        input = input_of((2, 3, height, width))
        check_same(forward_and_backward(compiled, input), forward_and_backward(function, input))
    assert counter.frame_count == 1


def test_symbolic_arguments_do_not_specialise() -> None:
    """Kernel, stride and output size computed from the input's size."""
    counter = CompileCounterWithBackend("aot_eager")

    def function(input: Tensor) -> Tensor:
        half = input.size(-1) // 2
        return (
            functional.adaptive_avg_pool2d(input, (half, half)) + functional.adaptive_max_pool2d(input, (half, half))
            + functional.avg_pool2d(input, input.size(-1) - half + 1, 1)[..., :half, :half].sum()
            + functional.max_pool2d(input, (half, half), (half, half)).sum()
            + functional.max_pool2d(input, half, return_indices=True)[1].sum()
        )

    compiled = torch.compile(function, fullgraph=True, backend=counter, dynamic=True)
    for size in (10, 12, 16, 22, 40):
        input = input_of((2, 3, size, size))
        check_same(forward_and_backward(compiled, input), forward_and_backward(function, input))
    assert counter.frame_count == 1


def model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), torch_pooling.MaxPool2d(3, 2, 1), nn.ReLU(),
        torch_pooling.AvgPool2d(2, ceil_mode=True), torch_pooling.AdaptiveMaxPool2d(3),
        torch_pooling.AdaptiveAvgPool2d((2, None)), torch_pooling.GlobalAvgPool(keepdim=False), nn.Linear(4, 2),
    )


def test_compile_a_model_with_autocast_and_inference_mode() -> None:
    network = model()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in (16, 21):
        input = input_of((2, 3, size, size), "channels_last")
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(compiled(input), network(input))
        with torch.inference_mode():
            torch.testing.assert_close(compiled(input), network(input))


@pytest.mark.parametrize("strict", [True, False])
def test_export_round_trip(strict: bool) -> None:
    network = model().eval()
    sizes = {0: torch.export.Dim("batch", min=2, max=64), 2: torch.export.Dim("height", min=8, max=512),
             3: torch.export.Dim("width", min=8, max=512)}
    program = torch.export.export(network, (input_of((2, 3, 16, 18)),), dynamic_shapes=(sizes,), strict=strict)
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "torch_pooling.avg_pool.default" in targets and "torch_pooling.adaptive_avg_pool.default" in targets
    for shape in ((2, 3, 16, 18), (5, 3, 40, 23), (3, 3, 9, 100)):
        torch.testing.assert_close(program.module()(input_of(shape)), network(input_of(shape)))


def test_export_saves_and_loads(tmp_path: Any) -> None:
    network, input = model().eval(), input_of((2, 3, 16, 18))
    program = torch.export.export(network, (input,))
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2")
    torch.testing.assert_close(loaded.module()(input), network(input))
    decomposed = program.run_decompositions()
    torch.testing.assert_close(decomposed.module()(input), network(input))


@per_call
def test_fx_traces_functions(case: Case, kind: str) -> None:
    """A Proxy overrides __torch_function__: the call must land in the graph, arguments included."""
    traced = torch.fx.symbolic_trace(lambda input: case.call(functional, kind, input) + 0)
    assert [node.op for node in traced.graph.nodes][0] == "placeholder"
    assert any(node.op == "call_function" and "pool" in str(node.target) for node in traced.graph.nodes)
    input = input_for(case)
    assert torch.equal(traced(input), case.call(functional, kind, input))


class Logged(Tensor):
    """A subclass that counts what passes through its __torch_function__."""

    calls: list[str] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Logged.calls.append(str(func))
        return super().__torch_function__(func, types, args, kwargs or {})


@per_call
def test_tensor_subclasses_are_asked(case: Case, kind: str) -> None:
    Logged.calls.clear()
    input = input_for(case)
    output = case.call(functional, kind, input.as_subclass(Logged))
    assert type(output) is Logged and any("pool" in call for call in Logged.calls)
    assert torch.equal(output.as_subclass(Tensor), case.call(functional, kind, input))


class Checked(torch.fx.Interpreter):
    """Runs a traced graph and compares the type of every intermediate result with what tracing said it would be."""

    def run_node(self, node: torch.fx.Node) -> Any:
        result = super().run_node(node)
        if node.op == "call_function":
            for actual, traced in zip(pytree.tree_leaves(result), pytree.tree_leaves(node.meta["val"]), strict=True):
                if isinstance(actual, Tensor):
                    assert (actual.dtype, actual.dim()) == (traced.dtype, traced.dim()), node.format_node()
        return result


@per_call
def test_make_fx_with_symbolic_sizes(case: Case, kind: str) -> None:
    """One graph for all sizes, the saved offsets being 32 bits wide only where the window depends on the size."""

    def function(input: Tensor) -> tuple[Tensor, ...]:
        leaf = input.detach().requires_grad_()
        output = case.call(functional, kind, leaf)
        return output.detach(), *torch.autograd.grad(output.sum(), leaf)

    graph = make_fx(function, tracing_mode="symbolic")(input_for(case))
    larger = input_of((case.batch + 2, 6, *(size + 5 for size in case.size)))
    for input in (input_for(case), larger):
        check_same(tuple(Checked(graph).run(input)), function(input))
    ours = [node for node in graph.graph.nodes if "torch_pooling" in str(node.target)]
    assert len(ours) == 2
    if kind == "max":
        assert ours[0].meta["val"][1].dtype == (torch.uint8 if case.family == "sliding" else torch.int32)


@pytest.mark.parametrize("gradient", [False, True])
def test_windows_of_symbolic_size(gradient: bool) -> None:
    """A kernel computed from the input's size: every result in the graph keeps the type that tracing promised."""

    def function(input: Tensor) -> tuple[Tensor, ...]:
        leaf = input.detach().requires_grad_(gradient)
        half = leaf.size(-1) // 2
        output, offsets = torch.ops.torch_pooling.max_pool_with_offsets(leaf, 2, [half], [], [0], [1], False, True)
        total = output.sum() + functional.max_pool2d(leaf, (half, 2)).sum()
        return (output.detach(), offsets, *(torch.autograd.grad(total, leaf) if gradient else ()))

    graph = make_fx(function, tracing_mode="symbolic")(input_of((2, 3, 8, 10)))
    for shape in ((2, 3, 8, 10), (4, 5, 40, 36)):
        for actual, expected in zip(Checked(graph).run(input_of(shape)), function(input_of(shape)), strict=True):
            assert torch.equal(actual.double(), expected.double())


def description(result: Any) -> list[tuple[Any, ...]]:
    outputs = result if isinstance(result, tuple) else (result,)
    return [(output.dtype, tuple(output.shape), output.stride()) for output in outputs]


def described_calls(case: Case, input: Tensor) -> list[list[tuple[Any, ...]]]:
    """Dtypes, shapes and strides of both kinds of pool of one input, with indices, and of the gradients."""
    found = []
    for kind in ("avg",) * case.has_average + ("max",) * (not case.average_only):
        leaf = input.detach().requires_grad_()
        output = case.call(functional, kind, leaf)
        (gradient,) = torch.autograd.grad(output, leaf, torch.ones_like(output))
        found += [description(output), description(gradient)]
        if kind == "max":
            found.append(description(case.call(functional, "max", input, return_indices=True)))
    return found


@per_layout
@pytest.mark.parametrize("family", ["sliding", "adaptive", "global"])
def test_meta_and_fake_tensors_describe_real_results(family: str, layout: str) -> None:
    compared = 0
    for case in CASES:
        if case.family != family or torch.Size(case.size).numel() > 2000:
            continue
        real = input_of((case.batch, case.channels, *case.size), layout)
        real = real.to((torch.float32, torch.bfloat16, torch.float64)[compared % 3])
        expected = described_calls(case, real)
        assert described_calls(case, real.to("meta")) == expected, case.name
        with FakeTensorMode() as mode:
            assert described_calls(case, mode.from_tensor(real)) == expected, case.name
        compared += 1
    assert compared > 10


@per_layout
def test_meta_describes_unbatched_empty_and_sliced_inputs(layout: str) -> None:
    for case in COMPILED:
        if case.family == "global":
            continue
        batched = input_for(case, layout)
        for real in (batched[0], batched[:0], batched[:, ::2], batched[:, :1], batched.expand(2, *batched.shape[1:])):
            meta = torch.empty_strided(real.shape, real.stride(), device="meta")
            assert described_calls(case, meta) == described_calls(case, real), (case.name, real.shape)


@per_call
def test_symbolic_sizes_stay_symbolic(case: Case, kind: str) -> None:
    """The output's size is an expression of the input's, and nothing pins the input to this one size."""
    real = input_for(case)
    mode = FakeTensorMode(shape_env=ShapeEnv())
    dynamic = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC] * real.dim())
    input = mode.from_tensor(real, source=ConstantSource("input"), symbolic_context=dynamic)
    assert all(isinstance(size, torch.SymInt) for size in input.shape)
    output, expected = case.call(functional, kind, input), case.call(functional, kind, real)
    assert isinstance(output.shape[0], torch.SymInt) and isinstance(output.shape[1], torch.SymInt)
    if case.family == "sliding":
        assert all(isinstance(size, torch.SymInt) for size in output.shape)
    assert mode.shape_env.replacements == {}, "specialised"
    assert [int(size) for size in output.shape] == list(expected.shape)  # this does specialise


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@per_layout
def test_inductor(layout: str, dynamic: bool) -> None:
    """Real code generation around our operators: results, gradients and strides as in eager."""

    def function(input: Tensor) -> Tensor:
        features = functional.max_pool2d((input * 2).relu(), 3, 2, 1)
        features = functional.avg_pool2d(features + 1, 2, ceil_mode=True)
        heads = functional.adaptive_avg_pool2d(features, 3) * functional.adaptive_max_pool2d(features, 3)
        return heads + functional.global_avg_pool(input) - functional.global_max_pool(input)

    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic)
    for size in (24, 31) if dynamic else (24,):
        input = input_of((2, 4, size, size + 3), layout)
        actual, expected = forward_and_backward(compiled, input), forward_and_backward(function, input)
        for one, other in zip(actual, expected):
            torch.testing.assert_close(one, other)
            assert one.stride() == other.stride()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 3])
def test_inductor_other_ranks(rank: int) -> None:
    max_pool, avg_pool = (getattr(functional, f"{kind}_pool{rank}d") for kind in ("max", "avg"))

    def function(input: Tensor) -> Tensor:
        maximum = max_pool(input.sin(), 2, return_indices=True)
        average = avg_pool(input, 2, dilation=2, stride=2)
        return maximum[0].sum() + average.cos().sum() + maximum[1].sum()

    compiled = torch.compile(function, fullgraph=True, dynamic=True)
    for size in ((11, 8, 9)[:rank], (14, 10, 12)[:rank]):
        input = input_of((2, 3, *size))
        torch.testing.assert_close(forward_and_backward(compiled, input), forward_and_backward(function, input))
