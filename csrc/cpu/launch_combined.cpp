// See launch_combined.h. A piece is some channels of one sample (in channels-last all of them): small enough for the second level
// of cache, so that memory is read once, whatever the number of parts. Each part of it goes through the launchers that serve it
// alone, and straight into the result where its elements lie together there; else through a buffer that belongs to the thread.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/launch_combined.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "cpu/combined_parts.h"
#include "cpu/gather.h"
#include "cpu/first_touch.h"
#include "cpu/isa.h"
#include "cpu/launch.h"
#include "cpu/scratch.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t piece_bytes = 256 << 10;
constexpr int64_t long_piece_bytes = 1 << 20;  // of an input that is read once, whose results alone must stay near,
constexpr int64_t many_pieces = 32;            // where there are so many of them, for all threads to find work
constexpr int64_t parallel_bytes = 64 << 10;  // below this a second thread costs more than it brings
constexpr int64_t few_planes = 16;            // below this a plane may be shared among threads

// Buffers of one thread: those of the launchers that are called meanwhile are others.
struct Buffers {
  Buffer values[2], offsets;
  void trim() {
    for (Buffer* buffer : {&values[0], &values[1], &offsets}) buffer->release_if_above(int64_t{1} << 20);
  }
};
Buffers& thread_buffers() {
  thread_local Buffers buffers;
  return buffers;
}

// The number of consecutive channels of a piece.
int64_t channels_of_piece(const Combined& combined, int64_t most_bytes = piece_bytes) {
  const int64_t plane = std::max<int64_t>(1, combined.input_positions() * element_bytes(combined.dtype));
  return combined.layout == Layout::ChannelsFirst ? std::clamp<int64_t>(most_bytes / plane, 1, combined.channels) : combined.channels;
}

// body(piece) for all of the input: pieces of so many channels, on several threads where there are enough, else each piece on all of them.
template <class Body>
void for_pieces(const Combined& combined, int64_t channels, const Body& body) {
  const int64_t plane = std::max<int64_t>(1, combined.input_positions() * element_bytes(combined.dtype));
  const int64_t groups = ceil_div<int64_t>(combined.channels, channels), pieces = combined.batch * groups;
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t from = index % groups * channels;
      body(Piece{index / groups, from, std::min(channels, combined.channels - from)});
    }
    thread_buffers().trim();
    finish_stores();
  };
  const int64_t grain = std::max<int64_t>(1, parallel_bytes / (plane * channels));
  if (pieces < at::get_num_threads() || pieces <= grain) return run(0, pieces);
  at::parallel_for(0, pieces, grain, run);
}

enum class Task { Reduce, Gather };

// The part whose results all others can be reduced from, or -1: windows that tile the input evenly, each of another part made of whole ones
// of its. Averages of averages are as exact as sums only where results are as wide as the sums are.
int64_t finest_part(Task task, const Combined& combined, const void* offsets) {
  if (combined.form != Form::Flat || combined.part_count < 2 || task != Task::Reduce || offsets != nullptr) return -1;
  const bool wide = combined.dtype == DType::Float32 || combined.dtype == DType::Float64;
  if (!combined.parts[0].max && !wide) return -1;
  int64_t finest = 0;
  for (int64_t p = 1; p < combined.part_count; ++p) {
    if (combined.parts[p].outputs() > combined.parts[finest].outputs()) finest = p;
  }
  for (int axis = 0; axis < 3; ++axis) {
    const Axis& fine = combined.parts[finest].axes[axis];
    if (fine.input % fine.output != 0 || (fine.input == fine.output && fine.input > 1)) return -1;
    for (int64_t p = 0; p < combined.part_count; ++p) {
      if (combined.parts[p].max != combined.parts[finest].max || fine.output % combined.parts[p].axes[axis].output != 0) return -1;
    }
  }
  return finest;
}

