"""Concatenated, mean, mixed and pyramid pooling: equal to the torch operators they replace, in one operator, without a copy."""
from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as theirs
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import battery
from torch_pooling import functional, layers

OPS = torch.ops.torch_pooling
Pool = Callable[..., Tensor]


def adaptive(kind: str, input: Tensor, size: Any) -> Tensor:
    rank = input.dim() - 2
    found: Tensor = getattr(theirs, f"adaptive_{kind}_pool{rank}d")(input, size)
    return found


def concat(input: Tensor, output_size: Any = 1, *, order: Any = ("avg", "max")) -> Tensor:
    return torch.cat([adaptive(kind, input, output_size) for kind in order], 1)


def mean(input: Tensor, output_size: Any = 1) -> Tensor:
    return 0.5 * (adaptive("avg", input, output_size) + adaptive("max", input, output_size))


def pyramid(input: Tensor, levels: Any = (1, 2, 4), mode: str = "avg") -> Tensor:
    return torch.cat([adaptive(mode, input, level).flatten(1) for level in levels], 1)


def mixed(input: Tensor, kernel: Any = 3, stride: Any = 1, padding: Any = 1) -> Tensor:
    rank = input.dim() - 2
    maxima = getattr(theirs, f"max_pool{rank}d")(input, kernel, stride, padding)
    return torch.cat([maxima, getattr(theirs, f"avg_pool{rank}d")(input, kernel, stride, padding)], 1)


# (ours, theirs, arguments, spatial sizes)
CALLS: list[tuple[str, Pool, tuple[Any, ...], dict[str, Any], tuple[tuple[int, ...], ...]]] = [
    ("concat_pool", concat, (), {}, ((7,), (5, 6), (3, 4, 5))),
    ("concat_pool", concat, (2,), {"order": ("max", "avg")}, ((7,), (5, 6), (3, 4, 5))),
    ("concat_pool", concat, ((3, None),), {}, ((7, 4),)),
    ("avgmax_pool", mean, (), {}, ((9,), (5, 6), (3, 4, 5))),
    ("avgmax_pool", mean, (3,), {}, ((7,), (5, 8))),
    ("spatial_pyramid_pool", pyramid, (), {}, ((9,), (7, 5), (4, 5, 6))),
    ("spatial_pyramid_pool", pyramid, ((1, 2, 3, 6), "max"), {}, ((9,), (13, 7))),
    ("spatial_pyramid_pool", pyramid, ((3, 1), "max"), {}, ((4, 5, 6),)),
    ("mixed_pool", mixed, (), {}, ((9,), (5, 6), (3, 4, 5))),
    ("mixed_pool", mixed, ((2, 3), (2, 1), (1, 0)), {}, ((7, 8),)),
    ("mixed_pool", mixed, (5, 2, 2), {}, ((12, 11),)),
    ("mixed_pool", mixed, (), {}, ((1, 7), (4, 8), (3, 17), (19, 35), (70, 33))),
]
ROWS = [(*call[:4], size) for call in CALLS for size in call[4]]


def row_name(row: Any) -> str:
    return f"{row[0]}-{row[2]}-{row[4]}".replace(" ", "")


