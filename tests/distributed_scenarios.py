# SPDX-License-Identifier: BSD-3-Clause
"""What test_distributed.py runs on each of 2 or 4 processes: ``python distributed_scenarios.py RANK WORLD FOLDER``.

Scenarios are functions; each compares with the same work done by one process, and its traceback, if any, is left in FOLDER. A rank
that fails stops at once: the others then fail in their next collective instead of waiting.
"""
from __future__ import annotations

import itertools
import json
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import torch_pooling
import torch_pooling.functional as F
from distributed_calls import lies_apart, linear, operator_calls
from torch_pooling._library import OPERATORS, ops

TIMEOUT = timedelta(seconds=120)  # of one collective: ranks on a busy machine compile at their own pace
SCENARIOS: dict[str, tuple[int, Callable[[], None]]] = {}  # by name: the number of processes, and what they do


def scenario(world: int) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def add(function: Callable[[], None]) -> Callable[[], None]:
        SCENARIOS[function.__name__] = (world, function)
        return function

    return add


# --- training ---------------------------------------------------------------------------------------------------------


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), torch_pooling.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), torch_pooling.AvgPool2d(2),
        torch_pooling.ConcatPooling(), nn.Flatten(), nn.Linear(16, 5),
    )


def train(model: nn.Module, part: slice) -> list[Tensor]:
    """Losses of 3 steps on a fixed batch of 8, of which this process takes a part."""
    torch.manual_seed(1)
    images, labels = torch.randn(8, 3, 16, 16), torch.randint(0, 5, (8,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(images[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def check_training(wrapped: nn.Module) -> None:
    alone = train(small_model(), slice(None))
    size = 8 // dist.get_world_size()
    together = train(wrapped, slice(size * dist.get_rank(), size * (dist.get_rank() + 1)))
    mean = torch.stack(together)
    dist.all_reduce(mean)
    torch.testing.assert_close(mean / dist.get_world_size(), torch.stack(alone), rtol=1e-5, atol=1e-6)
    assert alone[2] < alone[0] - 0.05, f"the model learns nothing: {alone}"


@scenario(2)
def ddp_trains_as_one_process() -> None:
    check_training(nn.parallel.DistributedDataParallel(small_model()))


@scenario(2)
def fsdp2_trains_as_one_process() -> None:
    from torch.distributed.fsdp import fully_shard

    model = small_model()
    for layer in model:
        if isinstance(layer, (nn.Conv2d, torch_pooling.MaxPool2d)):
            fully_shard(layer, mesh=mesh(2))
    fully_shard(model, mesh=mesh(2))
    assert all(type(parameter).__name__ == "DTensor" for parameter in model.parameters())
    check_training(model)


# --- DTensors ---------------------------------------------------------------------------------------------------------


def mesh(*sizes: int) -> Any:
    return dist.device_mesh.init_device_mesh("cpu", sizes)


def spread(tensor: Tensor, on: Any, placements: list[Any]) -> Any:
    """A DTensor with the values of ``tensor``; of partial sums each rank has another share."""
    from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor

    partial = [i for i, placement in enumerate(placements) if isinstance(placement, Partial)]
    result = distribute_tensor(tensor.detach(), on, [Replicate() if i in partial else p for i, p in enumerate(placements)])
    local = result.to_local()
    for i in partial:
        ranks = on.size(i)
        share = 2 * (on.get_coordinate()[i] + 1) / (ranks * (ranks + 1))
        local = local * (share if placements[i].reduce_op == "sum" else share * ranks)
    if not partial:
        return result
    return DTensor.from_local(local, on, placements, run_check=False, shape=tensor.shape, stride=tensor.stride())


def communication() -> Any:
    from torch.distributed.tensor.debug import CommDebugMode

    return CommDebugMode()


def same(result: Any, expected: Any, exact: bool = False) -> None:
    results, wanted = (part if isinstance(part, tuple) else (part,) for part in (result, expected))
    for one, want in zip(results, wanted, strict=True):
        assert one.shape == want.shape and one.dtype == want.dtype and one.stride() == want.stride(), (one, want)
        whole = one.full_tensor()
        assert whole.shape == want.shape
        if exact:
            assert torch.equal(whole.nan_to_num(7.0) if want.is_floating_point() else whole,
                               want.nan_to_num(7.0) if want.is_floating_point() else want)
        else:
            torch.testing.assert_close(whole, want, equal_nan=True)


def check_operators(on: Any, placements: list[Any], communicates: Callable[[str, tuple[Any, ...]], bool | None], **sizes: Any) -> set[str]:
    """Every operator on tensors placed so; whether it may communicate (None: either)."""
    seen = set()
    for name, args in operator_calls(**sizes):
        operator = getattr(ops, name)
        placed = [of_masks(placements) if arg.dtype == torch.bool
                  else None if any(p.is_shard() and p.dim >= arg.dim() for p in placements) else placements
                  if arg.is_floating_point() or not any(p.is_partial() for p in placements) else replicated(placements)
                  for arg in args if isinstance(arg, Tensor)]
        if None in placed:
            continue  # a flat result has no such axis
        expected = operator(*args)
        order = iter(placed)
        given = [spread(arg, on, next(order)) if isinstance(arg, Tensor) else arg for arg in args]
        with communication() as counted:
            result = operator(*given)
        allowed = communicates(name, args)
        count = counted.get_total_counts()
        assert allowed is None or (count > 0) == allowed, f"{name}{args[1:]} on {placements}: {count} collectives"
        try:
            same(result, expected)
        except Exception as error:
            raise AssertionError(f"{name}{[arg for arg in args if not isinstance(arg, Tensor)]} on {placements}") from error
        seen.add(name)
    return seen


def of_masks(placements: list[Any]) -> list[Any]:
    """Of [N, *spatial], which has no channels."""
    from torch.distributed.tensor import Replicate, Shard

    return [placement if placement == Shard(0) else Replicate() for placement in placements]


def replicated(placements: list[Any]) -> list[Any]:
    from torch.distributed.tensor import Replicate

    return [Replicate() if placement.is_partial() else placement for placement in placements]


@scenario(2)
def operators_on_two_ranks() -> None:
    from torch.distributed.tensor import Partial, Replicate, Shard

    on = mesh(2)
    assert check_operators(on, [Replicate()], lambda name, args: False) == set(OPERATORS)
    assert check_operators(on, [Shard(0)], lambda name, args: False) == set(OPERATORS)
    seen = check_operators(on, [Shard(1)], lambda name, args: None if lies_apart(name, args) else False)
    assert seen == set(OPERATORS)
    check_operators(on, [Shard(1)], lambda name, args: None if lies_apart(name, args) else False, channels_last=True)
    check_operators(on, [Shard(2)], lambda name, args: None)
    check_operators(on, [Shard(3)], lambda name, args: None, channels_last=True)
    for operation in ("sum", "avg"):
        floats = check_operators(on, [Partial(operation)], lambda name, args: not linear(name, args) and "indices" not in name)
        assert floats == set(OPERATORS)


@scenario(4)
def operators_on_four_ranks() -> None:
    """Two dimensions of the mesh; more ranks than samples, channels or rows."""
    from torch.distributed.tensor import Partial, Shard

    line, square = mesh(4), mesh(2, 2)
    for placement, sizes in ((Shard(0), {"batch": 2}), (Shard(1), {"channels": 3}), (Shard(3), {"batch": 1})):
        check_operators(line, [placement], lambda name, args: None, few=True, **sizes)
    for placements in ([Shard(0), Shard(1)], [Shard(1), Shard(0)], [Shard(1), Shard(1)], [Shard(0), Partial("sum")],
                       [Shard(0), Shard(2)], [Shard(2), Shard(3)], [Shard(3), Shard(3)], [Shard(3), Shard(1)]):
        check_operators(square, placements, lambda name, args: None, few=True)


@scenario(4)
def spatially_sharded_global_pools_join_with_one_all_reduce() -> None:
    from torch.distributed.tensor import Shard

    torch.manual_seed(3)
    on = mesh(4)
    plane = torch.randn(2, 3, 6, 5)  # rows 2, 2, 2 and none
    special = plane.clone()
    special[0, 0, 4, 1] = special[0, 0, 1, 3] = torch.nan  # the last one's index
    special[0, 1] = -torch.inf
    special[0, 2] = 4.0  # all equal: the first
    special[1, 0, 5, 4] = special[1, 0, 2, 2] = torch.inf
    for values, dtype in itertools.product(
        (plane, special), (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.int32, torch.int64)
    ):
        if not dtype.is_floating_point:
            values = (values.nan_to_num(3.0, 90.0, -90.0) * (1 if dtype == torch.int8 else 2**20)).to(dtype)
            values[1, 1] = torch.iinfo(dtype).min
        x = values.to(dtype)
        for placement in (Shard(2), Shard(3)):
            sharded = spread(x, on, [placement])
            for function in (F.global_max_pool, lambda t: F.global_max_pool(t, return_indices=True), F.global_avg_pool):
                if function is F.global_avg_pool and not dtype.is_floating_point:
                    continue
                with communication() as counted:
                    result = function(sharded)
                two = dtype.itemsize == 8 and isinstance(result, tuple)  # value and position do not fit one integer
                counts = {str(name): count for name, count in counted.get_comm_counts().items()}
                assert list(counts.values()) == [1 + two] and "all_reduce" in next(iter(counts)), (dtype, counts)
                same(result, function(x), exact=function is not F.global_avg_pool)


@scenario(4)
def gradients_of_sharded_inputs() -> None:
    """First and second, of functions as users call them."""
    from torch.distributed.tensor import Replicate, Shard

    torch.manual_seed(4)
    square = mesh(2, 2)
    x = torch.randn(3, 4, 8, 9, requires_grad=True)
    functions: dict[str, Callable[[Any], Any]] = {
        "max": lambda t: F.max_pool2d(t, 3, 2, 1), "avg": lambda t: F.avg_pool2d(t, 3, 1, "same", count_include_pad=False),
        "sum": lambda t: F.sum_pool2d(t, 2), "adaptive max": lambda t: F.adaptive_max_pool2d(t, (3, 2)),
        "adaptive avg": lambda t: F.adaptive_avg_pool2d(t, (3, None)), "global avg": F.global_avg_pool, "global max": F.global_max_pool,
        "concat": F.concat_pool, "avgmax": lambda t: F.avgmax_pool(t, 2), "mixed": F.mixed_pool,
        "pyramid": F.spatial_pyramid_pool, "max pyramid": lambda t: F.spatial_pyramid_pool(t, (1, 2), "max"),
    }
    for placements in ([Shard(0), Shard(1)], [Shard(2), Shard(0)], [Replicate(), Shard(3)], [Shard(1), Shard(1)]):
        for name, function in functions.items():
            alone = function(x)
            weight = torch.randn_like(alone)
            (expected,) = torch.autograd.grad((alone * alone * weight).sum(), x, create_graph=True)
            (second,) = torch.autograd.grad((expected * expected).sum(), x)
            sharded = spread(x, square, placements).requires_grad_()
            output = function(sharded)
            weights = spread(weight, square, list(output.placements))
            with communication() as counted:
                (gradient,) = torch.autograd.grad((output * output * weights).sum(), sharded, create_graph=True)
            if set(placements) <= {Shard(0), Shard(1)} and name not in ("concat", "mixed", "pyramid", "max pyramid"):
                assert counted.get_total_counts() == 0, (name, counted.get_comm_counts())
                assert output.placements == gradient.placements == tuple(placements), name
            torch.testing.assert_close(gradient.full_tensor(), expected, msg=lambda text: f"{name} on {placements}: {text}")
            (twice,) = torch.autograd.grad((gradient * gradient).sum(), sharded)
            torch.testing.assert_close(twice.full_tensor(), second, msg=lambda text: f"{name} on {placements}: {text}")


@scenario(2)
def wrong_calls_are_refused_before_any_communication() -> None:
    from torch.distributed.tensor import Shard

    x = spread(torch.randn(2, 3, 8, 8), mesh(2), [Shard(2)])
    with communication() as counted:
        for call, words in (
            (lambda: F.max_pool2d(x, 3, padding=2), "at most half"),
            (lambda: F.avg_pool2d(x, 9), "too large"),
            (lambda: ops.max_pool_backward(x, torch.zeros(2, 3, 8, 8, dtype=torch.uint8), [16, 16], 2, [2], [], [0], [1], 0, False),
             "offsets must be a DTensor"),
        ):
            try:
                call()
            except RuntimeError as error:
                assert words in str(error), error
            else:
                raise AssertionError(f"not refused: {words}")
    assert counted.get_total_counts() == 0
    # A shard of other rows than DTensor's own is noticed, not taken for what it is not.
    from torch.distributed.tensor import DTensor

    rows = 3 if dist.get_rank() == 0 else 5
    odd = DTensor.from_local(torch.randn(2, 3, rows, 8), mesh(2), [Shard(2)], run_check=False, shape=(2, 3, 8, 8), stride=(192, 64, 8, 1))
    try:
        F.global_avg_pool(odd)
    except RuntimeError as error:
        assert "torch.chunk" in str(error)
    else:
        raise AssertionError("not refused")


@scenario(2)
def compiled_functions_take_dtensors() -> None:
    from torch.distributed.tensor import Shard

    def function(t: Any) -> Any:
        return F.max_pool2d(t, 2) * 2, F.global_avg_pool(t)

    torch.manual_seed(5)
    x = torch.randn(4, 3, 8, 8, requires_grad=True)
    sharded = spread(x, mesh(2), [Shard(0)]).requires_grad_()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    outputs = compiled(sharded)
    for one, want in zip(outputs, function(x), strict=True):
        torch.testing.assert_close(one.full_tensor(), want)
    (gradient,) = torch.autograd.grad(sum(one.sum() for one in outputs), sharded)
    (expected,) = torch.autograd.grad(sum(one.sum() for one in function(x)), x)
    torch.testing.assert_close(gradient.full_tensor(), expected)


@scenario(4)
def ranks_outside_of_the_mesh_do_nothing() -> None:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard

    three = DeviceMesh("cpu", [0, 1, 2])
    local = torch.randn(2, 3, 8, 8)
    for placement, shape in ((Shard(0), (6, 3, 8, 8)), (Shard(2), (2, 3, 24, 8))):
        strides = (shape[1] * shape[2] * shape[3], shape[2] * shape[3], 8, 1)
        x = DTensor.from_local(local, three, [placement], run_check=False, shape=shape, stride=strides)
        output = F.global_max_pool(x)
        assert output.shape == (*shape[:2], 1, 1)
        if dist.get_rank() == 3:
            assert output.to_local().numel() == 0
        elif placement == Shard(0):
            assert torch.equal(output.to_local(), F.global_max_pool(local))


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world, timeout=TIMEOUT)
    for name, (processes, function) in SCENARIOS.items():
        if processes != world:
            continue
        (folder / f"{name}.{rank}").write_text(json.dumps("was begun"))
        try:
            function()
        except BaseException:
            (folder / f"{name}.{rank}").write_text(json.dumps(traceback.format_exc()))
            raise
        (folder / f"{name}.{rank}").write_text(json.dumps(None))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
