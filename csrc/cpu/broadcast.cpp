// See broadcast.h. A tile is some rows: their values are divided and converted together, then repeated.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/broadcast.h"

#include <algorithm>
#include <cstring>

namespace torch_pooling::cpu {
namespace {

constexpr int64_t rows_of_tile = 64;

template <class T>
void repeat(const char* values, char* target, int64_t rows, int64_t length) {
  for (int64_t row = 0; row < rows; ++row) {
    T value;
    std::memcpy(&value, values + row * static_cast<int64_t>(sizeof(T)), sizeof(T));
    std::fill_n(reinterpret_cast<T*>(target) + row * length, length, value);
  }
}

}  // namespace

Broadcast::Broadcast(const Problem& problem, const ReduceKernels& sums, int64_t element_bytes, const void* grad_output,
                     void* grad_input)
    : sums_(sums), element_bytes_(element_bytes), grad_output_(static_cast<const char*>(grad_output)),
      grad_input_(static_cast<char*>(grad_input)), length_(problem.axes[2].input) {
  const bool first = problem.layout == Layout::ChannelsFirst;
  channels_ = first ? 1 : problem.channels;
  rows_ = problem.batch * (first ? problem.channels : 1) * problem.axes[0].input * problem.axes[1].input;
  divisor_ = !problem.average ? 1 : static_cast<double>(problem.divisor_override != 0 ? problem.divisor_override : problem.window_elements());
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
    if (channels_ == 1) {
      switch (element_bytes_) {
        case 2: repeat<uint16_t>(values, target, rows, length_); break;
        case 4: repeat<uint32_t>(values, target, rows, length_); break;
        default: repeat<uint64_t>(values, target, rows, length_); break;
      }
    } else {
      const int64_t bytes = channels_ * element_bytes_;
      for (int64_t i = 0; i < length_; ++i) std::memcpy(target + i * bytes, values, static_cast<size_t>(bytes));
    }
  }
  scratch.trim();
}

}  // namespace torch_pooling::cpu
