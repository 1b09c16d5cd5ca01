// Pooling forward: which kernels serve a problem. Also the backward of sums, which is the same on inverse windows.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cuda/direct.cuh"
#include "cuda/passes.cuh"

namespace torch_pooling::cuda {

template <class Op, class T, bool coded>
void reduce_directly(Context& context, const Slice& slice, const T* source, T* result, const Saved& saved) {
  constexpr int V = pack_bytes / static_cast<int>(sizeof(T));
  const Division division = division_of(*slice.problem);
  if (!slice.narrow) {
    const Box<int64_t> box = make_box<int64_t>(slice, 1);
    return launch(context, direct<Op, T, 1, coded, int64_t>, box.threads, box, division, source, result, saved);
  }
  if (packs_fit<T>(slice, source, result, saved)) {
    const Box<int32_t> box = make_box<int32_t>(slice, V);
    return launch(context, direct<Op, T, V, coded, int32_t>, box.threads, box, division, source, result, saved);
  }
  const Box<int32_t> box = make_box<int32_t>(slice, 1);
  launch(context, direct<Op, T, 1, coded, int32_t>, box.threads, box, division, source, result, saved);
}

template <class Op, class T, bool coded>
bool reduce_small(Context& context, const Slice& slice, const T* source, T* result, const Saved& saved) {
  if constexpr (std::is_integral_v<T>) {
    return false;
  } else {
    if (coded && saved.type != OffsetType::UInt8) return false;
    return with_small_window(slice, false, [&](auto window) {
      using Window = decltype(window);
      constexpr int P = tile_width<T>;
      const TileProblem a = make_tiles(slice, P, tile_rows<T, Window>, pack_bytes, pack_bytes, source, result, saved, P, sizeof(T));
      launch(context, tile<Op, T, coded, Window>, a.threads, a, source, result, static_cast<uint8_t*>(saved.data));
    });
  }
}

template <class Op, class T, bool coded>
void reduce(Context& context, const Problem& problem, const void* source, void* result, const Saved& saved, bool inverse) {
  for_slices(problem, inverse, [&](const Slice& slice, int64_t sources_before, int64_t results_before) {
    const T* const from = static_cast<const T*>(source) + sources_before;
    T* const to = static_cast<T*>(result) + results_before;
    const Saved codes = advance(saved, results_before);
    const bool rows = !inverse && is_whole_rows(problem) && slice.outer * slice.results(0) * slice.results(1) * slice.inner < narrow_limit;
    if (rows) return reduce_rows<Op, T, coded>(context, slice, from, to, codes);
    if (!inverse && reduce_small<Op, T, coded>(context, slice, from, to, codes)) return;
    // Axis by axis, each divides by what it counts there; integers would drop what is left over each time.
    constexpr bool integral_sum = !Op::is_max && std::is_integral_v<Lane<T>>;
    const bool by_axes = !integral_sum || division_of(problem).kind != Division::Kind::Counted;
    if (slice.narrow && by_axes && span_elements(slice) > direct_taps) return reduce_axes<Op, T, coded>(context, slice, from, to, codes);
    reduce_directly<Op, T, coded>(context, slice, from, to, codes);
  });
}

}  // namespace torch_pooling::cuda
