// aten's pooling operators have a second kernel, at a dispatch key that no tensor carries and that a thread includes while it is
// inside override(). The dispatcher's key sets are thread-local, so other threads never come here; an operator without a kernel at
// this key falls through it, which is a bit in a mask and costs nothing. What is not ours to compute goes on to torch's kernel with the
// key excluded, so that nothing torch calls in turn comes back. The key stands above autograd, autocast and torch.func: a
// rerouted call is from there on an ordinary call of our operators. Registered when the first thread enters.
// SPDX-License-Identifier: BSD-3-Clause
#include "ops/override.h"

#include <ATen/ops/_adaptive_avg_pool2d_ops.h>
#include <ATen/ops/_adaptive_avg_pool3d_ops.h>
#include <ATen/ops/adaptive_avg_pool1d_ops.h>
#include <ATen/ops/adaptive_avg_pool2d_ops.h>
#include <ATen/ops/adaptive_avg_pool3d_ops.h>
#include <ATen/ops/adaptive_max_pool1d_ops.h>
#include <ATen/ops/adaptive_max_pool2d_ops.h>
#include <ATen/ops/adaptive_max_pool3d_ops.h>
#include <ATen/ops/avg_pool1d_ops.h>
#include <ATen/ops/avg_pool2d_ops.h>
#include <ATen/ops/avg_pool3d_ops.h>
#include <ATen/ops/max_pool1d_ops.h>
#include <ATen/ops/max_pool1d_with_indices_ops.h>
#include <ATen/ops/max_pool2d_ops.h>
#include <ATen/ops/max_pool2d_with_indices_ops.h>
#include <ATen/ops/max_pool3d_ops.h>
#include <ATen/ops/max_pool3d_with_indices_ops.h>
#include <torch/library.h>

#include "ops/calls.h"
#include "ops/pool.h"

