// Instruction sets: which are compiled in, which this processor runs, which one is in use. The set in use is the best that
// runs, or the one named by TORCH_POOLING_ISA; forcing one that cannot run is an error.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

#include "cpu/block.h"

namespace torch_pooling::cpu {

namespace isa_scalar { const KernelTable* table(); }
#if defined(__x86_64__)
namespace isa_avx2 { const KernelTable* table(); }
namespace isa_avx512 { const KernelTable* table(); }
#endif

std::vector<std::string> compiled_instruction_sets();  // best first
std::vector<std::string> runnable_instruction_sets();  // best first
const KernelTable& kernels();                          // of the set in use
void force_instruction_set(const std::string& name);   // "" returns to the environment's choice; throws std::runtime_error

// Whether a call that reads and writes so many bytes finds none of them in a cache.
bool outgrows_caches(int64_t bytes);
// Whether it stores its result past the caches, in which it would not stay; both from how many bytes on, 0 being what suits this machine.
bool stores_past_caches(int64_t bytes);
void store_past_caches_from(int64_t bytes);
// Before other threads may read what was stored past the caches.
void finish_stores();

}  // namespace torch_pooling::cpu
