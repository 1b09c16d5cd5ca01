// Windows that move by one from result to result, along one axis: `sliding_run` neighbours share all but their ends. In
// registers, a thread reduces what they share once, adds suffixes of what comes before and prefixes of what comes after, and so
// spends k / run + 4 steps on a window of k. The sources lie in shared memory, filled up with what a reduction starts from.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cuda/axis.cuh"

namespace torch_pooling::cuda {

constexpr int sliding_run = 4;
constexpr int sliding_longest = 128;  // the steps of longer windows cost more than doubling

template <class L>
constexpr int sliding_room = 16384 / static_cast<int>(sizeof(L));

// Threads of a warp are sliding_run positions apart where a tile is one element wide: this keeps them in different banks.
__device__ __forceinline__ int32_t spread_banks(int32_t e) { return e + (e >> 5); }

template <class Op, class S, class D, bool coded>
__global__ void __launch_bounds__(block_threads, 4)
    sliding(AxisPass a, TilePlan plan, int32_t leads, const S* __restrict__ source, const int32_t* __restrict__ source_codes,
            D* __restrict__ result, Saved saved) {
  using L = Lane<S>;
  constexpr int R = sliding_run;
  __shared__ L values[sliding_room<L> + sliding_room<L> / 32];
  const TilePlace t(a, plan);
  const TileMap map{a.inner == 1, plan.source_log}, result_map{a.inner == 1, plan.result_log};
  const int32_t left = t.begin + leads;
  const int32_t taps = a.axis.taps;
  const bool divide_first = a.divides_first();

  const int32_t filled = map.span(plan.tile + taps - 1, t.lanes);
  for (int32_t e = threadIdx.x; e < filled; e += block_threads) {
    const int32_t at = left + map.position(e), lane = map.lane(e);
    L value = identity<Op, S>();
    if (at >= 0 && at < a.axis.sources && lane < t.lanes) {
      value = widen(source[t.source + static_cast<int64_t>(at) * a.inner + lane * t.source_lane]);
      if constexpr (!Op::is_max) {
        if (divide_first) value /= static_cast<L>(a.axis.counted(at));
      }
    }
    values[spread_banks(e)] = value;
  }
  __syncthreads();

  const int32_t runs = result_map.span(plan.tile / R, t.lanes);
  const int32_t pitch = map.element(1, 0);
  for (int32_t run = threadIdx.x; run < runs; run += block_threads) {
    const int32_t lane = result_map.lane(run), start = result_map.position(run) * R;  // within the tile
    if (start >= plan.tile || t.begin + start >= a.axis.results || lane >= t.lanes) continue;
    const int32_t first = map.element(start, lane);
    const auto value_at = [&](int32_t at) { return values[spread_banks(first + at * pitch)]; };
    // Windows r = 0 ... R - 1 read [r, r + taps): suffixes of [0, R - 1), all of [R - 1, taps), prefixes of what follows.
    L best[R];
    int32_t place[R];
    L shared = value_at(R - 1);
    int32_t shared_place = R - 1;
    for (int32_t at = R; at < taps; ++at) take<Op, coded>(shared, shared_place, value_at(at), at);
    best[R - 1] = shared, place[R - 1] = shared_place;
#pragma unroll
    for (int r = R - 2; r >= 0; --r) {
      best[r] = value_at(r), place[r] = r;
      if (r < R - 2) {
        take<Op, coded>(best[r], place[r], best[r + 1], place[r + 1]);
      }
    }
#pragma unroll
    for (int r = 0; r < R - 1; ++r) take<Op, coded>(best[r], place[r], shared, shared_place);
    L prefix = value_at(taps);
    int32_t prefix_place = taps;
#pragma unroll
    for (int r = 1; r < R; ++r) {
      if (r > 1) take<Op, coded>(prefix, prefix_place, value_at(taps + r - 1), taps + r - 1);
      take<Op, coded>(best[r], place[r], prefix, prefix_place);
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int32_t window = t.begin + start + r;
      if (window >= a.axis.results) break;
      const int64_t at = t.result + static_cast<int64_t>(window) * a.inner + lane * t.result_lane;
      if constexpr (!Op::is_max) best[r] = a.divided(best[r], window);
      result[at] = narrow<D>(best[r]);
      if constexpr (coded) {
        // Where nothing beats what a maximum starts from, the first tap inside wins.
        int32_t where = left + start + place[r];
        where = where < 0 ? 0 : where;
        int32_t code[1] = {0};
        if (where < a.axis.sources) {
          code[0] = (where - a.axis.origin_of(window)) * a.code_scale;
          if (source_codes != nullptr) {
            code[0] += source_codes[t.source + static_cast<int64_t>(where) * a.inner + lane * t.source_lane];
          }
        }
        saved.put<1>(at, code);
      }
    }
  }
}

}  // namespace torch_pooling::cuda
