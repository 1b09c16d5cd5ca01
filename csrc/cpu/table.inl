// The table of kernels of one instruction set: dispatch and tests both go by it. Included inside a target region.
// SPDX-License-Identifier: BSD-3-Clause

template <class R, bool Keyed, bool Coded, class T, class Lane>
ReduceKernels reduce_kernels() {
  ReduceKernels k;
  constexpr bool same = std::is_same_v<T, Lane>;
  constexpr bool direct = same && !Keyed;
  k.lane_bytes = sizeof(Lane);
  k.lanes_are_storage = direct;
  k.first = &Reduce<R, Keyed, Coded, T, Lane, true>::windows;
  k.next = &Reduce<R, Keyed, Coded, Lane, Lane, false>::windows;
  k.first_pixels = &Pixels<R, Keyed, Coded, T, Lane, T, true>::planes;
  k.next_pixels = &Pixels<R, Keyed, Coded, Lane, Lane, T, false>::planes;
  k.comb = &Reduce<R, Keyed, Coded, Lane, Lane, false>::comb;
  if constexpr (!R::is_max) k.spread = &Spread<Lane>::rows;
  k.fill = &fill_identity<R, Lane>;
  k.load = &load_kernel<Keyed, T, Lane>;
  k.finish = &finish_kernel<Keyed, T, Lane>;
  k.vector_lanes = full_lanes<Lane>;
  constexpr bool narrow = std::is_same_v<T, Lane> || (sizeof(T) == 2 && sizeof(Lane) == 4);  // not those of long windows
  if constexpr (full_lanes<Lane> > 1 && ((std::is_floating_point_v<Lane> && narrow) || (Keyed && TP_VECTOR_BYTES == 64))) {
    k.first_short = &Short<R, Keyed, Coded, T, Lane, T, true>::planes;
    if constexpr (!R::is_max) k.next_short = &Short<R, Keyed, Coded, Lane, Lane, T, false>::planes;
  }
  if constexpr (full_lanes<Lane> > 1 && ((std::is_same_v<Lane, float> && narrow) || Keyed)) {
    k.pairs = &Pairs<R, Keyed, Coded, T, Lane>::planes;
    if constexpr (!R::is_max) k.spread_pairs = &SpreadPairs<T, Lane>::planes;
  }
  if constexpr (std::is_floating_point_v<Lane> && narrow) {
    k.near = &Near<T, Lane, Keyed, !R::is_max, R::is_max, Coded>::planes;
    k.near_last = &NearLast<T, Lane, Keyed, !R::is_max, R::is_max, Coded>::planes;
  } else if constexpr (Keyed) {
    k.near = &Near<T, Lane, Keyed, false, true, Coded>::planes;
    k.near_last = &NearLast<T, Lane, Keyed, false, true, Coded>::planes;
  }
  if constexpr (R::is_max && full_lanes<Lane> > 1 && (same || Keyed || (sizeof(T) == 1 && sizeof(Lane) == 2))) {
    k.ribbon = &Ribbon<R, Keyed, Coded, T, Lane>::planes;
  }
  return k;
}

template <class T, class Lane>
PullKernels pull_kernels() {
  using Bytes = Pull<T, Lane, uint8_t>;
  using Codes = Pull<T, Lane, CodeOf<Lane>>;
  return {sizeof(Lane), {&Bytes::lanes, &Codes::lanes}, {&PullPixels<T, Lane, uint8_t>::pixels, &PullPixels<T, Lane, CodeOf<Lane>>::pixels}, {}, {}};
}

template <class T, class Lane>
void add_by_type(PullKernels& kernels) {
  kernels.permuted[static_cast<int>(OffsetType::UInt8)] = &PermutedPull<T, Lane, uint8_t>::run;
  kernels.permuted[static_cast<int>(OffsetType::Int32)] = &PermutedPull<T, Lane, int32_t>::run;
  kernels.flat[static_cast<int>(OffsetType::UInt8)] = &FlatPull<T, Lane, uint8_t>::run;
  kernels.flat[static_cast<int>(OffsetType::Int32)] = &FlatPull<T, Lane, int32_t>::run;
}

template <class T, class Lane>
void add_both(KernelTable& table, DType dtype) {
  if constexpr (sizeof(T) < sizeof(double)) {  // whose averages of whole planes are exact sums
    table.both[static_cast<int>(dtype)] = &Both<T, Lane, false>::reduce;
    table.coded_both[static_cast<int>(dtype)] = &Both<T, Lane, true>::reduce;
  }
  table.near_both[0][static_cast<int>(dtype)] = &Near<T, Lane, false, true, true, false>::planes;
  table.near_both[1][static_cast<int>(dtype)] = &NearLast<T, Lane, false, true, true, false>::planes;
  table.coded_near_both[0][static_cast<int>(dtype)] = &Near<T, Lane, false, true, true, true>::planes;
  table.coded_near_both[1][static_cast<int>(dtype)] = &NearLast<T, Lane, false, true, true, true>::planes;
}

template <class Code>
CodeKernels code_kernels() {
  return {{&code_kernel<Code, uint8_t>, &code_kernel<Code, uint16_t>, &code_kernel<Code, int32_t>, &code_kernel<Code, int64_t>},
          {&code_kernel<uint8_t, Code>, &code_kernel<uint16_t, Code>, &code_kernel<int32_t, Code>, &code_kernel<int64_t, Code>},
          &copy_kernel, &repeat_kernel<Code>};
}

