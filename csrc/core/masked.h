// Pooling of whole planes where a mask says, for each sample, which positions count, as plain data.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "core/problem.h"

namespace torch_pooling {

struct Masked {
  DType dtype = DType::Float32;
  Layout layout = Layout::ChannelsFirst;
  int64_t batch = 1, channels = 1;
  int64_t positions = 1;  // of a plane, one after the other whatever its axes; mask [batch, positions]

  // Of one sample, `count` channels whose planes have `length` positions, all of which one window reads.
  Problem planes(int64_t count, int64_t length) const {
    Problem one;
    one.dtype = dtype, one.layout = layout, one.channels = count;
    one.axes[2] = Axis::sliding(length, length, length, 0, 0, 1, false);
    return one;
  }
};

}  // namespace torch_pooling
