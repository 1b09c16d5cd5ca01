// Threads of a block as fibers. One fiber runs thread after thread to the end, as a plain loop, until one has to wait at a
// barrier: it then keeps its fiber, and another goes on. When nobody can run, complete barriers are opened: a block's
// when all its threads have come, a warp's when all its lanes have. A barrier that some thread never reaches is an error.
// TORCH_POOLING_EMULATION_SEED permutes blocks, and threads between barriers. Knows AddressSanitizer.
// SPDX-License-Identifier: BSD-3-Clause
#include <cuda_runtime.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_emulation {
namespace {

constexpr size_t stack_bytes = 256 * 1024;
constexpr int warp_size = 32;
enum class Wait { None, Block, Warp, Done };

// A stack and where it stopped. swapcontext saves the signal mask with a call of the kernel each time, and AddressSanitizer forgets
// at each all that it knows of the other stack; so the C library enters a fiber once, and the compiler's own jumps do the rest.
struct Fiber {
  Fiber() { getcontext(&context); }
  ucontext_t context;
  void* jump[5] = {};
  bool started = true;
  const void* bottom = nullptr;
  size_t size = 0;
  void* fake_stack = nullptr;
  std::unique_ptr<char[]> stack;
  int thread = -1;  // that it runs, or that waits in it
};

#define UNSEEN [[gnu::noinline, gnu::no_sanitize_address, gnu::no_sanitize_undefined]]
UNSEEN void go(Fiber& to) {
  if (to.started) __builtin_longjmp(to.jump, 1);
  to.started = true;
  setcontext(&to.context);
}
UNSEEN void leave(Fiber& from, Fiber& to) {
  if (__builtin_setjmp(from.jump) == 0) go(to);
}
#undef UNSEEN

#if defined(__SANITIZE_ADDRESS__)
void switch_fiber(Fiber& from, Fiber& to) {
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
  leave(from, to);
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
}
void arrive(Fiber& home) { __sanitizer_finish_switch_fiber(nullptr, &home.bottom, &home.size); }
#else
void switch_fiber(Fiber& from, Fiber& to) { leave(from, to); }
void arrive(Fiber&) {}
#endif

class Scheduler {
 public:
  cudaError_t run(const dim3& grid, const dim3& block, const std::function<void()>& body) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const char* const seed = std::getenv("TORCH_POOLING_EMULATION_SEED");
    permute_ = seed != nullptr && *seed != '\0' && std::string(seed) != "0";
    if (permute_) random_.seed(static_cast<unsigned>(std::strtoul(seed, nullptr, 10)));
    body_ = &body;
    exchanges_.resize(block.x);
    waits_.resize(block.x);
    places_.resize(block.x);
    blockDim = block, gridDim = grid;
    const std::vector<unsigned> blocks = permuted(grid.x);
    for (const unsigned number : blocks) {
      if (!run_block(number)) return cudaErrorLaunchFailure;
    }
    return cudaSuccess;
  }

  void wait(Wait kind) {
    Fiber& fiber = *running_;
    waits_[static_cast<size_t>(fiber.thread)] = kind;
    switch_fiber(fiber, home_);
  }
  Exchange& exchange() { return exchanges_[threadIdx.x]; }

  std::string error;

 private:
  std::vector<unsigned> permuted(unsigned count) {
    std::vector<unsigned> order(count);
    std::iota(order.begin(), order.end(), 0u);
    if (permute_) std::shuffle(order.begin(), order.end(), random_);
    return order;
  }

  bool run_block(unsigned number) {
    const auto count = static_cast<unsigned>(exchanges_.size());
    blockIdx.x = number;
    for (unsigned t = 0; t < count; ++t) {
      waits_[t] = Wait::None, places_[t] = nullptr;
    }
    order_ = permuted(count), next_ = 0;
    while (next_ < count) enter(free_fiber());
    for (;;) {
      ready_.clear();
      unsigned done = 0;
      for (unsigned t = 0; t < count; ++t) done += waits_[t] == Wait::Done;
      if (done == count) return true;
      if (!open_barriers()) return fail(number, done);
      if (permute_) std::shuffle(ready_.begin(), ready_.end(), random_);
      for (const unsigned t : ready_) enter(*places_[t]);
    }
  }

