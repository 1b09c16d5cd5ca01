"""What a forward pass keeps for its backward pass: nothing but sizes, and for maxima one small number per output.

Counted with torch's own hooks for saved tensors, and once more by asking whether the input's memory is given back
as soon as the user drops it. Which operator ran is seen by a TorchDispatchMode: no arg-max is computed unless a
gradient or a tangent can ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from cases import Case, adaptive, sliding, whole
from torch_pooling import functional

CASES = [
    sliding(13, 3, 2, 1, channels=4), sliding((12, 14), 2, channels=4), sliding((7, 9), 3, 2, 1, ceil_mode=True),
    sliding((6, 7, 8), (1, 3, 3), 2, (0, 1, 1)), sliding((9, 9), 3, 1, 1, 2),
    adaptive((11,), 4), adaptive((13, 10), (7, 3)), adaptive((5, 7, 6), 2),
    whole((17,)), whole((9, 8)), whole((4, 5, 6)),
]
LAYOUTS = ("channels_first", "channels_last")
per_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
per_layout = pytest.mark.parametrize("layout", LAYOUTS)


def input_for(case: Case, layout: str = "channels_first", dtype: torch.dtype = torch.float32) -> Tensor:
    content = torch.randn(case.batch, case.channels, *case.size, dtype=dtype)
    return content.movedim(1, -1).contiguous().movedim(-1, 1) if layout == "channels_last" else content


@contextmanager
def saved_tensors() -> Iterator[list[Tensor]]:
    """Collects every tensor that a graph saves for backward."""
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


class Seen(TorchDispatchMode):
    """Names of this library's operators that were called inside the context, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "torch_pooling":
            self.names.append(func._opname)
        return func(*args, **(kwargs or {}))


def window_elements(case: Case) -> int:
    """Elements of the longest window: what an offset has to number."""
    number = 1
    for axis in case.windows.axes:
        number *= axis.taps
    return number


@per_layout
@per_case
def test_averages_save_nothing(case: Case, layout: str) -> None:
    with saved_tensors() as saved:
        output = case.call(functional, "avg", input_for(case, layout).requires_grad_())
    assert output.requires_grad and saved == []
    output.sum().backward()


@per_layout
@per_case
def test_maxima_save_one_byte_an_output(case: Case, layout: str) -> None:
    assert window_elements(case) <= 256
    for dtype in (torch.float32, torch.bfloat16):
        with saved_tensors() as saved:
            output = case.call(functional, "max", input_for(case, layout, dtype).requires_grad_())
        assert [tensor.dtype for tensor in saved] == [torch.uint8]
        assert sum(tensor.untyped_storage().nbytes() for tensor in saved) == output.numel()
        output.sum().backward()


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        (sliding(300, 256, 1, channels=1, batch=1), torch.uint8),
        (sliding(300, 257, 1, channels=1, batch=1), torch.uint16),
        (sliding((20, 20), 16, 1, channels=1, batch=1), torch.uint8),
        (sliding((20, 20), (16, 17), 1, channels=1, batch=1), torch.uint16),
        (sliding((8, 8, 8), (4, 8, 8), 1, channels=1, batch=1), torch.uint8),
        (sliding((8, 8, 8), (5, 8, 8), 1, channels=1, batch=1), torch.uint16),
        (sliding((260, 260), 256, 1, channels=1, batch=1), torch.uint16),
        (sliding((260, 260), (256, 257), 1, channels=1, batch=1), torch.int32),
        (sliding(70_000, 65_536, channels=1, batch=1), torch.uint16),
        (sliding(70_000, 65_537, channels=1, batch=1), torch.int32),
        (whole((16, 16)), torch.uint8), (whole((16, 17)), torch.uint16),
        (whole((256, 256), channels=1), torch.uint16), (whole((257, 256), channels=1), torch.int32),
        (adaptive((48, 48), 3), torch.uint8),  # windows of 16 x 16
        (adaptive((32, 34), 2), torch.uint16),  # 16 x 17
        (adaptive((31, 31), 2), torch.uint8),  # 16 x 16, overlapping
        (adaptive((33, 33), 2), torch.uint16),  # 17 x 17, overlapping
        (adaptive((78, 10), (5, 1)), torch.uint8),  # 17 x 10 of 16 or 17 rows
        (adaptive((1281,), 5), torch.uint16),  # 257 or 258 of 1281
    ],
    ids=lambda value: value.name if isinstance(value, Case) else str(value),
)
def test_offsets_are_as_small_as_the_window_allows(case: Case, dtype: torch.dtype) -> None:
    limit = {torch.uint8: 256, torch.uint16: 65_536, torch.int32: 2**31}[dtype]
    smaller = {torch.uint8: 0, torch.uint16: 256, torch.int32: 65_536}[dtype]
    assert smaller < window_elements(case) <= limit, "the case does not ask for what it says"
    shape = (case.batch, case.channels, *case.size)
    input = torch.randperm(torch.Size(shape).numel()).double().view(shape).requires_grad_()
    with saved_tensors() as saved:
        output = case.call(functional, "max", input)
    assert [tensor.dtype for tensor in saved] == [dtype]
    assert sum(tensor.untyped_storage().nbytes() for tensor in saved) == output.numel() * dtype.itemsize
    output.sum().backward()
    assert input.grad is not None and input.grad.sum() == output.numel()
    # The gradient sits where the input equals the maximum (all integers, so the sums are exact): no offset was cut off.
    assert (input.detach() * input.grad).sum() == output.detach().sum()


