# SPDX-License-Identifier: BSD-3-Clause
"""Maximum against average under noise: how far is what each pool makes of a noisy blob from what it makes of the clean one?"""

from __future__ import annotations

import torch
from common import OTHER, OURS, plt, save

from torch_pooling import functional as F

torch.manual_seed(0)
axis = torch.linspace(-2, 2, 64)
blob = torch.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2)).view(1, 1, 64, 64)
sigmas = torch.linspace(0, 0.5, 11)
errors = {"maximum": [], "average": []}
for sigma in sigmas:
    noisy = blob + sigma * torch.randn(100, 1, 64, 64)
    for name, pool in (("maximum", F.max_pool2d), ("average", F.avg_pool2d)):
        errors[name].append(float((pool(noisy, 4) - pool(blob, 4)).square().mean()))
at = int((sigmas - 0.3).abs().argmin())
print("mean squared distortion of a blob under Gaussian noise of sigma 0.3, 4x4 windows, 100 draws:")
print(f"  maximum {errors['maximum'][at]:.4f}")
print(f"  average {errors['average'][at]:.4f}  ({errors['maximum'][at] / errors['average'][at]:.0f} times less; sigma^2 / 16 = {0.3**2 / 16:.4f})")

figure, panels = plt.subplots(1, 4, figsize=(13, 3), layout="constrained")
noisy = blob + 0.3 * torch.randn(1, 1, 64, 64)
shown = (("noisy input", noisy), ("maximum 4x4", F.max_pool2d(noisy, 4)), ("average 4x4", F.avg_pool2d(noisy, 4)))
for panel, (title, image) in zip(panels, shown):
    panel.imshow(image[0, 0], cmap="gray", vmin=-0.5, vmax=1.5)
    panel.set_title(title)
    panel.axis("off")
for name, colour in (("maximum", OTHER), ("average", OURS)):
    panels[3].plot(sigmas, errors[name], color=colour, label=name)
panels[3].set(xlabel="sigma of the noise", ylabel="mean squared distortion")
panels[3].legend()
save(figure, "noise")
