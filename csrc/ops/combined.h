// The operators of several reductions at once: combined_pool and its kin, the same bodies for every device. Inputs are batched
// [N, C, *spatial]. Windows are adaptive (sizes: an output size for each axis of each part) or, where a stride is given, sliding
// ones shared by all parts (sizes: the kernel). Checks of sizes are those of single pools.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <torch/library.h>

#include <algorithm>

#include "core/combined.h"
#include "ops/pool.h"

namespace torch_pooling::ops {

template <class Int>
struct CombinedArgs {
  int64_t rank;
  int64_t form;                 // a Form
  c10::ArrayRef<int64_t> kinds;  // of each part: 0 averages, 1 maxima
  List<Int> sizes, stride, padding;

  // No stride: adaptive windows. Packages of AOTInductor cannot hold a list of nothing; there, four zeros, which no rank has, say the same.
  static bool is_nothing(List<Int> list) {
    return list.empty() || (list.size() == 4 && std::all_of(list.begin(), list.end(), [](const Int& n) { return concrete(n) == 0; }));
  }
  bool adaptive() const { return is_nothing(stride); }
};

template <class Device>
struct CombinedPool {
  using Int = typename Device::Int;
  using Tensor = at::Tensor;
  using Args = CombinedArgs<Int>;

  struct Plan {
    OpName op{"combined_pool", any_rank};
    Combined combined;                 // plain sizes only
    std::vector<Sizes<Int>> parts;     // of each
    int64_t maxima = 0;
    bool channels_last = false;
  };

  // As the user's function is called.
  static OpName name_of(const Args& args, const char* suffix = "") {
    if (!args.adaptive()) return {"mixed_pool", any_rank, suffix};
    switch (static_cast<Form>(args.form)) {
      case Form::Concat: return {"concat_pool", any_rank, suffix};
      case Form::Mean: return {"avgmax_pool", any_rank, suffix};
      case Form::Flat: return {"spatial_pyramid_pool", any_rank, suffix};
    }
    return {"combined_pool", any_rank, suffix};
  }

  static void check(const Args& args) {
    check_rank({"combined_pool", args.rank}, args.rank);
    TORCH_CHECK(args.form >= 0 && args.form < form_count, "combined_pool: form must be 0 (concat), 1 (mean) or 2 (flat), but got ",
                args.form);
    const auto parts = static_cast<int64_t>(args.kinds.size());
    TORCH_CHECK(parts >= 1 && parts <= most_parts, "combined_pool: kinds must name 1 to ", most_parts, " parts, but got ", parts);
    int64_t maxima = 0;
    for (const int64_t kind : args.kinds) {
      TORCH_CHECK(kind == 0 || kind == 1, "combined_pool: kinds must be 0 (avg) or 1 (max), but got ", args.kinds);
      maxima += kind;
    }
    const bool mean = static_cast<Form>(args.form) == Form::Mean;
    TORCH_CHECK(!mean || (parts == 2 && args.kinds[0] == 0 && maxima == 1), "combined_pool: a mean is of averages and maxima, kinds [0, 1], but got ",
                args.kinds);
    const int64_t expected = args.rank * (args.adaptive() ? parts : 1);
    TORCH_CHECK(static_cast<int64_t>(args.sizes.size()) == expected, "combined_pool: sizes must have ", expected, " elements, ",
                args.adaptive() ? "an output size for each axis of each of kinds where stride is empty" : "those of one window where stride is given",
                ", but got ", args.sizes.size());
    TORCH_CHECK(!args.adaptive() || Args::is_nothing(args.padding), "combined_pool: padding must be empty where stride is, but has ",
                args.padding.size(), " elements");
  }

  // How many results of one sample a part has, `each` for every channel.
  static Int results_of(const OpName& op, const Sizes<Int>& part, const Int& each) {
    constexpr int64_t most = int64_t{1} << 55;  // eight parts of float64 are fewer bytes than 63 bits count
    TORCH_CHECK(product_fits(each, List<Int>(part.output), most), op, ": output sizes ", List<Int>(part.output), " of ", each,
                " channels are more than ", most, " results");
    Int results = each;
    for (const Int& size : part.output) results = results * size;
    return results;
  }

