"""convert() and revert(): whole models, in place.

A layer stays the object that it is, and only its class changes: attributes, hooks, parameters, flags, names and whoever else
holds it notice nothing, and both ways are exact. A torch.nn class becomes ours of the same name. A subclass that keeps torch's
forward gets a class of its own, made of it and ours; so do concatenating and averaging pools of timm and fastai, which are
looked up among the modules that are loaded and never imported.
"""

from __future__ import annotations

import copyreg
import sys
import warnings
from functools import cache
from typing import Any, TypeVar, cast

from torch import nn
from torch.nn.utils import parametrize

from torch_pooling import layers, modules

Model = TypeVar("Model", bound=nn.Module)

_NAMES = [f"{kind}Pool{rank}d" for kind in ("Max", "Avg", "AdaptiveAvg", "AdaptiveMax") for rank in (1, 2, 3)]
_OURS: dict[type, type] = {getattr(nn, name): getattr(modules, name) for name in _NAMES}
_TORCHS = {ours: torchs for torchs, ours in _OURS.items()}

# (module, class): ours, and the attributes that theirs lacks. timm averages first, fastai takes the maximum first.
_FOREIGN: dict[tuple[str, str], tuple[type, dict[str, Any]]] = {
    ("timm.layers.adaptive_avgmax_pool", "AdaptiveAvgMaxPool2d"): (layers.AvgMaxPooling, {}),
    ("timm.layers.adaptive_avgmax_pool", "AdaptiveCatAvgMaxPool2d"): (layers.ConcatPooling, {"order": ("avg", "max")}),
    **{
        ("fastai.layers", f"AdaptiveConcatPool{rank}d"): (
            layers.ConcatPooling, {"order": ("max", "avg"), "output_size": property(lambda layer: layer.size)}
        )
        for rank in (1, 2)
    },
}


class _Adopted:
    """A class of somebody else's with our forward. Pickles name that class: this one is made again when it is needed."""

    _original: type

    def __init_subclass__(cls, **_: Any) -> None:
        """Theirs is not called: it has seen the class that this one stands for."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        parts: Any = super().__reduce_ex__(max(protocol, 2))
        function, arguments, *rest = parts
        if function is not copyreg.__newobj__:  # type: ignore[attr-defined]
            raise TypeError(f"{type(self).__name__} has a way of pickling of its own: pickle it after torch_pooling.revert()")
        return (_new, (self._original, *arguments[1:]), *rest)


def _new(original: type, *arguments: Any) -> Any:
    adopted = _twin(original)
    if adopted is None:  # of a version of timm or fastai that this one does not know
        adopted = original
    return adopted.__new__(adopted, *arguments)


def _foreign(original: type) -> tuple[type, dict[str, Any]] | None:
    known = _FOREIGN.get((original.__module__, original.__name__))
    loaded = sys.modules.get(original.__module__)
    return known if known is not None and getattr(loaded, original.__name__, None) is original else None


@cache
def _twin(original: Any) -> type | None:
    """The class that does what ``original`` does on our kernels, or None."""
    if original in _OURS:
        return _OURS[original]
    name = {"__module__": original.__module__, "__qualname__": original.__qualname__, "_original": original}
    foreign = _foreign(original)
    if foreign is not None:
        ours, attributes = foreign
        return type(original.__name__, (_Adopted, ours, original), {**name, "data_format": "channels_first", **attributes})
    torchs = next((base for base in original.__mro__ if base in _OURS), None)
    if torchs is None or issubclass(original, (_Adopted, *_TORCHS)) or original.forward is not torchs.forward:
        return None
    name["forward"] = cast(Any, _OURS[torchs]).forward  # theirs may name torch's
    return type(original.__name__, (_Adopted, original, _OURS[torchs]), name)


def _reparametrized(layer: nn.Module, base: type) -> type:
    """A parametrized layer has a class of its own, of which torch takes the one base for what the layer was before."""
    own = type(layer)
    kept = {name: value for name, value in vars(own).items() if name not in ("__dict__", "__weakref__", "__signature__")}
    return type(own.__name__, (base,), kept)


def _is_parametrized(layer: nn.Module) -> bool:
    return parametrize.is_parametrized(layer) and len(type(layer).__bases__) == 1 and "parametrizations" in layer._modules


def _takes_a_name_of_ours(layer: nn.Module) -> str | None:
    """An attribute of theirs that our forward would read as its own."""
    if isinstance(layer, tuple(_TORCHS)):
        return None
    ours: Any = next((ours for torchs, ours in _OURS.items() if isinstance(layer, torchs)), None)
    return None if ours is None else next((name for name in ours._keywords if hasattr(layer, name)), None)


def _swapped(layer: nn.Module) -> type | None:
    """The class that convert() gives this layer; None where it leaves it alone."""
    if _takes_a_name_of_ours(layer) is not None:
        return None
    if not _is_parametrized(layer):
        return _twin(cast(Any, type(layer)))
    base = _twin(cast(Any, type(layer).__bases__[0]))
    return None if base is None else _reparametrized(layer, base)


def _restored(layer: nn.Module) -> type | None:
    """The class that the layer had before convert(); None where convert() has not been here."""
    own = type(layer).__bases__[0] if _is_parametrized(layer) else type(layer)
    if issubclass(own, _Adopted):
        base: type = own._original
    elif own in _TORCHS and "_converted" in vars(layer):
        base = _TORCHS[own]
    else:
        return None
    return _reparametrized(layer, base) if own is not type(layer) else base


def _is_pool(layer: nn.Module) -> bool:
    """A pooling layer of torch's, or one that somebody made of it, that is not ours yet."""
    return isinstance(layer, tuple(_OURS)) and not isinstance(layer, tuple(_TORCHS))