def values(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Multiples of 1/8 full of ties."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(-40, 41, shape, generator=generator) / 8).to(dtype)


def check(row: Any, layout: str, samples: tuple[tuple[int, int], ...]) -> None:
    """Values, gradients, types and layouts against the composition in float64, for each type and (batch, channels)."""
    name, composed, args, more, size = row
    pool = getattr(functional, name)
    for number, (dtype, (batch, channels)) in enumerate(itertools.product(battery.FLOATS, samples)):
        content = values((batch, channels, *size), dtype, number)
        what = (name, dtype, batch, channels, layout)
        view = battery.VIEWS[number % 3]
        input = battery.arrange(content, len(size), layout, view).detach().requires_grad_()
        reference = content.double().requires_grad_()
        found, expected = pool(input, *args, **more), composed(reference, *args, **more)
        assert found.shape == expected.shape and found.dtype == dtype, what
        eps = torch.finfo(dtype).eps
        # Sums are kept in float32 at least, results rounded once, and the average (up to 5) of a mean of both before.
        sums, mean = torch.finfo(torch.promote_types(dtype, torch.float32)).eps, name == "avgmax_pool" and dtype in battery.FLOATS[2:]
        torch.testing.assert_close(found.double(), expected.double(), rtol=eps, atol=16 * sums + 1.25 * eps * mean, msg=str(what))
        if dtype in (torch.float32, torch.float64):
            with torch.no_grad():
                assert torch.equal(pool(input, *args, **more), found.detach()), what
        grad = battery.arrange(values(tuple(found.shape), dtype, 7), found.dim() - 2, layout if found.dim() > 2 else "channels_first")
        (one,) = torch.autograd.grad(found, input, grad)
        other, weight = (torch.autograd.grad(expected, reference, g, retain_graph=True)[0] for g in (grad.double(), grad.double().abs()))
        # Each part is rounded as it is added: half an eps of what flows, for each of up to four.
        assert ((one.double() - other).abs() <= 2 * eps * weight + 64 * sums).all(), what
        if view != "stepped" and batch and battery.layouts_of(input, len(size)) == {layout}:
            assert layout in battery.layouts_of(one, len(size)), what
            assert found.dim() == 2 or layout in battery.layouts_of(found, len(size)), what


@pytest.mark.parametrize("layout", battery.LAYOUTS)
@pytest.mark.parametrize("row", ROWS, ids=row_name)
def test_values_and_gradients(row: Any, layout: str) -> None:
    check(row, layout, ((2, 3), (1, 17), (3, 1), (0, 5)))


# Results that turn from pixels to planes in whole vectors and with leftovers, of offsets of one byte, two and four; sums in 64 bits.
WIDE_ROWS = [
    ("spatial_pyramid_pool", pyramid, ((1, 2, 4, 8), "max"), {}, (16, 16)),
    ("spatial_pyramid_pool", pyramid, ((3, 1), "max"), {}, (60, 61)),
    ("spatial_pyramid_pool", pyramid, ((1, 2, 4), "avg"), {}, (16, 16)),
    ("concat_pool", concat, (), {}, (40, 41)),
    ("avgmax_pool", mean, (), {}, (260, 257)),
    ("mixed_pool", mixed, (), {}, (9, 35)),
]


@pytest.mark.parametrize("layout", battery.LAYOUTS)
@pytest.mark.parametrize("row", WIDE_ROWS, ids=row_name)
def test_instruction_sets(row: Any, layout: str, each_isa: Callable[[], Any]) -> None:
    few = ((1, 3),) if max(row[4]) > 100 else ((1, 70), (2, 37))
    for _ in each_isa():
        check(row, layout, few)


@pytest.mark.parametrize("row", ROWS, ids=row_name)
def test_special_values(row: Any) -> None:
    name, composed, args, more, size = row
    content = values((2, 3, *size), torch.float32)
    content[0, 0].fill_(-torch.inf)
    content[1, 1].view(-1)[::3] = torch.nan
    content[1, 2].view(-1)[1] = torch.inf
    for layout in battery.LAYOUTS:
        input = battery.arrange(content, len(size), layout).requires_grad_()
        plain = content.clone().requires_grad_()
        found, expected = getattr(functional, name)(input, *args, **more), composed(plain, *args, **more)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, equal_nan=True)
        (one,), (other,) = torch.autograd.grad(found.nan_to_num().sum(), input), torch.autograd.grad(expected.nan_to_num().sum(), plain)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", battery.LAYOUTS)
def test_the_shapes_of_the_text_book(layout: str) -> None:
    torch.manual_seed(0)
    input = battery.arrange(torch.randn(8, 256, 14, 14), 2, layout)
    for found, expected, shape in (
        (functional.concat_pool(input), concat(input), (8, 512, 1, 1)),
        (functional.spatial_pyramid_pool(input), pyramid(input), (8, 5376)),
        (functional.mixed_pool(input), mixed(input), (8, 512, 14, 14)),
        (functional.avgmax_pool(input), mean(input), (8, 256, 1, 1)),
    ):
        assert found.shape == shape
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    block = layers.MixedPoolingBlock(256)
    torch.testing.assert_close(block(input), block.conv(mixed(input)), rtol=1e-4, atol=1e-5)
    assert block(input).shape == (8, 256, 14, 14)


