// The gradient of averages over such windows (pairs.inl): each row of grad_input sums the rows of grad_output that read it, and of that sum
// an element takes one output or two neighbours. One pass, in registers. Included inside a target region, after pairs.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, class Lane>
struct SpreadPairs {
  using Forward = Pairs<Sum, false, false, T, Lane>;
  using Scale = typename Forward::Scale;
  using Rows = typename Forward::Rows;
  static constexpr int N = full_lanes<Lane>;

  template <int W>
  TP_INLINE static Vec<Lane, W> sum(const Rows& rows, int64_t at) {
    auto total = rows.template load<W>(0, at);
    for (int64_t r = 1; r < rows.count; ++r) total = total + rows.template load<W>(r, at);
    return total;
  }
  template <int W>
  TP_INLINE static void put(T* target, Vec<Lane, W> even, Vec<Lane, W> odd, Stores stores) {
    if constexpr (Forward::words) {
      store_words<W>(target, even, odd, stores);
    } else {
      Vec<Lane, W> low, high;
      interleave<Lane, W>(even, odd, low, high);
      store_lanes<false, T, Lane, W>(target, low, stores);
      store_lanes<false, T, Lane, W>(target + W, high, stores);
    }
  }
  // Elements 2 * q and 2 * q + 1 of grad_input lie in window q, and (Taps == 3) one of them in its neighbour: without a skip the first
  // and window q - 1, with one the second and window q + 1, which (Taps == 2) is its only one.
  template <int W, int Taps, bool Skips>
  TP_INLINE static void row(const PairsArgs& a, const Rows& rows, T* target, const Scale& scale, Stores stores) {
    for (int64_t q = 0; q < a.length; q += W) {
      q = std::min(q, a.length - W);
      const auto own = sum<W>(rows, q);
      auto even = own, odd = own;
      if constexpr (Skips) {
        const auto next = q + W < a.length ? sum<W>(rows, q + 1) : Forward::template shifted<W, 0>(own, Vec<Lane, W>{});
        odd = Taps == 2 ? next : own + next;
      } else if constexpr (Taps == 3) {
        even = own + (q > 0 ? sum<W>(rows, q - 1) : Forward::template behind<W>(Vec<Lane, W>{}, own));
      }
      if (2 * (q + W) <= a.width) {
        put<W>(target + 2 * q, scale(even), scale(odd), stores);
      } else {
        T ending[2 * W];
        put<W>(ending, scale(even), scale(odd), Stores::Usual);
        std::memcpy(target + 2 * q, ending, sizeof(T) * static_cast<size_t>(a.width - 2 * q));
      }
    }
    for (int64_t i = 2 * a.length; i < a.width; ++i) {
      const bool third = Taps == 3 && !Skips && i == 2 * a.length;
      store_lanes<false, T, Lane, 1>(target + i, third ? scale(sum<1>(rows, a.length - 1)) : Lane(0));
    }
  }
  template <int W>
  TP_INLINE static void row_of(const PairsArgs& a, const Rows& rows, T* target, const Scale& scale, Stores stores) {
    if constexpr (W > Forward::least) {
      if (a.length < W) return row_of<W / 2>(a, rows, target, scale, stores);
    }
    if (a.skip == 0) return a.taps == 2 ? row<W, 2, false>(a, rows, target, scale, stores) : row<W, 3, false>(a, rows, target, scale, stores);
    a.taps == 2 ? row<W, 2, true>(a, rows, target, scale, stores) : row<W, 3, true>(a, rows, target, scale, stores);
  }
  static void planes(const PairsArgs& a) {
    Final last;
    last.divisor = a.divisor;
    const Scale scale(last);
    for_staged_rows<T>(a, [&](const T* source, int64_t, int64_t r, T* results, Stores stores) {
      Rows rows;
      rows.count = a.first[r + 1] - a.first[r], rows.ahead = a.ahead;
      for (int64_t n = 0; n < rows.count; ++n) rows.of[n] = source + a.rows[a.first[r] + n];
      if (rows.count == 0) {  // no window reads this one
        std::fill_n(results, a.width, T{});
      } else {
        row_of<N>(a, rows, results, scale, stores);
      }
    });
  }
};
