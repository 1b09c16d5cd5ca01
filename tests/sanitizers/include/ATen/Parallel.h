// at::parallel_for for a program without torch: a std::thread for each part, which ThreadSanitizer understands (of libgomp's threads
// it reports races that are none). In front of torch's headers on the include path, so that csrc/cpu compiles unchanged.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace at {

inline int& thread_count() {
  static int count = 1;
  return count;
}
inline int get_num_threads() { return thread_count(); }
inline bool& in_part() {
  thread_local bool inside = false;
  return inside;
}

template <class Body>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const Body& body) {
  const int64_t count = end - begin, most = grain > 0 ? (count + grain - 1) / grain : count;
  const int64_t parts = in_part() ? 1 : std::min<int64_t>(thread_count(), most);
  if (count <= 0) return;
  if (parts <= 1) return body(begin, end);
  std::vector<std::thread> threads;
  for (int64_t part = 0; part < parts; ++part) {
    threads.emplace_back([&, part] {
      in_part() = true;
      const int64_t from = begin + count * part / parts, to = begin + count * (part + 1) / parts;
      if (from < to) body(from, to);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace at