def test_the_last_element_of_a_large_window_is_found() -> None:
    """Offsets 255, 256, 65535, 65536: one that wraps would send the gradient to the front."""
    for elements in (256, 257, 65_536, 65_537):
        input = torch.zeros(1, 1, elements)
        input[..., -1] = 1
        input.requires_grad_()
        functional.max_pool1d(input, elements).sum().backward()
        assert input.grad is not None and input.grad[0, 0, -1] == 1 and input.grad.sum() == 1
        _, index = functional.max_pool1d(input, elements, return_indices=True)
        assert index.item() == elements - 1


def input_outlives_user(pool: Callable[[Tensor], Any]) -> bool:
    """Whether the graph of pool(hidden) keeps the memory of `hidden` when nobody else does."""
    leaf = torch.randn(2, 3, 8, 8, requires_grad=True)
    hidden = leaf * 2  # saves nothing of its result
    output = pool(hidden)
    memory = StorageWeakRef(hidden.untyped_storage())
    del hidden
    alive = not memory.expired()
    (output[0] if isinstance(output, tuple) else output).sum().backward()
    assert leaf.grad is not None
    return alive


def test_nothing_keeps_the_input_alive() -> None:
    assert input_outlives_user(lambda input: torch.nn.functional.avg_pool2d(input, 2)), "this test can tell"
    for pool in (
        lambda input: functional.avg_pool2d(input, 2),
        lambda input: functional.max_pool2d(input, 3, 2, 1),
        lambda input: functional.max_pool2d(input, 2, return_indices=True),
        lambda input: functional.adaptive_avg_pool2d(input, 3),
        lambda input: functional.adaptive_max_pool2d(input, 3),
        lambda input: functional.adaptive_max_pool2d(input, 3, return_indices=True),
        lambda input: functional.global_avg_pool(input),
        lambda input: functional.global_max_pool(input),
    ):
        assert not input_outlives_user(pool)


def max_operators(case: Case) -> tuple[str, str]:
    """Names of the operators of this case without and with the arg-max."""
    name = "max_pool" if case.family == "sliding" else "adaptive_max_pool"
    return name, f"{name}_with_offsets"


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("requires_grad", [False, True])
@per_case
def test_no_arg_max_unless_a_gradient_can_ask(
    case: Case, requires_grad: bool, mode: Callable[[], AbstractContextManager[Any]]
) -> None:
    plain, with_offsets = max_operators(case)
    input = input_for(case).requires_grad_(requires_grad)
    with mode(), Seen() as seen, saved_tensors() as saved:
        output = case.call(functional, "max", input)
    wanted = requires_grad and mode is nullcontext
    assert seen.names == [with_offsets if wanted else plain]
    assert len(saved) == int(wanted) and output.requires_grad == wanted


@per_case
def test_arg_max_on_request(case: Case) -> None:
    """return_indices=True without a gradient: the arg-max, its int64 form, and nothing saved."""
    _, with_offsets = max_operators(case)
    indices_name = with_offsets.replace("with_offsets", "indices")
    with torch.no_grad(), Seen() as seen, saved_tensors() as saved:
        _, indices = case.call(functional, "max", input_for(case).requires_grad_(), return_indices=True)
    assert seen.names == [with_offsets, indices_name] and saved == [] and indices.dtype == torch.int64
    with saved_tensors() as saved:
        output, _ = case.call(functional, "max", input_for(case).requires_grad_(), return_indices=True)
    assert [tensor.dtype for tensor in saved] == [torch.uint8] and saved[0].numel() == output.numel()


@per_case
def test_a_tangent_asks_for_the_arg_max(case: Case) -> None:
    plain, with_offsets = max_operators(case)
    input = input_for(case)
    with forward_ad.dual_level():
        with Seen() as seen:
            case.call(functional, "max", input)
        assert seen.names == [plain], "a dual level alone asks for nothing"
        with Seen() as seen:
            output = case.call(functional, "max", forward_ad.make_dual(input, torch.ones_like(input)))
        tangent = forward_ad.unpack_dual(output).tangent
    assert seen.names == [with_offsets, with_offsets.replace("with_offsets", "gather")]
    assert tangent is not None and torch.equal(tangent, torch.ones_like(tangent))


def test_averages_run_one_operator_each_way() -> None:
    for case in CASES:
        name = "avg_pool" if case.family == "sliding" else "adaptive_avg_pool"
        input = input_for(case).requires_grad_()
        with Seen() as seen:
            case.call(functional, "avg", input).sum().backward()
        assert seen.names == [name, f"{name}_backward"]


def test_graph_is_one_node() -> None:
    """No permutes, copies or views around the operator: the pooling node hangs on the input directly."""
    for case in CASES:
        for kind in ("avg", "max"):
            input = input_for(case).requires_grad_()
            node = case.call(functional, kind, input).grad_fn
            assert [following.name() for following, _ in node.next_functions] == ["torch::autograd::AccumulateGrad"]
