// From a problem to kernels: element types, slices that 32-bit indices can number, boxes, and the one place that launches.
// A tensor is cut along its batch (and, in channels-first, its channels) into slices of fewer than 2^30 elements; a single
// item above that takes the general kernels with 64-bit indices.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include "cuda/device.cuh"
#include "cuda/launch.h"
#include "cuda/tile.cuh"

namespace torch_pooling::cuda {

constexpr int64_t narrow_limit = int64_t{1} << 30;

template <class... Parameters, class... Arguments>
void launch(Context& context, void (*kernel)(Parameters...), int64_t threads, const Arguments&... arguments) {
  if (threads <= 0) return;
  const int64_t blocks = std::min<int64_t>((threads + block_threads - 1) / block_threads, INT32_MAX);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(block_threads);
  config.stream = context.stream;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  if (error == cudaSuccess) return;
  cudaGetLastError();  // it is reported here: whoever asks next must not find it again
  throw std::runtime_error(std::string("torch_pooling: CUDA: ") + cudaGetErrorString(error));
}

template <class T>
struct Tag {
  using type = T;
};
template <class Body>
void with_float(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::Float32: return body(Tag<float>{});
    case DType::Float64: return body(Tag<double>{});
    case DType::BFloat16: return body(Tag<BFloat16Bits>{});
    case DType::Float16: return body(Tag<HalfBits>{});
    default: throw std::logic_error("not a floating type");
  }
}
template <class Body>
void with_number(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::Int8: return body(Tag<int8_t>{});
    case DType::UInt8: return body(Tag<uint8_t>{});
    case DType::Int16: return body(Tag<int16_t>{});
    case DType::Int32: return body(Tag<int32_t>{});
    case DType::Int64: return body(Tag<int64_t>{});
    default: return with_float(dtype, body);
  }
}
inline int64_t offset_bytes(OffsetType type) {
  switch (type) {
    case OffsetType::UInt8: return 1;
    case OffsetType::UInt16: return 2;
    case OffsetType::Int32: return 4;
    case OffsetType::Int64: return 8;
  }
  throw std::logic_error("unknown offset type");
}

// A problem as [outer, axes, inner], one slice of it at a time.
struct Slice {
  const Problem* problem;
  int64_t outer, inner;
  bool inverse;  // results are inputs
  bool narrow;   // 32-bit indices hold everything

  const Axis& axis(int a) const { return problem->axes[a]; }
  int64_t sources(int a) const { return inverse ? axis(a).output : axis(a).input; }
  int64_t results(int a) const { return inverse ? axis(a).input : axis(a).output; }
  int64_t source_elements() const { return outer * sources(0) * sources(1) * sources(2) * inner; }
  int64_t result_elements() const { return outer * results(0) * results(1) * results(2) * inner; }
  template <class Int>
  Windows<Int> windows(int a) const {
    return Windows<Int>(axis(a), inverse, problem->count_padding);
  }
};

// body(slice, elements of the sources and of the results before it)
template <class Body>
void for_slices(const Problem& problem, bool inverse, const Body& body) {
  const bool first = problem.layout == Layout::ChannelsFirst;
  const int64_t outer = problem.batch * (first ? problem.channels : 1), inner = first ? 1 : problem.channels;
  Slice slice{&problem, 1, inner, inverse, problem.window_elements() < narrow_limit};
  int64_t largest = inner;  // of anything that lies between sources and results, too
  for (const Axis& axis : problem.axes) {
    slice.narrow &= Windows<int32_t>::hold(axis);
    largest *= std::max(axis.input, axis.output);
  }
  slice.narrow &= largest < narrow_limit;
  const int64_t most = slice.narrow ? std::max<int64_t>(1, (narrow_limit - 1) / std::max<int64_t>(1, largest)) : outer;
  const int64_t source = slice.source_elements(), result = slice.result_elements();
  for (int64_t begin = 0; begin < outer; begin += most) {
    slice.outer = std::min(most, outer - begin);
    body(slice, begin * source, begin * result);
  }
}

