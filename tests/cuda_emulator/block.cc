/* The blocks of a grid one after the other; the threads of a block one after the other until each waits or ends.
 *
 * A stack runs one thread after the other as long as none waits, so that kernels without barriers never switch. A
 * thread that waits keeps its stack, and another takes over. The order of blocks and threads turns with each block:
 * what depends on an order that CUDA does not promise fails in one of them. */
#include "tests/cuda_emulator/block.h"

#include "tests/cuda_emulator/fiber.h"
#include "tests/cuda_emulator/memory.h"

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>

#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

/* Between these lie the __shared__ variables. */
extern "C" unsigned char __start_emulated_shared[] __attribute__((weak, visibility("hidden")));
extern "C" unsigned char __stop_emulated_shared[] __attribute__((weak, visibility("hidden")));

const uint3 *emulated_thread_index;
uint3 emulated_block_index;
dim3 emulated_block_size, emulated_grid_size;
block_thread *block_now;

namespace {

enum { STACK = 128 << 10, COLOURS = 32, COLOUR = 192, GUARD_PAGE = 64 << 10, ALTERNATIVE_STACK = 64 << 10 };

struct block_state {
  const grid_launch *launch;
  block_thread thread[BLOCK_MOST];
  unsigned order[BLOCK_MOST]; /* in which threads start */
  unsigned count, started, ended;
  block_thread *ready[BLOCK_MOST]; /* a ring */
  unsigned ready_first, ready_count;
  void *idle[BLOCK_MOST]; /* contexts that start threads */
  unsigned idle_count, stacks;
  void *scheduler; /* where grid_run waits */
  bool turned;     /* order of the next block */
  std::string failure;
};

block_state state;

struct dynamic_shared {
  unsigned char *base; /* followed, after SHARED_MOST bytes, by pages that cannot be touched */
  unsigned char *start;
  size_t bytes;
} dynamic;

unsigned char *map(size_t bytes, int protection) {
  void *at = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    fprintf(stderr, "emulated CUDA device: no host memory\n");
    abort();
  }
  return static_cast<unsigned char *>(at);
}

/* ---- whose turn it is ---- */

void start_threads();

/* Tops of stacks are shifted against each other, or the frames of all threads would share few cache lines. */
void *new_stack() {
  static unsigned char *stacks[BLOCK_MOST];
  unsigned i = state.stacks++;
  if (!stacks[i]) {
    stacks[i] = map(STACK, PROT_READ | PROT_WRITE);
    mprotect(stacks[i], static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE);
  }
  return fiber_prepare(stacks[i] + STACK - i % COLOURS * COLOUR, start_threads);
}

/* The context that runs next; the scheduler when nobody can. */
void *next() {
  if (state.ready_count) {
    unsigned place = state.ready_first;
    unsigned random = block_random();
    if (random) {
      unsigned other = (place + random % state.ready_count) % BLOCK_MOST;
      std::swap(state.ready[place], state.ready[other]);
    }
    state.ready_first = (place + 1) % BLOCK_MOST;
    state.ready_count--;
    block_now = state.ready[place];
    emulated_thread_index = &block_now->index;
    return block_now->context;
  }
  if (state.started < state.count) return state.idle_count ? state.idle[--state.idle_count] : new_stack();
  return state.scheduler;
}

void start_thread() {
  unsigned number = state.order[state.started++];
  block_thread *thread = &state.thread[number];
  thread->number = number;
  thread->waits_for = nullptr;
  if (!thread->copies.empty()) thread->copies.clear();
  thread->copy_groups = 0;
  const dim3 &size = emulated_block_size;
  if (size.x == state.count)
    thread->index = {number, 0, 0};
  else
    thread->index = {number % size.x, number / size.x % size.y, number / size.x / size.y};
  block_now = thread;
  emulated_thread_index = &thread->index;
}

