# SPDX-License-Identifier: BSD-3-Clause
"""torch's own ways to pool: eager in this layout and in the other one, compiled, and oneDNN through its tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as torch_functional

from benchmarks.cases import Case
from benchmarks.peers.base import Absent, Ready, is_channels_last, sliding


def eager(case: Case, x: Tensor) -> Ready:
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
        return Ready(pool, x.float(), f"no {name} here, its float32 is shown")
    return Ready(pool, x)


def other_layout(case: Case, x: Tensor) -> Ready:
    """Eager on the same numbers in the other memory order, the conversion not counted."""
    other = x.contiguous() if is_channels_last(x) else x.movedim(1, -1).contiguous().movedim(-1, 1)
    return eager(case, other)


def compiled(case: Case, x: Tensor) -> Ready:
    """torch.compile for exactly this size; the harness's first call, which is not counted, compiles."""
    torch._dynamo.reset()  # one case must not count against another's limit of recompilations
    torch._inductor.config.compile_threads = 1  # no pool of compilers beside what is timed
    ready = eager(case, x)
    return Ready(torch.compile(ready.pool, dynamic=False, fullgraph=True), ready.input, ready.note)


def onednn(case: Case, x: Tensor) -> Ready:
    """torch's pooling of oneDNN tensors: 2-D and 3-D windows, the type as far as oneDNN computes with it here."""
    if x.device.type != "cpu":
        raise Absent("CPU only")
    if case.rank == 1:
        raise Absent("no 1-D pooling")
    window = sliding(case)
    function = getattr(torch_functional, f"{case.kind}_pool{case.rank}d")

    def pool(tensor: Tensor) -> Tensor:
        return function(tensor, window.kernel, window.stride, window.padding)

    try:
        pool(x[:1, :1].contiguous().to_mkldnn())
    except RuntimeError as error:
        raise Absent(f"no {str(x.dtype).removeprefix('torch.')} here") from error
    return Ready(pool, x.to_mkldnn(), values=lambda output: output.to_dense())
