// Memory layout of tensors [N, C, *spatial] and [C, *spatial]: which one a tensor has, and making tensors dense in it.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/util/MaybeOwned.h>

#include <algorithm>

#include "ops/sizes.h"

namespace torch_pooling::ops {

inline c10::IntArrayRef strides_of(const at::Tensor& tensor, const int64_t*) { return tensor.strides(); }
inline c10::SymIntArrayRef strides_of(const at::Tensor& tensor, const c10::SymInt*) { return tensor.sym_strides(); }
inline c10::IntArrayRef sizes_of(const at::Tensor& tensor, const int64_t*) { return tensor.sizes(); }
inline c10::SymIntArrayRef sizes_of(const at::Tensor& tensor, const c10::SymInt*) { return tensor.sym_sizes(); }

// Strides of a dense tensor of these sizes.
template <class Int>
SizeVector<Int> dense_strides(List<Int> sizes, int64_t rank, bool channels_last) {
  const auto dim = static_cast<int64_t>(sizes.size());
  SizeVector<Int> strides(static_cast<size_t>(dim), Int(1));
  const int64_t channel = dim - rank - 1;
  Int step(1);
  auto place = [&](int64_t d) {
    strides[static_cast<size_t>(d)] = step;
    step = step * sizes[static_cast<size_t>(d)];
  };
  if (channels_last) place(channel);
  for (int64_t d = dim - 1; d > channel; --d) place(d);
  if (!channels_last) place(channel);
  if (channel > 0) place(0);
  return strides;
}

template <class Int>
bool is_dense(const at::Tensor& tensor, int64_t rank, bool channels_last) {
  constexpr const Int* kind = nullptr;
  const auto sizes = sizes_of(tensor, kind);
  const auto strides = strides_of(tensor, kind);
  const SizeVector<Int> expected = dense_strides<Int>(sizes, rank, channels_last);
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] != 1 && strides[d] != expected[d]) return false;
  }
  return true;
}

inline bool has_unknown_size(const at::Tensor& tensor) {
  const auto sizes = tensor.sym_sizes();
  return std::any_of(sizes.begin(), sizes.end(), [](const c10::SymInt& size) { return !size.has_hint(); });
}
// is_channels_last where sizes depend on data, by what the strides' expressions say: kernels will see the real ones.
inline bool is_channels_last_for_all_sizes(const at::Tensor& tensor, int64_t rank) {
  const auto sizes = tensor.sym_sizes(), strides = tensor.sym_strides();
  const auto equal = [](const c10::SymInt& a, const c10::SymInt& b) { return TORCH_GUARD_OR_FALSE(a.sym_eq(b)); };
  SizeVector<c10::SymInt> filled;  // torch writes strides of sizes that may be 0 as if those were 1
  for (const c10::SymInt& size : sizes) filled.push_back(size.max(1));
  const auto matches = [&](bool channels_last, bool strictly) {  // or but for axes of size 1
    const SizeVector<c10::SymInt> expected = dense_strides<c10::SymInt>(sizes, rank, channels_last);
    const SizeVector<c10::SymInt> written = dense_strides<c10::SymInt>(filled, rank, channels_last);
    for (size_t d = 0; d < sizes.size(); ++d) {
      if (!equal(strides[d], expected[d]) && !equal(strides[d], written[d]) && (strictly || !equal(sizes[d], 1))) return false;
    }
    return true;
  };
  const bool has_format = rank >= 2 && tensor.dim() == rank + 2;  // which says how to read an axis of size 1
  if (has_format && (matches(false, true) || matches(true, true))) return !matches(false, true);
  return !matches(false, false) && matches(true, false);
}

// torch's own rule where it has a memory format (4-D and 5-D); for 1-D and unbatched tensors, dense strides with the
// channels innermost that are not also contiguous.
template <class Int>
bool is_channels_last(const at::Tensor& tensor, int64_t rank) {
  if constexpr (std::is_same_v<Int, c10::SymInt>) {
    if (has_unknown_size(tensor)) return is_channels_last_for_all_sizes(tensor, rank);
  }
  if (rank >= 2 && tensor.dim() == rank + 2) {
    const auto format = tensor.suggest_memory_format();
    return format == at::MemoryFormat::ChannelsLast || format == at::MemoryFormat::ChannelsLast3d;
  }
  return !tensor.is_contiguous() && is_dense<Int>(tensor, rank, true);
}

// The tensor itself, borrowed, where it is dense. Another handle of it would cost what a small pool does: torch counts the first one
// beside Python's in Python, too, for which it takes the interpreter's lock.
using Dense = c10::MaybeOwned<at::Tensor>;
inline Dense to_dense(const at::Tensor& tensor, int64_t rank, bool channels_last) {
  if (channels_last ? is_dense<int64_t>(tensor, rank, true) : tensor.is_contiguous()) return Dense::borrowed(tensor);
  if (!channels_last) return Dense::owned(tensor.contiguous());
  const int64_t channel = tensor.dim() - rank - 1;
  return Dense::owned(tensor.movedim(channel, -1).contiguous().movedim(-1, channel));
}

}  // namespace torch_pooling::ops
