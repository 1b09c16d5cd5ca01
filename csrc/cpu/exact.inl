// Sums of float64 over whole planes, as near as float64 comes to them: beside each lane runs the sum of its rounding errors (Knuth's
// two-sum), and the mean is corrected by its own remainder. Memory is the limit of long windows, not these additions. Included inside
// a target region, after reduce.inl.
// SPDX-License-Identifier: BSD-3-Clause

struct Exact {
  using Kernel = Reduce<Sum, false, false, double, double, true>;
  static constexpr int N = full_lanes<double>;
  static constexpr int64_t most_columns = 512;

  template <class V>
  TP_INLINE static void add(V& high, V& low, V x) {
    const V total = high + x, taken = total - high;
    low = low + ((high - (total - taken)) + (x - taken));
    high = total;
  }
  // Where high overflowed or is no number, low is none, either; low may be none alone, next to the largest number.
  static double mean(double high, double low, double divisor) {
    const double quotient = high / divisor;
    if (!std::isfinite(quotient) || !std::isfinite(low)) return quotient;
    return quotient + (std::fma(-quotient, divisor, high) + low) / divisor;
  }

  template <int W>
  TP_INLINE static void join(Vec<double, W> highs, Vec<double, W> lows, double& high, double& low) {
    if constexpr (W == 1) {
      low += lows;
      add(high, low, highs);
    } else {
      auto [one, two] = halves<double, W>(highs);
      const auto [one_low, two_low] = halves<double, W>(lows);
      auto rest = one_low + two_low;
      add(one, rest, two);
      join<W / 2>(one, rest, high, low);
    }
  }
  // Lanes along the taps.
  static double along(const double* s, int64_t taps, int64_t stride, double divisor, bool ahead) {
    double high = 0, low = 0;
    int64_t t = 0;
    if (stride == 1) {
      constexpr int U = 4;
      Vec<double, N> highs[U] = {}, lows[U] = {};
      for (; t + U * N <= taps; t += U * N) {
        for (int u = 0; u < U; ++u) add(highs[u], lows[u], Kernel::template load<N>(s + t + u * N, ahead));
      }
      for (; t + N <= taps; t += N) add(highs[0], lows[0], Kernel::template load<N>(s + t, ahead));
      for (int u = 1; u < U; ++u) {
        lows[0] = lows[0] + lows[u];
        add(highs[0], lows[0], highs[u]);
      }
      join<N>(highs[0], lows[0], high, low);
    }
    for (; t < taps; ++t) add(high, low, s[t * stride]);
    return mean(high, low, divisor);
  }
  // Lanes along the columns: a few taps of many columns at a time, as they lie in memory.
  static void across(const double* s, int64_t taps, int64_t stride, int64_t columns, double* target, double divisor, bool ahead) {
    double high[most_columns], low[most_columns];
    for (int64_t from = 0; from < columns; from += most_columns, s += most_columns, target += most_columns) {
      const int64_t count = std::min(most_columns, columns - from);
      std::fill_n(high, count, 0.0);
      std::fill_n(low, count, 0.0);
      for (int64_t t = 0; t < taps; t += Kernel::few_taps) {
        const int64_t few = std::min(Kernel::few_taps, taps - t);
        int64_t i = 0;
        auto at = [&](auto width) __attribute__((always_inline)) {
          constexpr int W = decltype(width)::value;
          for (; i + W <= count; i += W) {
            auto highs = load_as<Vec<double, W>>(high + i), lows = load_as<Vec<double, W>>(low + i);
            for (int64_t n = t; n < t + few; ++n) add(highs, lows, Kernel::template load<W>(s + n * stride + i, ahead));
            store_as(high + i, highs);
            store_as(low + i, lows);
          }
        };
        at(std::integral_constant<int, N>{});
        if constexpr (N > 1) at(std::integral_constant<int, 1>{});
      }
      for (int64_t i = 0; i < count; ++i) target[i] = mean(high[i], low[i], divisor);
    }
  }

  static void windows(const WindowsArgs& a) {
    for_loops(a.loops, [&](int64_t source, int64_t target) {
      double* to = static_cast<double*>(a.target) + target;
      for (int64_t w = 0; w < a.window_count; ++w) {
        const Window& window = a.windows[w];
        const double* s = static_cast<const double*>(a.source) + source + window.start * a.source_pixel;
        for (int64_t n = 0; n < window.count; ++n, s += window.advance * a.source_pixel) {
          const int64_t stride = window.step * a.source_pixel;
          if (a.inner == 1) {
            *to = along(s, window.taps, stride, a.last.divisor, a.ahead);
          } else {
            across(s, window.taps, stride, a.inner, to, a.last.divisor, a.ahead);
          }
          Kernel::repeat(a, window.repeat, to);
        }
      }
    });
  }
};