template <class T, class Lane, bool Keyed = false>
void add_max(KernelTable& table, DType dtype) {
  using R = std::conditional_t<Keyed, MaxKeyOf<T>, Max>;
  using Wide = std::conditional_t<Keyed || std::is_floating_point_v<Lane>, double, int64_t>;
  table.max[static_cast<int>(dtype)] = reduce_kernels<R, Keyed, false, T, Lane>();
  table.coded_max[static_cast<int>(dtype)] = reduce_kernels<R, Keyed, true, T, Lane>();
  table.wide_coded_max[static_cast<int>(dtype)] = reduce_kernels<Max, false, true, T, Wide>();
}
template <class T, class Lane, class Wide>
void add_sum(KernelTable& table, DType dtype) {
  table.sum[static_cast<int>(dtype)] = reduce_kernels<Sum, false, false, T, Lane>();
  table.wide_sum[static_cast<int>(dtype)] = reduce_kernels<Sum, false, false, T, Wide>();
}

inline KernelTable make_table(const char* name) {
  KernelTable table{};
  table.name = name;
  table.vector_bytes = TP_VECTOR_BYTES;
  add_max<float, float>(table, DType::Float32);
  add_max<double, double>(table, DType::Float64);
  add_max<BFloat16Bits, int16_t, true>(table, DType::BFloat16);
  add_max<HalfBits, int16_t, true>(table, DType::Float16);
  add_max<int8_t, int16_t>(table, DType::Int8);
  add_max<uint8_t, int16_t>(table, DType::UInt8);
  add_max<int16_t, int16_t>(table, DType::Int16);
  add_max<int32_t, int32_t>(table, DType::Int32);
  add_max<int64_t, int64_t>(table, DType::Int64);
  add_sum<float, float, double>(table, DType::Float32);
  add_sum<double, double, double>(table, DType::Float64);
  add_sum<BFloat16Bits, float, double>(table, DType::BFloat16);
  add_sum<HalfBits, float, double>(table, DType::Float16);
  add_sum<int64_t, int64_t, int64_t>(table, DType::Int64);
  table.exact_sum = table.sum[static_cast<int>(DType::Float64)];
  table.exact_sum.first = table.exact_sum.next = &Exact::windows;
  table.pull[static_cast<int>(DType::Float32)] = pull_kernels<float, float>();
  table.pull[static_cast<int>(DType::Float64)] = pull_kernels<double, double>();
  table.pull[static_cast<int>(DType::BFloat16)] = pull_kernels<BFloat16Bits, float>();
  table.pull[static_cast<int>(DType::Float16)] = pull_kernels<HalfBits, float>();
  add_by_type<float, float>(table.pull[static_cast<int>(DType::Float32)]);
  add_by_type<double, double>(table.pull[static_cast<int>(DType::Float64)]);
  add_by_type<BFloat16Bits, float>(table.pull[static_cast<int>(DType::BFloat16)]);
  add_by_type<HalfBits, float>(table.pull[static_cast<int>(DType::Float16)]);
  add_both<float, float>(table, DType::Float32);
  add_both<double, double>(table, DType::Float64);
  add_both<BFloat16Bits, float>(table, DType::BFloat16);
  add_both<HalfBits, float>(table, DType::Float16);
  std::copy(std::begin(table.pull), std::end(table.pull), std::begin(table.pull_apart));
  PullKernels moves = pull_kernels<int16_t, int16_t>();
  if constexpr (TP_VECTOR_BYTES == 64) moves.permuted[static_cast<int>(OffsetType::UInt8)] = &PermutedPull<int16_t, int16_t, uint8_t>::run;
  table.pull_apart[static_cast<int>(DType::BFloat16)] = table.pull_apart[static_cast<int>(DType::Float16)] = moves;
  table.inside[static_cast<int>(OffsetType::UInt8)] = &Inside<uint8_t>::run;
  table.inside[static_cast<int>(OffsetType::UInt16)] = &Inside<uint16_t>::run;
  table.inside[static_cast<int>(OffsetType::Int32)] = &Inside<int32_t>::run;
  table.locate[static_cast<int>(OffsetType::UInt8)] = &Locate<uint8_t>::run;
  table.locate[static_cast<int>(OffsetType::UInt16)] = &Locate<uint16_t>::run;
  table.locate[static_cast<int>(OffsetType::Int32)] = &Locate<int32_t>::run;
  table.transpose[0] = &Transpose<uint8_t>::run;
  table.transpose[1] = &Transpose<uint16_t>::run;
  table.transpose[2] = &Transpose<uint32_t>::run;
  table.transpose[3] = &Transpose<uint64_t>::run;
  table.masks[0] = Masks<uint8_t>::kernels();
  table.masks[1] = Masks<uint16_t>::kernels();
  table.masks[2] = Masks<uint32_t>::kernels();
  table.masks[3] = Masks<uint64_t>::kernels();
  table.codes2 = code_kernels<int16_t>();
  table.codes4 = code_kernels<int32_t>();
  table.codes8 = code_kernels<int64_t>();
  return table;
}
