// Window geometry along one axis. An Axis answers two questions, and nobody else computes with stride, padding or dilation:
// which input positions feed output o (inputs_of), and which outputs read input position i (outputs_of). Both answers are
// exact arithmetic progressions; they are each other's inverse, so a backward pass is a forward pass on outputs_of.
// Sliding windows: stride, padding, dilation. Adaptive windows: [floor(o*I/O), ceil((o+1)*I/O)), self-dual: the outputs that
// read i for (I -> O) are the window of i for (O -> I). Global pooling is adaptive with one output. No includes but core.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace torch_pooling {

// Positions first, first + step, ... (count of them). `tap` is the index, inside the unclipped window, of the first one.
struct Span {
  int64_t first = 0;
  int64_t step = 1;
  int64_t count = 0;
  int64_t tap = 0;
};

// A window that only shifts from output to output: output o reads first + o * advance + t * step for t in [0, taps),
// positions outside the axis included (they hold the reducer's identity).
struct Comb {
  int64_t first = 0;
  int64_t advance = 1;
  int64_t step = 1;
  int64_t taps = 1;
};

template <class Int>
TP_HOST_DEVICE constexpr Int floor_div(Int a, Int b) {  // b > 0
  return a >= 0 ? a / b : -((-a + b - 1) / b);
}
template <class Int>
TP_HOST_DEVICE constexpr Int ceil_div(Int a, Int b) {  // b > 0
  return a > 0 ? (a + b - 1) / b : -((-a) / b);
}
TP_HOST_DEVICE constexpr int64_t greatest_common_divisor(int64_t a, int64_t b) {
  while (b != 0) {
    const int64_t r = a % b;
    a = b;
    b = r;
  }
  return a;
}

template <class Int>
Int lesser(const Int& a, const Int& b) {
  return a < b ? a : b;
}

// Number of outputs of a sliding axis; may be <= 0, which the caller refuses. Templated on the integer so that symbolic
// sizes use the same formula, without branches that would fix them. In ceil_mode the last window may overhang the end, but
// must start inside the input or its leading padding.
template <class Int>
Int sliding_output_size(const Int& input, const Int& kernel, const Int& stride, const Int& padding_begin,
                        const Int& padding_end, const Int& dilation, bool ceil_mode) {
  const Int span = input + padding_begin + padding_end - dilation * (kernel - 1) - 1;
  if (!ceil_mode) return floor_div<Int>(span, stride) + 1;
  return lesser<Int>(ceil_div<Int>(span, stride) + 1, ceil_div<Int>(input + padding_begin, stride));
}

// How many outputs a sliding axis has. Same: ceil(input / stride), with the padding that their windows need; its odd element lies
// at the end, as in Keras, TensorFlow and ONNX (SAME_UPPER), or for SameLower at the start.
enum class Sizing : int64_t { Floor, Ceil, Same, SameLower };
constexpr int64_t sizing_count = 4;
constexpr bool pads_itself(Sizing sizing) { return sizing == Sizing::Same || sizing == Sizing::SameLower; }

struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// Away from the ends of an axis: spans of so many positions after each other are equal, and those of the next ones lie so far
// from them. No positions: nothing as simple can be said.
struct Leap {
  int64_t positions = 0, distance = 0;
};

struct Axis {
  int64_t input = 1;   // I
  int64_t output = 1;  // O
  int64_t kernel = 1, stride = 1, padding_begin = 0, padding_end = 0, dilation = 1;  // sliding windows only
  bool adaptive = false;