/* What each stack does for ever. */
void start_threads() {
  for (;;) {
    while (state.started < state.count) {
      start_thread();
      state.launch->kernel->call(state.launch->arguments);
      state.ended++;
    }
    void **place = &state.idle[state.idle_count++];
    fiber_switch(place, next());
  }
}

/* ---- accesses outside all memory, and what the compiler was told to trap ---- */

unsigned char *fault_stack;

struct fault_report {
  int signal;
  const void *address, *code;
} fault;

/* Of a kernel, as arguments of `addr2line -i -e`. */
std::string code_place() {
  Dl_info of;
  char text[512];
  if (!fault.code || !dladdr(fault.code, &of) || !of.dli_fname) return "";
  auto offset = static_cast<const char *>(fault.code) - static_cast<const char *>(of.dli_fbase);
  snprintf(text, sizeof text, " (at %s 0x%tx)", of.dli_fname, offset);
  return text;
}

/* Where a thread goes on after a fault: on a stack of its own, as its own may be full. */
void after_fault() {
  std::string place = code_place();
  if (fault.signal != SIGSEGV && fault.signal != SIGBUS)
    block_fail("an index outside an array, a shift beyond the width, a misaligned access or a division by zero%s",
               place.c_str());
  const auto *at = static_cast<const unsigned char *>(fault.address);
  const char *what = memory_describe(at);
  if (dynamic.base && at >= dynamic.base && at < dynamic.base + SHARED_MOST + 2 * GUARD_PAGE)
    what = "dynamic shared memory behind what the launch asked for";
  block_fail("an access to %p: %s%s", fault.address, what, place.c_str());
}

/* Notes what happened and sends the thread to after_fault: a signal handler may do little itself. */
void on_fault(int signal, siginfo_t *info, void *context) {
  if (!block_now) { /* not a kernel's: as if nobody had caught it */
    struct sigaction plain = {};
    plain.sa_handler = SIG_DFL;
    sigaction(signal, &plain, nullptr);
    return;
  }
  fault = {signal, info->si_addr, nullptr};
  mcontext_t *machine = &static_cast<ucontext_t *>(context)->uc_mcontext;
#if defined(__x86_64__)
  fault.code = reinterpret_cast<const void *>(machine->gregs[REG_RIP]);
  machine->gregs[REG_RIP] = reinterpret_cast<greg_t>(after_fault);
  machine->gregs[REG_RSP] = reinterpret_cast<greg_t>(fault_stack + STACK - 8); /* as after a call */
#elif defined(__aarch64__)
  fault.code = reinterpret_cast<const void *>(machine->pc);
  machine->pc = reinterpret_cast<uintptr_t>(after_fault);
  machine->sp = reinterpret_cast<uintptr_t>(fault_stack + STACK);
#else
  (void)machine;
  after_fault();
#endif
}

const int fault_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};

struct fault_guard {
  struct sigaction old[sizeof fault_signals / sizeof *fault_signals] = {};

  fault_guard() {
    if (!fault_stack) fault_stack = map(STACK, PROT_READ | PROT_WRITE);
    static thread_local struct stack_of_thread {
      void *memory = nullptr;
      ~stack_of_thread() {
        if (!memory) return;
        stack_t none = {};
        none.ss_flags = SS_DISABLE;
        sigaltstack(&none, nullptr);
        free(memory);
      }
    } own;
    stack_t now = {};
    sigaltstack(nullptr, &now);
    if (now.ss_flags & SS_DISABLE) {
      if (!own.memory) own.memory = malloc(ALTERNATIVE_STACK);
      stack_t stack = {};
      stack.ss_sp = own.memory;
      stack.ss_size = ALTERNATIVE_STACK;
      sigaltstack(&stack, nullptr);
    }
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    struct sigaction *before = old;
    for (int signal : fault_signals) sigaction(signal, &action, before++);
  }

  ~fault_guard() {
    const struct sigaction *before = old;
    for (int signal : fault_signals) sigaction(signal, before++, nullptr);
  }
};

