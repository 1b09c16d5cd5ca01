// Max backward: an input takes the gradients of the outputs whose saved code names the tap by which they read it. Every
// element is written once, in a fixed order. Margins of a row of codes hold a code that no tap has. T: storage of gradients,
// Stored: of codes. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, class Lane, class Stored>
struct Pull {
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;

  // One output that may feed the elements at hand.
  struct Source {
    const T* grads;
    const Stored* codes;
    Code wanted;
  };
  template <int W>
  TP_INLINE static Vec<Lane, W> taken(const T* grads, const Stored* codes, Code wanted) {
    const auto code = load_lanes<false, Stored, Code, W>(codes);
    return select(code == broadcast<Code, W>(wanted), load_lanes<false, T, Lane, W>(grads), Vec<Lane, W>{});
  }

  // Rows and Taps: how many, where known when compiling (else 0), so that pointers and codes stay in registers.
  template <int Rows, int Taps>
  struct Local {
    Source rows[Rows == 0 ? 1 : Rows];
    const PullLanesArgs& args;

    explicit Local(const PullLanesArgs& a) : args(a) {
      for (int r = 0; r < Rows; ++r) rows[r] = source_of(a.rows[r]);
    }
    TP_INLINE static Source source_of(const PullRow& row) {
      return {static_cast<const T*>(row.grad), static_cast<const Stored*>(row.code), static_cast<Code>(row.base)};
    }
    // Sum over rows and taps phase, phase + stride, ... for W elements from q.
    template <int W>
    TP_INLINE Vec<Lane, W> gathered(int64_t q, int64_t phase, int64_t stride) const {
      Vec<Lane, W> total{};
      auto add_row = [&](const Source& row) {
        const int64_t taps = Taps == 0 ? args.taps : Taps;
        for (int64_t t = phase, m = 0; t < taps; t += stride, ++m) {
          total = total + taken<W>(row.grads + q - m, row.codes + q - m, static_cast<Code>(row.wanted + t));
        }
      };
      if constexpr (Rows == 0) {
        for (int64_t r = 0; r < args.row_count; ++r) add_row(source_of(args.rows[r]));
      } else {
        for (int r = 0; r < Rows; ++r) add_row(rows[r]);
      }
      return total;
    }
  };

  template <int Rows, int Taps>
  TP_INLINE static void stride_one(const PullLanesArgs& a) {
    const Local<Rows, Taps> local(a);
    T* const target = static_cast<T*>(a.target);
    const int64_t skip = a.skip;
    for_lanes<Lane>(a.length, [&](auto width, int64_t i) {
      constexpr int W = decltype(width)::value;
      store_lanes<false, T, Lane, W>(target + i, local.template gathered<W>(i + skip, 0, 1));
    });
  }
  TP_INLINE static void copy_row(const PullLanesArgs& a) {
    const Lane* const source = static_cast<const Lane*>(a.scratch) + a.skip;
    T* const target = static_cast<T*>(a.target);
    for_lanes<Lane>(a.length, [&](auto width, int64_t i) {
      constexpr int W = decltype(width)::value;
      store_lanes<false, T, Lane, W>(target + i, load_as<Vec<Lane, W>>(source + i));
    });
  }
  // Element i = 2 q + r - skip: pairs of elements are phases (0, 1) of one q, or (1, 0) of two neighbours.
  template <int Rows, int Taps>
  TP_INLINE static void stride_two(const PullLanesArgs& a) {
    const Local<Rows, Taps> local(a);
    if constexpr (std::is_same_v<T, Lane>) {
      T* const target = static_cast<T*>(a.target);
      const int64_t skip = a.skip;
      for_lanes<Lane>(a.length / 2, [&](auto width, int64_t j) {
        constexpr int W = decltype(width)::value;
        if (skip == 0) {
          store_pairs<Lane, W>(target + 2 * j, local.template gathered<W>(j, 0, 2), local.template gathered<W>(j, 1, 2));
        } else {
          store_pairs<Lane, W>(target + 2 * j, local.template gathered<W>(j, 1, 2), local.template gathered<W>(j + 1, 0, 2));
        }
      });
      if (a.length % 2 != 0) target[a.length - 1] = local.template gathered<1>(a.length / 2, skip, 2);
    } else {
      Lane* const row = static_cast<Lane*>(a.scratch);
      for_lanes<Lane>(a.count, [&](auto width, int64_t q) {
        constexpr int W = decltype(width)::value;
        store_pairs<Lane, W>(row + 2 * q, local.template gathered<W>(q, 0, 2), local.template gathered<W>(q, 1, 2));
      });
      copy_row(a);
    }
  }
  static void any_stride(const PullLanesArgs& a) {
    const Local<0, 0> local(a);
    Lane* const scratch = static_cast<Lane*>(a.scratch);
    for (int64_t phase = 0; phase < a.stride; ++phase) {
      for_lanes<Lane>(a.count, [&](auto width, int64_t q) {
        constexpr int W = decltype(width)::value;
        Lane lanes[W];
        store_as(lanes, local.template gathered<W>(q, phase, a.stride));
        for (int i = 0; i < W; ++i) scratch[(q + i) * a.stride + phase] = lanes[i];
      });
    }
    copy_row(a);
  }
  static void lanes(const PullLanesArgs& a) {
    if (a.stride == 1 && a.taps == 3) {
      switch (a.row_count) {
        case 1: return stride_one<1, 3>(a);
        case 2: return stride_one<2, 3>(a);
        case 3: return stride_one<3, 3>(a);
      }
    }
    if (a.stride == 1) return stride_one<0, 0>(a);
    if (a.stride == 2 && a.taps == 2 && a.row_count == 1) return stride_two<1, 2>(a);
    if (a.stride == 2 && a.taps == 3 && a.row_count == 1) return stride_two<1, 3>(a);
    if (a.stride == 2 && a.taps == 3 && a.row_count == 2) return stride_two<2, 3>(a);
    if (a.stride == 2) return stride_two<0, 0>(a);
    return any_stride(a);
  }

