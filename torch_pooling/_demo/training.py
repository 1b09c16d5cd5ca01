# SPDX-License-Identifier: BSD-3-Clause
"""A small classifier of handwritten digits, trained twice from one seed: torch.nn's pooling layers, then ours.

The two networks take turns, an epoch each, so that their times are comparable. tanh and not ReLU on purpose: both
networks round their averages differently in the last bit, and through a smooth network a last bit stays a last bit,
while a ReLU that flips from 0 to on makes a step out of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import torch_pooling

EPOCHS = 20
BATCH = 100
RATE = 0.01
LARGEST_GAP = 2e-5  # of losses around 1; an arg-max that flips between two almost equal values may cost some of it
LEAST_ACCURACY = 0.95


@dataclass
class Run:
    losses: list[float] = field(default_factory=list)  # one for each step
    accuracy: float = 0.0  # on digits not trained on
    seconds: float = 0.0  # in training


@dataclass(frozen=True)
class Digits:
    images: Tensor  # [count, 1, 8, 8], float32 from 0 to 1
    labels: Tensor  # [count]
    test_images: Tensor
    test_labels: Tensor


def digits(train: int = 1400) -> Digits:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = (torch.from_numpy(data.images).float() / 16)[order, None]
    labels = torch.from_numpy(data.target).long()[order]
    return Digits(images[:train], labels[:train], images[train:], labels[train:])


def network(pool: nn.Module, head: nn.Module) -> nn.Sequential:
    """The same weights whatever the pooling layers are, for these have none."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.Tanh(),
        pool,
        nn.Conv2d(32, 64, 3, padding=1),
        nn.Tanh(),
        head,
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def train_both(data: Digits, epochs: int = EPOCHS, networks: dict[str, nn.Sequential] | None = None) -> dict[str, Run]:
    if networks is None:
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay what they were
            networks = {
                "torch": network(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)),
                "ours": network(torch_pooling.MaxPool2d(2), torch_pooling.GlobalAvgPool()),
            }
    steps = epochs * (len(data.images) // BATCH)
    runs: dict[str, Run] = {}
    optimizers: dict[str, tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]] = {}
    for name, model in networks.items():
        runs[name] = Run()
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        optimizers[name] = optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    shuffle = torch.Generator().manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # 8x8 images: more would wait for each other, for long if another program wants a core
    try:
        for epoch in range(epochs):
            batches = torch.randperm(len(data.images), generator=shuffle)[: steps // epochs * BATCH].split(BATCH)
            for name in list(networks) if epoch % 2 == 0 else reversed(networks):
                begin = time.perf_counter()
                runs[name].losses += one_epoch(networks[name], *optimizers[name], data, batches)
                runs[name].seconds += time.perf_counter() - begin
    finally:
        torch.set_num_threads(threads)
    for name, model in networks.items():
        with torch.no_grad():
            runs[name].accuracy = float((model(data.test_images).argmax(1) == data.test_labels).float().mean())
    return runs


def one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    data: Digits,
    batches: tuple[Tensor, ...],
) -> list[float]:
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data.images[batch]), data.labels[batch])
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def gap(runs: dict[str, Run]) -> float:
    """The largest distance between the two loss curves; NaN if one of them is anywhere."""
    curves = [torch.tensor(runs[name].losses, dtype=torch.float64) for name in ("torch", "ours")]
    return float((curves[0] - curves[1]).abs().max())


def disagreement(runs: dict[str, Run]) -> str | None:
    """None, or one sentence: the curves differ by more than rounding, or the accuracies differ or are too low."""
    if not gap(runs) <= LARGEST_GAP:  # not ">": a NaN must be caught, too
        return f"the loss curves of the two trainings are up to {gap(runs):.1e} apart (allowed: {LARGEST_GAP:.0e})"
    accuracies = {name: run.accuracy for name, run in runs.items()}
    if len(set(accuracies.values())) != 1:
        return f"the two trainings end at different accuracies: {accuracies}"
    if min(accuracies.values()) <= LEAST_ACCURACY:
        return f"the trained classifiers are right in only {accuracies['ours']:.1%} of the digits they never saw"
    return None
