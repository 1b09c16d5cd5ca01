"""Modules: each is the torch.nn class of the same name with a ``forward`` that calls our functional twin.

Constructor, attributes, repr, pickling and state are torch.nn's by inheritance, and ``isinstance(m, torch.nn.MaxPool2d)``
holds. What is new (dilation of averages) is keyword-only and shows in the repr only when set.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from torch_pooling import functional as F

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
]


class _Leaf:
    """Makes a module a leaf for torch.fx, which asks whether its ``__module__`` begins with torch.nn, as torch's pools are.

    Only the instance says so: the class, and with it pickling, keeps its true module.
    """

    _keywords: dict[str, Any] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.__module__ = "torch.nn.modules.pooling"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Shows the constructor's real arguments: torch.nn's, and what a class adds as ``_keywords``."""
        super().__init_subclass__(**kwargs)
        if len(cls.__mro__) < 3 or not issubclass(cls, nn.Module) or "__init__" in vars(cls):
            return
        torchs = next(base for base in cls.__mro__ if base.__module__.startswith("torch.nn"))
        signature = inspect.signature(torchs)
        extra = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in cls._keywords.items()
        ]
        cls.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *extra])  # type: ignore[attr-defined]


class MaxPool1d(_Leaf, nn.MaxPool1d):
    """``torch.nn.MaxPool1d``, see :func:`torch_pooling.functional.max_pool1d`."""

    def forward(self, input: Tensor) -> Any:
        return F.max_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class MaxPool2d(_Leaf, nn.MaxPool2d):
    """``torch.nn.MaxPool2d``, see :func:`torch_pooling.functional.max_pool2d`."""

    def forward(self, input: Tensor) -> Any:
        return F.max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class MaxPool3d(_Leaf, nn.MaxPool3d):
    """``torch.nn.MaxPool3d``, see :func:`torch_pooling.functional.max_pool3d`."""

    def forward(self, input: Tensor) -> Any:
        return F.max_pool3d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class _DilatedAverage(_Leaf):
    """The keyword-only ``dilation`` of our averages."""

    _keywords = {"dilation": 1}
    dilation: Any

    def __init__(self, *args: Any, dilation: Any = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dilation = dilation

    def extra_repr(self) -> str:
        shown: str = super().extra_repr()  # type: ignore[misc]
        return shown if self.dilation == 1 else f"{shown}, dilation={self.dilation}"


class AvgPool1d(_DilatedAverage, nn.AvgPool1d):
    """``torch.nn.AvgPool1d``, see :func:`torch_pooling.functional.avg_pool1d`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            None,
            dilation=self.dilation,
        )


class AvgPool2d(_DilatedAverage, nn.AvgPool2d):
    """``torch.nn.AvgPool2d``, see :func:`torch_pooling.functional.avg_pool2d`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
            dilation=self.dilation,
        )


class AvgPool3d(_DilatedAverage, nn.AvgPool3d):
    """``torch.nn.AvgPool3d``, see :func:`torch_pooling.functional.avg_pool3d`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool3d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
            dilation=self.dilation,
        )


class AdaptiveAvgPool1d(_Leaf, nn.AdaptiveAvgPool1d):
    """``torch.nn.AdaptiveAvgPool1d``, see :func:`torch_pooling.functional.adaptive_avg_pool1d`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_Leaf, nn.AdaptiveAvgPool2d):
    """``torch.nn.AdaptiveAvgPool2d``, see :func:`torch_pooling.functional.adaptive_avg_pool2d`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(_Leaf, nn.AdaptiveAvgPool3d):
    """``torch.nn.AdaptiveAvgPool3d``, see :func:`torch_pooling.functional.adaptive_avg_pool3d`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool3d(input, self.output_size)


class AdaptiveMaxPool1d(_Leaf, nn.AdaptiveMaxPool1d):
    """``torch.nn.AdaptiveMaxPool1d``, see :func:`torch_pooling.functional.adaptive_max_pool1d`."""

    def forward(self, input: Tensor) -> Any:
        return F.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_Leaf, nn.AdaptiveMaxPool2d):
    """``torch.nn.AdaptiveMaxPool2d``, see :func:`torch_pooling.functional.adaptive_max_pool2d`."""

    def forward(self, input: Tensor) -> Any:
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(_Leaf, nn.AdaptiveMaxPool3d):
    """``torch.nn.AdaptiveMaxPool3d``, see :func:`torch_pooling.functional.adaptive_max_pool3d`."""

    def forward(self, input: Tensor) -> Any:
        return F.adaptive_max_pool3d(input, self.output_size, self.return_indices)


class GlobalAvgPool(_Leaf, nn.Module):
    """Average over all spatial axes of [N, C, *spatial]: [N, C, 1, ...], or [N, C] with ``keepdim=False``."""

    def __init__(self, keepdim: bool = True) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(self, input: Tensor) -> Tensor:
        return F.global_avg_pool(input, keepdim=self.keepdim)

    def extra_repr(self) -> str:
        return f"keepdim={self.keepdim}"


class GlobalMaxPool(_Leaf, nn.Module):
    """Maximum over all spatial axes of [N, C, *spatial]: [N, C, 1, ...], or [N, C] with ``keepdim=False``."""

    def __init__(self, keepdim: bool = True, return_indices: bool = False) -> None:
        super().__init__()
        self.keepdim = keepdim
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        return F.global_max_pool(input, keepdim=self.keepdim, return_indices=self.return_indices)

    def extra_repr(self) -> str:
        return f"keepdim={self.keepdim}, return_indices={self.return_indices}"
