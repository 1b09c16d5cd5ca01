// The extension module: direct entries for the functional API, and facts about the build. An entry parses its arguments,
// calls the operator through its cached handle and wraps the result; torch.ops would cost more than a small pool itself.
// The parser accepts and refuses what torch's does: an int or a sequence of ints, no bools, no floats.
// SPDX-License-Identifier: BSD-3-Clause
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/csrc/utils/python_symnode.h>

#include <cstdlib>
#include <optional>
#include <vector>

#include "cpu/first_touch.h"
#include "cpu/isa.h"
#include "ops/call_site.h"
#include "ops/calls.h"
#include "ops/override.h"
#include "ops/window_lists.h"

namespace torch_pooling {
namespace {

namespace py = pybind11;
using ops::Call;
using ops::SymSizes;

[[noreturn]] void refuse(const Call& call, const char* name, const char* expected, PyObject* got) {
  TORCH_CHECK_TYPE(false, call.text(name), " must be ", expected, ", not ", Py_TYPE(got)->tp_name);
  std::abort();  // not reached: the check throws
}

c10::SymInt parse_int(const Call& call, const char* name, PyObject* value, const char* expected = "int or tuple of ints") {
  if (PyLong_CheckExact(value)) {
    int overflow = 0;
    const long long result = PyLong_AsLongLongAndOverflow(value, &overflow);
    TORCH_CHECK_VALUE(overflow == 0, call.text(name), " overflows a 64-bit int");
    return result;
  }
  if (torch::is_symint(py::handle(value))) return py::handle(value).cast<c10::SymInt>();
  if (PyBool_Check(value) || PyFloat_Check(value) || !PyIndex_Check(value)) refuse(call, name, expected, value);
  const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(value));
  if (!index) PyErr_Clear(), refuse(call, name, expected, value);  // an array's words would not name the argument
  return parse_int(call, name, index.ptr());
}

// One of `size` in a list. To torch.jit.trace the sizes of a tensor are tensors.
c10::SymInt parse_element(const Call& call, const char* name, PyObject* value, size_t size, size_t index) {
  if (PyLong_CheckExact(value) || !torch::jit::tracer::isTracing() || !THPVariable_Check(value)) return parse_int(call, name, value);
  const torch::jit::tracer::NoWarn quiet;  // of the number that is read here: the graph does not keep it
  c10::SymInt number = parse_int(call, name, value);
  call.follow(name, size, index, THPVariable_Unpack(value));
  return number;
}

// A single int, or a sequence of them; its length is checked by the operator.
void parse_ints(const Call& call, const char* name, PyObject* value, SymSizes& result) {
  if (PyTuple_Check(value) || PyList_Check(value)) {
    const py::object sequence = py::reinterpret_steal<py::object>(PySequence_Fast(value, "expected a sequence"));
    const Py_ssize_t size = PySequence_Fast_GET_SIZE(sequence.ptr());
    for (Py_ssize_t i = 0; i < size; ++i) {
      result.push_back(parse_element(call, name, PySequence_Fast_GET_ITEM(sequence.ptr(), i), static_cast<size_t>(size), static_cast<size_t>(i)));
    }
  } else {
    result.push_back(parse_element(call, name, value, 1, 0));
  }
}

// None: the kernel's. Operators would take an empty list for it, but packages of AOTInductor do not keep empty lists.
void parse_stride(const Call& call, PyObject* value, ops::Sliding& window) {
  if (value != Py_None) parse_ints(call, "stride", value, window.stride);
  if (!window.stride.empty()) return;
  call.follow_also("kernel_size", "stride");
  window.stride = window.kernel_size;
}

bool is_sequence(PyObject* value) { return PyTuple_Check(value) || PyList_Check(value); }

// torch's paddings (an int, or one for each axis), 'valid', 'same', 'same_lower', or a (begin, end) pair for each axis, which
// operators take as all starts and then all ends. What they could not tell from pairs, a wrong number of ints, is refused here.
void parse_padding(const Call& call, PyObject* value, bool ceil_mode, ops::Sliding& window) {
  window.sizing = static_cast<int64_t>(ceil_mode ? Sizing::Ceil : Sizing::Floor);
  const auto rank = static_cast<size_t>(call.rank);
  if (PyUnicode_Check(value)) {
    const std::string name = py::cast<std::string>(py::handle(value));
    TORCH_CHECK_VALUE(name == "valid" || name == "same" || name == "same_lower", call.text("padding"),
                      " must be an int, a tuple of ints, one (begin, end) pair for each axis, 'valid', 'same' or 'same_lower', not '",
                      name, "'");
    if (name != "valid") window.sizing = static_cast<int64_t>(name == "same" ? Sizing::Same : Sizing::SameLower);
    window.padding.assign(1, 0);
    return;
  }
  if (!is_sequence(value) || PySequence_Size(value) == 0
      || !is_sequence(py::reinterpret_steal<py::object>(PySequence_GetItem(value, 0)).ptr())) {
    parse_ints(call, "padding", value, window.padding);
    TORCH_CHECK(window.padding.size() != 2 * rank, call.stem, call.rank, "d: padding must be a single int or a tuple of ", rank,
                " ints, but got ", 2 * rank, " values");
    return;
  }
  const auto pairs = static_cast<size_t>(PySequence_Size(value));
  TORCH_CHECK(pairs == rank, call.stem, call.rank, "d: padding must have one (begin, end) pair for each of ", rank,
              " spatial axes, but got ", pairs);
  window.padding.assign(2 * rank, 0);
  for (size_t axis = 0; axis < rank; ++axis) {
    const py::object pair = py::reinterpret_steal<py::object>(PySequence_GetItem(value, static_cast<Py_ssize_t>(axis)));
    if (!is_sequence(pair.ptr())) refuse(call, "padding", "one (begin, end) pair for each axis", pair.ptr());
    const size_t before = call.followed.size();
    SymSizes ends;
    parse_ints(call, "padding", pair.ptr(), ends);
    call.spread_from(before, rank, axis);
    TORCH_CHECK(ends.size() == 2, call.stem, call.rank, "d: padding must have (begin, end) pairs, but got ", ends.size(),
                " values for axis ", axis);
    window.padding[axis] = ends[0], window.padding[rank + axis] = ends[1];
  }
}

bool parse_bool(const Call& call, const char* name, PyObject* value) {
  if (value == Py_True) return true;
  if (value == Py_False) return false;
  refuse(call, name, "bool", value);
}

const at::Tensor& parse_tensor(const Call& call, PyObject* value) {
  if (!THPVariable_Check(value)) refuse(call, "input", "Tensor", value);
  return THPVariable_Unpack(value);
}

// Moved into Python's hands: a handle that stays behind is counted twice, as in to_dense.
PyObject* wrap(at::Tensor&& tensor) { return THPVariable_Wrap(std::move(tensor)); }
PyObject* wrap(at::Tensor&& first, at::Tensor&& second) {
  const py::object a = py::reinterpret_steal<py::object>(wrap(std::move(first)));
  const py::object b = py::reinterpret_steal<py::object>(wrap(std::move(second)));
  return PyTuple_Pack(2, a.ptr(), b.ptr());
}

// Lets other Python threads run meanwhile, where there is enough to do: handing the interpreter over costs as much as pooling
// a small tensor.
class Unlocked {
 public:
  explicit Unlocked(const at::Tensor& input) {
    if (input.sym_numel().maybe_as_int().value_or(0) >= 4096) released_.emplace();
  }

