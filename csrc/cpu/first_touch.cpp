// See first_touch.h.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/first_touch.h"

#include <atomic>
#include <cstdlib>
#include <string>

#include "cpu/isa.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace torch_pooling::cpu {
namespace {

[[maybe_unused]] constexpr uintptr_t huge_page = 2 << 20;
constexpr int64_t early_bytes = 1 << 18;  // what less than this reads and writes is near
[[maybe_unused]] constexpr int64_t least_bytes = 2 * huge_page;  // holds one, wherever it begins

std::atomic<bool>& allowed() {
  static std::atomic<bool> value = [] {
    const char* const setting = std::getenv("TORCH_POOLING_HUGE_PAGES");
    return setting == nullptr || std::string(setting) != "0";
  }();
  return value;
}

bool is_untouched([[maybe_unused]] const void* data, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__)
  constexpr int64_t places = 3;
  if (bytes < least_bytes) return false;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), begin = reinterpret_cast<uintptr_t>(data);
  int64_t absent = 0;
  for (int64_t i = 0; i < places; ++i) {
    const uintptr_t at = (begin + static_cast<uintptr_t>(bytes / places * i + bytes / places / 2)) / page * page;
    unsigned char present = 1;
    absent += mincore(reinterpret_cast<void*>(at), page, &present) == 0 && (present & 1) == 0;
  }
  return 2 * absent > places;
#else
  return false;
#endif
}

}  // namespace

void use_huge_pages(bool value) { allowed().store(value, std::memory_order_relaxed); }

void expect_first_touch([[maybe_unused]] void* data, int64_t bytes) {
  if (bytes < least_bytes || !allowed().load(std::memory_order_relaxed)) return;
#if defined(MADV_HUGEPAGE)
  // Whole ones only: what lies beside the result is not ours to change. An error means that the system has none, and nothing is lost.
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + huge_page - 1) / huge_page * huge_page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) / huge_page * huge_page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

Stores stores_for(int64_t call_bytes, const void* result, int64_t result_bytes) {
  if (call_bytes < early_bytes) return Stores::Usual;
  const bool past = stores_past_caches(call_bytes) || stores_past_caches(result_bytes * 5 / 2);  // a result of half a cache, as measured
  return past && !is_untouched(result, result_bytes) ? Stores::Past : Stores::Early;
}

}  // namespace torch_pooling::cpu
