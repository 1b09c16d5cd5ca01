// Reductions along one axis of [outer, axis, inner], which large windows are made of: rows, then columns, then depth, each
// through a workspace. `sliding` (sliding.cuh) serves windows that move by one. `doubling` serves all others that overlap, and very
// long ones: in shared memory it builds the reductions of 1, 2, 4, ... neighbours, and puts a window of n together from the
// binary digits of n, in scan order, so the cost of a window grows with log n, and sums are trees. `team` serves long windows that hardly overlap, global pooling above all: some threads (part of a
// warp, a block, several blocks) share a window, and are joined in a fixed order.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cuda/device.cuh"

namespace torch_pooling::cuda {

struct AxisPass {
  Windows<int32_t> axis;
  int64_t length = 0;  // of an axis that its only window reads whole; else 0 (`axis` does not hold such a length)
  int32_t outer = 1, inner = 1;
  int32_t code_scale = 1;  // what one tap adds to a code
  Division division;       // Counted: along this axis, before the pass where it looks backward

  __device__ __forceinline__ bool divides_first() const {
    using Kind = Windows<int32_t>::Kind;
    return division.kind == Division::Kind::Counted && (axis.kind == Kind::InverseSliding || axis.kind == Kind::InverseAdaptive);
  }
  template <class L>
  __device__ __forceinline__ L divided(L value, int32_t result) const {
    if (division.kind == Division::Kind::Uniform) return value / static_cast<L>(division.divisor);
    if (division.kind == Division::Kind::Counted && !divides_first()) return value / static_cast<L>(axis.counted(result));
    return value;
  }
};

// --- tiles ---

// A block works on a tile: some positions of the axis, for some lanes. Lanes are neighbours along the inner extent or, where that
// is 1, rows. What lies together in memory is taken by neighbouring threads, and lies together in shared memory.
struct TilePlan {
  int32_t lanes = 1, tile = 1;                // lanes, and results along the axis
  int32_t source_log = 0, result_log = 0;     // how elements of a tile are numbered, see TileMap
  Divider<int32_t> by_tiles, by_lane_tiles;
};

// Element e of a tile: rows of 1 << log positions, or positions of 1 << log lanes.
struct TileMap {
  bool rows;
  int32_t log;

  __device__ __forceinline__ int32_t lane(int32_t e) const { return rows ? e >> log : e & ((1 << log) - 1); }
  __device__ __forceinline__ int32_t position(int32_t e) const { return rows ? e & ((1 << log) - 1) : e >> log; }
  __device__ __forceinline__ int32_t element(int32_t position, int32_t lane) const {
    return rows ? (lane << log) + position : (position << log) + lane;
  }
  // How many elements `lanes` lanes of `positions` positions span.
  __device__ __forceinline__ int32_t span(int32_t positions, int32_t lanes) const { return rows ? lanes << log : positions << log; }
};

// Where a block's tile lies.
struct TilePlace {
  int32_t begin, end, lanes;         // results along the axis, and lanes that exist
  int64_t source, result;            // of position 0 of the axis and lane 0
  int32_t source_lane, result_lane;  // from one lane to the next; positions are `inner` apart

