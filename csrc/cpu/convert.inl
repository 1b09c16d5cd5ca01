// Storage to lanes and back, with the division of averages; offsets to code lanes and back. Included inside a target
// region. Divisors are lanes: small counts, exact in every lane type. A power of two becomes an exact multiplication.
// SPDX-License-Identifier: BSD-3-Clause

template <class Lane, int W>
TP_INLINE Vec<Lane, W> divide(Vec<Lane, W> v, const Lane* divisors, Lane divisor, bool multiply) {
  if (divisors != nullptr) return v / load_as<Vec<Lane, W>>(divisors);
  if (multiply) return v * broadcast<Lane, W>(divisor);
  return v / broadcast<Lane, W>(divisor);
}

struct DivisorPlan {
  bool needed, multiply;
  double value;  // the divisor, or its exact reciprocal

  // Of a row, whose divisors are `own`, of which one may serve all.
  template <class Lane>
  DivisorPlan of_row(const Lane*& own, bool one) const {
    if (own == nullptr || !one) return *this;
    const auto divisor = static_cast<int64_t>(*own);  // of elements, so it is whole
    const bool power = std::is_floating_point_v<Lane> && (divisor & (divisor - 1)) == 0;
    own = nullptr;
    return {divisor != 1, power, power ? 1 / static_cast<double>(divisor) : static_cast<double>(divisor)};
  }
};
template <class Lane>
DivisorPlan plan_divisor(const ConvertArgs& a) {
  if (a.divisors == nullptr && a.divisor == 1) return {false, false, 1};
  int exponent = 0;
  const bool power = std::is_floating_point_v<Lane> && std::abs(std::frexp(a.divisor, &exponent)) == 0.5;
  return {true, a.divisors == nullptr && power, power ? 1 / a.divisor : a.divisor};
}

template <bool Keyed, class T, class Lane>
void load_kernel(const ConvertArgs& a) {
  const DivisorPlan all = plan_divisor<Lane>(a);
  for_loops3(a.loops, a.divisor_strides, [&](int64_t source, int64_t target, int64_t at) {
    const T* s = static_cast<const T*>(a.source) + source;
    Lane* t = static_cast<Lane*>(a.target) + target;
    const Lane* d = a.divisors == nullptr ? nullptr : static_cast<const Lane*>(a.divisors) + at;
    const DivisorPlan plan = all.of_row(d, a.one_divisor);
    for_lanes<Lane>(a.count, [&](auto width, int64_t i) {
      constexpr int W = decltype(width)::value;
      prefetch_beyond(s + i);
      auto v = load_lanes<Keyed, T, Lane, W>(s + i);
      if (plan.needed) v = divide<Lane, W>(v, d == nullptr ? nullptr : d + i, static_cast<Lane>(plan.value), plan.multiply);
      store_as(t + i, v);
    });
  });
}

template <bool Keyed, class T, class Lane>
void finish_kernel(const ConvertArgs& a) {
  const DivisorPlan all = plan_divisor<Lane>(a);
  const Stores stores = past_where(a.stores, whole_lines<T>(a.count));
  for_loops3(a.loops, a.divisor_strides, [&](int64_t source, int64_t target, int64_t at) {
    const Lane* s = static_cast<const Lane*>(a.source) + source;
    T* t = static_cast<T*>(a.target) + target;
    const Lane* d = a.divisors == nullptr ? nullptr : static_cast<const Lane*>(a.divisors) + at;
    const DivisorPlan plan = all.of_row(d, a.one_divisor);
    for_lanes<Lane>(a.count, [&](auto width, int64_t i) {
      constexpr int W = decltype(width)::value;
      auto v = load_as<Vec<Lane, W>>(s + i);
      if (plan.needed) v = divide<Lane, W>(v, d == nullptr ? nullptr : d + i, static_cast<Lane>(plan.value), plan.multiply);
      store_lanes<Keyed, T, Lane, W>(t + i, v, stores);
    });
  });
}

template <class From, class To>
void code_kernel(const ConvertArgs& a) {
  using Lane = std::conditional_t<(sizeof(From) > sizeof(To)), From, To>;
  for_loops(a.loops, [&](int64_t source, int64_t target) {
    const From* s = static_cast<const From*>(a.source) + source;
    To* t = static_cast<To*>(a.target) + target;
    for_lanes<Lane>(a.count, [&](auto width, int64_t i) {
      constexpr int W = decltype(width)::value;
      if constexpr (sizeof(From) > sizeof(To)) {
        store_narrowed<From, To, W>(t + i, load_as<Vec<From, W>>(s + i));
      } else {
        store_as(t + i, load_widened<To, From, W>(s + i));
      }
    });
  });
}

// Loops and count in bytes.
inline void copy_kernel(const ConvertArgs& a) {
  constexpr int N = full_lanes<uint8_t>;
  const bool past = N > 1 && a.stores == Stores::Past && whole_lines<uint8_t>(a.count);
  for_loops(a.loops, [&](int64_t source, int64_t target) {
    const uint8_t* const s = static_cast<const uint8_t*>(a.source) + source;
    uint8_t* const t = static_cast<uint8_t*>(a.target) + target;
    int64_t i = 0;
    for (; past && i + N <= a.count; i += N) store_result(t + i, load_as<Vec<uint8_t, N>>(s + i), Stores::Past);
    if (i < a.count) std::memcpy(t + i, s + i, static_cast<size_t>(a.count - i));
  });
}

template <class T>
void repeat_kernel(const void* values, void* target, int64_t rows, int64_t length) {
  const T* value = static_cast<const T*>(values);
  T* to = static_cast<T*>(target);
  for (int64_t r = 0; r < rows; ++r, ++value, to += length) {
    for_lanes<T>(length, [&](auto width, int64_t i) __attribute__((always_inline)) {
      constexpr int W = decltype(width)::value;
      store_as(to + i, broadcast<T, W>(*value));
    });
  }
}

template <class R, class Lane>
void fill_identity(void* lanes, int64_t count) {
  std::fill_n(static_cast<Lane*>(lanes), count, R::template init<Lane>());
}
