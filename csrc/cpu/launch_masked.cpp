// See launch_masked.h. A piece is some planes of one sample (in channels-last all of them). What its mask leaves out is replaced by what
// changes nothing while the piece is copied into the caches, up to the last position that counts; from there the launchers of plain pools
// reduce it, so that a mask which leaves nothing out, and planes that end in what does not count, have the bits of planes without it. Where
// nothing is left out there is no copy. Long planes with something left out are reduced block by block of their positions, and the blocks'
// results once more.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/launch_masked.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "cpu/combined_parts.h"
#include "cpu/first_touch.h"
#include "cpu/gather.h"
#include "cpu/isa.h"
#include "cpu/launch.h"
#include "cpu/scratch.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t piece_bytes = 128 << 10;
constexpr int64_t long_bytes = 512 << 10;     // from here on in blocks
constexpr int64_t parallel_bytes = 64 << 10;  // below this a second thread costs more than it brings
constexpr int64_t kept_bytes = 1 << 20;       // of a thread's buffer between calls

// What a mask says of one sample.
struct Row {
  int64_t count = 0;   // positions that count
  int64_t length = 0;  // up to the last of them
  int64_t first = 0;   // of them

  bool leaves_out() const { return count < length; }
};
Row look_at(const uint8_t* mask, int64_t positions) {
  constexpr uint64_t low = 0x7f7f7f7f7f7f7f7f;
  Row row;
  int64_t i = 0;
  for (; i + 8 <= positions; i += 8) {
    uint64_t eight;
    std::memcpy(&eight, mask + i, 8);
    const uint64_t counts = (eight | ((eight & low) + low)) & ~low;  // the highest bit of each byte that is not 0
    if (counts == 0) continue;
    if (row.count == 0) row.first = i + std::countr_zero(counts) / 8;
    row.count += std::popcount(counts);
    row.length = i + 8 - std::countl_zero(counts) / 8;
  }
  for (; i < positions; ++i) {
    if (mask[i] == 0) continue;
    if (row.count == 0) row.first = i;
    ++row.count, row.length = i + 1;
  }
  return row;
}

// The bits of the value below which there is none, at the lower end.
uint64_t lowest_bits(DType dtype) {
  switch (dtype) {
    case DType::Float32: return 0xff800000;
    case DType::Float64: return 0xfff0000000000000;
    case DType::BFloat16: return 0xff80;
    case DType::Float16: return 0xfc00;
    case DType::Int8: return 0x80;
    case DType::UInt8: return 0;
    case DType::Int16: return 0x8000;
    case DType::Int32: return 0x80000000;
    case DType::Int64: return 0x8000000000000000;
  }
  return 0;
}

// body(begin, end) over [0, count), each with so many bytes to move.
template <class Body>
void split(int64_t count, int64_t bytes, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, parallel_bytes / std::max<int64_t>(1, bytes));
  if (grain >= count) return body(int64_t{0}, count);
  at::parallel_for(0, count, grain, body);
}

