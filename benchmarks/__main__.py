# SPDX-License-Identifier: BSD-3-Clause
"""python -m benchmarks: the command line, what the run was, and the loop that writes every row as soon as it is done."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

import torch_pooling
from benchmarks import chart, copying, memory, render, verdict
from benchmarks.cases import CASES, GROUPS, LAYOUTS, MODES, Case
from benchmarks.harness import Setting, measure
from benchmarks.peers import PEERS, missing, versions
from benchmarks.quiet import Patience
from torch_pooling import _library

RESULTS = Path(__file__).parent / "results"
SECONDS, QUICK_SECONDS = 1.0, 0.3


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours against torch and a copy, row by row; see README.md.")
    parser.add_argument("--group", choices=[*GROUPS, "all"], default="everyday", help="which rows (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a dozen of all rows, and less time for each")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), metavar="REGEX", help="rows whose name or origin matches")
    parser.add_argument("--dtype", nargs="+", choices=list(render.TYPES), help="types (default: those of the group)")
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    parser.add_argument("--mode", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--memory", nargs="+", choices=memory.MODES, default=["fresh"], help="outputs on fresh or on recycled pages, or both in turn")
    parser.add_argument("--peers", nargs="+", choices=[*PEERS, "all"], default=["torch"], help="whom to compare with (default: torch)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seconds", type=float, help="for each row and mode, all participants together")
    parser.add_argument("--patience", type=float, default=0, metavar="S", help="seconds to spend, in all, on rows that a busy machine disturbed")
    parser.add_argument("--out", type=Path, metavar="FILE", help="results, one JSON object a line; a table goes beside it as .md")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing, make the table of an earlier run again")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="with --render: a picture of the ratios to torch instead of the table")
    parser.add_argument("--verdict", type=Path, nargs="+", metavar="FILE", help="measure nothing, hold a run (and one on 1 thread) to its targets")
    options = parser.parse_args(argv)
    if options.chart and not options.render:
        parser.error("--chart draws what --render names")
    if options.verdict and len(options.verdict) > 2:
        parser.error("--verdict takes a run, and at most one more on 1 thread")
    if "all" in options.peers:
        options.peers = list(PEERS)
    return options


def about(options: argparse.Namespace, streaming: object) -> dict[str, Any]:
    """What a reader must know to compare this run with another."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]  # type: ignore[index]
    pages = "unknown"
    with contextlib.suppress(OSError):
        pages = re.search(r"\[(\w+)\]", Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text())[1]  # type: ignore[index]
    return {
        "date": date.today().isoformat(),
        "command": f"python -m benchmarks {' '.join(sys.argv[1:])}".strip(),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else processor,
        "cores": os.cpu_count(),
        "threads": options.threads,
        "torch": torch.__version__,
        "torch_pooling": getattr(torch_pooling, "__version__", "unknown"),
        "instruction_set": _library.instruction_set(),
        "libc": "-".join(platform.libc_ver()),
        "transparent_huge_pages": pages,
        "peers": versions(name for name in options.peers if name not in missing(options.peers)),
        "copies": "torch and streaming stores" if streaming else "torch only",
    }


@contextlib.contextmanager
def reporter(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """(what is being done, print a finished row); a progress bar where rich is installed and a terminal is looking."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield (lambda _: None), (lambda text: print(text, flush=True))
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=total)
        done = iter(range(total + 1))

        def begin(what: str) -> None:
            progress.update(task, completed=next(done), description=what)

        def show(text: str) -> None:
            progress.console.print(text, style="bold red" if "WRONG" in text else None, markup=False, highlight=False, soft_wrap=True)

        yield begin, show


def plan(options: argparse.Namespace) -> list[tuple[str, Case, str, str]]:
    """(memory, case, type, layout) of everything to measure."""
    cases = [case for case in CASES if (case.quick if options.quick else options.group in (case.group, "all"))]
    cases = [case for case in cases if options.only.search(case.name) or options.only.search(case.origin)]
    return [
        (kind, case, dtype, layout)
        for kind in (options.memory if options.device == "cpu" else ["cached"])  # torch's CUDA allocator recycles
        for case in cases
        for dtype in options.dtype or (GROUPS["everyday"] if options.quick else GROUPS[case.group])
        for layout in options.layout
    ]


def run(options: argparse.Namespace, out: Path) -> int:
    todo = plan(options)
    if not todo:
        print("no row matches", file=sys.stderr)
        return 2
    for name, package in missing(options.peers).items():
        print(f"{name}: absent, for want of {package} (pip install -r benchmarks/requirements.txt)", flush=True)
    torch.set_num_threads(options.threads)
    streaming = copying.compile_streaming() if options.device == "cpu" else None
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    patience = Patience(options.patience)
    failed = interrupted = False
    chosen = ""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") as file, reporter(len(todo)) as (begin, show), contextlib.suppress(KeyboardInterrupt):
        interrupted = True  # until the loop has come to its end
        header = about(options, streaming)
        print(json.dumps(header), file=file, flush=True)
        for kind, case, dtype, layout in todo:
            begin(f"{case.origin}: {case.name}, {dtype}, {layout.replace('_', ' ')}")
            if options.device == "cpu" and kind != chosen:
                memory.choose(kind)
                chosen = kind
            setting = Setting(options.device, kind, seconds, streaming, patience, tuple(options.peers), tuple(options.mode))
            for row in measure(case, getattr(torch, dtype), layout, setting):
                failed = failed or row["wrong"] is not None
                print(json.dumps(rounded(row)), file=file, flush=True)
                show(render.line(row))
        interrupted = False
    header, rows = render.load(out)
    out.with_suffix(".md").write_text(render.markdown(header, rows))
    print("\n".join(["", *render.summary(rows), "", f"{out} and {out.with_suffix('.md').name}"]))
    if interrupted:
        print("interrupted: these are the rows that were done")
    return 130 if interrupted else 1 if failed else 0


def rounded(value: Any) -> Any:
    """Its floats to six digits, more than any measurement has, for files to stay small."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.verdict:
        return verdict.show(*map(render.load, options.verdict))
    if options.chart:
        chart.draw(*render.load(options.render), options.chart, options.dtype, options.layout)
        return 0
    if options.render:
        options.render.with_suffix(".md").write_text(render.markdown(*render.load(options.render)))
        return 0
    name = "quick" if options.quick else options.group
    return run(options, options.out or RESULTS / f"{name}-{options.device}-{options.threads}threads-{'-'.join(options.memory)}.jsonl")


if __name__ == "__main__":
    sys.exit(main())