 private:
  std::optional<py::gil_scoped_release> released_;
};

template <class Operator>
PyObject* result_of(const Call& call, const at::Tensor& input, const Operator& run) {
  at::Tensor output;
  call.announce();
  {
    Unlocked unlocked(input);
    output = run();
  }
  return wrap(std::move(output));
}

template <class Window>
PyObject* max_pool_result(const Call& call, const at::Tensor& input, const Window& window, bool return_indices) {
  at::Tensor output, indices;
  call.announce();
  if (return_indices && torch::jit::tracer::isTracing()) {
    const auto rank = static_cast<size_t>(call.rank);
    at::Tensor offsets;
    std::tie(output, offsets) = ops::max_pool_with_offsets(input, window, true);  // 32-bit ones whatever the sizes will be
    if constexpr (std::is_same_v<Window, ops::Adaptive>) call.followed.clear();  // whose indices follow from the input's sizes alone
    call.follow_sizes("input_size", input);
    call.announce();
    indices = ops::max_pool_indices(offsets, input.sym_sizes().slice(static_cast<size_t>(input.dim()) - rank), window);
  } else {
    Unlocked unlocked(input);
    if (return_indices) {
      std::tie(output, indices) = ops::max_pool_with_indices(input, window);
    } else {
      output = ops::max_pool(input, window);
    }
  }
  return return_indices ? wrap(std::move(output), std::move(indices)) : wrap(std::move(output));
}

bool truth(PyObject* value) {
  const int result = PyObject_IsTrue(value);
  if (result < 0) throw python_error();
  return result == 1;
}

int64_t parse_rank(PyObject* const* args, Py_ssize_t count, Py_ssize_t expected) {
  TORCH_CHECK_TYPE(count == expected, "expected ", expected, " positional arguments, but got ", count);
  const long long rank = PyLong_AsLongLong(args[0]);
  if (rank == -1 && PyErr_Occurred()) throw python_error();
  TORCH_CHECK(rank >= 1 && rank <= 3, "rank must be 1, 2 or 3, but got ", rank);
  return rank;
}

// What our kernels do not compute is handed, with the name of the function, to Python's _elsewhere.py: tensors that are not ours. It
// is also asked where somebody records, torch.jit.trace or torch.export, which ONNX exporters are made of; it may decline.
PyObject* detour = nullptr;

PyObject* set_detour(PyObject*, PyObject* function) {
  Py_XSETREF(detour, Py_NewRef(function));
  Py_RETURN_NONE;
}
// Python's answer to whether an ONNX exporter is at work; see ops/override.h.
PyObject* exports = nullptr;

PyObject* set_exports(PyObject*, PyObject* function) {
  Py_XSETREF(exports, Py_NewRef(function));
  ops::set_exports([] {
    const py::gil_scoped_acquire held;
    const py::object answer = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(exports));
    if (!answer) throw python_error();
    return answer.ptr() == Py_True;
  });
  Py_RETURN_NONE;
}
PyObject* take_detour(const Call& call, const at::Tensor& input, PyObject* const* args, Py_ssize_t count) {
  const bool recorded = input.key_set().has(c10::DispatchKey::Python) || torch::jit::tracer::isTracing();
  if ((ops::is_ours(input) && !recorded) || detour == nullptr) return Py_NotImplemented;
  py::tuple all(count + 1);
  all[0] = py::str(call.stem);
  for (Py_ssize_t i = 0; i < count; ++i) all[static_cast<size_t>(i) + 1] = py::reinterpret_borrow<py::object>(args[i]);
  return PyObject_CallObject(detour, all.ptr());
}