class Planes {
 public:
  Planes(const Masked& masked, const uint8_t* mask)
      : masked_(masked), mask_(mask), bytes_(element_bytes(masked.dtype)), last_(masked.layout == Layout::ChannelsLast),
        kernels_(kernels().masks[std::countr_zero(static_cast<uint64_t>(bytes_))]), rows_(static_cast<size_t>(masked.batch)) {
    split(masked.batch, masked.positions, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) rows_[static_cast<size_t>(n)] = look_at(mask + n * masked.positions, masked.positions);
    });
  }
  const Row& row(int64_t sample) const { return rows_[static_cast<size_t>(sample)]; }
  bool leaves_nothing_out() const {
    return std::all_of(rows_.begin(), rows_.end(), [&](const Row& row) { return row.count == masked_.positions; });
  }
  int64_t bytes() const { return bytes_; }

  struct Piece {
    const Row& row;
    int64_t sample, result, channels;  // the first of its results
    const void* planes;                // of row.length positions, with `fill` where one does not count; null: in blocks
    bool copied;
  };
  // How to reduce a piece, as a part of the whole call.
  Problem problem(const Piece& piece) const {
    Problem one = masked_.planes(piece.channels, piece.row.length);
    one.call_planes = masked_.batch * (last_ ? 1 : masked_.channels);
    if (!piece.copied) one.call_bytes = masked_.batch * masked_.channels * masked_.positions * bytes_;
    return one;
  }
  // body(piece) for all of which something counts; of others, none(first result, results).
  template <class Body, class None>
  void for_pieces(const void* input, uint64_t fill, const Body& body, const None& none) const {
    const int64_t plane = masked_.positions * bytes_;
    const int64_t channels = last_ ? masked_.channels : std::clamp<int64_t>(piece_bytes / plane, 1, std::max<int64_t>(1, masked_.channels));
    const int64_t groups = ceil_div<int64_t>(masked_.channels, channels), pieces = masked_.batch * groups;
    const auto run = [&](int64_t begin, int64_t end) {
      thread_local Buffer copy;
      for (int64_t index = begin; index < end; ++index) {
        const int64_t n = index / groups, c = index % groups * channels, count = std::min(channels, masked_.channels - c);
        if (row(n).count == 0) {
          none(n * masked_.channels + c, count);
        } else {
          const bool in_blocks = row(n).leaves_out() && row(n).length * count * bytes_ >= long_bytes && (last_ || count == 1);
          const char* const from = plane_of(input, n * masked_.channels + c);
          const void* const planes = in_blocks ? nullptr : together(from, n, count, fill, copy);
          body(Piece{row(n), n, n * masked_.channels + c, count, planes, planes != from});
        }
      }
      copy.release_if_above(kept_bytes);
    };
    // Few pieces: each on all threads.
    if (pieces < at::get_num_threads()) return run(0, pieces);
    split(pieces, plane * channels, run);
  }

  // The same for a piece in blocks of `length` positions, the last of which may be shorter: body(block, its positions, planes).
  template <class Body>
  void for_blocks(const Piece& piece, int64_t length, const void* input, uint64_t fill, const Body& body) const {
    split(ceil_div<int64_t>(piece.row.length, length), length * piece.channels * bytes_, [&](int64_t begin, int64_t end) {
      thread_local Buffer copies;
      char* const to = copies.reserve(length * piece.channels * bytes_);
      for (int64_t block = begin; block < end; ++block) {
        const int64_t at = block * length, count = std::min(length, piece.row.length - at);
        const int64_t line = last_ ? piece.channels : 1, plane = last_ ? piece.sample : piece.result;
        const char* const from = static_cast<const char*>(input) + (plane * masked_.positions + at) * line * bytes_;
        const uint8_t* const mask = mask_ + piece.sample * masked_.positions + at;
        if (last_) {
          kernels_.rows({from, line, mask, to, line, count, line, fill, Stores::Usual});
        } else {
          kernels_.elements({from, 0, mask, to, 0, 1, count, fill, Stores::Usual});
        }
        body(block, count, to);
      }
      copies.release_if_above(kept_bytes);
    });
  }
  int64_t block_length(const Piece& piece) const { return std::max<int64_t>(16, piece_bytes / (piece.channels * bytes_)); }

  // grad_input from one number for each plane.
  void spread(const void* values, void* grad_input) const {
    const int64_t all = masked_.batch * masked_.channels * masked_.positions * bytes_;
    const Stores stores = stores_for(all, grad_input, all);
    const int64_t line = last_ ? masked_.channels * bytes_ : bytes_;  // of a position
    const int64_t part = std::clamp<int64_t>(piece_bytes / std::max<int64_t>(1, line), 64, masked_.positions + 64) / 64 * 64;
    const int64_t parts = ceil_div<int64_t>(masked_.positions, part), lines = last_ ? masked_.batch : masked_.batch * masked_.channels;
    split(lines * parts, line * std::min(part, masked_.positions), [&](int64_t begin, int64_t end) {
      for (int64_t index = begin; index < end; ++index) {
        const int64_t n = index / parts, from = index % parts * part, count = std::min(part, masked_.positions - from);
        const uint8_t* const mask = mask_ + (last_ ? n : n / masked_.channels) * masked_.positions + from;
        char* const to = static_cast<char*>(grad_input) + (n * masked_.positions + from) * line;
        const char* const value = static_cast<const char*>(values) + n * line;
        if (last_) {
          kernels_.rows({value, 0, mask, to, masked_.channels, count, masked_.channels, 0, stores});
        } else {
          kernels_.spread({value, 0, mask, to, 0, 1, count, 0, past_where(stores, masked_.positions * bytes_ % widest_vector == 0)});
        }
      }
      finish_stores();
    });
  }

 private:
  // In channels-last of the sample, whose first plane it is.
  const char* plane_of(const void* input, int64_t plane) const { return static_cast<const char*>(input) + plane * masked_.positions * bytes_; }
  // Planes of sample n as they are, or copied.
  const void* together(const char* from, int64_t n, int64_t count, uint64_t fill, Buffer& copy) const {
    const Row& which = row(n);
    if (!which.leaves_out() && (last_ || count == 1 || which.length == masked_.positions)) return from;
    char* const to = copy.reserve(count * which.length * bytes_);
    const uint8_t* const mask = mask_ + n * masked_.positions;
    if (last_) {
      const int64_t line = masked_.channels * bytes_;
      split(which.length, line, [&](int64_t begin, int64_t end) {
        kernels_.rows({from + begin * line, masked_.channels, mask + begin, to + begin * line, masked_.channels, end - begin,
                       masked_.channels, fill, Stores::Usual});
      });
    } else {
      split(count, which.length * bytes_, [&](int64_t begin, int64_t end) {
        kernels_.elements({from + begin * masked_.positions * bytes_, masked_.positions, mask, to + begin * which.length * bytes_,
                           which.length, end - begin, which.length, fill, Stores::Usual});
      });
    }
    return to;
  }

  const Masked& masked_;
  const uint8_t* mask_;
  int64_t bytes_;
  bool last_;
  const MaskKernels& kernels_;
  std::vector<Row> rows_;
};

