/* Packing of codes: eight fields of b bits are a word of b bytes, whatever b is. */
#include "core/base/pack.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed words are little-endian and so is this code");

enum { FIELDS = 8 }; /* of a word */

bool qe_grid_is_sound(const qe_code_grid *grid) {
  if (grid->bits < 1 || grid->bits > 8 || (grid->spacing != 1 && grid->spacing != 2)) return false;
  if (grid->low < INT8_MIN || grid->high > INT8_MAX || grid->low > grid->high) return false;
  int32_t reach = grid->high - grid->low;
  return reach % grid->spacing == 0 && reach / grid->spacing < 1 << grid->bits;
}

size_t qe_packed_bytes(int64_t count, int32_t bits) {
  return (size_t)count / FIELDS * (size_t)bits + ((size_t)count % FIELDS * (size_t)bits + 7) / 8;
}

/* The spacing is 1 or 2, so that a shift divides by it. */
static uint64_t field_of(const qe_code_grid *grid, int32_t code) {
  uint32_t distance = (uint32_t)code - (uint32_t)grid->low;
  return distance >> (grid->spacing - 1) & ((1U << grid->bits) - 1);
}

static int8_t code_of(const qe_code_grid *grid, uint32_t field) {
  return (int8_t)(uint8_t)((uint32_t)grid->low + field * (uint32_t)grid->spacing);
}

void qe_pack(const qe_code_grid *grid, const int8_t *codes, int64_t count, void *packed) {
  uint8_t *to = packed;
  for (int64_t at = 0; at < count; at += FIELDS, to += grid->bits) {
    int64_t fields = count - at < FIELDS ? count - at : FIELDS;
    uint64_t word = 0;
    for (int64_t k = 0; k < fields; k++) word |= field_of(grid, codes[at + k]) << k * grid->bits;
    memcpy(to, &word, qe_packed_bytes(fields, grid->bits));
  }
}

void qe_unpack(const qe_code_grid *grid, const void *packed, int64_t count, int8_t *codes) {
  const uint8_t *from = packed;
  uint32_t mask = (1U << grid->bits) - 1;
  for (int64_t at = 0; at < count; at += FIELDS, from += grid->bits) {
    int64_t fields = count - at < FIELDS ? count - at : FIELDS;
    uint64_t word = 0;
    memcpy(&word, from, qe_packed_bytes(fields, grid->bits));
    for (int64_t k = 0; k < fields; k++) codes[at + k] = code_of(grid, (uint32_t)(word >> k * grid->bits) & mask);
  }
}

int64_t qe_packed_find_bad(const qe_code_grid *grid, const void *packed, int64_t count) {
  const uint8_t *from = packed;
  uint32_t mask = (1U << grid->bits) - 1, most = (uint32_t)(grid->high - grid->low) / (uint32_t)grid->spacing;
  if (most == mask) return -1;
  for (int64_t at = 0; at < count; at += FIELDS, from += grid->bits) {
    int64_t fields = count - at < FIELDS ? count - at : FIELDS;
    uint64_t word = 0;
    memcpy(&word, from, qe_packed_bytes(fields, grid->bits));
    for (int64_t k = 0; k < fields; k++)
      if (((uint32_t)(word >> k * grid->bits) & mask) > most) return at + k;
  }
  return -1;
}

int64_t qe_codes_find_bad(const qe_code_grid *grid, const int8_t *codes, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (codes[i] < grid->low || codes[i] > grid->high || (codes[i] - grid->low) % grid->spacing != 0) return i;
  return -1;
}
