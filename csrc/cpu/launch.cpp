// See launch.h. The one file of csrc/cpu that knows torch's thread pool: kernels and drivers only see ranges of tiles.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/launch.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

#include "cpu/broadcast.h"
#include "cpu/gather.h"
#include "cpu/isa.h"
#include "cpu/located_max.h"
#include "cpu/long_axis.h"
#include "cpu/max_backward.h"
#include "cpu/reduction.h"
#include "cpu/turned.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t parallel_elements = 16384;  // below this a second thread costs more than it brings

// body(begin, end) over [0, count), `work` elements in all.
template <class Body>
void split(int64_t count, int64_t work, const Body& body) {
  if (count <= 0) return;
  const int64_t grain = std::max<int64_t>(1, count * parallel_elements / std::max<int64_t>(1, work));
  if (grain >= count) return body(int64_t{0}, count);
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { body(begin, end); });
}

template <class Driver>
void run(const Driver& driver) {
  split(driver.tiles(), driver.work(), [&](int64_t begin, int64_t end) {
    driver.run(begin, end);
    finish_stores();
  });
}

void reduce(const Problem& problem, const ReduceKernels& reducer, const CodeKernels* codes, const Operands& operands, bool inverse = false) {
  const int64_t bytes = element_bytes(problem.dtype);
  if (Turned::serves(problem, inverse, codes != nullptr)) return run(Turned(problem, reducer, codes, bytes, operands, inverse));
  if (inverse || !LongAxis::serves(problem)) return run(Reduction(problem, reducer, codes, bytes, operands, inverse));
  LongAxis axis(problem, reducer, codes, bytes, operands);
  split(axis.parts(), axis.work(), [&](int64_t begin, int64_t end) { axis.reduce(begin, end); });
  split(axis.planes(), axis.planes(), [&](int64_t begin, int64_t end) { axis.join(begin, end); });
}

const CodeKernels& code_kernels(int lane_bytes) {
  const KernelTable& table = kernels();
  return lane_bytes == 2 ? table.codes2 : lane_bytes == 4 ? table.codes4 : table.codes8;
}

// Whether windows overlap along each axis, which are then summed one by one, so that a sum has no more roundings than their taps together.
bool adds_few_at_a_time(const Problem& problem) {
  int64_t taps = 0;
  for (const Axis& axis : problem.axes) {
    if (axis.max_taps() > 1 && !axis.overlaps()) return false;
    taps += axis.max_taps();
  }
  return taps <= few_sums;
}

const ReduceKernels& sum_kernels(const Problem& problem) {
  const int type = static_cast<int>(problem.dtype);
  const int64_t elements = problem.window_elements();
  if (problem.output_elements() == problem.batch * problem.channels && elements > plane_sum_elements) {
    if (problem.dtype == DType::Float64) return kernels().exact_sum;
    if (problem.layout == Layout::ChannelsLast || kernels().sum[type].vector_lanes == 1) return kernels().wide_sum[type];
  }
  return elements > wide_sum_elements && !adds_few_at_a_time(problem) ? kernels().wide_sum[type] : kernels().sum[type];
}

// Whether the backward goes by elements of the tensor, where a tap in the padding would be somebody else's element, for offsets
// that can name one. Windows that find nothing, and those too large, have their offsets looked at one by one.
bool goes_by_elements(const Problem& problem, OffsetType type) {
  bool never_empty = true;
  for (const Axis& axis : problem.axes) never_empty &= axis.never_empty();
  return never_empty && kernels().inside[static_cast<int>(type)] != nullptr && problem.window_elements() <= largest_located
         && offsets_may_miss(problem) && choose_max_way(problem, type) != MaxWay::PullPixels;
}

}  // namespace

void avg_pool(Problem problem, const void* input, void* output) {
  problem.fold_axes();
  reduce(problem, sum_kernels(problem), nullptr, {input, output});
}

void avg_pool_backward(Problem problem, const void* grad_output, void* grad_input) {
  problem.fold_axes();
  const KernelTable& table = kernels();
  const int dtype = static_cast<int>(problem.dtype);
  if (Broadcast::serves(problem)) return run(Broadcast(problem, table.sum[dtype], table.codes4.copy_bytes, element_bytes(problem.dtype), grad_output, grad_input));
  bool long_sums = false;
  for (const Axis& axis : problem.axes) long_sums |= axis.most_reads() > long_sum;
  reduce(problem, long_sums ? table.wide_sum[dtype] : table.sum[dtype], nullptr, {grad_output, grad_input}, true);
}

void max_pool(Problem problem, const void* input, void* output, void* offsets, OffsetType type) {
  problem.fold_axes();
  const KernelTable& table = kernels();
  const int dtype = static_cast<int>(problem.dtype);
  const ReduceKernels* maxima = &table.max[dtype];
  const CodeKernels* codes = nullptr;
  if (offsets != nullptr) {
    maxima = &table.coded_max[dtype];
    const int64_t limit = maxima->lane_bytes == 2 ? INT16_MAX : maxima->lane_bytes == 4 ? INT32_MAX : INT64_MAX;
    if (problem.window_elements() > limit) {
      const int64_t bytes = element_bytes(problem.dtype);
      if (LocatedMax::serves(problem, maxima->lane_bytes)) {
        const LocatedMax located(problem, table.max[dtype], *maxima, table.codes8, bytes, {input, output, offsets, type});
        split(located.parts(), located.work(), [&](int64_t begin, int64_t end) { located.reduce(begin, end); });
        return split(located.planes(), located.locating(), [&](int64_t begin, int64_t end) { located.locate(begin, end); });
      }
      maxima = &table.wide_coded_max[dtype];
    }
    codes = &code_kernels(maxima->lane_bytes);
  }
  reduce(problem, *maxima, codes, {input, output, offsets, type});
}