char* at_element(void* data, int64_t element, int64_t bytes) { return static_cast<char*>(data) + element * bytes; }

// Sums of blocks in 32 bits at least, which the last reduction divides.
class Blocks {
 public:
  Blocks(const Masked& masked, const Planes& planes, const Planes::Piece& piece, const void* input, uint64_t fill)
      : masked_(masked), planes_(planes), piece_(piece), input_(input), fill_(fill), length_(planes.block_length(piece)),
        count_(ceil_div<int64_t>(piece.row.length, length_)) {}

  void average(void* output) const {
    const ReduceKernels& sums = kernels().sum[static_cast<int>(masked_.dtype)];
    const bool narrow = planes_.bytes() == 2;
    Masked wide = masked_;
    if (narrow) wide.dtype = DType::Float32;
    const int64_t bytes = element_bytes(wide.dtype), channels = piece_.channels;
    Buffer parts, total;
    char* const part = parts.reserve(count_ * channels * bytes);
    planes_.for_blocks(piece_, length_, input_, fill_, [&](int64_t block, int64_t positions, const void* from) {
      thread_local Buffer lanes;
      if (narrow) {
        void* const widened = lanes.reserve(length_ * channels * bytes);
        sums.load(converted(from, widened, positions * channels));
        from = widened;
      }
      avg_pool(wide.planes(channels, positions), from, part + block * channels * bytes);
      lanes.release_if_above(kept_bytes);
    });
    Problem last = wide.planes(channels, count_);
    last.average = true, last.divisor_override = piece_.row.count;
    if (!narrow) return avg_pool(last, part, output);
    void* const results = total.reserve(channels * bytes);
    avg_pool(last, part, results);
    sums.finish(converted(results, output, channels));
  }

  // codes: int64 [channels], or null.
  void maximum(void* output, int64_t* codes) const {
    const int64_t bytes = planes_.bytes(), channels = piece_.channels;
    Buffer parts, places, blocks;
    char* const part = parts.reserve(count_ * channels * bytes);
    auto* const place = codes == nullptr ? nullptr : reinterpret_cast<int64_t*>(places.reserve(count_ * channels * 8));
    auto* const block_of = codes == nullptr ? nullptr : reinterpret_cast<int64_t*>(blocks.reserve(channels * 8));
    planes_.for_blocks(piece_, length_, input_, fill_, [&](int64_t block, int64_t positions, const void* from) {
      const int64_t first = block * channels;
      max_pool(masked_.planes(channels, positions), from, part + first * bytes, place == nullptr ? nullptr : place + first, OffsetType::Int64);
    });
    max_pool(masked_.planes(channels, count_), part, output, block_of, OffsetType::Int64);
    for (int64_t c = 0; codes != nullptr && c < channels; ++c) codes[c] = block_of[c] * length_ + place[block_of[c] * channels + c];
  }

