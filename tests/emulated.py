"""The build whose CPU operators are the CUDA kernels, run by tests/cuda_emulation (make test-emulated): what cannot apply to it.

Everything else in tests/ must pass there as it does on the CPU's own kernels.
"""
from __future__ import annotations

from torch_pooling import _library

EMULATED = _library.instruction_sets() == ["emulated"]

# Beginning of a test's name: why it says nothing about these kernels.
NOT_APPLICABLE = {
    "test_isa.py::": "the CPU's instruction sets are not part of the build",
    "test_errors_direct.py::test_offsets_outside_their_window": (
        "on a GPU nobody looks at offsets beforehand, that would mean waiting for it; see test_any_offsets.py"
    ),
    "test_known_failures_sizes.py::test_pt142459_pt122024_pt140923_pt141100_offsets_that_do_not_belong": (
        "the same; that a wrong batch is refused stands in test_errors_direct.py, too"
    ),
    "test_long_windows.py::test_gradients_of_many_windows_keep_their_digits": "a GPU adds gradients in float32, see docs/cuda.md",
}


def reason_to_skip(name: str) -> str | None:
    """`name`: file and test, as in test_x.py::test_y[z]."""
    if not EMULATED:
        return None
    return next((reason for beginning, reason in NOT_APPLICABLE.items() if name.startswith(beginning)), None)
