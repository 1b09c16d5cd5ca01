"""override(): code that knows nothing of us runs on our kernels, inside and in this thread.

The work is done by the dispatcher, see csrc/ops/override.cpp: a thread that is inside includes a dispatch key at which torch's
pooling operators have a second kernel. Compiled code follows: torch.compile guards on the keys that a thread includes, so a function
compiled outside is compiled again when it is called inside, and the reverse. What it keeps on disk does not know about keys, so
the name under which it files a compilation gets a tag of ours while this thread is inside.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from torch.compiler import config
from torch.utils._contextlib import context_decorator

from torch_pooling._library import enter_override, leave_override

Function = TypeVar("Function", bound=Callable[..., Any])

_TAG = "torch_pooling.override"
_before = threading.local()
_lock = threading.Lock()
_threads_inside = 0  # these two where torch's settings belong to the process
_disabled: bool | None = None


def _settings_belong_to_threads() -> bool:
    """From torch 2.13 on."""
    return isinstance(getattr(config._config["cache_key_tag"], "user_override", None), ContextVar)


def _file_apart() -> None:
    """What this thread compiles is not found by, and finds nothing of, those outside.

    Up to torch 2.12 a setting is everybody's, and threads outside would file under the tag too: nothing is kept meanwhile.
    """
    global _threads_inside, _disabled
    if _settings_belong_to_threads():
        _before.tag = config.cache_key_tag
        config.cache_key_tag = f"{_before.tag}+{_TAG}"
        return
    with _lock:
        _threads_inside += 1
        if _threads_inside == 1:
            _disabled = config.force_disable_caches
            config.force_disable_caches = True


def _file_as_before() -> None:
    global _threads_inside
    if _settings_belong_to_threads():
        config.cache_key_tag = _before.tag
        return
    with _lock:
        _threads_inside -= 1
        if _threads_inside == 0:
            config.force_disable_caches = _disabled


class override:
    """Inside it, torch's own pooling runs on our kernels: ``torch.nn`` layers, ``torch.nn.functional``, ``torch.max_pool2d`` and its
    sisters, in whatever library they are called.

        with torch_pooling.override():
            loss = criterion(model(images), labels)
            loss.backward()

        @torch_pooling.override()
        def step(images): ...

    Only the thread that enters it is concerned. It nests, and exceptions leave it properly. A decorated generator is inside while
    its own code runs. Gradients are taken in the same way wherever the backward is called; only what is computed anew then
    (``torch.utils.checkpoint``) needs the backward to be inside as well. Inputs that our kernels do not take (quantised, other
    devices, other types) run torch's, as outside.

    A function that ``torch.compile`` made runs our kernels where it is called inside, and torch's outside, whichever side it was
    compiled on: it is compiled once for each.

    Raises TypeError where it decorates a class or a coroutine function (use ``with`` between two awaits), RuntimeError where a thread
    leaves it that has not entered it.
    """

    def __enter__(self) -> override:
        if enter_override() == 1:
            try:
                _file_apart()
            except BaseException:
                leave_override()
                raise
        return self

    def __exit__(self, *_: Any) -> None:
        if leave_override() == 0:
            _file_as_before()

    def __call__(self, function: Function) -> Function:
        if inspect.isclass(function) or not callable(function):
            raise TypeError(f"override() decorates functions, not {function!r}")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            name = getattr(function, "__name__", repr(function))
            raise TypeError(f"override() cannot decorate the coroutine function {name}: other tasks would run inside it")
        decorated: Function = context_decorator(lambda: override(), function)
        return decorated