 private:
  static ConvertArgs converted(const void* from, void* to, int64_t count) {
    ConvertArgs args{};
    args.source = from, args.target = to, args.count = count, args.divisor = 1;
    return args;
  }

  const Masked& masked_;
  const Planes& planes_;
  const Planes::Piece& piece_;
  const void* input_;
  uint64_t fill_;
  int64_t length_, count_;
};

}  // namespace

void masked_avg_pool(const Masked& masked, const void* input, const uint8_t* mask, void* output) {
  const Planes planes(masked, mask);
  const int64_t bytes = planes.bytes();
  if (planes.leaves_nothing_out()) {
    Problem all = masked.planes(masked.channels, masked.positions);
    all.batch = masked.batch, all.average = true;
    return avg_pool(all, input, output);
  }
  planes.for_pieces(
      input, 0,
      [&](const Planes::Piece& piece) {
        void* const results = at_element(output, piece.result, bytes);
        if (piece.planes == nullptr) return Blocks(masked, planes, piece, input, 0).average(results);
        Problem problem = planes.problem(piece);
        problem.average = true, problem.divisor_override = piece.row.count;
        avg_pool(problem, piece.planes, results);
      },
      [&](int64_t result, int64_t count) { std::memset(at_element(output, result, bytes), 0, static_cast<size_t>(count * bytes)); });
}

void masked_avg_pool_backward(const Masked& masked, const void* grad_output, const uint8_t* mask, void* grad_input) {
  const Planes planes(masked, mask);
  const int64_t bytes = planes.bytes(), results = masked.batch * masked.channels;
  Buffer shares;
  char* const share = shares.reserve(results * bytes);
  split(masked.batch, masked.channels * bytes, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t first = n * masked.channels * bytes;
      divide(masked.dtype, static_cast<const char*>(grad_output) + first, std::max<int64_t>(1, planes.row(n).count), masked.channels, share + first);
    }
  });
  planes.spread(share, grad_input);
}

void masked_max_pool(const Masked& masked, const void* input, const uint8_t* mask, void* output, void* offsets, OffsetType type) {
  const Planes planes(masked, mask);
  const int64_t bytes = planes.bytes(), code_bytes = offset_bytes[static_cast<int>(type)];
  const uint64_t lowest = lowest_bits(masked.dtype);
  if (planes.leaves_nothing_out()) {
    Problem all = masked.planes(masked.channels, masked.positions);
    all.batch = masked.batch;
    return max_pool(all, input, output, offsets, type);
  }
  planes.for_pieces(
      input, lowest,
      [&](const Planes::Piece& piece) {
        char* const values = at_element(output, piece.result, bytes);
        char* const codes = offsets == nullptr ? nullptr : at_element(offsets, piece.result, code_bytes);
        const auto set_code = [&](int64_t c, int64_t code) { std::memcpy(codes + c * code_bytes, &code, static_cast<size_t>(code_bytes)); };
        if (piece.planes == nullptr) {
          std::vector<int64_t> found(codes == nullptr ? 0 : static_cast<size_t>(piece.channels));
          Blocks(masked, planes, piece, input, lowest).maximum(values, codes == nullptr ? nullptr : found.data());
          for (size_t c = 0; c < found.size(); ++c) set_code(static_cast<int64_t>(c), found[c]);
        } else {
          max_pool(planes.problem(piece), piece.planes, values, codes, type);
        }
        if (codes == nullptr || !piece.row.leaves_out()) return;
        for (int64_t c = 0; c < piece.channels; ++c) {  // of nothing but the lowest value, the first one that counts
          uint64_t value = 0;
          std::memcpy(&value, values + c * bytes, static_cast<size_t>(bytes));
          if (value == lowest) set_code(c, piece.row.first);
        }
      },
      [&](int64_t result, int64_t count) {
        std::memset(at_element(output, result, bytes), 0, static_cast<size_t>(count * bytes));
        if (offsets != nullptr) std::memset(at_element(offsets, result, code_bytes), 0, static_cast<size_t>(count * code_bytes));
      });
}

}  // namespace torch_pooling::cpu
