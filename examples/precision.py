# SPDX-License-Identifier: BSD-3-Clause
"""A global average over a plane of 4096 x 4096 elements: error against float64, ours and torch's, in float32 and float16."""

from __future__ import annotations

import torch
from common import OTHER, OURS, plt, save

from torch_pooling import functional as F

torch.manual_seed(0)
plane = torch.rand(1, 1, 4096, 4096, dtype=torch.float64)
errors: dict[str, list[float]] = {"ours": [], "torch": []}
types = (torch.float32, torch.float16)
for dtype in types:
    input = plane.to(dtype)
    exact = float(input.double().mean())
    answers = {"ours": F.global_avg_pool(input), "torch": torch.nn.functional.adaptive_avg_pool2d(input, 1)}
    for name, answer in answers.items():
        errors[name].append(abs(float(answer.double()) - exact) / exact)
    print(f"{str(dtype).removeprefix('torch.')}: relative error ours {errors['ours'][-1]:.1e}, torch {errors['torch'][-1]:.1e}")

figure, panel = plt.subplots(figsize=(6, 3))
for shift, (name, colour) in zip((-0.2, 0.2), (("ours", OURS), ("torch", OTHER))):
    panel.bar([n + shift for n in range(len(types))], [max(error, 1e-10) for error in errors[name]], 0.38, color=colour, label=name)
for n, dtype in enumerate(types):
    panel.axhline(torch.finfo(dtype).eps / 2, xmin=n / 2, xmax=(n + 1) / 2, color="black", linestyle=":")
panel.set(yscale="log", ylabel="relative error", xticks=range(len(types)), title="mean of 16.8 million numbers (dotted: half a rounding)")
panel.set_xticklabels([str(dtype).removeprefix("torch.") for dtype in types])
panel.legend()
save(figure, "precision")
