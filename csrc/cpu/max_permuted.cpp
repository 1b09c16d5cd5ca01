// The permuting way of max_backward.h. Rows of outputs are taken in their order; a row of inputs that two of them read is carried
// from the one to the next. All depths are planes.
// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cstring>

#include "cpu/max_backward.h"

namespace torch_pooling::cpu {
namespace {

constexpr int64_t tile_elements = 16384;

}  // namespace

bool MaxPermuted::serves(const Problem& problem, const PullKernels& pull, int vector_bytes, OffsetType type) {
  const Axis &height = problem.axes[1], &width = problem.axes[2];
  const int64_t lanes = vector_bytes / pull.lane_bytes;
  if (pull.permuted[static_cast<int>(type)] == nullptr || lanes < 2 || problem.layout != Layout::ChannelsFirst
      || !problem.axes[0].is_identity() || width.input > permuted_chunks * lanes || height.output > most_rows
      || (width.is_whole() && width.input > 2 * lanes)) {  // one gradient among zeros
    return false;
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

MaxPermuted::MaxPermuted(const Problem& problem, const PullKernels& pull, int64_t element_bytes, const MaxGradients& gradients)
    : problem_(problem), kernel_(pull.permuted[static_cast<int>(gradients.offset_type)]), gradients_(gradients),
      element_bytes_(element_bytes), code_bytes_(offset_bytes[static_cast<int>(gradients.offset_type)]) {
  const Axis &height = problem.axes[1], &width = problem.axes[2];
  planes_ = problem.batch * problem.channels * problem.axes[0].input;
  input_plane_ = height.input * width.input;
  output_plane_ = height.output * width.output;
  tile_planes_ = std::max<int64_t>(1, std::min(tile_elements, work() / 16) / std::max<int64_t>(1, input_plane_));
  width_.list(width, {0, width.input});
  int64_t end = 0;
  for (int64_t o = 0; o < height.output; ++o) {
    const Span span = height.inputs_of(o);
    if (span.first < end) rows_.back().resumed = true;
    rows_.push_back({span.first * width.input, span.count, height.tap_of(o, span.first) * width.max_taps(), false});
    end = span.first + span.count;
  }
  zeros_ = (height.input - end) * width.input;
}

int64_t MaxPermuted::tiles() const { return ceil_div<int64_t>(planes_, tile_planes_); }

void MaxPermuted::run(int64_t begin, int64_t end) const {
  begin *= tile_planes_, end = std::min(end * tile_planes_, planes_);
  const char* const grads = static_cast<const char*>(gradients_.grad_output) + begin * output_plane_ * element_bytes_;
  const char* const codes = static_cast<const char*>(gradients_.offsets) + begin * output_plane_ * code_bytes_;
  char* const target = static_cast<char*>(gradients_.grad_input) + begin * input_plane_ * element_bytes_;
  // Vectors reach beyond the last planes, of outputs and of inputs, in places not ours: those are made in scratch memory.
  const int64_t reach = ceil_div<int64_t>(widest_vector, std::max<int64_t>(1, std::min(output_plane_, input_plane_)));
  const int64_t planes = end - begin, copied = std::min(planes, std::max<int64_t>(1, reach)), inside = planes - copied;
  pull(inside, grads, codes, target);
  Scratch& scratch = thread_scratch();
  const int64_t outputs = copied * output_plane_, inputs = copied * input_plane_ * element_bytes_, slack = widest_vector;  // elements
  char* const own_grads = scratch.values[0].reserve((outputs + slack) * element_bytes_);
  char* const own_codes = scratch.codes[0].reserve((outputs + slack) * code_bytes_);
  char* const own_target = scratch.values[1].reserve(inputs + slack * element_bytes_);
  std::memcpy(own_grads, grads + inside * output_plane_ * element_bytes_, static_cast<size_t>(outputs * element_bytes_));
  std::memcpy(own_codes, codes + inside * output_plane_ * code_bytes_, static_cast<size_t>(outputs * code_bytes_));
  pull(copied, own_grads, own_codes, own_target);
  std::memcpy(target + inside * input_plane_ * element_bytes_, own_target, static_cast<size_t>(inputs));
  scratch.trim();
}

void MaxPermuted::pull(int64_t planes, const char* grads, const char* codes, char* target) const {
  const Axis& width = problem_.axes[2];
  kernel_({grads, codes, target, planes, input_plane_, zeros_, rows_.data(), static_cast<int64_t>(rows_.size()), width_.entries.data(),
           width_.index.data(), width.input, width.output, width.max_taps()});
}

}  // namespace torch_pooling::cpu
