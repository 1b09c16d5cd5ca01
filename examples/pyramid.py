# SPDX-License-Identifier: BSD-3-Clause
"""A spatial pyramid of a photograph: three image sizes, one length of the result."""

from __future__ import annotations

import torch
from common import plt, save
from sklearn.datasets import load_sample_image

from torch_pooling import functional as F

photograph = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None].float() / 255
sizes = ((427, 640), (213, 320), (120, 90))
levels = (1, 2, 4)
rows = []
for height, width in sizes:
    image = torch.nn.functional.interpolate(photograph, (height, width), mode="area")
    rows.append(F.spatial_pyramid_pool(image, levels))
    print(f"{height} x {width}: pyramid {tuple(rows[-1].shape)}")
print(f"largest difference between the pyramids of the three sizes: {max(float((row - rows[0]).abs().max()) for row in rows):.3f}")

figure, panels = plt.subplots(1, 4, figsize=(13, 2.6))
panels[0].imshow(photograph[0].permute(1, 2, 0))
panels[0].set_title("427 x 640")
begin = 0
for panel, level in zip(panels[1:], levels):
    count = 3 * level**2
    panel.imshow(rows[0][0, begin : begin + count].view(3, level, level).permute(1, 2, 0), aspect=427 / 640)
    panel.set_title(f"level {level}: {count} numbers")
    begin += count
for panel in panels:
    panel.axis("off")
save(figure, "pyramid")
