// Steps of a maximum in fewer instructions than the compiler finds for core/reducer.inl's own words, for the vectors that have them.
// The processor's maximum gives its second operand, the best so far, of equals and where one of the two is a NaN: what is left to do is
// to take a NaN that comes.
// Included inside a target region with TP_X86, before core/reducer.inl.
// SPDX-License-Identifier: BSD-3-Clause

typedef float Floats8 __attribute__((vector_size(32)));
typedef double Doubles4 __attribute__((vector_size(32)));
typedef int16_t Shorts8 __attribute__((vector_size(16)));
typedef int16_t Shorts16 __attribute__((vector_size(32)));

TP_INLINE Shorts8 larger_or_nan(Shorts8 best, Shorts8 x) { return (Shorts8)_mm_max_epi16((__m128i)best, (__m128i)x); }
TP_INLINE Shorts8 smaller_of(Shorts8 a, Shorts8 b) { return (Shorts8)_mm_min_epi16((__m128i)a, (__m128i)b); }
TP_INLINE Shorts16 larger_or_nan(Shorts16 best, Shorts16 x) { return (Shorts16)_mm256_max_epi16((__m256i)best, (__m256i)x); }
TP_INLINE Shorts16 smaller_of(Shorts16 a, Shorts16 b) { return (Shorts16)_mm256_min_epi16((__m256i)a, (__m256i)b); }

#if TP_VECTOR_BYTES == 64
typedef float Floats16 __attribute__((vector_size(64)));
typedef double Doubles8 __attribute__((vector_size(64)));
typedef int32_t Codes16 __attribute__((vector_size(64)));
typedef int64_t Codes8 __attribute__((vector_size(64)));
typedef int16_t Shorts32 __attribute__((vector_size(64)));

TP_INLINE Shorts32 larger_or_nan(Shorts32 best, Shorts32 x) { return (Shorts32)_mm512_max_epi16((__m512i)best, (__m512i)x); }
TP_INLINE Shorts32 smaller_of(Shorts32 a, Shorts32 b) { return (Shorts32)_mm512_min_epi16((__m512i)a, (__m512i)b); }

TP_INLINE Floats16 larger_or_nan(Floats16 best, Floats16 x) {
  const __m512 v = (__m512)x;
  return (Floats16)_mm512_mask_max_ps(v, _mm512_cmp_ps_mask(v, v, _CMP_ORD_Q), v, (__m512)best);
}
TP_INLINE Doubles8 larger_or_nan(Doubles8 best, Doubles8 x) {
  const __m512d v = (__m512d)x;
  return (Doubles8)_mm512_mask_max_pd(v, _mm512_cmp_pd_mask(v, v, _CMP_ORD_Q), v, (__m512d)best);
}
TP_INLINE Floats8 larger_or_nan(Floats8 best, Floats8 x) {
  const __m256 v = (__m256)x;
  return (Floats8)_mm256_mask_max_ps(v, _mm256_cmp_ps_mask(v, v, _CMP_ORD_Q), v, (__m256)best);
}
TP_INLINE Doubles4 larger_or_nan(Doubles4 best, Doubles4 x) {
  const __m256d v = (__m256d)x;
  return (Doubles4)_mm256_mask_max_pd(v, _mm256_cmp_pd_mask(v, v, _CMP_ORD_Q), v, (__m256d)best);
}
// The best so far is kept where x is a number, and not larger.
TP_INLINE void take_larger(Floats16& best, Codes16& code, Floats16 x, Codes16 c) {
  const __m512 v = (__m512)x;
  const __mmask16 keep = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(v, v, _CMP_ORD_Q), v, (__m512)best, _CMP_NGT_UQ);
  best = (Floats16)_mm512_mask_mov_ps(v, keep, (__m512)best);
  code = (Codes16)_mm512_mask_mov_epi32((__m512i)c, keep, (__m512i)code);
}
TP_INLINE void take_larger(Doubles8& best, Codes8& code, Doubles8 x, Codes8 c) {
  const __m512d v = (__m512d)x;
  const __mmask8 keep = _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask(v, v, _CMP_ORD_Q), v, (__m512d)best, _CMP_NGT_UQ);
  best = (Doubles8)_mm512_mask_mov_pd(v, keep, (__m512d)best);
  code = (Codes8)_mm512_mask_mov_epi64((__m512i)c, keep, (__m512i)code);
}
#else
TP_INLINE Floats8 larger_or_nan(Floats8 best, Floats8 x) {
  const __m256 v = (__m256)x;
  return (Floats8)_mm256_blendv_ps(_mm256_max_ps(v, (__m256)best), v, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
}
TP_INLINE Doubles4 larger_or_nan(Doubles4 best, Doubles4 x) {
  const __m256d v = (__m256d)x;
  return (Doubles4)_mm256_blendv_pd(_mm256_max_pd(v, (__m256d)best), v, _mm256_cmp_pd(v, v, _CMP_UNORD_Q));
}
#endif
