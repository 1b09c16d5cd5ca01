// Large windows that overlap much, at a cost that does not grow with them: blocks as long as the shortest window, in each the reductions of
// its ends (suffixes, kept) and of the next one's beginnings (prefixes, running); a window is one of both (van Herk, Gil and
// Werman). Nothing is ever taken away again, so NaN, infinities and precision are those of a direct sum. Lanes along the elements
// below the axis. Kernel: a Reduce. Included inside a target region, before reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class Kernel, class R, bool Coded, class S, class Lane>
struct Slide {
  using Code = CodeOf<Lane>;
  using Scale = typename Kernel::Scale;
  static constexpr int N = full_lanes<Lane>;

  // W * U lanes and their codes: here the code of a tap is that of its position, not of its place in a window.
  template <int W, int U>
  struct State {
    Vec<Lane, W> value[U];
    Vec<Code, W> code[U];
    TP_INLINE void take(const State& later) {
      for (int u = 0; u < U; ++u) Kernel::template take<W>(value[u], code[u], later.value[u], later.code[u]);
    }
  };
  template <int W, int U>
  struct Strip {
    const WindowsArgs& a;
    const S* source;
    const Code* source_code;
    Lane* kept;
    Code* kept_code;

    TP_INLINE State<W, U> at(int64_t position) const {
      State<W, U> state;
      for (int u = 0; u < U; ++u) {
        state.value[u] = Kernel::template load<W>(source + position * a.source_pixel + u * W, a.ahead);
        if constexpr (Coded) {
          state.code[u] = broadcast<Code, W>(static_cast<Code>(position * a.code_scale));
          if (source_code != nullptr) {
            state.code[u] = wrapping_sum(state.code[u], load_as<Vec<Code, W>>(source_code + position * a.source_pixel + u * W));
          }
        } else {
          state.code[u] = Vec<Code, W>{};
        }
      }
      return state;
    }
    TP_INLINE void keep(int64_t n, const State<W, U>& state) const {
      for (int u = 0; u < U; ++u) {
        store_as(kept + (n * U + u) * W, state.value[u]);
        if constexpr (Coded) store_as(kept_code + (n * U + u) * W, state.code[u]);
      }
    }
    TP_INLINE State<W, U> recall(int64_t n) const {
      State<W, U> state;
      for (int u = 0; u < U; ++u) {
        state.value[u] = load_as<Vec<Lane, W>>(kept + (n * U + u) * W);
        if constexpr (Coded) {
          state.code[u] = load_as<Vec<Code, W>>(kept_code + (n * U + u) * W);
        } else {
          state.code[u] = Vec<Code, W>{};
        }
      }
      return state;
    }
    TP_INLINE void put(const Window& window, const State<W, U>& state, Lane* target, Code* target_code, const Scale& finish) const {
      for (int u = 0; u < U; ++u) {
        store_as(target + u * W, finish(state.value[u]));
        if constexpr (Coded) {
          const auto origin = broadcast<Code, W>(static_cast<Code>((window.tap - window.start) * a.code_scale));
          store_as(target_code + u * W, wrapping_sum(state.code[u], origin));
        }
      }
    }
  };

  template <int W, int U>
  TP_INLINE static void strip(const WindowsArgs& a, const Scale& finish, const S* source, const Code* source_code, Lane* target,
                              Code* target_code) {
    const int64_t block = a.slides.block;
    Lane* const kept = static_cast<Lane*>(a.scratch);
    const Strip<W, U> lanes{a, source, source_code, kept, reinterpret_cast<Code*>(kept + block * W * U)};
    // Goes from window to window, through the entries of the list.
    Window window = a.windows[0];
    const Window* entry = a.windows;
    const Window* last = a.windows + a.window_count;
    while (last[-1].taps == 0) --last;
    const int64_t extent = last[-1].last_start() + last[-1].taps;
    auto next = [&]() __attribute__((always_inline)) {
      window.start += window.advance;
      if (--window.count == 0 && ++entry < last) window = *entry;
    };
    auto put = [&](const State<W, U>& state) __attribute__((always_inline)) {
      for (int64_t n = 0; n < window.repeat; ++n) {
        lanes.put(window, state, target, target_code, finish);
        target += a.target_pixel;
        if constexpr (Coded) target_code += a.target_pixel;
      }
    };
    // Windows cut off at the beginning.
    if (window.start == 0 && window.taps < block) {
      State<W, U> prefix = lanes.at(0);
      for (int64_t end = 1; entry < last && window.start == 0 && window.taps < block; next()) {
        for (; end < window.taps; ++end) prefix.take(lanes.at(end));
        put(prefix);
      }
    }
    for (int64_t begin = 0; begin < extent && entry < last; begin += block) {
      const int64_t end = std::min(begin + block, extent);
      if (window.start >= end) continue;
      State<W, U> suffix = lanes.at(end - 1);
      lanes.keep(end - 1 - begin, suffix);
      for (int64_t p = end - 2; p >= window.start; --p) {
        State<W, U> longer = lanes.at(p);
        longer.take(suffix);
        suffix = longer;
        lanes.keep(p - begin, suffix);
      }
      State<W, U> prefix = suffix;
      for (int64_t reached = end; entry < last && window.start < end; next()) {
        State<W, U> state = lanes.recall(window.start - begin);
        const int64_t stop = window.start + window.taps;
        if (stop > end) {
          if (reached == end) prefix = lanes.at(reached++);
          for (; reached < stop; ++reached) prefix.take(lanes.at(reached));
          state.take(prefix);
        }
        put(state);
      }
    }
    for (; last < a.windows + a.window_count; ++last) {  // empty
      for (int64_t n = 0; n < last->outputs(); ++n, target += a.target_pixel) {
        std::fill_n(target, W * U, R::template init<Lane>());
        if constexpr (Coded) std::fill_n(target_code, W * U, Code(0)), target_code += a.target_pixel;
      }
    }
  }

  static void columns(const WindowsArgs& a, const Scale& finish, const S* s, const Code* c, Lane* target, Code* target_code) {
    using std::integral_constant;
    constexpr integral_constant<int, 1> one;
    int64_t i = 0;
    auto at = [&](auto width, auto unroll) {
      strip<width, unroll>(a, finish, s + i, c == nullptr ? nullptr : c + i, target + i, Coded ? target_code + i : nullptr);
      i += width * unroll;
    };
    while (i + 2 * N <= a.inner) at(integral_constant<int, N>{}, integral_constant<int, 2>{});
    // The widest vectors that fit, for what is left over, too: the last one sees once more what overlaps.
    auto in_vectors = [&](auto width) {
      if constexpr (width >= 4) {
        while (i < a.inner && a.inner >= width) {
          i = std::min(i, a.inner - width);
          at(width, one);
        }
      }
    };
    in_vectors(integral_constant<int, N>{});
    in_vectors(integral_constant<int, N / 2>{});
    in_vectors(integral_constant<int, N / 4>{});
    while (i < a.inner) at(one, one);
  }
};
