// One list of instruction sets, best first, drives listing, choosing and forcing.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/isa.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

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

}  // namespace torch_pooling::cpu
