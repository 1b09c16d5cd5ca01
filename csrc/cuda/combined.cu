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
    const WindowGroup* const last = part == 0 ? nullptr : &plan.groups[plan.group_count - 1];
    const bool starts = last == nullptr || !shared_windows || (from.max ? last->maximum : last->average);  // one of each kind to a group
    WindowGroup& group = plan.groups[starts ? plan.group_count++ : plan.group_count - 1];
    if (starts) {
      int64_t taps = 1;
      for (int axis = 0; axis < 3; ++axis) {
        if (!Windows<int32_t>::hold(from.axes[axis])) {
          throw std::runtime_error("combined_pool: the window is too large for CUDA: sizes, stride, padding and input_size must stay within 32 bits");
        }
        group.axis[axis] = Windows<int32_t>(from.axes[axis], inverse, true);
        taps *= from.axes[axis].max_taps();
      }
      if (taps >= narrow_limit) throw std::runtime_error("combined_pool: the window is too large for CUDA: sizes give too many elements");
      group.team_log = std::clamp(floor_log2(taps / 8), 0, 8 - plan.lanes_log);
      group.outputs = from.outputs();
    }
    (from.max ? group.maximum : group.average) = true;
    (from.max ? group.maxima : group.averages) = combined.place(part, false);
    if (from.max) {
      group.saved = combined.place(part, true);
    } else {
      const Division division = division_of(combined.problem(part, 1));
      if (division.kind == Division::Kind::Uniform) group.divisor = division.divisor;
    }
  }
  return plan;
}

// Several blocks to a plane where there are few planes and each is read from memory. How many depends on the sizes alone, so that sums
// are the same on all GPUs. Returns the number of parts of windows.
int64_t share_planes(CombinedPlan& plan) {
  constexpr int64_t enough_blocks = 1024, least_steps = 16;
  if (plan.staged || plan.blocks == 0 || plan.blocks >= enough_blocks) return 0;
  const int64_t wanted = enough_blocks / plan.blocks, planes = plan.blocks / plan.lane_tiles * plan.channels;
  int64_t most_rounds = 1, parts = 0;
  for (int32_t g = 0; g < plan.group_count; ++g) {
    WindowGroup& group = plan.groups[g];
    const int32_t together_log = 8 - plan.lanes_log - group.team_log;
    const auto rounds = [&](int64_t items) { return ceil_div<int64_t>(items, int64_t{1} << together_log); };
    int64_t taps = 1;
    for (const Windows<int32_t>& axis : group.axis) taps *= axis.most;
    const int64_t steps = taps >> group.team_log;
    const int64_t splits = std::min(steps / least_steps, ceil_div<int64_t>(wanted, std::max<int64_t>(1, rounds(group.outputs))));
    if (splits > 1) {
      group.splits = static_cast<int32_t>(splits), group.first_part = parts;
      parts += planes * group.outputs * splits;
    }
    most_rounds = std::max(most_rounds, rounds(group.outputs * group.splits));
  }
  plan.chunks = static_cast<int32_t>(std::min(wanted, most_rounds));
  plan.blocks *= plan.chunks;
  return parts;
}

// Whether 32 bits number the positions and the windows of a plane.
bool is_narrow(const CombinedPlan& plan) {
  bool narrow = plan.positions < narrow_limit && (!plan.channels_last || plan.positions * plan.channels < narrow_limit);
  for (int32_t g = 0; g < plan.group_count; ++g) narrow = narrow && plan.groups[g].outputs * plan.groups[g].splits < narrow_limit;
  return narrow;
}

template <CombinedTask task>
void run(Context& context, const Combined& combined, const void* input, void* output, const Saved& offsets) {
  with_float(combined.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    CombinedPlan plan = make_plan(combined, false, sizeof(T), offsets);
    WindowParts<Lane<T>> parts;
    if (const int64_t count = share_planes(plan); count > 0) {
      const auto array = [&](auto*& pointer) {
        pointer = static_cast<std::remove_reference_t<decltype(pointer)>>(context.allocate(count * static_cast<int64_t>(sizeof(*pointer))));
      };
      array(parts.sums), array(parts.maxima);
      if (task == CombinedTask::Offsets) array(parts.codes);
    }
    const auto* const source = static_cast<const T*>(input);
    auto* const result = static_cast<T*>(output);
    const auto kernel = is_narrow(plan) ? combined_windows<T, task, int32_t> : combined_windows<T, task, int64_t>;
    launch(context, kernel, plan.blocks * block_threads, plan, parts, source, result);
    for (int32_t g = 0; g < plan.group_count; ++g) {
      if (plan.groups[g].splits == 1) continue;
      const int64_t windows = combined.batch * combined.channels * plan.groups[g].outputs;
      launch(context, combined_join<T, task>, windows, plan, g, windows, parts, source, result);
    }
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
    const auto pull = [&](auto kernel, auto by_channels) {
      launch(context, kernel, elements, plan, by_channels, elements, static_cast<const T*>(grad_output), static_cast<T*>(grad_input));
    };
    if (elements < narrow_limit) {
      pull(combined_pull<T, int32_t>, Divider<int32_t>(static_cast<int32_t>(combined.channels)));
    } else {
      pull(combined_pull<T, int64_t>, Divider<int64_t>(combined.channels));
    }
  });
}

}  // namespace torch_pooling::cuda
