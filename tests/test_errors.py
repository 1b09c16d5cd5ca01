"""Wrong calls raise what torch raises for the same call, name the argument, and leave everything working.

The table holds the calls; torch is asked live for the type of its exception. Where torch would hang or crash
(sizes near 2^31 and 2^63) nobody asks it: there the answer must be the right one or an exception.
"""
from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as torch_functional

from torch_pooling import functional

PLANE = {1: (2, 3, 10), 2: (2, 3, 10, 10), 3: (2, 3, 10, 10, 10)}
# (arguments after the input, keywords, what the message must name), for any rank.
Row = tuple[tuple[Any, ...], dict[str, Any], str]
WINDOWED: list[Row] = [
    ((0,), {}, "kernel_size|stride"),
    ((-1,), {}, "kernel_size|stride"),
    ((2, 0), {}, "stride"),
    ((2, -1), {}, "stride"),
    ((2, 1, -1), {}, "pad"),
    ((2, 1, 2), {}, "pad"),
    ((3, 1, 2), {}, "pad"),
    ((11,), {}, "output size|kernel_size"),
    (("none",), {}, "kernel_size"),
    (("many",), {}, "kernel_size"),
    ((2, "many"), {}, "stride"),
    ((2, 1, "many"), {}, "padding"),
    ((2, 1, "none"), {}, "padding"),
    ((None,), {}, "kernel_size"),
    ((2.5,), {}, "kernel_size"),
    (("a",), {}, "kernel_size"),
    ((2, "a"), {}, "stride"),
    ((2, 1.5), {}, "stride"),
    ((2, 1, None), {}, "padding"),
    ((2, 1, 1.5), {}, "padding"),
    (({},), {}, "kernel_size"),
    ((2,), {"ceil_mode": "a"}, "ceil_mode"),
    ((2,), {"ceil_mode": None}, "ceil_mode"),
    ((2,), {"nonsense": 1}, "nonsense"),
    ((), {}, "kernel_size"),
    ((2**63,), {}, ""),
    ((2, 2**63), {}, ""),
    ((2, 1, 2**63), {}, ""),
    ((-(2**63),), {}, ""),
    ((2, -(2**63)), {}, ""),
]
MAX_ONLY: list[Row] = [
    ((2, 1, 0, 0), {}, "dilation"),
    ((2, 1, 0, -1), {}, "dilation"),
    ((2, 1, 0, "many"), {}, "dilation"),
    ((2, 1, 0, None), {}, "dilation"),
    ((6, 1, 0, 2), {}, "output size|kernel_size"),
    ((2, 1, 0, 2**63), {}, ""),
    ((2, 1, 0, 1, False, False, 1, 1), {}, "argument"),
]
AVG_ONLY: list[Row] = [
    ((2,), {"count_include_pad": "a"}, "count_include_pad"),
    ((2,), {"count_include_pad": None}, "count_include_pad"),
    ((2, 1, 0, False, True, None, 1, 1), {}, "argument"),
    ((2, 1, 0, 1, True), {}, "ceil_mode"),
]
DIVISOR: list[Row] = [  # not of avg_pool1d, which in torch has none
    ((2,), {"divisor_override": 0}, "divisor"),
    ((2,), {"divisor_override": "a"}, "divisor_override"),
    ((2,), {"divisor_override": 2.5}, "divisor_override"),
]
ADAPTIVE: list[Row] = [
    ((-1,), {}, "output_size"),
    (("many",), {}, "output_size|Input dimension"),
    (("none",), {}, "output_size"),
    (("few",), {}, "output_size"),
    ((None,), {}, ""),
    (("a",), {}, ""),
    ((2.5,), {}, ""),
    ((2**63,), {}, ""),
    ((10**12,), {}, ""),
    ((2**62,), {}, ""),
    ((2**63 - 1,), {}, ""),
    ((2,), {"nonsense": 1}, "nonsense"),
    ((), {}, "output_size"),
]


