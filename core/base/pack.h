/* Codes of few bits, packed: a stream of fields, the first in the least significant bits of the first byte. */
#ifndef QE_BASE_PACK_H
#define QE_BASE_PACK_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Uniform codes of b bits as they are packed: code = low + spacing * field, field an unsigned number of `bits` bits.
 * Fields follow each other from the least significant bit of the first byte on. */
typedef struct qe_code_grid {
  int32_t bits;    /* 1...8 */
  int32_t low;     /* code of field 0 */
  int32_t spacing; /* 1; 2 on DoReFa's odd grid */
  int32_t high;    /* largest code */
} qe_code_grid;

/* Whether its codes fit s8 and its fields their bits, and `high` is one of the codes. */
bool qe_grid_is_sound(const qe_code_grid *grid);

/* Bytes of `count` fields of `bits` bits: fewer than one for each, however many. */
size_t qe_packed_bytes(int64_t count, int32_t bits);
/* Codes of a grid to fields, little-endian bit order, unused bits of the last byte 0; and back. Exact inverses.
 * Codes must be on the grid (others give some field of `bits` bits); fields beyond `high` come back as what their
 * formula gives modulo 2^8 (qe_packed_find_bad finds them). */
void qe_pack(const qe_code_grid *grid, const int8_t *codes, int64_t count, void *packed);
void qe_unpack(const qe_code_grid *grid, const void *packed, int64_t count, int8_t *codes);

/* Index of the first of `count` fields that is no code of the grid; -1 when there is none. */
int64_t qe_packed_find_bad(const qe_code_grid *grid, const void *packed, int64_t count);
/* Index of the first of `count` codes that is not on the grid; -1 when there is none. */
int64_t qe_codes_find_bad(const qe_code_grid *grid, const int8_t *codes, int64_t count);

#ifdef __cplusplus
}
#endif
#endif
