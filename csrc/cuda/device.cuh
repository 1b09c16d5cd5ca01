// What every kernel uses: lanes (the type an element is computed in), packs (elements that are loaded and stored at once, 16
// bytes where alignment allows), saved offsets, and the box that a problem is to a kernel: [outer, depth, height, width,
// inner], inner being the channels in channels-last and 1 in channels-first. May include core and the CUDA runtime.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "core/half.h"
#include "core/reducer.h"
#include "core/spans.h"

namespace torch_pooling::cuda {

constexpr int block_threads = 256;
constexpr int pack_bytes = 16;

// --- lanes ---

template <class T>
struct LaneOf {
  using type = std::conditional_t<std::is_integral_v<T> && sizeof(T) < 4, int32_t, T>;
};
template <>
struct LaneOf<BFloat16Bits> {
  using type = float;
};
template <>
struct LaneOf<HalfBits> {
  using type = float;
};
template <class T>
using Lane = typename LaneOf<T>::type;

template <class T>
__device__ __forceinline__ Lane<T> widen(T value) {
  if constexpr (std::is_same_v<T, BFloat16Bits>) {
    return to_float(value);
  } else if constexpr (std::is_same_v<T, HalfBits>) {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(value.bits));
#else
    return to_float(value);
#endif
  } else {
    return static_cast<Lane<T>>(value);
  }
}
template <class T>
__device__ __forceinline__ T narrow(Lane<T> value) {
  if constexpr (std::is_same_v<T, BFloat16Bits>) {
    return to_bfloat16(value);
  } else if constexpr (std::is_same_v<T, HalfBits>) {
#if defined(__CUDA_ARCH__)
    return {__half_as_ushort(__float2half_rn(value))};
#else
    return to_half(value);
#endif
  } else {
    return static_cast<T>(value);
  }
}

// What a reduction of elements T starts from.
template <class Op, class T>
__device__ __forceinline__ Lane<T> identity() {
  if constexpr (Op::is_max && std::is_integral_v<T>) {
    return static_cast<Lane<T>>(std::numeric_limits<T>::lowest());
  } else {
    return Op::template init<Lane<T>>();
  }
}

// The larger of two, a NaN where there is one: one instruction where the GPU has it.
template <class Op, class L>
__device__ __forceinline__ L step(L best, L x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (Op::is_max && std::is_same_v<L, float>) {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(best), "f"(x));
    return larger;
  }
#endif
  return Op::step(best, x);
}

// One more element, later in scan order than all before it.
template <class Op, bool coded, class L, class Code>
__device__ __forceinline__ void take(L& best, Code& code, L x, Code x_code) {
  if constexpr (coded) {
    const bool better = Op::beats(x, best);
    best = better ? x : best;
    code = better ? x_code : code;
  } else {
    best = step<Op>(best, x);
  }
}
// The same for elements that come in any order: codes tell which is the earlier one.
template <class Op, bool coded, class L, class Code>
__device__ __forceinline__ void merge(L& best, Code& code, L x, Code x_code) {
  if constexpr (coded) {
    const bool better = x_code > code ? bool(Op::beats(x, best)) : !bool(Op::beats(best, x));
    best = better ? x : best;
    code = better ? x_code : code;
  } else {
    best = step<Op>(best, x);
  }
}

// --- memory ---

