// The scattering way of max_backward.h: every output adds its gradient to the element that won, inside a run of grad_input
// that one thread owns, in an order that depends on the geometry alone. Vectors compute where a few hundred outputs point
// to, and whether any points outside the run (to another tile's element, or nobody's); adding is one element at a time.
// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "core/half.h"
#include "cpu/first_touch.h"
#include "cpu/gather.h"
#include "cpu/max_backward.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t tile_elements = 1 << 15;
constexpr int64_t least_elements = 1 << 14;  // threads take no less at a time (launch.cpp); tiles visit their neighbours' outputs, too
constexpr int64_t listed_outputs = 4096;     // of a plane, taken together
constexpr int64_t listed_run = 1 << 16;      // of a part of a plane
constexpr int64_t turns = 4;                 // runs of outputs that take turns
constexpr int64_t least_turn = 32;           // outputs, of a run that is cut into as many
constexpr int64_t widest_cut = 128;          // channels: fewer are fetched badly, pixels being far apart
constexpr int64_t widest_listed = 16;        // channels that would not fill a vector: each is listed, as if it were an output
constexpr int64_t chunk = 512;               // of outputs located at once

template <class Lane, class T>
void add(Lane& element, T gradient) {
  if constexpr (std::is_same_v<Lane, T> && !std::is_floating_point_v<T>) {
    element = gradient;  // 16 bits, of windows apart from each other: an element takes one gradient at most
  } else if constexpr (std::is_same_v<Lane, T>) {
    element += gradient;
  } else {
    element += to_float(gradient);
  }
}

// `Turns` runs of positions and gradients, an element of each in turn: neighbouring outputs often share a maximum, and an
// addition need not wait for the one before it.
template <int Turns, bool Checked, class Lane>
void add_rows(Lane* const (&target)[turns], const Lane* const (&grad)[turns], const int32_t* positions, int64_t count, int64_t limit) {
  for (int64_t i = 0; i < count; ++i) {
    for (int turn = 0; turn < Turns; ++turn) {
      const int32_t at = positions[turn * chunk + i];
      if (!Checked || static_cast<uint32_t>(at) < static_cast<uint64_t>(limit)) add(target[turn][at], grad[turn][i]);
    }
  }
}

}  // namespace

MaxScatter::MaxScatter(const Problem& problem, const ReduceKernels& sums, LocateFn locate, const MaxGradients& gradients, bool in_order)
    : problem_(problem), sums_(sums), in_order_(in_order), locate_(locate), gradients_(gradients) {
  const bool last = problem.layout == Layout::ChannelsLast;
  const Axis* const axes = problem.axes;
  planes_ = problem.batch * (last ? 1 : problem.channels);
  inner_ = last ? problem.channels : 1;
  input_plane_ = axes[0].input * axes[1].input * axes[2].input;
  output_plane_ = axes[0].output * axes[1].output * axes[2].output;
  for (int axis = 0; axis < 3; ++axis) overlaps_ |= axes[axis].overlaps();
  lanes_ = inner_ < widest_listed ? inner_ : 1;
  // Distances of taps that no window inside the input has must fit, too.
  int64_t reach = input_plane_ * inner_;
  for (int axis = 0; axis < 3; ++axis) reach = std::max(reach, (axes[axis].max_taps() * axes[axis].tap_step() + 1) * input_plane_ * lanes_);
  // A window with nothing in it names a tap outside the input.
  bool empty = false;
  for (const Axis& axis : problem.axes) empty |= !axis.never_empty();
  if (problem.window_elements() > largest_located || reach > INT32_MAX / 8 || empty) locate_ = nullptr;
  const int64_t bytes = element_bytes(problem.dtype);
  stores_ = past_where(stores_for(work() * bytes, gradients.grad_input, problem.input_elements() * bytes), false);
  choose_tiles();
}

