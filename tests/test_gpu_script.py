"""benchmarks/gpu.sh and gpu.py where there is no GPU: which commands the script gives, and that each of them runs.

The script is run with an interpreter and profilers that only write down how they were called; what they were given must be
understood by the real programs. The parts of gpu.py run on the CPU (`Rehearsal`), and must notice what they are there to notice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # benchmarks/ belongs to the source tree, not to the package

from benchmarks import __main__ as rows  # noqa: E402
from benchmarks import gpu  # noqa: E402
from benchmarks.cases import Case  # noqa: E402
from benchmarks.device import Rehearsal, open_device  # noqa: E402

SMALL = [
    Case("g", "o", "max", (2, 8, 12, 12), 3, 2, 1, quick=True),
    Case("g", "o", "avg", (2, 8, 20), 2, quick=True),
    Case("g", "o", "avg", (1, 3, 4, 5, 6)),
]
STUB = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["CALLS"], "a") as file:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=file)
if "--out" in sys.argv:
    open(sys.argv[sys.argv.index("--out") + 1], "w").close()
if "--build-lib" in sys.argv:
    os.makedirs(sys.argv[sys.argv.index("--build-lib") + 1], exist_ok=True)
sys.exit(int(os.environ.get("FAIL", "\\0") in " ".join(sys.argv)))
"""


@pytest.fixture
def script(tmp_path: Path) -> Any:
    """Runs gpu.sh; answers what it printed, its exit status, and the commands that it gave."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("python", "ncu", "compute-sanitizer", "nvidia-smi"):
        (tools / name).write_text(STUB)
        (tools / name).chmod(0o755)
    calls = tmp_path / "calls"

    def run(*arguments: str, **environment: str) -> tuple[str, int, list[list[str]]]:
        calls.write_text("")
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        given = {**os.environ, "PATH": path, "CALLS": str(calls), "PYTHON": str(tools / "python"), **environment}
        command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments]
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr, done.returncode, [json.loads(line) for line in calls.read_text().splitlines()]

    return run


def module_calls(calls: list[list[str]], module: str) -> list[list[str]]:
    """Arguments of every `-m module`, also behind a profiler."""
    return [call[call.index(module) + 1 :] for call in calls if module in call and call[call.index(module) - 1] == "-m"]


def test_all_parts_give_commands_that_are_understood(script: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed, status, calls = script(str(out))
    assert status == 0, printed
    assert "FAILED" not in printed and "cut off" not in printed and "not installed" not in printed, printed
    parts = [gpu.arguments(call) for call in module_calls(calls, "benchmarks.gpu")]
    assert {part.what for part in parts} == set(gpu.WHAT)
    assert all(part.device == "cuda" and part.elements is None for part in parts)
    runs = [rows.arguments(call) for call in module_calls(calls, "benchmarks")]
    assert [(run.device, run.quick, run.group) for run in runs] == [("cuda", True, "everyday"), ("cuda", False, "all")]
    (tests,) = module_calls(calls, "pytest")
    files = [argument for argument in tests if argument.endswith(".py")]
    assert len(files) >= 4 and all(Path(file).is_file() for file in files)
    assert [call[0] for call in calls].count("compute-sanitizer") == 3 and ["nvidia-smi"] in calls
    assert {"graphs.txt", "all.jsonl", "compiled.jsonl", "jax.jsonl", "log.txt"} <= set(os.listdir(out))
    assert sum("setup.py" in call for call in calls) == 1, "it is built once, for no wheel is for an interpreter without a version"
    again = script(str(out), "--part", "2")[2]
    assert not any("setup.py" in call for call in again)
    assert [gpu.arguments(call).what for call in module_calls(again, "benchmarks.gpu")] == ["copies"]


def test_a_step_that_fails_ends_neither_its_part_nor_unnoticed(script: Any, tmp_path: Path) -> None:
    printed, status, calls = script(str(tmp_path / "out"), "--part", "1", FAIL="benchmarks.gpu")
    assert status == 1 and printed.count("FAILED (1)") == 3, printed
    assert module_calls(calls, "pytest")


def test_no_gpu_and_no_time(script: Any, tmp_path: Path) -> None:
    printed, status, calls = script(str(tmp_path / "out"), FAIL="get_device_name")
    assert status == 1 and len(calls) == 1 and "gpu: FAILED" in printed
    printed, status, calls = script(str(tmp_path / "other"), MINUTES="0")
    assert status == 1 and not calls and "no time left" in printed


@pytest.mark.parametrize("arguments", [[], ["out", "--part"], ["out", "--part", "5"], ["out", "--parts", "1"]])
def test_usage(script: Any, arguments: list[str]) -> None:
    printed, status, calls = script(*arguments)
    assert status == 2 and "OUTDIR [--part N]" in printed and not calls


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gpu.Session:
    monkeypatch.setattr(gpu, "CASES", SMALL)
    monkeypatch.setattr(torch, "compile", lambda pool, **_: pool)
    return gpu.Session(open_device("cpu"), 1000, tmp_path / "out.jsonl", tmp_path / "all.jsonl")


@pytest.mark.parametrize("what", list(gpu.WHAT))
def test_every_part_runs(what: str, session: gpu.Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert session.results is not None
    rows = [{"case": case.name, "dtype": "bfloat16", "layout": "channels_last", "mode": "inference", "ratio": {"torch": 1.0}} for case in SMALL]
    session.results.write_text("\n".join(map(json.dumps, [{"date": ""}, *rows])))
    gpu.WHAT[what](session)
    assert capsys.readouterr().out
    if what == "compiled":
        found = [json.loads(line) for line in session.out.read_text().splitlines()]
        assert len(found) == 8 and all(row["ratio"] > 0 for row in found), "two quick cases, two types, two layouts"


def test_a_peer_that_fails_is_a_row(session: gpu.Session) -> None:
    def broken(case: Case, x: Tensor) -> Any:
        raise RuntimeError("no such thing")

    gpu.against(session, broken, "peer", session.device.seconds)
    assert all("no such thing" in json.loads(line)["error"] for line in session.out.read_text().splitlines())


@pytest.mark.parametrize("what", ["determinism", "graphs"])
def test_results_that_differ_are_noticed(what: str, session: gpu.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    real = gpu.forward_backward

    def noisy(case: Case, x: Tensor) -> tuple[Tensor, Tensor]:
        output, grad = real(case, x)
        return output + torch.rand(()), grad

    monkeypatch.setattr(gpu, "forward_backward", noisy)
    with pytest.raises(SystemExit, match="differ|something else"):
        gpu.WHAT[what](session)


def test_a_graph_that_is_not_replayed_is_noticed(session: gpu.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rehearsal, "capture", lambda self, call: (call(), lambda: None))
    with pytest.raises(SystemExit, match="the graph computes something else"):
        gpu.graphs(session)


def test_peaks_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    """On sizes that take 32 bits; the real ones are for a GPU."""
    gpu.peaks(1000, (2, 2, 16, 18), "cpu")
    assert capsys.readouterr().out.count("ok") == 3


def test_shrunk_rows_keep_their_planes() -> None:
    case = gpu.shrunk(Case("g", "o", "max", (8, 64, 10, 10), 3, 1), 450)
    assert case.shape == (1, 4, 10, 10) and case.kernel == 3
    assert gpu.shrunk(case, 1).shape == (1, 1, 10, 10)


def test_only_two_devices() -> None:
    with pytest.raises(ValueError, match="cuda or cpu, but is 'tpu'"):
        open_device("tpu")
