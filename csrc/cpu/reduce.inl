// The reducing kernels for one instruction set: windows along any axis of a block, and combs along its innermost axis.
// R: reducer of core/reducer.h. Keyed: lanes are keys of 16-bit floats. Coded: beside each value runs the number of the
// tap it came from. S: source element; Storage: read from a tensor, not from lanes. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class R, bool Keyed, bool Coded, class S, class Lane, bool Storage>
struct Reduce {
  using Code = CodeOf<Lane>;
  template <class Other> using With = Reduce<R, Keyed, Coded, S, Other, Storage>;
  using Plain = Reduce<R, Keyed, false, S, Lane, Storage>;
  static constexpr int N = full_lanes<Lane>;
  static constexpr int64_t few_taps = 8;

  template <int W>
  TP_INLINE static Vec<Lane, W> load(const S* p, bool ahead = false) {
    if constexpr (Storage && W > 1) {
      if (ahead) prefetch_beyond(p);
    }
    return load_lanes<Keyed, S, Lane, W>(p);
  }

  // Takes tap x with number c into the state (value, code).
  template <int W>
  TP_INLINE static void take(Vec<Lane, W>& value, Vec<Code, W>& code, Vec<Lane, W> x, Vec<Code, W> c) {
    if constexpr (Coded) {
      R::take(value, code, x, c);
    } else {
      value = R::step(value, x);
    }
  }

  // The division of a last pass, and where its results go.
  struct Scale {
    Lane value;
    enum { None, Multiply, Divide } kind;
    Stores stores;
    explicit Scale(const Final& last) : value(1), kind(None), stores(last.stores) {
      if (R::is_max || last.divisor == 1) return;
      int exponent = 0;
      const bool power = std::is_floating_point_v<Lane> && std::abs(std::frexp(last.divisor, &exponent)) == 0.5;
      kind = power ? Multiply : Divide;
      value = static_cast<Lane>(power ? 1 / last.divisor : last.divisor);
    }
    template <class V>
    TP_INLINE V operator()(V v) const {
      if constexpr (R::is_max) return v;
      if (kind == None) return v;
      return kind == Multiply ? v * value : v / value;
    }
    template <class V>
    TP_INLINE void put(Lane* target, V v) const {
      store_result(target, (*this)(v), stores);
    }
  };

  // One window over W * U contiguous elements. Resume: its first taps are in the target already.
  template <int W, int U, bool Resume = false>
  TP_INLINE static void column(const S* s, const Code* c, const Window& window, int64_t stride, int64_t scale, Lane* target,
                               Code* target_code, const Scale& finish, bool ahead) {
    using Sums = Run<Reduce, R, Coded, S, Lane>;
    if constexpr (Sums::in_blocks) return Sums::template columns<W, U, Resume>(s, window.taps, stride, target, finish, ahead);
    Vec<Lane, W> value[U];
    Vec<Code, W> code[U];
    Code number = static_cast<Code>(window.tap * scale);
    for (int u = 0; u < U; ++u) {
      value[u] = load<W>(s + u * W, ahead);
      if constexpr (Coded) code[u] = tap_code<W>(c, u, number);
      if constexpr (Resume) {
        auto before = load_as<Vec<Lane, W>>(target + u * W);
        Vec<Code, W> before_code{};
        if constexpr (Coded) before_code = load_as<Vec<Code, W>>(target_code + u * W);
        take<W>(before, before_code, value[u], code[u]);
        value[u] = before, code[u] = before_code;
      }
    }
    for (int64_t t = 1; t < window.taps; ++t) {
      s += stride;
      if constexpr (Coded) {
        number = static_cast<Code>(number + scale);
        if (c != nullptr) c += stride;
      }
      for (int u = 0; u < U; ++u) {
        Vec<Code, W> tap{};
        if constexpr (Coded) tap = tap_code<W>(c, u, number);
        take<W>(value[u], code[u], load<W>(s + u * W, ahead), tap);
        if constexpr (W == 1 && sizeof(S) < sizeof(Lane) && R::is_max) keep_in_order(value[u]);
      }
    }
    for (int u = 0; u < U; ++u) {
      finish.put(target + u * W, value[u]);
      if constexpr (Coded) store_as(target_code + u * W, code[u]);
    }
  }
  // Lanes beyond a row hold anything.
  template <int W>
  TP_INLINE static Vec<Code, W> tap_code(const Code* c, int u, Code number) {
    const auto all = broadcast<Code, W>(number);
    return c == nullptr ? all : wrapping_sum(load_as<Vec<Code, W>>(c + u * W), all);
  }

