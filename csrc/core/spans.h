// The two questions of core/window.h for device code: the same answers in a narrower integer, with every division prepared on
// the host (a multiplication and a shift in 32 bits). One Windows looks along one axis in one direction: forward, from an
// output to the inputs it reads; inverse, from an input to the outputs that read it. A kernel need not know which.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <type_traits>

#include "core/problem.h"

namespace torch_pooling {

// Quotients by a number that is known beforehand, of numbers from 0 to below 2^31 (any, for 64 bits).
template <class Int>
struct Divider {
  Int divisor = 1;
  uint32_t magic = 1, shift = 0;

  Divider() = default;
  explicit Divider(Int by) : divisor(by) {
    if constexpr (sizeof(Int) == 4) {
      while ((uint64_t{1} << shift) < static_cast<uint64_t>(by)) ++shift;
      const uint64_t rest = (uint64_t{1} << shift) - static_cast<uint64_t>(by);
      magic = static_cast<uint32_t>((rest << 32) / static_cast<uint64_t>(by) + 1);
    }
  }
  TP_HOST_DEVICE Int quotient(Int n) const {
    if constexpr (sizeof(Int) == 4) {
      const auto value = static_cast<uint32_t>(n);
      const auto high = static_cast<uint32_t>((static_cast<uint64_t>(value) * magic) >> 32);
      return static_cast<Int>((high + value) >> shift);
    } else {
      return n / divisor;
    }
  }
  // Leaves the quotient in n and returns the remainder.
  TP_HOST_DEVICE Int split(Int& n) const {
    const Int whole = quotient(n);
    const Int rest = n - whole * divisor;
    n = whole;
    return rest;
  }
};

// Sources first, first + step, ... (count of them); `tap` numbers the first. Forward, the next tap is tap + 1.
template <class Int>
struct SpanOf {
  Int first = 0, step = 1, count = 0, tap = 0;
};

template <class Int>
struct Windows {
  enum class Kind { Sliding, InverseSliding, Adaptive, InverseAdaptive };
  Kind kind = Kind::Sliding;
  Int sources = 1, results = 1;
  Int first = 0, advance = 1, step = 1, taps = 1;  // tap t of window o reads first + o * advance + t * step
  Int common = 1;                                  // divides both advance and step
  Int most = 1;                                    // the longest span
  Int counted_end = 1;                             // averages count taps before this position
  bool counts_all = false;                         // an average counts taps before position 0, too
  Divider<Int> by_advance, by_step, by_sources, by_results;

  Windows() = default;
  Windows(const Axis& axis, bool inverse, bool count_padding) {
    kind = axis.adaptive ? (inverse ? Kind::InverseAdaptive : Kind::Adaptive) : inverse ? Kind::InverseSliding : Kind::Sliding;
    sources = static_cast<Int>(inverse ? axis.output : axis.input);
    results = static_cast<Int>(inverse ? axis.input : axis.output);
    by_sources = Divider<Int>(sources > 0 ? sources : 1), by_results = Divider<Int>(results > 0 ? results : 1);
    taps = static_cast<Int>(axis.max_taps());
    most = taps;
    if (axis.adaptive) {
      if (inverse) most = sources / results + 2;
      return;
    }
    const Comb comb = axis.comb();
    first = static_cast<Int>(comb.first), advance = static_cast<Int>(comb.advance), step = static_cast<Int>(comb.step);
    common = static_cast<Int>(greatest_common_divisor(comb.advance, comb.step));
    by_advance = Divider<Int>(advance), by_step = Divider<Int>(step);
    counted_end = static_cast<Int>(axis.input + axis.padding_end);
    counts_all = count_padding;
    if (inverse) most = static_cast<Int>(ceil_div<int64_t>(comb.taps, comb.advance / common));
    if (most > sources) most = sources;
  }

  // Whether Int can hold what of(), tap_of() and counted() compute on this axis.
  static bool hold(const Axis& axis) {
    if constexpr (sizeof(Int) == 8) return true;
    constexpr int64_t limit = int64_t{1} << 30;
    if (axis.input >= limit || axis.output >= limit) return false;
    if (axis.adaptive) return (axis.input + 1) * (axis.output + 1) < limit;
    if (axis.stride >= limit || axis.dilation >= limit || axis.padding_begin >= limit || axis.padding_end >= limit) return false;
    if (axis.input + axis.padding_begin + axis.padding_end >= limit) return false;  // of() adds these, and one more dilation
    return axis.output * axis.stride < limit && (axis.kernel + 1) * axis.dilation < limit;
  }

  bool trivial() const {
    return (kind == Kind::Sliding || kind == Kind::InverseSliding) && taps == 1 && advance == 1 && first == 0
           && sources == results;
  }

  // Of windows that move by one: the source at which result 0 begins, perhaps outside. Backward they are such windows, too.
  Int leads() const { return kind == Kind::Sliding ? first : -first - (taps - 1); }

