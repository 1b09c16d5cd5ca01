# SPDX-License-Identifier: BSD-3-Clause
"""What benchmarks/gpu.sh asks of a GPU beside the rows: python -m benchmarks.gpu WHAT. Each ends with an error if it fails.

`--device cpu --elements 5000` rehearses all of it where there is no GPU: the same code, on small tensors.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import CASES, LAYOUTS, Case, tensor
from benchmarks.device import Device, open_device
from benchmarks.peers.base import sliding
from torch_pooling import functional
from torch_pooling._demo.stopwatch import Call

NAMED = 12  # rows that torch.compile and JAX are compared on
REDUCED = 300_000  # elements a tensor under compute-sanitizer may have
BOTH = (torch.float32, torch.float16)


@dataclasses.dataclass
class Session:
    """What a part works with."""

    device: Device
    elements: int | None  # at most so many in a tensor; None: as the row says
    out: Path
    results: Path | None = None

    def cases(self, cases: Sequence[Case], elements: int | None = None) -> list[Case]:
        limits = [limit for limit in (elements, self.elements) if limit is not None]
        return [shrunk(case, min(limits)) for case in cases] if limits else list(cases)

    def calls(self, cases: Sequence[Case], dtypes: tuple[torch.dtype, ...]) -> Iterator[tuple[str, Case, Tensor]]:
        for case in cases:
            for dtype in dtypes:
                for layout in LAYOUTS:
                    name = f"{case.name} {str(dtype).removeprefix('torch.')} {layout}"
                    yield name, case, tensor(case, dtype, layout, self.device.name)


def shrunk(case: Case, elements: int) -> Case:
    """The same window on fewer channels of one item; planes stay as they are."""
    batch, channels, *spatial = case.shape
    return dataclasses.replace(case, shape=(1, max(1, min(channels, elements // math.prod(spatial))), *spatial))


def forward_backward(case: Case, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output and gradient, dense in the order of their axes, so that bits can be compared."""
    x = x.detach().requires_grad_()
    output = case.ours()(x)
    slopes = torch.linspace(-1, 1, output.numel(), device=x.device).to(x.dtype).view(output.shape)
    (grad,) = torch.autograd.grad(output, x, slopes)
    return output.detach().contiguous(), grad.contiguous()


def same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    """Bit for bit."""
    return all(torch.equal(one.flatten().view(torch.uint8), other.flatten().view(torch.uint8)) for one, other in zip(first, second, strict=True))


def determinism(session: Session) -> None:
    """Bit for bit the same in 10 runs, and nothing refuses, or warns, in deterministic mode."""
    torch.use_deterministic_algorithms(True)
    try:
        for name, case, x in session.calls(session.cases(CASES), BOTH):
            first = forward_backward(case, x)
            if not all(same(first, forward_backward(case, x)) for _ in range(9)):
                sys.exit(f"{name}: two runs differ")
            print(name, "ok", flush=True)
    finally:
        torch.use_deterministic_algorithms(False)


def graphs(session: Session) -> None:
    """On a stream that is not the default one; then captured into a CUDA graph and replayed on new numbers."""
    for name, case, x in session.calls(session.cases(CASES, 4_000_000), BOTH):
        aside = session.device.on_another_stream(lambda case=case, x=x: forward_backward(case, x))
        if not same(aside, forward_backward(case, x)):
            sys.exit(f"{name}: another stream computes something else")
        captured, replay = session.device.capture(lambda case=case, x=x: forward_backward(case, x))
        x.copy_(torch.randn_like(x))
        replay()
        if not same(captured, forward_backward(case, x)):
            sys.exit(f"{name}: the graph computes something else")
        print(name, "ok", flush=True)


def large(session: Session) -> None:
    """More than 2^31 elements in one item and in many, where memory allows; a peak at the end must be found."""
    if session.device.free_bytes() < 24 * 2**30:
        print("skipped: less than 24 GiB free")
        return
    peaks(2**31 + 7, (33, 2, 8192, 4096), session.device.name)


