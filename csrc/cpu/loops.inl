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
