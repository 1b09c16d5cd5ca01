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
    Stores stores;  // see Final
  };

  // Of a window: how far each lies from the first, and its number. The same for all windows that shift.
  struct Taps {
    int64_t count = 0;
    int64_t distance[most_pixel_taps];
    Code code[most_pixel_taps];

    Taps(const PixelsArgs& a, const Window& depth, const Window& row, const Window& column) {
      for (int64_t d = 0; d < depth.taps; ++d) {
        for (int64_t r = 0; r < row.taps; ++r) {
          for (int64_t t = 0; t < column.taps; ++t, ++count) {
            distance[count] = d * depth.step * a.source_depth + r * row.step * a.source_row + t * column.step * a.source_pixel;
            if constexpr (Coded) {
              code[count] = static_cast<Code>((depth.tap + d) * a.depth_scale + (row.tap + r) * a.row_scale + column.tap + t);
            }
          }
        }
      }
    }
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
  TP_INLINE static void put(const PixelsArgs& a, T* target, char* code, Stores stores, const Vec<Lane, W> (&value)[U],
                            const Vec<Code, W> (&number)[U]) {
    if constexpr (std::is_same_v<S, T>) {
      store_block<Keyed, T, Lane, W, U>(target, value, stores);
    } else {
      for (int u = 0; u < U; ++u) store_lanes<Keyed, T, Lane, W>(target + u * W, value[u], stores);
    }
    if constexpr (Coded) {
      for (int u = 0; u < U; ++u) put_code<W>(a, code, u * W, number[u]);
    }
  }
  template <int W, int U>
  TP_INLINE static void put_all(const PixelsArgs& a, const Place& at, int64_t i, const Vec<Lane, W> (&value)[U],
                                const Vec<Code, W> (&number)[U]) {
    for (int64_t d = 0; d < at.depth.repeat; ++d) {
      for (int64_t r = 0; r < at.row.repeat; ++r) {
        T* target = at.target + i + d * a.target_depth + r * a.target_row;
        char* code = Coded ? at.code + (i + d * a.code_depth + r * a.code_row) * code_bytes(a) : nullptr;
        for (int64_t o = 0; o < at.column.repeat; ++o, target += a.target_pixel) {
          put<W, U>(a, target, code, at.stores, value, number);
          if constexpr (Coded) code += a.code_pixel * code_bytes(a);
        }
      }
    }
  }

  // Channels [i, i + W * U) of the results of one window, whose taps are `taps` in scan order.
  template <int W, int U>
  TP_INLINE static void block(const PixelsArgs& a, const S* s, const Taps& taps, const Place& at, int64_t i, const Scale& scale) {
    const int64_t count = taps.count;
    s += i;
    Vec<Lane, W> value[U];
    Vec<Code, W> number[U] = {};
    const bool ahead = Storage && a.ahead;
    load_block<Keyed, S, Lane, W, U>(s + taps.distance[0], value, ahead);
    if constexpr (Coded) {
      for (int u = 0; u < U; ++u) number[u] = broadcast<Code, W>(taps.code[0]);
    }
    for (int64_t t = 1; t < count; ++t) {
      Vec<Lane, W> x[U];
      load_block<Keyed, S, Lane, W, U>(s + taps.distance[t], x, ahead);
      for (int u = 0; u < U; ++u) {
        Kernel::template take<W>(value[u], number[u], x[u], Coded ? broadcast<Code, W>(taps.code[t]) : Vec<Code, W>{});
      }
    }
    if constexpr (!R::is_max) {
      for (int u = 0; u < U; ++u) {
        value[u] = at.divisor == nullptr ? scale(value[u]) : Vec<Lane, W>(value[u] / broadcast<Lane, W>(*at.divisor));
      }
    }
    put_all<W, U>(a, at, i, value, number);
  }

  TP_INLINE static void pixel(const PixelsArgs& a, const S* s, const Taps& taps, const Place& at, const Scale& scale) {
    if (taps.count == 0) {
      const Vec<Lane, 1> nothing[1] = {R::template init<Lane>()};
      const Vec<Code, 1> none[1] = {};
      for (int64_t i = 0; i < a.inner; ++i) put_all<1, 1>(a, at, i, nothing, none);
      return;
    }
    int64_t i = 0;
    for (; i + 4 * N <= a.inner; i += 4 * N) block<N, 4>(a, s, taps, at, i, scale);
    if (i == a.inner) return;
    auto rest = [&](auto width) __attribute__((always_inline)) {  // some channels a second time
      for (; i < a.inner; i += width) block<width, 1>(a, s, taps, at, std::min(i, a.inner - width), scale);
    };
    if (a.inner >= N) return rest(std::integral_constant<int, N>{});
    if constexpr (N >= 8) {
      if (a.inner >= N / 2) return rest(std::integral_constant<int, N / 2>{});
    }
    if constexpr (N >= 16) {
      if (a.inner >= N / 4) return rest(std::integral_constant<int, N / 4>{});
    }
    if constexpr (N >= 32) {
      if (a.inner >= N / 8) return rest(std::integral_constant<int, N / 8>{});
    }
    if constexpr (N > 1) rest(std::integral_constant<int, 1>{});
  }

  TP_INLINE static void row_at(const PixelsArgs& a, const Window& depth, const Window& row, const S* s, T* target, char* code,
                               const Lane* divisor, const Scale& scale) {
    for (int64_t o = 0; o < a.column_count; ++o) {
      const Window& column = a.columns[o];
      const S* at = s + column.start * a.source_pixel;
      const Taps taps(a, depth, row, column);
      for (int64_t n = 0; n < column.count; ++n, at += column.advance * a.source_pixel) {
        pixel(a, at, taps, {depth, row, column, target, code, divisor, a.stores}, scale);
        target += column.repeat * a.target_pixel;
        if constexpr (Coded) code += column.repeat * a.code_pixel * code_bytes(a);
        if (divisor != nullptr) divisor += column.repeat;
      }
    }
  }
  // Copies of lone elements, scaled, are made one after the other, in the order of memory, where pixels are long.
  static bool copies(const PixelsArgs& a, const Window& depth, const Window& row, const Lane* divisor) {
    if (Coded || R::is_max || a.inner < 8 * N || divisor != nullptr || depth.taps * depth.repeat != 1 || row.taps != 1) return false;
    return std::all_of(a.columns, a.columns + a.column_count, [](const Window& column) { return column.taps == 1; });
  }
  static void copy_rows(const PixelsArgs& a, const Window& depth, const Window& row, const S* s, T* target, const Scale& scale) {
    Window once = row, alone;
    once.repeat = 1;
    for (int64_t r = 0; r < row.repeat; ++r, target += a.target_row) {
      T* to = target;
      for (int64_t o = 0; o < a.column_count; ++o) {
        const Window& column = a.columns[o];
        const Taps taps(a, depth, row, column);
        for (int64_t n = 0; n < column.outputs(); ++n, to += a.target_pixel) {
          pixel(a, s + (column.start + n / column.repeat * column.advance) * a.source_pixel, taps, {depth, once, alone, to, nullptr, nullptr, a.stores}, scale);
        }
      }
    }
  }
  TP_INLINE static void plane_at(const PixelsArgs& a, const Window& depth, const S* s, T* target, char* code, const Lane* divisor,
                                 const Scale& scale) {
    for (int64_t r = 0; r < a.row_count; ++r) {
      const Window& row = a.rows[r];
      const S* at = s + row.start * a.source_row;
      const bool lone = copies(a, depth, row, divisor);
      for (int64_t n = 0; n < row.count; ++n, at += row.advance * a.source_row) {
        if (lone) {
          copy_rows(a, depth, row, at, target, scale);
        } else {
          row_at(a, depth, row, at, target, code, divisor, scale);
        }
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
