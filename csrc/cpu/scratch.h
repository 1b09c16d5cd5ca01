// Scratch memory of one thread, kept between calls while small, and the nest of loops that every kernel call is built from.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "cpu/block.h"

namespace torch_pooling::cpu {

// A growing buffer, 64-byte aligned, with slack at its end and at its front (a kernel may read a little before a row).
// Zeroed when it grows, so that lanes read beyond the data are ordinary numbers.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(memory_); }

  char* reserve(int64_t bytes) {
    if (bytes > capacity_) {
      std::free(memory_);
      memory_ = nullptr;
      const int64_t capacity = (bytes + bytes / 4 + 4095) & ~int64_t{4095};
      capacity_ = 0;
      const size_t total = static_cast<size_t>(capacity + 2 * slack_bytes);
      memory_ = static_cast<char*>(std::aligned_alloc(64, (total + 63) & ~size_t{63}));
      if (memory_ == nullptr) throw std::bad_alloc();
      std::memset(memory_, 0, total);  // not byte by byte: they might be this pointer's own
      capacity_ = capacity;
    }
    return memory_ + slack_bytes;
  }
  void release_if_above(int64_t bytes) {
    if (capacity_ <= bytes) return;
    std::free(memory_);
    memory_ = nullptr;
    capacity_ = 0;
  }

 private:
  char* memory_ = nullptr;
  int64_t capacity_ = 0;
};

// The outputs that read each position of a range of an axis, and by which tap: entries [index[i], index[i + 1]) are those of
// position first + i.
struct AxisReads {
  int64_t first = 0;
  std::vector<PullEntry> entries;
  std::vector<int64_t> index;

  void list(const Axis& axis, const Range& inputs) {
    first = inputs.begin;
    entries.clear();
    index.assign(1, 0);
    for (int64_t i = inputs.begin; i < inputs.end; ++i) {
      const Span span = axis.outputs_of(i);
      for (int64_t n = 0, o = span.first; n < span.count; ++n, o += span.step) entries.push_back({o, axis.tap_of(o, i)});
      index.push_back(static_cast<int64_t>(entries.size()));
    }
  }
};

// Outputs of a plane that follow each other: the first one, where its origin is listed, and what to add to the listed origins.
struct Segment {
  int64_t first, origin, base;
};

// For rows of so many bytes.
inline Staging staging(Buffer& buffer, int64_t longest) {
  constexpr int64_t usual = 8192;
  const int64_t bytes = std::max(longest, usual);
  return {buffer.reserve(bytes), bytes};
}

struct Scratch {
  Buffer values[2], codes[2], divisors, row;
  Buffer turned[3];  // of Turned, whose reductions use the others
  std::vector<Window> windows[3];
  Slides slides[3];  // of a list of windows
  std::vector<int64_t> counts[3];
  std::vector<PullRow> reads;
  std::vector<int64_t> firsts;
  AxisReads axis_reads[3];
  std::vector<Segment> segments;
  std::vector<int32_t> origins, positions;

  // A large call must not leave its buffers behind in every thread of the pool.
  void trim() {
    constexpr int64_t keep = int64_t{1} << 20;
    for (Buffer* buffer : {&values[0], &values[1], &codes[0], &codes[1], &divisors, &row}) buffer->release_if_above(keep);
    for (auto& list : windows) {
      if (list.capacity() * sizeof(Window) > static_cast<size_t>(keep)) list = {};
    }
  }
};
Scratch& thread_scratch();

constexpr int64_t offset_bytes[] = {1, 2, 4, 8};  // by OffsetType
constexpr int dimensions = 5;  // planes or batch, depth, height, width, channels (1 in channels-first)

struct Strides {
  int64_t of[dimensions] = {};
};

inline Strides packed_strides(const int64_t (&size)[dimensions]) {
  Strides strides;
  int64_t step = 1;
  for (int d = dimensions - 1; d >= 0; --d) {
    strides.of[d] = step;
    step *= size[d];
  }
  return strides;
}

// Tile number `index` of a tensor cut into boxes, the last dimension first.
template <int count>
void tile_box(int64_t index, const int64_t (&size)[count], const int64_t (&tile)[count], Range (&box)[count]) {
  for (int d = count - 1; d >= 0; --d) {
    const int64_t tiles = ceil_div<int64_t>(size[d], tile[d]), at = index % tiles;
    index /= tiles;
    box[d] = {at * tile[d], at * tile[d] + tile[d] < size[d] ? at * tile[d] + tile[d] : size[d]};
  }
}
template <int count>
int64_t count_tiles(const int64_t (&size)[count], const int64_t (&tile)[count]) {
  int64_t tiles = 1;
  for (int d = 0; d < count; ++d) tiles *= ceil_div<int64_t>(size[d], tile[d]);
  return tiles;
}

// Splits the dimensions of a block, one axis left out (or none: -1), into a contiguous inner run and loops around it, and
// calls body(loops, third_strides, inner, source_offset, target_offset, third_offset), several times if three loops are
// too few. `third`, the strides of a third operand, may be null; 0 for the channels: one element serves all of them.
template <class Body>
void for_nest(const int64_t (&size)[dimensions], const Strides& source, const Strides& target, const Strides* third, int axis,
              Body body) {
  int64_t inner = 1;
  int d = dimensions - 1;
  for (; d > axis; --d) {
    const bool contiguous = source.of[d] == inner && target.of[d] == inner && (third == nullptr || third->of[d] == inner || (d == 4 && third->of[d] == 0));
    if (size[d] != 1 && !contiguous) break;
    inner *= size[d];
  }
  Loop loops[dimensions];
  int64_t third_of[dimensions] = {};
  int count = 0;
  for (int e = 0; e < dimensions; ++e) {
    if (e == axis || size[e] == 1 || (e > d && e > axis)) continue;
    loops[count] = {size[e], source.of[e], target.of[e]};
    third_of[count] = third == nullptr ? 0 : third->of[e];
    ++count;
  }
  // Here loops[0..count) run outermost first. The kernel takes the last three.
  const int outer = count > 3 ? count - 3 : 0;
  Loop last[3];
  int64_t last_third[3] = {};
  for (int e = outer; e < count; ++e) {
    last[3 - (count - e)] = loops[e];
    last_third[3 - (count - e)] = third_of[e];
  }
  if (outer == 0) return body(last, last_third, inner, int64_t{0}, int64_t{0}, int64_t{0});
  const Loop first = outer > 0 ? loops[0] : Loop{};
  const Loop second = outer > 1 ? loops[1] : Loop{};
  for (int64_t i = 0; i < first.count; ++i) {
    for (int64_t j = 0; j < second.count; ++j) {
      body(last, last_third, inner, i * first.source + j * second.source, i * first.target + j * second.target,
           i * third_of[0] + (outer > 1 ? j * third_of[1] : 0));
    }
  }
}

}  // namespace torch_pooling::cpu
