# SPDX-License-Identifier: BSD-3-Clause
"""Builds torch_pooling._C; everything that is not about compiling stands in pyproject.toml, the version included.

One extension, one flag list, no flag for a single file and none that names a processor: what differs between
instruction sets is opened and closed inside the sources of csrc/cpu. A device that cannot be built is a list of
files left out (csrc/cuda and csrc/register_cuda.cpp), never a macro.

    pip install --no-build-isolation .        against the torch that is installed
    python setup.py build_ext --inplace       the same, for work in this folder; compiles what changed (ninja)
    MAX_JOBS=1, CXX=clang++                   fewer compilers at a time, another compiler
    TORCH_CUDA_ARCH_LIST="8.0;9.0+PTX"        GPUs to compile for (default: the ones at hand)
    TORCH_POOLING_SANITIZE=1                  for tests: with AddressSanitizer, UBSan and libstdc++'s assertions (make sanitize)
    TORCH_POOLING_COVERAGE=1                  for tests: counts which lines run (make coverage)
    TORCH_POOLING_EMULATE=plain | sanitized   for tests: csrc/cuda by the C++ compiler against tests/cuda_emulation, in
                                              the place of the CPU kernels (make test-emulated)
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from glob import glob
from pathlib import Path

import setuptools

if int(setuptools.__version__.split(".")[0]) < 77:
    sys.exit(
        f"torch_pooling: setuptools {setuptools.__version__} is too old to read pyproject.toml; "
        "run `pip install 'setuptools>=77'` and try again."
    )


def find_cuda() -> None:
    """Names the toolkit where torch would not find it: it looks beside the nvcc on PATH, which may be a script elsewhere."""
    on_path = shutil.which("nvcc")
    homes = [Path(on_path).resolve().parent.parent] if on_path else []
    for home in (*homes, Path("/usr/local/cuda")):
        if (home / "bin" / "nvcc").exists() and (home / "include" / "cuda_runtime.h").exists():
            os.environ.setdefault("CUDA_HOME", str(home))


find_cuda()
try:
    import torch
    from torch.utils import cpp_extension
except ModuleNotFoundError:
    sys.exit(
        "torch_pooling is compiled against the torch that will run it and found none: install torch (2.11 or newer) "
        "first, then run `pip install --no-build-isolation .`"
    )

TORCH_VERSION = torch.__version__
if tuple(int(part) for part in TORCH_VERSION.split(".")[:2]) < (2, 11):
    sys.exit(f"torch_pooling needs torch 2.11 or newer and found {TORCH_VERSION}: run `pip install 'torch>=2.11'`.")


# --- compiler ---------------------------------------------------------------------------------------------------------


def compiler_command() -> list[str]:
    """The C++ compiler as torch's build extension will call it: $CXX, else c++, else the first one that is there."""
    if "CXX" not in os.environ and shutil.which("c++") is None:
        for name in ("g++", "clang++"):
            if shutil.which(name):
                os.environ["CXX"] = name
                break
    return shlex.split(os.environ.get("CXX", "c++"))


