# One command each, from a fresh clone: every target first makes what it needs (an environment in .venv, then the
# extension, built in place) and the next run finds it ready. Whatever changes in csrc/, setup.py, the requirements
# or torch itself is built again; a step that failed leaves no stamp and is done again.
#
#   PYTHON=python3.12               the interpreter to start from
#   TORCH="torch==2.14.1"           the torch to install (any arguments of pip); if not given, the one that PYTHON
#                                   already has, from 2.11 on, else $(DEFAULT_TORCH)
#   VENV=.venv-214                  another environment beside the first
#   TESTS=tests/test_x.py PYTEST_ARGS="-k avg"   WORKERS=2   BENCH_ARGS=--quick   OUT=demo-output
#
# PYTHON and TORCH, once given, stay with the environment until others are given or `make distclean`.

DEFAULT_TORCH := torch==2.13.0
VENV ?= .venv
ifneq ($(words $(VENV))|$(filter-out .venv%,$(VENV))$(findstring /,$(VENV)),1|)
$(error VENV=$(VENV): the name must start with .venv, for it is deleted without asking)
endif

-include $(VENV)/settings.mk
PYTHON ?= python3
TORCH ?= auto
WORKERS ?= 2
TESTS ?= tests
OUT ?= demo-output

IN_VENV := $(VENV)/bin/python
SITE_PACKAGES := $(IN_VENV) -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
PIP := PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 $(IN_VENV) -m pip
BUILT := build/made-in$(VENV)

.PHONY: help test demo bench lint build docs dist clean distclean test-emulated check-cuda check-cuda-torch FORCE
.PHONY: fuzz fuzz-emulated hostile test-large sanitize test-matrix test-aarch64 coverage accuracy
.DELETE_ON_ERROR:

help:
	@echo 'make test     the whole test suite'
	@echo 'make demo     ours against torch on two photographs; a table and a picture in $(OUT)/'
	@echo 'make test-emulated     the test suite on the CUDA kernels, run as C++; under AddressSanitizer; with threads permuted'
	@echo 'make check-cuda        compiles them with nvcc: warnings, registers, spills, 128-bit accesses'
	@echo 'make check-cuda-torch  builds the CUDA extension against a torch with CUDA and runs the CPU tests on it'
	@echo 'make fuzz     random calls against torch and the reference: MINUTES=10 SEED=1 (fuzz-emulated: on the CUDA kernels)'
	@echo 'make hostile  wrong calls, CALLS=100000 SEED=1'
	@echo 'make test-large  tensors of more than 2^31 elements, one after the other: 20 GiB of memory'
	@echo 'make sanitize    the test suite under AddressSanitizer and UBSan; threads under ThreadSanitizer'
	@echo 'make test-matrix the test suite on every torch and Python that can be had here, with clang, without vectors'
	@echo 'make test-aarch64 the kernels for ARM under qemu, against the ones here'
	@echo 'make coverage  the lines that the test suite runs'
	@echo 'make accuracy    errors of long averages, and of torch'
	@echo 'make bench    the benchmark'
	@echo 'make lint     ruff and mypy'
	@echo 'make build    the environment and the extension only'
	@echo 'make docs     the documentation as a site, in build/site'
	@echo 'make dist     a source archive and a wheel, checked, in dist/'
	@echo 'make clean    removes what was built; make distclean also removes the environment'

test: $(BUILT)
	$(IN_VENV) -m pytest -n $(WORKERS) $(PYTEST_ARGS) $(TESTS)

demo: $(BUILT)
	$(IN_VENV) -m torch_pooling demo --out $(OUT)

# More of what tests/test_fuzz.py and tests/test_hostile.py do a little of. Case n of a seed is always the same, FUZZ_ARGS="--start n".
MINUTES ?= 10
SEED ?= 1
CALLS ?= 100000
fuzz: $(BUILT)
	PYTHONPATH=tests $(IN_VENV) -m fuzz --minutes $(MINUTES) --seed $(SEED) --workers $(WORKERS) $(FUZZ_ARGS)

hostile: $(BUILT)
	PYTHONPATH=tests $(IN_VENV) -W ignore -m fuzz hostile --cases $(CALLS) --minutes 1000 --seed $(SEED) --workers $(WORKERS) $(FUZZ_ARGS)

fuzz-emulated: build/emulated-plain/built
	cd build/emulated-plain && PYTHONPATH=../../tests $(IN_VENV_HERE) -m fuzz --minutes $(MINUTES) --seed $(SEED) --workers $(WORKERS) $(FUZZ_ARGS)

test-large: $(BUILT)
	$(IN_VENV) -m pytest -m large $(PYTEST_ARGS) tests/test_large.py

accuracy: $(BUILT)
	$(IN_VENV) -m benchmarks.accuracy

bench: $(BUILT)
	$(IN_VENV) -m benchmarks $(BENCH_ARGS)

lint: $(VENV)/requirements.stamp
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m mypy

build: $(BUILT)

