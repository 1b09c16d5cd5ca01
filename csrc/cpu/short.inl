// Planes of short rows in channels-first: a vector holds a row of inputs, and each result of a row picks its taps from it by a
// permutation. Rows are reduced before columns, but for maxima with positions, whose order of taps decides ties. Vectors are
// stored whole: what lies beyond a row, the rows that follow write again. Included inside a target region, after pixels.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class R, bool Keyed, bool Coded, class S, class Lane, class T, bool Storage>
struct Short {
  using Kernel = Reduce<R, Keyed, Coded, S, Lane, Storage>;
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;

  // Results of a row that one vector of inputs holds. Tap: of a maximum its number, of a sum all ones where there is one.
  struct Chunk {
    int64_t begin, source;
    bool gaps;  // some result has fewer taps than others
    Vec<Code, N> from[short_taps], tap[short_taps];

    Chunk() = default;
    Chunk(const PixelsArgs& a, const ShortChunk& chunk, int64_t taps) : begin(chunk.begin), source(chunk.source), gaps(false) {
      alignas(Vec<Code, N>) Code lanes[2][N] = {};
      for (int64_t t = 0; t < taps; ++t) {
        for (int64_t i = begin; i < chunk.end; ++i) {
          const Window& window = a.columns[i];
          const int64_t n = std::clamp<int64_t>(t, 0, std::max<int64_t>(0, window.taps - 1));  // a maximum takes its last tap again
          gaps |= t >= window.taps;
          lanes[0][i - begin] = window.taps == 0 ? Code{0} : static_cast<Code>(window.start + n * window.step - source);
          lanes[1][i - begin] = static_cast<Code>(R::is_max ? window.tap + n : t < window.taps ? -1 : 0);
        }
        from[t] = load_as<Vec<Code, N>>(lanes[0]), tap[t] = load_as<Vec<Code, N>>(lanes[1]);
      }
    }
  };

  struct State {
    Vec<Lane, N> value;
    Vec<Code, N> code;
  };
  // Results of a chunk, from rows `row` of a plane that begin at s.
  TP_INLINE static State reduced(const PixelsArgs& a, const Chunk& chunk, int64_t taps, const Window& row, const S* s) {
    s += chunk.source;
    const int64_t step = row.step * a.source_row;
    State state{};
    if constexpr (Coded) {
      auto number = static_cast<Code>(row.tap * a.row_scale);
      for (int64_t r = 0; r < row.taps; ++r, s += step, number = static_cast<Code>(number + a.row_scale)) {
        const auto x = Kernel::template load<N>(s);
        auto value = permute<Lane, N>(x, chunk.from[0]);
        auto code = chunk.tap[0];
        for (int64_t t = 1; t < taps; ++t) Kernel::template take<N>(value, code, permute<Lane, N>(x, chunk.from[t]), chunk.tap[t]);
        code = code + broadcast<Code, N>(number);
        if (r == 0) {
          state = {value, code};
        } else {
          Kernel::template take<N>(state.value, state.code, value, code);
        }
      }
    } else {
      if (row.taps == 0) return state;
      auto all = Kernel::template load<N>(s);
      for (int64_t r = 1; r < row.taps; ++r) all = R::step(all, Kernel::template load<N>(s += step));
      auto picked = [&](int64_t t) __attribute__((always_inline)) {
        const auto x = permute<Lane, N>(all, chunk.from[t]);
        if constexpr (R::is_max) return x;
        return chunk.gaps ? select(chunk.tap[t] != Vec<Code, N>{}, x, Vec<Lane, N>{}) : x;
      };
      state.value = picked(0);
      for (int64_t t = 1; t < taps; ++t) state.value = R::step(state.value, picked(t));
    }
    return state;
  }

