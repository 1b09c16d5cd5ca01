// Rows of a result that follow each other, are no whole lines and go past the caches: put together in the first levels of them, and
// copied from there line by line. Included inside a target region, after vec.inl.
// SPDX-License-Identifier: BSD-3-Clause

template <class T>
TP_INLINE void copy_past(const T* from, T* to, int64_t count) {
  constexpr int lanes = full_lanes<T>, bytes = lanes * static_cast<int>(sizeof(T));
  int64_t i = 0;
  for (; i < count && reinterpret_cast<uintptr_t>(to + i) % bytes != 0; ++i) to[i] = from[i];
  for (; i + lanes <= count; i += lanes) {
    store_result(to + i, load_as<Vec<uint8_t, bytes>>(reinterpret_cast<const uint8_t*>(from + i)), Stores::Past);
  }
  for (; i < count; ++i) to[i] = from[i];
}

template <class T>
class Together {
 public:
  const Stores stores;  // of what is placed

  // Lines: whether rows are whole ones, or can be stored as such.
  TP_INLINE Together(const Staging& staging, Stores wanted, bool lines)
      : stores(wanted == Stores::Past && !lines ? (staging.memory == nullptr ? Stores::Early : Stores::Usual) : wanted),
        staged_(wanted == Stores::Past && !lines ? static_cast<T*>(staging.memory) : nullptr),
        capacity_(staging.bytes / static_cast<int64_t>(sizeof(T))) {}

  TP_INLINE bool stages() const { return staged_ != nullptr; }
  // Where the results go that belong to the `count` elements of target, no more than are staged at a time.
  TP_INLINE T* place(T* target, int64_t count) {
    if (staged_ == nullptr) return target;
    if (target != begin_ + held_ || held_ + count > capacity_) {
      leave();
      begin_ = target;
    }
    T* const at = staged_ + held_;
    held_ += count;
    return at;
  }
  TP_INLINE void leave() {
    if (held_ > 0) copy_past(staged_, begin_, held_);
    held_ = 0;
  }

 private:
  T* staged_;
  int64_t capacity_;
  T* begin_ = nullptr;
  int64_t held_ = 0;
};
