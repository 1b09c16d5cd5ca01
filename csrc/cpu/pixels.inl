// Windows over depth, rows and columns in one go, lanes along the channels below a pixel; from source elements S straight to
// stored results T. Included inside a target region, after reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class R, bool Keyed, bool Coded, class S, class Lane, class T, bool Storage>
struct Pixels {
  using Kernel = Reduce<R, Keyed, Coded, S, Lane, Storage>;
  using Code = CodeOf<Lane>;
  using Scale = typename Kernel::Scale;
  static constexpr int N = full_lanes<Lane>;

  struct Place {
    const Window &depth, &row, &column;
  };

  template <int W>
  TP_INLINE static void put_code(const PixelsArgs& a, char* code, int64_t at, Vec<Code, W> number) {
    if (a.codes_are_bytes) {
      store_narrowed<Code, uint8_t, W>(reinterpret_cast<uint8_t*>(code) + at, number);
    } else {
      store_as(reinterpret_cast<Code*>(code) + at, number);
    }
  }

  template <int W, int U>
  TP_INLINE static void block(const PixelsArgs& a, const S* s, const Place& at, T* target, char* code, const Scale& scale,
                              const Lane* divisor) {
    const Window &depth = at.depth, &row = at.row, &column = at.column;
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
    for (int u = 0; u < U; ++u) {
      Vec<Lane, W> v = value[u];
      if constexpr (!R::is_max) v = divisor == nullptr ? scale(v) : Vec<Lane, W>(v / broadcast<Lane, W>(*divisor));
      store_lanes<Keyed, T, Lane, W>(target + u * W, v);
      if constexpr (Coded) put_code<W>(a, code, u * W, number[u]);
    }
  }

  TP_INLINE static void pixel(const PixelsArgs& a, const S* s, const Place& place, T* target, char* code, const Scale& scale,
                              const Lane* divisor) {
    if (place.depth.taps == 0 || place.row.taps == 0 || place.column.taps == 0) {
      for (int64_t i = 0; i < a.inner; ++i) {
        store_lanes<Keyed, T, Lane, 1>(target + i, R::template init<Lane>());
        if constexpr (Coded) put_code<1>(a, code, i, 0);
      }
      return;
    }
    s += place.depth.start * a.source_depth + place.row.start * a.source_row + place.column.start * a.source_pixel;
    int64_t i = 0;
    const int64_t code_bytes = a.codes_are_bytes ? 1 : static_cast<int64_t>(sizeof(Code));
    auto at = [&](auto width, auto unroll) {
      block<width, unroll>(a, s + i, place, target + i, Coded ? code + i * code_bytes : nullptr, scale, divisor);
      i += width * unroll;
    };
    using std::integral_constant;
    constexpr integral_constant<int, 1> one;
    while (i + 4 * N <= a.inner) at(integral_constant<int, N>{}, integral_constant<int, 4>{});
    while (i + N <= a.inner) at(integral_constant<int, N>{}, one);
    if constexpr (N >= 8) {
      if (i + N / 2 <= a.inner) at(integral_constant<int, N / 2>{}, one);
    }
    while (i < a.inner) at(one, one);
  }

  TP_INLINE static void plane_at(const PixelsArgs& a, const Window& depth, const S* s, T* t_row, char* c_row, const Scale& scale,
                                 const Lane*& divisor) {
    const int64_t code_bytes = a.codes_are_bytes ? 1 : static_cast<int64_t>(sizeof(Code));
    for (int64_t r = 0; r < a.row_count; ++r) {
      for (int64_t again = 0; again < a.rows[r].repeat; ++again, t_row += a.target_row) {
        T* t = t_row;
        char* c = c_row;
        for (int64_t o = 0; o < a.column_count; ++o) {
          for (int64_t more = 0; more < a.columns[o].repeat; ++more, t += a.target_pixel) {
            pixel(a, s, {depth, a.rows[r], a.columns[o]}, t, c, scale, divisor);
            if constexpr (Coded) c += a.code_pixel * code_bytes;
            if (divisor != nullptr) ++divisor;
          }
        }
        if constexpr (Coded) c_row += a.code_row * code_bytes;
      }
    }
  }
  static void planes(const PixelsArgs& a) {
    Final last;
    last.divisor = a.divisor;
    const Scale scale(last);
    const int64_t code_bytes = a.codes_are_bytes ? 1 : static_cast<int64_t>(sizeof(Code));
    for (int64_t p = 0; p < a.planes; ++p) {
      const S* const s = static_cast<const S*>(a.source) + p * a.source_plane;
      T* t = static_cast<T*>(a.target) + p * a.target_plane;
      char* c = Coded ? static_cast<char*>(a.target_code) + p * a.code_plane * code_bytes : nullptr;
      const Lane* divisor = static_cast<const Lane*>(a.divisors);
      for (int64_t d = 0; d < a.depth_count; ++d) {
        for (int64_t again = 0; again < a.depths[d].repeat; ++again, t += a.target_depth) {
          plane_at(a, a.depths[d], s, t, c, scale, divisor);
          if constexpr (Coded) c += a.code_depth * code_bytes;
        }
      }
    }
  }
};
