// Operator bodies, the same for every device: check, size, allocate, launch. A Device says how sizes are written (plain or
// symbolic), how to allocate, what makes it current (Guard), and which launchers run; Meta has none. Sliding and adaptive windows share every body.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <tuple>

#include "ops/layout.h"

namespace torch_pooling::ops {

inline std::optional<DType> dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return DType::Float32;
    case at::kDouble: return DType::Float64;
    case at::kBFloat16: return DType::BFloat16;
    case at::kHalf: return DType::Float16;
    case at::kChar: return DType::Int8;
    case at::kByte: return DType::UInt8;
    case at::kShort: return DType::Int16;
    case at::kInt: return DType::Int32;
    case at::kLong: return DType::Int64;
    default: return std::nullopt;
  }
}

enum class Types { Floating, FloatingAndInt64, Numbers };

inline DType check_dtype(const OpName& op, const char* name, const at::Tensor& tensor, Types allowed) {
  const std::optional<DType> dtype = dtype_of(tensor.scalar_type());
  const bool floating = at::isFloatingType(tensor.scalar_type());
  const bool good = dtype.has_value()
                    && (floating || allowed == Types::Numbers
                        || (allowed == Types::FloatingAndInt64 && tensor.scalar_type() == at::kLong));
  TORCH_CHECK_NOT_IMPLEMENTED(good, op, ": not implemented for ", name, " of type ", tensor.scalar_type(), "; supported are ",
                              "float32, float64, bfloat16, float16",
                              allowed == Types::Numbers            ? ", int8, uint8, int16, int32, int64"
                              : allowed == Types::FloatingAndInt64 ? ", int64"
                                                                   : "");
  return *dtype;
}

inline std::optional<OffsetType> offset_type_of(at::ScalarType type) {
  switch (type) {
    case at::kByte: return OffsetType::UInt8;
    case at::kUInt16: return OffsetType::UInt16;
    case at::kInt: return OffsetType::Int32;
    case at::kLong: return OffsetType::Int64;
    default: return std::nullopt;
  }
}
inline at::ScalarType scalar_type_of(OffsetType type) {
  switch (type) {
    case OffsetType::UInt8: return at::kByte;
    case OffsetType::UInt16: return at::kUInt16;
    case OffsetType::Int32: return at::kInt;
    case OffsetType::Int64: return at::kLong;
  }
  TORCH_CHECK(false, "unknown offset type");
}

// `wide` asks for 32 bits whatever the window: sizes were symbolic where the graph was traced.
inline OffsetType choose_offset_type(int64_t window_elements, bool wide) {
  for (const OffsetType type : {OffsetType::UInt8, OffsetType::UInt16}) {
    if (!wide && window_elements <= offset_limit(type)) return type;
  }
  return window_elements <= offset_limit(OffsetType::Int32) ? OffsetType::Int32 : OffsetType::Int64;
}

// Elements of the longest window. Symbolic sizes are fixed by asking; where offsets are wide they are not, and count as one.
template <class Int>
int64_t window_elements(const SlidingArgs<Int>& args, const Sizes<Int>&, const Axis* axes, bool wide = false) {
  if constexpr (std::is_same_v<Int, int64_t>) {
    return axes[0].max_taps() * axes[1].max_taps() * axes[2].max_taps();
  } else {
    int64_t elements = 1;
    for (int64_t axis = 0; axis < args.rank; ++axis) {
      const Int& kernel = entry<Int>(args.kernel_size, axis);
      elements *= wide ? concrete(kernel).value_or(1) : kernel.guard_int(__FILE__, __LINE__);
    }
    return elements;
  }
}
template <class Int>
int64_t window_elements(const AdaptiveArgs<Int>&, const Sizes<Int>& sizes, const Axis* axes, bool wide = false) {
  if constexpr (std::is_same_v<Int, int64_t>) {
    return axes[0].max_taps() * axes[1].max_taps() * axes[2].max_taps();
  } else {
    int64_t elements = 1;
    for (int64_t axis = 0; axis < sizes.rank; ++axis) {
      const Int &input = sizes.input[static_cast<size_t>(axis)], &output = sizes.output[static_cast<size_t>(axis)];
      if (wide && !(concrete(input).has_value() && concrete(output).has_value())) continue;
      elements *= Axis::adaptive_to(input.guard_int(__FILE__, __LINE__), output.guard_int(__FILE__, __LINE__)).max_taps();
    }
    return elements;
  }
}

