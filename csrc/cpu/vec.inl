// Vectors of one instruction set, on the compiler's vector extensions: Vec<T, N> is N lanes of T, and a plain T for N = 1,
// so that the tail of a row is the same function on one lane. Included inside a target region, after every header; the
// including file defines TP_VECTOR_BYTES (0: one lane) and TP_X86 where it includes x86 intrinsics.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, int N>
struct VecType {
  typedef T type __attribute__((vector_size(sizeof(T) * N)));
};
template <class T>
struct VecType<T, 1> {
  typedef T type;
};
template <class T, int N>
using Vec = typename VecType<T, N>::type;

template <class Lane>
constexpr int full_lanes = TP_VECTOR_BYTES == 0 ? 1 : TP_VECTOR_BYTES / static_cast<int>(sizeof(Lane));

// The signed integer as wide as a lane: masks and codes.
template <class Lane>
using CodeOf = std::conditional_t<
    sizeof(Lane) == 1, int8_t, std::conditional_t<sizeof(Lane) == 2, int16_t, std::conditional_t<sizeof(Lane) == 4, int32_t, int64_t>>>;

template <class V, class T>
TP_INLINE V load_as(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}
template <class V, class T>
TP_INLINE void store_as(T* p, V v) {
  std::memcpy(p, &v, sizeof(V));
}
// Windows read several rows at once, which the processor does not fetch ahead well by itself where rows are long. Into the second level of
// cache: the first has few buffers for lines on their way, which loads and stores need. A few short rows are better left to the processor; one
// stream alone is not, where it comes from memory.
constexpr int64_t prefetch_bytes = 8192;
template <class T>
TP_INLINE void prefetch_beyond(const T* p) {
  __builtin_prefetch(reinterpret_cast<const char*>(p) + prefetch_bytes, 0, 2);
}
// Whether rows of so many elements fill lines, but for a few: one that two kinds of stores share costs more than many.
template <class T>
TP_INLINE bool whole_lines(int64_t count) {
  const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
  return bytes % widest_vector == 0 || bytes >= 64 * widest_vector;
}
// The lines of results that come after those at p: into the first level, which the stores themselves wait for.
template <class T>
TP_INLINE void expect_stores(const T* p, Stores stores) {
  if (stores == Stores::Early) __builtin_prefetch(reinterpret_cast<const char*>(p) + prefetch_bytes, 0, 3);
}
// A result that goes past the caches does so where it fills a part of one line.
template <class V, class T>
TP_INLINE void store_result(T* p, V v, Stores stores) {
  expect_stores(p, stores);
#if defined(TP_X86)
  if (stores == Stores::Past && reinterpret_cast<uintptr_t>(p) % sizeof(V) == 0) {
    if constexpr (sizeof(V) == 16) {
      return _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
    } else if constexpr (sizeof(V) == 32) {
      return _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#if TP_VECTOR_BYTES == 64
    } else if constexpr (sizeof(V) == 64) {
      return _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#endif
    }
  }
#endif
  store_as(p, v);
}
// Not a reduction that the compiler may vectorise itself: GCC 12 for ARM gives wrong maxima of widened bytes at -O3, for of the vectors in
// which it gathers them it forgets all but one where its loop for the last taps takes over.
template <class T>
TP_INLINE void keep_in_order([[maybe_unused]] T& value) {
  if constexpr (std::is_integral_v<T>) asm("" : "+r"(value));
}
template <class T, int N>
TP_INLINE Vec<T, N> broadcast(T x) {
  if constexpr (N == 1) {
    return x;
  } else {
    return x - Vec<T, N>{};
  }
}
template <class To, int N, class From>
TP_INLINE Vec<To, N> convert(From v) {
  if constexpr (N == 1) {
    return static_cast<To>(v);
#if TP_VECTOR_BYTES == 64  // GCC 12 converts to and from double in halves
  } else if constexpr (N == 8 && std::is_same_v<To, double> && std::is_same_v<From, Vec<float, N>>) {
    return (Vec<To, N>)_mm512_maskz_cvtps_pd(0xff, (__m256)v);
  } else if constexpr (N == 8 && std::is_same_v<To, float> && std::is_same_v<From, Vec<double, N>>) {
    return (Vec<To, N>)_mm512_maskz_cvtpd_ps(0xff, (__m512d)v);
#endif
  } else {
    return __builtin_convertvector(v, Vec<To, N>);
  }
}

