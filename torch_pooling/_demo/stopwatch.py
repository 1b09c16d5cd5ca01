# SPDX-License-Identifier: BSD-3-Clause
"""Fair times and honest bytes: what is compared takes turns in one process, and everything kept alive is counted."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Call = Callable[[], object]
Clock = Callable[[Call, int], float]  # runs a call n times, answers seconds for all of them

SHORTEST = 1e-3  # seconds: calls that take less are timed several at once, so that the clock itself does not show
UNCOUNTED = (3, 0.03)  # calls before those that count, and seconds after which no more begin


def cpu_clock(call: Call, times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - begin


def ready_clock(call: Call, times: int) -> float:
    """The same after up to three uncounted calls: what others did meanwhile is not paid for.

    On some virtual machines a page that nobody touched for 30 milliseconds takes microseconds to touch again, code and interpreter included.
    """
    begin = time.perf_counter()
    for _ in range(UNCOUNTED[0]):
        call()
        if time.perf_counter() - begin > UNCOUNTED[1]:
            break
    return cpu_clock(call, times)


def round_of(count: int, turn: int) -> list[int]:
    """Who comes when in a round: rows of a balanced Latin square (Williams 1949), an odd count also backwards."""
    zigzag = [-(place // 2) - 1 if place % 2 else place // 2 for place in range(count)]
    positions = [(place + turn) % count for place in zigzag]
    return positions[::-1] if count % 2 and turn // count % 2 else positions


def alternate(calls: Mapping[str, Call], *, seconds: float, least: int = 5, clock: Clock = ready_clock) -> dict[str, list[float]]:
    """Seconds for one call, sample by sample; the calls take turns; each begins a round, and follows each other, equally often.

    So a machine that slows down for a while slows all of them, and what one leaves in the caches serves all of them. `seconds` is
    for all calls together, those that do not count included; each gets `least` samples whatever they take, except that nobody waits
    for more than ten times `seconds` and three samples.
    """
    names = list(calls)
    times: dict[str, int] = {}
    for name in names:
        once = clock(calls[name], 1)  # warm: first touch, lazy set-up, caches
        if once < seconds:
            once = clock(calls[name], 1)
        times[name] = max(1, round(SHORTEST / max(once, 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in names}
    collects = gc.isenabled()
    gc.disable()
    try:
        begin = time.perf_counter()
        turn = 0
        while True:
            for name in (names[position] for position in round_of(len(names), turn)):
                samples[name].append(clock(calls[name], times[name]) / times[name])
            turn += 1
            spent = time.perf_counter() - begin
            if (spent > seconds and turn >= least) or (spent > 10 * seconds and turn >= 3):
                return samples
    finally:
        if collects:
            gc.enable()


def medians(samples: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items()}


def bytes_saved(call: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps alive from this forward for its backward: whole storages, each counted once.

    Saving a tensor keeps all the memory that it looks into, so that is what counts, the input's included.
    """
    kept: dict[int, torch.UntypedStorage] = {}  # held until the end: an address is not given out twice meanwhile

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = call()
    if not output.requires_grad:
        raise ValueError("nothing is saved for an output that needs no gradient: give the input requires_grad=True")
    return sum(storage.nbytes() for storage in kept.values())
