// Kernels with one planted error each, to see that the emulation and the sanitizers notice. The argument names the error.
// SPDX-License-Identifier: BSD-3-Clause
#include <cstdio>
#include <memory>
#include <string>

#include "cuda/device.cuh"

namespace {

using torch_pooling::cuda::load_pack;
using torch_pooling::cuda::store_pack;
constexpr int threads = 64;

// Sums of neighbours in a block, by halves. Each error is a flag, so that the right kernel is the same code.
template <bool barriers, bool too_far, bool early_exit>
__global__ void sums(const float* source, float* result) {
  __shared__ float values[threads];
  const int thread = static_cast<int>(threadIdx.x), at = static_cast<int>(blockIdx.x) * threads + thread;
  values[thread] = source[at + (too_far ? 1 : 0)];
  if (early_exit && thread == 7) return;
  for (int half = threads / 2; half > 0; half /= 2) {
    if (barriers) __syncthreads();
    if (thread < half) values[thread] += values[thread + half];
  }
  if (barriers) __syncthreads();
  result[at] = values[thread] + values[0];
}

__global__ void copy_packs(const float* source, float* result) {
  const auto at = static_cast<int>(threadIdx.x) * 4;
  store_pack<4>(result + at, load_pack<4>(source + at));
}

__global__ void shared_overrun(const float* source, float* result) {
  __shared__ float values[threads];
  const int thread = static_cast<int>(threadIdx.x);
  values[thread + (source[thread] >= 0 ? 1 : 0)] = 1;
  __syncthreads();
  result[thread] = values[thread];
}

template <class... P, class... A>
int run(void (*kernel)(P...), unsigned blocks, unsigned block, A... arguments) {
  cudaLaunchConfig_t config;
  config.gridDim = dim3(blocks), config.blockDim = dim3(block);
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
  if (error != cudaSuccess) std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
  return error;
}

}  // namespace

int main(int, char** arguments) {
  const std::string wanted = arguments[1];
  constexpr int blocks = 3, count = blocks * threads;
  const std::unique_ptr<float[]> source(new float[count]), result(new float[count + 4]);
  for (int i = 0; i < count; ++i) source[i] = static_cast<float>(i % 37) / 8;
  for (int i = 0; i < count + 4; ++i) result[i] = 0;
  int status = 2;
  if (wanted == "none") status = run(sums<true, false, false>, blocks, threads, source.get(), result.get());
  if (wanted == "missing-barrier") status = run(sums<false, false, false>, blocks, threads, source.get(), result.get());
  if (wanted == "out-of-bounds") status = run(sums<true, true, false>, blocks, threads, source.get(), result.get());
  if (wanted == "unreached-barrier") status = run(sums<true, false, true>, blocks, threads, source.get(), result.get());
  if (wanted == "aligned") status = run(copy_packs, 1, 16, source.get(), result.get());
  if (wanted == "misaligned") status = run(copy_packs, 1, 16, source.get() + 1, result.get());
  if (wanted == "shared-memory") status = run(shared_overrun, 1, threads, source.get(), result.get());
  for (int i = 0; i < count; ++i) std::printf("%g ", static_cast<double>(result[i]));
  return status == 0 ? 0 : 1;
}
