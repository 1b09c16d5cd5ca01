// See broadcast.h. A tile is some rows: their values are divided and converted together, then repeated.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/broadcast.h"

#include <algorithm>
#include <cstring>

#include "cpu/isa.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t rows_of_tile = 64;

constexpr int64_t block_bytes = 1 << 14;  // of repeated values, to copy from

// Value i over target elements [i * length, (i + 1) * length).
void fill(const char* values, int64_t bytes, char* target, int64_t rows, int64_t length) {
  switch (bytes) {
    case 2: return kernels().codes2.repeat(values, target, rows, length);
    case 4: return kernels().codes4.repeat(values, target, rows, length);
    case 8: return kernels().codes8.repeat(values, target, rows, length);
    default:
      for (int64_t i = 0; i < rows * length; ++i) {
        std::memcpy(target + i * bytes, values + i / length * bytes, static_cast<size_t>(bytes));
      }
  }
}

}  // namespace

Broadcast::Broadcast(const Problem& problem, const ReduceKernels& sums, ConvertFn copy_bytes, int64_t element_bytes,
                     const void* grad_output, void* grad_input)
    : sums_(sums), copy_bytes_(copy_bytes), element_bytes_(element_bytes), grad_output_(static_cast<const char*>(grad_output)),
      grad_input_(static_cast<char*>(grad_input)), length_(problem.axes[2].input) {
  const bool first = problem.layout == Layout::ChannelsFirst;
  channels_ = first ? 1 : problem.channels;
  rows_ = problem.batch * (first ? problem.channels : 1) * problem.axes[0].input * problem.axes[1].input;
  divisor_ = 1;
  if (problem.average) {
    divisor_ = static_cast<double>(problem.divisor_override != 0 ? problem.divisor_override : problem.window_elements());
  }
  // Short rows of one value are faster filled than copied.
  past_ = stores_past_caches(work() * element_bytes) && (channels_ > 1 || length_ * element_bytes > block_bytes);
}

// The value of a row, one element or the channels of a pixel, over all its positions, past the caches.
void Broadcast::repeat(const char* value, char* target, Scratch& scratch) const {
  const int64_t bytes = channels_ * element_bytes_;
  const int64_t count = std::clamp<int64_t>(block_bytes / bytes, 1, length_), size = count * bytes, blocks = length_ / count;
  char* const block = scratch.row.reserve(size);
  fill(value, bytes, block, 1, count);
  copy_bytes_({block, target, {{}, {}, {blocks, 0, size}}, size, nullptr, {0, 0, 0}, 1, true});
  const int64_t rest = length_ % count * bytes;
  if (rest > 0) copy_bytes_({block, target + blocks * size, {}, rest, nullptr, {0, 0, 0}, 1, true});
}

int64_t Broadcast::tiles() const { return ceil_div<int64_t>(rows_, channels_ == 1 ? rows_of_tile : 1); }

void Broadcast::run(int64_t begin, int64_t end) const {
  Scratch& scratch = thread_scratch();
  const int64_t of_tile = channels_ == 1 ? rows_of_tile : 1;
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t row = tile * of_tile, rows = std::min(of_tile, rows_ - row), count = rows * channels_;
    char* const lanes = scratch.values[0].reserve(count * sums_.lane_bytes);
    char* const values = scratch.values[1].reserve(count * element_bytes_);
    sums_.load({grad_output_ + row * channels_ * element_bytes_, lanes, {}, count, nullptr, {0, 0, 0}, divisor_});
    sums_.finish({lanes, values, {}, count, nullptr, {0, 0, 0}, 1});
    char* const target = grad_input_ + row * length_ * channels_ * element_bytes_;
    const int64_t pixel = channels_ * element_bytes_;
    if (!past_) fill(values, pixel, target, rows, length_);
    for (int64_t i = 0; past_ && i < rows; ++i) repeat(values + i * pixel, target + i * length_ * pixel, scratch);
  }
  scratch.trim();
}

}  // namespace torch_pooling::cpu
