# SPDX-License-Identifier: BSD-3-Clause
"""Real inputs of every rank, made from the two photographs that scikit-learn ships."""

from __future__ import annotations

import torch
from torch import Tensor


def photographs() -> Tensor:  # [2, 3, 427, 640], float32 from 0 to 1: china.jpg and flower.jpg
    import numpy
    from sklearn.datasets import load_sample_images

    images = numpy.stack(load_sample_images().images)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255


def inputs(photos: Tensor, *, count: int = 8, size: int = 224, filters: int = 64) -> dict[str, Tensor]:
    """What a network would pool, by name; `photos` is [2, 3, height, width], `size` the side of the crops.

    photographs  as they are                                           [2, 3, height, width]
    features     crops after a first convolution (7x7, stride 2, ReLU) [count, filters, size / 2, size / 2]
                 and once more in channels-last memory order (NHWC)
    lines        each line of the photographs as a signal              [2 * height, 3, width]
    pan          the camera moving over each photograph, as a film     [count / 2, 3, 16, size / 2, size / 2]
    """
    generator = torch.Generator().manual_seed(0)
    height, width = photos.shape[-2:]
    corners = [
        (
            int(torch.randint(height - size + 1, (), generator=generator)),
            int(torch.randint(width - size + 1, (), generator=generator)),
        )
        for _ in range(count)
    ]
    crops = torch.stack([photos[i % 2, :, y : y + size, x : x + size] for i, (y, x) in enumerate(corners)])
    weight = torch.randn(filters, 3, 7, 7, generator=generator) / 7
    features = torch.conv2d(crops - 0.5, weight, stride=2, padding=3).relu()

    side = size // 2
    films = []
    for i in range(max(2, count // 2)):
        y = int(torch.randint(height - side + 1, (), generator=generator))
        begins = torch.linspace(0, width - side, 16).round().int().tolist()
        films.append(torch.stack([photos[i % 2, :, y : y + side, x : x + side] for x in begins], dim=1))

    return {
        "photographs": photos,
        "features": features,
        "features NHWC": features.contiguous(memory_format=torch.channels_last),
        "lines": photos.transpose(1, 2).flatten(0, 1).contiguous(),
        "pan": torch.stack(films),
    }
