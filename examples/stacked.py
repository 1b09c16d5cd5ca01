# SPDX-License-Identifier: BSD-3-Clause
"""The gradient that reaches an input through 1 to 5 stacked 2x2 pools: averages divide it by 4 each time, maxima do not."""

from __future__ import annotations

import torch
from common import OTHER, OURS, plt, save

from torch_pooling import functional as F

torch.manual_seed(0)
depths = range(1, 6)
scales = {"average": [], "maximum": []}
for name, pool in (("average", F.avg_pool2d), ("maximum", F.max_pool2d)):
    for depth in depths:
        leaf = torch.randn(1, 1, 32, 32, requires_grad=True)
        output = leaf
        for _ in range(depth):
            output = pool(output, 2)
        output.sum().backward()
        scales[name].append(float(leaf.grad.abs().max()))
print("largest gradient at the input of stacked 2x2 pools:")
for depth, average, maximum in zip(depths, scales["average"], scales["maximum"]):
    print(f"  {depth}: average 1/{1 / average:.0f}, maximum {maximum:g} (in one element of {4**depth})")

figure, panel = plt.subplots(figsize=(6, 3.2))
for name, colour in (("maximum", OTHER), ("average", OURS)):
    panel.semilogy(list(depths), scales[name], "o-", color=colour, label=name)
panel.set(xlabel="pools after each other", ylabel="largest gradient", xticks=list(depths))
panel.legend()
save(figure, "stacked")