template <class Int>
Box<Int> make_box(const Slice& slice, int pack) {
  Box<Int> box;
  for (int a = 0; a < 3; ++a) {
    box.axis[a] = slice.windows<Int>(a);
    box.by_size[a] = Divider<Int>(static_cast<Int>(std::max<int64_t>(1, slice.results(a))));
  }
  box.outer = static_cast<Int>(slice.outer), box.inner = static_cast<Int>(slice.inner);
  box.by_packs = Divider<Int>(static_cast<Int>(slice.inner / pack));
  box.code_scale[1] = static_cast<Int>(slice.axis(2).max_taps());
  box.code_scale[0] = static_cast<Int>(slice.axis(1).max_taps()) * box.code_scale[1];
  box.threads = static_cast<Int>(slice.result_elements() / pack);
  return box;
}

inline Division division_of(const Problem& problem) {
  Division division;
  if (!problem.average) return division;
  division.kind = problem.uniform_divisor() ? Division::Kind::Uniform : Division::Kind::Counted;
  division.divisor = problem.divisor_override != 0 ? problem.divisor_override : problem.window_elements();
  return division;
}

inline Saved advance(const Saved& saved, int64_t elements) {
  return {saved.data == nullptr ? nullptr : static_cast<char*>(saved.data) + elements * offset_bytes(saved.type), saved.type};
}

// Whether packs of T along the inner extent can be read, written and numbered.
template <class T>
bool packs_fit(const Slice& slice, const void* source, const void* result, const Saved& saved) {
  constexpr int V = pack_bytes / static_cast<int>(sizeof(T));
  return slice.inner % V == 0 && is_aligned(source, pack_bytes) && is_aligned(result, pack_bytes)
         && (saved.data == nullptr || is_aligned(saved.data, std::min<int64_t>(pack_bytes, V * offset_bytes(saved.type))));
}

// --- small windows ---

inline TileProblem make_tiles(const Slice& slice, int width, int rows, int64_t source_bytes, int64_t result_bytes,
                              const void* source, const void* result, const Saved& saved, int64_t saved_pack, int64_t element) {
  TileProblem a;
  for (int axis = 0; axis < 3; ++axis) a.axis[axis] = slice.windows<int32_t>(axis);
  const auto strips = static_cast<int32_t>((slice.results(2) + width - 1) / width);
  const auto bands = static_cast<int32_t>((slice.results(1) + rows - 1) / rows);
  a.by_strips = Divider<int32_t>(strips), a.by_bands = Divider<int32_t>(bands);
  a.by_depth = Divider<int32_t>(static_cast<int32_t>(slice.results(0)));
  a.threads = static_cast<int32_t>(slice.outer * slice.results(0)) * bands * strips;
  const bool saved_fits = saved.data == nullptr || is_aligned(saved.data, saved_pack);
  a.aligned_source = slice.sources(2) * element % source_bytes == 0 && is_aligned(source, source_bytes) && saved_fits;
  a.aligned_result = slice.results(2) * element % result_bytes == 0 && is_aligned(result, result_bytes) && saved_fits;
  a.division = division_of(*slice.problem);
  return a;
}

// body(window) with the small window that this is, or false. `same`: height and width begin alike.
template <class Body>
bool with_small_window(const Slice& slice, bool same, const Body& body) {
  if (!slice.narrow || slice.inner != 1) return false;
  for (int a = 1; a < 3; ++a) {
    if (!slice.axis(a).has_comb() || slice.axis(a).comb().step != 1) return false;
  }
  const Comb h = slice.axis(1).comb(), w = slice.axis(2).comb();
  if (h.taps != w.taps || h.advance != w.advance || (same && h.first != w.first)) return false;
  const auto is = [&](int64_t taps, int64_t stride, int64_t left) {
    return w.taps == taps && w.advance == stride && w.first == -left;
  };
  if (is(2, 2, 0)) return body(Small<2, 2, 0>{}), true;
  if (is(3, 1, 1)) return body(Small<3, 1, 1>{}), true;
  if (is(3, 2, 0)) return body(Small<3, 2, 0>{}), true;
  if (is(3, 2, 1)) return body(Small<3, 2, 1>{}), true;
  return false;
}

}  // namespace torch_pooling::cuda
