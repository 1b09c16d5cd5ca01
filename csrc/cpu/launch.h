// What the CPU offers to operator bodies: each call splits a problem over the threads of the pool. Raw pointers, no tensor.
// Pointers are dense in the problem's layout; offsets lie in the layout of the output.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "core/problem.h"

namespace torch_pooling::cpu {

void avg_pool(Problem problem, const void* input, void* output);
void avg_pool_backward(Problem problem, const void* grad_output, void* grad_input);
// offsets: where to save positions, or null.
void max_pool(Problem problem, const void* input, void* output, void* offsets, OffsetType type);
void max_pool_backward(Problem problem, const void* grad_output, const void* offsets, OffsetType type, OffsetsName name,
                       void* grad_input);
void max_pool_gather(Problem problem, const void* input, const void* offsets, OffsetType type, void* output);
void max_pool_indices(Problem problem, const void* offsets, OffsetType type, int64_t* indices);
// Where max_pool_backward needs no looking for taps in the padding, they count as elements of the input.
OffsetsName look_at_offsets(Problem problem, const void* offsets, OffsetType type);

}  // namespace torch_pooling::cpu
