// Averages and maxima of whole planes under a mask: the teams of global pooling, in which an element that does not count is what changes
// nothing, and the adjoint of averages. See launch.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/passes.cuh"

namespace torch_pooling::cuda {
namespace {

// What counts in a part of a sample, a block to each part: [samples, parts].
template <int V>
__global__ void __launch_bounds__(block_threads)
    count_mask(const uint8_t* __restrict__ mask, int64_t positions, int32_t parts, MaskRow* __restrict__ rows) {
  __shared__ int64_t counts[block_threads], firsts[block_threads];
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t sample = static_cast<int32_t>(blockIdx.x) / parts, part = static_cast<int32_t>(blockIdx.x) % parts;
  const uint8_t* const from = mask + sample * positions;
  const int64_t packs = positions / V, end = packs * (part + 1) / parts;
  int64_t count = 0, first = positions;
  for (int64_t n = packs * part / parts + thread; n < end; n += block_threads) {
    const Pack<uint8_t, V> counted = load_pack<V>(from + n * V);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      if (counted.at[v] == 0) continue;
      if (count == 0) first = n * V + v;
      ++count;
    }
  }
  counts[thread] = count, firsts[thread] = first;
  for (int32_t half = block_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread >= half) continue;
    counts[thread] += counts[thread + half];
    firsts[thread] = firsts[thread + half] < firsts[thread] ? firsts[thread + half] : firsts[thread];
  }
  if (thread == 0) rows[blockIdx.x] = {counts[0], firsts[0]};
}
__global__ void __launch_bounds__(block_threads)
    join_counts(int64_t samples, int32_t parts, const MaskRow* __restrict__ of_parts, MaskRow* __restrict__ rows) {
  const int64_t sample = static_cast<int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (sample >= samples) return;
  MaskRow row{0, 0};
  for (int32_t part = 0; part < parts; ++part) {
    const MaskRow next = of_parts[sample * parts + part];
    if (row.count == 0 && next.count > 0) row.first = next.first;
    row.count += next.count;
  }
  rows[sample] = row;
}

const MaskRow* look_at(Context& context, const Masked& masked, const uint8_t* mask) {
  constexpr int64_t part_positions = 1 << 16, most_parts = 256;
  const auto parts = static_cast<int32_t>(std::clamp<int64_t>(masked.positions / part_positions, 1, most_parts));
  if (masked.batch * parts >= narrow_limit || masked.channels >= narrow_limit) {
    throw std::runtime_error("masked pools: batch and channels must be below 2^30 on CUDA, less for more than 65536 positions, but are "
                             + std::to_string(masked.batch) + " and " + std::to_string(masked.channels));
  }
  const auto reserve = [&](int64_t rows) { return static_cast<MaskRow*>(context.allocate(rows * static_cast<int64_t>(sizeof(MaskRow)))); };
  MaskRow* const of_parts = reserve(masked.batch * parts);
  MaskRow* const rows = reserve(masked.batch);
  const int64_t threads = masked.batch * parts * block_threads;
  if (masked.positions % pack_bytes == 0 && is_aligned(mask, pack_bytes)) {
    launch(context, count_mask<pack_bytes>, threads, mask, masked.positions, parts, of_parts);
  } else {
    launch(context, count_mask<1>, threads, mask, masked.positions, parts, of_parts);
  }
  launch(context, join_counts, masked.batch, masked.batch, parts, of_parts, rows);
  return rows;
}

template <class Op, class T, bool coded>
void reduce_masked(Context& context, const Masked& masked, const void* input, const uint8_t* mask, void* output, const Saved& saved) {
  const MaskRow* const rows = look_at(context, masked, mask);
  const bool first = masked.layout == Layout::ChannelsFirst;
  Problem problem = masked.planes(masked.channels, masked.positions);
  problem.batch = masked.batch;
  for_slices(problem, false, [&](const Slice& slice, int64_t sources_before, int64_t results_before) {
    const Mask which{mask, rows, results_before / slice.inner, first ? masked.channels : 1};
    reduce_rows<Op, T, coded, true>(context, slice, static_cast<const T*>(input) + sources_before, static_cast<T*>(output) + results_before,
                                    advance(saved, results_before), which);
  });
}

// Elements of grad_input, V to a thread, in flat order, so that every store is a whole pack. Moves e(1 + r) and a byte for a position.
template <class T, int V, class Int>
__global__ void __launch_bounds__(block_threads)
    spread_masked(Divider<Int> by_row, Divider<Int> by_inner, Divider<Int> by_channels, Int count, const T* __restrict__ grads,
                  const uint8_t* __restrict__ mask, const MaskRow* __restrict__ rows, T* __restrict__ result) {
  const Int begin = (static_cast<Int>(blockIdx.x) * block_threads + static_cast<Int>(threadIdx.x)) * V;
  if (begin >= count) return;
  const Int positions = by_row.divisor / by_inner.divisor;
  Pack<T, V> done;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (begin + v >= count) continue;
    Int row = begin + v;  // a plane, or in channels-last a sample
    Int position = by_row.split(row);
    const Int inner = by_inner.split(position);
    const Int sample = by_channels.quotient(row);
    Lane<T> value = 0;
    if (mask[static_cast<int64_t>(sample) * positions + position] != 0) {
      value = widen(grads[row * by_inner.divisor + inner]) / static_cast<Lane<T>>(rows[sample].count);
    }
    done.at[v] = narrow<T>(value);
  }
  store_some(result + begin, count - begin, done);
}

template <class T, class Int>
void spread(Context& context, const Masked& masked, const T* grads, const uint8_t* mask, const MaskRow* rows, T* result) {
  constexpr int V = pack_bytes / static_cast<int>(sizeof(T));
  const bool first = masked.layout == Layout::ChannelsFirst;
  const auto inner = static_cast<Int>(first ? 1 : masked.channels);
  const Divider<Int> by_row(static_cast<Int>(masked.positions) * inner), by_inner(inner), by_channels(static_cast<Int>(first ? masked.channels : 1));
  const auto count = static_cast<Int>(masked.batch * masked.channels * masked.positions);
  if (is_aligned(result, pack_bytes)) {
    return launch(context, spread_masked<T, V, Int>, (count + V - 1) / V, by_row, by_inner, by_channels, count, grads, mask, rows, result);
  }
  launch(context, spread_masked<T, 1, Int>, count, by_row, by_inner, by_channels, count, grads, mask, rows, result);
}

}  // namespace

void masked_avg_pool(Context& context, const Masked& masked, const void* input, const uint8_t* mask, void* output) {
  with_float(masked.dtype, [&](auto tag) {
    reduce_masked<Sum, typename decltype(tag)::type, false>(context, masked, input, mask, output, {});
  });
}

void masked_avg_pool_backward(Context& context, const Masked& masked, const void* grad_output, const uint8_t* mask, void* grad_input) {
  const MaskRow* const rows = look_at(context, masked, mask);
  with_float(masked.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool narrow = masked.batch * masked.channels * masked.positions < narrow_limit;
    const auto run = narrow ? spread<T, int32_t> : spread<T, int64_t>;
    run(context, masked, static_cast<const T*>(grad_output), mask, rows, static_cast<T*>(grad_input));
  });
}

void masked_max_pool(Context& context, const Masked& masked, const void* input, const uint8_t* mask, void* output, void* offsets,
                     OffsetType type) {
  with_number(masked.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (offsets == nullptr) return reduce_masked<Max, T, false>(context, masked, input, mask, output, {});
    reduce_masked<Max, T, true>(context, masked, input, mask, output, {offsets, type});
  });
}

}  // namespace torch_pooling::cuda
