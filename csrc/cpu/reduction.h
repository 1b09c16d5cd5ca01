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
  bool count_padding = true;  // of averages

  int64_t sources() const { return inverse ? axis.output : axis.input; }
  int64_t results() const { return inverse ? axis.input : axis.output; }
  Span span_of(int64_t result) const { return inverse ? axis.outputs_of(result) : axis.inputs_of(result); }
  bool has_comb() const { return inverse ? axis.has_inverse_comb() : axis.has_comb(); }
  Comb comb() const { return inverse ? axis.inverse_comb() : axis.comb(); }
};

// A function of the positions of an axis, computed once where the axis is short enough to keep its values.
template <class Value, Value (*compute)(const AxisView&, int64_t)>
class AxisTable {
 public:
  AxisTable() = default;
  explicit AxisTable(const AxisView& view) : view_(view) {}  // keeps nothing
  AxisTable(const AxisView& view, int64_t size) : view_(view) {
    constexpr int64_t most = 1 << 14;
    if (size > most) return;
    values_.reserve(static_cast<size_t>(size));
    for (int64_t at = 0; at < size; ++at) values_.push_back(compute(view, at));
  }
  Value at(int64_t position) const {
    return values_.empty() ? compute(view_, position) : values_[static_cast<size_t>(position)];
  }

 private:
  AxisView view_;
  std::vector<Value> values_;
};
inline Span span_at(const AxisView& view, int64_t result) { return view.span_of(result); }
inline int64_t count_at(const AxisView& view, int64_t output) { return view.axis.counted_taps(output, view.count_padding); }
using SpanTable = AxisTable<Span, span_at>;
using CountTable = AxisTable<int64_t, count_at>;

struct Operands {
  const void* input = nullptr;
  void* output = nullptr;
  void* offsets = nullptr;  // coded reductions: the saved positions, in the layout of the output
  OffsetType offset_type = OffsetType::UInt8;
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
  struct Tile {
    Range result[dimensions];
    Range source[dimensions];  // inside the source tensor
    // A comb or spread along the width reads positions [comb_first, comb_first + comb_length), margins included.
    int64_t comb_first = 0, comb_length = 0;
    int64_t spread_first = 0, spread_count = 0, spread_skip = 0;
  };
  struct Block {
    char* data = nullptr;  // storage is only read
    char* code = nullptr;
    bool storage = true;
    bool result = false;  // already where the result belongs
    int64_t size[dimensions] = {};
    Strides strides;
    int64_t margin = 0;  // positions before the width's first real one
  };

  Mode mode_of(int axis) const;
  static int64_t most_taps(const AxisView& view);
  bool takes_pixels() const;
  bool takes_near() const;
  bool takes_ribbon();
  bool takes_pairs();
  bool takes_short();
  bool cut_short(int64_t most);
  void even_out(int d, int64_t taps, int64_t vector);
  void choose_tiles();
  void run_tile(const Tile& tile, Scratch& scratch) const;
  void run_near(const Tile& tile) const;
  bool separate_rows() const;
  RibbonArgs ribbon_args() const;
  void run_ribbon(const Tile& tile, Scratch& scratch) const;
  void run_pairs(const Tile& tile, Scratch& scratch) const;
  void run_pixels(const Tile& tile, Block& block, Scratch& scratch) const;
  void store_codes(const Tile& tile, const Block& block) const;
  bool tells_counts() const;
  Leap leap_of(int axis) const;
  void list_windows(int axis, Tile& tile, Scratch& scratch) const;
  void locate_sources(Tile& tile, const Tile* last, Scratch& scratch) const;
  Block storage_block(const Tile& tile) const;
  bool writes_result(Mode mode) const;
  int64_t result_offset(const Tile& tile) const;
  Final final_of(const Tile& tile) const;
  void pass(int axis, bool comb_follows, bool final, const Tile& tile, Block& block, Scratch& scratch, int& turn) const;
  void stage(const Tile& tile, Block& block, Scratch& scratch, int& turn, bool comb_follows) const;
  void fill_margins(const Block& block, const Tile& tile) const;
  void repair_codes(const Block& block, const Tile& tile) const;
  void finish(const Tile& tile, const Block& block, Scratch& scratch) const;
  const void* divisors(const Range (&ranges)[dimensions], Scratch& scratch, double& uniform) const;
  static Strides divisor_strides(const Block& block);
  bool can_overread(const Block& block) const;

  const Problem& problem_;
  const ReduceKernels& kernels_;
  const CodeKernels* codes_;  // null: values only
  Operands operands_;
  bool inverse_;
  bool average_;  // divides
  int64_t element_bytes_;
  bool uniform_;       // one divisor for every output
  bool divide_first_;  // an inverse whose divisors differ
  AxisView views_[3];
  SpanTable spans_[3];
  CountTable counts_[3];  // of averages whose divisors differ
  Mode modes_[3];
  bool pixels_ = false;  // all axes in one go
  bool near_ = false;    // the same, three by three
  int64_t ribbon_rows_ = 0;  // the same, by maxima that move by one: rows of results at once. 0: not so
  std::vector<int64_t> rows_, row_numbers_, first_row_;  // the same, along rows: see PairsArgs. Empty: not so
  std::vector<Window> short_;  // the same, by short windows along rows: that of each result of a row. Empty: not so
  std::vector<ShortChunk> chunks_;
  Stores stores_ = Stores::Usual;
  bool far_ = false;     // the source does not fit the caches
  bool beyond_ = false;  // source and result do not fit them by a quarter and more
  bool ahead_ = false;   // and its rows are long: what comes next is fetched early
  int64_t code_scale_[3];
  int64_t source_size_[dimensions], result_size_[dimensions];
  Strides source_strides_, result_strides_;
  int64_t tile_size_[dimensions];
  int64_t work_ = 0;
};

}  // namespace torch_pooling::cpu
