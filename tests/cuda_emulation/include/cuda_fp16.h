// Empty: on the host, kernels convert 16-bit floats with core/half.h.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once
