// Rows in channels-first whose results pick their few taps, by a permutation, from a vector of inputs. Rows are reduced before columns, but
// for maxima with positions, whose order of taps decides ties. Vectors are stored whole: what lies beyond, the vectors and rows that
// follow write again. Included inside a target region, after pixels.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class R, bool Keyed, bool Coded, class S, class Lane, class T, bool Storage>
struct Short {
  using Kernel = Reduce<R, Keyed, Coded, S, Lane, Storage>;
  using Pixel = Pixels<R, Keyed, Coded, S, Lane, T, Storage>;
  using Scale = typename Kernel::Scale;
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;

  // What results pick from a vector. Tap: of a maximum its number, of a sum all ones where there is one.
  struct Pattern {
    bool gaps = false;  // some result has fewer taps than others
    Vec<Code, N> from[short_taps], tap[short_taps];

    Pattern() = default;
    Pattern(const PixelsArgs& a, const ShortChunk& chunk, int64_t taps) {
      alignas(Vec<Code, N>) Code lanes[2][N] = {};
      for (int64_t t = 0; t < taps; ++t) {
        for (int64_t i = chunk.begin; i < chunk.end; ++i) {
          const Window& window = a.columns[i];
          const int64_t n = std::clamp<int64_t>(t, 0, std::max<int64_t>(0, window.taps - 1));  // a maximum takes its last tap again
          gaps |= t >= window.taps;
          lanes[0][i - chunk.begin] = window.taps == 0 ? Code{0} : static_cast<Code>(window.start + n * window.step - chunk.source);
          lanes[1][i - chunk.begin] = static_cast<Code>(R::is_max ? window.tap + n : t < window.taps ? -1 : 0);
        }
        from[t] = load_as<Vec<Code, N>>(lanes[0]), tap[t] = load_as<Vec<Code, N>>(lanes[1]);
      }
    }
  };

  // Rows that a row of results is made of: how many, how far apart, the number of the first tap of the first and of others.
  struct RowTaps {
    int64_t count, step;
    Code number, scale;
  };

  // All that rows have in common.
  struct Plan {
    const PixelsArgs& a;
    Pattern patterns[short_chunks];
    int64_t taps = 1;
    int64_t source_reach = 0;  // of a row
    Scale scale;
    const S* source_end;
    const T* target_end;
    Stores stores = Stores::Usual;

    // Whether vectors of such rows from s on reach beyond the source, or of so many results beyond the target.
    TP_INLINE bool near_end(const RowTaps& rows, const S* s, const T* target, int64_t results) const {
      return source_end - s < std::max<int64_t>(0, rows.count - 1) * rows.step + source_reach || target_end - target < results + N;
    }
    static Final last_of(const PixelsArgs& a) {
      Final last;
      last.divisor = a.divisor;
      return last;
    }
    explicit Plan(const PixelsArgs& args) : a(args), scale(last_of(args)), source_end(static_cast<const S*>(args.source_end)) {
      target_end = static_cast<const T*>(a.target) + a.planes * a.depth_count * a.height * a.width;
      for (int64_t i = 0; i < a.column_count; ++i) taps = std::max(taps, a.columns[i].taps);
      int64_t known = 0;
      bool full = true;  // each store a vector of the result's
      for (int64_t c = 0; c < a.chunk_count; ++c) {
        const ShortChunk& chunk = a.chunks[c];
        source_reach = std::max(source_reach, chunk.source + N);
        full = full && chunk.end - chunk.begin == N;
        if (chunk.pattern == known) patterns[known++] = Pattern(a, chunk, taps);
      }
      stores = past_where(a.stores, full && whole_lines<T>(a.width));
    }
  };

