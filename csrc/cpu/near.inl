// Windows of three by three that move by one, in channels-first: a vector of a row at a time, down the rows, each row reduced across
// once and kept for the three outputs that read it. Sums, maxima, or both from one look. Included inside a target region, after
// reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, class Lane, bool Keyed, bool Sums, bool Maxima, bool Coded>
struct Near {
  using R = std::conditional_t<Keyed, MaxKey, Max>;
  using Kernel = Reduce<R, Keyed, Coded, T, Lane, true>;
  using Scale = typename Reduce<Sum, false, false, T, Lane, true>::Scale;
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;

  template <int W>
  struct State {
    Vec<Lane, W> sum, max;
    Vec<Code, W> code;
  };

  template <int W>
  TP_INLINE static Vec<Code, W> number(int64_t value) {
    return broadcast<Code, W>(static_cast<Code>(value));
  }
  // v moved by one lane; the lane that is left over keeps its own element.
  template <int W, class V>
  TP_INLINE static V from_left(V v) {
    if constexpr (W == 1) {
      return v;
    } else {
      return [&]<int... I>(std::integer_sequence<int, I...>) {
        return TP_SHUFFLE(Lane, W, v, v, (I == 0 ? 0 : I - 1)...);
      }(std::make_integer_sequence<int, W>{});
    }
  }
  template <int W, class V>
  TP_INLINE static V from_right(V v) {
    if constexpr (W == 1) {
      return v;
    } else {
      return [&]<int... I>(std::integer_sequence<int, I...>) {
        return TP_SHUFFLE(Lane, W, v, v, (I == W - 1 ? I : I + 1)...);
      }(std::make_integer_sequence<int, W>{});
    }
  }
  template <int W>
  TP_INLINE static Vec<Code, W> only(int lane) {  // a mask
    return [&]<int... I>(std::integer_sequence<int, I...>) {
      return Vec<Code, W>{static_cast<Code>(I == lane ? -1 : 0)...};
    }(std::make_integer_sequence<int, W>{});
  }

  // Three neighbours of each of W elements of a row. First, Last: it begins or ends there. A neighbour that is not there is a second look
  // at the element itself, which changes no maximum, and nothing to a sum.
  template <int W, bool First, bool Last>
  TP_INLINE static State<W> across(const T* p) {
    const auto mid = Kernel::template load<W>(p);
    const auto left = First ? from_left<W>(mid) : load_lanes<Keyed, T, Lane, W>(p - 1);
    const auto right = Last ? from_right<W>(mid) : load_lanes<Keyed, T, Lane, W>(p + 1);
    State<W> s{};
    if constexpr (Sums) {
      const Vec<Lane, W> none{};
      const Vec<Lane, W> before = First ? select(only<W>(0), none, left) : left;
      const Vec<Lane, W> after = Last ? select(only<W>(W - 1), none, right) : right;
      s.sum = before + mid + after;
    }
    if constexpr (Maxima) {
      s.max = left;
      if constexpr (Coded) s.code = First ? Vec<Code, W>(only<W>(0) & number<W>(1)) : Vec<Code, W>{};
      Kernel::template take<W>(s.max, s.code, mid, number<W>(1));
      Kernel::template take<W>(s.max, s.code, right, Last ? Vec<Code, W>(number<W>(2) + only<W>(W - 1)) : number<W>(2));
    }
    return s;
  }
  // The taps of a row, numbered from `first`, come to what was found above.
  template <int W>
  TP_INLINE static void down(State<W>& s, const State<W>& x, int64_t first) {
    if constexpr (Sums) s.sum = s.sum + x.sum;
    if constexpr (Maxima) Kernel::template take<W>(s.max, s.code, x.max, Coded ? Vec<Code, W>(x.code + number<W>(first)) : x.code);
  }

  template <int W, bool First, bool Last>
  TP_INLINE static void column(const NearArgs& a, int64_t plane, int64_t at, const Scale& scale) {
    const T* const source = static_cast<const T*>(a.source) + plane * a.source_plane + at;
    int64_t target = plane * a.target_plane + a.begin * a.length + at;
    auto row = [&](int64_t r) __attribute__((always_inline)) { return across<W, First, Last>(source + r * a.length); };
    auto put = [&](const State<W>& s) __attribute__((always_inline)) {
      if constexpr (Sums) store_lanes<false, T, Lane, W>(static_cast<T*>(a.sums) + target, scale(s.sum), a.past);
      if constexpr (Maxima) store_lanes<Keyed, T, Lane, W>(static_cast<T*>(a.maxima) + target, s.max, a.past);
      if constexpr (Coded) store_narrowed<Code, uint8_t, W>(static_cast<uint8_t*>(a.codes) + target, s.code);
      target += a.length;
    };
    int64_t o = a.begin;
    State<W> above{}, here = row(o);
    if (o == 0) {  // no row above
      State<W> s = here;
      if constexpr (Coded) s.code = s.code + number<W>(3);
      above = here;
      if (a.rows > 1) {
        here = row(1);
        down<W>(s, here, 6);
      }
      put(s);
      ++o;
    } else {
      above = row(o - 1);
    }
    const int64_t whole = std::min(a.end, a.rows - 1);
    for (; o < whole; ++o) {
      const State<W> below = row(o + 1);
      State<W> s = above;
      down<W>(s, here, 3);
      down<W>(s, below, 6);
      put(s);
      above = here, here = below;
    }
    if (o < a.end) {  // no row below
      State<W> s = above;
      down<W>(s, here, 3);
      put(s);
    }
  }
  template <int W>
  TP_INLINE static void plane(const NearArgs& a, int64_t p, const Scale& scale) {
    if constexpr (W > 1) {
      if (a.length < W) return plane<(W > 4 && 4 * W > N ? W / 2 : 1)>(a, p, scale);
    }
    if (a.length == W) return column<W, true, true>(a, p, 0, scale);
    column<W, true, false>(a, p, 0, scale);
    int64_t at = W;
    for (; at + W < a.length; at += W) column<W, false, false>(a, p, at, scale);
    column<W, false, true>(a, p, a.length - W, scale);
  }
  static void planes(const NearArgs& a) {
    Final last;
    last.divisor = a.divisor;
    const Scale scale(last);
    for (int64_t p = 0; p < a.planes; ++p) plane<N>(a, p, scale);
  }
};
