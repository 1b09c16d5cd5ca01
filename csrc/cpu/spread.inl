// Backward sums along a row, strides of 2 to 5: each input takes the sum of the outputs that read it; lanes along q, put back in turns.
// Included inside a target region, after turns.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class Lane>
struct Spread {
  static constexpr int N = full_lanes<Lane>;
  template <int Stride>
  TP_INLINE static Vec<Lane, N> phase(const SpreadArgs& a, const Lane* s, int64_t q, int64_t r) {
    Vec<Lane, N> total{};
    for (int64_t tap = r, o = q; tap < a.taps; tap += Stride, --o) total = total + load_as<Vec<Lane, N>>(s + o);
    return total;
  }
  template <int Stride>
  static void rows_of(const SpreadArgs& a) {
    for_loops(a.loops, [&](int64_t source, int64_t target) {
      const Lane* s = static_cast<const Lane*>(a.source) + source;
      Lane* t = static_cast<Lane*>(a.target) + target;
      for_lanes_rounded_up<Lane>(a.count, [&](auto, int64_t q) __attribute__((always_inline)) {
        Vec<Lane, N> phases[Stride];
        for (int r = 0; r < Stride; ++r) phases[r] = phase<Stride>(a, s, q, r);
        store_in_turns<Stride, Lane, N>(t + Stride * q, phases);
      });
    });
  }
  static void rows(const SpreadArgs& a) {
    switch (a.stride) {
      case 2: return rows_of<2>(a);
      case 3: return rows_of<3>(a);
      case 4: return rows_of<4>(a);
      default: return rows_of<5>(a);
    }
  }
};
