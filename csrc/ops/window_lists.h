// Positions read by each output, outputs reading each position: core/window.h as lists, for the proof of the inverse.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <utility>
#include <vector>

#include "core/window.h"

namespace torch_pooling::ops {

using Lists = std::vector<std::vector<int64_t>>;

inline std::pair<Lists, Lists> window_lists(const Axis& axis) {
  auto list = [](const Span& span) {
    std::vector<int64_t> positions;
    for (int64_t n = 0; n < span.count; ++n) positions.push_back(span.first + n * span.step);
    return positions;
  };
  std::pair<Lists, Lists> lists;
  for (int64_t o = 0; o < axis.output; ++o) lists.first.push_back(list(axis.inputs_of(o)));
  for (int64_t i = 0; i < axis.input; ++i) lists.second.push_back(list(axis.outputs_of(i)));
  return lists;
}

}  // namespace torch_pooling::ops
