// Qualifiers. TP_HOST_DEVICE: functions of core/ are ordinary C++ for a host compiler and callable from kernels under nvcc.
// TP_WRAPS: integers that wrap around are meant here (all is compiled with -fwrapv) and nothing for UBSan to report.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#if defined(__CUDACC__)
#define TP_HOST_DEVICE __host__ __device__
#define TP_WRAPS
#else
#define TP_HOST_DEVICE
#define TP_WRAPS __attribute__((no_sanitize("signed-integer-overflow")))
#endif