// Whether any lane of a mask is set.
template <class Mask>
TP_INLINE bool any_lane(Mask mask) {
  if constexpr (sizeof(Mask) < sizeof(uint64_t)) {
    return mask != Mask{};
  } else {
    uint64_t words[sizeof(Mask) / sizeof(uint64_t)], all = 0;
    std::memcpy(words, &mask, sizeof(mask));
    for (const uint64_t word : words) all |= word;
    return all != 0;
  }
}

// Between small unsigned integers in memory and 32-bit lanes, where GCC's convertvector goes element by element.
template <class Lane, class T, int N>
TP_INLINE Vec<Lane, N> load_widened(const T* p) {
#if defined(TP_X86)
  if constexpr (sizeof(Lane) == 4 && std::is_same_v<T, uint8_t> && N == 4) {
    return (Vec<Lane, N>)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(load_as<int32_t>(p)));
  } else if constexpr (sizeof(Lane) == 4 && std::is_same_v<T, uint16_t> && N == 4) {
    return (Vec<Lane, N>)_mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  } else if constexpr (sizeof(Lane) == 4 && std::is_same_v<T, uint8_t> && N == 8) {
    return (Vec<Lane, N>)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  } else if constexpr (sizeof(Lane) == 4 && std::is_same_v<T, uint16_t> && N == 8) {
    return (Vec<Lane, N>)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  } else if constexpr (sizeof(Lane) == 2 && std::is_same_v<T, uint8_t> && N == 16) {
    return (Vec<Lane, N>)_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#if TP_VECTOR_BYTES == 64  // maskz: GCC 12 warns of its own header's uninitialised value in the plain forms
  } else if constexpr (sizeof(Lane) == 4 && std::is_same_v<T, uint8_t> && N == 16) {
    return (Vec<Lane, N>)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  } else if constexpr (sizeof(Lane) == 4 && std::is_same_v<T, uint16_t> && N == 16) {
    return (Vec<Lane, N>)_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  } else if constexpr (sizeof(Lane) == 2 && std::is_same_v<T, uint8_t> && N == 32) {
    return (Vec<Lane, N>)_mm512_maskz_cvtepu8_epi16(0xffffffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#endif
  } else
#endif
  {
    return convert<Lane, N>(load_as<Vec<T, N>>(p));
  }
}
// Lanes hold values that fit.
template <class Lane, class T, int N>
TP_INLINE void store_narrowed(T* p, Vec<Lane, N> v) {
#if defined(TP_X86)
  if constexpr (sizeof(Lane) == 4 && sizeof(T) <= 2 && std::is_unsigned_v<T> && N == 8) {
    const __m256i lanes = (__m256i)v;
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    if constexpr (sizeof(T) == 2) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), words);
    } else {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
    }
  } else if constexpr (sizeof(Lane) == 4 && sizeof(T) <= 2 && std::is_unsigned_v<T> && N == 4) {
    const __m128i words = _mm_packus_epi32((__m128i)v, (__m128i)v);
    if constexpr (sizeof(T) == 2) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p), words);
    } else {
      store_as(p, static_cast<int32_t>(_mm_cvtsi128_si32(_mm_packus_epi16(words, words))));
    }
#if TP_VECTOR_BYTES == 64
  } else if constexpr (sizeof(Lane) == 4 && std::is_same_v<T, uint16_t> && N == 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)v));
  } else if constexpr (sizeof(Lane) == 4 && std::is_same_v<T, uint8_t> && N == 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)v));
#endif
  } else
#endif
  {
    store_as(p, convert<T, N>(v));
  }
}

#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
#define TP_SHUFFLE(T, N, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else  // GCC 11
#define TP_SHUFFLE(T, N, a, b, ...) __builtin_shuffle(a, b, Vec<CodeOf<T>, N>{__VA_ARGS__})
#endif

// Lane i is lane from[i] of v.
template <class T, int N>
TP_INLINE Vec<T, N> permute(Vec<T, N> v, Vec<CodeOf<T>, N> from) {
#if defined(__clang__)
  Vec<T, N> result;
  for (int i = 0; i < N; ++i) result[i] = v[from[i]];
  return result;
#else
  return __builtin_shuffle(v, from);
#endif
}

