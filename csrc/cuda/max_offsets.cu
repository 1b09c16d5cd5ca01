// Maxima with the offsets that their backward needs. See launch.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/max.h"
#include "cuda/reduce.cuh"

namespace torch_pooling::cuda {

void max_with_offsets(Context& context, const Problem& problem, const void* input, void* output, void* offsets, OffsetType type) {
  with_number(problem.dtype, [&](auto tag) {
    reduce<Max, typename decltype(tag)::type, true>(context, problem, input, output, {offsets, type}, false);
  });
}

}  // namespace torch_pooling::cuda
