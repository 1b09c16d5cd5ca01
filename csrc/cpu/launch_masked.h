// Averages and maxima of whole planes under a mask. As launch.h; results are dense, [batch, channels], and the mask is
// [batch, positions], a byte for each, 0 where a position does not count.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "core/masked.h"

namespace torch_pooling::cpu {

void masked_avg_pool(const Masked& masked, const void* input, const uint8_t* mask, void* output);
void masked_avg_pool_backward(const Masked& masked, const void* grad_output, const uint8_t* mask, void* grad_input);
// offsets: where to save positions, or null.
void masked_max_pool(const Masked& masked, const void* input, const uint8_t* mask, void* output, void* offsets, OffsetType type);

}  // namespace torch_pooling::cpu
