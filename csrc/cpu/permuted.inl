// Max backward of short rows in channels-first: lanes along the row of grad_input, each of which picks, by a permutation, its
// outputs from a vector of grad_output. See MaxPermuted. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class T, class Lane, class Stored>
struct PermutedPull {
  using Code = CodeOf<Lane>;
  static constexpr int N = full_lanes<Lane>;

  struct Chunk {  // N elements of a row
    int64_t begin;
    int64_t first;  // output, of those loaded
    bool second;    // some lane is read by two outputs
    Vec<Code, N> from[permuted_reads], tap[permuted_reads];
  };
  static Chunk chunk_of(const PermutedArgs& a, int64_t begin) {
    constexpr Code nothing = std::numeric_limits<Code>::lowest() / 2;  // no code is a tap less this
    alignas(Vec<Code, N>) Code from[permuted_reads][N] = {}, tap[permuted_reads][N];
    const int64_t end = std::min(begin + N, a.length);
    Chunk chunk{};
    chunk.begin = begin;
    bool any = false;
    for (int64_t i = begin; i < end; ++i) {
      if (a.index[i] == a.index[i + 1]) continue;
      const int64_t output = a.entries[a.index[i]].output;
      chunk.first = any ? std::min(chunk.first, output) : output;
      any = true;
    }
    for (int r = 0; r < permuted_reads; ++r) {
      for (int64_t k = 0; k < N; ++k) {
        tap[r][k] = nothing;
        if (begin + k >= end || a.index[begin + k] + r >= a.index[begin + k + 1]) continue;
        const PullEntry& entry = a.entries[a.index[begin + k] + r];
        from[r][k] = static_cast<Code>(entry.output - chunk.first), tap[r][k] = static_cast<Code>(entry.tap);
        chunk.second |= r > 0;
      }
      chunk.from[r] = load_as<Vec<Code, N>>(from[r]), chunk.tap[r] = load_as<Vec<Code, N>>(tap[r]);
    }
    return chunk;
  }

  // The rows of one chunk that one row of outputs reads, the first of them from `carry` on, where the row of outputs before has left it.
  // Whole vectors are stored: what is beyond a row, the rows that follow write again. Rows: how many, where known when compiling (else 0).
  template <bool Second, int Rows, int Depths>
  TP_INLINE static void rows_of(const PermutedArgs& a, const Chunk& chunk, const PermutedRow& row, const T* grads, const Stored* codes,
                                T* target, Stores stores, Vec<Lane, N>& carry) {
    constexpr int reads = Second ? permuted_reads : 1;
    Vec<Lane, N> own_grad[Depths][reads];
    Vec<Code, N> own_code[Depths][reads];
    for (int d = 0; d < Depths; ++d) {
      const int64_t from = row.source[d].grad + chunk.first;
      const auto grad = load_lanes<false, T, Lane, N>(grads + from);
      const auto code = load_lanes<false, Stored, Code, N>(codes + from) - broadcast<Code, N>(static_cast<Code>(row.source[d].base));
      for (int k = 0; k < reads; ++k) {
        own_grad[d][k] = permute<Lane, N>(grad, chunk.from[k]), own_code[d][k] = permute<Code, N>(code, chunk.from[k]) - chunk.tap[k];
      }
    }
    auto total = carry;
    const int64_t count = Rows == 0 ? row.count : Rows;
    for (int64_t h = 0; h < count; ++h) {
      const auto wanted = broadcast<Code, N>(static_cast<Code>(h * a.taps));
      if (h > 0) total = Vec<Lane, N>{};
      for (int d = 0; d < Depths; ++d) {
        for (int k = 0; k < reads; ++k) total = select(own_code[d][k] == wanted, total + own_grad[d][k], total);
      }
      store_lanes<false, T, Lane, N>(target + h * a.length, total, stores);
    }
    carry = (Vec<Lane, N>)((Vec<Code, N>)total & broadcast<Code, N>(static_cast<Code>(row.resumed ? -1 : 0)));
  }
  template <bool Second>
  TP_INLINE static void planes_of(const PermutedArgs& a, const Chunk (&chunks)[permuted_chunks], int64_t chunk_count) {
    const T* grads = static_cast<const T*>(a.grads);
    const Stored* codes = static_cast<const Stored*>(a.codes);
    T* plane = static_cast<T*>(a.target);
    // Half a line past the caches, and the other half when the rows between are done, is slower than a whole one through them.
    const Stores stores = past_where(a.stores, N * sizeof(T) == widest_vector && a.length % N == 0);
    Vec<Lane, N> carries[permuted_chunks] = {};
    auto one = [&](const Chunk& chunk, const PermutedRow& row, T* target, Vec<Lane, N>& carry) __attribute__((always_inline)) {
      if (row.depths == 2) return rows_of<Second, 0, 2>(a, chunk, row, grads, codes, target, stores, carry);
      switch (row.count) {
        case 2: return rows_of<Second, 2, 1>(a, chunk, row, grads, codes, target, stores, carry);
        case 3: return rows_of<Second, 3, 1>(a, chunk, row, grads, codes, target, stores, carry);
        default: return rows_of<Second, 0, 1>(a, chunk, row, grads, codes, target, stores, carry);
      }
    };
    const Chunk only = chunks[0];
    Vec<Lane, N> only_carry{};
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

  static void run(const PermutedArgs& a) {
    if constexpr (N > 1) {
      Chunk chunks[permuted_chunks];
      const int64_t count = ceil_div<int64_t>(a.length, N);
      bool second = false;
      for (int64_t c = 0; c < count; ++c) {
        chunks[c] = chunk_of(a, std::clamp<int64_t>(c * N, 0, std::max<int64_t>(0, a.length - N)));
        second |= chunks[c].second;
      }
      second ? planes_of<true>(a, chunks, count) : planes_of<false>(a, chunks, count);
    }
  }
};
