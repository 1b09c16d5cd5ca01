// Windows of three by three that move by one, in channels-first: a vector of a row at a time, down the rows, each row reduced across
// once and kept for the three outputs that read it. Sums, maxima, or both from one look. Included inside a target region, after
// reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, class Lane, bool Keyed, bool Sums, bool Maxima, bool Coded>
struct Near {
  using R = std::conditional_t<Keyed, MaxKeyOf<T>, Max>;
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

  // Where W elements lie in a row. A neighbour that is not there is a second look at the element itself, which changes no maximum, and
  // nothing to a sum.
  template <int W>
  struct Place {
    bool at_begin, at_end;      // of the row
    Vec<Code, W> begins, ends;  // masks of the lanes without a neighbour
  };
  // Three neighbours of each of W elements. Inner: the row neither begins nor ends there.
  template <int W, bool Inner>
  TP_INLINE static State<W> across(const T* p, const Place<W>& place, bool ahead) {
    const auto mid = Kernel::template load<W>(p, ahead);
    const auto left = !Inner && place.at_begin ? from_left<W>(mid) : load_lanes<Keyed, T, Lane, W>(p - 1);
    const auto right = !Inner && place.at_end ? from_right<W>(mid) : load_lanes<Keyed, T, Lane, W>(p + 1);
    State<W> s{};
    if constexpr (Sums) {
      const Vec<Lane, W> none{};
      const Vec<Lane, W> before = Inner ? left : select(place.begins, none, left);
      const Vec<Lane, W> after = Inner ? right : select(place.ends, none, right);
      s.sum = before + mid + after;
    }
    if constexpr (Maxima) {
      s.max = left;
      if constexpr (Coded && !Inner) s.code = place.begins & number<W>(1);
      Kernel::template take<W>(s.max, s.code, mid, number<W>(1));
      Kernel::template take<W>(s.max, s.code, right, Inner ? number<W>(2) : Vec<Code, W>(number<W>(2) + place.ends));
    }
    return s;
  }
  // The taps of a row, numbered from `first`, come to what was found above.
  template <int W>
  TP_INLINE static void down(State<W>& s, const State<W>& x, int64_t first) {
    if constexpr (Sums) s.sum = s.sum + x.sum;
    if constexpr (Maxima) Kernel::template take<W>(s.max, s.code, x.max, Coded ? Vec<Code, W>(x.code + number<W>(first)) : x.code);
  }

  // Elements [at, at + W) of the rows of a plane.
  template <int W, bool Inner>
  TP_INLINE static void column(const NearArgs& a, int64_t plane, int64_t at, const Scale& scale) {
    const T* const source = static_cast<const T*>(a.source) + plane * a.source_plane + at;
    int64_t target = plane * a.target_plane + a.begin * a.length + at;
    Place<W> place{at == 0, at + W == a.length, {}, {}};
    if constexpr (!Inner) {
      if (place.at_begin) place.begins = only<W>(0);
      if (place.at_end) place.ends = only<W>(W - 1);
    }
    auto row = [&](int64_t r) __attribute__((always_inline)) { return across<W, Inner>(source + r * a.length, place, a.ahead); };
    State<W> above{}, here = row(a.begin), below{};
    if (a.begin > 0) above = row(a.begin - 1);
    for (int64_t o = a.begin; o < a.end; ++o, target += a.length) {
      State<W> s = above;
      if (o > 0) {
        down<W>(s, here, 3);
      } else {
        s = here;
        if constexpr (Coded) s.code = s.code + number<W>(3);
      }
      if (o + 1 < a.rows) {
        below = row(o + 1);
        down<W>(s, below, 6);
      }
      if constexpr (Sums) store_lanes<false, T, Lane, W>(static_cast<T*>(a.sums) + target, scale(s.sum), a.stores);
      if constexpr (Maxima) store_lanes<Keyed, T, Lane, W>(static_cast<T*>(a.maxima) + target, s.max, a.stores);
      if constexpr (Coded) {
        expect_stores(static_cast<uint8_t*>(a.codes) + target, a.stores);
        store_narrowed<Code, uint8_t, W>(static_cast<uint8_t*>(a.codes) + target, s.code);
      }
      above = here, here = below;
    }
  }
  template <int W>
  TP_INLINE static void plane(const NearArgs& a, int64_t p, const Scale& scale) {
    if constexpr (W > 1) {
      if (a.length < W) return plane<(W > 4 ? W / 2 : 1)>(a, p, scale);
    }
    for (int64_t at = 0, next = 0; at < a.length; at = next) {
      next = at + W == a.length ? a.length : std::min(at + W, a.length - W);
      at > 0 && next < a.length ? column<W, true>(a, p, at, scale) : column<W, false>(a, p, at, scale);
    }
  }
  static void planes(const NearArgs& a) {
    Final last;
    last.divisor = a.divisor;
    const Scale scale(last);
    for (int64_t p = 0; p < a.planes; ++p) plane<N>(a, p, scale);
  }
};
