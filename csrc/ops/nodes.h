// What the derivatives of all operators are made of: the node of a linear map, the space that a gradient returns to, and the map with its
// derivatives in both directions.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/dynamo/compiled_autograd.h>
#include <torch/headeronly/version.h>

#include <algorithm>

#include "ops/calls.h"
#include "ops/layout.h"

namespace torch_pooling::ops {

using torch::autograd::Node;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;
using Pair = std::tuple<Tensor, Tensor>;

// Nodes are held by std::shared_ptr up to torch 2.12 and by an intrusive pointer from 2.13.
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
template <class T>
using NodePointer = c10::intrusive_ptr<T>;
template <class T>
NodePointer<T> own(T* node) {
  return NodePointer<T>::unsafe_steal_from_new(node);
}
#else
template <class T>
using NodePointer = std::shared_ptr<T>;
template <class T>
NodePointer<T> own(T* node) {
  return NodePointer<T>(node, torch::autograd::deleteNode);
}
#endif

struct InputSpace {  // the space of the input, which a gradient must be brought back to
  SymSizes size;
  bool channels_last = false;

  static InputSpace of(const Tensor& input, int64_t rank) {
    InputSpace place;
    if (rank < 0 || input.dim() < rank) return place;  // a wrong call: the operator itself says so
    const auto sizes = input.sym_sizes();
    place.size.assign(sizes.end() - rank, sizes.end());
    if (input.dim() == rank + 1 || input.dim() == rank + 2) {
      place.channels_last = sizes.size() > 0 && is_channels_last<c10::SymInt>(input, rank);
    }
    return place;
  }
  bool is_symbolic() const {
    return std::any_of(size.begin(), size.end(), [](const c10::SymInt& s) { return s.is_symbolic(); });
  }
};

// The numbers that a window is made of, one by one. They belong to a layer, and a compiled graph may keep them.
template <class Visit>
void each_number(const SymSizes& sizes, const Visit& visit) {
  visit(static_cast<int64_t>(sizes.size()));
  for (const c10::SymInt& size : sizes) visit(size.guard_int(__FILE__, __LINE__));
}
template <class Visit>
void each_number(const Sliding& window, const Visit& visit) {
  visit(window.rank), visit(window.sizing);
  for (const SymSizes* sizes : {&window.kernel_size, &window.stride, &window.padding, &window.dilation}) each_number(*sizes, visit);
}
template <class Visit>
void each_number(const SlidingAverage& window, const Visit& visit) {
  each_number(static_cast<const Sliding&>(window), visit);
  visit(window.average.count_include_pad), visit(window.average.divisor_override.value_or(0));
}
template <class Visit>
void each_number(const Adaptive& window, const Visit& visit) {
  each_number(window.output_size, visit);
}

// The node of a linear map of one tensor: grad_input = map(grad_output, size, offsets). A Map owns the numbers that it shows to
// each_number; what differs from one call to the next, the input's sizes and offsets, is the node's.
template <class Map>
struct LinearNode final : Node {
  Map map;
  SymSizes size;
  SavedVariable offsets;

  LinearNode(Map&& map, SymSizes&& size) : map(std::move(map)), size(std::move(size)) {}
  std::string name() const override { return Map::name; }
  void release_variables() override { offsets.reset_data(); }
  variable_list apply(variable_list&& grads) override {
    variable_list result(1);
    if (grads[0].defined() && task_should_compute_output(0)) result[0] = map(grads[0], size, offsets.unpack());
    return result;
  }

  // Compiled autograd: numbers select a graph, sizes and tensors are its inputs; the graph holds a call of the map on what stands for them.
  void compiled_args(torch::autograd::CompiledNodeArgs& args) const override {
    map.each_number([&](int64_t number) { args.collect(number); });
    args.collect(c10::ArrayRef<c10::SymInt>(size));
    args.collect(offsets, false);
  }
  variable_list apply_with_saved(const variable_list& grads, torch::autograd::SwapSavedVariables& saved) override {
    namespace compiler = torch::dynamo::autograd;
    for (c10::SymInt& each : size) saved.before(each);
    saved.before(offsets);
    using Packer = compiler::IValuePacker<std::vector<c10::SymInt>>;
    compiler::ivalue_list kept{Packer::pack(std::vector<c10::SymInt>(size.begin(), size.end()))};
    std::vector<at::TypePtr> types{Packer::packed_type()};
    if (const Tensor tensor = offsets.unpack(); tensor.defined()) kept.emplace_back(tensor), types.push_back(at::TensorType::get());
    const auto call = [map = map](const variable_list& given, const compiler::ivalue_list& from) -> variable_list {
      if (!given[0].defined()) return variable_list(1);
      return {map(given[0], SymSizes(Packer::unpack(from[0])), from.size() > 1 ? from[1].toTensor() : Tensor())};
    };
    const auto& python = compiler::getPyCompilerInterface();
    const std::string bound = python->bind_function(saved.get_py_compiler(), name(), call, types, true, true);
    using Metadata = compiler::IValuePacker<std::vector<std::optional<torch::autograd::InputMetadata>>>;
    variable_list result = python->call_function(saved.get_py_compiler(), "apply_functional", bound, grads, kept,
                                                 Metadata::pack(compiler::get_input_metadata(next_edges())));
    for (c10::SymInt& each : size) saved.after(each);
    saved.after(offsets);
    return result;
  }
};

template <class Map>
NodePointer<LinearNode<Map>> make_node(Map map, SymSizes size = {}, const Tensor& offsets = {}) {
  auto node = own(new LinearNode<Map>(std::move(map), std::move(size)));
  if (offsets.defined()) node->offsets = SavedVariable(offsets, false);
  return node;
}

inline bool needs_node(const Tensor& input) { return at::GradMode::is_enabled() && input.requires_grad(); }
inline bool has_tangent(const Tensor& input) { return input.defined() && input._fw_grad(0).defined(); }

// result = linear(input), differentiated by `node` (null: none) backwards and by the same map forwards.
template <class Map, class Linear>
Tensor linear(const Tensor& input, const NodePointer<LinearNode<Map>>& node, const Linear& map) {
  if (node) node->set_next_edges(torch::autograd::collect_next_edges(input));
  Tensor result;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    result = map(input);
  }
  if (node) torch::autograd::set_history(result, node);
  if (has_tangent(input)) result._set_fw_grad(map(input._fw_grad(0)), 0, false);
  return result;
}

}  // namespace torch_pooling::ops
