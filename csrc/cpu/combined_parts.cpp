// See combined_parts.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/combined_parts.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "core/half.h"
#include "core/reducer.h"

namespace torch_pooling::cpu {
namespace {

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

#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
#define TP_PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else  // GCC 11
#define TP_PICK(a, b, ...) __builtin_shuffle(a, b, Four{__VA_ARGS__})
#endif
// to[j * to_step + i] = from[i * from_step + j] for i < 4, j < 4.
template <class T>
void transpose_four(const T* from, int64_t from_step, T* to, int64_t to_step) {
  typedef T Four __attribute__((vector_size(4 * sizeof(T))));
  Four row[4];
  for (int64_t k = 0; k < 4; ++k) std::memcpy(&row[k], from + k * from_step, sizeof(Four));
  const Four low[2] = {TP_PICK(row[0], row[1], 0, 4, 1, 5), TP_PICK(row[2], row[3], 0, 4, 1, 5)};
  const Four high[2] = {TP_PICK(row[0], row[1], 2, 6, 3, 7), TP_PICK(row[2], row[3], 2, 6, 3, 7)};
  const Four column[4] = {TP_PICK(low[0], low[1], 0, 1, 4, 5), TP_PICK(low[0], low[1], 2, 3, 6, 7),
                          TP_PICK(high[0], high[1], 0, 1, 4, 5), TP_PICK(high[0], high[1], 2, 3, 6, 7)};
  for (int64_t k = 0; k < 4; ++k) std::memcpy(to + k * to_step, &column[k], sizeof(Four));
}
#undef TP_PICK
// The same for i < rows, j < columns, of elements of any type as large as T. A few columns at a time: rows may lie so that a cache holds few of them.
template <class T>
void transpose(const T* from, int64_t from_step, int64_t rows, int64_t columns, T* to, int64_t to_step) {
  constexpr int64_t few = 64;
  for (int64_t begin = 0; begin < columns; begin += few) {
    const int64_t end = std::min(columns, begin + few);
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
      int64_t j = begin;
      for (; j + 4 <= end; j += 4) transpose_four(from + i * from_step + j, from_step, to + j * to_step + i, to_step);
      for (; j < end; ++j) {
        for (int64_t k = i; k < i + 4; ++k) std::memcpy(to + j * to_step + k, from + k * from_step + j, sizeof(T));
      }
    }
    for (; i < rows; ++i) {
      for (int64_t j = begin; j < end; ++j) std::memcpy(to + j * to_step + i, from + i * from_step + j, sizeof(T));
    }
  }
}
void transpose(int64_t bytes, const void* from, int64_t from_step, int64_t rows, int64_t columns, void* to, int64_t to_step) {
  with_bytes(bytes, [&](auto tag) {
    using T = decltype(tag);
    transpose(static_cast<const T*>(from), from_step, rows, columns, static_cast<T*>(to), to_step);
  });
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
            void* placed) {
  const char* from = static_cast<const char*>(together);
  char* to = static_cast<char*>(placed) + begin_of(place, piece) * bytes;
  const int64_t pixel = piece.channels * bytes;
  if (combined.layout == Layout::ChannelsFirst) {
    std::memcpy(to, from, static_cast<size_t>(outputs * pixel));
  } else if (place.channel == 1) {
    for (int64_t o = 0; o < outputs; ++o, from += pixel, to += place.position * bytes) std::memcpy(to, from, static_cast<size_t>(pixel));
  } else {
    transpose(bytes, from, piece.channels, outputs, piece.channels, to, place.channel);
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
