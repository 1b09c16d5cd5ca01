// Averages, plain sums, and their backward. See launch.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/gather.cuh"
#include "cuda/reduce.cuh"

namespace torch_pooling::cuda {
namespace {

template <class T>
void broadcast_rows(Context& context, const Slice& slice, const T* grads, T* result) {
  constexpr int V = pack_bytes / static_cast<int>(sizeof(T));
  const auto count = static_cast<int32_t>(slice.result_elements());
  const Divider<int32_t> by_row(static_cast<int32_t>(slice.results(2) * slice.inner)), by_inner(static_cast<int32_t>(slice.inner));
  const auto divisor = static_cast<Lane<T>>(division_of(*slice.problem).divisor);
  if (is_aligned(result, pack_bytes)) {
    return launch(context, broadcast<T, V>, (count + V - 1) / V, by_row, by_inner, count, divisor, grads, result);
  }
  launch(context, broadcast<T, 1>, count, by_row, by_inner, count, divisor, grads, result);
}

// The only outputs that reach an input are known while compiling, and share a divisor.
template <class T>
bool pull_small(Context& context, const Slice& slice, const T* grads, T* result) {
  if (division_of(*slice.problem).kind == Division::Kind::Counted) return false;
  return with_small_window(slice, true, [&](auto window) {
    using Window = decltype(window);
    constexpr int P = tile_width<T>;
    const TileProblem a = make_tiles(slice, P, 2, pack_bytes / Window::stride, pack_bytes, grads, result, {}, 1, sizeof(T));
    launch(context, pull_tile<T, false, Window>, a.threads, a, grads, nullptr, result);
  });
}

template <class T>
void pull_sums(Context& context, const Problem& problem, const void* grad_output, void* grad_input) {
  for_slices(problem, true, [&](const Slice& slice, int64_t sources_before, int64_t results_before) {
    const T* const grads = static_cast<const T*>(grad_output) + sources_before;
    T* const result = static_cast<T*>(grad_input) + results_before;
    if (slice.narrow && is_whole_rows(problem)) return broadcast_rows(context, slice, grads, result);
    if (pull_small(context, slice, grads, result)) return;
    if (slice.narrow && span_elements(slice) > direct_taps) return reduce_axes<Sum, T, false>(context, slice, grads, result, {});
    reduce_directly<Sum, T, false>(context, slice, grads, result, {});
  });
}

}  // namespace

void avg_pool(Context& context, Problem problem, const void* input, void* output) {
  problem.fold_axes();
  if (problem.dtype == DType::Int64) return reduce<Sum, int64_t, false>(context, problem, input, output, {}, false);
  with_float(problem.dtype, [&](auto tag) {
    reduce<Sum, typename decltype(tag)::type, false>(context, problem, input, output, {}, false);
  });
}

void avg_pool_backward(Context& context, Problem problem, const void* grad_output, void* grad_input) {
  problem.fold_axes();
  with_float(problem.dtype, [&](auto tag) { pull_sums<typename decltype(tag)::type>(context, problem, grad_output, grad_input); });
}

}  // namespace torch_pooling::cuda
