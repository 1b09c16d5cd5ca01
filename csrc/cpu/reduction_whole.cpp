// The passes of a reduction that take all axes at once: three by three, pairs along rows, pixels, and short windows along rows. See reduction.h.
// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include "cpu/reduction.h"

namespace torch_pooling::cpu {

void Reduction::run_near(const Tile& tile) const {
  const int64_t plane = source_strides_.of[1], depth = source_size_[1], channels = source_size_[4];
  const int64_t row = (channels > 1 ? channels : source_size_[3]) * element_bytes_;
  for (int64_t d = tile.result[1].begin; d < tile.result[1].end; ++d) {
    const int64_t at = tile.result[0].begin * depth * plane + d * plane;
    char* const output = static_cast<char*>(operands_.output) + at * element_bytes_;
    NearArgs args{};
    args.source = static_cast<const char*>(operands_.input) + at * element_bytes_;
    args.sums = args.maxima = output;
    if (codes_ != nullptr) args.codes = static_cast<char*>(operands_.offsets) + at;
    args.planes = tile.result[0].size(), args.source_plane = depth * plane, args.target_plane = depth * plane / channels;
    args.channels = args.target_pixel = channels;
    args.rows = source_size_[2], args.length = source_size_[3];
    args.begin = tile.result[2].begin, args.end = tile.result[2].end;
    args.divisor = problem_.one_divisor();
    args.ahead = ahead_;
    args.stores = past_where(stores_, row % widest_vector == 0 && kernels_.vector_lanes * element_bytes_ == widest_vector);
    (channels > 1 ? kernels_.near_last : kernels_.near)(args);
  }
}

// In channels-first, windows of one plane that move by one, where the rows that some rows of results read fit what is kept near. Rows of
// many vectors, and long windows, are better off in passes; three by three, but for short rows of 16 bits with positions, in `near`: as
// measured.
bool Reduction::takes_ribbon() {
  constexpr int64_t lanes = 16384, row_bytes = 24, most_taps_and_vectors = 66, most_step = 64;
  const int64_t vector = kernels_.vector_lanes, taps_h = views_[1].axis.kernel, taps_w = views_[2].axis.kernel, longest = std::max(taps_h, taps_w);
  const bool bytes = codes_ == nullptr || operands_.offset_type == OffsetType::UInt8;
  if (kernels_.ribbon == nullptr || inverse_ || source_size_[4] != 1 || modes_[0] != Mode::Identity || modes_[2] == Mode::Windows || !bytes) return false;
  if (near_ && (codes_ == nullptr || kernels_.lane_bytes > 2 || result_size_[3] >= vector)) return false;
  for (const AxisView& view : {views_[1], views_[2]}) {
    const Axis& axis = view.axis;
    if (axis.adaptive || axis.stride != 1 || 2 * axis.output < axis.input || axis.output == 0 || !axis.never_empty()) return false;
    if (axis.comb().step > most_step) return false;
  }
  if (longest < 2 || longest > vector * kernels_.lane_bytes / 3) return false;
  if (longest * result_size_[3] > most_taps_and_vectors * vector || result_size_[3] * kernels_.lane_bytes > row_bytes * vector) return false;
  RibbonArgs args = ribbon_args();
  const int64_t reach = (args.taps_h - 1) * args.step_h, pitch = ribbon_pitch(args);
  const int64_t rows = lanes / pitch - reach;
  if (rows < std::max<int64_t>(reach, std::min<int64_t>(8, result_size_[2]))) return false;
  ribbon_rows_ = views_[1].axis.is_identity() ? rows : std::min(rows, result_size_[2]);
  near_ = false;
  return true;
}

// Windows of one row each: those of all planes are one plane's.
bool Reduction::separate_rows() const {
  return views_[1].axis.is_identity() && source_size_[1] == 1 && tile_size_[2] == result_size_[2];
}
RibbonArgs Reduction::ribbon_args() const {
  const Comb height = views_[1].axis.comb(), width = views_[2].axis.comb();
  RibbonArgs args{};
  args.rows = source_size_[2], args.length = source_size_[3], args.width = result_size_[3];
  args.taps_h = height.taps, args.step_h = height.step, args.skip_h = -height.first;
  args.taps_w = width.taps, args.step_w = width.step, args.skip_w = -width.first;
  return args;
}

void Reduction::run_ribbon(const Tile& tile, Scratch& scratch) const {
  RibbonArgs args = ribbon_args();
  const int64_t depth = source_size_[1], plane = source_strides_.of[1], result_plane = result_strides_.of[1];
  const int64_t lanes = (ribbon_rows_ + (args.taps_h - 1) * args.step_h) * ribbon_pitch(args) + args.skip_w + 2 * kernels_.vector_lanes;
  args.values = scratch.values[0].reserve(lanes * kernels_.lane_bytes);
  if (codes_ != nullptr) args.lane_codes = scratch.codes[0].reserve(lanes * kernels_.lane_bytes);
  args.rows_at_once = ribbon_rows_;
  args.planes = tile.result[0].size(), args.source_plane = depth * plane, args.target_plane = depth * result_plane;
  args.begin = tile.result[2].begin, args.end = tile.result[2].end;
  args.ahead = ahead_;
  args.stores = past_where(stores_, args.width * element_bytes_ % widest_vector == 0 && kernels_.vector_lanes * element_bytes_ == widest_vector);
  if (separate_rows()) args.rows = args.end = args.planes * args.rows, args.planes = 1;
  for (int64_t d = tile.result[1].begin; d < tile.result[1].end; ++d) {
    const int64_t at = (tile.result[0].begin * depth + d) * result_plane;
    args.source = static_cast<const char*>(operands_.input) + (tile.result[0].begin * depth + d) * plane * element_bytes_;
    args.target = static_cast<char*>(operands_.output) + at * element_bytes_;
    if (codes_ != nullptr) args.codes = static_cast<char*>(operands_.offsets) + at;
    kernels_.ribbon(args);
  }
}

// In channels-first, two or three taps that move by two along rows, whose windows do not reach beyond their ends but for a last third tap;
// or the gradient of such averages.
bool Reduction::takes_pairs() {
  constexpr int64_t most_rows = 1 << 16;
  const Axis &depth = views_[0].axis, &height = views_[1].axis, &width = views_[2].axis;
  const int64_t rows = result_size_[1] * result_size_[2];
  if ((inverse_ ? kernels_.spread_pairs : kernels_.pairs) == nullptr || source_size_[4] != 1 || !uniform_ || depth.adaptive || height.adaptive || width.adaptive) return false;
  const Comb comb = width.comb();
  if (comb.advance != 2 || comb.step != 1 || comb.taps < 2 || comb.taps > 3) return false;
  if (comb.first < -1 || comb.first + 2 * width.output > width.input) return false;
  // Narrower rows are for short windows.
  if (width.output < (inverse_ ? kernels_.vector_lanes : kernels_.vector_lanes * 3 / 4) || rows == 0 || rows > most_rows) return false;
  // Rows are read again for each row of results.
  const int64_t reads = most_taps(views_[0]) * most_taps(views_[1]);
  if (reads > most_pair_rows || (!inverse_ && reads > 3 * depth.stride * height.stride)) return false;
  if (codes_ != nullptr && (operands_.offset_type != OffsetType::UInt8 || (reads > 4 && width.output < kernels_.vector_lanes))) return false;
  first_row_.push_back(0);
  for (int64_t d = 0; d < result_size_[1]; ++d) {
    const Span planes = views_[0].span_of(d);
    for (int64_t h = 0; h < result_size_[2]; ++h) {
      const Span lines = views_[1].span_of(h);
      if (planes.count * lines.count == 0 && !inverse_) return rows_.clear(), false;
      const auto add = [&](int64_t z, int64_t y) {
        rows_.push_back((planes.first + z * planes.step) * source_strides_.of[1] + (lines.first + y * lines.step) * source_strides_.of[2]);
        row_numbers_.push_back((planes.tap + z) * code_scale_[0] + (lines.tap + y) * code_scale_[1]);
      };
      // Positions in scan order; values in the order of passes, which settles the sign of a zero.
      const bool coded = codes_ != nullptr;
      for (int64_t one = 0; one < (coded ? planes : lines).count; ++one) {
        for (int64_t two = 0; two < (coded ? lines : planes).count; ++two) coded ? add(one, two) : add(two, one);
      }
      first_row_.push_back(static_cast<int64_t>(rows_.size()));
    }
  }
  return true;
}

void Reduction::run_pairs(const Tile& tile, Scratch& scratch) const {
  PairsArgs args{};
  args.source = static_cast<const char*>(operands_.input) + tile.result[0].begin * source_strides_.of[0] * element_bytes_;
  args.target = static_cast<char*>(operands_.output) + tile.result[0].begin * result_strides_.of[0] * element_bytes_;
  args.planes = tile.result[0].size(), args.source_plane = source_strides_.of[0], args.target_plane = result_strides_.of[0];
  if (codes_ != nullptr) args.codes = static_cast<uint8_t*>(operands_.offsets) + tile.result[0].begin * result_strides_.of[0];
  args.rows = rows_.data(), args.numbers = row_numbers_.data(), args.first = first_row_.data();
  // Rows of all depths of a plane follow each other; a tile holds some of one depth or all of some.
  args.begin = tile.result[1].begin * result_size_[2] + tile.result[2].begin;
  args.end = (tile.result[1].end - 1) * result_size_[2] + tile.result[2].end;
  args.length = source_size_[3], args.width = result_size_[3];
  const Comb comb = views_[2].axis.comb();
  args.taps = comb.taps, args.skip = -comb.first;
  args.divisor = problem_.one_divisor();
  args.stores = stores_, args.ahead = ahead_;
  args.together = staging(scratch.values[0], args.width * element_bytes_);
  (inverse_ ? kernels_.spread_pairs : kernels_.pairs)(args);
}

void Reduction::run_pixels(const Tile& tile, Block& block, Scratch& scratch) const {
  int turn = 0;
  if (divide_first_) stage(tile, block, scratch, turn, false);
  double uniform = 1;
  const void* const divisor = average_ && !divide_first_ ? divisors(tile.result, scratch, uniform) : nullptr;
  Block codes;
  for (int d = 0; d < dimensions; ++d) codes.size[d] = tile.result[d].size();
  codes.strides = packed_strides(codes.size);
  const bool bytes = codes_ != nullptr && operands_.offset_type == OffsetType::UInt8;
  if (bytes) {
    codes.strides = result_strides_;
    codes.code = static_cast<char*>(operands_.offsets) + result_offset(tile);
  } else if (codes_ != nullptr) {
    codes.code = scratch.codes[0].reserve(codes.strides.of[0] * codes.size[0] * kernels_.lane_bytes);
  }
  const auto& windows = scratch.windows;
  auto count = [&](int axis) { return static_cast<int64_t>(windows[axis].size()); };
  const int64_t* const from = block.strides.of;
  const int64_t* const to = result_strides_.of;
  const int64_t* const code = codes.strides.of;
  PixelsArgs args{block.data, static_cast<char*>(operands_.output) + result_offset(tile) * element_bytes_, codes.code, bytes,
                  codes.size[0], windows[0].data(), count(0), windows[1].data(), count(1), windows[2].data(), count(2),
                  from[0], from[1], from[2], from[3], to[0], to[1], to[2], to[3], code[0], code[1], code[2], code[3],
                  codes.size[4], code_scale_[0], code_scale_[1], divisor, codes.size[2], codes.size[3], uniform, stores_, ahead_};
  const int64_t source_bytes = block.storage ? element_bytes_ : kernels_.lane_bytes;
  if (!short_.empty()) {
    args.depth_count = codes.size[1];
    args.columns = short_.data(), args.column_count = codes.size[3];
    args.chunks = chunks_.data(), args.chunk_count = static_cast<int64_t>(chunks_.size());
    int64_t total = 1;
    for (int d = 0; d < dimensions; ++d) total *= block.storage ? source_size_[d] : block.size[d];
    const char* const begin = block.storage ? static_cast<const char*>(operands_.input) : block.data;
    args.source_end = begin + total * source_bytes + (block.storage ? 0 : widest_vector);
    (block.storage ? kernels_.first_short : kernels_.next_short)(args);
  } else {
    (block.storage ? kernels_.first_pixels : kernels_.next_pixels)(args);
  }
  if (codes_ != nullptr && !bytes) store_codes(tile, codes);
}

}  // namespace torch_pooling::cpu
