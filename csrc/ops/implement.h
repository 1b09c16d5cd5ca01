// Binds every operator body to the dispatch key of a device. The functions have the signatures of the schemas.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <torch/library.h>

#include "ops/pool.h"

namespace torch_pooling::ops {

template <class Device>
struct Operators {
  using Int = typename Device::Int;
  using Tensor = at::Tensor;
  using Pair = std::tuple<Tensor, Tensor>;
  using Sliding = Pool<Device, SlidingArgs<Int>>;
  using Adaptive = Pool<Device, AdaptiveArgs<Int>>;
  using Override = std::optional<int64_t>;
  static constexpr AverageArgs whole{true, std::nullopt, false}, plain_sum{true, std::nullopt, true};

  static Tensor avg_pool(const Tensor& input, int64_t rank, List<Int> kernel_size, List<Int> stride, List<Int> padding,
                         List<Int> dilation, int64_t sizing, bool count_include_pad, Override divisor_override) {
    return Sliding::avg_pool({"avg_pool", rank}, input, {rank, kernel_size, stride, padding, dilation, sizing},
                             {count_include_pad, divisor_override, false});
  }
  static Tensor avg_pool_backward(const Tensor& grad_output, List<Int> input_size, int64_t rank, List<Int> kernel_size,
                                  List<Int> stride, List<Int> padding, List<Int> dilation, int64_t sizing,
                                  bool count_include_pad, Override divisor_override, bool channels_last) {
    return Sliding::avg_pool_backward({"avg_pool", rank, "_backward"}, grad_output, input_size,
                                      {rank, kernel_size, stride, padding, dilation, sizing},
                                      {count_include_pad, divisor_override, false}, channels_last);
  }
  static Tensor sum_pool(const Tensor& input, int64_t rank, List<Int> kernel_size, List<Int> stride, List<Int> padding,
                         List<Int> dilation, int64_t sizing) {
    return Sliding::avg_pool({"sum_pool", rank}, input, {rank, kernel_size, stride, padding, dilation, sizing}, plain_sum);
  }
  static Tensor sum_pool_backward(const Tensor& grad_output, List<Int> input_size, int64_t rank, List<Int> kernel_size,
                                  List<Int> stride, List<Int> padding, List<Int> dilation, int64_t sizing, bool channels_last) {
    return Sliding::avg_pool_backward({"sum_pool", rank, "_backward"}, grad_output, input_size,
                                      {rank, kernel_size, stride, padding, dilation, sizing}, plain_sum, channels_last);
  }
  static Tensor max_pool(const Tensor& input, int64_t rank, List<Int> kernel_size, List<Int> stride, List<Int> padding,
                         List<Int> dilation, int64_t sizing) {
    return Sliding::max_pool({"max_pool", rank}, input, {rank, kernel_size, stride, padding, dilation, sizing});
  }
  static Pair max_pool_with_offsets(const Tensor& input, int64_t rank, List<Int> kernel_size, List<Int> stride,
                                    List<Int> padding, List<Int> dilation, int64_t sizing, bool wide_offsets) {
    return Sliding::max_pool_with_offsets({"max_pool", rank}, input, {rank, kernel_size, stride, padding, dilation, sizing},
                                          wide_offsets);
  }
  static Tensor max_pool_backward(const Tensor& grad_output, const Tensor& offsets, List<Int> input_size, int64_t rank,
                                  List<Int> kernel_size, List<Int> stride, List<Int> padding, List<Int> dilation, int64_t sizing,
                                  bool channels_last) {
    return Sliding::max_pool_backward({"max_pool", rank, "_backward"}, grad_output, offsets, input_size,
                                      {rank, kernel_size, stride, padding, dilation, sizing}, channels_last);
  }
  static Tensor max_pool_gather(const Tensor& input, const Tensor& offsets, int64_t rank, List<Int> kernel_size, List<Int> stride,
                                List<Int> padding, List<Int> dilation, int64_t sizing) {
    return Sliding::max_pool_gather({"max_pool", rank, "_gather"}, input, offsets,
                                    {rank, kernel_size, stride, padding, dilation, sizing});
  }
  static Tensor max_pool_indices(const Tensor& offsets, List<Int> input_size, int64_t rank, List<Int> kernel_size,
                                 List<Int> stride, List<Int> padding, List<Int> dilation, int64_t sizing) {
    return Sliding::max_pool_indices({"max_pool", rank, "_indices"}, offsets, input_size,
                                     {rank, kernel_size, stride, padding, dilation, sizing});
  }

