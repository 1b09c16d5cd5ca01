// Combs of many taps, in a number of steps that grows with the logarithm of the taps: windows of a few taps first, in a row of
// their own, then windows of twice as many from two of them, up to the taps asked for. Two windows of a maximum may overlap; for a
// sum they lie side by side, and an odd number takes one element more. Lanes along the outputs. Kernel: a Reduce over lanes.
// Included inside a target region, before reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class Kernel, class R, bool Coded, class Lane>
struct Chain {
  using Code = CodeOf<Lane>;
  using Scale = typename Kernel::Scale;
  static constexpr int N = full_lanes<Lane>;
  static constexpr int64_t direct = R::is_max ? 4 : 7;  // taps of the first windows at most

  static bool serves(int64_t taps) { return N > 1 && taps >= 2 * direct; }

  struct Step {
    int64_t from, to;
    bool odd() const { return !R::is_max && to != 2 * from; }
    int64_t shift() const { return R::is_max ? to - from : from; }  // of the second window, in taps
  };

  template <int Advance>
  TP_INLINE static void rows(const CombArgs& a) {
    Step steps[64];
    int count = 0;
    int64_t first = a.taps;
    for (; first > direct; ++count) {
      const int64_t half = R::is_max ? (first + 1) / 2 : first / 2;
      steps[count] = {half, first};
      first = half;
    }
    const Scale finish(a.last);
    const Lane* const limit = static_cast<const Lane*>(a.last.limit);
    const int64_t length = (a.outputs - 1) * Advance + (a.taps - 1) * a.step + 1;
    Lane* const row = static_cast<Lane*>(a.scratch);
    Code* const row_code = reinterpret_cast<Code*>(row + length + slack_bytes / static_cast<int64_t>(sizeof(Lane)));
    const int64_t rounded = (a.outputs + N - 1) / N * N;
    for_loops(a.loops, [&](int64_t source, int64_t target) {
      const Lane* const s = static_cast<const Lane*>(a.source) + source;
      for_lanes_rounded_up<Lane>(length - (first - 1) * a.step, [&](auto, int64_t i) __attribute__((always_inline)) {
        auto value = load_as<Vec<Lane, N>>(s + i);
        Vec<Code, N> code{};
        for (int64_t t = 1; t < first; ++t) {
          Kernel::template take<N>(value, code, load_as<Vec<Lane, N>>(s + i + t * a.step), broadcast<Code, N>(static_cast<Code>(t)));
        }
        store_as(row + i, value);
        if constexpr (Coded) store_as(row_code + i, code);
      });
      // In place: what an element takes lies behind it, and is not overwritten yet.
      for (int n = count - 1; n > 0; --n) {
        for_lanes_rounded_up<Lane>(length - (steps[n].to - 1) * a.step, [&](auto, int64_t i) __attribute__((always_inline)) {
          Vec<Code, N> code{};
          store_as(row + i, joined<N, 1>(steps[n], a.step, s + i, row + i, row_code + i, code));
          if constexpr (Coded) store_as(row_code + i, code);
        });
      }
      Lane* const t = static_cast<Lane*>(a.target) + target;
      Code* const tc = Coded ? static_cast<Code*>(a.target_code) + target : nullptr;
      auto last = [&](auto width, int64_t o) __attribute__((always_inline)) {
        constexpr int W = decltype(width)::value;
        Vec<Code, W> code{};
        store_as(t + o, finish(joined<W, Advance>(steps[0], a.step, s + o * Advance, row + o * Advance, row_code + o * Advance, code)));
        if constexpr (Coded) store_as(tc + o, code);
      };
      for_lanes<Lane>(limit == nullptr || t + rounded <= limit ? rounded : a.outputs, last);
    });
  }
  // Every Advance-th of W * Advance elements.
  template <int W, int Advance, class T>
  TP_INLINE static Vec<T, W> every(const T* p) {
    if constexpr (Advance == 1) {
      return load_as<Vec<T, W>>(p);
    } else {
      Vec<T, W> even, odd;
      load_pairs<T, W>(p, even, odd);
      return even;
    }
  }
  template <int W, int Advance>
  TP_INLINE static Vec<Lane, W> joined(const Step& step, int64_t apart, const Lane* source, const Lane* row, const Code* row_code,
                                       Vec<Code, W>& code) {
    auto value = every<W, Advance>(row);
    const int64_t shift = step.shift() * apart;
    const auto later = every<W, Advance>(row + shift);
    Vec<Code, W> later_code{};
    if constexpr (Coded) {
      code = every<W, Advance>(row_code);
      const auto behind = every<W, Advance>(row_code + shift);  // anything, in lanes beyond the row
      later_code = wrapping_sum(behind, broadcast<Code, W>(static_cast<Code>(step.shift())));
    }
    Kernel::template take<W>(value, code, later, later_code);
    if constexpr (!R::is_max) {
      if (step.odd()) value = R::step(value, every<W, Advance>(source + 2 * shift));
    }
    return value;
  }
};
