# SPDX-License-Identifier: BSD-3-Clause
"""Where the gradient goes: to the winner under a maximum, evenly under an average."""

from __future__ import annotations

import torch
from common import plt, save

from torch_pooling import functional as F

input = torch.tensor([[[[1.0, 3.0], [2.0, 0.5]]]])
gradients = {}
for name, pool in (("maximum", F.max_pool2d), ("average", F.avg_pool2d)):
    leaf = input.clone().requires_grad_()
    output = pool(leaf, 2)
    output.backward()
    gradients[name] = leaf.grad[0, 0]
    print(f"{name}: output {output.item()}, gradient {leaf.grad[0, 0].tolist()}")

figure, panels = plt.subplots(1, 3, figsize=(8, 2.8))
for panel, (title, values) in zip(panels, (("input", input[0, 0]), *((f"gradient, {name}", g) for name, g in gradients.items()))):
    panel.imshow(values, cmap="Blues", vmin=0, vmax=3 if title == "input" else 1)
    for (row, column), value in ((at, float(values[at])) for at in ((0, 0), (0, 1), (1, 0), (1, 1))):
        panel.text(column, row, f"{value:g}", ha="center", va="center", fontsize=14)
    panel.set_title(title)
    panel.axis("off")
save(figure, "gradients")
