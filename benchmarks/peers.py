# SPDX-License-Identifier: BSD-3-Clause
"""Whom ours is compared with. A peer is one function: case and input in, callable out, or Absent with the reason.

A peer that knows no gradients says so by its modes. Adding one is a function and a line in PEERS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.cases import MODES, Case
from torch_pooling._demo.agreement import Pool


class Absent(Exception):
    """This peer cannot run this row here; the message says why."""


@dataclass(frozen=True)
class Ready:
    pool: Pool
    input: Tensor  # what the peer gets: the row's input, or the nearest that the peer can take
    note: str = ""


@dataclass(frozen=True)
class Peer:
    prepare: Callable[[Case, Tensor], Ready]
    modes: tuple[str, ...] = MODES


def torch_eager(case: Case, x: Tensor) -> Ready:
    """torch.nn.functional on the same tensor; where torch lacks the type, on float32, and the row says so."""
    pool = case.theirs()
    probe = x[:1, :1].detach().clone().requires_grad_()
    try:
        output = pool(probe)
        torch.autograd.grad(output, probe, torch.ones_like(output))
    except RuntimeError as error:
        if "not implemented for" not in str(error):
            raise
        name = str(x.dtype).removeprefix("torch.")
        return Ready(pool, x.float(), f"torch has no {name} here: its float32 is shown")
    return Ready(pool, x)


PEERS = {"torch": Peer(torch_eager)}
