// The operators of global pools with a mask, the same bodies for every device. Inputs are [N, C, *spatial], masks bool [N, *spatial]; the
// window is the whole plane, so results are [N, C, 1, ...] and offsets are positions in the plane. A row with nothing to count gives 0,
// at offset 0.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <torch/library.h>

#include "core/masked.h"
#include "ops/pool.h"

namespace torch_pooling::ops {

template <class Device>
struct MaskedPool {
  using Int = typename Device::Int;
  using Tensor = at::Tensor;
  static constexpr const Int* kind = nullptr;

  struct Plan {
    Sizes<Int> sizes;
    bool channels_last = false;
    Masked masked;  // plain sizes only

    Plan(const Sizes<Int>& given, DType dtype, bool channels_last) : sizes(given), channels_last(channels_last) {
      masked.dtype = dtype, masked.layout = channels_last ? Layout::ChannelsLast : Layout::ChannelsFirst;
      sizes.output.assign(static_cast<size_t>(sizes.rank), Int(1));
      if constexpr (Device::computes) {
        masked.batch = sizes.batch, masked.channels = sizes.channels;
        for (const int64_t size : sizes.input) masked.positions *= size;
      }
    }
    Tensor empty(const SizeVector<Int>& spatial, at::ScalarType type, const Tensor& like) const {
      return Pool<Device, AdaptiveArgs<Int>>::empty(sizes, spatial, channels_last, type, like);
    }
  };

  static void check_mask(const OpName& op, const Tensor& mask, const Tensor& beside) {
    TORCH_CHECK(mask.scalar_type() == at::kBool, op, ": mask must be of type bool, but is of ", mask.scalar_type());
    TORCH_CHECK(mask.device() == beside.device(), op, ": mask must be on ", beside.device(), ", but is on ", mask.device());
    if constexpr (Device::computes) check_memory(op, "mask", mask);
  }
  static Plan forward_plan(const OpName& op, const Tensor& input, const Tensor& mask, Types types) {
    const int64_t rank = input.dim() - 2;
    TORCH_CHECK(rank >= 1 && rank <= 3, op, ": expected input [N, C, *spatial] with 1 to 3 spatial axes, but got ", input.dim(), "-D");
    const DType dtype = check_dtype(op, "input", input, types);
    check_mask(op, mask, input);
    Axis axes[3];
    const SizeVector<Int> ones(static_cast<size_t>(rank), Int(1));
    const NoChannels no_channels = types == Types::Floating && rank < 3 ? NoChannels::Accepted : NoChannels::Refused;  // as without a mask
    const Sizes<Int> sizes = forward_sizes<Int>(op, input, AdaptiveArgs<Int>{List<Int>(ones)}, no_channels, axes);
    SizeVector<Int> expected{sizes.batch};
    expected.append(sizes.input.begin(), sizes.input.end());
    TORCH_CHECK(sizes_of(mask, kind) == List<Int>(expected), op, ": mask must have sizes [N, *spatial], ", List<Int>(expected),
                ", but has ", sizes_of(mask, kind));
    return Plan(sizes, dtype, is_channels_last<Int>(input, rank));
  }
  static const uint8_t* bytes_of(const Tensor& mask) { return static_cast<const uint8_t*>(mask.const_data_ptr()); }
  // Where it lies must not decide how many positions a kernel takes at once, for that is an order of additions.
  static c10::MaybeOwned<Tensor> dense(const Tensor& mask) {
    auto contiguous = mask.expect_contiguous();
    if (reinterpret_cast<uintptr_t>(contiguous->const_data_ptr()) % 16 == 0) return contiguous;
    return c10::MaybeOwned<Tensor>::owned(contiguous->clone());
  }

  static Tensor avg_pool(const Tensor& input, const Tensor& mask) {
    const Plan plan = forward_plan({"global_avg_pool", any_rank}, input, mask, Types::Floating);
    Tensor output = plan.empty(plan.sizes.output, input.scalar_type(), input);
    if constexpr (Device::computes) {
      if (output.numel() == 0) return output;
      const typename Device::Guard guard(input);
      const Dense from = to_dense(input, plan.sizes.rank, plan.channels_last);
      const auto dense_mask = dense(mask);
      Device::masked_avg_pool(plan.masked, from->const_data_ptr(), bytes_of(*dense_mask), output.mutable_data_ptr());
    }
    return output;
  }

