# SPDX-License-Identifier: BSD-3-Clause
"""Inference engines, one operator as the whole model: ONNX Runtime, OpenVINO, JAX. All of them on torch's number of threads.

Input and output live in the engine's own format before a call is timed, and nothing is copied in it. An engine whose
workers spin after a call is told not to, where it can be told: the next participant wants the cores.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Case
from benchmarks.peers.base import Absent, Ready, is_channels_last, sliding


def type_name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def need_cpu(x: Tensor) -> None:
    if x.device.type != "cpu":
        raise Absent("CPU only")


def output_shape(case: Case) -> list[int]:
    return [*case.shape[:2], *case.theirs()(torch.empty((1, 1, *case.shape[2:]), device="meta")).shape[2:]]


def onnxruntime(case: Case, x: Tensor) -> Ready:
    """MaxPool, AveragePool or the two global operators; input and output are torch's memory, bound once."""
    need_cpu(x)
    if is_channels_last(x):
        raise Absent("no channels-last pooling")
    window = None if case.window == "global" else sliding(case)
    import onnx
    import onnxruntime as engine

    element = {"float32": onnx.TensorProto.FLOAT, "bfloat16": onnx.TensorProto.BFLOAT16, "float16": onnx.TensorProto.FLOAT16}[type_name(x)]
    long_kind = {"max": "Max", "avg": "Average"}[case.kind]
    attributes: dict[str, Any] = {}
    if window is not None:
        attributes = {"kernel_shape": window.kernel, "strides": window.stride, "pads": window.padding * 2}
        if case.kind == "avg":
            attributes["count_include_pad"] = 1
    node = onnx.helper.make_node(f"{long_kind}Pool" if window else f"Global{long_kind}Pool", ["input"], ["output"], **attributes)
    output = torch.empty(output_shape(case), dtype=x.dtype)
    ends = [onnx.helper.make_tensor_value_info(name, element, list(t.shape)) for name, t in (("input", x), ("output", output))]
    graph = onnx.helper.make_graph([node], "pool", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)

    options = engine.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = engine.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except engine.capi.onnxruntime_pybind11_state.NotImplemented as error:
        raise Absent(f"no {type_name(x)} here") from error
    binding = session.io_binding()
    binding.bind_input("input", "cpu", 0, element, list(x.shape), x.data_ptr())
    binding.bind_output("output", "cpu", 0, element, list(output.shape), output.data_ptr())

    def pool(_: Tensor) -> Tensor:
        session.run_with_iobinding(binding)
        return output

    return Ready(pool, x)


@cache
def openvino_core() -> Any:
    from openvino import Core

    return Core()


def openvino(case: Case, x: Tensor) -> Ready:
    """A graph of one operator. Channels-last tensors go through transposes, for its graphs are channels-first."""
    need_cpu(x)
    import numpy
    from openvino import Model, opset1, opset14
    from openvino import Tensor as EngineTensor
    from openvino import Type as ElementType

    short = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[type_name(x)]
    if short == "bf16" and "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Absent("no bfloat16 here")
    last = is_channels_last(x)
    shown = x.movedim(1, -1) if last else x  # as it lies in memory
    element = getattr(ElementType, short)
    parameter = opset1.parameter(list(shown.shape), element)
    axes = list(range(x.dim()))
    node = opset1.transpose(parameter, numpy.array([0, axes[-1], *axes[1:-1]])) if last else parameter
    if case.output_size and any(size % case.output_size for size in case.shape[2:]):
        sizes = numpy.array([case.output_size] * case.rank)
        node = opset14.adaptive_max_pool(node, sizes, "i32") if case.selects else opset14.adaptive_avg_pool(node, sizes)
    else:
        window = sliding(case)
        geometry = list(window.stride), list(window.padding), list(window.padding), list(window.kernel)
        rest = ("floor", "explicit") if case.selects else (False, "floor", "explicit")  # False: padding counts
        node = (opset1.max_pool if case.selects else opset1.avg_pool)(node, *geometry, *rest)
    if last:
        node = opset1.transpose(node.output(0), numpy.array([0, *axes[2:], 1]))
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": short,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # torch's threads share the cores
    }
    request = openvino_core().compile_model(Model([node.output(0)], [parameter], "pool"), "CPU", settings).create_infer_request()
    bits = shown if short == "f32" else shown.view(torch.int16)  # numpy knows no bfloat16
    request.set_input_tensor(EngineTensor(bits.numpy(), list(shown.shape), element))

    def values(_: object) -> Tensor:
        output = request.get_output_tensor(0).data
        tensor = torch.from_numpy(output if short == "f32" else output.view(numpy.int16)).view(x.dtype)
        return tensor.movedim(-1, 1) if last else tensor

    # The request looks into x's memory: it is held as the peer's input.
    return Ready(lambda _: request.infer(share_outputs=True), x, "by transposes" if last else "", values)


@cache
def limit_jax(threads: int) -> None:
    """JAX takes its number of threads from the environment, once, when its first array is made."""
    import jax as engine

    os.environ["NPROC"] = os.environ["PJRT_NPROC"] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    engine.config.update("jax_platforms", "cpu")
    engine.devices()


def jax(case: Case, x: Tensor) -> Ready:
    """lax.reduce_window, compiled for this size; channels-last is an array [N, *spatial, C] of its own. Sums are float32."""
    need_cpu(x)
    window = sliding(case)
    limit_jax(torch.get_num_threads())
    import jax as engine
    import numpy
    from jax import lax

    last = is_channels_last(x)

    def spread(values: tuple[Any, ...], edge: Any) -> tuple[Any, ...]:
        return (edge, *values, edge) if last else (edge, edge, *values)

    sizes = spread(window.kernel, 1), spread(window.stride, 1), spread(tuple((p, p) for p in window.padding), (0, 0))

    def function(array: Any) -> Any:
        if case.selects:
            return lax.reduce_window(array, numpy.array(-numpy.inf, array.dtype), lax.max, *sizes)
        total = lax.reduce_window(array.astype("float32"), numpy.float32(0), lax.add, *sizes)
        return (total / numpy.float32(window.taps)).astype(array.dtype)

    shown = (x.movedim(1, -1) if last else x).detach()
    array = engine.numpy.array(engine.dlpack.from_dlpack(shown), copy=True)
    compiled = engine.jit(function).lower(array).compile()

    def values(output: Any) -> Tensor:
        tensor = torch.from_dlpack(output)
        return tensor.movedim(-1, 1) if last else tensor

    return Ready(lambda a: compiled(a).block_until_ready(), array, values=values)
