# SPDX-License-Identifier: BSD-3-Clause
"""All that the benchmark asks of a device itself, in one place: clocks, streams, graphs, memory.

`Gpu` is CUDA. `Rehearsal` answers the same questions on the CPU, so that everything that runs on a GPU once in a while can be run
anywhere first; its times mean nothing for a GPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from torch_pooling._demo.stopwatch import Call, cpu_clock

Result = TypeVar("Result")


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


class Gpu:
    name = "cuda"

    def __init__(self) -> None:
        self.clock = CudaClock()

    def free_bytes(self) -> int:
        return torch.cuda.mem_get_info()[0]

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def seconds(self, call: Call, times: int = 20) -> float:
        """Median of single calls, each with a cold L2 cache."""
        call()
        return statistics.median(self.clock(call, 1) for _ in range(times))

    def wall_seconds(self, call: Call, times: int = 20) -> float:
        """The same by the host's clock, launches included: for what runs on a stream that is not torch's."""
        call()
        found = []
        for _ in range(times):
            self.clock.flush.zero_()
            torch.cuda.synchronize()
            begin = time.perf_counter()
            call()
            torch.cuda.synchronize()
            found.append(time.perf_counter() - begin)
        return statistics.median(found)

    def on_another_stream(self, call: Callable[[], Result]) -> Result:
        """What `call` answers, computed on a stream of its own, which the current one waits for."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            result = call()
        torch.cuda.current_stream().wait_stream(side)
        return result

    def capture(self, call: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        """`call` as a CUDA graph: where its results will be, and what replays it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = call()
        return result, graph.replay


class Rehearsal:
    name = "cpu"

    def free_bytes(self) -> int:
        return 0

    def synchronize(self) -> None:
        pass

    def seconds(self, call: Call, times: int = 1) -> float:
        return cpu_clock(call, 1)

    wall_seconds = seconds

    def on_another_stream(self, call: Callable[[], Result]) -> Result:
        return call()

    def capture(self, call: Callable[[], tuple[torch.Tensor, ...]]) -> tuple[tuple[torch.Tensor, ...], Callable[[], None]]:
        result = call()

        def replay() -> None:
            for kept, new in zip(result, call(), strict=True):
                kept.data.copy_(new)

        return result, replay


Device = Gpu | Rehearsal


def open_device(name: str) -> Device:
    if name == "cuda":
        return Gpu()
    if name == "cpu":
        return Rehearsal()
    raise ValueError(f"device must be cuda or cpu, but is {name!r}")
