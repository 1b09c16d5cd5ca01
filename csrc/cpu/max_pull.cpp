// The pulling way of max_backward.h. A tile is a box of grad_input: whole planes where they are small, else rows of one plane, of
// some channels in channels-last. Gradients and codes are read in place, unless their rows need margins or another type.
// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cstring>

#include "cpu/first_touch.h"
#include "cpu/isa.h"
#include "cpu/max_backward.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t tile_elements = 8192;
constexpr int64_t listed_positions = 1 << 14;

}  // namespace

MaxPull::MaxPull(const Problem& problem, MaxWay way, const PullKernels& pull, const CodeKernels& codes, int64_t element_bytes,
                 const MaxGradients& gradients)
    : problem_(problem), pixels_(way == MaxWay::PullPixels), pull_(pull), codes_(codes), element_bytes_(element_bytes),
      gradients_(gradients) {
  const bool first = problem.layout == Layout::ChannelsFirst;
  input_size_[0] = output_size_[0] = first ? problem.batch * problem.channels : problem.batch;
  input_size_[4] = output_size_[4] = first ? 1 : problem.channels;
  open_rows_ = !pixels_;
  for (int axis = 0; axis < 3; ++axis) {
    const Axis& one = problem.axes[axis];
    input_size_[axis + 1] = one.input;
    output_size_[axis + 1] = one.output;
    if ((axis < 2 || pixels_) && one.input <= listed_positions) reads_[axis].list(one, {0, one.input});
    open_rows_ = open_rows_ && one.never_empty();
  }
  open_rows_ = open_rows_ && problem.axes[2].input <= problem.axes[2].output * problem.axes[2].comb().advance;
  input_strides_ = packed_strides(input_size_);
  output_strides_ = packed_strides(output_size_);
  work_ = problem.input_elements() + problem.output_elements();
  byte_codes_ = gradients.offset_type == OffsetType::UInt8 && problem.window_elements() < 256;  // 255 marks margins
  stores_ = past_where(stores_for(work_ * element_bytes, gradients.grad_input, problem.input_elements() * element_bytes),
                       first || input_size_[4] * element_bytes % widest_vector == 0);
  together_ = stores_past_caches(problem.input_elements() * element_bytes * 5 / 4);
  choose_tiles();
}

void MaxPull::choose_tiles() {
  // Rows that are read where they lie need no cache: whole planes, whose lists of rows serve the next ones, too.
  const int64_t budget = std::clamp<int64_t>(work_ / 32, tile_elements, (open_rows_ || pixels_) && byte_codes_ ? 8 * tile_elements : tile_elements);
  int64_t* const tile = tile_size_;
  for (int d = 0; d < dimensions; ++d) tile[d] = 1;
  tile[4] = std::clamp<int64_t>(input_size_[4], 1, 512);
  auto per_input = [&](int d) {  // lanes of outputs kept for one input, at least that input's own
    return std::max<int64_t>(1, output_size_[d] / std::max<int64_t>(1, input_size_[d]));
  };
  tile[3] = std::clamp<int64_t>(2 * tile_elements / (tile[4] * per_input(3)), 1, std::max<int64_t>(1, input_size_[3]));
  if (tile[3] * 4 > input_size_[3] * 3) tile[3] = std::max<int64_t>(1, input_size_[3]);
  int64_t elements = tile[3] * tile[4] * per_input(3);
  for (int d = 2; d >= 1; --d) {
    tile[d] = std::clamp<int64_t>(budget / (elements * per_input(d)), 1, std::max<int64_t>(1, input_size_[d]));
    if (tile[d] < input_size_[d]) {  // of one length, and beginning where windows do, so that one list of rows serves most of them
      const int64_t tiles = ceil_div(input_size_[d], tile[d]), stride = problem_.axes[d - 1].stride;
      tile[d] = std::min(ceil_div(ceil_div(input_size_[d], tiles), stride) * stride, input_size_[d]);
      break;
    }
    elements *= tile[d] * per_input(d);
  }
  if (tile[1] >= input_size_[1] && tile[2] >= input_size_[2] && tile[3] >= input_size_[3] && tile[4] >= input_size_[4]) {
    tile[0] = std::clamp<int64_t>(budget / elements, 1, std::max<int64_t>(1, input_size_[0]));
  }
}

