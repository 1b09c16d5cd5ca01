"""The same bits on every run, for every number of threads, and, of maxima, on every instruction set.

How far averages of two instruction sets may lie apart is bounded here and stated in docs/trust.md.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from battery import FLOATS, LAYOUTS, arrange
from conftest import INSTRUCTION_SETS
from emulated import EMULATED
from good_calls import ALL, operator_of
from torch_pooling import _library, functional

RUNS = 4 if EMULATED else 20  # emulated threads have one order, whatever torch's number is; cuda_emulation/permuted.py gives them others
THREADS = (1, 2, 3, 4, 5, 6, 7, 8)
SIZES: dict[int, tuple[int, ...]] = {1: (15_001,), 2: (90, 103), 3: (15, 20, 31)}  # enough for several threads
LARGE = {1: 301, 2: 21, 3: 7}


def _pools(rank: int) -> dict[str, Callable[[Tensor], Any]]:
    """Every function, with windows that go different ways through the kernels: small, large, far apart, global."""
    pool = {name: getattr(functional, f"{name}_pool{rank}d") for name in ("max", "avg", "sum", "adaptive_max", "adaptive_avg")}
    large = LARGE[rank]
    calls: dict[str, Callable[[Tensor], Any]] = {
        "max 2": lambda x: pool["max"](x, 2),
        "max 3 s1": lambda x: pool["max"](x, 3, 1, 1, return_indices=True),
        "max 3 s2 d2": lambda x: pool["max"](x, 3, 2, 2, 2),
        "max large": lambda x: pool["max"](x, large, 1, large // 2),
        "avg 2": lambda x: pool["avg"](x, 2),
        "avg 3 s2": lambda x: pool["avg"](x, 3, 2, 1, count_include_pad=False),
        "avg large": lambda x: pool["avg"](x, large, 1, large // 2),
        "sum same": lambda x: pool["sum"](x, 4, 3, "same"),
        "adaptive_max": lambda x: pool["adaptive_max"](x, 7, return_indices=True),
        "adaptive_avg": lambda x: pool["adaptive_avg"](x, 7),
        "global_avg": functional.global_avg_pool,
        "global_max": functional.global_max_pool,
        "concat": lambda x: functional.concat_pool(x, 3),
        "avgmax": functional.avgmax_pool,
        "pyramid": lambda x: functional.spatial_pyramid_pool(x, (1, 2, 5), "avg"),
        "mixed": functional.mixed_pool,
        "masked avg": lambda x: functional.global_avg_pool(x, mask=_mask(x)),
        "masked max alone": lambda x: functional.global_max_pool(x, mask=_mask(x)),
        "masked max": lambda x: functional.global_max_pool(x, mask=_mask(x), return_indices=True),
    }
    return calls


def _mask(input: Tensor) -> Tensor:
    return (torch.arange(input[:, 0].numel(), device=input.device) % 7 > 1).view(input[:, 0].shape)


def _parts(result: Any) -> list[Tensor]:
    return list(result) if isinstance(result, tuple) else [result]


def _waves(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return torch.sin(torch.arange(shape.numel(), dtype=torch.float64)).to(dtype).view(shape)


def _all(call: Callable[[Tensor], Any], input: Tensor) -> list[Tensor]:
    parts = _parts(call(input))
    return [part.detach() for part in parts] + list(torch.autograd.grad(parts[0], input, _waves(parts[0].shape, input.dtype)))


def _everything(call: Callable[[Tensor], Any], input: Tensor) -> list[Tensor]:
    """Without a graph; with one, the gradient, and the gradient of that: kernels without offsets, with them, pulls and gathers."""
    with torch.no_grad():
        found = _parts(call(input))
    parts = _parts(call(input))
    grad = _waves(parts[0].shape, input.dtype).requires_grad_()
    first = torch.autograd.grad(parts[0], input, grad, create_graph=True)[0]
    return [part.detach() for part in (*found, *parts, first, *torch.autograd.grad(first, grad, _waves(first.shape, input.dtype)))]


def _input(rank: int, dtype: torch.dtype, layout: str) -> Tensor:
    """Normal numbers; in the last two channels hardly anything but zeros of both signs, and a NaN here and there."""
    random = torch.Generator().manual_seed(rank)
    content = torch.randn(2, 5, *SIZES[rank], generator=random)
    content[:, 3] = torch.where(content[:, 3] < 0, -0.0, 0.0)
    content[:, 4] = torch.where(content[:, 4] > 2, torch.nan, content[:, 4])
    return arrange(content.to(dtype), rank, layout).requires_grad_()


def _same(found: list[Tensor], expected: list[Tensor]) -> bool:
    """The same bits."""
    return all(torch.equal(_bits(one), _bits(other)) for one, other in zip(found, expected, strict=True))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def _equal(found: list[Tensor], expected: list[Tensor]) -> bool:
    """The same numbers: zeros of both signs are equal, and NaNs."""
    return all(bool(((one == other) | (one.isnan() & other.isnan())).all()) for one, other in zip(found, expected, strict=True))


@pytest.fixture
def restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    _library.force_instruction_set(None)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_runs_and_threads(rank: int, dtype: torch.dtype, layout: str, restored: None) -> None:
    """Runs of each call, on 1 to 8 threads in turn, forward, backward and twice; the memory of results differs from run to run."""
    input = _input(rank, dtype, layout)
    for name, call in _pools(rank).items():
        torch.set_num_threads(1)
        expected, kept = _everything(call, input), []
        for run in range(1, RUNS):
            torch.set_num_threads(THREADS[run % len(THREADS)])
            kept.append(_everything(call, input))
            assert _same(kept[-1], expected), (name, run)
            if len(kept) > 3:
                del kept[0]


class _Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        namespace, _, name = operator._schema.name.partition("::")
        if namespace == "torch_pooling":
            self.found.add(name)
        return operator(*args, **(kwargs or {}))


def test_every_operator_is_among_them() -> None:
    with _Names() as names:
        for call in _pools(2).values():
            _everything(call, _input(2, torch.float32, "channels_first"))
    assert names.found == {operator_of(name).__name__ for name in ALL}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", (torch.int8, torch.uint8, torch.int32, torch.int64), ids=str)
def test_maxima_of_integers(dtype: torch.dtype, layout: str, restored: None) -> None:
    input = arrange((_waves(torch.Size((2, 5, 90, 103)), torch.float64) * 100).abs().to(dtype), 2, layout)
    for name, call in _pools(2).items():
        if not name.startswith(("max", "adaptive_max", "global_max", "masked max")):
            continue
        torch.set_num_threads(1)
        expected = _parts(call(input))
        for threads in THREADS:
            torch.set_num_threads(threads)
            for isa in INSTRUCTION_SETS:
                _library.force_instruction_set(isa)
                assert _same(_parts(call(input)), expected), (name, threads, isa)


# Whose rows of gradients some instruction sets fill by permutations and others pull, [size, kernel, stride, padding]: shorter than a vector,
# of a few, of more than eight; one window only, nothing read at an end, depths that are read by none.
PERMUTED: tuple[tuple[tuple[int, ...], Any, Any, Any], ...] = (
    ((17, 17), 3, 2, 0), ((35, 36), 3, 2, 1), ((112, 130), 3, 2, 1), ((9, 5), 3, 2, 0), ((3, 3), 3, 2, 0), ((41, 90), (3, 4), 2, 1),
    ((30, 33), (1, 3), 2, 0), ((7, 19, 21), 3, 2, 1), ((6, 10, 64), 3, 2, 0), ((8, 12, 16), (1, 3, 3), (3, 2, 2), 0),
    ((5, 3, 3), (3, 3, 3), 2, 0), ((9, 14, 13), (5, 3, 3), 4, (1, 0, 1)), ((16, 31, 28), (4, 3, 3), (3, 2, 2), 1),
)  # fmt: skip


@pytest.mark.skipif(len(INSTRUCTION_SETS) < 2, reason="one instruction set")
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("size, kernel, stride, padding", PERMUTED, ids=str)
def test_permuted_and_pulled_gradients(size: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dtype: torch.dtype, restored: None) -> None:
    """The same bits from every instruction set, and those that float64 rounds to within the additions of at most eight gradients."""
    random = torch.Generator().manual_seed(sum(size))
    name = f"max_pool{len(size)}d"
    for batch, channels in ((2, 37), (1, 1)):
        input = torch.randn(batch, channels, *size, generator=random).to(dtype).requires_grad_()
        found = []
        for isa in INSTRUCTION_SETS:
            _library.force_instruction_set(isa)
            found.append(_all(lambda x: getattr(functional, name)(x, kernel, stride, padding), input))
        for other in found[1:]:
            assert _same(other, found[0])
        wide = input.detach().double().requires_grad_()
        expected = _all(lambda x: getattr(torch.nn.functional, name)(x, kernel, stride, padding), wide)
        torch.testing.assert_close(found[0][1].double(), expected[1], rtol=4 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps)


ADAPTIVE = (((27, 31), (13, 13)), ((56, 56), (13, 13)), ((60, 60), (14, 14)), ((112, 112), (50, 50)), ((583, 3), (291, 6)), ((64, 64), (13, 7)))


@pytest.mark.skipif(len(INSTRUCTION_SETS) < 2, reason="one instruction set")
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("size, output", ADAPTIVE, ids=str)
def test_gradients_of_adaptive_maxima(size: tuple[int, ...], output: tuple[int, ...], dtype: torch.dtype, restored: None) -> None:
    """Rows that several others share: some instruction sets permute these gradients, some scatter them, in one order. Few planes, and so
    many that four of them take turns."""
    for planes in (1, 3, 6):
        for seed in range(5):
            input = torch.randn(1, planes, *size, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()
            found = []
            for isa in INSTRUCTION_SETS:
                _library.force_instruction_set(isa)
                found.append(_all(lambda x: functional.adaptive_max_pool2d(x, output), input))
            for other in found[1:]:
                assert _same(other, found[0]), (planes, seed)


ZEROS = (
    ((20, 20), 5, 1, 2, 1), ((20, 21), 2, 1, 0, 1), ((40, 37), 13, 1, 6, 1), ((19, 24), (1, 5), 1, (0, 2), 1), ((19, 24), (5, 1), 1, (2, 0), 1),
    ((23, 18), 3, 1, 2, 2), ((9, 70), (9, 4), 1, (4, 2), 1), ((7, 7), 3, 1, 1, 1), ((30, 90), 3, 1, 1, 1), ((30, 300), 7, 1, 3, 1),
    ((50,), 6, 1, 2, 1), ((5, 12, 13), (1, 4, 4), 1, 0, 1), ((6, 11, 12), 3, 1, 1, 1), ((20, 31), 3, 2, 1, 1), ((20, 33), 2, 2, 0, 1),
)  # fmt: skip


@pytest.mark.skipif(len(INSTRUCTION_SETS) < 2, reason="one instruction set")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("window", ZEROS, ids=str)
def test_signs_of_zeros(window: Any, layout: str, restored: None) -> None:
    """Which of two zeros a maximum is, where windows hold hardly anything else: with offsets and without."""
    size, *args = window
    random = torch.Generator().manual_seed(3)
    content = torch.where(torch.rand(2, 9, *size, generator=random) < 0.5, 0.0, -0.0)
    content[torch.rand(content.shape, generator=random) < 0.02] = float("nan")
    for dtype in FLOATS:
        found = []
        for isa in INSTRUCTION_SETS:
            _library.force_instruction_set(isa)
            input = arrange(content.to(dtype), len(size), layout)
            pool = getattr(functional, f"max_pool{len(size)}d")
            found.append([pool(input, *args), pool(input.requires_grad_(), *args).detach()])
        for other in found[1:]:
            for one, two in zip(other, found[0], strict=True):
                assert torch.equal(one.signbit() & ~one.isnan(), two.signbit() & ~two.isnan()), dtype


@pytest.mark.skipif(len(INSTRUCTION_SETS) < 2, reason="one instruction set")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_instruction_sets(rank: int, dtype: torch.dtype, layout: str, restored: None) -> None:
    """Maxima number for number. Averages: the sum of n numbers, in any order, is within n - 1 roundings of the sum of their magnitudes
    (Higham, Accuracy and Stability of Numerical Algorithms, 4.4), one more for the division and one for a weight, so two of them within
    2 (n + 2); where results are stored in 16 bits, each is rounded to these once. And on these inputs, in which n is up to 15,001, within 32
    of the largest result."""
    input = _input(rank, dtype, layout)
    wide = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps / 2
    stored = 0 if dtype in (torch.float32, torch.float64) else torch.finfo(dtype).eps
    plane = math.prod(SIZES[rank])
    taps = {"avg 2": 2**rank, "avg 3 s2": 3**rank, "avg large": LARGE[rank] ** rank, "sum same": 4**rank}
    for name, call in _pools(rank).items():
        found = []
        for isa in INSTRUCTION_SETS:
            _library.force_instruction_set(isa)
            found.append(_all(call, input))
        for other in found[1:]:
            if "max" in name and name != "avgmax":
                assert _equal(other, found[0]), name
                continue
            for one, two, magnitude in zip(other, found[0], _magnitudes(call, input), strict=True):
                one, two = one.double(), two.double()
                assert torch.equal(one.isnan(), two.isnan()), name
                away = (one - two).abs().nan_to_num()
                rounded = stored * two.abs().nan_to_num()
                assert bool((away <= 2 * (taps.get(name, plane) + 2) * wide * magnitude + rounded).all()), name
                assert bool((away <= 32 * wide * two.abs().nan_to_num().max() + rounded).all()), name


def _magnitudes(call: Callable[[Tensor], Any], input: Tensor) -> list[Tensor]:
    """What sums of magnitudes come to, result by result."""
    wide = input.detach().double().abs().nan_to_num().requires_grad_()
    parts = _parts(call(wide))
    return [parts[0].detach(), torch.autograd.grad(parts[0], wide, _waves(parts[0].shape, torch.float64).abs())[0]]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_nothing_is_refused_where_only_deterministic_operators_are_allowed(rank: int) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        for call in _pools(rank).values():
            _all(call, _input(rank, torch.float32, "channels_first"))
    finally:
        torch.use_deterministic_algorithms(before)