@pytest.mark.parametrize("row", [ROWS[n] for n in (1, 4, 8, 12, 13, 16, 20)], ids=row_name)
def test_derivatives_of_every_kind(row: Any) -> None:
    name, composed, args, more, size = row
    torch.manual_seed(1)
    input = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)

    def pool(x: Tensor) -> Tensor:
        return getattr(functional, name)(x, *args, **more)

    assert torch.autograd.gradcheck(pool, input, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    assert torch.autograd.gradgradcheck(pool, input, check_fwd_over_rev=True, check_batched_grad=True)
    stacked = torch.randn(3, 2, 2, *size, dtype=torch.float64)
    torch.testing.assert_close(torch.func.vmap(pool)(stacked), torch.stack([pool(one) for one in stacked]))
    torch.testing.assert_close(torch.func.vmap(pool, in_dims=2)(stacked), torch.stack([pool(one) for one in stacked.unbind(2)]))
    grads = torch.func.vmap(torch.func.grad(lambda x: pool(x).sin().sum()))(stacked)
    expected = torch.stack([torch.func.grad(lambda x: composed(x, *args, **more).sin().sum())(one) for one in stacked])
    torch.testing.assert_close(grads, expected)


@pytest.mark.parametrize("row", ROWS[::3], ids=row_name)
def test_compiled(row: Any) -> None:
    name, _, args, more, size = row
    torch._dynamo.reset()
    compiles = 0

    def count(graph: Any, inputs: Any) -> Any:
        nonlocal compiles
        compiles += 1
        return graph.forward

    def pool(x: Tensor) -> Tensor:
        return getattr(functional, name)(x, *args, **more)

    counted = torch.compile(pool, backend=count, fullgraph=True, dynamic=True)
    traced = torch.compile(pool, backend="aot_eager", fullgraph=True, dynamic=True)
    for extra in (0, 1, 5):
        input = torch.randn(2, 19, *(n + extra for n in size), requires_grad=True)  # no two sizes alike
        assert torch.equal(counted(input), pool(input))
        one, other = (torch.autograd.grad(f(input).sin().sum(), input)[0] for f in (traced, pool))
        assert torch.equal(one, other)
    assert compiles == 1


@pytest.mark.parametrize("layout", battery.LAYOUTS)
@pytest.mark.parametrize("row", ROWS[::4], ids=row_name)
def test_opcheck(row: Any, layout: str) -> None:
    name, _, args, more, size = row
    input = battery.arrange(values((2, 3, *size), torch.float32), len(size), layout).requires_grad_()
    caught: list[tuple[Any, tuple[Any, ...]]] = []

    class Catch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.namespace == "torch_pooling":
                caught.append((func, args))
            return func(*args, **(kwargs or {}))

    with Catch():
        output = getattr(functional, name)(input.detach(), *args, **more)
    ((_, called),) = caught
    shape = called[1:]
    torch.library.opcheck(OPS.combined_pool.default, (input, *shape))
    offsets = None
    if 1 in shape[2]:
        torch.library.opcheck(OPS.combined_pool_with_offsets.default, (input, *shape))
        _, offsets = OPS.combined_pool_with_offsets(input.detach(), *shape)
    torch.library.opcheck(OPS.combined_pool_gather.default, (input, offsets, *shape))
    grad = torch.randn_like(output).requires_grad_()
    torch.library.opcheck(OPS.combined_pool_backward.default, (grad, offsets, list(size), *shape, layout == "channels_last"))


class Counted(TorchDispatchMode):
    """The operators below autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("layout", battery.LAYOUTS)
@pytest.mark.parametrize("row", [row for row in ROWS if len(row[4]) == 2], ids=row_name)
def test_one_operator_and_no_other_memory(row: Any, layout: str) -> None:
    name, _, args, more, size = row
    input = battery.arrange(values((2, 3, *size), torch.float32), 2, layout)
    pool = getattr(functional, name)

    def allocated(call: Callable[[], Tensor]) -> tuple[list[int], Tensor]:
        """The sizes of all allocations that torch makes, and the result."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            result = call()
        found = [event.nbytes() for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
        return [size for size in found if size > 0], result

    with Counted() as forward:
        pool(input, *args, **more)
    assert forward.names == ["torch_pooling.combined_pool.default"]
    sizes, output = allocated(lambda: pool(input, *args, **more))
    assert sizes == [output.nbytes], (sizes, output.nbytes)

    leaf = input.detach().requires_grad_()
    output = pool(leaf, *args, **more)
    assert output.grad_fn is not None and output.grad_fn.name() == "CombinedPoolBackward"
    assert all(edge is None or edge[0].name().endswith("AccumulateGrad") for edge in output.grad_fn.next_functions)
    grad = torch.ones_like(output)
    with Counted() as backward:
        torch.autograd.grad(pool(leaf, *args, **more), leaf, grad)
    ours = [each for each in backward.names if "torch_pooling" in each]
    assert ours[-1] == "torch_pooling.combined_pool_backward.default" and len(ours) == 2
    sizes, _ = allocated(lambda: torch.autograd.grad(output, leaf, grad)[0])
    assert sizes == [leaf.nbytes], (sizes, leaf.nbytes)


@pytest.mark.parametrize("shape", [(2, 40, 33, 35), (3, 5, 300, 211), (1, 2, 700, 701), (1, 37, 60, 61)])
@pytest.mark.parametrize("layout", battery.LAYOUTS)
def test_pieces(shape: tuple[int, ...], layout: str, threads: Callable[[int], None]) -> None:
    """Inputs of several pieces, and of one that is larger than a piece; the bits are those of one thread with any number."""
    torch.manual_seed(3)
    input = battery.arrange(torch.randn(shape), 2, layout).requires_grad_()
    calls: list[tuple[Pool, Pool]] = [(functional.concat_pool, concat), (functional.avgmax_pool, mean),
                                      (functional.spatial_pyramid_pool, pyramid), (functional.mixed_pool, mixed)]
    for pool, composed in calls:
        results = []
        for count in (1, 2, 5):
            threads(count)
            output = pool(input)
            results.append((output, *torch.autograd.grad(output.sin().sum(), input)))
        assert all(torch.equal(*pair) for other in results[1:] for pair in zip(results[0], other, strict=True))
        plain = input.detach().double().requires_grad_()
        expected = composed(plain)
        torch.testing.assert_close(results[0][0].double(), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(results[0][1].double(), torch.autograd.grad(expected.sin().sum(), plain)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row", ROWS, ids=row_name)
def test_channels_last_tensors(row: Any) -> None:
    name, _, args, more, size = row
    input = torch.randn(2, 3, *size)
    last = input.movedim(1, -1).contiguous()
    found = getattr(functional, name)(last, *args, **more, data_format="channels_last")
    expected = getattr(functional, name)(input, *args, **more)
    if expected.dim() > 2:
        assert found.is_contiguous()
        expected = expected.movedim(1, -1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_errors() -> None:
    input = torch.zeros(2, 3, 6, 7)
    with pytest.raises(ValueError, match="order"):
        functional.concat_pool(input, order=("avg", "avg"))
    with pytest.raises(ValueError, match="order"):
        functional.concat_pool(input, order=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="levels.*2.5"):
        functional.spatial_pyramid_pool(input, (1, 2.5))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="kernel_size.*'3'"):
        functional.mixed_pool(input, "3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode"):
        functional.spatial_pyramid_pool(input, mode="sum")
    for levels in ((), (0,), (1,) * 9):
        with pytest.raises(RuntimeError, match="levels must be 1 to 8 numbers"):
            functional.spatial_pyramid_pool(input, levels)
    with pytest.raises(RuntimeError, match="output_size.*2 elements.*3"):
        functional.concat_pool(input, (1, 2, 3))
    with pytest.raises(RuntimeError, match="padding must be at most half"):
        functional.mixed_pool(input, 3, 1, 2)
    with pytest.raises(RuntimeError, match="1 to 3 spatial axes, but got 2-D"):
        functional.concat_pool(input[0, 0])
    with pytest.raises(TypeError, match="input.*Tensor"):
        functional.avgmax_pool([1.0])  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="concat_pool: not implemented for input of type Long"):
        functional.concat_pool(input.long())
    shape: tuple[Any, ...] = (2, 0, [0, 1], [2, 2, 2, 2], [], [])
    output, offsets = OPS.combined_pool_with_offsets(input, *shape)
    good = (output, offsets, [6, 7], *shape, False)
    OPS.combined_pool_backward(*good)
    for number, bad, message in (
        (0, output[:, :5], "grad_output must have a multiple of 2"),
        (0, output[0], "expected grad_output to be 4-D"),
        (0, output.long(), "grad_output of type Long"),
        (1, offsets[:1], "offsets must have sizes"),
        (1, None, "offsets must be given"),
        (1, offsets.float(), "offsets must be of type"),
        (2, [6], "input_size must have 2"),
        (2, [0, 7], "input_size must be greater than zero"),
        (3, 3, "sizes must have 6"),
        (3, 0, "rank must be 1, 2 or 3"),
        (4, 3, "form must be 0"),
        (4, -1, "form must be 0"),
        (5, [0, 2], "kinds must be 0"),
        (5, [], "kinds must name 1 to 8 parts"),
        (5, [0] * 9, "kinds must name 1 to 8 parts"),
        (6, [2, 2], "sizes must have 4"),
        (6, [2, 2, 2, 3], "the same output sizes"),
        (6, [2**62] * 4, "output_size 4611686018427387904 is too large"),
    ):
        with pytest.raises((RuntimeError, NotImplementedError), match=message):
            OPS.combined_pool_backward(*good[:number], bad, *good[number + 1 :])


def test_modules() -> None:
    input = torch.randn(2, 6, 9, 9)
    assert torch.equal(layers.ConcatPooling(order=("max", "avg"))(input), functional.concat_pool(input, order=("max", "avg")))
    assert torch.equal(layers.AvgMaxPooling(2)(input), functional.avgmax_pool(input, 2))
    assert torch.equal(layers.SpatialPyramidPooling([1, 3], "max")(input), functional.spatial_pyramid_pool(input, (1, 3), "max"))
    assert repr(layers.SpatialPyramidPooling()) == "SpatialPyramidPooling(levels=[1, 2, 4], mode='avg')"
    assert repr(layers.ConcatPooling()) == "ConcatPooling(output_size=1, order=('avg', 'max'))"
    head = layers.GAPClassificationHead(512, 1000)
    assert sum(p.numel() for p in head.parameters()) == 512 * 1000 + 1000
    assert head(torch.randn(2, 512, 7, 7)).shape == (2, 1000)
    with torch.device("meta"):
        classic = layers.ClassicClassificationHead(512, 7, 1000)
        assert sum(p.numel() for p in classic.parameters()) == (25088 + 1) * 4096 + 4097 * 4096 + 4097 * 1000
        assert classic(torch.randn(2, 512, 7, 7)).shape == (2, 1000)
    assert [type(each).__name__ for each in classic.classifier].count("Dropout") == 2
    with pytest.raises(ValueError, match="mode"):
        layers.SpatialPyramidPooling(mode="sum")
    with pytest.raises(ValueError, match="order"):
        layers.ConcatPooling(order=("avg",))


@pytest.mark.parametrize(("layer", "result_is_last"), [
    (lambda **format: layers.ConcatPooling(2, **format), True),
    (lambda **format: layers.AvgMaxPooling(2, **format), True),
    (lambda **format: layers.SpatialPyramidPooling([1, 3], "max", **format), False),
    (lambda **format: layers.MixedPoolingBlock(6, **format), True),
    (lambda **format: layers.GAPClassificationHead(6, 10, **format), False),
    (lambda **format: layers.ClassicClassificationHead(6, (9, 5), 10, **format), False),
])  # fmt: skip
def test_modules_in_channels_last(layer: Any, result_is_last: bool) -> None:
    torch.manual_seed(0)
    first, last = layer().eval(), layer(data_format="channels_last").eval()
    last.load_state_dict(first.state_dict())
    input = torch.randn(2, 6, 9, 5)
    found = last(input.movedim(1, -1).contiguous())
    torch.testing.assert_close(found.movedim(-1, 1) if result_is_last else found, first(input), rtol=1e-5, atol=1e-6)
    assert "data_format='channels_last'" in repr(last) and "data_format" not in repr(first)
    with pytest.raises(ValueError, match=r"data_format must be .* but got 'NHWC'"):
        layer(data_format="NHWC")
