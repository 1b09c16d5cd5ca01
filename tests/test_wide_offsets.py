"""No offset, size or position is held in 32 bits: read off the sources, and asked of a compiler that warns of every narrowing.

That a tensor of more than 2^31 elements works is shown by test_large.py, for some operators; this is for all of them.
"""
from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from torch.utils import cpp_extension

from test_layering import CSRC, code, cpp_files, relative

WORDS = "offset|position|index|count|size|stride|begin|end|element|place|total|length|row|plane|at|channel|batch|first|last"
NARROW = re.compile(rf"\b(?:int|unsigned|short|u?int(?:8|16|32)_t)\s+&?((?:[a-z]+_)*(?:{WORDS})s?_?)\b\s*[=;,(){{\[]")
# What is counted is never a tensor's elements.
ALLOWED = {
    "core/problem.h": {"dtype_count"},
    "cpu/block.h": {"first"},  # taps of windows small enough to be located
    "cpu/chain.inl": {"count"},  # doublings of a window
    "cpu/scratch.h": {"count"},  # loops, at most 8
    "cpu/max_scatter.cpp": {"at"},  # inside a tile, which `locate` has found to be small
}
CLANG = next((name for name in ("clang++", *(f"clang++-{version}" for version in range(25, 13, -1))) if shutil.which(name)), None)
DEFINED = '-DTORCH_POOLING_CUDA_VERSION=""'  # by setup.py
COMPILED = [path for path in cpp_files() if path.suffix == ".cpp" and path.parent.name in ("cpu", "ops")]


@pytest.mark.parametrize("path", [path for path in cpp_files() if path.parent.name in ("core", "cpu", "ops")], ids=relative)
def test_no_narrow_names(path: Path) -> None:
    """CUDA's kernels number inside a tile in 32 bits, where launchers have checked that it fits; here nothing does."""
    found = {match.group(1) for match in NARROW.finditer(code(path))}
    assert found <= ALLOWED.get(relative(path), set())


def test_the_rule_sees_narrow_names() -> None:
    assert NARROW.search("int offset{0};") and NARROW.search("int32_t offsets[3];")
    assert NARROW.search("for (int offset = 0;") and NARROW.search("int32_t row_begin, row_end;") and NARROW.search("f(unsigned size)")
    assert not NARROW.search("for (int axis = 0;") and not NARROW.search("int64_t offset = 0;")


def _narrowings(path: Path) -> list[str]:
    headers = [f"-isystem{folder}" for folder in (*cpp_extension.include_paths(), sysconfig.get_path("include"))]
    command = [str(CLANG), "-std=c++20", "-fsyntax-only", "-Wshorten-64-to-32", DEFINED, f"-I{CSRC}", *headers, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "shorten-64-to-32" in line]


@pytest.mark.skipif(CLANG is None, reason="clang alone warns of just this")
@pytest.mark.parametrize("path", COMPILED, ids=relative)
def test_nothing_is_narrowed_unseen(path: Path) -> None:
    assert _narrowings(path) == []


@pytest.mark.skipif(CLANG is None, reason="clang alone warns of just this")
def test_the_compiler_sees_narrowings(tmp_path: Path) -> None:
    planted = tmp_path / "planted.cpp"
    planted.write_text("#include <cstdint>\nint place(int64_t offset) { return offset; }\n")
    assert len(_narrowings(planted)) == 1
