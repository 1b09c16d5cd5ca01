// Rows of a matrix as columns of another, elements moved as they are. Included inside a target region, after vec.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class T>
struct Transpose {
  static constexpr int few_lanes = sizeof(T) == 8 ? 2 : 4;  // of any processor
  static constexpr int N = sizeof(T) >= 4 ? std::max(few_lanes, full_lanes<T>) : few_lanes;

  // W by W elements. A round takes rows half of them apart and puts one's elements between the other's; after as many rounds as W has
  // binary digits every element has come to its place.
  template <int W>
  TP_INLINE static void square(const T* from, int64_t from_step, T* to, int64_t to_step, Stores stores) {
    Vec<T, W> row[W], woven[W];
    for (int i = 0; i < W; ++i) row[i] = load_as<Vec<T, W>>(from + i * from_step);
    for (int done = 1; done < W; done *= 2) {
      for (int i = 0; i < W / 2; ++i) interleave<T, W>(row[i], row[i + W / 2], woven[2 * i], woven[2 * i + 1]);
      for (int i = 0; i < W; ++i) row[i] = woven[i];
    }
    for (int i = 0; i < W; ++i) store_result(to + i * to_step, row[i], past_where(stores, sizeof(row[i]) == widest_vector));
  }
  template <int W>
  TP_INLINE static void band(const TransposeArgs& a, int64_t& i, int64_t begin, int64_t end) {
    const T* const from = static_cast<const T*>(a.from);
    T* const to = static_cast<T*>(a.to);
    for (; i + W <= a.rows; i += W) {
      int64_t j = begin;
      for (; j + W <= end; j += W) square<W>(from + i * a.from_step + j, a.from_step, to + j * a.to_step + i, a.to_step, a.stores);
      for (; j < end; ++j) {
        for (int64_t k = i; k < i + W; ++k) to[j * a.to_step + k] = from[k * a.from_step + j];
      }
    }
  }
  // A few columns at a time: rows may lie so that a cache holds few of them.
  static void run(const TransposeArgs& a) {
    constexpr int64_t few = 64;
    for (int64_t begin = 0; begin < a.columns; begin += few) {
      const int64_t end = std::min(a.columns, begin + few);
      int64_t i = 0;
      if constexpr (N > few_lanes) band<N>(a, i, begin, end);
      band<few_lanes>(a, i, begin, end);
      band<1>(a, i, begin, end);
    }
  }
};
