/* FNV-1a, 64 bits (Fowler, Noll, Vo; http://www.isthe.com/chongo/tech/comp/fnv): names and checksums of cache files.
 * Each step is a bijection of the state, so that a single changed byte always changes the result. */
#ifndef QE_BASE_HASH_H
#define QE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define QE_HASH_START UINT64_C(0xcbf29ce484222325)

/* Go on from `hash` (QE_HASH_START at first) over the bytes. */
static inline uint64_t qe_hash(uint64_t hash, const void *data, size_t bytes) {
  const unsigned char *at = (const unsigned char *)data;
  for (size_t i = 0; i < bytes; i++) hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
  return hash;
}

#endif
