# SPDX-License-Identifier: BSD-3-Clause
"""Adaptive windows over all of a sharded spatial axis: each rank pools its piece, and one all-reduce joins the results.

Averages are weighted by the size of the piece and added in float32 at least. A maximum travels as an integer that is ordered as
pooling orders: its value above, its position below (the first of equals wins; NaN above all, the last of them). Values of 64 bits leave
no room for positions, which then take a second all-reduce.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

from torch_pooling._library import ops
from torch_pooling._sharding_combined import _FLAT, _MEAN, wrap

_LEAST = torch.iinfo(torch.int64).min  # of a rank without a position; below all that is sent
_LOW = 2**32 - 1  # what a value of 32 bits leaves for a position


def sharded_dims(call: Any) -> list[int]:
    """Dimensions of the mesh along which a spatial axis is cut that this file joins."""
    if call.name not in (
        "adaptive_avg_pool", "adaptive_max_pool", "adaptive_max_pool_with_offsets", "combined_pool", "combined_pool_with_offsets"
    ):
        return []
    arguments = call.arguments
    sizes = arguments["sizes"] if "sizes" in arguments else arguments["output_size"]
    if call.name != "adaptive_avg_pool" and (arguments.get("stride") or any(size != 1 for size in sizes)):
        return []
    input = call.tensors["input"]
    lead = input.dim() - call.rank
    return [
        i for i, placement in enumerate(input.placements)
        if type(placement) is Shard and placement.dim >= lead and sizes[placement.dim - lead] == 1
    ]


@dataclass
class _Piece:
    """What this rank has of an input that is cut along the dimensions ``over`` of the mesh."""

    local: Tensor
    begin: list[int]  # where it begins, for each spatial axis
    spatial: Sequence[int]  # sizes of the whole
    mesh: Any
    placements: list[Placement]
    over: list[int]

    @classmethod
    def of(cls, input: DTensor, rank: int, over: list[int]) -> _Piece:
        lead = input.dim() - rank
        mesh = input.device_mesh
        placements = [
            placement if i in over or (type(placement) is Shard and placement.dim < lead) else Replicate()
            for i, placement in enumerate(input.placements)
        ]
        local = input.redistribute(placements=placements).to_local()
        begin, size = [0] * rank, list(input.shape[lead:])
        for i in over:  # as torch.chunk cuts, one dimension of the mesh after the other
            axis = placements[i].dim - lead
            each = -(-size[axis] // mesh.size(i))
            start = min(size[axis], each * mesh.get_coordinate()[i])
            begin[axis] += start
            size[axis] = min(each, size[axis] - start)
        if list(local.shape[lead:]) != size:
            raise RuntimeError(
                f"a shard along a spatial axis must be one of torch.chunk's: expected spatial sizes {size} on this rank of an input "
                f"of sizes {list(input.shape)} placed as {input.placements}, but got {list(local.shape[lead:])}"
            )
        return cls(local, begin, input.shape[lead:], mesh, placements, over)

    @property
    def sizes(self) -> Sequence[int]:
        return self.local.shape[self.local.dim() - len(self.spatial) :]

    def joined_placements(self) -> list[Placement]:
        return [Replicate() if i in self.over else placement for i, placement in enumerate(self.placements)]

    def join(self, part: Tensor, like: Tensor, operation: str) -> Tensor:
        partial = [Partial(operation) if i in self.over else placement for i, placement in enumerate(self.placements)]
        return wrap(part, self.mesh, partial, like).redistribute(placements=self.joined_placements()).to_local()


def run(call: Any, over: list[int], wanted: Sequence[Tensor]) -> tuple[DTensor, ...]:
    input = call.tensors["input"]
    if "kinds" in call.arguments:
        return _combined(input, call.arguments, len(wanted) > 1, wanted)
    piece = _Piece.of(input, call.rank, over)
    join = _average if call.name == "adaptive_avg_pool" else _maximum
    parts = join(piece, call.arguments["output_size"], wanted)
    return tuple(wrap(part, piece.mesh, piece.joined_placements(), want) for part, want in zip(parts, wanted, strict=True))


def _average(piece: _Piece, output_size: Sequence[int], wanted: Sequence[Tensor]) -> tuple[Tensor, ...]:
    (want,) = wanted
    local = piece.local
    wide = torch.float64 if local.dtype == torch.float64 else torch.float32
    if local.numel() == 0:
        lead = local.dim() - len(output_size)
        part = torch.zeros([*local.shape[:lead], *output_size], dtype=wide, device=local.device)
    else:
        part = ops.adaptive_avg_pool(local.to(wide), output_size) * (math.prod(piece.sizes) / math.prod(piece.spatial))
    return (piece.join(part, want, "sum").to(local.dtype),)


def _ordered(values: Tensor) -> Tensor:
    """Integers in the order of the values, all NaN alike and largest. Both zeros are one."""
    if not values.is_floating_point():
        return values.long()
    bits, rest = (torch.int64, 2**63 - 1) if values.dtype == torch.float64 else (torch.int32, 2**31 - 1)
    values = values if bits == torch.int64 else values.float()
    key = torch.where(values == 0, 0.0, values).view(bits)
    key = key ^ ((key >> (8 * key.itemsize - 1)) & rest)
    return torch.where(values.isnan(), rest, key).long()


def _value(key: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse."""
    if not dtype.is_floating_point:
        return key.to(dtype)
    bits, rest, floating = (torch.int64, 2**63 - 1, torch.float64) if dtype == torch.float64 else (torch.int32, 2**31 - 1, torch.float32)
    key = key.to(bits)
    return (key ^ ((key >> (8 * key.itemsize - 1)) & rest)).view(floating).to(dtype)


