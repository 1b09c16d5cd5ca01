// The plan of a reduction: which kernel each axis takes, the boxes it is cut into, and what a box reads. See reduction.h.
// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <numeric>
#include <utility>

#include "cpu/first_touch.h"
#include "cpu/isa.h"
#include "cpu/reduction.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t tile_elements = 4096;        // per intermediate block: half an L1 cache of floats
// Calls of more than this are fetched early: they come from memory, or from the far end of the last cache, and in channels-first, where an
// early fetch of what is near costs less, from beyond the second level.
constexpr int64_t far_bytes = 8 << 20, far_bytes_first = 2 << 20;
constexpr int64_t large_block_limit = 1 << 20;  // in channels-last
constexpr int64_t block_limit = 1 << 17;  // of a tile of large windows, or of a coded maximum with its row for every source row

// Whether blocks as long as the longest window cost less than windows one by one, of so many taps in all.
bool slides_pay(int64_t longest, int64_t taps, int64_t extent) { return longest >= 8 && taps >= 4 * extent; }
// Blocks as long as the shortest window (but for those cut off at an end of the source), if such blocks pay: each window ends at the end
// of the block in which it starts, or beyond. The last ones may be empty: elements behind all windows of an average.
Slides slides_of(const std::vector<Window>& list, int64_t extent) {
  int64_t longest = 0, longest_whole = 0, shortest = INT64_MAX, taps = 0;
  bool empty = false;
  for (const Window& window : list) {
    if (window.taps == 0) {
      empty = true;
      continue;
    }
    if (empty || window.step != 1) return {};
    const bool cut = window.count == 1 && (window.start == 0 || window.start + window.taps == extent);
    if (!cut) shortest = std::min(shortest, window.taps), longest_whole = std::max(longest_whole, window.taps);
    longest = std::max(longest, window.taps);
    taps += window.count * window.taps;
  }
  if (!slides_pay(longest, taps, extent)) return {};
  if (longest_whole == 0) return {longest, taps / extent};
  if (longest_whole > 2 * shortest) return {};
  return {shortest, taps / extent};
}

Strides problem_strides(const Problem& problem, const int64_t (&size)[dimensions]) {
  Strides strides = packed_strides(size);
  if (problem.layout == Layout::ChannelsFirst) strides.of[4] = 1;
  return strides;
}

}  // namespace

Reduction::Reduction(const Problem& problem, const ReduceKernels& kernels, const CodeKernels* codes, int64_t element_bytes,
                     const Operands& operands, bool inverse)
    : problem_(problem), kernels_(kernels), codes_(codes), operands_(operands), inverse_(inverse),
      average_(problem.average), element_bytes_(element_bytes), uniform_(!problem.average || problem.uniform_divisor()) {
  divide_first_ = inverse && !uniform_;
  const bool first = problem.layout == Layout::ChannelsFirst;
  source_size_[0] = result_size_[0] = first ? problem.batch * problem.channels : problem.batch;
  source_size_[4] = result_size_[4] = first ? 1 : problem.channels;
  int64_t scale = 1;
  for (int axis = 2; axis >= 0; --axis) {
    views_[axis] = {problem.axes[axis], inverse, problem.count_padding};
    source_size_[axis + 1] = views_[axis].sources();
    result_size_[axis + 1] = views_[axis].results();
    code_scale_[axis] = scale;
    scale *= problem.axes[axis].max_taps();
  }
  for (int axis = 0; axis < 3; ++axis) modes_[axis] = mode_of(axis);
  pixels_ = takes_pixels();
  if (pixels_) std::fill_n(modes_, 3, Mode::Windows);
  source_strides_ = problem_strides(problem, source_size_);
  result_strides_ = problem_strides(problem, result_size_);
  work_ = problem.input_elements() + problem.output_elements();
  const int64_t results = inverse ? problem.input_elements() : problem.output_elements();
  // Pixels that share lines: what is stored past the caches beside what is not takes up to ten times as long.
  stores_ = past_where(stores_for(work_ * element_bytes, operands.output, results * element_bytes),
                       first || source_size_[4] * element_bytes % widest_vector == 0);
  const int64_t call_bytes = std::max(problem.call_bytes, work_ * element_bytes);
  beyond_ = stores_past_caches(work_ * element_bytes);
  far_ = outgrows_caches(call_bytes);
  const bool tall = source_size_[4] == 1 && modes_[1] == Mode::Windows && views_[1].axis.max_taps() >= 8;  // strips down many rows
  near_ = takes_near();
  const bool long_rows = tall || is_long_row(source_size_[3] * source_size_[4] * element_bytes, near_);
  ahead_ = call_bytes > (first ? far_bytes_first : far_bytes) && long_rows;
  if (!takes_ribbon() && !near_ && !takes_pairs() && takes_short()) modes_[1] = modes_[2] = Mode::Windows;
  choose_tiles();
  const bool keep = tiles() > 1;  // what only one tile asks for need not be kept
  for (int axis = 0; axis < 3; ++axis) {
    const bool many = modes_[axis] == Mode::Windows && leap_of(axis).positions == 0;
    spans_[axis] = keep && many ? SpanTable(views_[axis], views_[axis].results()) : SpanTable(views_[axis]);
    counts_[axis] = keep && !uniform_ ? CountTable(views_[axis], problem.axes[axis].output) : CountTable(views_[axis]);
  }
}

