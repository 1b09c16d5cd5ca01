# SPDX-License-Identifier: BSD-3-Clause
"""python -m benchmarks --verdict FILE [FILE on 1 thread]: a run held to what this project promises, promise by promise.

A promise is a function from rows to Findings: how many rows it looked at, what it found, and the rows that fall short.
Outputs are on recycled memory unless the promise says otherwise. "As fast as" allows for noise, shares and means do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cases import LAYOUTS, MODES
from benchmarks.peers import ENGINES
from benchmarks.render import NOISE, ORDERS, TYPES, Row, geometric_mean

LARGE = 8e6  # bytes, by the definition of a row: what no cache of a core holds
SMALL_WINDOW = 9  # elements: up to 3x3, whatever the rank
BONUS = "not promised"
SHOWN = 40  # rows that fall short are listed up to here, the furthest first


@dataclass(frozen=True)
class Finding:
    promise: str
    found: str = ""
    rows: int = 0  # looked at; without any there is no verdict
    short: list[tuple[float, str]] = field(default_factory=list)  # how far (smaller is further), and which

    @property
    def word(self) -> str:
        return "no rows" if not self.rows else "FAIL" if self.short else "pass"


def title(row: Row) -> str:
    busy = ", busy machine" if "busy machine" in row["notes"] else ""
    return f"{row['origin']}: {row['case']}, {TYPES[row['dtype']]}, {ORDERS[row['layout']]}, {row['mode']}{busy}"


def least(
    promise: str,
    rows: Sequence[Row],
    value: Callable[[Row], float],
    limit: float,
    unit: Callable[[float], str],
    against: Callable[[Row], str] = lambda _: "",
) -> Finding:
    """Every row's value is at least `limit`; `against` says what a row was compared with, where that differs from row to row."""
    pairs = [(value(row), row) for row in rows]
    short = sorted((number, f"{title(row)}: {unit(number)}{against(row)}") for number, row in pairs if number < limit)
    found = f"least {unit(min(number for number, _ in pairs))}" if pairs else ""
    return Finding(promise, found, len(pairs), short)


def times(value: float) -> str:
    return f"{value:.2f}x"


def percent(value: float) -> str:
    return f"{value:.0%}"


