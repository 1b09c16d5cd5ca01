// The passes of a reduction. A tile is a box of results; a block is what one pass leaves of it. Values go depth, height,
// width, so that the first pass reads storage along contiguous rows; coded maxima go width, height, depth, the scan order
// that decides ties. See reduction.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/reduction.h"

#include <algorithm>

namespace torch_pooling::cpu {

void Reduction::run(int64_t begin, int64_t end) const {
  Scratch& scratch = thread_scratch();
  Tile tile, last;
  for (int64_t index = begin; index < end; ++index) {
    tile_box(index, result_size_, tile_size_, tile.result);
    if (near_ || ribbon_rows_ > 0 || !rows_.empty()) {
      near_ ? run_near(tile) : ribbon_rows_ > 0 ? run_ribbon(tile, scratch) : run_pairs(tile, scratch);
      continue;
    }
    locate_sources(tile, index == begin ? nullptr : &last, scratch);
    tile.source[0] = tile.result[0];
    run_tile(tile, scratch);
    last = tile;
  }
  scratch.trim();
}

Reduction::Block Reduction::storage_block(const Tile& tile) const {
  Block block;
  int64_t offset = 0;
  for (int d = 0; d < dimensions; ++d) {
    block.size[d] = tile.source[d].size();
    offset += tile.source[d].begin * source_strides_.of[d];
  }
  block.strides = source_strides_;
  block.data = const_cast<char*>(static_cast<const char*>(operands_.input)) + offset * element_bytes_;
  return block;
}

// Kernels may read up to 512 bytes past a block that ends well before the end of its tensor.
bool Reduction::can_overread(const Block& block) const {
  if (!block.storage) return true;
  int64_t last = 0, total = 1;
  for (int d = 0; d < dimensions; ++d) {
    last += std::max<int64_t>(block.size[d] - 1, 0) * block.strides.of[d];
    total *= source_size_[d];
  }
  const char* end = static_cast<const char*>(operands_.input) + total * element_bytes_;
  return block.data + (last + 1) * element_bytes_ + slack_bytes <= end;
}

void Reduction::run_tile(const Tile& tile, Scratch& scratch) const {
  Block block = storage_block(tile);
  if (pixels_ || !short_.empty()) return run_pixels(tile, block, scratch);
  int turn = 0;
  const bool coded = codes_ != nullptr;
  const bool width_is_comb = modes_[2] == Mode::Comb || modes_[2] == Mode::Spread;
  auto run_width = [&] {
    const bool margins = tile.source[3].size() != tile.comb_length;
    const bool direct = block.storage && kernels_.lanes_are_storage && !margins && modes_[2] == Mode::Comb;
    if (block.storage && !(direct && can_overread(block))) stage(tile, block, scratch, turn, true);
    pass(2, false, !coded || (modes_[0] == Mode::Identity && modes_[1] == Mode::Identity), tile, block, scratch, turn);
  };
  if (divide_first_) stage(tile, block, scratch, turn, width_is_comb && modes_[0] == Mode::Identity && modes_[1] == Mode::Identity);
  // One window at a time along the width costs most: it goes where there are fewer rows. Coded maxima keep the scan order, save
  // there, where taps are merged in any order.
  const bool one_at_a_time = modes_[2] == Mode::Windows && source_size_[4] == 1;
  const bool width_first = one_at_a_time ? source_size_[2] < result_size_[2] : coded;
  const int outer[2] = {coded ? 1 : 0, coded ? 0 : 1};
  const int order[3] = {width_first ? 2 : outer[0], width_first ? 1 : outer[1], width_first ? 0 : 2};
  for (int step = 0; step < 3; ++step) {
    const int axis = order[step];
    if (modes_[axis] == Mode::Identity) continue;
    if (axis == 2 && width_is_comb) {
      run_width();
      continue;
    }
    bool final = true;
    for (int later = step + 1; later < 3; ++later) final &= modes_[order[later]] == Mode::Identity;
    const bool last_before_comb = !coded && width_is_comb && (axis == 1 || modes_[1] == Mode::Identity);
    pass(axis, last_before_comb, final, tile, block, scratch, turn);
  }
  if (block.storage) stage(tile, block, scratch, turn, false);  // nothing to reduce: one element a window
  finish(tile, block, scratch);
}

// Storage to lanes, with margins for a comb to come, dividing where the adjoint of an average needs it.
void Reduction::stage(const Tile& tile, Block& block, Scratch& scratch, int& turn, bool comb_follows) const {
  int64_t size[dimensions];
  std::copy_n(block.size, dimensions, size);
  int64_t margin = 0;
  if (comb_follows) {
    margin = tile.source[3].begin - tile.comb_first;
    size[3] = tile.comb_length;
  }
  Block target;
  std::copy_n(block.size, dimensions, target.size);
  target.strides = packed_strides(size);
  target.storage = false;
  target.margin = margin;
  int64_t total = 1;
  for (int64_t n : size) total *= n;
  char* const base = scratch.values[turn].reserve(total * kernels_.lane_bytes);
  target.data = base + margin * target.strides.of[3] * kernels_.lane_bytes;
  double uniform = 1;
  const void* divisor = divide_first_ ? divisors(tile.source, scratch, uniform) : nullptr;
  const Strides third = divisor_strides(block);
  for_nest(block.size, block.strides, target.strides, divisor == nullptr ? nullptr : &third, -1,
           [&](const Loop(&loops)[3], const int64_t(&third_loops)[3], int64_t inner, int64_t s, int64_t t, int64_t at) {
             ConvertArgs args{block.data + s * element_bytes_, target.data + t * kernels_.lane_bytes,
                              {loops[0], loops[1], loops[2]}, inner,
                              divisor == nullptr ? nullptr : static_cast<const char*>(divisor) + at * kernels_.lane_bytes,
                              {third_loops[0], third_loops[1], third_loops[2]}, uniform, Stores::Usual, block.size[4] > 1};
             kernels_.load(args);
           });
  if (codes_ != nullptr && !comb_follows) {  // a lone tap is tap 0
    target.code = scratch.codes[turn].reserve(total * kernels_.lane_bytes);
    std::fill_n(target.code, total * kernels_.lane_bytes, char{0});
  }
  block = target;
  if (comb_follows) fill_margins(block, tile);
  turn ^= 1;
}

// One axis of a block. The target is packed, save for margins around the width when a comb follows.
void Reduction::pass(int axis, bool comb_follows, bool final, const Tile& tile, Block& block, Scratch& scratch,
                     int& turn) const {
  const Mode mode = modes_[axis];
  Block target;
  target.storage = false;
  std::copy_n(block.size, dimensions, target.size);
  target.size[axis + 1] = tile.result[axis + 1].size();
  int64_t size[dimensions];
  std::copy_n(target.size, dimensions, size);
  int64_t skip = 0;
  if (comb_follows) {
    target.margin = tile.source[3].begin - tile.comb_first;
    size[3] = tile.comb_length;
    skip = target.margin;
  } else if (mode == Mode::Spread) {
    size[3] = views_[axis].axis.comb().advance * tile.spread_count;
    skip = tile.spread_skip;
  }
  target.strides = packed_strides(size);
  int64_t total = 1;
  for (int64_t n : size) total *= n;
  Final last;
  if (final && writes_result(mode)) {
    target.result = true;
    target.data = static_cast<char*>(operands_.output) + result_offset(tile) * element_bytes_;
    target.strides = result_strides_;
    last = final_of(tile);
  } else {
    target.data = scratch.values[turn].reserve(total * kernels_.lane_bytes);
  }
  if (codes_ != nullptr) target.code = scratch.codes[turn].reserve(total * kernels_.lane_bytes);
  char* const written = target.data + (comb_follows ? skip * target.strides.of[3] * kernels_.lane_bytes : 0);
  const int64_t source_bytes = block.storage ? element_bytes_ : kernels_.lane_bytes;

  int64_t loop_size[dimensions];
  std::copy_n(block.size, dimensions, loop_size);
  loop_size[axis + 1] = 1;
  if (mode == Mode::Windows) {
    const std::vector<Window>& list = scratch.windows[axis];
    const Slides slides = scratch.slides[axis];
    for_nest(loop_size, block.strides, target.strides, nullptr, axis + 1,
             [&](const Loop(&loops)[3], const int64_t(&)[3], int64_t inner, int64_t s, int64_t t, int64_t) {
               // Rounded-up writes are harmless only while rows are written in ascending order.
               bool ascending = true;
               for (const Loop& loop : loops) ascending &= loop.count == 1 || loop.target >= target.strides.of[axis + 1];
               void* const spare = slides.block > 0 ? scratch.row.reserve(slides.block * (inner > 1 ? 4 * widest_vector : 16)) : nullptr;
               WindowsArgs args{block.data + s * source_bytes,
                                block.code == nullptr ? nullptr : block.code + s * kernels_.lane_bytes,
                                written + t * kernels_.lane_bytes,
                                target.code == nullptr ? nullptr : target.code + t * kernels_.lane_bytes,
                                {loops[0], loops[1], loops[2]}, block.strides.of[axis + 1], target.strides.of[axis + 1], inner,
                                list.data(), static_cast<int64_t>(list.size()), code_scale_[axis],
                                ascending && can_overread(block), far_, ahead_, last, slides, spare, beyond_};
               block.storage ? kernels_.first(args) : kernels_.next(args);
             });
  } else {
    const char* const source = block.data - block.margin * block.strides.of[3] * source_bytes;
    const Comb comb = mode == Mode::Comb ? views_[axis].comb() : views_[axis].axis.comb();
    const int64_t reach = mode == Mode::Spread ? tile.spread_first - tile.comb_first : 0;
    Loop loops[3];
    for (int d = 0; d < 3; ++d) loops[d] = {block.size[d], block.strides.of[d], target.strides.of[d]};
    if (mode == Mode::Comb) {
      char* const spare = scratch.row.reserve(2 * (tile.comb_length * kernels_.lane_bytes + slack_bytes));
      kernels_.comb({source, target.data, target.code, {loops[0], loops[1], loops[2]}, target.size[3], comb.advance, comb.step,
                     comb.taps, last, spare});
    } else {
      kernels_.spread({source + reach * source_bytes, target.data, {loops[0], loops[1], loops[2]}, tile.spread_count, comb.taps,
                       comb.advance});
      target.data += skip * kernels_.lane_bytes;
    }
  }
  if (comb_follows) target.data = written;
  block = target;
  if (comb_follows) fill_margins(block, tile);
  if (codes_ != nullptr && mode == Mode::Comb) repair_codes(block, tile);
  turn ^= 1;
}

void Reduction::fill_margins(const Block& block, const Tile& tile) const {
  const int64_t right = tile.comb_length - block.margin - block.size[3];
  if (block.margin == 0 && right == 0) return;
  for (int64_t i = 0; i < block.size[0]; ++i) {
    for (int64_t j = 0; j < block.size[1]; ++j) {
      for (int64_t k = 0; k < block.size[2]; ++k) {
        char* const row = block.data + (i * block.strides.of[0] + j * block.strides.of[1] + k * block.strides.of[2])
                                           * kernels_.lane_bytes;
        if (block.margin > 0) kernels_.fill(row - block.margin * kernels_.lane_bytes, block.margin);
        if (right > 0) kernels_.fill(row + block.size[3] * kernels_.lane_bytes, right);
      }
    }
  }
}

// In a comb the identity before the row stands for taps outside the input; where nothing beat it, all real taps equal it, and
// the first of those is the one that counts. Only windows that begin before the row are concerned.
void Reduction::repair_codes(const Block& block, const Tile& tile) const {
  for (int64_t o = tile.result[3].begin; o < tile.result[3].end && views_[2].axis.origin_of(o) < 0; ++o) {
    const Span span = views_[2].span_of(o);
    if (span.count == 0) continue;
    for (int64_t i = 0; i < block.size[0]; ++i) {
      for (int64_t j = 0; j < block.size[1]; ++j) {
        for (int64_t k = 0; k < block.size[2]; ++k) {
          char* const at = block.code + (i * block.strides.of[0] + j * block.strides.of[1] + k * block.strides.of[2] + o
                                         - tile.result[3].begin) * kernels_.lane_bytes;
          auto raise = [&](auto* code) {
            if (*code < span.tap) *code = static_cast<std::remove_pointer_t<decltype(code)>>(span.tap);
          };
          switch (kernels_.lane_bytes) {
            case 2: raise(reinterpret_cast<int16_t*>(at)); break;
            case 4: raise(reinterpret_cast<int32_t*>(at)); break;
            default: raise(reinterpret_cast<int64_t*>(at)); break;
          }
        }
      }
    }
  }
}

// The divisors of a box of outputs, as lanes [depth, height, width]; null where one divisor serves all.
const void* Reduction::divisors(const Range (&ranges)[dimensions], Scratch& scratch, double& uniform) const {
  if (uniform_) {
    uniform = problem_.one_divisor();
    return nullptr;
  }
  uniform = 1;
  bool same = true;
  for (int axis = 0; axis < 3; ++axis) {
    const Range range = ranges[axis + 1];
    std::vector<int64_t>& counts = scratch.counts[axis];
    counts.clear();
    for (int64_t o = range.begin; o < range.end; ++o) counts.push_back(std::max<int64_t>(1, counts_[axis].at(o)));
    if (counts.empty()) return nullptr;
    same = same && std::all_of(counts.begin(), counts.end(), [&](int64_t count) { return count == counts[0]; });
    uniform *= static_cast<double>(counts[0]);
  }
  if (same) return nullptr;
  const int64_t total = ranges[1].size() * ranges[2].size() * ranges[3].size();
  char* const out = scratch.divisors.reserve(total * kernels_.lane_bytes);
  auto fill = [&](auto* lanes) {
    using Lane = std::remove_pointer_t<decltype(lanes)>;
    for (const int64_t d : scratch.counts[0]) {
      for (const int64_t h : scratch.counts[1]) {
        for (const int64_t w : scratch.counts[2]) *lanes++ = static_cast<Lane>(d * h * w);
      }
    }
  };
  if (problem_.dtype == DType::Int64) {
    fill(reinterpret_cast<int64_t*>(out));
  } else if (kernels_.lane_bytes == 4) {
    fill(reinterpret_cast<float*>(out));
  } else {
    fill(reinterpret_cast<double*>(out));
  }
  return out;
}

// Where the divisors of a block's elements lie in what `divisors` gives.
Strides Reduction::divisor_strides(const Block& block) {
  int64_t size[dimensions];
  std::copy_n(block.size, dimensions, size);
  size[4] = 1;
  Strides strides = packed_strides(size);
  strides.of[0] = 0;
  if (block.size[4] > 1) strides.of[4] = 0;
  return strides;
}

void Reduction::store_codes(const Tile& tile, const Block& block) const {
  const int type = static_cast<int>(operands_.offset_type);
  const int64_t offset = result_offset(tile);
  for_nest(block.size, block.strides, result_strides_, nullptr, -1,
           [&](const Loop(&loops)[3], const int64_t(&)[3], int64_t inner, int64_t s, int64_t t, int64_t) {
             codes_->store[type]({block.code + s * kernels_.lane_bytes, static_cast<char*>(operands_.offsets) + (offset + t) * offset_bytes[type],
                                  {loops[0], loops[1], loops[2]}, inner, nullptr, {0, 0, 0}, 1});
           });
}

int64_t Reduction::result_offset(const Tile& tile) const {
  int64_t offset = 0;
  for (int d = 0; d < dimensions; ++d) offset += tile.result[d].begin * result_strides_.of[d];
  return offset;
}

// Whether a last pass may skip finish: its lanes are the result's elements, and one divisor serves all.
bool Reduction::writes_result(Mode mode) const {
  return kernels_.lanes_are_storage && codes_ == nullptr && (uniform_ || divide_first_) && mode != Mode::Spread;
}

Final Reduction::final_of(const Tile& tile) const {
  Final last;
  if (!divide_first_) last.divisor = problem_.one_divisor();
  // A tile whose rows follow one another may overrun from row to row; any other ends every row exactly.
  const char* const begin = static_cast<const char*>(operands_.output) + result_offset(tile) * element_bytes_;
  int64_t elements = 1;
  bool contiguous = true;
  for (int d = dimensions - 1; d >= 0; --d) {
    if (tile.result[d].size() != 1) contiguous &= elements == result_strides_.of[d];
    elements *= tile.result[d].size();
  }
  last.stores = stores_;
  last.limit = contiguous ? begin + elements * element_bytes_ : begin;
  return last;
}

void Reduction::finish(const Tile& tile, const Block& block, Scratch& scratch) const {
  if (block.result) return;
  const int64_t offset = result_offset(tile);
  double uniform = 1;
  const void* divisor = nullptr;
  if (average_ && !divide_first_) {
    divisor = divisors(tile.result, scratch, uniform);
  }
  const Strides third = divisor_strides(block);
  char* const output = static_cast<char*>(operands_.output) + offset * element_bytes_;
  for_nest(block.size, block.strides, result_strides_, divisor == nullptr ? nullptr : &third, -1,
           [&](const Loop(&loops)[3], const int64_t(&third_loops)[3], int64_t inner, int64_t s, int64_t t, int64_t at) {
             ConvertArgs args{block.data + s * kernels_.lane_bytes, output + t * element_bytes_,
                              {loops[0], loops[1], loops[2]}, inner,
                              divisor == nullptr ? nullptr : static_cast<const char*>(divisor) + at * kernels_.lane_bytes,
                              {third_loops[0], third_loops[1], third_loops[2]}, uniform, stores_, block.size[4] > 1};
             kernels_.finish(args);
           });
  if (codes_ != nullptr) store_codes(tile, block);
}

}  // namespace torch_pooling::cpu
