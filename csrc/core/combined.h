// Several reductions of one input whose results share one output, as plain data: the two of a concatenation, their mean, or the
// levels of a pyramid. Each part is a pooling problem of its own; a Place says where its results lie.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "core/problem.h"

namespace torch_pooling {

// Concat: parts after one another along the channels. Mean: of a part of averages and one of maxima. Flat: rows [N, K], part
// after part, each [C, *output].
enum class Form : int64_t { Concat, Mean, Flat };
constexpr int64_t form_count = 3;
constexpr int64_t most_parts = 8;

struct Part {
  Axis axes[3];
  bool max = false;

  int64_t outputs() const { return axes[0].output * axes[1].output * axes[2].output; }
};

// Where results lie: that of sample n, channel c, position o is element first + n * batch + c * channel + o * position.
struct Place {
  int64_t first = 0, batch = 0, channel = 0, position = 0;
};

struct Combined {
  DType dtype = DType::Float32;
  Layout layout = Layout::ChannelsFirst;  // of the input, and of results that have spatial axes
  Form form = Form::Concat;
  int64_t batch = 1, channels = 1;
  int64_t part_count = 0;
  Part parts[most_parts];

  bool has_max() const {
    bool found = false;
    for (int64_t p = 0; p < part_count; ++p) found |= parts[p].max;
    return found;
  }
  // Elements of one window, the largest of all maxima.
  int64_t window_elements() const {
    int64_t most = 1;
    for (int64_t p = 0; p < part_count; ++p) {
      const Axis* const axes = parts[p].axes;
      const int64_t taps = axes[0].max_taps() * axes[1].max_taps() * axes[2].max_taps();
      if (parts[p].max && taps > most) most = taps;
    }
    return most;
  }
  int64_t input_positions() const { return parts[0].axes[0].input * parts[0].axes[1].input * parts[0].axes[2].input; }

  // Of part `part` among all results, or (saved) among the offsets, which only maxima have.
  Place place(int64_t part, bool saved) const {
    int64_t count = 0, before = 0, row = 0, row_before = 0;
    for (int64_t p = 0; p < part_count; ++p) {
      if (saved && !parts[p].max) continue;
      if (p < part) before = count + 1, row_before = row + parts[p].outputs();
      ++count, row += parts[p].outputs();
    }
    const int64_t outputs = parts[part].outputs();
    if (form == Form::Flat) return {row_before * channels, row * channels, outputs, 1};
    const bool shared = form == Form::Mean;
    const int64_t all = shared ? channels : count * channels, first = shared ? 0 : before * channels;
    if (layout == Layout::ChannelsLast) return {first, outputs * all, 1, all};
    return {first * outputs, outputs * all, outputs, 1};
  }

  // One part, of `count` channels of one sample.
  Problem problem(int64_t part, int64_t count) const {
    Problem one;
    one.dtype = dtype, one.layout = layout, one.channels = count;
    for (int axis = 0; axis < 3; ++axis) one.axes[axis] = parts[part].axes[axis];
    one.average = !parts[part].max;
    return one;
  }
};

}  // namespace torch_pooling
