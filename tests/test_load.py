"""Under load: many Python threads, processes forked after use and spawned, interrupts, no memory left, memory that must not grow."""
from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import good_calls
from torch_pooling import functional

CALLS: list[Any] = [
    lambda x: functional.max_pool2d(x, 3, 2, 1),
    lambda x: functional.avg_pool2d(x, 3, 1, 1),
    lambda x: functional.adaptive_avg_pool2d(x, 5),
    lambda x: functional.adaptive_max_pool2d(x, (3, 7)),
    lambda x: functional.global_avg_pool(x),
    lambda x: functional.sum_pool2d(x, 2),
    lambda x: functional.concat_pool(x, 2),
    lambda x: functional.spatial_pyramid_pool(x, (1, 2, 4), "max"),
]


def _results(number: int) -> list[torch.Tensor]:
    """Value and gradient of one call on a tensor of its own, large enough for several threads of torch."""
    random = torch.Generator().manual_seed(number)
    input = torch.randn(3, 17, 60, 61, generator=random)
    if number % 2:
        input = input.contiguous(memory_format=torch.channels_last)
    input.requires_grad_()
    output = CALLS[number % len(CALLS)](input)
    return [output.detach(), *torch.autograd.grad(output.square().sum(), input)]


def _same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_eight_threads_at_once(threads: Any) -> None:
    threads(2)
    expected = [_results(number) for number in range(16)]
    wrong: list[Any] = []

    def run(first: int) -> None:
        try:
            for turn in range(24):
                number = (first + turn * 5) % 16
                if not _same(_results(number), expected[number]):
                    wrong.append(number)
        except Exception as error:  # noqa: BLE001
            wrong.append(error)

    workers = [threading.Thread(target=run, args=(first,)) for first in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


class Pooled(Dataset[torch.Tensor]):
    """Pools in the worker, as augmentations do."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.cat([part.flatten() for part in _results(number % 16)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader(method: str, threads: Any) -> None:
    """Forked after this process has used several threads, and spawned."""
    threads(2)
    expected = [torch.cat([part.flatten() for part in _results(number % 16)]) for number in range(32)]
    loader = DataLoader(Pooled(), batch_size=None, num_workers=2, multiprocessing_context=multiprocessing.get_context(method))
    for number, found in enumerate(loader):
        assert torch.equal(found, expected[number]), number


def run_python(source: str, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, env=environment, timeout=timeout)


INTERRUPT = """
import os, signal, threading, time
import torch
import good_calls
from torch_pooling import functional
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs with this signal ignored
input = torch.randn(4, 16, 256, 256)
expected = functional.max_pool2d(input, 3, 2, 1)
caught = 0
for turn in range(20):
    timer = threading.Timer(0.01 + 0.003 * turn, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        while True:
            functional.avg_pool2d(input, 7, 1, 3)
            functional.max_pool2d(input, 5, 1, 2)
    except KeyboardInterrupt:
        caught += 1
    timer.join()
assert caught == 20 and torch.equal(functional.max_pool2d(input, 3, 2, 1), expected)
print("usable")
"""


def test_interrupts_leave_the_library_usable() -> None:
    done = run_python(INTERRUPT)
    assert done.returncode == 0 and "usable" in done.stdout, done.stderr


NO_MEMORY = """
import resource
import torch
import good_calls
from torch_pooling import functional
input = torch.randn(2, 8, 64, 64, requires_grad=True)
calls = [
    lambda x: functional.max_pool2d(x, 3, 1, 1), lambda x: functional.avg_pool2d(x, 3, 1, 1), lambda x: functional.adaptive_max_pool2d(x, 60),
    lambda x: functional.adaptive_avg_pool2d(x, 60), lambda x: functional.concat_pool(x, 60), lambda x: functional.sum_pool2d(x, 3, 1, 1),
]
expected = [call(input) for call in calls]
grads = [torch.autograd.grad(output.sum(), input)[0] for output in expected]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
large = torch.zeros(1).expand(1, 8, 16384, 16384)  # a result of 8 GiB
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), resource.RLIM_INFINITY))
for turn in range(5):
    for call in calls[:2] + calls[5:] + [lambda x: functional.adaptive_avg_pool2d(x, 40000), lambda x: functional.adaptive_max_pool2d(x, 40000)]:
        try:
            call(large)
            raise SystemExit("there was memory")
        except (RuntimeError, MemoryError) as error:
            assert "memory" in str(error) or isinstance(error, MemoryError), error
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for call, output, grad in zip(calls, expected, grads):
    again = call(input)
    assert torch.equal(again, output) and torch.equal(torch.autograd.grad(again.sum(), input)[0], grad)
print("usable")
"""


def test_no_memory_left() -> None:
    done = run_python(NO_MEMORY)
    assert done.returncode == 0 and "usable" in done.stdout, done.stderr + done.stdout


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _grows(turn: Callable[[int], None]) -> int:
    """Bytes that 100,000 rounds take beyond what the first 4000 took."""
    turn(4000)
    gc.collect()
    before = _resident()
    turn(96_000)
    gc.collect()
    return _resident() - before


def test_memory_does_not_grow() -> None:
    """100,000 calls of functions, forward and backward, with results that are dropped; and calls that are refused."""
    inputs = [torch.randn(1, 3, 6, 6, requires_grad=True), torch.randn(1, 3, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()]

    def turn(count: int) -> None:
        for number in range(count):
            input = inputs[number % 2]
            output = CALLS[number // 2 % len(CALLS)](input)
            torch.autograd.grad(output, input, torch.ones_like(output))
            if number % 5 == 0:
                with pytest.raises(RuntimeError):
                    functional.max_pool2d(input, 50)

    assert _grows(turn) < 4 << 20


def test_memory_does_not_grow_in_any_operator() -> None:
    """100,000 calls of the operators themselves, gathers and indices among them; one in eight refused."""
    calls = [(good_calls.operator_of(name), arguments) for name, arguments in good_calls.ALL.items()]
    refused = [(operator, {**arguments, next(iter(arguments)): torch.zeros(())}) for operator, arguments in calls]

    def turn(count: int) -> None:
        for number in range(count):
            operator, arguments = calls[number % len(calls)]
            operator(**arguments)
            if number % 8 == 0:
                operator, arguments = refused[number // 8 % len(calls)]
                with pytest.raises((RuntimeError, IndexError)):
                    operator(**arguments)

    assert len({operator for operator, _ in calls}) == 24 and _grows(turn) < 4 << 20


def test_memory_does_not_grow_by_second_derivatives() -> None:
    input = torch.randn(1, 3, 6, 6, requires_grad=True)
    mask = torch.arange(36).view(1, 6, 6) % 3 > 0
    calls = [*CALLS, lambda x: functional.global_max_pool(x, mask=mask), lambda x: functional.global_avg_pool(x, mask=mask)]

    def turn(count: int) -> None:
        for number in range(count // 4):
            output = calls[number % len(calls)](input)
            grad = torch.ones_like(output, requires_grad=True)
            first = torch.autograd.grad(output, input, grad, create_graph=True)[0]
            torch.autograd.grad(first, grad, torch.ones_like(first))

    assert _grows(turn) < 4 << 20
