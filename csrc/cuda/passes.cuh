// Reductions along single axes, chosen and launched: whole rows, and large windows axis by axis through workspaces.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <bit>

#include "cuda/axis.cuh"
#include "cuda/plan.cuh"
#include "cuda/sliding.cuh"

namespace torch_pooling::cuda {

constexpr int64_t direct_taps = 32;  // windows up to here are read tap by tap

// One pass, or the only one: what it reads and writes.
template <class S, class D>
struct PassData {
  const S* source;
  const int32_t* source_codes;
  D* result;
  Saved saved;
  Mask mask{};
};

inline int32_t log2_ceil(int64_t n) { return n <= 1 ? 0 : static_cast<int32_t>(std::bit_width(static_cast<uint64_t>(n - 1))); }

template <class Op, class S, class D, bool coded, int V, bool along, bool masked = false>
void run_team(Context& context, const AxisPass& a, const PassData<S, D>& data) {
  using W = Wide<Op, Lane<S>>;
  const bool whole = a.length != 0;
  const int64_t steps = (whole ? a.length : a.axis.most) / (along ? V : 1), results = whole ? 1 : a.axis.results;
  const int64_t packs = along ? 1 : a.inner / V;
  TeamPlan plan;
  plan.lanes_log = std::min(5, log2_ceil(packs));
  plan.threads_log = std::clamp(log2_ceil((steps + 3) / 4), 0, 8 - plan.lanes_log);
  const int64_t tiles = (packs + (1 << plan.lanes_log) - 1) >> plan.lanes_log;
  const int64_t windows = a.outer * results * tiles;
  const int64_t blocks = (windows << (plan.lanes_log + plan.threads_log)) / block_threads;
  if (whole) {  // few long windows: several teams to each, whatever the device, so that sums are the same on all
    constexpr int64_t enough_blocks = 1024, least_steps = 16;
    const int64_t most = steps / ((int64_t{1} << plan.threads_log) * least_steps);
    const int64_t wanted = blocks < enough_blocks ? enough_blocks / std::max<int64_t>(1, blocks) : 1;
    plan.splits = static_cast<int32_t>(std::max<int64_t>(1, std::min(most, wanted)));
    plan.splits = std::max(plan.splits, static_cast<int32_t>(steps * V / narrow_limit + 1));
  }
  plan.teams = static_cast<int32_t>(windows * plan.splits);
  plan.by_splits = Divider<int32_t>(plan.splits);
  plan.by_lane_tiles = Divider<int32_t>(static_cast<int32_t>(tiles));
  plan.by_results = Divider<int32_t>(static_cast<int32_t>(results));
  const int64_t outputs = a.outer * results * a.inner;
  W* parts = nullptr;
  int64_t* codes = nullptr;
  if (plan.splits > 1) {
    parts = static_cast<W*>(context.allocate(outputs * plan.splits * static_cast<int64_t>(sizeof(W))));
    if (coded) codes = static_cast<int64_t*>(context.allocate(outputs * plan.splits * static_cast<int64_t>(sizeof(int64_t))));
  }
  const int64_t threads = static_cast<int64_t>(plan.teams) << (plan.lanes_log + plan.threads_log);
  launch(context, team<Op, S, D, coded, V, along, masked>, threads, a, plan, data.source, data.source_codes, data.result, data.saved, parts,
         codes, data.mask);
  if (plan.splits > 1) {
    launch(context, join<Op, D, coded, masked>, outputs, a, plan.splits, outputs, parts, codes, data.source_codes, data.result, data.saved,
           data.mask);
  }
}

inline int64_t launch_tiles(const AxisPass& a, TilePlan& plan) {
  const bool rows = a.inner == 1;
  const int32_t tiles = (a.axis.results + plan.tile - 1) / plan.tile;
  const int32_t lane_tiles = ((rows ? a.outer : a.inner) + plan.lanes - 1) / plan.lanes;
  plan.by_tiles = Divider<int32_t>(tiles), plan.by_lane_tiles = Divider<int32_t>(lane_tiles);
  return static_cast<int64_t>(rows ? 1 : a.outer) * tiles * lane_tiles * block_threads;
}

// The largest tile whose sources fit; 0 where windows are too long for a tile to be worth it.
template <class L>
TilePlan plan_doubling(const AxisPass& a) {
  TilePlan plan;
  int32_t lanes_log = std::min(4, log2_ceil(a.inner));
  while (lanes_log > 0 && (doubling_room<L> >> lanes_log) < 3 * a.axis.most_near(1)) --lanes_log;
  const int64_t room = doubling_room<L> >> lanes_log;
  const auto extent = [&](int64_t results) { return std::min<int64_t>(a.axis.most_near(results), a.axis.sources); };
  int64_t low = 0, high = std::min<int64_t>(doubling_results >> lanes_log, a.axis.results);
  const int64_t least = std::min<int64_t>(64, high);
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (extent(middle) <= room) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  plan.tile = static_cast<int32_t>(low < least ? 0 : low);
  plan.lanes = 1 << lanes_log, plan.source_log = plan.result_log = lanes_log;
  if (a.inner == 1 && plan.tile > 0) {  // as many rows as fit
    plan.source_log = log2_ceil(extent(plan.tile)), plan.result_log = log2_ceil(plan.tile);
    plan.lanes = std::min(doubling_room<L> >> plan.source_log, doubling_results >> plan.result_log);
  }
  return plan;
}

template <class Op, class S, class D, bool coded>
void run_doubling(Context& context, const AxisPass& a, TilePlan plan, const PassData<S, D>& data) {
  const int64_t threads = launch_tiles(a, plan);
  launch(context, doubling<Op, S, D, coded>, threads, a, plan, data.source, data.source_codes, data.result, data.saved);
}

// Whether windows move by one, and are neither too short nor too long for it.
inline bool slides(const AxisPass& a) {
  using Kind = Windows<int32_t>::Kind;
  const bool moves = a.axis.kind == Kind::Sliding || a.axis.kind == Kind::InverseSliding;
  return moves && a.axis.advance == 1 && a.axis.step == 1 && a.axis.taps >= sliding_run && a.axis.taps <= sliding_longest;
}

template <class Op, class S, class D, bool coded>
void run_sliding(Context& context, const AxisPass& a, const PassData<S, D>& data) {
  constexpr int room = sliding_room<Lane<S>>;
  TilePlan plan;
  int32_t lanes_log = std::min(5, log2_ceil(a.inner));
  while (lanes_log > 0 && (room >> lanes_log) < 3 * a.axis.taps) --lanes_log;
  const int32_t results = (a.axis.results + sliding_run - 1) / sliding_run * sliding_run;
  plan.tile = std::min(results, ((room >> lanes_log) - a.axis.taps + 1) / sliding_run * sliding_run);
  plan.lanes = 1 << lanes_log, plan.source_log = plan.result_log = lanes_log;
  if (a.inner == 1) {  // as many rows as fit
    plan.source_log = log2_ceil(plan.tile + a.axis.taps - 1), plan.result_log = log2_ceil(plan.tile / sliding_run);
    plan.lanes = room >> plan.source_log;
  }
  const int64_t threads = launch_tiles(a, plan);
  launch(context, sliding<Op, S, D, coded>, threads, a, plan, a.axis.leads(), data.source, data.source_codes, data.result, data.saved);
}

template <class Op, class S, class D, bool coded>
void run_pass(Context& context, const AxisPass& a, const PassData<S, D>& data) {
  if (slides(a)) return run_sliding<Op, S, D, coded>(context, a, data);
  const int64_t longest = a.axis.most;
  const bool apart = longest >= 32 && static_cast<int64_t>(a.axis.results) * longest <= 2 * static_cast<int64_t>(a.axis.sources);
  const TilePlan plan = plan_doubling<Lane<S>>(a);
  if (apart || plan.tile == 0) return run_team<Op, S, D, coded, 1, false>(context, a, data);
  run_doubling<Op, S, D, coded>(context, a, plan, data);
}

// Whether this is one window over the whole of the last axis, for every position of the others.
inline bool is_whole_rows(const Problem& problem) {
  return problem.axes[0].is_identity() && problem.axes[1].is_identity() && problem.axes[2].is_whole() && problem.axes[2].input > 1;
}

// Masked: of what a mask says counts.
template <class Op, class T, bool coded, bool masked = false>
void reduce_rows(Context& context, const Slice& slice, const T* source, T* result, const Saved& saved, const Mask& mask = {}) {
  constexpr int V = pack_bytes / static_cast<int>(sizeof(T));
  AxisPass a;
  a.length = slice.sources(2);
  a.outer = static_cast<int32_t>(slice.outer * slice.sources(0) * slice.sources(1)), a.inner = static_cast<int32_t>(slice.inner);
  a.division = division_of(*slice.problem);
  const PassData<T, T> data{source, nullptr, result, saved, mask};
  const bool packs_of_mask = !masked || is_aligned(mask.counts, V);
  if (slice.inner == 1 && a.length % V == 0 && is_aligned(source, pack_bytes) && packs_of_mask) {
    return run_team<Op, T, T, coded, V, true, masked>(context, a, data);
  }
  if (slice.inner % V == 0 && is_aligned(source, pack_bytes)) return run_team<Op, T, T, coded, V, false, masked>(context, a, data);
  run_team<Op, T, T, coded, 1, false, masked>(context, a, data);
}

// Axis by axis. Maxima with codes must go from the width outwards, so that the first of equals wins; a backward is shorter the
// other way round. Between passes lie maxima in the elements' own type, and sums in lanes.
template <class Op, class T, bool coded>
void reduce_axes(Context& context, const Slice& slice, const T* source, T* result, const Saved& saved) {
  using Between = std::conditional_t<Op::is_max, T, Lane<T>>;
  int order[3] = {2, 1, 0}, axes[3], count = 0;
  if (slice.inverse) std::swap(order[0], order[2]);
  for (const int axis : order) {
    if (!slice.windows<int32_t>(axis).trivial()) axes[count++] = axis;
  }
  if (count == 0) axes[count++] = 2;
  const Division division = division_of(*slice.problem);
  int64_t size[3] = {slice.sources(0), slice.sources(1), slice.sources(2)};
  const Between* from = nullptr;
  const int32_t* from_codes = nullptr;
  for (int n = 0; n < count; ++n) {
    const int axis = axes[n];
    const bool first = n == 0, last = n + 1 == count;
    AxisPass a;
    a.axis = slice.windows<int32_t>(axis);
    int64_t outer = slice.outer, inner = slice.inner;
    for (int other = 0; other < 3; ++other) if (other != axis) (other < axis ? outer : inner) *= size[other];
    a.outer = static_cast<int32_t>(outer), a.inner = static_cast<int32_t>(inner);
    for (int other = axis + 1; other < 3; ++other) a.code_scale *= static_cast<int32_t>(slice.axis(other).max_taps());
    if (division.kind == Division::Kind::Counted || last) a.division = division;
    size[axis] = slice.results(axis);
    const int64_t elements = slice.outer * size[0] * size[1] * size[2] * slice.inner;
    Between* to = nullptr;
    Saved codes = saved;
    if (!last) {
      to = static_cast<Between*>(context.allocate(elements * static_cast<int64_t>(sizeof(Between))));
      if (coded) codes = {context.allocate(elements * static_cast<int64_t>(sizeof(int32_t))), OffsetType::Int32};
    }
    if (first && last) {
      run_pass<Op, T, T, coded>(context, a, PassData<T, T>{source, nullptr, result, codes});
    } else if (first) {
      run_pass<Op, T, Between, coded>(context, a, PassData<T, Between>{source, nullptr, to, codes});
    } else if (last) {
      run_pass<Op, Between, T, coded>(context, a, PassData<Between, T>{from, from_codes, result, codes});
    } else {
      run_pass<Op, Between, Between, coded>(context, a, PassData<Between, Between>{from, from_codes, to, codes});
    }
    from = to, from_codes = static_cast<const int32_t*>(codes.data);
  }
}

// The length of spans, all axes together.
inline int64_t span_elements(const Slice& slice) {
  int64_t elements = 1;
  for (int axis = 0; axis < 3; ++axis) elements *= slice.windows<int64_t>(axis).most;
  return elements;
}

}  // namespace torch_pooling::cuda
