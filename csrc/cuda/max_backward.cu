// The backward of maxima, and what else is asked of saved offsets: the elements they name, and flat indices. See launch.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/gather.cuh"
#include "cuda/plan.cuh"
#include "cuda/pull.cuh"
#include "cuda/send.cuh"

namespace torch_pooling::cuda {
namespace {

constexpr int64_t pulled_outputs = 12;  // up to here, every output that reads an input is looked at

template <class T>
void pull_directly(Context& context, const Slice& slice, const T* grads, const Saved& saved, T* result) {
  constexpr int V = pack_bytes / static_cast<int>(sizeof(T));
  if (!slice.narrow) {
    const Box<int64_t> box = make_box<int64_t>(slice, 1);
    return launch(context, pull<T, 1, int64_t>, box.threads, box, grads, saved, result);
  }
  if (packs_fit<T>(slice, grads, result, saved)) {
    const Box<int32_t> box = make_box<int32_t>(slice, V);
    return launch(context, pull<T, V, int32_t>, box.threads, box, grads, saved, result);
  }
  const Box<int32_t> box = make_box<int32_t>(slice, 1);
  launch(context, pull<T, 1, int32_t>, box.threads, box, grads, saved, result);
}

template <class T>
bool pull_small(Context& context, const Slice& slice, const T* grads, const Saved& saved, T* result) {
  if (saved.type != OffsetType::UInt8) return false;
  return with_small_window(slice, true, [&](auto window) {
    using Window = decltype(window);
    constexpr int P = tile_width<T>;
    constexpr int S = Window::stride;
    const TileProblem a = make_tiles(slice, P, 2, pack_bytes / S, pack_bytes, grads, result, saved, P / S, sizeof(T));
    launch(context, pull_tile<T, true, Window>, a.threads, a, grads, static_cast<const uint8_t*>(saved.data), result);
  });
}

template <class Body>
void with_offsets(const Saved& saved, const Body& body) {
  switch (saved.type) {
    case OffsetType::UInt8: return body(static_cast<const uint8_t*>(saved.data));
    case OffsetType::UInt16: return body(static_cast<const uint16_t*>(saved.data));
    case OffsetType::Int32: return body(static_cast<const int32_t*>(saved.data));
    case OffsetType::Int64: return body(static_cast<const int64_t*>(saved.data));
  }
  throw std::logic_error("unknown offset type");
}

// Large windows in a plane, or false: other axes too, or windows as wide as a whole tile.
template <class T>
bool send_tiles(Context& context, const Slice& slice, const T* grads, const Saved& saved, T* result) {
  const Windows<int32_t> h = slice.windows<int32_t>(1), w = slice.windows<int32_t>(2);
  if (!slice.windows<int32_t>(0).trivial() || saved.type == OffsetType::Int64) return false;
  const SendPlan plan = plan_send<Lane<T>>(h, w, static_cast<int32_t>(slice.inner), static_cast<int32_t>(slice.axis(2).max_taps()),
                                           static_cast<int32_t>(slice.problem->window_elements()));
  if (plan.height == 0) return false;
  const int64_t blocks = slice.outer * slice.results(0) * plan.by_bands.divisor * plan.by_strips.divisor * plan.by_lane_tiles.divisor;
  with_offsets(saved, [&](const auto* codes) {
    using Code = std::remove_cvref_t<decltype(*codes)>;
    if constexpr (sizeof(Code) < 8) launch(context, send<T, Code>, blocks * block_threads, plan, grads, codes, result);
  });
  return true;
}

// From the outermost axis that matters to the width.
template <class T>
void sift_axes(Context& context, const Slice& slice, const T* grads, const Saved& saved, T* result) {
  using L = Lane<T>;
  const Box<int32_t> box = make_box<int32_t>(slice, 1);
  int64_t size[3] = {slice.sources(0), slice.sources(1), slice.sources(2)};
  const L* sums = nullptr;
  const int32_t* codes = nullptr;
  const int first_axis = box.axis[0].trivial() ? 1 : 0;
  for (int axis = first_axis; axis < 3; ++axis) {
    Sift s;
    s.axis = box.axis[axis];
    size[axis] = slice.results(axis);
    s.inner = static_cast<int32_t>(slice.inner);
    for (int other = axis + 1; other < 3; ++other) s.inner *= static_cast<int32_t>(size[other]);
    s.by_inner = Divider<int32_t>(s.inner), s.by_size = Divider<int32_t>(s.axis.results);
    s.scale = box.code_scale[axis], s.tap_step = s.axis.advance / s.axis.common;
    const int64_t elements = slice.outer * size[0] * size[1] * size[2] * slice.inner;
    s.threads = static_cast<int32_t>(elements);
    if (axis == 2) {
      return launch(context, sift<T, int32_t, false, true>, elements, s, box, grads, saved, sums, codes, result, nullptr, nullptr);
    }
    L* const next_sums = static_cast<L*>(context.allocate(elements * static_cast<int64_t>(sizeof(L))));
    int32_t* const next_codes = static_cast<int32_t*>(context.allocate(elements * static_cast<int64_t>(sizeof(int32_t))));
    if (axis == first_axis) {
      with_offsets(saved, [&](const auto* offsets) {
        using Offset = std::remove_cvref_t<decltype(*offsets)>;
        launch(context, sift<T, Offset, true, false>, elements, s, box, grads, saved, nullptr, offsets, nullptr, next_sums, next_codes);
      });
    } else {
      launch(context, sift<T, int32_t, false, false>, elements, s, box, grads, saved, sums, codes, nullptr, next_sums, next_codes);
    }
    sums = next_sums, codes = next_codes;
  }
}

}  // namespace

void max_pool_backward(Context& context, Problem problem, const void* grad_output, const void* offsets, OffsetType type,
                       void* grad_input) {
  problem.fold_axes();
  with_float(problem.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for_slices(problem, true, [&](const Slice& slice, int64_t sources_before, int64_t results_before) {
      const T* const grads = static_cast<const T*>(grad_output) + sources_before;
      const Saved saved = advance({const_cast<void*>(offsets), type}, sources_before);
      T* const result = static_cast<T*>(grad_input) + results_before;
      if (pull_small(context, slice, grads, saved, result)) return;
      int64_t outputs = 1;
      int axes = 0;
      for (int axis = 0; axis < 3; ++axis) {
        const int64_t most = slice.windows<int64_t>(axis).most;
        outputs *= most, axes += most > 1;
      }
      if (slice.narrow && axes > 1 && outputs > pulled_outputs) {
        if (send_tiles(context, slice, grads, saved, result)) return;
        return sift_axes(context, slice, grads, saved, result);
      }
      pull_directly(context, slice, grads, saved, result);
    });
  });
}

