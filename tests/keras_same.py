"""'same' padding as Keras 3 does it on its JAX backend: answers for every small geometry, kept in data/keras_same.json.

The file was made by `KERAS_BACKEND=jax JAX_ENABLE_X64=1 python tests/keras_same.py` with keras 3.15.1 and jax 0.10.2 on
2026-11-23; tests need neither of them. (On its torch backend Keras divides 'same' averages wrongly in a third of the cases.)
Each answer is a shape and a weighted sum of all elements, in float64; [N, C, H, W] and [N, H, W, C] gave the same.
"""
from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PATH = Path(__file__).parent / "data" / "keras_same.json"
Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # size, kernel, stride


def geometries() -> Iterator[Geometry]:
    """Sizes 1 to 17, kernels 1 to 7, strides 1 to 4 along the first axis; neighbours of them along the second."""
    for size, kernel, stride in itertools.product(range(1, 18), range(1, 8), range(1, 5)):
        yield (size, size % 17 + 1), (kernel, kernel % 7 + 1), (stride, stride % 4 + 1)


def image(size: tuple[int, int]) -> np.ndarray:
    """[2, 3, *size], in an order without pattern, with ties."""
    count = 6 * size[0] * size[1]
    return ((np.arange(count) * 37 % 61) / 8 - 3).reshape(2, 3, *size)


def digest(output: np.ndarray) -> float:
    """Of [N, C, H, W]: a sum in which every element has a weight of its own."""
    weights = np.sqrt(1 + np.arange(output.size) * 7919 % 10007)
    return float((output.reshape(-1) * weights).sum())


def main() -> None:
    import keras

    table = []
    for size, kernel, stride in geometries():
        row: list[object] = []
        for pool in (keras.ops.max_pool, keras.ops.average_pool):
            first, last = (
                np.asarray(pool(image(size) if axis == 1 else np.moveaxis(image(size), 1, -1), kernel, stride, "same", name))
                for axis, name in ((1, "channels_first"), (-1, "channels_last"))
            )
            assert first.dtype == np.float64 and np.array_equal(first, np.moveaxis(last, -1, 1))
            row += [list(first.shape[2:]), digest(first)]
        table.append(row)
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text("[\n" + ",\n".join(map(json.dumps, table)) + "\n]\n")


if __name__ == "__main__":
    main()
