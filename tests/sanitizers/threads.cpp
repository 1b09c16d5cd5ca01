// Every launcher of csrc/cpu without torch, built by tests/sanitizers/run.py with sanitizers and for other processors. Memory of exact sizes,
// for AddressSanitizer.
//   (nothing)   on 1 and on several threads, and from several callers at once: results are the same bits whatever their number
//   --plant     one race, which ThreadSanitizer must report
//   --write     the results of kernels without vectors, to standard output
//   --against   those of every instruction set here against what --write wrote elsewhere, from standard input: maxima and their gradients
//               the same bits, averages as near as docs/trust.md says
// SPDX-License-Identifier: BSD-3-Clause
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "core/half.h"
#include "cpu/isa.h"
#include "cpu/launch.h"
#include "cpu/launch_combined.h"
#include "cpu/launch_masked.h"

using namespace torch_pooling;

namespace {

struct Shape {
  int64_t batch, channels, size[3], kernel, stride, padding, dilation;
};
constexpr Shape shapes[] = {
    {2, 17, {1, 61, 67}, 3, 1, 1, 1}, {2, 9, {1, 64, 66}, 2, 2, 0, 1},   {1, 5, {1, 90, 130}, 3, 2, 1, 1},   {1, 3, {1, 80, 90}, 31, 1, 15, 1},
    {1, 4, {9, 40, 41}, 3, 2, 1, 1},  {3, 33, {1, 1, 2100}, 5, 3, 2, 1}, {1, 1, {1, 1, 70000}, 9, 1, 4, 1},  {2, 8, {1, 50, 70}, 3, 1, 2, 2},
    {1, 64, {1, 56, 56}, 56, 1, 0, 1}, {1, 2, {1, 300, 300}, 7, 5, 3, 1},
    {5, 13, {5, 7, 6}, 3, 2, 1, 1},   {70, 5, {1, 7, 7}, 5, 1, 2, 1},    {1, 1, {4, 5, 3}, 2, 1, 0, 1},      {2, 3, {13, 34, 33}, 3, 2, 1, 1},
    {1, 2, {36, 37, 35}, 4, 2, 1, 1}, {1, 70, {1, 1, 5000}, 2, 2, 0, 1},
};

int64_t bytes_of(DType type) {
  switch (type) {
    case DType::Float64: case DType::Int64: return 8;
    case DType::Float32: case DType::Int32: return 4;
    case DType::BFloat16: case DType::Float16: case DType::Int16: return 2;
    case DType::Int8: case DType::UInt8: return 1;
  }
  std::abort();
}

using Bytes = std::vector<unsigned char>;

struct Part {
  Bytes bytes;
  bool exact;  // else added up, in an order that is the instruction set's
  bool operator==(const Part&) const = default;
};
using Parts = std::vector<Part>;

// Small numbers of any type: ties, both signs, no NaN.
Bytes numbers(DType type, int64_t count) {
  Bytes bytes(static_cast<size_t>(count * bytes_of(type)));
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<int>(i * 7919 % 61 - 30);
    unsigned char* const at = bytes.data() + i * bytes_of(type);
    const auto put = [&](auto number) { std::memcpy(at, &number, sizeof(number)); };
    switch (type) {
      case DType::Float32: put(static_cast<float>(value) / 8); break;
      case DType::Float64: put(static_cast<double>(value) / 8); break;
      case DType::BFloat16: put(static_cast<uint16_t>(0x3f80 + (value << 4))); break;
      case DType::Float16: put(static_cast<uint16_t>(0x3c00 + (value << 4))); break;
      case DType::Int8: case DType::UInt8: put(static_cast<unsigned char>(value + 64)); break;
      case DType::Int16: put(static_cast<int16_t>(value)); break;
      case DType::Int32: put(static_cast<int32_t>(value)); break;
      case DType::Int64: put(static_cast<int64_t>(value)); break;
    }
  }
  return bytes;
}

Problem problem_of(const Shape& shape, DType type, Layout layout) {
  Problem problem;
  problem.dtype = type, problem.layout = layout, problem.batch = shape.batch, problem.channels = shape.channels;
  for (int axis = 0; axis < 3; ++axis) {
    const bool flat = shape.size[axis] == 1;
    problem.axes[axis] = Axis::sliding(shape.size[axis], flat ? 1 : shape.kernel, flat ? 1 : shape.stride, flat ? 0 : shape.padding,
                                       flat ? 0 : shape.padding, flat ? 1 : shape.dilation, false);
  }
  return problem;
}

