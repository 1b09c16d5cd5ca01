// The general traversal: one thread for each result (V of them along the channels in channels-last), every source of its
// window read in scan order. Forward it pools; on inverse windows it is the backward of sums. Neighbouring threads share
// sources through the caches. Moves e(1 + r) bytes per element, and r offsets.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cuda/device.cuh"

namespace torch_pooling::cuda {

// The number of the first element of a window: the answer where none beats what a maximum starts from.
template <class Int>
__device__ __forceinline__ Int first_code(const Box<Int>& box, const SpanOf<Int>& d, const SpanOf<Int>& h, const SpanOf<Int>& w) {
  if (d.count == 0 || h.count == 0 || w.count == 0) return 0;
  return d.tap * box.code_scale[0] + h.tap * box.code_scale[1] + w.tap;
}

// Blocks of a multiprocessor: as many as leave each thread the registers it needs, on every architecture.
template <class T, int V, class Int>
constexpr int direct_blocks = sizeof(Int) == 8 ? 1 : V > 8 ? 2 : V > 1 && (std::is_integral_v<T> || sizeof(T) == 8) ? 3 : 4;

template <class Op, class T, int V, bool coded, class Int>
__global__ void __launch_bounds__(block_threads, direct_blocks<T, V, Int>)
    direct(Box<Int> box, Division division, const T* __restrict__ source, T* __restrict__ result, Saved saved) {
  using L = Lane<T>;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t id = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; id < box.threads; id += stride) {
    const typename Box<Int>::Place p = box.place(static_cast<Int>(id), V);
    const SpanOf<Int> d = box.axis[0].of(p.at[0]), h = box.axis[1].of(p.at[1]), w = box.axis[2].of(p.at[2]);
    const bool divide_first = division.kind == Division::Kind::Counted && box.axis[2].kind != Windows<Int>::Kind::Sliding
                              && box.axis[2].kind != Windows<Int>::Kind::Adaptive;
    L best[V];
    Int code[V];
    const Int start = coded ? first_code(box, d, h, w) : 0;
#pragma unroll
    for (int v = 0; v < V; ++v) best[v] = identity<Op, T>(), code[v] = start;
    for (Int nd = 0; nd < d.count; ++nd) {
      const Int at_d = d.first + nd * d.step;
      for (Int nh = 0; nh < h.count; ++nh) {
        const Int at_h = h.first + nh * h.step;
        const T* row = source + box.source(p, at_d, at_h, w.first);
        Int tap = coded ? (d.tap + nd) * box.code_scale[0] + (h.tap + nh) * box.code_scale[1] + w.tap : 0;
        L divisor = 1;
        if (divide_first) divisor = static_cast<L>(box.axis[0].counted(at_d)) * static_cast<L>(box.axis[1].counted(at_h));
        for (Int nw = 0; nw < w.count; ++nw, ++tap, row += w.step * box.inner) {
          const Pack<T, V> x = load_pack<V>(row);
          L share = 1;
          if (divide_first) share = divisor * static_cast<L>(box.axis[2].counted(w.first + nw * w.step));
#pragma unroll
          for (int v = 0; v < V; ++v) {
            L value = widen(x.at[v]);
            if constexpr (!Op::is_max) {
              if (divide_first) value /= share;
            }
            take<Op, coded>(best[v], code[v], value, tap);
          }
        }
      }
    }
    L divisor = static_cast<L>(division.divisor);
    if (division.kind == Division::Kind::Counted && !divide_first) {
      divisor = static_cast<L>(box.axis[0].counted(p.at[0])) * static_cast<L>(box.axis[1].counted(p.at[1]))
                * static_cast<L>(box.axis[2].counted(p.at[2]));
    }
    Pack<T, V> done;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      if constexpr (!Op::is_max) {
        if (division.kind != Division::Kind::None && !divide_first) best[v] /= divisor;
      }
      done.at[v] = narrow<T>(best[v]);
    }
    const Int at = box.result(p);
    store_pack<V>(result + at, done);
    if constexpr (coded) saved.put<V>(at, code);
  }
}

}  // namespace torch_pooling::cuda
