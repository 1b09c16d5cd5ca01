// Several reductions of one input on the CPU: the launchers of launch.h on pieces that stay in the cache from part to part.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "core/combined.h"

namespace torch_pooling::cpu {

// offsets: where to save the positions of the maxima, or null.
void combined_pool(const Combined& combined, const void* input, void* output, void* offsets, OffsetType type);
// The same at positions that are given: averages, and the elements that the offsets name.
void combined_pool_gather(const Combined& combined, const void* input, const void* offsets, OffsetType type, void* output);
void combined_pool_backward(const Combined& combined, const void* grad_output, const void* offsets, OffsetType type, void* grad_input);

}  // namespace torch_pooling::cpu
