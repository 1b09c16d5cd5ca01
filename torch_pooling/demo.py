# SPDX-License-Identifier: BSD-3-Clause
"""python -m torch_pooling demo: ours against torch on real photographs, with one table, one training and one picture.

The parts stand in _demo/: photographs (inputs), operators (rows as data, measured by agreement and stopwatch), training
and picture. Here is the order of things and what is printed. Anything that disagrees is named and makes the exit status 1.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from torch_pooling._demo.operators import Both, Measured
    from torch_pooling._demo.training import Run

NEEDED = {"rich": "rich", "matplotlib": "matplotlib", "sklearn": "scikit-learn", "PIL": "pillow"}  # module: package
SECONDS = 0.4  # spent on a forward and again on a backward of each row
WIDTH = 116  # where there is no terminal to ask


def missing() -> str | None:
    """None, or one sentence with the command that installs what the demo lacks."""
    packages = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if not packages:
        return None
    return f"The demo needs {' and '.join(packages)}, not installed here: run `{sys.executable} -m pip install {' '.join(packages)}`."


def main(out: Path) -> int:
    sentence = missing()
    if sentence:
        print(sentence, file=sys.stderr)
        return 1
    from rich.console import Console

    return run(out, Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=WIDTH))


def run(out: Path, console: Console, seconds: float = SECONDS) -> int:
    import torch
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from torch_pooling import _library
    from torch_pooling._demo import operators, picture, training
    from torch_pooling._demo.photographs import inputs, photographs

    console.print(
        f"[bold]torch_pooling against torch {torch.__version__}[/], {torch.get_num_threads()} threads, "
        f"instruction set in use: {_library.instruction_set()}"
    )
    photos = photographs()
    given = inputs(photos)
    for name, x in given.items():
        console.print(f"  {name}: {' x '.join(map(str, x.shape))}", style="dim", highlight=False)

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn()
    rows: list[Measured] = []
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(operators.OPERATORS) + 1)
        for operator in operators.OPERATORS:
            progress.update(task, description=f"{operator.title}, {operator.input}")
            rows.append(operators.measure(operator, given[operator.input], seconds=seconds))
            progress.advance(task)
        progress.update(task, description="training two classifiers of handwritten digits")
        runs = training.train_both(training.digits())
        progress.advance(task)

    console.print(*tables(rows, console.width), training_table(runs))
    console.print(
        f"The two loss curves, {len(runs['ours'].losses)} steps, are never further apart than {training.gap(runs):.1e}.",
        highlight=False,
    )
    out.mkdir(parents=True, exist_ok=True)
    picture.draw(photos[1], rows, out / "demo.png")
    console.print(f"Picture: {out / 'demo.png'}", highlight=False, soft_wrap=True)

    failures = [f"{row.operator.title} on {row.operator.input}: {row.wrong}" for row in rows if row.wrong]
    trained = training.disagreement(runs)
    return verdict(failures + ([trained] if trained else []), len(rows), console)


def verdict(failures: Sequence[str], rows: int, console: Console) -> int:
    """The exit status; every failure is one line of its own."""
    for failure in failures:
        console.print(f"WRONG {failure}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    if failures:
        return 1
    console.print(f"All {rows} rows agree with torch, values and gradients, and so do the two trainings.", style="bold green", highlight=False)
    return 0


def tables(rows: Sequence[Measured], width: int) -> list[Table]:
    """One table where the screen is wide enough for it, else forward, backward and saved bytes below each other."""
    from rich import box
    from rich.table import Table

    agree = ["[bold red]WRONG[/]" if row.wrong else "[green]yes[/]" for row in rows]
    forward, backward = ([times(getattr(row, way)) for row in rows] for way in ("forward", "backward"))
    means = [["", "", f"{geometric_mean([getattr(row, way).ratio for row in rows]):.2f}x"] for way in ("forward", "backward")]
    sums = [megabytes(sum(getattr(row.saved, whose) for row in rows)) for whose in ("torch", "ours")]
    saved = [[megabytes(row.saved.torch), megabytes(row.saved.ours), mark] for row, mark in zip(rows, agree, strict=True)]
    parts = [  # headings, a list of cells for each row, the cells of the last line
        (["forward\ntorch", "\nours", "\nratio"], forward, means[0]),
        (["backward\ntorch", "\nours", "\nratio"], backward, means[1]),
        (["saved MB\ntorch", "\nours", "\nagree"], saved, [*sums, ""]),
    ]
    result = []
    for together in [parts] if width >= WIDTH else [[part] for part in parts]:
        table = Table(title="Ours against torch: median milliseconds, taken in turns", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("operator")
        table.add_column("input x")
        for headings, _, _ in together:
            for heading in headings:
                table.add_column(heading, justify="right", no_wrap=True)
        for index, row in enumerate(rows):
            table.add_row(row.operator.title, row.operator.input, *(cell for _, cells, _ in together for cell in cells[index]))
        table.add_section()
        table.add_row("geometric mean; sum", "", *(cell for _, _, last in together for cell in last))
        result.append(table)
    result[-1].caption = "ratio: torch's time divided by ours; saved MB: memory kept alive from the forward for the backward"
    return result


def training_table(runs: dict[str, Run]) -> Table:
    from rich import box
    from rich.table import Table

    result = Table(title="Handwritten digits, trained twice from one seed", box=box.SIMPLE_HEAD, pad_edge=False)
    result.add_column("pooling layers")
    for heading in ("first loss", "last loss", "accuracy on unseen digits", "training"):
        result.add_column(heading, justify="right")
    for name, whose in (("torch", "torch.nn"), ("ours", "torch_pooling")):
        run = runs[name]
        result.add_row(whose, f"{run.losses[0]:.7f}", f"{run.losses[-1]:.7f}", f"{run.accuracy:.2%}", f"{run.seconds:.2f} s")
    return result


def times(both: Both) -> list[str]:
    colour = "green" if both.ratio >= 1 else "red"
    return [f"{both.torch * 1e3:.2f}", f"{both.ours * 1e3:.2f}", f"[{colour}]{both.ratio:.2f}x[/]"]


def megabytes(count: float) -> str:
    if count == 0:
        return "0"
    return f"{count / 1e6:.2f}" if count >= 1e4 else "<0.01"


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))
