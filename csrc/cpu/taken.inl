// What elements take of the gradients of some outputs: those whose code names the tap by which the element is read. Lanes, or, for
// bfloat16 beside codes of a byte, two to a word: compared and left out as 16 bits, added as floats. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, class Lane, class Stored>
struct Taken {
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;
  static constexpr bool words = has_words<false, T, Lane> && std::is_same_v<Stored, uint8_t>;
  static constexpr int full = words ? 2 * N : N;  // elements

  template <int E>
  static constexpr bool by_words = words && E == full;

  // E outputs.
  template <int E>
  struct Given {
    static constexpr bool halves = by_words<E>;
    std::conditional_t<halves, Vec<uint16_t, E>, Vec<Lane, E>> grads;
    std::conditional_t<halves, Vec<int16_t, E>, Vec<Code, E>> codes;  // less the first that is wanted

    Given() = default;
    // Lane i of element from[i], whose codes count from first[i].
    TP_INLINE Given permuted(decltype(codes) from, decltype(codes) first) const {
      Given picked;
      using Value = std::conditional_t<halves, uint16_t, Lane>;
      picked.grads = permute<Value, E>(grads, from), picked.codes = permute<CodeOf<Value>, E>(codes, from) - first;
      return picked;
    }
    TP_INLINE Given(const T* g, const Stored* c, Code first) {
      if constexpr (halves) {
        grads = load_as<Vec<uint16_t, E>>(g);
        codes = load_widened<int16_t, Stored, E>(c) - broadcast<int16_t, E>(static_cast<int16_t>(first));
      } else {
        grads = load_lanes<false, T, Lane, E>(g);
        codes = load_lanes<false, Stored, Code, E>(c) - broadcast<Code, E>(first);
      }
    }
  };
  // E elements.
  template <int E>
  struct Sums {
    static constexpr bool halves = by_words<E>;
    static constexpr int W = halves ? E / 2 : E;
    Vec<Lane, W> of[halves ? 2 : 1] = {};

    TP_INLINE void add_halves(Vec<uint32_t, W> words) {
      of[0] = of[0] + (Vec<Lane, W>)(words << 16);
      of[1] = of[1] + (Vec<Lane, W>)(words & odd_half);
    }
    TP_INLINE void take(const Given<E>& given, Code wanted) {
      if constexpr (halves) {
        const auto grads = select(given.codes == broadcast<int16_t, E>(static_cast<int16_t>(wanted)), given.grads, Vec<uint16_t, E>{});
        add_halves((Vec<uint32_t, W>)grads);
      } else {
        const auto taken = given.codes == broadcast<Code, E>(wanted);
#if TP_VECTOR_BYTES == 64  // one addition under a mask
        of[0] = select(taken, Vec<Lane, E>(of[0] + given.grads), of[0]);
#else
        of[0] = of[0] + select(taken, given.grads, Vec<Lane, E>{});
#endif
      }
    }
    TP_INLINE void keep_if(bool kept) {
      const auto mask = broadcast<Code, W>(static_cast<Code>(kept ? -1 : 0));
      for (auto& sums : of) sums = (Vec<Lane, W>)((Vec<Code, W>)sums & mask);
    }
    TP_INLINE void put(T* target, Stores stores) const {
      if constexpr (halves) {
        store_words<W>(target, of[0], of[1], stores);
      } else {
        store_lanes<false, T, Lane, E>(target, of[0], stores);
      }
    }
  };
  // body(how many elements, from which on), the last ones perhaps twice.
  template <class Body>
  TP_INLINE static void for_elements(int64_t count, Body body) {
    if (words && count >= full) {
      for (int64_t i = 0; i < count; i += full) body(std::integral_constant<int, full>{}, std::min(i, count - full));
    } else {
      for_lanes<Lane>(count, body);
    }
  }
};
