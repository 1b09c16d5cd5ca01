"""Keeps the arrows of docs/design.md as they are drawn: who may include or import whom, and who may compute geometry.

Reads the include and import lines of the sources (comments left out), nothing is compiled. The rules: csrc/core stands
alone; csrc/cpu and csrc/cuda know core and never each other, and no torch but the two 16-bit types and, in the launch
files, ATen's threads; csrc/ops knows no device; only the register files join the two; stride, padding and dilation are
worked with in core/window.h alone (and its narrow twin for devices, core/spans.h). Python: _library <- functional <- modules, _library <- _sharding.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "torch_pooling"
CPP_SUFFIXES = {".h", ".inl", ".cpp", ".cu", ".cuh"}
SIXTEEN_BIT_TYPES = {"c10/util/BFloat16.h", "c10/util/Half.h"}
MOST_LINES = 400


def cpp_files(folder: Path = CSRC) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in CPP_SUFFIXES)


@cache
def code(path: Path) -> str:
    """The source without its comments (this project has no comment marks inside string literals)."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    return re.sub(r"//[^\n]*", "", text)


def includes(path: Path) -> list[str]:
    return re.findall(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', code(path), flags=re.MULTILINE)


def is_standard(header: str) -> bool:
    """A header of the language or the compiler: <vector>, <immintrin.h>; not cuda_runtime.h, not Python.h."""
    return "/" not in header and not header.lower().startswith(("cuda", "python", "omp"))


def relative(path: Path) -> str:
    return path.relative_to(CSRC).as_posix()


def is_launch(path: Path) -> bool:
    return path.parent == CSRC / "cpu" and path.name.startswith("launch") and path.suffix == ".cpp"


def binding_files() -> list[Path]:
    """The files that speak to Python: torch/extension.h is pybind11 and all of torch."""
    return [
        path for path in cpp_files()
        if any(header == "torch/extension.h" or "pybind" in header for header in includes(path))
    ]


def test_the_folders_are_there() -> None:
    for folder in ("core", "cpu", "ops"):
        assert cpp_files(CSRC / folder), f"csrc/{folder} holds no sources: the rules below would prove nothing"
    assert includes(CSRC / "core" / "window.h")


@pytest.mark.parametrize("path", cpp_files(CSRC / "core"), ids=relative)
def test_core_includes_only_itself(path: Path) -> None:
    strangers = [header for header in includes(path) if not header.startswith("core/") and not is_standard(header)]
    assert not strangers


@pytest.mark.parametrize("path", cpp_files(CSRC / "cpu"), ids=relative)
def test_cpu_includes_core_and_no_torch(path: Path) -> None:
    allowed = SIXTEEN_BIT_TYPES | ({"ATen/Parallel.h"} if is_launch(path) else set()) | ({"sys/mman.h"} if path.stem == "first_touch" else set())
    strangers = [
        header for header in includes(path)
        if not header.startswith(("core/", "cpu/")) and header not in allowed and not is_standard(header)
    ]
    assert not strangers


@pytest.mark.parametrize("path", cpp_files(CSRC / "ops"), ids=relative)
def test_ops_know_no_device(path: Path) -> None:
    assert not [header for header in includes(path) if header.startswith(("cpu/", "cuda/"))]


@pytest.mark.parametrize("path", cpp_files(), ids=relative)
def test_edges_between_folders(path: Path) -> None:
    headers = includes(path)
    folder = relative(path).split("/")[0]
    if folder == "cuda":
        assert not [header for header in headers if header.startswith(("cpu/", "ops/"))]
        if path.suffix == ".cuh":  # kernels see raw pointers, never a tensor
            assert not [header for header in headers if header.startswith(("torch/", "ATen/"))]
    if any(header.startswith("ops/") for header in headers) and any(
        header.startswith(("cpu/", "cuda/")) for header in headers
    ):
        assert path.name.startswith("register_") or path in binding_files()
    for header in headers:  # an include by a relative path would slip past all of these rules
        assert not header.startswith("."), header
        if header.split("/")[0] in ("core", "cpu", "cuda", "ops"):
            assert (CSRC / header).is_file(), header


def test_one_file_pays_for_pybind11() -> None:
    """Its headers, and torch/extension.h more so, take most of a minute to compile."""
    assert len(binding_files()) == 1


@pytest.mark.parametrize("path", cpp_files(), ids=relative)
def test_only_the_window_computes_with_padding_and_dilation(path: Path) -> None:
    name = relative(path)
    passes_them_on = (
        name in ("core/window.h", "core/spans.h", "core/problem.h")
        or name.startswith(("ops/", "register_"))
        or path in binding_files()
    )
    if not passes_them_on:
        statements = re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', code(path))  # what an error says computes nothing
        assert not re.findall(r"\b\w*(?:padding|dilation)\w*\b(?<!count_padding)", statements), (
            "kernels ask core/window.h which inputs an output reads"
        )


def test_a_missing_device_is_a_missing_file() -> None:
    sources = [*cpp_files(), *PACKAGE.rglob("*.py"), ROOT / "setup.py"]
    assert not [str(path) for path in sources if "WITH_CUDA" in path.read_text()]


def test_no_flag_that_deletes_the_nan_rule_or_binds_the_build_to_this_machine() -> None:
    text = (ROOT / "setup.py").read_text()
    assert not re.findall(r"-ffast-math|-Ofast|-march=|-mavx|-mfma", text)


def imports_of(path: Path) -> set[str]:
    """Modules of this package that a file imports, as names inside the package: functional, _library, _C."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ("torch_pooling." if node.level else "") + (node.module or "")
            base = base.rstrip(".")
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "torch_pooling" else [base]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("torch_pooling.")}
    return found


def test_python_imports_flow_one_way() -> None:
    assert imports_of(PACKAGE / "modules.py") == {"functional"}
    assert "modules" not in imports_of(PACKAGE / "functional.py") and "_C" not in imports_of(PACKAGE / "functional.py")
    assert not imports_of(PACKAGE / "_library.py") & {"functional", "modules"}
    for path in PACKAGE.glob("_sharding*.py"):  # rules are about operators: they know neither functions nor modules
        assert all(name == "_library" or name.startswith("_sharding") for name in imports_of(path)), path.name
    others = [path for path in PACKAGE.rglob("*.py") if path.name != "_library.py"]
    assert not [path.name for path in others if "_C" in imports_of(path)], "_library alone speaks to the extension"


def test_files_stay_short() -> None:
    sources = [*cpp_files(), ROOT / "setup.py"]
    for folder in ("torch_pooling", "tests", "benchmarks"):
        sources += (ROOT / folder).rglob("*.py")
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in sources}
    assert len(lengths) > 30
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}
