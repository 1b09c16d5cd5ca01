// In a file of its own: a compiler that sees the variable asks for its address again, by a call, wherever a loop uses it.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/scratch.h"

namespace torch_pooling::cpu {

Scratch& thread_scratch() {
  thread_local Scratch scratch;
  return scratch;
}

}  // namespace torch_pooling::cpu