// The first and the second half of a vector.
template <class T, int N>
struct Halves {
  Vec<T, N / 2> low, high;
};
template <class T, int N>
TP_INLINE Halves<T, N> halves(Vec<T, N> v) {
  if constexpr (N == 2) {
    return {v[0], v[1]};
  } else {
    Halves<T, N> parts;
    std::memcpy(&parts, &v, sizeof(v));
    return parts;
  }
}
// De-interleaves 2 * N consecutive elements: even and odd positions.
template <class T, int N>
TP_INLINE void load_pairs(const T* p, Vec<T, N>& even, Vec<T, N>& odd) {
  if constexpr (N == 1) {
    even = p[0], odd = p[1];
  } else {
    const auto low = load_as<Vec<T, N>>(p);
    const auto high = load_as<Vec<T, N>>(p + N);
    [&]<int... I>(std::integer_sequence<int, I...>) {
      even = TP_SHUFFLE(T, N, low, high, (2 * I)...);
      odd = TP_SHUFFLE(T, N, low, high, (2 * I + 1)...);
    }(std::make_integer_sequence<int, N>{});
  }
}
// Elements of two vectors by turns: the first half of them, and the second.
template <class T, int N>
TP_INLINE void interleave(Vec<T, N> even, Vec<T, N> odd, Vec<T, N>& low, Vec<T, N>& high) {
  if constexpr (N == 1) {
    low = even, high = odd;
  } else {
    [&]<int... I>(std::integer_sequence<int, I...>) {
      low = TP_SHUFFLE(T, N, even, odd, (I % 2 ? N + I / 2 : I / 2)...);
      high = TP_SHUFFLE(T, N, even, odd, (I % 2 ? N + (N + I) / 2 : (N + I) / 2)...);
    }(std::make_integer_sequence<int, N>{});
  }
}
// Interleaves two vectors into 2 * N consecutive elements.
template <class T, int N>
TP_INLINE void store_pairs(T* p, Vec<T, N> even, Vec<T, N> odd, Stores stores = Stores::Usual) {
  Vec<T, N> low, high;
  interleave<T, N>(even, odd, low, high);
  store_result(p, low, stores);
  store_result(p + N, high, stores);
}

// ---- storage <-> lanes -------------------------------------------------------------------------------------------------

template <int N>
TP_INLINE Vec<float, N> half_to_float(const HalfBits* p) {
#if defined(TP_X86)
  if constexpr (N == 4) {
    return load_as<Vec<float, 4>>(reinterpret_cast<const float*>(&static_cast<const __m128&>(
        _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))));
  } else if constexpr (N == 8) {
    return (Vec<float, 8>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#if TP_VECTOR_BYTES == 64
  } else if constexpr (N == 16) {
    return (Vec<float, 16>)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#endif
  } else
#endif
  {
    if constexpr (N == 1) {
      return to_float(*p);
    } else {
      Vec<float, N> v;
      for (int i = 0; i < N; ++i) v[i] = to_float(p[i]);
      return v;
    }
  }
}

template <int N>
TP_INLINE void float_to_half(HalfBits* p, Vec<float, N> v) {
#if defined(TP_X86)
  if constexpr (N == 4) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_cvtps_ph((__m128)v, _MM_FROUND_TO_NEAREST_INT));
  } else if constexpr (N == 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#if TP_VECTOR_BYTES == 64
  } else if constexpr (N == 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtps_ph(0xffff, (__m512)v, _MM_FROUND_TO_NEAREST_INT));
#endif
  } else
#endif
  {
    if constexpr (N == 1) {
      *p = to_half(v);
    } else {
      for (int i = 0; i < N; ++i) p[i] = to_half(v[i]);
    }
  }
}