template <class Device, class Args>
struct Pool {
  using Int = typename Device::Int;
  static constexpr bool adaptive = std::is_same_v<Args, AdaptiveArgs<Int>>;

  static Problem problem_of(const Sizes<Int>& sizes, const Axis* axes, DType dtype, bool channels_last) {
    Problem problem;
    if constexpr (Device::computes) {
      problem.batch = sizes.batch, problem.channels = sizes.channels;
      std::copy_n(axes, 3, problem.axes);
    }
    problem.dtype = dtype;
    problem.layout = channels_last ? Layout::ChannelsLast : Layout::ChannelsFirst;
    return problem;
  }
  static at::Tensor empty(const Sizes<Int>& sizes, const SizeVector<Int>& spatial, bool channels_last, at::ScalarType type,
                          const at::Tensor& like) {
    const SizeVector<Int> all = tensor_sizes(sizes, spatial);
    if (!channels_last) return Device::empty(all, like.options().dtype(type));
    return Device::empty_strided(all, dense_strides<Int>(all, sizes.rank, true), like.options().dtype(type));
  }

  static void set_average(const OpName& op, Problem& problem, const AverageArgs& args) {
    if (args.plain_sum) return;
    TORCH_CHECK(!args.divisor_override.has_value() || *args.divisor_override != 0, op,
                ": divisor_override must not be zero, but got 0");
    problem.average = true;
    problem.count_padding = args.count_include_pad;
    problem.divisor_override = args.divisor_override.value_or(0);
  }

  // torch's avg_pool3d, alone of all pools, refuses a kernel that is larger than the unpadded input. Not with padding it lacks.
  static void check_kernel_fits(const OpName& op, const Args& args, const Sizes<Int>& sizes) {
    if constexpr (!adaptive) {
      if (pads_itself(static_cast<Sizing>(args.sizing)) || args.padding.size() == 6) return;
      for (int64_t axis = 0; axis < sizes.rank && sizes.rank == 3; ++axis) {
        TORCH_CHECK(at_least(sizes.input[static_cast<size_t>(axis)], entry<Int>(args.kernel_size, axis)), op, ": kernel_size ",
                    args.kernel_size, " must be at most the input's size ", sizes.input);
      }
    }
  }

  // Averages, and sums.
  static at::Tensor avg_pool(const OpName& op, const at::Tensor& input, const Args& args, const AverageArgs& average) {
    const DType dtype = check_dtype(op, "input", input, adaptive ? Types::Floating : Types::FloatingAndInt64);
    if constexpr (!adaptive) {
      TORCH_CHECK_INDEX(args.rank != 2 || input.dim() >= 3, op, ": expected input to have 3 or 4 dimensions, but got ", input.dim());
    }
    Axis axes[3];
    const NoChannels no_channels = !adaptive                ? NoChannels::Refused
                                   : rank_of(args) == 3 ? NoChannels::Unbatched
                                                            : NoChannels::Accepted;
    const Sizes<Int> sizes = forward_sizes<Int>(op, input, args, no_channels, axes);
    if (!adaptive && !average.plain_sum) check_kernel_fits(op, args, sizes);
    const bool channels_last = is_channels_last<Int>(input, sizes.rank);
    Problem problem = problem_of(sizes, axes, dtype, channels_last);
    set_average(op, problem, average);
    // Kernels divide integers by a double, and dividing the smallest by -1 is a trap: such a sum is divided afterwards.
    const int64_t divisor = problem.divisor_override;
    const bool afterwards = dtype == DType::Int64 && (divisor == -1 || divisor > int64_t{1} << 53 || divisor < -(int64_t{1} << 53));
    if (afterwards) problem.average = false, problem.divisor_override = 0;
    at::Tensor output = empty(sizes, sizes.output, channels_last, input.scalar_type(), input);
    if constexpr (Device::computes) {
      if (output.numel() == 0) return output;
      const typename Device::Guard guard(input);
      const Dense dense = to_dense(input, sizes.rank, channels_last);
      Device::avg_pool(problem, dense->const_data_ptr(), output.mutable_data_ptr());
      if (afterwards) divisor == -1 ? output.neg_() : output.div_(at::Scalar(divisor), "trunc");
    }
    return output;
  }