def among(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """Rows whose fields are (one of) what is wanted."""
    return [row for row in rows if all(row[name] in value if isinstance(value, tuple) else row[name] == value for name, value in wanted.items())]


def identity(row: Row, *without: str) -> tuple[Any, ...]:
    names = ("group", "origin", "case", "dtype", "layout", "mode", "memory")
    return tuple(row[name] for name in names if name not in without)


def engine_ratio(row: Row) -> float:
    return float(row["ratio"][best_engine(row)])


def best_engine(row: Row) -> str:
    return min((name for name in ENGINES if name in row["ratio"]), key=row["ratio"].__getitem__)


def small_and_large(rows: Sequence[Row]) -> list[Row]:
    """A small window in a large row: nothing but memory can be the limit."""
    return [row for row in rows if row["bytes"] >= LARGE and row["taps"] <= SMALL_WINDOW]


def against_torch(rows: Sequence[Row]) -> Iterator[Finding]:
    compared = [row for row in rows if "torch" in row["ratio"]]
    yield least("no row slower than torch, same layout", compared, lambda row: row["ratio"]["torch"], 1 / NOISE, times)
    for mode, limit in (("inference", 10), ("backward", 5)):
        chosen = among(compared, dtype="float32", layout="channels_first", mode=mode)
        mean = geometric_mean([row["ratio"]["torch"] for row in chosen])
        behind = sorted((row["ratio"]["torch"], f"{title(row)}: {times(row['ratio']['torch'])}") for row in chosen if row["ratio"]["torch"] < limit)
        promise = f"channels-first float32 {mode}: geometric mean at least {limit}x torch"
        yield Finding(promise, times(mean) if chosen else "", len(chosen), behind if mean < limit else [])
    maxima = among(compared, kind="max", dtype="float32", layout="channels_first", mode="inference")
    chosen = [row for row in maxima if (row["kernel"], row["stride"]) == ([3, 3], [1, 1])]
    yield least("channels-first float32 maximum 3x3 s1, inference: at least 25x torch", chosen, lambda row: row["ratio"]["torch"], 25, times)


def against_peers(rows: Sequence[Row]) -> Iterator[Finding]:
    for mode in MODES[:2]:
        chosen = [row for row in among(rows, mode=mode) if row["bytes"] >= LARGE and any(name in row["ratio"] for name in ENGINES)]
        promise = f"{mode} of at least 8 MB: as fast as the best engine"
        yield least(promise, chosen, engine_ratio, 1 / NOISE, times, lambda row: f" {best_engine(row)}")
    for mode in MODES:
        chosen = [row for row in among(rows, mode=mode) if row["best_peer"]]
        promise = f"{mode}, any size: as fast as the best peer, torch in the other layout included ({BONUS})"
        yield least(promise, chosen, lambda row: row["ratio"][row["best_peer"]], 1 / NOISE, times, lambda row: f" {row['best_peer']}")


def against_copy(rows: Sequence[Row]) -> Iterator[Finding]:
    types = {"inference": ("float32", "bfloat16"), "training": ("float32", "bfloat16"), "backward": tuple(TYPES)}
    for mode, limit in (("inference", 0.8), ("training", 0.8), ("backward", 0.6)):
        for layout in LAYOUTS:
            for dtype in types[mode]:
                chosen = small_and_large(among(rows, mode=mode, layout=layout, dtype=dtype))
                if chosen or dtype in ("float32", "bfloat16"):
                    promise = f"{mode}, {dtype}, {layout.replace('_', ' ')}, at least 8 MB, windows up to 3x3: at least {limit:.0%} of a copy"
                    yield least(promise, chosen, lambda row: row["share_of_copy"], limit, percent)


def across_types(rows: Sequence[Row]) -> Iterator[Finding]:
    single = {identity(row, "dtype"): row["ms"]["ours"] for row in among(rows, dtype="float32")}
    for dtype in ("bfloat16", "float16"):
        chosen = [row for row in among(rows, dtype=dtype) if identity(row, "dtype") in single]
        yield least(
            f"{dtype} as fast as float32 on the same row", chosen, lambda row: single[identity(row, "dtype")] / row["ms"]["ours"], 1 / NOISE, times
        )


def across_windows(rows: Sequence[Row]) -> Iterator[Finding]:
    """Time for a large window by that for a smaller one on the same input, stride 1: it must hardly grow."""
    squares = [row for row in rows if row["kernel"] is not None and set(row["stride"]) == {1} and len(set(row["kernel"])) == 1]

    def place(row: Row) -> tuple[Any, ...]:
        return (row["origin"], row["kind"], tuple(row["shape"]), row["dtype"], row["layout"], row["mode"], row["memory"])

    for large, small, limit in ((31, 3, 3.0), (101, 31, 1.3)):
        base = {place(row): row["ms"]["ours"] for row in squares if row["kernel"][0] == small}
        for kind in ("avg", "max"):
            for modes in (("inference", "training"), ("backward",)):
                chosen = [row for row in among(squares, kind=kind, mode=modes) if row["kernel"][0] == large and place(row) in base]
                growth = [(row["ms"]["ours"] / base[place(row)], row) for row in chosen]
                short = sorted((-ratio, f"{title(row)}: {times(ratio)}") for ratio, row in growth if ratio > limit)
                found = f"most {times(max(ratio for ratio, _ in growth))}" if growth else ""
                promise = f"{kind} {' and '.join(modes)}: {large}x{large} takes at most {limit:g} times {small}x{small}"
                yield Finding(promise, found, len(growth), short)


def across_threads(rows: Sequence[Row], single: Sequence[Row]) -> Iterator[Finding]:
    """How much faster a second thread makes batch 1, by how much faster it makes the copy beside it."""
    alone = {identity(row): row for row in single}

    def scaling(row: Row) -> float:
        before = alone[identity(row)]
        ours, copy = (before["ms"][b] / row["ms"][a] for a, b in (("ours", "ours"), (row["best_copy"], before["best_copy"])))
        return float(ours / copy)

    for mode in MODES:
        chosen = [row for row in among(rows, mode=mode) if row["shape"][0] == 1 and identity(row) in alone]
        yield least(f"batch 1, {mode}: a second thread helps at least 90% as much as it helps a copy", chosen, scaling, 0.9, percent)


def fresh(rows: Sequence[Row]) -> Iterator[Finding]:
    compared = [row for row in rows if "torch" in row["ratio"]]
    yield least("fresh memory: every row as fast as torch, same layout", compared, lambda row: row["ratio"]["torch"], 1 / NOISE, times)


def findings(rows: Sequence[Row], single: Sequence[Row] = ()) -> list[Finding]:
    """Every promise, on these rows and those of a run on one thread."""
    old = next((row["case"] for row in rows if "taps" not in row), None)
    if old is not None:
        raise ValueError(f"{old}: this file is from before rows said what their window is; measure again")
    wrong = sorted({(0.0, f"{row['case']}, {row['dtype']}, {row['layout']}: {row['wrong']}") for row in rows if row["wrong"]})
    found = [Finding("every row agrees with torch, value and gradient", f"{len(wrong)} wrong", len(rows), wrong)]
    recycled = [row for row in rows if row["memory"] != "fresh"]
    for promise in (against_torch, against_peers, against_copy, across_types, across_windows):
        found += promise(recycled)
    found += across_threads(recycled, [row for row in single if row["memory"] != "fresh"])
    return [*found, *fresh(among(rows, memory="fresh"))]


def text(found: Sequence[Finding]) -> str:
    """Markdown: the promises in a table, then the rows that fall short of each."""
    lines = ["| promise | found | rows | short | |", "|---|---|---|---|---|"]
    lines += [f"| {one.promise} | {one.found} | {one.rows} | {len(one.short)} | {one.word} |" for one in found]
    for one in found:
        if one.short:
            lines += ["", f"{one.promise}:", ""]
            lines += [f"- {which}" for _, which in one.short[:SHOWN]]
            lines += [f"- and {len(one.short) - SHOWN} more"] if len(one.short) > SHOWN else []
    return "\n".join(lines)


def show(run: tuple[dict[str, Any], Sequence[Row]], single: tuple[dict[str, Any], Sequence[Row]] | None = None) -> int:
    """Prints the verdict. Exit status 1 where a promise is not kept; what has no rows, or is not promised, does not count."""
    if single is not None and (run[0]["threads"], single[0]["threads"]) != (2, 1):
        raise ValueError(f"the first file must be a run on 2 threads and the second on 1, not {run[0]['threads']} and {single[0]['threads']}")
    found = findings(run[1], single[1] if single else ())
    print(text(found))
    return 1 if any(one.word == "FAIL" and BONUS not in one.promise for one in found) else 0