// Whole planes where they are small; else depths, else rows, else a part of a row, so that positions follow each other. In
// channels-last a window that reaches far is cut by channels first.
void MaxScatter::choose_tiles() {
  const int64_t budget = std::clamp<int64_t>(work() / 32, least_elements, tile_elements);
  const Axis* const axes = problem_.axes;
  const int64_t size[5] = {planes_, axes[0].input, axes[1].input, axes[2].input, inner_};
  std::copy_n(size, 5, size_);
  tile_size_[4] = std::max<int64_t>(1, inner_);
  int64_t reach = 1;
  for (const Axis& axis : problem_.axes) reach *= std::min(2 * axis.max_taps() * axis.tap_step(), std::max<int64_t>(1, axis.input));
  if (overlaps_ && inner_ > widest_cut && reach * inner_ > budget) tile_size_[4] = widest_cut;
  int64_t elements = tile_size_[4];
  for (int d = 0; d < 4; ++d) tile_size_[d] = 1;
  for (int d = 3; d >= 0; --d) {
    int64_t length = budget / elements;
    if (d > 0) {  // a run visits every output that could reach it: make it long against their reach
      const Axis& axis = problem_.axes[d - 1];
      length = std::max(length, std::min(4 * axis.max_taps() * axis.tap_step(), int64_t{1 << 20} / elements));
    }
    tile_size_[d] = std::clamp<int64_t>(length, 1, std::max<int64_t>(1, size[d]));
    if (tile_size_[d] * 4 > size[d] * 3) tile_size_[d] = std::max<int64_t>(1, size[d]);
    if (tile_size_[d] < size[d]) {  // runs of about one length, and two of them in turn for each of two threads
      int64_t runs = (size[d] + tile_size_[d] / 2) / tile_size_[d];
      if (runs < 16) runs += runs % 2;
      tile_size_[d] = ceil_div(size[d], runs);
      break;
    }
    elements *= std::max<int64_t>(1, size[d]);
  }
}

int64_t MaxScatter::tiles() const { return count_tiles(size_, tile_size_); }

MaxScatter::Tile MaxScatter::tile_at(int64_t index) const {
  const Axis* const axes = problem_.axes;
  Range box[5];
  tile_box(index, size_, tile_size_, box);
  Tile tile;
  tile.planes = box[0], tile.channels = box[4];
  tile.positions = 1;
  for (int axis = 0; axis < 3; ++axis) {
    tile.input[axis] = box[axis + 1];
    tile.output[axis] = axes[axis].outputs_near(tile.input[axis]);
    tile.positions *= tile.input[axis].size();
  }
  tile.first = (tile.input[0].begin * axes[1].input + tile.input[1].begin) * axes[2].input + tile.input[2].begin;
  return tile;
}

void MaxScatter::run(int64_t begin, int64_t end) const {
  Scratch& scratch = thread_scratch();
  scratch.positions.resize(static_cast<size_t>(std::max(turns * chunk, tile_size_[4])));
  Tile last;
  for (int64_t index = begin; index < end; ++index) {
    const Tile tile = tile_at(index);
    if (index == begin || !std::equal(tile.input, tile.input + 3, last.input)) list_origins(tile, scratch);
    last = tile;
    switch (problem_.dtype) {
      case DType::Float32: scatter_tile<float, float>(tile, scratch); break;
      case DType::Float64: scatter_tile<double, double>(tile, scratch); break;
      case DType::BFloat16:
        overlaps_ ? scatter_tile<BFloat16Bits, float>(tile, scratch) : scatter_tile<BFloat16Bits, BFloat16Bits>(tile, scratch);
        break;
      case DType::Float16:
        overlaps_ ? scatter_tile<HalfBits, float>(tile, scratch) : scatter_tile<HalfBits, HalfBits>(tile, scratch);
        break;
      default: throw std::logic_error("gradients are floating point");
    }
  }
  scratch.trim();
}

// Whether all outputs of a plane, and of the planes that follow, make one list.
bool MaxScatter::takes_planes_together(const Tile& tile) const {
  const bool together = inner_ == 1 && output_plane_ <= listed_outputs && tile.positions == input_plane_;
  return together;
}

