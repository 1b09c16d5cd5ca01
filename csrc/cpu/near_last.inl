// The same windows in channels-last: lanes along the channels. Without codes each column of three rows is reduced once, along a row of
// pixels, and kept for the three outputs that read it; with them taps come in scan order, which decides ties. Included inside a target
// region, after near.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, class Lane, bool Keyed, bool Sums, bool Maxima, bool Coded>
struct NearLast {
  using Planes = Near<T, Lane, Keyed, Sums, Maxima, Coded>;
  using Kernel = typename Planes::Kernel;
  using Scale = typename Planes::Scale;
  using Code = CodeOf<Lane>;
  template <int W>
  using State = typename Planes::template State<W>;
  static constexpr int N = full_lanes<Lane>;

  struct Row {  // of a plane, and its neighbours
    const T* source;
    int64_t up, down;  // distances; 0: there is none
    int64_t pixel;     // number of the first
    bool ahead;        // whether the row after the next is fetched early
  };

  template <int W>
  TP_INLINE static void look(State<W>& s, const T* p, int64_t number, bool ahead) {
    const Vec<Lane, W> x = Kernel::template load<W>(p, ahead);
    if constexpr (Sums) s.sum = s.sum + x;
    if constexpr (Maxima) Kernel::template take<W>(s.max, s.code, x, broadcast<Code, W>(static_cast<Code>(number)));
  }
  template <int W>
  TP_INLINE static State<W> first_of(const T* p, int64_t number) {
    const Vec<Lane, W> x = load_lanes<Keyed, T, Lane, W>(p);
    return {x, x, broadcast<Code, W>(static_cast<Code>(number))};
  }
  template <int W>
  TP_INLINE static void join(State<W>& s, const State<W>& x) {
    if constexpr (Sums) s.sum = s.sum + x.sum;
    if constexpr (Maxima) Kernel::template take<W>(s.max, s.code, x.max, x.code);
  }
  template <int W>
  TP_INLINE static void put(const NearArgs& a, int64_t pixel, int64_t c, const State<W>& s, const Scale& scale) {
    const int64_t target = pixel * a.target_pixel + c;
    if constexpr (Sums) store_lanes<false, T, Lane, W>(static_cast<T*>(a.sums) + target, scale(s.sum), a.stores);
    if constexpr (Maxima) store_lanes<Keyed, T, Lane, W>(static_cast<T*>(a.maxima) + target, s.max, a.stores);
    if constexpr (Coded) {
      expect_stores(static_cast<uint8_t*>(a.codes) + pixel * a.channels + c, a.stores);
      store_narrowed<Code, uint8_t, W>(static_cast<uint8_t*>(a.codes) + pixel * a.channels + c, s.code);
    }
  }

  template <int W, int U>
  struct Column {
    State<W> of[U];
  };
  template <int W, int U>
  TP_INLINE static Column<W, U> column(const T* p, const Row& row) {
    const int64_t up = row.up, down = row.down;
    Column<W, U> v;
    for (int u = 0; u < U; ++u) v.of[u] = first_of<W>(p + u * W, 0);
    if (up != 0) {
      for (int u = 0; u < U; ++u) look<W>(v.of[u], p + up + u * W, 0, false);
    }
    if (down != 0) {
      for (int u = 0; u < U; ++u) look<W>(v.of[u], p + down + u * W, 0, row.ahead);
    }
    return v;
  }
  // Channels [c, c + W * U) of a row.
  template <int W, int U>
  TP_INLINE static void by_columns(const NearArgs& a, const Row& row, int64_t c, const Scale& scale) {
    const T* p = row.source + c;
    const int64_t step = a.channels, pixel = row.pixel;
    Column<W, U> left{}, here{};
    for (int64_t x = -1; x < a.length; ++x) {  // one column ahead
      Column<W, U> right{};
      if (x + 1 < a.length) right = column<W, U>(p + (x + 1) * step, row);
      if (x >= 0) {
        Column<W, U> out = here;
        if (x > 0) {
          for (int u = 0; u < U; ++u) join<W>(out.of[u], left.of[u]);
        }
        if (x + 1 < a.length) {
          for (int u = 0; u < U; ++u) join<W>(out.of[u], right.of[u]);
        }
        for (int u = 0; u < U; ++u) put<W>(a, pixel + x, c + u * W, out.of[u], scale);
      }
      left = here, here = right;
    }
  }
  template <int W, int U>
  TP_INLINE static void by_taps(const NearArgs& a, const Row& row, int64_t c, const Scale& scale) {
    for (int64_t x = 0; x < a.length; ++x) {
      const int64_t from = x > 0 ? -1 : 0, to = x + 1 < a.length ? 1 : 0;
      const T* const p = row.source + x * a.channels + c;
      State<W> s[U];
      bool any = false;
      for (int64_t y = row.up != 0 ? -1 : 0; y <= (row.down != 0 ? 1 : 0); ++y) {
        const T* const taps = p + (y < 0 ? row.up : y * row.down);
        for (int64_t t = from; t <= to; ++t) {
          const int64_t number = 3 * (y + 1) + 1 + t;
          for (int u = 0; u < U; ++u) {
            const T* const at = taps + t * a.channels + u * W;
            if (!any) {
              s[u] = first_of<W>(at, number);
            } else {
              look<W>(s[u], at, number, y > 0 && row.ahead);
            }
          }
          any = true;
        }
      }
      for (int u = 0; u < U; ++u) put<W>(a, row.pixel + x, c + u * W, s[u], scale);
    }
  }
  template <int W, int U>
  TP_INLINE static void some(const NearArgs& a, const Row& row, int64_t c, const Scale& scale) {
    if constexpr (Coded) {
      by_taps<W, U>(a, row, c, scale);
    } else {
      by_columns<W, U>(a, row, c, scale);
    }
  }

  static void planes(const NearArgs& a) {
    Final last;
    last.divisor = a.divisor;
    const Scale scale(last);
    constexpr int U = 4;
    const int64_t line = a.length * a.channels;
    for (int64_t p = 0; p < a.planes; ++p) {
      for (int64_t r = a.begin; r < a.end; ++r) {
        const Row row{static_cast<const T*>(a.source) + p * a.source_plane + r * line, r > 0 ? -line : 0, r + 1 < a.rows ? line : 0,
                      p * a.target_plane + r * a.length, a.ahead};
        int64_t c = 0;
        for (; c + U * N <= a.channels; c += U * N) some<N, U>(a, row, c, scale);
        if (a.channels < N) {
          for_lanes<Lane>(a.channels, [&](auto width, int64_t i) { some<decltype(width)::value, 1>(a, row, i, scale); });
          continue;
        }
        for (; c < a.channels; c += N) some<N, 1>(a, row, std::min(c, a.channels - N), scale);
      }
    }
  }
};
