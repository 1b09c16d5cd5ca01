// Derivatives, as nodes at the Autograd key. Every operator is linear once its arg-max is fixed, so three rules cover all:
// the adjoint of avg_pool is avg_pool_backward and the reverse; the adjoint of max_pool_gather is max_pool_backward and the
// reverse; max_pool is max_pool_gather at its own arg-max. Tangents go through the same linear map. Nodes keep sizes and, for
// maxima, the offsets; never the input. No arg-max is computed where no gradient and no tangent can ask for it.
// SPDX-License-Identifier: BSD-3-Clause
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "ops/nodes.h"

namespace torch_pooling::ops {
namespace {

using Override = std::optional<int64_t>;

template <class Window>
struct AvgPoolMap {  // of avg_pool and sum_pool
  static constexpr const char* name = "AvgPoolBackward";
  Window window;
  bool channels_last;
  Tensor operator()(const Tensor& grad, SymList size, const Tensor&) const { return avg_pool_backward(grad, size, window, channels_last); }
  template <class Visit>
  void each_number(const Visit& visit) const {
    ops::each_number(window, visit), visit(channels_last);
  }
};
template <class Window>
struct AvgPoolBackwardMap {  // of avg_pool_backward
  static constexpr const char* name = "AvgPoolBackwardBackward";
  Window window;
  Tensor operator()(const Tensor& grad, SymList, const Tensor&) const { return avg_pool(grad, window); }
  template <class Visit>
  void each_number(const Visit& visit) const {
    ops::each_number(window, visit);
  }
};
template <class Window>
struct MaxPoolMap {  // of max_pool and max_pool_gather
  static constexpr const char* name = "MaxPoolBackward";
  Window window;
  bool channels_last;
  Tensor operator()(const Tensor& grad, SymList size, const Tensor& offsets) const {
    return max_pool_backward(grad, offsets, size, window, channels_last);
  }
  template <class Visit>
  void each_number(const Visit& visit) const {
    ops::each_number(window, visit), visit(channels_last);
  }
};
template <class Window>
struct MaxPoolBackwardMap {  // of max_pool_backward
  static constexpr const char* name = "MaxPoolBackwardBackward";
  Window window;
  Tensor operator()(const Tensor& grad, SymList, const Tensor& offsets) const { return max_pool_gather(grad, offsets, window); }
  template <class Visit>
  void each_number(const Visit& visit) const {
    ops::each_number(window, visit);
  }
};

template <class Window>
Tensor avg_pool_autograd(const Tensor& input, const Window& window) {
  NodePointer<LinearNode<AvgPoolMap<Window>>> node;
  if (needs_node(input)) {
    const InputSpace place = InputSpace::of(input, window.spatial_rank());
    node = make_node<AvgPoolMap<Window>>({window, place.channels_last}, place.size);
  }
  return linear(input, node, [&](const Tensor& x) { return avg_pool(x, window); });
}

template <class Window>
Tensor avg_pool_backward_autograd(const Tensor& grad_output, SymList input_size, const Window& window, bool channels_last) {
  NodePointer<LinearNode<AvgPoolBackwardMap<Window>>> node;
  if (needs_node(grad_output)) node = make_node<AvgPoolBackwardMap<Window>>({window});
  return linear(grad_output, node, [&](const Tensor& x) { return avg_pool_backward(x, input_size, window, channels_last); });
}

template <class Window>
NodePointer<LinearNode<MaxPoolMap<Window>>> max_pool_node(const Tensor& input, const Tensor& offsets, const Window& window,
                                                          const InputSpace& place) {
  if (!needs_node(input)) return {};
  auto node = make_node<MaxPoolMap<Window>>({window, place.channels_last}, place.size, offsets);
  node->set_next_edges(torch::autograd::collect_next_edges(input));
  return node;
}

template <class Window>
Pair max_pool_with_offsets_autograd(const Tensor& input, const Window& window, bool wide_offsets) {
  const InputSpace place = InputSpace::of(input, window.spatial_rank());
  Pair result;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    result = max_pool_with_offsets(input, window, wide_offsets);
  }
  auto& [output, offsets] = result;
  if (auto node = max_pool_node(input, offsets, window, place)) torch::autograd::set_history(output, node);
  if (has_tangent(input)) output._set_fw_grad(max_pool_gather(input._fw_grad(0), offsets, window), 0, false);
  return result;
}

template <class Window>
Tensor max_pool_autograd(const Tensor& input, const Window& window) {
  if (needs_node(input) || has_tangent(input)) {
    // Where sizes are symbolic the window's size must not decide a type: it would be fixed in the graph.
    const bool adaptive = std::is_same_v<Window, Adaptive>;
    const bool wide = window.is_symbolic() || (adaptive && InputSpace::of(input, window.spatial_rank()).is_symbolic());
    return std::get<0>(max_pool_with_offsets_autograd(input, window, wide));
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return max_pool(input, window);
}

template <class Window>
Tensor max_pool_backward_autograd(const Tensor& grad_output, const Tensor& offsets, SymList input_size, const Window& window,
                                  bool channels_last) {
  NodePointer<LinearNode<MaxPoolBackwardMap<Window>>> node;
  if (needs_node(grad_output)) node = make_node<MaxPoolBackwardMap<Window>>({window}, {}, offsets);
  return linear(grad_output, node,
                [&](const Tensor& x) { return max_pool_backward(x, offsets, input_size, window, channels_last); });
}

template <class Window>
Tensor max_pool_gather_autograd(const Tensor& input, const Tensor& offsets, const Window& window) {
  const auto node = max_pool_node(input, offsets, window, InputSpace::of(input, window.spatial_rank()));
  return linear(input, node, [&](const Tensor& x) { return max_pool_gather(x, offsets, window); });
}

SymSizes copy(SymList list) { return SymSizes(list.begin(), list.end()); }
Sliding sliding(int64_t rank, SymList kernel_size, SymList stride, SymList padding, SymList dilation, int64_t sizing) {
  return {rank, copy(kernel_size), copy(stride), copy(padding), copy(dilation), sizing};
}
// The output size of an adaptive operator that is not told it: the trailing sizes of a tensor in the output's shape.
Adaptive adaptive_like(const Tensor& tensor, SymList input_size) {
  const auto sizes = tensor.sym_sizes();
  const size_t count = std::min(sizes.size(), input_size.size());
  return {SymSizes(sizes.end() - static_cast<int64_t>(count), sizes.end())};
}

#define TP_SLIDING \
  int64_t rank, SymList kernel_size, SymList stride, SymList padding, SymList dilation, int64_t sizing
#define TP_WINDOW sliding(rank, kernel_size, stride, padding, dilation, sizing)

void implement(torch::Library& m) {
  m.impl("avg_pool", [](const Tensor& input, TP_SLIDING, bool count_include_pad, Override divisor_override) {
    if (needs_node(input) || has_tangent(input)) {
      return avg_pool_autograd(input, SlidingAverage{TP_WINDOW, {count_include_pad, divisor_override, false}});
    }
    at::AutoDispatchBelowADInplaceOrView below;
    return avg_pool(input, rank, kernel_size, stride, padding, dilation, sizing, {count_include_pad, divisor_override, false});
  });
  m.impl("avg_pool_backward", [](const Tensor& grad_output, SymList input_size, TP_SLIDING, bool count_include_pad,
                                 Override divisor_override, bool channels_last) {
    return avg_pool_backward_autograd(grad_output, input_size,
                                      SlidingAverage{TP_WINDOW, {count_include_pad, divisor_override, false}}, channels_last);
  });
  m.impl("sum_pool", [](const Tensor& input, TP_SLIDING) { return avg_pool_autograd(input, SlidingSum{TP_WINDOW}); });
  m.impl("sum_pool_backward", [](const Tensor& grad_output, SymList input_size, TP_SLIDING, bool channels_last) {
    return avg_pool_backward_autograd(grad_output, input_size, SlidingSum{TP_WINDOW}, channels_last);
  });
  m.impl("max_pool", [](const Tensor& input, TP_SLIDING) { return max_pool_autograd(input, TP_WINDOW); });
  m.impl("max_pool_with_offsets", [](const Tensor& input, TP_SLIDING, bool wide_offsets) {
    return max_pool_with_offsets_autograd(input, TP_WINDOW, wide_offsets);
  });
  m.impl("max_pool_backward",
         [](const Tensor& grad_output, const Tensor& offsets, SymList input_size, TP_SLIDING, bool channels_last) {
           return max_pool_backward_autograd(grad_output, offsets, input_size, TP_WINDOW, channels_last);
         });
  m.impl("max_pool_gather", [](const Tensor& input, const Tensor& offsets, TP_SLIDING) {
    return max_pool_gather_autograd(input, offsets, TP_WINDOW);
  });
  m.impl("adaptive_avg_pool",
         [](const Tensor& input, SymList output_size) { return avg_pool_autograd(input, Adaptive{copy(output_size)}); });
  m.impl("adaptive_avg_pool_backward", [](const Tensor& grad_output, SymList input_size, bool channels_last) {
    return avg_pool_backward_autograd(grad_output, input_size, adaptive_like(grad_output, input_size), channels_last);
  });
  m.impl("adaptive_max_pool",
         [](const Tensor& input, SymList output_size) { return max_pool_autograd(input, Adaptive{copy(output_size)}); });
  m.impl("adaptive_max_pool_with_offsets", [](const Tensor& input, SymList output_size, bool wide_offsets) {
    return max_pool_with_offsets_autograd(input, Adaptive{copy(output_size)}, wide_offsets);
  });
  m.impl("adaptive_max_pool_backward",
         [](const Tensor& grad_output, const Tensor& offsets, SymList input_size, bool channels_last) {
           return max_pool_backward_autograd(grad_output, offsets, input_size, adaptive_like(grad_output, input_size),
                                             channels_last);
         });
  m.impl("adaptive_max_pool_gather", [](const Tensor& input, const Tensor& offsets, SymList output_size) {
    return max_pool_gather_autograd(input, offsets, Adaptive{copy(output_size)});
  });
}

}  // namespace
}  // namespace torch_pooling::ops

TORCH_LIBRARY_IMPL(torch_pooling, Autograd, m) { torch_pooling::ops::implement(m); }