// Where windows begin, from the run's first position: of all outputs of the planes that are taken together; of all outputs near the
// tile, where their rows are whole; else along the width. Segments are what follows each other in memory of the outputs near the tile.
void MaxScatter::list_origins(const Tile& tile, Scratch& scratch) const {
  if (locate_ == nullptr) return;
  const Axis* const axes = problem_.axes;
  std::vector<int32_t>& origins = scratch.origins;
  scratch.segments.clear();
  const Range &depths = tile.output[0], &heights = tile.output[1], &widths = tile.output[2];
  const int64_t width = widths.size() * lanes_, rows = depths.size() * heights.size();
  auto base_of = [&](int64_t od, int64_t oh) { return (axes[0].origin_of(od) * axes[1].input + axes[1].origin_of(oh)) * axes[2].input; };
  origins.resize(static_cast<size_t>(width));
  for (int64_t o = 0; o < widths.size(); ++o) {
    const int64_t origin = axes[2].origin_of(widths.begin + o) * lanes_;
    for (int64_t c = 0; c < lanes_; ++c) origins[static_cast<size_t>(o * lanes_ + c)] = static_cast<int32_t>(origin + c);
  }
  const bool together = takes_planes_together(tile);
  if (!together && (widths.size() != axes[2].output || rows * width > listed_run)) {
    for (int64_t od = depths.begin; od < depths.end; ++od) {
      for (int64_t oh = heights.begin; oh < heights.end; ++oh) {
        scratch.segments.push_back({(od * axes[1].output + oh) * axes[2].output + widths.begin, 0, base_of(od, oh) - tile.first});
      }
    }
    return;
  }
  const int64_t planes = together ? std::max<int64_t>(1, tile.planes.size() / turns) : 1;
  origins.resize(static_cast<size_t>(planes * rows * width));
  int32_t* const list = origins.data();
  int64_t row = rows;
  for (int64_t od = depths.end; od-- > depths.begin;) {  // from the end, for the first one is what the others are made from
    for (int64_t oh = heights.end; oh-- > heights.begin;) {
      const auto base = static_cast<int32_t>((base_of(od, oh) - tile.first) * lanes_);
      --row;
      for (int64_t o = 0; o < width; ++o) list[row * width + o] = list[o] + base;
    }
  }
  for (int64_t i = rows * width; i < planes * rows * width; ++i) list[i] = list[i - rows * width] + static_cast<int32_t>(input_plane_);
  if (together) return;
  const bool whole = heights.size() == axes[1].output;
  for (int64_t od = depths.begin; od < (whole ? std::min(depths.end, depths.begin + 1) : depths.end); ++od) {
    scratch.segments.push_back({(od * axes[1].output + heights.begin) * axes[2].output, (od - depths.begin) * heights.size() * widths.size(), 0});
  }
}

template <class T, class Lane>
void MaxScatter::scatter_tile(const Tile& tile, Scratch& scratch) const {
  const int64_t planes = tile.planes.size(), channels = tile.channels.size();
  const int64_t input_plane = input_plane_ * inner_;
  T* const result = static_cast<T*>(gradients_.grad_input) + tile.planes.begin * input_plane + tile.first * inner_ + tile.channels.begin;
  Lane* target = nullptr;
  int64_t target_plane = 0, target_inner = 0;
  // Elements that are lanes add up in place, but for channels whose pixels lie far apart, a page or so.
  bool in_place = std::is_same_v<T, Lane>;
  if constexpr (std::is_floating_point_v<T>) in_place = in_place && inner_ == channels;
  if (in_place) {
    target = reinterpret_cast<Lane*>(result), target_plane = input_plane, target_inner = inner_;
  } else {
    target_inner = channels, target_plane = tile.positions * channels;
    target = reinterpret_cast<Lane*>(scratch.values[1].reserve(planes * target_plane * static_cast<int64_t>(sizeof(Lane))));
  }
  const int64_t elements = tile.positions * channels, runs = target_plane == elements ? 1 : planes;
  for (int64_t n = 0; n < runs; ++n) {
    std::memset(static_cast<void*>(target + n * target_plane), 0, static_cast<size_t>(planes / runs * elements) * sizeof(Lane));
  }
  if (locate_ != nullptr) {
    add_located<T>(tile, scratch, target, target_plane, target_inner);
  } else {
    switch (gradients_.offset_type) {
      case OffsetType::UInt8: add_each<T, Lane, uint8_t>(tile, target, target_plane, target_inner); break;
      case OffsetType::UInt16: add_each<T, Lane, uint16_t>(tile, target, target_plane, target_inner); break;
      case OffsetType::Int32: add_each<T, Lane, int32_t>(tile, target, target_plane, target_inner); break;
      case OffsetType::Int64: add_each<T, Lane, int64_t>(tile, target, target_plane, target_inner); break;
    }
  }
  if (!in_place) {
    const int64_t run = inner_ == channels ? tile.positions * channels : channels;
    sums_.finish({target, result, {{planes, target_plane, input_plane}, {tile.positions * channels / run, run, inner_}, {}}, run,
                  nullptr, {0, 0, 0}, 1, stores_});
  }
}

