// Max backward by pixels: lanes along the channels of a position of grad_input. See Pull. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, class Lane, class Stored>
struct PullPixels {
  using Rows = Pull<T, Lane, Stored>;
  using Source = typename Rows::Source;
  using Take = Taken<T, Lane, Stored>;
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;

  TP_INLINE static Source source_at(const PullPixelsArgs& a, const Source& row, const PullEntry& entry) {
    return {row.grads + entry.output * a.grad_pixel, row.codes + entry.output * a.code_pixel, static_cast<Code>(row.wanted + entry.tap)};
  }
  // Channels of one position from `Count` sources, or from all `count` of them.
  template <int Count>
  TP_INLINE static void pixel(const Source* sources, int64_t count, int64_t channels, T* target, Stores stores) {
    Source local[Count == 0 ? 1 : Count];
    for (int e = 0; e < Count; ++e) local[e] = sources[e];
    Take::for_elements(channels, [&](auto elements, int64_t c) __attribute__((always_inline)) {
      constexpr int E = elements;
      typename Take::template Sums<E> total;
      auto take = [&](const Source& source) __attribute__((always_inline)) {
        if constexpr (E > 1) prefetch_beyond(source.grads + c), prefetch_beyond(source.codes + c);
        total.take({source.grads + c, source.codes + c, 0}, source.wanted);
      };
      if constexpr (Count == 0) {
        for (int64_t e = 0; e < count; ++e) take(sources[e]);
      } else {
        for (int e = 0; e < Count; ++e) take(local[e]);
      }
      total.put(target + c, stores);
    });
  }

  // Windows of three that move by two, 3x3 above all: four positions side by side are read by one output of a row, two, one and two, which
  // are three; so each is read and widened once for six uses.
  static constexpr int64_t group = 4;
  static bool begins_group(const PullPixelsArgs& a, int64_t i) {
    constexpr PullEntry pattern[] = {{0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}, {2, 0}};
    constexpr int64_t reads[] = {1, 2, 1, 2};
    if (i + group > a.positions) return false;
    for (int64_t n = 0; n < group; ++n) {
      if (a.index[i + n + 1] - a.index[i + n] != reads[n]) return false;
    }
    const PullEntry* const entries = a.entries + a.index[i];
    for (int64_t e = 0; e < 6; ++e) {
      if (entries[e].output - entries[0].output != pattern[e].output || entries[e].tap != pattern[e].tap) return false;
    }
    return true;
  }
  // Count: how many rows, where known when compiling (else 0). Output: the first one.
  template <int Count>
  TP_INLINE static void group_of(const PullPixelsArgs& a, const Source* rows, int64_t count, int64_t output, T* target) {
    Source local[Count == 0 ? 1 : Count];
    for (int r = 0; r < Count; ++r) local[r] = source_at(a, rows[r], {output, 0});
    Take::for_elements(a.channels, [&](auto elements, int64_t c) __attribute__((always_inline)) {
      constexpr int E = elements;
      using Given = typename Take::template Given<E>;
      typename Take::template Sums<E> total[group];
      auto take = [&](const Source& row) __attribute__((always_inline)) {
        const T* const grads = row.grads + c;
        const Stored* const codes = row.codes + c;
        if constexpr (E > 1) {
          for (int64_t n = 1; n < 3; ++n) prefetch_beyond(grads + n * a.grad_pixel), prefetch_beyond(codes + n * a.code_pixel);
        }
        const Given first(grads, codes, row.wanted), second(grads + a.grad_pixel, codes + a.code_pixel, row.wanted),
            third(grads + 2 * a.grad_pixel, codes + 2 * a.code_pixel, row.wanted);
        total[0].take(first, 1);
        total[1].take(first, 2), total[1].take(second, 0);
        total[2].take(second, 1);
        total[3].take(second, 2), total[3].take(third, 0);
      };
      if constexpr (Count == 0) {
        for (int64_t r = 0; r < count; ++r) take(source_at(a, rows[r], {output, 0}));
      } else {
        for (int r = 0; r < Count; ++r) take(local[r]);
      }
      for (int64_t n = 0; n < group; ++n) total[n].put(target + n * a.target_pixel + c, a.stores);
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
    auto block = [&](auto elements, auto unroll, int64_t c) __attribute__((always_inline)) {
      constexpr int E = elements, U = unroll;
      typename Take::template Given<E> given[Count][U];
      for (int e = 0; e < Count; ++e) {
        for (int u = 0; u < U; ++u) given[e][u] = {sources[e].grads + c + u * E, sources[e].codes + c + u * E, sources[e].wanted};
      }
      T* at = target + c;
      for (int64_t n = 0; n < positions; ++n, at += a.target_pixel) {
        for (int u = 0; u < U; ++u) {
          typename Take::template Sums<E> total;
          for (int e = 0; e < Count; ++e) total.take(given[e][u], static_cast<Code>(n));
          total.put(at + u * E, a.stores);
        }
      }
    };
    constexpr int E = Take::full, U = N == 1 ? 1 : 8 / Count;
    int64_t c = 0;
    for (; c + E * U <= a.channels; c += E * U) block(std::integral_constant<int, E>{}, std::integral_constant<int, U>{}, c);
    Take::for_elements(a.channels - c, [&](auto elements, int64_t rest) __attribute__((always_inline)) {
      block(elements, std::integral_constant<int, 1>{}, c + rest);
    });
  }
  static void pixels(const PullPixelsArgs& a) {
    constexpr int64_t worthwhile = 4;  // positions alike
    int64_t first_group = 0, groups = 0;
    while (first_group < group && !begins_group(a, first_group)) ++first_group;
    while (begins_group(a, first_group + groups * group)) ++groups;
    Rows::for_rows(a.rows, [&](const PullRow* reads, int64_t row_count, const char* grads, const char* codes, T* target) {
      Source rows[most_pixel_reads];
      if (row_count > most_pixel_reads) __builtin_trap();  // the driver pulls from no more: see choose_max_way
      for (int64_t r = 0; r < row_count; ++r) rows[r] = Rows::source_of(reads[r], grads, codes);
      for (int64_t i = 0; i < a.positions; ++i, target += a.target_pixel) {
        const PullEntry* const entries = a.entries + a.index[i];
        const int64_t entry_count = a.index[i + 1] - a.index[i];
        if (i == first_group && groups > 0) {
          for (int64_t n = 0; n < groups; ++n, target += group * a.target_pixel) {
            const int64_t output = a.entries[a.index[i + n * group]].output;
            switch (row_count) {
              case 1: group_of<1>(a, rows, row_count, output, target); break;
              case 2: group_of<2>(a, rows, row_count, output, target); break;
              default: group_of<0>(a, rows, row_count, output, target); break;
            }
          }
          i += groups * group - 1, target -= a.target_pixel;
          continue;
        }
        if (row_count == 1 && entry_count == 1) {  // windows apart from each other
          const Source source = source_at(a, rows[0], entries[0]);
          pixel<1>(&source, 1, a.channels, target, a.stores);
          continue;
        }
        Source sources[most_pixel_reads];
        int64_t count = 0;
        for (int64_t r = 0; r < row_count; ++r) {
          for (int64_t e = 0; e < entry_count; ++e) {
            if (count == most_pixel_reads) __builtin_trap();
            sources[count++] = source_at(a, rows[r], entries[e]);
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
