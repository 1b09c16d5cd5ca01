# SPDX-License-Identifier: BSD-3-Clause
"""python -m torch_pooling doctor: what is installed, does it give torch's answers on this machine, and how fast is it.

Made to be pasted at the head of a bug report. Tables are drawn with rich where it is installed and in plain columns where not.
Nothing is written to disk.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as torch_functional

from torch_pooling import _library, functional
from torch_pooling._demo.stopwatch import alternate, medians
from torch_pooling._doctor import checks

SPEED: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("max_pool2d", (2,)),
    ("max_pool2d", (3, 2, 1)),
    ("avg_pool2d", (2,)),
    ("avg_pool2d", (3, 2, 1)),
    ("adaptive_avg_pool2d", (1,)),
    ("adaptive_max_pool2d", (7,)),
)
MOST_LINES = 30
SECONDS = 0.15  # for each row and layout


def main() -> int:
    show("Installed", ("", ""), facts())
    found = list(checks.run())
    show(
        "Values and gradients against torch",
        ("function", "comparisons", "agree"),
        [(name, str(count), "yes" if not failures else f"{len(failures)} WRONG") for name, count, failures in found],
    )
    wrong = [failure for _, _, failures in found for failure in failures]
    for failure in wrong[:MOST_LINES]:
        print(f"WRONG {failure}")
    if len(wrong) > MOST_LINES:
        print(f"WRONG and {len(wrong) - MOST_LINES} more")
    show("Milliseconds, float32 8x64x56x56, forward, taken in turns", ("", "layout", "torch", "ours", "ratio"), speeds())
    if wrong:
        print(f"{len(wrong)} of {sum(count for _, count, _ in found)} comparisons disagree with torch.")
        return 1
    print(f"All {sum(count for _, count, _ in found)} comparisons agree with torch.")
    return 0


def facts() -> list[tuple[str, str]]:
    architectures = ", ".join(_library.cuda_architectures())
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    forced = os.environ.get("TORCH_POOLING_ISA")
    kernels = _library.instruction_set() + (f", forced by TORCH_POOLING_ISA={forced}" if forced else "")
    return [
        ("torch_pooling", _library.__version__),
        ("built for torch", _library.built_for_torch()),
        ("built by", _library.compiler()),
        ("torch", torch.__version__),
        ("Python", platform.python_version()),
        ("system", platform.platform()),
        ("processor", processor()),
        ("threads", str(torch.get_num_threads())),
        ("instruction sets built", ", ".join(_library.compiled_instruction_sets())),
        ("instruction sets that run here", ", ".join(_library.instruction_sets())),
        ("instruction set in use", kernels),
        ("CUDA kernels", f"CUDA {_library.cuda_version()} for {architectures}" if architectures else f"none: {_library.why_no_cuda()}"),
        ("GPUs", ", ".join(devices) or "none"),
    ]


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def speeds() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, arguments in SPEED:
        for layout, memory_format in (("channels first", torch.contiguous_format), ("channels last", torch.channels_last)):
            x = torch.randn(8, 64, 56, 56).to(memory_format=memory_format)
            theirs, ours = getattr(torch_functional, name), getattr(functional, name)
            calls = {"torch": lambda x=x, f=theirs, a=arguments: f(x, *a), "ours": lambda x=x, f=ours, a=arguments: f(x, *a)}
            with torch.no_grad():
                took = medians(alternate(calls, seconds=SECONDS))
            title = f"{name}({', '.join(['x', *map(str, arguments)])})"
            rows.append((title, layout, f"{took['torch'] * 1e3:.2f}", f"{took['ours'] * 1e3:.2f}", f"{took['torch'] / took['ours']:.1f}x"))
    return rows


def show(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if importlib.util.find_spec("rich") is None:
        widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]
        print(f"\n{title}")
        for row in (headings, *rows) if any(headings) else rows:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, show_header=any(headings), title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False)
