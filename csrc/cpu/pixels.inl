// Windows over depth, rows and columns in one go, lanes along the channels below a pixel; from source elements S straight to
// stored results T. Included inside a target region, after reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class R, bool Keyed, bool Coded, class S, class Lane, class T, bool Storage>
struct Pixels {
  using Kernel = Reduce<R, Keyed, Coded, S, Lane, Storage>;
  using Code = CodeOf<Lane>;
  using Scale = typename Kernel::Scale;
  static constexpr int N = full_lanes<Lane>;

  // A window, the results it serves, and their divisor.
  struct Place {
    const Window &depth, &row, &column;
    T* target;
    char* code;
    const Lane* divisor;
  };

  static constexpr int64_t code_bytes(const PixelsArgs& a) { return a.codes_are_bytes ? 1 : static_cast<int64_t>(sizeof(Code)); }

  template <int W>
  TP_INLINE static void put_code(const PixelsArgs& a, char* code, int64_t at, Vec<Code, W> number) {
    if (a.codes_are_bytes) {
      store_narrowed<Code, uint8_t, W>(reinterpret_cast<uint8_t*>(code) + at, number);
    } else {
      store_as(reinterpret_cast<Code*>(code) + at, number);
    }
  }
  template <int W, int U>
  TP_INLINE static void put(const PixelsArgs& a, T* target, char* code, const Vec<Lane, W> (&value)[U],
                            const Vec<Code, W> (&number)[U]) {
    for (int u = 0; u < U; ++u) {
      store_lanes<Keyed, T, Lane, W>(target + u * W, value[u], a.past);
      if constexpr (Coded) put_code<W>(a, code, u * W, number[u]);
    }
  }
  template <int W, int U>
  TP_INLINE static void put_all(const PixelsArgs& a, const Place& at, int64_t i, const Vec<Lane, W> (&value)[U],
                                const Vec<Code, W> (&number)[U]) {
    if (at.depth.repeat == 1 && at.row.repeat == 1 && at.column.repeat == 1) {
      return put<W, U>(a, at.target + i, Coded ? at.code + i * code_bytes(a) : nullptr, value, number);
    }
    for (int64_t d = 0; d < at.depth.repeat; ++d) {
      for (int64_t r = 0; r < at.row.repeat; ++r) {
        T* target = at.target + i + d * a.target_depth + r * a.target_row;
        char* code = Coded ? at.code + (i + d * a.code_depth + r * a.code_row) * code_bytes(a) : nullptr;
        for (int64_t o = 0; o < at.column.repeat; ++o, target += a.target_pixel) {
          put<W, U>(a, target, code, value, number);
          if constexpr (Coded) code += a.code_pixel * code_bytes(a);
        }
      }
    }
  }

  // Channels [i, i + W * U) of the results of one window.
  template <int W, int U>
  TP_INLINE static void block(const PixelsArgs& a, const S* s, const Place& at, int64_t i, const Scale& scale) {
    const Window &depth = at.depth, &row = at.row, &column = at.column;
    s += i;
    Vec<Lane, W> value[U];
    Vec<Code, W> number[U] = {};
    const Code first = static_cast<Code>(depth.tap * a.depth_scale + row.tap * a.row_scale + column.tap);
    for (int u = 0; u < U; ++u) {
      value[u] = Kernel::template load<W>(s + u * W);
      if constexpr (Coded) number[u] = broadcast<Code, W>(first);
    }
    const int64_t depth_step = depth.step * a.source_depth, row_step = row.step * a.source_row, step = column.step * a.source_pixel;
    for (int64_t d = 0; d < depth.taps; ++d) {
      for (int64_t r = 0; r < row.taps; ++r) {
        const S* p = s + d * depth_step + r * row_step;
        Code c = static_cast<Code>(first + d * a.depth_scale + r * a.row_scale);
        for (int64_t t = 0; t < column.taps; ++t, p += step, ++c) {
          if (d + r + t == 0) continue;
          for (int u = 0; u < U; ++u) {
            Kernel::template take<W>(value[u], number[u], Kernel::template load<W>(p + u * W), broadcast<Code, W>(c));
          }
        }
      }
    }
    if constexpr (!R::is_max) {
      for (int u = 0; u < U; ++u) {
        value[u] = at.divisor == nullptr ? scale(value[u]) : Vec<Lane, W>(value[u] / broadcast<Lane, W>(*at.divisor));
      }
    }
    put_all<W, U>(a, at, i, value, number);
  }

