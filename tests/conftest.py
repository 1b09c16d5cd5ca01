"""Fixtures that every test file shares.

`isa` runs a test once for each instruction set that this CPU can run; a test with `each_isa` loops over them
itself. `TORCH_POOLING_ISA=scalar pytest tests/...` runs the same tests with that one only. Tests run on one thread,
since pytest-xdist fills the cores; `threads` sets another number for the length of a test.
"""
from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator

import pytest

if "TORCH_POOLING_LEAKS" in os.environ:  # sanitizers/run.py: thousands of records of what is kept from its import on would crowd out others
    ctypes.CDLL(None).__lsan_disable()
    import torch_pooling  # noqa: F401

    ctypes.CDLL(None).__lsan_enable()
import torch

from emulated import reason_to_skip
from torch_pooling import _library

FORCED = os.environ.get("TORCH_POOLING_ISA")
INSTRUCTION_SETS = [FORCED] if FORCED else _library.instruction_sets()

torch.set_num_threads(1)
if "TORCH_POOLING_TEST_DEVICE" in os.environ:  # the batteries on a GPU: tests make tensors without naming a device
    torch.set_default_device(os.environ["TORCH_POOLING_TEST_DEVICE"])


def pytest_configure(config: pytest.Config) -> None:
    """A worker that ends may have counts to write, or leaks: xdist kills it after ten seconds, and whatever it had seen is lost."""
    if config.pluginmanager.has_plugin("xdist"):
        from xdist.workermanage import NodeManager

        NodeManager.EXIT_TIMEOUT = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        reason = reason_to_skip(f"{item.path.name}::{item.name}")
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def _force_in_turn() -> Iterator[str]:
    for name in INSTRUCTION_SETS:
        _library.force_instruction_set(name)
        yield name
    if "TORCH_POOLING_TEST_DEVICE" in os.environ:
        return  # what follows is the CPU's
    _library.force_instruction_set(INSTRUCTION_SETS[0])
    _library.store_past_caches_from(1)
    yield f"{INSTRUCTION_SETS[0]}, stores past the caches"
    _library.store_past_caches_from(None)


@pytest.fixture(params=INSTRUCTION_SETS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set in turn; restored afterwards."""
    _library.force_instruction_set(request.param)
    yield request.param
    _library.force_instruction_set(FORCED)


@pytest.fixture
def each_isa() -> Iterator[Callable[[], Iterator[str]]]:
    """`for isa in each_isa():` forces every instruction set in turn within one test, the best one once more with stores
    past the caches; restored afterwards."""
    yield _force_in_turn
    _library.store_past_caches_from(None)
    _library.force_instruction_set(FORCED)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """A function that sets the number of threads; restored afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