template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T at[V];
};
template <int V, class T>
__device__ __forceinline__ Pack<T, V> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, V>*>(from);
}
template <int V, class T>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, V>& pack) {
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}
// As much of a pack as there is room for.
template <class T, int V, class Int>
__device__ __forceinline__ void store_some(T* to, Int room, const Pack<T, V>& pack) {
  if (room >= V) return store_pack<V>(to, pack);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (v < room) to[v] = pack.at[v];
  }
}
inline bool is_aligned(const void* pointer, int64_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

// Saved positions of maxima, in the type that is large enough.
struct Saved {
  void* data = nullptr;
  OffsetType type = OffsetType::UInt8;

  __device__ __forceinline__ int64_t get(int64_t at) const {
    switch (type) {
      case OffsetType::UInt8: return static_cast<const uint8_t*>(data)[at];
      case OffsetType::UInt16: return static_cast<const uint16_t*>(data)[at];
      case OffsetType::Int32: return static_cast<const int32_t*>(data)[at];
      default: return static_cast<const int64_t*>(data)[at];
    }
  }
  // V of them, `at` being a multiple of V where V > 1; codes that no Code can hold become -1, which names no element.
  template <int V, class Code>
  __device__ __forceinline__ void get(int64_t at, Code (&codes)[V]) const {
    switch (type) {
      case OffsetType::UInt8: return unpack<V>(static_cast<const uint8_t*>(data) + at, codes);
      case OffsetType::UInt16: return unpack<V>(static_cast<const uint16_t*>(data) + at, codes);
      case OffsetType::Int32: return unpack<V>(static_cast<const int32_t*>(data) + at, codes);
      default:
        for (int v = 0; v < V; ++v) {
          const int64_t code = static_cast<const int64_t*>(data)[at + v];
          codes[v] = code == static_cast<Code>(code) ? static_cast<Code>(code) : Code(-1);
        }
    }
  }
  template <int V, class Code>
  __device__ __forceinline__ void put(int64_t at, const Code (&codes)[V]) const {
    switch (type) {
      case OffsetType::UInt8: return pack<V>(static_cast<uint8_t*>(data) + at, codes);
      case OffsetType::UInt16: return pack<V>(static_cast<uint16_t*>(data) + at, codes);
      case OffsetType::Int32: return pack<V>(static_cast<int32_t*>(data) + at, codes);
      default:
        for (int v = 0; v < V; ++v) static_cast<int64_t*>(data)[at + v] = static_cast<int64_t>(codes[v]);
    }
  }

 private:
  // At most 16 bytes at a time.
  template <int V, class O, class Code>
  __device__ static __forceinline__ void unpack(const O* from, Code (&codes)[V]) {
    constexpr int P = V * sizeof(O) <= pack_bytes ? V : pack_bytes / sizeof(O);
    for (int v = 0; v < V; v += P) {
      const Pack<O, P> loaded = load_pack<P>(from + v);
      for (int i = 0; i < P; ++i) codes[v + i] = static_cast<Code>(loaded.at[i]);
    }
  }
  template <int V, class O, class Code>
  __device__ static __forceinline__ void pack(O* to, const Code (&codes)[V]) {
    constexpr int P = V * sizeof(O) <= pack_bytes ? V : pack_bytes / sizeof(O);
    for (int v = 0; v < V; v += P) {
      Pack<O, P> stored;
      for (int i = 0; i < P; ++i) stored.at[i] = static_cast<O>(codes[v + i]);
      store_pack<P>(to + v, stored);
    }
  }
};

// --- geometry ---

// Results of a traversal, V of the inner extent to a thread. Axes are depth, height, width.
template <class Int>
struct Box {
  Windows<Int> axis[3];
  Int outer = 1, inner = 1;
  Int code_scale[3] = {1, 1, 1};  // a tap's number is the scaled sum over the axes
  Divider<Int> by_packs, by_size[3];
  Int threads = 0;

  struct Place {
    Int outer, at[3], inner;
  };
  __device__ __forceinline__ Place place(Int thread, int V) const {
    Place p;
    p.inner = by_packs.split(thread) * V;
    p.at[2] = by_size[2].split(thread);
    p.at[1] = by_size[1].split(thread);
    p.at[0] = by_size[0].split(thread);
    p.outer = thread;
    return p;
  }
  // First inner element at a position of the results, or of the sources.
  __device__ __forceinline__ Int result(const Place& p) const {
    return (((p.outer * axis[0].results + p.at[0]) * axis[1].results + p.at[1]) * axis[2].results + p.at[2]) * inner + p.inner;
  }
  __device__ __forceinline__ Int source(const Place& p, Int d, Int h, Int w) const {
    return (((p.outer * axis[0].sources + d) * axis[1].sources + h) * axis[2].sources + w) * inner + p.inner;
  }
};

// What averages divide by: nothing, one number, or the counted taps of the window.
struct Division {
  enum class Kind { None, Uniform, Counted };
  Kind kind = Kind::None;
  int64_t divisor = 1;
};

}  // namespace torch_pooling::cuda
