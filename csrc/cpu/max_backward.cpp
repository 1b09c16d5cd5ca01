// See max_backward.h. A tile is a box of grad_input, of one plane (or one batch entry and some channels); the outputs that
// read it are converted once into scratch rows, then rows of grad_input are made from them.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/max_backward.h"

#include <algorithm>

namespace torch_pooling::cpu {
namespace {

constexpr int64_t pull_tile_elements = 4096;
constexpr int64_t scatter_tile_elements = 1 << 16;
constexpr int64_t largest_pull = 36;  // outputs that may read one input; beyond it a scatter costs less
constexpr int64_t offset_bytes[] = {1, 2, 4, 8};

// How many outputs can read one position of an axis.
int64_t overlap_of(const Axis& axis) {
  if (axis.adaptive) return std::max<int64_t>(1, ceil_div<int64_t>(axis.output, axis.input)) + 1;
  const Comb comb = axis.comb();
  return ceil_div<int64_t>(comb.taps, comb.advance);
}

Range union_of(const Axis& axis, const Range& inputs) {
  Range outputs{INT64_MAX, INT64_MIN};
  for (int64_t i = inputs.begin; i < inputs.end; ++i) {
    const Span span = axis.outputs_of(i);
    if (span.count == 0) continue;
    outputs.begin = std::min(outputs.begin, span.first);
    outputs.end = std::max(outputs.end, span.first + (span.count - 1) * span.step + 1);
  }
  return outputs.begin > outputs.end ? Range{0, 0} : outputs;
}

}  // namespace

struct MaxBackward::Tile {
  Range input[dimensions], output[dimensions];
  // Scratch rows of the outputs: `length` lanes each, of which the first `margin` belong to no output.
  int64_t margin = 0, length = 0;
  int64_t first_q = 0, count_q = 0, skip = 0;  // PullLanes: input i is q * stride + r, less the skipped ones
};

MaxBackward::MaxBackward(const Problem& problem, const ReduceKernels& kernels, const PullKernels& pull, const CodeKernels& codes,
                         int64_t element_bytes, const void* grad_output, const void* offsets, OffsetType offset_type,
                         void* grad_input)
    : problem_(problem), kernels_(kernels), pull_(pull), codes_(codes), element_bytes_(element_bytes),
      grad_output_(grad_output), offsets_(offsets), offset_type_(offset_type), grad_input_(grad_input) {
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
  choose_tiles();
}

void MaxBackward::choose_mode() {
  int64_t overlap = 1;
  for (const Axis& axis : problem_.axes) overlap = std::min<int64_t>(overlap * overlap_of(axis), int64_t{1} << 40);
  if (overlap > largest_pull) return;
  const Axis& width = problem_.axes[2];
  if (input_size_[4] > 1) {
    mode_ = Mode::PullPixels;
  } else if (width.has_comb() && width.comb().step == 1 && width.comb().advance <= 4) {
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
  for (int d = 0; d < dimensions; ++d) tile_count_[d] = ceil_div<int64_t>(input_size_[d], tile[d]);
}

int64_t MaxBackward::tiles() const {
  int64_t count = 1;
  for (int d = 0; d < dimensions; ++d) count *= tile_count_[d];
  return count;
}

void MaxBackward::run(int64_t begin, int64_t end) const {
  Scratch& scratch = thread_scratch();
  Tile tile;
  for (int64_t index = begin; index < end; ++index) {
    int64_t rest = index;
    for (int d = dimensions - 1; d >= 0; --d) {
      const int64_t at = rest % tile_count_[d];
      rest /= tile_count_[d];
      tile.input[d] = {at * tile_size_[d], std::min((at + 1) * tile_size_[d], input_size_[d])};
    }
    tile.output[0] = tile.input[0], tile.output[4] = tile.input[4];
    for (int axis = 0; axis < 3; ++axis) tile.output[axis + 1] = union_of(problem_.axes[axis], tile.input[axis + 1]);
    if (mode_ == Mode::PullLanes) {
      const Comb comb = problem_.axes[2].comb();
      const int64_t shift = -comb.first;
      tile.first_q = (tile.input[3].begin + shift) / comb.advance;
      tile.count_q = (tile.input[3].end - 1 + shift) / comb.advance + 1 - tile.first_q;
      tile.skip = tile.input[3].begin + shift - tile.first_q * comb.advance;
      const int64_t reach = ceil_div<int64_t>(comb.taps, comb.advance) - 1;
      tile.output[3] = {std::clamp<int64_t>(tile.first_q - reach, 0, output_size_[3]),
                        std::clamp<int64_t>(tile.first_q + tile.count_q, 0, output_size_[3])};
      if (tile.output[3].end < tile.output[3].begin) tile.output[3].end = tile.output[3].begin;
      tile.margin = tile.output[3].begin - (tile.first_q - reach);
      tile.length = tile.count_q + reach;
    } else {
      tile.margin = 0;
      tile.length = tile.output[3].size();
    }
    load_outputs(tile, scratch);
    if (mode_ == Mode::Scatter) {
      kernels_.lane_bytes == 4 ? scatter<float, int32_t>(tile, scratch) : scatter<double, int64_t>(tile, scratch);
    } else {
      pull_rows(tile, scratch);
    }
  }
  scratch.trim();
}

// Gradients to lanes and offsets to code lanes, in rows [depth, height, margin + width, channels].
void MaxBackward::load_outputs(const Tile& tile, Scratch& scratch) const {
  int64_t size[dimensions], padded[dimensions], offset = 0, total = 1;
  for (int d = 0; d < dimensions; ++d) {
    size[d] = padded[d] = tile.output[d].size();
    offset += tile.output[d].begin * output_strides_.of[d];
  }
  padded[3] = tile.length;
  for (int64_t n : padded) total *= n;
  const int64_t lane = kernels_.lane_bytes;
  char* const grad = scratch.values[0].reserve(total * lane);
  char* const code = scratch.codes[0].reserve(total * lane);
  if (tile.length != size[3]) {  // margins: no gradient, and a code that no tap has
    std::fill_n(grad, total * lane, char{0});
    std::fill_n(code, total * lane, static_cast<char>(0xff));
  }
  const Strides target = packed_strides(padded);
  const int64_t skip = tile.margin * padded[4] * lane;
  const int64_t code_bytes = offset_bytes[static_cast<int>(offset_type_)];
  for_nest(size, output_strides_, target, nullptr, -1,
           [&](const Loop(&loops)[3], const int64_t(&)[3], int64_t inner, int64_t s, int64_t t, int64_t) {
             ConvertArgs args{static_cast<const char*>(grad_output_) + (offset + s) * element_bytes_, grad + skip + t * lane,
                              {loops[0], loops[1], loops[2]}, inner, nullptr, {0, 0, 0}, 1};
             kernels_.load(args);
             args.source = static_cast<const char*>(offsets_) + (offset + s) * code_bytes;
             args.target = code + skip + t * lane;
             codes_.load[static_cast<int>(offset_type_)](args);
           });
}

void MaxBackward::pull_rows(const Tile& tile, Scratch& scratch) const {
  const Axis& depth = problem_.axes[0];
  const Axis& height = problem_.axes[1];
  const Axis& width = problem_.axes[2];
  const Comb comb = width.comb();
  const int64_t lane = kernels_.lane_bytes, channels = tile.input[4].size();
  const int64_t row_bytes = tile.length * channels * lane;
  const bool pixels = mode_ == Mode::PullPixels;
  if (pixels) {
    scratch.entries.clear();
    scratch.index.assign(1, 0);
    for (int64_t i = tile.input[3].begin; i < tile.input[3].end; ++i) {
      const Span span = width.outputs_of(i);
      for (int64_t n = 0, o = span.first; n < span.count; ++n, o += span.step) {
        scratch.entries.push_back({o - tile.output[3].begin, width.tap_of(o, i)});
      }
      scratch.index.push_back(static_cast<int64_t>(scratch.entries.size()));
    }
  }
  const int64_t pitch = pixels ? tile.input[3].size() * channels : tile.count_q * comb.advance;
  const int64_t rows = tile.input[1].size() * tile.input[2].size();
  char* target = scratch.values[1].reserve(rows * pitch * lane);
  char* const lanes = target;
  const int64_t reach = pixels ? 0 : tile.length - tile.count_q;
  for (int64_t id = tile.input[1].begin; id < tile.input[1].end; ++id) {
    const Span planes = depth.outputs_of(id);
    for (int64_t ih = tile.input[2].begin; ih < tile.input[2].end; ++ih, target += pitch * lane) {
      const Span lines = height.outputs_of(ih);
      scratch.rows.clear();
      for (int64_t a = 0, od = planes.first; a < planes.count; ++a, od += planes.step) {
        for (int64_t b = 0, oh = lines.first; b < lines.count; ++b, oh += lines.step) {
          const int64_t row = (od - tile.output[1].begin) * tile.output[2].size() + oh - tile.output[2].begin;
          const int64_t base = (depth.tap_of(od, id) * height.max_taps() + height.tap_of(oh, ih)) * width.max_taps();
          const int64_t at = row * row_bytes + reach * lane;
          scratch.rows.push_back({scratch.values[0].reserve(0) + at, scratch.codes[0].reserve(0) + at, base});
        }
      }
      const int64_t count = static_cast<int64_t>(scratch.rows.size());
      if (pixels) {
        pull_.pixels({scratch.rows.data(), count, scratch.entries.data(), scratch.index.data(), tile.input[3].size(), channels,
                      target});
      } else {
        char* const spare = comb.advance > 2 ? scratch.row.reserve(tile.count_q * lane) : nullptr;
        pull_.lanes({scratch.rows.data(), count, tile.count_q, comb.taps, comb.advance, target, spare});
      }
    }
  }
  finish(tile, lanes + (pixels ? 0 : tile.skip * lane), pitch);
}

template <class Lane, class Code>
void MaxBackward::scatter(const Tile& tile, Scratch& scratch) const {
  const Axis* const axes = problem_.axes;
  const int64_t channels = tile.input[4].size(), width = tile.input[3].size(), height = tile.input[2].size();
  const int64_t taps_h = axes[1].max_taps(), taps_w = axes[2].max_taps();
  const int64_t total = tile.input[1].size() * height * width * channels;
  Lane* const target = reinterpret_cast<Lane*>(scratch.values[1].reserve(total * static_cast<int64_t>(sizeof(Lane))));
  std::fill_n(target, total, Lane(0));
  const Lane* grad = reinterpret_cast<const Lane*>(scratch.values[0].reserve(0));
  const Code* code = reinterpret_cast<const Code*>(scratch.codes[0].reserve(0));
  // Position of a tap along each axis, from the window's origin: a table where it is small, divisions where not.
  constexpr int64_t table_limit = 1 << 14;
  const int64_t elements = problem_.window_elements();
  std::vector<int64_t>& table = scratch.index;
  const bool tabled = elements <= table_limit && elements <= 2 * total;
  auto split = [&](int64_t tap, int64_t (&at)[3]) {
    at[2] = tap % taps_w * axes[2].tap_step();
    at[1] = tap / taps_w % taps_h * axes[1].tap_step();
    at[0] = tap / taps_w / taps_h * axes[0].tap_step();
  };
  if (tabled) {
    table.resize(static_cast<size_t>(elements) * 3);
    for (int64_t tap = 0; tap < elements; ++tap) {
      int64_t at[3];
      split(tap, at);
      std::copy_n(at, 3, table.begin() + tap * 3);
    }
  }
  for (int64_t od = tile.output[1].begin; od < tile.output[1].end; ++od) {
    const int64_t origin_d = axes[0].origin_of(od) - tile.input[1].begin;
    for (int64_t oh = tile.output[2].begin; oh < tile.output[2].end; ++oh) {
      const int64_t origin_h = axes[1].origin_of(oh) - tile.input[2].begin;
      for (int64_t ow = tile.output[3].begin; ow < tile.output[3].end; ++ow) {
        const int64_t origin_w = axes[2].origin_of(ow) - tile.input[3].begin;
        for (int64_t c = 0; c < channels; ++c, ++grad, ++code) {
          int64_t at[3];
          if (tabled) {
            std::copy_n(table.begin() + *code * 3, 3, at);
          } else {
            split(*code, at);
          }
          const uint64_t d = static_cast<uint64_t>(origin_d + at[0]), h = static_cast<uint64_t>(origin_h + at[1]),
                         w = static_cast<uint64_t>(origin_w + at[2]);
          // Outside the tile: another tile's, or (a window with nothing in it) nobody's.
          if (d >= static_cast<uint64_t>(tile.input[1].size()) || h >= static_cast<uint64_t>(height)
              || w >= static_cast<uint64_t>(width)) {
            continue;
          }
          target[((static_cast<int64_t>(d) * height + static_cast<int64_t>(h)) * width + static_cast<int64_t>(w)) * channels + c] += *grad;
        }
      }
    }
  }
  finish(tile, reinterpret_cast<const char*>(target), width * channels);
}

void MaxBackward::finish(const Tile& tile, const char* lanes, int64_t pitch) const {
  int64_t size[dimensions], offset = 0;
  for (int d = 0; d < dimensions; ++d) {
    size[d] = tile.input[d].size();
    offset += tile.input[d].begin * input_strides_.of[d];
  }
  Strides source;
  source.of[4] = 1, source.of[3] = size[4], source.of[2] = pitch, source.of[1] = pitch * size[2];
  source.of[0] = source.of[1] * size[1];
  for_nest(size, source, input_strides_, nullptr, -1,
           [&](const Loop(&loops)[3], const int64_t(&)[3], int64_t inner, int64_t s, int64_t t, int64_t) {
             kernels_.finish({lanes + s * kernels_.lane_bytes, static_cast<char*>(grad_input_) + (offset + t) * element_bytes_,
                              {loops[0], loops[1], loops[2]}, inner, nullptr, {0, 0, 0}, 1});
           });
}

}  // namespace torch_pooling::cpu
