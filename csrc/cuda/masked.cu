// Averages and maxima of whole planes under a mask: the teams of global pooling, in which an element that does not count is what changes
// nothing, and the adjoint of averages. See launch.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/passes.cuh"

namespace torch_pooling::cuda {
namespace {

// A block to a sample.
__global__ void __launch_bounds__(block_threads) count_mask(const uint8_t* __restrict__ mask, int64_t positions, MaskRow* __restrict__ rows) {
  __shared__ int64_t counts[block_threads], firsts[block_threads];
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const uint8_t* const from = mask + static_cast<int64_t>(blockIdx.x) * positions;
  int64_t count = 0, first = positions;
  for (int64_t p = thread; p < positions; p += block_threads) {
    if (from[p] == 0) continue;
    if (count == 0) first = p;
    ++count;
  }
  counts[thread] = count, firsts[thread] = first;
  for (int32_t half = block_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread >= half) continue;
    counts[thread] += counts[thread + half];
    firsts[thread] = firsts[thread + half] < firsts[thread] ? firsts[thread + half] : firsts[thread];
  }
  if (thread == 0) rows[blockIdx.x] = {counts[0], counts[0] > 0 ? firsts[0] : 0};
}

const MaskRow* look_at(Context& context, const Masked& masked, const uint8_t* mask) {
  auto* const rows = static_cast<MaskRow*>(context.allocate(masked.batch * static_cast<int64_t>(sizeof(MaskRow))));
  launch(context, count_mask, masked.batch * block_threads, mask, masked.positions, rows);
  return rows;
}

template <class Op, class T, bool coded>
void reduce_masked(Context& context, const Masked& masked, const void* input, const uint8_t* mask, void* output, const Saved& saved) {
  const MaskRow* const rows = look_at(context, masked, mask);
  const bool first = masked.layout == Layout::ChannelsFirst;
  Problem problem = masked.planes(masked.channels, masked.positions);
  // Samples that 32-bit indices can number, as slices of plain pools are; one alone may have more.
  const int64_t sample = masked.channels * masked.positions;
  const int64_t most = std::clamp<int64_t>((narrow_limit - 1) / std::max<int64_t>(1, sample), 1, masked.batch);
  for (int64_t n = 0; n < masked.batch; n += most) {
    problem.batch = std::min(most, masked.batch - n);
    const Slice slice{&problem, problem.batch * (first ? masked.channels : 1), first ? 1 : masked.channels, false, true};
    const Mask which{mask + n * masked.positions, rows + n, first ? static_cast<int32_t>(masked.channels) : 1};
    reduce_rows<Op, T, coded, true>(context, slice, static_cast<const T*>(input) + n * sample, static_cast<T*>(output) + n * masked.channels,
                                    advance(saved, n * masked.channels), which);
  }
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
