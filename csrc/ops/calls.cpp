// See calls.h. Each handle is looked up once.
// SPDX-License-Identifier: BSD-3-Clause
#include "ops/calls.h"

#include <algorithm>

namespace torch_pooling::ops {
namespace {

using Pair = std::tuple<Tensor, Tensor>;
using Override = std::optional<int64_t>;

bool any_symbolic(SymList sizes) {
  return std::any_of(sizes.begin(), sizes.end(), [](const c10::SymInt& size) { return size.is_symbolic(); });
}

}  // namespace

bool Sliding::is_symbolic() const { return any_symbolic(kernel_size); }
bool Adaptive::is_symbolic() const { return any_symbolic(output_size); }

Tensor avg_pool(const Tensor& input, int64_t rank, SymList kernel_size, SymList stride, SymList padding, SymList dilation,
                int64_t sizing, const AverageArgs& average) {
  static const auto op = find<Tensor(const Tensor&, int64_t, SymList, SymList, SymList, SymList, int64_t, bool, Override)>(
      "torch_pooling::avg_pool");
  return op.call(input, rank, kernel_size, stride, padding, dilation, sizing, average.count_include_pad,
                 average.divisor_override);
}
Tensor avg_pool(const Tensor& input, const SlidingAverage& w) {
  return avg_pool(input, w.rank, w.kernel_size, w.stride, w.padding, w.dilation, w.sizing, w.average);
}
Tensor avg_pool(const Tensor& input, const SlidingSum& w) {
  static const auto op =
      find<Tensor(const Tensor&, int64_t, SymList, SymList, SymList, SymList, int64_t)>("torch_pooling::sum_pool");
  return op.call(input, w.rank, w.kernel_size, w.stride, w.padding, w.dilation, w.sizing);
}
Tensor avg_pool(const Tensor& input, const Adaptive& w) {
  static const auto op = find<Tensor(const Tensor&, SymList)>("torch_pooling::adaptive_avg_pool");
  return op.call(input, w.output_size);
}

Tensor avg_pool_backward(const Tensor& grad_output, SymList input_size, const SlidingAverage& w, bool channels_last) {
  static const auto op = find<Tensor(const Tensor&, SymList, int64_t, SymList, SymList, SymList, SymList, int64_t, bool, Override,
                                     bool)>("torch_pooling::avg_pool_backward");
  return op.call(grad_output, input_size, w.rank, w.kernel_size, w.stride, w.padding, w.dilation, w.sizing,
                 w.average.count_include_pad, w.average.divisor_override, channels_last);
}
Tensor avg_pool_backward(const Tensor& grad_output, SymList input_size, const SlidingSum& w, bool channels_last) {
  static const auto op = find<Tensor(const Tensor&, SymList, int64_t, SymList, SymList, SymList, SymList, int64_t, bool)>(
      "torch_pooling::sum_pool_backward");
  return op.call(grad_output, input_size, w.rank, w.kernel_size, w.stride, w.padding, w.dilation, w.sizing, channels_last);
}
Tensor avg_pool_backward(const Tensor& grad_output, SymList input_size, const Adaptive&, bool channels_last) {
  static const auto op = find<Tensor(const Tensor&, SymList, bool)>("torch_pooling::adaptive_avg_pool_backward");
  return op.call(grad_output, input_size, channels_last);
}

Tensor max_pool(const Tensor& input, const Sliding& w) {
  static const auto op =
      find<Tensor(const Tensor&, int64_t, SymList, SymList, SymList, SymList, int64_t)>("torch_pooling::max_pool");
  return op.call(input, w.rank, w.kernel_size, w.stride, w.padding, w.dilation, w.sizing);
}
Tensor max_pool(const Tensor& input, const Adaptive& w) {
  static const auto op = find<Tensor(const Tensor&, SymList)>("torch_pooling::adaptive_max_pool");
  return op.call(input, w.output_size);
}

Pair max_pool_with_offsets(const Tensor& input, const Sliding& w, bool wide_offsets) {
  static const auto op = find<Pair(const Tensor&, int64_t, SymList, SymList, SymList, SymList, int64_t, bool)>(
      "torch_pooling::max_pool_with_offsets");
  return op.call(input, w.rank, w.kernel_size, w.stride, w.padding, w.dilation, w.sizing, wide_offsets);
}
Pair max_pool_with_offsets(const Tensor& input, const Adaptive& w, bool wide_offsets) {
  static const auto op = find<Pair(const Tensor&, SymList, bool)>("torch_pooling::adaptive_max_pool_with_offsets");
  return op.call(input, w.output_size, wide_offsets);
}

Tensor max_pool_backward(const Tensor& grad_output, const Tensor& offsets, SymList input_size, const Sliding& w,
                         bool channels_last) {
  static const auto op = find<Tensor(const Tensor&, const Tensor&, SymList, int64_t, SymList, SymList, SymList, SymList, int64_t,
                                     bool)>("torch_pooling::max_pool_backward");
  return op.call(grad_output, offsets, input_size, w.rank, w.kernel_size, w.stride, w.padding, w.dilation, w.sizing,
                 channels_last);
}
Tensor max_pool_backward(const Tensor& grad_output, const Tensor& offsets, SymList input_size, const Adaptive&,
                         bool channels_last) {
  static const auto op =
      find<Tensor(const Tensor&, const Tensor&, SymList, bool)>("torch_pooling::adaptive_max_pool_backward");
  return op.call(grad_output, offsets, input_size, channels_last);
}

Tensor max_pool_gather(const Tensor& input, const Tensor& offsets, const Sliding& w) {
  static const auto op = find<Tensor(const Tensor&, const Tensor&, int64_t, SymList, SymList, SymList, SymList, int64_t)>(
      "torch_pooling::max_pool_gather");
  return op.call(input, offsets, w.rank, w.kernel_size, w.stride, w.padding, w.dilation, w.sizing);
}
Tensor max_pool_gather(const Tensor& input, const Tensor& offsets, const Adaptive& w) {
  static const auto op =
      find<Tensor(const Tensor&, const Tensor&, SymList)>("torch_pooling::adaptive_max_pool_gather");
  return op.call(input, offsets, w.output_size);
}

Tensor max_pool_indices(const Tensor& offsets, SymList input_size, const Sliding& w) {
  static const auto op = find<Tensor(const Tensor&, SymList, int64_t, SymList, SymList, SymList, SymList, int64_t)>(
      "torch_pooling::max_pool_indices");
  return op.call(offsets, input_size, w.rank, w.kernel_size, w.stride, w.padding, w.dilation, w.sizing);
}
Tensor max_pool_indices(const Tensor& offsets, SymList input_size, const Adaptive&) {
  static const auto op = find<Tensor(const Tensor&, SymList)>("torch_pooling::adaptive_max_pool_indices");
  return op.call(offsets, input_size);
}

Tensor combined_pool(const Tensor& input, int64_t rank, int64_t form, c10::ArrayRef<int64_t> kinds, SymList sizes, SymList stride, SymList padding) {
  static const auto op = find<Tensor(const Tensor&, int64_t, int64_t, c10::ArrayRef<int64_t>, SymList, SymList, SymList)>(
      "torch_pooling::combined_pool");
  return op.call(input, rank, form, kinds, sizes, stride, padding);
}

namespace {

// Offsets are wide where sizes are symbolic: a window's size must not decide a type that would be fixed in a graph.
template <class Window>
std::tuple<Tensor, Tensor> with_indices(const Tensor& input, const Window& window) {
  const auto all = input.sym_sizes();
  const auto [output, offsets] = max_pool_with_offsets(input, window, window.is_symbolic() || any_symbolic(all));
  const int64_t rank = window.spatial_rank();
  return {output, max_pool_indices(offsets, all.slice(all.size() - static_cast<size_t>(rank)), window)};
}

}  // namespace

std::tuple<Tensor, Tensor> max_pool_with_indices(const Tensor& input, const Sliding& w) { return with_indices(input, w); }
std::tuple<Tensor, Tensor> max_pool_with_indices(const Tensor& input, const Adaptive& w) { return with_indices(input, w); }

}  // namespace torch_pooling::ops
