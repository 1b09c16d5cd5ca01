// Maxima with positions over whole planes of more positions than narrow lanes of codes can number. Positions are found in three steps,
// so that all but a small part of the input is read for its values alone: the maximum of each of many parts; which part has the largest;
// where in that part it lies. The parts depend on the sizes alone.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "cpu/reduction.h"

namespace torch_pooling::cpu {

class LocatedMax {
 public:
  // Where codes of so many bytes are too narrow for the windows.
  static bool serves(const Problem& problem, int lane_bytes);
  // coded: maxima with narrow codes. Both have lanes of 16 bits.
  LocatedMax(const Problem& problem, const ReduceKernels& values, const ReduceKernels& coded, const CodeKernels& wide_codes,
             int64_t element_bytes, const Operands& operands);

  int64_t planes() const { return planes_; }
  int64_t parts() const { return planes_ * parts_; }
  int64_t work() const { return planes_ * length_ * inner_; }
  int64_t locating() const { return planes_ * inner_ * (parts_ + taps_); }  // elements looked at to locate the maxima
  void reduce(int64_t begin, int64_t end) const;  // parts
  void locate(int64_t begin, int64_t end) const;  // planes, after all their parts

 private:
  const char* source(int64_t plane, int64_t position) const {
    return static_cast<const char*>(operands_.input) + (plane * length_ + position) * inner_ * element_bytes_;
  }

  const ReduceKernels& values_;
  const ReduceKernels& coded_;
  const CodeKernels& wide_codes_;
  Operands operands_;
  int64_t element_bytes_, planes_, length_, inner_;
  int64_t taps_, parts_;  // of a part but the last, which may be shorter; of a plane
  Buffer maxima_;         // lanes [planes, parts, inner]
  char* lanes_;
};

}  // namespace torch_pooling::cpu
