// Elements of the parts of a combined operator: where those of a piece lie, gathered, scattered and added up. No threads, and of
// kernels the one that transposes: few numbers beside the input, or a second look at what is in the caches. See launch_combined.cpp.
// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include "core/combined.h"
#include "cpu/whole_args.h"

namespace torch_pooling::cpu {

struct Piece {  // some channels of one sample
  int64_t sample, channel, channels;
};

// Whether the results of a place follow each other, for each sample.
inline bool lies_together(const Combined& combined, const Place& place, int64_t outputs) {
  const bool first = combined.layout == Layout::ChannelsFirst;
  return first ? place.channel == outputs && place.position == 1 : place.channel == 1 && place.position == combined.channels;
}
inline int64_t begin_of(const Place& place, const Piece& piece) {
  return place.first + piece.sample * place.batch + piece.channel * place.channel;
}

// Between a place and results that lie together, of elements of so many bytes; past: they would not stay in the caches.
void spread(const Combined& combined, const Place& place, const Piece& piece, int64_t outputs, int64_t bytes, const void* together,
            void* placed, Stores stores = Stores::Usual);
void collect(const Combined& combined, const Place& place, const Piece& piece, int64_t outputs, int64_t bytes, const void* placed,
             void* together);

// sums[i] += terms[i]
void add(DType dtype, void* sums, const void* terms, int64_t count);
// values[i] becomes its mean with terms[i]. Halves are added: the sum of two numbers may lie beyond the type where their mean does not.
void mix(DType dtype, void* values, const void* terms, int64_t count);
void halve(DType dtype, void* values, int64_t count);
void divide(DType dtype, const void* values, int64_t divisor, int64_t count, void* quotients);

// Part `part` from the results of a finer one: few numbers, for which a launcher does too much.
void reduce_results(const Combined& combined, int64_t part, int64_t finer, int64_t channels, const void* fine, void* results);

}  // namespace torch_pooling::cpu
