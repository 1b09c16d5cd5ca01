// See broadcast.h. A tile is some rows, whose values are divided and converted together, then repeated; or a part of a long row.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/broadcast.h"

#include <algorithm>
#include <cstring>

#include "cpu/first_touch.h"
#include "cpu/isa.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t tile_bytes = 1 << 18;  // of the result: enough for a thread to start for, few enough for all threads to find some

constexpr int64_t most_rows = 1024;  // of a tile
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
  divisor_ = problem.one_divisor();
  const int64_t row_bytes = std::max<int64_t>(1, length_ * channels_ * element_bytes);
  rows_of_tile_ = channels_ == 1 ? std::clamp<int64_t>(tile_bytes / row_bytes, 1, most_rows) : 1;
  parts_ = std::clamp<int64_t>(row_bytes / tile_bytes, 1, std::max<int64_t>(1, length_));
  // Short rows of one value are faster filled than copied.
  const bool long_rows = channels_ > 1 || length_ * element_bytes > block_bytes;
  past_ = long_rows && stores_for(work() * element_bytes, grad_input, problem.input_elements() * element_bytes) == Stores::Past;
}

// The value of a row, one element or the channels of a pixel, over so many of its positions, past the caches.
void Broadcast::repeat(const char* value, char* target, int64_t length, Scratch& scratch) const {
  const int64_t bytes = channels_ * element_bytes_;
  const int64_t count = std::clamp<int64_t>(block_bytes / bytes, 1, length), size = count * bytes, blocks = length / count;
  char* const block = scratch.row.reserve(size);
  fill(value, bytes, block, 1, count);
  copy_bytes_({block, target, {{}, {}, {blocks, 0, size}}, size, nullptr, {0, 0, 0}, 1, Stores::Past});
  const int64_t rest = length % count * bytes;
  if (rest > 0) copy_bytes_({block, target + blocks * size, {}, rest, nullptr, {0, 0, 0}, 1, Stores::Past});
}

int64_t Broadcast::tiles() const { return parts_ * ceil_div<int64_t>(rows_, rows_of_tile_); }

void Broadcast::run(int64_t begin, int64_t end) const {
  Scratch& scratch = thread_scratch();
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t row = tile / parts_ * rows_of_tile_, rows = std::min(rows_of_tile_, rows_ - row), count = rows * channels_;
    const int64_t first = begin_of_part(tile % parts_), length = begin_of_part(tile % parts_ + 1) - first;
    char* const lanes = scratch.values[0].reserve(count * sums_.lane_bytes);
    char* const values = scratch.values[1].reserve(count * element_bytes_);
    sums_.load({grad_output_ + row * channels_ * element_bytes_, lanes, {}, count, nullptr, {0, 0, 0}, divisor_});
    sums_.finish({lanes, values, {}, count, nullptr, {0, 0, 0}, 1});
    const int64_t pixel = channels_ * element_bytes_;
    char* const target = grad_input_ + (row * length_ + first) * pixel;
    if (!past_) fill(values, pixel, target, rows, length);
    for (int64_t i = 0; past_ && i < rows; ++i) repeat(values + i * pixel, target + i * length_ * pixel, length, scratch);
  }
  scratch.trim();
}

}  // namespace torch_pooling::cpu
