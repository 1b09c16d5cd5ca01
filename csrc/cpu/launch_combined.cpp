// See launch_combined.h. A piece is some channels of one sample (in channels-last all of them): small enough for the second level
// of cache, so that memory is read once, whatever the number of parts. Each part of it goes through the launchers that serve it
// alone, and straight into the result where its elements lie together there; else through a buffer that belongs to the thread.
// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/launch_combined.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "core/half.h"
#include "core/reducer.h"
#include "cpu/gather.h"
#include "cpu/isa.h"
#include "cpu/launch.h"
#include "cpu/scratch.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t piece_bytes = 256 << 10;
constexpr int64_t parallel_bytes = 64 << 10;  // below this a second thread costs more than it brings

struct Piece {
  int64_t sample, channel, channels;
};

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
int64_t channels_of_piece(const Combined& combined) {
  const int64_t plane = std::max<int64_t>(1, combined.input_positions() * element_bytes(combined.dtype));
  return combined.layout == Layout::ChannelsFirst ? std::clamp<int64_t>(piece_bytes / plane, 1, combined.channels) : combined.channels;
}

// body(piece) for all of the input: pieces on several threads where there are enough, else each piece on all of them.
template <class Body>
void for_pieces(const Combined& combined, const Body& body) {
  const int64_t plane = std::max<int64_t>(1, combined.input_positions() * element_bytes(combined.dtype));
  const int64_t channels = channels_of_piece(combined);
  const int64_t groups = ceil_div<int64_t>(combined.channels, channels), pieces = combined.batch * groups;
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t from = index % groups * channels;
      body(Piece{index / groups, from, std::min(channels, combined.channels - from)});
    }
    thread_buffers().trim();
  };
  const int64_t grain = std::max<int64_t>(1, parallel_bytes / (plane * channels));
  if (pieces < at::get_num_threads() || pieces <= grain) return run(0, pieces);
  at::parallel_for(0, pieces, grain, run);
}

bool lies_together(const Combined& combined, const Place& place, int64_t outputs) {
  const bool first = combined.layout == Layout::ChannelsFirst;
  return first ? place.channel == outputs && place.position == 1 : place.channel == 1 && place.position == combined.channels;
}
int64_t begin_of(const Place& place, const Piece& piece) {
  return place.first + piece.sample * place.batch + piece.channel * place.channel;
}

// body(element of a place, element of the same results lying together) for all of a piece, in the order of the latter.
template <class Body>
void for_elements(const Combined& combined, const Place& place, const Piece& piece, int64_t outputs, const Body& body) {
  const int64_t begin = begin_of(place, piece);
  int64_t at = 0;
  if (combined.layout == Layout::ChannelsFirst) {
    for (int64_t c = 0; c < piece.channels; ++c) {
      for (int64_t o = 0; o < outputs; ++o) body(begin + c * place.channel + o * place.position, at++);
    }
  } else {
    for (int64_t o = 0; o < outputs; ++o) {
      for (int64_t c = 0; c < piece.channels; ++c) body(begin + c * place.channel + o * place.position, at++);
    }
  }
}
template <class Body>
void with_bytes(int64_t bytes, const Body& body) {
  switch (bytes) {
    case 1: return body(uint8_t{});
    case 2: return body(uint16_t{});
    case 4: return body(uint32_t{});
    case 8: return body(uint64_t{});
    default: throw std::logic_error("unknown element size");
  }
}
void spread(const Combined& combined, const Place& place, const Piece& piece, int64_t outputs, int64_t bytes, const void* together,
            void* placed) {
  if (place.channel == 1) {  // channels-last: whole pixels
    const char* from = static_cast<const char*>(together);
    char* to = static_cast<char*>(placed) + begin_of(place, piece) * bytes;
    const int64_t pixel = piece.channels * bytes;
    for (int64_t o = 0; o < outputs; ++o, from += pixel, to += place.position * bytes) std::memcpy(to, from, static_cast<size_t>(pixel));
    return;
  }
  with_bytes(bytes, [&](auto tag) {
    using T = decltype(tag);
    for_elements(combined, place, piece, outputs, [&](int64_t at, int64_t n) { static_cast<T*>(placed)[at] = static_cast<const T*>(together)[n]; });
  });
}
void collect(const Combined& combined, const Place& place, const Piece& piece, int64_t outputs, int64_t bytes, const void* placed,
             void* together) {
  if (place.channel == 1) {
    const char* from = static_cast<const char*>(placed) + begin_of(place, piece) * bytes;
    char* to = static_cast<char*>(together);
    const int64_t pixel = piece.channels * bytes;
    for (int64_t o = 0; o < outputs; ++o, to += pixel, from += place.position * bytes) std::memcpy(to, from, static_cast<size_t>(pixel));
    return;
  }
  with_bytes(bytes, [&](auto tag) {
    using T = decltype(tag);
    for_elements(combined, place, piece, outputs, [&](int64_t at, int64_t n) { static_cast<T*>(together)[n] = static_cast<const T*>(placed)[at]; });
  });
}

