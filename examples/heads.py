# SPDX-License-Identifier: BSD-3-Clause
"""Parameters of two classifier heads for 512 channels of 7x7 and 1000 classes: flatten and three layers, or a global average."""

from __future__ import annotations

import torch
from common import OTHER, OURS, plt, save

from torch_pooling import ClassicClassificationHead, GAPClassificationHead

with torch.device("meta"):  # counted, not allocated
    heads = {
        "flatten, 4096, 4096": ClassicClassificationHead(512, 7, 1000),
        "global average": GAPClassificationHead(512, 1000),
    }
counts = {name: sum(p.numel() for p in head.parameters()) for name, head in heads.items()}
for name, count in counts.items():
    print(f"{name}: {count:,} parameters")
print(f"ratio: {counts['flatten, 4096, 4096'] / counts['global average']:.0f}")
assert GAPClassificationHead(512, 1000)(torch.zeros(1, 512, 9, 5)).shape == (1, 1000)  # any spatial size

figure, panel = plt.subplots(figsize=(6.5, 2))
panel.barh(list(counts), list(counts.values()), color=[OTHER, OURS])
panel.set(xscale="log", xlabel="parameters", xlim=(1e5, 1e9))
for row, count in enumerate(counts.values()):
    panel.text(count * 1.2, row, f"{count:,}", va="center")
save(figure, "heads")
