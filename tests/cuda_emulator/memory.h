/* Device and pinned memory: host memory of undefined content between zones that show accesses outside. */
#ifndef EMULATOR_MEMORY_H
#define EMULATOR_MEMORY_H

#include <cstddef>
#include <string>

enum { MEMORY_GARBAGE = 0xcb }; /* a large negative number as float, int and signed byte */

struct memory_space;
extern memory_space *const memory_device, *const memory_pinned;

/* Aligned to 256 bytes; bytes > 0. nullptr: the space's limit or the host's memory is exhausted. */
void *memory_new(memory_space *space, size_t bytes);
/* false: nothing of this space starts there. */
bool memory_free(memory_space *space, void *at);
void memory_clear(memory_space *space);
/* Whether the bytes lie in one allocation. */
bool memory_holds(const memory_space *space, const void *at, size_t bytes);
size_t memory_used(const memory_space *space);
size_t memory_count(const memory_space *space);
size_t memory_limit(memory_space *space); /* of the device: from EMULATED_CUDA_MEMORY, at first use */

/* "" or which allocation was written beside, as the end of a sentence about whoever did it. Repairs the zones. */
std::string memory_damage();
/* What lies at or next to an address, for a message. */
const char *memory_describe(const void *at);

#endif
