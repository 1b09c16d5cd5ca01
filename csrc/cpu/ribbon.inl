// Maxima whose windows move by one, in channels-first: the rows of a plane, and what padding there is between them, lie one behind the
// other in the first level of cache, as one long row of lanes, so that short rows fill vectors, too. Each axis is reduced in place, a long
// window as two halves of itself that overlap: values down first, then across, as in passes, so that zeros have the same sign; with positions
// across first, in scan order. Included inside a target region, after reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class R, bool Keyed, bool Coded, class T, class Lane>
struct Ribbon {
  using Kernel = Reduce<R, Keyed, Coded, T, Lane, true>;
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;

  struct Lines {
    Lane* values;
    Code* codes;
  };

  // Element i becomes the maximum of elements i + t * distance, t below M. Fresh: a code is the number of the tap; else, as of the first of
  // two halves, and `scale` times t more.
  template <int M, bool Fresh>
  static void pass(const Lines& lines, int64_t count, int64_t distance, int64_t scale) {
    for (int64_t i = 0; i < count; i += N) {
      const Lane* s = lines.values + i;
      auto best = load_as<Vec<Lane, N>>(s);
      Vec<Code, N> code{};
      if constexpr (Coded && !Fresh) code = load_as<Vec<Code, N>>(lines.codes + i);
      for (int t = 1; t < M; ++t) {
        auto number = broadcast<Code, N>(static_cast<Code>(t * scale));
        if constexpr (Coded && !Fresh) number = wrapping_sum(number, load_as<Vec<Code, N>>(lines.codes + i + t * distance));
        Kernel::template take<N>(best, code, load_as<Vec<Lane, N>>(s + t * distance), number);
      }
      store_as(lines.values + i, best);
      if constexpr (Coded) store_as(lines.codes + i, code);
    }
  }
  template <bool Fresh>
  static void reduce(const Lines& lines, int64_t count, int64_t distance, int64_t scale, int64_t taps) {
    switch (taps) {
      case 1:
        if constexpr (Coded && Fresh) pass<1, Fresh>(lines, count, distance, scale);
        return;
      case 2: return pass<2, Fresh>(lines, count, distance, scale);
      case 3: return pass<3, Fresh>(lines, count, distance, scale);
      case 4: return pass<4, Fresh>(lines, count, distance, scale);
      case 5: return pass<5, Fresh>(lines, count, distance, scale);
      case 6: return pass<6, Fresh>(lines, count, distance, scale);
      case 7: return pass<7, Fresh>(lines, count, distance, scale);
      default: break;
    }
    const int64_t half = (taps + 1) / 2, other = taps - half;  // which overlap by one element where taps are odd
    reduce<Fresh>(lines, count + other * distance, distance, scale, half);
    pass<2, false>(lines, count, other * distance, other * scale);
  }

  static constexpr bool as_low = Keyed || std::is_same_v<T, Lane>;  // elements may be what padding is
  TP_INLINE static bool any_lowest(const Lane* values, int64_t count) {
    Vec<Lane, N> least{};
    int64_t i = 0;
    for (; count >= N && i < count; i += N) least = smaller(load_as<Vec<Lane, N>>(values + std::min(i, count - N)), least);
    bool found = any_lane(least == broadcast<Lane, N>(R::template init<Lane>()));
    for (; i < count; ++i) found |= values[i] == R::template init<Lane>();
    return found;
  }
  // Where all of a window is as low as padding is, its first tap inside is the maximum's; no code of a tap inside is less.
  static void raise(const RibbonArgs& a, uint8_t* codes, int64_t row) {
    const int64_t above = std::max<int64_t>(0, (a.skip_h - row + a.step_h - 1) / a.step_h) * a.taps_w;
    for (int64_t c = 0; above > 0 && c < a.width; ++c) codes[c] = std::max(codes[c], static_cast<uint8_t>(above));
    for (int64_t c = 0; c < std::min(a.skip_w, a.width); ++c) {
      const int64_t before = a.step_w == 1 ? a.skip_w - c : (a.skip_w - c + a.step_w - 1) / a.step_w;
      codes[c] = std::max(codes[c], static_cast<uint8_t>(above + before));
    }
  }
  // Rows [from, from + count) of a plane as lanes, each after skip_w elements of padding, `pitch` apart.
  static void stage(const RibbonArgs& a, const T* source, Lane* to, int64_t from, int64_t count, int64_t pitch) {
    const auto identity = R::template init<Lane>();
    std::fill_n(to, a.skip_w, identity);
    for (int64_t r = from; r < from + count; ++r, to += pitch) {
      Lane* gap = to;
      if (r >= 0 && r < a.rows) {
        for_lanes<Lane>(a.length, [&](auto width, int64_t i) {
          constexpr int W = decltype(width)::value;
          store_as(to + a.skip_w + i, Kernel::template load<W>(source + r * a.length + i, a.ahead));
        });
        gap += a.skip_w + a.length;
      }
      // Up to the next row, and beyond, where that one is written over it.
      for (Lane* const end = to + pitch + a.skip_w; gap < end; gap += N) store_as(gap, broadcast<Lane, N>(identity));
    }
  }
  TP_INLINE static void store(const RibbonArgs& a, const Lines& line, T* to, uint8_t* codes) {
    for_lanes<Lane>(a.width, [&](auto width, int64_t i) {
      constexpr int W = decltype(width)::value;
      store_lanes<Keyed, T, Lane, W>(to + i, load_as<Vec<Lane, W>>(line.values + i), a.stores);
      if constexpr (Coded) store_narrowed<Code, uint8_t, W>(codes + i, load_as<Vec<Code, W>>(line.codes + i));
    });
  }
  static void planes(const RibbonArgs& a) {
    const int64_t reach_h = (a.taps_h - 1) * a.step_h, pitch = ribbon_pitch(a);
    const Lines lines{static_cast<Lane*>(a.values), static_cast<Code*>(a.lane_codes)};
    for (int64_t p = 0; p < a.planes; ++p) {
      const T* const source = static_cast<const T*>(a.source) + p * a.source_plane;
      for (int64_t row = a.begin; row < a.end; row += a.rows_at_once) {
        const int64_t rows = std::min(a.rows_at_once, a.end - row);
        stage(a, source, lines.values, row - a.skip_h, rows + reach_h, pitch);
        const int64_t results = (rows - 1) * pitch + a.width;
        if constexpr (Coded) {
          reduce<true>(lines, results + reach_h * pitch, a.step_w, 1, a.taps_w);
          reduce<false>(lines, results, a.step_h * pitch, a.taps_w, a.taps_h);
        } else {
          reduce<true>(lines, rows * pitch + a.skip_w, a.step_h * pitch, 0, a.taps_h);
          reduce<true>(lines, results, a.step_w, 0, a.taps_w);
        }
        const bool low = Coded && as_low && any_lowest(lines.values, results);
        for (int64_t r = row; r < row + rows; ++r) {
          const int64_t at = p * a.target_plane + r * a.width, offset = (r - row) * pitch;
          const Lines line{lines.values + offset, Coded ? lines.codes + offset : nullptr};
          uint8_t* const codes = Coded ? static_cast<uint8_t*>(a.codes) + at : nullptr;
          store(a, line, static_cast<T*>(a.target) + at, codes);
          if (low) raise(a, codes, r);
        }
      }
    }
  }
};
