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
  TP_INLINE static Source source_of(const PullRow& row, const char* grads, const char* codes) {
    return {reinterpret_cast<const T*>(grads + row.grad), reinterpret_cast<const Stored*>(codes + row.code),
            static_cast<Code>(row.base)};
  }

  // body(reads, count, grads, codes, target) for every row of every plane.
  template <class Body>
  TP_INLINE static void for_rows(const PullRows& rows, Body body) {
    const char* grads = static_cast<const char*>(rows.grads);
    const char* codes = static_cast<const char*>(rows.codes);
    for (int64_t plane = 0; plane < rows.planes; ++plane, grads += rows.grad_plane, codes += rows.code_plane) {
      const int64_t* first = rows.first;
      for (int64_t d = 0; d < rows.depth; ++d) {
        T* target = static_cast<T*>(rows.target) + plane * rows.target_plane + d * rows.target_depth;
        for (int64_t h = 0; h < rows.height; ++h, ++first, target += rows.target_row) {
          body(rows.reads + first[0], first[1] - first[0], grads, codes, target);
        }
      }
    }
  }

  // The sources of one row. Rows and Taps: how many, where known when compiling (else 0), so that pointers and codes stay in
  // registers.
  template <int Rows, int Taps>
  struct Local {
    Source rows[Rows == 0 ? 1 : Rows];
    const PullRow* reads;
    int64_t count, taps;
    const char* grads;
    const char* codes;

    TP_INLINE Local(const PullRow* r, int64_t n, int64_t t, const char* g, const char* c)
        : reads(r), count(n), taps(t), grads(g), codes(c) {
      for (int i = 0; i < Rows; ++i) rows[i] = source_of(r[i], g, c);
    }
    // Sum over rows and taps phase, phase + stride, ... for W elements from q.
    template <int W, int Only = 0>  // the stride, where known
    TP_INLINE Vec<Lane, W> gathered(int64_t q, int64_t phase, int64_t stride) const {
      Vec<Lane, W> total{};
      auto add_row = [&](const Source& row) __attribute__((always_inline)) {
        const int64_t most = Taps == 0 ? taps : Taps;
        // Outputs in their order, as everywhere.
        for (int64_t m = Taps > 2 && Taps == Only ? 0 : ceil_div(most - phase, stride) - 1; m >= 0; --m) {
          total = total + taken<W>(row.grads + q - m, row.codes + q - m, static_cast<Code>(row.wanted + phase + m * stride));
        }
      };
      if constexpr (Rows == 0) {
        for (int64_t r = 0; r < count; ++r) add_row(source_of(reads[r], grads, codes));
      } else {
        for (int r = 0; r < Rows; ++r) add_row(rows[r]);
      }
      return total;
    }
    template <int W>
    TP_INLINE void fetch(int64_t q) const {
      if constexpr (W > 1) {
        for (int r = 0; r < Rows; ++r) prefetch_beyond(rows[r].grads + q), prefetch_beyond(rows[r].codes + q);
      }
    }
  };

  template <int Rows, int Taps>
  TP_INLINE static void stride_one(const PullLanesArgs& a, const Local<Rows, Taps>& local, T* target) {
    const int64_t skip = a.skip;
    for_lanes<Lane>(a.length, [&](auto width, int64_t i) __attribute__((always_inline)) {
      constexpr int W = decltype(width)::value;
      local.template fetch<W>(i);
      store_lanes<false, T, Lane, W>(target + i, local.template gathered<W>(i + skip, 0, 1), a.stores);
    });
  }
  TP_INLINE static void copy_row(const PullLanesArgs& a, T* target) {
    const Lane* const source = static_cast<const Lane*>(a.scratch) + a.skip;
    for_lanes<Lane>(a.length, [&](auto width, int64_t i) {
      constexpr int W = decltype(width)::value;
      store_lanes<false, T, Lane, W>(target + i, load_as<Vec<Lane, W>>(source + i), a.stores);
    });
  }
  // Element i = 2 q + r - skip: pairs of elements are phases (0, 1) of one q, or (1, 0) of two neighbours.
  template <int Rows, int Taps>
  TP_INLINE static void stride_two(const PullLanesArgs& a, const Local<Rows, Taps>& local, T* target) {
    if constexpr (std::is_same_v<T, Lane>) {
      auto pairs = [&](auto skipped) __attribute__((always_inline)) {
        constexpr int skip = decltype(skipped)::value;
        for_lanes<Lane>(a.length / 2, [&](auto width, int64_t j) __attribute__((always_inline)) {
          constexpr int W = decltype(width)::value;
          local.template fetch<W>(j);
          const auto one = local.template gathered<W>(j, skip, 2);
          store_pairs<Lane, W>(target + 2 * j, one, local.template gathered<W>(j + skip, 1 - skip, 2), a.stores);
        });
      };
      a.skip == 0 ? pairs(std::integral_constant<int, 0>{}) : pairs(std::integral_constant<int, 1>{});
      if (a.length % 2 != 0) target[a.length - 1] = local.template gathered<1>(a.length / 2, a.skip, 2);
    } else {
      Lane* const row = static_cast<Lane*>(a.scratch);
      for_lanes<Lane>(a.count, [&](auto width, int64_t q) __attribute__((always_inline)) {
        constexpr int W = decltype(width)::value;
        local.template fetch<W>(q);
        store_pairs<Lane, W>(row + 2 * q, local.template gathered<W>(q, 0, 2), local.template gathered<W>(q, 1, 2));
      });
      copy_row(a, target);
    }
  }
  // Elements i = Stride q + r - skip, by turns: r of the q at hand, or of the next one. What is no lane goes through a row of them.
  template <int Stride, int Rows, int Taps>
  TP_INLINE static void few_strides(const PullLanesArgs& a, const Local<Rows, Taps>& local, T* target) {
    constexpr bool direct = std::is_same_v<T, Lane>;
    const int64_t skip = direct ? a.skip : 0, count = direct ? a.length / Stride : a.count;
    Lane* const row = direct ? reinterpret_cast<Lane*>(target) : static_cast<Lane*>(a.scratch);
    const auto from = [&](int64_t r) { return r + skip < Stride ? r + skip : r + skip - Stride; };
    for_lanes<Lane>(count, [&](auto width, int64_t q) __attribute__((always_inline)) {
      constexpr int W = decltype(width)::value;
      local.template fetch<W>(q);
      Vec<Lane, W> phases[Stride];
      for (int r = 0; r < Stride; ++r) phases[r] = local.template gathered<W, Stride>(r + skip < Stride ? q : q + 1, from(r), Stride);
      store_in_turns<Stride, Lane, W>(row + Stride * q, phases);
    });
    if constexpr (direct) {
      for (int64_t i = Stride * count; i < a.length; ++i) {
        const int64_t r = i - Stride * count;
        target[i] = local.template gathered<1>(r + skip < Stride ? count : count + 1, from(r), Stride);
      }
    } else {
      copy_row(a, target);
    }
  }
  TP_INLINE static void any_stride(const PullLanesArgs& a, const Local<0, 0>& local, T* target) {
    Lane* const scratch = static_cast<Lane*>(a.scratch);
    for (int64_t phase = 0; phase < a.stride; ++phase) {
      for_lanes<Lane>(a.count, [&](auto width, int64_t q) {
        constexpr int W = decltype(width)::value;
        Lane lanes[W];
        store_as(lanes, local.template gathered<W>(q, phase, a.stride));
        for (int i = 0; i < W; ++i) scratch[(q + i) * a.stride + phase] = lanes[i];
      });
    }
    copy_row(a, target);
  }
  template <int Stride, int Rows, int Taps>
  static void row_of(const PullLanesArgs& a, const PullRow* reads, int64_t count, const char* grads, const char* codes, T* target) {
    const Local<Rows, Taps> local(reads, count, a.taps, grads, codes);
    if constexpr (Stride == 1) {
      stride_one(a, local, target);
    } else if constexpr (Stride == 2) {
      stride_two(a, local, target);
    } else {
      few_strides<Stride>(a, local, target);
    }
  }
  // body(how it is stored and all else, reads, count, grads, codes, target) for every row of every plane.
  template <class Body>
  TP_INLINE static void for_stored_rows(const PullLanesArgs& given, Body body) {
    Together<T> together(given.together, given.stores, whole_lines<T>(given.length));
    PullLanesArgs a = given;
    a.stores = together.stores;
    if (!together.stages()) {
      return for_rows(a.rows, [&](const PullRow* reads, int64_t count, const char* grads, const char* codes, T* target) {
        body(a, reads, count, grads, codes, target);
      });
    }
    for_rows(a.rows, [&](const PullRow* reads, int64_t count, const char* grads, const char* codes, T* target) {
      body(a, reads, count, grads, codes, together.place(target, a.length));
    });
    together.leave();
  }
  // Rows of the commonest windows, by the number of rows that feed them; Taps 0: any.
  template <int Stride, int Taps>
  static void rows_of(const PullLanesArgs& given) {
    for_stored_rows(given, [&](const PullLanesArgs& a, const PullRow* reads, int64_t count, const char* grads, const char* codes, T* target) {
      if constexpr (Taps != 0) {
        if (count == 1) return row_of<Stride, 1, Taps>(a, reads, count, grads, codes, target);
        if constexpr (Taps == 3) {
          if (count == 2) return row_of<Stride, 2, Taps>(a, reads, count, grads, codes, target);
        }
      }
      row_of<Stride, 0, 0>(a, reads, count, grads, codes, target);
    });
  }
  static void lanes(const PullLanesArgs& a) {
    if (a.stride == 1) return a.taps == 3 ? rows_of<1, 3>(a) : rows_of<1, 0>(a);
    if (a.stride == 2) {
      switch (a.taps) {
        case 2: return rows_of<2, 2>(a);
        case 3: return rows_of<2, 3>(a);
        case 4: return rows_of<2, 4>(a);
        default: return rows_of<2, 0>(a);
      }
    }
    if (a.stride == 3) return a.taps == 3 ? rows_of<3, 3>(a) : rows_of<3, 0>(a);
    if (a.stride == 4) return a.taps == 4 ? rows_of<4, 4>(a) : rows_of<4, 0>(a);
    for_stored_rows(a, [](const PullLanesArgs& all, const PullRow* reads, int64_t count, const char* grads, const char* codes, T* target) {
      any_stride(all, Local<0, 0>(reads, count, all.taps, grads, codes), target);
    });
  }
};
