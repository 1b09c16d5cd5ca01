// Derivatives of the combined operators, by the rules of autograd.cpp: linear once the positions of the maxima are fixed. The
// adjoint of combined_pool_gather is combined_pool_backward and the reverse; combined_pool is the former at its own positions. Also
// their autocast rule, that of single pools.
// SPDX-License-Identifier: BSD-3-Clause
#include <ATen/autocast_mode.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "ops/nodes.h"

namespace torch_pooling::ops {
namespace {

using Offsets = std::optional<Tensor>;
using Kinds = c10::ArrayRef<int64_t>;

struct Shape {  // the arguments, owned
  int64_t rank, form;
  c10::SmallVector<int64_t, 8> kinds;
  SymSizes sizes, stride, padding;

  Shape() = default;
  Shape(int64_t rank, int64_t form, Kinds kinds, SymList sizes, SymList stride, SymList padding)
      : rank(rank), form(form), kinds(kinds.begin(), kinds.end()), sizes(sizes.begin(), sizes.end()),
        stride(stride.begin(), stride.end()), padding(padding.begin(), padding.end()) {}
  template <class Visit>
  void each_number(const Visit& visit) const {
    visit(rank), visit(form), visit(static_cast<int64_t>(kinds.size()));
    for (const int64_t kind : kinds) visit(kind);
    for (const SymSizes* list : {&sizes, &stride, &padding}) ops::each_number(*list, visit);
  }
  bool has_max() const { return std::find(kinds.begin(), kinds.end(), 1) != kinds.end(); }
  bool is_symbolic() const {
    return std::any_of(sizes.begin(), sizes.end(), [](const c10::SymInt& s) { return s.is_symbolic(); });
  }
};

Tensor pool(const Tensor& input, const Shape& s) {
  return combined_pool(input, s.rank, s.form, s.kinds, s.sizes, s.stride, s.padding);
}
Pair pool_with_offsets(const Tensor& input, const Shape& s, bool wide_offsets) {
  static const auto op = find<Pair(const Tensor&, int64_t, int64_t, Kinds, SymList, SymList, SymList, bool)>(
      "torch_pooling::combined_pool_with_offsets");
  return op.call(input, s.rank, s.form, s.kinds, s.sizes, s.stride, s.padding, wide_offsets);
}
Tensor gather(const Tensor& input, const Offsets& offsets, const Shape& s) {
  static const auto op = find<Tensor(const Tensor&, const Offsets&, int64_t, int64_t, Kinds, SymList, SymList, SymList)>(
      "torch_pooling::combined_pool_gather");
  return op.call(input, offsets, s.rank, s.form, s.kinds, s.sizes, s.stride, s.padding);
}
Tensor backward(const Tensor& grad_output, const Offsets& offsets, SymList input_size, const Shape& s, bool channels_last) {
  static const auto op = find<Tensor(const Tensor&, const Offsets&, SymList, int64_t, int64_t, Kinds, SymList, SymList, SymList, bool)>(
      "torch_pooling::combined_pool_backward");
  return op.call(grad_output, offsets, input_size, s.rank, s.form, s.kinds, s.sizes, s.stride, s.padding, channels_last);
}

Offsets codes(const Tensor& offsets) { return offsets.defined() ? Offsets(offsets) : std::nullopt; }

// Both ways keep the offsets, where there are any.
struct CombinedPoolMap {
  static constexpr const char* name = "CombinedPoolBackward";
  Shape shape;
  bool channels_last;
  Tensor operator()(const Tensor& grad, SymList size, const Tensor& offsets) const {
    return backward(grad, codes(offsets), size, shape, channels_last);
  }
  template <class Visit>
  void each_number(const Visit& visit) const {
    shape.each_number(visit), visit(channels_last);
  }
};
struct CombinedPoolBackwardMap {
  static constexpr const char* name = "CombinedPoolBackwardBackward";
  Shape shape;
  Tensor operator()(const Tensor& grad, SymList, const Tensor& offsets) const { return gather(grad, codes(offsets), shape); }
  template <class Visit>
  void each_number(const Visit& visit) const {
    shape.each_number(visit);
  }
};

NodePointer<LinearNode<CombinedPoolMap>> pool_node(const Tensor& input, const Offsets& offsets, const Shape& shape) {
  if (!needs_node(input)) return {};
  const InputSpace place = InputSpace::of(input, shape.rank);
  return make_node<CombinedPoolMap>({shape, place.channels_last}, place.size, offsets.value_or(Tensor()));
}

Pair with_offsets_autograd(const Tensor& input, const Shape& shape, bool wide_offsets) {
  Pair result;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    result = pool_with_offsets(input, shape, wide_offsets);
  }
  auto& [output, offsets] = result;
  if (auto node = pool_node(input, offsets, shape)) {
    node->set_next_edges(torch::autograd::collect_next_edges(input));
    torch::autograd::set_history(output, node);
  }
  if (has_tangent(input)) output._set_fw_grad(gather(input._fw_grad(0), offsets, shape), 0, false);
  return result;
}

Tensor pool_autograd(const Tensor& input, const Shape& shape) {
  const bool asked = needs_node(input) || has_tangent(input);
  if (asked && shape.has_max()) {
    const bool wide = shape.is_symbolic() || InputSpace::of(input, shape.rank).is_symbolic();
    return std::get<0>(with_offsets_autograd(input, shape, wide));
  }
  return linear(input, pool_node(input, std::nullopt, shape), [&](const Tensor& x) { return pool(x, shape); });
}

Tensor backward_autograd(const Tensor& grad_output, const Offsets& offsets, SymList input_size, const Shape& shape, bool channels_last) {
  NodePointer<LinearNode<CombinedPoolBackwardMap>> node;
  if (needs_node(grad_output)) node = make_node<CombinedPoolBackwardMap>({shape}, {}, offsets.value_or(Tensor()));
  return linear(grad_output, node, [&](const Tensor& x) { return backward(x, offsets, input_size, shape, channels_last); });
}

#define TP_SHAPE int64_t rank, int64_t form, Kinds kinds, SymList sizes, SymList stride, SymList padding
#define TP_MADE Shape(rank, form, kinds, sizes, stride, padding)

void implement(torch::Library& m) {
  m.impl("combined_pool", [](const Tensor& input, TP_SHAPE) { return pool_autograd(input, TP_MADE); });
  m.impl("combined_pool_with_offsets",
         [](const Tensor& input, TP_SHAPE, bool wide_offsets) { return with_offsets_autograd(input, TP_MADE, wide_offsets); });
  m.impl("combined_pool_gather", [](const Tensor& input, const Offsets& offsets, TP_SHAPE) {
    const Shape shape = TP_MADE;
    return linear(input, pool_node(input, offsets, shape), [&](const Tensor& x) { return gather(x, offsets, shape); });
  });
  m.impl("combined_pool_backward",
         [](const Tensor& grad_output, const Offsets& offsets, SymList input_size, TP_SHAPE, bool channels_last) {
           return backward_autograd(grad_output, offsets, input_size, TP_MADE, channels_last);
         });
}

Tensor cast(const Tensor& input, int64_t rank) {
  return rank == 3 ? at::autocast::cached_cast(at::kFloat, input, c10::DeviceType::CPU) : input;
}
void implement_autocast(torch::Library& m) {
  m.impl("combined_pool", [](const Tensor& input, TP_SHAPE) {
    c10::impl::ExcludeDispatchKeyGuard below{c10::DispatchKey::AutocastCPU};
    return pool(cast(input, rank), TP_MADE);
  });
  m.impl("combined_pool_with_offsets", [](const Tensor& input, TP_SHAPE, bool wide_offsets) {
    c10::impl::ExcludeDispatchKeyGuard below{c10::DispatchKey::AutocastCPU};
    return pool_with_offsets(cast(input, rank), TP_MADE, wide_offsets);
  });
}

}  // namespace
}  // namespace torch_pooling::ops

TORCH_LIBRARY_IMPL(torch_pooling, Autograd, m) { torch_pooling::ops::implement(m); }
TORCH_LIBRARY_IMPL(torch_pooling, AutocastCPU, m) { torch_pooling::ops::implement_autocast(m); }
