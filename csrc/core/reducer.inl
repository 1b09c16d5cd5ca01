// Reducers: init / step, and for maxima beats. The NaN rule, the tie rule and the meaning of a key live here and nowhere
// else. Every function is written once for scalars and for compiler vectors alike: `select(mask, a, b)` picks lane by lane.
// No namespace and no include of its own: each instruction set of csrc/cpu includes it inside its namespace and target
// region, so that no vector code is shared between them; everybody else includes core/reducer.h.
// To add a reducer: one struct here, one line in the kernel table.
// SPDX-License-Identifier: BSD-3-Clause

template <class Mask, class V>
TP_HOST_DEVICE inline V select(Mask mask, V a, V b) {
  return mask ? a : b;
}

template <class V>
TP_HOST_DEVICE TP_WRAPS inline V wrapping_sum(V a, V b) {
  return a + b;
}

struct Sum {
  static constexpr bool is_max = false;
  template <class Lane>
  TP_HOST_DEVICE static constexpr Lane init() {
    return Lane(0);
  }
  template <class V>
  TP_HOST_DEVICE static V step(V total, V x) {
    return wrapping_sum(total, x);
  }
};

// Maximum of floating point or integer lanes. A NaN wins over everything, the last NaN over earlier ones, and of equal
// values the first wins: torch's `(x > best) || isnan(x)`, taps taken in scan order.
struct Max {
  static constexpr bool is_max = true;
  template <class Lane>
  TP_HOST_DEVICE static constexpr Lane init() {
    if constexpr (std::is_floating_point_v<Lane>) {
      return -std::numeric_limits<Lane>::infinity();
    } else {
      return std::numeric_limits<Lane>::lowest();
    }
  }
  template <class V>
  TP_HOST_DEVICE static auto beats(V x, V best) {
    return (x > best) | (x != x);
  }
  // The same for a value and the number of its tap, as selects one after the other, which vectors do best.
  template <class V, class C>
  TP_HOST_DEVICE static void take(V& best, C& code, V x, C c) {
    if constexpr (requires { take_larger(best, code, x, c); }) {  // a target has its own
      take_larger(best, code, x, c);
    } else {
      const auto larger = x > best;
      best = select(larger, x, best);
      code = select(larger, c, code);
      best = select(x != x, x, best);
      code = select(x != x, c, code);
    }
  }
  template <class V>
  TP_HOST_DEVICE static V step(V best, V x) {  // values only
    if constexpr (requires { larger_or_nan(best, x); }) {
      return larger_or_nan(best, x);
    } else {
      const V larger = select(x > best, x, best);  // best when either is a NaN
      return select(x != x, x, larger);
    }
  }
};

// Maximum of 16-bit floats compared as integers. Key of the bits b: b for positive numbers, b with its magnitude bits
// flipped for negative ones, and 0x7fff for every NaN: integer order is float order, with -0 (key -1) just below +0.
struct MaxKey {
  static constexpr bool is_max = true;
  static constexpr int16_t nan_key = 0x7fff;
  static constexpr int16_t minus_zero_key = -1;
  static constexpr int16_t lowest_key = -0x8000;
  template <class Lane>
  TP_HOST_DEVICE static constexpr Lane init() {
    return std::numeric_limits<Lane>::lowest();
  }
  template <class V>
  TP_HOST_DEVICE static auto beats(V x, V best) {  // -0 and +0 are equal, and the last NaN wins
    const V zero = x - x;
    const V level = select(best == zero + minus_zero_key, zero, best);
    return (x > level) | (x == zero + nan_key);
  }
  template <class V, class C>
  TP_HOST_DEVICE static void take(V& best, C& code, V x, C c) {
    const V zero = x - x;
    const V level = select(best == zero + minus_zero_key, zero, best);
    const V bar = select(x == zero + nan_key, V(zero + lowest_key), level);  // under which nothing is
    const auto better = x > bar;
    best = select(better, x, best);
    code = select(better, c, code);
  }
  template <class V>
  TP_HOST_DEVICE static V step(V best, V x) {
    return select(best > x, best, x);
  }
};