// All results of one problem, one after the other.
Parts results(const Problem& given) {
  Problem problem = given;
  const int64_t size = bytes_of(problem.dtype), inputs = problem.input_elements(), outputs = problem.output_elements();
  const bool floating = static_cast<int>(problem.dtype) <= static_cast<int>(DType::Float16);
  const Bytes input = numbers(problem.dtype, inputs), grad = numbers(problem.dtype, outputs);
  Parts all;
  const auto keep = [&](const Bytes& part, bool exact = true) { all.push_back({part, exact}); };
  const OffsetType type = problem.window_elements() <= 256 ? OffsetType::UInt8 : OffsetType::UInt16;
  Bytes output(static_cast<size_t>(outputs * size)), offsets(static_cast<size_t>(outputs * (type == OffsetType::UInt8 ? 1 : 2)));
  cpu::max_pool(problem, input.data(), output.data(), nullptr, type), keep(output);
  cpu::max_pool(problem, input.data(), output.data(), offsets.data(), type), keep(output), keep(offsets);
  cpu::max_pool_gather(problem, input.data(), offsets.data(), type, output.data()), keep(output);
  Bytes indices(static_cast<size_t>(outputs * 8));
  cpu::max_pool_indices(problem, offsets.data(), type, reinterpret_cast<int64_t*>(indices.data())), keep(indices);
  // Of each sample another third does not count; of the last, nothing but a beginning.
  const int64_t positions = inputs / problem.batch / problem.channels, planes = problem.batch * problem.channels;
  Masked masked;
  masked.dtype = problem.dtype, masked.layout = problem.layout, masked.batch = problem.batch, masked.channels = problem.channels;
  masked.positions = positions;
  std::vector<uint8_t> mask(static_cast<size_t>(problem.batch * positions));
  for (int64_t n = 0; n < problem.batch; ++n) {
    for (int64_t p = 0; p < positions; ++p) {
      mask[static_cast<size_t>(n * positions + p)] = n + 1 < problem.batch || n == 0 ? (p + n) % 3 != 0 : p < positions / 2;
    }
  }
  Bytes whole(static_cast<size_t>(planes * size)), places(static_cast<size_t>(planes * 4));
  cpu::masked_max_pool(masked, input.data(), mask.data(), whole.data(), nullptr, type), keep(whole);
  cpu::masked_max_pool(masked, input.data(), mask.data(), whole.data(), places.data(), OffsetType::Int32), keep(whole), keep(places);
  if (!floating) return all;
  cpu::masked_avg_pool(masked, input.data(), mask.data(), whole.data()), keep(whole, false);
  Bytes grad_input(static_cast<size_t>(inputs * size));
  cpu::masked_avg_pool_backward(masked, whole.data(), mask.data(), grad_input.data()), keep(grad_input, false);
  const OffsetsName name = cpu::look_at_offsets(problem, offsets.data(), type);
  cpu::max_pool_backward(problem, grad.data(), offsets.data(), type, name, grad_input.data()), keep(grad_input);
  for (const bool average : {false, true}) {
    problem.average = average;
    cpu::avg_pool(problem, input.data(), output.data()), keep(output, false);
    cpu::avg_pool_backward(problem, grad.data(), grad_input.data()), keep(grad_input, false);
  }
  Combined both;
  both.dtype = problem.dtype, both.layout = problem.layout, both.batch = problem.batch, both.channels = problem.channels;
  both.part_count = 2;
  both.parts[1].max = true;
  for (int axis = 0; axis < 3; ++axis) {
    for (int part = 0; part < 2; ++part) both.parts[part].axes[axis] = Axis::adaptive_to(problem.axes[axis].input, problem.axes[axis].input == 1 ? 1 : 5);
  }
  const int64_t each = problem.batch * problem.channels * both.parts[0].outputs();
  const Bytes grads = numbers(problem.dtype, 2 * each);
  Bytes together(static_cast<size_t>(2 * each * size)), saved(static_cast<size_t>(each * 4));
  cpu::combined_pool(both, input.data(), together.data(), saved.data(), OffsetType::Int32), keep(together, false), keep(saved);
  cpu::combined_pool_gather(both, input.data(), saved.data(), OffsetType::Int32, together.data()), keep(together, false);
  cpu::combined_pool_backward(both, grads.data(), saved.data(), OffsetType::Int32, grad_input.data()), keep(grad_input, false);
  return all;
}

void plant_a_race() {
  volatile int64_t shared = 0;
  at::thread_count() = 4;
  at::parallel_for(0, 4, 1, [&](int64_t, int64_t) { for (int i = 0; i < 1000; ++i) shared = shared + 1; });
}

