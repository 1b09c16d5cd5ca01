// The separable driver: one pass per axis over blocks that fit the caches. The same traversal is a forward pass on the
// windows of a problem and, on their inverse, the backward pass of sums. It decides order, blocks and buffers; all
// arithmetic on elements is in the kernels, all geometry in core/window.h. Independent of the instruction set.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cpu/block.h"
#include "cpu/scratch.h"

namespace torch_pooling::cpu {

// An axis read forwards (outputs from inputs) or backwards (inputs from outputs).
struct AxisView {
  Axis axis;
  bool inverse = false;

  int64_t sources() const { return inverse ? axis.output : axis.input; }
  int64_t results() const { return inverse ? axis.input : axis.output; }
  Span span_of(int64_t result) const { return inverse ? axis.outputs_of(result) : axis.inputs_of(result); }
  bool has_comb() const { return inverse ? axis.has_inverse_comb() : axis.has_comb(); }
  Comb comb() const { return inverse ? axis.inverse_comb() : axis.comb(); }
};

struct Operands {
  const void* input = nullptr;
  void* output = nullptr;
  void* offsets = nullptr;  // coded reductions: the saved positions, in the layout of the output
  OffsetType offset_type = OffsetType::UInt8;
};

struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

class Reduction {
 public:
  // inverse: the adjoint, from the outputs' gradient to the inputs'. coded: maxima with positions.
  Reduction(const Problem& problem, const ReduceKernels& kernels, const CodeKernels* codes, int64_t element_bytes,
            const Operands& operands, bool inverse);

  int64_t tiles() const;
  int64_t work() const { return work_; }  // elements touched, to size the parallel grain
  void run(int64_t begin, int64_t end) const;

 private:
  enum class Mode { Identity, Windows, Comb, Spread };
  struct Block;
  struct Tile;

  Mode mode_of(int axis) const;
  void choose_tiles();
  void run_tile(const Tile& tile, Scratch& scratch) const;
  void list_windows(int axis, Tile& tile, std::vector<Window>& list) const;
  void locate_sources(Tile& tile, Scratch& scratch) const;
  Block storage_block(const Tile& tile) const;
  void pass(int axis, bool comb_follows, const Tile& tile, Block& block, Scratch& scratch, int& turn) const;
  void stage(const Tile& tile, Block& block, Scratch& scratch, int& turn, bool comb_follows) const;
  void fill_margins(const Block& block, const Tile& tile) const;
  void repair_codes(const Block& block, const Tile& tile) const;
  void finish(const Tile& tile, const Block& block, Scratch& scratch) const;
  const void* divisors(const Range (&ranges)[dimensions], Scratch& scratch, double& uniform) const;
  bool can_overread(const Block& block) const;

  const Problem& problem_;
  const ReduceKernels& kernels_;
  const CodeKernels* codes_;  // null: values only
  Operands operands_;
  bool inverse_;
  bool average_;       // divides
  bool divide_first_;  // an inverse whose divisors differ
  int64_t element_bytes_;
  AxisView views_[3];
  Mode modes_[3];
  int64_t code_scale_[3];
  int64_t source_size_[dimensions], result_size_[dimensions];
  Strides source_strides_, result_strides_;
  int64_t tile_size_[dimensions], tile_count_[dimensions];
  int64_t work_ = 0;
};

}  // namespace torch_pooling::cpu
