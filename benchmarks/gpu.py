# SPDX-License-Identifier: BSD-3-Clause
"""What benchmarks/gpu.sh asks of a GPU beside the rows: python -m benchmarks.gpu WHAT. Each ends with an error if it fails."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import CASES, LAYOUTS, Case, tensor
from torch_pooling import functional
from torch_pooling._demo.stopwatch import Call

NAMED = 12  # rows that torch.compile and JAX are compared on
REDUCED = 300_000  # elements a tensor under compute-sanitizer may have


def shrunk(case: Case, elements: int) -> Case:
    """The same window on fewer planes, and smaller ones if need be."""
    batch, channels, *spatial = case.shape
    fits = 1
    for size in spatial:
        fits *= size
    return Case(**{**case.__dict__, "shape": (1, max(1, min(channels, elements // fits)), *spatial)})


def calls(cases: list[Case], dtypes: tuple[torch.dtype, ...]) -> Iterator[tuple[str, Case, Tensor]]:
    for case in cases:
        for dtype in dtypes:
            for layout in LAYOUTS:
                yield f"{case.name} {dtype} {layout}", case, tensor(case, dtype, layout, "cuda")


def forward_backward(case: Case, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    output = case.ours()(x)
    (grad,) = torch.autograd.grad(output, x, torch.linspace(-1, 1, output.numel(), device="cuda").to(x.dtype).view(output.shape))
    return output.detach(), grad


def same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(one.flatten().view(torch.uint8), other.flatten().view(torch.uint8)) for one, other in zip(first, second, strict=True))


def determinism(_: Any) -> None:
    """Bit for bit the same in 10 runs, and nothing refuses, or warns, in deterministic mode."""
    torch.use_deterministic_algorithms(True)
    for name, case, x in calls(list(CASES), (torch.float32, torch.float16)):
        first = tuple(each.contiguous() for each in forward_backward(case, x))
        for _ in range(9):
            if not same(first, tuple(each.contiguous() for each in forward_backward(case, x))):
                sys.exit(f"{name}: two runs differ")
        print(name, "ok", flush=True)


def graphs(_: Any) -> None:
    """Captured into a CUDA graph and replayed on new data; and on a stream that is not the default one."""
    for name, case, x in calls([shrunk(case, 4_000_000) for case in CASES], (torch.float32,)):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            forward_backward(case, x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = forward_backward(case, x)
        x.copy_(torch.randn_like(x))
        graph.replay()
        expected = forward_backward(case, x)
        if not same(tuple(each.contiguous() for each in captured), tuple(each.contiguous() for each in expected)):
            sys.exit(f"{name}: the graph computes something else")
        print(name, "ok", flush=True)


def large(_: Any) -> None:
    """More than 2^31 elements in one item and in many, where memory allows; a peak at the end must be found."""
    free = torch.cuda.mem_get_info()[0]
    if free < 24 * 2**30:
        print("skipped: less than 24 GiB free")
        return
    x = torch.zeros(1, 1, 2**31 + 7, dtype=torch.int8, device="cuda")
    x[..., -1] = 5
    values, indices = functional.global_max_pool(x, return_indices=True)
    assert values.item() == 5 and indices.item() == 2**31 + 6
    assert int(functional.max_pool1d(x, 2, 1, 1)[..., -1]) == 5
    del x
    x = torch.zeros(33, 1, 8192, 8192, dtype=torch.float16, device="cuda")
    x[-1, -1, -1, -1] = 3
    x.requires_grad_()
    output = functional.max_pool2d(x, 2)
    assert output[-1, -1, -1, -1].item() == 3
    output.backward(torch.ones_like(output))
    assert x.grad is not None and x.grad[-1, -1, -1, -1] == 1
    print("ok")


def copies(_: Any) -> None:
    """Bandwidth of device-to-device copies of this run: what rows are measured by."""
    for megabytes in (64, 256, 1024):
        source = torch.empty(megabytes * 2**20, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        print(megabytes, "MiB:", round(2 * source.numel() / seconds(lambda to=target, of=source: to.copy_(of)) / 1e9), "GB/s", flush=True)


def seconds(call: Call, times: int = 20) -> float:
    """Median, the L2 cache overwritten before every call."""
    flush = torch.empty(max(2 * torch.cuda.get_device_properties(0).L2_cache_size, 2**26), dtype=torch.uint8, device="cuda")
    found = []
    for _ in range(times):
        flush.zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        found.append(begin.elapsed_time(end) / 1e3)
    return sorted(found)[len(found) // 2]


def named() -> list[Case]:
    return [case for case in CASES if case.quick][:NAMED]


def against(prepare: Callable[[Case, Tensor], Call], peer: str, out: Path) -> None:
    with out.open("w") as file:
        for name, case, x in calls(named(), (torch.float32, torch.bfloat16)):
            row: dict[str, Any] = {"row": name}
            try:
                theirs = prepare(case, x)
                theirs()
                pool = case.ours()
                row |= {"ours": seconds(lambda pool=pool, x=x: pool(x)), peer: seconds(theirs)}
            except Exception as error:  # noqa: BLE001 - a peer's failure is a result
                row["error"] = f"{type(error).__name__}: {error}"[:300]
            print(json.dumps(row), file=file, flush=True)
            print(row, flush=True)


def compiled(options: argparse.Namespace) -> None:
    def prepare(case: Case, x: Tensor) -> Call:
        pool = torch.compile(case.theirs(), mode="max-autotune", dynamic=False)
        return lambda: pool(x)

    against(prepare, "torch.compile", options.out)


def jax(options: argparse.Namespace) -> None:
    try:
        import jax.numpy as jnp
        from jax import dlpack as jax_dlpack
        from jax import jit, lax
    except ImportError:
        print("skipped: no JAX")
        return

    def prepare(case: Case, x: Tensor) -> Call:
        if not case.kernel:
            raise NotImplementedError("only sliding windows")
        values = jax_dlpack.from_dlpack(x.contiguous())
        kernel, stride = case.full(case.kernel), case.full(case.stride or case.kernel)
        padding = [(0, 0), (0, 0), *((p, p) for p in case.full(case.padding))]
        start, step = (-jnp.inf, lax.max) if case.selects else (0.0, lax.add)
        scale = 1.0
        for size in kernel:
            scale /= 1 if case.selects else size

        @jit
        def pool(a: Any) -> Any:
            return lax.reduce_window(a, jnp.asarray(start, a.dtype), step, (1, 1, *kernel), (1, 1, *stride), padding) * jnp.asarray(scale, a.dtype)

        stream = torch.cuda.current_stream()

        def call() -> None:  # JAX has a stream of its own: wait for it, within what is timed
            pool(values).block_until_ready()
            stream.synchronize()

        return call

    against(prepare, "jax", options.out)


def slowest(options: argparse.Namespace) -> None:
    """One call each of the five rows furthest from torch, for a profiler."""
    rows = [json.loads(line) for line in Path(options.results).read_text().splitlines()[1:]]
    rows.sort(key=lambda row: row["ratio"].get("torch", 0))
    wanted = list(dict.fromkeys(row["case"] for row in rows))[:5]
    for case in CASES:
        if case.name in wanted:
            forward_backward(case, tensor(case, torch.float32, LAYOUTS[0], "cuda"))
    torch.cuda.synchronize()


def reduced(_: Any) -> None:
    """Every row once, on small tensors, for compute-sanitizer."""
    for name, case, x in calls([shrunk(case, REDUCED) for case in CASES], (torch.float32, torch.float16)):
        forward_backward(case, x)
        torch.cuda.synchronize()
        print(name, flush=True)


WHAT = {each.__name__: each for each in (determinism, graphs, large, copies, compiled, jax, slowest, reduced)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("what", choices=list(WHAT))
    parser.add_argument("results", nargs="?", help="slowest: the rows of part 2")
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"))
    options = parser.parse_args()
    WHAT[options.what](options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
