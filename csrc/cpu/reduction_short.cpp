// The plan of short windows in channels-first: whether a row is cut into pieces of a vector, and which permutation serves which. See short.inl.
// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <vector>

#include "cpu/reduction.h"

namespace torch_pooling::cpu {

// In channels-first, few taps along each axis: a vector of a row holds those of many results. Where windows are alike, combs are better
// for values alone from the fourth vector on, and for positions among nine.
bool Reduction::takes_short() {
  constexpr int64_t longest = 4096;
  const bool kernel = (inverse_ ? kernels_.next_short : kernels_.first_short) != nullptr;
  if (!kernel || source_size_[4] != 1 || modes_[0] != Mode::Identity || result_size_[3] > longest) return false;
  if (result_size_[2] * result_size_[3] == 0 || source_size_[2] * source_size_[3] == 0 || (modes_[1] == Mode::Identity && modes_[2] == Mode::Identity)) return false;
  bool uneven = false;
  int64_t taps = 1;
  for (const AxisView& view : {views_[1], views_[2]}) {
    if (!view.axis.never_empty()) return false;
    uneven |= view.axis.adaptive;
    taps = std::max(taps, most_taps(view));
  }
  if (taps > short_taps) return false;
  // A width that goes first elsewhere (run_tile) settles which of two zeros a maximum is: so it does for all instruction sets.
  if (codes_ == nullptr && modes_[2] == Mode::Windows && source_size_[2] < result_size_[2] && !inverse_) return false;
  if (uneven) return cut_short(longest);
  if (codes_ == nullptr) return cut_short(inverse_ ? short_chunks : 3);
  return cut_short(taps == 2 ? longest : kernels_.lane_bytes > 2 ? 4 : 1);
}

// The windows of a row, and what one vector serves of it: `most` times at most.
bool Reduction::cut_short(int64_t most) {
  const int64_t lanes = kernels_.vector_lanes, width = result_size_[3];
  if (width > most * lanes) return false;
  std::vector<Window> windows;
  windows.reserve(static_cast<size_t>(width));
  int64_t low = INT64_MAX, begin = 0, from = 0, end = 0, patterns = 0;  // results [begin, ...) read [from, end), if anything
  for (int64_t o = 0; o < width; ++o) {
    const Span span = views_[2].span_of(o);
    windows.push_back({span.first, span.step, span.count, span.tap});
    if (span.count > 0) low = std::min(low, span.first);
  }
  const auto window = [&](int64_t o) -> Window& { return windows[static_cast<size_t>(o)]; };
  // The pattern of a chunk: the last one's, or a new one.
  const auto pattern_of = [&](const ShortChunk& one) {
    if (chunks_.empty()) return patterns++;
    const ShortChunk& other = chunks_.back();
    bool same = one.end - one.begin == other.end - other.begin;
    for (int64_t i = 0; same && i < one.end - one.begin; ++i) {
      const Window &mine = window(one.begin + i), &its = window(other.begin + i);
      same = mine.taps == its.taps && mine.step == its.step && mine.tap == its.tap && mine.start - one.source == its.start - other.source;
    }
    return same ? other.pattern : patterns++;
  };
  chunks_.clear();
  for (int64_t o = 0; o <= width; ++o) {
    int64_t first = from, stop = end;
    if (o < width && window(o).taps > 0) {
      window(o).start -= low;
      stop = window(o).start + (window(o).taps - 1) * window(o).step + 1;
      first = end == 0 ? window(o).start : std::min(from, window(o).start);
      if (std::max(end, stop) - first <= lanes && o - begin < lanes) {
        from = first, end = std::max(end, stop);
        continue;
      }
      first = window(o).start;
      if (stop - first > lanes) return false;
    } else if (o < width && o - begin < lanes) {
      continue;
    }
    ShortChunk chunk{begin, o, from, 0};
    chunk.pattern = pattern_of(chunk);
    chunks_.push_back(chunk);
    if (patterns > short_chunks || static_cast<int64_t>(chunks_.size()) > most) return false;
    begin = o, from = first, end = stop;
  }
  short_ = std::move(windows);
  return true;
}

}  // namespace torch_pooling::cpu