  // Two partial states of one window, their taps in any order: the first of equals wins, the last of NaNs.
  TP_INLINE static void merge(Lane& value, Code& code, Lane x, Code c) {
    if constexpr (Coded) {
      const bool x_nan = R::beats(x, x), nan = R::beats(value, value);
      const bool later = c > code;
      bool wins = x_nan ? (!nan || later) : (!nan && R::beats(x, value));
      if (!x_nan && !nan && !wins && !R::beats(value, x)) wins = !later;  // equal
      if (wins) value = x, code = c;
    } else {
      value = R::step(value, x);
    }
  }

  template <class T>
  TP_INLINE static void put(T*& target, T value, int64_t count, int64_t pitch) {
    if (pitch == 1 && count >= 8) {
      for_lanes<T>(count, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        store_as(target + i, broadcast<T, W>(value));
      });
      target += count;
      return;
    }
    for (int64_t i = 0; i < count; ++i, target += pitch) *target = value;
  }

  static void long_run(const S* s, const Window& window, int64_t scale, Lane& value, Code& code) {
    Run<Reduce, R, Coded, S, Lane>::template any<N>(s, window, scale, value, code);
  }
  // Elements apart from each other: one window at a time.
  TP_INLINE static Lane one(const WindowsArgs& a, const Window& window, const S* s, const Code* c, Code& code) {
    const int64_t stride = window.step * a.source_pixel;
    Lane value = R::template init<Lane>();
    if (N > 1 && stride == 1 && c == nullptr && window.taps >= 8) {
      if constexpr (N > 1) long_run(s, window, a.code_scale, value, code);
    } else if (window.taps > 0 && c != nullptr) {  // after other axes: taps come out of scan order
      Code number = static_cast<Code>(window.tap * a.code_scale);
      value = load<1>(s), code = static_cast<Code>(c[0] + number);
      for (int64_t t = 1; t < window.taps; ++t) {
        number = static_cast<Code>(number + a.code_scale);
        merge(value, code, load<1>(s + t * stride), static_cast<Code>(c[t * stride] + number));
      }
    } else if (window.taps > 0) {
      column<1, 1>(s, nullptr, window, stride, a.code_scale, &value, &code, Scale(Final{}), false);
    }
    return value;
  }
  static void single(const WindowsArgs& a, const Scale& finish, const S* source, const Code* source_code, Lane* target, Code* target_code) {
    for (int64_t w = 0; w < a.window_count; ++w) {
      const Window& window = a.windows[w];
      const S* s = source + window.start * a.source_pixel;
      const Code* c = source_code == nullptr ? nullptr : source_code + window.start * a.source_pixel;
      for (int64_t n = 0; n < window.count; ++n) {
        Code code = 0;
        put(target, finish(one(a, window, s, c, code)), window.repeat, a.target_pixel);
        if constexpr (Coded) put(target_code, code, window.repeat, a.target_pixel);
        s += window.advance * a.source_pixel;
        if (c != nullptr) c += window.advance * a.source_pixel;
      }
    }
  }

  // A short window, in all rows: what it is stays in registers. Taps: how many, where known when compiling (else 0).
  template <int Taps>
  TP_INLINE static void in_all_rows(const WindowsArgs& a, const Window& window, int64_t start, int64_t at, const Scale& finish) {
    const S* const source = static_cast<const S*>(a.source) + start * a.source_pixel;
    Lane* const target = static_cast<Lane*>(a.target) + at * a.target_pixel;
    Code* const target_code = Coded ? static_cast<Code*>(a.target_code) + at * a.target_pixel : nullptr;
    const int64_t stride = window.step * a.source_pixel, taps = Taps == 0 ? window.taps : Taps;
    const int64_t repeat = window.repeat, pitch = a.target_pixel, scale = a.code_scale;
    const Code first = static_cast<Code>(window.tap * scale);
    const Scale result = finish;
    for_loops(a.loops, [&](int64_t from, int64_t to) __attribute__((always_inline)) {
      const S* s = source + from;
      Lane value = load<1>(s);
      Code code = first, number = first;
      for (int64_t t = 1; t < taps; ++t) {
        s += stride, number = static_cast<Code>(number + scale);
        take<1>(value, code, load<1>(s), number);
      }
      value = result(value);
      for (int64_t r = 0; r < repeat; ++r) target[to + r * pitch] = value;
      if constexpr (Coded) {
        for (int64_t r = 0; r < repeat; ++r) target_code[to + r * pitch] = code;
      }
    });
  }
  static bool short_windows(const WindowsArgs& a, const Scale& finish) {
    if (a.source_code != nullptr || a.loops[0].count * a.loops[1].count * a.loops[2].count < 8) return false;
    for (int64_t w = 0; w < a.window_count; ++w) {
      if (a.windows[w].taps == 0 || a.windows[w].taps >= 8) return false;
    }
    int64_t at = 0;
    for (int64_t w = 0; w < a.window_count; ++w) {
      const Window& window = a.windows[w];
      for (int64_t n = 0; n < window.count; ++n, at += window.repeat) {
        const int64_t start = window.start + n * window.advance;
        constexpr bool common = Keyed || std::is_same_v<Lane, float>;
        if (common && window.taps == 2) {
          in_all_rows<common ? 2 : 0>(a, window, start, at, finish);
        } else if (common && window.taps == 3) {
          in_all_rows<common ? 3 : 0>(a, window, start, at, finish);
        } else {
          in_all_rows<0>(a, window, start, at, finish);
        }
      }
    }
    return true;
  }

  // Lanes along the contiguous elements below the axis: windows of one entry of the list.
  template <bool Resume>
  TP_INLINE static void columns(const WindowsArgs& a, const Window& window, const S* s, const Code* c, Lane* target, Code* target_code,
                                const Scale& finish, bool whole_vectors) {
    const int64_t stride = window.step * a.source_pixel;
    int64_t i = 0;
    auto at = [&](auto width, auto unroll) __attribute__((always_inline)) {
      column<width, unroll, Resume>(s + i, c == nullptr ? nullptr : c + i, window, stride, a.code_scale, target + i,
                                    Coded ? target_code + i : nullptr, finish, a.ahead);
      i += width * unroll;
    };
    using std::integral_constant;
    constexpr integral_constant<int, 1> one;
    if (window.taps > 1) {  // several columns at once hide the latency of a chain of taps
      while (i + 4 * N <= a.inner) at(integral_constant<int, N>{}, integral_constant<int, 4>{});
    }
    while (i + N <= a.inner || (i < a.inner && whole_vectors)) at(integral_constant<int, N>{}, one);
    if constexpr (N >= 8) {
      if (i + N / 2 <= a.inner) at(integral_constant<int, N / 2>{}, one);
    }
    while (i < a.inner) at(one, one);
  }
  // A long window over many columns takes a few taps of all of them at a time: from tap t here.
  static void in_parts(const WindowsArgs& a, const Window& window, int64_t t, const S* s, const Code* c, Lane* target, Code* target_code,
                       const Scale& finish, bool whole_vectors) {
    const int64_t stride = window.step * a.source_pixel;
    Window part = window;
    for (; t < window.taps; t += few_taps) {
      part.tap = window.tap + t, part.taps = std::min(few_taps, window.taps - t);
      const Scale scale = t + few_taps < window.taps ? Scale(Final{}) : finish;
      columns<true>(a, part, s + t * stride, c == nullptr ? nullptr : c + t * stride, target, target_code, scale, whole_vectors);
    }
  }
  static void wide(const WindowsArgs& a, Scale finish, const S* source, const Code* source_code, Lane* target, Code* target_code) {
    const Lane* const limit = static_cast<const Lane*>(a.last.limit);
    const int64_t rounded = (a.inner + N - 1) / N * N;
    for (int64_t w = 0; w < a.window_count; ++w) {
      const Window& window = a.windows[w];
      const S* s = source + window.start * a.source_pixel;
      const Code* c = source_code == nullptr ? nullptr : source_code + window.start * a.source_pixel;
      finish.stores = past_where(a.last.stores, window.repeat == 1);  // what is copied must be near
      const bool parted = Storage && window.taps > few_taps && a.inner > 4 * N
                          && window.taps * window.step * a.source_pixel * static_cast<int64_t>(sizeof(S)) > (1 << 16);
      Window first = window;
      if (parted) first.taps = few_taps;
      for (int64_t n = 0; n < window.count; ++n) {
        const bool whole_vectors = a.can_overread && (limit == nullptr || target + rounded <= limit);
        if (window.taps == 0) {
          std::fill_n(target, a.inner, R::template init<Lane>());
          if constexpr (Coded) std::fill_n(target_code, a.inner, Code(0));
        } else if (parted && a.beyond && window.step * a.source_pixel == a.inner) {
          if constexpr (Storage) Rows<Reduce, R, Coded, S, Lane>::columns(a, window, s, target, target_code, finish);
        } else {
          columns<false>(a, first, s, c, target, target_code, parted ? Scale(Final{}) : finish, whole_vectors);
          if (parted) in_parts(a, window, few_taps, s, c, target, target_code, finish, whole_vectors);
        }
        repeat(a, window.repeat, target);
        if constexpr (Coded) repeat(a, window.repeat, target_code);
        s += window.advance * a.source_pixel;
        if (c != nullptr) c += window.advance * a.source_pixel;
      }
    }
  }
  // Moves on, over copies of what was just written.
  template <class T>
  TP_INLINE static void repeat(const WindowsArgs& a, int64_t count, T*& target) {
    const T* const done = target;
    target += a.target_pixel;
    for (int64_t r = 1; r < count; ++r, target += a.target_pixel) std::memcpy(target, done, sizeof(T) * static_cast<size_t>(a.inner));
  }

  // One window in every row, of few taps or of many: not worth code of its own for integers, and for codes of very long windows.
  static constexpr bool rare = (std::is_integral_v<Lane> && !Keyed) || (Coded && sizeof(Lane) > sizeof(S));
  TP_INLINE static bool by_rows(const WindowsArgs& a, const Scale& finish) {
    if constexpr (N > 1) {
      // Out of a cache, sums wait for loads alone, and one of 64 bytes is mostly two: it crosses lines.
      constexpr int Half = R::is_max || sizeof(Lane) * N < widest_vector ? N : N / 2;
      const bool half = Half < N && a.windows->taps >= 4 * N;
      using Near = Run<Reduce, R, Coded, S, Lane, false>;
      if (Storage && a.far) {
        if (Run<Reduce, R, Coded, S, Lane, Storage>::template rows<N>(a, finish)) return true;
      } else if (half ? Near::template rows<Half>(a, finish) : Near::template rows<N>(a, finish)) {
        return true;
      }
    }
    return short_windows(a, finish);
  }
  static void windows(const WindowsArgs& a) {
    const Scale finish(a.last);
    // Element by element, blocks cost what they cost a vector of elements, while a window alone takes its taps in vectors; and sums are long.
    constexpr bool exact = R::is_max || sizeof(Lane) == 8;
    const bool slides = a.slides.block > 0 && (a.inner > 1 || (exact && a.source_code == nullptr && a.slides.reads >= 8 * N));
    if constexpr (!rare) {
      if (a.inner == 1 && !slides && by_rows(a, finish)) return;
    }
    for_loops(a.loops, [&](int64_t source, int64_t target) {
      const S* s = static_cast<const S*>(a.source) + source;
      const Code* c = a.source_code == nullptr ? nullptr : static_cast<const Code*>(a.source_code) + source;
      Lane* t = static_cast<Lane*>(a.target) + target;
      Code* tc = Coded ? static_cast<Code*>(a.target_code) + target : nullptr;
      if (slides) {
        Slide<Reduce, R, Coded, S, Lane>::columns(a, finish, s, c, t, tc);
      } else if (a.inner == 1) {
        single(a, finish, s, c, t, tc);
      } else {
        wide(a, finish, s, c, t, tc);
      }
    });
  }

  // W elements of a row from output o. Taps: the number of taps where known when compiling, else 0.
  template <int W, int Advance, int Taps>
  TP_INLINE static void comb_at(const CombArgs& a, const Lane* p, Lane* target, Code* target_code, const Scale& finish) {
    const int64_t taps = Taps == 0 ? a.taps : Taps;
    Vec<Lane, W> value, odd;
    Vec<Code, W> code{};
    if constexpr (Advance > 2) {
      value = Vec<Lane, W>{};  // GCC does not see that the first tap is always one
      Turns<Reduce, Lane>::template take_all<W, Advance>(a, p, value, code);
      finish.put(target, value);
      if constexpr (Coded) store_as(target_code, code);
      return;
    }
    int64_t t = 1;
    if constexpr (Advance == 1) {
      value = load_as<Vec<Lane, W>>(p);
    } else {
      load_pairs<Lane, W>(p, value, odd);
      if (a.step == 1 && taps > 1) {
        take<W>(value, code, odd, broadcast<Code, W>(1));
        t = 2;
      }
    }
    for (; t < taps; ++t) {
      Vec<Lane, W> x;
      const auto number = broadcast<Code, W>(static_cast<Code>(t));
      if constexpr (Advance == 1) {
        x = load_as<Vec<Lane, W>>(p + t * a.step);
      } else {
        load_pairs<Lane, W>(p + t * a.step, x, odd);
        if (a.step == 1 && t + 1 < taps) {
          take<W>(value, code, x, number);
          ++t;
          take<W>(value, code, odd, broadcast<Code, W>(static_cast<Code>(t)));
          continue;
        }
      }
      take<W>(value, code, x, number);
    }
    finish.put(target, value);
    if constexpr (Coded) store_as(target_code, code);
  }
  template <int Advance, int Taps>
  TP_INLINE static void comb_rows(const CombArgs& a) {
    Scale finish(a.last);
    finish.stores = past_where(finish.stores, whole_lines<Lane>(a.outputs));
    const Lane* const limit = static_cast<const Lane*>(a.last.limit);
    const int64_t rounded = (a.outputs + N - 1) / N * N;
    for_loops(a.loops, [&](int64_t source, int64_t target) {
      const Lane* s = static_cast<const Lane*>(a.source) + source;
      Lane* t = static_cast<Lane*>(a.target) + target;
      Code* tc = Coded ? static_cast<Code*>(a.target_code) + target : nullptr;
      auto at = [&](auto width, int64_t o) {
        comb_at<decltype(width)::value, Advance, Taps>(a, s + o * Advance, t + o, Coded ? tc + o : nullptr, finish);
      };
      for_lanes<Lane>(limit == nullptr || t + rounded <= limit ? rounded : a.outputs, at);
    });
  }
  static void comb(const CombArgs& a) {
    switch (a.advance) {
      case 3: return comb_rows<3, 0>(a);
      case 4: return comb_rows<4, 0>(a);
      case 5: return comb_rows<5, 0>(a);
      default: break;
    }
    const bool unit = a.advance == 1;
    using Long = Chain<Reduce, R, Coded, Lane>;
    if constexpr (N > 1) {
      if (Long::serves(a.taps)) return unit ? Long::template rows<1>(a) : Long::template rows<2>(a);
    }
    switch (a.taps) {
      case 2: return unit ? comb_rows<1, 2>(a) : comb_rows<2, 2>(a);
      case 3: return unit ? comb_rows<1, 3>(a) : comb_rows<2, 3>(a);
      default: return unit ? comb_rows<1, 0>(a) : comb_rows<2, 0>(a);
    }
  }
};
