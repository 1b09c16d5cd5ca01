// From arguments to sizes, with ALL argument checks, once for every device and for symbolic sizes (Meta). Every error names
// the operator, the argument, its value and its limit, and is raised before anything is allocated.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <c10/util/SmallVector.h>

#include <limits>
#include <optional>
#include <ostream>
#include <string>

#include "core/problem.h"
#include "ops/window_args.h"

namespace torch_pooling {
// Symbolic sizes divide with floor semantics and are checked non-negative where it matters.
template <>
inline c10::SymInt floor_div<c10::SymInt>(c10::SymInt a, c10::SymInt b) {
  const auto x = a.maybe_as_int(), y = b.maybe_as_int();
  if (x && y) return floor_div<int64_t>(*x, *y);
  return a / b;  // of symbols, floors; of numbers, it would not
}
template <>
inline c10::SymInt ceil_div<c10::SymInt>(c10::SymInt a, c10::SymInt b) {
  return floor_div<c10::SymInt>(a + b - 1, b);
}
template <>
inline c10::SymInt lesser<c10::SymInt>(const c10::SymInt& a, const c10::SymInt& b) {
  return a.min(b);
}
}  // namespace torch_pooling

namespace torch_pooling::ops {

constexpr int64_t any_rank = INT64_MIN;
// The name a user knows an operator by: avg_pool2d, avg_pool2d_backward; concat_pool, of any rank.
struct OpName {
  const char* stem;
  int64_t rank;
  const char* suffix = "";
};
inline std::ostream& operator<<(std::ostream& stream, const OpName& op) {
  stream << op.stem;
  if (op.rank != any_rank) stream << op.rank << "d";
  return stream << op.suffix;
}

template <class Int>
using SizeVector = c10::SmallVector<Int, 5>;

template <class Int>
struct Sizes {
  int64_t rank = 0;
  bool batched = true;
  Int batch{1}, channels{1};
  SizeVector<Int> input, output;  // [rank]
};

inline const c10::SymInt& size_of(const at::Tensor& tensor, int64_t d, const c10::SymInt*) {
  return tensor.sym_sizes()[static_cast<size_t>(d)];
}
inline int64_t size_of(const at::Tensor& tensor, int64_t d, const int64_t*) { return tensor.sizes()[static_cast<size_t>(d)]; }

template <class Int>
std::string shape_text(const at::Tensor& tensor) {
  return std::is_same_v<Int, int64_t> ? c10::str(tensor.sizes()) : c10::str(tensor.sym_sizes());
}

inline void check_rank(const OpName& op, int64_t rank) {
  TORCH_CHECK(rank >= 1 && rank <= 3, op, ": rank must be 1, 2 or 3 spatial axes, but got ", rank);
}

// A tensor keeps its sizes when its storage is taken away (resize_(0), which sharding does between uses) or was made too small.
inline void check_memory(const OpName& op, const char* name, const at::Tensor& tensor) {
  if (tensor.numel() == 0) return;
  const c10::IntArrayRef sizes = tensor.sizes(), strides = tensor.strides();
  int64_t last = tensor.storage_offset();
  for (size_t d = 0; d < sizes.size(); ++d) last += (sizes[d] - 1) * strides[d];
  const auto needed = static_cast<size_t>(last + 1) * tensor.itemsize(), held = tensor.storage().nbytes();
  TORCH_CHECK(needed <= held, op, ": ", name, " of sizes ", sizes, " needs a storage of ", needed, " bytes, but has one of ", held);
}

inline std::optional<int64_t> concrete(int64_t size) { return size; }
inline std::optional<int64_t> concrete(const c10::SymInt& size) { return size.maybe_as_int(); }

// Whether a size is at least that. One that depends on data is taken to be: only the run can tell.
inline bool at_least(int64_t size, int64_t least) { return size >= least; }
inline bool at_least(const c10::SymInt& size, const c10::SymInt& least) { return TORCH_GUARD_OR_TRUE(size.sym_ge(least)); }

// Which empty channels torch accepts: none, those of an unbatched input, or all.
enum class NoChannels { Refused, Unbatched, Accepted };

// Reads batch and channels off a tensor [N, C, *spatial] or [C, *spatial]. Spatial axes must not be empty.
template <class Int>
Sizes<Int> leading_sizes(const OpName& op, const char* name, const at::Tensor& tensor, int64_t rank, NoChannels no_channels,
                         bool spatial_may_be_empty = false) {
  check_rank(op, rank);
  if constexpr (std::is_same_v<Int, int64_t>) check_memory(op, name, tensor);
  const int64_t dim = tensor.dim();
  TORCH_CHECK(dim == rank + 1 || dim == rank + 2, op, ": expected ", name, " to be ", rank + 1, "-D (unbatched) or ", rank + 2,
              "-D (batched), but got ", dim, "-D with sizes ", shape_text<Int>(tensor));
  Sizes<Int> sizes;
  sizes.rank = rank;
  sizes.batched = dim == rank + 2;
  const int64_t first = sizes.batched ? 1 : 0;
  if (sizes.batched) sizes.batch = size_of(tensor, 0, static_cast<const Int*>(nullptr));
  sizes.channels = size_of(tensor, first, static_cast<const Int*>(nullptr));
  const bool skip = no_channels == NoChannels::Accepted || (no_channels == NoChannels::Unbatched && !sizes.batched);
  for (int64_t d = skip ? first + 1 : first; d < (spatial_may_be_empty ? first + 1 : dim); ++d) {
    TORCH_CHECK(at_least(size_of(tensor, d, static_cast<const Int*>(nullptr)), 1), op, ": expected ", name,
                " to have non-zero size for non-batch dimensions, but it has sizes ", shape_text<Int>(tensor), " with dimension ",
                d, " being empty");
  }
  return sizes;
}

template <class Int>
const Int& entry(List<Int> list, int64_t axis) {
  return list[list.size() == 1 ? 0 : static_cast<size_t>(axis)];
}

template <class Int>
void check_list(const OpName& op, const char* name, List<Int> list, int64_t rank, bool may_be_empty) {
  const auto length = static_cast<int64_t>(list.size());
  TORCH_CHECK(length == 1 || length == rank || (may_be_empty && length == 0), op, ": ", name,
              " must be a single int or a tuple of ", rank, " ints, but got ", length, " values");
}

template <class Int>
void check_range(const OpName& op, const char* name, const Int& value, int64_t least, int64_t most) {
  TORCH_CHECK(at_least(value, least), op, ": ", name, " must be ", least == 0 ? "non-negative" : "greater than zero", ", but got ", value);
  TORCH_CHECK(concrete(value).value_or(least) <= most, op, ": ", name, " must be at most ", most, ", but got ", value);
}

// Whether first times all sizes, none of them negative, is at most `most`: what is multiplied before torch looks at a tensor's sizes may not
// wrap around. Sizes that are no numbers yet count as 1.
template <class Int>
bool product_fits(const Int& first, List<Int> sizes, int64_t most) {
  int64_t product = concrete(first).value_or(1);
  for (const Int& size : sizes) {
    if (__builtin_mul_overflow(product, concrete(size).value_or(1), &product) || product > most) return false;
  }
  return true;
}

// More of them would be more bytes than 63 bits count, whatever their type.
constexpr int64_t most_elements = (int64_t{1} << 60) - 1;
// Whether a tensor of these sizes can be: torch, which refuses it otherwise, names no argument. Sizes of 0 count as 1 in strides. Sizes that
// are no numbers yet do so, too.
template <class Int>
bool tensor_fits(const Sizes<Int>& sizes, List<Int> spatial) {
  int64_t product = 1;
  bool empty = false;
  const auto fits = [&](const Int& size) {
    const int64_t number = concrete(size).value_or(1);
    empty = empty || number == 0;
    return !__builtin_mul_overflow(product, number == 0 ? 1 : number, &product);
  };
  bool all = fits(sizes.batch) && fits(sizes.channels);
  for (const Int& size : spatial) all = all && fits(size);
  return all && (empty || product <= most_elements);
}

// Sliding windows: output sizes, and the checks of every argument. Fills sizes.output; axes where sizes are plain.
template <class Int>
void place_windows(const OpName& op, const SlidingArgs<Int>& args, Sizes<Int>& sizes, Axis* axes) {
  check_list<Int>(op, "kernel_size", args.kernel_size, sizes.rank, false);
  check_list<Int>(op, "stride", args.stride, sizes.rank, true);
  const bool paired = static_cast<int64_t>(args.padding.size()) == 2 * sizes.rank;
  if (!paired) check_list<Int>(op, "padding", args.padding, sizes.rank, false);
  check_list<Int>(op, "dilation", args.dilation, sizes.rank, false);
  TORCH_CHECK(args.sizing >= 0 && args.sizing < sizing_count, op, ": sizing must be 0 (floor), 1 (ceil), 2 (same) or 3 (same_lower), ",
              "but got ", args.sizing);
  const auto sizing = static_cast<Sizing>(args.sizing);
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  sizes.output.clear();
  Int elements(1);
  for (int64_t axis = 0; axis < sizes.rank; ++axis) {
    const Int& kernel = entry<Int>(args.kernel_size, axis);
    const Int& stride = args.stride.empty() ? kernel : entry<Int>(args.stride, axis);
    const Int& padding = paired ? args.padding[static_cast<size_t>(axis)] : entry<Int>(args.padding, axis);
    const Int& padding_end = paired ? args.padding[static_cast<size_t>(sizes.rank + axis)] : padding;
    const Int& dilation = entry<Int>(args.dilation, axis);
    check_range<Int>(op, "kernel_size", kernel, 1, most);
    check_range<Int>(op, "stride", stride, 1, sizes.rank == 1 ? int64_t{1} << 40 : most);
    check_range<Int>(op, "padding", padding, 0, most);
    check_range<Int>(op, "padding", padding_end, 0, most);
    check_range<Int>(op, "dilation", dilation, 1, most);
    const Int effective = dilation * (kernel - 1) + 1;  // below 2^62
    const Int& input = sizes.input[static_cast<size_t>(axis)];
    if (pads_itself(sizing)) {
      TORCH_CHECK(padding == 0 && padding_end == 0, op, ": padding must be 0 where sizing is same, but got ", args.padding);
      if constexpr (std::is_same_v<Int, int64_t>) {
        axes[3 - sizes.rank + axis] = Axis::same(input, kernel, stride, dilation, sizing == Sizing::SameLower);
      }
      sizes.output.push_back(ceil_div<Int>(input, stride));
    } else {
      if (paired) {
        TORCH_CHECK(padding < effective && padding_end < effective, op, ": (begin, end) padding must be smaller than the effective ",
                    "kernel size, but got (", padding, ", ", padding_end, ") for kernel_size ", kernel, " with dilation ", dilation,
                    " (at most ", effective - 1, ")");
      } else {
        TORCH_CHECK(padding * 2 <= effective, op, ": padding must be at most half of the effective kernel size, but got padding ",
                    padding, " for kernel_size ", kernel, " with dilation ", dilation, " (at most ", effective / 2, ")");
      }
      const bool ceil_mode = sizing == Sizing::Ceil;
      const Int output = sliding_output_size<Int>(input, kernel, stride, padding, padding_end, dilation, ceil_mode);
      TORCH_CHECK(at_least(output, 1), op, ": the window is too large: spatial axis ", axis, " of size ", input, " with kernel_size ",
                  kernel, ", stride ", stride, ", padding ", padding, " and dilation ", dilation, " would give output size ", output);
      if constexpr (std::is_same_v<Int, int64_t>) {
        axes[3 - sizes.rank + axis] = Axis::sliding(input, kernel, stride, padding, padding_end, dilation, ceil_mode);
      }
      sizes.output.push_back(output);
    }
    const Int limit = (int64_t{1} << 62) / kernel;
    TORCH_CHECK(elements <= limit, op, ": kernel_size must have a product of at most 2^62, but got ", args.kernel_size);
    elements = elements * kernel;
  }
}

template <class Int>
void place_windows(const OpName& op, const AdaptiveArgs<Int>& args, Sizes<Int>& sizes, Axis* axes) {
  TORCH_CHECK(static_cast<int64_t>(args.output_size.size()) == sizes.rank, op, ": output_size must have ", sizes.rank,
              " elements, but got ", args.output_size.size());
  sizes.output.clear();
  for (int64_t axis = 0; axis < sizes.rank; ++axis) {
    const Int& output = args.output_size[static_cast<size_t>(axis)];
    const Int& input = sizes.input[static_cast<size_t>(axis)];
    TORCH_CHECK(at_least(output, 0), op, ": elements of output_size must be greater than or equal to 0, but got ", output);
    if constexpr (std::is_same_v<Int, int64_t>) {
      TORCH_CHECK(input <= std::numeric_limits<int64_t>::max() / std::max<int64_t>(1, output) - 1, op,
                  ": output_size ", output, " is too large for an input of size ", input);
      axes[3 - sizes.rank + axis] = Axis::adaptive_to(input, output);
    }
    sizes.output.push_back(output);
  }
}

inline int64_t rank_of(const SlidingArgs<int64_t>& args) { return args.rank; }
inline int64_t rank_of(const SlidingArgs<c10::SymInt>& args) { return args.rank; }
template <class Int>
int64_t rank_of(const AdaptiveArgs<Int>& args) {
  return static_cast<int64_t>(args.output_size.size());
}

inline void check_list_rank(const OpName&, const SlidingArgs<int64_t>&) {}
inline void check_list_rank(const OpName&, const SlidingArgs<c10::SymInt>&) {}
template <class Int>
void check_list_rank(const OpName& op, const AdaptiveArgs<Int>& args) {  // users give no rank
  const auto rank = rank_of(args);
  TORCH_CHECK(rank >= 1 && rank <= 3, op, ": output_size must have 1, 2 or 3 elements, but got ", rank);
}

template <class Int>
void check_output_fits(const OpName& op, const at::Tensor& input, const SlidingArgs<Int>& args, const Sizes<Int>& sizes) {
  TORCH_CHECK(tensor_fits<Int>(sizes, List<Int>(sizes.output)), op, ": input of sizes ", shape_text<Int>(input), " with padding ",
              args.padding, " is too large: an output of spatial sizes ", List<Int>(sizes.output), " would have more than 2^60 - 1 elements");
}
template <class Int>
void check_output_fits(const OpName& op, const at::Tensor& input, const AdaptiveArgs<Int>& args, const Sizes<Int>& sizes) {
  TORCH_CHECK(tensor_fits<Int>(sizes, List<Int>(sizes.output)), op, ": output_size ", args.output_size, " is too large: an output for input ",
              "of sizes ", shape_text<Int>(input), " would have more than 2^60 - 1 elements");
}

// Sizes of a forward call, from its input.
template <class Int, class Args>
Sizes<Int> forward_sizes(const OpName& op, const at::Tensor& input, const Args& args, NoChannels no_channels, Axis* axes) {
  check_list_rank(op, args);
  Sizes<Int> sizes = leading_sizes<Int>(op, "input", input, rank_of(args), no_channels);
  for (int64_t d = input.dim() - sizes.rank; d < input.dim(); ++d) {
    sizes.input.push_back(size_of(input, d, static_cast<const Int*>(nullptr)));
  }
  place_windows(op, args, sizes, axes);
  check_output_fits(op, input, args, sizes);
  return sizes;
}

// Sizes of a backward call: batch and channels from a tensor in the shape of the output, spatial sizes from input_size. As in
// torch, the gradient of an empty output is an error; its indices are not.
template <class Int, class Args>
Sizes<Int> backward_sizes(const OpName& op, const char* name, const at::Tensor& like_output, List<Int> input_size, const Args& args,
                          bool may_be_empty, Axis* axes) {
  Sizes<Int> sizes = leading_sizes<Int>(op, name, like_output, rank_of(args), NoChannels::Accepted, may_be_empty);
  TORCH_CHECK(static_cast<int64_t>(input_size.size()) == sizes.rank, op, ": input_size must have ", sizes.rank,
              " elements (spatial sizes only), but got ", input_size.size());
  constexpr int64_t most = int64_t{1} << 60;
  for (const Int& size : input_size) check_range<Int>(op, "input_size", size, 1, most);
  TORCH_CHECK(product_fits(Int(1), input_size, int64_t{1} << 62), op, ": input_size must have a product of at most 2^62, but got ",
              input_size);  // no tensor vouches for the plane
  TORCH_CHECK(tensor_fits<Int>(sizes, input_size), op, ": input_size ", input_size, " is too large: a gradient for ", name, " of sizes ",
              shape_text<Int>(like_output), " would have more than 2^60 - 1 elements");
  sizes.input.assign(input_size.begin(), input_size.end());
  place_windows(op, args, sizes, axes);
  for (int64_t axis = 0; axis < sizes.rank; ++axis) {
    const Int& given = size_of(like_output, like_output.dim() - sizes.rank + axis, static_cast<const Int*>(nullptr));
    const Int& expected = sizes.output[static_cast<size_t>(axis)];
    TORCH_CHECK(given == expected, op, ": ", name, " has sizes ", shape_text<Int>(like_output), ", but its spatial axis ", axis,
                " must have size ", expected, " for input_size ", input_size);
  }
  return sizes;
}

template <class Int>
SizeVector<Int> tensor_sizes(const Sizes<Int>& sizes, const SizeVector<Int>& spatial) {
  SizeVector<Int> all;
  if (sizes.batched) all.push_back(sizes.batch);
  all.push_back(sizes.channels);
  all.append(spatial.begin(), spatial.end());
  return all;
}

}  // namespace torch_pooling::ops