double number_at(const Bytes& bytes, DType type, size_t i) {
  const auto as = [&]<class T>(T value) { return std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T)), value; };
  switch (type) {
    case DType::Float32: return static_cast<double>(as(float{}));
    case DType::Float64: return as(double{});
    case DType::BFloat16: return static_cast<double>(to_float(as(BFloat16Bits{})));
    case DType::Float16: return static_cast<double>(to_float(as(HalfBits{})));
    default: std::abort();
  }
}

bool near(const Bytes& one, const Bytes& other, DType type) {
  const size_t count = one.size() / static_cast<size_t>(bytes_of(type));
  const double rounding = type == DType::Float64 ? 0x1p-53 : 0x1p-24;
  const double last_place = type == DType::BFloat16 ? 0x1p-7 : type == DType::Float16 ? 0x1p-10 : 0;
  double largest = 0;
  for (size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(number_at(other, type, i)));
  for (size_t i = 0; i < count; ++i) {
    const double a = number_at(one, type, i), b = number_at(other, type, i);
    if (!(std::abs(a - b) <= 32 * rounding * largest + last_place * std::abs(b))) return false;
  }
  return true;
}

// visit(problem, words that name it), for each problem.
template <class Visit>
bool each_problem(const Visit& visit) {
  for (const Shape& shape : shapes) {
    for (const DType type : {DType::Float32, DType::Float64, DType::BFloat16, DType::Float16, DType::Int8, DType::Int64}) {
      for (const Layout layout : {Layout::ChannelsFirst, Layout::ChannelsLast}) {
        const std::string name = "shape " + std::to_string(&shape - shapes) + ", type " + std::to_string(static_cast<int>(type))
                                 + ", layout " + std::to_string(static_cast<int>(layout));
        if (!visit(problem_of(shape, type, layout), name)) return false;
      }
    }
  }
  return true;
}

int write_results() {
  cpu::force_instruction_set("scalar");
  const bool written = each_problem([](const Problem& problem, const std::string&) {
    for (const Part& part : results(problem)) {
      if (std::fwrite(part.bytes.data(), 1, part.bytes.size(), stdout) != part.bytes.size()) return false;
    }
    return true;
  });
  return written ? 0 : 1;
}

int compare_results() {
  int compared = 0, wrong = 0;
  each_problem([&](const Problem& problem, const std::string& name) {
    std::vector<Parts> found;
    for (const std::string& isa : cpu::runnable_instruction_sets()) cpu::force_instruction_set(isa), found.push_back(results(problem));
    for (size_t i = 0; i < found[0].size(); ++i) {
      Bytes expected(found[0][i].bytes.size());
      if (std::fread(expected.data(), 1, expected.size(), stdin) != expected.size()) {
        std::fprintf(stderr, "standard input ended at %s\n", name.c_str());
        return wrong = 1, false;
      }
      for (size_t k = 0; k < found.size(); ++k, ++compared) {
        const Part& part = found[k][i];
        if (part.bytes == expected || (!part.exact && near(part.bytes, expected, problem.dtype))) continue;
        std::fprintf(stderr, "%s, part %d, %s\n", name.c_str(), static_cast<int>(i), cpu::runnable_instruction_sets()[k].c_str());
        ++wrong;
      }
    }
    return true;
  });
  std::printf("%d comparisons with results from elsewhere, %d wrong\n", compared, wrong);
  return wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string asked = count > 1 ? arguments[1] : "";
  if (asked == "--plant") return plant_a_race(), 0;
  if (asked == "--write") return write_results();
  if (asked == "--against") return compare_results();
  int compared = 0;
  for (const std::string& isa : cpu::runnable_instruction_sets()) {
    cpu::force_instruction_set(isa);
    for (const int64_t past : {int64_t{0}, int64_t{1}}) {
      cpu::store_past_caches_from(past);
      const bool same = each_problem([&](const Problem& problem, const std::string& name) {
        at::thread_count() = 1;
        const Parts one = results(problem);
        for (const int threads : {2, 5}) {
          at::thread_count() = threads;
          if (results(problem) != one) {
            std::fprintf(stderr, "%d threads give other bits: %s, %s\n", threads, name.c_str(), isa.c_str());
            return false;
          }
          ++compared;
        }
        return true;
      });
      if (!same) return 1;
    }
    // Callers at once, each with threads of its own.
    at::thread_count() = 2;
    std::vector<std::thread> callers;
    for (const Shape& shape : shapes) callers.emplace_back([&shape] { results(problem_of(shape, DType::Float32, Layout::ChannelsLast)); });
    for (std::thread& caller : callers) caller.join();
  }
  std::printf("%d comparisons, the same bits on 1, 2 and 5 threads\n", compared);
  return 0;
}
