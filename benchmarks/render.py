# SPDX-License-Identifier: BSD-3-Clause
"""Results as text: one line for the screen as a row is done, and a Markdown table and summary of a whole file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import LAYOUTS, MODES

Row = dict[str, Any]
NOISE = 1.03  # what two runs of the same thing may differ by
TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "float64": "f64"}
ORDERS = {"channels_first": "first", "channels_last": "last"}


def load(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """What the run was, and its rows; a file that ends early, in the middle of a line even, is a run that was interrupted."""
    text = path.read_text().splitlines(keepends=True)
    if text and not text[-1].endswith("\n"):
        text.pop()
    if not text:
        raise ValueError(f"{path} holds no results")
    about, *rows = map(json.loads, text)
    return about, rows


def line(row: Row) -> str:
    """One row for the screen."""
    ratios = ", ".join(f"{row['ratio'][name]:.2f}x {name}" for name in shown_peers(row))
    text = (
        f"{row['case']:<44} {TYPES[row['dtype']]:<4} {ORDERS[row['layout']]:<5} {row['mode']:<9} "
        f"{row['ms']['ours']:9.3f} ms  {ratios:<30} {row['gb_per_s']:6.1f} GB/s {row['share_of_copy']:5.0%} of copy"
    )
    return "  ".join([text, *row["notes"], *([f"WRONG: {row['wrong']}"] if row["wrong"] else [])])


def shown_peers(row: Row) -> list[str]:
    """torch, and the best peer where that is another one."""
    names = ["torch", row.get("best_peer") or "torch"]
    return [name for name in dict.fromkeys(names) if name in row["ratio"]]


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def summary(rows: Sequence[Row], peer: str = "torch") -> list[str]:
    """Geometric means by mode, type and layout, then every row that is wrong, or slower than the peer by more than noise."""
    lines = []
    for memory in dict.fromkeys(row["memory"] for row in rows):
        for mode in MODES:
            for dtype in dict.fromkeys(row["dtype"] for row in rows):
                for layout in LAYOUTS:
                    ratios = [
                        row["ratio"][peer]
                        for row in rows
                        if (row["memory"], row["mode"], row["dtype"], row["layout"]) == (memory, mode, dtype, layout) and peer in row["ratio"]
                    ]
                    if ratios:
                        lines.append(
                            f"{memory} memory, {mode}, {dtype}, {layout.replace('_', ' ')}: {geometric_mean(ratios):.2f}x {peer} "
                            f"(geometric mean of {len(ratios)}, least {min(ratios):.2f}x)"
                        )
    lines += [f"slower than {peer}: {line(row)}" for row in rows if row["ratio"].get(peer, 1) < 1 / NOISE]
    behind = sum(row["ratio"][name] < 1 / NOISE for row in rows for name in shown_peers(row)[-1:] if name != peer)
    lines += [f"slower than the best peer, which is not {peer}: {behind} of {len(rows)} (--verdict names them)"] if behind else []
    wrong = [f"WRONG: {row['case']}, {row['dtype']}, {row['layout']}: {row['wrong']}" for row in rows if row["wrong"]]
    return lines + list(dict.fromkeys(wrong))  # a row that is wrong is so in all its modes


def markdown(about: dict[str, Any], rows: Sequence[Row]) -> str:
    """The run in a paragraph, the summary, and one line for each row, type, layout and memory: the three modes side by side."""
    text = ["# Benchmark", "", *[f"- {key.replace('_', ' ')}: {value}" for key, value in about.items()], ""]
    text += ["## Summary", "", *[f"- {' '.join(entry.split())}" for entry in summary(rows)], ""]
    text += [
        "## Rows",
        "",
        "A cell: median milliseconds of ours; how many times ours goes into the time of torch (eager, same layout) and, by "
        "name, of the best peer; GB/s by definition; the share of the bandwidth of a copy of the input measured beside it. "
        "Saved: memory kept for the backward, ours / torch's.",
        "",
        f"| from | row | type | channels | memory | {' | '.join(MODES)} | saved, MB | notes |",
        f"|{'---|' * (len(MODES) + 7)}",
    ]
    for group in grouped(rows):
        first = next(iter(group.values()))
        cells = [cell(group[mode]) if mode in group else "" for mode in MODES]
        saved: dict[str, int] = next((row["saved_bytes"] for row in group.values() if row["saved_bytes"]), {})
        kept = " / ".join(f"{value / 1e6:.2f}" for value in saved.values())
        said = dict.fromkeys(note for row in group.values() for note in row["notes"])
        notes = "; ".join([*said, *([f"**WRONG**: {first['wrong']}"] if first["wrong"] else [])])
        fields = [first["origin"], first["case"], first["dtype"], ORDERS[first["layout"]], first["memory"], *cells, kept, notes]
        text.append(f"| {' | '.join(fields)} |")
    return "\n".join([*text, *average_and_maximum(rows)]) + "\n"


def average_and_maximum(rows: Sequence[Row]) -> list[str]:
    """Ours against ours: the two kinds on the same window, in the first type that the file has."""
    groups = [group for group in grouped(row for row in rows if row["dtype"] == rows[0]["dtype"])]
    firsts = [next(iter(group.values())) for group in groups]
    found = {(row["origin"], row["case"], row["layout"], row["memory"]): group for row, group in zip(firsts, groups)}
    lines = []
    for (origin, case, layout, memory), average in found.items():
        maximum = found.get((origin, case.replace("avg", "max", 1), layout, memory))
        if case.startswith("avg ") and maximum is not None:
            modes = [mode for mode in MODES if mode in average and mode in maximum]
            times = {mode: f"{average[mode]['ms']['ours']:.3f} / {maximum[mode]['ms']['ours']:.3f}" for mode in modes}
            saved = [group["training"]["saved_bytes"]["ours"] / 1e6 for group in (average, maximum) if "training" in group]
            cells = [times.get(mode, "") for mode in MODES] + [" / ".join(f"{value:.2f}" for value in saved)]
            lines.append(f"| {' | '.join([origin, case[4:], ORDERS[layout], memory, *cells])} |")
    if not lines:
        return []
    head = f"| from | window | channels | memory | {' | '.join(f'{mode}, ms' for mode in MODES)} | saved, MB |"
    title = f"## Average / maximum on the same window, ours, {rows[0]['dtype']}"
    return ["", title, "", head, f"|{'---|' * (len(MODES) + 5)}", *lines]


def grouped(rows: Iterable[Row]) -> list[dict[str, Row]]:
    """The modes of one row together."""
    found: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("group", "origin", "case", "dtype", "layout", "memory"))
        found.setdefault(key, {})[row["mode"]] = row
    return list(found.values())


def cell(row: Row) -> str:
    ratios = [f"{row['ratio'][name]:.2f}x{'' if name == 'torch' else f' {name}'}" for name in shown_peers(row)]
    return ", ".join([f"{row['ms']['ours']:.3f}", *ratios, f"{row['gb_per_s']:.1f}", f"{row['share_of_copy']:.0%}"])
