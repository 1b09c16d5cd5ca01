"""Modules that are built from pooling: concatenated, mixed, pyramid, and the heads of classifiers.

Each is its arguments and one call of :mod:`torch_pooling.functional`; those with weights add torch.nn's own layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from torch_pooling import functional as F
from torch_pooling._combined import _check_levels, _check_mode, _check_order, _per_axis
from torch_pooling.modules import NotScriptable, checked_format

__all__ = [
    "AvgMaxPooling",
    "ClassicClassificationHead",
    "ConcatPooling",
    "GAPClassificationHead",
    "MixedPoolingBlock",
    "SpatialPyramidPooling",
]


class _Layer(NotScriptable, nn.Module):
    """With a data_format, which the repr shows when it is not the default."""

    def __init__(self, data_format: str) -> None:
        super().__init__()
        self.data_format = checked_format(data_format)

    def arguments(self) -> list[str]:
        """Of the constructor, as the repr shows them."""
        return []

    def extra_repr(self) -> str:
        last = [f"data_format={self.data_format!r}"] if self.data_format != "channels_first" else []
        return ", ".join([*self.arguments(), *last])

    def planes(self, input: Tensor) -> Tensor:
        """``input`` as [N, C, *spatial], a view."""
        return input.movedim(-1, 1) if self.data_format == "channels_last" else input


class ConcatPooling(_Layer):
    """Adaptive average and maximum along the channels: [N, C, *spatial] to [N, 2 C, *output_size].

    Args: see :func:`torch_pooling.functional.concat_pool`. fastai's AdaptiveConcatPool2d has ``order=("max", "avg")``.
    """

    def __init__(
        self, output_size: Any = 1, *, order: Sequence[str] = ("avg", "max"), data_format: str = "channels_first"
    ) -> None:
        super().__init__(data_format)
        _check_order("ConcatPooling", order)
        self.output_size = output_size
        self.order = tuple(order)

    def forward(self, input: Tensor) -> Tensor:
        return F.concat_pool(input, self.output_size, order=self.order, data_format=self.data_format)

    def arguments(self) -> list[str]:
        return [f"output_size={self.output_size}", f"order={self.order}"]


class AvgMaxPooling(_Layer):
    """(average + maximum) / 2: [N, C, *spatial] to [N, C, *output_size]. See :func:`torch_pooling.functional.avgmax_pool`."""

    def __init__(self, output_size: Any = 1, *, data_format: str = "channels_first") -> None:
        super().__init__(data_format)
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return F.avgmax_pool(input, self.output_size, data_format=self.data_format)

    def arguments(self) -> list[str]:
        return [f"output_size={self.output_size}"]


class SpatialPyramidPooling(_Layer):
    """A row of fixed length from an input of any size: [N, C, *spatial] to [N, C * sum(level ** rank)].

    Args: see :func:`torch_pooling.functional.spatial_pyramid_pool`.
    """

    def __init__(self, levels: Sequence[int] = (1, 2, 4), mode: str = "avg", *, data_format: str = "channels_first") -> None:
        super().__init__(data_format)
        _check_mode("SpatialPyramidPooling", mode)
        _check_levels("SpatialPyramidPooling", levels)
        self.levels = tuple(levels)
        self.mode = mode

    def forward(self, input: Tensor) -> Tensor:
        return F.spatial_pyramid_pool(input, self.levels, self.mode, data_format=self.data_format)

    def arguments(self) -> list[str]:
        return [f"levels={list(self.levels)}", f"mode={self.mode!r}"]


class MixedPoolingBlock(_Layer):
    """Maximum and average over 3x3 windows, mixed by a learned 1x1 convolution back to the channels of the input.

    [N, C, H, W] to [N, C, H, W]; with ``data_format="channels_last"`` [N, H, W, C] to [N, H, W, C], by the same weights. The convolution
    sees 2 C channels, maxima first.
    """

    def __init__(self, in_channels: int, *, data_format: str = "channels_first") -> None:
        super().__init__(data_format)
        self.in_channels = in_channels
        self.conv = nn.Conv2d(2 * in_channels, in_channels, kernel_size=1)

    def forward(self, input: Tensor) -> Tensor:
        mixed: Tensor = self.conv(F.mixed_pool(self.planes(input)))
        return mixed.movedim(1, -1) if self.data_format == "channels_last" else mixed


class GAPClassificationHead(_Layer):
    """Global average, then one linear layer: [N, C, *spatial] to [N, num_classes]; C * num_classes + num_classes parameters.

    With ``data_format="channels_last"`` the input is [N, *spatial, C].
    """

    def __init__(self, in_channels: int, num_classes: int, *, data_format: str = "channels_first") -> None:
        super().__init__(data_format)
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, input: Tensor) -> Tensor:
        scores: Tensor = self.fc(F.global_avg_pool(input, keepdim=False, data_format=self.data_format))
        return scores


class ClassicClassificationHead(_Layer):
    """Flatten, then 4096, 4096 and num_classes, with ReLU and dropout 0.5 between: [N, C, H, W] to [N, num_classes].

    As in VGG (Simonyan and Zisserman, 2014, https://arxiv.org/abs/1409.1556). ``spatial_size`` is H = W, or (H, W). With
    ``data_format="channels_last"`` the input is [N, H, W, C]; the weights are the same, for it is flattened channel by channel all the same.
    """

    def __init__(
        self,
        in_channels: int,
        spatial_size: int | tuple[int, int],
        num_classes: int,
        *,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__(data_format)
        height, width = _per_axis("ClassicClassificationHead", "spatial_size", spatial_size, 2)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_channels * height * width, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, num_classes),
        )

    def forward(self, input: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.planes(input))
        return scores
