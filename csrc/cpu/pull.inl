// Max backward: an input takes the gradients of the outputs whose saved code names the tap by which they read it. Every
// element is written once, in a fixed order. Padding of a staged row holds code -1. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class Lane>
struct Pull {
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;
  using V = Vec<Lane, N>;
  using VC = Vec<Code, N>;

  TP_INLINE static V taken(const PullRow& row, int64_t at, int64_t tap) {
    const auto code = load_as<VC>(static_cast<const Code*>(row.code) + at);
    const auto grad = load_as<V>(static_cast<const Lane*>(row.grad) + at);
    return select(code == broadcast<Code, N>(static_cast<Code>(row.base + tap)), grad, V{});
  }

  template <int Taps>
  TP_INLINE static void stride_one(const PullLanesArgs& a) {
    const int64_t taps = Taps == 0 ? a.taps : Taps;
    for_lanes_rounded_up<Lane>(a.count, [&](auto, int64_t q) {
      V total{};
      for (int64_t r = 0; r < a.row_count; ++r) {
        for (int64_t t = 0; t < taps; ++t) total = total + taken(a.rows[r], q - t, t);
      }
      store_as(static_cast<Lane*>(a.target) + q, total);
    });
  }
  template <int Taps>
  TP_INLINE static void stride_two(const PullLanesArgs& a) {
    const int64_t taps = Taps == 0 ? a.taps : Taps;
    for_lanes_rounded_up<Lane>(a.count, [&](auto, int64_t q) {
      V even{}, odd{};
      for (int64_t r = 0; r < a.row_count; ++r) {
        for (int64_t t = 0; t < taps; t += 2) {
          even = even + taken(a.rows[r], q - t / 2, t);
          if (t + 1 < taps) odd = odd + taken(a.rows[r], q - t / 2, t + 1);
        }
      }
      store_pairs<Lane, N>(static_cast<Lane*>(a.target) + 2 * q, even, odd);
    });
  }
  static void any_stride(const PullLanesArgs& a) {
    Lane* const scratch = static_cast<Lane*>(a.scratch);
    for (int64_t phase = 0; phase < a.stride; ++phase) {
      for_lanes_rounded_up<Lane>(a.count, [&](auto, int64_t q) {
        V total{};
        for (int64_t r = 0; r < a.row_count; ++r) {
          for (int64_t t = phase, o = q; t < a.taps; t += a.stride, --o) total = total + taken(a.rows[r], o, t);
        }
        store_as(scratch + q, total);
      });
      Lane* target = static_cast<Lane*>(a.target) + phase;
      for (int64_t q = 0; q < a.count; ++q) target[q * a.stride] = scratch[q];
    }
  }
  static void lanes(const PullLanesArgs& a) {
    if (a.stride == 1) return a.taps == 3 ? stride_one<3>(a) : stride_one<0>(a);
    if (a.stride == 2) return a.taps == 2 ? stride_two<2>(a) : a.taps == 3 ? stride_two<3>(a) : stride_two<0>(a);
    return any_stride(a);
  }

  static void pixels(const PullPixelsArgs& a) {
    Lane* target = static_cast<Lane*>(a.target);
    for (int64_t i = 0; i < a.positions; ++i, target += a.channels) {
      for_lanes_rounded_up<Lane>(a.channels, [&](auto, int64_t c) {
        V total{};
        for (int64_t r = 0; r < a.row_count; ++r) {
          for (int64_t e = a.index[i]; e < a.index[i + 1]; ++e) {
            total = total + taken(a.rows[r], a.entries[e].output * a.channels + c, a.entries[e].tap);
          }
        }
        store_as(target + c, total);
      });
    }
  }
};
