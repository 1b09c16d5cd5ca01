// The operators on CUDA: operator bodies meet CUDA's launchers, on the tensors' device and its current stream.
// SPDX-License-Identifier: BSD-3-Clause
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <vector>

#include "cuda/launch.h"
#include "ops/combined.h"
#include "ops/implement.h"
#include "ops/masked.h"

namespace torch_pooling {
namespace {

// Workspaces go back to torch's allocator at the end of the call; it hands them out again in the order of the stream.
struct StreamContext final : cuda::Context {
  StreamContext() : Context(c10::cuda::getCurrentCUDAStream().stream()) {}
  void* allocate(int64_t bytes) override {
    blocks.push_back(c10::cuda::CUDACachingAllocator::get()->allocate(static_cast<size_t>(bytes)));
    return blocks.back().get();
  }
  std::vector<c10::DataPtr> blocks;
};

struct Cuda : cuda::Launchers<StreamContext> {
  using Int = int64_t;
  static constexpr bool computes = true;

  struct Guard {
    explicit Guard(const at::Tensor& tensor) : device(tensor.device()) {}
    c10::cuda::CUDAGuard device;
  };
  static at::Tensor empty(c10::IntArrayRef sizes, const at::TensorOptions& options) { return at::empty(sizes, options); }
  static at::Tensor empty_strided(c10::IntArrayRef sizes, c10::IntArrayRef strides, const at::TensorOptions& options) {
    return at::empty_strided(sizes, strides, options);
  }
};

}  // namespace
}  // namespace torch_pooling

TORCH_LIBRARY_IMPL(torch_pooling, CUDA, m) {
  torch_pooling::ops::Operators<torch_pooling::Cuda>::implement(m);
  torch_pooling::ops::CombinedPool<torch_pooling::Cuda>::implement(m);
  torch_pooling::ops::MaskedPool<torch_pooling::Cuda>::implement(m);
}