  template <class Place>
  static Plan plan(const OpName& op, const Args& args, DType dtype, bool channels_last, const Place& sizes_of_part) {
    Plan plan;
    plan.op = op;
    plan.channels_last = channels_last;
    plan.combined.dtype = dtype;
    plan.combined.layout = channels_last ? Layout::ChannelsLast : Layout::ChannelsFirst;
    plan.combined.form = static_cast<Form>(args.form);
    plan.combined.part_count = static_cast<int64_t>(args.kinds.size());
    for (size_t p = 0; p < args.kinds.size(); ++p) {
      Part& part = plan.combined.parts[p];
      part.max = args.kinds[p] == 1;
      plan.maxima += args.kinds[p];
      plan.parts.push_back(sizes_of_part(p, part.axes));
      const SizeVector<Int>& first = plan.parts[0].output;
      if (plan.combined.form == Form::Flat) {  // of which one level with nothing in it would leave the others
        for (const Int& size : plan.parts[p].output) check_range<Int>(op, "output_size", size, 1, INT64_MAX);
      } else {
        TORCH_CHECK(List<Int>(plan.parts[p].output) == List<Int>(first), "combined_pool: parts must have the same output sizes, but have ",
                    List<Int>(first), " and ", List<Int>(plan.parts[p].output));
      }
    }
    if constexpr (Device::computes) plan.combined.batch = plan.parts[0].batch, plan.combined.channels = plan.parts[0].channels;
    return plan;
  }
  static Plan forward_plan(const Tensor& input, const Args& args) {
    check(args);
    const OpName op = name_of(args);
    TORCH_CHECK(input.dim() == args.rank + 2, op, ": expected input [N, C, *spatial], ", args.rank + 2, "-D, but got ", input.dim(), "-D");
    const DType dtype = check_dtype(op, "input", input, Types::Floating);
    return plan(op, args, dtype, is_channels_last<Int>(input, args.rank), [&](size_t p, Axis* axes) {
      return with_windows(args, p, [&](const auto& windows) { return forward_sizes<Int>(op, input, windows, NoChannels::Refused, axes); });
    });
  }
  // grad_output is checked against the plan by its caller.
  static Plan backward_plan(const Tensor& grad_output, List<Int> input_size, const Args& args, bool channels_last) {
    check(args);
    const OpName op = name_of(args, "_backward");
    const DType dtype = check_dtype(op, "grad_output", grad_output, Types::Floating);
    const bool flat = static_cast<Form>(args.form) == Form::Flat;
    TORCH_CHECK(grad_output.dim() == (flat ? 2 : args.rank + 2), op, ": expected grad_output to be ", flat ? 2 : args.rank + 2,
                "-D, but got ", grad_output.dim(), "-D");
    TORCH_CHECK(static_cast<int64_t>(input_size.size()) == args.rank, op, ": input_size must have ", args.rank,
                " elements (spatial sizes only), but got ", input_size.size());
    for (const Int& size : input_size) check_range<Int>(op, "input_size", size, 1, int64_t{1} << 40);
    TORCH_CHECK(product_fits(Int(1), input_size, int64_t{1} << 62), op, ": input_size must have a product of at most 2^62, but got ",
                input_size);
    Plan result = plan(op, args, dtype, channels_last, [&](size_t p, Axis* axes) {
      Sizes<Int> sizes;
      sizes.rank = args.rank;
      sizes.batch = size_of(grad_output, 0, static_cast<const Int*>(nullptr));
      sizes.input.assign(input_size.begin(), input_size.end());
      with_windows(args, p, [&](const auto& windows) { return place_windows(op, windows, sizes, axes), 0; });
      return sizes;
    });
    // Channels: what a row holds, by the results of one channel.
    Int each(0);
    for (const auto& part : result.parts) {
      const Int outputs = results_of(op, part, Int(1));
      TORCH_CHECK(at_least(outputs, 1), op, ": the gradient of an empty output, of output_size ", List<Int>(part.output));
      each = flat ? each + outputs : result.combined.form == Form::Mean ? Int(1) : each + 1;
    }
    const Int& held = size_of(grad_output, 1, static_cast<const Int*>(nullptr));
    TORCH_CHECK(held % each == 0 && held > 0, op, ": grad_output must have a multiple of ", each, " elements along dimension 1, but has ", held);
    for (auto& part : result.parts) part.channels = held / each;
    TORCH_CHECK(tensor_fits<Int>(result.parts[0], input_size), op, ": input_size ", input_size, " is too large: a gradient for grad_output of sizes ",
                shape_text<Int>(grad_output), " would have more than 2^60 - 1 elements");
    if constexpr (Device::computes) result.combined.channels = result.parts[0].channels;
    check_like(op, "grad_output", grad_output, result, false);
    if constexpr (Device::computes) check_memory(op, "grad_output", grad_output);
    return result;
  }

