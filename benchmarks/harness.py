# SPDX-License-Identifier: BSD-3-Clause
"""One row, measured: first agreement with torch, then the three modes, everything that is compared taking turns.

The result of a mode is a flat dictionary that goes into the results file as it is; render.py makes tables of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmarks import copying, memory
from benchmarks.cases import MODES, Case, tensor
from benchmarks.device import CudaClock
from benchmarks.peers import PEERS, Absent, Ready
from benchmarks.quiet import BUSY, Patience
from torch_pooling._demo.agreement import compare, furthest, room
from torch_pooling._demo.stopwatch import Call, Clock, alternate, bytes_saved, cpu_clock, medians, ready_clock

AFFORDABLE = 4e8  # window elements that torch's float64 answer may touch; beyond, only every n-th channel is checked
SLOW = 3.0  # seconds: a peer whose forward takes longer is called once, and its training forward is left out
ALONE = 0.2  # seconds: a peer's call that takes longer is timed once, before the turns: what comes after such calls may be slow for it
SETTLE = 0.004  # seconds: room for another thread pool's workers to stop spinning


@dataclass(frozen=True)
class Setting:
    device: str
    memory: str
    seconds: float  # for each mode of a row, all participants together
    streaming: copying.Streaming | None
    patience: Patience
    peers: tuple[str, ...] = ("torch",)
    modes: tuple[str, ...] = MODES

    @property
    def clock(self) -> Clock:
        return ready_clock if self.device == "cpu" else CudaClock()


class Handover:
    """A clock for participants with thread pools of their own, whose workers may spin for a while after a call.

    Where the cores change hands they get a moment to stop.
    """

    def __init__(self, clock: Clock, threads: Mapping[Call, str]) -> None:
        self.clock, self.threads = clock, threads
        self.last: str | None = None

    def __call__(self, call: Call, times: int) -> float:
        if self.threads[call] != self.last:
            time.sleep(SETTLE)
        self.last = self.threads[call]
        return self.clock(call, times)


def every(case: Case) -> int:
    """Which channels a check looks at: each n-th."""
    outputs = math.prod(case.theirs()(torch.empty((1, 1, *case.shape[2:]), device="meta")).shape)
    work = outputs * case.shape[0] * case.shape[1] * case.taps()
    return int(min(case.shape[1], math.ceil(work / AFFORDABLE)))


def check(case: Case, x: Tensor) -> str | None:
    """None, or what is wrong with ours."""
    return compare(case.ours(), case.theirs(), x, selects=case.selects, every=every(case))


class Values:
    """torch's answer in float64, which the values of every peer are held against before it is timed."""

    def __init__(self, case: Case, x: Tensor) -> None:
        self.case, self.x, self.step = case, x, every(case)

    @cached_property
    def exact(self) -> tuple[Tensor, Tensor]:  # values, and the sums of the terms' magnitudes
        reference = self.x[:, :: self.step].double()
        return self.case.theirs()(reference), self.case.theirs()(reference.abs())

    def complaint(self, output: Tensor) -> str | None:
        """None, or one sentence. A mean may be rounded once more than ours: some divide a sum that was rounded already."""
        value, magnitude = self.exact
        if output.shape != (*self.case.shape[:2], *value.shape[2:]):
            return f"the value has shape {tuple(output.shape)}"
        precise = torch.finfo(self.x.dtype).eps
        allowed = torch.zeros_like(value) if self.case.selects else value.abs() * precise + room(value, magnitude, self.x.dtype)
        return furthest("value", output[:, :: self.step], value, allowed)


@dataclass
class Gathered:
    """The peers of a row, and what is to be said of them, by name."""

    pools: dict[str, Ready] = field(default_factory=dict)  # can run the row and agree with torch
    slow: dict[str, float] = field(default_factory=dict)  # seconds of the one forward of a peer that nobody wants to wait for again
    notes: dict[str, str] = field(default_factory=dict)

    def for_mode(self, mode: str) -> dict[str, Ready]:
        runs = {name: ready for name, ready in self.pools.items() if mode in PEERS[name].modes}
        return {name: ready for name, ready in runs.items() if mode == "backward" or name not in self.slow}

    def said(self, mode: str) -> list[str]:
        words = {"inference": "one call", "training": "left out"}
        slow = {name: f"{words[mode]}, {seconds:.0f} s" for name, seconds in self.slow.items() if mode in words}
        return [f"{name}: {note}" for notes in (self.notes, slow) for name, note in notes.items() if mode in PEERS[name].modes]


def reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"


def gather(case: Case, x: Tensor, names: Iterable[str]) -> Gathered:
    """Prepares every peer and checks its values. No peer but torch eager can end a run."""
    values = Values(case, x)
    found = Gathered()
    for name in names:
        try:
            ready = PEERS[name].prepare(case, x)
            if name != "torch":
                call = mode_calls("inference", ready.pool, ready.input)
                begin = time.perf_counter()
                output = call()
                spent = time.perf_counter() - begin
                complaint = values.complaint(ready.values(output))
                if complaint:
                    raise Absent(f"not timed, {complaint}")
                if spent > SLOW and PEERS[name].compiles:
                    spent = cpu_clock(call, 1)
                if spent > SLOW:
                    found.slow[name] = spent
        except Absent as absent:
            found.notes[name] = str(absent)
        except ImportError:
            found.notes[name] = "absent"
        except Exception as error:
            if name == "torch":
                raise
            found.notes[name] = f"failed, {reason(error)}"
        else:
            found.pools[name] = ready
            if ready.note:
                found.notes[name] = ready.note
    return found


Gradients = dict[object, Tensor]


