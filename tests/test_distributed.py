# SPDX-License-Identifier: BSD-3-Clause
"""Several processes with gloo: DistributedDataParallel, FSDP2, DTensor. They are started once for 2 and once for 4 ranks, meet
in a file, and are ended if they take too long; what they do is in distributed_scenarios.py."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)

from distributed_scenarios import SCENARIOS  # noqa: E402

LIMIT = 240  # seconds, for all scenarios of one number of ranks on a busy machine


@cache
def run_all(world: int) -> tuple[dict[str, list[str | None]], str]:
    """Starts the ranks. What went wrong on each rank in each scenario (None: nothing), and what the ranks printed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    with TemporaryDirectory() as name:
        folder = Path(name)
        output = [(folder / f"output.{rank}").open("w+") for rank in range(world)]
        ranks = [
            subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "distributed_scenarios.py"), str(rank), str(world), name],
                stdout=output[rank], stderr=subprocess.STDOUT, env=environment,
            )
            for rank in range(world)
        ]
        deadline = time.monotonic() + LIMIT
        try:
            for process in ranks:
                process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:
            for process in ranks:
                process.kill()
                process.wait()
        printed = []
        for rank, file in enumerate(output):
            file.seek(0)
            printed.append(f"--- rank {rank}, exit status {ranks[rank].returncode}\n{file.read()[-3000:]}")
            file.close()
        said = {
            scenario: [
                json.loads(path.read_text()) if (path := folder / f"{scenario}.{rank}").exists() else "was not reached"
                for rank in range(world)
            ]
            for scenario, (processes, _) in SCENARIOS.items() if processes == world
        }
    return said, "\n".join(printed)


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str) -> None:
    said, printed = run_all(SCENARIOS[name][0])
    wrong = [f"rank {rank}: {text}" for rank, text in enumerate(said[name]) if text is not None]
    assert not wrong, "\n".join([*wrong, printed])


def test_importing_costs_nothing_and_order_does_not_matter() -> None:
    """torch.distributed.tensor is not imported by us, and the rules are there whoever is imported first."""
    program = """
import sys, torch, importlib.util
{first}
{second}
DTensor = sys.modules["torch.distributed.tensor"].DTensor
rules = torch._library.simple_registry.singleton.find("torch_pooling::max_pool").torch_dispatch_rules
assert rules.find(DTensor) is not None
assert not [finder for finder in sys.meta_path if type(finder).__name__ == "_WhenImported"]
"""
    ours = 'import torch_pooling; assert "torch.distributed.tensor" not in sys.modules'
    looked_for = 'assert importlib.util.find_spec("torch.distributed.tensor")\nimport torch.distributed.tensor'
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), str(ROOT)])}
    for first, second in ((ours, looked_for), ("import torch.distributed.tensor", "import torch_pooling")):
        done = subprocess.run([sys.executable, "-c", program.format(first=first, second=second)],
                              capture_output=True, text=True, env=environment, timeout=600)
        assert done.returncode == 0, done.stderr
