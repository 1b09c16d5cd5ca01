// The gradient of a maximum, from saved positions. Four deterministic ways, chosen by geometry:
//   Flat     windows that move by one position over an input as large as the output: position p of the whole tensor looks at
//            the outputs p - d, for the distances d of the taps. A wrong neighbour (the end of the row before) cannot
//            interfere, for its winner, where its code says, lies elsewhere; so there are no rows and no margins.
//   Pull     each input looks at the outputs that read it, for windows that overlap little.
//   Permuted the same for short rows in channels-first, a vector of inputs at a time from a vector of outputs.
//   Scatter  each output adds to the element that won, inside a range of grad_input that one thread owns, for the rest.
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

enum class MaxWay { Flat, PullLanes, PullPixels, Scatter };
MaxWay choose_max_way(const Problem& problem, OffsetType type);
bool lanes_pay(const Problem& problem);  // of windows that overlap: else a scatter costs less than PullLanes
constexpr int64_t largest_permuted = (1 << 30) - 1;  // taps of a window: as many codes lie above "nothing" in PermutedVectors
constexpr int64_t largest_located = 1 << 20;  // taps of a window: more do not divide exactly in float32

// Where a box begins.
inline int64_t offset_of(const Strides& strides, const Range (&box)[dimensions]) {
  int64_t offset = 0;
  for (int d = 0; d < dimensions; ++d) offset += box[d].begin * strides.of[d];
  return offset;
}

class MaxFlat {
 public:
  MaxFlat(const Problem& problem, const PullKernels& pull, int64_t element_bytes, const MaxGradients& gradients);
  int64_t tiles() const;
  int64_t work() const { return 2 * args_.total; }
  void run(int64_t begin, int64_t end) const;

 private:
  FlatFn kernel_;
  FlatArgs args_;
  std::vector<FlatTap> taps_;
};

class MaxPull {
 public:
  // codes: of lanes as wide as the pull's.
  MaxPull(const Problem& problem, MaxWay way, const PullKernels& pull, const CodeKernels& codes, int64_t element_bytes,
          const MaxGradients& gradients);
  int64_t tiles() const;
  int64_t work() const { return work_; }
  void run(int64_t begin, int64_t end) const;

 private:
  struct Tile {
    Range input[dimensions], output[dimensions];
    // Lanes: input i is q * stride + r, less the skipped ones. Rows of outputs have margins on both sides: `margin`
    // positions before the first real one, `length` in all, the first `reach` of them before q = first_q.
    int64_t first_q = 0, count_q = 0, skip = 0, margin = 0, length = 0, reach = 0;
    // Rows to pull from: element at the row's first q, strides of planes and rows in bytes, of pixels in elements.
    const char* grad = nullptr;
    const char* code = nullptr;
    int64_t grad_plane = 0, grad_depth = 0, grad_row = 0, grad_pixel = 1;
    int64_t code_plane = 0, code_depth = 0, code_row = 0, code_pixel = 1;
  };

  void choose_tiles();
  void locate_outputs(Tile& tile) const;
  const AxisReads& reads_of(int axis, const Tile& tile, Scratch& scratch, bool moved) const;
  void list_rows(const Tile& tile, Scratch& scratch, bool moved) const;
  bool reads_alike(int axis, const Tile& tile, const Tile& last) const;
  bool reaches_outside(const Tile& tile) const;
  template <class Copy>
  Strides stage_rows(const Tile& tile, Buffer& buffer, int64_t bytes, bool fill, char*& staged, const Copy& copy) const;
  void stage_codes(Tile& tile, Scratch& scratch) const;
  void stage_grads(Tile& tile, Scratch& scratch) const;
  void pull_tile(const Tile& tile, Scratch& scratch, bool moved) const;

