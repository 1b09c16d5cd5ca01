// The permuting way of max_backward.h. Rows of outputs are taken in their order; a row of inputs that two of them read is carried
// from the one to the next. Without windows along depth, all depths are planes; else outputs of a few depths are read for each of inputs.
// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cstring>

#include "cpu/first_touch.h"
#include "cpu/isa.h"
#include "cpu/max_backward.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t tile_elements = 16384;
constexpr int64_t few_planes = 32, large_plane = 1 << 18;  // which other ways share among threads

}  // namespace

bool MaxPermuted::serves(const Problem& problem, const PullKernels& pull, int vector_bytes, OffsetType type, bool deep) {
  if (type == OffsetType::UInt8 && problem.window_elements() > offset_limit(type)) return false;  // lanes of 16 bits number no more
  return pull.permuted[static_cast<int>(type)] != nullptr && fits(problem, vector_bytes / pull.lane_bytes, deep);
}

bool MaxPermuted::serves_somewhere(const Problem& problem, const PullKernels& pull, bool deep) {
  bool any = false;
  for (int64_t bytes = widest_vector; bytes >= 16; bytes /= 2) any |= fits(problem, bytes / pull.lane_bytes, deep);
  return any;
}

bool MaxPermuted::fits(const Problem& problem, int64_t lanes, bool deep) {
  const Axis& depth = problem.axes[0];
  const Axis &height = problem.axes[1], &width = problem.axes[2];
  if (lanes < 2 || problem.layout != Layout::ChannelsFirst || problem.window_elements() > largest_permuted
      || (!deep && !depth.is_identity()) || width.input > permuted_chunks * lanes || height.output == 0 || height.output > most_rows
      || (width.is_whole() && width.input > 2 * lanes)) {  // one gradient among zeros
    return false;
  }
  if (!depth.is_identity()) {
    if (depth.input * height.output > most_rows
        || (problem.batch * problem.channels < few_planes && depth.input * height.input * width.input > large_plane)) {
      return false;
    }
    for (int64_t i = 0; i < depth.input; ++i) {
      if (depth.outputs_of(i).count > permuted_depths) return false;
    }
  }
  int64_t end = 0;  // of the rows seen, without gaps; of them, the last one may be read again
  for (int64_t o = 0; o < height.output; ++o) {
    const Span span = height.inputs_of(o);
    if (span.count == 0 || (span.count > 1 && span.step != 1)) return false;
    if (span.first > end || span.first < end - 1 || span.first + span.count <= end) return false;
    end = span.first + span.count;
  }
  for (int64_t n = 0; n < width.input; n += lanes) {
    const int64_t begin = std::clamp<int64_t>(n, 0, std::max<int64_t>(0, width.input - lanes));
    int64_t first = width.output, last = -1;
    for (int64_t i = begin; i < std::min(begin + lanes, width.input); ++i) {
      const Span span = width.outputs_of(i);
      if (span.count > permuted_reads) return false;
      if (span.count == 0) continue;
      first = std::min(first, span.first);
      last = std::max(last, span.first + (span.count - 1) * span.step);
    }
    if (last - first >= lanes) return false;
  }
  return true;
}