  template <class Body>
  static auto with_windows(const Args& args, size_t part, const Body& body) {
    const auto rank = static_cast<size_t>(args.rank);
    static const Int one(1);
    if (!args.adaptive()) {
      return body(SlidingArgs<Int>{args.rank, args.sizes, args.stride, args.padding, List<Int>(one), 0});
    }
    return body(AdaptiveArgs<Int>{args.sizes.slice(part * rank, rank)});
  }

  // The sizes of the output or, `saved`, of the offsets.
  static SizeVector<Int> sizes_of_result(const Plan& plan, bool saved) {
    Int channels(0), row(0);
    for (size_t p = 0; p < plan.parts.size(); ++p) {
      if (saved && !plan.combined.parts[p].max) continue;
      row = row + results_of(plan.op, plan.parts[p], plan.parts[p].channels);
      channels = plan.combined.form == Form::Mean ? plan.parts[p].channels : channels + plan.parts[p].channels;
    }
    SizeVector<Int> sizes{plan.parts[0].batch};
    if (plan.combined.form == Form::Flat) {
      sizes.push_back(row);
    } else {
      sizes.push_back(channels);
      sizes.append(plan.parts[0].output.begin(), plan.parts[0].output.end());
    }
    return sizes;
  }
  static void check_like(const OpName& op, const char* name, const Tensor& tensor, const Plan& plan, bool saved) {
    const SizeVector<Int> expected = sizes_of_result(plan, saved);
    constexpr const Int* kind = nullptr;
    TORCH_CHECK(sizes_of(tensor, kind) == List<Int>(expected), op, ": ", name, " must have sizes ", List<Int>(expected), ", but has ",
                sizes_of(tensor, kind));
  }
  static Tensor empty(const Plan& plan, bool saved, at::ScalarType type, const Tensor& like) {
    return dense(sizes_of_result(plan, saved), plan, type, like);
  }
  static Tensor dense(const SizeVector<Int>& sizes, const Plan& plan, at::ScalarType type, const Tensor& like) {
    const auto rank = static_cast<int64_t>(sizes.size()) - 2;
    if (!plan.channels_last || rank == 0) return Device::empty(sizes, like.options().dtype(type));
    return Device::empty_strided(sizes, dense_strides<Int>(sizes, rank, true), like.options().dtype(type));
  }
  static Dense to_plan(const Tensor& tensor, const Plan& plan) {
    if (!tensor.defined()) return Dense::borrowed(tensor);
    return tensor.dim() == 2 ? Dense::owned(tensor.contiguous()) : to_dense(tensor, tensor.dim() - 2, plan.channels_last);
  }

  static Tensor pool(const Tensor& input, const Args& args) {
    const Plan p = forward_plan(input, args);
    Tensor output = empty(p, false, input.scalar_type(), input);
    if constexpr (Device::computes) {
      if (output.numel() == 0) return output;
      const typename Device::Guard guard(input);
      const Dense from = to_dense(input, args.rank, p.channels_last);
      Device::combined_pool(p.combined, from->const_data_ptr(), output.mutable_data_ptr(), nullptr, OffsetType::UInt8);
    }
    return output;
  }

  static std::tuple<Tensor, Tensor> pool_with_offsets(const Tensor& input, const Args& args, bool wide_offsets) {
    const Plan p = forward_plan(input, args);
    TORCH_CHECK(p.maxima > 0, "combined_pool_with_offsets: kinds must name a maximum among the parts");
    OffsetType type = OffsetType::Int32;
    if constexpr (Device::computes) {
      type = choose_offset_type(p.combined.window_elements(), wide_offsets);
    } else {
      int64_t most = 1;
      for (size_t n = 0; n < p.parts.size(); ++n) {
        if (!p.combined.parts[n].max) continue;
        const int64_t elements = with_windows(args, n, [&](const auto& windows) {
          return window_elements(windows, p.parts[n], p.combined.parts[n].axes, wide_offsets);
        });
        most = std::max(most, elements);
      }
      type = choose_offset_type(most, wide_offsets);
    }
    Tensor output = empty(p, false, input.scalar_type(), input);
    Tensor offsets = empty(p, true, scalar_type_of(type), input);
    if constexpr (Device::computes) {
      if (output.numel() == 0) return {output, offsets};
      const typename Device::Guard guard(input);
      const Dense from = to_dense(input, args.rank, p.channels_last);
      Device::combined_pool(p.combined, from->const_data_ptr(), output.mutable_data_ptr(), offsets.mutable_data_ptr(), type);
    }
    return {output, offsets};
  }

