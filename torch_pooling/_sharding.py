# SPDX-License-Identifier: BSD-3-Clause
"""How the operators treat DTensors: each rank pools its own shard, and says what the results are shards of.

Pooling leaves batch and channels apart, so shards of these need no communication; averages, sums and all gradients are linear,
so partial sums pass through. Windows over all of a sharded spatial axis are joined by _sharding_global.py. Anything else is first
redistributed until one of these holds. Sizes, strides and wrong arguments of a whole call are the Meta kernels' answer.

Rules are given to torch.library.register_torch_dispatch, which is public and hands over the DTensors of any call at or below
the autograd nodes. torch.distributed.tensor's own register_sharding is not used: it forgets sizes in its cache (an
output_size of 1 and then of 7 gave the same answer), refuses shards of unequal size, and cannot weigh or join partial results.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch

_DTENSORS = "torch.distributed.tensor"


class _WhenImported(importlib.abc.MetaPathFinder):
    """Calls ``then`` once a module has been imported by anybody.

    A DTensor cannot exist before that import, which takes a second and which most programs never make. Calls are not the place to
    look for it: half of them come from C++ or from compiled graphs.
    """

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name, self._then = name, then

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        found = (finder.find_spec(fullname, path, target) for finder in list(sys.meta_path) if finder is not self)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                if self in sys.meta_path:  # once, and not if that import failed
                    sys.meta_path.remove(self)
                    self._then()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _register() -> None:
    from torch_pooling._sharding_rules import register

    register(importlib.import_module(_DTENSORS).DTensor)


def register_when_needed() -> None:
    """Rules for DTensors: now, if there can be any, else as soon as torch.distributed.tensor is imported."""
    if not torch.distributed.is_available():
        return
    if _DTENSORS in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _WhenImported(_DTENSORS, _register))