def peaks(length: int, planes: tuple[int, ...], device: str) -> None:
    x = torch.zeros(1, 1, length, dtype=torch.int8, device=device)
    x[..., -1] = 5
    values, indices = functional.global_max_pool(x, return_indices=True)
    assert values.item() == 5 and indices.item() == length - 1
    assert functional.max_pool1d(x, 2, 1, 1)[..., -1].item() == 5
    print("one long row: ok", flush=True)
    del x, values, indices
    for last in (False, True):
        x = torch.zeros(planes, dtype=torch.float16, device=device)
        x[-1, -1, -1, -1] = 3
        x = (x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x).requires_grad_()
        for kernel, stride in ((2, 2), (3, 1)):
            output = functional.max_pool2d(x, kernel, stride)
            assert output[-1, -1, -1, -1].item() == 3
            (grad,) = torch.autograd.grad(output, x, torch.ones_like(output))
            assert grad[-1, -1, -1, -1].item() == 1
            del output, grad
            average = functional.avg_pool2d(x.detach(), kernel, stride)
            assert average[-1, -1, -1, -1].item() == torch.tensor(3 / kernel**2).half().item()
            del average
        print("many elements, channels", "last: ok" if last else "first: ok", flush=True)


def copies(session: Session) -> None:
    """Bandwidth of device-to-device copies of this run: what rows are measured by."""
    for megabytes in (64, 256, 1024) if session.elements is None else (1,):
        source = torch.empty(megabytes * 2**20, dtype=torch.uint8, device=session.device.name)
        target = torch.empty_like(source)
        spent = session.device.seconds(lambda to=target, of=source: to.copy_(of))
        print(megabytes, "MiB:", round(2 * source.numel() / spent / 1e9), "GB/s", flush=True)


def named() -> list[Case]:
    return [case for case in CASES if case.quick][:NAMED]


def against(session: Session, prepare: Callable[[Case, Tensor], Call], peer: str, seconds: Callable[[Call], float]) -> None:
    """Forward times of ours and a peer's on the named rows, a line each as soon as it is there."""
    with session.out.open("w") as file:
        for name, case, x in session.calls(session.cases(named()), (torch.float32, torch.bfloat16)):
            row: dict[str, Any] = {"row": name}
            try:
                theirs = prepare(case, x)
                pool = case.ours()
                row |= {"ours": seconds(lambda pool=pool, x=x: pool(x)), peer: seconds(theirs)}  # type: ignore[misc]
                row["ratio"] = row[peer] / row["ours"]
            except Exception as error:  # noqa: BLE001 - a peer's failure is a result
                row["error"] = f"{type(error).__name__}: {error}"[:300]
            print(json.dumps(row), file=file, flush=True)
            print(row, flush=True)


def compiled(session: Session) -> None:
    def prepare(case: Case, x: Tensor) -> Call:
        torch._dynamo.reset()  # one case must not count against another's limit of recompilations
        pool = torch.compile(case.theirs(), mode="max-autotune", dynamic=False)
        return lambda: pool(x)

    against(session, prepare, "torch.compile", session.device.seconds)


def jax(session: Session) -> None:
    try:
        import jax.numpy as jnp
        from jax import jit, lax
        from jax.dlpack import from_dlpack
    except ImportError:
        print("skipped: no JAX")
        return

    def prepare(case: Case, x: Tensor) -> Call:
        window = sliding(case)
        values = from_dlpack(x.contiguous())
        sizes = (1, 1, *window.kernel), (1, 1, *window.stride), ((0, 0), (0, 0), *((p, p) for p in window.padding))

        @jit
        def pool(a: Any) -> Any:
            if case.selects:
                return lax.reduce_window(a, jnp.asarray(-jnp.inf, a.dtype), lax.max, *sizes)
            return (lax.reduce_window(a.astype(jnp.float32), jnp.float32(0), lax.add, *sizes) / window.taps).astype(a.dtype)

        return lambda: pool(values).block_until_ready()

    against(session, prepare, "jax", session.device.wall_seconds)


