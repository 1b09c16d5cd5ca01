// See gather.h. A window with no tap inside the input has no element: value 0 (a tangent, a second gradient), index 0.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/gather.h"

#include <algorithm>
#include <stdexcept>

namespace torch_pooling::cpu {
namespace {

template <class Body>
void with_offset_type(OffsetType type, Body body) {
  switch (type) {
    case OffsetType::UInt8: return body(uint8_t{});
    case OffsetType::UInt16: return body(uint16_t{});
    case OffsetType::Int32: return body(int32_t{});
    case OffsetType::Int64: return body(int64_t{});
  }
  throw std::logic_error("unknown offset type");
}

// body(output element, plane's first input element, position in the plane or -1, elements between positions) for outputs
// [columns) of rows [begin, end).
template <class Offset, class Body>
void for_positions(const Problem& problem, const Offset* offsets, int64_t begin, int64_t end, const Range& columns, Body body) {
  const Axis* const axes = problem.axes;
  const bool first = problem.layout == Layout::ChannelsFirst;
  const int64_t channels = first ? 1 : problem.channels;
  const int64_t plane = axes[0].input * axes[1].input * axes[2].input;
  const int64_t taps_h = axes[1].max_taps(), taps_w = axes[2].max_taps();
  const int64_t line = axes[2].output * channels;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t oh = row % axes[1].output, od = row / axes[1].output % axes[0].output;
    const int64_t base = row / axes[1].output / axes[0].output * plane * channels;
    const int64_t origin_d = axes[0].origin_of(od), origin_h = axes[1].origin_of(oh);
    for (int64_t ow = columns.begin; ow < columns.end; ++ow) {
      const int64_t origin_w = axes[2].origin_of(ow);
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t at = row * line + ow * channels + c;
        const int64_t tap = static_cast<int64_t>(offsets[at]);
        const int64_t d = origin_d + tap / taps_w / taps_h * axes[0].tap_step();
        const int64_t h = origin_h + tap / taps_w % taps_h * axes[1].tap_step();
        const int64_t w = origin_w + tap % taps_w * axes[2].tap_step();
        const bool inside = d >= 0 && d < axes[0].input && h >= 0 && h < axes[1].input && w >= 0 && w < axes[2].input;
        body(at, base + c, inside ? (d * axes[1].input + h) * axes[2].input + w : -1, channels);
      }
    }
  }
}

}  // namespace

int64_t element_bytes(DType dtype) {
  switch (dtype) {
    case DType::Int8:
    case DType::UInt8: return 1;
    case DType::BFloat16:
    case DType::Float16:
    case DType::Int16: return 2;
    case DType::Float32:
    case DType::Int32: return 4;
    case DType::Float64:
    case DType::Int64: return 8;
  }
  throw std::logic_error("unknown element type");
}

int64_t gather_rows(const Problem& problem) {
  return problem.batch * (problem.layout == Layout::ChannelsFirst ? problem.channels : 1) * problem.axes[0].output
         * problem.axes[1].output;
}

void gather_values(const Problem& problem, const void* input, const void* offsets, OffsetType type, void* output, int64_t begin,
                   int64_t end) {
  with_offset_type(type, [&](auto offset) {
    using Offset = decltype(offset);
    auto gather = [&](auto element) {
      using T = decltype(element);
      const T* const source = static_cast<const T*>(input);
      T* const target = static_cast<T*>(output);
      for_positions(problem, static_cast<const Offset*>(offsets), begin, end, {0, problem.axes[2].output},
                    [&](int64_t at, int64_t base, int64_t position, int64_t pitch) {
                      target[at] = position < 0 ? T{0} : source[base + position * pitch];
                    });
    };
    switch (element_bytes(problem.dtype)) {  // bits are copied, whatever they mean
      case 1: return gather(uint8_t{});
      case 2: return gather(uint16_t{});
      case 4: return gather(uint32_t{});
      default: return gather(uint64_t{});
    }
  });
}

void gather_indices(const Problem& problem, const void* offsets, OffsetType type, int64_t* indices, int64_t begin, int64_t end) {
  with_offset_type(type, [&](auto offset) {
    using Offset = decltype(offset);
    for_positions(problem, static_cast<const Offset*>(offsets), begin, end, {0, problem.axes[2].output},
                  [&](int64_t at, int64_t, int64_t position, int64_t) { indices[at] = position < 0 ? 0 : position; });
  });
}

bool offsets_may_miss(const Problem& problem) {
  bool may = false;
  for (const Axis& axis : problem.axes) may |= !axis.stays_inside() || (axis.adaptive && axis.output > 0 && axis.input % axis.output != 0);
  return may;
}

