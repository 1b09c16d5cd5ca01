// Rerouting of torch's own pooling operators to ours, for the calling thread. See override.cpp.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace torch_pooling::ops {

// Contexts that this thread is inside of, after the call. The last one out leaves the thread as the first one found it.
int64_t enter_override();
int64_t leave_override();
// What tells whether an ONNX exporter is at work; asked only of tensors that somebody looks at in Python.
void set_exports(bool (*function)());

// Kernels of ours run on dense tensors of the CPU and of CUDA, and sizes are worked out on meta; quantised, sparse and oneDNN
// tensors have other keys, and so do other devices.
inline bool is_ours(const at::Tensor& input) {
  const c10::DispatchKeySet keys = input.key_set();
  return keys.has(c10::DispatchKey::CPU) || keys.has(c10::DispatchKey::CUDA) || keys.has(c10::DispatchKey::Meta);
}

}  // namespace torch_pooling::ops