// (rank, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation)
PyObject* avg_pool(PyObject*, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  const int64_t rank = parse_rank(args, count, 9);
  const Call call{"avg_pool", rank};
  const at::Tensor& input = parse_tensor(call, args[1]);
  if (PyObject* const result = take_detour(call, input, args, count); result != Py_NotImplemented) return result;
  ops::SlidingAverage window;
  window.rank = rank;
  parse_ints(call, "kernel_size", args[2], window.kernel_size);
  parse_stride(call, args[3], window);
  parse_padding(call, args[4], parse_bool(call, "ceil_mode", args[5]), window);
  window.average.count_include_pad = parse_bool(call, "count_include_pad", args[6]);
  if (args[7] != Py_None) {
    window.average.divisor_override = parse_int(call, "divisor_override", args[7], "int or None").guard_int(__FILE__, __LINE__);
  }
  parse_ints(call, "dilation", args[8], window.dilation);
  return result_of(call, input, [&] { return ops::avg_pool(input, window); });
  END_HANDLE_TH_ERRORS
}

// (rank, input, kernel_size, stride, padding, ceil_mode, dilation)
PyObject* sum_pool(PyObject*, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  const int64_t rank = parse_rank(args, count, 7);
  const Call call{"sum_pool", rank};
  const at::Tensor& input = parse_tensor(call, args[1]);
  if (PyObject* const result = take_detour(call, input, args, count); result != Py_NotImplemented) return result;
  ops::SlidingSum window;
  window.rank = rank;
  parse_ints(call, "kernel_size", args[2], window.kernel_size);
  parse_stride(call, args[3], window);
  parse_padding(call, args[4], parse_bool(call, "ceil_mode", args[5]), window);
  parse_ints(call, "dilation", args[6], window.dilation);
  return result_of(call, input, [&] { return ops::avg_pool(input, window); });
  END_HANDLE_TH_ERRORS
}

