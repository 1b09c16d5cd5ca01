// The passes of a reduction that take all axes at once: three by three, pixels, and short windows along rows. See reduction.h.
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
    args.divisor = average_ ? static_cast<double>(problem_.divisor_override != 0 ? problem_.divisor_override : problem_.window_elements()) : 1;
    args.ahead = ahead_;
    args.past = past_ && row % widest_vector == 0 && kernels_.vector_lanes * element_bytes_ == widest_vector;
    (channels > 1 ? kernels_.near_last : kernels_.near)(args);
  }
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
                  codes.size[4], code_scale_[0], code_scale_[1], divisor, codes.size[2], codes.size[3], uniform, past_, ahead_};
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
