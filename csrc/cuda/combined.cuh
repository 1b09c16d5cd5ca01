// Several reductions of one input. A block takes one plane (in channels-last: some channels of a sample), into shared memory where it
// fits, and computes all windows of all parts from there: memory is read once. A plane that does not fit is shared by several blocks
// where there are few planes, each with some of the windows, or of the parts of a long one. Windows with averages and maxima are walked
// through once for both. Some threads share a window; they, and the parts, are joined in a fixed order. Backward, a thread owns an
// element of grad_input and looks at every window that reads it, part by part. No atomics, no zero-fill. May include core and the CUDA
// runtime.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "core/combined.h"
#include "cuda/device.cuh"

namespace torch_pooling::cuda {

// Averages, maxima, or one of each, over the same windows.
struct WindowGroup {
  Windows<int32_t> axis[3];
  bool average = false, maximum = false;
  int32_t team_log = 0;       // 1 << team_log threads share a window, or a part of it
  int32_t splits = 1;         // parts of a window, whose results lie in a workspace from `first_part` on
  int64_t divisor = 0;        // of all averages; 0: each has its own
  int64_t outputs = 1;        // of a plane
  int64_t first_part = 0;
  Place averages, maxima, saved;

  // Depth, height and width of an output.
  template <class Int>
  __device__ __forceinline__ void locate(Int output, int32_t (&at)[3]) const {
    for (int n = 2; n > 0; --n) {
      if constexpr (sizeof(Int) == 4) {
        at[n] = axis[n].by_results.split(output);
      } else {
        at[n] = static_cast<int32_t>(output % axis[n].results), output /= axis[n].results;
      }
    }
    at[0] = static_cast<int32_t>(output);
  }
};

// Of windows that several teams share: the sum, the maximum and its position in each part.
template <class L>
struct WindowParts {
  double* sums = nullptr;
  L* maxima = nullptr;
  int32_t* codes = nullptr;
};

struct CombinedPlan {
  WindowGroup groups[most_parts];
  int32_t group_count = 0;
  bool mean = false, channels_last = false, staged = false;
  int32_t lanes_log = 0;                // of a block: neighbouring channels, in channels-last
  int32_t chunks = 1;                   // blocks to a plane
  int64_t channels = 1, positions = 1;  // of the input
  int64_t lane_tiles = 1, blocks = 1;
  Saved offsets;

