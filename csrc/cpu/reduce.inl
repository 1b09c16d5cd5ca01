// The reducing kernels for one instruction set: windows along any axis of a block, and combs along its innermost axis.
// R: reducer of core/reducer.h. Keyed: lanes are keys of 16-bit floats. Coded: beside each value runs the number of the
// tap it came from. S: source element; Storage: read from a tensor, not from lanes. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class R, bool Keyed, bool Coded, class S, class Lane, bool Storage>
struct Reduce {
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;

  template <int W>
  TP_INLINE static Vec<Lane, W> load(const S* p) {
    if constexpr (Storage && W > 1) prefetch_beyond(p);
    return load_lanes<Keyed, S, Lane, W>(p);
  }

  // Takes tap x with number c into the state (value, code).
  template <int W>
  TP_INLINE static void take(Vec<Lane, W>& value, Vec<Code, W>& code, Vec<Lane, W> x, Vec<Code, W> c) {
    if constexpr (Coded) {
      const auto better = R::beats(x, value);
      value = select(better, x, value);
      code = select(better, c, code);
    } else {
      value = R::step(value, x);
    }
  }

  // The division of a last pass.
  struct Scale {
    Lane value;
    enum { None, Multiply, Divide } kind;
    explicit Scale(const Final& last) : value(1), kind(None) {
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
  };