namespace torch_pooling::ops {
namespace {

// torch has no key for modes of other libraries. This one it keeps for tests of the very mechanism used here, and nothing in it
// nor in any library that we know of registers anything there; if one does, entering says so.
constexpr auto mode = c10::DispatchKey::TESTING_ONLY_GenericMode;

bool (*exports)() = nullptr;

template <class List>
SymSizes sizes(const List& list) {  // operators take int[] or SymInt[], and that changes between versions of torch
  return SymSizes(list.begin(), list.end());
}
int64_t as_sizing(bool ceil_mode) { return static_cast<int64_t>(ceil_mode ? Sizing::Ceil : Sizing::Floor); }

// Each kind of operator: the types it takes here, whether its lists have the lengths that torch asks for, and the call. An operator's
// arguments come as torch's schema has them.
template <int64_t rank>
struct Max {
  static constexpr Types types = Types::Numbers;
  template <class... Args>
  static bool fits(const Args&...) {
    return true;
  }
  template <class List>
  static Sliding window(const List& kernel_size, const List& stride, const List& padding, const List& dilation, bool ceil_mode) {
    return {rank, sizes(kernel_size), sizes(stride.empty() ? kernel_size : stride), sizes(padding), sizes(dilation), as_sizing(ceil_mode)};
  }
  template <class... Args>
  static Tensor run(const Tensor& input, const Args&... args) {
    return max_pool(input, window(args...));
  }
};
template <int64_t rank>
struct MaxWithIndices : Max<rank> {
  template <class... Args>
  static std::tuple<Tensor, Tensor> run(const Tensor& input, const Args&... args) {
    return max_pool_with_indices(input, Max<rank>::window(args...));
  }
};
template <int64_t rank>
struct Average {
  static constexpr Types types = Types::FloatingAndInt64;
  template <class... Args>
  static bool fits(const Args&...) {
    return true;
  }
  template <class List>
  static Tensor run(const Tensor& input, const List& kernel_size, const List& stride, const List& padding, bool ceil_mode,
                    bool count_include_pad, std::optional<int64_t> divisor_override = std::nullopt) {
    const SymSizes steps = sizes(stride.empty() ? kernel_size : stride);
    return avg_pool(input, SlidingAverage{{rank, sizes(kernel_size), steps, sizes(padding), SymSizes(1, 1), as_sizing(ceil_mode)},
                                          {count_include_pad, divisor_override, false}});
  }
};
template <int64_t rank>
struct AdaptiveAverage {
  static constexpr Types types = Types::Floating;
  template <class List>
  static bool fits(const List& output_size) {
    return output_size.size() == rank;
  }
  template <class List>
  static Tensor run(const Tensor& input, const List& output_size) {
    return avg_pool(input, Adaptive{sizes(output_size)});
  }
};
template <int64_t rank>
struct AdaptiveMax {
  static constexpr Types types = Types::Numbers;
  template <class List>
  static bool fits(const List& output_size) {
    return output_size.size() == rank;
  }
  template <class List>
  static std::tuple<Tensor, Tensor> run(const Tensor& input, const List& output_size) {
    return max_pool_with_indices(input, Adaptive{sizes(output_size)});
  }
};

bool takes(Types types, at::ScalarType type) {
  if (at::isFloatingType(type)) return dtype_of(type).has_value();
  return types == Types::Numbers ? dtype_of(type).has_value() : types == Types::FloatingAndInt64 && type == at::kLong;
}

// Where this build has kernels. Everything else, meta tensors included, is torch's, and so are the errors of what nobody supports.
bool runs_here(const Tensor& input, Types types) {
  constexpr bool has_cuda = sizeof(TORCH_POOLING_CUDA_VERSION) > 1;  // an empty string in a build for the CPU
  const c10::DispatchKeySet keys = input.key_set();
  return (keys.has(c10::DispatchKey::CPU) || (has_cuda && keys.has(c10::DispatchKey::CUDA))) && takes(types, input.scalar_type());
}

// Whether what is recorded now must be torch's: for ONNX, which knows none of our operators; and indices in torch.jit.trace, since ours
// follow from sizes, which would be those of the example for ever.
bool is_written_down(const Tensor& input, bool with_indices) {
  const bool traced = c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::Tracer);
  if (traced && with_indices) return true;
  return (traced || input.key_set().has(c10::DispatchKey::Python)) && exports != nullptr && exports();
}

template <class Result>
constexpr bool is_pair = !std::is_same_v<Result, Tensor>;

template <class Op, class Ours, class Schema = typename Op::schema>
struct Rerouted;
template <class Op, class Ours, class Result, class... Args>
struct Rerouted<Op, Ours, Result(const Tensor&, Args...)> {
  static Result call(const Tensor& input, Args... args) {
    if (runs_here(input, Ours::types) && Ours::fits(args...) && !is_written_down(input, is_pair<Result>)) return Ours::run(input, args...);
    const c10::impl::ExcludeDispatchKeyGuard excluded(mode);
    return Op::call(input, args...);
  }
};

template <class Op, class Ours>
void reroute(torch::Library& aten) {
  aten.impl(Op::name, &Rerouted<Op, Ours>::call);
}

// Both halves live until the process ends. What throws here throws again at the next try.
void register_once() {
  using namespace at::_ops;
  static torch::Library everything = [] {
    torch::Library library(torch::Library::IMPL, "_", mode, __FILE__, __LINE__);
    library.fallback(torch::CppFunction::makeFallthrough());
    return library;
  }();
  static torch::Library aten = [] {
    torch::Library library(torch::Library::IMPL, "aten", mode, __FILE__, __LINE__);
    reroute<max_pool1d, Max<1>>(library);
    reroute<max_pool2d, Max<2>>(library);
    reroute<max_pool3d, Max<3>>(library);
    reroute<max_pool1d_with_indices, MaxWithIndices<1>>(library);
    reroute<max_pool2d_with_indices, MaxWithIndices<2>>(library);
    reroute<max_pool3d_with_indices, MaxWithIndices<3>>(library);
    reroute<avg_pool1d, Average<1>>(library);
    reroute<avg_pool2d, Average<2>>(library);
    reroute<avg_pool3d, Average<3>>(library);
    reroute<adaptive_avg_pool1d, AdaptiveAverage<1>>(library);
    reroute<adaptive_avg_pool2d, AdaptiveAverage<2>>(library);
    reroute<adaptive_avg_pool3d, AdaptiveAverage<3>>(library);
    reroute<_adaptive_avg_pool2d, AdaptiveAverage<2>>(library);
    reroute<_adaptive_avg_pool3d, AdaptiveAverage<3>>(library);
    reroute<adaptive_max_pool1d, AdaptiveMax<1>>(library);
    reroute<adaptive_max_pool2d, AdaptiveMax<2>>(library);
    reroute<adaptive_max_pool3d, AdaptiveMax<3>>(library);
    return library;
  }();
}

thread_local int64_t depth = 0;
thread_local bool found = false;  // the key, by the first to enter: autograd's threads start with the keys of their caller

}  // namespace

int64_t enter_override() {
  register_once();
  if (depth == 0) found = c10::impl::tls_is_dispatch_key_included(mode);
  c10::impl::tls_set_dispatch_key_included(mode, true);
  return ++depth;
}

void set_exports(bool (*function)()) { exports = function; }

int64_t leave_override() {
  TORCH_CHECK(depth > 0, "override() must be left by the thread that entered it");
  if (--depth == 0) c10::impl::tls_set_dispatch_key_included(mode, found);
  return depth;
}

}  // namespace torch_pooling::ops
