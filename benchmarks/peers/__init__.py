# SPDX-License-Identifier: BSD-3-Clause
"""Whom ours is compared with. A peer is one function, case and input in, Ready or Absent out; adding one is a line in PEERS.

of_torch.py: torch in its own ways, gradients included. engines.py: other inference engines, forward only; their
packages are optional (benchmarks/requirements.txt), and a peer without its package is left out by name.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable

from benchmarks.peers import engines, of_torch
from benchmarks.peers.base import Absent, Peer, Ready

__all__ = ["ENGINES", "PEERS", "Absent", "Peer", "Ready", "missing", "versions"]

FORWARD = ("inference",)

PEERS = {
    "torch": Peer(of_torch.eager),  # on the row's own tensor: what `ratio` is first of all
    "other-layout": Peer(of_torch.other_layout),
    "compile": Peer(of_torch.compiled, compiles=True),
    "onednn": Peer(of_torch.onednn),
    "onnxruntime": Peer(engines.onnxruntime, FORWARD, ("onnxruntime", "onnx"), "onnxruntime"),
    "openvino": Peer(engines.openvino, FORWARD, ("openvino",), "openvino"),
    "jax": Peer(engines.jax, FORWARD, ("jax",), "jax"),
}
ENGINES = ("compile", "onednn", "onnxruntime", "openvino", "jax")  # what ours must keep up with besides torch eager


def missing(names: Iterable[str]) -> dict[str, str]:
    """The peers among `names` that cannot run here, each with the package that it lacks."""
    lacks = {name: [package for package in PEERS[name].packages if importlib.util.find_spec(package) is None] for name in names}
    return {name: ", ".join(packages) for name, packages in lacks.items() if packages}


def versions(names: Iterable[str]) -> str:
    """`torch, jax 0.1.2`: the peers, and the versions of their packages."""
    words = [" ".join([name, *(importlib.metadata.version(package) for package in PEERS[name].packages[:1])]) for name in names]
    return ", ".join(words)