bool offsets_at_ends_name_inputs(const Problem& problem, const void* offsets, OffsetType type, int64_t begin, int64_t end) {
  bool good = true;
  const int64_t height = problem.axes[1].output, width = problem.axes[2].output;
  const Range depths = problem.axes[0].inner_outputs(), heights = problem.axes[1].inner_outputs(), columns = problem.axes[2].inner_outputs();
  with_offset_type(type, [&](auto offset) {
    auto look = [&](int64_t row, const Range& at) {
      for_positions(problem, static_cast<const decltype(offset)*>(offsets), row, row + 1, at,
                    [&](int64_t, int64_t, int64_t position, int64_t) { good &= position >= 0; });
    };
    for (int64_t row = begin; row < end; ++row) {
      const int64_t oh = row % height, od = row / height % problem.axes[0].output;
      if (od < depths.begin || od >= depths.end || oh < heights.begin || oh >= heights.end) {
        look(row, {0, width});
      } else {
        look(row, {0, columns.begin});
        look(row, {columns.end, width});
      }
    }
  });
  return good;
}

TapsInside::TapsInside(const Problem& p) : problem(p) {
  auto range_of = [](const Axis& axis, int64_t o) -> TapRange {
    const Span span = axis.inputs_of(o);
    return {static_cast<int32_t>(span.tap), static_cast<int32_t>(span.tap + span.count)};
  };
  for (int64_t od = 0; od < p.axes[0].output; ++od) {
    for (int64_t oh = 0; oh < p.axes[1].output; ++oh) {
      depths.push_back(range_of(p.axes[0], od));
      heights.push_back(range_of(p.axes[1], oh));
    }
  }
  for (int64_t ow = 0; ow < p.axes[2].output; ++ow) {
    const TapRange range = range_of(p.axes[2], ow);
    first.push_back(range.first), last.push_back(range.last);
  }
  rows = static_cast<int64_t>(heights.size());
  if (p.window_elements() > 32) return;
  const int32_t taps_h = static_cast<int32_t>(p.axes[1].max_taps()), taps_w = static_cast<int32_t>(p.axes[2].max_taps());
  const size_t width = first.size();
  masks.assign(heights.size() * width, ~uint32_t{0});
  for (size_t row = 0; row < heights.size(); ++row) {
    uint32_t* const mask = masks.data() + row * width;
    if (row > 0 && depths[row] == depths[row - 1] && heights[row] == heights[row - 1]) {
      std::copy_n(mask - width, width, mask);
      continue;
    }
    for (size_t o = 0; o < width; ++o) {
      const uint32_t line = (uint32_t{2} << (last[o] - 1)) - (uint32_t{1} << first[o]);  // taps of one line of the window
      for (int32_t d = depths[row].first; d < depths[row].last; ++d) {
        for (int32_t h = heights[row].first; h < heights[row].last; ++h) mask[o] &= ~(line << ((d * taps_h + h) * taps_w));
      }
    }
  }
  // Small planes follow each other, too, so that few positions are left over by vectors.
  const size_t plane = masks.size(), planes = p.layout == Layout::ChannelsFirst && plane > 0 ? ceil_div<size_t>(512, plane) : 1;
  for (size_t copy = 1; copy < planes; ++copy) masks.insert(masks.end(), masks.begin(), masks.begin() + static_cast<int64_t>(plane));
  rows *= static_cast<int64_t>(planes);
}

InsideArgs TapsInside::arguments(const void* offsets, int64_t begin, int64_t end) const {
  return {offsets, begin, end, rows, static_cast<int64_t>(first.size()),
          problem.layout == Layout::ChannelsLast ? problem.channels : 1, depths.data(), heights.data(), first.data(), last.data(),
          static_cast<int32_t>(problem.axes[1].max_taps()), static_cast<int32_t>(problem.axes[2].max_taps()),
          problem.axes[0].max_taps() > 1, masks.empty() ? nullptr : masks.data()};
}

Extremes offset_extremes(const void* offsets, OffsetType type, int64_t begin, int64_t end) {
  Extremes extremes;
  with_offset_type(type, [&](auto offset) {
    using Offset = decltype(offset);
    const Offset* const values = static_cast<const Offset*>(offsets);
    Offset least = 0, most = 0;
    for (int64_t i = begin; i < end; ++i) {
      least = std::min(least, values[i]);
      most = std::max(most, values[i]);
    }
    extremes = {static_cast<int64_t>(least), static_cast<int64_t>(most)};
  });
  return extremes;
}

}  // namespace torch_pooling::cpu
