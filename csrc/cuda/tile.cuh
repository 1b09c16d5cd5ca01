// Small windows in channels-first (2x2; 3x3 with stride 1 and 2), known while compiling. A thread owns P neighbouring outputs (one
// 16-byte store) in each of R rows. It reads each input row of its band once, 16 bytes at a time where rows are aligned, reduces
// it to P maxima or sums, and these serve every output row that covers the row: all in registers. DRAM traffic is e(1 + r).
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "cuda/device.cuh"

namespace torch_pooling::cuda {

struct TileProblem {
  Windows<int32_t> axis[3];  // forward for tile, inverse for pull_tile
  Divider<int32_t> by_strips, by_bands, by_depth;
  int32_t threads = 0;
  bool aligned_source = false, aligned_result = false;  // rows may be read, written, in packs
  Division division;
};

// A window of K taps at every S-th position whose first tap of output 0 lies `Left` before the axis.
template <int K, int S, int Left>
struct Small {
  static constexpr int taps = K, stride = S, left = Left;
};
template <class T>
constexpr int tile_width = pack_bytes / static_cast<int>(sizeof(T));

// Elements [first, first + N) of a row of `size`, those outside it `outside`. The `B` elements from first + Before on are
// read as packs where the row is aligned.
template <int N, int Before, int B, class T, class L, class Convert>
__device__ __forceinline__ void load_row(const T* row, int32_t first, int32_t size, bool aligned, L outside, L (&x)[N],
                                         const Convert& convert) {
  const int32_t body = first + Before;
  const bool whole = aligned && body + B <= size;
  constexpr int V = B * sizeof(T) <= pack_bytes ? B : pack_bytes / static_cast<int>(sizeof(T));
  if (whole) {
#pragma unroll
    for (int b = 0; b < B; b += V) {
      const Pack<T, V> pack = load_pack<V>(row + body + b);
#pragma unroll
      for (int v = 0; v < V; ++v) x[Before + b + v] = convert(pack.at[v]);
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const bool in_body = i >= Before && i < Before + B;
    const int32_t at = first + i;
    if (!(in_body && whole)) x[i] = at >= 0 && at < size ? convert(row[at]) : outside;
  }
}

template <class T, class Window>
constexpr int tile_rows = Window::taps == Window::stride ? 1 : Window::stride > 1 || tile_width<T> > 4 ? 2 : 4;

// One that writes whole packs of 16-bit maxima two rows at a time needs more registers on sm_120.
template <class T, bool coded, class Window>
constexpr int tile_blocks = !coded && sizeof(T) == 2 && Window::stride == 2 && Window::taps == 3 && Window::left == 0 ? 2 : 3;

template <class Op, class T, bool coded, class Window>
__global__ void __launch_bounds__(block_threads, tile_blocks<T, coded, Window>)
    tile(TileProblem a, const T* __restrict__ source, T* __restrict__ result, uint8_t* __restrict__ offsets) {
  using L = Lane<T>;
  constexpr int K = Window::taps, S = Window::stride, left = Window::left;
  constexpr int P = tile_width<T>, R = tile_rows<T, Window>, N = P * S + K - S;
  const auto id = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (id >= a.threads) return;
  int32_t plane = id;
  const int32_t ow = a.by_strips.split(plane) * P;
  const int32_t oh = a.by_bands.split(plane) * R;
  const int32_t od = a.by_depth.split(plane);
  const int32_t height = a.axis[1].sources, width = a.axis[2].sources;
  const SpanOf<int32_t> d = a.axis[0].of(od);
  const int32_t top = a.axis[1].origin_of(oh);

  L best[R][P];
  int32_t code[R][P];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int32_t above = top + r * S < 0 ? -(top + r * S) : 0;
#pragma unroll
    for (int p = 0; p < P; ++p) {
      best[r][p] = identity<Op, T>();
      code[r][p] = (d.tap * K + above) * K + (p == 0 && ow == 0 ? left : 0);  // the first tap inside
    }
  }
  for (int32_t nd = 0; nd < d.count; ++nd) {
    const T* const layer = source + static_cast<int64_t>(plane * a.axis[0].sources + d.first + nd * d.step) * height * width;
#pragma unroll
    for (int j = 0; j < (R - 1) * S + K; ++j) {
      const int32_t h = top + j;
      if (h < 0 || h >= height) continue;
      L x[N];
      load_row<N, left, P * S>(layer + h * width, ow * S - left, width, a.aligned_source, identity<Op, T>(), x,
                               [](T element) { return widen(element); });
      L row[P];
      int32_t row_code[P];
#pragma unroll
      for (int p = 0; p < P; ++p) {
        row[p] = x[p * S], row_code[p] = 0;
#pragma unroll
        for (int t = 1; t < K; ++t) take<Op, coded>(row[p], row_code[p], x[p * S + t], t);
      }
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const int tap = j - r * S;
        if (tap < 0 || tap >= K) continue;
        const int32_t number = ((d.tap + nd) * K + tap) * K;
#pragma unroll
        for (int p = 0; p < P; ++p) take<Op, coded>(best[r][p], code[r][p], row[p], number + row_code[p]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    if (oh + r >= a.axis[1].results) break;
    Pack<T, P> done;
    Pack<uint8_t, P> codes;
#pragma unroll
    for (int p = 0; p < P; ++p) {
      L value = best[r][p];
      if constexpr (!Op::is_max) {
        if (a.division.kind == Division::Kind::Uniform) value /= static_cast<L>(a.division.divisor);
        if (a.division.kind == Division::Kind::Counted) {
          const int32_t column = ow + p < a.axis[2].results ? ow + p : ow;
          value /= static_cast<L>(a.axis[0].counted(od) * a.axis[1].counted(oh + r) * a.axis[2].counted(column));
        }
      }
      done.at[p] = narrow<T>(value);
      codes.at[p] = static_cast<uint8_t>(code[r][p]);
    }
    const int32_t columns = a.axis[2].results;
    const int32_t at = ((plane * a.axis[0].results + od) * a.axis[1].results + oh + r) * columns + ow;
    if (a.aligned_result && ow + P <= columns) {
      store_pack<P>(result + at, done);
      if constexpr (coded) store_pack<P>(offsets + at, codes);
    } else {
#pragma unroll
      for (int p = 0; p < P; ++p) {
        if (ow + p >= columns) break;
        result[at + p] = done.at[p];
        if constexpr (coded) offsets[at + p] = codes.at[p];
      }
    }
  }
}

// The backward: a thread owns P neighbouring inputs in R rows, and reads each output row that reaches them once.
template <class T, bool coded, class Window>
__global__ void __launch_bounds__(block_threads, coded && sizeof(T) == 2 ? 2 : 3)
    pull_tile(TileProblem a, const T* __restrict__ grads, const uint8_t* __restrict__ offsets, T* __restrict__ result) {
  using L = Lane<T>;
  constexpr int K = Window::taps, S = Window::stride, left = Window::left;
  constexpr int P = tile_width<T>, R = 2;
  // Input i = i0 + j, i0 a multiple of S, is read by output i0 / S + q through tap j + left - q * S.
  constexpr int low = ceil_div(left - K + 1, S), N = (P - 1 + left) / S - low + 1;
  const auto id = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (id >= a.threads) return;
  int32_t plane = id;
  const int32_t w = a.by_strips.split(plane) * P;
  const int32_t h = a.by_bands.split(plane) * R;
  const int32_t depth = a.by_depth.split(plane);
  const int32_t height = a.axis[1].sources, width = a.axis[2].sources;
  const SpanOf<int32_t> d = a.axis[0].of(depth);

  L total[R][P] = {};
  for (int32_t nd = 0; nd < d.count; ++nd) {
    const int32_t od = d.first + nd * d.step;
    const int32_t tap_d = coded ? a.axis[0].tap_of(od, depth) * K * K : 0;
    const int64_t layer = static_cast<int64_t>(plane * a.axis[0].sources + od) * height * width;
#pragma unroll
    for (int q = low; q <= (R - 1 + left) / S; ++q) {
      const int32_t oh = h / S + q;
      if (oh < 0 || oh >= height) continue;
      L g[N];
      int32_t code[N];
      const int64_t at = layer + oh * width;
      load_row<N, -low, P / S>(grads + at, w / S + low, width, a.aligned_source, L(0), g, [](T grad) { return widen(grad); });
      if constexpr (coded) {
        load_row<N, -low, P / S>(offsets + at, w / S + low, width, a.aligned_source, int32_t{-1}, code,
                                 [](uint8_t offset) { return static_cast<int32_t>(offset); });
      }
#pragma unroll
      for (int j = 0; j < P; ++j) {
        L sum = 0;
        if constexpr (!coded) {
#pragma unroll
          for (int n = 0; n < N; ++n) {
            const int tap = j + left - (n + low) * S;
            if (tap >= 0 && tap < K) sum += g[n];
          }
        }
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const int tap_h = r + left - q * S;
          if (tap_h < 0 || tap_h >= K) continue;
          if constexpr (coded) {
#pragma unroll
            for (int n = 0; n < N; ++n) {
              const int tap = j + left - (n + low) * S;
              if (tap >= 0 && tap < K) total[r][j] += code[n] == tap_d + tap_h * K + tap ? g[n] : L(0);
            }
          } else {
            total[r][j] += sum;
          }
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    if (h + r >= a.axis[1].results) break;
    Pack<T, P> done;
#pragma unroll
    for (int j = 0; j < P; ++j) {
      L value = total[r][j];
      if (!coded) value /= static_cast<L>(a.division.divisor);
      done.at[j] = narrow<T>(value);
    }
    const int32_t columns = a.axis[2].results;
    const int32_t at = ((plane * a.axis[0].results + depth) * a.axis[1].results + h + r) * columns + w;
    if (a.aligned_result && w + P <= columns) {
      store_pack<P>(result + at, done);
    } else {
#pragma unroll
      for (int j = 0; j < P; ++j) {
        if (w + j < columns) result[at + j] = done.at[j];
      }
    }
  }
}

}  // namespace torch_pooling::cuda
