# SPDX-License-Identifier: BSD-3-Clause
"""One row, measured: first agreement with torch, then the three modes, everything that is compared taking turns.

The result of a mode is a flat dictionary that goes into the results file as it is; render.py makes tables of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks import copying, memory
from benchmarks.cases import MODES, Case, tensor
from benchmarks.peers import PEERS, Absent, Ready
from benchmarks.quiet import BUSY, Patience
from torch_pooling._demo.agreement import Pool, compare
from torch_pooling._demo.stopwatch import Call, Clock, alternate, bytes_saved, cpu_clock, medians

AFFORDABLE = 4e8  # window elements that torch's float64 answer may touch; beyond, only every n-th channel is checked


@dataclass(frozen=True)
class Setting:
    device: str
    memory: str
    seconds: float  # for each mode of a row, all participants together
    streaming: Callable[[int, int, int], None] | None
    patience: Patience
    peers: tuple[str, ...] = ("torch",)
    modes: tuple[str, ...] = MODES

    @property
    def clock(self) -> Clock:
        return cpu_clock if self.device == "cpu" else CudaClock()


class CudaClock:
    """Seconds on the GPU between two events; before every call the L2 cache is overwritten, so inputs come from memory."""

    def __init__(self) -> None:
        size = 2 * torch.cuda.get_device_properties(0).L2_cache_size
        self.flush = torch.empty(max(size, 2**26), dtype=torch.uint8, device="cuda")

    def __call__(self, call: Call, times: int) -> float:
        total = 0.0
        for _ in range(times):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self.flush.zero_()
            begin.record()
            call()
            end.record()
            end.synchronize()
            total += begin.elapsed_time(end) / 1e3
        return total


def check(case: Case, x: Tensor) -> str | None:
    """None, or what is wrong with ours."""
    outputs = math.prod(case.theirs()(torch.empty((1, 1, *case.shape[2:]), device="meta")).shape)
    work = outputs * case.shape[0] * case.shape[1] * case.taps()
    return compare(case.ours(), case.theirs(), x, selects=case.selects, every=min(case.shape[1], math.ceil(work / AFFORDABLE)))


def mode_calls(mode: str, pool: Pool, x: Tensor) -> Call:
    """What a mode times: a forward without a graph, one that makes a graph and drops it, or the backward of one graph."""
    if mode == "inference":

        def inference() -> Tensor:
            with torch.inference_mode():
                return pool(x)

        return inference
    leaf = x.detach().clone().requires_grad_()
    if mode == "training":
        return lambda: pool(leaf)
    output = pool(leaf)
    grad_output = torch.randn_like(output.detach())
    return lambda: torch.autograd.grad(output, leaf, grad_output, retain_graph=True)


def measure(case: Case, dtype: torch.dtype, layout: str, setting: Setting) -> Iterator[dict[str, Any]]:
    """One dictionary for each mode."""
    x = tensor(case, dtype, layout, setting.device)
    wrong = check(case, x)
    notes: list[str] = []
    pools: dict[str, Ready] = {"ours": Ready(case.ours(), x)}
    for name in setting.peers:
        try:
            pools[name] = PEERS[name].prepare(case, x)
        except Absent as reason:
            notes.append(f"{name}: {reason}")
        else:
            notes += [pools[name].note] if pools[name].note else []

    leaves = {name: pools[name].input.detach().clone().requires_grad_() for name in ("ours", "torch") if name in pools}
    saved = {name: bytes_saved(lambda name=name: pools[name].pool(leaves[name])) for name in leaves}  # type: ignore[misc]
    outputs = case.ours()(x).numel()
    for mode in setting.modes:
        calls = {name: mode_calls(mode, ready.pool, ready.input) for name, ready in pools.items() if name == "ours" or mode in PEERS[name].modes}
        calls_and_copies = {**calls, **copying.copies(x, setting.streaming)}
        samples, interruptions = setting.patience.measure(
            lambda named=calls_and_copies: alternate(named, seconds=setting.seconds, clock=setting.clock)  # type: ignore[misc]
        )
        yield {
            "group": case.group,
            "origin": case.origin,
            "case": case.name,
            "dtype": str(dtype).removeprefix("torch."),
            "layout": layout,
            "mode": mode,
            "memory": setting.memory,
            "wrong": wrong,
            "notes": notes + (["busy machine"] if interruptions > BUSY else []),
            **figures(samples, case.bytes_moved(mode, outputs, x.element_size()), 2 * x.nbytes),
            "interruptions_per_s": round(interruptions, 1),
            "saved_bytes": saved if mode == "training" else None,
            "page_faults": {name: memory.page_faults(call) for name, call in calls.items()} if setting.device == "cpu" else None,
        }


def figures(samples: Mapping[str, list[float]], moved: int, copied: int) -> dict[str, Any]:
    """What follows from the times: `moved` bytes by definition of the row, `copied` by each copy."""
    middle = medians(samples)
    best_copy = min((name for name in middle if "copy" in name), key=middle.__getitem__)
    rate, copy_rate = moved / middle["ours"] / 1e9, copied / middle[best_copy] / 1e9
    return {
        "ms": {name: value * 1e3 for name, value in middle.items()},
        "fastest_ms": {name: min(values) * 1e3 for name, values in samples.items()},
        "samples": {name: len(values) for name, values in samples.items()},
        "ratio": {name: value / middle["ours"] for name, value in middle.items() if name != "ours" and "copy" not in name},
        "bytes": moved,
        "gb_per_s": rate,
        "copy_gb_per_s": copy_rate,
        "best_copy": best_copy,
        "share_of_copy": rate / copy_rate,
    }