int64_t MaxPull::tiles() const { return count_tiles(input_size_, tile_size_); }

void MaxPull::run(int64_t begin, int64_t end) const {
  Scratch& scratch = thread_scratch();
  Tile tile, last;
  for (int64_t index = begin; index < end; ++index) {
    tile_box(index, input_size_, tile_size_, tile.input);
    tile.output[0] = tile.input[0], tile.output[4] = tile.input[4];
    const bool moved = index == begin || !std::equal(tile.input + 1, tile.input + 4, last.input + 1);
    if (moved) locate_outputs(tile);
    stage_codes(tile, scratch);
    stage_grads(tile, scratch);
    const bool alike = index != begin && reads_alike(0, tile, last) && reads_alike(1, tile, last);
    if (!alike || tile.grad_row != last.grad_row || tile.grad_depth != last.grad_depth || tile.code_row != last.code_row
        || tile.code_depth != last.code_depth) {
      list_rows(tile, scratch, moved);
    }
    pull_tile(tile, scratch, moved);
    last = tile;
  }
  scratch.trim();
}

void MaxPull::locate_outputs(Tile& tile) const {
  for (int axis = 0; axis < 3; ++axis) tile.output[axis + 1] = problem_.axes[axis].outputs_near(tile.input[axis + 1]);
  tile.margin = tile.reach = 0;
  tile.length = tile.output[3].size();
  if (pixels_) return;
  const Comb comb = problem_.axes[2].comb();
  const int64_t shift = -comb.first;
  tile.reach = ceil_div<int64_t>(comb.taps, comb.advance) - 1;
  tile.first_q = (tile.input[3].begin + shift) / comb.advance;
  tile.count_q = (tile.input[3].end - 1 + shift) / comb.advance + 1 - tile.first_q;
  tile.skip = tile.input[3].begin + shift - tile.first_q * comb.advance;
  tile.output[3].begin = std::clamp<int64_t>(tile.first_q - tile.reach, 0, output_size_[3]);
  tile.output[3].end = std::clamp<int64_t>(tile.first_q + tile.count_q, tile.output[3].begin, output_size_[3]);
  tile.margin = tile.output[3].begin - (tile.first_q - tile.reach);
  tile.length = tile.count_q + tile.reach;
}

const AxisReads& MaxPull::reads_of(int axis, const Tile& tile, Scratch& scratch, bool moved) const {
  if (!reads_[axis].index.empty()) return reads_[axis];
  if (moved) scratch.axis_reads[axis].list(problem_.axes[axis], tile.input[axis + 1]);
  return scratch.axis_reads[axis];
}

// Whether the tile's positions along an axis are read as the last one's were, seen from where each begins.
bool MaxPull::reads_alike(int axis, const Tile& tile, const Tile& last) const {
  const Range &here = tile.input[axis + 1], &there = last.input[axis + 1];
  if (here == there) return true;
  const AxisReads& reads = reads_[axis];
  if (reads.index.empty() || here.size() != there.size()) return false;
  const int64_t* const one = reads.index.data() + here.begin;
  const int64_t* const other = reads.index.data() + there.begin;
  for (int64_t i = 1; i <= here.size(); ++i) {
    if (one[i] - one[0] != other[i] - other[0]) return false;
  }
  for (int64_t e = 0; e < one[here.size()] - one[0]; ++e) {
    const PullEntry& entry = reads.entries[static_cast<size_t>(one[0] + e)];
    const PullEntry& before = reads.entries[static_cast<size_t>(other[0] + e)];
    const bool same = entry.output - tile.output[axis + 1].begin == before.output - last.output[axis + 1].begin;
    if (!same || entry.tap != before.tap) return false;
  }
  return true;
}

