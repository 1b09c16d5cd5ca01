// What CUDA offers to operator bodies: the same calls as cpu/launch.h, on a stream. Raw device pointers, no tensor. Nothing here
// synchronises, allocates on the host side of a graph, or reads back: calls can be captured. Saved offsets are therefore not
// looked at beforehand; one that names no tap of its window sends its gradient nowhere, and gathers 0.
// Pointers are dense in the problem's layout; offsets lie in the layout of the output.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cuda_runtime.h>

#include "core/problem.h"

namespace torch_pooling::cuda {

// The stream, and memory that stays valid for the launches of one call.
class Context {
 public:
  explicit Context(cudaStream_t stream) : stream(stream) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  virtual ~Context() = default;
  virtual void* allocate(int64_t bytes) = 0;
  const cudaStream_t stream;
};

void avg_pool(Context& context, Problem problem, const void* input, void* output);
void avg_pool_backward(Context& context, Problem problem, const void* grad_output, void* grad_input);
// offsets: where to save positions, or null.
void max_pool(Context& context, Problem problem, const void* input, void* output, void* offsets, OffsetType type);
void max_pool_backward(Context& context, Problem problem, const void* grad_output, const void* offsets, OffsetType type,
                       void* grad_input);
void max_pool_gather(Context& context, Problem problem, const void* input, const void* offsets, OffsetType type, void* output);
void max_pool_indices(Context& context, Problem problem, const void* offsets, OffsetType type, int64_t* indices);

}  // namespace torch_pooling::cuda
