// The sum and the maximum of the same elements from one look at them: of planes that lie together, or of a sample's channels in
// channels-last. Included inside a target region, after reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, class Lane, bool Coded>
struct Both {
  using MaxKernel = Reduce<Max, false, Coded, T, Lane, true>;
  using MaxRun = Run<MaxKernel, Max, Coded, T, Lane>;
  using SumRun = Run<Reduce<Sum, false, false, T, Lane, true>, Sum, false, T, Lane>;
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;
  static constexpr int64_t few_pixels = plane_sum_elements;  // whose sums add up in the lanes' own type before they do in 64 bits

  struct State {
    Lane sum, max;
    Code code;
  };

  // W or more elements; sums, and maxima without codes, are in the first vectors at the end. The last vector overlaps the one before it: a sum
  // leaves out what it has seen, a maximum keeps the first of equals.
  static constexpr int U = 4;
  template <int W>
  TP_INLINE static void take_all(const T* s, int64_t taps, bool ahead, Vec<Lane, W> (&sums)[U], Vec<Lane, W> (&maxima)[U], Vec<Code, W> (&codes)[U]) {
    const auto ramp = MaxRun::template lane_numbers<W>();
    auto number = [&](int64_t t) __attribute__((always_inline)) { return Vec<Code, W>(ramp + broadcast<Code, W>(static_cast<Code>(t))); };
    sums[0] = maxima[0] = MaxKernel::template load<W>(s, ahead);
    codes[0] = ramp;
    int64_t t = W;
    if (taps >= W * U) {
      for (int u = 1; u < U; ++u) {
        sums[u] = maxima[u] = MaxKernel::template load<W>(s + u * W, ahead);
        codes[u] = number(u * W);
      }
      for (t = W * U; t + W * U <= taps; t += W * U) {
        for (int u = 0; u < U; ++u) {
          const auto x = MaxKernel::template load<W>(s + t + u * W, ahead);
          sums[u] = sums[u] + x;
          MaxKernel::template take<W>(maxima[u], codes[u], x, number(t + u * W));
        }
      }
      for (int u = 1; u < U; ++u) {
        sums[0] = sums[0] + sums[u];
        if constexpr (!Coded) maxima[0] = Max::step(maxima[0], maxima[u]);
      }
    } else if constexpr (Coded) {
      for (int u = 1; u < U; ++u) maxima[u] = maxima[0], codes[u] = codes[0];
    }
    for (; t + W <= taps; t += W) {
      const auto x = MaxKernel::template load<W>(s + t, ahead);
      sums[0] = sums[0] + x;
      MaxKernel::template take<W>(maxima[0], codes[0], x, number(t));
    }
    if (t < taps) {
      const auto x = MaxKernel::template load<W>(s + taps - W, ahead);
      sums[0] = sums[0] + select(number(taps - W) >= broadcast<Code, W>(static_cast<Code>(t)), x, Vec<Lane, W>{});
      MaxKernel::template take<W>(maxima[0], codes[0], x, number(taps - W));
    }
  }
  template <int W>
  TP_INLINE static State run(const T* s, int64_t taps, bool ahead) {
    Vec<Lane, W> sums[U], maxima[U];
    Vec<Code, W> codes[U] = {};
    take_all<W>(s, taps, ahead, sums, maxima, codes);
    State state{SumRun::template across<W>(sums[0]), {}, 0};
    if constexpr (Coded) {
      const int64_t winner = MaxRun::template winner_of<W, U>(maxima, codes);
      state.max = MaxKernel::template load<1>(s + winner);
      state.code = static_cast<Code>(winner);
    } else {
      state.max = MaxRun::first_zero(s, MaxRun::template across<W>(maxima[0]));
    }
    return state;
  }
  template <int W>
  TP_INLINE static State any(const T* s, int64_t taps, bool ahead) {
    if constexpr (W > 1) {
      if (taps < W) return any<W / 2>(s, taps, ahead);
    }
    return run<W>(s, taps, ahead);
  }
  // So many planes at once that their lanes are put together with each other's.
  static constexpr int K = SumRun::template together<N>;
  TP_INLINE static void planes_together(const BothArgs& a, int64_t p) {
    const T* const s = static_cast<const T*>(a.source) + p * a.positions;
    Vec<Lane, N> all_sums[K], all_maxima[K];
    for (int k = 0; k < K; ++k) {
      Vec<Lane, N> sums[U], maxima[U];
      Vec<Code, N> codes[U] = {};
      take_all<N>(s + k * a.positions, a.positions, a.ahead, sums, maxima, codes);
      all_sums[k] = sums[0], all_maxima[k] = maxima[0];
    }
    const auto sum = SumRun::template put_together<N>(all_sums, s, a.positions);
    store_lanes<false, T, Lane, K>(static_cast<T*>(a.sums) + p, sum / static_cast<Lane>(a.divisor));
    store_lanes<false, T, Lane, K>(static_cast<T*>(a.maxima) + p, MaxRun::template put_together<N>(all_maxima, s, a.positions));
  }
  static void planes(const BothArgs& a) {
    constexpr int64_t block = N > 1 ? wide_sum_elements : 4 * plane_sum_elements;
    int64_t begin = 0;
    if constexpr (!Coded && N > 1) {
      for (; a.positions >= N && a.positions < 2 * block && begin + K <= a.planes; begin += K) planes_together(a, begin);
    }
    for (int64_t p = begin; p < a.planes; ++p) {
      const T* const s = static_cast<const T*>(a.source) + p * a.positions;
      T* const sum = static_cast<T*>(a.sums) + p;
      const int64_t first = std::min(a.positions, block_of(a.positions, 0, block));
      State state = any<N>(s, first, a.ahead);
      if (first < a.positions) {  // blocks add up in 64 bits
        double total = static_cast<double>(state.sum);
        for (int64_t t = first; t < a.positions;) {
          const int64_t taps = block_of(a.positions, t, block);
          const State next = any<N>(s + t, taps, a.ahead);
          total += static_cast<double>(next.sum);
          MaxKernel::template take<1>(state.max, state.code, next.max, static_cast<Code>(next.code + t));
          t += taps;
        }
        store_lanes<false, T, double, 1>(sum, total / a.divisor);
      } else {
        store_lanes<false, T, Lane, 1>(sum, state.sum / static_cast<Lane>(a.divisor));
      }
      store_lanes<false, T, Lane, 1>(static_cast<T*>(a.maxima) + p, state.max);
      if constexpr (Coded) static_cast<Code*>(a.codes)[p] = state.code;
    }
  }

