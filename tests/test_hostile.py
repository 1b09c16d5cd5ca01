"""Wrong calls by the thousand, in a process of their own: an exception that names what is wrong, or a right answer; never a signal.

tests/fuzz/hostile.py makes them; `make hostile` runs as many as it is told. Below, calls that crash others, by name.
"""
from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import good_calls
from emulated import EMULATED
from fuzz import hostile
from fuzz.found import HOSTILE
from fuzz.named import judge
from good_calls import ALL, DTYPES, INPUT, OPS, operator_of, takes
from torch_pooling import functional

TESTS = Path(__file__).parent


def test_three_thousand_wrong_calls() -> None:
    """A process of its own: memory is limited there, and a signal would be seen."""
    places = [str(TESTS), *filter(None, sys.path)]
    command = [sys.executable, "-W", "ignore", "-m", "fuzz", "hostile", "--cases", "3000", "--minutes", "8", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(places)}, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "3000 cases" in done.stdout and " 0 disagreements" in done.stdout, done.stdout


def test_wrong_calls_cover_every_argument_and_tensor() -> None:
    calls = [hostile.make(1, number) for number in range(20_000)]
    assert {(call.operator, name) for call in calls for name in call.spoiled} == {
        (operator, name) for operator, good in ALL.items() for name in good
    }
    drawn = {value for call in calls for value in call.spoiled.values() if isinstance(value, str)}
    assert drawn >= set(hostile.TENSORS)


def test_wrong_calls_start_from_every_kind_of_right_one() -> None:
    """Each operator in every rank, layout, sizing and type that it takes, and all of these with each other."""
    calls = [hostile.make(1, number) for number in range(20_000)]
    bases = {(call.operator, call.base) for call in calls}
    every = list(itertools.product((1, 2, 3), DTYPES, (False, True), range(4)))
    assert {(base.rank, base.dtype, base.channels_last, base.sizing) for _, base in bases} == set(every)
    for field, values in {"rank": (1, 2, 3), "channels_last": (False, True), "sizing": range(4), "dtype": DTYPES}.items():
        wanted = {(name, value) for name in ALL for value in values if field != "dtype" or takes(name, value)}
        assert {(name, getattr(base, field)) for name, base in bases} == wanted, field


@pytest.mark.parametrize("rank, dtype, channels_last, sizing", itertools.product((1, 2, 3), DTYPES, (False, True), range(4)))
def test_right_calls_are_right(rank: int, dtype: torch.dtype, channels_last: bool, sizing: int) -> None:
    for operator, call in good_calls.calls(good_calls.Base(rank, dtype, channels_last, sizing)).items():
        operator_of(operator)(**call)


def test_a_row_survives_its_repr() -> None:
    """What a run prints can be pasted into tests/fuzz/found.py."""
    calls = [hostile.make(1, number) for number in range(3000)]
    names = {"Hostile": hostile.Hostile, "Base": good_calls.Base, "torch": torch, "nan": float("nan")}
    assert repr(eval(repr(calls), names)) == repr(calls)
    assert calls[:50] == [hostile.make(1, number) for number in range(50)]


