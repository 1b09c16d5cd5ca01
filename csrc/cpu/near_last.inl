// The same windows in channels-last: lanes along the channels. Without codes each column of three rows is reduced once, along a row of
// pixels, and kept for the three outputs that read it. With them, taps come in scan order, which decides ties: of some pixels side by
// side each row's three taps are reduced once, down the rows. Included inside a target region, after near.inl.
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
  static constexpr int side_by_side = 4;  // pixels

  struct Row {  // of a plane, and its neighbours
    const T* source;
    int64_t up, down;  // distances; 0: there is none
    int64_t pixel;     // number of the first
    bool ahead;        // whether the row after the next is fetched early
  };

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
  TP_INLINE static Column<W, U> loaded(const T* p, bool ahead) {
    Vec<Lane, W> x[U];
    load_block<Keyed, T, Lane, W, U>(p, x, ahead);
    Column<W, U> v;
    for (int u = 0; u < U; ++u) v.of[u].sum = v.of[u].max = x[u];
    return v;
  }
  template <int W, int U>
  TP_INLINE static void join(Column<W, U>& v, const Column<W, U>& x) {
    for (int u = 0; u < U; ++u) {
      if constexpr (Sums) v.of[u].sum = v.of[u].sum + x.of[u].sum;
      if constexpr (Maxima) v.of[u].max = Planes::R::step(v.of[u].max, x.of[u].max);
    }
  }
  template <int W, int U>
  TP_INLINE static Column<W, U> column(const T* p, const Row& row) {
    const int64_t up = row.up, down = row.down;
    auto v = loaded<W, U>(p, false);
    if (up != 0) join<W, U>(v, loaded<W, U>(p + up, false));
    if (down != 0) join<W, U>(v, loaded<W, U>(p + down, row.ahead));
    return v;
  }
  template <int W, int U>
  TP_INLINE static void put_column(const NearArgs& a, int64_t target, const Column<W, U>& v, const Scale& scale) {
    Vec<Lane, W> x[U];
    if constexpr (Sums) {
      for (int u = 0; u < U; ++u) x[u] = scale(v.of[u].sum);
      store_block<false, T, Lane, W, U>(static_cast<T*>(a.sums) + target, x, a.stores);
    }
    if constexpr (Maxima) {
      for (int u = 0; u < U; ++u) x[u] = v.of[u].max;
      store_block<Keyed, T, Lane, W, U>(static_cast<T*>(a.maxima) + target, x, a.stores);
    }
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
        if (x > 0) join<W, U>(out, left);
        if (x + 1 < a.length) join<W, U>(out, right);
        put_column<W, U>(a, (pixel + x) * a.target_pixel + c, out, scale);
      }
      left = here, here = right;
    }
  }

  // Three pixels around each of X of a row, side by side. Inner: the row neither begins nor ends there.
  template <int W, int X, bool Inner>
  TP_INLINE static void across(State<W> (&s)[X], const T* p, int64_t step, bool begins, bool ends, bool ahead) {
    Vec<Lane, W> left{}, here = load_lanes<Keyed, T, Lane, W>(p);
    if (Inner || !begins) left = load_lanes<Keyed, T, Lane, W>(p - step);
    for (int i = 0; i < X; ++i, p += step) {
      const bool first = !Inner && i == 0 && begins, last = !Inner && i == X - 1 && ends;
      Vec<Lane, W> right{};
      if (!last) right = Kernel::template load<W>(p + step, ahead);
      if constexpr (Sums) s[i].sum = left + here + right;
      if constexpr (Maxima) {
        s[i].max = first ? here : left;
        s[i].code = broadcast<Code, W>(static_cast<Code>(first));
        if (!first) Kernel::template take<W>(s[i].max, s[i].code, here, broadcast<Code, W>(1));
        if (!last) Kernel::template take<W>(s[i].max, s[i].code, right, broadcast<Code, W>(2));
      }
      left = here, here = right;
    }
  }
  // A row's taps come to what was found above.
  template <int W>
  TP_INLINE static void down(State<W>& s, const State<W>& x, Code first) {
    if constexpr (Sums) s.sum = s.sum + x.sum;
    if constexpr (Maxima) Kernel::template take<W>(s.max, s.code, x.max, x.code + broadcast<Code, W>(first));
  }
  // Channels [c, c + W) of X pixels from x on, in all rows of a plane that are asked for.
  template <int W, int X, bool Inner>
  TP_INLINE static void by_rows(const NearArgs& a, int64_t plane, int64_t x, int64_t c, const Scale& scale) {
    const int64_t step = a.channels;
    const T* const source = static_cast<const T*>(a.source) + plane * a.source_plane + x * step + c;
    const bool begins = x == 0, ends = x + X == a.length;
    auto row = [&](State<W> (&s)[X], int64_t r) __attribute__((always_inline)) {
      across<W, X, Inner>(s, source + r * a.length * step, step, begins, ends, a.ahead);
    };
    State<W> above[X] = {}, here[X], below[X] = {};
    if (a.begin > 0) row(above, a.begin - 1);
    row(here, a.begin);
    int64_t pixel = plane * a.target_plane + a.begin * a.length + x;
    for (int64_t r = a.begin; r < a.end; ++r, pixel += a.length) {
      const bool more = r + 1 < a.rows;
      if (more) row(below, r + 1);
      for (int i = 0; i < X; ++i) {
        State<W> s = above[i];
        if (r > 0) {
          down<W>(s, here[i], 3);
        } else {
          s = here[i];
          s.code = s.code + broadcast<Code, W>(3);
        }
        if (more) down<W>(s, below[i], 6);
        put<W>(a, pixel + i, c, s, scale);
        above[i] = here[i], here[i] = below[i];
      }
    }
  }
  template <int W>
  TP_INLINE static void strip(const NearArgs& a, int64_t plane, int64_t c, int64_t x, const Scale& scale) {
    constexpr int X = side_by_side;
    if (a.length < X) return by_rows<W, 1, false>(a, plane, x, c, scale);
    x > 0 && x + X < a.length ? by_rows<W, X, true>(a, plane, x, c, scale) : by_rows<W, X, false>(a, plane, x, c, scale);
  }
  TP_INLINE static void plane_by_rows(const NearArgs& a, int64_t plane, const Scale& scale) {
    const int64_t step = a.length < side_by_side ? 1 : side_by_side;
    for (int64_t x = 0; x < a.length; x += step) {
      const int64_t from = std::min(x, a.length - step);
      if (a.channels < N) {
        for_lanes<Lane>(a.channels, [&](auto width, int64_t i) { strip<decltype(width)::value>(a, plane, i, from, scale); });
        continue;
      }
      for (int64_t c = 0; c < a.channels; c += N) strip<N>(a, plane, std::min(c, a.channels - N), from, scale);
    }
  }

  static void plane_by_columns(const NearArgs& a, int64_t plane, const Scale& scale) {
    constexpr int U = 4;
    const int64_t line = a.length * a.channels;
    for (int64_t r = a.begin; r < a.end; ++r) {
      const Row row{static_cast<const T*>(a.source) + plane * a.source_plane + r * line, r > 0 ? -line : 0, r + 1 < a.rows ? line : 0,
                    plane * a.target_plane + r * a.length, a.ahead};
      int64_t c = 0;
      for (; c + U * N <= a.channels; c += U * N) by_columns<N, U>(a, row, c, scale);
      if (a.channels < N) {
        for_lanes<Lane>(a.channels, [&](auto width, int64_t i) { by_columns<decltype(width)::value, 1>(a, row, i, scale); });
        continue;
      }
      for (; c < a.channels; c += N) by_columns<N, 1>(a, row, std::min(c, a.channels - N), scale);
    }
  }
  static void planes(const NearArgs& a) {
    Final last;
    last.divisor = a.divisor;
    const Scale scale(last);
    for (int64_t p = 0; p < a.planes; ++p) {
      if constexpr (Coded) {
        plane_by_rows(a, p, scale);
      } else {
        plane_by_columns(a, p, scale);
      }
    }
  }
};