MaxPermuted::MaxPermuted(const Problem& problem, const PullKernels& pull, int vector_bytes, int64_t element_bytes, const MaxGradients& gradients)
    : problem_(problem), kernel_(pull.permuted[static_cast<int>(gradients.offset_type)]), gradients_(gradients),
      element_bytes_(element_bytes), code_bytes_(offset_bytes[static_cast<int>(gradients.offset_type)]) {
  const Axis &depth = problem.axes[0], &height = problem.axes[1], &width = problem.axes[2];
  const bool flat = depth.is_identity();
  const int64_t input_depth = height.input * width.input, output_depth = height.output * width.output;
  planes_ = problem.batch * problem.channels * (flat ? depth.input : 1);
  input_plane_ = input_depth * (flat ? 1 : depth.input);
  output_plane_ = output_depth * (flat ? 1 : depth.output);
  tile_planes_ = std::max<int64_t>(1, std::min(tile_elements, work() / 16) / std::max<int64_t>(1, input_plane_));
  spills_ = width.input * element_bytes < vector_bytes;  // elements, which words take two at a time
  stores_ = stores_for(work() * element_bytes, gradients.grad_input, problem.input_elements() * element_bytes);
  width_.list(width, {0, width.input});
  for (int64_t i = 0; i < (flat ? 1 : depth.input); ++i) {
    const Span outputs = flat ? Span{0, 1, 1, 0} : depth.outputs_of(i);
    PermutedRow row{};
    row.first = i * input_depth, row.depths = static_cast<int>(outputs.count);
    if (outputs.count == 0) {
      row.zeros = input_depth;
      rows_.push_back(row);
      continue;
    }
    int64_t end = 0;
    for (int64_t o = 0; o < height.output; ++o) {
      const Span span = height.inputs_of(o);
      if (span.first < end) rows_.back().resumed = true;
      row.first = i * input_depth + span.first * width.input, row.count = span.count;
      for (int64_t d = 0; d < outputs.count; ++d) {
        const int64_t at = outputs.first + d * outputs.step, tap = flat ? 0 : depth.tap_of(at, i);
        row.source[d] = {at * output_depth + o * width.output, (tap * height.max_taps() + height.tap_of(o, span.first)) * width.max_taps()};
      }
      rows_.push_back(row);
      end = span.first + span.count;
    }
    rows_.back().zeros = (height.input - end) * width.input;
  }
}

int64_t MaxPermuted::tiles() const { return ceil_div<int64_t>(planes_, tile_planes_); }

void MaxPermuted::run(int64_t begin, int64_t end) const {
  begin *= tile_planes_, end = std::min(end * tile_planes_, planes_);
  const char* const grads = static_cast<const char*>(gradients_.grad_output) + begin * output_plane_ * element_bytes_;
  const char* const codes = static_cast<const char*>(gradients_.offsets) + begin * output_plane_ * code_bytes_;
  char* const target = static_cast<char*>(gradients_.grad_input) + begin * input_plane_ * element_bytes_;
  // Vectors reach beyond a plane's outputs, into those that follow: of the last planes of the tensor into places not ours. And beyond its
  // inputs, where rows are shorter than a vector.
  const int64_t reach = ceil_div<int64_t>(widest_vector, std::max<int64_t>(1, std::min(output_plane_, input_plane_)));
  const int64_t planes = end - begin, last_ones = std::clamp<int64_t>(reach - (planes_ - end), 0, planes);
  const int64_t copied = spills_ ? std::min(planes, reach) : last_ones, inside = planes - copied;
  pull(inside, grads, codes, target);
  if (copied == 0) return;
  Scratch& scratch = thread_scratch();
  const int64_t outputs = copied * output_plane_, inputs = copied * input_plane_ * element_bytes_, slack = widest_vector;  // elements
  char* const own_grads = scratch.values[0].reserve((outputs + slack) * element_bytes_);
  char* const own_codes = scratch.codes[0].reserve((outputs + slack) * code_bytes_);
  char* const last = target + inside * input_plane_ * element_bytes_;
  char* const own_target = spills_ ? scratch.values[1].reserve(inputs + slack * element_bytes_) : last;
  std::memcpy(own_grads, grads + inside * output_plane_ * element_bytes_, static_cast<size_t>(outputs * element_bytes_));
  std::memcpy(own_codes, codes + inside * output_plane_ * code_bytes_, static_cast<size_t>(outputs * code_bytes_));
  pull(copied, own_grads, own_codes, own_target);
  if (spills_) std::memcpy(last, own_target, static_cast<size_t>(inputs));
  scratch.trim();
}

void MaxPermuted::pull(int64_t planes, const char* grads, const char* codes, char* target) const {
  const Axis& width = problem_.axes[2];
  kernel_({grads, codes, target, planes, input_plane_, output_plane_, rows_.data(), static_cast<int64_t>(rows_.size()), width_.entries.data(),
           width_.index.data(), width.input, width.max_taps(), stores_});
}

}  // namespace torch_pooling::cpu
