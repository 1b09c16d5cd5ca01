# SPDX-License-Identifier: BSD-3-Clause
"""python -m benchmarks.first_touch: results on memory that is new to the process, with huge pages and without, beside torch's.

The rows of real networks whose result is large, on fresh memory (memory.py). A forward's result is its output, and in training
the saved offsets; a backward's is the gradient of the input. Ours with huge pages, ours without and torch's take turns.

--idle S ...: no pooling; what it takes to write to memory that nobody has used for so many seconds, which a virtual machine may have given back.
"""

from __future__ import annotations

import argparse
import mmap
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import memory
from benchmarks.cases import LAYOUTS, NETWORKS, tensor
from benchmarks.harness import Gradients, check, mode_calls
from benchmarks.peers import PEERS
from torch_pooling import _library
from torch_pooling._demo.stopwatch import Call, alternate, medians

LEAST = 8e6  # bytes of a result
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pages() -> str:
    """What the system says of huge pages."""
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return path.read_text().strip() if path.exists() else "none"


def with_small_pages(call: Call) -> Call:
    def small() -> object:
        _library.use_huge_pages(False)
        try:
            return call()
        finally:
            _library.use_huge_pages(True)

    return small


def touch(size: int, huge: bool) -> float:
    """Seconds for the first write to so many bytes."""
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if huge:
            memory.madvise(mmap.MADV_HUGEPAGE)
        view = torch.frombuffer(memory, dtype=torch.uint8)
        begin = time.perf_counter()
        view.fill_(1)
        took = time.perf_counter() - begin
        del view  # which would keep the mapping
    return took


def idle(waits: Sequence[float], size: int = 64 << 20, rounds: int = 7) -> None:
    print(f"| {size >> 20} MB, unused for | small pages: least, median, most | huge pages |\n|---|---|---|")
    for wait in waits:
        cells = []
        for huge in (False, True):
            touch(size, huge)
            took = []
            for _ in range(rounds):
                time.sleep(wait)
                took.append(1e3 * touch(size, huge))
            cells.append(f"{min(took):.0f}, {statistics.median(took):.0f}, {max(took):.0f} ms")
        print(f"| {wait:g} s | {cells[0]} | {cells[1]} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_touch", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row and mode, all three together")
    parser.add_argument("--idle", type=float, nargs="+", metavar="S", help="instead: write to memory that was unused for so long")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    if options.idle:
        idle(options.idle)
        return
    memory.choose("fresh")
    print(f"huge pages: {pages()}; {options.threads} threads; torch {torch.__version__}\n")
    print("| row, float32 and bfloat16 | mode | ours, ms | without huge pages | torch | torch by ours |\n|---|---|---|---|---|---|")
    for case in NETWORKS:
        if case.taps() > 200:  # torch takes seconds
            continue
        for layout in LAYOUTS:
            for name, dtype in TYPES.items():
                x = tensor(case, dtype, layout, "cpu")
                outputs = case.ours()(x).numel() * x.element_size()
                modes = [mode for mode, size in (("inference", outputs), ("training", outputs), ("backward", x.nbytes)) if size >= LEAST]
                if modes and check(case, x) is not None:
                    raise RuntimeError(f"{case.name}: ours disagrees with torch")
                torchs = PEERS["torch"].prepare(case, x)  # in float32 where torch lacks the type
                for mode in modes:
                    gradients: Gradients = {}
                    ours, theirs = (mode_calls(mode, *pool, gradients) for pool in ((case.ours(), x), (torchs.pool, torchs.input)))
                    calls = {"ours": ours, "small": with_small_pages(ours), "torch": theirs}
                    took = {who: 1e3 * value for who, value in medians(alternate(calls, seconds=options.seconds)).items()}
                    print(
                        f"| {case.name}, {name}, {layout.removeprefix('channels_')} | {mode} | {took['ours']:.2f} | "
                        f"{took['small'] / took['ours']:.2f}x | {took['torch']:.2f} | {took['torch'] / took['ours']:.2f}x |", flush=True
                    )  # fmt: skip


if __name__ == "__main__":
    main()