// Whether the margins of the tile's rows reach beyond the tensor.
bool MaxPull::reaches_outside(const Tile& tile) const {
  const int64_t offset = offset_of(output_strides_, tile.output);
  int64_t last = offset, total = 1;
  for (int d = 0; d < dimensions; ++d) {
    last += std::max<int64_t>(tile.output[d].size() - 1, 0) * output_strides_.of[d];
    total *= output_size_[d];
  }
  const int64_t right = tile.length - tile.margin - tile.output[3].size();
  return offset < tile.margin * output_strides_.of[3] || last + right * output_strides_.of[3] >= total;
}

// Rows [planes, depth, height, margin + width + margin, channels] of outputs in scratch memory; answers their strides, in
// elements. copy(source element, staged element, loops, inner) fills one nest of rows.
template <class Copy>
Strides MaxPull::stage_rows(const Tile& tile, Buffer& buffer, int64_t bytes, bool fill, char*& staged, const Copy& copy) const {
  int64_t size[dimensions], padded[dimensions], total = 1;
  for (int d = 0; d < dimensions; ++d) size[d] = padded[d] = tile.output[d].size();
  padded[3] = tile.length;
  for (int64_t n : padded) total *= n;
  const Strides target = packed_strides(padded);
  staged = buffer.reserve(total * bytes);
  if (fill) std::memset(staged, 0xff, static_cast<size_t>(total * bytes));
  for_nest(size, output_strides_, target, nullptr, -1,
           [&](const Loop(&loops)[3], const int64_t(&)[3], int64_t inner, int64_t s, int64_t t, int64_t) {
             copy(s, t + tile.margin * target.of[3], loops, inner);
           });
  return target;
}

// Codes in place where they need neither margins nor another type.
void MaxPull::stage_codes(Tile& tile, Scratch& scratch) const {
  const int type = static_cast<int>(gradients_.offset_type);
  const int64_t offset = offset_of(output_strides_, tile.output);
  const char* const source = static_cast<const char*>(gradients_.offsets) + offset * offset_bytes[type];
  const bool margins = tile.length != tile.output[3].size() && (!open_rows_ || !byte_codes_ || reaches_outside(tile));
  const int64_t bytes = byte_codes_ ? 1 : pull_.lane_bytes;
  Strides strides = output_strides_;
  char* staged = nullptr;
  if (byte_codes_ && !margins) {
    tile.code = source - tile.margin * strides.of[3];
  } else {  // filled with a code that no tap has
    strides = stage_rows(tile, scratch.codes[0], bytes, margins, staged,
                         [&](int64_t from, int64_t to, const Loop(&loops)[3], int64_t inner) {
                           const ConvertArgs args{source + from * offset_bytes[type], staged + to * bytes,
                                                  {loops[0], loops[1], loops[2]}, inner, nullptr, {0, 0, 0}, 1};
                           byte_codes_ ? codes_.copy_bytes(args) : codes_.load[type](args);
                         });
    tile.code = staged;
  }
  tile.code += tile.reach * bytes;
  tile.code_pixel = strides.of[3];
  tile.code_row = strides.of[2] * bytes, tile.code_depth = strides.of[1] * bytes, tile.code_plane = strides.of[0] * bytes;
}

// Gradients in place, unless the margins of their rows reach beyond the tensor: what lies there is read, and ignored.
void MaxPull::stage_grads(Tile& tile, Scratch& scratch) const {
  const int64_t bytes = element_bytes_;
  const char* const source = static_cast<const char*>(gradients_.grad_output) + offset_of(output_strides_, tile.output) * bytes;
  Strides strides = output_strides_;
  char* staged = nullptr;
  if (!reaches_outside(tile)) {
    tile.grad = source - tile.margin * strides.of[3] * bytes;
  } else {
    strides = stage_rows(tile, scratch.values[0], bytes, false, staged,
                         [&](int64_t from, int64_t to, const Loop(&loops)[3], int64_t inner) {
                           ConvertArgs args{source + from * bytes, staged + to * bytes, {}, inner * bytes, nullptr, {0, 0, 0}, 1};
                           for (int i = 0; i < 3; ++i) {
                             args.loops[i] = {loops[i].count, loops[i].source * bytes, loops[i].target * bytes};
                           }
                           codes_.copy_bytes(args);
                         });
    tile.grad = staged;
  }
  tile.grad += tile.reach * strides.of[3] * bytes;
  tile.grad_pixel = strides.of[3];
  tile.grad_row = strides.of[2] * bytes, tile.grad_depth = strides.of[1] * bytes, tile.grad_plane = strides.of[0] * bytes;
}