def compiles(command: list[str], source: str, *flags: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.cpp")
        path.write_text(source)
        done = subprocess.run([*command, *flags, "-c", str(path), "-o", str(path) + ".o"], capture_output=True)
        return done.returncode == 0


def checked_compiler() -> tuple[list[str], bool]:
    """(command, is it clang?); exits with one sentence where there is no compiler that can do C++20."""
    cure = "install g++ 12 or newer, or clang 14 or newer, or name one in the environment variable CXX."
    if os.name == "nt":
        sys.exit("torch_pooling is written for g++ and clang, and does not build with Microsoft's compiler yet.")
    command = compiler_command()
    if shutil.which(command[0]) is None:
        sys.exit(f"torch_pooling found no C++ compiler ({command[0]}): {cure}")
    asked = subprocess.run(
        [*command, "-E", "-P", "-x", "c++", "-"],
        input="__GNUC__ __clang_major__",
        capture_output=True,
        text=True,
    )
    words = asked.stdout.split()[-2:]
    if asked.returncode or len(words) != 2 or not words[0].isdigit():
        sys.exit(f"torch_pooling needs g++ or clang and cannot use `{shlex.join(command)}`: {cure}")
    clang = words[1].isdigit()
    if int(words[1] if clang else words[0]) < (14 if clang else 12):
        found = f"clang {words[1]}" if clang else f"g++ {words[0]}"
        sys.exit(f"torch_pooling is written in C++20 and {found} is too old for it: {cure}")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        sys.exit(
            "torch_pooling found no Python.h: install the headers of this Python (on Debian and Ubuntu the package "
            f"python{sys.version_info.major}.{sys.version_info.minor}-dev)."
        )
    return command, clang


def openmp_flags(command: list[str], clang: bool) -> list[str]:
    """What makes at::parallel_for, an inline template of torch's headers, use threads.

    Compiled with OpenMP but linked with no runtime: the calls must bind to the one that torch brought along, or
    torch.set_num_threads would not reach our loops. GCC's calls are served by either runtime, clang's only by LLVM's.
    """
    runtimes = Path(cpp_extension.TORCH_LIB_PATH)
    torch_has_llvm = any(runtimes.glob("libomp*")) or any(runtimes.glob("libiomp*"))
    if not clang or torch_has_llvm:
        flags = ["-Xclang", "-fopenmp"] if clang and sys.platform == "darwin" else ["-fopenmp"]
        headers = [f"-isystem{path}" for path in cpp_extension.include_paths()]
        if compiles(command, "#include <omp.h>\n", *headers, *flags):
            return flags
    print(
        "torch_pooling: this compiler and this torch share no OpenMP runtime, so the CPU kernels will use one thread.",
        file=sys.stderr,
    )
    return []


def nvcc_flags(strict: bool) -> list[str]:
    """Of csrc/cuda, whose sources see no header of torch. std::bit_cast and the like are constexpr functions of the host."""
    warnings = ["--Werror", "all-warnings"] if strict else []
    return ["-std=c++20", "-O3", "--expt-relaxed-constexpr", "--extended-lambda", "-Xcompiler", "-Wall,-Wextra", *warnings]


# --- sources and flags ------------------------------------------------------------------------------------------------


def sources(cuda: bool) -> list[str]:
    """Every .cpp below csrc, and with CUDA every .cu; without, nothing of csrc/cuda nor its registration."""
    found = glob("csrc/**/*.cpp", recursive=True) + glob("csrc/cuda/**/*.cu", recursive=True)
    if not cuda:
        of_cuda = (os.path.join("csrc", "cuda", ""), os.path.join("csrc", "register_cuda.cpp"))
        found = [path for path in found if not path.startswith(of_cuda)]
    return sorted(found)


def why_no_cuda() -> str:
    """Why the extension is built for the CPU only; empty where it is not."""
    if "TORCH_POOLING_EMULATE" in os.environ:
        return "this build is for tests"
    if torch.version.cuda is None:
        return f"torch {TORCH_VERSION}, which it was built for, is a build for the CPU"
    if cpp_extension.CUDA_HOME is None:
        return f"there was no nvcc when it was built (torch is built for CUDA {torch.version.cuda}; set CUDA_HOME if there is one)"
    return ""


def choose_architectures() -> str:
    """TORCH_CUDA_ARCH_LIST, else the GPUs at hand, else all that this torch runs on."""
    if not os.environ.get("TORCH_CUDA_ARCH_LIST"):
        present = {torch.cuda.get_device_capability(number) for number in range(torch.cuda.device_count())}
        flags = torch._C._cuda_getArchFlags() or ""
        built = {(int(name[3:-1]), int(name[-1])) for name in flags.split() if name[3:].isdigit()}
        chosen = sorted(present or {each for each in built if each >= (7, 5)})
        # And PTX of the newest, which the driver compiles for GPUs that came later.
        os.environ["TORCH_CUDA_ARCH_LIST"] = ";".join(f"{major}.{minor}" for major, minor in chosen) + "+PTX" * bool(chosen)
    return os.environ["TORCH_CUDA_ARCH_LIST"].replace(" ", ";")


def emulated_sources() -> list[str]:
    """The extension with csrc/cuda in the place of csrc/cpu: each .cu wrapped in a .cpp, plus the emulation itself."""
    folder = Path("build", "emulated-sources")
    folder.mkdir(parents=True, exist_ok=True)
    wrapped = []
    for path in sorted(glob("csrc/cuda/**/*.cu", recursive=True)):
        wrapper = folder / f"{Path(path).stem}.cpp"
        text = f'#include "{Path(path).relative_to("csrc").as_posix()}"\n'
        if not wrapper.exists() or wrapper.read_text() != text:
            wrapper.write_text(text)
        wrapped.append(str(wrapper))
    replaced = (os.path.join("csrc", "cpu", ""), os.path.join("csrc", "register_cpu.cpp"))
    kept = [path for path in sources(cuda=False) if not path.startswith(replaced)]
    parts = [os.path.join("tests", "cuda_emulation", name) for name in EMULATION]
    return sorted([*kept, *wrapped, *parts])


EMULATION = ("emulation.cpp", "isa.cpp", "register_emulated.cpp")
EMULATION_FLAGS = {
    "plain": ["-O1"],
    # Undefined behaviour ends the program, as a bad access does: a test run must not pass with a warning.
    "sanitized": ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all"],
}


def extension() -> setuptools.Extension:
    emulation = os.environ.get("TORCH_POOLING_EMULATE")
    if emulation is not None and emulation not in EMULATION_FLAGS:
        sys.exit(f"TORCH_POOLING_EMULATE must be one of {', '.join(EMULATION_FLAGS)}, but is {emulation!r}")
    cuda = not why_no_cuda()
    if torch.version.cuda is not None and not cuda:
        print(f"torch_pooling: built for the CPU only: {why_no_cuda()}.", file=sys.stderr)
    command, clang = checked_compiler()
    # -Werror is for us: a released source archive (it alone holds a PKG-INFO) must also build with compilers to come.
    lenient = Path("PKG-INFO").exists() or os.environ.get("TORCH_POOLING_WARNINGS") == "allowed"  # by compilers that nobody tried before
    strict = [] if lenient else ["-Werror"]
    headers = [f"-isystem{path}" for path in cpp_extension.include_paths(device_type="cuda" if cuda else "cpu")]  # theirs may warn
    # Integer sums wrap around, as torch's do. Most Pythons ask for it anyway.
    cxx = ["-std=c++20", "-O3", "-fwrapv", "-Wall", "-Wextra", *strict, "-fvisibility=hidden", "-g0", *headers]
    includes = [os.path.abspath("csrc")]
    if os.environ.get("TORCH_POOLING_SANITIZE") == "1":
        # Python's own flags make overflow defined; here it is an error. Warnings are known to be wrong where code is instrumented.
        cxx += [*EMULATION_FLAGS["sanitized"], "-fno-wrapv", "-fno-omit-frame-pointer", "-D_GLIBCXX_ASSERTIONS", "-Wno-error"]
    if os.environ.get("TORCH_POOLING_COVERAGE") == "1":
        cxx += ["--coverage", "-O1", "-fprofile-update=atomic", "-Wno-error"]
    if emulation is not None:
        cxx += ["-fno-strict-aliasing", "-Wno-unknown-pragmas", *EMULATION_FLAGS[emulation]]
        includes.insert(0, os.path.abspath("tests/cuda_emulation/include"))
    flags = {"cxx": [*cxx, *openmp_flags(command, clang)], "nvcc": nvcc_flags(strict=bool(strict))}
    make = cpp_extension.CUDAExtension if cuda else cpp_extension.CppExtension
    return make(
        name="torch_pooling._C",
        sources=sources(cuda) if emulation is None else emulated_sources(),
        include_dirs=includes,
        extra_compile_args=flags,
        extra_link_args=[flag for flag in cxx if flag.startswith(("-fsanitize", "--coverage"))],
    )


class BuildExtension(cpp_extension.BuildExtension):
    """torch's own, with what the extension must know about its own build passed in as strings."""

    def build_extensions(self) -> None:
        for one in self.extensions:
            one.define_macros += [
                ("TORCH_POOLING_VERSION", f'"{self.distribution.get_version()}"'),
                ("TORCH_POOLING_BUILT_FOR_TORCH", f'"{TORCH_VERSION}"'),
                ("TORCH_POOLING_CUDA_VERSION", f'"{"" if why_no_cuda() else torch.version.cuda}"'),
                ("TORCH_POOLING_CUDA_ARCHITECTURES", f'"{"" if why_no_cuda() else choose_architectures()}"'),
                ("TORCH_POOLING_NO_CUDA", f'"{why_no_cuda()}"'),
            ]
        super().build_extensions()


# pip runs this file with the interpreter's full path and often without its scripts on PATH, where ninja lies.
os.environ["PATH"] = os.environ.get("PATH", os.defpath) + os.pathsep + sysconfig.get_path("scripts")

setuptools.setup(ext_modules=[extension()], cmdclass={"build_ext": BuildExtension})