/* ---- a block ---- */

void lay_out_dynamic(size_t bytes) {
  if (!dynamic.base) {
    dynamic.base = map(SHARED_MOST + 2 * GUARD_PAGE, PROT_READ | PROT_WRITE);
    size_t readable = (SHARED_MOST + GUARD_PAGE - 1) / GUARD_PAGE * GUARD_PAGE;
    mprotect(dynamic.base + readable, GUARD_PAGE, PROT_NONE);
  }
  size_t readable = (SHARED_MOST + GUARD_PAGE - 1) / GUARD_PAGE * GUARD_PAGE;
  dynamic.start = dynamic.base + readable - (bytes + 1023) / 1024 * 1024;
  dynamic.bytes = bytes;
}

size_t shared_section_bytes() {
  return static_cast<size_t>(__stop_emulated_shared - __start_emulated_shared);
}

/* Widens the part of the section that the kernel is known to write. The rest is garbage, always. */
void find_shared(emulated_kernel *kernel) {
  const unsigned char *section = __start_emulated_shared;
  size_t first = 0, end = shared_section_bytes();
  while (first < end && section[first] == MEMORY_GARBAGE) first++;
  while (end > first && section[end - 1] == MEMORY_GARBAGE) end--;
  if (first == end) return;
  bool none = kernel->shared_first == kernel->shared_end;
  kernel->shared_first = none ? first : std::min(kernel->shared_first, first);
  kernel->shared_end = std::max(kernel->shared_end, end);
}

void fill_shared(const emulated_kernel *kernel) {
  if (kernel->shared_first == kernel->shared_end) return;
  memset(__start_emulated_shared + kernel->shared_first, MEMORY_GARBAGE, kernel->shared_end - kernel->shared_first);
}

void draw_order() {
  unsigned count = state.count;
  state.turned = !state.turned;
  for (unsigned i = 0; i < count; i++) state.order[i] = state.turned ? count - 1 - i : i;
  if (!block_random()) return;
  for (unsigned i = count; i > 1; i--) std::swap(state.order[i - 1], state.order[block_random() % i]);
}

void forget_stacks() {
  state.idle_count = state.stacks = 0;
}

/* Threads that wait for ever, by what they wait for. */
std::string describe_deadlock() {
  std::string text;
  for (unsigned i = 0; i < state.count; i++) {
    const block_thread &thread = state.thread[i];
    if (!thread.waits_for) continue;
    unsigned same = 0;
    bool first = true;
    for (unsigned j = 0; j < state.count; j++) {
      const block_thread &other = state.thread[j];
      if (other.waits_for != thread.waits_for || other.line != thread.line) continue;
      same++;
      first = first && j >= i;
    }
    if (!first) continue;
    char part[256];
    snprintf(part, sizeof part, "%s%u of %u threads (the first: %u) wait in %s", text.empty() ? "" : ", ", same,
             state.count, i, thread.waits_for);
    text += part;
    if (thread.file) text += std::string(" at ") + thread.file + ":" + std::to_string(thread.line);
  }
  return text + ", " + std::to_string(state.ended) + " have ended";
}

void run_block() {
  state.count = block_threads();
  state.started = state.ended = state.ready_first = state.ready_count = 0;
  draw_order();
  warps_reset();
  wgmma_reset();
  memset(dynamic.start, MEMORY_GARBAGE, (dynamic.bytes + 1023) / 1024 * 1024);
  fiber_switch(&state.scheduler, next());
  if (state.failure.empty() && state.ended != state.count) state.failure = "deadlock: " + describe_deadlock();
  if (!state.failure.empty()) {
    forget_stacks();
    return;
  }
  for (size_t i = dynamic.bytes; i % 1024; i++)
    if (dynamic.start[i] != MEMORY_GARBAGE) state.failure = "dynamic shared memory was written behind its end";
}

