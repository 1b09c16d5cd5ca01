// See reduction.h. A tile is a box of results; a block is what one pass leaves of it. Values go depth, height, width, so that
// the first pass reads storage along contiguous rows; coded maxima go width, height, depth, the scan order that decides ties.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/reduction.h"

#include <algorithm>

namespace torch_pooling::cpu {
namespace {

constexpr int64_t tile_elements = 4096;        // per intermediate block: half an L1 cache of floats
constexpr int64_t coded_block_limit = 1 << 17;  // coded maxima keep one row for every source row of the tile

Strides problem_strides(const Problem& problem, const int64_t (&size)[dimensions]) {
  Strides strides = packed_strides(size);
  if (problem.layout == Layout::ChannelsFirst) strides.of[4] = 1;
  return strides;
}

}  // namespace

struct Reduction::Tile {
  Range result[dimensions];
  Range source[dimensions];  // inside the source tensor
  // A comb or spread along the width reads positions [comb_first, comb_first + comb_length), margins included.
  int64_t comb_first = 0, comb_length = 0;
  int64_t spread_first = 0, spread_count = 0, spread_skip = 0;
};

struct Reduction::Block {
  char* data = nullptr;  // storage is only read
  char* code = nullptr;
  bool storage = true;
  bool result = false;  // already where the result belongs
  int64_t size[dimensions] = {};
  Strides strides;
  int64_t margin = 0;  // positions before the width's first real one
};

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
    views_[axis] = {problem.axes[axis], inverse};
    source_size_[axis + 1] = views_[axis].sources();
    result_size_[axis + 1] = views_[axis].results();
    code_scale_[axis] = scale;
    scale *= problem.axes[axis].max_taps();
  }
  for (int axis = 0; axis < 3; ++axis) {
    modes_[axis] = mode_of(axis);
    if (modes_[axis] == Mode::Windows) spans_[axis] = SpanTable(views_[axis]);
  }
  source_strides_ = problem_strides(problem, source_size_);
  result_strides_ = problem_strides(problem, result_size_);
  work_ = problem.input_elements() + problem.output_elements();
  choose_tiles();
}

Reduction::Mode Reduction::mode_of(int axis) const {
  const AxisView& view = views_[axis];
  if (view.axis.is_identity()) return Mode::Identity;
  if (axis != 2 || source_size_[4] != 1 || view.axis.adaptive) return Mode::Windows;
  if (view.has_comb()) {
    const Comb comb = view.comb();
    const bool few = view.results() < 4 && comb.taps > 32;
    const bool mostly_outside = (comb.taps - 1) * comb.step > 2 * view.sources() + 64;
    if (comb.advance <= 2 && !few && !mostly_outside) return Mode::Comb;
  } else if (inverse_) {
    const Comb comb = view.axis.comb();
    if (comb.advance == 2 && comb.step == 1 && comb.taps <= 2 * view.results() + 64) return Mode::Spread;
  }
  return Mode::Windows;
}

