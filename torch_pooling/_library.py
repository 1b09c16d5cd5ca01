"""The compiled library: loads it once, with one plain sentence where that cannot work, and tells what it was built for.

It also gives the operators their batching rule for ``torch.func.vmap``: batch and channels are independent of each other, so
a mapped dimension folds into the batch.
"""

from __future__ import annotations

import importlib.util
import mmap
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

_CURE = "python -m pip install --no-build-isolation ."
_MARKER = b"torch_pooling built for torch "


def _release(version: str) -> tuple[str, ...]:
    return tuple(version.split("+")[0].split(".")[:2])


def _load() -> ModuleType:
    spec = importlib.util.find_spec("torch_pooling._C")
    if spec is None or spec.origin is None:
        raise ImportError(f"torch_pooling's compiled library was not built: run `{_CURE}` in its source folder.")
    with open(spec.origin, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = content.find(_MARKER)
        begin += len(_MARKER)
        built_for = content[begin : content.find(b"\0", begin)].decode()
    if _release(built_for) != _release(torch.__version__):
        raise ImportError(
            f"torch_pooling was built for torch {built_for}, but torch {torch.__version__} is installed: "
            f"rebuild it with `{_CURE}` in its source folder."
        )
    try:
        return importlib.import_module("torch_pooling._C")
    except ImportError as error:
        raise ImportError(
            f"torch_pooling's compiled library does not load under torch {torch.__version__} ({error}): "
            f"rebuild it with `{_CURE}` in its source folder."
        ) from error


_C = _load()
ops = torch.ops.torch_pooling

__version__: str = _C.version


def compiled_instruction_sets() -> list[str]:
    """Instruction sets this build has kernels for, best first."""
    return _C.compiled_instruction_sets()


def instruction_sets() -> list[str]:
    """Instruction sets that run on this processor, best first."""
    return _C.runnable_instruction_sets()


def instruction_set() -> str:
    """The instruction set in use: the best that runs, or the one forced."""
    return _C.instruction_set()


def force_instruction_set(name: str | None) -> None:
    """Use the kernels of one instruction set from now on; ``None`` returns to the environment's choice.

    Raises:
        RuntimeError: if ``name`` is unknown or cannot run on this processor.
    """
    _C.force_instruction_set(name or "")


def store_past_caches_from(size: int | None) -> None:
    """Results go past the caches in calls that read and write ``size`` bytes or more; ``None``: more than the caches hold."""
    _C.store_past_caches_from(size or 0)


def use_huge_pages(allowed: bool) -> None:
    """Whether large results ask the system for huge pages, whose first touch costs less; ``TORCH_POOLING_HUGE_PAGES=0`` starts without."""
    _C.use_huge_pages(allowed)


def built_for_torch() -> str:
    """The version of torch that this build was compiled against."""
    return _C.built_for_torch


def compiler() -> str:
    """What compiled this build."""
    return _C.compiler


def why_no_cuda() -> str:
    """Why this build has no CUDA kernels; empty where it has."""
    return _C.no_cuda


def cuda_version() -> str | None:
    """The CUDA version this build was made for, or ``None`` for a build without CUDA kernels."""
    return _C.cuda_version or None


def cuda_architectures() -> list[str]:
    """The compute capabilities this build has kernels for, such as 9.0; empty for a build without CUDA kernels."""
    return [name for name in _C.cuda_architectures.split(";") if name]


def is_ours(input: torch.Tensor) -> bool:
    """Do our kernels take this tensor? Dense ones of the CPU and of CUDA, and meta; not quantised, sparse or oneDNN's own."""
    return _C.is_ours(input)


def set_detour(function: Callable[..., Any]) -> None:
    """``function`` is asked where a tensor is not ours or somebody records; see _elsewhere.py."""
    _C.set_detour(function)


def set_exports(function: Callable[[], bool]) -> None:
    """``function`` tells whether an ONNX exporter is at work, which records torch's operators, inside override() too."""
    _C.set_exports(function)


def enter_override() -> int:
    """torch's pooling operators are ours from here on, in this thread; how many times it has entered."""
    return _C.enter_override()


def leave_override() -> int:
    """Undoes one :func:`enter_override`; how many are left. Raises RuntimeError where this thread has entered none."""
    return _C.leave_override()


def sliding_window(
    input: int, kernel: int, stride: int, padding_begin: int, padding_end: int, dilation: int, ceil_mode: bool
) -> tuple[list[list[int]], list[list[int]]]:
    """Input positions that each output reads, and outputs that read each input position, along one axis."""
    return _C.sliding_window(input, kernel, stride, padding_begin, padding_end, dilation, ceil_mode)


def adaptive_window(input: int, output: int) -> tuple[list[list[int]], list[list[int]]]:
    """The same for adaptive windows."""
    return _C.adaptive_window(input, output)


_ = instruction_set()  # TORCH_POOLING_ISA names one that cannot run: say so now, not at the first call


def _refuse_cuda(*_: Any, **__: Any) -> Any:
    raise NotImplementedError(
        f"this build of torch_pooling has no CUDA kernels: {_C.no_cuda}. Where torch has CUDA and nvcc is installed, "
        f"`{_CURE}` in its source folder compiles them."
    )


def _register_batching(name: str, tensors: int, window: int) -> None:
    """Fold the mapped dimension into the batch.

    ``tensors``: how many leading arguments are tensors. ``window``: the argument that tells the number of spatial axes.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        rank = args[window] if isinstance(args[window], int) else len(args[window])
        batched, batch = False, 0
        folded = []
        for tensor, dim in zip(args[:tensors], in_dims[:tensors], strict=True):
            mapped = tensor.unsqueeze(0).expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            batched = mapped.dim() == rank + 3
            batch = mapped.shape[1] if batched else 0
            folded.append(mapped.flatten(0, 1) if batched else mapped)
        result = getattr(ops, name)(*folded, *args[tensors:])

        def unfold(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.unflatten(0, (size, batch)) if batched else tensor

        if isinstance(result, tuple):
            return tuple(unfold(tensor) for tensor in result), (0,) * len(result)
        return unfold(result), 0

    torch.library.register_vmap(f"torch_pooling::{name}", rule)


def _register_batched_batching(name: str, tensors: int) -> None:
    """The same for operators whose tensors are always batched, of which the second may be missing."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        batch = 0
        folded: list[torch.Tensor | None] = []
        for tensor, dim in zip(args[:tensors], in_dims[:tensors], strict=True):
            if tensor is None:
                folded.append(None)
                continue
            mapped = tensor.unsqueeze(0).expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            batch = mapped.shape[1]
            folded.append(mapped.flatten(0, 1))
        result = getattr(ops, name)(*folded, *args[tensors:])
        if isinstance(result, tuple):
            return tuple(part.unflatten(0, (size, batch)) for part in result), (0,) * len(result)
        return result.unflatten(0, (size, batch)), 0

    torch.library.register_vmap(f"torch_pooling::{name}", rule)


# For each operator, how many of its leading arguments are tensors and which argument tells the number of spatial axes.
_SINGLE = (
    ("avg_pool", 1, 1),
    ("avg_pool_backward", 1, 2),
    ("sum_pool", 1, 1),
    ("sum_pool_backward", 1, 2),
    ("max_pool", 1, 1),
    ("max_pool_with_offsets", 1, 1),
    ("max_pool_backward", 2, 3),
    ("max_pool_gather", 2, 2),
    ("max_pool_indices", 1, 2),
    ("adaptive_avg_pool", 1, 1),
    ("adaptive_avg_pool_backward", 1, 1),
    ("adaptive_max_pool", 1, 1),
    ("adaptive_max_pool_with_offsets", 1, 1),
    ("adaptive_max_pool_backward", 2, 2),
    ("adaptive_max_pool_gather", 2, 2),
    ("adaptive_max_pool_indices", 1, 1),
)
_COMBINED = (
    ("combined_pool", 1),
    ("combined_pool_with_offsets", 1),
    ("combined_pool_gather", 2),
    ("combined_pool_backward", 2),
)
_MASKED = (
    ("masked_avg_pool", 2),
    ("masked_avg_pool_backward", 2),
    ("masked_max_pool", 2),
    ("masked_max_pool_with_offsets", 2),
)
OPERATORS: tuple[str, ...] = tuple(row[0] for row in (*_SINGLE, *_COMBINED, *_MASKED))

for _row in _SINGLE:
    _register_batching(*_row)
for _name, _tensors in (*_COMBINED, *_MASKED):
    _register_batched_batching(_name, _tensors)

_without_cuda = torch.library.Library("torch_pooling", "IMPL")  # lives as long as this module
for _name in OPERATORS if cuda_version() is None else ():
    _without_cuda.impl(_name, _refuse_cuda, "CUDA")
