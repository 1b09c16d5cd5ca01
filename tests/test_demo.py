# SPDX-License-Identifier: BSD-3-Clause
"""The demo on small inputs: it runs, and what is said to agree was really looked at, for everything wrong is caught."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from torch_pooling import __main__ as command_line
from torch_pooling import demo, functional
from torch_pooling._demo import operators, photographs, picture, stopwatch, training
from torch_pooling._demo.agreement import Pool, compare
from torch_pooling._demo.operators import Both, Measured, Operator


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return photographs.photographs()


@pytest.fixture(scope="module")
def small(photos: Tensor) -> Tensor:
    return photos[:, :, 100:164, 200:296].contiguous()


def given(small: Tensor) -> dict[str, Tensor]:
    return photographs.inputs(small, count=2, size=32, filters=4)


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_photographs(photos: Tensor) -> None:
    assert photos.shape == (2, 3, 427, 640) and photos.dtype == torch.float32
    assert photos.min() == 0 and photos.max() == 1
    assert not torch.equal(photos[0], photos[1])


def test_inputs(small: Tensor) -> None:
    shapes = {name: tuple(x.shape) for name, x in given(small).items()}
    assert shapes == {
        "photographs": (2, 3, 64, 96),
        "features": (2, 4, 16, 16),
        "features NHWC": (2, 4, 16, 16),
        "lines": (128, 3, 96),
        "pan": (2, 3, 16, 16, 16),
    }
    assert given(small)["features NHWC"].is_contiguous(memory_format=torch.channels_last)
    assert {operator.input for operator in operators.OPERATORS} == set(shapes)


def test_every_function_is_shown() -> None:
    shown = {operator.function for operator in operators.OPERATORS}
    windowed = {f"{kind}_pool{rank}d" for kind in ("max", "avg") for rank in (1, 2, 3)}
    assert shown == windowed | {f"adaptive_{name}" for name in windowed} | {"global_max_pool", "global_avg_pool"}


# --- agreement --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", operators.OPERATORS, ids=lambda operator: f"{operator.title} {operator.input}")
def test_ours_agrees(operator: Operator, small: Tensor) -> None:
    assert compare(operator.ours(), operator.theirs(), given(small)[operator.input], selects=operator.selects) is None


def fair_shares(x: Tensor) -> Tensor:
    """A maximum that splits the gradient between equal values."""
    return F.unfold(x.flatten(0, 1)[:, None], 2, stride=2).amax(1).view(*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2)


def steeper(pool: Pool) -> Pool:
    """The same values, a gradient 0.001 % too large."""

    def wrong(x: Tensor) -> Tensor:
        value = pool(x)
        return value + 1e-5 * (value - value.detach())

    return wrong


def lazy_sum(x: Tensor) -> Tensor:
    """The average of 8x8 windows summed in x's own type, one addition after another."""
    total = torch.zeros_like(x[..., ::8, ::8])
    for row in range(8):
        for column in range(8):
            total = total + x[..., row::8, column::8]
    return total / 64


def last_channel_wrong(x: Tensor) -> Tensor:
    value = F.avg_pool2d(x, 2)
    return torch.cat([value[:, :-1], value[:, -1:] * 1.001], dim=1)


