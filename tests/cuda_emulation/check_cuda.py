"""Compiles csrc/cuda with nvcc and looks at what came out: `make check-cuda`. Needs no GPU and no torch with CUDA.

Every .cu for each architecture, warnings as errors; registers and spills of each kernel as ptxas reports them, a spill being
a failure; and the 128-bit accesses of the kernels that promise them, read off the PTX. register_cuda.cpp is compiled against
the headers of the torch that is installed, whose CPU wheels bring those of c10/cuda along.
"""
from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CSRC = ROOT / "csrc"
ARCHITECTURES = ("80", "90")
MAY_SPILL: dict[str, str] = {}  # kernel: why

PACK = r"\bv(?:4\.[bufs]32|2\.[bufs]64)\b"
HALF_PACK = r"\bv(?:2\.[bufs]32|4\.[bufs]16)\b|\.[bufs]64\b"
BYTES = {"double": 8, "long": 8, "float": 4, "int": 4, "short": 2, "HalfBits": 2, "BFloat16Bits": 2, "signed char": 1, "unsigned char": 1}


@dataclass(frozen=True)
class Kernel:
    name: str  # demangled, without arguments and namespaces
    symbol: str

    @property
    def stem(self) -> str:
        return self.name.split("<")[0].split()[-1]

    @property
    def arguments(self) -> list[str]:
        inside = self.name.partition("<")[2].removesuffix(">").strip()
        return [word.strip() for word in re.split(r",(?![^<]*>)", inside)]

    def promises(self) -> dict[str, str]:
        """Accesses that must be there: "ld" and "st", and how wide."""
        pack = next((int(word) for word in self.arguments if word.isdigit()), 1)
        element = next((BYTES[word] for word in self.arguments if word in BYTES), 0)
        wide = pack * element == 16
        if self.stem == "tile":
            return {"ld": PACK, "st": PACK}
        if self.stem == "pull_tile":
            apart = "Small<3, 1" not in self.name
            return {"ld": HALF_PACK if apart else PACK, "st": PACK}
        if not wide:
            return {}
        return {"team": {"ld": PACK}, "broadcast": {"st": PACK}, "spread_masked": {"st": PACK}}.get(self.stem, {"ld": PACK, "st": PACK})


def demangle(symbols: list[str]) -> list[str]:
    done = subprocess.run(["c++filt"], input="\n".join(symbols), capture_output=True, text=True, check=True)
    outer = r"torch_pooling::cuda::|torch_pooling::|\(anonymous namespace\)::"
    return [re.sub(outer, "", line).partition("(")[0].removeprefix("void ").strip() for line in done.stdout.splitlines()]


def nvcc_flags() -> list[str]:
    """Those of setup.py, without running it."""
    found = re.search(r'return \["-std=c\+\+20"(.*?)\*warnings\]', (ROOT / "setup.py").read_text())
    assert found is not None, "setup.py no longer says how it calls nvcc"
    return ["-std=c++20", *re.findall(r'"([^"]+)"', found[1]), "--Werror", "all-warnings", f"-I{CSRC}"]


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def registers(report: str) -> Iterator[tuple[str, str, int, int, int]]:
    """Symbol, architecture, registers, bytes of stack, bytes spilled, of each kernel."""
    pattern = r"Compiling entry function '(\S+)' for '(\S+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores.*?Used (\d+) registers"
    for found in re.finditer(pattern, report, re.DOTALL):
        yield found[1], found[2], int(found[5]), int(found[3]), int(found[4])


def bodies(ptx: str) -> dict[str, str]:
    """The code of each kernel."""
    parts = re.split(r"^\.visible \.entry |^\.entry |^\.weak \.entry ", ptx, flags=re.MULTILINE)[1:]
    return {part.partition("(")[0].strip(): part for part in parts}


def lacks(kernel: Kernel, body: str) -> list[str]:
    missing = []
    for kind, width in kernel.promises().items():
        lines = re.findall(rf"^\s*(?:@\S+\s+)?{kind}\.(?:global|volatile|nc|\.)+\S*.*$", body, flags=re.MULTILINE)
        if not any(re.search(width, line) for line in lines):
            missing.append(f"{kernel.name}: no wide {'load' if kind == 'ld' else 'store'}")
    return missing


def check(nvcc: str, path: Path, architectures: tuple[str, ...], folder: Path, quiet: bool) -> list[str]:
    targets = [f"-gencode=arch=compute_{each},code=sm_{each}" for each in architectures]
    command = [nvcc, *nvcc_flags(), *targets, "-Xptxas", "-v", "--keep", f"--keep-dir={folder}", "-c", str(path)]
    rows = list(registers(run([*command, "-o", str(folder / "out.o")])))
    if not rows:
        return [f"{path.name}: no kernel found in ptxas' report"]
    names = dict(zip((row[0] for row in rows), demangle([row[0] for row in rows])))
    wrong = []
    for symbol, architecture, used, stack, spilled in sorted(rows, key=lambda row: (row[1], names[row[0]])):
        if not quiet:
            print(f"{architecture}  {used:3d} registers  {stack:3d} stack  {spilled:3d} spilled  {names[symbol]}")
        if (spilled or stack) and names[symbol] not in MAY_SPILL:
            wrong.append(f"{names[symbol]} on {architecture}: {stack} bytes of stack, {spilled} spilled")
    files = sorted(folder.glob(f"{path.stem}*.ptx"))
    assert files, "nvcc kept no PTX"
    promised = 0
    for file in files:
        found = bodies(file.read_text())
        for symbol, name in names.items():
            kernel = Kernel(name, symbol)
            promised += bool(kernel.promises())
            wrong += lacks(kernel, found[symbol])
    print(f"{path.name}: {len(rows)} kernels x architectures, {promised} with 128-bit accesses checked")
    return wrong


def check_registration(nvcc: str, folder: Path) -> None:
    """Against CPU torch's headers; the macro stands for a header that only builds with CUDA generate."""
    from torch.utils import cpp_extension

    cuda = Path(nvcc).resolve().parent.parent / "include"
    includes = [f"-isystem{path}" for path in (*cpp_extension.include_paths(), str(cuda))]
    warnings = ["-Wall", "-Wextra", "-Werror", "-DC10_USING_CUSTOM_GENERATED_MACROS"]
    compiler = os.environ.get("CXX", "c++")
    run([compiler, "-std=c++20", *warnings, f"-I{CSRC}", *includes, "-fsyntax-only", str(CSRC / "register_cuda.cpp")])
    print("register_cuda.cpp: compiles")


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    here = Path(home, "bin", "nvcc")
    return str(here) if here.exists() else shutil.which("nvcc")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--arch", nargs="+", default=ARCHITECTURES, help="such as 75 120 (default: %(default)s)")
    arguments.add_argument("--quiet", action="store_true", help="only what is wrong")
    chosen = arguments.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        sys.exit("check-cuda needs nvcc (CUDA 12.4 or newer): set CUDA_HOME, or put it on PATH")
    wrong: list[str] = []
    for path in sorted((CSRC / "cuda").glob("*.cu")):
        with tempfile.TemporaryDirectory() as folder:
            wrong += check(nvcc, path, tuple(chosen.arch), Path(folder), chosen.quiet)
    with tempfile.TemporaryDirectory() as folder:
        check_registration(nvcc, Path(folder))
    print("\n".join(wrong) if wrong else "no spills, and every promised 128-bit access is there")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
