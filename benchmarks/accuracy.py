# SPDX-License-Identifier: BSD-3-Clause
"""Errors of long averages, ours and torch's, against float64: `python -m benchmarks.accuracy [--seeds 20] [--quick]`.

A row is one size, type and layout, over several seeds of normal numbers around 1 (a sum that grows). Of each result:
abs(found - exact) / abs(exact), with compensated float64 sums of what the type holds. Our mean is then compared with
torch's: exit status 1 where it is larger, in 16 bits by more than one part in 100,000: both round once what they added up in 32 bits,
and a mean next to the middle between two numbers then goes to one or the other, whichever sum was nearer.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as theirs
from torch import Tensor

from torch_pooling import functional as ours

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Row:
    """`window`: of a sliding average, which moves by `stride`, by itself if None; None for a global one."""

    size: tuple[int, ...]
    window: int | None = None
    stride: int | None = None

    @property
    def name(self) -> str:
        window = " global" if self.window is None else f" k{self.window}"
        return "x".join(map(str, self.size)) + window + (f" s{self.stride}" if self.stride else "")

    def pool(self, library: object, input: Tensor) -> Tensor:
        rank = len(self.size)
        if self.window is None:
            return getattr(library, f"adaptive_avg_pool{rank}d")(input, 1)
        return getattr(library, f"avg_pool{rank}d")(input, self.window, self.stride)

    def exact(self, input: Tensor) -> Tensor:
        """Means in float64 by torch.sum, which adds pairwise; of float64 inputs in two halves that lose nothing."""
        wide = input.double()
        if self.window is not None:
            for axis in range(2, 2 + len(self.size)):
                wide = wide.unfold(axis, self.window, self.stride or self.window)
        wide = wide.flatten(2 if self.window is None else 2 + len(self.size))
        return _compensated(wide) / wide.shape[-1]


def _compensated(values: Tensor) -> Tensor:
    """Sums over the last axis: halves are added in turn, with the rounding errors of each step added up beside them (Knuth's two-sum)."""
    rest = torch.zeros_like(values[..., 0])
    while values.shape[-1] > 1:
        half = values.shape[-1] // 2
        one, two, left = values[..., :half], values[..., half : 2 * half], values[..., 2 * half :]
        total = one + two
        virtual = total - one
        rest = rest + ((one - (total - virtual)) + (two - virtual)).sum(-1)
        values = torch.cat([total, left], -1)
    return values[..., 0] + rest


ROWS = (
    Row((7, 7)), Row((56, 56)), Row((224, 224)), Row((1024, 1024)), Row((4096, 4096)), Row((1 << 14,)), Row((1 << 20,)), Row((1 << 24,)),
    Row((256, 256), 64), Row((1024, 1024), 256), Row((1 << 20,), 1 << 12), Row((64, 64, 64)), Row((128, 128, 128), 32),
    Row((1 << 16,), 1024, 256), Row((256, 256), 64, 16), Row((48, 48, 48), 16, 8),
)  # fmt: skip


def errors(row: Row, dtype: torch.dtype, layout: str, seed: int, pools: tuple[object, ...]) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    channels = 3 if max(row.size) <= 1024 or layout == "channels_last" else 1
    input = (torch.randn(1, channels, *row.size, generator=generator, dtype=torch.float64) + 1).to(dtype)
    if layout == "channels_last":
        input = input.movedim(1, -1).contiguous().movedim(-1, 1)
    exact = row.exact(input).reshape(-1)

    def error(library: object) -> float:
        try:
            return float(((row.pool(library, input).double().reshape(-1) - exact) / exact).abs().mean())
        except NotImplementedError:  # torch's avg_pool3d of 16-bit types in channels-first
            return math.inf

    return [error(library) for library in pools]


def main(say: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(prog="accuracy")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="no plane above 256 x 256")
    parser.add_argument("--dtype", choices=sorted(DTYPES), nargs="*", default=list(DTYPES))
    given = parser.parse_args()
    say("| window | type | layout | torch, mean relative error | ours | ours by torch's |\n|---|---|---|---|---|---|")
    worse = 0
    for row in ROWS:
        if given.quick and math.prod(row.size) > 1 << 16:
            continue
        for name in given.dtype:
            for layout in ("channels_first", "channels_last"):
                per_seed = [errors(row, DTYPES[name], layout, seed, (theirs, ours)) for seed in range(given.seeds)]
                torchs, our = (sum(each[side] for each in per_seed) / len(per_seed) for side in (0, 1))
                ratio = our / torchs if torchs else float(our > 0)
                worse += ratio > (1 if DTYPES[name].itemsize > 2 else 1 + 1e-5)
                shown = (f"{torchs:.3g}", f"{ratio:.3g}") if math.isfinite(torchs) else ("refused", "")
                say(f"| {row.name} | {name} | {layout} | {shown[0]} | {our:.3g} | {shown[1]} |")
    say(f"\n{worse} rows in which ours is the larger")
    return int(worse > 0)


if __name__ == "__main__":
    sys.exit(main())
