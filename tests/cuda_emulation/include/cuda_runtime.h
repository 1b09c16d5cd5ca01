// What the kernels and launchers of csrc/cuda use of CUDA, for an ordinary C++ compiler: this folder stands before any other on
// the include path, so that the same sources compile unchanged. A launch runs the blocks one after the other; the threads of
// a block are fibers, see emulation.cpp. Shared memory is static: one block runs at a time.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  explicit dim3(unsigned x, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorLaunchFailure = 719 };

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

namespace cuda_emulation {

// Of the barrier that the thread in hand waits at: what it offers its warp, whose offer it wants, and what it got.
struct Exchange {
  uint64_t offered = 0, received = 0;
  int partner = 0;
};
Exchange& exchange();

// Runs body once for every thread of the grid.
cudaError_t run(const dim3& grid, const dim3& block, const std::function<void()>& body);
void wait_for_block();
void wait_for_warp();
const char* last_error();

}  // namespace cuda_emulation

extern uint3 threadIdx, blockIdx;  // of the thread in hand
extern dim3 blockDim, gridDim;

inline void __syncthreads() { cuda_emulation::wait_for_block(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int lane_mask) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  cuda_emulation::Exchange& exchange = cuda_emulation::exchange();
  std::memcpy(&exchange.offered, &value, sizeof(T));
  exchange.partner = static_cast<int>(threadIdx.x % 32) ^ lane_mask;
  cuda_emulation::wait_for_warp();
  std::memcpy(&value, &exchange.received, sizeof(T));
  return value;
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  return cuda_emulation::run(config->gridDim, config->blockDim, [&] { kernel(arguments...); });
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return cuda_emulation::last_error(); }