// The order in which parts are reduced: the finest first, and each other one after those that it may be reduced from.
struct Order {
  int64_t part[most_parts];
};
Order order_of(const Combined& combined, int64_t finest) {
  Order order{};
  std::iota(order.part, order.part + combined.part_count, int64_t{0});
  auto finer = [&](int64_t one, int64_t other) { return combined.parts[one].outputs() > combined.parts[other].outputs(); };
  if (finest >= 0) std::stable_sort(order.part, order.part + combined.part_count, finer);
  return order;
}
// Of the parts that are there (found), the coarsest that part `part` can be reduced from.
int64_t source_of(const Combined& combined, int64_t part, int64_t finest, const void* const (&found)[most_parts]) {
  int64_t best = finest;
  for (int64_t p = 0; p < combined.part_count; ++p) {
    bool serves = found[p] != nullptr && combined.parts[p].outputs() < combined.parts[best].outputs();
    for (int axis = 0; axis < 3; ++axis) serves = serves && combined.parts[p].axes[axis].output % combined.parts[part].axes[axis].output == 0;
    if (serves) best = p;
  }
  return best;
}

int64_t input_bytes(const Combined& combined) {
  return combined.batch * combined.channels * combined.input_positions() * element_bytes(combined.dtype);
}

// One part of a piece, into `results`.
void run_part(Task task, const Combined& combined, int64_t part, const Piece& piece, const void* input, void* results, void* offsets,
              OffsetType type) {
  Problem problem = combined.problem(part, piece.channels);
  problem.call_bytes = input_bytes(combined);
  if (!combined.parts[part].max) return avg_pool(problem, input, results);
  if (task == Task::Reduce) return max_pool(problem, input, results, offsets, type);
  if (look_at_offsets(problem, offsets, type) == OffsetsName::Nothing) {
    throw std::runtime_error("combined_pool_gather: offsets must lie inside their windows");
  }
  max_pool_gather(problem, input, offsets, type, results);
}

// The channels of a piece where one thread does all of it: so few (in channels-last lines of memory) that every thread finds one.
int64_t channels_of_thread(const Combined& combined) {
  const int64_t unit = combined.layout == Layout::ChannelsLast ? std::max<int64_t>(1, widest_vector / element_bytes(combined.dtype)) : 1;
  const int64_t groups = ceil_div<int64_t>(at::get_num_threads(), std::max<int64_t>(1, combined.batch));
  const int64_t units = ceil_div<int64_t>(ceil_div<int64_t>(std::max<int64_t>(1, combined.channels), unit), groups);
  return std::min(channels_of_piece(combined), units * unit);
}
bool is_whole(const Part& part) { return part.axes[0].is_whole() && part.axes[1].is_whole() && part.axes[2].is_whole(); }

