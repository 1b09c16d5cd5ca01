# SPDX-License-Identifier: BSD-3-Clause
"""What every peer is made of, and a case's window in the plain form that engines ask for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmarks.cases import MODES, Case


class Absent(Exception):
    """This peer cannot run this row here; the message says why, in a word or two."""


def as_it_is(output: Tensor) -> Tensor:
    return output


@dataclass(frozen=True)
class Ready:
    pool: Callable[[Any], Any]
    input: Any  # the row's numbers as the peer takes them: its own tensor, in its own memory, made before anything is timed
    note: str = ""
    values: Callable[[Any], Tensor] = as_it_is  # what pool returned as a tensor [N, C, *spatial], to be checked


@dataclass(frozen=True)
class Peer:
    prepare: Callable[[Case, Tensor], Ready]
    modes: tuple[str, ...] = MODES
    packages: tuple[str, ...] = ()
    threads: str = "torch"  # whose thread pool it computes with
    compiles: bool = False  # in the first call of a mode, which then says nothing


@dataclass(frozen=True)
class Sliding:
    """A window with every axis spelled out."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)


def sliding(case: Case) -> Sliding:
    """The case as a sliding window: global and evenly divided adaptive pools have one. Absent for the others."""
    spatial = case.shape[2:]
    if case.kernel:
        stride = case.kernel if case.stride is None else case.stride
        return Sliding(case.full(case.kernel), case.full(stride), case.full(case.padding))
    outputs = case.output_size or 1
    if any(size % outputs for size in spatial):
        raise Absent("no uneven adaptive windows")
    steps = tuple(size // outputs for size in spatial)
    return Sliding(steps, steps, (0,) * case.rank)


def is_channels_last(x: Tensor) -> bool:
    """[N, *spatial, C] in memory; a shape that is both counts as channels-first."""
    return not x.is_contiguous()
