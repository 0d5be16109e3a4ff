/* Running a kernel: the blocks of a grid one after the other, the threads of a block on stacks of their own.
 *
 * One grid runs at a time (the driver's lock sees to it). */
#ifndef EMULATOR_BLOCK_H
#define EMULATOR_BLOCK_H

#include <cstddef>
#include <string>
#include <vector>

#include "tests/cuda_emulator/emulate.h"

struct async_copy {
  void *shared;
  const void *global;
  int bytes, zeros, group;
};

/* One CUDA thread of the running block. */
struct block_thread {
  uint3 index;
  unsigned number;       /* in the block */
  void *context;         /* where it goes on when its turn comes */
  const char *waits_for; /* nullptr: it does not wait */
  const char *file;      /* of the barrier */
  int line;
  std::vector<async_copy> copies; /* cp.async that no wait has covered yet */
  int copy_groups;                /* committed so far */
};

struct grid_launch {
  emulated_kernel *kernel;
  void *const *arguments;
  dim3 grid, block;
  size_t shared_bytes; /* dynamic */
};

enum { BLOCK_MOST = 1024, SHARED_MOST = 227 << 10, WARP = 32, WARPGROUP = 128 };

enum { SHARED_WINDOW = 1024 }; /* address of dynamic shared memory in the shared window */

/* Runs the whole grid. "" or what went wrong: a barrier that some threads do not reach, an access outside all memory.
 */
std::string grid_run(const grid_launch &launch);

/* ---- for what a running thread calls ---- */

extern block_thread *block_now; /* the running thread; nullptr: no kernel runs */
unsigned block_threads();       /* of the running block */
block_thread *block_thread_at(unsigned number);
void block_wait(const char *what, const char *file = nullptr, int line = 0); /* until somebody wakes this thread */
void block_wake(block_thread *thread);                                       /* a waiting thread */
unsigned block_random(); /* from EMULATED_CUDA_SHUFFLE; 0 when that is not set */
bool block_in_dynamic_shared(const void *at, size_t bytes);
/* Offset in dynamic shared memory to its place; nullptr when it lies outside. */
unsigned char *block_dynamic_shared(size_t offset, size_t bytes);
/* Ends the launch with this message, as CUDA_ERROR_LAUNCH_FAILED. */
[[noreturn]] void block_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Called for each block before it starts: forget what warps and warpgroups of the last one left. */
void warps_reset();
void wgmma_reset();

#endif
