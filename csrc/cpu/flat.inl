// Max backward without rows: see MaxFlat. Saved codes are read as they are. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, class Lane, class Stored>
struct FlatPull {
  using One = Pull<T, Lane, Stored>;
  using Take = Taken<T, Lane, Stored>;
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;

  // W * U elements from p; those `lead` ahead are looked at for the first time. Taps: how many, where known when compiling (else 0).
  template <int W, int U, int Taps>
  TP_INLINE static void block(const FlatArgs& a, int64_t p, int64_t lead) {
    const T* const grads = static_cast<const T*>(a.grads) + p;
    const Stored* const codes = static_cast<const Stored*>(a.codes) + p;
    constexpr bool words = Take::words && W == N && U % 2 == 0;
    constexpr int E = words ? 2 * W : W, V = W * U / E;  // elements of a vector, vectors
    typename Take::template Sums<E> total[V];
    for (int v = 0; v < V; ++v) prefetch_beyond(grads + v * E + lead);
    prefetch_beyond(codes + lead);
    const int64_t count = Taps == 0 ? a.tap_count : Taps;
    for (int64_t t = 0; t < count; ++t) {
      const int64_t back = a.taps[t].distance;
      const Code wanted = static_cast<Code>(a.taps[t].code);
#if TP_VECTOR_BYTES == 64
      if constexpr (W * U == 64 && std::is_same_v<Lane, float> && std::is_same_v<Stored, uint8_t>) {  // codes as bytes, all at once
        const __mmask64 taken = _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(codes - back), _mm512_set1_epi8(static_cast<char>(wanted)));
        for (int v = 0; v < V; ++v) {
          const T* const from = grads - back + v * E;
          if constexpr (words) {
            total[v].add_halves((Vec<uint32_t, W>)_mm512_maskz_loadu_epi16(static_cast<__mmask32>(taken >> (v * E)), from));
          } else {
            const auto grad = (__m512)load_lanes<false, T, Lane, W>(from), before = (__m512)total[v].of[0];
            total[v].of[0] = (Vec<Lane, W>)_mm512_mask_add_ps(before, static_cast<__mmask16>(taken >> (v * E)), before, grad);
          }
        }
        continue;
      }
#endif
      for (int v = 0; v < V; ++v) total[v].take({grads - back + v * E, codes - back + v * E, 0}, wanted);
    }
    T* const target = static_cast<T*>(a.target) + p;
    for (int v = 0; v < V; ++v) total[v].put(target + v * E, a.stores);
  }
  // An element near an end of the tensor.
  static void lone(const FlatArgs& a, int64_t p) {
    Lane total{};
    for (int64_t t = 0; t < a.tap_count; ++t) {
      const int64_t from = p - a.taps[t].distance;
      if (from < 0 || from >= a.total) continue;
      total += One::template taken<1>(static_cast<const T*>(a.grads) + from, static_cast<const Stored*>(a.codes) + from,
                                      static_cast<Code>(a.taps[t].code));
    }
    store_lanes<false, T, Lane, 1>(static_cast<T*>(a.target) + p, total);
  }
  // Elements near an end of the tensor, some of whose taps lie outside.
  static void edge(const FlatArgs& a, int64_t begin, int64_t end) {
    int64_t p = begin;
    while (p < end) {
      bool whole = p + N <= end;  // each tap of a vector inside or outside
      for (int64_t t = 0; whole && t < a.tap_count; ++t) {
        const int64_t from = p - a.taps[t].distance;
        whole = (from >= 0 && from + N <= a.total) || from + N <= 0 || from >= a.total;
      }
      if (!whole) {
        lone(a, p++);
        continue;
      }
      Vec<Lane, N> total{};
      for (int64_t t = 0; t < a.tap_count; ++t) {
        const int64_t from = p - a.taps[t].distance;
        if (from < 0 || from >= a.total) continue;
        total = total + One::template taken<N>(static_cast<const T*>(a.grads) + from, static_cast<const Stored*>(a.codes) + from,
                                               static_cast<Code>(a.taps[t].code));
      }
      store_lanes<false, T, Lane, N>(static_cast<T*>(a.target) + p, total);
      p += N;
    }
  }
  template <int Taps>
  static void inside(const FlatArgs& a, int64_t begin, int64_t end, int64_t lead) {
    constexpr int U = N == 1 ? 1 : 4;
    int64_t p = begin;
    for (; p + N * U <= end; p += N * U) block<N, U, Taps>(a, p, lead);
    for (; p + N <= end; p += N) block<N, 1, Taps>(a, p, lead);
    if (p < end && p - begin >= N) {
      block<N, 1, Taps>(a, end - N, lead);
    } else {
      for (; p < end; ++p) block<1, 1, Taps>(a, p, lead);
    }
  }
  static void run(const FlatArgs& a) {
    int64_t least = 0, most = 0;
    for (int64_t t = 0; t < a.tap_count; ++t) {
      least = std::min(least, a.taps[t].distance);
      most = std::max(most, a.taps[t].distance);
    }
    const int64_t begin = std::clamp(most, a.begin, a.end), end = std::clamp(a.total + least, begin, a.end);
    edge(a, a.begin, begin);
    a.tap_count == 9 ? inside<9>(a, begin, end, -least) : inside<0>(a, begin, end, -least);
    edge(a, end, a.end);
  }
};
