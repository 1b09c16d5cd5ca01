// The gradient of a maximum, from saved positions. Two deterministic ways, chosen by geometry: pull (each input looks at the
// outputs that read it, for windows that overlap little) and scatter (each output adds to the element that won, inside a
// tile of grad_input that one thread owns, for large windows and for adaptive ones in channels-first).
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cpu/reduction.h"

namespace torch_pooling::cpu {

class MaxBackward {
 public:
  // kernels: sums of the gradient's type, for its conversions.
  MaxBackward(const Problem& problem, const ReduceKernels& kernels, const PullKernels& pull, const CodeKernels& codes,
              int64_t element_bytes, const void* grad_output, const void* offsets, OffsetType offset_type, void* grad_input);

  int64_t tiles() const;
  int64_t work() const { return work_; }
  void run(int64_t begin, int64_t end) const;

 private:
  enum class Mode { PullLanes, PullPixels, Scatter };
  struct Tile;

  void choose_mode();
  void choose_tiles();
  void load_outputs(const Tile& tile, Scratch& scratch) const;
  void pull_rows(const Tile& tile, Scratch& scratch) const;
  template <class Lane, class Code>
  void scatter(const Tile& tile, Scratch& scratch) const;
  void finish(const Tile& tile, const char* lanes, int64_t pitch) const;

  const Problem& problem_;
  const ReduceKernels& kernels_;
  const PullKernels& pull_;
  const CodeKernels& codes_;
  int64_t element_bytes_;
  const void* grad_output_;
  const void* offsets_;
  OffsetType offset_type_;
  void* grad_input_;
  Mode mode_ = Mode::Scatter;
  int64_t input_size_[dimensions], output_size_[dimensions];
  Strides input_strides_, output_strides_;
  int64_t tile_size_[dimensions], tile_count_[dimensions];
  int64_t work_ = 0;
};

}  // namespace torch_pooling::cpu