  bool open_barriers() {
    const size_t count = exchanges_.size();
    const auto all = [&](size_t begin, size_t end, Wait kind) {
      return std::all_of(waits_.begin() + static_cast<long>(begin), waits_.begin() + static_cast<long>(end),
                         [&](Wait wait) { return wait == kind; });
    };
    const bool block = all(0, count, Wait::Block);
    for (size_t warp = 0; warp < count; warp += warp_size) {
      const size_t end = std::min(count, warp + warp_size);
      const bool shuffle = all(warp, end, Wait::Warp);
      for (size_t t = warp; t < end && (block || shuffle); ++t) {
        if (shuffle) exchanges_[t].received = exchanges_[std::min(warp + static_cast<size_t>(exchanges_[t].partner), end - 1)].offered;
        ready_.push_back(static_cast<unsigned>(t));
      }
    }
    for (const unsigned t : ready_) waits_[t] = Wait::None;
    return !ready_.empty();
  }

  bool fail(unsigned block, unsigned done) {
    const auto waiting = static_cast<unsigned>(std::count(waits_.begin(), waits_.end(), Wait::Block));
    error = "emulation: block " + std::to_string(block) + ": " + std::to_string(waiting) + " threads wait at __syncthreads, "
            + std::to_string(exchanges_.size() - waiting - done) + " in a warp, and " + std::to_string(done) + " have ended";
    all_.clear(), free_.clear();  // with the threads that never come back
    return false;
  }

  Fiber& free_fiber() {
    if (free_.empty()) {
      all_.push_back(std::make_unique<Fiber>());
      Fiber& fiber = *all_.back();
      fiber.stack.reset(new char[stack_bytes]);
      fiber.bottom = fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.size = fiber.context.uc_stack.ss_size = stack_bytes;
      fiber.context.uc_link = nullptr;
      fiber.started = false;
      makecontext(&fiber.context, &Scheduler::main, 0);
      return fiber;
    }
    Fiber& fiber = *free_.back();
    free_.pop_back();
    return fiber;
  }

  // Runs a fiber until it waits, or finds no thread to run.
  void enter(Fiber& fiber) {
    running_ = &fiber;
    if (fiber.thread >= 0) threadIdx.x = static_cast<unsigned>(fiber.thread);
    switch_fiber(home_, fiber);
    if (fiber.thread < 0) free_.push_back(&fiber);
  }

  static void main();
  void work() {
    Fiber& fiber = *running_;
    arrive(home_);
    for (;;) {
      while (next_ < order_.size()) {
        const unsigned t = order_[next_++];
        fiber.thread = static_cast<int>(t);
        places_[t] = &fiber;
        threadIdx.x = t;
        (*body_)();
        waits_[t] = Wait::Done;
      }
      fiber.thread = -1;
      switch_fiber(fiber, home_);
    }
  }

  std::mutex mutex_;
  std::mt19937 random_;
  bool permute_ = false;
  const std::function<void()>* body_ = nullptr;
  std::vector<Exchange> exchanges_;
  std::vector<Wait> waits_;
  std::vector<Fiber*> places_;
  std::vector<unsigned> order_, ready_;
  size_t next_ = 0;
  std::vector<std::unique_ptr<Fiber>> all_;
  std::vector<Fiber*> free_;
  Fiber* running_ = nullptr;
  Fiber home_;
};

Scheduler& scheduler() {
  static Scheduler* const one = new Scheduler;  // never destroyed: Python ends threads in its own order
  return *one;
}
void Scheduler::main() { scheduler().work(); }

}  // namespace

cudaError_t run(const dim3& grid, const dim3& block, const std::function<void()>& body) {
  return scheduler().run(grid, block, body);
}
Exchange& exchange() { return scheduler().exchange(); }
void wait_for_block() { scheduler().wait(Wait::Block); }
void wait_for_warp() { scheduler().wait(Wait::Warp); }
const char* last_error() { return scheduler().error.c_str(); }

}  // namespace cuda_emulation
