// The gradient of an average over whole rows (global pooling above all): one value for all positions of a row, written with
// plain copies.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cpu/scratch.h"

namespace torch_pooling::cpu {

class Broadcast {
 public:
  static bool serves(const Problem& problem) {
    return problem.axes[0].is_identity() && problem.axes[1].is_identity() && problem.axes[2].is_whole();
  }
  Broadcast(const Problem& problem, const ReduceKernels& sums, ConvertFn copy_bytes, int64_t element_bytes, const void* grad_output,
            void* grad_input);

  int64_t tiles() const;
  int64_t work() const { return rows_ * (length_ + 1) * channels_; }
  void run(int64_t begin, int64_t end) const;

 private:
  void repeat(const char* value, char* target, int64_t length, Scratch& scratch) const;
  int64_t begin_of_part(int64_t part) const {  // where a line of memory begins, if the row begins at one; pixels are mostly whole lines
    const int64_t begin = length_ * part / parts_, line = channels_ == 1 ? widest_vector : 1;
    return part == parts_ ? length_ : begin / line * line;
  }

  const ReduceKernels& sums_;
  ConvertFn copy_bytes_;
  int64_t element_bytes_;
  const char* grad_output_;  // [rows, channels]
  char* grad_input_;         // [rows, length, channels]
  int64_t rows_, length_, channels_;
  int64_t rows_of_tile_, parts_;  // a tile is some rows, or a part of one
  double divisor_;
  bool past_;  // grad_input is stored past the caches
};

}  // namespace torch_pooling::cpu