void Reduction::choose_tiles() {
  const bool coded = codes_ != nullptr;
  const int64_t budget = std::clamp<int64_t>(work_ / 32, 512, tile_elements);
  auto ratio = [&](int d) { return std::max<int64_t>(1, source_size_[d] / std::max<int64_t>(1, result_size_[d])); };
  auto longest = [&](int d) { return std::max<int64_t>(1, std::max(source_size_[d], result_size_[d])); };
  int64_t* const tile = tile_size_;
  for (int d = 0; d < dimensions; ++d) tile[d] = 1;

  tile[4] = result_size_[4] <= 1024 ? std::max<int64_t>(1, result_size_[4]) : 512;
  int64_t rows = 1;  // rows of the width kept by coded maxima for one row of results
  if (coded) rows = std::min(views_[1].axis.max_taps(), longest(2)) * std::min(views_[0].axis.max_taps(), longest(1));
  const int64_t row_budget = std::max<int64_t>(std::min(2 * tile_elements, std::max(budget, coded_block_limit / rows)),
                                               16);
  tile[3] = std::clamp<int64_t>(row_budget / (tile[4] * ratio(3)), 1, std::max<int64_t>(1, result_size_[3]));
  if (tile[3] * 4 > result_size_[3] * 3) tile[3] = std::max<int64_t>(1, result_size_[3]);
  int64_t elements = tile[3] * tile[4] * (result_size_[3] == 0 ? 1 : std::max<int64_t>(1, longest(3) / result_size_[3]));
  for (int d = 2; d >= 1; --d) {
    tile[d] = std::clamp<int64_t>(budget / (elements * ratio(d)), 1, std::max<int64_t>(1, result_size_[d]));
    if (coded && views_[d - 1].axis.overlaps()) {  // neighbours repeat the rows they share: make that rare
      const int64_t reach = std::min(views_[d - 1].axis.max_taps(), coded_block_limit / (4 * elements));
      tile[d] = std::clamp<int64_t>(std::max(tile[d], reach), 1, std::max<int64_t>(1, result_size_[d]));
    }
    if (tile[d] < result_size_[d]) break;
    elements *= longest(d);
  }
  if (tile[1] >= result_size_[1] && tile[2] >= result_size_[2] && tile[3] >= result_size_[3] && tile[4] >= result_size_[4]) {
    tile[0] = std::clamp<int64_t>(budget / elements, 1, std::max<int64_t>(1, result_size_[0]));
  }
  for (int d = 0; d < dimensions; ++d) tile_count_[d] = ceil_div<int64_t>(result_size_[d], tile[d]);
}

int64_t Reduction::tiles() const {
  int64_t count = 1;
  for (int d = 0; d < dimensions; ++d) count *= tile_count_[d];
  return count;
}

void Reduction::run(int64_t begin, int64_t end) const {
  Scratch& scratch = thread_scratch();
  Tile tile, last;
  for (int64_t index = begin; index < end; ++index) {
    int64_t rest = index;
    for (int d = dimensions - 1; d >= 0; --d) {
      const int64_t at = rest % tile_count_[d];
      rest /= tile_count_[d];
      tile.result[d] = {at * tile_size_[d], std::min((at + 1) * tile_size_[d], result_size_[d])};
    }
    if (index == begin || !std::equal(tile.result + 1, tile.result + 5, last.result + 1)) locate_sources(tile, scratch);
    tile.source[0] = tile.result[0];
    run_tile(tile, scratch);
    last = tile;
  }
  scratch.trim();
}

// Windows of the tile along an axis, from the source's first position; equal neighbours become one.
void Reduction::list_windows(int axis, Tile& tile, std::vector<Window>& list) const {
  list.clear();
  int64_t low = INT64_MAX, high = INT64_MIN;
  Span last;
  for (int64_t o = tile.result[axis + 1].begin; o < tile.result[axis + 1].end; ++o) {
    const Span span = spans_[axis].at(o);
    const bool same = !list.empty() && span.first == last.first && span.count == last.count && span.step == last.step
                      && (codes_ == nullptr || span.tap == last.tap);
    last = span;
    if (same) {
      ++list.back().repeat;
      continue;
    }
    list.push_back({span.first, span.step, span.count, span.tap, 1});
    if (span.count == 0) continue;
    low = std::min(low, span.first);
    high = std::max(high, span.first + (span.count - 1) * span.step + 1);
  }
  if (low > high) low = high = 0;
  for (Window& window : list) window.start = window.taps == 0 ? 0 : window.start - low;
  tile.source[axis + 1] = {low, high};
}

