"""Pooling functions with the names, arguments, results and errors of ``torch.nn.functional``, and what it lacks.

Tensors are ``[N, C, *spatial]`` or, in functions with a rank in their name, unbatched ``[C, *spatial]``, in channels-first or
channels-last memory; results keep the memory format. With ``data_format="channels_last"`` shapes are ``[N, *spatial, C]``, as in
Keras. Supported types on the CPU: float32, float64, bfloat16 and float16 everywhere; int8, uint8, int16, int32 and int64 for
maxima; int64 for windowed averages (which truncate towards zero) and sums.

Each function enters C++ directly; under a compiler it calls the operator in ``torch.ops.torch_pooling``, and arguments that
override ``__torch_function__`` are handed the function itself.
"""

from __future__ import annotations

from torch_pooling._adaptive import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)
from torch_pooling._combined import avgmax_pool, concat_pool, mixed_pool, spatial_pyramid_pool
from torch_pooling._layers import global_avg_pool, global_max_pool
from torch_pooling._sliding import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    sum_pool1d,
    sum_pool2d,
    sum_pool3d,
)

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "avgmax_pool",
    "concat_pool",
    "global_avg_pool",
    "global_max_pool",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "mixed_pool",
    "spatial_pyramid_pool",
    "sum_pool1d",
    "sum_pool2d",
    "sum_pool3d",
]
