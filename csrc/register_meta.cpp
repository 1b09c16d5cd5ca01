// The operators on meta and fake tensors: the same bodies on symbolic sizes, nothing launched.
// SPDX-License-Identifier: BSD-3-Clause
#include "ops/combined.h"
#include "ops/implement.h"
#include "ops/masked.h"

namespace torch_pooling {
namespace {

struct Meta {
  using Int = c10::SymInt;
  static constexpr bool computes = false;

  static at::Tensor empty(c10::SymIntArrayRef sizes, const at::TensorOptions& options) {
    return at::empty_symint(sizes, options);
  }
  static at::Tensor empty_strided(c10::SymIntArrayRef sizes, c10::SymIntArrayRef strides, const at::TensorOptions& options) {
    return at::empty_strided_symint(sizes, strides, options);
  }
};

}  // namespace
}  // namespace torch_pooling

TORCH_LIBRARY_IMPL(torch_pooling, Meta, m) {
  torch_pooling::ops::Operators<torch_pooling::Meta>::implement(m);
  torch_pooling::ops::CombinedPool<torch_pooling::Meta>::implement(m);
  torch_pooling::ops::MaskedPool<torch_pooling::Meta>::implement(m);
}