  // Positions p to p + count of U vectors of channels from c on. Fresh: their sums begin here.
  template <int W, int U>
  TP_INLINE static void column(const BothArgs& a, int64_t p, int64_t count, bool fresh, int64_t c, Lane* sums, Lane* maxima, Code* codes) {
    const T* s = static_cast<const T*>(a.source) + p * a.pixel + c;
    Vec<Lane, W> sum[U], max[U];
    Vec<Code, W> code[U];
    for (int u = 0; u < U; ++u) {
      const auto x = MaxKernel::template load<W>(s + u * W, a.ahead);
      sum[u] = max[u] = x;
      code[u] = broadcast<Code, W>(static_cast<Code>(p));
      if (!fresh) sum[u] = load_as<Vec<Lane, W>>(sums + u * W) + x;
      if (p == 0) continue;
      max[u] = load_as<Vec<Lane, W>>(maxima + u * W);
      if constexpr (Coded) code[u] = load_as<Vec<Code, W>>(codes + u * W);
      MaxKernel::template take<W>(max[u], code[u], x, broadcast<Code, W>(static_cast<Code>(p)));
    }
    for (int64_t t = 1; t < count; ++t) {
      s += a.pixel;
      for (int u = 0; u < U; ++u) {
        const auto x = MaxKernel::template load<W>(s + u * W, a.ahead);
        sum[u] = sum[u] + x;
        MaxKernel::template take<W>(max[u], code[u], x, broadcast<Code, W>(static_cast<Code>(p + t)));
      }
    }
    for (int u = 0; u < U; ++u) {
      store_as(sums + u * W, sum[u]);
      store_as(maxima + u * W, max[u]);
      if constexpr (Coded) store_as(codes + u * W, code[u]);
    }
  }

  template <class Total>
  TP_INLINE static void add_up(const Lane* sums, Total* totals, int64_t count, bool fresh) {
    int64_t i = 0;
    auto at = [&](auto width) __attribute__((always_inline)) {
      constexpr int W = decltype(width)::value;
      for (; i + W <= count; i += W) {
        const auto sum = convert<Total, W>(load_as<Vec<Lane, W>>(sums + i));
        store_as(totals + i, fresh ? sum : Vec<Total, W>(load_as<Vec<Total, W>>(totals + i) + sum));
      }
    };
    at(std::integral_constant<int, full_lanes<Total>>{});
    if constexpr (full_lanes<Total> > 1) at(std::integral_constant<int, 1>{});
  }

  // Pixels in the order of memory, one stream: several at a time only where one column of vectors is all of a pixel. Wide: sums of a few
  // pixels add up in 64 bits.
  template <bool Wide>
  static void channels(const BothArgs& a) {
    using Total = std::conditional_t<Wide, double, Lane>;
    constexpr int U = 4;
    const int64_t few = a.channels <= U * N ? few_pixels : 1;
    Total* const totals = static_cast<Total*>(a.scratch);
    Lane* const sums = reinterpret_cast<Lane*>(totals + (Wide ? a.channels : 0));
    Lane* const maxima = sums + a.channels;
    Code* const codes = static_cast<Code*>(a.codes);
    for (int64_t p = 0; p < a.positions; p += few) {
      const int64_t count = std::min(few, a.positions - p);
      const bool fresh = Wide ? p % few_pixels == 0 : p == 0;
      int64_t c = 0;
      auto at = [&](auto width, auto unroll) __attribute__((always_inline)) {
        constexpr int W = decltype(width)::value, M = decltype(unroll)::value;
        for (; c + W * M <= a.channels; c += W * M) column<W, M>(a, p, count, fresh, c, sums + c, maxima + c, Coded ? codes + c : nullptr);
      };
      constexpr std::integral_constant<int, 1> one;
      at(std::integral_constant<int, N>{}, std::integral_constant<int, U>{});
      if constexpr (N > 1) at(std::integral_constant<int, N>{}, one);
      if constexpr (N > 4) at(std::integral_constant<int, 4>{}, one);
      at(one, one);
      if (Wide && ((p + count) % few_pixels == 0 || p + count == a.positions)) add_up(sums, totals, a.channels, p < few_pixels);
    }
    for_lanes<Total>(a.channels, [&](auto width, int64_t c) {
      constexpr int W = decltype(width)::value;
      const auto mean = load_as<Vec<Total, W>>(totals + c) / static_cast<Total>(a.divisor);
      store_lanes<false, T, Total, W>(static_cast<T*>(a.sums) + c, mean);
    });
    for_lanes<Lane>(a.channels, [&](auto width, int64_t c) {
      constexpr int W = decltype(width)::value;
      store_lanes<false, T, Lane, W>(static_cast<T*>(a.maxima) + c, load_as<Vec<Lane, W>>(maxima + c));
    });
  }
  static void reduce(const BothArgs& a) {
    if (a.channels == 0) return planes(a);
    a.positions > plane_sum_elements ? channels<true>(a) : channels<false>(a);
  }
};