  // One window over W * U contiguous elements.
  template <int W, int U>
  TP_INLINE static void column(const S* s, const Code* c, const Window& window, int64_t stride, int64_t scale, Lane* target,
                               Code* target_code, const Scale& finish) {
    Vec<Lane, W> value[U];
    Vec<Code, W> code[U];
    Code number = static_cast<Code>(window.tap * scale);
    for (int u = 0; u < U; ++u) {
      value[u] = load<W>(s + u * W);
      if constexpr (Coded) code[u] = tap_code<W>(c, u, number);
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
        take<W>(value[u], code[u], load<W>(s + u * W), tap);
      }
    }
    for (int u = 0; u < U; ++u) {
      store_as(target + u * W, finish(value[u]));
      if constexpr (Coded) store_as(target_code + u * W, code[u]);
    }
  }
  template <int W>
  TP_INLINE static Vec<Code, W> tap_code(const Code* c, int u, Code number) {
    const auto all = broadcast<Code, W>(number);
    return c == nullptr ? all : Vec<Code, W>(load_as<Vec<Code, W>>(c + u * W) + all);
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

  // One window over contiguous taps, lanes along them.
  TP_INLINE static void run(const S* s, const Window& window, int64_t scale, Lane& value, Code& code) {
    constexpr int U = Coded ? 2 : 4;
    Vec<Lane, N> values[U];
    Vec<Code, N> codes[U] = {};
    const int64_t block = int64_t{N} * U;
    for (int u = 0; u < U; ++u) values[u] = load<N>(s + u * N);
    if constexpr (Coded && N > 1) {
      for (int u = 0; u < U; ++u) {
        for (int i = 0; i < N; ++i) codes[u][i] = static_cast<Code>((window.tap + u * N + i) * scale);
      }
    } else if constexpr (Coded) {
      for (int u = 0; u < U; ++u) codes[u] = static_cast<Code>((window.tap + u) * scale);
    }
    Vec<Code, N> number[U];
    for (int u = 0; u < U; ++u) number[u] = codes[u];
    [[maybe_unused]] const Vec<Code, N> first = codes[0];
    const auto advance = broadcast<Code, N>(static_cast<Code>(block * scale));
    int64_t t = block;
    for (; t + block <= window.taps; t += block) {
      for (int u = 0; u < U; ++u) {
        if constexpr (Coded) number[u] = number[u] + advance;
        take<N>(values[u], codes[u], load<N>(s + t + u * N), number[u]);
      }
    }
    for (; t + N <= window.taps; t += N) {  // what is left, but for the last few
      Vec<Code, N> rest{};
      if constexpr (Coded) rest = first + broadcast<Code, N>(static_cast<Code>(t * scale));
      take<N>(values[0], codes[0], load<N>(s + t), rest);
    }
    if constexpr (Coded) {
      Lane lanes[N * U];
      Code lane_codes[N * U];
      std::memcpy(lanes, values, sizeof(lanes));
      std::memcpy(lane_codes, codes, sizeof(lane_codes));
      value = lanes[0], code = lane_codes[0];
      for (int i = 1; i < N * U; ++i) merge(value, code, lanes[i], lane_codes[i]);
    } else {
      for (int u = U / 2; u > 0; u /= 2) {
        for (int i = 0; i < u; ++i) values[i] = R::step(values[i], values[i + u]);
      }
      value = across<N>(values[0]);
    }
    for (; t < window.taps; ++t) merge(value, code, load<1>(s + t), static_cast<Code>((window.tap + t) * scale));
  }
  // All lanes of a vector, in halves.
  template <int W>
  TP_INLINE static Lane across(Vec<Lane, W> v) {
    if constexpr (W == 1) {
      return v;
    } else {
      Vec<Lane, W / 2> low, high;
      std::memcpy(&low, &v, sizeof(low));
      std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof(low), sizeof(high));
      return across<W / 2>(R::step(low, high));
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

  // Elements apart from each other: one window at a time.
  static void single(const WindowsArgs& a, const Scale& finish, const S* source, const Code* source_code, Lane* target, Code* target_code) {
    for (int64_t w = 0; w < a.window_count; ++w) {
      const Window& window = a.windows[w];
      Lane value = R::template init<Lane>();
      Code code = 0;
      const int64_t stride = window.step * a.source_pixel;
      const S* s = source + window.start * a.source_pixel;
      if (stride == 1 && source_code == nullptr && window.taps >= 16 && window.taps >= N * 4) {
        run(s, window, a.code_scale, value, code);
      } else if (window.taps > 0 && source_code != nullptr) {  // after other axes: taps come out of scan order
        const Code* const c = source_code + window.start * a.source_pixel;
        Code number = static_cast<Code>(window.tap * a.code_scale);
        value = load<1>(s), code = static_cast<Code>(c[0] + number);
        for (int64_t t = 1; t < window.taps; ++t) {
          number = static_cast<Code>(number + a.code_scale);
          merge(value, code, load<1>(s + t * stride), static_cast<Code>(c[t * stride] + number));
        }
      } else if (window.taps > 0) {
        column<1, 1>(s, nullptr, window, stride, a.code_scale, &value, &code, Scale(Final{}));
      }
      value = finish(value);
      put(target, value, window.repeat, a.target_pixel);
      if constexpr (Coded) put(target_code, code, window.repeat, a.target_pixel);
    }
  }

  // Lanes along the contiguous elements below the axis.
  static void wide(const WindowsArgs& a, const Scale& finish, const S* source, const Code* source_code, Lane* target, Code* target_code) {
    const Lane* const limit = static_cast<const Lane*>(a.last.limit);
    for (int64_t w = 0; w < a.window_count; ++w) {
      const Window& window = a.windows[w];
      const S* s = source + window.start * a.source_pixel;
      const Code* c = source_code == nullptr ? nullptr : source_code + window.start * a.source_pixel;
      const int64_t stride = window.step * a.source_pixel;
      if (window.taps == 0) {
        std::fill_n(target, a.inner, R::template init<Lane>());
        if constexpr (Coded) std::fill_n(target_code, a.inner, Code(0));
      } else {
        int64_t i = 0;
        auto at = [&](auto width, auto unroll) {
          column<width, unroll>(s + i, c == nullptr ? nullptr : c + i, window, stride, a.code_scale, target + i,
                                Coded ? target_code + i : nullptr, finish);
          i += width * unroll;
        };
        using std::integral_constant;
        constexpr integral_constant<int, 1> one;
        if (window.taps > 1) {  // several columns at once hide the latency of a chain of taps
          while (i + 4 * N <= a.inner) at(integral_constant<int, N>{}, integral_constant<int, 4>{});
        }
        while (i + N <= a.inner) at(integral_constant<int, N>{}, one);
        if (i < a.inner && a.can_overread && (limit == nullptr || target + i + N <= limit)) at(integral_constant<int, N>{}, one);
        if constexpr (N >= 8) {
          if (i + N / 2 <= a.inner) at(integral_constant<int, N / 2>{}, one);
        }
        while (i < a.inner) at(one, one);
      }
      Lane* const done = target;
      Code* const done_code = target_code;
      target += a.target_pixel;
      if constexpr (Coded) target_code += a.target_pixel;
      for (int64_t r = 1; r < window.repeat; ++r) {
        std::memcpy(target, done, sizeof(Lane) * static_cast<size_t>(a.inner));
        target += a.target_pixel;
        if constexpr (Coded) {
          std::memcpy(target_code, done_code, sizeof(Code) * static_cast<size_t>(a.inner));
          target_code += a.target_pixel;
        }
      }
    }
  }

  static void windows(const WindowsArgs& a) {
    const Scale finish(a.last);
    for_loops(a.loops, [&](int64_t source, int64_t target) {
      const S* s = static_cast<const S*>(a.source) + source;
      const Code* c = a.source_code == nullptr ? nullptr : static_cast<const Code*>(a.source_code) + source;
      Lane* t = static_cast<Lane*>(a.target) + target;
      Code* tc = Coded ? static_cast<Code*>(a.target_code) + target : nullptr;
      if (a.inner == 1) {
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
    store_as(target, finish(value));
    if constexpr (Coded) store_as(target_code, code);
  }
  template <int Advance, int Taps>
  TP_INLINE static void comb_rows(const CombArgs& a) {
    const Scale finish(a.last);
    const Lane* const limit = static_cast<const Lane*>(a.last.limit);
    const int64_t rounded = (a.outputs + N - 1) / N * N;
    for_loops(a.loops, [&](int64_t source, int64_t target) {
      const Lane* s = static_cast<const Lane*>(a.source) + source;
      Lane* t = static_cast<Lane*>(a.target) + target;
      Code* tc = Coded ? static_cast<Code*>(a.target_code) + target : nullptr;
      auto at = [&](auto width, int64_t o) {
        comb_at<decltype(width)::value, Advance, Taps>(a, s + o * Advance, t + o, Coded ? tc + o : nullptr, finish);
      };
      if (limit == nullptr || t + rounded <= limit) {
        for_lanes_rounded_up<Lane>(a.outputs, at);
      } else {
        for_lanes<Lane>(a.outputs, at);
      }
    });
  }
  static void comb(const CombArgs& a) {
    const bool unit = a.advance == 1;
    switch (a.taps) {
      case 2: return unit ? comb_rows<1, 2>(a) : comb_rows<2, 2>(a);
      case 3: return unit ? comb_rows<1, 3>(a) : comb_rows<2, 3>(a);
      default: return unit ? comb_rows<1, 0>(a) : comb_rows<2, 0>(a);
    }
  }
};

// Strides of 2 and more, each input taking the sum of the outputs that read it; lanes along q.
template <class Lane>
struct Spread {
  static constexpr int N = full_lanes<Lane>;
  TP_INLINE static Vec<Lane, N> phase(const SpreadArgs& a, const Lane* s, int64_t q, int64_t r) {
    Vec<Lane, N> total{};
    for (int64_t tap = r, o = q; tap < a.taps; tap += a.stride, --o) total = total + load_as<Vec<Lane, N>>(s + o);
    return total;
  }
  static void rows(const SpreadArgs& a) {
    for_loops(a.loops, [&](int64_t source, int64_t target) {
      const Lane* s = static_cast<const Lane*>(a.source) + source;
      Lane* t = static_cast<Lane*>(a.target) + target;
      for_lanes_rounded_up<Lane>(a.count, [&](auto, int64_t q) {
        store_pairs<Lane, N>(t + 2 * q, phase(a, s, q, 0), phase(a, s, q, 1));
      });
    });
  }
};

template <class R, class Lane>
void fill_identity(void* lanes, int64_t count) {
  std::fill_n(static_cast<Lane*>(lanes), count, R::template init<Lane>());
}