def _rows() -> list[tuple[str, int, Row]]:
    rows = []
    for rank in (1, 2, 3):
        rows += [(f"max_pool{rank}d", rank, row) for row in WINDOWED + MAX_ONLY]
        rows += [(f"avg_pool{rank}d", rank, row) for row in WINDOWED + AVG_ONLY + (DIVISOR if rank > 1 else [])]
        rows += [(f"adaptive_{kind}_pool{rank}d", rank, row) for kind in ("max", "avg") for row in ADAPTIVE]
    return rows


def _spelled(value: Any, rank: int) -> Any:
    """"many": one value too many, "none": an empty tuple, "few": one too few (for rank 1 that is none)."""
    words = {"many": (2,) * (rank + 1), "none": (), "few": (2,) * (rank - 1)}
    return words[value] if isinstance(value, str) and value in words else value


def _raised(call: Any, *args: Any, **kwargs: Any) -> BaseException | None:
    try:
        call(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - what is raised is what is compared
        return error
    return None


def _still_works() -> None:
    input = torch.arange(16.0).view(1, 1, 4, 4).requires_grad_()
    functional.max_pool2d(input, 2).sum().backward()
    assert input.grad is not None and input.grad.flatten().nonzero().flatten().tolist() == [5, 7, 13, 15]


@pytest.mark.parametrize(("name", "rank", "row"), _rows(), ids=lambda value: str(value).replace(" ", "") or "nothing")
def test_wrong_arguments(name: str, rank: int, row: Row) -> None:
    """The same type of exception as torch's, with and without a batch and a gradient to come."""
    arguments = tuple(_spelled(value, rank) for value in row[0])
    for input in (torch.randn(PLANE[rank]), torch.randn(PLANE[rank][1:]), torch.randn(PLANE[rank], requires_grad=True)):
        theirs = _raised(getattr(torch_functional, name), input, *arguments, **row[1])
        ours = _raised(getattr(functional, name), input, *arguments, **row[1])
        assert theirs is not None, "torch accepts this call: it does not belong here"
        assert type(ours) is type(theirs), (ours, theirs)
        pattern = row[2].replace("_", "[_ ]")
        assert re.search(pattern, str(ours)), f"{str(ours)!r} does not name {row[2]}"
    _still_works()


NAMES = [(f"{family}{kind}_pool{rank}d", rank) for family in ("", "adaptive_") for kind in ("max", "avg") for rank in (1, 2, 3)]


@pytest.mark.parametrize(("name", "rank"), NAMES, ids=[name for name, _ in NAMES])
def test_wrong_inputs(name: str, rank: int) -> None:
    """Ranks, types that no pooling has, and things that are no tensors."""
    ranks = [torch.randn((2,) * dims) for dims in (*range(rank + 1), *range(rank + 3, 8))]
    strange = [torch.zeros(PLANE[rank], dtype=dtype) for dtype in (torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint16)]
    others = [torch.randn(PLANE[rank]).to_sparse(), torch.zeros(PLANE[rank]).to(torch.uint32)]
    if name.startswith("avg"):
        others += [torch.zeros(PLANE[rank], dtype=dtype) for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32)]
    if name.startswith("adaptive_avg"):
        others += [torch.zeros(PLANE[rank], dtype=dtype) for dtype in (torch.uint8, torch.int32, torch.int64)]
    for input in ranks + strange + others:
        what = (tuple(input.shape), input.dtype, input.layout)
        theirs = _raised(getattr(torch_functional, name), input, 2)
        ours = _raised(getattr(functional, name), input, 2)
        assert theirs is not None, what
        assert type(ours) is type(theirs), (what, ours, theirs)
    for thing in (None, "a", 1.0, [[[[1.0, 2.0]]]], torch.float32, torch.zeros(2, 3, 10, 10).numpy()):
        theirs = _raised(getattr(torch_functional, name), thing, 2)
        ours = _raised(getattr(functional, name), thing, 2)
        # torch's adaptive functions ask any thing for its size(), and numpy's size is no function: an accident.
        assert type(ours) in {type(theirs), TypeError}, (thing, ours, theirs)
        assert isinstance(theirs, (TypeError, AttributeError)), theirs
    _still_works()


