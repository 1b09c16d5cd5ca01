// The one qualifier macro: functions of core/ are ordinary C++ for a host compiler and callable from kernels under nvcc.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#if defined(__CUDACC__)
#define TP_HOST_DEVICE __host__ __device__
#else
#define TP_HOST_DEVICE
#endif
