// See long_axis.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/long_axis.h"

#include <algorithm>

#include "cpu/isa.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t few_planes = 8;
constexpr int64_t part_elements = 1 << 15;
constexpr int64_t most_parts = 64;

}  // namespace

bool LongAxis::serves(const Problem& problem) {
  const int64_t inner = problem.layout == Layout::ChannelsFirst ? 1 : problem.channels;
  const int64_t planes = problem.batch * problem.channels / std::max<int64_t>(1, inner), length = problem.axes[2].input;
  const int64_t call_planes = problem.call_planes > 0 ? problem.call_planes : planes;
  return problem.axes[0].is_identity() && problem.axes[1].is_identity() && problem.axes[2].is_whole() && problem.axes[0].input == 1
         && problem.axes[1].input == 1 && planes > 0 && call_planes < few_planes && length >= 2 * most_parts
         && length * inner >= 4 * part_elements;
}

LongAxis::LongAxis(const Problem& problem, const ReduceKernels& kernels, const CodeKernels* codes, int64_t element_bytes,
                   const Operands& operands)
    : kernels_(kernels), codes_(codes), operands_(operands), element_bytes_(element_bytes), length_(problem.axes[2].input),
      inner_(problem.layout == Layout::ChannelsFirst ? 1 : problem.channels), divisor_(problem.one_divisor()) {
  planes_ = problem.batch * problem.channels / inner_;
  parts_ = std::clamp<int64_t>(length_ * inner_ / part_elements, 2, most_parts);
  const int64_t bytes = planes_ * parts_ * inner_ * kernels_.lane_bytes;
  lanes_ = values_.reserve(bytes);
  tap_codes_ = codes_ == nullptr ? nullptr : numbers_.reserve(bytes);
}

void LongAxis::reduce(int64_t begin, int64_t end) {
  for (int64_t at = begin; at < end; ++at) {
    const int64_t plane = at / parts_, part = at % parts_;
    const int64_t first = length_ * part / parts_, taps = length_ * (part + 1) / parts_ - first;
    const Window window{0, 1, taps, first};
    const int64_t lane = at * inner_ * kernels_.lane_bytes;
    kernels_.first({static_cast<const char*>(operands_.input) + (plane * length_ + first) * inner_ * element_bytes_, nullptr,
                    lanes_ + lane, tap_codes_ == nullptr ? nullptr : tap_codes_ + lane, {}, inner_, inner_, inner_, &window, 1, 1,
                    false, true, true, {}, {}, nullptr, stores_past_caches(work() * element_bytes_)});
  }
}

void LongAxis::join(int64_t begin, int64_t end) const {
  Scratch& scratch = thread_scratch();
  for (int64_t plane = begin; plane < end; ++plane) {
    const Window window{0, 1, parts_, 0};
    const int64_t lane = plane * parts_ * inner_ * kernels_.lane_bytes;
    char* const values = scratch.values[0].reserve(inner_ * kernels_.lane_bytes);
    char* const numbers = codes_ == nullptr ? nullptr : scratch.codes[0].reserve(inner_ * kernels_.lane_bytes);
    kernels_.next({lanes_ + lane, tap_codes_ == nullptr ? nullptr : tap_codes_ + lane, values, numbers, {}, inner_, inner_, inner_,
                   &window, 1, 0, true, false, false, {}});
    char* const output = static_cast<char*>(operands_.output) + plane * inner_ * element_bytes_;
    kernels_.finish({values, output, {}, inner_, nullptr, {0, 0, 0}, divisor_});
    if (codes_ == nullptr) continue;
    const int type = static_cast<int>(operands_.offset_type);
    codes_->store[type]({numbers, static_cast<char*>(operands_.offsets) + plane * inner_ * offset_bytes[type], {}, inner_, nullptr,
                         {0, 0, 0}, 1});
  }
  scratch.trim();
}

}  // namespace torch_pooling::cpu