// Whether one kernel does it: the average and the maximum of all positions. (One result alone is not enough: a window may also be
// smaller than the plane.) A few large planes are for the kernels that share one among threads; the bits must not depend on how many.
bool reads_once(Task task, const Combined& combined) {
  const bool two = combined.part_count == 2 && combined.parts[0].max != combined.parts[1].max && combined.form != Form::Flat;
  return task == Task::Reduce && two && is_whole(combined.parts[0]) && is_whole(combined.parts[1])
         && kernels().both[static_cast<int>(combined.dtype)] != nullptr && combined.input_positions() < INT32_MAX
         && (combined.batch * combined.channels >= few_planes || combined.input_positions() * element_bytes(combined.dtype) <= parallel_bytes);
}
void read_once(const Combined& combined, const void* input, void* output, void* offsets, OffsetType type) {
  const KernelTable& table = kernels();
  const int dtype = static_cast<int>(combined.dtype), of_max = combined.parts[0].max ? 0 : 1;
  const int64_t bytes = element_bytes(combined.dtype), positions = combined.input_positions();
  const Place saved = combined.place(of_max, true);
  const bool ahead = outgrows_caches(input_bytes(combined));
  for_pieces(combined, channels_of_thread(combined), [&](const Piece& piece) {
    Buffers& buffers = thread_buffers();
    const bool mean = combined.form == Form::Mean, last = combined.layout == Layout::ChannelsLast;
    auto place_of = [&](int part) { return static_cast<char*>(output) + begin_of(combined.place(part, false), piece) * bytes; };
    char* const average = place_of(1 - of_max);
    char* const maximum = mean ? buffers.values[0].reserve(piece.channels * bytes) : place_of(of_max);
    BothArgs args{};
    args.source = static_cast<const char*>(input) + (piece.sample * combined.channels * positions + piece.channel * (last ? 1 : positions)) * bytes;
    args.planes = piece.channels, args.positions = positions;
    args.channels = last ? piece.channels : 0, args.pixel = combined.channels;
    args.sums = average, args.maxima = maximum, args.divisor = static_cast<double>(positions), args.ahead = ahead;
    args.scratch = buffers.values[1].reserve(piece.channels * 2 * static_cast<int64_t>(sizeof(double)));
    if (offsets != nullptr) args.codes = buffers.offsets.reserve(piece.channels * static_cast<int64_t>(sizeof(int64_t)));
    (offsets != nullptr ? table.coded_both : table.both)[dtype](args);
    if (offsets != nullptr) {
      char* const target = static_cast<char*>(offsets) + begin_of(saved, piece) * offset_bytes[static_cast<int>(type)];
      table.codes4.store[static_cast<int>(type)]({args.codes, target, {}, piece.channels, nullptr, {0, 0, 0}, 1});
    }
    if (mean) mix(combined.dtype, average, maximum, piece.channels);
  });
}

// Whether one kernel does it: the average and the maximum of three by three.
bool looks_around_once(Task task, const Combined& combined, const void* offsets, OffsetType type) {
  const bool two = combined.part_count == 2 && combined.parts[0].max != combined.parts[1].max && combined.form == Form::Concat;
  if (task != Task::Reduce || !two || (offsets != nullptr && type != OffsetType::UInt8)) return false;
  const KernelTable& table = kernels();
  const int dtype = static_cast<int>(combined.dtype);
  for (const Part& part : {combined.parts[0], combined.parts[1]}) {
    if (!part.axes[0].is_identity() || !part.axes[1].looks_around() || !part.axes[2].looks_around()) return false;
  }
  return table.near_both[0][dtype] != nullptr;
}
void look_around_once(const Combined& combined, const void* input, void* output, void* offsets) {
  const KernelTable& table = kernels();
  const int dtype = static_cast<int>(combined.dtype), of_max = combined.parts[0].max ? 0 : 1;
  const int64_t bytes = element_bytes(combined.dtype), positions = combined.input_positions();
  const Axis* const axes = combined.parts[0].axes;
  const int64_t elements = positions * combined.batch * combined.channels;
  const bool far = stores_past_caches(3 * elements * bytes);
  const Stores stores = stores_for(3 * elements * bytes, output, 2 * elements * bytes);
  const bool last = combined.layout == Layout::ChannelsLast;
  const int64_t row = (last ? combined.channels : axes[2].input) * bytes;
  const int64_t line_bytes = axes[2].input * (last ? combined.channels : 1) * bytes;  // of pixels
  const bool lines = row % widest_vector == 0 && table.sum[dtype].vector_lanes * bytes == widest_vector;
  // Rows are cut, too, whatever the number of threads: the bits do not depend on it.
  const int64_t channels = channels_of_piece(combined), groups = ceil_div<int64_t>(combined.channels, channels);
  const int64_t rows = axes[1].input, line = axes[2].input * channels * bytes * axes[0].input;
  const int64_t block = std::max<int64_t>(8, piece_bytes / std::max<int64_t>(1, line)), blocks = ceil_div<int64_t>(rows, block);
  const int64_t units = combined.batch * groups * blocks, grain = std::max<int64_t>(1, parallel_bytes / std::max<int64_t>(1, line * std::min(rows, block)));
  at::parallel_for(0, units, grain, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t from = index / blocks % groups * channels, first_row = index % blocks * block;
      const Piece piece{index / blocks / groups, from, std::min(channels, combined.channels - from)};
      auto place_of = [&](int part) { return static_cast<char*>(output) + begin_of(combined.place(part, false), piece) * bytes; };
      NearArgs args{};
      args.source = static_cast<const char*>(input) + (piece.sample * combined.channels + piece.channel) * positions * bytes;
      if (last) args.channels = combined.channels, args.target_pixel = combined.place(of_max, false).position;
      args.sums = place_of(1 - of_max), args.maxima = place_of(of_max);
      if (offsets != nullptr) args.codes = static_cast<char*>(offsets) + begin_of(combined.place(of_max, true), piece);
      args.planes = (last ? 1 : piece.channels) * axes[0].input, args.target_plane = axes[1].input * axes[2].input;
      args.source_plane = args.target_plane * (last ? combined.channels : 1);
      args.rows = rows, args.length = axes[2].input;
      args.begin = first_row, args.end = std::min(rows, first_row + block);
      args.divisor = 9, args.stores = past_where(stores, lines), args.ahead = far && is_long_row(line_bytes, true);
      (offsets != nullptr ? table.coded_near_both : table.near_both)[last][dtype](args);
    }
    finish_stores();
  });
}

