"""The order of blocks, and of threads between barriers, must not change one bit of any result.

Every case of the battery's table that uses a kernel with barriers, and a share of the others, in several orders; each order is a
process of its own, that prints one digest for each case. Run from the folder of an emulated build.
"""
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

SEEDS = ("0", "1", "2", "3")
TESTS = Path(__file__).resolve().parent.parent


def digests() -> None:
    """One line for each case and kind: its name, and a digest of results and gradients in both layouts and two types."""
    sys.path[:0] = [os.getcwd(), str(TESTS)]
    import torch

    import battery
    from cases import CASES, Case
    from emulated import EMULATED
    from torch_pooling import functional

    assert EMULATED, "this is not an emulated build"
    torch.set_num_threads(1)

    def chosen(number: int, case: Case) -> bool:
        large = max(axis.taps for axis in case.windows.axes) >= 6 or case.family != "sliding"
        return large or number % 4 == 0

    def memory(tensor: torch.Tensor) -> bytes:
        return tensor.detach().numpy().tobytes()

    for number, case in enumerate(CASES):
        if not chosen(number, case):
            continue
        for kind in ("max", "avg"):
            if case.average_only if kind == "max" else not case.has_average:
                continue
            digest = hashlib.sha256()
            for layout in battery.LAYOUTS:
                for dtype in (torch.float32, torch.float16):
                    variant = battery.Variant(dtype, layout, "contiguous", "contiguous", True)
                    # Not the battery's sums, which are exact in any order: thirds are not.
                    input = (battery.make_input(case, variant) / 3).requires_grad_()
                    outputs = case.call(functional, kind, input, **({"return_indices": True} if kind == "max" else {}))
                    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
                    (found,) = torch.autograd.grad(outputs[0], input, battery.make_grad(case, variant) / 3)
                    for tensor in (*outputs, found):
                        digest.update(memory(tensor))
            print(f"{kind} {case.name} {digest.hexdigest()}", flush=True)


def main() -> int:
    if sys.argv[1:] == ["--digests"]:
        digests()
        return 0
    runs = []
    for seed in SEEDS:
        environment = os.environ | {"TORCH_POOLING_EMULATION_SEED": seed}
        done = subprocess.run([sys.executable, __file__, "--digests"], env=environment, stdout=subprocess.PIPE, text=True, check=True)
        runs.append(done.stdout.splitlines())
        print(f"seed {seed}: {len(runs[-1])} results", flush=True)
    wrong = [line for run in runs[1:] for line, first in zip(run, runs[0], strict=True) if line != first]
    for line in wrong:
        print("differs:", line.rsplit(" ", 1)[0])
    if len(runs[0]) < 200 or wrong:
        print("the order of threads changes results" if wrong else "hardly anything was run")
        return 1
    print("no bit depends on the order of threads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
