// See max_backward.h: the choice of a way, and the flat one.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/max_backward.h"

#include <algorithm>

#include "cpu/first_touch.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t flat_tile_elements = 8192;
constexpr int64_t largest_flat = 32, largest_pull = 20;  // outputs that may read one input; beyond them a scatter costs less
constexpr int64_t few_positions = 1024;  // of a plane in channels-last whose lines a scatter finds near
constexpr int64_t few_deep_positions = 1 << 12;  // of a plane in 3-D
constexpr int64_t many_positions = 1 << 20;  // more than a scatter was measured with; from ten times as many on it goes by elements
constexpr int64_t near_plane = 1 << 15, near_sample = 1 << 17;  // elements
static_assert(largest_pull <= most_pixel_reads);

// Where more reads come to an input than the few outputs cost that a scatter visits, as measured.
bool reads_often(const Problem& problem) {
  const auto inputs = static_cast<double>(problem.input_elements()), outputs = static_cast<double>(problem.output_elements());
  return static_cast<double>(problem.window_elements() - 8) * outputs > 0.75 * inputs;
}

// In 3-D that also takes elements that stay near, or very many reads.
bool deep_scatter_pays(const Problem& problem) {
  const Axis* const axes = problem.axes;
  if (axes[0].is_identity() || !reads_often(problem)) return false;
  const int64_t positions = axes[0].input * axes[1].input * axes[2].input;
  if (problem.layout == Layout::ChannelsFirst) return positions <= near_plane || problem.window_elements() > 32;
  return problem.channels < 128 && positions * problem.channels <= near_sample;
}

}  // namespace

bool lanes_pay(const Problem& problem) {
  return !problem.axes[0].is_identity() || (problem.axes[2].input >= 24 && !reads_often(problem));
}

MaxWay choose_max_way(const Problem& problem, OffsetType type) {
  if (problem.window_elements() > offset_limit(OffsetType::Int32)) return MaxWay::Scatter;  // others compare lanes of 32 bits
  int64_t overlap = 1;
  bool adaptive = false, flat = type == OffsetType::UInt8 || type == OffsetType::Int32;
  for (const Axis& axis : problem.axes) {
    overlap = std::min<int64_t>(overlap * axis.most_reads(), int64_t{1} << 40);
    adaptive |= axis.adaptive;
    flat &= axis.is_identity() || (!axis.adaptive && axis.comb().advance == 1 && axis.output == axis.input && axis.never_empty());
  }
  const bool flat_planes = problem.axes[0].is_identity();
  const int64_t positions = (flat_planes ? 1 : problem.axes[0].input) * problem.axes[1].input * problem.axes[2].input;
  bool dense = true;
  for (const Axis& axis : problem.axes) dense &= axis.tap_step() == 1;
  const int64_t most = !flat_planes ? few_deep_positions : problem.layout == Layout::ChannelsFirst ? many_positions : few_positions;
  const bool near = positions < most;
  if (flat && problem.window_elements() <= (dense && near ? largest_pull : largest_flat)) return MaxWay::Flat;
  // A scatter fills with zeros and visits each output once; a pull visits the outputs of each input.
  const bool sparse = problem.layout == Layout::ChannelsLast && problem.channels < 128 && 16 * problem.output_elements() <= problem.input_elements();
  const bool large_and_apart = overlap == 1 && problem.window_elements() > 12;
  const bool short_and_apart = overlap == 1 && problem.layout == Layout::ChannelsFirst && problem.axes[2].output < 12;
  if (overlap > largest_pull || large_and_apart || short_and_apart || sparse || deep_scatter_pays(problem)) return MaxWay::Scatter;
  if (problem.layout == Layout::ChannelsLast && problem.channels > 1) {  // few channels leave lanes empty
    const bool often = flat_planes && reads_often(problem) && 4 * problem.output_elements() <= problem.input_elements();
    const bool near_enough = flat_planes || positions * problem.channels <= near_sample;
    const bool few = problem.channels < (near_enough ? 32 : 16) || (often && problem.channels < 128);
    return few ? MaxWay::Scatter : MaxWay::PullPixels;
  }
  if (adaptive) return MaxWay::Scatter;
  const Axis& width = problem.axes[2];
  const Comb comb = width.comb();
  const bool mostly_outside = comb.taps > 2 * (width.input + width.output) + 64;  // margins as long as windows
  return comb.step == 1 && comb.advance <= 4 && !mostly_outside ? MaxWay::PullLanes : MaxWay::Scatter;
}

MaxFlat::MaxFlat(const Problem& problem, const PullKernels& pull, int64_t element_bytes, const MaxGradients& gradients)
    : args_{gradients.grad_output, gradients.offsets, gradients.grad_input, 0, 0, problem.input_elements(), nullptr, 0, Stores::Usual} {
  const int64_t bytes = args_.total * element_bytes;
  args_.stores = stores_for(2 * bytes, gradients.grad_input, bytes);
  kernel_ = pull.flat[static_cast<int>(gradients.offset_type)];
  const Axis* const axes = problem.axes;
  const int64_t inner = problem.layout == Layout::ChannelsLast ? problem.channels : 1;
  int64_t code = 0;
  for (int64_t d = 0; d < axes[0].kernel; ++d) {
    for (int64_t h = 0; h < axes[1].kernel; ++h) {
      for (int64_t w = 0; w < axes[2].kernel; ++w, ++code) {
        const int64_t at_d = axes[0].origin_of(0) + d * axes[0].tap_step();
        const int64_t at_h = axes[1].origin_of(0) + h * axes[1].tap_step();
        const int64_t at_w = axes[2].origin_of(0) + w * axes[2].tap_step();
        taps_.push_back({((at_d * axes[1].input + at_h) * axes[2].input + at_w) * inner, code});
      }
    }
  }
  args_.taps = taps_.data();
  args_.tap_count = static_cast<int64_t>(taps_.size());
}

int64_t MaxFlat::tiles() const { return ceil_div<int64_t>(args_.total, flat_tile_elements); }

void MaxFlat::run(int64_t begin, int64_t end) const {
  FlatArgs args = args_;
  args.begin = begin * flat_tile_elements;
  args.end = std::min(end * flat_tile_elements, args.total);
  kernel_(args);
}

}  // namespace torch_pooling::cpu