def slowest(session: Session) -> None:
    """One call each of the five rows furthest behind torch, for a profiler."""
    assert session.results is not None, "slowest needs the rows of part 2"
    rows = [json.loads(line) for line in session.results.read_text().splitlines()[1:]]
    rows.sort(key=lambda row: row["ratio"].get("torch", math.inf))
    wanted = list(dict.fromkeys((row["case"], row["dtype"], row["layout"], row["mode"]) for row in rows))[:5]
    by_name = {case.name: case for case in CASES}
    for name, dtype, layout, mode in wanted:
        (case,) = session.cases([by_name[name]])
        x = tensor(case, getattr(torch, dtype), layout, session.device.name)
        if mode == "inference":
            case.ours()(x)
        else:
            forward_backward(case, x)
        print(name, dtype, layout, mode, flush=True)
    session.device.synchronize()


# What no row comes to: several reductions at once, windows over three axes and wide ones with indices, other types, sizes of 64 bits'
# kernels being too large for here.
MORE: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Any]]] = {
    "concat_pool": ((2, 40, 61, 67), functional.concat_pool),
    "concat_pool of a few planes": ((1, 2, 300, 301), lambda x: functional.concat_pool(x, 3)),
    "mixed_pool": ((1, 5, 70, 75), functional.mixed_pool),
    "avgmax_pool": ((2, 40, 14, 14), functional.avgmax_pool),
    "pyramid": ((2, 3, 130, 131), lambda x: functional.spatial_pyramid_pool(x, (1, 2, 4), "max")),
    "max_pool3d 5": ((1, 3, 9, 10, 33), lambda x: functional.max_pool3d(x, 5, 1, 2, return_indices=True)[0]),
    "max_pool2d 9": ((1, 3, 70, 75), lambda x: functional.max_pool2d(x, 9, 1, 4, return_indices=True)[0]),
    "sum_pool2d 15": ((1, 3, 40, 75), lambda x: functional.sum_pool2d(x, 15, 2, 7)),
}


def others(session: Session) -> Iterator[tuple[str, Tensor, Callable[[Tensor], Any]]]:
    for name, (shape, function) in MORE.items():
        for dtype in (*BOTH, torch.float64):
            for layout in LAYOUTS:
                x = torch.randn(shape, device=session.device.name).to(dtype)
                yield f"{name} {dtype} {layout}", x if layout == LAYOUTS[0] else x.movedim(1, -1).contiguous().movedim(-1, 1), function


def reduced(session: Session) -> None:
    """Every row once, on small tensors, and what the rows leave out: for compute-sanitizer."""
    for name, case, x in session.calls(session.cases(CASES, REDUCED), BOTH):
        forward_backward(case, x)
        session.device.synchronize()
        print(name, flush=True)
    for name, x, function in others(session):
        leaf = x.requires_grad_()
        function(leaf).sum().backward()
        torch.func.jvp(function, (x.detach(),), (torch.ones_like(x),))
        session.device.synchronize()
        print(name, flush=True)
    whole = torch.arange(40, device=session.device.name).view(1, 1, 5, 8).to(torch.int8)
    functional.max_pool2d(whole, 3, 2, 1, return_indices=True)
    functional.max_pool2d(whole.long(), (5, 7), 1, return_indices=True)
    session.device.synchronize()


WHAT = {each.__name__: each for each in (determinism, graphs, large, copies, compiled, jax, slowest, reduced)}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("what", choices=list(WHAT))
    parser.add_argument("results", nargs="?", type=Path, help="slowest: the rows of part 2")
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--elements", type=int, help="at most so many in a tensor")
    options = parser.parse_args(argv)
    if options.what == "slowest" and options.results is None:
        parser.error("slowest needs the results of part 2")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    WHAT[options.what](Session(open_device(options.device), options.elements, options.out, options.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
