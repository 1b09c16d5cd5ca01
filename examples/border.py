# SPDX-License-Identifier: BSD-3-Clause
"""count_include_pad: what padding does to an average at the border of a plane of ones."""

from __future__ import annotations

import torch
from common import plt, save

from torch_pooling import functional as F

ones = torch.ones(1, 1, 6, 6)
results = {counts: F.avg_pool2d(ones, 3, 1, 1, count_include_pad=counts)[0, 0] for counts in (True, False)}
for counts, output in results.items():
    print(f"count_include_pad={counts}: corner {output[0, 0]:.3f}, edge {output[0, 2]:.3f}, inside {output[2, 2]:.3f}")

figure, panels = plt.subplots(1, 2, figsize=(6.5, 3.2))
for panel, (counts, output) in zip(panels, results.items()):
    panel.imshow(output, cmap="viridis", vmin=0.4, vmax=1)
    for row in range(6):
        for column in range(6):
            value = float(output[row, column])
            panel.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if value < 0.8 else "black")
    panel.set_title(f"count_include_pad={counts}")
    panel.axis("off")
save(figure, "border")
