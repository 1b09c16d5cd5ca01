// Where saved codes point to: the vector half of the scatter in max_scatter.cpp. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class Stored>
struct Locate {
  static constexpr int N = full_lanes<int32_t>;

  template <int W, bool Deep>
  TP_INLINE static Vec<int32_t, W> position(const LocateArgs& a, int64_t i) {
    const auto code = load_lanes<false, Stored, int32_t, W>(static_cast<const Stored*>(a.codes) + i);
    // Half a tap more keeps the quotient away from whole numbers, whatever the rounding.
    const auto rows = convert<int32_t, W>((convert<float, W>(code) + 0.5f) * a.per_row);
    auto distance = code * a.step_w + rows * a.step_h;
    if constexpr (Deep) {
      distance = distance + convert<int32_t, W>((convert<float, W>(rows) + 0.5f) * a.per_depth) * a.step_d;
    }
    return distance;
  }
  template <int W>
  TP_INLINE static Vec<int32_t, W> ramp() {
    if constexpr (W == 1) {
      return 0;
    } else {
      return []<int... I>(std::integer_sequence<int, I...>) { return Vec<int32_t, W>{I...}; }(std::make_integer_sequence<int, W>{});
    }
  }
  template <bool Deep>
  TP_INLINE static bool locate(const LocateArgs& a) {
    Vec<int32_t, N> outside{};
    bool lone_outside = false;
    auto check = [&](auto at) __attribute__((always_inline)) {
      const auto wrong = (at < 0) | (at >= a.limit);
      if constexpr (std::is_same_v<decltype(at), int32_t>) {
        lone_outside |= wrong;
      } else if constexpr (sizeof(at) == sizeof(outside)) {
        outside = outside | wrong;
      } else {
        for (size_t k = 0; k < sizeof(at) / sizeof(int32_t); ++k) lone_outside |= wrong[k] != 0;
      }
    };
    if (a.channels == 1 && a.code_pixel == 1) {
      for_lanes<int32_t>(a.count, [&](auto width, int64_t i) __attribute__((always_inline)) {
        constexpr int W = decltype(width)::value;
        const Vec<int32_t, W> at = position<W, Deep>(a, i) + load_as<Vec<int32_t, W>>(a.origins + i) + a.base;
        store_as(a.positions + i, at);
        check(at);
      });
    } else {
      for (int64_t o = 0; o < a.count; ++o) {
        const int32_t base = a.base + a.origins[o];
        for_lanes<int32_t>(a.channels, [&](auto width, int64_t c) __attribute__((always_inline)) {
          constexpr int W = decltype(width)::value;
          const Vec<int32_t, W> at = (position<W, Deep>(a, o * a.code_pixel + c) + base) * a.scale + ramp<W>() + static_cast<int32_t>(c);
          store_as(a.positions + o * a.channels + c, at);
          check(at);
        });
      }
    }
    if constexpr (N > 1) {
      for (int k = 0; k < N; ++k) lone_outside |= outside[k] != 0;
    }
    return !lone_outside;
  }
  static bool run(const LocateArgs& a) { return a.step_d != 0 ? locate<true>(a) : locate<false>(a); }
};