Reduction::Mode Reduction::mode_of(int axis) const {
  const AxisView& view = views_[axis];
  if (view.axis.is_identity()) return Mode::Identity;
  if (axis != 2 || source_size_[4] != 1 || view.axis.adaptive) return Mode::Windows;
  if (view.has_comb()) {
    const Comb comb = view.comb();
    const bool few = view.results() < 4 && comb.taps > 32;
    const bool mostly_outside = (comb.taps - 1) * comb.step > 2 * view.sources() + 64;
    const bool apart = comb.advance <= most_comb_advance && comb.step == 1 && comb.taps <= few_comb_taps;
    if ((comb.advance <= 2 || apart) && !few && !mostly_outside) return Mode::Comb;
  } else if (inverse_) {
    const Comb comb = view.axis.comb();
    if (comb.advance <= most_comb_advance && comb.step == 1 && comb.taps <= std::min(2 * view.results() + 64, comb.advance * long_sum)) return Mode::Spread;
  }
  return Mode::Windows;
}

// The most taps of a result, in one axis.
int64_t Reduction::most_taps(const AxisView& view) {
  const Axis& a = view.axis;
  if (!view.inverse) return a.max_taps();
  return a.adaptive ? Axis::adaptive_to(std::max<int64_t>(1, a.output), a.input).max_taps() : a.tap_step() > 1 ? a.kernel : ceil_div<int64_t>(a.kernel, a.stride);
}

// All axes together, where channels are innermost and windows are small: reading an input again must cost less than
// a pass of its own, and 16-bit elements are converted again each time.
bool Reduction::takes_pixels() const {
  if (source_size_[4] == 1 || modes_[2] != Mode::Windows) return false;
  double reads = 1;
  int64_t taps = 1, most = 1;  // of a window, roughly; at most
  for (int axis = 0; axis < 3; ++axis) {
    const Axis& a = views_[axis].axis;
    const int64_t outputs = std::max<int64_t>(1, a.output);
    const int64_t read = a.adaptive ? a.input + outputs - std::gcd(a.input, outputs) : a.max_taps() * outputs;
    reads *= static_cast<double>(read) / static_cast<double>(a.input);
    most *= most_taps(views_[axis]);
    taps *= inverse_ ? ceil_div<int64_t>(a.max_taps() * outputs, a.input) : a.max_taps();
  }
  return taps <= 16 && most <= most_pixel_taps && reads <= (kernels_.lanes_are_storage && !divide_first_ ? 4 : 2.5);
}

// Three by three, moving by one, results in the places of sources.
bool Reduction::takes_near() const {
  const bool square = modes_[0] == Mode::Identity && views_[1].axis.looks_around() && views_[2].axis.looks_around();
  const bool bytes = codes_ == nullptr || operands_.offset_type == OffsetType::UInt8;
  if (codes_ != nullptr && kernels_.lane_bytes == 2 && source_size_[4] > 1 && source_size_[4] < kernels_.vector_lanes / 2) return false;  // lanes would be few
  return (source_size_[4] > 1 ? kernels_.near_last : kernels_.near) != nullptr && square && uniform_ && bytes;
}

