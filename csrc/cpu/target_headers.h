// Everything a target file includes before it opens its region: standard headers and this project's plain ones must be
// compiled for the baseline, never for one instruction set.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/half.h"
#include "core/host_device.h"
#include "cpu/block.h"
#include "cpu/isa.h"

// Force-inlined helpers take the instruction set of the kernel they are inlined into.
#define TP_INLINE inline __attribute__((always_inline))
