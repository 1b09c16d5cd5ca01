"""A right call of every operator of torch.ops.torch_pooling, as keyword arguments: what tests of wrong calls start from."""
from __future__ import annotations

from typing import Any

import torch

import torch_pooling  # noqa: F401 - registers the operators

OPS = torch.ops.torch_pooling
WINDOW = {"rank": 2, "kernel_size": [3, 2], "stride": [2, 2], "padding": [1, 0], "dilation": [1, 1], "sizing": 0}
SIZE = [5, 6]  # gives 3 x 3 outputs
GRAD = torch.arange(2.0 * 3 * 3 * 3).view(2, 3, 3, 3) - 20
INPUT = ((torch.arange(2.0 * 3 * 5 * 6) * 7) % 11).view(2, 3, 5, 6)
OUTPUT_SIZE = [2, 4]
ADAPTIVE_GRAD = torch.arange(2.0 * 3 * 2 * 4).view(2, 3, 2, 4) - 20


def _single() -> dict[str, dict[str, Any]]:
    _, offsets = OPS.max_pool_with_offsets(INPUT, **WINDOW)
    _, adaptive = OPS.adaptive_max_pool_with_offsets(INPUT, OUTPUT_SIZE)
    average = WINDOW | {"count_include_pad": True, "divisor_override": None}
    return {
        "max_pool": {"input": INPUT, **WINDOW},
        "max_pool_with_offsets": {"input": INPUT, **WINDOW},
        "avg_pool": {"input": INPUT, **average},
        "sum_pool": {"input": INPUT, **WINDOW},
        "adaptive_avg_pool": {"input": INPUT, "output_size": OUTPUT_SIZE},
        "adaptive_max_pool": {"input": INPUT, "output_size": OUTPUT_SIZE},
        "adaptive_max_pool_with_offsets": {"input": INPUT, "output_size": OUTPUT_SIZE},
        "avg_pool_backward": {"grad_output": GRAD, "input_size": SIZE, **average, "channels_last": False},
        "sum_pool_backward": {"grad_output": GRAD, "input_size": SIZE, **WINDOW, "channels_last": False},
        "max_pool_backward": {
            "grad_output": GRAD, "offsets": offsets, "input_size": SIZE, **WINDOW, "channels_last": False,
        },
        "max_pool_gather": {"input": INPUT, "offsets": offsets, **WINDOW},
        "max_pool_indices": {"offsets": offsets, "input_size": SIZE, **WINDOW},
        "adaptive_avg_pool_backward": {"grad_output": ADAPTIVE_GRAD, "input_size": SIZE, "channels_last": False},
        "adaptive_max_pool_backward": {
            "grad_output": ADAPTIVE_GRAD, "offsets": adaptive, "input_size": SIZE, "channels_last": False,
        },
        "adaptive_max_pool_gather": {"input": INPUT, "offsets": adaptive, "output_size": OUTPUT_SIZE},
        "adaptive_max_pool_indices": {"offsets": adaptive, "input_size": SIZE},
    }  # fmt: skip


def _combined() -> dict[str, dict[str, Any]]:
    """Concatenations of an average and a maximum; of pyramids of both; of both of sliding windows."""
    ways: dict[str, dict[str, Any]] = {
        "": {"form": 0, "sizes": [2, 3, 2, 3], "stride": [], "padding": []},
        ":pyramid": {"form": 2, "sizes": [1, 1, 2, 3], "stride": [], "padding": []},
        ":sliding": {"form": 0, "sizes": [3, 2], "stride": [2, 1], "padding": [1, 0, 0, 1]},
    }
    calls: dict[str, dict[str, Any]] = {}
    for way, chosen in ways.items():
        both = {"rank": 2, "kinds": [0, 1], **chosen}
        output, offsets = OPS.combined_pool_with_offsets(INPUT, **both)
        grad = torch.arange(float(output.numel())).view(output.shape) - 20
        calls |= {
            f"combined_pool{way}": {"input": INPUT, **both},
            f"combined_pool_with_offsets{way}": {"input": INPUT, **both, "wide_offsets": False},
            f"combined_pool_gather{way}": {"input": INPUT, "offsets": offsets, **both},
            f"combined_pool_backward{way}": {"grad_output": grad, "offsets": offsets, "input_size": SIZE, **both, "channels_last": False},
        }
    return calls


def _masked() -> dict[str, dict[str, Any]]:
    mask = torch.arange(2 * 5 * 6).view(2, 5, 6) % 3 > 0
    grad = torch.arange(2.0 * 3).view(2, 3, 1, 1) - 2
    return {
        "masked_avg_pool": {"input": INPUT, "mask": mask},
        "masked_avg_pool_backward": {"grad_output": grad, "mask": mask, "channels_last": False},
        "masked_max_pool": {"input": INPUT, "mask": mask},
        "masked_max_pool_with_offsets": {"input": INPUT, "mask": mask, "wide_offsets": False},
    }


def operator_of(name: str) -> Any:
    """Of a key of ALL."""
    return getattr(OPS, name.partition(":")[0])


SINGLE = _single()
MASKED = _masked()
ALL = SINGLE | _combined() | MASKED