// Rows of the tile that feed each (depth, height) of it, from its first element.
void MaxPull::list_rows(const Tile& tile, Scratch& scratch, bool moved) const {
  const AxisReads& depth = reads_of(0, tile, scratch, moved);
  const AxisReads& height = reads_of(1, tile, scratch, moved);
  const int64_t taps_h = problem_.axes[1].max_taps(), taps_w = problem_.axes[2].max_taps();
  std::vector<PullRow>& reads = scratch.reads;
  std::vector<int64_t>& first = scratch.firsts;
  reads.clear();
  first.assign(1, 0);
  auto for_entries = [](const AxisReads& list, int64_t position, auto body) {
    const int64_t* const at = list.index.data() + (position - list.first);
    for (int64_t e = at[0]; e < at[1]; ++e) body(list.entries[static_cast<size_t>(e)]);
  };
  for (int64_t id = tile.input[1].begin; id < tile.input[1].end; ++id) {
    for (int64_t ih = tile.input[2].begin; ih < tile.input[2].end; ++ih) {
      for_entries(height, ih, [&](const PullEntry& h) {  // in the order of MaxPermuted
        for_entries(depth, id, [&](const PullEntry& d) {
          const int64_t at_d = d.output - tile.output[1].begin, at_h = h.output - tile.output[2].begin;
          reads.push_back({at_d * tile.grad_depth + at_h * tile.grad_row, at_d * tile.code_depth + at_h * tile.code_row,
                           (d.tap * taps_h + h.tap) * taps_w});
        });
      });
      first.push_back(static_cast<int64_t>(reads.size()));
    }
  }
}

void MaxPull::pull_tile(const Tile& tile, Scratch& scratch, bool moved) const {
  const int kind = byte_codes_ ? 0 : 1;
  char* const target = static_cast<char*>(gradients_.grad_input) + offset_of(input_strides_, tile.input) * element_bytes_;
  PullRows rows{scratch.reads.data(), scratch.firsts.data(), tile.input[0].size(), tile.input[1].size(), tile.input[2].size(),
                      tile.grad, tile.code, tile.grad_plane, tile.code_plane, target, input_strides_.of[0], input_strides_.of[1], input_strides_.of[2]};
  if (pixels_) {
    const AxisReads& width = reads_of(2, tile, scratch, moved);
    const int64_t before = tile.output[3].begin;  // entries count from the row's first output
    rows.grads = tile.grad - before * tile.grad_pixel * element_bytes_;
    rows.codes = tile.code - before * tile.code_pixel * (byte_codes_ ? 1 : pull_.lane_bytes);
    pull_.pixels[kind]({rows, width.entries.data(), width.index.data() + (tile.input[3].begin - width.first), tile.input[3].size(),
                        tile.input[4].size(), tile.grad_pixel, tile.code_pixel, input_strides_.of[3], stores_});
    return;
  }
  const Comb comb = problem_.axes[2].comb();
  char* const spare = comb.advance > 1 ? scratch.row.reserve(tile.count_q * comb.advance * pull_.lane_bytes) : nullptr;
  pull_.lanes[kind]({rows, tile.count_q, comb.taps, comb.advance, tile.skip, tile.input[3].size(), spare, stores_,
                     together_ ? staging(scratch.values[1], tile.input[3].size() * element_bytes_) : Staging{nullptr, 0}});
}

}  // namespace torch_pooling::cpu