def _positions(offsets: Tensor, piece: _Piece) -> Tensor:
    """Offsets in a piece as positions in the whole, both counted row by row."""
    rest, step = offsets.long(), 1
    positions = torch.zeros_like(rest)
    for size, begin, whole in zip(reversed(piece.sizes), reversed(piece.begin), reversed(piece.spatial), strict=True):
        positions += (rest % size + begin) * step
        rest, step = rest // size, step * whole
    return positions


def _maximum(piece: _Piece, output_size: Sequence[int], wanted: Sequence[Tensor]) -> tuple[Tensor, ...]:
    local, like = piece.local, wanted[0]
    lead = local.dim() - len(output_size)
    nothing = torch.full([*local.shape[:lead], *output_size], _LEAST, device=local.device)
    if len(wanted) == 1:
        key = _ordered(ops.adaptive_max_pool(local, output_size)) if local.numel() else nothing
        return (_value(piece.join(key, like, "max"), local.dtype),)
    key = position = nothing
    nan = torch.zeros_like(nothing, dtype=torch.bool)
    if local.numel():
        values, offsets = ops.adaptive_max_pool_with_offsets(local, output_size, True)
        key, position, nan = _ordered(values), _positions(offsets, piece), values.isnan()
    if local.dtype.itemsize <= 4 and math.prod(piece.spatial) <= _LOW:
        sent = (key << 32) + torch.where(nan, position, _LOW - position) if local.numel() else nothing
        best = piece.join(sent, like, "max")
        value, low = _value(best >> 32, local.dtype), best & _LOW
        place = torch.where(value.isnan(), low, _LOW - low)
    else:
        best = piece.join(key, like, "max")
        value = _value(best, local.dtype)
        sent = torch.where(key == best, torch.where(nan, position, -position), _LEAST) if local.numel() else nothing
        place = piece.join(sent, like, "max").abs()
    return value, place.to(wanted[1].dtype)


def _combined(input: DTensor, arguments: dict[str, Any], with_offsets: bool, wanted: Sequence[Tensor]) -> tuple[DTensor, ...]:
    """From the single pools: an all-reduce for the average and one for the maximum."""
    ones, kinds, form = [1] * arguments["rank"], arguments["kinds"], arguments["form"]
    made: dict[int, DTensor] = {}
    if 0 in kinds:
        made[0] = ops.adaptive_avg_pool(input, ones)
    if 1 in kinds and with_offsets:
        made[1], offsets = ops.adaptive_max_pool_with_offsets(input, ones, arguments["wide_offsets"])
    elif 1 in kinds:
        made[1] = ops.adaptive_max_pool(input, ones)
    some = next(iter(made.values()))
    placements = list(some.placements)
    if form != _MEAN:  # channels of the parts follow each other
        placements = [Replicate() if placement == Shard(1) else placement for placement in placements]

    def local(part: DTensor) -> Tensor:
        return part.redistribute(placements=placements).to_local()

    if form == _MEAN:
        average, maximum = local(made[0]), local(made[1])
        parts = [((average.to(torch.promote_types(average.dtype, torch.float32)) + maximum) / 2).to(average.dtype)]
    else:
        parts = [torch.cat([local(made[kind]) for kind in kinds], 1)]
    if with_offsets:
        parts.append(torch.cat([local(offsets)] * sum(kinds), 1))
    if form == _FLAT:
        parts = [part.flatten(1) for part in parts]
    return tuple(wrap(part, input.device_mesh, placements, want) for part, want in zip(parts, wanted, strict=True))
