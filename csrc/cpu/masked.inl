// Elements of which a mask says whether they count; another takes the place of those that do not. They are moved as they are, so
// that only their size matters. Included inside a target region, after vec.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class T>
struct Masks {
  static constexpr int N = full_lanes<T>;

  template <int W>
  TP_INLINE static Vec<T, W> choose(const uint8_t* mask, Vec<T, W> x, T fill) {
    using Code = CodeOf<T>;
    const auto counts = load_lanes<false, uint8_t, Code, W>(mask);
    if constexpr (W == 1) {
      return counts != 0 ? x : fill;
    } else {
      return select(counts != Vec<Code, W>{}, x, broadcast<T, W>(fill));
    }
  }
  // A mask of the elements of a row. Spread: a row's one element stands for all of it.
  template <bool Spread>
  static void elements(const MaskArgs& a) {
    const T fill = static_cast<T>(a.fill);
    const Stores stores = past_where(a.stores, whole_lines<T>(a.length));
    for (int64_t r = 0; r < a.rows; ++r) {
      const T* const s = static_cast<const T*>(a.source) + r * a.source_row;
      T* const t = static_cast<T*>(a.target) + r * a.target_row;
      for_lanes<T>(a.length, [&](auto width, int64_t i) __attribute__((always_inline)) {
        constexpr int W = decltype(width)::value;
        if constexpr (Spread) {
          store_result(t + i, choose<W>(a.mask + i, broadcast<T, W>(*s), fill), stores);
        } else {
          prefetch_beyond(s + i);
          store_as(t + i, choose<W>(a.mask + i, load_as<Vec<T, W>>(s + i), fill));
        }
      });
    }
  }
  // A mask of the rows.
  static void rows(const MaskArgs& a) {
    const T fill = static_cast<T>(a.fill);
    const Stores stores = past_where(a.stores, whole_lines<T>(a.length));
    const bool ahead = a.source_row != 0;
    for (int64_t r = 0; r < a.rows; ++r) {
      const T* const s = static_cast<const T*>(a.source) + r * a.source_row;
      T* const t = static_cast<T*>(a.target) + r * a.target_row;
      const bool counts = a.mask[r] != 0;
      for_lanes<T>(a.length, [&](auto width, int64_t i) __attribute__((always_inline)) {
        constexpr int W = decltype(width)::value;
        if (ahead) prefetch_beyond(s + i);
        store_result(t + i, counts ? load_as<Vec<T, W>>(s + i) : broadcast<T, W>(fill), stores);
      });
    }
  }
  static MaskKernels kernels() { return {&elements<false>, &elements<true>, &rows}; }
};
