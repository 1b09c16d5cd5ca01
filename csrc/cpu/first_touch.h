// The first touch of a result's memory. A page of 4 KB costs a fault, so that a large result which is new to the process may take longer
// to touch than to compute; huge pages, where the system gives them to those who ask (transparent_hugepage: madvise), make that one in 512.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "cpu/whole_args.h"

namespace torch_pooling::cpu {

// Asks for huge pages in [data, data + bytes), if that is worth it. The environment's TORCH_POOLING_HUGE_PAGES=0 forbids it.
void expect_first_touch(void* data, int64_t bytes);
void use_huge_pages(bool allowed);
// How a call that moves so many bytes stores its result: past the caches where they do not hold it (isa.h), or where the result alone is
// half of what they hold; but not where it is large and nobody has touched it, by a look at three of its pages. The system clears a page
// when it is first touched, which leaves it in the caches.
Stores stores_for(int64_t call_bytes, const void* result, int64_t result_bytes);

}  // namespace torch_pooling::cpu
