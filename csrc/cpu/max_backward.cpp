// See max_backward.h. A tile is a box of grad_input: whole planes where they are small, else rows of one plane, of some channels
// in channels-last. Gradients are read and written in place; only codes are staged, where rows of them need margins.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/max_backward.h"

#include <algorithm>
#include <cstring>

namespace torch_pooling::cpu {
namespace {

constexpr int64_t pull_tile_elements = 4096;
constexpr int64_t scatter_tile_elements = 1 << 15;
constexpr int64_t largest_pull = 36;  // outputs that may read one input; beyond it a scatter costs less
constexpr int64_t offset_bytes[] = {1, 2, 4, 8};

// How many outputs can read one position of an axis.
int64_t overlap_of(const Axis& axis) {
  if (axis.adaptive) return axis.max_taps();
  const Comb comb = axis.comb();
  return ceil_div<int64_t>(comb.taps, comb.advance);
}

}  // namespace

MaxBackward::MaxBackward(const Problem& problem, const ReduceKernels& sums, const PullKernels& pull, const CodeKernels& codes,
                         int64_t element_bytes, const MaxGradients& gradients)
    : problem_(problem), sums_(sums), pull_(pull), codes_(codes), element_bytes_(element_bytes), gradients_(gradients) {
  const bool first = problem.layout == Layout::ChannelsFirst;
  input_size_[0] = output_size_[0] = first ? problem.batch * problem.channels : problem.batch;
  input_size_[4] = output_size_[4] = first ? 1 : problem.channels;
  for (int axis = 0; axis < 3; ++axis) {
    input_size_[axis + 1] = problem.axes[axis].input;
    output_size_[axis + 1] = problem.axes[axis].output;
  }
  input_strides_ = packed_strides(input_size_);
  output_strides_ = packed_strides(output_size_);
  work_ = problem.input_elements() + problem.output_elements();
  choose_mode();
  byte_codes_ = gradients.offset_type == OffsetType::UInt8 && problem.window_elements() < 256;  // 255 marks margins
  if (mode_ != Mode::Scatter) {
    spans_[0] = SpanTable({problem.axes[0], true}, problem.axes[0].input);
    spans_[1] = SpanTable({problem.axes[1], true}, problem.axes[1].input);
    if (mode_ == Mode::PullPixels) spans_[2] = SpanTable({problem.axes[2], true}, problem.axes[2].input);
  }
  choose_tiles();
}

void MaxBackward::choose_mode() {
  int64_t overlap = 1;
  for (const Axis& axis : problem_.axes) overlaps_ |= axis.overlaps();
  for (const Axis& axis : problem_.axes) {
    overlap = std::min<int64_t>(overlap * overlap_of(axis), int64_t{1} << 40);
    if (axis.adaptive) return;
  }
  // A scatter fills with zeros and visits each output once; a pull visits the outputs of each input.
  const bool large_and_apart = overlap == 1 && problem_.window_elements() > 12;
  if (overlap > largest_pull || large_and_apart) return;
  const Comb comb = problem_.axes[2].comb();
  if (input_size_[4] > 1) {
    mode_ = Mode::PullPixels;
  } else if (comb.step == 1 && comb.advance <= 4) {
    mode_ = Mode::PullLanes;
  }
}

void MaxBackward::choose_tiles() {
  const int64_t most = mode_ == Mode::Scatter ? scatter_tile_elements : pull_tile_elements;
  const int64_t budget = std::clamp<int64_t>(work_ / 32, 512, most);
  int64_t* const tile = tile_size_;
  for (int d = 0; d < dimensions; ++d) tile[d] = 1;
  tile[4] = std::clamp<int64_t>(input_size_[4], 1, 512);
  if (mode_ == Mode::Scatter && input_size_[4] > 1) {  // whole planes of some channels, rather than all channels of a part
    const int64_t plane = std::max<int64_t>(1, input_size_[1] * input_size_[2] * input_size_[3]);
    tile[4] = std::clamp<int64_t>(budget / plane / 16 * 16, std::min<int64_t>(16, input_size_[4]), tile[4]);
  }
  auto per_input = [&](int d) {  // lanes of outputs kept for one input, at least that input's own
    return std::max<int64_t>(1, output_size_[d] / std::max<int64_t>(1, input_size_[d]));
  };
  const int64_t wide = mode_ == Mode::Scatter ? most : 2 * pull_tile_elements;
  tile[3] = std::clamp<int64_t>(wide / (tile[4] * per_input(3)), 1, std::max<int64_t>(1, input_size_[3]));
  if (tile[3] * 4 > input_size_[3] * 3) tile[3] = std::max<int64_t>(1, input_size_[3]);
  int64_t elements = tile[3] * tile[4] * per_input(3);
  for (int d = 2; d >= 1; --d) {
    // A scatter visits every output that could reach the tile: make tiles long against their reach.
    int64_t length = budget / (elements * per_input(d));
    if (mode_ == Mode::Scatter) {
      const Axis& axis = problem_.axes[d - 1];
      length = std::max(length, std::min<int64_t>(2 * axis.max_taps(), int64_t{1 << 18} / elements));
    }
    tile[d] = std::clamp<int64_t>(length, 1, std::max<int64_t>(1, input_size_[d]));
    if (tile[d] < input_size_[d]) break;
    elements *= tile[d] * per_input(d);
  }
  if (tile[1] >= input_size_[1] && tile[2] >= input_size_[2] && tile[3] >= input_size_[3] && tile[4] >= input_size_[4]) {
    tile[0] = std::clamp<int64_t>(budget / elements, 1, std::max<int64_t>(1, input_size_[0]));
  }
  whole_planes_ = tile[1] >= input_size_[1] && tile[2] >= input_size_[2] && tile[3] >= input_size_[3];
  for (const Axis& axis : problem_.axes) whole_planes_ &= axis.stays_inside();
  for (int d = 0; d < dimensions; ++d) tile_count_[d] = ceil_div<int64_t>(input_size_[d], tile[d]);
}

int64_t MaxBackward::tiles() const {
  int64_t count = 1;
  for (int d = 0; d < dimensions; ++d) count *= tile_count_[d];
  return count;
}

void MaxBackward::run(int64_t begin, int64_t end) const {
  Scratch& scratch = thread_scratch();
  if (mode_ == Mode::Scatter) list_taps(scratch);
  Tile tile, last;
  for (int64_t index = begin; index < end; ++index) {
    int64_t rest = index;
    for (int d = dimensions - 1; d >= 0; --d) {
      const int64_t at = rest % tile_count_[d];
      rest /= tile_count_[d];
      tile.input[d] = {at * tile_size_[d], std::min((at + 1) * tile_size_[d], input_size_[d])};
    }
    tile.output[0] = tile.input[0], tile.output[4] = tile.input[4];
    if (index == begin || !std::equal(tile.input + 1, tile.input + 4, last.input + 1)) {
      locate_outputs(tile);
      if (mode_ == Mode::PullPixels) list_pixels(tile, scratch);
    }
    if (mode_ == Mode::Scatter) {
      scatter_tile(tile, scratch);
    } else {
      stage_codes(tile, scratch);
      stage_grads(tile, scratch);
      pull_rows(tile, scratch);
    }
    last = tile;
  }
  scratch.trim();
}

void MaxBackward::locate_outputs(Tile& tile) const {
  for (int axis = 0; axis < 3; ++axis) tile.output[axis + 1] = problem_.axes[axis].outputs_near(tile.input[axis + 1]);
  tile.margin = tile.reach = 0;
  tile.length = tile.output[3].size();
  if (mode_ != Mode::PullLanes) return;
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

// For every position of the width, the outputs that read it and by which tap.
void MaxBackward::list_pixels(const Tile& tile, Scratch& scratch) const {
  const Axis& width = problem_.axes[2];
  scratch.entries.clear();
  scratch.index.assign(1, 0);
  for (int64_t i = tile.input[3].begin; i < tile.input[3].end; ++i) {
    const Span span = spans_[2].at(i);
    for (int64_t n = 0, o = span.first; n < span.count; ++n, o += span.step) {
      scratch.entries.push_back({o - tile.output[3].begin, width.tap_of(o, i)});
    }
    scratch.index.push_back(static_cast<int64_t>(scratch.entries.size()));
  }
}

// Codes in rows [planes, depth, height, margin + width + margin, channels]; in place where they need neither margins nor
// another type.
void MaxBackward::stage_codes(Tile& tile, Scratch& scratch) const {
  const int type = static_cast<int>(gradients_.offset_type);
  const int64_t offset = offset_of(output_strides_, tile.output);
  const char* const source = static_cast<const char*>(gradients_.offsets) + offset * offset_bytes[type];
  const bool margins = tile.length != tile.output[3].size();
  const int64_t bytes = byte_codes_ ? 1 : pull_.lane_bytes;
  if (byte_codes_ && !margins) {
    tile.code = source;
    tile.code_pixel = output_strides_.of[3];
    tile.code_row = output_strides_.of[2];
    tile.code_depth = output_strides_.of[1];
    tile.code_plane = output_strides_.of[0];
  } else {
    int64_t size[dimensions], padded[dimensions], total = 1;
    for (int d = 0; d < dimensions; ++d) size[d] = padded[d] = tile.output[d].size();
    padded[3] = tile.length;
    for (int64_t n : padded) total *= n;
    const Strides target = packed_strides(padded);
    char* const staged = scratch.codes[0].reserve(total * bytes);
    if (margins) std::memset(staged, 0xff, static_cast<size_t>(total * bytes));  // no tap has this code
    char* const first = staged + tile.margin * target.of[3] * bytes;
    for_nest(size, output_strides_, target, nullptr, -1,
             [&](const Loop(&loops)[3], const int64_t(&)[3], int64_t inner, int64_t s, int64_t t, int64_t) {
               ConvertArgs args{source + s * offset_bytes[type], first + t * bytes, {loops[0], loops[1], loops[2]}, inner,
                                nullptr, {0, 0, 0}, 1};
               byte_codes_ ? codes_.copy_bytes(args) : codes_.load[type](args);
             });
    tile.code = staged;
    tile.code_pixel = target.of[3];
    tile.code_row = target.of[2] * bytes;
    tile.code_depth = target.of[1] * bytes;
    tile.code_plane = target.of[0] * bytes;
  }
  tile.code += tile.reach * bytes;
}

// Gradients in place, unless the margins of their rows reach beyond the tensor: what lies there is read, and ignored.
void MaxBackward::stage_grads(Tile& tile, Scratch& scratch) const {
  const int64_t offset = offset_of(output_strides_, tile.output);
  int64_t last = offset, total = 1;
  for (int d = 0; d < dimensions; ++d) {
    last += std::max<int64_t>(tile.output[d].size() - 1, 0) * output_strides_.of[d];
    total *= output_size_[d];
  }
  const int64_t right = (tile.length - tile.margin - tile.output[3].size()) * output_strides_.of[3];
  const char* const source = static_cast<const char*>(gradients_.grad_output) + offset * element_bytes_;
  if (offset >= tile.margin * output_strides_.of[3] && last + right < total) {
    tile.grad = source + (tile.reach - tile.margin) * output_strides_.of[3] * element_bytes_;
    tile.grad_pixel = output_strides_.of[3];
    tile.grad_row = output_strides_.of[2] * element_bytes_;
    tile.grad_depth = output_strides_.of[1] * element_bytes_;
    tile.grad_plane = output_strides_.of[0] * element_bytes_;
    return;
  }
  int64_t size[dimensions], padded[dimensions], elements = 1;
  for (int d = 0; d < dimensions; ++d) size[d] = padded[d] = tile.output[d].size();
  padded[3] = tile.length;
  for (int64_t n : padded) elements *= n;
  const Strides target = packed_strides(padded);
  char* const staged = scratch.values[0].reserve(elements * element_bytes_);
  char* const first = staged + tile.margin * target.of[3] * element_bytes_;
  for_nest(size, output_strides_, target, nullptr, -1,
           [&](const Loop(&loops)[3], const int64_t(&)[3], int64_t inner, int64_t s, int64_t t, int64_t) {
             codes_.copy_bytes({source + s * element_bytes_, first + t * element_bytes_,
                                {{loops[0].count, loops[0].source * element_bytes_, loops[0].target * element_bytes_},
                                 {loops[1].count, loops[1].source * element_bytes_, loops[1].target * element_bytes_},
                                 {loops[2].count, loops[2].source * element_bytes_, loops[2].target * element_bytes_}},
                                inner * element_bytes_, nullptr, {0, 0, 0}, 1});
           });
  tile.grad = staged + tile.reach * target.of[3] * element_bytes_;
  tile.grad_pixel = target.of[3];
  tile.grad_row = target.of[2] * element_bytes_;
  tile.grad_depth = target.of[1] * element_bytes_;
  tile.grad_plane = target.of[0] * element_bytes_;
}

void MaxBackward::pull_rows(const Tile& tile, Scratch& scratch) const {
  const Axis& depth = problem_.axes[0];
  const Axis& height = problem_.axes[1];
  const Axis& width = problem_.axes[2];
  const Comb comb = width.comb();
  const bool pixels = mode_ == Mode::PullPixels;
  const int kind = byte_codes_ ? 0 : 1;
  char* const spare = !pixels && comb.advance > 1
                          ? scratch.row.reserve(tile.count_q * comb.advance * pull_.lane_bytes) : nullptr;
  char* const target = static_cast<char*>(gradients_.grad_input) + offset_of(input_strides_, tile.input) * element_bytes_;
  // Rows of the tile that feed each (depth, height) of it, once for all its planes.
  std::vector<PullRow>& reads = scratch.reads;
  std::vector<int64_t>& first = scratch.firsts;
  reads.clear();
  first.assign(1, 0);
  for (int64_t id = tile.input[1].begin; id < tile.input[1].end; ++id) {
    const Span planes = spans_[0].at(id);
    for (int64_t ih = tile.input[2].begin; ih < tile.input[2].end; ++ih) {
      const Span lines = spans_[1].at(ih);
      for (int64_t a = 0, od = planes.first; a < planes.count; ++a, od += planes.step) {
        const int64_t tap_d = planes.count == 1 ? planes.tap : depth.tap_of(od, id);
        for (int64_t b = 0, oh = lines.first; b < lines.count; ++b, oh += lines.step) {
          const int64_t tap_h = lines.count == 1 ? lines.tap : height.tap_of(oh, ih);
          const int64_t at_d = od - tile.output[1].begin, at_h = oh - tile.output[2].begin;
          reads.push_back({tile.grad + at_d * tile.grad_depth + at_h * tile.grad_row,
                           tile.code + at_d * tile.code_depth + at_h * tile.code_row,
                           (tap_d * height.max_taps() + tap_h) * width.max_taps()});
        }
      }
      first.push_back(static_cast<int64_t>(reads.size()));
    }
  }
  PullPixelsArgs by_pixel{nullptr, 0, scratch.entries.data(), scratch.index.data(), tile.input[3].size(), tile.input[4].size(),
                          tile.grad_pixel, tile.code_pixel, input_strides_.of[3], nullptr};
  PullLanesArgs by_lane{nullptr, 0, tile.count_q, comb.taps, comb.advance, tile.skip, tile.input[3].size(), nullptr, spare};
  for (int64_t plane = 0; plane < tile.input[0].size(); ++plane) {
    if (plane > 0) {
      for (PullRow& row : reads) {
        row.grad = static_cast<const char*>(row.grad) + tile.grad_plane;
        row.code = static_cast<const char*>(row.code) + tile.code_plane;
      }
    }
    int64_t at = 0;
    for (int64_t d = 0; d < tile.input[1].size(); ++d) {
      for (int64_t h = 0; h < tile.input[2].size(); ++h, ++at) {
        const PullRow* const rows = reads.data() + first[static_cast<size_t>(at)];
        const int64_t count = first[static_cast<size_t>(at) + 1] - first[static_cast<size_t>(at)];
        char* const row = target + (plane * input_strides_.of[0] + d * input_strides_.of[1] + h * input_strides_.of[2]) * element_bytes_;
        if (pixels) {
          by_pixel.rows = rows, by_pixel.row_count = count, by_pixel.target = row;
          pull_.pixels[kind](by_pixel);
        } else {
          by_lane.rows = rows, by_lane.row_count = count, by_lane.target = row;
          pull_.lanes[kind](by_lane);
        }
      }
    }
  }
}

}  // namespace torch_pooling::cpu
