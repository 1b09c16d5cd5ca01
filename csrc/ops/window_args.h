// The arguments that describe windows, as operators receive them: lists of length 1 or rank, on int64_t or symbolic sizes.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <c10/core/SymInt.h>
#include <c10/core/SymIntArrayRef.h>
#include <c10/util/ArrayRef.h>

#include <optional>

namespace torch_pooling::ops {

template <class Int>
using List = c10::ArrayRef<Int>;

template <class Int>
struct SlidingArgs {
  int64_t rank;              // spatial axes
  List<Int> kernel_size;     // 1 or rank
  List<Int> stride;          // 0 (kernel_size), 1 or rank
  List<Int> padding;         // 1 or rank, or 2 * rank: of all starts, then of all ends
  List<Int> dilation;        // 1 or rank
  int64_t sizing;            // a Sizing; Same and SameLower take no padding
};

struct AverageArgs {
  bool count_include_pad;
  std::optional<int64_t> divisor_override;
  bool plain_sum = false;  // divides by nothing
};

template <class Int>
struct AdaptiveArgs {
  List<Int> output_size;  // one entry for each spatial axis
};

}  // namespace torch_pooling::ops
