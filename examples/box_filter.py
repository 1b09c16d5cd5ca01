# SPDX-License-Identifier: BSD-3-Clause
"""An average pool is a box filter: equal to a depthwise convolution with ones / k^2, with a sinc for a frequency response."""

from __future__ import annotations

import math

import torch
from common import OTHER, OURS, QUIET, plt, save

from torch_pooling import functional as F

torch.manual_seed(0)
input = torch.randn(2, 8, 40, 40, dtype=torch.float64)
for k in (2, 3, 5):
    weight = torch.full((8, 1, k, k), 1 / k**2, dtype=torch.float64)
    difference = (F.avg_pool2d(input, k, 1) - torch.conv2d(input, weight, groups=8)).abs().max()
    print(f"kernel {k}: largest difference from the depthwise convolution {difference:.1e}")

frequency = torch.linspace(1e-4, 0.5, 200, dtype=torch.float64)  # cycles per element
figure, panel = plt.subplots(figsize=(7, 3.4))
time = torch.arange(4096, dtype=torch.float64)
for k, colour in ((2, OURS), (3, OTHER), (5, QUIET)):
    formula = (torch.sin(math.pi * k * frequency) / (k * torch.sin(math.pi * frequency))).abs()
    panel.plot(frequency, formula, color=colour, label=f"|sin(pi k f) / (k sin(pi f))|, k = {k}")
    measured = []
    for f in frequency[::20]:
        waves = torch.stack([torch.cos(2 * math.pi * f * time), torch.sin(2 * math.pi * f * time)]).view(1, 2, -1)
        measured.append(float(F.avg_pool1d(waves, k, 1).square().sum(1).sqrt().mean()))
    panel.plot(frequency[::20], measured, "o", color=colour)
    worst = (torch.tensor(measured, dtype=torch.float64) - formula[::20]).abs().max()
    print(f"kernel {k}: measured response is the formula's within {worst:.1e}")
panel.set(xlabel="frequency, cycles per element", ylabel="gain", title="what an average lets through (dots: measured)")
panel.legend()
save(figure, "box_filter")