// An odd number of few tiles leaves a core waiting for the last one: one more or one less, or half of the channels at a time.
void Reduction::even_out(int d, int64_t taps, int64_t vector) {
  const int64_t count = ceil_div<int64_t>(result_size_[d], tile_size_[d]);
  const int64_t all = count * result_size_[0] * ceil_div<int64_t>(result_size_[4], tile_size_[4]);
  if (all % 2 == 0 || all > 7) return;
  if (count == 1) {
    tile_size_[4] = std::min(tile_size_[4], vector);
  } else {
    tile_size_[d] = ceil_div<int64_t>(result_size_[d], (count + 1) * taps <= result_size_[d] ? count + 1 : count - 1);
  }
}

void Reduction::choose_tiles() {
  const bool coded = codes_ != nullptr;
  // Where tiles are staged, neighbours stage the rows they share: fewer, larger tiles.
  const int64_t budget = std::clamp<int64_t>(work_ / 32, 512, pixels_ && divide_first_ ? 4 * tile_elements : tile_elements);
  auto ratio = [&](int d) { return std::max<int64_t>(1, source_size_[d] / std::max<int64_t>(1, result_size_[d])); };
  auto longest = [&](int d) { return std::max<int64_t>(1, std::max(source_size_[d], result_size_[d])); };
  int64_t* const tile = tile_size_;
  for (int d = 0; d < dimensions; ++d) tile[d] = 1;

  if (near_ || ribbon_rows_ > 0) {  // whole rows; planes are cut where there are few, for each part reads rows of its neighbours'
    tile[3] = result_size_[3], tile[4] = result_size_[4];
    const int64_t least = near_ ? 8 : std::max<int64_t>(8, 2 * views_[1].axis.max_taps());
    const int64_t rows = std::max(least, 4 * budget / std::max<int64_t>(1, tile[3] * tile[4]));
    tile[2] = std::max<int64_t>(1, result_size_[2] <= 2 * rows ? result_size_[2] : rows);
    if (tile[2] == result_size_[2]) tile[0] = std::clamp<int64_t>(4 * budget / std::max<int64_t>(1, tile[2] * tile[3] * tile[4]), 1, std::max<int64_t>(1, result_size_[0]));
    return;
  }
  if (!rows_.empty()) {  // whole rows, too
    const int64_t read = std::max(source_size_[3] * source_size_[2] * source_size_[1] / (result_size_[2] * result_size_[1]), result_size_[3]);
    const int64_t rows = std::max<int64_t>(8, 4 * budget / read);
    tile[3] = result_size_[3];
    tile[2] = result_size_[2] <= 2 * rows ? result_size_[2] : rows;
    if (tile[2] == result_size_[2]) tile[1] = std::clamp<int64_t>(4 * budget / (tile[2] * read), 1, result_size_[1]);
    if (tile[2] == result_size_[2] && tile[1] == result_size_[1]) {
      tile[0] = std::clamp<int64_t>(4 * budget / (tile[1] * tile[2] * read), 1, std::max<int64_t>(1, result_size_[0]));
    }
    return;
  }
  if (!short_.empty()) {  // whole planes, or rows of one
    int64_t left = 4 * budget / longest(3);
    tile[3] = result_size_[3];
    for (int d = 2; d >= 0; --d) {
      tile[d] = std::clamp<int64_t>(left / ratio(d), 1, std::max<int64_t>(1, result_size_[d]));
      if (tile[d] < result_size_[d]) break;
      left /= longest(d);
    }
    return;
  }
  tile[4] = result_size_[4] <= 4096 ? std::max<int64_t>(1, result_size_[4]) : 2048;
  // Large windows that overlap, in channels-last: few channels, so that many rows fit; but not where no row is kept.
  bool large = false, slides = false;
  for (const AxisView& view : views_) {
    const double read = static_cast<double>(view.axis.max_taps()) * static_cast<double>(view.axis.output);
    const bool shares = read > 1.5 * static_cast<double>(view.axis.input);  // more than uneven adaptive windows, whose ends alone overlap
    large |= view.axis.overlaps() && shares && view.axis.max_taps() >= 8;
    slides |= slides_pay(most_taps(view), view.axis.max_taps() * view.axis.output, view.sources());
  }
  const bool keeps_rows = !pixels_ && (slides || std::count(modes_, modes_ + 3, Mode::Identity) < 2);
  const bool strips = large && tile[4] > 1 && keeps_rows;
  const int64_t vector = widest_vector / kernels_.lane_bytes;
  if (strips) tile[4] = std::min(tile[4], 2 * vector);
  const int64_t limit = large && tile[4] > 1 ? large_block_limit : block_limit;
  int64_t rows = 1;  // rows of the width kept by coded maxima for one row of results
  if (coded) rows = std::min(views_[1].axis.max_taps(), longest(2)) * std::min(views_[0].axis.max_taps(), longest(1));
  int64_t row_budget = std::max<int64_t>(std::min(2 * tile_elements, std::max(budget, block_limit / rows)), 16);
  // Windows along the width are listed for each tile: a whole row where it is not too long, so that they are listed once.
  if (modes_[2] == Mode::Windows && source_size_[4] == 1 && !coded) row_budget = std::max(row_budget, 8 * tile_elements);
  // Neighbours read again what long windows share.
  if (modes_[2] == Mode::Windows && source_size_[4] == 1 && views_[2].axis.overlaps()) row_budget = std::max(row_budget, 2 * views_[2].axis.max_taps());
  tile[3] = std::clamp<int64_t>(row_budget / (tile[4] * ratio(3)), 1, std::max<int64_t>(1, result_size_[3]));
  if (tile[3] * 4 > result_size_[3] * 3) tile[3] = std::max<int64_t>(1, result_size_[3]);
  int64_t elements = tile[3] * tile[4] * (result_size_[3] == 0 ? 1 : std::max<int64_t>(1, longest(3) / result_size_[3]));
  for (int d = 2; d >= 1; --d) {
    tile[d] = std::clamp<int64_t>(budget / (elements * ratio(d)), 1, std::max<int64_t>(1, result_size_[d]));
    const Axis& axis = views_[d - 1].axis;
    if (axis.overlaps() && (coded || axis.max_taps() >= 8)) {  // neighbours repeat the rows they share: make that rare
      const int64_t room = limit / elements, beside = coded ? room - axis.max_taps() : room;
      const int64_t reach = std::min(2 * axis.max_taps(), strips ? std::max(beside, std::min(axis.max_taps(), room)) : beside);
      tile[d] = std::clamp<int64_t>(std::max(tile[d], reach), 1, std::max<int64_t>(1, result_size_[d]));
      if (axis.max_taps() >= 8 && tile[d] * 4 > result_size_[d] * 3) tile[d] = std::max<int64_t>(1, result_size_[d]);
      if (strips) even_out(d, axis.max_taps(), vector);
    }
    if (tile[d] < result_size_[d]) break;
    elements *= longest(d);
  }
  if (tile[1] >= result_size_[1] && tile[2] >= result_size_[2] && tile[3] >= result_size_[3] && tile[4] >= result_size_[4]) {
    // Long windows leave nothing behind but their results: many planes at a time.
    const bool no_blocks = modes_[0] == Mode::Identity && modes_[1] == Mode::Identity && modes_[2] == Mode::Windows;
    // So do tall ones but for a row each.
    const bool thin = !coded && source_size_[4] == 1 && modes_[2] == Mode::Windows && source_size_[2] >= 16 * result_size_[2];
    const int64_t most = no_blocks ? 4 * budget : thin ? 16 * budget : budget;
    tile[0] = std::clamp<int64_t>(most / elements, 1, std::max<int64_t>(1, result_size_[0]));
    if (no_blocks && far_ && source_size_[4] == 1) tile[0] = std::max(tile[0], std::clamp<int64_t>(result_size_[0] / 64, 1, 16));  // some at once
  }
}

