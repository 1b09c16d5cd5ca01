"""What a build says about CUDA: for what it was compiled, or why it has no kernels and how to get them."""
from __future__ import annotations

import pytest
import torch

import torch_pooling  # noqa: F401 - registers the operators
from torch_pooling import _library

WITHOUT = _library.cuda_version() is None
OPS = torch.ops.torch_pooling


def test_version_and_architectures_belong_together() -> None:
    assert bool(_library.cuda_architectures()) == (not WITHOUT)
    if not WITHOUT:
        assert _library.cuda_version() == torch.version.cuda
        assert all(float(name.removesuffix("+PTX")) >= 7.5 for name in _library.cuda_architectures())


@pytest.mark.skipif(not WITHOUT, reason="this build has CUDA kernels")
@pytest.mark.parametrize("name", ["avg_pool", "max_pool", "adaptive_max_pool_backward"])
def test_a_build_without_names_the_reason_and_the_cure(name: str) -> None:
    """Asked of the CUDA key itself, since a torch without CUDA makes no tensor there."""
    with pytest.raises(NotImplementedError, match=r"no CUDA kernels: .+ pip install --no-build-isolation"):
        getattr(OPS, name).default._op_dk(torch._C.DispatchKey.CUDA, *_arguments(name))


def _arguments(name: str) -> tuple[object, ...]:
    input = torch.zeros(1, 1, 4, 4)
    window = (2, [2], [2], [0], [1], False)
    if name == "avg_pool":
        return (input, *window, True, None)
    if name == "max_pool":
        return (input, *window)
    return (input, torch.zeros(1, 1, 4, 4, dtype=torch.uint8), [8, 8], False)


@pytest.mark.skipif(WITHOUT, reason="this build has no CUDA kernels")
def test_every_operator_has_a_cuda_kernel() -> None:
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("torch_pooling::")]
    assert len(names) == 24
    assert all(torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA") for name in names)