  // Channels of one position from `Count` sources, or from all `count` of them.
  template <int Count>
  TP_INLINE static void pixel(const Source* sources, int64_t count, int64_t channels, T* target) {
    Source local[Count == 0 ? 1 : Count];
    for (int e = 0; e < Count; ++e) local[e] = sources[e];
    for_lanes<Lane>(channels, [&](auto width, int64_t c) {
      constexpr int W = decltype(width)::value;
      Vec<Lane, W> total{};
      if constexpr (Count == 0) {
        for (int64_t e = 0; e < count; ++e) {
          total = total + taken<W>(sources[e].grads + c, sources[e].codes + c, sources[e].wanted);
        }
      } else {
        for (int e = 0; e < Count; ++e) total = total + taken<W>(local[e].grads + c, local[e].codes + c, local[e].wanted);
      }
      store_lanes<false, T, Lane, W>(target + c, total);
    });
  }
  static void pixels(const PullPixelsArgs& a) {
    T* target = static_cast<T*>(a.target);
    constexpr int most = 64;
    Source sources[most];  // the driver pulls from no more
    for (int64_t i = 0; i < a.positions; ++i, target += a.target_pixel) {
      if (a.row_count == 1 && a.index[i + 1] - a.index[i] == 1) {  // windows apart from each other
        const PullEntry& entry = a.entries[a.index[i]];
        const T* const grads = static_cast<const T*>(a.rows->grad) + entry.output * a.grad_pixel;
        const Stored* const codes = static_cast<const Stored*>(a.rows->code) + entry.output * a.code_pixel;
        const Code wanted = static_cast<Code>(a.rows->base + entry.tap);
        for_lanes<Lane>(a.channels, [&](auto width, int64_t c) {
          constexpr int W = decltype(width)::value;
          store_lanes<false, T, Lane, W>(target + c, taken<W>(grads + c, codes + c, wanted));
        });
        continue;
      }
      int64_t count = 0;
      for (int64_t r = 0; r < a.row_count; ++r) {
        const PullRow& row = a.rows[r];
        for (int64_t e = a.index[i]; e < a.index[i + 1] && count < most; ++e) {
          const PullEntry& entry = a.entries[e];
          sources[count++] = {static_cast<const T*>(row.grad) + entry.output * a.grad_pixel,
                              static_cast<const Stored*>(row.code) + entry.output * a.code_pixel,
                              static_cast<Code>(row.base + entry.tap)};
        }
      }
      switch (count) {
        case 2: pixel<2>(sources, count, a.channels, target); break;
        case 4: pixel<4>(sources, count, a.channels, target); break;
        default: pixel<0>(sources, count, a.channels, target); break;
      }
    }
  }
};
