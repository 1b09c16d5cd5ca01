// Small planes in channels-first, whose rows hold a few elements: as the channels of a pixel, so that lanes are full whatever the
// sizes. Some planes at a time are turned in the caches, reduced as channels-last, and turned back.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cpu/reduction.h"

namespace torch_pooling::cpu {

class Turned {
 public:
  static bool serves(const Problem& problem, bool inverse, bool coded);
  Turned(const Problem& problem, const ReduceKernels& kernels, const CodeKernels* codes, int64_t element_bytes, const Operands& operands,
         bool inverse);
  int64_t tiles() const { return ceil_div<int64_t>(planes_, planes_of_tile_); }
  int64_t work() const { return planes_ * (source_plane_ + result_plane_); }
  void run(int64_t begin, int64_t end) const;

 private:
  Problem problem_;  // of one tile
  const ReduceKernels& kernels_;
  const CodeKernels* codes_;
  int64_t element_bytes_, code_bytes_;  // 0: no codes
  Operands operands_;
  bool inverse_;
  int64_t planes_, planes_of_tile_;
  int64_t source_plane_, result_plane_;  // positions
};

}  // namespace torch_pooling::cpu