def convert(model: Model, *, summary: bool = False) -> Model:
    """Put our kernels under every pooling layer of ``model``, in place; the way back is :func:`revert`.

    Every ``torch.nn`` layer that this package has too becomes ours of the same name, and so do timm's and fastai's adaptive
    average-and-maximum pools, if those packages are loaded. The layer remains the same object: names, hooks, parametrizations, the
    training flag, ``state_dict``, attributes and shared layers are as before. So are the results, except for the last bit of averages.
    Layers whose class overrides ``forward`` are left alone, with a warning that names them; :func:`override` reaches what they
    call. What a model calls as a function (``torch.nn.functional``) is not a layer, see :func:`override`, and ``x.mean((2, 3))``
    is no pooling operator at all.

    Args:
        model: any module, a single pooling layer included.
        summary: print a line for each layer that was swapped, and for each that was left alone.

    Returns ``model`` itself.

    Raises TypeError if ``model`` is not a torch.nn.Module.
    """
    _check(model, "convert")
    lines, left = [], []
    for name, layer in list(model.named_modules()):
        before, after = type(layer), _swapped(layer)
        shown = name or "(the model itself)"
        if after is not None:
            layer.__class__ = after
            if after in _TORCHS or _is_parametrized(layer):
                layer._converted = True
                layer.__module__ = "torch.nn.modules.pooling"  # a leaf to torch.fx, see modules.py
            lines.append(f"{shown}: {before.__name__} swapped")
        elif _is_pool(layer):
            taken = _takes_a_name_of_ours(layer)
            why = "it overrides forward" if taken is None else f"it has an attribute {taken!r} of its own"
            left.append(f"{shown} ({before.__name__}: {why})")
            lines.append(f"{shown}: {before.__name__} left alone, for {why}")
    if summary:
        print("\n".join([*lines, f"{len(lines) - len(left)} layers swapped, {len(left)} left alone"]))
    if left:
        warnings.warn(
            f"torch_pooling.convert() left {len(left)} pooling layers alone: {', '.join(left)}. "
            "Inside torch_pooling.override() what they call runs on our kernels.",
            stacklevel=2,
        )
    return model


def revert(model: Model, *, summary: bool = False) -> Model:
    """Undo :func:`convert`, in place: each layer gets its own class back. Layers that were built as ours stay ours.

    Args:
        model: any module, a single pooling layer included.
        summary: print a line for each layer that was swapped back.

    Returns ``model`` itself.

    Raises TypeError if ``model`` is not a torch.nn.Module.
    """
    _check(model, "revert")
    lines = []
    for name, layer in list(model.named_modules()):
        after = _restored(layer)
        if after is None:
            continue
        for mark in ("_converted", "__module__"):
            vars(layer).pop(mark, None)
        layer.__class__ = after
        lines.append(f"{name or '(the model itself)'}: {after.__name__} restored")
    if summary:
        print("\n".join([*lines, f"{len(lines)} layers restored"]))
    return model


def _check(model: Any, name: str) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name}(): argument 'model' must be torch.nn.Module, not {type(model).__name__}")