def test_found_wrong_calls() -> None:
    """In a process of their own, as above."""
    script = "from fuzz import found, hostile\nfor row in found.HOSTILE:\n    print(row, flush=True)\n    hostile.check(row)"
    places = [str(TESTS), *filter(None, sys.path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, f"{done.returncode}, in the last of\n{done.stdout}{done.stderr[-2000:]}"
    assert len(done.stdout.splitlines()) == len(HOSTILE)


@pytest.mark.parametrize("operator, spoiled, message, how", [
    ("max_pool", {"kernel_size": [-1]}, "max_pool2d: kernel_size must be greater than zero, but got -1", "the argument"),
    ("max_pool", {"kernel_size": [-1]}, "max_pool2d: stride must be greater than zero, but got 0", None),
    ("max_pool", {"stride": [0]}, "max_pool2d: padding must be at most half of the effective kernel size", None),
    ("max_pool", {"stride": [0]}, "max_pool2d: something went wrong with stride", None),
    ("max_pool", {"input": "torch.complex64"}, "max_pool2d: not implemented for input of type ComplexFloat", "the argument"),
    ("max_pool", {"rank": 1}, "max_pool1d: expected input to be 2-D (unbatched) or 3-D (batched)", "one it is compared with"),
    ("max_pool", {"rank": 7}, "max_pool7d: expected input to be 8-D (unbatched) or 9-D (batched)", None),
    ("max_pool_backward", {"grad_output": "batch + 1"}, "max_pool2d_backward: offsets must have the sizes of", "one it is compared with"),
    ("max_pool_backward", {"grad_output": "conjugate"}, "max_pool2d_backward: offsets must have the sizes of", None),
    ("combined_pool", {"sizes": [-1, 3, 2, 3]}, "concat_pool: elements of output_size must be", "the argument"),
    ("max_pool", {"rank": "a"}, "torch_pooling::max_pool() Expected a value of type 'int' for argument 'rank' but", "torch's, the argument"),
    ("max_pool", {"rank": "a"}, "torch_pooling::max_pool() Expected a value of type 'int' for argument 'sizing' but", None),
    ("max_pool", {"input": "sparse"}, "Could not run 'torch_pooling::max_pool' with arguments from the 'SparseCPU' backend", "torch's, backend"),
    ("max_pool", {"input": "batch + 1"}, "Could not run 'torch_pooling::max_pool' with arguments from the 'SparseCPU' backend", None),
    ("max_pool", {"kernel_size": [3]}, "DefaultCPUAllocator: can't allocate memory: you tried to allocate", None),
    ("max_pool", {"input": "huge batch"}, "DefaultCPUAllocator: can't allocate memory: you tried to allocate", "torch's, memory"),
])  # fmt: skip
def test_what_counts_as_naming_what_is_wrong(operator: str, spoiled: dict[str, Any], message: str, how: str | None) -> None:
    assert judge(message, spoiled, ALL[operator]) == how


def _tensors(operator: str) -> list[str]:
    return [name for name, value in ALL[operator].items() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("operator, argument", [(operator, name) for operator in ALL for name in _tensors(operator)])
def test_a_tensor_whose_memory_was_taken_away(operator: str, argument: str) -> None:
    """Sharding does so between uses. torch's own pools read through the null pointer."""
    tensor = ALL[operator][argument].clone()
    tensor.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=f"{argument} of sizes .* needs a storage of"):
        operator_of(operator)(**ALL[operator] | {argument: tensor})
    small = ALL[operator][argument].clone()
    small.untyped_storage().resize_(small.untyped_storage().nbytes() - small.itemsize)
    with pytest.raises(RuntimeError, match="needs a storage of"):
        operator_of(operator)(**ALL[operator] | {argument: small})


@pytest.mark.parametrize("rank", [-(2**63) + 1, -7, -1, 0, 4, 2**31, 2**63 - 1])
@pytest.mark.parametrize("operator", [operator for operator, good in ALL.items() if "rank" in good])
def test_ranks(operator: str, rank: int) -> None:
    """With and without a gradient: the derivative looks at the input's sizes before the operator does."""
    for gradient in (False, True):
        call = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in ALL[operator].items()}
        for name in ("input", "grad_output"):
            if name in call:
                call[name].requires_grad_(gradient)
        with pytest.raises(RuntimeError, match="rank"):
            operator_of(operator)(**call | {"rank": rank})


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("levels", [(2**32, 1), (2**31, 2**31), (3_037_000_500,), (2**28,), (1, 2**62)], ids=str)
def test_pyramids_whose_length_is_no_number(levels: tuple[int, ...], device: str) -> None:
    """Products of 64 bits that wrap: to 0, to small numbers, below 0; found by case 255,520 of seed 9. None may be taken for a size."""
    input = torch.ones(1, 2, 4, 4, device=device)
    pyramid: dict[str, Any] = {"rank": 2, "form": 2, "kinds": [0] * len(levels), "stride": [], "padding": []}
    pyramid["sizes"] = [level for level in levels for _ in range(2)]
    with pytest.raises(RuntimeError, match="output sizes .* are more than|output_size .* too large"):
        functional.spatial_pyramid_pool(input, levels)
    with pytest.raises(RuntimeError, match="output sizes .* are more than|output_size .* too large"):
        OPS.combined_pool_backward(torch.ones(1, 2, device=device), None, [4, 4], **pyramid, channels_last=False)


@pytest.mark.parametrize("kinds", [[0, 0], [1, 1], [0, 1], [1, 0]], ids=str)
@pytest.mark.parametrize("sizes", [[1, 8, 0, 3], [0, 3, 1, 8], [0, 0, 1, 1], [0, 0, 0, 0]], ids=str)
def test_pyramids_with_an_empty_level(sizes: list[int], kinds: list[int]) -> None:
    """Case 352,423 of seed 11 divided by the size of a level."""
    with pytest.raises(RuntimeError, match="output_size must be greater than zero, but got 0"):
        OPS.combined_pool(INPUT, 2, 2, kinds, sizes, [], [])
    with pytest.raises(RuntimeError, match="output_size must be greater than zero, but got 0"):
        OPS.combined_pool_backward(torch.ones(2, 27), torch.zeros(2, 27, dtype=torch.uint8), [5, 6], 2, 2, kinds, sizes, [], [], False)


def test_padding_without_a_stride() -> None:
    with pytest.raises(RuntimeError, match="padding must be empty where stride is"):
        OPS.combined_pool(INPUT, 2, 0, [0, 1], [2, 3, 2, 3], [], [1, 0, 0, 1])


def test_pt194803_pt194800_adaptive_gradients_of_another_size() -> None:
    """torch's _adaptive_avg_pool2d_backward of (1, 2000, 64, 64) for an input (1, 1, 1, 1) corrupts the heap, the 3-D one reads past."""
    assert OPS.adaptive_avg_pool_backward(torch.ones(1, 200, 64, 64), [1, 1], False).shape == (1, 200, 1, 1)
    assert OPS.adaptive_avg_pool_backward(torch.ones(1, 20, 8, 8, 8), [1, 1, 1], False).shape == (1, 20, 1, 1, 1)
    with pytest.raises(RuntimeError, match="grad_output"):
        OPS.adaptive_avg_pool_backward(torch.ones(8, 8), [1, 1, 1], False)


@pytest.mark.skipif(EMULATED, reason="on a GPU nobody looks at offsets beforehand")
@pytest.mark.parametrize("value", [10**9, -(10**9), 2**62, -1])
def test_pt142459_pt122024_positions_that_are_nowhere(value: int) -> None:
    """torch's max_pool2d backward with such an index, and max_pool3d's with a batch of indices missing, end in a signal."""
    for rank in (2, 3):
        input = torch.zeros(2, 3, *(6,) * rank)
        window = {"rank": rank, "kernel_size": [2], "stride": [2], "padding": [0], "dilation": [1], "sizing": 0}
        output, offsets = OPS.max_pool_with_offsets(input, **window)
        size = list(input.shape[2:])
        with pytest.raises(RuntimeError, match="offsets"):
            OPS.max_pool_backward(output, torch.full_like(offsets, value, dtype=torch.int64), size, **window, channels_last=False)
        with pytest.raises(RuntimeError, match="offsets"):
            OPS.max_pool_backward(output, offsets[:0], size, **window, channels_last=False)


def test_windows_without_an_element_do_not_reach_outside() -> None:
    """max_pool2d of (3, 2, 2, 13), k2 p1 d3: torch's backward aborts with "free(): invalid size"."""
    for rank in (1, 2, 3):
        for layout in (torch.contiguous_format, torch.channels_last, torch.channels_last_3d):
            if layout != torch.contiguous_format and rank != (2 if layout == torch.channels_last else 3):
                continue
            input = torch.randn(3, 2, *(2, 13, 2)[-rank:] if rank < 3 else (2, 13, 2)).contiguous(memory_format=layout).requires_grad_()
            pool = getattr(functional, f"max_pool{rank}d")
            output, indices = pool(input, 2, None, 1, 3, return_indices=True)
            assert int(indices.min()) >= 0 and int(indices.max()) < input[0, 0].numel()
            empty = output.isinf()
            assert bool(empty.any())
            (grad,) = torch.autograd.grad(output, input, torch.ones_like(output))
            assert float(grad.sum()) == float((~empty).sum())


def test_subclasses_keep_their_answers() -> None:
    expected = functional.max_pool2d(INPUT, 2)
    assert torch.equal(functional.max_pool2d(INPUT.as_subclass(hostile.Subclass), 2).as_subclass(torch.Tensor), expected)
    assert torch.equal(functional.max_pool2d(torch.nn.Parameter(INPUT.clone()), 2), expected)
    with torch.inference_mode():
        assert torch.equal(functional.max_pool2d(INPUT.clone(), 2), expected)
