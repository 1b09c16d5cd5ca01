// Several reductions of one input: plans and launches. See launch.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/combined.cuh"

#include "cuda/plan.cuh"

namespace torch_pooling::cuda {
namespace {

static_assert(sizeof(CombinedPlan) <= 4000, "a kernel takes at most 4 KiB of arguments");

int32_t floor_log2(int64_t n) {
  int32_t log = 0;
  while (n > 1) n /= 2, ++log;
  return log;
}

CombinedPlan make_plan(const Combined& combined, bool inverse, int64_t element_bytes, const Saved& offsets) {
  CombinedPlan plan;
  plan.mean = combined.form == Form::Mean;
  plan.channels_last = combined.layout == Layout::ChannelsLast;
  plan.channels = combined.channels, plan.positions = combined.input_positions();
  plan.offsets = offsets;
  if (plan.channels_last) plan.lanes_log = std::min(5, floor_log2(combined.channels));
  plan.lane_tiles = ceil_div<int64_t>(plan.channels, int64_t{1} << plan.lanes_log);
  plan.blocks = combined.batch * plan.lane_tiles;
  plan.staged = (plan.positions << plan.lanes_log) * element_bytes <= staged_bytes;
  const bool shared_windows = combined.form != Form::Flat;  // all parts over the same
  for (int64_t part = 0; part < combined.part_count; ++part) {
    const Part& from = combined.parts[part];
    const bool starts = part == 0 || !shared_windows;
    WindowGroup& group = plan.groups[starts ? plan.group_count++ : plan.group_count - 1];
    if (starts) {
      int64_t taps = 1;
      for (int axis = 0; axis < 3; ++axis) {
        if (!Windows<int32_t>::hold(from.axes[axis])) throw std::runtime_error("combined_pool: a spatial axis is too long for CUDA");
        group.axis[axis] = Windows<int32_t>(from.axes[axis], inverse, true);
        taps *= from.axes[axis].max_taps();
      }
      if (taps >= narrow_limit) throw std::runtime_error("combined_pool: a window is too large for CUDA");
      group.team_log = std::clamp(floor_log2(taps / 8), 0, 8 - plan.lanes_log);
    }
    if (from.max && group.maximum) throw std::logic_error("two maxima over the same windows");
    (from.max ? group.maximum : group.average) = true;
    (from.max ? group.maxima : group.averages) = combined.place(part, false);
    if (from.max) group.saved = combined.place(part, true);
  }
  return plan;
}

template <CombinedTask task>
void run(Context& context, const Combined& combined, const void* input, void* output, const Saved& offsets) {
  with_float(combined.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const CombinedPlan plan = make_plan(combined, false, sizeof(T), offsets);
    launch(context, combined_windows<T, task>, plan.blocks * block_threads, plan, static_cast<const T*>(input), static_cast<T*>(output));
  });
}

}  // namespace

void combined_pool(Context& context, const Combined& combined, const void* input, void* output, void* offsets, OffsetType type) {
  if (offsets == nullptr) return run<CombinedTask::Values>(context, combined, input, output, {});
  run<CombinedTask::Offsets>(context, combined, input, output, {offsets, type});
}

void combined_pool_gather(Context& context, const Combined& combined, const void* input, const void* offsets, OffsetType type, void* output) {
  run<CombinedTask::Gather>(context, combined, input, output, {const_cast<void*>(offsets), type});
}

void combined_pool_backward(Context& context, const Combined& combined, const void* grad_output, const void* offsets, OffsetType type,
                            void* grad_input) {
  with_float(combined.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const CombinedPlan plan = make_plan(combined, true, sizeof(T), {const_cast<void*>(offsets), type});
    const int64_t elements = combined.batch * combined.channels * combined.input_positions();
    launch(context, combined_pull<T>, elements, plan, elements, static_cast<const T*>(grad_output), static_cast<T*>(grad_input));
  });
}

}  // namespace torch_pooling::cuda