namespace {

// The bits of elements: what is gathered is copied, whatever it means.
template <class Body>
void with_bits(DType dtype, const Body& body) {
  with_number(dtype, [&](auto tag) {
    constexpr size_t bytes = sizeof(typename decltype(tag)::type);
    using Small = std::conditional_t<bytes == 1, uint8_t, uint16_t>;
    using Large = std::conditional_t<bytes == 4, uint32_t, uint64_t>;
    body(Tag<std::conditional_t<(bytes < 4), Small, Large>>{});
  });
}

template <class Int, class Launch>
void named(const Slice& slice, const Launch& launch_with) {
  launch_with(make_box<Int>(slice, 1), static_cast<Int>(slice.axis(1).max_taps()),
              static_cast<Int>(slice.problem->window_elements()));
}

}  // namespace

void max_pool_gather(Context& context, Problem problem, const void* input, const void* offsets, OffsetType type, void* output) {
  with_bits(problem.dtype, [&](auto tag) {
    using Bits = typename decltype(tag)::type;
    for_slices(problem, false, [&](const Slice& slice, int64_t sources_before, int64_t results_before) {
      const auto gather = [&]<class Int>(const Box<Int>& box, Int taps_h, Int limit) {
        launch(context, gather_values<Bits, Int>, box.threads, box, static_cast<const Bits*>(input) + sources_before,
               advance({const_cast<void*>(offsets), type}, results_before), taps_h, limit,
               static_cast<Bits*>(output) + results_before);
      };
      slice.narrow ? named<int32_t>(slice, gather) : named<int64_t>(slice, gather);
    });
  });
}

void max_pool_indices(Context& context, Problem problem, const void* offsets, OffsetType type, int64_t* indices) {
  for_slices(problem, false, [&](const Slice& slice, int64_t, int64_t results_before) {
    const auto gather = [&]<class Int>(const Box<Int>& box, Int taps_h, Int limit) {
      launch(context, gather_indices<Int>, box.threads, box, advance({const_cast<void*>(offsets), type}, results_before), taps_h,
             limit, indices + results_before);
    };
    slice.narrow ? named<int32_t>(slice, gather) : named<int64_t>(slice, gather);
  });
}

}  // namespace torch_pooling::cuda
