// See located_max.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/located_max.h"

#include <algorithm>

#include "cpu/isa.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t most_numbered = INT16_MAX;  // parts of a plane, and taps of a part
constexpr int64_t part_elements = 4096;       // of an input whose pixels are one channel: more would be read twice
constexpr int64_t least_taps = 16;

int64_t inner_of(const Problem& problem) { return problem.layout == Layout::ChannelsFirst ? 1 : problem.channels; }

}  // namespace

bool LocatedMax::serves(const Problem& problem, int lane_bytes) {
  const int64_t length = problem.axes[2].input;
  return lane_bytes == 2 && problem.axes[0].is_identity() && problem.axes[1].is_identity() && problem.axes[0].input == 1
         && problem.axes[1].input == 1 && problem.axes[2].is_whole() && length > INT16_MAX && length <= most_numbered * most_numbered
         && problem.batch * problem.channels > 0;
}

LocatedMax::LocatedMax(const Problem& problem, const ReduceKernels& values, const ReduceKernels& coded, const CodeKernels& wide_codes,
                       int64_t element_bytes, const Operands& operands)
    : values_(values), coded_(coded), wide_codes_(wide_codes), operands_(operands), element_bytes_(element_bytes),
      planes_(problem.batch * problem.channels / inner_of(problem)), length_(problem.axes[2].input), inner_(inner_of(problem)) {
  const int64_t fair = std::max(least_taps, inner_ == 1 ? part_elements : 2 * part_elements / inner_);
  taps_ = std::max(fair, ceil_div(length_, most_numbered));
  parts_ = ceil_div(length_, taps_);
  lanes_ = maxima_.reserve(planes_ * parts_ * inner_ * values_.lane_bytes);
}

void LocatedMax::reduce(int64_t begin, int64_t end) const {
  const bool far = outgrows_caches(work() * element_bytes_);
  for (int64_t at = begin; at < end;) {
    const int64_t plane = at / parts_, first = at % parts_, stop = std::min(parts_, first + end - at);
    const int64_t whole = std::min(stop, length_ / taps_);  // parts that are no shorter
    auto run = [&](int64_t from, int64_t count, int64_t taps) {
      if (count == 0) return;
      Window window{0, 1, taps};
      window.count = count, window.advance = taps_;
      values_.first({source(plane, from * taps_), nullptr, lanes_ + (plane * parts_ + from) * inner_ * values_.lane_bytes, nullptr, {}, inner_,
                     inner_, inner_, &window, 1, 1, false, far, far, {}, {}, nullptr, far});
    };
    run(first, std::max<int64_t>(0, whole - first), taps_);
    if (stop > whole) run(whole, 1, length_ - whole * taps_);
    at += stop - first;
  }
}

void LocatedMax::locate(int64_t begin, int64_t end) const {
  Scratch& scratch = thread_scratch();
  const int64_t lane = coded_.lane_bytes, element = offset_bytes[static_cast<int>(operands_.offset_type)];
  for (int64_t plane = begin; plane < end; ++plane) {
    auto* const found = reinterpret_cast<int16_t*>(scratch.values[0].reserve(inner_ * lane));
    auto* const part_of = reinterpret_cast<int16_t*>(scratch.codes[0].reserve(inner_ * lane));
    auto* const positions = reinterpret_cast<int64_t*>(scratch.codes[1].reserve(inner_ * static_cast<int64_t>(sizeof(int64_t))));
    const Window all{0, 1, parts_};
    coded_.next({lanes_ + plane * parts_ * inner_ * lane, nullptr, found, part_of, {}, inner_, inner_, inner_, &all, 1, 1, false, false, false, {}});
    for (int64_t c = 0; c < inner_; ++c) {
      const int64_t from = part_of[c] * taps_;
      const Window part{0, 1, std::min(taps_, length_ - from)};
      int16_t tap[slack_bytes / 2], value[slack_bytes / 2];
      coded_.first({source(plane, from) + c * element_bytes_, nullptr, value, tap, {}, inner_, 1, 1, &part, 1, 1, false, false, false, {}});
      found[c] = value[0];
      positions[c] = from + tap[0];
    }
    coded_.finish({found, static_cast<char*>(operands_.output) + plane * inner_ * element_bytes_, {}, inner_, nullptr, {0, 0, 0}, 1});
    wide_codes_.store[static_cast<int>(operands_.offset_type)]({positions, static_cast<char*>(operands_.offsets) + plane * inner_ * element,
                                                                {}, inner_, nullptr, {0, 0, 0}, 1});
  }
  scratch.trim();
}

}  // namespace torch_pooling::cpu
