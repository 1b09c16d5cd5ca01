# SPDX-License-Identifier: BSD-3-Clause
"""A long run of random cases in worker processes: `PYTHONPATH=tests python -m fuzz --minutes 10 --seed 1` (make fuzz).

What a case is, a module says: `make(seed, number)` gives one whose repr says it all, `check` raises where it goes wrong. Case n of
a seed is the same everywhere, whatever the number of workers. A worker that dies, of a signal for instance, is reported with the
case it died of, and replaced. --start continues a run.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import queue
import time
from dataclasses import dataclass
from typing import Any

import torch

MODULES = {"calls": "fuzz.check", "hostile": "fuzz.hostile"}
MOST_REPORTED = 20


def work(what: str, seed: int, first: int, step: int, end: int, until: float, now: Any, findings: Any) -> None:
    """Cases first, first + step, ... below `end`, until that time. `now` is the case at hand: what a crash is blamed on."""
    torch.set_num_threads(1)
    module = importlib.import_module(MODULES[what])
    for number in range(first, end, step):
        if time.time() > until:
            return
        now.value = number
        case = module.make(seed, number)
        try:
            module.check(case)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            findings.put((number, f"{type(error).__name__}: {error}", repr(case)))
    now.value = end + (first - end) % step


@dataclass
class Worker:
    process: Any
    now: Any

    @property
    def reached(self) -> int:
        return int(self.now.value)


def run(what: str, seed: int, start: int, end: int, minutes: float, workers: int) -> int:
    """Prints what it finds and returns how much that is."""
    context = multiprocessing.get_context("spawn")
    module = importlib.import_module(MODULES[what])
    findings, begun, said = context.Queue(), time.time(), time.time()
    until, found = begun + 60 * minutes, 0

    def launch(first: int) -> Worker:
        now = context.Value("q", first)
        process = context.Process(target=work, args=(what, seed, first, workers, end, until, now, findings), daemon=True)
        process.start()
        return Worker(process, now)

    def tried() -> int:
        return sum(min(end, worker.reached) - start for worker in running) // workers

    def report(finding: tuple[int, str, str]) -> None:
        nonlocal found
        found += 1
        if found <= MOST_REPORTED:
            print(f"case {finding[0]} of seed {seed}: {finding[1]}\n    {finding[2]},", flush=True)

    running = [launch(start + number) for number in range(workers)]
    while True:
        try:
            report(findings.get(timeout=0.5))
            continue
        except queue.Empty:
            pass
        for place, worker in enumerate(running):
            code = worker.process.exitcode
            if code not in (None, 0):
                number = worker.reached
                report((number, f"the process ended with {code}" + (", a signal" if code < 0 else ""), repr(module.make(seed, number))))
                running[place] = launch(number + workers)
        if found > MOST_REPORTED:
            for worker in running:
                worker.process.terminate()
            print("too many findings: stopped")
            break
        if all(worker.process.exitcode == 0 for worker in running):
            break
        if time.time() > said + 60:
            said = time.time()
            print(f"  {tried()} cases, {tried() / (said - begun):.0f} a second, {found} found", flush=True)
    seconds = time.time() - begun
    while not findings.empty():
        report(findings.get())
    print(
        f"{tried()} cases of seed {seed} from {start}, {tried() / seconds:.0f} a second in {seconds:.0f} s, {found} disagreements; "
        f"continue with --start {min(min(worker.reached, end) for worker in running)}",
        flush=True,
    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("what", nargs="?", choices=sorted(MODULES), default="calls")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cases", type=int, default=1 << 40, help="stop at this one, if time is left")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    return int(run(given.what, given.seed, given.start, given.cases, given.minutes, given.workers) > 0)