  __device__ __forceinline__ TilePlace(const AxisPass& a, const TilePlan& plan) {
    const bool rows = a.inner == 1;
    auto outer = static_cast<int32_t>(blockIdx.x);
    const int32_t lane = plan.by_lane_tiles.split(outer) * plan.lanes;
    begin = plan.by_tiles.split(outer) * plan.tile;
    end = begin + plan.tile < a.axis.results ? begin + plan.tile : a.axis.results;
    const int32_t all = rows ? a.outer : a.inner;
    lanes = all - lane < plan.lanes ? all - lane : plan.lanes;
    source_lane = rows ? a.axis.sources : 1, result_lane = rows ? a.axis.results : 1;
    source = static_cast<int64_t>(outer) * a.axis.sources * a.inner + static_cast<int64_t>(lane) * source_lane;
    result = static_cast<int64_t>(outer) * a.axis.results * a.inner + static_cast<int64_t>(lane) * result_lane;
  }
};

// --- doubling ---

// Elements of one buffer in shared memory, of two, and results of a block, kept in registers.
template <class L>
constexpr int doubling_room = 16384 / static_cast<int>(sizeof(L));
constexpr int doubling_each = 8, doubling_results = doubling_each * block_threads;

template <class Op, class S, class D, bool coded>
__global__ void __launch_bounds__(block_threads, coded || sizeof(Lane<S>) == 8 ? 2 : 4)
    doubling(AxisPass a, TilePlan plan, const S* __restrict__ source, const int32_t* __restrict__ source_codes,
             D* __restrict__ result, Saved saved) {
  using L = Lane<S>;
  __shared__ L values[2][doubling_room<L>];
  __shared__ int16_t places[2][coded ? doubling_room<L> : 1];
  const TilePlace t(a, plan);
  const TileMap map{a.inner == 1, plan.source_log}, result_map{a.inner == 1, plan.result_log};
  const SpanOf<int32_t> tile = a.axis.near(t.begin, t.end);
  const bool divide_first = a.divides_first();

  const int32_t filled = map.span(tile.count, t.lanes);
  for (int32_t e = threadIdx.x; e < filled; e += block_threads) {
    const int32_t at = tile.first + map.position(e), lane = map.lane(e);
    L value = identity<Op, S>();
    if (at < tile.first + tile.count && lane < t.lanes) {
      value = widen(source[t.source + static_cast<int64_t>(at) * a.inner + lane * t.source_lane]);
      if constexpr (!Op::is_max) {
        if (divide_first) value /= static_cast<L>(a.axis.counted(at));
      }
    }
    values[0][e] = value;
    if constexpr (coded) places[0][e] = static_cast<int16_t>(map.position(e));
  }

  L best[doubling_each];
  int32_t place[doubling_each], next[doubling_each], count[doubling_each];  // next: the element that a window goes on with
#pragma unroll
  for (int n = 0; n < doubling_each; ++n) {
    const int32_t e = static_cast<int32_t>(threadIdx.x) + n * block_threads;
    const int32_t window = t.begin + result_map.position(e), lane = result_map.lane(e);
    best[n] = identity<Op, S>(), place[n] = next[n] = count[n] = 0;
    if (window < t.end && lane < t.lanes) {
      const SpanOf<int32_t> span = a.axis.of(window);
      count[n] = span.count, place[n] = span.count > 0 ? span.first - tile.first : 0;
      next[n] = map.element(place[n], lane);
    }
  }
  const int32_t step = map.element(a.axis.span_step(), 0);
  int now = 0;
  for (int32_t width = 1; width <= a.axis.most; width *= 2, now ^= 1) {
    __syncthreads();
    const int32_t shift = step * width;
#pragma unroll
    for (int n = 0; n < doubling_each; ++n) {
      if ((count[n] & width) == 0) continue;
      take<Op, coded>(best[n], place[n], values[now][next[n]], static_cast<int32_t>(coded ? places[now][next[n]] : 0));
      next[n] += shift;
    }
    if (2 * width > a.axis.most) break;
    // Neighbours that are not there, or belong to another row, only enter reductions that no window asks for.
    for (int32_t e = threadIdx.x; e < filled; e += block_threads) {
      L value = values[now][e];
      int32_t where = coded ? places[now][e] : 0;
      const int32_t other = e + shift;
      if (other < filled) {
        take<Op, coded>(value, where, values[now][other], static_cast<int32_t>(coded ? places[now][other] : 0));
      }
      values[now ^ 1][e] = value;
      if constexpr (coded) places[now ^ 1][e] = static_cast<int16_t>(where);
    }
  }
#pragma unroll
  for (int n = 0; n < doubling_each; ++n) {
    const int32_t e = static_cast<int32_t>(threadIdx.x) + n * block_threads;
    const int32_t window = t.begin + result_map.position(e), lane = result_map.lane(e);
    if (window >= t.end || lane >= t.lanes) continue;
    const int64_t at = t.result + static_cast<int64_t>(window) * a.inner + lane * t.result_lane;
    if constexpr (!Op::is_max) best[n] = a.divided(best[n], window);
    result[at] = narrow<D>(best[n]);
    if constexpr (coded) {
      const SpanOf<int32_t> span = a.axis.of(window);
      int32_t code[1] = {0};
      if (span.count > 0) {
        const int32_t where = tile.first + place[n];
        code[0] = (span.tap + a.axis.by_step.quotient(where - span.first)) * a.code_scale;
        if (source_codes != nullptr) {
          code[0] += source_codes[t.source + static_cast<int64_t>(where) * a.inner + lane * t.source_lane];
        }
      }
      saved.put<1>(at, code);
    }
  }
}

// --- team ---

// Which positions count, of windows that a team reads whole: for each sample a byte for each position, and what they are together.
struct MaskRow {
  int64_t count, first;  // how many count, and the first of them
};
struct Mask {
  const uint8_t* counts = nullptr;  // [samples, length], 0 where a position does not
  const MaskRow* rows = nullptr;    // [samples]
  int64_t before = 0;               // planes of the outer extent that lie before a slice
  int64_t channels = 1;             // planes of a sample along the outer extent: 1 in channels-last

