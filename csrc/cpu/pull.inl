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
    const Stores stores = past_where(a.stores, whole_lines<T>(a.length));
    for_lanes<Lane>(a.length, [&](auto width, int64_t i) __attribute__((always_inline)) {
      constexpr int W = decltype(width)::value;
      local.template fetch<W>(i);
      store_lanes<false, T, Lane, W>(target + i, local.template gathered<W>(i + skip, 0, 1), stores);
    });
  }
  TP_INLINE static void copy_row(const PullLanesArgs& a, T* target) {
    const Lane* const source = static_cast<const Lane*>(a.scratch) + a.skip;
    const Stores stores = past_where(a.stores, whole_lines<T>(a.length));
    for_lanes<Lane>(a.length, [&](auto width, int64_t i) {
      constexpr int W = decltype(width)::value;
      store_lanes<false, T, Lane, W>(target + i, load_as<Vec<Lane, W>>(source + i), stores);
    });
  }
  // Element i = 2 q + r - skip: pairs of elements are phases (0, 1) of one q, or (1, 0) of two neighbours.
  template <int Rows, int Taps>
  TP_INLINE static void stride_two(const PullLanesArgs& a, const Local<Rows, Taps>& local, T* target) {
    if constexpr (std::is_same_v<T, Lane>) {
      const Stores stores = past_where(a.stores, whole_lines<T>(a.length));
      auto pairs = [&](auto skipped) __attribute__((always_inline)) {
        constexpr int skip = decltype(skipped)::value;
        for_lanes<Lane>(a.length / 2, [&](auto width, int64_t j) __attribute__((always_inline)) {
          constexpr int W = decltype(width)::value;
          local.template fetch<W>(j);
          const auto one = local.template gathered<W>(j, skip, 2);
          store_pairs<Lane, W>(target + 2 * j, one, local.template gathered<W>(j + skip, 1 - skip, 2), stores);
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
  // Rows of the commonest windows, by the number of rows that feed them; Taps 0: any.
  template <int Stride, int Taps>
  static void rows_of(const PullLanesArgs& a) {
    for_rows(a.rows, [&](const PullRow* reads, int64_t count, const char* grads, const char* codes, T* target) {
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
    for_rows(a.rows, [&](const PullRow* reads, int64_t count, const char* grads, const char* codes, T* target) {
      any_stride(a, Local<0, 0>(reads, count, a.taps, grads, codes), target);
    });
  }

  // Channels of one position from `Count` sources, or from all `count` of them.
  template <int Count>
  TP_INLINE static void pixel(const Source* sources, int64_t count, int64_t channels, T* target, Stores stores) {
    Source local[Count == 0 ? 1 : Count];
    for (int e = 0; e < Count; ++e) local[e] = sources[e];
    for_lanes<Lane>(channels, [&](auto width, int64_t c) __attribute__((always_inline)) {
      constexpr int W = decltype(width)::value;
      Vec<Lane, W> total{};
      auto take = [&](const Source& source) __attribute__((always_inline)) {
        if constexpr (W > 1) prefetch_beyond(source.grads + c), prefetch_beyond(source.codes + c);
        total = total + taken<W>(source.grads + c, source.codes + c, source.wanted);
      };
      if constexpr (Count == 0) {
        for (int64_t e = 0; e < count; ++e) take(sources[e]);
      } else {
        for (int e = 0; e < Count; ++e) take(local[e]);
      }
      store_lanes<false, T, Lane, W>(target + c, total, stores);
    });
  }
  // How many positions from i on are read by the same outputs, by taps that follow each other.
  TP_INLINE static int64_t alike(const PullPixelsArgs& a, int64_t i) {
    const PullEntry* const entries = a.entries + a.index[i];
    const int64_t count = a.index[i + 1] - a.index[i];
    for (int64_t n = 1;; ++n) {
      if (i + n == a.positions || a.index[i + n + 1] - a.index[i + n] != count) return n;
      for (int64_t e = 0; e < count; ++e) {
        const PullEntry& other = a.entries[a.index[i + n] + e];
        if (other.output != entries[e].output || other.tap != entries[e].tap + n) return n;
      }
    }
  }
  // Such positions: what they take from is read once.
  template <int Count>
  static void alike_pixels(const PullPixelsArgs& a, const Source* sources, int64_t positions, T* target) {
    auto block = [&](auto width, auto unroll, int64_t c) __attribute__((always_inline)) {
      constexpr int W = width, U = unroll;
      Vec<Lane, W> grad[Count][U];
      Vec<Code, W> code[Count][U];
      for (int e = 0; e < Count; ++e) {
        for (int u = 0; u < U; ++u) {
          grad[e][u] = load_lanes<false, T, Lane, W>(sources[e].grads + c + u * W);
          code[e][u] = load_lanes<false, Stored, Code, W>(sources[e].codes + c + u * W) - broadcast<Code, W>(sources[e].wanted);
        }
      }
      T* at = target + c;
      for (int64_t n = 0; n < positions; ++n, at += a.target_pixel) {
        const auto wanted = broadcast<Code, W>(static_cast<Code>(n));
        for (int u = 0; u < U; ++u) {
          Vec<Lane, W> total{};
          for (int e = 0; e < Count; ++e) total = total + select(code[e][u] == wanted, grad[e][u], Vec<Lane, W>{});
          store_lanes<false, T, Lane, W>(at + u * W, total, a.stores);
        }
      }
    };
    constexpr int U = N == 1 ? 1 : 8 / Count;
    int64_t c = 0;
    for (; c + N * U <= a.channels; c += N * U) block(std::integral_constant<int, N>{}, std::integral_constant<int, U>{}, c);
    for_lanes<Lane>(a.channels - c, [&](auto width, int64_t rest) __attribute__((always_inline)) {
      block(width, std::integral_constant<int, 1>{}, c + rest);
    });
  }
  static void pixels(const PullPixelsArgs& a) {
    constexpr int64_t worthwhile = 4;  // positions alike
    for_rows(a.rows, [&](const PullRow* reads, int64_t rows, const char* grads, const char* codes, T* target) {
      for (int64_t i = 0; i < a.positions; ++i, target += a.target_pixel) {
        if (rows == 1 && a.index[i + 1] - a.index[i] == 1) {  // windows apart from each other
          const PullEntry& entry = a.entries[a.index[i]];
          const Source row = source_of(*reads, grads, codes);
          const Source source{row.grads + entry.output * a.grad_pixel, row.codes + entry.output * a.code_pixel,
                              static_cast<Code>(row.wanted + entry.tap)};
          pixel<1>(&source, 1, a.channels, target, a.stores);
          continue;
        }
        Source sources[most_pixel_reads];
        int64_t count = 0;
        for (int64_t r = 0; r < rows; ++r) {
          const Source row = source_of(reads[r], grads, codes);
          for (int64_t e = a.index[i]; e < a.index[i + 1]; ++e) {
            if (count == most_pixel_reads) __builtin_trap();  // the driver pulls from no more: see choose_max_way
            const PullEntry& entry = a.entries[e];
            sources[count++] = {row.grads + entry.output * a.grad_pixel, row.codes + entry.output * a.code_pixel,
                                static_cast<Code>(row.wanted + entry.tap)};
          }
        }
        const int64_t positions = count == 2 || count == 4 ? alike(a, i) : 1;
        if (positions >= worthwhile) {
          count == 2 ? alike_pixels<2>(a, sources, positions, target) : alike_pixels<4>(a, sources, positions, target);
          i += positions - 1, target += (positions - 1) * a.target_pixel;
          continue;
        }
        switch (count) {
          case 1: pixel<1>(sources, count, a.channels, target, a.stores); break;
          case 2: pixel<2>(sources, count, a.channels, target, a.stores); break;
          case 4: pixel<4>(sources, count, a.channels, target, a.stores); break;
          case 8: pixel<8>(sources, count, a.channels, target, a.stores); break;
          default: pixel<0>(sources, count, a.channels, target, a.stores); break;
        }
      }
    });
  }
};

// Without rows: see MaxFlat. Saved codes are read as they are.
template <class T, class Lane, class Stored>
struct FlatPull {
  using One = Pull<T, Lane, Stored>;
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;

  // W * U elements from p; those `lead` ahead are looked at for the first time. Taps: how many, where known when compiling (else 0).
  template <int W, int U, int Taps>
  TP_INLINE static void block(const FlatArgs& a, int64_t p, int64_t lead) {
    const T* const grads = static_cast<const T*>(a.grads) + p;
    const Stored* const codes = static_cast<const Stored*>(a.codes) + p;
    Vec<Lane, W> total[U] = {};
    for (int u = 0; u < U; ++u) prefetch_beyond(grads + u * W + lead);
    prefetch_beyond(codes + lead);
    const int64_t count = Taps == 0 ? a.tap_count : Taps;
    for (int64_t t = 0; t < count; ++t) {
      const int64_t back = a.taps[t].distance;
      const Code wanted = static_cast<Code>(a.taps[t].code);
#if TP_VECTOR_BYTES == 64
      if constexpr (W * U == 64 && std::is_same_v<Lane, float> && std::is_same_v<Stored, uint8_t>) {  // codes as bytes, all at once
        const __mmask64 taken = _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(codes - back), _mm512_set1_epi8(static_cast<char>(wanted)));
        for (int u = 0; u < U; ++u) {
          const auto grad = (__m512)load_lanes<false, T, Lane, W>(grads - back + u * W), before = (__m512)total[u];
          total[u] = (Vec<Lane, W>)_mm512_mask_add_ps(before, static_cast<__mmask16>(taken >> (u * W)), before, grad);
        }
        continue;
      }
#endif
      for (int u = 0; u < U; ++u) {
        total[u] = total[u] + One::template taken<W>(grads - back + u * W, codes - back + u * W, wanted);
      }
    }
    T* const target = static_cast<T*>(a.target) + p;
    for (int u = 0; u < U; ++u) store_lanes<false, T, Lane, W>(target + u * W, total[u], a.stores);
  }
  // An element near an end of the tensor.
  static void lone(const FlatArgs& a, int64_t p) {
    Lane total{};
    for (int64_t t = 0; t < a.tap_count; ++t) {
      const int64_t from = p - a.taps[t].distance;
      if (from < 0 || from >= a.total) continue;
      total += One::template taken<1>(static_cast<const T*>(a.grads) + from, static_cast<const Stored*>(a.codes) + from,
                                      static_cast<Code>(a.taps[t].code));
    }
    store_lanes<false, T, Lane, 1>(static_cast<T*>(a.target) + p, total);
  }
  // Elements near an end of the tensor, some of whose taps lie outside.
  static void edge(const FlatArgs& a, int64_t begin, int64_t end) {
    int64_t p = begin;
    while (p < end) {
      bool whole = p + N <= end;  // each tap of a vector inside or outside
      for (int64_t t = 0; whole && t < a.tap_count; ++t) {
        const int64_t from = p - a.taps[t].distance;
        whole = (from >= 0 && from + N <= a.total) || from + N <= 0 || from >= a.total;
      }
      if (!whole) {
        lone(a, p++);
        continue;
      }
      Vec<Lane, N> total{};
      for (int64_t t = 0; t < a.tap_count; ++t) {
        const int64_t from = p - a.taps[t].distance;
        if (from < 0 || from >= a.total) continue;
        total = total + One::template taken<N>(static_cast<const T*>(a.grads) + from, static_cast<const Stored*>(a.codes) + from,
                                               static_cast<Code>(a.taps[t].code));
      }
      store_lanes<false, T, Lane, N>(static_cast<T*>(a.target) + p, total);
      p += N;
    }
  }
  template <int Taps>
  static void inside(const FlatArgs& a, int64_t begin, int64_t end, int64_t lead) {
    constexpr int U = N == 1 ? 1 : 4;
    int64_t p = begin;
    for (; p + N * U <= end; p += N * U) block<N, U, Taps>(a, p, lead);
    for (; p + N <= end; p += N) block<N, 1, Taps>(a, p, lead);
    if (p < end && p - begin >= N) {
      block<N, 1, Taps>(a, end - N, lead);
    } else {
      for (; p < end; ++p) block<1, 1, Taps>(a, p, lead);
    }
  }
  static void run(const FlatArgs& a) {
    int64_t least = 0, most = 0;
    for (int64_t t = 0; t < a.tap_count; ++t) {
      least = std::min(least, a.taps[t].distance);
      most = std::max(most, a.taps[t].distance);
    }
    const int64_t begin = std::clamp(most, a.begin, a.end), end = std::clamp(a.total + least, begin, a.end);
    edge(a, a.begin, begin);
    a.tap_count == 9 ? inside<9>(a, begin, end, -least) : inside<0>(a, begin, end, -least);
    edge(a, end, a.end);
  }
};
