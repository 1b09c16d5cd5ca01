// See max_backward.h. A tile is a box of grad_input: whole planes where they are small, else rows of one plane, of some channels
// in channels-last. Gradients are read and written in place; only codes are staged, where rows of them need margins.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/max_backward.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "core/half.h"

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

float lane_of(float value) { return value; }
double lane_of(double value) { return value; }
float lane_of(BFloat16Bits value) { return to_float(value); }
float lane_of(HalfBits value) { return to_float(value); }

int64_t offset_of(const Strides& strides, const Range (&box)[dimensions]) {
  int64_t offset = 0;
  for (int d = 0; d < dimensions; ++d) offset += box[d].begin * strides.of[d];
  return offset;
}

}  // namespace

struct MaxBackward::Tile {
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
    spans_[0] = SpanTable({problem.axes[0], true});
    spans_[1] = SpanTable({problem.axes[1], true});
    if (mode_ == Mode::PullPixels) spans_[2] = SpanTable({problem.axes[2], true});
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
  auto per_input = [&](int d) {  // lanes of outputs kept for one input, at least that input's own
    return std::max<int64_t>(1, output_size_[d] / std::max<int64_t>(1, input_size_[d]));
  };
  const int64_t wide = 2 * pull_tile_elements;
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

// Where a tap lies from its window's origin, for windows of few taps.
void MaxBackward::list_taps(Scratch& scratch) const {
  constexpr int64_t most = 1 << 14;
  scratch.taps.clear();
  if (problem_.window_elements() > most) return;
  const Axis* const axes = problem_.axes;
  for (int64_t d = 0; d < axes[0].max_taps(); ++d) {
    for (int64_t h = 0; h < axes[1].max_taps(); ++h) {
      for (int64_t w = 0; w < axes[2].max_taps(); ++w) {
        scratch.taps.push_back({d * axes[0].tap_step(), h * axes[1].tap_step(), w * axes[2].tap_step()});
      }
    }
  }
}

void MaxBackward::scatter_tile(const Tile& tile, Scratch& scratch) const {
  // Windows apart from each other give an element one gradient at most: it is stored as it is.
  auto with_offset = [&](auto t, auto accumulator) {
    using T = decltype(t);
    if constexpr (!std::is_same_v<T, decltype(accumulator)>) {
      if (!overlaps_) return scatter_offsets<T, T>(tile, scratch);
    }
    return scatter_offsets<T, decltype(accumulator)>(tile, scratch);
  };
  switch (problem_.dtype) {
    case DType::Float32: return with_offset(float{}, float{});
    case DType::Float64: return with_offset(double{}, double{});
    case DType::BFloat16: return with_offset(BFloat16Bits{}, float{});
    case DType::Float16: return with_offset(HalfBits{}, float{});
    default: throw std::logic_error("gradients are floating point");
  }
}

template <class T, class Lane>
void MaxBackward::scatter_offsets(const Tile& tile, Scratch& scratch) const {
  switch (gradients_.offset_type) {
    case OffsetType::UInt8: return scatter<T, Lane, uint8_t>(tile, scratch);
    case OffsetType::UInt16: return scatter<T, Lane, uint16_t>(tile, scratch);
    case OffsetType::Int32: return scatter<T, Lane, int32_t>(tile, scratch);
    case OffsetType::Int64: return scatter<T, Lane, int64_t>(tile, scratch);
  }
}

template <class T, class Lane, class Offset>
void MaxBackward::scatter(const Tile& tile, Scratch& scratch) const {
  const Axis* const axes = problem_.axes;
  const int64_t channels = tile.input[4].size();
  const int64_t depth = tile.input[1].size(), height = tile.input[2].size(), width = tile.input[3].size();
  const int64_t taps_h = axes[1].max_taps(), taps_w = axes[2].max_taps();
  int64_t size[dimensions];
  for (int d = 0; d < dimensions; ++d) size[d] = tile.input[d].size();
  // Lanes that are storage accumulate in place.
  constexpr bool in_place = std::is_same_v<T, Lane>;
  const Strides strides = in_place ? input_strides_ : packed_strides(size);
  T* const result = static_cast<T*>(gradients_.grad_input) + offset_of(input_strides_, tile.input);
  Lane* target = nullptr;
  if constexpr (in_place) {
    target = result;
  } else {
    const int64_t elements = size[0] * size[1] * size[2] * size[3] * size[4];
    target = reinterpret_cast<Lane*>(scratch.values[1].reserve(elements * static_cast<int64_t>(sizeof(Lane))));
  }
  for_nest(size, strides, strides, nullptr, -1,
           [&](const Loop(&loops)[3], const int64_t(&)[3], int64_t inner, int64_t, int64_t t, int64_t) {
             for (int64_t i = 0; i < loops[0].count; ++i) {
               for (int64_t j = 0; j < loops[1].count; ++j) {
                 for (int64_t k = 0; k < loops[2].count; ++k) {
                   std::fill_n(target + t + i * loops[0].target + j * loops[1].target + k * loops[2].target, inner, Lane{});
                 }
               }
             }
           });

  auto add = [](Lane& element, T gradient) {
    if constexpr (std::is_same_v<Lane, float> || std::is_same_v<Lane, double>) {
      element += lane_of(gradient);
    } else {
      element = gradient;
    }
  };
  // Distances in elements, of taps from the window's origin and of origins from the tile.
  const int64_t step_d = strides.of[1], step_h = strides.of[2], step_w = strides.of[3];
  const int64_t reachable = (depth - 1) * step_d + (height - 1) * step_h + (width - 1) * step_w;
  const Tap* const table = scratch.taps.empty() ? nullptr : scratch.taps.data();
  auto tap_at = [&](int64_t tap) -> Tap {
    if (table != nullptr) return table[tap];
    return {tap / taps_w / taps_h * axes[0].tap_step(), tap / taps_w % taps_h * axes[1].tap_step(), tap % taps_w * axes[2].tap_step()};
  };
  std::vector<int64_t>& origins = scratch.index;
  origins.clear();
  const int64_t plane_origin = tile.output[0].begin * output_strides_.of[0] + tile.output[4].begin;
  const T* const grads = static_cast<const T*>(gradients_.grad_output) + plane_origin;
  const Offset* const codes = static_cast<const Offset*>(gradients_.offsets) + plane_origin;

  if (whole_planes_ && table != nullptr) {  // one distance for an output, one for a tap, one comparison
    for (int64_t od = 0; od < output_size_[1]; ++od) {
      for (int64_t oh = 0; oh < output_size_[2]; ++oh) {
        for (int64_t ow = 0; ow < output_size_[3]; ++ow) {
          origins.push_back(axes[0].origin_of(od) * step_d + axes[1].origin_of(oh) * step_h + axes[2].origin_of(ow) * step_w);
        }
      }
    }
    std::vector<int64_t>& distances = scratch.firsts;
    distances.clear();
    for (const Tap& tap : scratch.taps) distances.push_back(tap.depth * step_d + tap.height * step_h + tap.width * step_w);
    const int64_t* const distance = distances.data();
    for (int64_t p = 0; p < size[0]; ++p) {
      Lane* const plane = target + p * strides.of[0];
      int64_t at = p * output_strides_.of[0];
      for (const int64_t origin : origins) {
        for (int64_t c = 0; c < channels; ++c) {
          const int64_t position = origin + distance[codes[at + c]];
          if (position <= reachable) add(plane[position + c], grads[at + c]);  // beyond: an offset that no window has
        }
        at += output_strides_.of[3];
      }
    }
  } else {
    for (int64_t ow = tile.output[3].begin; ow < tile.output[3].end; ++ow) {
      origins.push_back(axes[2].origin_of(ow) - tile.input[3].begin);
    }
    for (int64_t p = 0; p < size[0]; ++p) {
      Lane* const plane = target + p * strides.of[0];
      for (int64_t od = tile.output[1].begin; od < tile.output[1].end; ++od) {
        const int64_t origin_d = axes[0].origin_of(od) - tile.input[1].begin;
        for (int64_t oh = tile.output[2].begin; oh < tile.output[2].end; ++oh) {
          const int64_t origin_h = axes[1].origin_of(oh) - tile.input[2].begin;
          int64_t at = p * output_strides_.of[0] + od * output_strides_.of[1] + oh * output_strides_.of[2]
                       + tile.output[3].begin * output_strides_.of[3];
          for (const int64_t origin_w : origins) {
            for (int64_t c = 0; c < channels; ++c) {
              const Tap tap = tap_at(static_cast<int64_t>(codes[at + c]));
              const int64_t d = origin_d + tap.depth, h = origin_h + tap.height, w = origin_w + tap.width;
              // Outside the tile: another tile's element, or (a window with nothing in it) nobody's.
              const bool inside = static_cast<uint64_t>(d) < static_cast<uint64_t>(depth)
                                  && static_cast<uint64_t>(h) < static_cast<uint64_t>(height)
                                  && static_cast<uint64_t>(w) < static_cast<uint64_t>(width);
              if (inside) add(plane[d * step_d + h * step_h + w * step_w + c], grads[at + c]);
            }
            at += output_strides_.of[3];
          }
        }
      }
    }
  }
  if constexpr (!in_place) {
    for_nest(size, strides, input_strides_, nullptr, -1,
             [&](const Loop(&loops)[3], const int64_t(&)[3], int64_t inner, int64_t s, int64_t t, int64_t) {
               sums_.finish({target + s, result + t, {loops[0], loops[1], loops[2]}, inner, nullptr, {0, 0, 0}, 1});
             });
  }
}

}  // namespace torch_pooling::cpu
