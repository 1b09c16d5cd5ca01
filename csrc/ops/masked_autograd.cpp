// Derivatives of global pools with a mask: the average and its backward are each other's adjoints; a maximum reads what its offsets name,
// by the rules of autograd.cpp, where anything counts.
// SPDX-License-Identifier: BSD-3-Clause
#include <ATen/ops/any.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include "ops/nodes.h"

namespace torch_pooling::ops {
namespace {

Tensor avg_pool(const Tensor& input, const Tensor& mask) {
  static const auto op = find<Tensor(const Tensor&, const Tensor&)>("torch_pooling::masked_avg_pool");
  return op.call(input, mask);
}
Tensor avg_pool_backward(const Tensor& grad_output, const Tensor& mask, bool channels_last) {
  static const auto op = find<Tensor(const Tensor&, const Tensor&, bool)>("torch_pooling::masked_avg_pool_backward");
  return op.call(grad_output, mask, channels_last);
}
Tensor max_pool(const Tensor& input, const Tensor& mask) {
  static const auto op = find<Tensor(const Tensor&, const Tensor&)>("torch_pooling::masked_max_pool");
  return op.call(input, mask);
}
Pair max_pool_with_offsets(const Tensor& input, const Tensor& mask, bool wide_offsets) {
  static const auto op = find<Pair(const Tensor&, const Tensor&, bool)>("torch_pooling::masked_max_pool_with_offsets");
  return op.call(input, mask, wide_offsets);
}

// A node's tensor beside the sizes is the mask here.
struct MaskedAvgPoolMap {
  static constexpr const char* name = "MaskedAvgPoolBackward";
  bool channels_last;
  Tensor operator()(const Tensor& grad, SymList, const Tensor& mask) const { return avg_pool_backward(grad, mask, channels_last); }
  template <class Visit>
  void each_number(const Visit& visit) const {
    visit(channels_last);
  }
};
struct MaskedAvgPoolBackwardMap {
  static constexpr const char* name = "MaskedAvgPoolBackwardBackward";
  Tensor operator()(const Tensor& grad, SymList, const Tensor& mask) const { return avg_pool(grad, mask); }
  template <class Visit>
  void each_number(const Visit&) const {}
};

Tensor avg_pool_autograd(const Tensor& input, const Tensor& mask) {
  NodePointer<LinearNode<MaskedAvgPoolMap>> node;
  if (needs_node(input)) node = make_node<MaskedAvgPoolMap>({InputSpace::of(input, input.dim() - 2).channels_last}, {}, mask);
  return linear(input, node, [&](const Tensor& x) { return avg_pool(x, mask); });
}
Tensor avg_pool_backward_autograd(const Tensor& grad_output, const Tensor& mask, bool channels_last) {
  NodePointer<LinearNode<MaskedAvgPoolBackwardMap>> node;
  if (needs_node(grad_output)) node = make_node<MaskedAvgPoolBackwardMap>({}, {}, mask);
  return linear(grad_output, node, [&](const Tensor& x) { return avg_pool_backward(x, mask, channels_last); });
}

Pair max_pool_with_offsets_autograd(const Tensor& input, const Tensor& mask, bool wide_offsets) {
  Pair result;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    result = max_pool_with_offsets(input, mask, wide_offsets);
  }
  auto& [output, offsets] = result;
  if (needs_node(input) || has_tangent(input)) {
    const Adaptive whole{SymSizes(static_cast<size_t>(input.dim() - 2), c10::SymInt(1))};
    SymSizes shape(static_cast<size_t>(input.dim()), c10::SymInt(1));
    shape[0] = mask.sym_size(0);
    const Tensor found = mask.flatten(1).any(1).view_symint(shape);
    output = at::where(found, max_pool_gather(input, offsets, whole), 0);
  }
  return result;
}
Tensor max_pool_autograd(const Tensor& input, const Tensor& mask) {
  if (needs_node(input) || has_tangent(input)) {
    return std::get<0>(max_pool_with_offsets_autograd(input, mask, InputSpace::of(input, input.dim() - 2).is_symbolic()));
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return max_pool(input, mask);
}

}  // namespace
}  // namespace torch_pooling::ops

TORCH_LIBRARY_IMPL(torch_pooling, Autograd, m) {
  m.impl("masked_avg_pool", TORCH_FN(torch_pooling::ops::avg_pool_autograd));
  m.impl("masked_avg_pool_backward", TORCH_FN(torch_pooling::ops::avg_pool_backward_autograd));
  m.impl("masked_max_pool", TORCH_FN(torch_pooling::ops::max_pool_autograd));
  m.impl("masked_max_pool_with_offsets", TORCH_FN(torch_pooling::ops::max_pool_with_offsets_autograd));
}