@pytest.mark.parametrize(("name", "rank"), NAMES, ids=[name for name, _ in NAMES])
def test_numbers_and_lists_of_numpy(name: str, rank: int) -> None:
    """As torch, whose adaptive functions of more than one axis take what is like a list; refusals name the argument."""
    input = torch.randn(PLANE[rank])
    theirs, ours = getattr(torch_functional, name), getattr(functional, name)
    assert torch.equal(ours(input, np.int64(2)), ours(input, 2))
    for sizes in (np.full(rank, 2), range(2, 2 + rank)):
        if name.startswith("adaptive") and rank > 1:
            assert ours(input, sizes).shape == theirs(input, sizes).shape
        else:
            for function in (theirs, ours):
                with pytest.raises(TypeError, match="kernel_size|output_size"):
                    function(input, sizes)
    with pytest.raises(TypeError, match="kernel_size|output_size"):
        ours(input, np.full(5, 2))


def test_sizes_of_numpy_in_pools_of_several_reductions() -> None:
    input = torch.randn(2, 3, 9, 10)
    for function, sizes in ((functional.concat_pool, 2), (functional.avgmax_pool, (2, 3)), (functional.spatial_pyramid_pool, [1, 3])):
        of_numpy: Any = np.int64(sizes) if isinstance(sizes, int) else type(sizes)(map(np.int64, sizes))
        assert torch.equal(function(input, of_numpy), function(input, sizes)), function
    with pytest.raises(TypeError, match="levels"):
        functional.spatial_pyramid_pool(input, [np.True_])
    with pytest.raises(TypeError, match="output_size"):
        functional.concat_pool(input, np.float64(2))


def test_avg_pool3d_refuses_a_kernel_larger_than_its_unpadded_input() -> None:
    """Torch's avg_pool3d alone does so; a program may rely on the error."""
    small = torch.randn(1, 2, 3, 4, 2)
    for name, library in (("torch", torch_functional), ("ours", functional)):
        with pytest.raises(RuntimeError, match=r"kernel[_ ]size"):
            library.avg_pool3d(small, 3, 1, 1)
        assert library.avg_pool2d(small[:, 0], 3, 1, 1).shape == (1, 3, 4, 2), name
        assert library.max_pool3d(small, 3, 1, 1).shape == small.shape, name


def test_global_functions() -> None:
    for kind in ("max", "avg"):
        function = getattr(functional, f"global_{kind}_pool")
        for input in (torch.randn(()), torch.randn(2), torch.randn(2, 3), torch.randn(2, 3, 1, 1, 1, 1), torch.randn(2, 3, 0, 4)):
            with pytest.raises(RuntimeError):
                function(input)
        for wrong in (None, "a", [[1.0]]):
            with pytest.raises(TypeError):
                function(wrong)
        with pytest.raises(TypeError):
            function(torch.randn(2, 3, 4), False)  # keepdim is keyword-only
        with pytest.raises(NotImplementedError):
            function(torch.zeros(2, 3, 4, dtype=torch.bool))
    with pytest.raises(NotImplementedError):
        functional.global_avg_pool(torch.zeros(2, 3, 4, dtype=torch.int64))
    _still_works()


def test_dilated_averages() -> None:
    """What averages have beyond torch is checked like the rest."""
    for rank in (1, 2, 3):
        input, function = torch.randn(PLANE[rank]), getattr(functional, f"avg_pool{rank}d")
        for dilation in (0, -1, (1,) * (rank + 1), (), 10, 2**31, 2**62, 2**63 - 1):
            with pytest.raises(RuntimeError):
                function(input, 2, dilation=dilation)
        for wrong in (None, 1.5, "a"):
            with pytest.raises(TypeError, match="dilation"):
                function(input, 2, dilation=wrong)
    with pytest.raises(RuntimeError, match="divisor"):
        functional.avg_pool1d(torch.randn(2, 3, 10), 2, divisor_override=0)


HUGE = (2**31 - 1, 2**31, 2**32 + 3, 2**62, 2**63 - 1)