// (rank, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
PyObject* max_pool(PyObject*, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  const int64_t rank = parse_rank(args, count, 8);
  const Call call{"max_pool", rank};
  const at::Tensor& input = parse_tensor(call, args[1]);
  if (PyObject* const result = take_detour(call, input, args, count); result != Py_NotImplemented) return result;
  ops::Sliding window;
  window.rank = rank;
  parse_ints(call, "kernel_size", args[2], window.kernel_size);
  parse_stride(call, args[3], window);
  parse_padding(call, args[4], parse_bool(call, "ceil_mode", args[6]), window);
  parse_ints(call, "dilation", args[5], window.dilation);
  return max_pool_result(call, input, window, truth(args[7]));
  END_HANDLE_TH_ERRORS
}

// One size for every axis, or one for each, None keeping the input's. In 2-D and 3-D torch takes what is like a list, too: arrays, ranges.
ops::Adaptive parse_output_size(const Call& call, const at::Tensor& input, PyObject* value) {
  ops::Adaptive window;
  const auto rank = static_cast<size_t>(call.rank);
  const bool listed = call.rank > 1 && PySequence_Check(value) && !PyUnicode_Check(value) && PySequence_Size(value) == call.rank;
  PyErr_Clear();  // of an array of no axes
  if (!listed && !is_sequence(value)) {
    window.output_size.assign(rank, parse_element(call, "output_size", value, rank, 0));
    for (size_t axis = 1; axis < rank && !call.followed.empty(); ++axis) call.follow("output_size", rank, axis, call.followed[0].value);
    return window;
  }
  const py::object sequence = py::reinterpret_steal<py::object>(PySequence_Fast(value, "expected a sequence"));
  const Py_ssize_t size = PySequence_Fast_GET_SIZE(sequence.ptr());
  TORCH_CHECK_VALUE(call.rank == 1 || input.dim() > size, call.stem, call.rank, "d: input must have at least ", size + 1,
                    " dimensions for an output_size of ", size, ", but has ", input.dim());
  for (Py_ssize_t i = 0; i < size; ++i) {
    PyObject* const item = PySequence_Fast_GET_ITEM(sequence.ptr(), i);
    const int64_t axis = input.dim() - size + i;
    if (item == Py_None && call.rank > 1 && axis >= 0) {
      window.output_size.push_back(input.sym_sizes()[static_cast<size_t>(axis)]);
      call.follow_size("output_size", static_cast<size_t>(size), static_cast<size_t>(i), input, axis);
    } else {
      window.output_size.push_back(parse_element(call, "output_size", item, static_cast<size_t>(size), static_cast<size_t>(i)));
    }
  }
  TORCH_CHECK(window.output_size.size() == rank, call.stem, call.rank, "d: output_size must be a single int or a tuple of ", rank,
              " elements, but got ", window.output_size.size());
  return window;
}

// (rank, input, output_size)
PyObject* adaptive_avg_pool(PyObject*, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  const int64_t rank = parse_rank(args, count, 3);
  const Call call{"adaptive_avg_pool", rank};
  const at::Tensor& input = parse_tensor(call, args[1]);
  if (PyObject* const result = take_detour(call, input, args, count); result != Py_NotImplemented) return result;
  const ops::Adaptive window = parse_output_size(call, input, args[2]);
  return result_of(call, input, [&] { return ops::avg_pool(input, window); });
  END_HANDLE_TH_ERRORS
}

// (rank, input, output_size, return_indices)
PyObject* adaptive_max_pool(PyObject*, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  const int64_t rank = parse_rank(args, count, 4);
  const Call call{"adaptive_max_pool", rank};
  const at::Tensor& input = parse_tensor(call, args[1]);
  if (PyObject* const result = take_detour(call, input, args, count); result != Py_NotImplemented) return result;
  const ops::Adaptive window = parse_output_size(call, input, args[2]);
  return max_pool_result(call, input, window, truth(args[3]));
  END_HANDLE_TH_ERRORS
}