void Reduction::locate_sources(Tile& tile, Scratch& scratch) const {
  tile.source[4] = tile.result[4];
  for (int axis = 0; axis < 3; ++axis) {
    const Range result = tile.result[axis + 1];
    Range& source = tile.source[axis + 1];
    switch (modes_[axis]) {
      case Mode::Identity: source = result; break;
      case Mode::Windows: list_windows(axis, tile, scratch.windows[axis]); break;
      case Mode::Comb: {
        const Comb comb = views_[axis].comb();
        tile.comb_first = comb.first + result.begin * comb.advance;
        tile.comb_length = (result.size() - 1) * comb.advance + (comb.taps - 1) * comb.step + 1;
        break;
      }
      case Mode::Spread: {  // input i = q * 2 + r - shift reads outputs q - m
        const Comb comb = views_[axis].axis.comb();
        const int64_t shift = -comb.first, reach = ceil_div<int64_t>(comb.taps, 2) - 1;
        tile.spread_first = (result.begin + shift) / 2;
        tile.spread_count = (result.end - 1 + shift) / 2 + 1 - tile.spread_first;
        tile.spread_skip = result.begin + shift - 2 * tile.spread_first;
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

Reduction::Block Reduction::storage_block(const Tile& tile) const {
  Block block;
  int64_t offset = 0;
  for (int d = 0; d < dimensions; ++d) {
    block.size[d] = tile.source[d].size();
    offset += tile.source[d].begin * source_strides_.of[d];
  }
  block.strides = source_strides_;
  block.data = const_cast<char*>(static_cast<const char*>(operands_.input)) + offset * element_bytes_;
  return block;
}

// Kernels may read up to 256 bytes past a block that ends well before the end of its tensor.
bool Reduction::can_overread(const Block& block) const {
  if (!block.storage) return true;
  int64_t last = 0, total = 1;
  for (int d = 0; d < dimensions; ++d) {
    last += std::max<int64_t>(block.size[d] - 1, 0) * block.strides.of[d];
    total *= source_size_[d];
  }
  const char* end = static_cast<const char*>(operands_.input) + total * element_bytes_;
  return block.data + (last + 1) * element_bytes_ + 256 <= end;
}

void Reduction::run_tile(const Tile& tile, Scratch& scratch) const {
  Block block = storage_block(tile);
  int turn = 0;
  const bool coded = codes_ != nullptr;
  const bool width_is_comb = modes_[2] == Mode::Comb || modes_[2] == Mode::Spread;
  auto run_width = [&] {
    const bool margins = tile.source[3].size() != tile.comb_length;
    const bool direct = block.storage && kernels_.lanes_are_storage && !margins && modes_[2] == Mode::Comb;
    if (block.storage && !(direct && can_overread(block))) stage(tile, block, scratch, turn, true);
    pass(2, false, !coded || (modes_[0] == Mode::Identity && modes_[1] == Mode::Identity), tile, block, scratch, turn);
  };
  if (divide_first_) stage(tile, block, scratch, turn, width_is_comb && modes_[0] == Mode::Identity && modes_[1] == Mode::Identity);
  const int order[3] = {coded ? 2 : 0, 1, coded ? 0 : 2};
  for (int step = 0; step < 3; ++step) {
    const int axis = order[step];
    if (modes_[axis] == Mode::Identity) continue;
    if (axis == 2 && width_is_comb) {
      run_width();
      continue;
    }
    bool final = true;
    for (int later = step + 1; later < 3; ++later) final &= modes_[order[later]] == Mode::Identity;
    const bool last_before_comb = !coded && width_is_comb && (axis == 1 || modes_[1] == Mode::Identity);
    pass(axis, last_before_comb, final, tile, block, scratch, turn);
  }
  if (block.storage) stage(tile, block, scratch, turn, false);  // nothing to reduce: one element a window
  finish(tile, block, scratch);
}

// Storage to lanes, with margins for a comb to come, dividing where the adjoint of an average needs it.
void Reduction::stage(const Tile& tile, Block& block, Scratch& scratch, int& turn, bool comb_follows) const {
  int64_t size[dimensions];
  std::copy_n(block.size, dimensions, size);
  int64_t margin = 0;
  if (comb_follows) {
    margin = tile.source[3].begin - tile.comb_first;
    size[3] = tile.comb_length;
  }
  Block target;
  std::copy_n(block.size, dimensions, target.size);
  target.strides = packed_strides(size);
  target.storage = false;
  target.margin = margin;
  int64_t total = 1;
  for (int64_t n : size) total *= n;
  char* const base = scratch.values[turn].reserve(total * kernels_.lane_bytes);
  target.data = base + margin * target.strides.of[3] * kernels_.lane_bytes;
  double uniform = 1;
  const void* divisor = divide_first_ ? divisors(tile.source, scratch, uniform) : nullptr;
  Strides third = packed_strides(block.size);
  third.of[0] = 0;
  for_nest(block.size, block.strides, target.strides, divisor == nullptr ? nullptr : &third, -1,
           [&](const Loop(&loops)[3], const int64_t(&third_loops)[3], int64_t inner, int64_t s, int64_t t, int64_t at) {
             ConvertArgs args{block.data + s * element_bytes_, target.data + t * kernels_.lane_bytes,
                              {loops[0], loops[1], loops[2]}, inner,
                              divisor == nullptr ? nullptr : static_cast<const char*>(divisor) + at * kernels_.lane_bytes,
                              {third_loops[0], third_loops[1], third_loops[2]}, uniform};
             kernels_.load(args);
           });
  if (codes_ != nullptr && !comb_follows) {  // a lone tap is tap 0
    target.code = scratch.codes[turn].reserve(total * kernels_.lane_bytes);
    std::fill_n(target.code, total * kernels_.lane_bytes, char{0});
  }
  block = target;
  if (comb_follows) fill_margins(block, tile);
  turn ^= 1;
}

// One axis of a block. The target is packed, save for margins around the width when a comb follows.
void Reduction::pass(int axis, bool comb_follows, bool final, const Tile& tile, Block& block, Scratch& scratch,
                     int& turn) const {
  const Mode mode = modes_[axis];
  Block target;
  target.storage = false;
  std::copy_n(block.size, dimensions, target.size);
  target.size[axis + 1] = tile.result[axis + 1].size();
  int64_t size[dimensions];
  std::copy_n(target.size, dimensions, size);
  int64_t skip = 0;
  if (comb_follows) {
    target.margin = tile.source[3].begin - tile.comb_first;
    size[3] = tile.comb_length;
    skip = target.margin;
  } else if (mode == Mode::Spread) {
    size[3] = 2 * tile.spread_count;
    skip = tile.spread_skip;
  }
  target.strides = packed_strides(size);
  int64_t total = 1;
  for (int64_t n : size) total *= n;
  Final last;
  if (final && writes_result(mode)) {
    target.result = true;
    target.data = static_cast<char*>(operands_.output) + result_offset(tile) * element_bytes_;
    target.strides = result_strides_;
    last = final_of(tile);
  } else {
    target.data = scratch.values[turn].reserve(total * kernels_.lane_bytes);
  }
  if (codes_ != nullptr) target.code = scratch.codes[turn].reserve(total * kernels_.lane_bytes);
  char* const written = target.data + (comb_follows ? skip * target.strides.of[3] * kernels_.lane_bytes : 0);
  const int64_t source_bytes = block.storage ? element_bytes_ : kernels_.lane_bytes;

  int64_t loop_size[dimensions];
  std::copy_n(block.size, dimensions, loop_size);
  loop_size[axis + 1] = 1;
  if (mode == Mode::Windows) {
    const std::vector<Window>& list = scratch.windows[axis];
    for_nest(loop_size, block.strides, target.strides, nullptr, axis + 1,
             [&](const Loop(&loops)[3], const int64_t(&)[3], int64_t inner, int64_t s, int64_t t, int64_t) {
               // Rounded-up writes are harmless only while rows are written in ascending order.
               bool ascending = true;
               for (const Loop& loop : loops) ascending &= loop.count == 1 || loop.target >= target.strides.of[axis + 1];
               WindowsArgs args{block.data + s * source_bytes,
                                block.code == nullptr ? nullptr : block.code + s * kernels_.lane_bytes,
                                written + t * kernels_.lane_bytes,
                                target.code == nullptr ? nullptr : target.code + t * kernels_.lane_bytes,
                                {loops[0], loops[1], loops[2]}, block.strides.of[axis + 1], target.strides.of[axis + 1], inner,
                                list.data(), static_cast<int64_t>(list.size()), code_scale_[axis],
                                ascending && can_overread(block), last};
               block.storage ? kernels_.first(args) : kernels_.next(args);
             });
  } else {
    const char* const source = block.data - block.margin * block.strides.of[3] * source_bytes;
    const Comb comb = mode == Mode::Comb ? views_[axis].comb() : views_[axis].axis.comb();
    const int64_t reach = mode == Mode::Spread ? tile.spread_first - tile.comb_first : 0;
    Loop loops[3];
    for (int d = 0; d < 3; ++d) loops[d] = {block.size[d], block.strides.of[d], target.strides.of[d]};
    if (mode == Mode::Comb) {
      kernels_.comb({source, target.data, target.code, {loops[0], loops[1], loops[2]}, target.size[3], comb.advance, comb.step,
                     comb.taps, last});
    } else {
      kernels_.spread({source + reach * source_bytes, target.data, {loops[0], loops[1], loops[2]}, tile.spread_count, comb.taps,
                       comb.advance});
      target.data += skip * kernels_.lane_bytes;
    }
  }
  if (comb_follows) target.data = written;
  block = target;
  if (comb_follows) fill_margins(block, tile);
  if (codes_ != nullptr && mode == Mode::Comb) repair_codes(block, tile);
  turn ^= 1;
}

void Reduction::fill_margins(const Block& block, const Tile& tile) const {
  const int64_t right = tile.comb_length - block.margin - block.size[3];
  if (block.margin == 0 && right == 0) return;
  for (int64_t i = 0; i < block.size[0]; ++i) {
    for (int64_t j = 0; j < block.size[1]; ++j) {
      for (int64_t k = 0; k < block.size[2]; ++k) {
        char* const row = block.data + (i * block.strides.of[0] + j * block.strides.of[1] + k * block.strides.of[2])
                                           * kernels_.lane_bytes;
        if (block.margin > 0) kernels_.fill(row - block.margin * kernels_.lane_bytes, block.margin);
        if (right > 0) kernels_.fill(row + block.size[3] * kernels_.lane_bytes, right);
      }
    }
  }
}

// In a comb the identity before the row stands for taps outside the input; where nothing beat it, all real taps equal it, and
// the first of those is the one that counts. Only windows that begin before the row are concerned.
void Reduction::repair_codes(const Block& block, const Tile& tile) const {
  for (int64_t o = tile.result[3].begin; o < tile.result[3].end && views_[2].axis.origin_of(o) < 0; ++o) {
    const Span span = views_[2].span_of(o);
    if (span.count == 0) continue;
    for (int64_t i = 0; i < block.size[0]; ++i) {
      for (int64_t j = 0; j < block.size[1]; ++j) {
        for (int64_t k = 0; k < block.size[2]; ++k) {
          char* const at = block.code + (i * block.strides.of[0] + j * block.strides.of[1] + k * block.strides.of[2] + o
                                         - tile.result[3].begin) * kernels_.lane_bytes;
          auto raise = [&](auto* code) {
            if (*code < span.tap) *code = static_cast<std::remove_pointer_t<decltype(code)>>(span.tap);
          };
          switch (kernels_.lane_bytes) {
            case 2: raise(reinterpret_cast<int16_t*>(at)); break;
            case 4: raise(reinterpret_cast<int32_t*>(at)); break;
            default: raise(reinterpret_cast<int64_t*>(at)); break;
          }
        }
      }
    }
  }
}

// The divisors of a box of outputs, as lanes [depth, height, width, channels]; null where one divisor serves all.
const void* Reduction::divisors(const Range (&ranges)[dimensions], Scratch& scratch, double& uniform) const {
  if (uniform_) {
    uniform = static_cast<double>(problem_.divisor_override != 0 ? problem_.divisor_override : problem_.window_elements());
    return nullptr;
  }
  bool same = true;
  uniform = 1;
  for (int axis = 0; axis < 3; ++axis) {
    const Range range = ranges[axis + 1];
    if (range.size() == 0) return nullptr;
    const int64_t first = problem_.counted_taps(axis, range.begin);
    for (int64_t o = range.begin + 1; o < range.end && same; ++o) same = problem_.counted_taps(axis, o) == first;
    uniform *= static_cast<double>(first);
  }
  if (same) return nullptr;
  const int64_t channels = ranges[4].size();
  const int64_t total = ranges[1].size() * ranges[2].size() * ranges[3].size() * channels;
  char* const out = scratch.divisors.reserve(total * kernels_.lane_bytes);
  int64_t at = 0;
  const bool floating = problem_.dtype != DType::Int64;
  for (int64_t d = ranges[1].begin; d < ranges[1].end; ++d) {
    const int64_t counted_d = problem_.counted_taps(0, d);
    for (int64_t h = ranges[2].begin; h < ranges[2].end; ++h) {
      const int64_t counted_dh = counted_d * problem_.counted_taps(1, h);
      for (int64_t w = ranges[3].begin; w < ranges[3].end; ++w) {
        const int64_t counted = std::max<int64_t>(1, counted_dh * problem_.counted_taps(2, w));
        for (int64_t c = 0; c < channels; ++c, ++at) {
          if (!floating) {
            reinterpret_cast<int64_t*>(out)[at] = counted;
          } else if (kernels_.lane_bytes == 4) {
            reinterpret_cast<float*>(out)[at] = static_cast<float>(counted);
          } else {
            reinterpret_cast<double*>(out)[at] = static_cast<double>(counted);
          }
        }
      }
    }
  }
  return out;
}

int64_t Reduction::result_offset(const Tile& tile) const {
  int64_t offset = 0;
  for (int d = 0; d < dimensions; ++d) offset += tile.result[d].begin * result_strides_.of[d];
  return offset;
}

// Whether a last pass may skip finish: its lanes are the result's elements, and one divisor serves all.
bool Reduction::writes_result(Mode mode) const {
  return kernels_.lanes_are_storage && codes_ == nullptr && (uniform_ || divide_first_) && mode != Mode::Spread;
}

Final Reduction::final_of(const Tile& tile) const {
  Final last;
  if (average_ && !divide_first_) {
    last.divisor = static_cast<double>(problem_.divisor_override != 0 ? problem_.divisor_override : problem_.window_elements());
  }
  // A tile whose rows follow one another may overrun from row to row; any other ends every row exactly.
  const char* const begin = static_cast<const char*>(operands_.output) + result_offset(tile) * element_bytes_;
  int64_t elements = 1;
  bool contiguous = true;
  for (int d = dimensions - 1; d >= 0; --d) {
    if (tile.result[d].size() != 1) contiguous &= elements == result_strides_.of[d];
    elements *= tile.result[d].size();
  }
  last.limit = contiguous ? begin + elements * element_bytes_ : begin;
  return last;
}

void Reduction::finish(const Tile& tile, const Block& block, Scratch& scratch) const {
  if (block.result) return;
  const int64_t offset = result_offset(tile);
  double uniform = 1;
  const void* divisor = nullptr;
  if (average_ && !divide_first_) {
    divisor = divisors(tile.result, scratch, uniform);
  }
  Strides third = packed_strides(block.size);
  third.of[0] = 0;
  char* const output = static_cast<char*>(operands_.output) + offset * element_bytes_;
  for_nest(block.size, block.strides, result_strides_, divisor == nullptr ? nullptr : &third, -1,
           [&](const Loop(&loops)[3], const int64_t(&third_loops)[3], int64_t inner, int64_t s, int64_t t, int64_t at) {
             ConvertArgs args{block.data + s * kernels_.lane_bytes, output + t * element_bytes_,
                              {loops[0], loops[1], loops[2]}, inner,
                              divisor == nullptr ? nullptr : static_cast<const char*>(divisor) + at * kernels_.lane_bytes,
                              {third_loops[0], third_loops[1], third_loops[2]}, uniform};
             kernels_.finish(args);
             if (codes_ == nullptr) return;
             const int type = static_cast<int>(operands_.offset_type);
             const int64_t bytes = type == 0 ? 1 : type == 1 ? 2 : type == 2 ? 4 : 8;
             args.source = block.code + s * kernels_.lane_bytes;
             args.target = static_cast<char*>(operands_.offsets) + (offset + t) * bytes;
             codes_->store[type](args);
           });
}

}  // namespace torch_pooling::cpu