  TP_INLINE static void pixel(const PixelsArgs& a, const S* s, const Place& at, const Scale& scale) {
    if (at.depth.taps == 0 || at.row.taps == 0 || at.column.taps == 0) {
      const Vec<Lane, 1> nothing[1] = {R::template init<Lane>()};
      const Vec<Code, 1> none[1] = {};
      for (int64_t i = 0; i < a.inner; ++i) put_all<1, 1>(a, at, i, nothing, none);
      return;
    }
    int64_t i = 0;
    for (; i + 4 * N <= a.inner; i += 4 * N) block<N, 4>(a, s, at, i, scale);
    for (; i + N <= a.inner; i += N) block<N, 1>(a, s, at, i, scale);
    if (i == a.inner) return;
    if constexpr (N > 1) {
      if (i > 0) return block<N, 1>(a, s, at, a.inner - N, scale);  // some channels a second time
    }
    if constexpr (N >= 8) {
      if (N / 2 <= a.inner) {
        block<N / 2, 1>(a, s, at, 0, scale);
        if (N / 2 < a.inner) block<N / 2, 1>(a, s, at, a.inner - N / 2, scale);
        return;
      }
    }
    for (; i < a.inner; ++i) block<1, 1>(a, s, at, i, scale);
  }

  TP_INLINE static void row_at(const PixelsArgs& a, const Window& depth, const Window& row, const S* s, T* target, char* code,
                               const Lane* divisor, const Scale& scale) {
    for (int64_t o = 0; o < a.column_count; ++o) {
      const Window& column = a.columns[o];
      const S* at = s + column.start * a.source_pixel;
      for (int64_t n = 0; n < column.count; ++n, at += column.advance * a.source_pixel) {
        pixel(a, at, {depth, row, column, target, code, divisor}, scale);
        target += column.repeat * a.target_pixel;
        if constexpr (Coded) code += column.repeat * a.code_pixel * code_bytes(a);
        if (divisor != nullptr) divisor += column.repeat;
      }
    }
  }
  TP_INLINE static void plane_at(const PixelsArgs& a, const Window& depth, const S* s, T* target, char* code, const Lane* divisor,
                                 const Scale& scale) {
    for (int64_t r = 0; r < a.row_count; ++r) {
      const Window& row = a.rows[r];
      const S* at = s + row.start * a.source_row;
      for (int64_t n = 0; n < row.count; ++n, at += row.advance * a.source_row) {
        row_at(a, depth, row, at, target, code, divisor, scale);
        target += row.repeat * a.target_row;
        if constexpr (Coded) code += row.repeat * a.code_row * code_bytes(a);
        if (divisor != nullptr) divisor += row.repeat * a.width;
      }
    }
  }
  static void planes(const PixelsArgs& a) {
    Final last;
    last.divisor = a.divisor;
    const Scale scale(last);
    for (int64_t p = 0; p < a.planes; ++p) {
      const S* const s = static_cast<const S*>(a.source) + p * a.source_plane;
      const Lane* divisor = static_cast<const Lane*>(a.divisors);
      T* target = static_cast<T*>(a.target) + p * a.target_plane;
      char* code = Coded ? static_cast<char*>(a.target_code) + p * a.code_plane * code_bytes(a) : nullptr;
      for (int64_t d = 0; d < a.depth_count; ++d) {
        const Window& depth = a.depths[d];
        const S* at = s + depth.start * a.source_depth;
        for (int64_t n = 0; n < depth.count; ++n, at += depth.advance * a.source_depth) {
          plane_at(a, depth, at, target, code, divisor, scale);
          target += depth.repeat * a.target_depth;
          if constexpr (Coded) code += depth.repeat * a.code_depth * code_bytes(a);
          if (divisor != nullptr) divisor += depth.repeat * a.height * a.width;
        }
      }
    }
  }
};
