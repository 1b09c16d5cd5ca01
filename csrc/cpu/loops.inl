// The three outer loops of a kernel call. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class Body>
TP_INLINE void for_loops(const Loop (&loops)[3], Body body) {
  for (int64_t i = 0; i < loops[0].count; ++i) {
    for (int64_t j = 0; j < loops[1].count; ++j) {
      int64_t source = i * loops[0].source + j * loops[1].source;
      int64_t target = i * loops[0].target + j * loops[1].target;
      for (int64_t k = 0; k < loops[2].count; ++k) {
        body(source, target);
        source += loops[2].source, target += loops[2].target;
      }
    }
  }
}
// The same, K at a time where targets lie side by side: together(source, target, how far sources are apart), and one(source, target).
template <int K, class Together, class One>
TP_INLINE void for_loops_of(const Loop (&loops)[3], Together together, One one) {
  Loop order[3] = {loops[0], loops[1], loops[2]};
  for (int d = 0; d < 2; ++d) {
    if (order[2].target != 1 || order[2].count < K) std::swap(order[2], order[d]);
  }
  const bool adjacent = order[2].target == 1;
  const int64_t count = order[2].count, source_step = order[2].source, target_step = order[2].target;
  const int64_t whole = adjacent ? count / K * K : 0;
  Loop outer[3] = {{}, order[0], order[1]};
  for_loops(outer, [&](int64_t source, int64_t target) __attribute__((always_inline)) {
    for (int64_t k = 0; k < whole; k += K) together(source + k * source_step, target + k * target_step, source_step);
    for (int64_t k = whole; k < count; ++k) one(source + k * source_step, target + k * target_step);
  });
}
template <class Body>
TP_INLINE void for_loops3(const Loop (&loops)[3], const int64_t (&third)[3], Body body) {
  for (int64_t i = 0; i < loops[0].count; ++i) {
    for (int64_t j = 0; j < loops[1].count; ++j) {
      for (int64_t k = 0; k < loops[2].count; ++k) {
        body(i * loops[0].source + j * loops[1].source + k * loops[2].source,
             i * loops[0].target + j * loops[1].target + k * loops[2].target, i * third[0] + j * third[1] + k * third[2]);
      }
    }
  }
}
