// See combined_parts.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/combined_parts.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "core/half.h"
#include "core/reducer.h"
#include "cpu/isa.h"

namespace torch_pooling::cpu {
namespace {

void transpose(int64_t bytes, const void* from, int64_t from_step, int64_t rows, int64_t columns, void* to, int64_t to_step, Stores stores = Stores::Usual) {
  kernels().transpose[std::countr_zero(static_cast<uint64_t>(bytes))]({from, from_step, rows, columns, to, to_step, stores});
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

constexpr int64_t most_channels = 64;  // at a time
// One result of a few channels that lie together, from the finer ones at source[at[0]], source[at[1]] and so on.
template <class T>
void reduce_channels(bool max, const int64_t* at, int64_t taps, int64_t channels, const T* source, T* target) {
  using L = decltype(widened(*source));
  L values[most_channels];
  for (int64_t c = 0; c < channels; ++c) values[c] = widened(source[at[0] + c]);
  const auto all = [&](const auto& step) {
    const auto take = [&](auto more, const int64_t* tap) {
      for (int64_t c = 0; c < channels; ++c) {
        L value = values[c];
        for (int64_t n = 0; n < more; ++n) value = step(value, widened(source[tap[n] + c]));
        values[c] = value;
      }
    };
    int64_t t = 1;
    for (; t + 3 <= taps; t += 3) take(std::integral_constant<int64_t, 3>{}, at + t);  // two by two are one and three, three by three nearly
    for (; t < taps; ++t) take(std::integral_constant<int64_t, 1>{}, at + t);
  };
  if (max) {
    all([](L best, L x) { return Max::step(best, x); });
  } else {
    all([](L sum, L x) { return sum + x; });
    const L count = static_cast<L>(taps), part = 1 / count;
    const bool exact = (taps & (taps - 1)) == 0;  // then a product is the same
    for (int64_t c = 0; c < channels; ++c) values[c] = exact ? values[c] * part : values[c] / count;
  }
  for (int64_t c = 0; c < channels; ++c) store(target[c], values[c]);
}

}  // namespace

void spread(const Combined& combined, const Place& place, const Piece& piece, int64_t outputs, int64_t bytes, const void* together,
            void* placed, Stores stores) {
  const char* from = static_cast<const char*>(together);
  char* to = static_cast<char*>(placed) + begin_of(place, piece) * bytes;
  const int64_t pixel = piece.channels * bytes;
  if (combined.layout == Layout::ChannelsFirst) {
    std::memcpy(to, from, static_cast<size_t>(outputs * pixel));
  } else if (place.channel == 1) {
    for (int64_t o = 0; o < outputs; ++o, from += pixel, to += place.position * bytes) std::memcpy(to, from, static_cast<size_t>(pixel));
  } else {
    transpose(bytes, from, piece.channels, outputs, piece.channels, to, place.channel, stores);
  }
}
void collect(const Combined& combined, const Place& place, const Piece& piece, int64_t outputs, int64_t bytes, const void* placed,
             void* together) {
  const char* from = static_cast<const char*>(placed) + begin_of(place, piece) * bytes;
  char* to = static_cast<char*>(together);
  const int64_t pixel = piece.channels * bytes;
  if (combined.layout == Layout::ChannelsFirst) {
    std::memcpy(to, from, static_cast<size_t>(outputs * pixel));
  } else if (place.channel == 1) {
    for (int64_t o = 0; o < outputs; ++o, to += pixel, from += place.position * bytes) std::memcpy(to, from, static_cast<size_t>(pixel));
  } else {
    transpose(bytes, from, place.channel, piece.channels, outputs, to, piece.channels);
  }
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

void divide(DType dtype, const void* values, int64_t divisor, int64_t count, void* quotients) {
  with_float(dtype, [&](auto tag) {
    using T = decltype(tag);
    const T* const value = static_cast<const T*>(values);
    T* const quotient = static_cast<T*>(quotients);
    for (int64_t i = 0; i < count; ++i) store(quotient[i], widened(value[i]) / static_cast<decltype(widened(T{}))>(divisor));
  });
}

void reduce_results(const Combined& combined, int64_t part, int64_t finer, int64_t channels, const void* fine, void* results) {
  const Axis* const to = combined.parts[part].axes;
  const Axis* const from = combined.parts[finer].axes;
  const bool first = combined.layout == Layout::ChannelsFirst, max = combined.parts[part].max;
  const int64_t fine_outputs = combined.parts[finer].outputs(), outputs = combined.parts[part].outputs(), taps = fine_outputs / outputs;
  // Channels at a time, in channels-first: planes turned into pixels, and what comes of them turned back.
  const int64_t few = std::clamp<int64_t>(4096 / fine_outputs, 4, most_channels);
  const int64_t pixel = first ? few : channels;
  std::vector<int64_t> at;  // finer results of each output
  at.reserve(static_cast<size_t>(fine_outputs));
  for (int64_t o = 0; o < outputs; ++o) {
    const int64_t output[3] = {o / to[2].output / to[1].output, o / to[2].output % to[1].output, o % to[2].output};
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t size[3] = {0, from[1].output / to[1].output, from[2].output / to[2].output};
      const int64_t tap[3] = {t / size[2] / size[1], t / size[2] % size[1], t % size[2]};
      int64_t position = 0;
      for (int axis = 0; axis < 3; ++axis) {
        position = position * from[axis].output + output[axis] * (from[axis].output / to[axis].output) + tap[axis];
      }
      at.push_back(position * pixel);
    }
  }
  with_float(combined.dtype, [&](auto tag) {
    using T = decltype(tag);
    const T* source = static_cast<const T*>(fine);
    T* target = static_cast<T*>(results);
    std::vector<T> pixels(static_cast<size_t>(first ? (fine_outputs + outputs) * few : 0));
    T* const reduced = pixels.data() + fine_outputs * few * first;
    for (int64_t c = 0; c < channels; c += few) {
      const int64_t count = std::min(few, channels - c);
      if (first) transpose(sizeof(T), source + c * fine_outputs, fine_outputs, count, fine_outputs, pixels.data(), few);
      for (int64_t o = 0; o < outputs; ++o) {
        reduce_channels(max, at.data() + o * taps, taps, count, first ? pixels.data() : source + c, first ? reduced + o * few : target + o * channels + c);
      }
      if (first) transpose(sizeof(T), reduced, few, outputs, count, target + c * outputs, outputs);
    }
  });
}

}  // namespace torch_pooling::cpu
