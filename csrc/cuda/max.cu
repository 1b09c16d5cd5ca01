// Maxima without offsets. See launch.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/max.h"

#include "cuda/reduce.cuh"

namespace torch_pooling::cuda {

void max_values(Context& context, const Problem& problem, const void* input, void* output) {
  with_number(problem.dtype, [&](auto tag) {
    reduce<Max, typename decltype(tag)::type, false>(context, problem, input, output, {}, false);
  });
}

void max_pool(Context& context, Problem problem, const void* input, void* output, void* offsets, OffsetType type) {
  problem.fold_axes();
  if (offsets == nullptr) return max_values(context, problem, input, output);
  max_with_offsets(context, problem, input, output, offsets, type);
}

}  // namespace torch_pooling::cuda
