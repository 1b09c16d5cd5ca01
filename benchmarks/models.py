# SPDX-License-Identifier: BSD-3-Clause
"""Whole networks of torchvision and timm: are they the same on our kernels, and what is gained? python -m benchmarks.models

Needs torchvision and timm beside torch; weights are random, nothing is downloaded. Each job runs in a process of its own, forked
from one that never computes, so that peak memory is that of the job. Converted and inside override(), in both memory formats,
outputs and gradients of the input must be torch's, as `check` says; after revert() they must be bit-equal. Then a forward and a
training step, torch's and ours in turns, and the memory of one step.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import torch_pooling
from torch_pooling._demo.stopwatch import alternate, medians

PICTURE = (3, 224, 224)


def torchvision_model(name: str, **kwargs: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import torchvision

        return torchvision.models.get_model(name, weights=None, **kwargs)

    return make


def timm_model(name: str, **kwargs: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False, **kwargs)

    return make


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{name: (torchvision_model(name), PICTURE) for name in (
        "alexnet", "vgg16", "resnet50", "resnext50_32x4d", "densenet121", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_large",
        "efficientnet_b0", "convnext_tiny", "regnet_y_400mf", "shufflenet_v2_x1_0", "mnasnet1_0",
    )},
    "googlenet": (torchvision_model("googlenet", init_weights=False, aux_logits=False), PICTURE),
    "inception_v3": (torchvision_model("inception_v3", init_weights=False, aux_logits=False), (3, 299, 299)),
    "r3d_18 (video)": (torchvision_model("r3d_18"), (3, 8, 112, 112)),
    **{name: (timm_model(name), PICTURE) for name in (
        "seresnext50_32x4d", "ecaresnet26t", "resnet50d", "res2net50_26w_4s", "dpn68", "skresnet18", "ese_vovnet19b_dw",
        "hrnet_w18_small", "poolformer_s12", "inception_v4",
    )},
    "resnet18, CBAM": (timm_model("resnet18", block_args={"attn_layer": "cbam"}), PICTURE),
    "resnet18, catavgmax head": (timm_model("resnet18", global_pool="catavgmax"), PICTURE),
    "resnet18, avgmax head": (timm_model("resnet18", global_pool="avgmax"), PICTURE),
}


def build(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    make, size = MODELS[name]
    torch.manual_seed(0)
    return make().eval(), size


def output_of(model: nn.Module, input: Tensor) -> Tensor:
    result = model(input)
    return result if isinstance(result, Tensor) else result[0]


def results(model: nn.Module, input: Tensor) -> tuple[Tensor, Tensor]:
    leaf = input.clone().requires_grad_()
    output = output_of(model, leaf)
    slopes = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return output.detach(), torch.autograd.grad(output, leaf, slopes)[0]


def distance(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm().clamp(min=1e-30))


def layers_swapped(model: nn.Module) -> int:
    before = {id(layer): type(layer) for layer in model.modules()}
    torch_pooling.convert(model)
    return sum(type(layer) is not before[id(layer)] for layer in model.modules())


def ways(model: nn.Module, input: Tensor) -> tuple[int, dict[str, tuple[Tensor, Tensor]]]:
    """How many layers convert() swaps, and what the model gives on our kernels; it is reverted afterwards."""
    swapped = layers_swapped(model)
    found = {"converted": results(model, input)}
    torch_pooling.revert(model)
    with torch_pooling.override():
        found["override"] = results(model, input)
    return swapped, found


def check(name: str) -> dict[str, Any]:
    """The largest relative distances from torch, and what is out of bounds.

    In float64 all must agree to 1e-12. In float32 a last bit decides now and then which side of zero a ReLU is on, or which of two
    elements is the larger, and the gradient jumps; as far as torch's own does between its two memory formats (or from float64).
    """
    model, size = build(name)
    input = torch.randn(1, *size, generator=torch.Generator().manual_seed(1))
    layouts = {"channels first": torch.contiguous_format, "channels last": torch.channels_last if len(size) == 3 else torch.channels_last_3d}
    wrong: list[str] = []
    worst, worst_exact = 0.0, 0.0
    model.double()
    exact = results(model, input.double())
    for layout, memory_format in layouts.items():
        _, found = ways(model.to(memory_format=memory_format), input.double().to(memory_format=memory_format))
        for way, ours in found.items():
            far = max(distance(one, other) for one, other in zip(ours, exact))
            worst_exact = max(worst_exact, far)
            if not far <= 1e-12:
                wrong.append(f"{way}, {layout}, float64: {far:.1e} from torch's")
    model.float()
    theirs = {}
    for layout, memory_format in layouts.items():
        theirs[layout] = results(model.to(memory_format=memory_format), input.to(memory_format=memory_format))
    room = [
        max(distance(theirs["channels first"][what], theirs["channels last"][what]), *(distance(theirs[key][what], exact[what]) for key in theirs))
        for what in (0, 1)
    ]
    for layout, memory_format in layouts.items():
        model, placed = model.to(memory_format=memory_format), input.to(memory_format=memory_format)
        swapped, found = ways(model, placed)
        for way, ours in found.items():
            for what, one, other, allowed in zip(("output", "gradient"), ours, theirs[layout], room):
                far = distance(one, other)
                worst = max(worst, far)
                if not far <= 4 * allowed + 1e-6:
                    wrong.append(f"{way}, {layout}: {what} is {far:.1e} from torch's, which is {allowed:.1e} from itself")
                if one.stride() != other.stride():
                    wrong.append(f"{way}, {layout}: {what} has strides {one.stride()}, torch's {other.stride()}")
        if not all(torch.equal(one, other) for one, other in zip(results(model, placed), theirs[layout])):
            wrong.append(f"reverted, {layout}: not bit-equal")
    return {"name": name, "swapped": swapped, "distance": worst, "float64": worst_exact, "torch": max(room), "wrong": wrong}


def step(model: nn.Module, input: Tensor) -> None:
    model.zero_grad()
    output_of(model, input).square().mean().backward()


def times(name: str, batch: int, seconds: float) -> dict[str, Any]:
    """Seconds: forward without gradient in eval mode, and forward with backward in training mode."""
    model, size = build(name)
    other = build(name)[0]
    torch_pooling.convert(other)
    input = torch.randn(batch, *size)
    calls: dict[str, Callable[[], object]] = {"torch": lambda: output_of(model, input), "ours": lambda: output_of(other, input)}
    with torch.no_grad():
        forward = medians(alternate(calls, seconds=seconds, least=3))
    model.train(), other.train()
    steps: dict[str, Callable[[], object]] = {"torch": lambda: step(model, input), "ours": lambda: step(other, input)}
    return {"name": name, "forward": forward, "step": medians(alternate(steps, seconds=seconds, least=3))}


def peak(name: str, batch: int, converted: bool) -> float:
    """Bytes that one training step adds to what the process had with its model and gradients."""
    model, size = build(name)
    model.train()
    if converted:
        torch_pooling.convert(model)
    input = torch.randn(batch, *size)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    step(model, input)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def apart(job: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(job, arguments)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| network | layers swapped | float64 | float32 | torch from itself | forward, ms: torch | ours | ratio | training step, ms: torch | ours "
        "| ratio | memory of a step, MB: torch | ours |",
        "|---" * 13 + "|",
    ]
    for row in rows:
        cells = [row["name"], str(row["swapped"]), *(f"{row[key]:.0e}" for key in ("float64", "distance", "torch"))]
        for what in ("forward", "step"):
            if what in row:
                both = row[what]
                cells += [f"{both['torch'] * 1e3:.0f}", f"{both['ours'] * 1e3:.0f}", f"{both['torch'] / both['ours']:.2f}"]
        cells += [f"{value / 1e6:.0f}" for value in row.get("peak", ())]
        lines.append("| " + " | ".join(cells + [""] * (13 - len(cells))) + (" | WRONG" if row["wrong"] else " |"))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="correctness only")
    parser.add_argument("--batch", type=int, default=8, help="images of a timed batch (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="for each of the two timings of a network (default: %(default)s)")
    parser.add_argument("--only", nargs="*", default=list(MODELS), metavar="NAME")
    parser.add_argument("--out", type=Path, help="a file for the rows, one JSON object a line")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    unknown = [name for name in chosen.only if name not in MODELS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(MODELS)}")
    import timm  # noqa: F401  the forked processes find them loaded
    import torchvision  # noqa: F401

    rows = []
    for name in chosen.only:
        row = apart(check, name)
        said = f"{name}: {row['swapped']} layers, {row['float64']:.1e} in float64, {row['distance']:.1e} in float32"
        print("\n  WRONG ".join([said, *row["wrong"]]), flush=True)
        if not chosen.check:
            row |= apart(times, name, chosen.batch, chosen.seconds)
            row["peak"] = [apart(peak, name, chosen.batch, converted) for converted in (False, True)]
        rows.append(row)
        if chosen.out:
            chosen.out.write_text("".join(json.dumps(each) + "\n" for each in rows))
    print(table(rows))
    return int(any(row["wrong"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