float widened(float value) { return value; }
double widened(double value) { return value; }
float widened(BFloat16Bits value) { return to_float(value); }
float widened(HalfBits value) { return to_float(value); }
void store(float& element, float value) { element = value; }
void store(double& element, double value) { element = value; }
void store(BFloat16Bits& element, float value) { element = to_bfloat16(value); }
void store(HalfBits& element, float value) { element = to_half(value); }

template <class Body>
void with_float(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::Float32: return body(float{});
    case DType::Float64: return body(double{});
    case DType::BFloat16: return body(BFloat16Bits{});
    case DType::Float16: return body(HalfBits{});
    default: throw std::logic_error("not a floating type");
  }
}
// sums[i] += terms[i]
void add(DType dtype, void* sums, const void* terms, int64_t count) {
  with_float(dtype, [&](auto tag) {
    using T = decltype(tag);
    T* const sum = static_cast<T*>(sums);
    const T* const term = static_cast<const T*>(terms);
    for (int64_t i = 0; i < count; ++i) store(sum[i], widened(sum[i]) + widened(term[i]));
  });
}
// values[i] becomes its mean with terms[i]. Halves are added: the sum of two numbers may lie beyond the type where their mean does not.
void mix(DType dtype, void* values, const void* terms, int64_t count) {
  with_float(dtype, [&](auto tag) {
    using T = decltype(tag);
    T* const value = static_cast<T*>(values);
    const T* const term = static_cast<const T*>(terms);
    for (int64_t i = 0; i < count; ++i) store(value[i], widened(value[i]) / 2 + widened(term[i]) / 2);
  });
}
void halve(DType dtype, void* values, int64_t count) {
  with_float(dtype, [&](auto tag) {
    auto* const value = static_cast<decltype(tag)*>(values);
    for (int64_t i = 0; i < count; ++i) store(value[i], widened(value[i]) / 2);
  });
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

// Part `part` from the results of part `finest`: few numbers, for which a launcher does too much.
void reduce_results(const Combined& combined, int64_t part, int64_t finest, int64_t channels, const void* fine, void* results) {
  const Axis* const to = combined.parts[part].axes;
  const Axis* const from = combined.parts[finest].axes;
  const bool first = combined.layout == Layout::ChannelsFirst, max = combined.parts[part].max;
  const int64_t fine_outputs = combined.parts[finest].outputs(), outputs = combined.parts[part].outputs(), taps = fine_outputs / outputs;
  std::vector<int64_t> at;  // finer results of each output
  for (int64_t o = 0; o < outputs; ++o) {
    const int64_t output[3] = {o / to[2].output / to[1].output, o / to[2].output % to[1].output, o % to[2].output};
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t size[3] = {0, from[1].output / to[1].output, from[2].output / to[2].output};
      const int64_t tap[3] = {t / size[2] / size[1], t / size[2] % size[1], t % size[2]};
      int64_t position = 0;
      for (int axis = 0; axis < 3; ++axis) {
        position = position * from[axis].output + output[axis] * (from[axis].output / to[axis].output) + tap[axis];
      }
      at.push_back(position);
    }
  }
  with_float(combined.dtype, [&](auto tag) {
    using T = decltype(tag);
    using L = decltype(widened(tag));
    const L count = static_cast<L>(taps);
    const T* source = static_cast<const T*>(fine);
    T* target = static_cast<T*>(results);
    if (first) {
      for (int64_t c = 0; c < channels; ++c, source += fine_outputs) {
        const int64_t* tap = at.data();
        for (int64_t o = 0; o < outputs; ++o, ++target) {
          L value = widened(source[*tap++]);
          for (int64_t t = 1; t < taps; ++t, ++tap) value = max ? Max::step(value, widened(source[*tap])) : value + widened(source[*tap]);
          store(*target, max ? value : value / count);
        }
      }
      return;
    }
    for (int64_t o = 0; o < outputs; ++o, target += channels) {  // sums are as wide as results here, and maxima stay what they are
      const int64_t* const tap = at.data() + o * taps;
      std::copy_n(source + tap[0] * channels, channels, target);
      for (int64_t t = 1; t < taps; ++t) {
        const T* const row = source + tap[t] * channels;
        if (max) {
          for (int64_t c = 0; c < channels; ++c) store(target[c], Max::step(widened(target[c]), widened(row[c])));
        } else {
          for (int64_t c = 0; c < channels; ++c) store(target[c], widened(target[c]) + widened(row[c]));
        }
      }
      if (max) continue;
      for (int64_t c = 0; c < channels; ++c) store(target[c], widened(target[c]) / count);
    }
  });
}