  static Axis sliding(int64_t input, int64_t kernel, int64_t stride, int64_t padding_begin, int64_t padding_end,
                      int64_t dilation, bool ceil_mode) {
    Axis axis;
    axis.input = input;
    axis.output = sliding_output_size<int64_t>(input, kernel, stride, padding_begin, padding_end, dilation, ceil_mode);
    axis.kernel = kernel, axis.stride = stride, axis.dilation = dilation;
    axis.padding_begin = padding_begin, axis.padding_end = padding_end;
    return axis;
  }
  static Axis same(int64_t input, int64_t kernel, int64_t stride, int64_t dilation, bool lower) {
    const int64_t output = ceil_div<int64_t>(input, stride);
    const int64_t missing = (output - 1) * stride + dilation * (kernel - 1) + 1 - input;
    const int64_t padding = missing > 0 ? missing : 0;
    const int64_t begin = (padding + (lower ? 1 : 0)) / 2;
    Axis axis;
    axis.input = input, axis.output = output;
    axis.kernel = kernel, axis.stride = stride, axis.dilation = dilation;
    axis.padding_begin = begin, axis.padding_end = padding - begin;
    return axis;
  }
  // Windows of equal size that tile the input are sliding windows too, and gain their fast paths.
  static Axis adaptive_to(int64_t input, int64_t output) {
    if (output > 0 && input % output == 0) {
      return sliding(input, input / output, input / output, 0, 0, 1, false);
    }
    Axis axis;
    axis.input = input, axis.output = output, axis.adaptive = true;
    return axis;
  }

  // Length of the longest unclipped window: the extent used to number taps.
  TP_HOST_DEVICE int64_t max_taps() const {
    if (!adaptive) return kernel;
    if (output == 0) return 1;
    const int64_t rest = input % output;
    const int64_t extra = rest == 0 ? 0 : rest > greatest_common_divisor(rest, output) ? 2 : 1;
    return input / output + extra;
  }

  // Position of tap 0 of output o; may lie outside the axis.
  TP_HOST_DEVICE int64_t origin_of(int64_t o) const {
    return adaptive ? (o * input) / output : o * stride - padding_begin;
  }
  TP_HOST_DEVICE int64_t tap_step() const { return adaptive ? 1 : dilation; }

  // The input positions, clipped to [0, I), that output o reduces.
  TP_HOST_DEVICE Span inputs_of(int64_t o) const {
    Span span;
    const int64_t origin = origin_of(o);
    if (adaptive) {
      span.first = origin;
      span.count = ceil_div<int64_t>((o + 1) * input, output) - origin;
      return span;
    }
    const int64_t begin = origin >= 0 ? 0 : ceil_div<int64_t>(-origin, dilation);
    const int64_t stop = origin >= input ? 0 : ceil_div<int64_t>(input - origin, dilation);
    const int64_t end = stop < kernel ? stop : kernel;
    span.step = dilation;
    if (begin < end) {
      span.first = origin + begin * dilation;
      span.count = end - begin;
      span.tap = begin;
    }
    return span;
  }

  // The outputs whose window reads input position i. `tap` is the tap by which the first of them reads it.
  TP_HOST_DEVICE Span outputs_of(int64_t i) const {
    Span span;
    if (adaptive) {
      span.first = (i * output) / input;
      span.count = ceil_div<int64_t>((i + 1) * output, input) - span.first;
      if (span.count == 0) return span;  // no outputs at all
      span.tap = i - origin_of(span.first);
      return span;
    }
    const int64_t shifted = i + padding_begin;
    const int64_t common = greatest_common_divisor(stride, dilation);
    if (shifted % common != 0) return span;
    const int64_t reach = shifted - (kernel - 1) * dilation;
    int64_t low = reach > 0 ? ceil_div<int64_t>(reach, stride) : 0;
    const int64_t high = shifted / stride < output - 1 ? shifted / stride : output - 1;
    span.step = dilation / common;
    if (stride < dilation) {  // the last tap that may read it, or one before: at most stride / common rounds
      int64_t tap = kernel - 1 < shifted / dilation ? kernel - 1 : shifted / dilation;
      while (tap >= 0 && (shifted - tap * dilation) % stride != 0) --tap;
      if (tap < 0) return span;
      low = (shifted - tap * dilation) / stride;
    } else {
      while (low <= high && (shifted - low * stride) % dilation != 0) ++low;  // at most span.step - 1 rounds
    }
    if (low > high) return span;
    span.first = low;
    span.count = (high - low) / span.step + 1;
    span.tap = (shifted - low * stride) / dilation;
    return span;
  }

  // Outputs that read one position, at most: by taps that are a stride apart, or less where dilation shares factors with it.
  int64_t most_reads() const {
    if (adaptive) return adaptive_to(output, input).max_taps();
    const int64_t apart = stride / greatest_common_divisor(stride, dilation), taps = ceil_div<int64_t>(kernel, apart);
    return taps < output ? taps : output > 1 ? output : 1;
  }