  // The offsets as the kernels take them, or nothing where no part is a maximum.
  static std::pair<Tensor, OffsetType> checked_offsets(const OpName& op, const std::optional<Tensor>& offsets, const Tensor& beside,
                                                       const Plan& plan) {
    TORCH_CHECK((plan.maxima > 0) == offsets.has_value(), op, ": offsets must be given where there is a maximum, and only there");
    if (!offsets.has_value()) return {Tensor(), OffsetType::UInt8};
    const std::optional<OffsetType> type = offset_type_of(offsets->scalar_type());
    TORCH_CHECK(type.has_value(), op, ": offsets must be of type uint8, uint16, int32 or int64, but got ", offsets->scalar_type());
    TORCH_CHECK(offsets->device() == beside.device(), op, ": offsets must be on ", beside.device(), ", but are on ", offsets->device());
    check_like(op, "offsets", *offsets, plan, true);
    if constexpr (Device::computes) check_memory(op, "offsets", *offsets);
    return {*offsets, *type};
  }

  static Tensor gather(const Tensor& input, const std::optional<Tensor>& offsets, const Args& args) {
    const Plan p = forward_plan(input, args);
    const auto [codes, type] = checked_offsets(name_of(args, "_gather"), offsets, input, p);
    Tensor output = empty(p, false, input.scalar_type(), input);
    if constexpr (Device::computes) {
      if (output.numel() == 0) return output;
      const typename Device::Guard guard(input);
      const Dense from = to_dense(input, args.rank, p.channels_last), at = to_plan(codes, p);
      Device::combined_pool_gather(p.combined, from->const_data_ptr(), at->defined() ? at->const_data_ptr() : nullptr, type,
                                   output.mutable_data_ptr());
    }
    return output;
  }

  static Tensor backward(const Tensor& grad_output, const std::optional<Tensor>& offsets, List<Int> input_size, const Args& args,
                         bool channels_last) {
    const Plan p = backward_plan(grad_output, input_size, args, channels_last);
    const auto [codes, type] = checked_offsets(name_of(args, "_backward"), offsets, grad_output, p);
    SizeVector<Int> sizes{p.parts[0].batch, p.parts[0].channels};
    sizes.append(input_size.begin(), input_size.end());
    Tensor grad_input = dense(sizes, p, grad_output.scalar_type(), grad_output);
    if constexpr (Device::computes) {
      if (grad_input.numel() == 0) return grad_input;
      const typename Device::Guard guard(grad_output);
      const Dense from = to_plan(grad_output, p), at = to_plan(codes, p);
      Device::combined_pool_backward(p.combined, from->const_data_ptr(), at->defined() ? at->const_data_ptr() : nullptr, type,
                                     grad_input.mutable_data_ptr());
    }
    return grad_input;
  }

  using Kinds = c10::ArrayRef<int64_t>;
  using Offsets = std::optional<Tensor>;
  static void implement(torch::Library& m) {
    m.impl("combined_pool", [](const Tensor& input, int64_t rank, int64_t form, Kinds kinds, List<Int> sizes, List<Int> stride,
                               List<Int> padding) { return pool(input, {rank, form, kinds, sizes, stride, padding}); });
    m.impl("combined_pool_with_offsets",
           [](const Tensor& input, int64_t rank, int64_t form, Kinds kinds, List<Int> sizes, List<Int> stride, List<Int> padding,
              bool wide_offsets) { return pool_with_offsets(input, {rank, form, kinds, sizes, stride, padding}, wide_offsets); });
    m.impl("combined_pool_gather",
           [](const Tensor& input, const Offsets& offsets, int64_t rank, int64_t form, Kinds kinds, List<Int> sizes, List<Int> stride,
              List<Int> padding) { return gather(input, offsets, {rank, form, kinds, sizes, stride, padding}); });
    m.impl("combined_pool_backward",
           [](const Tensor& grad_output, const Offsets& offsets, List<Int> input_size, int64_t rank, int64_t form, Kinds kinds,
              List<Int> sizes, List<Int> stride, List<Int> padding, bool channels_last) {
             return backward(grad_output, offsets, input_size, {rank, form, kinds, sizes, stride, padding}, channels_last);
           });
  }
};

}  // namespace torch_pooling::ops