template <class T, class Lane>
void MaxScatter::add_located(const Tile& tile, Scratch& scratch, Lane* target, int64_t target_plane, int64_t target_inner) const {
  const Axis* const axes = problem_.axes;
  const int64_t code_bytes = offset_bytes[static_cast<int>(gradients_.offset_type)];
  const int64_t output_plane = output_plane_ * inner_;
  const T* const grads = static_cast<const T*>(gradients_.grad_output);
  const char* const codes = static_cast<const char*>(gradients_.offsets);
  const int64_t step_w = axes[2].tap_step(), step_h = axes[1].tap_step() * axes[2].input;
  const int64_t step_d = axes[0].tap_step() * axes[1].input * axes[2].input;
  LocateArgs args{};
  args.scale = static_cast<int32_t>(target_inner);
  args.per_row = 1 / static_cast<float>(axes[2].max_taps());
  args.per_depth = 1 / static_cast<float>(axes[1].max_taps());
  args.step_w = static_cast<int32_t>(step_w * lanes_);
  args.step_h = static_cast<int32_t>((step_h - axes[2].max_taps() * step_w) * lanes_);
  args.step_d = axes[0].max_taps() == 1 ? 0 : static_cast<int32_t>((step_d - axes[1].max_taps() * step_h) * lanes_);
  const int64_t limit = tile.positions * target_inner;
  args.limit = static_cast<int32_t>(limit);
  int32_t* const positions = scratch.positions.data();

  const int64_t channels = tile.channels.size();
  args.channels = channels / lanes_, args.code_pixel = inner_ / lanes_;
  const int64_t at_once = std::max<int64_t>(1, chunk / channels);  // outputs
  // `count` outputs from each of `turns` starting points, of planes of the tile.
  struct Start {
    int64_t plane;
    Segment from;
  };
  // The gradients of `count` outputs as lanes.
  const int64_t most = std::max(chunk, channels);
  Lane* const widened = std::is_same_v<T, Lane> ? nullptr : reinterpret_cast<Lane*>(scratch.values[0].reserve(turns * most * static_cast<int64_t>(sizeof(Lane))));
  const int64_t grad_pixel = std::is_same_v<T, Lane> ? inner_ : channels;
  const auto lanes_of = [&](const T* from, int64_t count, int turn) -> const Lane* {
    if constexpr (std::is_same_v<T, Lane>) {
      return from;
    } else {
      Lane* const to = widened + turn * most;
      const bool together = channels == inner_;
      sums_.load({from, to, {{}, {}, {together ? 1 : count, inner_, channels}}, together ? count * inner_ : channels, nullptr, {0, 0, 0}, 1});
      return to;
    }
  };
  auto add_turns = [&](auto turn_count, const Start (&start)[turns], int64_t count) {
    constexpr int Turns = decltype(turn_count)::value;
    Lane* into[turns] = {};
    const Lane* grad[turns] = {};
    for (int64_t o = 0; o < count; o += at_once) {
      const int64_t outputs = std::min(at_once, count - o);
      args.count = outputs * lanes_;
      bool inside = true;
      for (int turn = 0; turn < Turns; ++turn) {
        const auto& [plane, from] = start[turn];
        const int64_t at = (tile.planes.begin + plane) * output_plane + (from.first + o) * inner_ + tile.channels.begin;
        args.codes = codes + at * code_bytes;
        args.origins = scratch.origins.data() + (from.origin + o) * lanes_;
        args.positions = positions + turn * chunk;
        args.base = static_cast<int32_t>(from.base * lanes_);
        inside &= locate_(args);
        into[turn] = target + plane * target_plane;
        grad[turn] = lanes_of(grads + at, outputs, turn);
      }
      if (channels == inner_) {
        const int64_t all = outputs * inner_;
        inside ? add_rows<Turns, false>(into, grad, positions, all, limit) : add_rows<Turns, true>(into, grad, positions, all, limit);
      } else {  // some of the channels, one turn
        for (int64_t n = 0; n < outputs; ++n, grad[0] += grad_pixel) {
          const int32_t* const at = positions + n * channels;
          inside ? add_rows<1, false>(into, grad, at, channels, limit) : add_rows<1, true>(into, grad, at, channels, limit);
        }
      }
    }
  };
  using Four = std::integral_constant<int, turns>;
  using One = std::integral_constant<int, 1>;
  if (takes_planes_together(tile)) {
    const int64_t planes = tile.planes.size(), quarter = planes / turns;
    args.limit = static_cast<int32_t>(std::max<int64_t>(1, quarter) * limit);
    if (quarter > 0) {
      add_turns(Four{}, {{0, {}}, {quarter, {}}, {2 * quarter, {}}, {3 * quarter, {}}}, quarter * output_plane_);
    }
    for (int64_t p = quarter * turns; p < planes; ++p) add_turns(One{}, {{p, {}}}, output_plane_);
    return;
  }
  const int64_t segments = static_cast<int64_t>(scratch.segments.size()), total = tile.planes.size() * segments;
  if (total == 0) return;
  auto start_of = [&](int64_t n) -> Start { return {n / segments, scratch.segments[static_cast<size_t>(n % segments)]}; };
  const int64_t count = tile.output[0].size() * tile.output[1].size() * tile.output[2].size() / segments;  // of each
  if (inner_ == 1 && !in_order_ && count >= turns * least_turn) {
    const int64_t part = count / turns;
    for (int64_t n = 0; n < total; ++n) {
      const auto [plane, from] = start_of(n);
      auto after = [&, plane = plane, from = from](int64_t skipped) -> Start {
        return {plane, {from.first + skipped, from.origin + skipped, from.base}};
      };
      add_turns(Four{}, {after(0), after(part), after(2 * part), after(3 * part)}, part);
      if (part * turns < count) add_turns(One{}, {after(part * turns)}, count - part * turns);
    }
    return;
  }
  const int64_t quarter = inner_ != 1 ? 0 : in_order_ ? tile.planes.size() / turns * segments : total / turns;
  for (int64_t n = 0; n < quarter; ++n) {
    add_turns(Four{}, {start_of(n), start_of(n + quarter), start_of(n + 2 * quarter), start_of(n + 3 * quarter)}, count);
  }
  for (int64_t n = quarter * turns; n < total; ++n) add_turns(One{}, {start_of(n)}, count);
}