int64_t Reduction::tiles() const { return count_tiles(result_size_, tile_size_); }

// Where a kernel divides by a divisor of each window, equal windows need not be alike.
bool Reduction::tells_counts() const { return (pixels_ || !short_.empty()) && average_ && !uniform_ && !divide_first_; }

Leap Reduction::leap_of(int axis) const {
  const bool counts = tells_counts();
  return counts ? Leap{} : inverse_ ? views_[axis].axis.outputs_leap() : views_[axis].axis.inputs_leap();
}

// Windows of the tile along an axis, from the source's first position; equal neighbours, and those that follow each other at
// equal distances, become one entry.
void Reduction::list_windows(int axis, Tile& tile, Scratch& scratch) const {
  std::vector<Window>& list = scratch.windows[axis];
  list.clear();
  int64_t low = INT64_MAX, high = INT64_MIN;
  const int64_t end = tile.result[axis + 1].end;
  const bool counts = tells_counts();
  auto same = [&](const Span& one, int64_t o, const Span& other, int64_t at, int64_t distance) {
    return one.first + distance == other.first && one.count == other.count && one.step == other.step
           && (codes_ == nullptr || one.tap == other.tap) && (!counts || counts_[axis].at(o) == counts_[axis].at(at));
  };
  // The most `n` for which fits(n) holds, from 1 on and below `limit`, where it holds for all before: found by doubling steps.
  auto most = [](int64_t limit, bool leap, const auto& fits) {
    int64_t n = 1;
    for (int64_t step = 1; n < limit && step > 0;) {
      const bool good = n + step <= limit && fits(n + step - 1);
      if (good) n += step;
      step = good && leap ? 2 * step : good ? 1 : step / 2;
    }
    return n;
  };
  // Both ends of a span move one way where its step is 1, so results with equal spans are neighbours.
  const bool gallop = views_[axis].axis.tap_step() == 1 && !counts;
  const Leap leap = leap_of(axis);
  for (int64_t o = tile.result[axis + 1].begin; o < end;) {
    const Span span = spans_[axis].at(o);
    Window window{span.first, span.step, span.count, span.tap};
    auto equals = [&](int64_t n) { return same(span, o, spans_[axis].at(o + n), o + n, 0); };
    window.repeat = most(end - o, gallop && span.count > 0, equals);  // gaps between windows look alike
    if (leap.positions == window.repeat && span.count > 0) {
      auto follows = [&](int64_t n) {
        const int64_t first = o + n * window.repeat, last = first + window.repeat - 1;
        return same(span, o, spans_[axis].at(first), first, n * leap.distance)
               && same(span, o, spans_[axis].at(last), last, n * leap.distance);
      };
      window.count = most((end - o) / window.repeat, true, follows);
      window.advance = leap.distance;
    }
    list.push_back(window);
    o += window.outputs();
    if (span.count == 0) continue;
    low = std::min(low, span.first);
    high = std::max(high, window.last_start() + (span.count - 1) * span.step + 1);
  }
  if (low > high) low = high = 0;
  for (Window& window : list) window.start = window.taps == 0 ? 0 : window.start - low;
  tile.source[axis + 1] = {low, high};
  scratch.slides[axis] = slides_of(list, high - low);
}

