// A pooling problem as plain data: element type, sizes, three window axes and the memory layout. 1-D and 2-D problems are
// 3-D ones with unit leading axes. Kernels and drivers see this and raw pointers, never a tensor.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <utility>

#include "core/window.h"

namespace torch_pooling {

enum class DType { Float32, Float64, BFloat16, Float16, Int8, UInt8, Int16, Int32, Int64 };
constexpr int dtype_count = 9;

// Storage of a saved position inside the window: the smallest type that holds it.
enum class OffsetType { UInt8, UInt16, Int32, Int64 };
constexpr int64_t offset_limit(OffsetType type) {  // number of window elements it can number
  switch (type) {
    case OffsetType::UInt8: return int64_t{1} << 8;
    case OffsetType::UInt16: return int64_t{1} << 16;
    case OffsetType::Int32: return int64_t{1} << 31;
    case OffsetType::Int64: return INT64_MAX;
  }
  return 0;
}

// What saved offsets name, the worst of them: an element of the input, a tap that lies in the padding, no tap of the window.
enum class OffsetsName { Inputs, Taps, Nothing };

enum class Layout { ChannelsFirst, ChannelsLast };

struct Problem {
  DType dtype = DType::Float32;
  Layout layout = Layout::ChannelsFirst;
  int64_t batch = 1;     // N
  int64_t channels = 1;  // C
  Axis axes[3];          // depth, height, width

  // Averages divide a window's sum by its counted taps, or by the override; plain sums do not.
  bool average = false;
  bool count_padding = true;
  int64_t divisor_override = 0;  // 0: none
  int64_t call_bytes = 0;        // that the call reads which this is a part of; 0: it is the whole call
  int64_t call_planes = 0;       // that the call has (in channels-last, samples); 0: the same

  bool uniform_divisor() const {
    return divisor_override != 0
           || (axes[0].counts_uniform(count_padding) && axes[1].counts_uniform(count_padding)
               && axes[2].counts_uniform(count_padding));
  }

  // That one, of averages; sums and maxima have 1.
  double one_divisor() const {
    return !average ? 1 : static_cast<double>(divisor_override != 0 ? divisor_override : window_elements());
  }

  // At most 2^62, which operators check.
  int64_t window_elements() const { return axes[0].max_taps() * axes[1].max_taps() * axes[2].max_taps(); }
  int64_t input_elements() const { return batch * channels * axes[0].input * axes[1].input * axes[2].input; }
  int64_t output_elements() const { return batch * channels * axes[0].output * axes[1].output * axes[2].output; }

  // As few axes as say the same, the innermost ones; taps keep their numbers. A plane of one column is a row, and inner axes that one window
  // reads whole are one long axis, since a whole axis has no clipping.
  void fold_axes() {
    for (const int axis : {2, 1, 2}) {
      if (axes[axis].is_unit() && !axes[axis - 1].is_unit()) std::swap(axes[axis], axes[axis - 1]);
    }
    while (axes[2].is_whole() && axes[1].is_whole() && axes[1].input > 0) {
      const int64_t length = axes[1].input * axes[2].input;
      axes[2] = Axis::sliding(length, length, length, 0, 0, 1, false);
      axes[1] = axes[0];
      axes[0] = Axis{};
      if (axes[1].is_identity() && axes[1].input == 1) break;
    }
  }
};

}  // namespace torch_pooling
