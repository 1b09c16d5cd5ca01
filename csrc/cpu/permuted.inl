// Max backward of short rows in channels-first: lanes along the row of grad_input, each of which picks, by a permutation, its
// outputs from a vector of grad_output. See MaxPermuted. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

// E: elements of a vector.
template <class T, class Lane, class Stored, int E>
struct PermutedVectors {
  using Take = Taken<T, Lane, Stored>;
  using Given = typename Take::template Given<E>;
  using Sums = typename Take::template Sums<E>;
  using Codes = decltype(Given::codes);
  using Code = std::conditional_t<Given::halves, int16_t, CodeOf<Lane>>;

  struct Chunk {  // E elements of a row
    int64_t begin;
    int64_t first;  // output, of those loaded
    bool second;    // some lane is read by two outputs
    Codes from[permuted_reads], tap[permuted_reads];
  };
  // Whether all that reads a chunk lies in one vector.
  static bool list(const PermutedArgs& a, int64_t begin, Chunk& chunk) {
    constexpr Code nothing = std::numeric_limits<Code>::lowest() / 2;  // no code is a tap less this: see MaxPermuted::serves
    alignas(Codes) Code from[permuted_reads][E] = {}, tap[permuted_reads][E];
    const int64_t end = std::min(begin + E, a.length);
    chunk = {};
    chunk.begin = begin;
    bool any = false, fits = true;
    for (int64_t i = begin; i < end; ++i) {
      if (a.index[i] == a.index[i + 1]) continue;
      const int64_t output = a.entries[a.index[i]].output;
      chunk.first = any ? std::min(chunk.first, output) : output;
      any = true;
    }
    for (int r = 0; r < permuted_reads; ++r) {
      for (int64_t k = 0; k < E; ++k) {
        tap[r][k] = nothing;
        if (begin + k >= end || a.index[begin + k] + r >= a.index[begin + k + 1]) continue;
        const PullEntry& entry = a.entries[a.index[begin + k] + r];
        fits &= entry.output - chunk.first < E;
        from[r][k] = static_cast<Code>(entry.output - chunk.first), tap[r][k] = static_cast<Code>(entry.tap);
        chunk.second |= r > 0;
      }
      chunk.from[r] = load_as<Codes>(from[r]), chunk.tap[r] = load_as<Codes>(tap[r]);
    }
    return fits;
  }

  // The rows of one chunk that one row of outputs reads, the first of them from `carry` on, where the row of outputs before has left it.
  // Whole vectors are stored: what is beyond a row, the rows that follow write again. Rows: how many, where known when compiling (else 0).
  template <bool Second, int Rows, int Depths>
  TP_INLINE static void rows_of(const PermutedArgs& a, const Chunk& chunk, const PermutedRow& row, const T* grads, const Stored* codes,
                                T* target, Stores stores, Sums& carry) {
    constexpr int reads = Second ? permuted_reads : 1;
    Given own[Depths][reads];
    for (int d = 0; d < Depths; ++d) {
      const int64_t from = row.source[d].grad + chunk.first;
      const Given all(grads + from, codes + from, static_cast<CodeOf<Lane>>(row.source[d].base));
      for (int k = 0; k < reads; ++k) own[d][k] = all.permuted(chunk.from[k], chunk.tap[k]);
    }
    Sums total = carry;
    const int64_t count = Rows == 0 ? row.count : Rows;
    for (int64_t h = 0; h < count; ++h) {
      if (h > 0) total = {};
      for (int d = 0; d < Depths; ++d) {
        for (int k = 0; k < reads; ++k) total.take(own[d][k], static_cast<CodeOf<Lane>>(h * a.taps));
      }
      total.put(target + h * a.length, stores);
    }
    carry = total;
    carry.keep_if(row.resumed);
  }
  template <bool Second>
  TP_INLINE static void planes_of(const PermutedArgs& a, const Chunk (&chunks)[permuted_chunks], int64_t chunk_count) {
    const T* grads = static_cast<const T*>(a.grads);
    const Stored* codes = static_cast<const Stored*>(a.codes);
    T* plane = static_cast<T*>(a.target);
    // Half a line past the caches, and the other half when the rows between are done, is slower than a whole one through them.
    const Stores stores = past_where(a.stores, E * sizeof(T) == widest_vector && a.length % E == 0);
    Sums carries[permuted_chunks];
    auto one = [&](const Chunk& chunk, const PermutedRow& row, T* target, Sums& carry) __attribute__((always_inline)) {
      if (row.depths == 2) return rows_of<Second, 0, 2>(a, chunk, row, grads, codes, target, stores, carry);
      switch (row.count) {
        case 2: return rows_of<Second, 2, 1>(a, chunk, row, grads, codes, target, stores, carry);
        case 3: return rows_of<Second, 3, 1>(a, chunk, row, grads, codes, target, stores, carry);
        default: return rows_of<Second, 0, 1>(a, chunk, row, grads, codes, target, stores, carry);
      }
    };
    const Chunk only = chunks[0];
    Sums only_carry;
    const PermutedRow* const end = a.rows + a.row_count;
    for (int64_t p = 0; p < a.planes; ++p, plane += a.plane, grads += a.output_plane, codes += a.output_plane) {
      for (const PermutedRow* row = a.rows; row != end; ++row) {
        T* const target = plane + row->first;
        if (row->depths == 0) {  // nothing but zeros
        } else if (chunk_count == 1) {
          one(only, *row, target, only_carry);
        } else {
          for (int64_t c = 0; c < chunk_count; ++c) one(chunks[c], *row, target + chunks[c].begin, carries[c]);
        }
        if (row->zeros > 0) std::memset(static_cast<void*>(target + row->count * a.length), 0, static_cast<size_t>(row->zeros) * sizeof(T));
      }
    }
  }

  static bool run(const PermutedArgs& a) {
    Chunk chunks[permuted_chunks];
    const int64_t count = ceil_div<int64_t>(a.length, E);
    bool second = false;
    for (int64_t c = 0; c < count; ++c) {
      if (!list(a, std::clamp<int64_t>(c * E, 0, std::max<int64_t>(0, a.length - E)), chunks[c])) return false;
      second |= chunks[c].second;
    }
    second ? planes_of<true>(a, chunks, count) : planes_of<false>(a, chunks, count);
    return true;
  }
};

template <class T, class Lane, class Stored>
struct PermutedPull {
  static constexpr int N = full_lanes<Lane>;

  static void run(const PermutedArgs& a) {
    if constexpr (Taken<T, Lane, Stored>::words && TP_VECTOR_BYTES == 64) {  // which have an instruction for permutations of 16 bits
      if (a.length > N && PermutedVectors<T, Lane, Stored, 2 * N>::run(a)) return;
    }
    if constexpr (N > 1) PermutedVectors<T, Lane, Stored, N>::run(a);
  }
};
