/* Where threads of a block meet: __syncthreads, named barriers, warps and warpgroups. */
#include "tests/cuda_emulator/block.h"

#include <cstring>

namespace {

enum { NAMED = 16, WARPS = BLOCK_MOST / WARP, GROUPS = BLOCK_MOST / WARPGROUP };

struct barrier {
  unsigned arrived;
  const char *file;
  int line, sum, result;
  unsigned expected; /* named barriers */
  block_thread *waiting[BLOCK_MOST];
};

barrier whole, named[NAMED];

/* Threads that call one instruction together; several may be under way in a warp, of disjoint masks, each known by its
 * lowest lane. */
template <unsigned SIZE> struct meeting {
  unsigned arrived;
  unsigned mask; /* of a warp's lanes */
  void (*compute)(void *const *);
  void *argument[SIZE];
  block_thread *thread[SIZE];
};

meeting<WARP> warp[WARPS][WARP];
meeting<WARPGROUP> warpgroup[GROUPS];
unsigned warps_used = WARPS; /* of the last block */

template <unsigned SIZE> void finish(meeting<SIZE> *at, void *const *arguments, block_thread *last) {
  at->arrived = 0;
  at->compute(arguments);
  for (unsigned i = 0; i < SIZE; i++)
    if (arguments[i] && at->thread[i] != last) block_wake(at->thread[i]);
}

void pass(barrier *at) {
  unsigned count = at->arrived;
  at->arrived = 0;
  at->result = at->sum;
  at->sum = 0;
  for (unsigned i = 0; i + 1 < count; i++) block_wake(at->waiting[i]);
}

} // namespace

void warps_reset() {
  for (unsigned i = 0; i < warps_used; i++)
    for (auto &lanes : warp[i]) lanes.arrived = 0;
  for (auto &group : warpgroup) group.arrived = 0;
  for (auto &at : named) at.arrived = 0;
  whole.arrived = 0;
  whole.sum = 0;
  warps_used = (block_threads() + WARP - 1) / WARP;
}

int emulated_barrier_count(const char *file, int line, int predicate) {
  block_thread *self = block_now;
  if (!whole.arrived) {
    whole.file = file;
    whole.line = line;
  } else if (whole.line != line || strcmp(whole.file, file) != 0) {
    block_fail("meets the barrier at %s:%d while others wait at %s:%d", file, line, whole.file, whole.line);
  }
  whole.waiting[whole.arrived++] = self;
  whole.sum += predicate != 0;
  if (whole.arrived == block_threads())
    pass(&whole);
  else
    block_wait("a barrier", file, line);
  return whole.result;
}

void emulated_barrier(const char *file, int line) {
  (void)emulated_barrier_count(file, line, 0);
}

void emulated_named_barrier(int id, int threads) {
  if (id < 1 || id >= NAMED || threads < WARP || threads % WARP || static_cast<unsigned>(threads) > block_threads())
    block_fail("bar.sync %d, %d: not a barrier that PTX has, or more threads than the block", id, threads);
  barrier *at = &named[id];
  auto expected = static_cast<unsigned>(threads);
  if (at->arrived && at->expected != expected)
    block_fail("bar.sync %d, %d while others expect %u", id, threads, at->expected);
  at->expected = expected;
  at->waiting[at->arrived++] = block_now;
  if (at->arrived == expected)
    pass(at);
  else
    block_wait("a named barrier");
}

unsigned emulated_lane() {
  return block_now->number % WARP;
}

/* Two threads may not leave this function between two meetings of the same lanes: the last to come has the results
 * written before it goes on. */
void emulate_warp_masked(unsigned mask, void (*compute)(void *const lane[32]), void *mine) {
  block_thread *self = block_now;
  unsigned lane = self->number % WARP, first = self->number - lane, left = block_threads() - first;
  if (!(mask >> lane & 1)) block_fail("a warp instruction whose mask %08x lacks the calling lane %u", mask, lane);
  if (left < WARP && mask >> left)
    block_fail("a warp instruction for lanes that this block of %u lacks", block_threads());
  meeting<WARP> *at = &warp[first / WARP][__builtin_ctz(mask)];
  if (!at->arrived) {
    at->mask = mask;
    at->compute = compute;
    if (mask != 0xffffffffu) memset(at->argument, 0, sizeof at->argument);
  } else if (at->mask != mask || at->compute != compute) {
    block_fail("lanes of a warp meet in different instructions (masks %08x and %08x)", mask, at->mask);
  }
  at->argument[lane] = mine;
  at->thread[lane] = self;
  at->arrived |= 1u << lane;
  if (at->arrived == mask)
    finish(at, at->argument, self);
  else
    block_wait("a warp instruction");
}

void emulate_warp(void (*compute)(void *const lane[32]), void *mine) {
  emulate_warp_masked(0xffffffffu, compute, mine);
}

void emulate_warpgroup(void (*compute)(void *const thread[128]), void *mine) {
  block_thread *self = block_now;
  unsigned place = self->number % WARPGROUP;
  if (block_threads() - (self->number - place) < WARPGROUP) block_fail("a warpgroup instruction without 128 threads");
  meeting<WARPGROUP> *at = &warpgroup[self->number / WARPGROUP];
  if (at->arrived && at->compute != compute) block_fail("threads of a warpgroup meet in different instructions");
  at->compute = compute;
  at->argument[place] = mine;
  at->thread[place] = self;
  if (++at->arrived == WARPGROUP)
    finish(at, at->argument, self);
  else
    block_wait("a warpgroup instruction");
}
