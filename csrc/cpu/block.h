// The contract between drivers and kernels on the CPU: what one call of a kernel does, on raw pointers. A kernel reduces
// blocks it is handed along one axis; it knows no padding, stride or layout. `Element` counts are in elements of the
// buffer they speak of. Buffers of lanes are scratch memory with slack: kernels may read and write up to `slack_bytes`
// beyond the last element of such a buffer, and of a source where `can_overread` is set.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "core/problem.h"
#include "cpu/whole_args.h"

namespace torch_pooling::cpu {

constexpr int64_t slack_bytes = 512;
constexpr int64_t widest_vector = 64;  // bytes
// Whether the processor does not fetch rows of so many bytes ahead well by itself: measured from 70 to 900. Near: each of three rows is
// read once, one after the other.
constexpr bool is_long_row(int64_t bytes, bool near = false) { return bytes >= (near ? 64 : 256); }

// Longer windows are summed in 64-bit lanes, or in blocks of this length (the last up to twice that) whose sums add up there.
// Those of windows that overlap, and whose taps along all axes are this few together, are not long: axis by axis, they have as few roundings.
constexpr int64_t wide_sum_elements = 1024, few_sums = 256;
// Windows over whole planes, which torch adds up in a tree, are long from this length on where their taps come one after the other
// (in channels-last, and without vectors) and in float64, which has nothing wider.
constexpr int64_t plane_sum_elements = 16;
// Gradients of averages are summed in 64-bit lanes where so many windows follow each other along an axis and read one position.
constexpr int64_t long_sum = 128;
// Windows along a row move so far at most, and those that move by three and more have so few taps, to be taken in lanes along the results.
constexpr int64_t most_comb_advance = 5, few_comb_taps = 7;
constexpr int64_t block_of(int64_t length, int64_t from, int64_t block = wide_sum_elements) {
  return length - from < 2 * block ? length - from : block;
}

// One entry of a list of windows along an axis: `count` windows, each `advance` positions after the one before, and each serving
// `repeat` consecutive outputs, which divide by the same number.
struct Window {
  int64_t start = 0;   // position of the first tap, from the source block's origin
  int64_t step = 1;    // between taps, in positions
  int64_t taps = 0;    // 0: nothing to reduce, the result is the reducer's identity
  int64_t tap = 0;     // number of the first tap inside the unclipped window
  int64_t repeat = 1;
  int64_t count = 1, advance = 0;

