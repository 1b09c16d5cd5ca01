# SPDX-License-Identifier: BSD-3-Clause
"""A results file as a picture: torch's time by ours, row by row, for the three modes. Needs matplotlib, which is optional."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import LAYOUTS
from benchmarks.peers import ENGINES
from benchmarks.render import Row, grouped

COLOURS = {"inference": "#1b7f8c", "training": "#8cc5c0", "backward": "#e8963a"}
ENGINE = "best engine"
INK, FAINT = "#333333", "#dddddd"
THICK = 0.27  # of a bar, where rows are 1 apart
LEAST_X, MOST_X = 0.5, 100.0  # the axis shows at least that much


def draw(about: dict[str, Any], rows: Sequence[Row], path: Path, dtypes: Sequence[str] | None = None, layouts: Sequence[str] = LAYOUTS) -> None:
    """One panel for each layout; of types and kinds of memory the first that the file has, unless one is asked for."""
    # Figure and its own canvas, not pyplot: nothing global changes, and no display is needed.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    compared = [row for row in rows if "torch" in row["ratio"] and row["layout"] in layouts]
    if not compared:
        raise ValueError("no row of these layouts was compared with torch")
    dtype = dtypes[0] if dtypes else compared[0]["dtype"]
    memory = compared[0]["memory"]
    shown = [row for row in compared if (row["dtype"], row["memory"]) == (dtype, memory)]
    if not shown:
        raise ValueError(f"no row of type {dtype} was compared with torch")
    names = list(dict.fromkeys((row["origin"], row["case"]) for row in shown))
    panels = [layout for layout in LAYOUTS if any(row["layout"] == layout for row in shown)]

    figure = Figure(figsize=(5.2 + 5.4 * len(panels), 1.6 + 0.36 * len(names)), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, layout in zip(axes, panels):
        panel(axis, names, [row for row in shown if row["layout"] == layout], layout.replace("_", "-"))
    axes[0].set_yticks(range(len(names)), [f"{origin}   {case}" for origin, case in names], fontsize=8.5, color=INK)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
    labels = sorted(entries, key=[*COLOURS, ENGINE].index)
    figure.legend([entries[label] for label in labels], labels, loc="outside upper right", ncols=len(labels), fontsize=9, frameon=False)
    figure.suptitle(f"torch's time divided by ours, {dtype}", x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    threads = f"{about['threads']} {'thread' if about['threads'] == 1 else 'threads'}"
    words = about["device"], threads, about["instruction_set"], f"torch {about['torch']}", f"{memory} memory", about["date"]
    figure.supxlabel(", ".join(words), fontsize=8.5, color=INK)
    figure.savefig(path)


def panel(axis: Any, names: Sequence[tuple[str, str]], rows: Sequence[Row], title: str) -> None:
    """Three bars for a row on a logarithmic axis, right of the line ours is faster; a mark where the best engine would end."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    place = {name: index for index, name in enumerate(names)}
    ratios = [row["ratio"]["torch"] for row in rows]
    for number, (mode, colour) in enumerate(COLOURS.items()):
        of_mode = [row for row in rows if row["mode"] == mode]
        y = [place[row["origin"], row["case"]] + (number - 1) * THICK for row in of_mode]
        axis.barh(y, [row["ratio"]["torch"] - 1 for row in of_mode], THICK, left=1, color=colour, label=mode)
    marks = []
    for modes in grouped(rows):
        for number, mode in enumerate(COLOURS):
            if mode in modes:
                ratio = modes[mode]["ratio"]
                engine = min((ratio[name] for name in ENGINES if name in ratio), default=None)
                if engine is not None:
                    marks.append((ratio["torch"] / engine, place[modes[mode]["origin"], modes[mode]["case"]] + (number - 1) * THICK))
    if marks:
        axis.plot(*zip(*marks), "|", color="black", markersize=6, markeredgewidth=1.4, label=ENGINE)
        ratios += [x for x, _ in marks]
    axis.set_xscale("log")
    axis.set_xlim(min(LEAST_X, *ratios) * 0.9, max(MOST_X, *ratios) * 1.1)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axis.tick_params(axis="x", labelsize=8.5, top=True, labeltop=True)
    axis.tick_params(axis="y", length=0)
    axis.axvline(1, color=INK, linewidth=1)
    axis.set_title(title, fontsize=10.5, color=INK)
    axis.grid(axis="x", which="major", color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
