// The scattering half of MaxBackward: every output adds its gradient to the element that won, inside a tile of grad_input that
// one thread owns, in ascending order of outputs. See max_backward.h.
// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <stdexcept>

#include "core/half.h"
#include "cpu/max_backward.h"

namespace torch_pooling::cpu {
namespace {

float lane_of(float value) { return value; }
double lane_of(double value) { return value; }
float lane_of(BFloat16Bits value) { return to_float(value); }
float lane_of(HalfBits value) { return to_float(value); }

}  // namespace

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
    const int64_t* const origin = origins.data();
    const int64_t outputs = static_cast<int64_t>(origins.size());
    int64_t p = 0;
    if (channels == 1 && output_strides_.of[3] == 1) {
      // Neighbouring outputs often share a maximum: planes take turns, so that no addition waits for the one before it.
      constexpr int64_t group = 4;
      for (; p + group <= size[0]; p += group) {
        Lane* const plane = target + p * strides.of[0];
        const T* const grad = grads + p * output_strides_.of[0];
        const Offset* const code = codes + p * output_strides_.of[0];
        for (int64_t o = 0; o < outputs; ++o) {
          for (int64_t k = 0; k < group; ++k) {
            const int64_t at = k * output_strides_.of[0] + o;
            const int64_t position = origin[o] + distance[code[at]];
            if (position <= reachable) add(plane[k * strides.of[0] + position], grad[at]);
          }
        }
      }
    }
    for (; p < size[0]; ++p) {
      Lane* const plane = target + p * strides.of[0];
      const T* grad = grads + p * output_strides_.of[0];
      const Offset* code = codes + p * output_strides_.of[0];
      // Beyond the plane lies an offset that no window has.
      if (channels == 1 && output_strides_.of[3] == 1) {
        for (int64_t o = 0; o < outputs; ++o) {
          const int64_t position = origin[o] + distance[code[o]];
          if (position <= reachable) add(plane[position], grad[o]);
        }
        continue;
      }
      for (int64_t o = 0; o < outputs; ++o, grad += output_strides_.of[3], code += output_strides_.of[3]) {
        Lane* const window = plane + origin[o];
        const int64_t most = reachable - origin[o];
        for (int64_t c = 0; c < channels; ++c) {
          const int64_t position = distance[code[c]];
          if (position <= most) add(window[position + c], grad[c]);
        }
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