  __device__ __forceinline__ int64_t element(int64_t sample, int64_t channel) const {
    return channels_last ? sample * positions * channels + channel : (sample * channels + channel) * positions;
  }
};

constexpr int staged_bytes = 32768;
constexpr int few_taps = 64;  // added up in lanes before they are joined
enum class CombinedTask { Values, Offsets, Gather };

__device__ __forceinline__ int64_t at_place(const Place& place, int64_t sample, int64_t channel, int64_t position) {
  return place.first + sample * place.batch + channel * place.channel + position * place.position;
}

template <class T>
__device__ __forceinline__ T mean_of(T average, T maximum) {  // of halves: the sum may lie beyond the type
  return narrow<T>(widen(average) / 2 + widen(maximum) / 2);
}

// One window: which it is, where its taps lie, and what was found in it.
template <class L>
struct Found {
  int64_t sample, channel, output;
  int32_t at[3];
  double sum;
  L best;
  int32_t code;
};

// Divides, and writes what is asked for. load: of a position in the plane.
template <class T, CombinedTask task, class Load>
__device__ __forceinline__ void finish(const CombinedPlan& a, const WindowGroup& group, const Found<Lane<T>>& found, const Load& load,
                                       T* __restrict__ result) {
  using L = Lane<T>;
  const auto place = [&](const Place& where) { return at_place(where, found.sample, found.channel, found.output); };
  T average{}, maximum{};
  if (group.average) {
    L divisor = static_cast<L>(group.divisor);
    if (group.divisor == 0) {
      divisor = 1;
      for (int axis = 0; axis < 3; ++axis) divisor *= static_cast<L>(group.axis[axis].counted(found.at[axis]));
    }
    average = narrow<T>(static_cast<L>(found.sum / static_cast<double>(divisor)));
  }
  if (group.maximum) {
    maximum = narrow<T>(found.best);
    if constexpr (task == CombinedTask::Offsets) {
      const int32_t codes[1] = {found.code};
      a.offsets.template put<1>(place(group.saved), codes);
    }
    if constexpr (task == CombinedTask::Gather) {
      maximum = narrow<T>(0);
      const int64_t tap = a.offsets.get(place(group.saved)), row = tap / group.axis[2].taps;
      const int64_t taps[3] = {row / group.axis[1].taps, row % group.axis[1].taps, tap % group.axis[2].taps};
      bool named = tap >= 0;
      int64_t position = 0;
      for (int axis = 0; axis < 3; ++axis) {
        const SpanOf<int32_t> span = group.axis[axis].of(found.at[axis]);
        const int64_t n = taps[axis] - span.tap;
        named = named && n >= 0 && n < span.count;
        position = position * group.axis[axis].sources + span.first + n * span.step;
      }
      if (named) maximum = load(position);
    }
  }
  if (a.mean) {
    result[place(group.averages)] = mean_of(average, maximum);
    return;
  }
  if (group.average) result[place(group.averages)] = average;
  if (group.maximum) result[place(group.maxima)] = maximum;
}

// Int numbers positions and windows of a plane.
template <class T, CombinedTask task, class Int>
__global__ void __launch_bounds__(block_threads, 2)
    combined_windows(CombinedPlan a, WindowParts<Lane<T>> parts, const T* __restrict__ source, T* __restrict__ result) {
  using L = Lane<T>;
  constexpr bool coded = task == CombinedTask::Offsets;
  __shared__ T stage[staged_bytes / sizeof(T)];
  __shared__ double shared_sums[block_threads];
  __shared__ L shared_maxima[block_threads];
  __shared__ int32_t shared_codes[coded ? block_threads : 1];
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t lanes = 1 << a.lanes_log, lane = thread & (lanes - 1), worker = thread >> a.lanes_log;
  const int32_t workers = block_threads >> a.lanes_log;
  for (int64_t block = blockIdx.x; block < a.blocks; block += gridDim.x) {
    const int64_t chunk = block % a.chunks, columns = block / a.chunks;
    const int64_t sample = columns / a.lane_tiles, channel = columns % a.lane_tiles * lanes + lane;
    const bool here = channel < a.channels;
    const T* const plane = source + a.element(sample, here ? channel : 0);
    const Int pitch = a.channels_last ? static_cast<Int>(a.channels) : 1;
    if (a.staged) {
      __syncthreads();  // the plane before this one has been read
      if (here) {
        const auto positions = static_cast<int32_t>(a.positions);
#pragma unroll 4
        for (int32_t position = worker; position < positions; position += workers) stage[position * lanes + lane] = plane[position * pitch];
      }
      __syncthreads();
    }
    const auto load = [&](auto position) { return a.staged ? stage[position * lanes + lane] : plane[position * pitch]; };
    for (int32_t g = 0; g < a.group_count; ++g) {
      const WindowGroup& group = a.groups[g];
      const int32_t team = 1 << group.team_log, member = worker & (team - 1), together = workers >> group.team_log;
      const auto items = static_cast<Int>(group.outputs * group.splits);
      const int64_t rounds = (static_cast<int64_t>(items) + together - 1) / together;
      const auto last = static_cast<Int>(rounds * (chunk + 1) / a.chunks);
      for (auto round = static_cast<Int>(rounds * chunk / a.chunks); round < last; ++round) {  // the same for all: barriers are met by all
        const Int item = round * together + (worker >> group.team_log);
        const bool mine = here && item < items;
        Int output = mine ? item : 0;
        int32_t part = 0;
        if (group.splits > 1) part = static_cast<int32_t>(output % group.splits), output /= group.splits;
        Found<L> found{sample, channel, output, {}, 0, identity<Max, T>(), 0};
        group.locate(output, found.at);
        const SpanOf<int32_t> d = group.axis[0].of(found.at[0]), h = group.axis[1].of(found.at[1]), w = group.axis[2].of(found.at[2]);
        const int32_t taps = mine ? d.count * h.count * w.count : 0;
        int32_t begin = 0, end = taps;
        if (group.splits > 1) {
          begin = static_cast<int32_t>(static_cast<int64_t>(taps) * part / group.splits);
          end = static_cast<int32_t>(static_cast<int64_t>(taps) * (part + 1) / group.splits);
        }
        found.code = (d.tap * group.axis[1].taps + h.tap) * group.axis[2].taps + w.tap;
        int32_t t = begin + member, nw = t, nh = 0, nd = 0, jump_w = team, jump_h = 0, jump_d = 0;  // a tap, and from one to the next
        if (team * group.splits > 1 && taps > 0) {
          nh = nw / w.count, nw -= nh * w.count, nd = nh / h.count, nh -= nd * h.count;
          jump_h = jump_w / w.count, jump_w -= jump_h * w.count, jump_d = jump_h / h.count, jump_h -= jump_d * h.count;
        }
        while (t < end) {
          L sum = 0;
#pragma unroll 4
          for (int32_t n = 0; n < few_taps && t < end; ++n, t += team) {
            const Int row = static_cast<Int>(d.first + nd * d.step) * group.axis[1].sources + (h.first + nh * h.step);
            const L x = widen(load(row * group.axis[2].sources + (w.first + nw * w.step)));
            sum += x;
            const int32_t number = ((d.tap + nd) * group.axis[1].taps + h.tap + nh) * group.axis[2].taps + w.tap + nw;
            take<Max, coded>(found.best, found.code, x, number);
            nw += jump_w;
            if (nw >= w.count) nw -= w.count, ++nh;
            nh += jump_h;
            if (nh >= h.count) nh -= h.count, ++nd;
            nd += jump_d;
          }
          found.sum += static_cast<double>(sum);
        }
        for (int32_t distance = team / 2; distance > 0; distance /= 2) {
          __syncthreads();
          shared_sums[thread] = found.sum, shared_maxima[thread] = found.best;
          if constexpr (coded) shared_codes[thread] = found.code;
          __syncthreads();
          if (member < distance) {
            const int32_t other = thread + (distance << a.lanes_log);
            found.sum += shared_sums[other];
            merge<Max, coded>(found.best, found.code, shared_maxima[other], coded ? shared_codes[other] : 0);
          }
        }
        if (!mine || member != 0) continue;
        if (group.splits > 1) {
          const int64_t place = group.first_part + (sample * a.channels + channel) * items + item;
          parts.sums[place] = found.sum, parts.maxima[place] = found.best;
          if constexpr (coded) parts.codes[place] = found.code;
          continue;
        }
        finish<T, task>(a, group, found, load, result);
      }
    }
  }
}

// Windows of one group from their parts; `windows` in all.
template <class T, CombinedTask task>
__global__ void __launch_bounds__(block_threads, 2)
    combined_join(CombinedPlan a, int32_t g, int64_t windows, WindowParts<Lane<T>> parts, const T* __restrict__ source,
                  T* __restrict__ result) {
  constexpr bool coded = task == CombinedTask::Offsets;
  const WindowGroup& group = a.groups[g];
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t id = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; id < windows; id += stride) {
    const int64_t output = id % group.outputs, columns = id / group.outputs, from = group.first_part + id * group.splits;
    Found<Lane<T>> found{columns / a.channels, columns % a.channels, output, {}, parts.sums[from], parts.maxima[from], 0};
    if constexpr (coded) found.code = parts.codes[from];
    group.locate(output, found.at);
    for (int32_t part = 1; part < group.splits; ++part) {
      found.sum += parts.sums[from + part];
      merge<Max, coded>(found.best, found.code, parts.maxima[from + part], coded ? parts.codes[from + part] : 0);
    }
    const T* const plane = source + a.element(found.sample, found.channel);
    const int64_t pitch = a.channels_last ? a.channels : 1;
    finish<T, task>(a, group, found, [&](int64_t position) { return plane[position * pitch]; }, result);
  }
}

