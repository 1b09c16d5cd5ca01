// Max backward: an input takes the gradients of the outputs whose saved code names the tap by which they read it. Every
// element is written once, in a fixed order. Margins of a row of codes hold a code that no tap has. T: storage of gradients,
// Stored: of codes. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, class Lane, class Stored>
struct Pull {
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;

  template <int W>
  TP_INLINE static Vec<Lane, W> taken(const T* grads, const Stored* codes, Vec<Code, W> wanted) {
    const auto code = load_lanes<false, Stored, Code, W>(codes);
    return select(code == wanted, load_lanes<false, T, Lane, W>(grads), Vec<Lane, W>{});
  }
  template <int W>
  TP_INLINE static Vec<Code, W> tap_of(const PullRow& row, int64_t tap) {
    return broadcast<Code, W>(static_cast<Code>(row.base + tap));
  }

  // Sum over rows and taps phase, phase + stride, ... for W elements from q.
  template <int W, int Taps>
  TP_INLINE static Vec<Lane, W> gathered(const PullLanesArgs& a, int64_t q, int64_t phase, int64_t stride) {
    const int64_t taps = Taps == 0 ? a.taps : Taps;
    Vec<Lane, W> total{};
    for (int64_t r = 0; r < a.row_count; ++r) {
      const PullRow row = a.rows[r];
      const T* grads = static_cast<const T*>(row.grad) + q;
      const Stored* codes = static_cast<const Stored*>(row.code) + q;
      for (int64_t t = phase, m = 0; t < taps; t += stride, ++m) {
        total = total + taken<W>(grads - m, codes - m, tap_of<W>(row, t));
      }
    }
    return total;
  }

  template <int Taps>
  TP_INLINE static void stride_one(const PullLanesArgs& a) {
    T* const target = static_cast<T*>(a.target);
    for_lanes<Lane>(a.length, [&](auto width, int64_t i) {
      constexpr int W = decltype(width)::value;
      store_lanes<false, T, Lane, W>(target + i, gathered<W, Taps>(a, i + a.skip, 0, 1));
    });
  }
  static void copy_row(const PullLanesArgs& a) {
    const Lane* const source = static_cast<const Lane*>(a.scratch) + a.skip;
    T* const target = static_cast<T*>(a.target);
    for_lanes<Lane>(a.length, [&](auto width, int64_t i) {
      constexpr int W = decltype(width)::value;
      store_lanes<false, T, Lane, W>(target + i, load_as<Vec<Lane, W>>(source + i));
    });
  }
  template <int Taps>
  TP_INLINE static void stride_two(const PullLanesArgs& a) {
    Lane* const scratch = static_cast<Lane*>(a.scratch);
    for_lanes<Lane>(a.count, [&](auto width, int64_t q) {
      constexpr int W = decltype(width)::value;
      store_pairs<Lane, W>(scratch + 2 * q, gathered<W, Taps>(a, q, 0, 2), gathered<W, Taps>(a, q, 1, 2));
    });
    copy_row(a);
  }
  static void any_stride(const PullLanesArgs& a) {
    Lane* const scratch = static_cast<Lane*>(a.scratch);
    for (int64_t phase = 0; phase < a.stride; ++phase) {
      for_lanes<Lane>(a.count, [&](auto width, int64_t q) {
        constexpr int W = decltype(width)::value;
        Lane lanes[W];
        store_as(lanes, gathered<W, 0>(a, q, phase, a.stride));
        for (int i = 0; i < W; ++i) scratch[(q + i) * a.stride + phase] = lanes[i];
      });
    }
    copy_row(a);
  }
  static void lanes(const PullLanesArgs& a) {
    if (a.stride == 1) return a.taps == 3 ? stride_one<3>(a) : stride_one<0>(a);
    if (a.stride == 2) return a.taps == 2 ? stride_two<2>(a) : a.taps == 3 ? stride_two<3>(a) : stride_two<0>(a);
    return any_stride(a);
  }

  static void pixels(const PullPixelsArgs& a) {
    T* target = static_cast<T*>(a.target);
    for (int64_t i = 0; i < a.positions; ++i, target += a.target_pixel) {
      for_lanes<Lane>(a.channels, [&](auto width, int64_t c) {
        constexpr int W = decltype(width)::value;
        Vec<Lane, W> total{};
        for (int64_t r = 0; r < a.row_count; ++r) {
          const PullRow& row = a.rows[r];
          for (int64_t e = a.index[i]; e < a.index[i + 1]; ++e) {
            const PullEntry& entry = a.entries[e];
            total = total + taken<W>(static_cast<const T*>(row.grad) + entry.output * a.grad_pixel + c,
                                     static_cast<const Stored*>(row.code) + entry.output * a.code_pixel + c,
                                     tap_of<W>(row, entry.tap));
          }
        }
        store_lanes<false, T, Lane, W>(target + c, total);
      });
    }
  }
};