// One part of a piece, into `results`.
void run_part(Task task, const Combined& combined, int64_t part, const Piece& piece, const void* input, void* results, void* offsets,
              OffsetType type) {
  const Problem problem = combined.problem(part, piece.channels);
  if (!combined.parts[part].max) return avg_pool(problem, input, results);
  if (task == Task::Reduce) return max_pool(problem, input, results, offsets, type);
  if (look_at_offsets(problem, offsets, type) == OffsetsName::Nothing) {
    throw std::runtime_error("combined_pool_gather: offsets must lie inside their windows");
  }
  max_pool_gather(problem, input, offsets, type, results);
}

bool is_whole(const Part& part) { return part.axes[0].is_whole() && part.axes[1].is_whole() && part.axes[2].is_whole(); }

// Whether one kernel does it: the average and the maximum of all positions, where every thread finds a piece. (One result alone is
// not enough: a window may also be smaller than the plane.)
bool reads_once(Task task, const Combined& combined) {
  const bool two = combined.part_count == 2 && combined.parts[0].max != combined.parts[1].max && combined.form != Form::Flat;
  const int64_t pieces = combined.batch * ceil_div<int64_t>(combined.channels, channels_of_piece(combined));
  return task == Task::Reduce && two && is_whole(combined.parts[0]) && is_whole(combined.parts[1])
         && kernels().both[static_cast<int>(combined.dtype)] != nullptr && combined.input_positions() < INT32_MAX
         && pieces >= at::get_num_threads();
}
void read_once(const Combined& combined, const void* input, void* output, void* offsets, OffsetType type) {
  const KernelTable& table = kernels();
  const int dtype = static_cast<int>(combined.dtype), of_max = combined.parts[0].max ? 0 : 1;
  const int64_t bytes = element_bytes(combined.dtype), positions = combined.input_positions();
  const CodeKernels& codes = combined.dtype == DType::Float64 ? table.codes8 : table.codes4;
  const Place saved = combined.place(of_max, true);
  for_pieces(combined, [&](const Piece& piece) {
    Buffers& buffers = thread_buffers();
    const bool mean = combined.form == Form::Mean, last = combined.layout == Layout::ChannelsLast;
    auto place_of = [&](int part) { return static_cast<char*>(output) + begin_of(combined.place(part, false), piece) * bytes; };
    char* const average = place_of(1 - of_max);
    char* const maximum = mean ? buffers.values[0].reserve(piece.channels * bytes) : place_of(of_max);
    BothArgs args{};
    args.source = static_cast<const char*>(input) + (piece.sample * combined.channels * positions + piece.channel * (last ? 1 : positions)) * bytes;
    args.planes = piece.channels, args.positions = positions;
    args.channels = last ? piece.channels : 0, args.pixel = combined.channels;
    args.sums = average, args.maxima = maximum, args.divisor = static_cast<double>(positions);
    args.scratch = buffers.values[1].reserve(piece.channels * 2 * static_cast<int64_t>(sizeof(double)));
    if (offsets != nullptr) args.codes = buffers.offsets.reserve(piece.channels * static_cast<int64_t>(sizeof(int64_t)));
    (offsets != nullptr ? table.coded_both : table.both)[dtype](args);
    if (offsets != nullptr) {
      char* const target = static_cast<char*>(offsets) + begin_of(saved, piece) * offset_bytes[static_cast<int>(type)];
      codes.store[static_cast<int>(type)]({args.codes, target, {}, piece.channels, nullptr, {0, 0, 0}, 1});
    }
    if (mean) mix(combined.dtype, average, maximum, piece.channels);
  });
}

