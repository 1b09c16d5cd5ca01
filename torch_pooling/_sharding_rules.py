# SPDX-License-Identifier: BSD-3-Clause
"""The rule by which every operator runs on DTensors; _sharding.py registers it and says why in this way.

One dimension of the device mesh after the other, the tensors of a call are brought to the first of these placements that one of
them has, and the results get the same: sharded along batch or channels; a partial sum (or average) through a linear operator;
replicated. Then each rank calls the operator on what it holds. Spatial sizes stand in arguments, batch and channels never do,
so a rank's call is right by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

from torch_pooling import _sharding_combined as combined
from torch_pooling import _sharding_global as whole
from torch_pooling._library import OPERATORS

_TENSORS = ("input", "grad_output", "offsets", "mask")
_LINEAR = ("avg_pool", "sum_pool", "_backward", "_gather")


@dataclass
class Call:
    """One call of an operator: its arguments by name, and the DTensors among them."""

    function: Any
    name: str
    arguments: dict[str, Any]
    tensors: dict[str, DTensor]

    @classmethod
    def of(cls, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Call:
        schema = function._schema
        arguments = {argument.name: argument.default_value for argument in schema.arguments}
        arguments.update(zip(arguments, args, strict=False))
        arguments.update(kwargs)
        name = schema.name.removeprefix("torch_pooling::")
        tensors = {key: arguments[key] for key in _TENSORS if arguments.get(key) is not None}
        for key, tensor in list(tensors.items()):
            if not isinstance(tensor, DTensor):
                raise RuntimeError(f"{name}: {key} must be a DTensor as the other tensors of the call are, but is a {type(tensor).__name__}")
            if tensor.requires_grad:  # torch 2.11 cannot redistribute such a tensor without gradients
                tensors[key] = tensor.detach()
        call = cls(function, name, arguments, tensors)
        meshes = [tensor.device_mesh for tensor in tensors.values()]
        if any(mesh != meshes[0] for mesh in meshes):
            raise RuntimeError(f"{name}: all tensors must be on the same device mesh, but are on {meshes}")
        return call

    @property
    def mesh(self) -> Any:
        return next(iter(self.tensors.values())).device_mesh

    @property
    def rank(self) -> int:
        if "rank" in self.arguments:
            return self.arguments["rank"]
        if "mask" in self.tensors:
            return self.tensors["mask"].dim() - 1
        return len(self.arguments["output_size" if "output_size" in self.arguments else "input_size"])

    def run(self, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
        result = self.function(**{**self.arguments, **tensors})
        return result if isinstance(result, tuple) else (result,)

    def whole_results(self) -> tuple[Tensor, ...]:
        """Without data: sizes, strides and types of the whole results. Wrong arguments are refused here."""
        return self.run(
            {
                key: torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
                for key, tensor in self.tensors.items()
            }
        )

    def is_linear(self) -> bool:
        first = next(iter(self.tensors.values()))
        if not first.is_floating_point():  # averages of integers are rounded
            return False
        if self.name == "combined_pool":
            return not any(self.arguments["kinds"])
        return self.name.endswith(_LINEAR)

    def result_name(self, position: int) -> str:
        """What a result is, in the words of the arguments."""
        if position == 1 or self.name.endswith("_indices"):
            return "offsets"
        return "input" if self.name.endswith("_backward") else "grad_output"


def _is_shard(placement: Placement, dims: int) -> bool:
    """Of one of the leading dimensions, in equal or torch.chunk's pieces; subclasses cut in other ways."""
    return type(placement) is Shard and placement.dim < dims


def _is_partial_sum(placement: Placement) -> bool:
    return type(placement) is Partial and placement.reduce_op in ("sum", "avg")


def _choose(call: Call, layout: combined.Layout, i: int) -> dict[str, Placement]:
    """Placements of the tensors of a call along dimension ``i`` of the mesh."""
    have = {key: tensor.placements[i] for key, tensor in call.tensors.items()}
    dims = {key: tensor.dim() - call.rank for key, tensor in call.tensors.items()}
    shards = [
        key for key in ("offsets", "input", "grad_output")
        if key in have and _is_shard(have[key], 1 if layout.interleaves(key) else dims[key])
    ]
    if shards:
        shard = have[shards[0]]
        return {key: Replicate() if key == "mask" and shard != Shard(0) else shard for key in have}  # which has no channels
    first, *others = have
    if call.is_linear() and _is_partial_sum(have[first]) and all(have[key].is_replicate() for key in others):
        return have
    return dict.fromkeys(have, Replicate())


def rule(cls: type, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None) -> Any:
    with torch.no_grad():  # below the nodes of csrc/ops
        call = Call.of(function, args, kwargs or {})
        results = _run(call)
    return results if len(results) > 1 else results[0]


def _run(call: Call) -> tuple[DTensor, ...]:
    wanted = call.whole_results()
    over = whole.sharded_dims(call)
    if over and call.mesh.get_coordinate() is not None:
        return whole.run(call, over, wanted)
    layout = combined.Layout.of(call, wanted)
    chosen = [_choose(call, layout, i) for i in range(call.mesh.ndim)]
    # Along one dimension of the mesh all results get what the first tensor has; only offsets beside a partial sum differ from it.
    placements = [next(iter(placement.values())) for placement in chosen]
    names = [call.result_name(position) for position in range(len(wanted))]
    if call.mesh.get_coordinate() is None:  # a rank outside of the mesh
        nothing = next(iter(call.tensors.values())).to_local()
        return tuple(combined.wrap(nothing.new_empty(0, dtype=want.dtype), call.mesh, placements, want) for want in wanted)
    local = {
        name: layout.take(tensor, name, [placement[name] for placement in chosen]) for name, tensor in call.tensors.items()
    }
    if all(tensor.numel() > 0 for tensor in local.values()):
        parts = call.run(local)
    else:
        parts = tuple(layout.empty(local, want, call.rank) for want in wanted)
    return tuple(
        layout.give(part, name, call.mesh, placements, want) for part, name, want in zip(parts, names, wanted, strict=True)
    )


def register(dtensor: type) -> None:
    for name in OPERATORS:
        torch.library.register_torch_dispatch(f"torch_pooling::{name}", dtensor, rule)
