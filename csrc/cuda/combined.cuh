// Several reductions of one input. A block takes one plane (in channels-last: some channels of a sample), into shared memory where it
// fits, and computes all windows of all parts from there: memory is read once. Windows with averages and maxima are walked through
// once for both. Some threads share a window, and are joined in a fixed order. Backward, a thread owns an element of grad_input and
// looks at every window that reads it, part by part. No atomics, no zero-fill. May include core and the CUDA runtime.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "core/combined.h"
#include "cuda/device.cuh"

namespace torch_pooling::cuda {

// Parts over the same windows: averages, maxima, or one of each.
struct WindowGroup {
  Windows<int32_t> axis[3];
  bool average = false, maximum = false;
  Place averages, maxima, saved;
  int32_t team_log = 0;  // 1 << team_log threads share a window
};

struct CombinedPlan {
  WindowGroup groups[most_parts];
  int32_t group_count = 0;
  bool mean = false, channels_last = false;
  int64_t channels = 1, positions = 1;  // of the input
  int32_t lanes_log = 0;                // of a block: neighbouring channels, in channels-last
  int64_t lane_tiles = 1, blocks = 1;
  bool staged = false;
  Saved offsets;

  __device__ __forceinline__ int64_t element(int64_t sample, int64_t channel, int64_t position) const {
    return channels_last ? (sample * positions + position) * channels + channel : (sample * channels + channel) * positions + position;
  }
};

constexpr int staged_bytes = 32768;
enum class CombinedTask { Values, Offsets, Gather };

__device__ __forceinline__ int64_t at_place(const Place& place, int64_t sample, int64_t channel, int64_t position) {
  return place.first + sample * place.batch + channel * place.channel + position * place.position;
}

template <class T>
__device__ __forceinline__ T mean_of(T average, T maximum) {  // of halves: the sum may lie beyond the type
  return narrow<T>(widen(average) / 2 + widen(maximum) / 2);
}

template <class T, CombinedTask task>
__global__ void __launch_bounds__(block_threads, 2) combined_windows(CombinedPlan a, const T* __restrict__ source, T* __restrict__ result) {
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
    const int64_t sample = block / a.lane_tiles, channel = block % a.lane_tiles * lanes + lane;
    const bool here = channel < a.channels;
    if (a.staged) {
      __syncthreads();  // the plane before this one has been read
      for (int64_t position = worker; here && position < a.positions; position += workers) {
        stage[position * lanes + lane] = source[a.element(sample, channel, position)];
      }
      __syncthreads();
    }
    const auto load = [&](int64_t position) { return a.staged ? stage[position * lanes + lane] : source[a.element(sample, channel, position)]; };
    for (int32_t g = 0; g < a.group_count; ++g) {
      const WindowGroup& group = a.groups[g];
      const int32_t team = 1 << group.team_log, member = worker & (team - 1), height = group.axis[1].results, width = group.axis[2].results;
      const int32_t outputs = group.axis[0].results * height * width, together = workers >> group.team_log;
      for (int32_t begin = 0; begin < outputs; begin += together) {  // the same rounds for every thread: barriers are met by all
        const int32_t output = begin + (worker >> group.team_log);
        const bool mine = here && output < outputs;
        const int32_t od = mine ? output / (height * width) : 0, oh = mine ? output / width % height : 0, ow = mine ? output % width : 0;
        const SpanOf<int32_t> d = group.axis[0].of(od), h = group.axis[1].of(oh), w = group.axis[2].of(ow);
        const int64_t taps = mine ? static_cast<int64_t>(d.count) * h.count * w.count : 0;
        double sum = 0;
        L part = 0, best = identity<Max, T>();
        int32_t code = ((d.tap * group.axis[1].taps) + h.tap) * group.axis[2].taps + w.tap;
        int32_t steps = 0;
        for (int64_t t = member; t < taps; t += team) {
          const auto nw = static_cast<int32_t>(t % w.count), nh = static_cast<int32_t>(t / w.count % h.count);
          const auto nd = static_cast<int32_t>(t / w.count / h.count);
          const int64_t row = static_cast<int64_t>(d.first + nd * d.step) * group.axis[1].sources + h.first + nh * h.step;
          const L x = widen(load(row * group.axis[2].sources + w.first + nw * w.step));
          part += x;
          if (++steps % 64 == 0) sum += static_cast<double>(part), part = 0;
          const int32_t number = ((d.tap + nd) * group.axis[1].taps + h.tap + nh) * group.axis[2].taps + w.tap + nw;
          take<Max, coded>(best, code, x, number);
        }
        sum += static_cast<double>(part);
        for (int32_t distance = team / 2; distance > 0; distance /= 2) {
          __syncthreads();
          shared_sums[thread] = sum, shared_maxima[thread] = best;
          if constexpr (coded) shared_codes[thread] = code;
          __syncthreads();
          if (member < distance) {
            const int32_t other = thread + (distance << a.lanes_log);
            sum += shared_sums[other];
            merge<Max, coded>(best, code, shared_maxima[other], coded ? shared_codes[other] : 0);
          }
        }
        if (!mine || member != 0) continue;
        const int64_t saved = at_place(group.saved, sample, channel, output);
        const L divisor = static_cast<L>(group.axis[0].counted(od)) * static_cast<L>(group.axis[1].counted(oh)) * static_cast<L>(group.axis[2].counted(ow));
        const T average = narrow<T>(static_cast<L>(sum / static_cast<double>(divisor)));
        T maximum = narrow<T>(best);
        if constexpr (coded) {
          const int32_t codes[1] = {code};
          if (group.maximum) a.offsets.template put<1>(saved, codes);
        }
        if constexpr (task == CombinedTask::Gather) {
          maximum = narrow<T>(0);
          if (group.maximum) {
            const int64_t tap = a.offsets.get(saved), per_depth = static_cast<int64_t>(group.axis[1].taps) * group.axis[2].taps;
            const auto td = tap / per_depth - d.tap, th = tap / group.axis[2].taps % group.axis[1].taps - h.tap, tw = tap % group.axis[2].taps - w.tap;
            if (tap >= 0 && td >= 0 && td < d.count && th >= 0 && th < h.count && tw >= 0 && tw < w.count) {
              const int64_t row = (d.first + td * d.step) * group.axis[1].sources + h.first + th * h.step;
              maximum = load(row * group.axis[2].sources + w.first + tw * w.step);
            }
          }
        }
        if (a.mean) {
          result[at_place(group.averages, sample, channel, output)] = mean_of(average, maximum);
          continue;
        }
        if (group.average) result[at_place(group.averages, sample, channel, output)] = average;
        if (group.maximum) result[at_place(group.maxima, sample, channel, output)] = maximum;
      }
    }
  }
}