  TP_HOST_DEVICE Int origin_of(Int window) const { return first + window * advance; }

  TP_HOST_DEVICE SpanOf<Int> of(Int result) const {
    SpanOf<Int> span;
    if (kind == Kind::Sliding) {
      const Int origin = origin_of(result);
      const Int begin = origin >= 0 ? 0 : by_step.quotient(step - 1 - origin);
      const Int stop = origin >= sources ? 0 : by_step.quotient(sources - origin + step - 1);
      const Int end = stop < taps ? stop : taps;
      span.step = step;
      if (begin < end) span.first = origin + begin * step, span.count = end - begin, span.tap = begin;
    } else if (kind == Kind::InverseSliding) {
      const Int shifted = result - first;
      const Int reach = shifted - (taps - 1) * step;
      Int low = reach > 0 ? by_advance.quotient(reach + advance - 1) : 0;
      const Int latest = by_advance.quotient(shifted);
      const Int high = latest < sources - 1 ? latest : sources - 1;
      if (step == 1) {
        if (low <= high) span.first = low, span.count = high - low + 1, span.tap = shifted - low * advance;
        return span;
      }
      if (common != 1 && shifted % common != 0) return span;
      Int rest = 0, tap = 0;
      for (; low <= high; ++low) {  // at most step / common rounds
        tap = shifted - low * advance;
        rest = by_step.split(tap);
        if (rest == 0) break;
      }
      if (low > high) return span;
      span.step = step / common;
      span.first = low, span.tap = tap;
      span.count = (high - low) / span.step + 1;
    } else {  // adaptive windows are self-dual
      span.first = by_results.quotient(result * sources);
      span.count = by_results.quotient((result + 1) * sources + results - 1) - span.first;
      if (kind == Kind::InverseAdaptive && span.count > 0) span.tap = tap_of(span.first, result);
    }
    return span;
  }

  // Inverse: the tap by which window `source`, of the span of `result`, reads it.
  TP_HOST_DEVICE Int tap_of(Int source, Int result) const {
    if (kind == Kind::InverseAdaptive) return result - by_sources.quotient(source * results);
    return by_step.quotient(result - origin_of(source));
  }

  // Inverse: the result that window `source` reads by its tap `tap`, perhaps outside.
  TP_HOST_DEVICE Int result_of(Int source, Int tap) const {
    if (kind == Kind::InverseAdaptive) return by_sources.quotient(source * results) + tap;
    return origin_of(source) + tap * step;
  }

  // Of window o (an output): what an average divides by along this axis; 1 where there is nothing to divide.
  TP_HOST_DEVICE Int counted(Int o) const {
    if (kind == Kind::Adaptive) return of(o).count;
    if (kind == Kind::InverseAdaptive) {
      return by_sources.quotient((o + 1) * results + sources - 1) - by_sources.quotient(o * results);
    }
    const Int origin = origin_of(o);
    if (counts_all) {
      const Int stop = by_step.quotient(counted_end - origin + step - 1);
      return stop < 1 ? 1 : stop < taps ? stop : taps;
    }
    const Int inputs = kind == Kind::Sliding ? sources : results;
    const Int begin = origin >= 0 ? 0 : by_step.quotient(step - 1 - origin);
    const Int stop = origin >= inputs ? 0 : by_step.quotient(inputs - origin + step - 1);
    const Int end = stop < taps ? stop : taps;
    return begin < end ? end - begin : 1;
  }

  // The step of every span that is not empty.
  TP_HOST_DEVICE Int span_step() const { return kind == Kind::Sliding ? step : kind == Kind::InverseSliding ? step / common : 1; }

  // A range that holds every source of the results [begin, end), and perhaps a few more; `count` may be 0.
  TP_HOST_DEVICE SpanOf<Int> near(Int begin, Int end) const {
    SpanOf<Int> range;
    Int low = 0, high = 0;
    if (kind == Kind::Sliding) {
      low = origin_of(begin), high = origin_of(end - 1) + (taps - 1) * step + 1;
    } else if (kind == Kind::InverseSliding) {
      const Int reach = begin - first - (taps - 1) * step;
      low = reach > 0 ? by_advance.quotient(reach) : 0, high = by_advance.quotient(end - 1 - first) + 1;
    } else {
      low = of(begin).first;
      const SpanOf<Int> last = of(end - 1);
      high = last.first + last.count;
    }
    range.first = low > 0 ? low : 0;
    range.count = (high < sources ? high : sources) - range.first;
    if (range.count < 0) range.first = range.count = 0;
    return range;
  }
  // No range near `count` results is longer.
  int64_t most_near(int64_t count) const {
    const int64_t reach = static_cast<int64_t>(taps - 1) * step;
    if (kind == Kind::Sliding) return (count - 1) * advance + reach + 1;
    if (kind == Kind::InverseSliding) return (count - 1 + reach) / advance + 2;
    return count * sources / results + 3;
  }
};

}  // namespace torch_pooling
