// The two halves of max_pool, in a file each: they take longest to compile.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cuda/launch.h"

namespace torch_pooling::cuda {

void max_values(Context& context, const Problem& problem, const void* input, void* output);
void max_with_offsets(Context& context, const Problem& problem, const void* input, void* output, void* offsets, OffsetType type);

}  // namespace torch_pooling::cuda
