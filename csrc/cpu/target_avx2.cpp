// AVX2: 32-byte vectors, with the half conversions of F16C.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/target_headers.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,f16c")
#endif

#define TP_VECTOR_BYTES 32
#define TP_X86 1
namespace torch_pooling::cpu::isa_avx2 {
#include "cpu/larger.inl"
#include "core/reducer.inl"
#include "cpu/loops.inl"
#include "cpu/vec.inl"
#include "cpu/words.inl"
#include "cpu/together.inl"
#include "cpu/turns.inl"
#include "cpu/chain.inl"
#include "cpu/run.inl"
#include "cpu/rows.inl"
#include "cpu/slide.inl"
#include "cpu/reduce.inl"
#include "cpu/exact.inl"
#include "cpu/spread.inl"
#include "cpu/both.inl"
#include "cpu/pairs.inl"
#include "cpu/spread_pairs.inl"
#include "cpu/near.inl"
#include "cpu/ribbon.inl"
#include "cpu/near_last.inl"
#include "cpu/pixels.inl"
#include "cpu/short.inl"
#include "cpu/convert.inl"
#include "cpu/transpose.inl"
#include "cpu/masked.inl"
#include "cpu/locate.inl"
#include "cpu/taken.inl"
#include "cpu/pull.inl"
#include "cpu/pull_pixels.inl"
#include "cpu/flat.inl"
#include "cpu/permuted.inl"
#include "cpu/table.inl"

const KernelTable* table() {
  static const KernelTable instance = make_table("avx2");
  return &instance;
}
}  // namespace torch_pooling::cpu::isa_avx2

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
