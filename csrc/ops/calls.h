// Typed calls of the operators through the dispatcher, by the window they use: Sliding, SlidingAverage, SlidingSum or Adaptive. These own
// their sizes, so that an autograd node can keep them. One overload set for both kinds of window serves autograd and autocast.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/SymIntArrayRef.h>
#include <c10/util/SmallVector.h>

#include <tuple>

#include "ops/window_args.h"

namespace torch_pooling::ops {

// The operator's handle: looked up once by each caller.
template <class Signature>
c10::TypedOperatorHandle<Signature> find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").template typed<Signature>();
}

using SymSizes = c10::SmallVector<c10::SymInt, 3>;
using SymList = c10::SymIntArrayRef;

struct Sliding {
  int64_t rank;
  SymSizes kernel_size, stride, padding, dilation;
  int64_t sizing;

  int64_t spatial_rank() const { return rank; }
  bool is_symbolic() const;
};
struct SlidingAverage : Sliding {
  AverageArgs average;
};
struct SlidingSum : Sliding {};
struct Adaptive {
  SymSizes output_size;

  int64_t spatial_rank() const { return static_cast<int64_t>(output_size.size()); }
  bool is_symbolic() const;
};

using at::Tensor;

// With the lists of a call that is passed on as it came.
Tensor avg_pool(const Tensor& input, int64_t rank, SymList kernel_size, SymList stride, SymList padding, SymList dilation,
                int64_t sizing, const AverageArgs& average);
Tensor avg_pool(const Tensor& input, const SlidingAverage& window);
Tensor avg_pool(const Tensor& input, const SlidingSum& window);
Tensor avg_pool(const Tensor& input, const Adaptive& window);
Tensor avg_pool_backward(const Tensor& grad_output, SymList input_size, const SlidingAverage& window, bool channels_last);
Tensor avg_pool_backward(const Tensor& grad_output, SymList input_size, const SlidingSum& window, bool channels_last);
Tensor avg_pool_backward(const Tensor& grad_output, SymList input_size, const Adaptive& window, bool channels_last);

Tensor max_pool(const Tensor& input, const Sliding& window);
Tensor max_pool(const Tensor& input, const Adaptive& window);
std::tuple<Tensor, Tensor> max_pool_with_offsets(const Tensor& input, const Sliding& window, bool wide_offsets);
std::tuple<Tensor, Tensor> max_pool_with_offsets(const Tensor& input, const Adaptive& window, bool wide_offsets);
Tensor max_pool_backward(const Tensor& grad_output, const Tensor& offsets, SymList input_size, const Sliding& window,
                         bool channels_last);
Tensor max_pool_backward(const Tensor& grad_output, const Tensor& offsets, SymList input_size, const Adaptive& window,
                         bool channels_last);
Tensor max_pool_gather(const Tensor& input, const Tensor& offsets, const Sliding& window);
Tensor max_pool_gather(const Tensor& input, const Tensor& offsets, const Adaptive& window);
Tensor max_pool_indices(const Tensor& offsets, SymList input_size, const Sliding& window);
Tensor max_pool_indices(const Tensor& offsets, SymList input_size, const Adaptive& window);

// See combined.h.
Tensor combined_pool(const Tensor& input, int64_t rank, int64_t form, c10::ArrayRef<int64_t> kinds, SymList sizes, SymList stride, SymList padding);

// Values and the int64 positions of them in the flattened spatial axes.
std::tuple<Tensor, Tensor> max_pool_with_indices(const Tensor& input, const Sliding& window);
std::tuple<Tensor, Tensor> max_pool_with_indices(const Tensor& input, const Adaptive& window);

}  // namespace torch_pooling::ops
