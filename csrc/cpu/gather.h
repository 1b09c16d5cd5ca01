// What a saved position means: the element it names. Used for values (tangents, double backward) and for flat indices.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <vector>

#include "core/problem.h"
#include "cpu/block.h"

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
// Whether offsets can name a tap of their window that lies outside the input, which those of a maximum never do.
bool offsets_may_miss(const Problem& problem);
// Whether those that can do so name inputs, for offsets that all name taps: cheap where few windows lie at the ends of an axis.
bool offsets_at_ends_name_inputs(const Problem& problem, const void* offsets, OffsetType type, int64_t begin, int64_t end);
// The same of all offsets, and that they name taps, by a list of the outputs of a plane: which of their taps lie inside the input, of
// depth and height for each row of outputs, of the width for each of a row. For planes that are small beside the tensor.
struct TapsInside {
  explicit TapsInside(const Problem& problem);
  InsideArgs arguments(const void* offsets, int64_t begin, int64_t end) const;  // of rows as counted by gather_rows
  std::vector<TapRange> depths, heights;
  std::vector<int32_t> first, last;
  std::vector<uint32_t> masks;
  int64_t rows;  // after which ranges and masks repeat
  const Problem& problem;
};
Extremes offset_extremes(const void* offsets, OffsetType type, int64_t begin, int64_t end);

int64_t element_bytes(DType dtype);

}  // namespace torch_pooling::cpu
