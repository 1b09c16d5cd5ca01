// The gradient of a maximum, from saved positions. Two deterministic ways, chosen by geometry: pull (each input looks at the
// outputs that read it, for windows that overlap little) and scatter (each output adds to the element that won, inside a
// tile of grad_input that one thread owns, for large windows and for adaptive ones in channels-first).
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cpu/reduction.h"

namespace torch_pooling::cpu {

struct MaxGradients {
  const void* grad_output;
  const void* offsets;
  OffsetType offset_type;
  void* grad_input;
};

class MaxBackward {
 public:
  // sums: of the gradient's type, for their conversion of lanes. codes: of lanes as wide as the pull's.
  MaxBackward(const Problem& problem, const ReduceKernels& sums, const PullKernels& pull, const CodeKernels& codes,
              int64_t element_bytes, const MaxGradients& gradients);

  int64_t tiles() const;
  int64_t work() const { return work_; }
  void run(int64_t begin, int64_t end) const;

 private:
  enum class Mode { PullLanes, PullPixels, Scatter };
  struct Tile;

  void choose_mode();
  void choose_tiles();
  void locate_outputs(Tile& tile) const;
  void list_pixels(const Tile& tile, Scratch& scratch) const;
  void stage_codes(Tile& tile, Scratch& scratch) const;
  void stage_grads(Tile& tile, Scratch& scratch) const;
  void pull_rows(const Tile& tile, Scratch& scratch) const;
  void list_taps(Scratch& scratch) const;
  void scatter_tile(const Tile& tile, Scratch& scratch) const;
  template <class T, class Lane>
  void scatter_offsets(const Tile& tile, Scratch& scratch) const;
  template <class T, class Lane, class Offset>
  void scatter(const Tile& tile, Scratch& scratch) const;

  const Problem& problem_;
  const ReduceKernels& sums_;
  const PullKernels& pull_;
  const CodeKernels& codes_;
  int64_t element_bytes_;
  MaxGradients gradients_;
  Mode mode_ = Mode::Scatter;
  bool overlaps_ = false;      // an input may be read by several outputs
  bool byte_codes_ = false;   // pulls compare bytes as they were saved
  bool whole_planes_ = false;  // scatter: every tile holds whole planes and no tap lies outside
  SpanTable spans_[3];        // of depth, height and, for PullPixels, width
  int64_t input_size_[dimensions], output_size_[dimensions];
  Strides input_strides_, output_strides_;
  int64_t tile_size_[dimensions], tile_count_[dimensions];
  int64_t work_ = 0;
};

}  // namespace torch_pooling::cpu
