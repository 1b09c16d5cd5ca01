# SPDX-License-Identifier: BSD-3-Clause
"""Sanitizers on the CPU's own kernels and on the emulated ones, and another processor: `make sanitize`, `test-emulated`, `test-aarch64`.

run.py pytest ARGS     pytest under AddressSanitizer and UBSan, whose runtimes must be loaded before Python: any finding ends the
                       process.
run.py leaks ARGS      pytest, on an ordinary build, under LeakSanitizer alone. Leaks are counted that have our library on the stack
                       (Python itself never frees all); planted ones, a tensor and a node of a graph, must be reported.
run.py threads FOLDER  builds threads.cpp and csrc/cpu without torch, under ThreadSanitizer and under AddressSanitizer and UBSan with
                       libstdc++'s assertions, and runs both; a planted race must be reported.
run.py aarch64 FOLDER  builds the same for this processor and for ARM's, with Debian's cross compiler, and holds the results of the latter,
                       under qemu, against the former's: maxima bit by bit.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COMPILER = shlex.split(os.environ.get("CXX", "c++"))
SANITIZERS = {
    "tsan": ["-fsanitize=thread"],
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"],
}


def library(name: str) -> str:
    found = subprocess.run([*COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


# What torch keeps until the process ends, though our library asked for it: nodes and sizes of torch.compile's fake tensors, in its caches;
# and what is registered when a library is loaded.
KEPT = ("PyInterpreterVTable::python_dispatcher", "torch::impl::PythonSymNodeImpl::", "_GLOBAL__sub_I_", "pybind11_exec_")


def our_leaks(reports: str) -> list[str]:
    """Leaks, each with its stack, that our library is part of, but for what is kept."""
    leaks = [part for part in reports.split("\n\n") if "leak of" in part]
    return [leak for leak in leaks if ("torch_pooling/_C." in leak or "/csrc/" in leak) and not any(name in leak for name in KEPT)]


def run_pytest(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "LD_PRELOAD": ":".join(library(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")),  # of what throws, too
            # What asks for more memory than there is gets none, as without a sanitizer; what is freed is kept from use for the next
            # 16 MiB of freed blocks, not 256, so that memory still stops growing (tests/test_load.py).
            "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1:quarantine_size_mb=16:"
            f"log_path={folder}/report",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        }
        code = subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environment).returncode
        reports = [Path(path).read_text() for path in glob(f"{folder}/report*")]
    errors = [report for report in reports if "ERROR: AddressSanitizer" in report]
    for found in errors:
        print(found)
    return code or int(bool(errors))


# A result and the graph behind another are never freed.
PLANTED = """
import ctypes
from conftest import torch
from torch_pooling import functional
for kept in (functional.avg_pool2d(torch.zeros(1, 3, 64, 64), 2), functional.max_pool2d(torch.zeros(1, 3, 64, 64, requires_grad=True), 2)):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
del kept
"""


def leaks_of(command: list[str]) -> tuple[int, list[str]]:
    """Stacks by tables of unwinding, not by frame pointers, which torch does without: the others end inside it, before they are at ours."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "TORCH_POOLING_LEAKS": "1",  # conftest.py
            "LD_PRELOAD": ":".join(library(name) for name in ("liblsan.so", "libstdc++.so.6")),
            "LSAN_OPTIONS": f"exitcode=0:fast_unwind_on_malloc=0:malloc_context_size=12:allocator_may_return_null=1:log_path={folder}/leaks",
        }
        code = subprocess.run(command, env=environment).returncode
        return code, our_leaks("".join(Path(path).read_text() for path in glob(f"{folder}/leaks*")))


def run_leaks(arguments: list[str]) -> int:
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    planted = leaks_of(["env", f"PYTHONPATH={path}", sys.executable, "-c", PLANTED])[1]
    if not all(any(name in leak for leak in planted) for name in ("avg_pool", "max_pool")):
        print(f"LeakSanitizer did not see what was planted: {len(planted)} leaks")
        return 1
    print(f"planted leaks: reported, {len(planted)}", flush=True)
    code, leaks = leaks_of([sys.executable, "-m", "pytest", *arguments])
    for leak in leaks:
        print(leak)
    print(f"{len(leaks)} leaks with torch_pooling on the stack")
    return code or int(bool(leaks))


def build(folder: Path, name: str, compiler: list[str], flags: list[str]) -> str:
    """threads.cpp and csrc/cpu as a program, without torch, one compiler a core. What is newer than all sources is left as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [*glob(str(ROOT / "csrc/c*/*")), *filter(os.path.isfile, glob(str(HERE / "**/*"), recursive=True))]
    newest = max(map(os.path.getmtime, sources))
    includes = [f"-I{HERE / 'include'}", f"-I{ROOT / 'csrc'}"]

    def compiled(source: str) -> str:
        made = folder / f"{name}-{Path(source).stem}.o"
        if not made.exists() or made.stat().st_mtime <= newest:
            print(f"{name}: {Path(source).name}", flush=True)
            subprocess.run([*compiler, "-std=c++20", *flags, *includes, "-c", source, "-o", str(made)], check=True)
        return str(made)

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as compilers:
        objects = list(compilers.map(compiled, [str(HERE / "threads.cpp"), *sorted(glob(str(ROOT / "csrc/cpu/*.cpp")))]))
    program = str(folder / name)
    subprocess.run([*compiler, *flags, "-pthread", *objects, "-o", program], check=True)
    return program


def run_threads(folder: Path) -> int:
    programs = {name: build(folder, name, COMPILER, ["-O1", "-g1", *flags]) for name, flags in SANITIZERS.items()}
    planted = subprocess.run([programs["tsan"], "--plant"], capture_output=True, text=True)
    if planted.returncode == 0 or "data race" not in planted.stderr:
        print("ThreadSanitizer did not see a planted race")
        return 1
    options = {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return max(subprocess.run([program], env=os.environ | options).returncode for program in programs.values())


def run_aarch64(folder: Path) -> int:
    here = build(folder, "here", COMPILER, ["-O2"])
    there = build(folder, "aarch64", ["aarch64-linux-gnu-g++"], ["-O3"])
    emulated = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", there]
    for program in ([here], emulated):
        writer = subprocess.Popen([here, "--write"], stdout=subprocess.PIPE)
        if subprocess.run([*program, "--against"], stdin=writer.stdout).returncode or writer.wait():
            return 1
    return subprocess.run(emulated).returncode


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] == "pytest":
        return run_pytest(sys.argv[2:])
    if len(sys.argv) > 1 and sys.argv[1] == "leaks":
        return run_leaks(sys.argv[2:])
    if len(sys.argv) == 3 and sys.argv[1] in ("threads", "aarch64"):
        return (run_threads if sys.argv[1] == "threads" else run_aarch64)(Path(sys.argv[2]))
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main())