std::string where() {
  const uint3 &block = emulated_block_index;
  char text[256];
  snprintf(text, sizeof text, "kernel %s, block (%u, %u, %u) of (%u, %u, %u): ", state.launch->kernel->name, block.x,
           block.y, block.z, emulated_grid_size.x, emulated_grid_size.y, emulated_grid_size.z);
  return text;
}

/* Blocks in one order or the other. */
void run_blocks(const grid_launch &launch) {
  uint64_t count = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  bool turned = state.turned;
  for (uint64_t i = 0; i < count && state.failure.empty(); i++) {
    uint64_t number = turned ? count - 1 - i : i;
    emulated_block_index = {static_cast<unsigned>(number % launch.grid.x),
                            static_cast<unsigned>(number / launch.grid.x % launch.grid.y),
                            static_cast<unsigned>(number / launch.grid.x / launch.grid.y)};
    run_block();
    if (!state.failure.empty()) {
      state.failure = where() + state.failure;
      break;
    }
    if (i == 0 && !launch.kernel->shared_known) find_shared(launch.kernel);
    fill_shared(launch.kernel);
  }
  if (launch.kernel->shared_known) return;
  find_shared(launch.kernel); /* what only later blocks wrote */
  fill_shared(launch.kernel);
  launch.kernel->shared_known = state.failure.empty();
}

} // namespace

/* ---- for running threads ---- */

unsigned block_threads() {
  return emulated_block_size.x * emulated_block_size.y * emulated_block_size.z;
}

block_thread *block_thread_at(unsigned number) {
  return &state.thread[number];
}

void block_wait(const char *what, const char *file, int line) {
  block_thread *self = block_now;
  self->waits_for = what;
  self->file = file;
  self->line = line;
  fiber_switch(&self->context, next());
}

void block_wake(block_thread *thread) {
  thread->waits_for = nullptr;
  state.ready[(state.ready_first + state.ready_count++) % BLOCK_MOST] = thread;
}

unsigned block_random() {
  static const char *set = getenv("EMULATED_CUDA_SHUFFLE");
  static uint64_t seed = set ? strtoull(set, nullptr, 10) * 2 + 1 : 0;
  if (!set || !set[0]) return 0;
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return static_cast<unsigned>(seed >> 33) | 1u << 31;
}

void *emulated_dynamic_shared() {
  return dynamic.start;
}

bool block_in_dynamic_shared(const void *at, size_t bytes) {
  const auto *place = static_cast<const unsigned char *>(at);
  return place >= dynamic.start && place + bytes <= dynamic.start + dynamic.bytes;
}

unsigned char *block_dynamic_shared(size_t offset, size_t bytes) {
  return offset + bytes <= dynamic.bytes ? dynamic.start + offset : nullptr;
}

void block_fail(const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  int used = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (used < 0) text[0] = 0;
  const uint3 &index = block_now->index;
  char thread[64];
  snprintf(thread, sizeof thread, "thread (%u, %u, %u): ", index.x, index.y, index.z);
  state.failure = std::string(thread) + text;
  void *abandoned;
  fiber_switch(&abandoned, state.scheduler);
  abort(); /* nobody goes on here */
}

void emulated_fail(const char *what) {
  block_fail("%s", what);
}

std::string grid_run(const grid_launch &launch) {
  static bool first = true;
  if (first && shared_section_bytes()) memset(__start_emulated_shared, MEMORY_GARBAGE, shared_section_bytes());
  first = false;
  fault_guard guard;
  state.launch = &launch;
  state.failure.clear();
  emulated_grid_size = launch.grid;
  emulated_block_size = launch.block;
  lay_out_dynamic(launch.shared_bytes);
  run_blocks(launch);
  block_now = nullptr;
  std::string failure = state.failure;
  if (failure.empty()) {
    std::string damage = memory_damage();
    if (!damage.empty()) failure = "kernel " + std::string(launch.kernel->name) + " " + damage;
  }
  return failure;
}
