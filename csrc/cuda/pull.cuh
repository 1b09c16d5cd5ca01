// The backward of maxima: each grad_input element looks at the outputs that read it and adds the gradients of those whose
// saved offset names it. An offset that names no tap of its window equals nothing here, so it sends its gradient nowhere.
// `pull` looks at all of them; `sift` at those along one axis, the innermost last: where the winner of a window lies in a
// row, it is the winner of that row, so what an output sends can first be added up by row and column of outputs. A window of k x k
// costs k + k looks instead of k * k. Offsets that break that rule (no maximum gives such) are marked and looked at one by one.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cuda/device.cuh"

namespace torch_pooling::cuda {

// What the outputs that read `p` and share its width `ow` send to the tap `tap_w` of it.
template <int V, class Int, class T>
__device__ __forceinline__ void pull_column(const Box<Int>& box, const typename Box<Int>::Place& p, const SpanOf<Int>& d,
                                            const SpanOf<Int>& h, Int ow, Int tap_w, const T* grads, const Saved& saved,
                                            Lane<T> (&total)[V]) {
  for (Int nd = 0; nd < d.count; ++nd) {
    const Int od = d.first + nd * d.step;
    const Int tap_d = box.axis[0].tap_of(od, p.at[0]);
    for (Int nh = 0; nh < h.count; ++nh) {
      const Int oh = h.first + nh * h.step;
      const Int tap = tap_d * box.code_scale[0] + box.axis[1].tap_of(oh, p.at[1]) * box.code_scale[1] + tap_w;
      const Int at = box.source(p, od, oh, ow);
      Int code[V];
      saved.get<V>(at, code);
      const Pack<T, V> grad = load_pack<V>(grads + at);
#pragma unroll
      for (int v = 0; v < V; ++v) total[v] += code[v] == tap ? widen(grad.at[v]) : Lane<T>(0);
    }
  }
}

template <class T, int V, class Int>
__global__ void __launch_bounds__(block_threads, sizeof(Int) == 8 ? 1 : V == 8 ? 3 : 4)
    pull(Box<Int> box, const T* __restrict__ grads, Saved saved, T* __restrict__ result) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t id = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; id < box.threads; id += stride) {
    const typename Box<Int>::Place p = box.place(static_cast<Int>(id), V);
    const SpanOf<Int> d = box.axis[0].of(p.at[0]), h = box.axis[1].of(p.at[1]), w = box.axis[2].of(p.at[2]);
    Lane<T> total[V] = {};
    for (Int nw = 0; nw < w.count; ++nw) {
      const Int ow = w.first + nw * w.step;
      pull_column<V>(box, p, d, h, ow, box.axis[2].tap_of(ow, p.at[2]), grads, saved, total);
    }
    Pack<T, V> done;
#pragma unroll
    for (int v = 0; v < V; ++v) done.at[v] = narrow<T>(total[v]);
    store_pack<V>(result + box.result(p), done);
  }
}

// Codes between two sifts: the number of the tap in the axes that remain, or one of these.
constexpr int32_t nobody = -1;  // no output sends anything here
constexpr int32_t mixed = -2;   // outputs name several taps of one row: to be looked at one by one

// One axis of the traversal: results along `axis` replace sources, the axes before it are done, those after it are not.
struct Sift {
  Windows<int32_t> axis;
  Divider<int32_t> by_inner, by_size;                // positions after the axis; the axis
  int32_t inner = 1, scale = 1, tap_step = 1;         // scale: taps of the axes after it
  int32_t threads = 0;
};

// At first sources hold gradients T and saved offsets, then sums in lanes and codes; `saved` is for what is mixed.
template <class T, class Code, bool first, bool last>
__global__ void __launch_bounds__(block_threads, 4)
    sift(Sift s, Box<int32_t> box, const T* __restrict__ grads, Saved saved, const Lane<T>* __restrict__ sums,
         const Code* __restrict__ codes, T* __restrict__ result, Lane<T>* __restrict__ next_sums, int32_t* __restrict__ next_codes) {
  const auto id = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (id >= s.threads) return;
  int32_t rest = id;
  const int32_t inner = s.by_inner.split(rest);
  const int32_t at = s.by_size.split(rest);
  const SpanOf<int32_t> span = s.axis.of(at);
  using Number = std::conditional_t<sizeof(Code) == 8, int64_t, int32_t>;
  Lane<T> total = 0;
  int32_t found = nobody;
  const bool even = s.axis.kind == Windows<int32_t>::Kind::InverseSliding;  // then taps go down by the same each time
  int32_t tap = span.tap;
  int32_t from = (rest * s.axis.sources + span.first) * s.inner + inner;
  for (int32_t n = 0; n < span.count; ++n, from += span.step * s.inner, tap -= s.tap_step) {
    const Code code = codes[from];
    if (!even) tap = s.axis.tap_of(span.first + n * span.step, at);
    const int32_t begin = tap * s.scale;
    if (static_cast<Number>(code) >= begin && static_cast<Number>(code) < begin + s.scale) {
      const auto remaining = static_cast<int32_t>(code) - begin;
      if constexpr (first) {
        total += widen(grads[from]);
      } else {
        total += sums[from];
      }
      found = found == nobody || found == remaining ? remaining : mixed;
    } else if constexpr (!first) {
      if (code != mixed) continue;
      if constexpr (last) {
        const typename Box<int32_t>::Place p = box.place(id, 1);
        Lane<T> one[1] = {total};
        pull_column<1>(box, p, box.axis[0].of(p.at[0]), box.axis[1].of(p.at[1]), span.first + n * span.step, tap, grads, saved, one);
        total = one[0];
      } else {
        found = mixed;
      }
    }
  }
  if constexpr (last) {
    result[id] = narrow<T>(total);
  } else {
    next_sums[id] = total;
    next_codes[id] = found;
  }
}

}  // namespace torch_pooling::cuda