// last: the tile before, whose lists the scratch still holds, or null.
void Reduction::locate_sources(Tile& tile, const Tile* last, Scratch& scratch) const {
  tile.source[4] = tile.result[4];
  for (int axis = 0; axis < 3; ++axis) {
    const Range result = tile.result[axis + 1];
    Range& source = tile.source[axis + 1];
    if (last != nullptr && result == last->result[axis + 1]) {
      source = last->source[axis + 1];
      continue;  // the width's comb and spread stand where they stood, too
    }
    switch (modes_[axis]) {
      case Mode::Identity: source = result; break;
      case Mode::Windows: list_windows(axis, tile, scratch); break;
      case Mode::Comb: {
        const Comb comb = views_[axis].comb();
        tile.comb_first = comb.first + result.begin * comb.advance;
        tile.comb_length = (result.size() - 1) * comb.advance + (comb.taps - 1) * comb.step + 1;
        break;
      }
      case Mode::Spread: {  // input i = q * advance + r - shift reads outputs q - m
        const Comb comb = views_[axis].axis.comb();
        const int64_t shift = -comb.first, reach = ceil_div<int64_t>(comb.taps, comb.advance) - 1;
        tile.spread_first = (result.begin + shift) / comb.advance;
        tile.spread_count = (result.end - 1 + shift) / comb.advance + 1 - tile.spread_first;
        tile.spread_skip = result.begin + shift - comb.advance * tile.spread_first;
        tile.comb_first = tile.spread_first - reach;
        tile.comb_length = tile.spread_count + reach;
        break;
      }
    }
    if (modes_[axis] == Mode::Comb || modes_[axis] == Mode::Spread) {
      const int64_t size = source_size_[axis + 1];
      source.begin = std::clamp<int64_t>(tile.comb_first, 0, size);
      source.end = std::clamp<int64_t>(tile.comb_first + tile.comb_length, source.begin, size);
    }
  }
}

}  // namespace torch_pooling::cpu