void forward(Task task, const Combined& combined, const void* input, void* output, void* offsets, OffsetType type) {
  const int64_t bytes = element_bytes(combined.dtype), offset_size = offset_bytes[static_cast<int>(type)];
  const int64_t positions = combined.input_positions();
  if (reads_once(task, combined)) return read_once(combined, input, output, offsets, type);
  const int64_t finest = finest_part(task, combined, offsets);
  for_pieces(combined, [&](const Piece& piece) {
    Buffers& buffers = thread_buffers();
    const char* const all = static_cast<const char*>(input) + (piece.sample * combined.channels + piece.channel) * positions * bytes;
    const void* from = all;  // or the results of the finest part
    for (int64_t turn = 0; turn < combined.part_count; ++turn) {  // the finest part goes first
      const int64_t part = finest < 0 || turn > finest ? turn : turn == 0 ? finest : turn - 1;
      const int64_t outputs = combined.parts[part].outputs(), count = outputs * piece.channels;
      if (count == 0) continue;
      const Place place = combined.place(part, false), saved = combined.place(part, true);
      const bool direct = lies_together(combined, place, outputs) && (combined.form != Form::Mean || part == 0);
      char* const placed = static_cast<char*>(output) + (direct ? begin_of(place, piece) : 0) * bytes;
      void* const results = direct ? placed : buffers.values[part == finest ? 1 : 0].reserve(count * bytes);
      void* codes = nullptr;
      const bool has_codes = offsets != nullptr && combined.parts[part].max;
      const bool direct_codes = has_codes && lies_together(combined, saved, outputs);
      if (direct_codes) codes = static_cast<char*>(offsets) + begin_of(saved, piece) * offset_size;
      if (has_codes && !direct_codes) codes = buffers.offsets.reserve(count * offset_size);
      if (codes != nullptr && !direct_codes && task == Task::Gather) {
        collect(combined, saved, piece, outputs, offset_size, offsets, codes);
      }
      if (finest >= 0 && part != finest) {
        reduce_results(combined, part, finest, piece.channels, from, results);
      } else {
        run_part(task, combined, part, piece, from, results, codes, type);
      }
      if (part == finest) from = results;
      if (codes != nullptr && !direct_codes && task == Task::Reduce) {
        spread(combined, saved, piece, outputs, offset_size, codes, offsets);
      }
      if (combined.form == Form::Mean && part > 0) {
        mix(combined.dtype, static_cast<char*>(output) + begin_of(place, piece) * bytes, results, count);
      } else if (!direct) {
        spread(combined, place, piece, outputs, bytes, results, output);
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
  for_pieces(combined, [&](const Piece& piece) {
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