@pytest.mark.parametrize("huge", HUGE)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_huge_arguments(kind: str, rank: int, huge: int) -> None:
    """The right answer or an exception, at once: never an overflow, an endless loop or a wrong size."""
    # Multiples of 1/8, whose sums are exact: none of them may cancel.
    input = torch.randint(-40, 41, PLANE[rank], generator=torch.Generator().manual_seed(rank)) / 8
    function = getattr(functional, f"{kind}_pool{rank}d")
    first = input[(..., *[slice(0, 1)] * rank)]
    corner = input[(..., *[slice(0, 2)] * rank)].flatten(2)
    corner = (corner.amax(2) if kind == "max" else corner.mean(2)).view(2, 3, *[1] * rank)

    def dilated(kernel: int, padding: int) -> torch.Tensor:
        if kind == "max":
            return function(input, kernel, 1, padding, huge)
        return function(input, kernel, 1, padding, dilation=huge)

    def check(call: Any, expected: torch.Tensor | None) -> None:
        _right_or_refused(call, expected, huge < 2**31)

    check(lambda: function(input, huge), None)
    check(lambda: function(input, huge, huge), None)
    check(lambda: function(input, huge, 1, 0, ceil_mode=True), None)
    check(lambda: function(input, 2, huge), corner)
    check(lambda: function(input, 1, huge), first)
    check(lambda: function(input, 2, 1, huge), None)
    check(lambda: dilated(1, 0), input)
    check(lambda: dilated(2, 0), None)
    check(lambda: dilated(2, 1), None)
    check(lambda: dilated(huge, 0), None)
    # A window that covers everything from every position, half of it padding.
    whole = input.flatten(2)
    sizes = [2 * (huge // 2) + 10 - huge + 1] * rank
    covering = whole.amax(2) if kind == "max" else whole.double().sum(2) / float(huge) ** rank
    expected = covering.view(2, 3, *[1] * rank).expand(2, 3, *sizes).float()
    check(lambda: function(input, huge, 1, huge // 2), None if rank == 3 else expected)  # a product beyond 2^62
    _still_works()


def _right_or_refused(call: Any, expected: torch.Tensor | None, accepted: bool) -> None:
    """`expected` None: there is no answer, so it must be refused. Others may be, unless they are `accepted`."""
    try:
        found = call()
    except (RuntimeError, ValueError, OverflowError):
        assert expected is None or not accepted, "refused, but within all limits"
        return
    assert expected is not None, f"gave {tuple(found.shape)} instead of an exception"
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_sizes_that_torch_accepts_are_accepted(kind: str) -> None:
    """The largest arguments that torch takes, and takes in reasonable time."""
    input = torch.randn(2, 3, 10, 10)
    function, peer = getattr(functional, f"{kind}_pool2d"), getattr(torch_functional, f"{kind}_pool2d")
    largest = 2**31 - 1
    torch.testing.assert_close(function(input, 2, largest), peer(input, 2, largest))
    torch.testing.assert_close(function(input, 2, (largest, 1), 1), peer(input, 2, (largest, 1), 1))
    if kind == "max":
        torch.testing.assert_close(function(input, 1, 1, 0, largest), peer(input, 1, 1, 0, largest))
    else:
        torch.testing.assert_close(function(input, largest, 1, largest // 2), peer(input, largest, 1, largest // 2))
        torch.testing.assert_close(function(input, 2, divisor_override=2**40), peer(input, 2, divisor_override=2**40))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pt78868_backward_of_adaptive_output_size_zero(kind: str, rank: int) -> None:
    """Forward gives an empty result; backward raises what torch raises, or gives zeros where torch does."""
    name = f"adaptive_{kind}_pool{rank}d"
    answers = []
    for library in (torch_functional, functional):
        input = torch.randn(PLANE[rank], requires_grad=True)
        output = getattr(library, name)(input, 0)
        assert output.shape == (2, 3, *[0] * rank)
        error = _raised(output.sum().backward)
        answers.append(type(error) if error is not None else input.grad)
    if isinstance(answers[0], type):
        assert answers[1] is answers[0]
    else:
        assert torch.equal(answers[1], answers[0])
