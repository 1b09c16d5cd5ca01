// Where saved codes point to: the vector half of the scatter in max_scatter.cpp, and the check that all of them point into the
// input. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

// Quotients of codes by a number of taps. Half a tap more keeps a quotient away from whole numbers, whatever the rounding.
template <int W>
TP_INLINE Vec<int32_t, W> quotient_of(Vec<int32_t, W> code, float reciprocal) {
  return convert<int32_t, W>((convert<float, W>(code) + 0.5f) * reciprocal);
}
// Remembers whether any lane of any mask was set.
template <int N = full_lanes<int32_t>>
struct AnyLane {
  Vec<int32_t, N> lanes{};
  bool lone = false;

  template <class Mask>
  TP_INLINE void take(Mask mask) {
    if constexpr (std::is_same_v<Mask, Vec<int32_t, N>>) {
      lanes = lanes | mask;
    } else {
      lone |= any_lane(mask);
    }
  }
  TP_INLINE bool any() const {
    return lone || any_lane(lanes);
  }
};

template <class Stored>
struct Locate {
  template <int W, bool Deep>
  TP_INLINE static Vec<int32_t, W> position(const LocateArgs& a, int64_t i) {
    const auto code = load_lanes<false, Stored, int32_t, W>(static_cast<const Stored*>(a.codes) + i);
    const auto rows = quotient_of<W>(code, a.per_row);
    auto distance = code * a.step_w + rows * a.step_h;
    if constexpr (Deep) {
      distance = distance + quotient_of<W>(rows, a.per_depth) * a.step_d;
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
    AnyLane<> outside;
    auto check = [&](auto at) __attribute__((always_inline)) { outside.take((at < 0) | (at >= a.limit)); };
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
    return !outside.any();
  }
  static bool run(const LocateArgs& a) { return a.step_d != 0 ? locate<true>(a) : locate<false>(a); }
};

template <class Stored>
struct Inside {
  template <bool Deep>
  TP_INLINE static bool rows(const InsideArgs& a) {
    AnyLane<> outside;
    const float per_row = 1 / static_cast<float>(a.taps_w), per_depth = 1 / static_cast<float>(a.taps_h);
    for (int64_t row = a.begin, r = a.begin % a.rows; row < a.end; ++row, r = r + 1 == a.rows ? 0 : r + 1) {
      const TapRange depth = a.depths[r], height = a.heights[r];
      const Stored* const codes = static_cast<const Stored*>(a.codes) + row * a.width * a.channels;
      auto check = [&](auto code, auto first, auto last) __attribute__((always_inline)) {
        constexpr int W = static_cast<int>(sizeof(code) / sizeof(int32_t));
        auto tap_h = quotient_of<W>(code, per_row);
        const auto tap_w = code - tap_h * a.taps_w;
        auto wrong = (tap_w < first) | (tap_w >= last);
        if constexpr (Deep) {
          const auto tap_d = quotient_of<W>(tap_h, per_depth);
          tap_h = tap_h - tap_d * a.taps_h;
          wrong = wrong | (tap_d < depth.first) | (tap_d >= depth.last);
        }
        outside.take(wrong | (tap_h < height.first) | (tap_h >= height.last));
      };
      if (a.channels == 1) {
        for_lanes<int32_t>(a.width, [&](auto width, int64_t o) __attribute__((always_inline)) {
          constexpr int W = decltype(width)::value;
          check(load_lanes<false, Stored, int32_t, W>(codes + o), load_as<Vec<int32_t, W>>(a.first + o),
                load_as<Vec<int32_t, W>>(a.last + o));
        });
        continue;
      }
      for (int64_t o = 0; o < a.width; ++o) {
        for_lanes<int32_t>(a.channels, [&](auto width, int64_t c) __attribute__((always_inline)) {
          constexpr int W = decltype(width)::value;
          check(load_lanes<false, Stored, int32_t, W>(codes + o * a.channels + c), broadcast<int32_t, W>(a.first[o]),
                broadcast<int32_t, W>(a.last[o]));
        });
      }
    }
    return !outside.any();
  }
  // By masks, which need no rows: all positions of a plane follow each other.
  TP_INLINE static bool positions(const InsideArgs& a) {
    AnyLane<> outside, beyond;
    auto check = [&](auto code, auto mask) __attribute__((always_inline)) {
      outside.take((mask >> (code & 31)) & 1);
      beyond.take(code >> 5);
    };
    for (int64_t row = a.begin; row < a.end;) {
      const int64_t r = row % a.rows, count = std::min(a.rows - r, a.end - row);
      const int32_t* const masks = reinterpret_cast<const int32_t*>(a.masks) + r * a.width;
      const Stored* const codes = static_cast<const Stored*>(a.codes) + row * a.width * a.channels;
      row += count;
      if (a.channels == 1) {
        for_lanes<int32_t>(count * a.width, [&](auto width, int64_t o) __attribute__((always_inline)) {
          constexpr int W = decltype(width)::value;
          check(load_lanes<false, Stored, int32_t, W>(codes + o), load_as<Vec<int32_t, W>>(masks + o));
        });
        continue;
      }
      for (int64_t o = 0; o < count * a.width; ++o) {
        for_lanes<int32_t>(a.channels, [&](auto width, int64_t c) __attribute__((always_inline)) {
          constexpr int W = decltype(width)::value;
          check(load_lanes<false, Stored, int32_t, W>(codes + o * a.channels + c), broadcast<int32_t, W>(masks[o]));
        });
      }
    }
    return !outside.any() && !beyond.any();
  }
  static bool run(const InsideArgs& a) {
    if (a.masks != nullptr) return positions(a);
    return a.deep ? rows<true>(a) : rows<false>(a);
  }
};
