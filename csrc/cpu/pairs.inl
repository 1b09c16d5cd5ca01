// Windows of two or three elements along rows that move by two, in channels-first: rows are reduced into one, a pair of vectors of them
// at a time, whose even and odd elements are then the taps. One pass, in registers. Included inside a target region, after reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

// row(plane of the source, number of the row's first result, row, where its results go, how they are stored) for rows [begin, end) of all
// planes.
template <class T, class Row>
TP_INLINE void for_staged_rows(const PairsArgs& a, Row row) {
  Together<T> together(a.together, a.stores, whole_lines<T>(a.width));
  for (int64_t p = 0; p < a.planes; ++p) {
    const T* const source = static_cast<const T*>(a.source) + p * a.source_plane;
    for (int64_t r = a.begin; r < a.end; ++r) {
      const int64_t first = p * a.target_plane + r * a.width;
      row(source, first, r, together.place(static_cast<T*>(a.target) + first, a.width), together.stores);
    }
    together.leave();  // where planes end lines more often do than where the staging is full
  }
}

template <class R, bool Keyed, bool Coded, class T, class Lane>
struct Pairs {
  using Kernel = Reduce<R, Keyed, Coded, T, Lane, true>;
  using Scale = typename Kernel::Scale;
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;
  static constexpr int least = 4;  // lanes
  static constexpr bool words = !R::is_max && has_words<Keyed, T, Lane>;

  struct Rows {
    const T* of[most_pair_rows];
    int64_t number[most_pair_rows];  // of the first tap
    int64_t count;
    bool ahead;

    template <int W>
    TP_INLINE Vec<Lane, W> load(int64_t row, int64_t at) const {  // the rows but the last two were read for the row of results before
      return Kernel::template load<W>(of[row] + at, ahead && row + 2 >= count);
    }
    // Elements for load_words.
    TP_INLINE const T* words(int64_t row, int64_t at) const {
      if (ahead && row + 2 >= count) prefetch_beyond(of[row] + at);
      return of[row] + at;
    }
  };
  template <int W>
  struct Pair {
    Vec<Lane, W> even, odd;
  };