template <int N>
TP_INLINE Vec<float, N> bfloat16_to_float(const BFloat16Bits* p) {
  if constexpr (N == 1) {
    return to_float(*p);
  } else {
    const auto bits = load_widened<uint32_t, uint16_t, N>(reinterpret_cast<const uint16_t*>(p)) << 16;
    return (Vec<float, N>)bits;
  }
}
// In the upper halves; the lower ones hold anything.
template <int N>
TP_INLINE Vec<uint32_t, N> bfloat16_bits(Vec<float, N> v) {
  const auto bits = (Vec<uint32_t, N>)v;
  const auto rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const auto is_nan = (Vec<int32_t, N>)(bits & 0x7fffffffu) > broadcast<int32_t, N>(0x7f800000);
  return select(is_nan, broadcast<uint32_t, N>(0x7fc00000u), rounded);
}
template <int N>
TP_INLINE void float_to_bfloat16(BFloat16Bits* p, Vec<float, N> v) {
  if constexpr (N == 1) {
    *p = to_bfloat16(v);
  } else {
    store_narrowed<uint32_t, uint16_t, N>(reinterpret_cast<uint16_t*>(p), bfloat16_bits<N>(v) >> 16);
  }
}

template <class T>
using MaxKeyOf = MaxKey<std::is_same_v<T, HalfBits> ? 0x7c00 : 0x7f80>;

// Storage T as lanes. Keyed: 16-bit floats become integer keys.
template <bool Keyed, class T, class Lane, int N>
TP_INLINE Vec<Lane, N> load_lanes(const T* p) {
  if constexpr (Keyed && !std::is_same_v<T, Lane>) {
    return convert<Lane, N>(MaxKeyOf<T>::key(load_as<Vec<int16_t, N>>(p)));
  } else if constexpr (std::is_same_v<T, Lane>) {
    return load_as<Vec<Lane, N>>(p);
  } else if constexpr (std::is_same_v<T, BFloat16Bits>) {
    return convert<Lane, N>(bfloat16_to_float<N>(p));
  } else if constexpr (std::is_same_v<T, HalfBits>) {
    return convert<Lane, N>(half_to_float<N>(p));
  } else {
    return load_widened<Lane, T, N>(p);
  }
}
template <bool Keyed, class T, class Lane, int N>
TP_INLINE void store_lanes(T* p, Vec<Lane, N> v) {
  if constexpr (Keyed) {
    store_as(p, MaxKeyOf<T>::bits(convert<int16_t, N>(v)));
  } else if constexpr (std::is_same_v<T, Lane>) {
    store_as(p, v);
  } else if constexpr (std::is_same_v<T, BFloat16Bits>) {
    float_to_bfloat16<N>(p, convert<float, N>(v));
  } else if constexpr (std::is_same_v<T, HalfBits>) {
    float_to_half<N>(p, convert<float, N>(v));
  } else if constexpr (std::is_floating_point_v<T>) {  // double lanes, of a long window
    store_as(p, convert<T, N>(v));
  } else {  // wider integer lanes: their lowest value, of a window with nothing in it, becomes the type's own
    const auto lowest = broadcast<Lane, N>(std::numeric_limits<T>::lowest());
    store_as(p, convert<T, N>(select(v < lowest, lowest, v)));
  }
}

// Storage of a result.
template <bool Keyed, class T, class Lane, int N>
TP_INLINE void store_lanes(T* p, Vec<Lane, N> v, Stores stores) {
  constexpr int bytes = N * static_cast<int>(sizeof(T));
  if constexpr (N > 1 && bytes >= 16) {
    alignas(64) T row[N];
    store_lanes<Keyed, T, Lane, N>(row, v);
    store_result(p, load_as<Vec<uint8_t, bytes>>(reinterpret_cast<const uint8_t*>(row)), stores);
  } else {
    store_lanes<Keyed, T, Lane, N>(p, v);
  }
}

// Calls body(width, i) over [0, count), vectors as wide as fit; the last one overlaps its neighbour rather than leaving a tail,
// so body must be a map from elements it does not write.
template <class Lane, int N = full_lanes<Lane>, class Body>
TP_INLINE void for_lanes(int64_t count, Body body) {
  if (count >= N) {
    for (int64_t i = 0; i < count; i += N) body(std::integral_constant<int, N>{}, std::min(i, count - N));
  } else if constexpr (N > 4) {
    for_lanes<Lane, N / 2>(count, body);
  } else if constexpr (N > 1) {
    for (int64_t i = 0; i < count; ++i) body(std::integral_constant<int, 1>{}, i);
  }
}
// The same where reading and writing beyond the end is allowed: full vectors only.
template <class Lane, class Body>
TP_INLINE void for_lanes_rounded_up(int64_t count, Body body) {
  constexpr int N = full_lanes<Lane>;
  for (int64_t i = 0; i < count; i += N) body(std::integral_constant<int, N>{}, i);
}
