// The gradient of a maximum, from saved positions. Two deterministic ways, chosen by geometry: pull (each input looks at the
// outputs that read it, for windows that overlap little) and scatter (each output adds to the element that won, inside a
// tile of grad_input that one thread owns: for large windows, large ones apart from each other, and adaptive ones).
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

// Where a box begins.
inline int64_t offset_of(const Strides& strides, const Range (&box)[dimensions]) {
  int64_t offset = 0;
  for (int d = 0; d < dimensions; ++d) offset += box[d].begin * strides.of[d];
  return offset;
}

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
  struct Tile {
    Range input[dimensions], output[dimensions];
    // PullLanes: input i is q * stride + r, less the skipped ones. Rows of outputs have margins on both sides: `margin`
    // positions before the first real one, `length` in all, the first `reach` of them before q = first_q.
    int64_t first_q = 0, count_q = 0, skip = 0, margin = 0, length = 0, reach = 0;
    // Rows to pull from: element at the row's first q, strides of planes and rows.
    const char* grad = nullptr;
    const char* code = nullptr;
    int64_t grad_plane = 0, grad_depth = 0, grad_row = 0;  // bytes
    int64_t code_plane = 0, code_depth = 0, code_row = 0;  // bytes
    int64_t grad_pixel = 1, code_pixel = 1;                // elements
  };

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
