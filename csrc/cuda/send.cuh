// The backward of maxima over large windows in a plane. A block owns a tile of inputs and deals out, in shared memory, what the
// outputs near it send there: first along columns, where a thread owns one column of outputs and some input rows and adds each
// gradient to the row that its offset names; then along rows, where a thread owns one row and some input columns. An output's
// winner is also the winner of its row, so all that a column of outputs sends to one row goes to one element of it: one sum and
// one tap are kept. The cost of an element hardly grows with the window, nothing between the two goes through memory,
// each sum has one owner, and its order is that of the outputs. Offsets that break the rule are looked at one by one.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cuda/pull.cuh"

namespace torch_pooling::cuda {

struct SendPlan {
  Windows<int32_t> h, w;  // inverse: sources are outputs, results are inputs
  int32_t inner = 1, taps = 1;
  int32_t height = 1, width = 1, lanes_log = 0;  // of a tile: inputs, and neighbours along the inner extent
  int32_t rows = 1, columns = 1;                 // of a tile, that a thread owns in the one and in the other direction
  Divider<int32_t> by_taps_w, by_lane_tiles, by_strips, by_bands, by_width;

  // The input row, and the tap along it, that an output's offset names; false where it names no tap of the window.
  __device__ __forceinline__ bool name(int32_t code, int32_t oh, int32_t ow, int32_t& row, int32_t& tap_w) const {
    if (code < 0 || code >= taps) return false;
    int32_t tap_h = code;
    tap_w = by_taps_w.split(tap_h);
    using Kind = Windows<int32_t>::Kind;
    if (h.kind == Kind::InverseAdaptive && tap_h >= h.counted(oh)) return false;
    if (w.kind == Kind::InverseAdaptive && tap_w >= w.counted(ow)) return false;
    row = h.result_of(oh, tap_h);
    return true;
  }
};

// Sums of a tile that lie between the two directions; and inputs of a tile, whose rows are one longer to spread over the banks.
template <class L>
constexpr int send_room = 16384 / static_cast<int>(sizeof(L));
template <class L>
constexpr int send_inputs = send_room<L> / 2 + send_room<L> / 32;

template <class T, class Code>
__global__ void __launch_bounds__(block_threads, 3)
    send(SendPlan s, const T* __restrict__ grads, const Code* __restrict__ codes, T* __restrict__ result) {
  using L = Lane<T>;
  __shared__ L sums[send_room<L>];
  __shared__ int16_t taps[send_room<L>];
  __shared__ L totals[send_inputs<L>];
  auto plane = static_cast<int32_t>(blockIdx.x);
  const int32_t log = s.lanes_log, lanes = 1 << log;
  const int32_t first_lane = s.by_lane_tiles.split(plane) << log;
  const int32_t left = s.by_strips.split(plane) * s.width, right = left + s.width < s.w.results ? left + s.width : s.w.results;
  const int32_t top = s.by_bands.split(plane) * s.height, bottom = top + s.height < s.h.results ? top + s.height : s.h.results;
  const SpanOf<int32_t> outputs = s.w.near(left, right);
  const int32_t pitch = outputs.count | 1, total_pitch = s.width | 1;
  const int32_t origin = plane * s.h.sources * s.w.sources * s.inner + first_lane;

  for (int32_t e = threadIdx.x; e < s.height * pitch << log; e += block_threads) sums[e] = 0, taps[e] = nobody;
  for (int32_t e = threadIdx.x; e < s.height * total_pitch << log; e += block_threads) totals[e] = 0;
  __syncthreads();

  const int32_t across = outputs.count << log, bands = (s.height + s.rows - 1) / s.rows;
  for (int32_t item = threadIdx.x; item < across * bands; item += block_threads) {
    const int32_t band = item / across, place = item - band * across;
    const int32_t lane = place & (lanes - 1), ow = outputs.first + (place >> log);
    const int32_t begin = top + band * s.rows, end = begin + s.rows < bottom ? begin + s.rows : bottom;
    if (begin >= end || first_lane + lane >= s.inner) continue;
    const SpanOf<int32_t> near = s.h.near(begin, end);
    int32_t at = origin + (near.first * s.w.sources + ow) * s.inner + lane;
#pragma unroll 4
    for (int32_t n = 0; n < near.count; ++n, at += s.w.sources * s.inner) {
      int32_t row, tap;
      if (!s.name(codes[at], near.first + n, ow, row, tap) || row < begin || row >= end) continue;
      const int32_t slot = ((row - top) * pitch << log) + place;
      sums[slot] += widen(grads[at]);
      taps[slot] = static_cast<int16_t>(taps[slot] == nobody || taps[slot] == tap ? tap : mixed);
    }
  }
  __syncthreads();

  const int32_t along = s.height << log, strips = (s.width + s.columns - 1) / s.columns;
  for (int32_t item = threadIdx.x; item < along * strips; item += block_threads) {
    const int32_t strip = item / along, place = item - strip * along;
    const int32_t lane = place & (lanes - 1), row = place >> log;
    const int32_t begin = left + strip * s.columns, end = begin + s.columns < right ? begin + s.columns : right;
    if (begin >= end || top + row >= bottom || first_lane + lane >= s.inner) continue;
    const auto add = [&](int32_t ow, int32_t tap, L value) {
      const int32_t column = s.w.result_of(ow, tap);
      if (column >= begin && column < end) totals[((row * total_pitch + column - left) << log) + lane] += value;
    };
    const SpanOf<int32_t> near = s.w.near(begin, end);
    int32_t slot = ((row * pitch + near.first - outputs.first) << log) + lane;
    for (int32_t n = 0; n < near.count; ++n, slot += lanes) {
      const int32_t ow = near.first + n, tap = taps[slot];
      if (tap >= 0) add(ow, tap, sums[slot]);
      if (tap != mixed) continue;
      const SpanOf<int32_t> readers = s.h.of(top + row);
      for (int32_t m = 0; m < readers.count; ++m) {
        const int32_t oh = readers.first + m * readers.step, at = origin + (oh * s.w.sources + ow) * s.inner + lane;
        int32_t named_row, named_tap;
        if (s.name(codes[at], oh, ow, named_row, named_tap) && named_row == top + row) add(ow, named_tap, widen(grads[at]));
      }
    }
  }
  __syncthreads();

  for (int32_t e = threadIdx.x; e < s.height * s.width << log; e += block_threads) {
    const int32_t lane = e & (lanes - 1);
    int32_t row = e >> log;
    const int32_t column = s.by_width.split(row);
    if (top + row >= bottom || left + column >= right || first_lane + lane >= s.inner) continue;
    const int32_t at = ((plane * s.h.results + top + row) * s.w.results + left + column) * s.inner + first_lane + lane;
    result[at] = narrow<T>(totals[((row * total_pitch + column) << log) + lane]);
  }
}

// A tile whose sums fit, or a height of 0. So does a tap along the width.
template <class L>
SendPlan plan_send(const Windows<int32_t>& h, const Windows<int32_t>& w, int32_t inner, int32_t taps_w, int32_t taps) {
  constexpr int32_t least_height = 8, least_own = 8;
  SendPlan s;
  if (taps_w - 1 > INT16_MAX) return s.height = 0, s;
  s.h = h, s.w = w, s.inner = inner, s.taps = taps, s.by_taps_w = Divider<int32_t>(taps_w);
  while (s.lanes_log < 3 && (2 << s.lanes_log) <= inner) ++s.lanes_log;
  s.width = std::min(w.results, inner > 1 ? 16 : 64);
  s.height = std::min(h.results, inner > 1 ? 16 : 32);
  const int64_t most = std::min<int64_t>(w.most_near(s.width), w.sources) | 1;
  const auto fits = [&] {
    return (s.height * most) << s.lanes_log <= send_room<L> && (s.height * (s.width | 1)) << s.lanes_log <= send_inputs<L>;
  };
  while (s.height > least_height && !fits()) s.height /= 2;
  if (!fits()) return s.height = 0, s;
  const int32_t across = static_cast<int32_t>(most) << s.lanes_log, along = s.height << s.lanes_log;
  const auto share = [&](int32_t extent, int32_t others) {  // of `extent`, to keep all threads busy
    const int32_t parts = std::clamp(block_threads / others, 1, std::max(1, extent / least_own));
    return (extent + parts - 1) / parts;
  };
  s.rows = share(s.height, across), s.columns = share(s.width, along);
  const auto tiles = [](int32_t extent, int32_t tile) { return Divider<int32_t>((extent + tile - 1) / tile); };
  s.by_lane_tiles = tiles(inner, 1 << s.lanes_log);
  s.by_strips = tiles(w.results, s.width), s.by_bands = tiles(h.results, s.height);
  s.by_width = Divider<int32_t>(s.width);
  return s;
}

}  // namespace torch_pooling::cuda
