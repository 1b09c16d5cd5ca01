// Backward sums along a row, strides of 2 and more: each input takes the sum of the outputs that read it; lanes along q. Included inside
// a target region, after vec.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class Lane>
struct Spread {
  static constexpr int N = full_lanes<Lane>;
  TP_INLINE static Vec<Lane, N> phase(const SpreadArgs& a, const Lane* s, int64_t q, int64_t r) {
    Vec<Lane, N> total{};
    for (int64_t tap = r, o = q; tap < a.taps; tap += a.stride, --o) total = total + load_as<Vec<Lane, N>>(s + o);
    return total;
  }
  static void rows(const SpreadArgs& a) {
    for_loops(a.loops, [&](int64_t source, int64_t target) {
      const Lane* s = static_cast<const Lane*>(a.source) + source;
      Lane* t = static_cast<Lane*>(a.target) + target;
      for_lanes_rounded_up<Lane>(a.count, [&](auto, int64_t q) {
        store_pairs<Lane, N>(t + 2 * q, phase(a, s, q, 0), phase(a, s, q, 1));
      });
    });
  }
};
