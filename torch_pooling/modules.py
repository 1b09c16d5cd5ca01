"""Modules: each is the torch.nn class of the same name with a ``forward`` that calls our functional twin.

Constructor, attributes, repr, pickling and state are torch.nn's by inheritance, and ``isinstance(m, torch.nn.MaxPool2d)``
holds. What is new (data_format, dilation of averages) is keyword-only and shows in the repr only when set.
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
    "SumPool1d",
    "SumPool2d",
    "SumPool3d",
]


def checked_format(data_format: str) -> str:
    if data_format not in ("channels_first", "channels_last"):
        raise ValueError(f"data_format must be 'channels_first' or 'channels_last', but got {data_format!r}")
    return data_format


class NotScriptable:
    """torch.jit.script, which asks a module for itself, gets an answer; else it would stumble over the first of our functions."""

    def __prepare_scriptable__(self) -> Any:
        raise RuntimeError(
            f"torch.jit.script cannot compile torch_pooling.{type(self).__name__}: call torch_pooling.revert(model) first, which "
            "gives a converted model torch's own layers back (a layer that was built as ours: build torch.nn's instead), or use "
            "torch.jit.trace, torch.compile or torch.export"
        )


class _Leaf(NotScriptable):
    """What all of these modules share.

    They are leaves for torch.fx, which asks whether a module's ``__module__`` begins with torch.nn, as torch's pools are. Only
    the instance says so: the class, and with it pickling, keeps its true module.

    The keyword-only arguments of ours stand in ``_keywords``; class attributes hold their defaults, instances what was set.
    """

    _keywords: dict[str, Any] = {"data_format": "channels_first"}
    data_format: str = "channels_first"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ours = {name: kwargs.pop(name) for name in self._keywords if name in kwargs}
        super().__init__(*args, **kwargs)
        if type(self).__module__.split(".")[0] == "torch_pooling":  # of a class of somebody else's, fx traces what forward does
            self.__module__ = "torch.nn.modules.pooling"
        checked_format(ours.get("data_format", "channels_first"))
        for name, value in ours.items():
            if value != self._keywords[name]:
                setattr(self, name, value)

    def extra_repr(self) -> str:
        shown: str = super().extra_repr()  # type: ignore[misc]
        changed = {name: getattr(self, name) for name in self._keywords if name in vars(self)}
        return ", ".join(filter(None, [shown, *(f"{name}={value!r}" for name, value in changed.items())]))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Shows the constructor's real arguments: torch.nn's, and what a class adds as ``_keywords``; or its own, if it has one."""
        super().__init_subclass__(**kwargs)
        torchs = next((base for base in cls.__mro__ if base.__module__ == "torch.nn.modules.pooling"), None)
        if torchs is None:
            return
        if "__init__" in vars(cls):
            own = inspect.signature(cls.__init__)
            cls.__signature__ = own.replace(parameters=list(own.parameters.values())[1:])  # type: ignore[attr-defined]
            return
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
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
            data_format=self.data_format,
        )


class MaxPool2d(_Leaf, nn.MaxPool2d):
    """``torch.nn.MaxPool2d``, see :func:`torch_pooling.functional.max_pool2d`."""

    def forward(self, input: Tensor) -> Any:
        return F.max_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
            data_format=self.data_format,
        )


class MaxPool3d(_Leaf, nn.MaxPool3d):
    """``torch.nn.MaxPool3d``, see :func:`torch_pooling.functional.max_pool3d`."""

    def forward(self, input: Tensor) -> Any:
        return F.max_pool3d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
            data_format=self.data_format,
        )


class _Average(_Leaf):
    """The keyword-only ``dilation`` of our averages."""

    _keywords = {"dilation": 1, "data_format": "channels_first"}
    dilation: Any = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        padding = kwargs.get("padding", args[2] if len(args) > 2 else 0)
        if isinstance(padding, str):  # torch.nn.AvgPool1d takes a sequence for what it iterates over
            self.padding: Any = padding


class AvgPool1d(_Average, nn.AvgPool1d):
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
            data_format=self.data_format,
        )


class AvgPool2d(_Average, nn.AvgPool2d):
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
            data_format=self.data_format,
        )


class AvgPool3d(_Average, nn.AvgPool3d):
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
            data_format=self.data_format,
        )


