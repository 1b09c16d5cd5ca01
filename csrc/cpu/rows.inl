// A long window over many columns whose rows follow each other in memory, not in a cache: a tap of all columns at a time, the order
// in which memory is fastest. Kernel: a Reduce that reads storage. Included inside a target region, before reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class Kernel, class R, bool Coded, class S, class Lane>
struct Rows {
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;
  static constexpr int64_t most_columns = 8192;  // whose states stay near

  // The first `count` columns of rows `stride` apart.
  static void take(const S* s, const Window& window, int64_t stride, int64_t scale, Lane* target, Code* target_code, int64_t count) {
    for (int64_t t = 0; t < window.taps; ++t, s += stride) {
      const Code number = static_cast<Code>((window.tap + t) * scale);
      int64_t i = 0;
      auto at = [&](auto width) __attribute__((always_inline)) {
        constexpr int W = width;
        auto value = Kernel::template load<W>(s + i, true);
        auto code = broadcast<Code, W>(number);
        if (t > 0) {
          const auto x = value;
          value = load_as<Vec<Lane, W>>(target + i);
          if constexpr (Coded) code = load_as<Vec<Code, W>>(target_code + i);
          Kernel::template take<W>(value, code, x, broadcast<Code, W>(number));
        }
        store_as(target + i, value);
        if constexpr (Coded) store_as(target_code + i, code);
        i += W;
      };
      while (i + N <= count) at(std::integral_constant<int, N>{});
      while (i < count) at(std::integral_constant<int, 1>{});
    }
  }
  // Sums in 64 bits of narrower elements, of a few taps at a time.
  static void widened(const S* s, const Window& window, int64_t stride, Lane* target, int64_t count) {
    using Narrow = Rows<typename Kernel::template With<float>, R, false, S, float>;
    float part[most_columns];
    Window few;
    for (int64_t t = 0; t < window.taps; t += few.taps, s += few.taps * stride) {
      few.taps = std::min(Kernel::few_taps, window.taps - t);
      Narrow::take(s, few, stride, 1, part, nullptr, count);
      for (int64_t i = 0; i < count; ++i) target[i] = (t == 0 ? 0 : target[i]) + static_cast<Lane>(part[i]);
    }
  }
  template <class Scale>
  static void columns(const WindowsArgs& a, const Window& window, const S* s, Lane* target, Code* target_code, const Scale& finish) {
    for (int64_t i = 0; i < a.inner; i += most_columns) {
      const int64_t count = std::min(most_columns, a.inner - i);
      if constexpr (Run<Kernel, R, Coded, S, Lane>::in_blocks) {
        widened(s + i, window, a.inner, target + i, count);
      } else {
        take(s + i, window, a.inner, a.code_scale, target + i, Coded ? target_code + i : nullptr, count);
      }
    }
    if (finish.kind == Scale::None) return;
    for (int64_t i = 0; i < a.inner; ++i) target[i] = finish(target[i]);
  }
};