  int64_t outputs() const { return count * repeat; }
  int64_t last_start() const { return start + (count - 1) * advance; }
};

struct Loop {
  int64_t count = 1, source = 0, target = 0;  // strides of source and target
};

// Where the last pass of a reduction writes: straight into the result, where its elements are lanes. Beyond `limit` nothing
// may be written; below it a row may overrun into the next, which is written later. Null: scratch memory with slack.
struct Final {
  const void* limit = nullptr;
  double divisor = 1;  // of sums
  Stores stores = Stores::Usual;
};

// Windows that overlap so much that blocks pay (see slide.inl): as long as the shortest of them, 0 where they do not; and how often a
// position is read.
struct Slides {
  int64_t block = 0, reads = 0;
};

// target[l, o, c] = reduce over taps t of source[l, start(o) + t * step(o), c], for every l of the three loops.
struct WindowsArgs {
  const void* source;
  const void* source_code;  // code lanes beside a source of lanes, or null
  void* target;             // lanes
  void* target_code;        // lanes of taps, or null
  Loop loops[3];
  int64_t source_pixel, target_pixel;  // strides of a position along the axis
  int64_t inner;                       // contiguous elements below the axis
  const Window* windows;
  int64_t window_count;
  int64_t code_scale;  // a tap adds (tap * code_scale) to its source code
  bool can_overread;   // and overrun its target, as far as `last` allows
  bool far;            // the source does not fit the caches,
  bool ahead;          // and what comes next is fetched early (see prefetch_beyond)
  Final last;
  Slides slides = {};       // windows are no shorter than a block, unless they end at an end of the source
  void* scratch = nullptr;  // for blocks: lanes and codes [block, 2 vectors], or of one element where `inner` is 1
  bool beyond = false;      // the source does not fit the last cache either
};

// Short windows along a row, in channels-first: a vector from position `source` holds what results [begin, end) of a row read. Chunks
// of one pattern read alike, and patterns are numbered in their order.
constexpr int most_pixel_taps = 64;
constexpr int short_taps = 4, short_chunks = 8;  // at most: taps along an axis; patterns, and chunks made together
struct ShortChunk {
  int64_t begin, end, source, pattern;
};
// All axes of some planes of pixels at once: target[p, d, r, o, c] = reduce over the taps of depth window d, row window r and
// column window o of source[p, depth, row, column, c], finished and stored. For windows small enough that reading an input
// again costs less than a pass of its own.
struct PixelsArgs {
  const void* source;
  void* target;       // storage
  void* target_code;  // bytes or code lanes, in the strides of `code_*`, or null
  bool codes_are_bytes;
  int64_t planes;
  const Window* depths;
  int64_t depth_count;
  const Window* rows;
  int64_t row_count;
  const Window* columns;
  int64_t column_count;
  int64_t source_plane, source_depth, source_row, source_pixel;
  int64_t target_plane, target_depth, target_row, target_pixel;
  int64_t code_plane, code_depth, code_row, code_pixel;
  int64_t inner;
  int64_t depth_scale, row_scale;  // a tap of depth and of a row adds this to the code
  const void* divisors;            // of sums: a lane for each pixel of a plane [., height, width], or null: one divisor
  int64_t height, width;
  double divisor;
  Stores stores;
  bool ahead;  // see WindowsArgs
  // Of short windows: columns has one window for each result, results of all planes lie together, and sources may be read up to
  // `source_end`.
  const ShortChunk* chunks = nullptr;
  int64_t chunk_count = 0;
  const void* source_end = nullptr;
};

// target[l, o] = reduce over t of source[l, o * advance + t * step], lanes along o. Source rows hold every position.
struct CombArgs {
  const void* source;
  void* target;
  void* target_code;
  Loop loops[3];
  int64_t outputs, advance, step, taps;
  Final last;
  void* scratch;  // two rows of the source, and slack
};

// Sums spread over s inputs each: target[l, q * s + r] = sum over m of source[l, q - m], m < ceil((taps - r) / s).
struct SpreadArgs {
  const void* source;
  void* target;
  Loop loops[3];
  int64_t count;  // of q
  int64_t taps, stride;
};

// Converts `count` contiguous elements between storage and lanes for each l, dividing by divisors[i] or by `divisor`.
struct ConvertArgs {
  const void* source;
  void* target;
  Loop loops[3];
  int64_t count;
  const void* divisors;  // lanes of the loop's target or source position `divisor_strides`, or null
  int64_t divisor_strides[3];
  double divisor;  // 1: none
  Stores stores = Stores::Usual;  // see Final
  bool one_divisor = false;  // for all of count, of divisors
};

// Sums over a divisor and maxima of the same elements: of `planes` planes of contiguous positions, or (channels > 0) of the channels of
// one sample, its pixels `pixel` elements apart. Codes are lanes, of positions, or null.
struct BothArgs {
  const void* source;
  int64_t planes, positions, channels, pixel;
  void* sums;
  void* maxima;
  void* codes;
  void* scratch;  // two 64-bit lanes for each channel
  double divisor;
  bool ahead;  // see WindowsArgs
};

// Max backward: rows of grad_input from the rows of grad_output that read them, each with the code of its first tap there.
// Gradients are storage, codes bytes or code lanes; a kernel reads both within a row and its margins, and beyond.
struct PullRow {
  int64_t grad, code;  // bytes from the first row's element
  int64_t base;
};
struct PullRows {  // row (d, h) of a plane pulls from reads [first[d * height + h], first[d * height + h + 1])
  const PullRow* reads;
  const int64_t* first;
  int64_t planes, depth, height;
  const void* grads;
  const void* codes;
  int64_t grad_plane, code_plane;  // bytes from plane to plane
  void* target;                    // storage
  int64_t target_plane, target_depth, target_row;
};
struct PullLanesArgs {  // lanes along the row: element q * stride + r - skip, for q in [0, count) and r in [0, stride)
  PullRows rows;
  int64_t count, taps, stride;
  int64_t skip, length;  // elements to write
  void* scratch;         // lanes, for strides above 1
  Stores stores;
  Staging together;
};
struct PullEntry {
  int64_t output;  // position along the row of grad_output
  int64_t tap;
};
struct PullPixelsArgs {  // lanes along channels: position i of grad_input gathers entries [index[i], index[i + 1])
  PullRows rows;
  const PullEntry* entries;
  const int64_t* index;
  int64_t positions;
  int64_t channels, grad_pixel, code_pixel, target_pixel;
  Stores stores;
};
constexpr int most_pixel_reads = 64;  // outputs that read one pixel of PullPixelsArgs

// Max backward of short rows: a position of a row is read by at most permuted_reads outputs of a row of them, listed as above, of at most
// permuted_depths depths, and those that read a vector of positions fit one. Kernels read a vector of outputs from any of a row, and write
// vectors.
constexpr int permuted_reads = 2, permuted_depths = 2, permuted_chunks = 8;
struct PermutedRow {  // of outputs, at several depths: reads `count` rows of one depth from element `first` of a plane
  int64_t first, count;
  int64_t zeros;  // elements after those rows that are read by none
  bool resumed;   // the next row of outputs begins with the last of them
  int depths;
  struct {
    int64_t grad;  // element of a plane of outputs
    int64_t base;  // the tap by which its first position reads the first row
  } source[permuted_depths];
};
struct PermutedArgs {
  const void* grads;
  const void* codes;  // as saved
  void* target;
  int64_t planes, plane, output_plane;  // elements of grad_input and of grad_output
  const PermutedRow* rows;
  int64_t row_count;
  const PullEntry* entries;
  const int64_t* index;
  int64_t length, taps;  // of a row: at most permuted_chunks vectors
  Stores stores;
};
// Max backward without rows: element p of [begin, end) takes the gradient of element p - distance if its code is the tap's.
struct FlatTap {
  int64_t distance, code;
};
struct FlatArgs {
  const void* grads;
  const void* codes;  // as saved
  void* target;
  int64_t begin, end, total;
  const FlatTap* taps;
  int64_t tap_count;
  Stores stores;
};

// Where outputs point to: positions[o * channels + c] = (base + origins[o] + the distance of tap codes[o * code_pixel + c] from its
// window's origin) * scale + c; with one channel, scale and code_pixel are 1. Answers whether all lie in [0, limit). A distance
// is code * step_w + (code / taps_w) * step_h + (code / taps_w / taps_h) * step_d, the quotients whole numbers.
struct LocateArgs {
  const void* codes;  // as saved
  int32_t* positions;
  int64_t count, channels, code_pixel;
  const int32_t* origins;
  int32_t base, scale, limit;
  float per_row, per_depth;  // 1 / taps_w, 1 / taps_h
  int32_t step_w, step_h, step_d;
};

// Whether saved codes name taps inside the input: of rows [begin, end) of outputs, row r of a plane having taps [first, last) of
// depth and height, position o of a row taps [first[o], last[o]) of the width.
struct TapRange {
  int32_t first, last;
  bool operator==(const TapRange&) const = default;
};
struct InsideArgs {
  const void* codes;  // as saved
  int64_t begin, end, rows, width, channels;
  const TapRange* depths;   // [rows]
  const TapRange* heights;  // [rows]
  const int32_t* first;     // [width]
  const int32_t* last;
  int32_t taps_h, taps_w;
  bool deep;  // more than one tap of depth
  const uint32_t* masks;  // [rows, width]: bit t says that tap t lies outside; null: more than 32 taps, go by the ranges
};

// target[r * target_row + i] = source[r * source_row + i] where mask[i] (or mask[r]: of rows) is not 0, else `fill`, whose low bits are an
// element. Elements are numbers of 1, 2, 4 or 8 bytes.
struct MaskArgs {
  const void* source;
  int64_t source_row;
  const uint8_t* mask;
  void* target;
  int64_t target_row;
  int64_t rows, length;
  uint64_t fill;
  Stores stores;
};
struct MaskKernels {
  void (*elements)(const MaskArgs&) = nullptr;
  void (*spread)(const MaskArgs&) = nullptr;  // source[r * source_row] for all of a row
  void (*rows)(const MaskArgs&) = nullptr;
};

using WindowsFn = void (*)(const WindowsArgs&);
using PixelsFn = void (*)(const PixelsArgs&);
using CombFn = void (*)(const CombArgs&);
using SpreadFn = void (*)(const SpreadArgs&);
using ConvertFn = void (*)(const ConvertArgs&);
using BothFn = void (*)(const BothArgs&);
using PairsFn = void (*)(const PairsArgs&);
using NearFn = void (*)(const NearArgs&);
using RibbonFn = void (*)(const RibbonArgs&);
using PermutedFn = void (*)(const PermutedArgs&);
using FlatFn = void (*)(const FlatArgs&);
using LocateFn = bool (*)(const LocateArgs&);
using InsideFn = bool (*)(const InsideArgs&);

// The kernels of one reducer for one storage type. `first` reads storage, `next` reads lanes.
struct ReduceKernels {
  int lane_bytes = 0;  // 0: this type is not supported
  bool lanes_are_storage = false;
  WindowsFn first = nullptr, next = nullptr;
  PixelsFn first_pixels = nullptr, next_pixels = nullptr;
  PixelsFn first_short = nullptr, next_short = nullptr;  // of short windows along rows
  CombFn comb = nullptr;
  SpreadFn spread = nullptr;
  void (*fill)(void* lanes, int64_t count) = nullptr;  // with the identity
  ConvertFn load = nullptr;                            // storage to lanes
  ConvertFn finish = nullptr;                          // lanes to storage
  PairsFn pairs = nullptr, spread_pairs = nullptr;
  NearFn near = nullptr, near_last = nullptr;  // channels-first, -last
  RibbonFn ribbon = nullptr;
  int64_t vector_lanes = 0;
};
// [0]: codes are bytes, [1]: codes are lanes as wide as those of the gradient.
struct PullKernels {
  int lane_bytes = 0;
  void (*lanes[2])(const PullLanesArgs&) = {};
  void (*pixels[2])(const PullPixelsArgs&) = {};
  FlatFn flat[4] = {};  // by OffsetType: those of small windows, UInt8 and Int32
  PermutedFn permuted[4] = {};
};
// Between code lanes of 2, 4 or 8 bytes and the stored offset types.
struct CodeKernels {
  ConvertFn store[4] = {};  // lanes to OffsetType
  ConvertFn load[4] = {};   // OffsetType to lanes
  ConvertFn copy_bytes = nullptr;
  void (*repeat)(const void* values, void* target, int64_t rows, int64_t length) = nullptr;  // each value of as many bytes `length` times
};

// to[j * to_step + i] = from[i * from_step + j] for i < rows, j < columns; past: see store_result.
struct TransposeArgs {
  const void* from;
  int64_t from_step, rows, columns;
  void* to;
  int64_t to_step;
  Stores stores;
};
using TransposeFn = void (*)(const TransposeArgs&);

struct KernelTable {
  const char* name;
  int vector_bytes;
  ReduceKernels sum[dtype_count], wide_sum[dtype_count];  // wide: 64-bit lanes, for long windows
  ReduceKernels exact_sum;  // of float64, one window a plane
  ReduceKernels max[dtype_count];
  ReduceKernels coded_max[dtype_count], wide_coded_max[dtype_count];
  PullKernels pull[dtype_count];
  PullKernels pull_apart[dtype_count];  // for windows apart from each other: an input takes one gradient, as it is
  CodeKernels codes2, codes4, codes8;
  LocateFn locate[4] = {};  // by OffsetType; null for Int64
  InsideFn inside[4] = {};
  BothFn both[dtype_count] = {}, coded_both[dtype_count] = {};  // of floating types but float64
  TransposeFn transpose[4] = {};  // of elements of 1, 2, 4 and 8 bytes
  MaskKernels masks[4] = {};
  NearFn near_both[2][dtype_count] = {}, coded_near_both[2][dtype_count] = {};  // channels-first, -last
};

}  // namespace torch_pooling::cpu
