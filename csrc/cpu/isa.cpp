// One list of instruction sets, best first, drives listing, choosing and forcing.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/isa.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace torch_pooling::cpu {
namespace {

struct InstructionSet {
  const char* name;
  bool (*runs)();
  const KernelTable* (*table)();
};

const InstructionSet instruction_sets[] = {
#if defined(__x86_64__)
    {"avx512",
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
              && __builtin_cpu_supports("avx512vl");
     },
     &isa_avx512::table},
    {"avx2", [] { return __builtin_cpu_supports("avx2") != 0; }, &isa_avx2::table},  // every processor with it has F16C
#endif
    {"scalar", [] { return true; }, &isa_scalar::table},
};

// The cache that a core shares with few others; sysconf adds up those of a whole socket. A virtual machine names the host's, of which it
// has a part, and of more than this even the whole is no gain: the crossover was measured with 480 MiB named (docs/performance.md).
constexpr int64_t most_cache_bytes = 48 << 20;

int64_t last_level_cache_bytes() {
  static const int64_t size = [] {
    int64_t kilobytes = 0;
    std::ifstream("/sys/devices/system/cpu/cpu0/cache/index3/size") >> kilobytes;
    return std::min((kilobytes > 0 ? kilobytes : 32768) << 10, most_cache_bytes);
  }();
  return size;
}

const KernelTable* choose(const std::string& name, const std::string& asked_by) {
  std::string choices;
  for (const InstructionSet& set : instruction_sets) {
    if (!set.runs()) continue;
    if (name.empty() || name == set.name) return set.table();
    choices += (choices.empty() ? "" : ", ") + std::string(set.name);
  }
  throw std::runtime_error(asked_by + ": instruction set '" + name + "' cannot run here; expected one of: " + choices);
}

const KernelTable* from_environment() {
  const char* name = std::getenv("TORCH_POOLING_ISA");
  return choose(name == nullptr ? "" : name, "TORCH_POOLING_ISA");
}

std::atomic<const KernelTable*> in_use{nullptr};
std::atomic<int64_t> past_from{0};

}  // namespace

std::vector<std::string> compiled_instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : instruction_sets) names.emplace_back(set.name);
  return names;
}

std::vector<std::string> runnable_instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : instruction_sets) {
    if (set.runs()) names.emplace_back(set.name);
  }
  return names;
}

const KernelTable& kernels() {
  const KernelTable* table = in_use.load(std::memory_order_acquire);
  if (table == nullptr) {
    table = from_environment();
    in_use.store(table, std::memory_order_release);
  }
  return *table;
}

void force_instruction_set(const std::string& name) {
  in_use.store(name.empty() ? from_environment() : choose(name, "force_instruction_set"), std::memory_order_release);
}

bool outgrows_caches(int64_t bytes) {
  const int64_t chosen = past_from.load(std::memory_order_relaxed);
  return bytes >= (chosen > 0 ? chosen : last_level_cache_bytes());
}
bool stores_past_caches(int64_t bytes) {
  const int64_t chosen = past_from.load(std::memory_order_relaxed);
  return bytes >= (chosen > 0 ? chosen : last_level_cache_bytes() + last_level_cache_bytes() / 4);
}
void store_past_caches_from(int64_t bytes) { past_from.store(bytes, std::memory_order_relaxed); }
void finish_stores() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace torch_pooling::cpu