  struct State {
    Vec<Lane, N> value;
    Vec<Code, N> code;
  };
  // Near an end nothing may be read beyond it.
  template <bool Edge>
  TP_INLINE static Vec<Lane, N> loaded(const Plan& plan, const S* s) {
    if constexpr (Edge) {
      S copy[N] = {};
      const int64_t count = std::clamp<int64_t>(plan.source_end - s, 0, N);
      std::memcpy(static_cast<void*>(copy), s, static_cast<size_t>(count) * sizeof(S));
      return Kernel::template load<N>(copy);
    } else {
      return Kernel::template load<N>(s, plan.a.ahead);
    }
  }
  // Results of a chunk, from rows that begin at s.
  template <bool Edge>
  TP_INLINE static State reduced(const Plan& plan, const Pattern& pattern, int64_t taps, const RowTaps& rows, const S* s) {
    State state;
    if constexpr (Coded) {
      Code number = rows.number;
      for (int64_t r = 0; r < rows.count; ++r, s += rows.step, number = static_cast<Code>(number + rows.scale)) {
        const auto x = loaded<Edge>(plan, s);
        auto value = permute<Lane, N>(x, pattern.from[0]);
        auto code = pattern.tap[0];
        if (taps > 1) Kernel::template take<N>(value, code, permute<Lane, N>(x, pattern.from[1]), pattern.tap[1]);
        for (int64_t t = 2; t < taps; ++t) Kernel::template take<N>(value, code, permute<Lane, N>(x, pattern.from[t]), pattern.tap[t]);
        code = code + broadcast<Code, N>(number);
        if (r == 0) {
          state = {value, code};
        } else {
          Kernel::template take<N>(state.value, state.code, value, code);
        }
      }
    } else {
      state = State{};
      if (rows.count == 0) return state;
      auto all = loaded<Edge>(plan, s);
      for (int64_t r = 1; r < rows.count; ++r) all = R::step(all, loaded<Edge>(plan, s += rows.step));
      auto picked = [&](int64_t t) __attribute__((always_inline)) {
        const auto x = permute<Lane, N>(all, pattern.from[t]);
        if constexpr (R::is_max) return x;
        return pattern.gaps ? select(pattern.tap[t] != Vec<Code, N>{}, x, Vec<Lane, N>{}) : x;
      };
      state.value = picked(0);
      if (taps > 1) state.value = R::step(state.value, picked(1));
      for (int64_t t = 2; t < taps; ++t) state.value = R::step(state.value, picked(t));
    }
    return state;
  }
  TP_INLINE static Vec<Lane, N> scaled(const Scale& scale, Vec<Lane, N> value, const Lane* divisor) {
    if constexpr (R::is_max) return value;
    return divisor == nullptr ? scale(value) : Vec<Lane, N>(value / load_as<Vec<Lane, N>>(divisor));
  }
  TP_INLINE static void put(const PixelsArgs& a, Stores stores, int64_t begin, const State& state, T* target, char* code) {
    store_lanes<Keyed, T, Lane, N>(target + begin, state.value, stores);
    if constexpr (Coded) Pixel::template put_code<N>(a, code, begin, state.code);
  }
  // The same, and nothing beyond.
  TP_INLINE static void put_exactly(const PixelsArgs& a, const ShortChunk& chunk, const State& state, T* target, char* code) {
    T values[N];
    store_lanes<Keyed, T, Lane, N>(values, state.value);
    const auto count = static_cast<size_t>(chunk.end - chunk.begin);
    std::memcpy(static_cast<void*>(target + chunk.begin), values, count * sizeof(T));
    if constexpr (Coded) {
      char codes[N * sizeof(Code)];
      Pixel::template put_code<N>(a, codes, 0, state.code);
      const auto bytes = static_cast<size_t>(Pixel::code_bytes(a));
      std::memcpy(code + static_cast<size_t>(chunk.begin) * bytes, codes, count * bytes);
    }
  }

