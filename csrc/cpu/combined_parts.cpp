// See combined_parts.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/combined_parts.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "core/half.h"
#include "core/reducer.h"

namespace torch_pooling::cpu {
namespace {

// body(element of a place, element of the same results lying together) for all of a piece, in the order of the latter.
template <class Body>
void for_elements(const Combined& combined, const Place& place, const Piece& piece, int64_t outputs, const Body& body) {
  const int64_t begin = begin_of(place, piece);
  int64_t at = 0;
  if (combined.layout == Layout::ChannelsFirst) {
    for (int64_t c = 0; c < piece.channels; ++c) {
      for (int64_t o = 0; o < outputs; ++o) body(begin + c * place.channel + o * place.position, at++);
    }
  } else {
    for (int64_t o = 0; o < outputs; ++o) {
      for (int64_t c = 0; c < piece.channels; ++c) body(begin + c * place.channel + o * place.position, at++);
    }
  }
}
template <class Body>
void with_bytes(int64_t bytes, const Body& body) {
  switch (bytes) {
    case 1: return body(uint8_t{});
    case 2: return body(uint16_t{});
    case 4: return body(uint32_t{});
    case 8: return body(uint64_t{});
    default: throw std::logic_error("unknown element size");
  }
}
float widened(float value) { return value; }
double widened(double value) { return value; }
float widened(BFloat16Bits value) { return to_float(value); }
float widened(HalfBits value) { return to_float(value); }
void store(float& element, float value) { element = value; }
void store(double& element, double value) { element = value; }
void store(BFloat16Bits& element, float value) { element = to_bfloat16(value); }
void store(HalfBits& element, float value) { element = to_half(value); }

template <class Body>
void with_float(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::Float32: return body(float{});
    case DType::Float64: return body(double{});
    case DType::BFloat16: return body(BFloat16Bits{});
    case DType::Float16: return body(HalfBits{});
    default: throw std::logic_error("not a floating type");
  }
}

}  // namespace

void spread(const Combined& combined, const Place& place, const Piece& piece, int64_t outputs, int64_t bytes, const void* together,
            void* placed) {
  if (place.channel == 1) {  // channels-last: whole pixels
    const char* from = static_cast<const char*>(together);
    char* to = static_cast<char*>(placed) + begin_of(place, piece) * bytes;
    const int64_t pixel = piece.channels * bytes;
    for (int64_t o = 0; o < outputs; ++o, from += pixel, to += place.position * bytes) std::memcpy(to, from, static_cast<size_t>(pixel));
    return;
  }
  with_bytes(bytes, [&](auto tag) {
    using T = decltype(tag);
    for_elements(combined, place, piece, outputs, [&](int64_t at, int64_t n) { static_cast<T*>(placed)[at] = static_cast<const T*>(together)[n]; });
  });
}
void collect(const Combined& combined, const Place& place, const Piece& piece, int64_t outputs, int64_t bytes, const void* placed,
             void* together) {
  if (place.channel == 1) {
    const char* from = static_cast<const char*>(placed) + begin_of(place, piece) * bytes;
    char* to = static_cast<char*>(together);
    const int64_t pixel = piece.channels * bytes;
    for (int64_t o = 0; o < outputs; ++o, to += pixel, from += place.position * bytes) std::memcpy(to, from, static_cast<size_t>(pixel));
    return;
  }
  with_bytes(bytes, [&](auto tag) {
    using T = decltype(tag);
    for_elements(combined, place, piece, outputs, [&](int64_t at, int64_t n) { static_cast<T*>(together)[n] = static_cast<const T*>(placed)[at]; });
  });
}

void add(DType dtype, void* sums, const void* terms, int64_t count) {
  with_float(dtype, [&](auto tag) {
    using T = decltype(tag);
    T* const sum = static_cast<T*>(sums);
    const T* const term = static_cast<const T*>(terms);
    for (int64_t i = 0; i < count; ++i) store(sum[i], widened(sum[i]) + widened(term[i]));
  });
}
void mix(DType dtype, void* values, const void* terms, int64_t count) {
  with_float(dtype, [&](auto tag) {
    using T = decltype(tag);
    T* const value = static_cast<T*>(values);
    const T* const term = static_cast<const T*>(terms);
    for (int64_t i = 0; i < count; ++i) store(value[i], widened(value[i]) / 2 + widened(term[i]) / 2);
  });
}
void halve(DType dtype, void* values, int64_t count) {
  with_float(dtype, [&](auto tag) {
    auto* const value = static_cast<decltype(tag)*>(values);
    for (int64_t i = 0; i < count; ++i) store(value[i], widened(value[i]) / 2);
  });
}

void reduce_results(const Combined& combined, int64_t part, int64_t finer, int64_t channels, const void* fine, void* results) {
  const Axis* const to = combined.parts[part].axes;
  const Axis* const from = combined.parts[finer].axes;
  const bool first = combined.layout == Layout::ChannelsFirst, max = combined.parts[part].max;
  const int64_t fine_outputs = combined.parts[finer].outputs(), outputs = combined.parts[part].outputs(), taps = fine_outputs / outputs;
  std::vector<int64_t> at;  // finer results of each output
  for (int64_t o = 0; o < outputs; ++o) {
    const int64_t output[3] = {o / to[2].output / to[1].output, o / to[2].output % to[1].output, o % to[2].output};
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t size[3] = {0, from[1].output / to[1].output, from[2].output / to[2].output};
      const int64_t tap[3] = {t / size[2] / size[1], t / size[2] % size[1], t % size[2]};
      int64_t position = 0;
      for (int axis = 0; axis < 3; ++axis) {
        position = position * from[axis].output + output[axis] * (from[axis].output / to[axis].output) + tap[axis];
      }
      at.push_back(position);
    }
  }
  with_float(combined.dtype, [&](auto tag) {
    using T = decltype(tag);
    using L = decltype(widened(tag));
    const L count = static_cast<L>(taps);
    const T* source = static_cast<const T*>(fine);
    T* target = static_cast<T*>(results);
    if (first) {
      for (int64_t c = 0; c < channels; ++c, source += fine_outputs) {
        const int64_t* tap = at.data();
        for (int64_t o = 0; o < outputs; ++o, ++target, tap += taps) {
          L value = widened(source[tap[0]]);
          if (max) {
            for (int64_t t = 1; t < taps; ++t) value = Max::step(value, widened(source[tap[t]]));
          } else {
            for (int64_t t = 1; t < taps; ++t) value += widened(source[tap[t]]);
            value /= count;
          }
          store(*target, value);
        }
      }
      return;
    }
    for (int64_t o = 0; o < outputs; ++o, target += channels) {  // sums are as wide as results here, and maxima stay what they are
      const int64_t* const tap = at.data() + o * taps;
      std::copy_n(source + tap[0] * channels, channels, target);
      for (int64_t t = 1; t < taps; ++t) {
        const T* const row = source + tap[t] * channels;
        if (max) {
          for (int64_t c = 0; c < channels; ++c) store(target[c], Max::step(widened(target[c]), widened(row[c])));
        } else {
          for (int64_t c = 0; c < channels; ++c) store(target[c], widened(target[c]) + widened(row[c]));
        }
      }
      if (max) continue;
      for (int64_t c = 0; c < channels; ++c) store(target[c], widened(target[c]) / count);
    }
  });
}

}  // namespace torch_pooling::cpu
