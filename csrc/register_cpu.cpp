// The operators on the CPU: operator bodies meet the CPU's launchers.
// SPDX-License-Identifier: BSD-3-Clause
#include <ATen/EmptyTensor.h>

#include "cpu/first_touch.h"
#include "cpu/launch.h"
#include "cpu/launch_combined.h"
#include "cpu/launch_masked.h"
#include "ops/combined.h"
#include "ops/implement.h"
#include "ops/masked.h"

namespace torch_pooling {
namespace {

struct Cpu {
  using Int = int64_t;
  static constexpr bool computes = true;

  struct Guard {  // there is one CPU
    explicit Guard(const at::Tensor&) {}
  };
  static at::Tensor empty(c10::IntArrayRef sizes, const at::TensorOptions& options) {
    return touched_first(at::detail::empty_cpu(sizes, options));
  }
  static at::Tensor empty_strided(c10::IntArrayRef sizes, c10::IntArrayRef strides, const at::TensorOptions& options) {
    return touched_first(at::detail::empty_strided_cpu(sizes, strides, options));
  }
  static at::Tensor touched_first(at::Tensor result) {
    cpu::expect_first_touch(result.mutable_data_ptr(), static_cast<int64_t>(result.nbytes()));
    return result;
  }
  static constexpr auto avg_pool = cpu::avg_pool;
  static constexpr auto avg_pool_backward = cpu::avg_pool_backward;
  static constexpr auto max_pool = cpu::max_pool;
  static constexpr auto max_pool_backward = cpu::max_pool_backward;
  static constexpr auto max_pool_gather = cpu::max_pool_gather;
  static constexpr auto max_pool_indices = cpu::max_pool_indices;
  static constexpr auto look_at_offsets = cpu::look_at_offsets;
  static constexpr auto combined_pool = cpu::combined_pool;
  static constexpr auto combined_pool_gather = cpu::combined_pool_gather;
  static constexpr auto combined_pool_backward = cpu::combined_pool_backward;
  static constexpr auto masked_avg_pool = cpu::masked_avg_pool;
  static constexpr auto masked_avg_pool_backward = cpu::masked_avg_pool_backward;
  static constexpr auto masked_max_pool = cpu::masked_max_pool;
};

}  // namespace
}  // namespace torch_pooling

TORCH_LIBRARY_IMPL(torch_pooling, CPU, m) {
  torch_pooling::ops::Operators<torch_pooling::Cpu>::implement(m);
  torch_pooling::ops::CombinedPool<torch_pooling::Cpu>::implement(m);
  torch_pooling::ops::MaskedPool<torch_pooling::Cpu>::implement(m);
}
