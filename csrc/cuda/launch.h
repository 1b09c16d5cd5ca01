// What CUDA offers to operator bodies: the same calls as cpu/launch.h, on a stream. Raw device pointers, no tensor. Nothing here
// synchronises, allocates on the host side of a graph, or reads back: calls can be captured. Saved offsets are therefore not
// looked at beforehand; one that names no tap of its window sends its gradient nowhere, and gathers 0.
// Pointers are dense in the problem's layout; offsets lie in the layout of the output.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cuda_runtime.h>

#include "core/combined.h"
#include "core/masked.h"

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

// Several reductions of one input. offsets: where to save the positions of the maxima, or null.
void combined_pool(Context& context, const Combined& combined, const void* input, void* output, void* offsets, OffsetType type);
void combined_pool_gather(Context& context, const Combined& combined, const void* input, const void* offsets, OffsetType type, void* output);
void combined_pool_backward(Context& context, const Combined& combined, const void* grad_output, const void* offsets, OffsetType type,
                            void* grad_input);

// Whole planes of which a mask, a byte for each position of a sample, says what counts (not 0).
void masked_avg_pool(Context& context, const Masked& masked, const void* input, const uint8_t* mask, void* output);
void masked_avg_pool_backward(Context& context, const Masked& masked, const void* grad_output, const uint8_t* mask, void* grad_input);
void masked_max_pool(Context& context, const Masked& masked, const void* input, const uint8_t* mask, void* output, void* offsets,
                     OffsetType type);

// The launchers as operator bodies call them, each in a context of its own, and what they say of saved offsets: a device part that
// needs only memory and a guard beside it.
template <class OwnContext>
struct Launchers {
  template <auto launcher>
  struct In;
  template <class... Arguments, void (*launcher)(Context&, Arguments...)>
  struct In<launcher> {
    static void call(Arguments... arguments) {
      OwnContext context;
      launcher(context, arguments...);
    }
  };
  static constexpr auto avg_pool = In<cuda::avg_pool>::call;
  static constexpr auto avg_pool_backward = In<cuda::avg_pool_backward>::call;
  static constexpr auto max_pool = In<cuda::max_pool>::call;
  static void max_pool_backward(const Problem& problem, const void* grad_output, const void* offsets, OffsetType type, OffsetsName,
                                void* grad_input) {
    In<cuda::max_pool_backward>::call(problem, grad_output, offsets, type, grad_input);
  }
  static constexpr auto max_pool_gather = In<cuda::max_pool_gather>::call;
  static constexpr auto max_pool_indices = In<cuda::max_pool_indices>::call;
  static constexpr auto combined_pool = In<cuda::combined_pool>::call;
  static constexpr auto combined_pool_gather = In<cuda::combined_pool_gather>::call;
  static constexpr auto combined_pool_backward = In<cuda::combined_pool_backward>::call;
  static constexpr auto masked_avg_pool = In<cuda::masked_avg_pool>::call;
  static constexpr auto masked_avg_pool_backward = In<cuda::masked_avg_pool_backward>::call;
  static constexpr auto masked_max_pool = In<cuda::masked_max_pool>::call;
  // Looking would mean waiting for the device: kernels make a bad offset harmless instead, see above.
  static OffsetsName look_at_offsets(const Problem&, const void*, OffsetType) { return OffsetsName::Inputs; }
};

}  // namespace torch_pooling::cuda
