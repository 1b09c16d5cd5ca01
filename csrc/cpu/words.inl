// bfloat16 two at a time, as the halves of 32-bit words: a float is a word moved up by 16 bits, or one whose lower half is cleared, so that
// even and odd elements come apart by a shift and a mask, and together again as cheaply. Memory is little-endian. Included inside a target
// region, after vec.inl.
// SPDX-License-Identifier: BSD-3-Clause

constexpr uint32_t odd_half = 0xffff0000u;

template <bool Keyed, class T, class Lane>
constexpr bool has_words = !Keyed && std::is_same_v<T, BFloat16Bits> && std::is_same_v<Lane, float> && TP_VECTOR_BYTES > 0;

// Elements 2 * i and 2 * i + 1 become lanes i.
template <int N>
TP_INLINE void load_words(const BFloat16Bits* p, Vec<float, N>& even, Vec<float, N>& odd) {
  const auto words = load_as<Vec<uint32_t, N>>(p);
  even = (Vec<float, N>)(words << 16);
  odd = (Vec<float, N>)(words & odd_half);
}
// Of sums of bfloat16: a NaN is one of theirs or the processor's own, whose lower halves are 0, so that rounding does not carry into a
// sign. What is rounded is in the upper halves; the lower ones hold anything.
template <int N>
TP_INLINE Vec<uint32_t, N> rounded_sums(Vec<float, N> v) {
  const auto bits = (Vec<uint32_t, N>)v;
  return bits + 0x7fffu + ((bits >> 16) & 1u);
}
template <int N>
TP_INLINE void store_words(BFloat16Bits* p, Vec<float, N> even, Vec<float, N> odd, Stores stores) {
  store_result(p, Vec<uint32_t, N>((rounded_sums<N>(even) >> 16) | (rounded_sums<N>(odd) & odd_half)), stores);
}

// U vectors of elements that follow each other, lane by lane in an order that only store_block needs to know.
template <bool Keyed, class T, class Lane, int W, int U>
TP_INLINE void load_block(const T* p, Vec<Lane, W> (&v)[U], bool ahead) {
  if constexpr (has_words<Keyed, T, Lane> && W > 1 && U % 2 == 0) {
    for (int u = 0; u < U; u += 2) {
      if (ahead) prefetch_beyond(p + u * W);
      load_words<W>(p + u * W, v[u], v[u + 1]);
    }
  } else {
    for (int u = 0; u < U; ++u) {
      if (ahead && W > 1) prefetch_beyond(p + u * W);
      v[u] = load_lanes<Keyed, T, Lane, W>(p + u * W);
    }
  }
}
template <bool Keyed, class T, class Lane, int W, int U>
TP_INLINE void store_block(T* p, const Vec<Lane, W> (&v)[U], Stores stores) {
  if constexpr (has_words<Keyed, T, Lane> && W > 1 && U % 2 == 0) {
    for (int u = 0; u < U; u += 2) store_words<W>(p + u * W, v[u], v[u + 1], stores);
  } else {
    for (int u = 0; u < U; ++u) store_lanes<Keyed, T, Lane, W>(p + u * W, v[u], stores);
  }
}