  // A row of results of several chunks, `repeat` times.
  template <bool Edge>
  static void row_at(const Plan& plan, const RowTaps& rows, int64_t repeat, const S* s, T* target, char* code, const Lane* divisor) {
    const PixelsArgs& a = plan.a;
    const int64_t chunks = a.chunk_count, taps = plan.taps, width = a.width, code_row = width * Pixel::code_bytes(a);
    const Stores stores = plan.stores;
    const Scale scale = plan.scale;
    for (int64_t group = 0; group < chunks; group += short_chunks) {
      const int64_t count = std::min<int64_t>(chunks - group, short_chunks);
      const ShortChunk* const chunk = a.chunks + group;
      State states[short_chunks];
      for (int64_t c = 0; c < count; ++c) {
        states[c] = reduced<Edge>(plan, plan.patterns[chunk[c].pattern], taps, rows, s + chunk[c].source);
        states[c].value = scaled(scale, states[c].value, divisor == nullptr ? nullptr : divisor + chunk[c].begin);
        if (!Edge && repeat == 1) put(a, stores, chunk[c].begin, states[c], target, code);
      }
      if (!Edge && repeat == 1) continue;
      T* to = target;
      char* to_code = code;
      for (int64_t again = 0; again < repeat; ++again, to += width, to_code += Coded ? code_row : 0) {
        // What a later group stores beyond the row, nobody writes again where the next row is the same: so do all chunks near its end.
        int64_t whole = Edge ? 0 : count;
        for (; group > 0 && again + 1 < repeat && whole > 0 && chunk[whole - 1].begin + N > width; --whole) continue;
        for (int64_t c = 0; c < whole; ++c) put(a, stores, chunk[c].begin, states[c], to, to_code);
        for (int64_t c = whole; c < count; ++c) put_exactly(a, chunk[c], states[c], to, to_code);
      }
    }
  }
  // Single: rows of one chunk.
  template <bool Single>
  static void all(const Plan& plan) {
    const PixelsArgs& a = plan.a;
    const int64_t taps = plan.taps, width = a.width, source_row = a.source_row, code_bytes = Pixel::code_bytes(a);
    const Stores stores = plan.stores;
    const Pattern pattern = plan.patterns[0];
    const Scale scale = plan.scale;
    const int64_t single = a.chunks[0].source;
    RowTaps plane{1, source_row, 0, 0};
    for (int64_t r = 0; r < a.row_count; ++r) plane.count = std::max(plane.count, a.rows[r].last_start() + a.rows[r].taps * a.rows[r].step);
    T* target = static_cast<T*>(a.target);
    char* code = static_cast<char*>(a.target_code);
    for (int64_t p = 0; p < a.planes; ++p) {
      for (int64_t d = 0; d < a.depth_count; ++d) {
        const S* const s = static_cast<const S*>(a.source) + p * a.source_plane + d * a.source_depth;
        const Lane* divisor = static_cast<const Lane*>(a.divisors);
        const bool inside = !plan.near_end(plane, s, target, a.height * width);
        for (int64_t r = 0; r < a.row_count; ++r) {
          const Window& row = a.rows[r];
          const RowTaps rows{row.taps, row.step * source_row, static_cast<Code>(row.tap * a.row_scale), static_cast<Code>(a.row_scale)};
          const S* at = s + row.start * source_row;
          const int64_t results = row.repeat * width;
          const int64_t advance = row.advance * source_row, repeat = row.repeat, again = row.count;
          for (int64_t n = 0; n < again; ++n, at += advance) {
            if (!inside && plan.near_end(rows, at, target, results)) {
              row_at<true>(plan, rows, repeat, at, target, code, divisor);
              target += results, code += Coded ? results * code_bytes : 0;
            } else if constexpr (Single) {
              State state = reduced<false>(plan, pattern, taps, rows, at + single);
              state.value = scaled(scale, state.value, divisor);
              for (int64_t i = 0; i < repeat; ++i, target += width, code += Coded ? width * code_bytes : 0) {
                put(a, stores, 0, state, target, code);
              }
            } else {
              row_at<false>(plan, rows, repeat, at, target, code, divisor);
              target += results, code += Coded ? results * code_bytes : 0;
            }
            if (divisor != nullptr) divisor += results;
          }
        }
      }
    }
  }
  static void planes(const PixelsArgs& a) {
    const Plan plan(a);
    a.chunk_count == 1 ? all<true>(plan) : all<false>(plan);
  }
};
