// Every operator of the library on one page. `rank` counts spatial axes; window lists hold 1 or rank values, an empty stride
// means kernel_size; padding may hold 2 * rank values, all starts before all ends; sizing is a Sizing of core/window.h (0 and 1:
// without and with ceil_mode; 2 and 3: 'same', which pads by itself). input_size is spatial only, so that a sharded gradient's own batch and channels are used. Offsets are
// positions inside the window, numbered depth, height, width; `wide_offsets` asks for 32 bits where sizes are symbolic.
// SPDX-License-Identifier: BSD-3-Clause
#include <torch/library.h>

namespace {

#define TP_SLIDING "int rank, SymInt[1] kernel_size, SymInt[1] stride, SymInt[1] padding, SymInt[1] dilation, int sizing"
#define TP_AVERAGE TP_SLIDING ", bool count_include_pad, int? divisor_override"
#define TP_COMBINED "int rank, int form, int[] kinds, SymInt[] sizes, SymInt[] stride, SymInt[] padding"  // see combined.h

const char* const schemas[] = {
    "avg_pool(Tensor input, " TP_AVERAGE ") -> Tensor",
    "avg_pool_backward(Tensor grad_output, SymInt[] input_size, " TP_AVERAGE ", bool channels_last) -> Tensor",
    "sum_pool(Tensor input, " TP_SLIDING ") -> Tensor",
    "sum_pool_backward(Tensor grad_output, SymInt[] input_size, " TP_SLIDING ", bool channels_last) -> Tensor",
    "max_pool(Tensor input, " TP_SLIDING ") -> Tensor",
    "max_pool_with_offsets(Tensor input, " TP_SLIDING ", bool wide_offsets=False) -> (Tensor, Tensor)",
    "max_pool_backward(Tensor grad_output, Tensor offsets, SymInt[] input_size, " TP_SLIDING ", bool channels_last) -> Tensor",
    "max_pool_gather(Tensor input, Tensor offsets, " TP_SLIDING ") -> Tensor",
    "max_pool_indices(Tensor offsets, SymInt[] input_size, " TP_SLIDING ") -> Tensor",
    "adaptive_avg_pool(Tensor input, SymInt[] output_size) -> Tensor",
    "adaptive_avg_pool_backward(Tensor grad_output, SymInt[] input_size, bool channels_last) -> Tensor",
    "adaptive_max_pool(Tensor input, SymInt[] output_size) -> Tensor",
    "adaptive_max_pool_with_offsets(Tensor input, SymInt[] output_size, bool wide_offsets=False) -> (Tensor, Tensor)",
    "adaptive_max_pool_backward(Tensor grad_output, Tensor offsets, SymInt[] input_size, bool channels_last) -> Tensor",
    "adaptive_max_pool_gather(Tensor input, Tensor offsets, SymInt[] output_size) -> Tensor",
    "adaptive_max_pool_indices(Tensor offsets, SymInt[] input_size) -> Tensor",
    "combined_pool(Tensor input, " TP_COMBINED ") -> Tensor",
    "combined_pool_with_offsets(Tensor input, " TP_COMBINED ", bool wide_offsets=False) -> (Tensor, Tensor)",
    "combined_pool_gather(Tensor input, Tensor? offsets, " TP_COMBINED ") -> Tensor",
    "combined_pool_backward(Tensor grad_output, Tensor? offsets, SymInt[] input_size, " TP_COMBINED ", bool channels_last) -> Tensor",
    "masked_avg_pool(Tensor input, Tensor mask) -> Tensor",  // global; see masked.h
    "masked_avg_pool_backward(Tensor grad_output, Tensor mask, bool channels_last) -> Tensor",
    "masked_max_pool(Tensor input, Tensor mask) -> Tensor",
    "masked_max_pool_with_offsets(Tensor input, Tensor mask, bool wide_offsets=False) -> (Tensor, Tensor)",
};

}  // namespace

TORCH_LIBRARY(torch_pooling, m) {
  for (const char* schema : schemas) m.def(schema, {at::Tag::pt2_compliant_tag});
}