// The axes of the groups look from inputs to outputs. Int numbers all elements.
template <class T, class Int>
__global__ void __launch_bounds__(block_threads, 2)
    combined_pull(CombinedPlan a, Divider<Int> by_channels, int64_t elements, const T* __restrict__ grads, T* __restrict__ result) {
  using L = Lane<T>;
  const WindowGroup& any = a.groups[0];
  const L scale = a.mean ? L(0.5) : L(1);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t id = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; id < elements; id += stride) {
    auto rest = static_cast<Int>(id);
    Int channel = a.channels_last ? by_channels.split(rest) : 0;
    int32_t at[3];
    for (int axis = 2; axis >= 0; --axis) {
      if constexpr (sizeof(Int) == 4) {
        at[axis] = any.axis[axis].by_results.split(rest);
      } else {
        at[axis] = static_cast<int32_t>(rest % any.axis[axis].results), rest /= any.axis[axis].results;
      }
    }
    if (!a.channels_last) channel = by_channels.split(rest);
    const int64_t sample = rest;
    L total = 0;
    for (int32_t g = 0; g < a.group_count; ++g) {
      const WindowGroup& group = a.groups[g];
      const SpanOf<int32_t> d = group.axis[0].of(at[0]), h = group.axis[1].of(at[1]), w = group.axis[2].of(at[2]);
      L sum = 0;  // of averages that share a divisor
      for (int32_t nd = 0; nd < d.count; ++nd) {
        const int32_t od = d.first + nd * d.step;
        const int64_t tap_d = group.maximum ? group.axis[0].tap_of(od, at[0]) : 0;
        const L divisor_d = group.divisor == 0 ? static_cast<L>(group.axis[0].counted(od)) : L(1);
        for (int32_t nh = 0; nh < h.count; ++nh) {
          const int32_t oh = h.first + nh * h.step;
          const int64_t tap_h = group.maximum ? tap_d * group.axis[1].taps + group.axis[1].tap_of(oh, at[1]) : 0;
          const L divisor_h = group.divisor == 0 ? divisor_d * static_cast<L>(group.axis[1].counted(oh)) : L(1);
          const int64_t row = (static_cast<int64_t>(od) * group.axis[1].sources + oh) * group.axis[2].sources;
          for (int32_t nw = 0; nw < w.count; ++nw) {
            const int32_t ow = w.first + nw * w.step;
            if (group.average) {
              const L x = widen(grads[at_place(group.averages, sample, channel, row + ow)]);
              sum += group.divisor == 0 ? x / (divisor_h * static_cast<L>(group.axis[2].counted(ow))) : x;
            }
            if (group.maximum) {
              const int64_t tap = tap_h * group.axis[2].taps + group.axis[2].tap_of(ow, at[2]);
              if (a.offsets.get(at_place(group.saved, sample, channel, row + ow)) == tap) {
                total += scale * widen(grads[at_place(group.maxima, sample, channel, row + ow)]);
              }
            }
          }
        }
      }
      if (group.average) total += scale * (group.divisor == 0 ? sum : sum / static_cast<L>(group.divisor));
    }
    result[id] = narrow<T>(total);
  }
}

}  // namespace torch_pooling::cuda
