// One long window over each of a few planes (a global pool of one image in channels-last): parts of it are reduced side by side,
// then joined in order. The parts depend on the sizes alone, and so do the results.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <vector>

#include "cpu/reduction.h"

namespace torch_pooling::cpu {

class LongAxis {
 public:
  static bool serves(const Problem& problem);
  LongAxis(const Problem& problem, const ReduceKernels& kernels, const CodeKernels* codes, int64_t element_bytes,
           const Operands& operands);

  int64_t planes() const { return planes_; }
  int64_t parts() const { return planes_ * parts_; }
  int64_t work() const { return planes_ * length_ * inner_; }
  void reduce(int64_t begin, int64_t end);      // parts
  void join(int64_t begin, int64_t end) const;  // planes, after all their parts

 private:
  const ReduceKernels& kernels_;
  const CodeKernels* codes_;  // null: values only
  Operands operands_;
  int64_t element_bytes_, planes_, length_, inner_, parts_;
  double divisor_;
  Buffer values_, numbers_;  // lanes and codes [planes, parts, inner]
  char* lanes_;
  char* tap_codes_;
};

}  // namespace torch_pooling::cpu