# Warnings are errors: a link or an anchor that leads nowhere, a docstring that cannot be read.
docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(IN_VENV) -m mkdocs build --strict

$(VENV)/docs.stamp: $(VENV)/requirements.stamp docs/requirements.txt
	@rm -f $@
	@echo "== installing docs/requirements.txt"
	@$(PIP) install --quiet -r docs/requirements.txt
	@touch $@

# The wheel is made from the archive, so an archive that lacks a file cannot pass. See docs/packaging.md.
dist: $(VENV)/requirements.stamp
	@$(PIP) install --quiet build==1.6.1 twine==7.0.0 auditwheel==6.8.2
	rm -rf dist
	$(IN_VENV) -m build --no-isolation
	$(IN_VENV) -m twine check --strict dist/*
	$(IN_VENV) -m auditwheel show dist/*.whl

# The kernels of csrc/cuda without a GPU. Each emulated build lies in a folder of its own, with a copy of the package: tests are
# run from there, so that Python finds that one. The sanitizers' run is on a part of the tests, for it is ten times slower.
EMULATED_SOURCES = $(shell find csrc tests/cuda_emulation torch_pooling -type f ! -name '*.so' ! -name '*.pyc')
EMULATED_TESTS ?= tests
SANITIZED_TESTS ?= tests/test_forward.py tests/test_backward.py tests/test_any_offsets.py tests/test_layouts.py tests/test_combined.py
# An allocation costs ten times as much when its stack is written down: the tests of every operator, its gradients and its errors.
LEAK_TESTS ?= tests/test_autograd.py tests/test_combined.py tests/test_masked.py tests/test_sums.py tests/test_errors.py tests/test_errors_direct.py \
  tests/test_hostile.py tests/test_fuzz.py tests/test_functorch.py tests/test_layers.py tests/test_saved_state.py tests/test_strides.py
IN_VENV_HERE = $(abspath $(IN_VENV))

build/emulated-%/built: $(VENV)/requirements.stamp setup.py $(EMULATED_SOURCES)
	@echo "== compiling the emulated kernels ($*)"
	@TORCH_POOLING_EMULATE=$* $(IN_VENV) setup.py --quiet build --build-lib build/emulated-$* --build-temp build/emulated-$*-objects
	@touch $@

test-emulated: build/emulated-plain/built build/emulated-sanitized/built
	cd build/emulated-plain && $(IN_VENV_HERE) -m pytest -n $(WORKERS) $(PYTEST_ARGS) $(addprefix ../../,$(EMULATED_TESTS))
	cd build/emulated-plain && $(IN_VENV_HERE) ../../tests/cuda_emulation/permuted.py
	cd build/emulated-sanitized && $(IN_VENV_HERE) ../../tests/sanitizers/run.py pytest -n $(WORKERS) \
	  $(addprefix ../../,$(SANITIZED_TESTS))

# The CPU's own kernels, with every test that does not start a compiler or measure memory; then the ordinary build, for leaks; then the
# kernels' threads, without torch. One process each, for what one of them finds ends it.
build/sanitized/built: $(VENV)/requirements.stamp setup.py $(EMULATED_SOURCES)
	@echo "== compiling the CPU kernels with sanitizers"
	@TORCH_POOLING_SANITIZE=1 $(IN_VENV) setup.py --quiet build --build-lib build/sanitized --build-temp build/sanitized-objects
	@touch $@

sanitize: build/sanitized/built $(BUILT)
	cd build/sanitized && $(IN_VENV_HERE) ../../tests/sanitizers/run.py pytest -n $(WORKERS) -m "not slow and not large" $(PYTEST_ARGS) \
	  $(addprefix ../../,$(TESTS))
	$(IN_VENV) tests/sanitizers/run.py leaks -n $(WORKERS) -m "not slow and not large" $(PYTEST_ARGS) $(LEAK_TESTS)
	$(IN_VENV) tests/sanitizers/run.py threads build/sanitized-threads

# Lines of the CPU's sources and of torch_pooling/ that the suite runs; what of them never ran, by number.
build/coverage/built: $(VENV)/requirements.stamp setup.py $(EMULATED_SOURCES)
	@echo "== compiling the CPU kernels with counters"
	@$(PIP) install --quiet gcovr==8.8 pytest-cov==7.1.0
	@TORCH_POOLING_COVERAGE=1 $(IN_VENV) setup.py --quiet build --build-lib build/coverage --build-temp build/coverage-objects
	@touch $@

coverage: build/coverage/built
	find build/coverage-objects -name '*.gcda' -delete
	cd build/coverage && $(IN_VENV_HERE) -m pytest -n $(WORKERS) --cov=torch_pooling --cov-config=../../pyproject.toml --cov-report=term-missing $(PYTEST_ARGS) $(addprefix ../../,$(TESTS))
	$(IN_VENV) -m gcovr --merge-lines --exclude-throw-branches --gcov-suspicious-hits-threshold=0 --root . --filter csrc/ build/coverage-objects

# Needs Debian's g++-aarch64-linux-gnu and qemu-user.
test-aarch64: $(VENV)/requirements.stamp
	$(IN_VENV) tests/sanitizers/run.py aarch64 build/aarch64

test-matrix:
	tests/matrix.sh

check-cuda: $(VENV)/requirements.stamp
	$(IN_VENV) tests/cuda_emulation/check_cuda.py $(CHECK_ARGS)

# A torch with CUDA is imported, and the extension is linked, without a GPU.
CUDA_TORCH ?= torch==2.11.0
CUDA_INDEX ?=
check-cuda-torch:
	tests/cuda_emulation/check_cuda_torch.sh "$(PYTHON)" "$(CUDA_TORCH)" "$(CUDA_INDEX)"

clean:
	rm -rf build dist *.egg-info torch_pooling/_C*.so demo-output .pytest_cache .mypy_cache .ruff_cache
	find torch_pooling tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf $(VENV)

# --- environment ------------------------------------------------------------------------------------------------------
# A torch that PYTHON has is lent by a .pth file, which also works where PYTHON itself belongs to a virtual environment
# (--system-site-packages would show the packages of its base instead). This folder comes before what is lent (here.pth).
# settings.mk remembers what the environment was made from, and the file that changes when its torch does.

define FIND_TORCH
import os, sys
try:
    import torch
except Exception:
    sys.exit()
venv = os.path.realpath("$(VENV)")
if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11) or os.path.realpath(sys.prefix) == venv:
    sys.exit()
import site
places = [os.path.dirname(os.path.dirname(torch.__file__)), *site.getsitepackages()]
if site.ENABLE_USER_SITE:
    places.append(site.getusersitepackages())
with open(os.path.join("$(VENV)", "lent.pth"), "w") as file:
    for place in dict.fromkeys(filter(os.path.isdir, places)):
        print(f"import site; site.addsitedir({place!r})", file=file)
endef
export FIND_TORCH

define CHECK_PYTHON
import sys
if sys.version_info < (3, 10):
    sys.exit("torch_pooling needs Python 3.10 or newer and this is %s: make PYTHON=python3.12, say." % sys.version.split()[0])
print(getattr(sys, "_base_executable", None) or sys.executable)
endef
export CHECK_PYTHON

define DESCRIBE_TORCH
import torch, os
print("TORCH_FILE :=", os.path.join(os.path.dirname(torch.__file__), "version.py"))
endef
export DESCRIBE_TORCH

ifneq ($(PYTHON)|$(TORCH),$(MADE_WITH))
$(VENV)/torch.stamp: FORCE
endif
$(VENV)/torch.stamp:
	@base=$$($(PYTHON) -c "$$CHECK_PYTHON") && rm -f $@ $(VENV)/settings.mk && \
	  echo "== an environment in $(VENV), from $$base" && "$$base" -m venv --clear $(VENV)
	@if [ "$(TORCH)" = auto ]; then $(PYTHON) -c "$$FIND_TORCH"; fi
	@if [ -f $(VENV)/lent.pth ]; then \
	  echo "== torch: the one of $(PYTHON)" && \
	  mv $(VENV)/lent.pth "$$($(SITE_PACKAGES))/lent.pth"; \
	else \
	  wanted="$(if $(filter auto,$(TORCH)),$(DEFAULT_TORCH),$(TORCH))" && echo "== installing $$wanted" && \
	  $(PIP) install $$wanted; \
	fi
	@$(IN_VENV) -c "$$DESCRIBE_TORCH" > $(VENV)/settings.tmp
	@echo 'MADE_WITH := $(PYTHON)|$(TORCH)' >> $(VENV)/settings.tmp
	@echo 'PYTHON ?= $(PYTHON)' >> $(VENV)/settings.tmp
	@echo 'TORCH ?= $(TORCH)' >> $(VENV)/settings.tmp
	@mv $(VENV)/settings.tmp $(VENV)/settings.mk
	@touch $@

$(VENV)/requirements.stamp: $(VENV)/torch.stamp requirements-dev.txt
	@rm -f $@
	@echo "== installing requirements-dev.txt"
	@$(PIP) install --quiet -r requirements-dev.txt
	@pwd > "$$($(SITE_PACKAGES))/here.pth"
	@touch $@

# --- extension --------------------------------------------------------------------------------------------------------
# Folders are prerequisites too: a file that is added or removed changes its folder's time. The extension in the tree
# belongs to the environment that built it last, so the stamps of all others go.

ifeq ($(wildcard torch_pooling/_C*.so),)
$(BUILT): FORCE
endif
$(BUILT): $(VENV)/requirements.stamp setup.py pyproject.toml $(shell find csrc 2>/dev/null) $(wildcard $(TORCH_FILE))
	@mkdir -p build
	@rm -f build/made-in.venv*
	@echo "== compiling the extension"
	@$(IN_VENV) setup.py --quiet build_ext --inplace
	@touch $@
