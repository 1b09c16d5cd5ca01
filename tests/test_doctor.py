"""python -m torch_pooling doctor: every function is checked, a wrong one is named and decides the exit status."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from torch_pooling import __main__, _library, doctor, functional
from torch_pooling._doctor import checks


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SPEED", doctor.SPEED[:1])
    monkeypatch.setattr(doctor, "SECONDS", 0.01)
    monkeypatch.setattr(_library, "instruction_sets", lambda: [_library.instruction_set()])


def test_every_function_is_checked() -> None:
    assert {check.function for check in checks.checks()} == set(functional.__all__)


def test_all_agree_on_every_instruction_set() -> None:
    before = _library.instruction_set()
    results = list(checks.run())
    assert [failures for _, _, failures in results if failures] == []
    assert {place for place, *_ in checks.places()} >= set(_library.instruction_sets())
    assert _library.instruction_set() == before


def test_run(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["doctor"]) == 0
    said = capsys.readouterr().out
    for word in (_library.__version__, torch.__version__, _library.instruction_set(), "built by", "max_pool2d(x, 2)", "CUDA kernels"):
        assert word in said
    assert "comparisons agree with torch." in said


def test_without_rich(quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rich" else find(name))
    assert doctor.main() == 0
    said = capsys.readouterr().out
    assert "  instruction set in use" in said and "  function" in said and "─" not in said


WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "value": lambda x: functional.adaptive_max_pool2d(x, 5) + 1e-3,
    "gradient": lambda x: functional.adaptive_max_pool2d(x * 2, 5) - functional.adaptive_max_pool2d(x, 5).detach(),
    "shape": lambda x: functional.adaptive_max_pool2d(x, 4),
    "type": lambda x: functional.adaptive_max_pool2d(x, 5).double().float().to(torch.float64),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named(
    kind: str, quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = list(checks.checks())
    broken = [
        check if check.function != "adaptive_max_pool2d" else
        checks.Check(check.function, check.title, check.rank, WRONG[kind], check.theirs, check.selects)
        for check in sound
    ]
    monkeypatch.setattr(checks, "checks", lambda: iter(broken))
    assert doctor.main() == 1
    said = capsys.readouterr().out
    assert "WRONG adaptive_max_pool2d(x, 5), float32, channels_first" in said and "disagree with torch." in said


def test_an_exception_is_a_disagreement() -> None:
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("no such kernel")

    check = next(checks.checks())
    said = checks.said_of(checks.Check(check.function, check.title, check.rank, broken, check.theirs), torch.ones(1, 1, 9))
    assert said == "RuntimeError: no such kernel"