void forward(Task task, const Combined& combined, const void* input, void* output, void* offsets, OffsetType type) {
  const int64_t bytes = element_bytes(combined.dtype), offset_size = offset_bytes[static_cast<int>(type)];
  const int64_t positions = combined.input_positions();
  if (reads_once(task, combined)) return read_once(combined, input, output, offsets, type);
  if (looks_around_once(task, combined, offsets, type)) return look_around_once(combined, input, output, offsets);
  const int64_t finest = finest_part(task, combined, offsets);
  const Order order = order_of(combined, finest);
  int64_t all_outputs = 0;
  for (int64_t p = 0; p < combined.part_count; ++p) all_outputs += combined.parts[p].outputs();
  const int64_t planes = combined.batch * combined.channels, results = combined.form == Form::Mean ? combined.parts[0].outputs() : all_outputs;
  const Stores stores = stores_for((positions + all_outputs) * planes * bytes, output, results * planes * bytes);
  const int64_t share = combined.batch * combined.channels * positions * bytes / many_pieces;
  const int64_t most_bytes = finest < 0 ? piece_bytes : std::clamp(share, piece_bytes, long_piece_bytes);
  for_pieces(combined, channels_of_piece(combined, most_bytes), [&](const Piece& piece) {
    Buffers& buffers = thread_buffers();
    const char* const all = static_cast<const char*>(input) + (piece.sample * combined.channels + piece.channel) * positions * bytes;
    const void* found[most_parts] = {};  // results that stay where they are
    int64_t before = 0;
    for (int64_t turn = 0; turn < combined.part_count; ++turn) {
      const int64_t part = order.part[turn];
      const int64_t outputs = combined.parts[part].outputs(), count = outputs * piece.channels;
      if (count == 0) continue;
      const Place place = combined.place(part, false), saved = combined.place(part, true);
      const bool direct = lies_together(combined, place, outputs) && (combined.form != Form::Mean || part == 0);
      char* const placed = static_cast<char*>(output) + (direct ? begin_of(place, piece) : 0) * bytes;
      // What other parts may be reduced from lies apart, each part's results after those of the parts before.
      void* const results = direct ? placed : finest < 0 ? buffers.values[0].reserve(count * bytes)
                                                         : buffers.values[0].reserve(all_outputs * piece.channels * bytes) + before * piece.channels * bytes;
      before += outputs;
      void* codes = nullptr;
      const bool has_codes = offsets != nullptr && combined.parts[part].max;
      const bool direct_codes = has_codes && lies_together(combined, saved, outputs);
      if (direct_codes) codes = static_cast<char*>(offsets) + begin_of(saved, piece) * offset_size;
      if (has_codes && !direct_codes) codes = buffers.offsets.reserve(count * offset_size);
      if (codes != nullptr && !direct_codes && task == Task::Gather) {
        collect(combined, saved, piece, outputs, offset_size, offsets, codes);
      }
      const int64_t source = finest >= 0 && part != finest ? source_of(combined, part, finest, found) : -1;
      // Averages of many averages would be added up one by one; the input has ways of its own for that.
      if (source >= 0 && (combined.parts[part].max || combined.parts[source].outputs() / outputs <= plane_sum_elements)) {
        reduce_results(combined, part, source, piece.channels, found[source], results);
      } else {
        run_part(task, combined, part, piece, all, results, codes, type);
      }
      if (direct || finest >= 0) found[part] = results;
      if (codes != nullptr && !direct_codes && task == Task::Reduce) {
        spread(combined, saved, piece, outputs, offset_size, codes, offsets);
      }
      if (combined.form == Form::Mean && part > 0) {
        mix(combined.dtype, static_cast<char*>(output) + begin_of(place, piece) * bytes, results, count);
      } else if (!direct) {
        spread(combined, place, piece, outputs, bytes, results, output, stores);
      }
    }
  });
}

}  // namespace

