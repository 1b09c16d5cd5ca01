// Every second to fifth element of a row: taken out of as many vectors by shuffles, and put back in turns. Included inside a target
// region, after vec.inl.
// SPDX-License-Identifier: BSD-3-Clause

// Lane i of element R of each A, out of A vectors that follow each other: one vector after the other puts in what it has.
template <int A, int R, int J, int N>
constexpr int place_of_every(int i) {
  const int lane = i * A + R;
  return lane / N == J ? N + lane % N : J == 1 && lane < N ? lane : i;
}
template <int A, int R, int J, class T, int N, int... I>
TP_INLINE Vec<T, N> every_from(Vec<T, N> found, Vec<T, N> next, std::integer_sequence<int, I...>) {
  return TP_SHUFFLE(T, N, found, next, (place_of_every<A, R, J, N>(I))...);
}
template <int A, int R, int J, class T, int N>
TP_INLINE Vec<T, N> every_up_to(const Vec<T, N> (&v)[A]) {
  if constexpr (J == 0) {
    return v[0];
  } else {
    return every_from<A, R, J, T, N>(every_up_to<A, R, J - 1, T, N>(v), v[J], std::make_integer_sequence<int, N>{});
  }
}
template <int A, int R, class T, int N>
TP_INLINE Vec<T, N> every(const Vec<T, N> (&v)[A]) {
  if constexpr (N == 1) {
    return v[R];
  } else {
    return every_up_to<A, R, A - 1, T, N>(v);
  }
}
// The other way: elements of A vectors by turns, stored one after the other.
template <int A, int K, int P, int N>
constexpr int place_in_turns(int i) {
  const int lane = K * N + i;
  return lane % A == P ? N + lane / A : P == 1 && lane % A == 0 ? lane / A : i;
}
template <int A, int K, int P, class T, int N, int... I>
TP_INLINE Vec<T, N> turns_from(Vec<T, N> found, Vec<T, N> next, std::integer_sequence<int, I...>) {
  return TP_SHUFFLE(T, N, found, next, (place_in_turns<A, K, P, N>(I))...);
}
template <int A, int K, int P, class T, int N>
TP_INLINE Vec<T, N> turns_up_to(const Vec<T, N> (&v)[A]) {
  if constexpr (P == 0) {
    return v[0];
  } else {
    return turns_from<A, K, P, T, N>(turns_up_to<A, K, P - 1, T, N>(v), v[P], std::make_integer_sequence<int, N>{});
  }
}
template <int A, class T, int N, int... K>
TP_INLINE void store_turns(T* p, const Vec<T, N> (&v)[A], std::integer_sequence<int, K...>) {
  (store_as(p + K * N, turns_up_to<A, K, A - 1, T, N>(v)), ...);
}
template <int A, class T, int N>
TP_INLINE void store_in_turns(T* p, const Vec<T, N> (&v)[A]) {
  if constexpr (N == 1) {
    std::copy_n(v, A, p);
  } else {
    store_turns<A, T, N>(p, v, std::make_integer_sequence<int, A>{});
  }
}

// Windows along a row that move by three and more and whose taps lie side by side: as many vectors as they move by, read once, hold as many
// taps of each. Kernel: a Reduce.
template <class Kernel, class Lane>
struct Turns {
  using Code = CodeOf<Lane>;
  // Taps t + R of windows whose elements from tap t on are v, as many as there are.
  template <int W, int Advance, int... R>
  TP_INLINE static void take_some(const Vec<Lane, W> (&v)[Advance], int64_t t, int64_t taps, Vec<Lane, W>& value, Vec<Code, W>& code,
                                  std::integer_sequence<int, R...>) {
    (((t > 0 || R > 0) && t + R < taps
          ? Kernel::template take<W>(value, code, every<Advance, R, Lane, W>(v), broadcast<Code, W>(static_cast<Code>(t + R)))
          : void()), ...);
  }
  template <int W, int Advance>
  TP_INLINE static void take_all(const CombArgs& a, const Lane* p, Vec<Lane, W>& value, Vec<Code, W>& code) {
    for (int64_t t = 0; t == 0 || t < a.taps; t += Advance) {
      Vec<Lane, W> v[Advance];
      for (int j = 0; j < Advance; ++j) v[j] = load_as<Vec<Lane, W>>(p + t + j * W);
      if (t == 0) value = every<Advance, 0, Lane, W>(v);
      take_some<W, Advance>(v, t, a.taps, value, code, std::make_integer_sequence<int, Advance>{});
    }
  }
};