  static at::Tensor avg_pool_backward(const OpName& op, const at::Tensor& grad_output, List<Int> input_size, const Args& args,
                                      const AverageArgs& average, bool channels_last) {
    const DType dtype = check_dtype(op, "grad_output", grad_output, Types::Floating);
    Axis axes[3];
    const Sizes<Int> sizes = backward_sizes<Int>(op, "grad_output", grad_output, input_size, args, false, axes);
    Problem problem = problem_of(sizes, axes, dtype, channels_last);
    set_average(op, problem, average);
    at::Tensor grad_input = empty(sizes, sizes.input, channels_last, grad_output.scalar_type(), grad_output);
    if constexpr (Device::computes) {
      if (grad_input.numel() == 0) return grad_input;
      const typename Device::Guard guard(grad_output);
      const Dense dense = to_dense(grad_output, sizes.rank, channels_last);
      Device::avg_pool_backward(problem, dense->const_data_ptr(), grad_input.mutable_data_ptr());
    }
    return grad_input;
  }

  static at::Tensor max_pool(const OpName& op, const at::Tensor& input, const Args& args) {
    const DType dtype = check_dtype(op, "input", input, Types::Numbers);
    Axis axes[3];
    const Sizes<Int> sizes = forward_sizes<Int>(op, input, args, adaptive ? NoChannels::Unbatched : NoChannels::Refused, axes);
    const bool channels_last = is_channels_last<Int>(input, sizes.rank);
    at::Tensor output = empty(sizes, sizes.output, channels_last, input.scalar_type(), input);
    if constexpr (Device::computes) {
      if (output.numel() == 0) return output;
      const typename Device::Guard guard(input);
      const Dense dense = to_dense(input, sizes.rank, channels_last);
      Device::max_pool(problem_of(sizes, axes, dtype, channels_last), dense->const_data_ptr(), output.mutable_data_ptr(), nullptr,
                       OffsetType::UInt8);
    }
    return output;
  }

  static std::tuple<at::Tensor, at::Tensor> max_pool_with_offsets(const OpName& op, const at::Tensor& input, const Args& args,
                                                                  bool wide_offsets) {
    const DType dtype = check_dtype(op, "input", input, Types::Numbers);
    Axis axes[3];
    const Sizes<Int> sizes = forward_sizes<Int>(op, input, args, adaptive ? NoChannels::Unbatched : NoChannels::Refused, axes);
    const OffsetType type = choose_offset_type(window_elements(args, sizes, axes, wide_offsets), wide_offsets);
    const bool channels_last = is_channels_last<Int>(input, sizes.rank);
    at::Tensor output = empty(sizes, sizes.output, channels_last, input.scalar_type(), input);
    at::Tensor offsets = empty(sizes, sizes.output, channels_last, scalar_type_of(type), input);
    if constexpr (Device::computes) {
      if (output.numel() == 0) return {output, offsets};
      const typename Device::Guard guard(input);
      const Dense dense = to_dense(input, sizes.rank, channels_last);
      Device::max_pool(problem_of(sizes, axes, dtype, channels_last), dense->const_data_ptr(), output.mutable_data_ptr(),
                       offsets.mutable_data_ptr(), type);
    }
    return {output, offsets};
  }

  // Offsets come from a user when an operator is called directly: nothing about them is taken on trust.
  static OffsetType check_offsets(const OpName& op, const at::Tensor& offsets) {
    const std::optional<OffsetType> type = offset_type_of(offsets.scalar_type());
    TORCH_CHECK(type.has_value(), op, ": offsets must be of type uint8, uint16, int32 or int64, but got ", offsets.scalar_type());
    if constexpr (Device::computes) check_memory(op, "offsets", offsets);
    return *type;
  }
  static void check_matches(const OpName& op, const at::Tensor& offsets, const char* name, const at::Tensor& other) {
    TORCH_CHECK(offsets.sym_sizes() == other.sym_sizes(), op, ": offsets must have the sizes of ", name, ", ", other.sym_sizes(),
                ", but have ", offsets.sym_sizes());
    TORCH_CHECK(offsets.device() == other.device(), op, ": offsets must be on the device of ", name, ", ", other.device(),
                ", but are on ", offsets.device());
  }
  static OffsetsName check_in_window(const OpName& op, const Problem& problem, const at::Tensor& offsets, OffsetType type) {
    if (offsets.numel() == 0) return OffsetsName::Inputs;
    const OffsetsName name = Device::look_at_offsets(problem, offsets.const_data_ptr(), type);
    TORCH_CHECK(name != OffsetsName::Nothing, op, ": offsets must lie inside the window: at least 0 and below ",
                problem.window_elements());
    return name;
  }