  using Pixel = Pixels<R, Keyed, Coded, S, Lane, T, Storage>;
  using Scale = typename Kernel::Scale;
  // Chunks: how many, where known when compiling (else 0).
  template <int Chunks>
  TP_INLINE static void plane(const PixelsArgs& a, const Chunk* chunks, int64_t taps, const S* s, T* target, char* code, const Scale& scale) {
    const int64_t count = Chunks == 0 ? a.chunk_count : Chunks;
    const Lane* divisor = static_cast<const Lane*>(a.divisors);
    for (int64_t r = 0; r < a.row_count; ++r) {
      const Window& row = a.rows[r];
      const S* at = s + row.start * a.source_row;
      for (int64_t n = 0; n < row.count; ++n, at += row.advance * a.source_row) {
        State states[Chunks == 0 ? short_chunks : Chunks];
        for (int64_t c = 0; c < count; ++c) {
          states[c] = reduced(a, chunks[c], taps, row, at);
          if constexpr (!R::is_max) {
            auto& value = states[c].value;
            value = divisor == nullptr ? scale(value) : Vec<Lane, N>(value / load_as<Vec<Lane, N>>(divisor + chunks[c].begin));
          }
        }
        for (int64_t again = 0; again < row.repeat; ++again, target += a.width) {
          for (int64_t c = 0; c < count; ++c) {
            store_lanes<Keyed, T, Lane, N>(target + chunks[c].begin, states[c].value);
            if constexpr (Coded) Pixel::template put_code<N>(a, code, chunks[c].begin, states[c].code);
          }
          if constexpr (Coded) code += a.width * Pixel::code_bytes(a);
        }
        if (divisor != nullptr) divisor += row.repeat * a.width;
      }
    }
  }
  template <int Chunks>
  static void all(const PixelsArgs& a, const Chunk* chunks, int64_t taps) {
    Final last;
    last.divisor = a.divisor;
    const Scale scale(last);
    const int64_t results = a.height * a.width, total = a.planes * a.depth_count * results, code_bytes = Pixel::code_bytes(a);
    const S* const source_end = static_cast<const S*>(a.source_end);
    for (int64_t p = 0, done = 0; p < a.planes; ++p) {
      for (int64_t d = 0; d < a.depth_count; ++d, done += results) {
        const S* s = static_cast<const S*>(a.source) + p * a.source_plane + d * a.source_depth;
        T* const target = static_cast<T*>(a.target) + done;
        char* const code = Coded ? static_cast<char*>(a.target_code) + done * code_bytes : nullptr;
        if (done + results + N <= total && source_end - s >= a.source_reach + N) {
          plane<Chunks>(a, chunks, taps, s, target, code, scale);
          continue;
        }
        // Vectors would reach beyond what is ours: in and out through buffers.
        char* const spare = static_cast<char*>(a.scratch);
        T* const own = reinterpret_cast<T*>(spare);
        char* const own_code = spare + (results + N) * static_cast<int64_t>(sizeof(T));
        S* const copy = reinterpret_cast<S*>(own_code + ceil_div<int64_t>((results + N) * code_bytes, 8) * 8);
        std::memcpy(static_cast<void*>(copy), s, static_cast<size_t>(std::min(source_end - s, a.source_reach + N)) * sizeof(S));
        plane<Chunks>(a, chunks, taps, copy, own, own_code, scale);
        std::memcpy(static_cast<void*>(target), own, static_cast<size_t>(results) * sizeof(T));
        if constexpr (Coded) std::memcpy(code, own_code, static_cast<size_t>(results * code_bytes));
      }
    }
  }
  static void planes(const PixelsArgs& a) {
    Chunk chunks[short_chunks];
    int64_t taps = 1;
    for (int64_t i = 0; i < a.column_count; ++i) taps = std::max(taps, a.columns[i].taps);
    for (int64_t c = 0; c < a.chunk_count; ++c) chunks[c] = Chunk(a, a.chunks[c], taps);
    a.chunk_count == 1 ? all<1>(a, chunks, taps) : all<0>(a, chunks, taps);
  }
};
