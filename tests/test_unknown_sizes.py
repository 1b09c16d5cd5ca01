"""Sizes that depend on data: exports take them in every layout, and fake results have the strides of real ones, which compiled code goes by."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from torch_pooling import functional

SIZES = {1: (4, 5, 16), 2: (4, 5, 16, 12), 3: (4, 5, 8, 6, 10)}


def strides_of(sizes: list[Any], channel: int | None, channels_last: bool) -> list[Any]:
    """Of a dense tensor whose channels are axis `channel`."""
    order = list(range(len(sizes)))
    if channels_last and channel is not None:
        order = [*order[:channel], *order[channel + 1 :], channel]
    strides: list[Any] = [1] * len(sizes)
    step: Any = 1
    for axis in reversed(order):
        strides[axis] = step
        step = step * sizes[axis]
    return strides


FUNCTIONS: dict[str, Callable[[int, Tensor], Tensor]] = {
    "max": lambda rank, x: getattr(functional, f"max_pool{rank}d")(x, 2),
    "avg": lambda rank, x: getattr(functional, f"avg_pool{rank}d")(x, 3, 2, 1),
    "adaptive": lambda rank, x: getattr(functional, f"adaptive_avg_pool{rank}d")(x, 4),
    "same": lambda rank, x: getattr(functional, f"max_pool{rank}d")(x, 3, 2, "same"),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_fake_strides_are_real_ones(rank: int, batched: bool, channels_last: bool) -> None:
    real_sizes = list(SIZES[rank]) if batched else list(SIZES[rank][1:])
    channel = 1 if batched else 0
    for unknown in range(len(real_sizes)):
        for name, function in FUNCTIONS.items():
            real = function(rank, torch.empty_strided(real_sizes, strides_of(real_sizes, channel, channels_last)))
            environment = ShapeEnv()
            with FakeTensorMode(shape_env=environment):
                size = environment.create_unbacked_symint()
                torch._check(size >= 2)
                torch._check(size <= 1000)
                sizes = [size if axis == unknown else length for axis, length in enumerate(real_sizes)]
                fake = function(rank, torch.empty_strided(sizes, strides_of(sizes, channel, channels_last)))
            known = [axis for axis, length in enumerate(fake.shape) if isinstance(length, int)]
            assert [fake.shape[axis] for axis in known] == [real.shape[axis] for axis in known], (name, unknown)
            # Axes in the order of their strides: which one is innermost, and what it says.
            expected = strides_of(list(fake.shape), channel, channels_last)
            assert all(bool(stride == other) for stride, other in zip(fake.stride(), expected)), (name, unknown, fake.stride(), expected)
            assert real.stride() == tuple(strides_of(list(real.shape), channel, channels_last)), (name, unknown)


class Called(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, input: Tensor, mask: Tensor) -> Tensor:
        return self.function(input, mask)


def last(*shape: int) -> Tensor:
    content = torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
    return content.movedim(1, -1).contiguous().movedim(-1, 1)


MASK = torch.arange(16) % 3 > 0
SELECTED: dict[str, tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]] = {
    "rows": (last(2, 3, 16, 16), lambda x, m: functional.max_pool2d(x[:, :, m], 2)),
    "rows of [N, H, W, C]": (last(2, 3, 16, 16), lambda x, m: functional.avg_pool2d(x.permute(0, 2, 3, 1)[:, m].permute(0, 3, 1, 2), 2)),
    "data_format": (
        last(2, 3, 16, 16).permute(0, 2, 3, 1), lambda x, m: functional.max_pool2d(x[:, m], 2, data_format="channels_last")
    ),
    "images": (last(16, 3, 8, 8), lambda x, m: functional.avg_pool2d(x[m], 3, 2, 1)),
    "channels": (last(2, 16, 8, 8), lambda x, m: functional.max_pool2d(x[:, m], 2)),
    "planes of a volume": (last(2, 3, 16, 8, 8), lambda x, m: functional.max_pool3d(x[:, :, m], 2)),
    "average of a volume": (torch.randn(2, 3, 16, 8, 8), lambda x, m: functional.avg_pool3d(x[:, :, m], 2)),
    "adaptive": (last(2, 3, 16, 16), lambda x, m: functional.adaptive_avg_pool2d(x[:, :, m], 4)),
    "tokens": (torch.randn(2, 16, 5), lambda x, m: functional.avg_pool1d(x[:, m].transpose(1, 2), 3)),
    "one image": (torch.randn(16, 12, 5), lambda x, m: functional.max_pool2d(x[m].permute(2, 0, 1), 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", SELECTED)
def test_selections_are_exported(name: str) -> None:
    input, function = SELECTED[name]
    program = torch.export.export(Called(function), (input, MASK)).module()
    for mask in (MASK, ~MASK, torch.ones(16, dtype=torch.bool)):
        torch.testing.assert_close(program(input, mask), function(input, mask), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokens", "one image", "rows of [N, H, W, C]"])
def test_compiled_code_reads_what_kernels_write(name: str) -> None:
    """It goes by the strides that fake tensors promise: `+ 1` runs in code of Inductor's."""
    input, function = SELECTED[name]
    settings = {"capture_dynamic_output_shape_ops": True}
    with torch._dynamo.config.patch(settings):
        torch._dynamo.reset()
        compiled = torch.compile(lambda x, m: function(x, m) + 1, fullgraph=True)
        for mask in (MASK, ~MASK):
            torch.testing.assert_close(compiled(input, mask), function(input, mask) + 1, rtol=1e-6, atol=1e-6)


def test_a_kernel_too_large_is_refused_when_it_runs() -> None:
    """Torch's avg_pool3d refuses kernels larger than the unpadded input; where a size is not known, nobody can yet."""
    program = torch.export.export(Called(lambda x, m: functional.avg_pool3d(x[:, :, m], 3, 1, 1)), (torch.randn(1, 2, 16, 8, 8), MASK)).module()
    with pytest.raises(RuntimeError, match="kernel_size"):
        program(torch.randn(1, 2, 16, 8, 8), torch.arange(16) < 2)
