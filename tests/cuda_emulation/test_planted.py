"""Each checker of the emulated kernels bites: errors planted into small kernels are found, and the same kernels without pass."""
from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
CSRC = FOLDER.parent.parent / "csrc"
COMPILER = shlex.split(os.environ.get("CXX", "c++"))
pytestmark = pytest.mark.skipif(shutil.which(COMPILER[0]) is None, reason="needs a C++ compiler")
SEEDS = ("0", "1", "2", "3")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """planted.cpp with the flags of the sanitized build."""
    path = tmp_path_factory.mktemp("planted") / "planted"
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all"]
    flags = ["-std=c++20", "-O1", "-fno-strict-aliasing", "-Wno-unknown-pragmas", *sanitizers]
    sources = [str(FOLDER / name) for name in ("planted.cpp", "emulation.cpp")]
    subprocess.run([*COMPILER, *flags, f"-I{FOLDER / 'include'}", f"-I{CSRC}", *sources, "-o", str(path)], check=True)
    return path


def run(program: Path, error: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    around = ("LD_PRELOAD", "LSAN_OPTIONS", "UBSAN_OPTIONS")  # of sanitizers that this process runs under
    environment = {key: value for key, value in os.environ.items() if key not in around}
    environment |= {"TORCH_POOLING_EMULATION_SEED": seed, "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run([str(program), error], env=environment, capture_output=True, text=True, timeout=120)


def test_a_right_kernel_passes_and_gives_the_same_in_any_order(program: Path) -> None:
    runs = [run(program, "none", seed) for seed in SEEDS]
    assert [done.returncode for done in runs] == [0] * len(runs), runs[0].stderr
    assert len({done.stdout for done in runs}) == 1 and len(runs[0].stdout.split()) == 192
    assert run(program, "aligned").returncode == 0


def test_a_missing_barrier_changes_the_answer(program: Path) -> None:
    assert len({run(program, "missing-barrier", seed).stdout for seed in SEEDS}) > 1


def test_an_out_of_bounds_read_is_found_in_a_fiber(program: Path) -> None:
    done = run(program, "out-of-bounds")
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr


def test_an_access_beyond_shared_memory_is_found(program: Path) -> None:
    done = run(program, "shared-memory")
    assert done.returncode != 0 and "out of bounds" in done.stderr


def test_a_misaligned_pack_is_found(program: Path) -> None:
    done = run(program, "misaligned")
    assert done.returncode != 0 and "misaligned address" in done.stderr


def test_a_barrier_that_a_thread_never_reaches_is_found(program: Path) -> None:
    done = run(program, "unreached-barrier")
    assert done.returncode == 1 and "63 threads wait at __syncthreads" in done.stderr
