// One long window whose taps lie side by side: lanes along the taps, put together at the end. Kernel: a Reduce; Far: see
// WindowsArgs. Included inside a target region, before reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class Kernel, class R, bool Coded, class S, class Lane, bool Far = true>
struct Run {
  using Code = CodeOf<Lane>;

  template <int W>
  TP_INLINE static Vec<Lane, W> load(const S* p) {
    return Kernel::template load<W>(p, Far);
  }

  static constexpr int64_t near_bytes = 512;  // of a window of which sixteen may be looked at twice
  static constexpr int states = Coded ? 2 : R::is_max ? 4 : 0;  // vectors that take taps in turn; of sums it depends on the width
  template <int W>
  static constexpr int states_of = states > 0 ? states : W == full_lanes<Lane> ? 4 : 8;

  // W or more contiguous taps, lanes along them; values alone are in the first state at the end. The last vector overlaps the one
  // before it, which a maximum does not mind: of equals it keeps the first. A sum leaves out what it has seen.
  template <int W>
  TP_INLINE static void take_all(const S* s, int64_t taps, Vec<Lane, W> (&values)[states_of<W>], Vec<Code, W> (&codes)[states_of<W>]) {
    constexpr int U = states_of<W>;
    const auto ramp = lane_numbers<W>();  // tap of each lane, from the vector's first
    values[0] = load<W>(s);
    if constexpr (Coded) codes[0] = ramp;
    int64_t t = W;
    if (taps >= W * U) {
      for (int u = 1; u < U; ++u) {
        values[u] = load<W>(s + u * W);
        if constexpr (Coded) codes[u] = ramp + broadcast<Code, W>(static_cast<Code>(u * W));
      }
      for (t = W * U; t + W * U <= taps; t += W * U) {
        for (int u = 0; u < U; ++u) {
          const bool next_line = u * W * static_cast<int>(sizeof(S)) % widest_vector == 0;
          const auto x = Kernel::template load<W>(s + t + u * W, Far && next_line);
          Kernel::template take<W>(values[u], codes[u], x, ramp + broadcast<Code, W>(static_cast<Code>(t + u * W)));
        }
      }
      if constexpr (!Coded) {
        for (int u = 1; u < U; ++u) values[0] = R::step(values[0], values[u]);
      }
    } else if constexpr (Coded) {
      for (int u = 1; u < U; ++u) values[u] = values[0], codes[u] = codes[0];
    }
    for (; t + W <= taps; t += W) {
      Kernel::template take<W>(values[0], codes[0], load<W>(s + t), ramp + broadcast<Code, W>(static_cast<Code>(t)));
    }
    if (t < taps) {
      auto last = load<W>(s + taps - W);
      const auto number = ramp + broadcast<Code, W>(static_cast<Code>(taps - W));
      if constexpr (!R::is_max) last = select(number >= broadcast<Code, W>(static_cast<Code>(t)), last, Vec<Lane, W>{});
      Kernel::template take<W>(values[0], codes[0], last, number);
    }
  }
  // One window over W or more contiguous taps.
  template <int W>
  TP_INLINE static void run(const S* s, const Window& window, int64_t scale, Lane& value, Code& code) {
    constexpr int U = states_of<W>;
    Vec<Lane, W> values[U];
    Vec<Code, W> codes[U] = {};
    take_all<W>(s, window.taps, values, codes);
    if constexpr (Coded) {
      const int64_t winner = winner_of<W, U>(values, codes);
      value = load<1>(s + winner);
      code = static_cast<Code>((window.tap + winner) * scale);
    } else {
      value = first_zero(s, across<W>(values[0]));
    }
  }
  // So many windows at once, `apart` from each other: their lanes are put together with each other's, but in the order of one alone.
  template <int W>
  static constexpr int together = W < 16 ? W : 16;
  template <int W>
  TP_INLINE static Vec<Lane, together<W>> run_together(const S* s, int64_t taps, int64_t apart) {
    constexpr int K = together<W>, U = states_of<W>;
    Vec<Lane, W> all[K];
    for (int k = 0; k < K; ++k) {
      Vec<Lane, W> values[U];
      Vec<Code, W> codes[U];
      take_all<W>(s + k * apart, taps, values, codes);
      all[k] = values[0];
    }
    return put_together<W>(all, s, apart);
  }
  // Of windows from s on, the vectors in which each has been reduced.
  template <int W>
  TP_INLINE static Vec<Lane, together<W>> put_together(const Vec<Lane, W>* all, const S* s, int64_t apart) {
    constexpr int K = together<W>;
    Vec<Lane, K> found = across_all<Lane, W, K>(all, [](auto a, auto b) { return R::step(a, b); });
    if constexpr (R::is_max && std::is_floating_point_v<Lane>) {
      Lane each[K];
      store_as(each, found);
      bool zero = false;
      for (int k = 0; k < K; ++k) zero |= each[k] == 0;
      if (zero) {
        for (int k = 0; k < K; ++k) each[k] = first_zero(s + k * apart, each[k]);
        found = load_as<Vec<Lane, K>>(each);
      }
    }
    return found;
  }
  // Of so many vectors what is left of each when its halves are put together again and again.
  template <class E, int W, int K, class Step>
  TP_INLINE static Vec<E, K> across_all(const Vec<E, W>* all, Step step) {
    const auto joined = join_all<E, W, K>(all, step);
    if constexpr (W == K) {
      return joined;
    } else {
      return halves<E, W>(joined).low;
    }
  }
  // K groups of lanes, in order, each holding so much of one vector as is left of it when 1, 2, 4, ... are put into one.
  template <class E, int W, int K, class Step>
  TP_INLINE static Vec<E, W> join_all(const Vec<E, W>* all, Step step) {
    if constexpr (K == 1) {
      return *all;
    } else {
      const auto one = join_all<E, W, K / 2>(all, step), other = join_all<E, W, K / 2>(all + K / 2, step);
      auto found = halved<E, W, W / (K / 2), K / 2>(one, other, step);
      if constexpr (K == together<W> && W == 2 * K) found = halved<E, W, 2, K>(found, found, step);
      return found;
    }
  }
  // Groups of G lanes, so many in either vector: halves of each on top of each other.
  template <class E, int W, int G, int Groups, class Step>
  TP_INLINE static Vec<E, W> halved(Vec<E, W> one, Vec<E, W> other, Step step) {
    return [&]<int... I>(std::integer_sequence<int, I...>) {
      return step(TP_SHUFFLE(E, W, one, other, place_in<W, G, Groups>(I)...),
                  TP_SHUFFLE(E, W, one, other, place_in<W, G, Groups>(I) + G / 2 ...));
    }(std::make_integer_sequence<int, W>{});
  }
  template <int W, int G, int Groups>
  static constexpr int place_in(int lane) {
    const int group = lane / (G / 2);
    return group / Groups * W + group % Groups * G + lane % (G / 2);
  }
  // The taps of windows put together, in a second look: where each maximum lies first or, if it is a NaN, last, which is the NaN that counts.
  template <int W>
  TP_INLINE static Vec<Code, together<W>> locate_together(const S* s, int64_t taps, int64_t apart, Vec<Lane, together<W>>& found) {
    constexpr int K = together<W>;
    const auto ramp = lane_numbers<W>(), none = broadcast<Code, W>(std::numeric_limits<Code>::max());
    Lane each[K];
    store_as(each, found);
    Vec<Code, W> places[K];
    bool alike = false;  // with other bits than those that count
    for (int k = 0; k < K; ++k) {
      const S* const p = s + k * apart;
      const bool nan = R::beats(each[k], each[k]);
      alike |= nan || R::is_zero(each[k]);
      if (nan) {
        int64_t last = taps - 1;
        while (!R::beats(load<1>(p + last), load<1>(p + last))) --last;
        places[k] = broadcast<Code, W>(static_cast<Code>(last));
        continue;
      }
      const auto best = broadcast<Lane, W>(each[k]);
      places[k] = none;
      for (int64_t t = 0; t < taps; t += W) {
        const int64_t from = std::min(t, taps - W);
        const auto place = select(Vec<Code, W>(R::beats(best, load<W>(p + from))), none, ramp + broadcast<Code, W>(static_cast<Code>(from)));
        places[k] = select(place < places[k], place, places[k]);
      }
    }
    const auto numbers = across_all<Code, W, K>(places, [](auto a, auto b) { return select(a < b, a, b); });
    if (alike) {
      Code number[K];
      store_as(number, numbers);
      for (int k = 0; k < K; ++k) each[k] = load<1>(s + k * apart + number[k]);
      found = load_as<Vec<Lane, K>>(each);
    }
    return numbers;
  }
  // Of two zeros the first wins, here as where taps come one by one: all lanes are equals. Where zeros are many, the first tap is one.
  TP_INLINE static Lane first_zero(const S* s, Lane value) {
    if constexpr (R::is_max && std::is_floating_point_v<Lane>) {
      while (value == 0) {
        const Lane tap = load<1>(s++);
        if (tap == 0) return tap;
      }
    }
    return value;
  }
  template <int W>
  TP_INLINE static Vec<Code, W> lane_numbers() {
    if constexpr (W == 1) {
      return 0;
    } else {
      return []<int... I>(std::integer_sequence<int, I...>) {
        return Vec<Code, W>{static_cast<Code>(I)...};
      }(std::make_integer_sequence<int, W>{});
    }
  }
  // The tap that wins among the lanes of several states: the first of those equal to the largest, the last of NaNs.
  template <int W, int U>
  TP_INLINE static int64_t winner_of(const Vec<Lane, W> (&values)[U], const Vec<Code, W> (&codes)[U]) {
    auto largest = values[0];
    for (int u = 1; u < U; ++u) largest = R::step(largest, values[u]);
    const Lane best = across<W>(largest);
    const bool nan = R::beats(best, best);
    const auto all = broadcast<Lane, W>(best);
    const auto none = broadcast<Code, W>(std::numeric_limits<Code>::max());
    Vec<Code, W> least = none;
    for (int u = 0; u < U; ++u) {
      Vec<Code, W> no_less;
      if constexpr (W == 1) {  // a truth, not a mask: its complement would be true as well
        no_less = nan ? R::beats(values[u], values[u]) : !R::beats(all, values[u]);
      } else {
        no_less = nan ? Vec<Code, W>(R::beats(values[u], values[u])) : Vec<Code, W>(~R::beats(all, values[u]));
      }
      const auto candidate = select(no_less, nan ? Vec<Code, W>(~codes[u]) : codes[u], none);  // the last is the least complement
      least = select(candidate < least, candidate, least);
    }
    const Code first = least_across<W>(least);
    return nan ? ~first : first;
  }
  template <int W>
  TP_INLINE static Code least_across(Vec<Code, W> v) {
    if constexpr (W == 1) {
      return v;
    } else {
      const auto [low, high] = halves<Code, W>(v);
      return least_across<W / 2>(select(low < high, low, high));
    }
  }
  // Sums in 64 bits of narrower elements: of blocks, which add up as they are.
  static constexpr bool in_blocks = !Coded && !R::is_max && std::is_same_v<Lane, double> && !std::is_same_v<S, double> && full_lanes<float> > 1;
  TP_INLINE static Lane block(const S* s, int64_t taps) {
    Window window;
    window.taps = taps;
    Lane value = 0;
    Code code = 0;
    any<full_lanes<Lane>>(s, window, 1, value, code);
    return value;
  }
  TP_INLINE static double blocks(const S* s, int64_t taps) {
    using Narrow = Run<typename Kernel::template With<float>, R, false, S, float, Far>;
    double total = 0;
    for (int64_t t = 0; t < taps;) {
      const int64_t count = block_of(taps, t);
      total += static_cast<double>(Narrow::block(s + t, count));
      t += count;
    }
    return total;
  }
  // The same of W * U columns, a few taps at a time. Resume: sums of the taps before are in the target already.
  template <int W, int U, bool Resume, class Scale>
  TP_INLINE static void columns(const S* s, int64_t taps, int64_t stride, Lane* target, const Scale& finish, bool ahead) {
    using Narrow = typename Kernel::template With<float>;
    constexpr int M = W == full_lanes<Lane> && U % 2 == 0 ? 2 : 1, F = M * W;  // a vector of floats is two of lanes
    Vec<Lane, W> value[U] = {};
    if constexpr (Resume) {
      for (int u = 0; u < U; ++u) value[u] = load_as<Vec<Lane, W>>(target + u * W);
    }
    for (int64_t t = 0; t < taps; t += Kernel::few_taps) {
      const int64_t count = std::min(Kernel::few_taps, taps - t);
      Vec<float, F> part[U / M];
      for (int u = 0; u < U / M; ++u) part[u] = Narrow::template load<F>(s + u * F, ahead);
      s += stride;
      for (int64_t n = 1; n < count; ++n, s += stride) {
        for (int u = 0; u < U / M; ++u) part[u] = part[u] + Narrow::template load<F>(s + u * F, ahead);
      }
      for (int u = 0; u < U / M; ++u) {
        if constexpr (M == 1) {
          value[u] = value[u] + convert<Lane, W>(part[u]);
        } else {
          const auto [low, high] = halves<float, F>(part[u]);
          value[2 * u] = value[2 * u] + convert<Lane, W>(low);
          value[2 * u + 1] = value[2 * u + 1] + convert<Lane, W>(high);
        }
      }
    }
    for (int u = 0; u < U; ++u) finish.put(target + u * W, value[u]);
  }
  // The widest vectors that a window fills.
  template <int W>
  TP_INLINE static void any(const S* s, const Window& window, int64_t scale, Lane& value, Code& code) {
    if constexpr (in_blocks) {
      if (window.taps > wide_sum_elements) return void(value = blocks(s, window.taps));
    }
    if (window.taps >= W || W <= 4) return run<W>(s, window, scale, value, code);
    if constexpr (W > 4) any<W / 2>(s, window, scale, value, code);
  }
  // The loops of a call and over its windows, which are alike, in three: where rows follow each other as windows do, they are one loop.
  static bool with_windows(const WindowsArgs& a, const Window& window, Loop (&loops)[3]) {
    const Loop inner{window.count, window.advance * a.source_pixel, a.target_pixel};
    std::copy_n(a.loops, 3, loops);
    if (inner.count == 1) return true;
    for (Loop& loop : loops) {
      if (loop.source == inner.count * inner.source && loop.target == inner.count * inner.target) {
        loop = {loop.count * inner.count, inner.source, inner.target};
        return true;
      }
    }
    for (Loop& loop : loops) {
      if (loop.count != 1) continue;
      loop = inner;
      return true;
    }
    return false;
  }
  // Long windows that are alike, in every row: what does not change from one to the next is settled once.
  template <int W, class Scale>
  TP_INLINE static bool rows(const WindowsArgs& a, const Scale& finish) {
    const Window window = *a.windows;
    if constexpr (W > 8) {
      if (window.taps < W) return rows<W / 2>(a, finish);
    }
    Loop loops[3];
    if (W < 8 || window.taps < W || a.window_count != 1 || window.repeat != 1 || window.step * a.source_pixel != 1
        || a.source_code != nullptr || !with_windows(a, window, loops)) {
      return false;
    }
    const S* const first = static_cast<const S*>(a.source) + window.start;
    Lane* const results = static_cast<Lane*>(a.target);
    auto one = [&](int64_t source, int64_t target) __attribute__((always_inline)) {
      Lane value;
      Code code = 0;
      any<W>(first + source, window, a.code_scale, value, code);
      results[target] = finish(value);
      if constexpr (Coded) static_cast<Code*>(a.target_code)[target] = code;
    };
    if constexpr (!Coded) {
      if (!in_blocks || window.taps <= wide_sum_elements) {
        for_loops_of<together<W>>(loops, [&](int64_t source, int64_t target, int64_t apart) __attribute__((always_inline)) {
          store_as(results + target, finish(run_together<W>(first + source, window.taps, apart)));
        }, one);
        return true;
      }
    } else if (window.taps * static_cast<int64_t>(sizeof(S)) <= near_bytes) {
      using Values = Run<typename Kernel::Plain, R, false, S, Lane, Far>;
      Code* const numbers = static_cast<Code*>(a.target_code);
      for_loops_of<together<W>>(loops, [&](int64_t source, int64_t target, int64_t apart) __attribute__((always_inline)) {
        constexpr int K = together<W>;
        auto found = Values::template run_together<W>(first + source, window.taps, apart);
        const auto taps = locate_together<W>(first + source, window.taps, apart, found) + broadcast<Code, K>(static_cast<Code>(window.tap));
        store_as(results + target, found);
        store_as(numbers + target, taps * broadcast<Code, K>(static_cast<Code>(a.code_scale)));
      }, one);
      return true;
    }
    for_loops(loops, one);
    return true;
  }
  // All lanes of a vector, in halves.
  template <int W>
  TP_INLINE static Lane across(Vec<Lane, W> v) {
    if constexpr (W == 1) {
      return v;
    } else {
      const auto [low, high] = halves<Lane, W>(v);
      return across<W / 2>(R::step(low, high));
    }
  }
};
