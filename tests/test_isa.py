"""Instruction sets: listed, forced, refused; each computes what the scalar one computes; none leaks into the others.

One body is compiled for several instruction sets. That the forced one is the one that runs is asked of the library
after each force, in this process and in fresh ones; that a wide instruction is reachable only through its own table
is read off the disassembly. Maxima must agree bit for bit between the sets, gradients included; averages may differ in
the last places, since lanes add in another order.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from battery import FLOATS, INTEGERS
from cases import CASES, Case
from torch_pooling import _library, functional

RUNNABLE = _library.instruction_sets()
COMPILED = _library.compiled_instruction_sets()
# A third of the table: every kind of window still meets every remainder of the vector widths many times.
CHOSEN = [case for number, case in enumerate(CASES) if number % 3 == 0]
FAMILIES = ("sliding", "adaptive", "global")


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    yield
    _library.force_instruction_set(os.environ.get("TORCH_POOLING_ISA"))


def run_python(source: str, isa: str | None) -> subprocess.CompletedProcess[str]:
    """`source` in a fresh interpreter, with TORCH_POOLING_ISA set to `isa` or not set at all."""
    environment = {key: value for key, value in os.environ.items() if key != "TORCH_POOLING_ISA"}
    if isa is not None:
        environment["TORCH_POOLING_ISA"] = isa
    return subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, timeout=120)


def test_lists() -> None:
    assert RUNNABLE and set(RUNNABLE) <= set(COMPILED)
    assert RUNNABLE == [name for name in COMPILED if name in RUNNABLE], "both best first"
    assert RUNNABLE[-1] == "scalar", "what always runs comes last"
    if platform.machine() == "x86_64":
        assert {"avx2", "avx512"} <= set(COMPILED)
        capability = torch.backends.cpu.get_cpu_capability()
        assert ("avx2" in RUNNABLE) == (capability in ("AVX2", "AVX512"))
        assert ("avx512" in RUNNABLE) == (capability == "AVX512")


@pytest.mark.parametrize("name", RUNNABLE)
def test_force_in_this_process(name: str) -> None:
    _library.force_instruction_set(name)
    assert _library.instruction_set() == name


def test_none_returns_to_the_environments_choice() -> None:
    _library.force_instruction_set("scalar")
    _library.force_instruction_set(None)
    assert _library.instruction_set() == os.environ.get("TORCH_POOLING_ISA", RUNNABLE[0])


@pytest.mark.parametrize("name", ["nonsense", "AVX2", "avx2 ", *(set(COMPILED) - set(RUNNABLE))])
def test_force_refuses_what_cannot_run(name: str) -> None:
    _library.force_instruction_set("scalar")
    with pytest.raises(RuntimeError) as error:
        _library.force_instruction_set(name)
    assert name in str(error.value)
    assert all(choice in str(error.value) for choice in RUNNABLE)
    assert _library.instruction_set() == "scalar", "a refusal changes nothing"


REPORT = "import torch_pooling\nfrom torch_pooling import _library\nprint(_library.instruction_set())"


@pytest.mark.parametrize("name", [None, *RUNNABLE])
def test_environment_variable(name: str | None) -> None:
    done = run_python(REPORT, name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [name or RUNNABLE[0]]


@pytest.mark.parametrize("name", ["nonsense", *(set(COMPILED) - set(RUNNABLE))])
def test_environment_variable_refuses_what_cannot_run(name: str) -> None:
    done = run_python("import torch_pooling", name)
    assert done.returncode == 1, "an error at import, not a crash and not another set in silence"
    message = done.stderr.strip().splitlines()[-1]
    assert "TORCH_POOLING_ISA" in message and name in message
    assert all(choice in message for choice in RUNNABLE)


def in_layout(tensor: Tensor, channels_last: bool) -> Tensor:
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else tensor


def random_input(case: Case, dtype: torch.dtype, specials: bool, generator: torch.Generator) -> Tensor:
    """Random numbers; with `specials` a third of the floating ones are NaN, infinite or a zero of either sign."""
    shape = (case.batch, case.channels, *case.size)
    if not dtype.is_floating_point:
        return torch.randint(0, 100, shape, generator=generator).to(dtype)
    content = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    if specials:
        kind = torch.randint(0, 15, shape, generator=generator)
        for number, value in enumerate((float("nan"), float("inf"), -float("inf"), 0.0, -0.0)):
            content[kind == number] = value
    return content


def bits(tensor: Tensor) -> Tensor:
    """Bit patterns, every NaN counting as the same one."""
    if not tensor.dtype.is_floating_point:
        return tensor
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.dtype.itemsize]
    return torch.where(tensor.isnan(), torch.nan, tensor).contiguous().view(whole)


def run(name: str, case: Case, kind: str, input: Tensor, grad_output: Tensor | None) -> dict[str, Tensor]:
    """Every result of the case with the instruction set `name`."""
    _library.force_instruction_set(name)
    assert _library.instruction_set() == name
    leaf = input.detach().requires_grad_(grad_output is not None)
    results: dict[str, Tensor] = {"inference": case.call(functional, kind, input.detach())}
    if kind == "max":
        values, indices = case.call(functional, kind, leaf, return_indices=True)
        results |= {"values": values, "indices": indices}
    else:
        values = results["values"] = case.call(functional, kind, leaf)
    if grad_output is not None:
        values.backward(grad_output)
        assert leaf.grad is not None
        results["gradient"] = leaf.grad
    return {key: result.detach() for key, result in results.items()}


def inputs_of_family(family: str, dtype: torch.dtype, average: bool) -> Iterator[tuple[Case, Tensor, Tensor | None]]:
    generator = torch.Generator().manual_seed(3)
    for number, case in enumerate(CHOSEN):
        if case.family != family or not (case.has_average if average else not case.average_only):
            continue
        channels_last = number % 2 == 0
        input = in_layout(random_input(case, dtype, not average, generator), channels_last)
        grad_output = None
        if dtype.is_floating_point:
            shape = (case.batch, case.channels, *case.windows.output_size)
            grad_output = in_layout(torch.randn(shape, generator=generator).to(dtype), channels_last)
        yield case, input, grad_output


others = pytest.mark.parametrize("name", [name for name in RUNNABLE if name != "scalar"])


@others
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=str)
def test_maxima_are_bit_identical(name: str, family: str, dtype: torch.dtype) -> None:
    compared = 0
    for case, input, grad_output in inputs_of_family(family, dtype, average=False):
        expected = run("scalar", case, "max", input, grad_output)
        actual = run(name, case, "max", input, grad_output)
        for key, value in expected.items():
            assert actual[key].stride() == value.stride()
            assert torch.equal(bits(actual[key]), bits(value)), (case.name, key)
        compared += 1
    assert compared > 3


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (1, 5, 7, 7), (2, 3, 33, 41), (1, 19, 14, 14), (3, 4, 2, 300)], ids=str)
def test_which_of_two_zeros_a_maximum_is(shape: tuple[int, ...], last: bool) -> None:
    """Wherever maxima are taken, for values alone and with offsets: the same one on every instruction set."""
    content = torch.tensor([-1.0, -0.0, 0.0, -2.0])[torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(1))]
    input = in_layout(content, last)
    calls: list[Any] = [
        functional.global_max_pool, functional.concat_pool, functional.mixed_pool, lambda x: functional.spatial_pyramid_pool(x, mode="max"),
        lambda x: functional.adaptive_max_pool2d(x, (None, 1)), lambda x: functional.adaptive_max_pool2d(x, 3),
    ]  # fmt: skip
    for number, call in enumerate(calls):
        for with_offsets in (False, True):
            found = []
            for name in RUNNABLE:
                _library.force_instruction_set(name)
                output = call(input.detach().requires_grad_(with_offsets)).detach()
                found.append((output == 0, torch.signbit(output) & (output == 0)))
            assert bool(found[0][0].any())
            assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other, strict=True)), (number, with_offsets)


@others
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_averages_agree_to_a_few_units(name: str, family: str, dtype: torch.dtype) -> None:
    """Sums are kept in float32 or wider: 16-bit results may differ by the one rounding at the end."""
    compared = 0
    for case, input, grad_output in inputs_of_family(family, dtype, average=True):
        assert grad_output is not None
        expected = run("scalar", case, "avg", input, grad_output)
        actual = run(name, case, "avg", input, grad_output)
        terms = run("scalar", case, "avg", input.abs(), grad_output.abs())  # how large the terms of each sum are
        for key, value in expected.items():
            assert actual[key].stride() == value.stride()
            unit = torch.finfo(dtype).eps * terms[key].double().abs().max()
            difference = (actual[key].double() - value.double()).abs().max()
            assert difference <= 4 * unit, (case.name, key, float(difference / unit))
        compared += 1
    assert compared > 3


@others
def test_integer_averages_are_identical(name: str) -> None:
    compared = 0
    for case, input, _ in inputs_of_family("sliding", torch.int64, average=True):
        assert torch.equal(
            run(name, case, "avg", input, None)["values"], run("scalar", case, "avg", input, None)["values"]
        ), case.name
        compared += 1
    assert compared > 50


def extension_file() -> str:
    from torch_pooling import _C

    return str(_C.__file__)


def registers_by_symbol() -> dict[str, set[str]]:
    """For every function in the built extension: which kinds of registers (xmm, ymm, zmm) its code names."""
    found: dict[str, set[str]] = {}
    command = ["objdump", "--disassemble", "--no-show-raw-insn", extension_file()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listing:
        assert listing.stdout is not None
        current: set[str] = set()
        for line in listing.stdout:
            if line.endswith(">:\n"):
                current = found.setdefault(re.sub(r"^\w+ <(.*)>:\n$", r"\1", line), set())
            elif "mm" in line:
                current.update(re.findall(r"%([xyz]mm)\d", line))
        assert listing.wait() == 0
    return found


@pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("objdump") is None, reason="reads an x86-64 disassembly by objdump"
)
def test_wide_instructions_stay_inside_their_targets() -> None:
    """A template compiled for AVX-512 and linked for everybody would crash the machines that lack it."""
    registers = registers_by_symbol()
    users: dict[str, list[str]] = {"ymm": [], "zmm": []}
    for symbol, used in registers.items():
        for width in used & users.keys():
            users[width].append(symbol)
    avx2 = [symbol for symbol in users["ymm"] if "isa_avx2" in symbol]
    avx512 = [symbol for symbol in users["zmm"] if "isa_avx512" in symbol]
    assert len(avx2) > 10 and len(avx512) > 10, "the names of the target namespaces must be in the symbols"
    leaks: list[Any] = [symbol for symbol in users["ymm"] if not re.search("isa_avx(2|512)", symbol)]
    leaks += [symbol for symbol in users["zmm"] if "isa_avx512" not in symbol]
    assert leaks == []