  Leap inputs_leap() const { return adaptive ? Leap{} : Leap{1, stride}; }
  Leap outputs_leap() const { return !adaptive && dilation == 1 && kernel % stride == 0 ? Leap{stride, 1} : Leap{}; }

  // A range that holds every output reading a position of `inputs`, and perhaps a few more.
  Range outputs_near(const Range& inputs) const {
    if (adaptive) {
      const Span last = outputs_of(inputs.end - 1);
      return {outputs_of(inputs.begin).first, last.first + last.count};
    }
    const int64_t reach = inputs.begin + padding_begin - (kernel - 1) * dilation;
    const int64_t low = reach > 0 ? ceil_div<int64_t>(reach, stride) : 0;
    const int64_t high = (inputs.end - 1 + padding_begin) / stride + 1;
    const int64_t end = high < output ? high : output;
    return {low < end ? low : end, end};
  }

  // Tap by which output o reads position i, for an o that does read it.
  TP_HOST_DEVICE int64_t tap_of(int64_t o, int64_t i) const { return (i - origin_of(o)) / tap_step(); }

  // What an average divides by along this axis: taps inside the input, or inside the padded input (ceil_mode's overhang
  // beyond the padding never counts).
  TP_HOST_DEVICE int64_t counted_taps(int64_t o, bool count_padding) const {
    if (adaptive || !count_padding) return inputs_of(o).count;
    const int64_t stop = ceil_div<int64_t>(input + padding_end - origin_of(o), dilation);
    return stop < kernel ? stop : kernel;
  }
  // True when counted_taps is max_taps for every output.
  bool counts_uniform(bool count_padding) const {
    if (adaptive) return output == 0 || input % output == 0;
    if (!count_padding && padding_begin > 0) return false;
    return output == 0 || counted_taps(output - 1, count_padding) == kernel;
  }

  // True when no tap of any output lies outside the axis.
  bool stays_inside() const {
    if (adaptive || output == 0) return true;
    return padding_begin == 0 && origin_of(output - 1) + (kernel - 1) * dilation < input;
  }
  // The outputs all of whose taps, of the longest window, lie inside the axis: those between the ones at its ends.
  Range inner_outputs() const {
    auto first = [&](int64_t from, const auto& holds) {  // of the outputs from which on it holds
      int64_t low = from, high = output;
      while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        holds(middle) ? high = middle : low = middle + 1;
      }
      return low;
    };
    const int64_t begin = first(0, [&](int64_t o) { return origin_of(o) >= 0; });
    return {begin, first(begin, [&](int64_t o) { return origin_of(o) + (max_taps() - 1) * tap_step() >= input; })};
  }
  // True when every output has a tap inside the axis: only taps further apart than the axis is long can all miss it.
  bool never_empty() const { return adaptive || kernel == 1 || dilation <= input; }
  bool is_identity() const {
    return !adaptive && kernel == 1 && stride == 1 && padding_begin == 0 && output == input;
  }
  bool is_unit() const { return is_identity() && input == 1; }
  // Each output reads the input in its place and the two beside it.
  bool looks_around() const { return !adaptive && kernel == 3 && stride == 1 && dilation == 1 && padding_begin == 1 && output == input; }
  // One output that reads the whole axis: such inner axes fold into one.
  bool is_whole() const {
    return !adaptive && output == 1 && kernel == input && padding_begin == 0 && (dilation == 1 || input == 1);
  }
  bool overlaps() const { return adaptive || (kernel - 1) * dilation >= stride; }

  bool has_comb() const { return !adaptive; }
  Comb comb() const { return {-padding_begin, stride, dilation, kernel}; }
  // outputs_of as a comb over the outputs, for stride 1: input i reads outputs i + padding - t * dilation.
  bool has_inverse_comb() const { return !adaptive && stride == 1; }
  Comb inverse_comb() const { return {padding_begin - (kernel - 1) * dilation, 1, dilation, kernel}; }
};

}  // namespace torch_pooling
