# SPDX-License-Identifier: BSD-3-Clause
"""Channel shards of results that hold several pools: the channels of a shard lie apart in them, so they are no shard of theirs.

``concat_pool`` of channels 0 to 3 over two ranks is [a0 a1 a2 a3 m0 m1 m2 m3]; a rank has a0 a1 m0 m1. Each rank pools its own
channels, and the results, put in order channel by channel, are gathered: they are smaller than the input. For gradients the
other way round: each rank takes what belongs to its channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard

_CONCAT, _MEAN, _FLAT = 0, 1, 2  # Form in csrc/core/combined.h
_CHANNELS = Shard(1)


def wrap(part: Tensor, mesh: Any, placements: Sequence[Placement], like: Tensor) -> DTensor:
    """A rank's part as a DTensor with the sizes and strides of ``like``."""
    return DTensor.from_local(part, mesh, placements, run_check=False, shape=like.shape, stride=like.stride())


def _gathered(placements: Sequence[Placement]) -> list[Placement]:
    return [Replicate() if placement == _CHANNELS else placement for placement in placements]


def _laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """In the memory format of ``like``."""
    if tensor.dim() < 3 or like.is_contiguous():
        return tensor
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


@dataclass
class Layout:
    """Where the channels of a call's tensors lie.

    ``parts``: for each tensor in which they lie apart, the results of one channel in each of its parts. Tensors are named as the
    operators' arguments; an output is laid out as ``grad_output``.
    """

    channels: int
    parts: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, call: Any, wanted: Sequence[Tensor]) -> Layout:
        tensors, arguments = call.tensors, call.arguments
        given = tensors["input"] if "input" in tensors else wanted[0]
        lead = given.dim() - call.rank
        channels = given.shape[lead - 1]
        form = arguments.get("form", _MEAN)
        if form == _MEAN:
            return cls(channels)
        kinds, sizes, rank = arguments["kinds"], arguments["sizes"], call.rank
        output = tensors.get("grad_output", wanted[0])
        if form == _FLAT:
            each = [math.prod(sizes[rank * part : rank * (part + 1)]) for part in range(len(kinds))]
        else:
            each = [math.prod(output.shape[2:])] * len(kinds)
        parts = {"grad_output": each, "offsets": [size for size, kind in zip(each, kinds, strict=True) if kind]}
        return cls(channels, {name: sizes for name, sizes in parts.items() if form == _FLAT or len(sizes) > 1})

    def interleaves(self, name: str) -> bool:
        return name in self.parts

    def _by_channel(self, tensor: Tensor, channels: int, name: str) -> Tensor:
        """[N, channels, results of a channel] of a tensor in the operators' order."""
        pieces = tensor.flatten(1).split([channels * size for size in self.parts[name]], 1)
        return torch.cat([piece.unflatten(1, (channels, size)) for piece, size in zip(pieces, self.parts[name], strict=True)], 2)

    def _by_part(self, tensor: Tensor, name: str, spatial: Sequence[int]) -> Tensor:
        """The inverse."""
        rows = torch.cat([piece.flatten(1) for piece in tensor.split(self.parts[name], 2)], 1)
        if not spatial:
            return rows
        return rows.reshape(tensor.shape[0], tensor.shape[1] * len(self.parts[name]), *spatial)

    def take(self, tensor: DTensor, name: str, placements: Sequence[Placement]) -> Tensor:
        """What this rank has of a tensor at these placements, of which Shard(1) means that of the input's channels."""
        if not self.interleaves(name) or _CHANNELS not in placements:
            there = tensor.placements == tuple(placements)
            return (tensor if there else tensor.redistribute(placements=placements)).to_local()
        gathered = _gathered(placements)
        here = tensor.redistribute(placements=gathered).to_local()
        rows = self._wrap_rows(self._by_channel(here, self.channels, name), tensor.device_mesh, gathered, tensor.shape[0])
        mine = rows.redistribute(placements=placements).to_local()
        return _laid_out(self._by_part(mine, name, tensor.shape[2:]), tensor)

    def give(self, part: Tensor, name: str, mesh: Any, placements: Sequence[Placement], like: Tensor) -> DTensor:
        """A result as a DTensor; if its channels are sharded and lie apart, it is gathered along them."""
        if not self.interleaves(name) or _CHANNELS not in placements:
            return wrap(part, mesh, placements, like)
        channels = part.shape[1] * self.channels // like.shape[1]
        gathered = _gathered(placements)
        rows = self._wrap_rows(self._by_channel(part, channels, name), mesh, placements, like.shape[0])
        everyone = rows.redistribute(placements=gathered).to_local()
        return wrap(_laid_out(self._by_part(everyone, name, like.shape[2:]), like), mesh, gathered, like)

    def _wrap_rows(self, rows: Tensor, mesh: Any, placements: Sequence[Placement], batch: int) -> DTensor:
        size = rows.shape[2]
        strides = (self.channels * size, size, 1)
        return DTensor.from_local(rows, mesh, placements, run_check=False, shape=torch.Size((batch, self.channels, size)), stride=strides)

    def empty(self, local: dict[str, Tensor], like: Tensor, rank: int) -> Tensor:
        """A rank's result where it holds no batch or no channels."""
        lead = 2 if self.parts else next(iter(local.values())).dim() - rank
        name, tensor = next((item for item in local.items() if not self.interleaves(item[0])), next(iter(local.items())))
        if self.interleaves(name):
            leading = [tensor.shape[0], like.shape[1]]  # the batch alone can be missing
        else:
            leading = [*tensor.shape[: lead - 1], tensor.shape[lead - 1] * like.shape[lead - 1] // self.channels]
        return torch.empty([*leading, *like.shape[lead:]], dtype=like.dtype, device=tensor.device)