MAX2: Pool = lambda x: F.max_pool2d(x, 2)  # noqa: E731
AVG2: Pool = lambda x: F.avg_pool2d(x, 2)  # noqa: E731
PADDED: Pool = lambda x: F.avg_pool2d(x, 3, 2, 1)  # noqa: E731
WRONG: dict[str, tuple[Pool, Pool, bool, torch.dtype, str]] = {  # ours, theirs, selects, type, what is said
    "average, a few roundings off": (lambda x: AVG2(x) * (1 + 3e-6), AVG2, False, torch.float32, "the value differs"),
    "divisor without the padding": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), PADDED, False, torch.float32, "the value differs"),
    "one channel": (last_channel_wrong, AVG2, False, torch.float32, "the value differs"),
    "maximum, one bit off": (lambda x: MAX2(x) * (1 + 2e-7), MAX2, True, torch.float32, "the value differs"),
    "maximum that loses a NaN": (lambda x: MAX2(x.nan_to_num(-1.0)), MAX2, True, torch.float32, "the value differs"),
    "a NaN too many": (lambda x: AVG2(x) + torch.tensor([0.0, torch.nan] * 4), AVG2, False, torch.float32, "the value differs"),
    "gradient of an average": (steeper(AVG2), AVG2, False, torch.float32, "the gradient differs"),
    "gradient of a maximum": (steeper(MAX2), MAX2, True, torch.float32, "the gradient differs"),
    "ties shared": (fair_shares, MAX2, True, torch.float32, "the gradient differs"),
    "a sum kept in 16 bits": (lazy_sum, lambda x: F.avg_pool2d(x, 8), False, torch.bfloat16, "the value differs"),
    "another type": (lambda x: AVG2(x).double(), AVG2, False, torch.float32, "the value is torch.float64"),
    "another shape": (lambda x: F.avg_pool2d(x, 3, 2), PADDED, False, torch.float32, "the value has shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_operators_are_caught(name: str) -> None:
    ours, theirs, selects, dtype, said = WRONG[name]
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    if name == "ties shared":
        x = x.round()
    if "NaN" in name:
        x[0, 0, 0, 0] = torch.nan
    right = compare(theirs, theirs, x.float(), selects=selects)
    assert right is None, "torch's own answer must pass, or the case proves nothing"
    assert (compare(ours, theirs, x, selects=selects) or "").startswith(said)


def test_every_channel_or_every_nth() -> None:
    x = torch.randn(2, 4, 16, 16)
    assert compare(last_channel_wrong, AVG2, x, selects=False, every=3) is not None
    assert compare(last_channel_wrong, AVG2, x, selects=False, every=2) is None  # the last one is not looked at
    assert compare(lambda x: AVG2(x[:, ::2]), AVG2, x, selects=False, every=2) is not None


# --- times and bytes --------------------------------------------------------------------------------------------------


def test_calls_take_turns() -> None:
    heard: list[str] = []

    def clock(call: Callable[[], object], times: int) -> float:
        heard.extend([str(call())] * times)
        return 0.01 * times

    samples = stopwatch.alternate({"a": lambda: "a", "b": lambda: "b"}, seconds=0, clock=clock)
    assert "".join(heard) == "ab" + "abbaab"  # warm, then three rounds, each begun by another
    assert samples == {"a": [0.01] * 3, "b": [0.01] * 3}


def test_calls_before_those_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])

    def taking(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, now[0] + seconds)

    for seconds, uncounted in ((0.001, 3), (0.02, 2), (0.1, 1)):
        now[0] = 0.0
        assert stopwatch.ready_clock(taking(seconds), 2) == pytest.approx(2 * seconds)
        assert now[0] == pytest.approx((uncounted + 2) * seconds)


@pytest.mark.parametrize("count", range(1, 10))
def test_each_follows_each_equally_often(count: int) -> None:
    rounds = [stopwatch.round_of(count, turn) for turn in range(count * (1 + count % 2))]
    assert all(sorted(order) == list(range(count)) for order in rounds)
    assert len({sum(order[0] == n for order in rounds) for n in range(count)}) == 1
    pairs = Counter(pair for order in rounds for pair in pairwise(order))
    assert len(pairs) == count * (count - 1) and len(set(pairs.values())) <= 1


def test_bytes_saved_counts_what_is_kept_alive() -> None:
    x = torch.randn(2, 4, 16, 16, requires_grad=True)
    assert stopwatch.bytes_saved(lambda: F.avg_pool2d(x, 2)) == x.nbytes
    assert stopwatch.bytes_saved(lambda: x[:, :1].sin()) == x.nbytes, "a view keeps all of its memory"
    assert stopwatch.bytes_saved(lambda: x.sin() + x.cos()) == x.nbytes, "memory counts once"
    assert stopwatch.bytes_saved(lambda: x + 1) == 0
    with pytest.raises(ValueError, match="requires_grad"):
        stopwatch.bytes_saved(lambda: F.avg_pool2d(x.detach(), 2))


def test_ours_saves_offsets_or_nothing() -> None:
    x = torch.randn(2, 4, 16, 16, requires_grad=True)
    assert stopwatch.bytes_saved(lambda: functional.avg_pool2d(x, 2)) == 0
    assert stopwatch.bytes_saved(lambda: functional.max_pool2d(x, 2)) == x.numel() // 4


def test_measure(small: Tensor) -> None:
    operator = Operator("max_pool2d", (2,), "photographs")
    row = operators.measure(operator, small, seconds=0)
    outputs = small.numel() // 4
    assert row.wrong is None
    assert row.saved == Both(small.nbytes + 8 * outputs, outputs)
    assert [demo.megabytes(count) for count in (0, 9e3, 1e6)] == ["0", "<0.01", "1.00"]
    assert min(row.forward.torch, row.forward.ours, row.backward.torch, row.backward.ours) > 0
    assert Both(3.0, 2.0).ratio == 1.5


# --- training ---------------------------------------------------------------------------------------------------------


def test_two_trainings_are_one() -> None:
    runs = training.train_both(training.digits(train=300), epochs=2)
    assert len(runs["torch"].losses) == 6
    assert training.gap(runs) <= training.LARGEST_GAP
    assert runs["torch"].accuracy == runs["ours"].accuracy
    assert runs["ours"].losses[-1] < runs["ours"].losses[0]