  const Problem& problem_;
  bool pixels_;
  const PullKernels& pull_;
  const CodeKernels& codes_;
  int64_t element_bytes_;
  MaxGradients gradients_;
  bool byte_codes_ = false;   // compares bytes as they were saved
  Stores stores_ = Stores::Usual;  // of grad_input
  bool together_ = false;  // rows that are no whole lines are put together: of a result that no cache holds, as measured
  bool open_rows_ = false;    // a row's neighbours cannot be mistaken for its margins: see Flat above
  AxisReads reads_[3];        // of axes short enough to list them once
  int64_t input_size_[dimensions], output_size_[dimensions];
  Strides input_strides_, output_strides_;
  int64_t tile_size_[dimensions];
  int64_t work_ = 0;
};

class MaxPermuted {
 public:
  // Instead of a scatter; and instead of a pull, which takes outputs in the same order (deep: of windows along depth, too).
  static bool serves(const Problem& problem, const PullKernels& pull, int vector_bytes, OffsetType type, bool deep);
  // Whether it serves with vectors of some length: where another way adds in another order, all instruction sets must go it.
  static bool serves_somewhere(const Problem& problem, const PullKernels& pull, bool deep);
  MaxPermuted(const Problem& problem, const PullKernels& pull, int vector_bytes, int64_t element_bytes, const MaxGradients& gradients);
  int64_t tiles() const;
  int64_t work() const { return problem_.input_elements() + problem_.output_elements(); }
  void run(int64_t begin, int64_t end) const;

 private:
  static bool fits(const Problem& problem, int64_t lanes, bool deep);
  static constexpr int64_t most_rows = 4096;  // of outputs, for each depth of inputs

  void pull(int64_t planes, const char* grads, const char* codes, char* target) const;

  const Problem& problem_;
  PermutedFn kernel_;
  MaxGradients gradients_;
  int64_t element_bytes_, code_bytes_;
  int64_t planes_, tile_planes_, input_plane_, output_plane_;  // positions of a plane
  std::vector<PermutedRow> rows_;
  AxisReads width_;
  bool spills_ = false;  // rows are shorter than a vector
  Stores stores_ = Stores::Usual;  // of grad_input
};

class MaxScatter {
 public:
  // sums: of the gradient's type, to convert lanes. locate: of the offsets' type; null: offsets are looked at one by one, and need
  // not name an element of the input. in_order: gradients of an element are added up in the order of outputs, as MaxPermuted does.
  MaxScatter(const Problem& problem, const ReduceKernels& sums, LocateFn locate, const MaxGradients& gradients, bool in_order);
  int64_t tiles() const;
  int64_t work() const { return problem_.input_elements() + problem_.output_elements(); }
  void run(int64_t begin, int64_t end) const;

 private:
  // Some planes, and in each a run of positions without gaps, the box [depth, height, width] of `input`, for some channels.
  struct Tile {
    Range planes, input[3], channels, output[3];
    int64_t first = 0, positions = 0;  // of the run
  };
  void choose_tiles();
  Tile tile_at(int64_t index) const;
  bool takes_planes_together(const Tile& tile) const;
  void list_origins(const Tile& tile, Scratch& scratch) const;
  template <class T, class Lane>
  void scatter_tile(const Tile& tile, Scratch& scratch) const;
  template <class T, class Lane>
  void add_located(const Tile& tile, Scratch& scratch, Lane* target, int64_t target_plane, int64_t target_inner) const;
  template <class T, class Lane, class Offset>
  void add_each(const Tile& tile, Lane* target, int64_t target_plane, int64_t target_inner) const;

  const Problem& problem_;
  const ReduceKernels& sums_;
  bool in_order_;
  LocateFn locate_;  // null: positions do not fit it
  MaxGradients gradients_;
  Stores stores_ = Stores::Usual;  // of what leaves a buffer
  bool overlaps_ = false;  // an input may be read by several outputs
  int64_t planes_, inner_;  // channels below a position, 1 in channels-first
  int64_t lanes_;           // of them in lists of origins: all, where they are few, else 1
  int64_t input_plane_, output_plane_;  // positions
  int64_t size_[5], tile_size_[5];  // planes, depth, height, width, channels
};

}  // namespace torch_pooling::cpu
