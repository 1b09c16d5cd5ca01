// Autocast on the CPU, by torch's rule for its own pools: 3-D pools run in float32, 1-D and 2-D ones in the type they are given, and so
// do sliding maxima with their indices in 3-D.
// SPDX-License-Identifier: BSD-3-Clause
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "ops/calls.h"

namespace torch_pooling::ops {
namespace {

using Override = std::optional<int64_t>;

Tensor cast(const Tensor& input, int64_t rank) {
  return rank == 3 ? at::autocast::cached_cast(at::kFloat, input, c10::DeviceType::CPU) : input;
}
SymSizes copy(SymList list) { return SymSizes(list.begin(), list.end()); }

struct BelowAutocast {
  c10::impl::ExcludeDispatchKeyGuard guard{c10::DispatchKey::AutocastCPU};
};

void implement(torch::Library& m) {
  m.impl("avg_pool", [](const Tensor& input, int64_t rank, SymList kernel_size, SymList stride, SymList padding, SymList dilation,
                        int64_t sizing, bool count_include_pad, Override divisor_override) {
    BelowAutocast below;
    return avg_pool(cast(input, rank), SlidingAverage{{rank, copy(kernel_size), copy(stride), copy(padding), copy(dilation),
                                                       sizing}, {count_include_pad, divisor_override, false}});
  });
  m.impl("sum_pool", [](const Tensor& input, int64_t rank, SymList kernel_size, SymList stride, SymList padding, SymList dilation,
                        int64_t sizing) {
    BelowAutocast below;
    return avg_pool(cast(input, rank), SlidingSum{{rank, copy(kernel_size), copy(stride), copy(padding), copy(dilation), sizing}});
  });
  m.impl("max_pool", [](const Tensor& input, int64_t rank, SymList kernel_size, SymList stride, SymList padding, SymList dilation,
                        int64_t sizing) {
    BelowAutocast below;
    return max_pool(cast(input, rank),
                    Sliding{rank, copy(kernel_size), copy(stride), copy(padding), copy(dilation), sizing});
  });
  m.impl("adaptive_avg_pool", [](const Tensor& input, SymList output_size) {
    BelowAutocast below;
    return avg_pool(cast(input, static_cast<int64_t>(output_size.size())), Adaptive{copy(output_size)});
  });
  m.impl("adaptive_max_pool", [](const Tensor& input, SymList output_size) {
    BelowAutocast below;
    return max_pool(cast(input, static_cast<int64_t>(output_size.size())), Adaptive{copy(output_size)});
  });
  m.impl("adaptive_max_pool_with_offsets", [](const Tensor& input, SymList output_size, bool wide_offsets) {
    BelowAutocast below;
    return max_pool_with_offsets(cast(input, static_cast<int64_t>(output_size.size())), Adaptive{copy(output_size)}, wide_offsets);
  });
}

}  // namespace
}  // namespace torch_pooling::ops

TORCH_LIBRARY_IMPL(torch_pooling, AutocastCPU, m) { torch_pooling::ops::implement(m); }
