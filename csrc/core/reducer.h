// The reducers of core/reducer.inl for code outside any target region.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/host_device.h"

namespace torch_pooling {
#include "core/reducer.inl"
}  // namespace torch_pooling