// (rank, input, form, kinds, sizes, stride, padding) of an input that is ours, as the operator takes them
PyObject* combined_pool(PyObject*, PyObject* const* args, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  const int64_t rank = parse_rank(args, count, 7);
  const bool adaptive = PyList_Check(args[5]) && PyList_GET_SIZE(args[5]) == 4;  // a stride of four zeros, which stands for none
  const int64_t form = parse_int(Call{"combined_pool", 0}, "form", args[2]).expect_int();
  const Call call{!adaptive ? "mixed_pool" : form == 2 ? "spatial_pyramid_pool" : form == 1 ? "avgmax_pool" : "concat_pool", 0};
  const at::Tensor& input = parse_tensor(call, args[1]);
  SymSizes lists[4];
  const char* const names[4] = {"kinds", !adaptive ? "kernel_size" : form == 2 ? "levels" : "output_size", "stride", "padding"};
  for (size_t n = 0; n < 4; ++n) parse_ints(call, names[n], args[n + 3], lists[n]);
  c10::SmallVector<int64_t, 8> kinds;
  for (const c10::SymInt& kind : lists[0]) kinds.push_back(kind.expect_int());
  return result_of(call, input, [&] { return ops::combined_pool(input, rank, form, kinds, lists[1], lists[2], lists[3]); });
  END_HANDLE_TH_ERRORS
}

PyMethodDef methods[] = {
    {"avg_pool", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(avg_pool)), METH_FASTCALL, nullptr},
    {"sum_pool", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(sum_pool)), METH_FASTCALL, nullptr},
    {"max_pool", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(max_pool)), METH_FASTCALL, nullptr},
    {"adaptive_avg_pool", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(adaptive_avg_pool)), METH_FASTCALL, nullptr},
    {"adaptive_max_pool", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(adaptive_max_pool)), METH_FASTCALL, nullptr},
    {"combined_pool", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(combined_pool)), METH_FASTCALL, nullptr},
    {"set_detour", set_detour, METH_O, nullptr},
    {"set_exports", set_exports, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace
}  // namespace torch_pooling

PYBIND11_MODULE(_C, m) {
  namespace tp = torch_pooling;
  if (PyModule_AddFunctions(m.ptr(), tp::methods) < 0) throw pybind11::error_already_set();
  // The importer looks for this text in the file before it loads it: a library built for another torch must not be loaded.
  m.attr("built_for_torch") = std::string("torch_pooling built for torch " TORCH_POOLING_BUILT_FOR_TORCH).substr(30);
#ifdef __clang__
  m.attr("compiler") = std::string(__VERSION__);
#else
  m.attr("compiler") = std::string("g++ " __VERSION__);
#endif
  m.attr("version") = TORCH_POOLING_VERSION;
  // Of the CUDA kernels: the version they were compiled with, and for which GPUs; else why there are none.
  m.attr("cuda_version") = std::string(TORCH_POOLING_CUDA_VERSION);
  m.attr("cuda_architectures") = std::string(TORCH_POOLING_CUDA_ARCHITECTURES);
  m.attr("no_cuda") = std::string(TORCH_POOLING_NO_CUDA);
  m.def("compiled_instruction_sets", &tp::cpu::compiled_instruction_sets);
  m.def("runnable_instruction_sets", &tp::cpu::runnable_instruction_sets);
  m.def("instruction_set", [] { return std::string(tp::cpu::kernels().name); });
  m.def("force_instruction_set", &tp::cpu::force_instruction_set);
  m.def("store_past_caches_from", &tp::cpu::store_past_caches_from);
  m.def("use_huge_pages", &tp::cpu::use_huge_pages);
  m.def("is_ours", &tp::ops::is_ours);
  m.def("enter_override", &tp::ops::enter_override);
  m.def("leave_override", &tp::ops::leave_override);
  m.def("sliding_window", [](int64_t input, int64_t kernel, int64_t stride, int64_t padding_begin, int64_t padding_end,
                             int64_t dilation, bool ceil_mode) {
    return tp::ops::window_lists(tp::Axis::sliding(input, kernel, stride, padding_begin, padding_end, dilation, ceil_mode));
  });
  m.def("adaptive_window", [](int64_t input, int64_t output) { return tp::ops::window_lists(tp::Axis::adaptive_to(input, output)); });
}
