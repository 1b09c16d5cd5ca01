// The only instruction set of the emulated build: none. The CPU kernels are not part of it.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/first_touch.h"
#include "cpu/isa.h"

#include <stdexcept>

namespace torch_pooling::cpu {

std::vector<std::string> compiled_instruction_sets() { return {"emulated"}; }
std::vector<std::string> runnable_instruction_sets() { return {"emulated"}; }

const KernelTable& kernels() {
  static const KernelTable none = [] {
    KernelTable table{};
    table.name = "emulated";
    return table;
  }();
  return none;
}

void force_instruction_set(const std::string& name) {
  if (!name.empty() && name != "emulated") throw std::runtime_error("unknown instruction set " + name + "; choices: emulated");
}

void store_past_caches_from(int64_t) {}
void use_huge_pages(bool) {}

}  // namespace torch_pooling::cpu
