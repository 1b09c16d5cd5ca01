// See turned.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/turned.h"

#include <algorithm>
#include <bit>

#include "cpu/isa.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t largest_plane = 4096;                  // positions
constexpr int64_t most_planes = 256, least_planes = 64;  // of a tile
constexpr int64_t tile_elements = 1 << 15;               // of source and result

int64_t positions_of(const Problem& problem, bool outputs) {
  int64_t positions = 1;
  for (const Axis& axis : problem.axes) positions *= outputs ? axis.output : axis.input;
  return positions;
}

// Rows of a matrix, from_step elements apart, as columns of another.
void turn(int64_t bytes, const char* from, int64_t from_step, int64_t rows, int64_t columns, char* to) {
  kernels().transpose[std::countr_zero(static_cast<uint64_t>(bytes))]({from, from_step, rows, columns, to, rows, Stores::Usual});
}

}  // namespace

// Where that pays, as measured. It is the same for all instruction sets, which then agree on signs of zeros, and for any number of planes, of
// which a batch, or a thread's share of several reductions, may have few: a plane has the same sums in each. Three by three, moving by
// one, are left to Near, for mixed_pool has them from there.
bool Turned::serves(const Problem& problem, bool inverse, bool coded) {
  const Axis* const axes = problem.axes;
  if (problem.layout != Layout::ChannelsFirst) return false;
  bool apart = true;
  for (const Axis& axis : problem.axes) {
    if (std::min(axis.input, axis.output) == 0 || std::max(axis.input, axis.output) > largest_plane) return false;
    apart &= !axis.overlaps();
  }
  if (std::max(positions_of(problem, false), positions_of(problem, true)) > largest_plane) return false;
  const Axis& width = axes[2];
  const int64_t longest = std::max(width.input, width.output);
  if (!axes[0].is_identity()) return longest < 12 || (longest < 16 && !apart && !width.adaptive && width.stride > 1);
  if (axes[1].looks_around() && width.looks_around()) return false;
  if (longest <= 8) return coded || !apart || (!inverse && longest < 6);
  return longest <= 16 && !inverse && width.adaptive && width.input % width.output != 0;
}

Turned::Turned(const Problem& problem, const ReduceKernels& kernels, const CodeKernels* codes, int64_t element_bytes, const Operands& operands,
               bool inverse)
    : problem_(problem), kernels_(kernels), codes_(codes), element_bytes_(element_bytes),
      code_bytes_(codes == nullptr ? 0 : offset_bytes[static_cast<int>(operands.offset_type)]), operands_(operands), inverse_(inverse),
      planes_(problem.batch * problem.channels), source_plane_(positions_of(problem, inverse)), result_plane_(positions_of(problem, !inverse)) {
  problem_.layout = Layout::ChannelsLast;
  problem_.batch = 1;
  planes_of_tile_ = std::clamp<int64_t>(tile_elements / (source_plane_ + result_plane_) / least_planes * least_planes, least_planes, most_planes);
}

void Turned::run(int64_t begin, int64_t end) const {
  Scratch& scratch = thread_scratch();
  Problem problem = problem_;
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t first = tile * planes_of_tile_, planes = std::min(planes_of_tile_, planes_ - first);
    problem.channels = std::max<int64_t>(2, planes);  // one channel would not go as several do: a lone plane is taken twice
    const int64_t channels = problem.channels, sources = source_plane_ * channels, results = result_plane_ * channels;
    char* const source = scratch.turned[0].reserve(sources * element_bytes_);
    char* const result = scratch.turned[1].reserve(results * element_bytes_);
    char* const codes = codes_ == nullptr ? nullptr : scratch.turned[2].reserve(results * code_bytes_);
    const char* const from = static_cast<const char*>(operands_.input) + first * source_plane_ * element_bytes_;
    turn(element_bytes_, from, planes == 1 ? 0 : source_plane_, channels, source_plane_, source);
    const Reduction reduction(problem, kernels_, codes_, element_bytes_, {source, result, codes, operands_.offset_type}, inverse_);
    reduction.run(0, reduction.tiles());
    turn(element_bytes_, result, channels, result_plane_, planes, static_cast<char*>(operands_.output) + first * result_plane_ * element_bytes_);
    if (codes == nullptr) continue;
    turn(code_bytes_, codes, channels, result_plane_, planes, static_cast<char*>(operands_.offsets) + first * result_plane_ * code_bytes_);
  }
}

}  // namespace torch_pooling::cpu