  static at::Tensor max_pool_backward(const OpName& op, const at::Tensor& grad_output, const at::Tensor& offsets,
                                      List<Int> input_size, const Args& args, bool channels_last) {
    const DType dtype = check_dtype(op, "grad_output", grad_output, Types::Floating);
    const OffsetType type = check_offsets(op, offsets);
    check_matches(op, offsets, "grad_output", grad_output);
    Axis axes[3];
    const Sizes<Int> sizes = backward_sizes<Int>(op, "grad_output", grad_output, input_size, args, false, axes);
    if constexpr (Device::computes) {
      const Problem problem = problem_of(sizes, axes, dtype, channels_last);
      const Dense dense_offsets = to_dense(offsets, sizes.rank, channels_last);
      const OffsetsName name = check_in_window(op, problem, *dense_offsets, type);
      at::Tensor grad_input = empty(sizes, sizes.input, channels_last, grad_output.scalar_type(), grad_output);
      if (grad_input.numel() == 0) return grad_input;
      const typename Device::Guard guard(grad_output);
      const Dense dense = to_dense(grad_output, sizes.rank, channels_last);
      Device::max_pool_backward(problem, dense->const_data_ptr(), dense_offsets->const_data_ptr(), type, name,
                                grad_input.mutable_data_ptr());
      return grad_input;
    } else {
      return empty(sizes, sizes.input, channels_last, grad_output.scalar_type(), grad_output);
    }
  }

  // Values of the elements that the offsets name: a tangent, or the second gradient.
  static at::Tensor max_pool_gather(const OpName& op, const at::Tensor& input, const at::Tensor& offsets, const Args& args) {
    const DType dtype = check_dtype(op, "input", input, Types::Numbers);
    const OffsetType type = check_offsets(op, offsets);
    Axis axes[3];
    const Sizes<Int> sizes = forward_sizes<Int>(op, input, args, adaptive ? NoChannels::Unbatched : NoChannels::Refused, axes);
    const SizeVector<Int> expected = tensor_sizes(sizes, sizes.output);
    constexpr const Int* kind = nullptr;
    TORCH_CHECK(sizes_of(offsets, kind) == List<Int>(expected), op, ": offsets must have the sizes of the output, ",
                List<Int>(expected), ", but have ", sizes_of(offsets, kind));
    TORCH_CHECK(offsets.device() == input.device(), op, ": offsets must be on the device of input, ", input.device(),
                ", but are on ", offsets.device());
    const bool channels_last = is_channels_last<Int>(input, sizes.rank);
    if constexpr (Device::computes) {
      const Problem problem = problem_of(sizes, axes, dtype, channels_last);
      const Dense dense_offsets = to_dense(offsets, sizes.rank, channels_last);
      check_in_window(op, problem, *dense_offsets, type);
      at::Tensor output = empty(sizes, sizes.output, channels_last, input.scalar_type(), input);
      if (output.numel() == 0) return output;
      const typename Device::Guard guard(input);
      const Dense dense = to_dense(input, sizes.rank, channels_last);
      Device::max_pool_gather(problem, dense->const_data_ptr(), dense_offsets->const_data_ptr(), type, output.mutable_data_ptr());
      return output;
    } else {
      return empty(sizes, sizes.output, channels_last, input.scalar_type(), input);
    }
  }

  // Flat indices into the plane [*spatial] of the input, as torch numbers them.
  static at::Tensor max_pool_indices(const OpName& op, const at::Tensor& offsets, List<Int> input_size, const Args& args) {
    const OffsetType type = check_offsets(op, offsets);
    Axis axes[3];
    const Sizes<Int> sizes = backward_sizes<Int>(op, "offsets", offsets, input_size, args, true, axes);
    const bool channels_last = is_channels_last<Int>(offsets, sizes.rank);
    if constexpr (Device::computes) {
      const Problem problem = problem_of(sizes, axes, DType::Int64, channels_last);
      const Dense dense_offsets = to_dense(offsets, sizes.rank, channels_last);
      check_in_window(op, problem, *dense_offsets, type);
      at::Tensor indices = empty(sizes, sizes.output, channels_last, at::kLong, offsets);
      if (indices.numel() == 0) return indices;
      const typename Device::Guard guard(offsets);
      Device::max_pool_indices(problem, dense_offsets->const_data_ptr(), type, static_cast<int64_t*>(indices.mutable_data_ptr()));
      return indices;
    } else {
      return empty(sizes, sizes.output, channels_last, at::kLong, offsets);
    }
  }
};

}  // namespace torch_pooling::ops
