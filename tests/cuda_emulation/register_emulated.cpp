// The operators with the emulated CUDA kernels, under the CPU key.
// SPDX-License-Identifier: BSD-3-Clause
#include <ATen/EmptyTensor.h>

#include <memory>
#include <vector>

#include "cuda/launch.h"
#include "ops/combined.h"
#include "ops/implement.h"
#include "ops/masked.h"

namespace torch_pooling {
namespace {

// Every block is an allocation of its own, so that AddressSanitizer knows where it ends.
struct HostContext final : cuda::Context {
  HostContext() : Context(nullptr) {}
  ~HostContext() override {
    for (void* block : blocks) ::operator delete(block, std::align_val_t{256});
  }
  void* allocate(int64_t bytes) override {
    blocks.push_back(::operator new(static_cast<size_t>(bytes), std::align_val_t{256}));
    return blocks.back();
  }
  std::vector<void*> blocks;
};

struct EmulatedCuda : cuda::Launchers<HostContext> {
  using Int = int64_t;
  static constexpr bool computes = true;

  struct Guard {
    explicit Guard(const at::Tensor&) {}
  };
  static at::Tensor empty(c10::IntArrayRef sizes, const at::TensorOptions& options) {
    return at::detail::empty_cpu(sizes, options);
  }
  static at::Tensor empty_strided(c10::IntArrayRef sizes, c10::IntArrayRef strides, const at::TensorOptions& options) {
    return at::detail::empty_strided_cpu(sizes, strides, options);
  }
};

}  // namespace
}  // namespace torch_pooling

TORCH_LIBRARY_IMPL(torch_pooling, CPU, m) {
  torch_pooling::ops::Operators<torch_pooling::EmulatedCuda>::implement(m);
  torch_pooling::ops::CombinedPool<torch_pooling::EmulatedCuda>::implement(m);
  torch_pooling::ops::MaskedPool<torch_pooling::EmulatedCuda>::implement(m);
}