class AdaptiveAvgPool1d(_Leaf, nn.AdaptiveAvgPool1d):
    """``torch.nn.AdaptiveAvgPool1d``, see :func:`torch_pooling.functional.adaptive_avg_pool1d`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool1d(input, self.output_size, data_format=self.data_format)


class AdaptiveAvgPool2d(_Leaf, nn.AdaptiveAvgPool2d):
    """``torch.nn.AdaptiveAvgPool2d``, see :func:`torch_pooling.functional.adaptive_avg_pool2d`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(input, self.output_size, data_format=self.data_format)


class AdaptiveAvgPool3d(_Leaf, nn.AdaptiveAvgPool3d):
    """``torch.nn.AdaptiveAvgPool3d``, see :func:`torch_pooling.functional.adaptive_avg_pool3d`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool3d(input, self.output_size, data_format=self.data_format)


class AdaptiveMaxPool1d(_Leaf, nn.AdaptiveMaxPool1d):
    """``torch.nn.AdaptiveMaxPool1d``, see :func:`torch_pooling.functional.adaptive_max_pool1d`."""

    def forward(self, input: Tensor) -> Any:
        return F.adaptive_max_pool1d(input, self.output_size, self.return_indices, data_format=self.data_format)


class AdaptiveMaxPool2d(_Leaf, nn.AdaptiveMaxPool2d):
    """``torch.nn.AdaptiveMaxPool2d``, see :func:`torch_pooling.functional.adaptive_max_pool2d`."""

    def forward(self, input: Tensor) -> Any:
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices, data_format=self.data_format)


class AdaptiveMaxPool3d(_Leaf, nn.AdaptiveMaxPool3d):
    """``torch.nn.AdaptiveMaxPool3d``, see :func:`torch_pooling.functional.adaptive_max_pool3d`."""

    def forward(self, input: Tensor) -> Any:
        return F.adaptive_max_pool3d(input, self.output_size, self.return_indices, data_format=self.data_format)


class _SumPool(_Leaf, nn.Module):
    _function: Any

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        *,
        dilation: Any = 1,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__(data_format=data_format)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.dilation = dilation

    def forward(self, input: Tensor) -> Tensor:
        sums: Tensor = type(self)._function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            dilation=self.dilation,
            data_format=self.data_format,
        )
        return sums

    def extra_repr(self) -> str:
        shown = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}"
        return ", ".join(filter(None, [f"{shown}, ceil_mode={self.ceil_mode}", super().extra_repr()]))


class SumPool1d(_SumPool):
    """Sums over sliding windows, see :func:`torch_pooling.functional.sum_pool1d`."""

    _function = F.sum_pool1d


class SumPool2d(_SumPool):
    """Sums over sliding windows, see :func:`torch_pooling.functional.sum_pool2d`."""

    _function = F.sum_pool2d


class SumPool3d(_SumPool):
    """Sums over sliding windows, see :func:`torch_pooling.functional.sum_pool3d`."""

    _function = F.sum_pool3d


class GlobalAvgPool(_Leaf, nn.Module):
    """Average over all spatial axes of [N, C, *spatial]: [N, C, 1, ...], or [N, C] with ``keepdim=False``.

    ``forward`` takes a mask or lengths, see :func:`torch_pooling.functional.global_avg_pool`.
    """

    def __init__(self, keepdim: bool = True, *, data_format: str = "channels_first") -> None:
        super().__init__(data_format=data_format)
        self.keepdim = keepdim

    def forward(self, input: Tensor, mask: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
        return F.global_avg_pool(input, keepdim=self.keepdim, mask=mask, lengths=lengths, data_format=self.data_format)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"keepdim={self.keepdim}", super().extra_repr()]))


class GlobalMaxPool(_Leaf, nn.Module):
    """Maximum over all spatial axes of [N, C, *spatial]: [N, C, 1, ...], or [N, C] with ``keepdim=False``.

    ``forward`` takes a mask or lengths, see :func:`torch_pooling.functional.global_max_pool`.
    """

    def __init__(self, keepdim: bool = True, return_indices: bool = False, *, data_format: str = "channels_first") -> None:
        super().__init__(data_format=data_format)
        self.keepdim = keepdim
        self.return_indices = return_indices

    def forward(self, input: Tensor, mask: Tensor | None = None, lengths: Tensor | None = None) -> Any:
        return F.global_max_pool(
            input,
            keepdim=self.keepdim,
            return_indices=self.return_indices,
            mask=mask,
            lengths=lengths,
            data_format=self.data_format,
        )

    def extra_repr(self) -> str:
        shown = f"keepdim={self.keepdim}, return_indices={self.return_indices}"
        return ", ".join(filter(None, [shown, super().extra_repr()]))
