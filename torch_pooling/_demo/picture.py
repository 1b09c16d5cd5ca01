# SPDX-License-Identifier: BSD-3-Clause
"""The demo's one picture: a photograph pooled, where the gradients go, and how much faster ours is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_pooling import functional
from torch_pooling._demo.operators import Measured

WINDOW = 8  # side of the pooling windows in the pictures
FORWARD, BACKWARD, INK = "#1b7f8c", "#e8963a", "#333333"


def zoom(photo: Tensor, side: int) -> Tensor:  # [3, H, W] -> [1, side, side], grey
    """The square with the most texture: where brightness varies most inside the windows, on average."""
    grey = photo.mean(0, keepdim=True)
    variance = functional.avg_pool2d(grey**2, WINDOW) - functional.avg_pool2d(grey, WINDOW) ** 2
    texture = functional.avg_pool2d(variance, side // WINDOW, 1)
    row, column = divmod(int(texture.argmax()), texture.shape[-1])
    return grey[:, row * WINDOW : row * WINDOW + side, column * WINDOW : column * WINDOW + side]


def gradient_map(pool: Any, x: Tensor) -> Tensor:
    """Where half the sum of squares of the pooled picture pulls: its derivative with respect to x."""
    leaf = x.detach().clone().requires_grad_()
    loss = pool(leaf, WINDOW).square().sum() / 2
    (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient.detach()


def draw(photo: Tensor, rows: Sequence[Measured], path: Path) -> None:  # photo: [3, H, W], from 0 to 1
    # Figure and its own canvas, not pyplot: nothing global changes, and no display is needed.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = min(80, *(size // WINDOW * WINDOW for size in photo.shape[-2:]))
    detail = zoom(photo, side)
    figure = Figure(figsize=(17, 7.6), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    halves: Any = figure.subfigures(1, 2, width_ratios=[1.35, 1])
    left, right = halves
    axes = left.subplots(2, 3, height_ratios=[photo.shape[-2] / photo.shape[-1], 1])

    def show(axis: Any, image: Tensor, title: str, note: str, **how: Any) -> None:
        axis.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), interpolation="nearest", **how)
        axis.set_title(title, fontsize=13, color=INK)
        axis.set_xlabel(note, fontsize=10, color=INK)
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)

    windows = f"{WINDOW}x{WINDOW} windows"
    show(axes[0, 0], photo, "Original", f"{photo.shape[-1]} x {photo.shape[-2]} pixels", vmin=0, vmax=1)
    show(axes[0, 1], functional.max_pool2d(photo, WINDOW), "Max pooling", f"the brightest of each colour, {windows}", vmin=0, vmax=1)
    show(axes[0, 2], functional.avg_pool2d(photo, WINDOW), "Average pooling", f"the mean of each colour, {windows}", vmin=0, vmax=1)
    show(axes[1, 0], detail, "A detail", f"{side} x {side} pixels, grey", cmap="gray", vmin=0, vmax=1)
    winners, shares = (gradient_map(pool, detail) for pool in (functional.max_pool2d, functional.avg_pool2d))
    show(axes[1, 1], winners, "Gradient of the maximum", "all of it to one winner in each window", cmap="inferno", vmin=0)
    note = f"1/{WINDOW * WINDOW} of it to every pixel (other scale)"
    show(axes[1, 2], shares, "Gradient of the average", note, cmap="inferno", vmin=0)
    left.suptitle("torch_pooling on a real photograph", fontsize=16, color=INK, fontweight="bold")
    right.suptitle("How many times faster than torch", fontsize=16, color=INK, fontweight="bold")
    bars(right.subplots(), rows)
    figure.savefig(path)


def bars(axis: Any, rows: Sequence[Measured]) -> None:
    """torch's time by ours for every operator, forward and backward, on a logarithmic scale: right of the line is faster."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    thick = 0.38
    for shift, colour, name, ratios in (
        (-thick / 2, FORWARD, "forward", [row.forward.ratio for row in rows]),
        (thick / 2, BACKWARD, "backward", [row.backward.ratio for row in rows]),
    ):
        places = [place + shift for place in range(len(rows))]
        axis.barh(places, [ratio - 1 for ratio in ratios], thick, left=1, color=colour, label=name)
        for place, ratio in zip(places, ratios, strict=True):
            label = f" {ratio:.3g}x" if ratio >= 1 else f"{ratio:.2g}x "
            axis.text(ratio, place, label, va="center", ha="left" if ratio >= 1 else "right", fontsize=7.5, color=INK)
    axis.axvline(1, color=INK, linewidth=1)
    axis.set_xscale("log")
    every = [ratio for row in rows for ratio in (row.forward.ratio, row.backward.ratio)]
    axis.set_xlim(min(0.8, *every) / 1.6, max(2.0, *every) * 1.7)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axis.set_yticks(range(len(rows)), [f"{row.operator.title}  {row.operator.input}" for row in rows], fontsize=8, color=INK)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel("torch's time divided by ours", fontsize=10, color=INK)
    axis.grid(axis="x", which="major", color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=10, frameon=False)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
