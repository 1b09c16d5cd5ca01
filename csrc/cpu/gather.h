// What a saved position means: the element it names. Used for values (tangents, double backward) and for flat indices.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "core/problem.h"

namespace torch_pooling::cpu {

// Rows are runs of one output line (batch, channel in channels-first, depth, height).
int64_t gather_rows(const Problem& problem);
void gather_values(const Problem& problem, const void* input, const void* offsets, OffsetType type, void* output, int64_t begin,
                   int64_t end);
void gather_indices(const Problem& problem, const void* offsets, OffsetType type, int64_t* indices, int64_t begin, int64_t end);

// The least and the largest of count offsets.
struct Extremes {
  int64_t least = 0, most = 0;
};
Extremes offset_extremes(const void* offsets, OffsetType type, int64_t begin, int64_t end);

int64_t element_bytes(DType dtype);

}  // namespace torch_pooling::cpu
