# SPDX-License-Identifier: BSD-3-Clause
"""The rows of the benchmark, as data, and what follows from a row by definition: the calls, the bytes, the saved offset.

Four groups: `everyday` is one row for each kind of operator at an ordinary size, `networks` is what well-known networks
and filters pool, `strides` windows that move by three and more, and planes of one column, `small` planes of a few elements and small
volumes. The dozen of --quick is marked here, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as torch_functional

from torch_pooling import functional
from torch_pooling._demo.agreement import Pool

GROUPS = {  # and their types
    "everyday": ("float32", "bfloat16"),
    "networks": ("float32", "bfloat16", "float16"),
    "strides": ("float32", "bfloat16"),
    "small": ("float32", "bfloat16"),
}
LAYOUTS = ("channels_first", "channels_last")
MODES = ("inference", "training", "backward")  # forward without and with a graph; backward alone


@dataclass(frozen=True)
class Case:
    group: str
    origin: str  # where such a row comes from
    kind: str  # "max" or "avg"
    shape: tuple[int, ...]  # [N, C, *spatial]
    kernel: int | tuple[int, ...] = ()  # a sliding window if it is given,
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    output_size: int = 0  # else an adaptive one if this is given, else a global one
    quick: bool = False

    @property
    def rank(self) -> int:
        return len(self.shape) - 2

    @property
    def selects(self) -> bool:
        return self.kind == "max"

    @property
    def window(self) -> str:
        if self.kernel:
            words = ["x".join(map(str, self.full(self.kernel)))]
            words += [f"s{'x'.join(map(str, value))}" for value in self.short(self.stride)]
            return " ".join(words + [f"p{'x'.join(map(str, value))}" for value in self.short(self.padding or None)])
        return f"adaptive {self.output_size}" if self.output_size else "global"

    @property
    def name(self) -> str:
        return f"{self.kind} {self.window} on {'x'.join(map(str, self.shape))}"

    def full(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        return (value,) * self.rank if isinstance(value, int) else value

    def short(self, value: int | tuple[int, ...] | None) -> list[tuple[int, ...]]:
        return [] if value is None else [(value,) if isinstance(value, int) else value]

    def call(self) -> tuple[str, dict[str, Any]]:
        """The name in torch_pooling.functional and the arguments after the input."""
        if self.kernel:
            return f"{self.kind}_pool{self.rank}d", {"kernel_size": self.kernel, "stride": self.stride, "padding": self.padding}
        if self.output_size:
            return f"adaptive_{self.kind}_pool{self.rank}d", {"output_size": self.output_size}
        return f"global_{self.kind}_pool", {}

    def ours(self) -> Pool:
        name, arguments = self.call()
        function = getattr(functional, name)
        return lambda x: function(x, **arguments)

    def theirs(self) -> Pool:
        """torch's; an adaptive pool with one output stands in for a global one, which torch lacks."""
        name, arguments = self.call()
        if not (self.kernel or self.output_size):
            name, arguments = f"adaptive_{self.kind}_pool{self.rank}d", {"output_size": 1}
        function = getattr(torch_functional, name)
        return lambda x: function(x, **arguments)

    def taps(self) -> int:
        """Elements of the largest window."""
        if self.kernel:
            return math.prod(self.full(self.kernel))
        outputs = self.output_size or 1
        return math.prod(
            max(-(-(i + 1) * size // outputs) - i * size // outputs for i in range(outputs)) for size in self.shape[2:]
        )

    def offset_bytes(self) -> int:
        """Bytes that a maximum's training forward must remember for each output: a place in the window."""
        if not self.selects:
            return 0
        return 1 if self.taps() <= 2**8 else 2 if self.taps() <= 2**16 else 4

    def bytes_moved(self, mode: str, outputs: int, element: int) -> int:
        """Each input read once, each output written once (backward: the other way round), plus the saved offset."""
        return (math.prod(self.shape) + outputs) * element + (0 if mode == "inference" else outputs * self.offset_bytes())


def tensor(case: Case, dtype: torch.dtype, layout: str, device: str) -> Tensor:
    """Normal numbers in this memory order; one spatial axis has channels-last, too, as a transposed tensor."""
    generator = torch.Generator(device=device).manual_seed(0)
    if layout == "channels_first":
        return torch.randn(case.shape, generator=generator, device=device).to(dtype)
    batch, channels, *spatial = case.shape
    return torch.randn(batch, *spatial, channels, generator=generator, device=device).to(dtype).movedim(-1, 1)


def both(
    group: str,
    origin: str,
    shape: tuple[int, ...],
    kernel: int | tuple[int, ...] = (),
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    output_size: int = 0,
    quick: str = "",
) -> tuple[Case, ...]:
    """The same window as a maximum and as an average; `quick` names the kinds that --quick takes."""
    kinds = ("max", "avg")
    return tuple(Case(group, origin, kind, shape, kernel, stride, padding, output_size, kind in quick.split()) for kind in kinds)


EVERYDAY = (
    Case("everyday", "ResNet stem", "max", (8, 64, 112, 112), 3, 2, 1, quick=True),
    Case("everyday", "halving", "avg", (8, 64, 112, 112), 2, quick=True),
    Case("everyday", "halving", "max", (8, 64, 56, 56), 2, quick=True),
    *both("everyday", "Inception branch", (8, 192, 28, 28), 3, 1, 1, quick="max avg"),
    *both("everyday", "head", (8, 512, 14, 14), quick="avg"),
    *both("everyday", "AlexNet head", (8, 256, 13, 13), output_size=7, quick="avg"),
    *both("everyday", "sound", (8, 64, 16000), 4, 2, quick="max"),
    *both("everyday", "volume", (1, 16, 64, 64, 64), 2, quick="avg"),
)

NETWORKS = (
    *both("networks", "ResNet stem", (32, 64, 112, 112), 3, 2, 1, quick="max"),
    *both("networks", "ResNet stem, batch 1", (1, 64, 112, 112), 3, 2, 1),
    Case("networks", "VGG, pool 1", "max", (16, 64, 224, 224), 2),
    Case("networks", "VGG, pool 2", "max", (16, 128, 112, 112), 2),
    Case("networks", "VGG, pool 3", "max", (16, 256, 56, 56), 2),
    Case("networks", "VGG, pool 4", "max", (16, 512, 28, 28), 2),
    Case("networks", "VGG, pool 5", "max", (16, 512, 14, 14), 2),
    *both("networks", "Inception branch", (32, 288, 35, 35), 3, 1, 1),
    Case("networks", "Inception reduction", "max", (32, 288, 35, 35), 3, 2),
    Case("networks", "DenseNet transition", "avg", (32, 128, 56, 56), 2),
    *both("networks", "U-Net, level 1", (4, 64, 256, 256), 2),
    *both("networks", "U-Net, level 1, batch 1", (1, 64, 568, 568), 2),
    Case("networks", "U-Net, level 2, batch 1", "max", (1, 128, 280, 280), 2),
    Case("networks", "U-Net, level 3, batch 1", "max", (1, 256, 136, 136), 2),
    Case("networks", "U-Net, level 4, batch 1", "max", (1, 512, 64, 64), 2),
    *both("networks", "ResNet-50 head", (32, 2048, 7, 7), quick="avg"),
    *both("networks", "ResNet-50 head, batch 1", (1, 2048, 7, 7)),
    *both("networks", "squeeze and excitation", (32, 256, 56, 56)),
    *both("networks", "few large planes", (1, 64, 1024, 1024)),
    *both("networks", "VGG head", (32, 512, 14, 14), output_size=7),
    *both("networks", "VGG head, uneven", (32, 512, 13, 13), output_size=7),
    *(Case("networks", "PSPNet", "avg", (2, 2048, 60, 60), output_size=size) for size in (1, 2, 3, 6)),
    Case("networks", "YOLO SPPF", "max", (16, 256, 20, 20), 5, 1, 2, quick=True),
    *(Case("networks", "YOLO SPP", "max", (16, 512, 20, 20), size, 1, size // 2) for size in (5, 9, 13)),
    *(
        case
        for size in (3, 15, 31, 101)
        for case in both("networks", "box filter", (1, 32, 256, 256), size, 1, size // 2)
    ),
    *both("networks", "sound", (32, 64, 16000), 4, 2),
    *both("networks", "sound, long window", (32, 64, 16000), 160, 80),
    *both("networks", "video, one frame deep", (8, 64, 16, 56, 56), (1, 3, 3), (1, 2, 2), (0, 1, 1)),
    *both("networks", "video", (8, 64, 16, 56, 56), 3, 2, 1),
    *both("networks", "medical volume", (1, 32, 128, 128, 128), 2),
)

STRIDES = (
    *both("strides", "M5, sound", (8, 64, 16000), 4, 4),
    *both("strides", "sound", (8, 64, 16000), 3, 3),
    *both("strides", "sound", (8, 64, 16000), 5, 5),
    *both("strides", "sound", (8, 64, 16000), 5, 4, 2),
    *both("strides", "pictures", (8, 64, 112, 112), 3, 3),
    *both("strides", "pictures", (8, 64, 112, 112), 4, 4),
    *both("strides", "pictures", (8, 64, 112, 112), 5, 3, 2),
    Case("strides", "Deep4Net, EEG", "max", (64, 50, 1000, 1), (3, 1), (3, 1)),
    Case("strides", "ShallowFBCSPNet, EEG", "avg", (64, 40, 1000, 1), (75, 1), (15, 1)),
    *both("strides", "one column", (8, 64, 16000, 1), (2, 1), (2, 1)),
    *both("strides", "one column", (8, 64, 16000, 1), (3, 1), (1, 1), (1, 0)),
)

SMALL = (
    *both("small", "I3D, last stage", (8, 832, 4, 7, 7), 2, 2),
    *both("small", "I3D, branch", (2, 832, 4, 7, 7), 3, 1, 1),
    *both("small", "I3D, third stage", (4, 480, 8, 14, 14), 3, 2, 1),
    *both("small", "small volumes", (8, 64, 5, 5, 5), 3, 2),
    *both("small", "medical volume, batch 1", (1, 16, 32, 32, 32), 4, 2, 1),
    *both("small", "pictures, last stage", (32, 512, 7, 7), 3, 2, 1),
    *both("small", "pictures, last stage", (8, 512, 7, 7), 5, 1, 2),
    *both("small", "pyramid, uneven", (8, 256, 14, 14), output_size=3),
    *both("small", "PSPNet, uneven", (1, 512, 65, 65), output_size=6),
)

CASES = EVERYDAY + NETWORKS + STRIDES + SMALL
