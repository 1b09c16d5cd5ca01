// What a saved offset means: the element it names, as a value (tangents, double backward) or as a flat index of the plane. An
// offset that names no element of the input (a window without one, or a number that is no tap) gives 0.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cuda/device.cuh"

namespace torch_pooling::cuda {

// The position in the plane that `saved` names for the output at p, or -1. The box looks forward.
template <class Int>
__device__ __forceinline__ Int named_position(const Box<Int>& box, const typename Box<Int>::Place& p, const Saved& saved, Int taps_h,
                                              Int limit) {
  Int code[1];
  saved.get<1>(box.result(p), code);
  if (code[0] < 0 || code[0] >= limit) return -1;
  const Int rows = code[0] / box.code_scale[1];  // code_scale[1] is the number of taps along the width
  const Int tap[3] = {rows / taps_h, rows % taps_h, code[0] % box.code_scale[1]};
  Int position = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const Windows<Int>& windows = box.axis[axis];
    Int at = windows.origin_of(p.at[axis]) + tap[axis] * windows.step;
    if (windows.kind != Windows<Int>::Kind::Sliding) {  // adaptive windows of one axis differ in length
      const SpanOf<Int> span = windows.of(p.at[axis]);
      at = tap[axis] < span.count ? span.first + tap[axis] : -1;
    }
    if (at < 0 || at >= windows.sources) return -1;
    position = position * windows.sources + at;
  }
  return position;
}

template <class Bits, class Int>
__global__ void __launch_bounds__(block_threads)
    gather_values(Box<Int> box, const Bits* __restrict__ source, Saved saved, Int taps_h, Int limit, Bits* __restrict__ result) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t id = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; id < box.threads; id += stride) {
    const typename Box<Int>::Place p = box.place(static_cast<Int>(id), 1);
    const Int position = named_position(box, p, saved, taps_h, limit);
    result[id] = position < 0 ? Bits(0) : source[box.source(p, 0, 0, 0) + position * box.inner];
  }
}

template <class Int>
__global__ void __launch_bounds__(block_threads)
    gather_indices(Box<Int> box, Saved saved, Int taps_h, Int limit, int64_t* __restrict__ result) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t id = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; id < box.threads; id += stride) {
    const typename Box<Int>::Place p = box.place(static_cast<Int>(id), 1);
    const Int position = named_position(box, p, saved, taps_h, limit);
    result[id] = position < 0 ? 0 : position;
  }
}

// The backward of averages over whole rows (global pooling): rows of `length` positions that share a gradient; in flat order,
// so every store is a whole pack. Moves e(1 + r).
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    broadcast(Divider<int32_t> by_row, Divider<int32_t> by_inner, int32_t count, Lane<T> divisor, const T* __restrict__ grads,
              T* __restrict__ result) {
  const int32_t begin = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (begin >= count) return;
  int32_t row = begin;
  int32_t rest = by_row.split(row);  // within the row: position and inner element
  int32_t inner = rest - by_inner.quotient(rest) * by_inner.divisor;
  Pack<T, V> done;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (begin + v < count) done.at[v] = narrow<T>(widen(grads[row * by_inner.divisor + inner]) / divisor);
    if (++inner == by_inner.divisor) inner = 0;
    if (++rest == by_row.divisor) rest = 0, ++row;
  }
  store_some(result + begin, count - begin, done);
}

}  // namespace torch_pooling::cuda