// One output after the other, for windows too large for add_located.
template <class T, class Lane, class Offset>
void MaxScatter::add_each(const Tile& tile, Lane* target, int64_t target_plane, int64_t target_inner) const {
  const Axis* const axes = problem_.axes;
  const T* const grads = static_cast<const T*>(gradients_.grad_output);
  const Offset* const codes = static_cast<const Offset*>(gradients_.offsets);
  const int64_t taps_h = axes[1].max_taps(), taps_w = axes[2].max_taps();
  for (int64_t p = tile.planes.begin; p < tile.planes.end; ++p, target += target_plane) {
    for (int64_t od = tile.output[0].begin; od < tile.output[0].end; ++od) {
      for (int64_t oh = tile.output[1].begin; oh < tile.output[1].end; ++oh) {
        for (int64_t ow = tile.output[2].begin; ow < tile.output[2].end; ++ow) {
          const int64_t output = (p * output_plane_ + (od * axes[1].output + oh) * axes[2].output + ow) * inner_;
          for (int64_t c = tile.channels.begin; c < tile.channels.end; ++c) {
            const int64_t tap = static_cast<int64_t>(codes[output + c]);
            const int64_t d = axes[0].origin_of(od) + tap / taps_w / taps_h * axes[0].tap_step();
            const int64_t h = axes[1].origin_of(oh) + tap / taps_w % taps_h * axes[1].tap_step();
            const int64_t w = axes[2].origin_of(ow) + tap % taps_w * axes[2].tap_step();
            const bool real = d >= 0 && h >= 0 && w >= 0 && d < axes[0].input && h < axes[1].input && w < axes[2].input;
            const int64_t at = (d * axes[1].input + h) * axes[2].input + w - tile.first;
            if (real && at >= 0 && at < tile.positions) add(target[at * target_inner + c - tile.channels.begin], grads[output + c]);
          }
        }
      }
    }
  }
}

}  // namespace torch_pooling::cpu
