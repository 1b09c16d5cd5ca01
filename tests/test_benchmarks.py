"""The benchmark's arithmetic, on made-up times: bytes by definition, figures, promises. Nothing here is timed."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parent.parent))  # benchmarks/ belongs to the source tree, not to the package

from benchmarks import harness, peers, render, verdict  # noqa: E402
from benchmarks.__main__ import arguments, main, plan  # noqa: E402
from benchmarks.cases import CASES, Case, tensor  # noqa: E402
from benchmarks.peers.base import Absent, sliding  # noqa: E402


def row(**changes: Any) -> dict[str, Any]:
    """A large channels-first float32 row that keeps every promise."""
    made = {
        "group": "networks", "origin": "net", "case": "max 3x3 s1 p1 on 1x8x512x512", "kind": "max", "shape": [1, 8, 512, 512],
        "kernel": [3, 3], "stride": [1, 1], "taps": 9, "dtype": "float32", "layout": "channels_first", "mode": "inference",
        "memory": "recycled", "wrong": None, "notes": [], "ms": {"ours": 1.0, "torch": 30.0, "openvino": 1.5, "copy": 1.0},
        "ratio": {"torch": 30.0, "openvino": 1.5}, "best_peer": "openvino", "bytes": 2**24, "gb_per_s": 16.0,
        "share_of_copy": 0.9, "best_copy": "copy", "saved_bytes": None,
    }  # fmt: skip
    return {**made, **changes}


def word(rows: list[dict[str, Any]], promise: str, single: list[dict[str, Any]] | None = None) -> str:
    """The verdict on the one promise that has these words in it."""
    (found,) = [one for one in verdict.findings(rows, single or []) if promise in one.promise]
    return found.word


def test_bytes_by_definition() -> None:
    stem = Case("g", "o", "max", (8, 64, 112, 112), 3, 2, 1)
    inputs, outputs = 8 * 64 * 112 * 112, 8 * 64 * 56 * 56
    assert stem.bytes_moved("inference", outputs, 4) == (inputs + outputs) * 4
    assert stem.bytes_moved("training", outputs, 4) == (inputs + outputs) * 4 + outputs
    assert stem.bytes_moved("backward", outputs, 2) == (inputs + outputs) * 2 + outputs
    average = Case("g", "o", "avg", (8, 64, 112, 112), 3, 2, 1)
    assert average.bytes_moved("training", outputs, 4) == (inputs + outputs) * 4


@pytest.mark.parametrize(
    ("kernel", "output_size", "shape", "taps", "offset"),
    [
        (16, 0, (1, 1, 32, 32), 256, 1),
        (17, 0, (1, 1, 32, 32), 289, 2),
        ((1, 3, 3), 0, (1, 1, 4, 8, 8), 9, 1),
        ((), 7, (1, 1, 13, 13), 9, 1),  # windows of an uneven division overlap: the largest is 3x3
        ((), 0, (1, 1, 1024, 1024), 2**20, 4),
        (160, 0, (1, 1, 16000), 160, 1),
    ],
)
def test_window_elements_and_offset(kernel: Any, output_size: int, shape: tuple[int, ...], taps: int, offset: int) -> None:
    case = Case("g", "o", "max", shape, kernel, output_size=output_size)
    assert (case.taps(), case.offset_bytes()) == (taps, offset)


def test_figures() -> None:
    samples = {"ours": [2e-3, 1e-3, 9e-3], "torch": [8e-3], "jax": [3e-3], "copy": [2e-3], "streaming copy": [1e-3]}
    figures = harness.figures(samples, moved=6_000_000, copied=4_000_000)
    assert figures["ms"]["ours"] == pytest.approx(2) and figures["fastest_ms"]["ours"] == pytest.approx(1)
    assert figures["ratio"] == pytest.approx({"torch": 4, "jax": 1.5})
    assert figures["best_peer"] == "jax" and figures["best_copy"] == "streaming copy"
    assert figures["gb_per_s"] == pytest.approx(3) and figures["copy_gb_per_s"] == pytest.approx(4)
    assert figures["share_of_copy"] == pytest.approx(0.75)


def test_windows_spelled_out_pool_the_same() -> None:
    """Engines are given the window that torch is given, or say that they have none."""
    for case in CASES:
        try:
            window = sliding(case)
        except Absent:
            assert case.output_size and any(size % case.output_size for size in case.shape[2:])
            continue
        small = torch.empty((1, 1, *case.shape[2:]), device="meta")
        pool = getattr(torch.nn.functional, f"{case.kind}_pool{case.rank}d")
        assert pool(small, window.kernel, window.stride, window.padding).shape == case.theirs()(small).shape, case.name


@pytest.mark.parametrize("name", ["other-layout", "onednn", "onnxruntime", "openvino", "jax"])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_peers_compute_what_torch_does(name: str, layout: str, kind: str) -> None:
    if peers.missing([name]):
        pytest.skip(f"{name} is not installed")
    if name == "openvino" and "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("OpenVINO loads its libraries with RTLD_DEEPBIND, which AddressSanitizer ends a process for")
    case = Case("g", "o", kind, (2, 5, 9, 8), 3, 2, 1)
    x = tensor(case, torch.float32, layout, "cpu")
    found = harness.gather(case, x, [name])
    if name == "onnxruntime" and layout == "channels_last":
        assert found.notes == {name: "no channels-last pooling"}
    else:
        assert list(found.pools) == [name], found.notes


def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("g", "o", "avg", (2, 5, 9, 8), 3, 2, 1)
    without_padding = peers.Peer(lambda case, x: peers.Ready(lambda t: torch.nn.functional.avg_pool2d(t, 3, 2, 1, False, False), x))
    broken = peers.Peer(lambda case, x: [][1])
    monkeypatch.setitem(peers.PEERS, "jax", without_padding)
    monkeypatch.setitem(peers.PEERS, "openvino", broken)
    found = harness.gather(case, tensor(case, torch.float32, "channels_first", "cpu"), ["jax", "openvino"])
    assert not found.pools
    assert found.notes["jax"].startswith("not timed, the value differs") and found.notes["openvino"].startswith("failed, IndexError")


def test_a_slow_peer_is_called_once_and_its_gradient_still_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "SLOW", -1.0)
    case = Case("g", "o", "avg", (2, 5, 9, 8), 3, 2, 1)
    found = harness.gather(case, tensor(case, torch.float32, "channels_first", "cpu"), ["torch", "other-layout"])
    assert list(found.slow) == ["other-layout"]
    assert [list(found.for_mode(mode)) for mode in ("inference", "training")] == [["torch"], ["torch"]]
    assert list(found.for_mode("backward")) == ["torch", "other-layout"]
    assert [found.said(mode) for mode in ("inference", "training", "backward")] == [
        ["other-layout: one call, 0 s"], ["other-layout: left out, 0 s"], []
    ]  # fmt: skip


def test_absent_peers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.PEERS, "jax", peers.Peer(peers.PEERS["jax"].prepare, packages=("no_such_package_anywhere",)))
    assert peers.missing(["torch", "jax"]) == {"jax": "no_such_package_anywhere"}


def test_handover_waits_where_threads_change(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    ours, theirs = (lambda: heard.append("ours")), (lambda: heard.append("theirs"))
    monkeypatch.setattr(time, "sleep", lambda seconds: heard.append("pause"))

    def clock(call: harness.Call, count: int) -> float:
        call()
        return 1e-6 * count

    handover = harness.Handover(clock, {ours: "torch", theirs: "jax"})
    for call in (ours, ours, theirs, ours):
        handover(call, 1)
    assert heard == ["pause", "ours", "ours", "pause", "theirs", "pause", "ours"]


def test_a_long_call_takes_no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "ALONE", 0.01)
    setting = harness.Setting("cpu", "recycled", 0.01, None, harness.Patience(0))
    samples = harness.sample({"ours": lambda: None, "torch": lambda: time.sleep(0.02), "copy": lambda: None}, setting)
    assert len(samples["torch"]) == 1 and len(samples["ours"]) == len(samples["copy"]) >= 3


def test_every_promise_has_a_verdict() -> None:
    rows = [row(), row(kind="avg", case="avg 3x3 s1 p1 on 1x8x512x512"), row(mode="training"), row(mode="backward"), row(dtype="bfloat16")]
    rows += [row(memory="fresh"), *(row(kernel=[size] * 2, case=f"max {size}x{size}", taps=size**2, dtype="bfloat16") for size in (31, 101))]
    found = verdict.findings(rows, rows)
    assert not [one.promise for one in found if one.word == "FAIL"]
    assert len({one.promise for one in found}) == len(found)
    assert "| FAIL |" not in verdict.text(found)


@pytest.mark.parametrize(
    ("changes", "promise"),
    [
        ({"wrong": "the value differs"}, "agrees with torch"),
        ({"ratio": {"torch": 0.96, "openvino": 1.5}}, "no row slower than torch, same layout"),
        ({"ratio": {"torch": 9.9, "openvino": 1.5}}, "inference: geometric mean"),
        ({"mode": "backward", "ratio": {"torch": 4.9}, "best_peer": "torch"}, "backward: geometric mean"),
        ({"ratio": {"torch": 24.9, "openvino": 1.5}}, "maximum 3x3 s1"),
        ({"ratio": {"torch": 30.0, "openvino": 0.96, "jax": 2.0}}, "inference of at least 8 MB: as fast as the best engine"),
        ({"share_of_copy": 0.79}, "inference, float32, channels first"),
        ({"mode": "training", "dtype": "bfloat16", "layout": "channels_last", "share_of_copy": 0.79}, "training, bfloat16, channels last"),
        ({"mode": "backward", "share_of_copy": 0.59}, "backward, float32, channels first"),
    ],
)
def test_a_row_that_falls_short(changes: dict[str, Any], promise: str) -> None:
    rest = {name: value for name, value in changes.items() if name in ("mode", "dtype", "layout")}
    assert word([row(**rest)], promise) == "pass"
    assert word([row(**changes)], promise) == "FAIL"


def test_noise_is_allowed_on_ties() -> None:
    assert word([row(ratio={"torch": 0.98}, best_peer="torch")], "no row slower than torch, same layout") == "pass"


def test_small_rows_and_large_windows_need_not_reach_the_copy() -> None:
    promise = "inference, float32, channels first"
    assert word([row(share_of_copy=0.1, bytes=7_000_000), row(share_of_copy=0.1, taps=10)], promise) == "no rows"


def test_types_are_compared_on_the_same_row() -> None:
    slow = row(dtype="bfloat16", ms={"ours": 1.1, "copy": 1.0})
    assert word([row(), slow], "bfloat16 as fast") == "FAIL"
    assert word([row(), row(dtype="bfloat16", ms={"ours": 1.02, "copy": 1.0})], "bfloat16 as fast") == "pass"
    assert word([row(layout="channels_last"), slow], "bfloat16 as fast") == "no rows"


@pytest.mark.parametrize(("small", "large", "limit"), [(3, 31, 3.0), (31, 101, 1.3)])
@pytest.mark.parametrize(("mode", "modes"), [("training", "inference and training"), ("backward", "backward")])
def test_growth_with_the_window(small: int, large: int, limit: float, mode: str, modes: str) -> None:
    def at(size: int, milliseconds: float) -> dict[str, Any]:
        return row(case=f"max {size}x{size}", kernel=[size, size], mode=mode, ms={"ours": milliseconds, "copy": 1.0})

    promise = f"max {modes}: {large}x{large} takes"
    assert word([at(small, 1.0), at(large, limit - 0.01)], promise) == "pass"
    assert word([at(small, 1.0), at(large, limit + 0.01)], promise) == "FAIL"


def test_a_second_thread_against_the_copy() -> None:
    promise = "batch 1, backward"
    two = [row(mode="backward", ms={"ours": 1.0, "copy": 2.0, "streaming copy": 1.0}, best_copy="streaming copy")]
    enough, less = ([row(mode="backward", ms={"ours": ours, "copy": 2.0}, best_copy="copy")] for ours in (1.81, 1.79))
    assert word(two, promise, enough) == "pass"
    assert word(two, promise, less) == "FAIL"
    assert word([row(mode="backward", shape=[2, 8, 512, 512])], promise, enough) == "no rows"


def test_fresh_rows_answer_one_promise_only() -> None:
    rows = [row(), row(memory="fresh", ratio={"torch": 0.5}, share_of_copy=0.1)]
    assert [one.promise for one in verdict.findings(rows) if one.word == "FAIL"] == ["fresh memory: every row as fast as torch, same layout"]


def write(path: Path, threads: int, rows: list[dict[str, Any]], tail: str = "") -> Path:
    about = {"device": "a processor", "threads": threads, "instruction_set": "scalar", "torch": "2", "date": "2000-01-01"}
    path.write_text("".join(json.dumps(line) + "\n" for line in [about, *rows]) + tail)
    return path


def test_command_line_on_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = write(tmp_path / "two.jsonl", 2, [row(), row(mode="backward")])
    one = write(tmp_path / "one.jsonl", 1, [row(ms={"ours": 2.0, "copy": 2.0})])
    assert main(["--verdict", str(two), str(one)]) == 0
    assert "| batch 1, inference" in capsys.readouterr().out
    with pytest.raises(ValueError, match="2 threads"):
        main(["--verdict", str(one), str(two)])
    assert main(["--verdict", str(write(tmp_path / "short.jsonl", 2, [row(share_of_copy=0.5)]))]) == 1
    assert main(["--render", str(two)]) == 0
    table = two.with_suffix(".md").read_text()
    assert "| 1.000, 30.00x, 1.50x openvino, 16.0, 90% |" in table
    with pytest.raises(SystemExit):
        main(["--chart", "x.png"])


def test_table_sets_average_beside_maximum() -> None:
    kept = {"max": row(mode="training", saved_bytes={"ours": 2_000_000}), "avg": row(mode="training", saved_bytes={"ours": 0}, ms={"ours": 0.5})}
    kept["avg"]["case"] = kept["max"]["case"].replace("max", "avg")
    lines = render.average_and_maximum([*kept.values()])
    assert lines[-1] == "| net | 3x3 s1 p1 on 1x8x512x512 | first | recycled |  | 0.500 / 1.000 |  | 0.00 / 2.00 |"
    assert render.average_and_maximum([kept["max"]]) == []


def test_chart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = write(tmp_path / "run.jsonl", 2, [row(), row(mode="backward", ratio={"torch": 0.3}), row(layout="channels_last")])
    assert main(["--render", str(file), "--chart", str(tmp_path / "chart.png")]) == 0
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_file_keeps_its_rows(tmp_path: Path) -> None:
    _, rows = render.load(write(tmp_path / "cut.jsonl", 2, [row()], tail='{"group": "netw'))
    assert rows == [row()]


def test_an_old_file_is_refused_by_the_verdict_in_words() -> None:
    old = {name: value for name, value in row().items() if name != "taps"}
    with pytest.raises(ValueError, match="measure again"):
        verdict.findings([old])


def test_quick_is_a_dozen_rows_against_torch() -> None:
    options = arguments(["--quick"])
    assert options.peers == ["torch"]
    assert len({(case.origin, case.name) for _, case, _, _ in plan(options)}) == 12


def test_rows_are_told_apart_by_group_origin_and_name() -> None:
    names = [(case.group, case.origin, case.name) for case in CASES]
    assert len(set(names)) == len(names)