void combined_pool(const Combined& combined, const void* input, void* output, void* offsets, OffsetType type) {
  forward(Task::Reduce, combined, input, output, offsets, type);
}

void combined_pool_gather(const Combined& combined, const void* input, const void* offsets, OffsetType type, void* output) {
  forward(Task::Gather, combined, input, output, const_cast<void*>(offsets), type);
}

void combined_pool_backward(const Combined& combined, const void* grad_output, const void* offsets, OffsetType type, void* grad_input) {
  const int64_t bytes = element_bytes(combined.dtype), offset_size = offset_bytes[static_cast<int>(type)];
  const int64_t positions = combined.input_positions();
  for_pieces(combined, channels_of_piece(combined), [&](const Piece& piece) {
    Buffers& buffers = thread_buffers();
    char* const to = static_cast<char*>(grad_input) + (piece.sample * combined.channels + piece.channel) * positions * bytes;
    const int64_t elements = piece.channels * positions;
    for (int64_t part = 0; part < combined.part_count; ++part) {
      const Problem problem = combined.problem(part, piece.channels);
      const int64_t outputs = combined.parts[part].outputs(), count = outputs * piece.channels;
      const Place place = combined.place(part, false), saved = combined.place(part, true);
      const void* grads = static_cast<const char*>(grad_output) + begin_of(place, piece) * bytes;
      if (!lies_together(combined, place, outputs) || combined.form == Form::Mean) {
        char* const together = buffers.values[0].reserve(count * bytes);
        collect(combined, place, piece, outputs, bytes, grad_output, together);
        if (combined.form == Form::Mean) halve(combined.dtype, together, count);
        grads = together;
      }
      void* const share = part == 0 ? to : buffers.values[1].reserve(elements * bytes);
      if (combined.parts[part].max) {
        const void* codes = static_cast<const char*>(offsets) + begin_of(saved, piece) * offset_size;
        if (!lies_together(combined, saved, outputs)) {
          char* const together = buffers.offsets.reserve(count * offset_size);
          collect(combined, saved, piece, outputs, offset_size, offsets, together);
          codes = together;
        }
        const OffsetsName name = look_at_offsets(problem, codes, type);
        if (name == OffsetsName::Nothing) throw std::runtime_error("combined_pool_backward: offsets must lie inside their windows");
        max_pool_backward(problem, grads, codes, type, name, share);
      } else {
        avg_pool_backward(problem, grads, share);
      }
      if (part > 0) add(combined.dtype, to, share, elements);
    }
  });
}

}  // namespace torch_pooling::cpu