void max_pool_backward(Problem problem, const void* grad_output, const void* offsets, OffsetType type, OffsetsName name,
                       void* grad_input) {
  problem.fold_axes();
  const KernelTable& table = kernels();
  const int dtype = static_cast<int>(problem.dtype);
  bool overlaps = false;
  for (const Axis& axis : problem.axes) overlaps |= axis.overlaps();
  const bool wide = overlaps || problem.window_elements() > INT16_MAX;  // 16-bit codes number no more
  const PullKernels& pull = wide ? table.pull[dtype] : table.pull_apart[dtype];
  const MaxGradients gradients{grad_output, offsets, type, grad_input};
  const MaxWay way = choose_max_way(problem, type);
  if (name != OffsetsName::Inputs) return run(MaxScatter(problem, table.sum[dtype], nullptr, gradients, false));
  const auto permuting = [&](const PullKernels& kernels, bool deep) { return MaxPermuted::serves(problem, kernels, table.vector_bytes, type, deep); };
  const auto permute = [&](const PullKernels& kernels) {
    run(MaxPermuted(problem, kernels, table.vector_bytes, element_bytes(problem.dtype), gradients));
  };
  // Where other instruction sets permute, their order of additions is kept.
  const bool in_order = way == MaxWay::Scatter && overlaps && MaxPermuted::serves_somewhere(problem, table.pull[dtype], false);
  const auto scatter = [&] { return MaxScatter(problem, table.sum[dtype], table.locate[static_cast<int>(type)], gradients, in_order); };
  switch (way) {
    case MaxWay::Flat: return run(MaxFlat(problem, table.pull[dtype], element_bytes(problem.dtype), gradients));
    case MaxWay::Scatter:
      if (permuting(pull, false)) return permute(pull);
      if (!wide && permuting(table.pull[dtype], false)) return permute(table.pull[dtype]);
      return run(scatter());
    case MaxWay::PullLanes:
      if (problem.axes[2].overlaps() && permuting(table.pull[dtype], true)) return permute(table.pull[dtype]);
      if (overlaps && !lanes_pay(problem)
          && !(problem.axes[2].overlaps() && MaxPermuted::serves_somewhere(problem, table.pull[dtype], true))) {
        return run(scatter());
      }
      [[fallthrough]];
    default: return run(MaxPull(problem, way, pull, code_kernels(pull.lane_bytes), element_bytes(problem.dtype), gradients));
  }
}

void max_pool_gather(Problem problem, const void* input, const void* offsets, OffsetType type, void* output) {
  split(gather_rows(problem), problem.output_elements(), [&](int64_t begin, int64_t end) {
    gather_values(problem, input, offsets, type, output, begin, end);
  });
}

void max_pool_indices(Problem problem, const void* offsets, OffsetType type, int64_t* indices) {
  split(gather_rows(problem), problem.output_elements(),
        [&](int64_t begin, int64_t end) { gather_indices(problem, offsets, type, indices, begin, end); });
}

OffsetsName look_at_offsets(Problem problem, const void* offsets, OffsetType type) {
  problem.fold_axes();
  const int64_t limit = problem.window_elements(), count = problem.output_elements();
  const bool by_elements = goes_by_elements(problem, type);
  // Answers whether look(begin, end) holds for all parts of a range.
  auto all = [](int64_t size, int64_t work, const auto& look) {
    std::atomic<bool> good{true};
    split(size, work, [&](int64_t begin, int64_t end) {
      if (!look(begin, end)) good = false;
    });
    return good.load();
  };
  const int64_t positions = problem.axes[0].output * problem.axes[1].output * problem.axes[2].output;
  int64_t inner = 1;  // positions whose windows lie inside the input, which need no look
  for (const Axis& axis : problem.axes) inner *= std::max<int64_t>(0, axis.inner_outputs().size());
  const int64_t ends = positions > 0 ? count / positions * (positions - inner) : 0;
  const bool listed = by_elements && positions <= 65536 && (positions <= 4096 || positions + count / 16 <= 2 * ends);
  if (listed) {
    const TapsInside taps(problem);
    const InsideFn inside = kernels().inside[static_cast<int>(type)];
    if (all(gather_rows(problem), count / 4, [&](int64_t begin, int64_t end) { return inside(taps.arguments(offsets, begin, end)); })) {
      return OffsetsName::Inputs;
    }
  }
  if (type != OffsetType::UInt8 || limit < 256) {
    const bool taps = all(count, count / 8, [&](int64_t begin, int64_t end) {
      const Extremes extremes = offset_extremes(offsets, type, begin, end);
      return extremes.least >= 0 && extremes.most < limit;
    });
    if (!taps) return OffsetsName::Nothing;
  }
  if (!by_elements) return OffsetsName::Inputs;
  const bool inputs = !listed && all(gather_rows(problem), count / 4, [&](int64_t begin, int64_t end) {
    return offsets_at_ends_name_inputs(problem, offsets, type, begin, end);
  });
  return inputs ? OffsetsName::Inputs : OffsetsName::Taps;
}

}  // namespace torch_pooling::cpu