// The axes of the groups look from inputs to outputs.
template <class T>
__global__ void __launch_bounds__(block_threads, 2)
    combined_pull(CombinedPlan a, int64_t elements, const T* __restrict__ grads, T* __restrict__ result) {
  using L = Lane<T>;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t id = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; id < elements; id += stride) {
    const int64_t inner = a.channels_last ? id % a.channels : 0, outer = a.channels_last ? id / a.channels : id;
    const int64_t position = outer % a.positions, before = outer / a.positions;
    const int64_t sample = a.channels_last ? before : before / a.channels, channel = a.channels_last ? inner : before % a.channels;
    const WindowGroup& any = a.groups[0];
    const auto iw = static_cast<int32_t>(position % any.axis[2].results);
    const auto ih = static_cast<int32_t>(position / any.axis[2].results % any.axis[1].results);
    const auto id_ = static_cast<int32_t>(position / any.axis[2].results / any.axis[1].results);
    L total = 0;
    for (int32_t g = 0; g < a.group_count; ++g) {
      const WindowGroup& group = a.groups[g];
      const SpanOf<int32_t> d = group.axis[0].of(id_), h = group.axis[1].of(ih), w = group.axis[2].of(iw);
      for (int32_t nd = 0; nd < d.count; ++nd) {
        const int32_t od = d.first + nd * d.step;
        for (int32_t nh = 0; nh < h.count; ++nh) {
          const int32_t oh = h.first + nh * h.step;
          for (int32_t nw = 0; nw < w.count; ++nw) {
            const int32_t ow = w.first + nw * w.step;
            const int64_t output = (static_cast<int64_t>(od) * group.axis[1].sources + oh) * group.axis[2].sources + ow;
            const L scale = a.mean ? L(0.5) : L(1);
            if (group.average) {
              const L divisor = static_cast<L>(group.axis[0].counted(od)) * static_cast<L>(group.axis[1].counted(oh)) * static_cast<L>(group.axis[2].counted(ow));
              total += scale * widen(grads[at_place(group.averages, sample, channel, output)]) / divisor;
            }
            if (group.maximum) {
              const int64_t tap = (static_cast<int64_t>(group.axis[0].tap_of(od, id_)) * group.axis[1].taps + group.axis[1].tap_of(oh, ih))
                                      * group.axis[2].taps + group.axis[2].tap_of(ow, iw);
              if (a.offsets.get(at_place(group.saved, sample, channel, output)) == tap) {
                total += scale * widen(grads[at_place(group.maxima, sample, channel, output)]);
              }
            }
          }
        }
      }
    }
    result[id] = narrow<T>(total);
  }
}

}  // namespace torch_pooling::cuda