  __device__ __forceinline__ int64_t sample(int64_t outer) const { return (before + outer) / channels; }

  // The result of a window of sample `row`: sums are divided, and where nothing counts it is 0 at position 0.
  template <class Op, class W>
  static __device__ __forceinline__ void finish(const MaskRow& row, W lowest, W& value, int64_t& tap) {
    if constexpr (Op::is_max) {
      if (value == lowest) tap = row.first;
      if (row.count == 0) value = 0;
    } else {
      value /= static_cast<W>(row.count > 0 ? row.count : 1);
    }
  }
};

// Sums of many float32 numbers are joined in float64.
template <class Op, class L>
using Wide = std::conditional_t<!Op::is_max && std::is_same_v<L, float>, double, L>;

struct TeamPlan {
  int32_t lanes_log = 0, threads_log = 0;  // a team: 1 << lanes_log neighbours along the inner extent, 1 << threads_log along the axis
  int32_t splits = 1, teams = 0;           // parts of one window, and windows x parts in all
  Divider<int32_t> by_splits, by_lane_tiles, by_results;
};

constexpr int team_iterations = 64;  // added up in lanes before they are joined

// Blocks of a multiprocessor: eight sums in two types and what counts of them need more registers.
template <int V, bool masked>
constexpr int team_blocks = V > 8 ? 2 : V == 8 && masked ? 3 : 4;

// V elements at a time: neighbours along the inner extent, or with `along` V taps of one window, read whole.
template <class Op, class S, class D, bool coded, int V, bool along, bool masked>
__global__ void __launch_bounds__(block_threads, team_blocks<V, masked>)
    team(AxisPass a, TeamPlan plan, const S* __restrict__ source, const int32_t* __restrict__ source_codes, D* __restrict__ result,
         Saved saved, Wide<Op, Lane<S>>* __restrict__ parts, int64_t* __restrict__ part_codes, Mask mask) {
  using L = Lane<S>;
  using W = Wide<Op, L>;
  constexpr int kept = along ? 1 : V;  // results of a thread
  constexpr int warp = 32;
  __shared__ W shared_values[block_threads / warp][warp][kept];
  __shared__ int32_t shared_codes[block_threads / warp][warp][coded ? kept : 1];
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t lanes = 1 << plan.lanes_log, threads = 1 << plan.threads_log;
  const int32_t lane = thread & (lanes - 1), rank = (thread >> plan.lanes_log) & (threads - 1);
  const int32_t member = plan.lanes_log + plan.threads_log;
  const int32_t number = (static_cast<int32_t>(blockIdx.x) << (8 - member)) + (thread >> member);
  static_assert(block_threads == 1 << 8);

  int32_t outer = number < plan.teams ? number : 0;
  const int32_t split = plan.by_splits.split(outer);
  const int32_t inner = ((plan.by_lane_tiles.split(outer) << plan.lanes_log) + lane) * (along ? 1 : V);
  const int32_t window = plan.by_results.split(outer);
  const bool here = number < plan.teams && inner < a.inner;
  SpanOf<int32_t> span;
  if (a.length == 0) span = a.axis.of(window);
  const int64_t sources = a.length != 0 ? a.length : a.axis.sources;
  const int64_t steps = (a.length != 0 ? a.length : span.count) / (along ? V : 1);
  const int64_t begin = steps * split / plan.splits;
  const auto count = static_cast<int32_t>(here ? steps * (split + 1) / plan.splits - begin : 0);
  const int64_t origin = (outer * sources + span.first + begin * span.step * (along ? V : 1)) * a.inner + inner;
  const S* const from = source + origin;
  const int64_t pitch = along ? V : static_cast<int64_t>(span.step) * a.inner;
  const int64_t sample = masked ? mask.sample(outer) : 0;
  const uint8_t* const counts = masked ? mask.counts + sample * sources + begin * (along ? V : 1) : nullptr;
  const bool divide_first = a.divides_first();

  W joined[V];
  L best[V];
  int32_t code[V];
#pragma unroll
  for (int v = 0; v < V; ++v) best[v] = identity<Op, S>(), joined[v] = static_cast<W>(best[v]), code[v] = 0;
  for (int32_t n = rank; n < count;) {
#pragma unroll 4
    for (int i = 0; i < team_iterations && n < count; ++i, n += threads) {
      const Pack<S, V> x = load_pack<V>(from + n * pitch);
      Pack<uint8_t, along ? V : 1> counted;
      if constexpr (masked) counted = load_pack<along ? V : 1>(counts + n * (along ? V : 1));
      L share = 1;
      if (!Op::is_max && divide_first) {
        share = static_cast<L>(a.axis.counted(span.first + static_cast<int32_t>(begin + n) * span.step));
      }
#pragma unroll
      for (int v = 0; v < V; ++v) {
        L value = widen(x.at[v]);
        if constexpr (masked) value = counted.at[along ? v : 0] != 0 ? value : identity<Op, S>();
        if constexpr (!Op::is_max) {
          if (divide_first) value /= share;
        }
        take<Op, coded>(best[v], code[v], value, along ? n * V + v : n);
      }
    }
    if constexpr (!Op::is_max) {
#pragma unroll
      for (int v = 0; v < V; ++v) joined[v] += static_cast<W>(best[v]), best[v] = 0;
    }
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if constexpr (Op::is_max) joined[v] = best[v];
    if (v >= kept) merge<Op, coded>(joined[0], code[0], joined[v], code[v]);
  }

#pragma unroll
  for (int v = 0; v < kept; ++v) {
    for (int distance = lanes; distance < warp && distance < (1 << member); distance *= 2) {
      const W other = __shfl_xor_sync(0xffffffffu, joined[v], distance);
      const int32_t other_code = coded ? __shfl_xor_sync(0xffffffffu, code[v], distance) : 0;
      merge<Op, coded>(joined[v], code[v], other, other_code);
    }
  }
  if ((1 << member) > warp) {
    const int32_t at = thread % warp;
    if (at < lanes) {
#pragma unroll
      for (int v = 0; v < kept; ++v) {
        shared_values[thread / warp][at][v] = joined[v];
        if constexpr (coded) shared_codes[thread / warp][at][v] = code[v];
      }
    }
    __syncthreads();
    if (rank == 0) {
      for (int other = 1; other < (1 << member) / warp; ++other) {
#pragma unroll
        for (int v = 0; v < kept; ++v) {
          merge<Op, coded>(joined[v], code[v], shared_values[thread / warp + other][at][v],
                           coded ? shared_codes[thread / warp + other][at][v] : 0);
        }
      }
    }
  }
  if (rank != 0 || !here) return;
#pragma unroll
  for (int v = 0; v < kept; ++v) {
    const int64_t at = (static_cast<int64_t>(outer) * plan.by_results.divisor + window) * a.inner + inner + v;
    int64_t tap = begin * (along ? V : 1) + code[v];
    if (plan.splits > 1) {
      parts[at * plan.splits + split] = joined[v];
      if constexpr (coded) part_codes[at * plan.splits + split] = tap;
      continue;
    }
    if constexpr (masked) {
      Mask::finish<Op>(mask.rows[sample], static_cast<W>(identity<Op, S>()), joined[v], tap);
    } else if constexpr (!Op::is_max) {
      joined[v] = a.divided(joined[v], window);
    }
    result[at] = narrow<D>(static_cast<L>(joined[v]));
    if constexpr (coded) {
      int64_t named[1] = {(span.tap + tap) * a.code_scale};
      if (source_codes != nullptr && steps > 0) named[0] += source_codes[origin + v + code[v] * pitch];
      saved.put<1>(at, named);
    }
  }
}

// Joins the parts of windows that several teams shared, in order. Such windows read their axis whole.
template <class Op, class D, bool coded, bool masked>
__global__ void __launch_bounds__(block_threads, 4)
    join(AxisPass a, int32_t splits, int64_t results, const Wide<Op, Lane<D>>* __restrict__ parts,
         const int64_t* __restrict__ part_codes, const int32_t* __restrict__ source_codes, D* __restrict__ result, Saved saved, Mask mask) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= results) return;
  Wide<Op, Lane<D>> best = parts[at * splits];
  int64_t code[1] = {coded ? part_codes[at * splits] : 0};
  for (int32_t split = 1; split < splits; ++split) {
    take<Op, coded>(best, code[0], parts[at * splits + split], coded ? part_codes[at * splits + split] : int64_t{0});
  }
  if constexpr (masked) {
    const auto lowest = static_cast<Wide<Op, Lane<D>>>(identity<Op, D>());
    Mask::finish<Op>(mask.rows[mask.sample(at / a.inner)], lowest, best, code[0]);
  } else if constexpr (!Op::is_max) {
    best = a.divided(best, 0);
  }
  result[at] = narrow<D>(static_cast<Lane<D>>(best));
  if constexpr (coded) {
    const int64_t tap = code[0];
    code[0] *= a.code_scale;
    if (source_codes != nullptr) code[0] += source_codes[(at / a.inner * a.length + tap) * a.inner + at % a.inner];
    saved.put<1>(at, code);
  }
}

}  // namespace torch_pooling::cuda
