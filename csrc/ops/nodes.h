// What the derivatives of all operators are made of: nodes of one input and one output, the space that a gradient returns to, and
// a linear map with its derivatives in both directions.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
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
NodePointer<T> make_node() {
  return c10::make_intrusive<T>();
}
#else
template <class T>
using NodePointer = std::shared_ptr<T>;
template <class T>
NodePointer<T> make_node() {
  return NodePointer<T>(new T(), torch::autograd::deleteNode);
}
#endif

// A node of one input and one output: grad_input = apply_to(grad_output).
struct LinearNode : Node {
  virtual Tensor apply_to(const Tensor& grad) = 0;
  variable_list apply(variable_list&& grads) override {
    variable_list result(1);
    if (grads[0].defined() && task_should_compute_output(0)) result[0] = apply_to(grads[0]);
    return result;
  }
};

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

inline bool needs_node(const Tensor& input) { return at::GradMode::is_enabled() && input.requires_grad(); }
inline bool has_tangent(const Tensor& input) { return input.defined() && input._fw_grad(0).defined(); }

// result = linear(input), differentiated by `node` (null: none) backwards and by the same map forwards.
template <class N, class Linear>
Tensor linear(const Tensor& input, const NodePointer<N>& node, const Linear& map) {
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
