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

// b where either is a NaN.
template <class V>
TP_HOST_DEVICE inline V smaller(V a, V b) {
  if constexpr (requires { smaller_of(a, b); }) {  // a target has its own
    return smaller_of(a, b);
  } else {
    return select(a < b, a, b);
  }
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
  template <class V>
  TP_HOST_DEVICE static bool is_zero(V x) {
    return x == 0;
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

// Maximum of 16-bit floats compared as integers, for a type whose infinity has these bits. Bits of a positive number are their own
// order, those of a negative one with the magnitude flipped: from the NaNs below -inf up to those above inf. Moved down by the number
// of the lower NaNs, -inf is the lowest integer, those NaNs have wrapped around to the top, and every NaN is above inf: integer order
// is float order, with -0 just below +0.
template <int16_t infinity>
struct MaxKey {
  static constexpr bool is_max = true;
  static constexpr int16_t magnitude = 0x7fff;
  static constexpr int16_t moved = magnitude - infinity;
  static constexpr int16_t infinity_key = infinity - moved;
  static constexpr int16_t zero_key = -moved;
  static constexpr int16_t minus_zero_key = zero_key - 1;
  template <class Lane>
  TP_HOST_DEVICE static constexpr Lane init() {
    return std::numeric_limits<Lane>::lowest();  // -inf
  }
  template <class V>
  TP_HOST_DEVICE static V key(V bits) {
    return wrapping_sum(V(bits ^ ((bits >> 15) & magnitude)), V(V{} - moved));
  }
  template <class V>
  TP_HOST_DEVICE static V bits(V key) {  // all NaNs are one
    const V ordered = wrapping_sum(key, V(V{} + moved));
    return select(key > V(V{} + infinity_key), V(V{} + magnitude), V(ordered ^ ((ordered >> 15) & magnitude)));
  }
  template <class V>
  TP_HOST_DEVICE static bool is_zero(V x) {
    return x == zero_key || x == minus_zero_key;
  }
  template <class V>
  TP_HOST_DEVICE static auto beats(V x, V best) {  // -0 and +0 are equal, and the last NaN wins
    const V least = select(x == V(V{} + zero_key), V(V{} + minus_zero_key), x);
    return least > smaller(best, V(V{} + infinity_key));
  }
  template <class V, class C>
  TP_HOST_DEVICE static void take(V& best, C& code, V x, C c) {
    const auto better = beats(x, best);
    best = select(better, x, best);
    code = select(better, c, code);
  }
  template <class V>
  TP_HOST_DEVICE static V step(V best, V x) {
    return Max::step(best, x);
  }
};
