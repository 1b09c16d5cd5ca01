// A call of the functional API as its arguments are parsed: its name for errors, and what torch.jit.trace must be told of it.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <torch/csrc/jit/frontend/tracer.h>

#include <string>
#include <string_view>
#include <vector>

namespace torch_pooling::ops {

// A size that torch.jit.trace follows: element `index` of a list of `size`, which is a tensor to the tracer.
struct Followed {
  const char* name;
  size_t size, index;
  at::Tensor value;
};

// What an error says it is about: avg_pool2d(): argument 'stride'. And the sizes that the tracer follows, which it is told again before
// each operator; else the graph would keep the numbers of the example.
struct Call {
  const char* stem;
  int64_t rank;  // 0: the name has none
  mutable std::vector<Followed> followed{};

  void follow(const char* name, size_t size, size_t index, const at::Tensor& value) const {
    followed.push_back({name, size, index, value});
  }
  void follow_size(const char* name, size_t size, size_t index, const at::Tensor& input, int64_t axis) const {
    if (torch::jit::tracer::isTracing()) follow(name, size, index, torch::jit::tracer::getSizeOf(input, axis));
  }
  void follow_sizes(const char* name, const at::Tensor& input) const {
    for (int64_t axis = 0; axis < rank; ++axis) {
      follow_size(name, static_cast<size_t>(rank), static_cast<size_t>(axis), input, input.dim() - rank + axis);
    }
  }
  // What is followed in one list goes for another, too.
  void follow_also(std::string_view from, const char* to) const {
    for (size_t n = followed.size(); n-- > 0;) {
      if (followed[n].name == from) follow(to, followed[n].size, followed[n].index, at::Tensor(followed[n].value));
    }
  }
  // From `begin` on these are (begin, end) of one axis, in a list of all begins and then all ends.
  void spread_from(size_t begin, size_t axes, size_t axis) const {
    for (size_t n = begin; n < followed.size(); ++n) followed[n].size = 2 * axes, followed[n].index = followed[n].index * axes + axis;
  }
  void announce() const {
    for (const Followed& each : followed) {
      torch::jit::tracer::ArgumentStash::stashIntArrayRefElem(each.name, each.size, each.index, each.value);
    }
  }
  std::string text(const char* name) const {
    return std::string(stem) + (rank > 0 ? std::to_string(rank) + "d" : "") + "(): argument '" + name + "'";
  }
};

}  // namespace torch_pooling::ops