def test_a_wrong_training_is_caught() -> None:
    networks = {"torch": training.network(torch.nn.MaxPool2d(2), torch.nn.AdaptiveAvgPool2d(1))}
    networks["ours"] = training.network(torch.nn.AvgPool2d(2), torch.nn.AdaptiveAvgPool2d(1))
    runs = training.train_both(training.digits(train=200), epochs=1, networks=networks)
    assert "apart" in (training.disagreement(runs) or "")


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (training.Run([1.0, 0.5], 0.97), None),
        (training.Run([1.0, 0.5001], 0.97), "apart"),
        (training.Run([1.0, torch.nan], 0.97), "apart"),
        (training.Run([1.0, 0.5], 0.96), "different accuracies"),
    ],
)
def test_what_counts_as_the_same_training(ours: training.Run, said: str | None) -> None:
    answer = training.disagreement({"torch": training.Run([1.0, 0.5], 0.97), "ours": ours})
    assert answer is None if said is None else said in (answer or "")


def test_a_bad_classifier_is_caught() -> None:
    runs = {name: training.Run([1.0, 0.5], 0.95) for name in ("torch", "ours")}
    assert "95.0%" in (training.disagreement(runs) or "")


# --- the whole --------------------------------------------------------------------------------------------------------


def is_picture(path: Path) -> bool:
    """A PNG that matplotlib reads back, with more in it than a background."""
    from matplotlib.image import imread

    pixels = imread(path)
    return path.read_bytes().startswith(b"\x89PNG") and min(pixels.shape[:2]) > 500 and pixels.std() > 0.1


def test_picture(small: Tensor, tmp_path: Path) -> None:
    rows = [Measured(operator, None, Both(3, 1), Both(1, 2), Both(0, 0)) for operator in operators.OPERATORS]
    picture.draw(small[1], rows, tmp_path / "demo.png")
    assert is_picture(tmp_path / "demo.png")


def test_gradient_maps(small: Tensor) -> None:
    grey = small[1].mean(0, keepdim=True)
    winners = picture.gradient_map(functional.max_pool2d, grey)
    shares = picture.gradient_map(functional.avg_pool2d, grey)
    assert (winners != 0).sum() == grey.numel() / picture.WINDOW**2
    assert (shares != 0).all()
    assert picture.zoom(small[1], 40).shape == (1, 40, 40)


def shrink(monkeypatch: pytest.MonkeyPatch, small: Tensor) -> None:
    """The demo with two rows on small inputs and a training that is over at once."""
    make = photographs.inputs
    monkeypatch.setattr(photographs, "photographs", lambda: small)
    monkeypatch.setattr(photographs, "inputs", lambda photos: make(photos, count=2, size=32, filters=4))
    monkeypatch.setattr(operators, "OPERATORS", (Operator("max_pool2d", (2,), "features"), Operator("avg_pool3d", (2,), "pan")))
    runs = {name: training.Run([2.3, 0.1], 0.98, 1.0) for name in ("torch", "ours")}
    monkeypatch.setattr(training, "train_both", lambda data: runs)


@pytest.mark.parametrize("width", [demo.WIDTH, 80])
def test_run(width: int, small: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch, small)
    console = Console(width=width, record=True, quiet=False, file=(tmp_path / "log").open("w"))
    assert demo.run(tmp_path / "new" / "folder", console, seconds=0) == 0
    text = console.export_text()
    assert "max_pool2d(x, 2)" in text and "avg_pool3d(x, 2)" in text and "All 2 rows agree" in text
    assert "WRONG" not in text and "…" not in text
    assert is_picture(tmp_path / "new" / "folder" / "demo.png")


def test_a_wrong_operator_fails_the_run(small: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch, small)
    monkeypatch.setattr(functional, "avg_pool3d", lambda x, size: F.avg_pool3d(x, size) * 1.0001)
    console = Console(width=demo.WIDTH, record=True, file=(tmp_path / "log").open("w"))
    assert demo.run(tmp_path, console, seconds=0) == 1
    lines = [line for line in console.export_text().splitlines() if line.startswith("WRONG")]
    assert len(lines) == 1 and lines[0].startswith("WRONG avg_pool3d(x, 2) on pan: the value differs")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("rich", "sklearn") else find(name))
    assert demo.main(tmp_path) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "needs rich and scikit-learn" in said and "pip install rich scikit-learn" in said


def test_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def main(out: Path) -> int:
        asked.append(out)
        return 7

    monkeypatch.setattr(demo, "main", main)
    assert command_line.main(["demo", "--out", "there"]) == 7 and asked == [Path("there")]
    shown = subprocess.run([sys.executable, "-m", "torch_pooling", "--help"], capture_output=True, text=True)
    assert shown.returncode == 0 and "demo" in shown.stdout