  static Tensor adaptive_avg_pool(const Tensor& input, List<Int> output_size) {
    return Adaptive::avg_pool(name("adaptive_avg_pool", output_size), input, {output_size}, whole);
  }
  static Tensor adaptive_avg_pool_backward(const Tensor& grad_output, List<Int> input_size, bool channels_last) {
    const OpName op = name("adaptive_avg_pool", input_size, "_backward");
    const SizeVector<Int> output_size = trailing_sizes(op, "grad_output", grad_output, input_size);
    return Adaptive::avg_pool_backward(op, grad_output, input_size, {List<Int>(output_size)}, whole, channels_last);
  }
  static Tensor adaptive_max_pool(const Tensor& input, List<Int> output_size) {
    return Adaptive::max_pool(name("adaptive_max_pool", output_size), input, {output_size});
  }
  static Pair adaptive_max_pool_with_offsets(const Tensor& input, List<Int> output_size, bool wide_offsets) {
    return Adaptive::max_pool_with_offsets(name("adaptive_max_pool", output_size), input, {output_size}, wide_offsets);
  }
  static Tensor adaptive_max_pool_backward(const Tensor& grad_output, const Tensor& offsets, List<Int> input_size,
                                           bool channels_last) {
    const OpName op = name("adaptive_max_pool", input_size, "_backward");
    const SizeVector<Int> output_size = trailing_sizes(op, "grad_output", grad_output, input_size);
    return Adaptive::max_pool_backward(op, grad_output, offsets, input_size, {List<Int>(output_size)}, channels_last);
  }
  static Tensor adaptive_max_pool_gather(const Tensor& input, const Tensor& offsets, List<Int> output_size) {
    return Adaptive::max_pool_gather(name("adaptive_max_pool", output_size, "_gather"), input, offsets, {output_size});
  }
  static Tensor adaptive_max_pool_indices(const Tensor& offsets, List<Int> input_size) {
    const OpName op = name("adaptive_max_pool", input_size, "_indices");
    const SizeVector<Int> output_size = trailing_sizes(op, "offsets", offsets, input_size);
    return Adaptive::max_pool_indices(op, offsets, input_size, {List<Int>(output_size)});
  }

  static OpName name(const char* stem, List<Int> spatial, const char* suffix = "") {
    return {stem, static_cast<int64_t>(spatial.size()), suffix};
  }
  // The output size of an adaptive pool is read off a tensor in its shape, which must have one.
  static SizeVector<Int> trailing_sizes(const OpName& op, const char* name, const Tensor& tensor, List<Int> input_size) {
    const auto rank = static_cast<int64_t>(input_size.size());
    TORCH_CHECK(rank >= 1 && rank <= 3, op, ": input_size must have 1, 2 or 3 elements (spatial sizes only), but got ", rank);
    const auto sizes = sizes_of(tensor, static_cast<const Int*>(nullptr));
    const int64_t dim = tensor.dim();
    TORCH_CHECK(dim == rank + 1 || dim == rank + 2, op, ": expected ", name, " to be ", rank + 1, "-D (unbatched) or ", rank + 2,
                "-D (batched), but got ", dim, "-D with sizes ", sizes);
    return SizeVector<Int>(sizes.end() - rank, sizes.end());
  }

  static void implement(torch::Library& m) {
    m.impl("avg_pool", TORCH_FN(avg_pool));
    m.impl("avg_pool_backward", TORCH_FN(avg_pool_backward));
    m.impl("sum_pool", TORCH_FN(sum_pool));
    m.impl("sum_pool_backward", TORCH_FN(sum_pool_backward));
    m.impl("max_pool", TORCH_FN(max_pool));
    m.impl("max_pool_with_offsets", TORCH_FN(max_pool_with_offsets));
    m.impl("max_pool_backward", TORCH_FN(max_pool_backward));
    m.impl("max_pool_gather", TORCH_FN(max_pool_gather));
    m.impl("max_pool_indices", TORCH_FN(max_pool_indices));
    m.impl("adaptive_avg_pool", TORCH_FN(adaptive_avg_pool));
    m.impl("adaptive_avg_pool_backward", TORCH_FN(adaptive_avg_pool_backward));
    m.impl("adaptive_max_pool", TORCH_FN(adaptive_max_pool));
    m.impl("adaptive_max_pool_with_offsets", TORCH_FN(adaptive_max_pool_with_offsets));
    m.impl("adaptive_max_pool_backward", TORCH_FN(adaptive_max_pool_backward));
    m.impl("adaptive_max_pool_gather", TORCH_FN(adaptive_max_pool_gather));
    m.impl("adaptive_max_pool_indices", TORCH_FN(adaptive_max_pool_indices));
  }
};

}  // namespace torch_pooling::ops