  template <int W>
  TP_INLINE static Vec<Lane, W> identity() {
    return broadcast<Lane, W>(R::template init<Lane>());
  }
  // Lanes 1 and up of v, and behind them a lane of next: the first, or the last.
  template <int W, int From>
  TP_INLINE static Vec<Lane, W> shifted(Vec<Lane, W> v, Vec<Lane, W> next) {
    return [&]<int... I>(std::integer_sequence<int, I...>) {
      return TP_SHUFFLE(Lane, W, v, next, (I == W - 1 ? W + From : I + 1)...);
    }(std::make_integer_sequence<int, W>{});
  }
  // The last lane of `before`, and the lanes of v but for the last.
  template <int W>
  TP_INLINE static Vec<Lane, W> behind(Vec<Lane, W> before, Vec<Lane, W> v) {
    return [&]<int... I>(std::integer_sequence<int, I...>) {
      return TP_SHUFFLE(Lane, W, before, v, (W - 1 + I)...);
    }(std::make_integer_sequence<int, W>{});
  }
  template <int W>
  TP_INLINE static Pair<W> split(Vec<Lane, W> low, Vec<Lane, W> high) {
    return [&]<int... I>(std::integer_sequence<int, I...>) {
      return Pair<W>{TP_SHUFFLE(Lane, W, low, high, (2 * I)...), TP_SHUFFLE(Lane, W, low, high, (2 * I + 1)...)};
    }(std::make_integer_sequence<int, W>{});
  }
  // Elements [at, at + 2 W) of all rows. Begins: at is -1.
  template <int W, bool Begins>
  TP_INLINE static Pair<W> pair(const Rows& rows, int64_t at) {
    if constexpr (words && !Begins) {
      Pair<W> all, row;
      load_words<W>(rows.words(0, at), all.even, all.odd);
      for (int64_t r = 1; r < rows.count; ++r) {
        load_words<W>(rows.words(r, at), row.even, row.odd);
        all.even = R::step(all.even, row.even), all.odd = R::step(all.odd, row.odd);
      }
      return all;
    }
    auto low_of = [&](int64_t r) __attribute__((always_inline)) {
      if constexpr (Begins) return behind<W>(identity<W>(), rows.template load<W>(r, at + 1));
      return rows.template load<W>(r, at);
    };
    auto low = low_of(0), high = rows.template load<W>(0, at + W);
    for (int64_t r = 1; r < rows.count; ++r) {
      low = R::step(low, low_of(r));
      high = R::step(high, rows.template load<W>(r, at + W));
    }
    return split<W>(low, high);
  }
  template <int W>
  TP_INLINE static Pair<W> pair_of(const Rows& rows, int64_t at) {
    return at < 0 ? pair<W, true>(rows, at) : pair<W, false>(rows, at);
  }
  // Element `at` of all rows, in the last lane: no step is a branch, which would have to wait for memory.
  template <int W>
  TP_INLINE static Vec<Lane, W> ending(const PairsArgs& a, const Rows& rows, int64_t at) {
    if (at >= a.length) return identity<W>();
    auto value = rows.template load<W>(0, at - (W - 1));
    for (int64_t r = 1; r < rows.count; ++r) value = R::step(value, rows.template load<W>(r, at - (W - 1)));
    return value;
  }
  // Results from `at` on, whatever lies beside them.
  template <int W, int Taps>
  TP_INLINE static Vec<Lane, W> apart(const PairsArgs& a, const Rows& rows, int64_t at) {
    const auto here = pair_of<W>(rows, 2 * at - a.skip);
    const auto value = R::step(here.even, here.odd);
    return Taps == 2 ? value : R::step(value, shifted<W, W - 1>(here.even, ending<W>(a, rows, 2 * (at + W) - a.skip)));
  }
  // A row of results. Vectors in turn share the element between them; the last one may overlap its neighbour. Pairs begin at even
  // elements, which is where lines of memory do.
  template <int W, int Taps, bool Skips>
  TP_INLINE static void row(const PairsArgs& a, const Rows& rows, T* target, const Scale& scale, Stores stores) {
    auto put = [&](int64_t at, auto value) __attribute__((always_inline)) {
      store_lanes<Keyed, T, Lane, W>(target + at, scale(value), stores);
    };
    int64_t at = 0;
    if constexpr (Skips) {
      auto before = identity<W>();
      for (; at + W <= a.width && 2 * (at + W) <= a.length; at += W) {
        const auto here = pair<W, false>(rows, 2 * at);
        const auto value = R::step(behind<W>(before, here.odd), here.even);
        put(at, Taps == 2 ? value : R::step(value, here.odd));
        before = here.odd;
      }
    } else if constexpr (Taps == 2) {
      for (; at + W <= a.width; at += W) {
        const auto here = pair<W, false>(rows, 2 * at);
        put(at, R::step(here.even, here.odd));
      }
    } else {
      auto here = pair<W, false>(rows, 0);
      for (; at + 2 * W <= a.width; at += W) {
        const auto after = pair<W, false>(rows, 2 * (at + W));
        put(at, R::step(R::step(here.even, here.odd), shifted<W, 0>(here.even, after.even)));
        here = after;
      }
    }
    for (; at < a.width; at += W) {
      at = std::min(at, a.width - W);
      put(at, apart<W, Taps>(a, rows, at));
    }
  }
  template <int W>
  TP_INLINE static Vec<Code, W> numbers(int64_t all, int64_t first, int64_t last) {
    return [&]<int... I>(std::integer_sequence<int, I...>) {
      return Vec<Code, W>{static_cast<Code>(I == 0 ? first : I == W - 1 ? last : all)...};
    }(std::make_integer_sequence<int, W>{});
  }
  // With positions: taps in scan order. A tap beyond an end of the row is a second look at the one beside it, number and all.
  template <int W, int Taps>
  TP_INLINE static void coded_row(const PairsArgs& a, const Rows& rows, T* target, uint8_t* codes, Stores stores) {
    for (int64_t at = 0; at < a.width; at += W) {
      at = std::min(at, a.width - W);
      const int64_t from = 2 * at - a.skip, next = from + 2 * W;
      const bool ends = next >= a.length;
      Vec<Lane, W> value{};
      Vec<Code, W> code{};
      for (int64_t r = 0; r < rows.count; ++r) {
        const auto number = broadcast<Code, W>(static_cast<Code>(rows.number[r]));
        auto low = rows.template load<W>(r, std::max<int64_t>(from, 0));
        if (from < 0) low = behind<W>(broadcast<Lane, W>(low[0]), low);
        const auto x = split<W>(low, rows.template load<W>(r, from + W));
        const Vec<Code, W> first = number + numbers<W>(0, from < 0, 0), second = number + numbers<W>(1, 1, 1);
        if (r == 0) {
          value = x.even, code = first;
        } else {
          Kernel::template take<W>(value, code, x.even, first);
        }
        Kernel::template take<W>(value, code, x.odd, second);
        if constexpr (Taps == 3) {
          const auto third = shifted<W, W - 1>(x.even, ends ? x.odd : rows.template load<W>(r, next - (W - 1)));
          Kernel::template take<W>(value, code, third, Vec<Code, W>(number + numbers<W>(2, 2, ends ? 1 : 2)));
        }
      }
      store_lanes<Keyed, T, Lane, W>(target + at, value, stores);
      expect_stores(codes + at, stores);
      store_narrowed<Code, uint8_t, W>(codes + at, code);
    }
  }
  template <int W>
  TP_INLINE static void row_of(const PairsArgs& a, const Rows& rows, T* target, uint8_t* codes, const Scale& scale, Stores stores) {
    if constexpr (W > least) {
      if (a.width < W) return row_of<W / 2>(a, rows, target, codes, scale, stores);
    }
    if constexpr (Coded) return a.taps == 2 ? coded_row<W, 2>(a, rows, target, codes, stores) : coded_row<W, 3>(a, rows, target, codes, stores);
    if (a.skip == 0) return a.taps == 2 ? row<W, 2, false>(a, rows, target, scale, stores) : row<W, 3, false>(a, rows, target, scale, stores);
    a.taps == 2 ? row<W, 2, true>(a, rows, target, scale, stores) : row<W, 3, true>(a, rows, target, scale, stores);
  }
  static void planes(const PairsArgs& a) {
    Final last;
    last.divisor = a.divisor;
    const Scale scale(last);
    for_staged_rows<T>(a, [&](const T* source, int64_t first, int64_t r, T* results, Stores stores) {
      Rows rows;
      rows.count = a.first[r + 1] - a.first[r], rows.ahead = a.ahead;
      for (int64_t n = 0; n < rows.count; ++n) {
        rows.of[n] = source + a.rows[a.first[r] + n];
        if constexpr (Coded) rows.number[n] = a.numbers[a.first[r] + n];
      }
      row_of<N>(a, rows, results, Coded ? a.codes + first : nullptr, scale, stores);
    });
  }
};