def mode_calls(mode: str, pool: Callable[[Any], Any], x: Any, gradients: Gradients | None = None) -> Call:
    """What a mode times: a forward without a graph, one that makes a graph and drops it, or the backward of one graph.

    Who is given the same x reads the same memory in every mode, and with the same `gradients` the same grad_output where its
    output is alike: so nobody finds in the caches what another does not.
    """
    if mode == "inference":

        def inference() -> object:
            with torch.inference_mode():
                return pool(x)

        return inference
    leaf = x.detach().requires_grad_()
    if mode == "training":
        return lambda: pool(leaf)
    output = pool(leaf)
    if output.is_mkldnn:
        grad_output = torch.randn(output.shape).to(output.dtype).to_mkldnn()
    else:
        kind = (output.shape, output.dtype, output.stride())
        grad_output = ({} if gradients is None else gradients).setdefault(kind, torch.randn_like(output.detach()))
    return lambda: torch.autograd.grad(output, leaf, grad_output, retain_graph=True)


def sample(calls: Mapping[str, Call], setting: Setting) -> dict[str, list[float]]:
    """Seconds for one call, by name. A peer whose calls take longer than ALONE gets one sample and no turns."""
    threads = {call: PEERS[name].threads if name in PEERS else "torch" for name, call in calls.items()}
    clock = Handover(setting.clock, threads) if len(set(threads.values())) > 1 else setting.clock
    once_clock = cpu_clock if setting.device == "cpu" else clock
    alone: dict[str, list[float]] = {}
    for name in calls:
        once = once_clock(calls[name], 1) if name in PEERS else 0.0
        if once > ALONE:
            alone[name] = [once]
    turns = {name: call for name, call in calls.items() if name not in alone}
    return {**alternate(turns, seconds=setting.seconds, clock=clock), **alone}


def calls_of(mode: str, ours: Ready, peers: Gathered) -> dict[str, Call]:
    """What takes turns in this mode. Peers other than torch eager are called once: they may compile, or fail, here."""
    gradients: Gradients = {}
    calls = {"ours": mode_calls(mode, ours.pool, ours.input, gradients)}
    for name, ready in peers.for_mode(mode).items():
        try:
            call = mode_calls(mode, ready.pool, ready.input, gradients)
            if name != "torch":
                call()
        except Exception as error:
            if name == "torch":
                raise
            peers.notes[name] = f"failed in {mode}, {reason(error)}"
        else:
            calls[name] = call
    return calls


def faults(calls: Mapping[str, Call], milliseconds: Mapping[str, float]) -> dict[str, int]:
    """Page faults of a call, ours and torch's; what takes seconds is not called again for it."""
    return {name: memory.page_faults(calls[name]) for name in ("ours", "torch") if milliseconds.get(name, math.inf) < 1e3}


def measure(case: Case, dtype: torch.dtype, layout: str, setting: Setting) -> Iterator[dict[str, Any]]:
    """One dictionary for each mode."""
    x = tensor(case, dtype, layout, setting.device)
    wrong = check(case, x)
    peers = gather(case, x, setting.peers)
    pools = {"ours": Ready(case.ours(), x), **peers.pools}
    leaves = {name: pools[name].input.detach().clone().requires_grad_() for name in ("ours", "torch") if name in pools}
    saved = {name: bytes_saved(lambda name=name: pools[name].pool(leaves[name])) for name in leaves}  # type: ignore[misc]
    outputs = case.ours()(x).numel()
    for mode in setting.modes:
        calls = calls_of(mode, pools["ours"], peers)
        calls_and_copies = {**calls, **copying.copies(x, setting.streaming)}
        samples, interruptions = setting.patience.measure(lambda named=calls_and_copies: sample(named, setting))  # type: ignore[misc]
        if mode == "inference":
            samples |= {name: [seconds] for name, seconds in peers.slow.items()}
        result = figures(samples, case.bytes_moved(mode, outputs, x.element_size()), 2 * x.nbytes)
        yield {
            "group": case.group,
            "origin": case.origin,
            "case": case.name,
            "kind": case.kind,
            "shape": case.shape,
            "kernel": case.full(case.kernel) if case.kernel else None,
            "stride": case.full(case.kernel if case.stride is None else case.stride) if case.kernel else None,
            "taps": case.taps(),
            "dtype": str(dtype).removeprefix("torch."),
            "layout": layout,
            "mode": mode,
            "memory": setting.memory,
            "wrong": wrong,
            "notes": peers.said(mode) + (["busy machine"] if interruptions > BUSY else []),
            **result,
            "interruptions_per_s": round(interruptions, 1),
            "saved_bytes": saved if mode == "training" else None,
            "page_faults": faults(calls, result["ms"]) if setting.device == "cpu" else None,
        }


def figures(samples: Mapping[str, list[float]], moved: int, copied: int) -> dict[str, Any]:
    """What follows from the times: `moved` bytes by definition of the row, `copied` by each copy."""
    middle = medians(samples)
    best_copy = min((name for name in middle if "copy" in name), key=middle.__getitem__)
    peers = {name: value for name, value in middle.items() if name != "ours" and "copy" not in name}
    rate, copy_rate = moved / middle["ours"] / 1e9, copied / middle[best_copy] / 1e9
    return {
        "ms": {name: value * 1e3 for name, value in middle.items()},
        "fastest_ms": {name: min(values) * 1e3 for name, values in samples.items()},
        "samples": {name: len(values) for name, values in samples.items()},
        "ratio": {name: value / middle["ours"] for name, value in peers.items()},
        "best_peer": min(peers, key=peers.__getitem__, default=None),
        "bytes": moved,
        "gb_per_s": rate,
        "copy_gb_per_s": copy_rate,
        "best_copy": best_copy,
        "share_of_copy": rate / copy_rate,
    }
