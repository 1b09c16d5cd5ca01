// What kernels take that reduce all axes in one go: three by three, maxima that move by one, pairs along rows. See block.h.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cstdint>

namespace torch_pooling::cpu {

// How results are stored. Early: their lines are fetched ahead of the stores, for memory that is in no cache makes each store wait.
// Past: not into the caches, in which they would not stay; only whole lines are, what else there is goes early.
enum class Stores : uint8_t { Usual, Early, Past };
// Memory where rows that go past the caches and are no whole lines are put together: at least the longest of them. Null: they go early.
struct Staging {
  void* memory;
  int64_t bytes;
};
constexpr Stores past_where(Stores stores, bool lines) { return stores == Stores::Past && !lines ? Stores::Early : stores; }

// Windows of three by three that move by one, outputs in the places of inputs: rows [begin, end) of each plane. Any of the three results
// may be left out; codes are bytes. In channels-last (NearLast) target_plane counts pixels, which lie target_pixel elements apart in results. A
// neighbour outside the plane is left out by the kernel, which is told where planes end.
struct NearArgs {
  const void* source;
  void* sums;
  void* maxima;
  void* codes;
  int64_t planes, source_plane, target_plane;
  int64_t rows, length;  // of a plane
  int64_t begin, end;
  int64_t channels, target_pixel;
  double divisor;  // of sums
  Stores stores;
  bool ahead;      // see WindowsArgs
};

// Maxima whose windows move by one along both axes, in channels-first: result (r, c) of a plane reads rows r - skip_h + t * step_h and
// elements c - skip_w + t * step_w of them, where they are inside. Rows [begin, end) of results, codes are bytes. Scratch: lanes (and their
// codes) of the rows that rows_at_once rows of results read, ribbon_pitch apart.
struct RibbonArgs {
  const void* source;
  void* target;
  void* codes;
  int64_t planes, source_plane, target_plane;
  int64_t rows, length;  // of a plane
  int64_t width;         // of a row of results
  int64_t begin, end;
  int64_t taps_h, taps_w, step_h, step_w, skip_h, skip_w;
  int64_t rows_at_once;
  void* values;
  void* lane_codes;
  Stores stores;
  bool ahead;  // see WindowsArgs
};
// What stands for neighbours before a row serves the row before as well.
constexpr int64_t ribbon_pitch(const RibbonArgs& a) { return std::max(a.length + a.skip_w, a.width + (a.taps_w - 1) * a.step_w - a.skip_w); }

// Windows of two or three elements along rows, which move by two, in channels-first: result o of row r of plane p reduces elements
// [2 * o - skip, 2 * o - skip + taps) of rows rows[first[r]] to rows[first[r + 1]], where these have elements before `length`. skip is 0 or 1, and
// 2 * width - skip at most length. Spread (of sums), the other way round: result i of row r sums the elements of these rows whose windows
// read it, `length` is the outputs' and `width` the inputs'; a row may have none.
constexpr int64_t most_pair_rows = 9;
struct PairsArgs {
  const void* source;
  void* target;    // storage
  uint8_t* codes;  // of maxima with positions
  int64_t planes, source_plane, target_plane;
  const int64_t* rows;     // where they begin in a plane,
  const int64_t* numbers;  // and the numbers of their first taps
  const int64_t* first;
  int64_t begin, end;    // rows of results
  int64_t length, width;
  int64_t taps, skip;
  double divisor;        // of sums
  Stores stores;
  bool ahead;      // see WindowsArgs
  Staging together;
};

}  // namespace torch_pooling::cpu
