# SPDX-License-Identifier: BSD-3-Clause
"""Does one pooling function give torch's answer? Values and gradients against torch's own, worked out in float64.

A maximum copies one of its inputs, so its value must be torch's to the last bit. Everything else is a short sum, and a
sum is only as exact as the terms that went in: the room allowed is the rounding of the result's own type plus a few
float32 roundings of the sum of the terms' magnitudes, which torch works out too, from absolute values. A wrong divisor,
a gradient at the wrong place or a sum kept in 16 bits is far outside it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Pool = Callable[[Tensor], Tensor]

ROUNDINGS = 8  # machine epsilons of the accumulation type; sums in any sensible order stay below


def compare(ours: Pool, theirs: Pool, x: Tensor, *, selects: bool, every: int = 1) -> str | None:  # x: [N, C, *spatial]
    """None, or one sentence that says what is wrong with `ours` on x, value or gradient.

    selects: the values are copies of inputs (a maximum) and must be equal, not close.
    every: look at each n-th channel only, where torch's float64 answer would take minutes (channels are independent).
    """
    x = x.detach()
    leaf = x.clone().requires_grad_()  # clone keeps the memory format
    value = ours(leaf)
    reference = x[:, ::every].double().requires_grad_()
    exact = theirs(reference)
    if value.dtype != x.dtype:
        return f"the value is {value.dtype} for an input of {x.dtype}"
    expected = (x.shape[0], x.shape[1] if every > 1 else exact.shape[1], *exact.shape[2:])
    if value.shape != expected:
        return f"the value has shape {tuple(value.shape)}, torch's {expected}"

    if selects:
        allowed = torch.zeros_like(exact)
    else:
        with torch.no_grad():
            allowed = room(exact, theirs(reference.abs()), x.dtype)
    wrong = furthest("value", value.detach()[:, ::every], exact.detach(), allowed)
    if wrong:
        return wrong

    generator = torch.Generator(device=x.device).manual_seed(0)
    grad_output = torch.empty_like(value.detach()).normal_(generator=generator)
    (gradient,) = torch.autograd.grad(value, leaf, grad_output)
    if gradient.dtype != x.dtype or gradient.shape != x.shape:
        return f"the gradient is {gradient.dtype} {tuple(gradient.shape)} for an input of {x.dtype} {tuple(x.shape)}"
    slopes = grad_output[:, ::every].double()
    (exact_gradient,) = torch.autograd.grad(exact, reference, slopes, retain_graph=True)
    (magnitude,) = torch.autograd.grad(exact, reference, slopes.abs())
    return furthest("gradient", gradient[:, ::every], exact_gradient, room(exact_gradient, magnitude, x.dtype))


def room(exact: Tensor, magnitude: Tensor, dtype: torch.dtype) -> Tensor:
    """How far from `exact` a result of this dtype may be: its last rounding, and the roundings of a sum of `magnitude`."""
    result = torch.finfo(dtype)
    accumulation = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32)
    least = result.smallest_normal * result.eps  # below the normal numbers the spacing no longer shrinks
    return exact.abs() * (result.eps / 2) + magnitude * (ROUNDINGS * accumulation.eps) + least


def furthest(what: str, got: Tensor, exact: Tensor, allowed: Tensor) -> str | None:
    """None where |got - exact| <= allowed everywhere, else the element that is furthest outside; NaN agrees with NaN only."""
    got = got.double()
    distance = (got - exact).abs() - allowed
    distance = torch.where((got == exact) | (got.isnan() & exact.isnan()), -torch.inf, distance.nan_to_num(nan=torch.inf))
    if distance.numel() == 0 or bool((distance <= 0).all()):
        return None
    outside = int((distance > 0).sum())
    place = tuple(int(i) for i in torch.unravel_index(distance.argmax(), distance.shape))
    return (
        f"the {what} differs from torch's in {outside} of {distance.numel()} elements, most at {place}: "
        f"{got[place]:.9g} instead of {exact[place]:.9g} (allowed: {allowed[place]:.1e})"
    )
