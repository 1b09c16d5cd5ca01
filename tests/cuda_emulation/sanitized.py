"""pytest under AddressSanitizer and UBSan, whose runtimes must be loaded before Python: any finding ends the process.

Arguments are pytest's. libstdc++ is preloaded, too: AddressSanitizer looks for the functions that throw when it starts.
"""
from __future__ import annotations

import os
import shlex
import subprocess
import sys


def library(name: str) -> str:
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    found = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def main() -> int:
    environment = os.environ | {
        "LD_PRELOAD": ":".join(library(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }
    return subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