  static Tensor avg_pool_backward(const Tensor& grad_output, const Tensor& mask, bool channels_last) {
    const OpName op{"global_avg_pool", any_rank, "_backward"};
    const int64_t rank = mask.dim() - 1;
    TORCH_CHECK(rank >= 1 && rank <= 3, op, ": expected mask [N, *spatial] with 1 to 3 spatial axes, but got ", mask.dim(), "-D");
    TORCH_CHECK(grad_output.dim() == rank + 2, op, ": expected grad_output to be ", rank + 2, "-D, but got ", grad_output.dim(), "-D");
    const DType dtype = check_dtype(op, "grad_output", grad_output, Types::Floating);
    check_mask(op, mask, grad_output);
    Axis axes[3];
    const SizeVector<Int> ones(static_cast<size_t>(rank), Int(1));
    const List<Int> input_size = sizes_of(mask, kind).slice(1);
    for (const Int& size : input_size) check_range<Int>(op, "spatial sizes of mask", size, 1, int64_t{1} << 60);
    TORCH_CHECK(product_fits(Int(1), input_size, int64_t{1} << 62), op, ": mask must have at most 2^62 positions, but has sizes ", input_size);
    Sizes<Int> rows;
    rows.batch = size_of(grad_output, 0, kind), rows.channels = size_of(grad_output, 1, kind);
    TORCH_CHECK(tensor_fits<Int>(rows, input_size), op, ": mask of sizes ", sizes_of(mask, kind), " is too large: a gradient for grad_output of ",
                "sizes ", sizes_of(grad_output, kind), " would have more than 2^60 - 1 elements");
    const Sizes<Int> sizes = backward_sizes<Int>(op, "grad_output", grad_output, input_size, AdaptiveArgs<Int>{List<Int>(ones)}, false, axes);
    TORCH_CHECK(sizes.batch == size_of(mask, 0, kind), op, ": mask must have the batch of grad_output, ", sizes.batch, ", but has ",
                size_of(mask, 0, kind));
    const Plan plan(sizes, dtype, channels_last);
    Tensor grad_input = plan.empty(sizes.input, grad_output.scalar_type(), grad_output);
    if constexpr (Device::computes) {
      if (grad_input.numel() == 0) return grad_input;
      const typename Device::Guard guard(grad_output);
      const Dense from = to_dense(grad_output, rank, channels_last);
      const auto dense_mask = dense(mask);
      Device::masked_avg_pool_backward(plan.masked, from->const_data_ptr(), bytes_of(*dense_mask), grad_input.mutable_data_ptr());
    }
    return grad_input;
  }

  static Tensor max_pool(const Tensor& input, const Tensor& mask) {
    const Plan plan = forward_plan({"global_max_pool", any_rank}, input, mask, Types::Numbers);
    Tensor output = plan.empty(plan.sizes.output, input.scalar_type(), input);
    if constexpr (Device::computes) run_max(plan, input, mask, output, nullptr, OffsetType::UInt8);
    return output;
  }

  static std::tuple<Tensor, Tensor> max_pool_with_offsets(const Tensor& input, const Tensor& mask, bool wide_offsets) {
    const Plan plan = forward_plan({"global_max_pool", any_rank}, input, mask, Types::Numbers);
    OffsetType type = OffsetType::Int32;
    if constexpr (Device::computes) {
      type = choose_offset_type(plan.masked.positions, wide_offsets);
    } else {
      int64_t positions = 1;
      for (const Int& size : plan.sizes.input) positions *= wide_offsets ? concrete(size).value_or(1) : size.guard_int(__FILE__, __LINE__);
      type = choose_offset_type(positions, wide_offsets);
    }
    Tensor output = plan.empty(plan.sizes.output, input.scalar_type(), input);
    Tensor offsets = plan.empty(plan.sizes.output, scalar_type_of(type), input);
    if constexpr (Device::computes) run_max(plan, input, mask, output, &offsets, type);
    return {output, offsets};
  }
  static void run_max(const Plan& plan, const Tensor& input, const Tensor& mask, Tensor& output, Tensor* offsets, OffsetType type) {
    if (output.numel() == 0) return;
    const typename Device::Guard guard(input);
    const Dense from = to_dense(input, plan.sizes.rank, plan.channels_last);
    const auto dense_mask = dense(mask);
    Device::masked_max_pool(plan.masked, from->const_data_ptr(), bytes_of(*dense_mask), output.mutable_data_ptr(),
                            offsets == nullptr ? nullptr : offsets->mutable_data_ptr(), type);
  }

  static void implement(torch::Library& m) {
    m.impl("masked_avg_pool", TORCH_FN(avg_pool));
    m.impl("masked_avg_pool_backward", TORCH_FN(avg_pool_backward));
    m.impl("masked_max_pool", TORCH_FN(max_pool));
    m.impl("masked_max_pool_with_offsets", TORCH_FN(max_pool_with_offsets));
  }
};

}  // namespace torch_pooling::ops
