/* Sums of outer products: packing, and tiles with their sums in registers. Compiled once an instruction set. */
#include "backends/cpu/lane_vec.h"
#include "backends/cpu/outer.h"

enum { WORDS = VEC / 4, MOST_VECTORS = 2 };
#if defined(__AVX512BW__)
enum { BLOCK_ROWS = 8 };
#else
enum { BLOCK_ROWS = 4 };
#endif
enum { MOST_SUMS = BLOCK_ROWS * MOST_VECTORS };

CPU_INLINE void fold(const cpu_outer_tile *tile, const vec *sum, int64_t row, int64_t column, const int rows,
                     const int vectors) {
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      int32_t words[WORDS];
      int64_t *to = tile->sums + (row + r) * tile->columns + column + v * WORDS;
      vec_store(words, sum[r * vectors + v]);
      CPU_SIMD for (int k = 0; k < WORDS; k++) to[k] = (int64_t)((uint64_t)to[k] + (uint64_t)words[k]);
    }
}

#define FORMS "backends/cpu/outer_tile.h"
#include "backends/cpu/multiply_forms.h"

#if defined(__AVX512BW__)
static void outer_tile(const cpu_outer_tile *tile) {
  if (tile->bytes)
    tile_bytes(tile);
  else if (has_bytes())
    tile_pairs_vnni(tile);
  else
    tile_pairs(tile);
}
#else
static void outer_tile(const cpu_outer_tile *tile) {
  tile_pairs(tile);
}
#endif

#define PACK(name, type)                                                                                               \
  static void name(const cpu_outer_pack *pack) {                                                                       \
    uint32_t mask = UINT32_MAX >> (32 - (pack->limb ? CPU_OUTER_LIMB_BITS : pack->width));                             \
    int32_t shift = pack->shift, place = pack->place;                                                                  \
    bool dense = pack->channels == pack->padded;                                                                       \
    int64_t lines = dense ? 1 : pack->pixels, count = dense ? pack->pixels * pack->channels : pack->channels;          \
    for (int64_t line = 0; line < lines; line++) {                                                                     \
      const type *from = (const type *)pack->source + line * pack->channels;                                           \
      uint32_t *to = pack->target + line * pack->padded;                                                               \
      if (place) {                                                                                                     \
        CPU_SIMD for (int64_t k = 0; k < count; k++) to[k] |= ((uint32_t)((int32_t)from[k] >> shift) & mask) << place; \
      } else {                                                                                                         \
        CPU_SIMD for (int64_t k = 0; k < count; k++) to[k] = (uint32_t)((int32_t)from[k] >> shift) & mask;             \
        if (!dense) memset(to + count, 0, (size_t)(pack->padded - count) * sizeof *to);                                \
      }                                                                                                                \
    }                                                                                                                  \
  }
PACK(pack_u8, uint8_t)
PACK(pack_s8, int8_t)
PACK(pack_s32, int32_t)

static void outer_pack(const cpu_outer_pack *pack) {
  if (pack->type == QE_U8)
    pack_u8(pack);
  else if (pack->type == QE_S8)
    pack_s8(pack);
  else
    pack_s32(pack);
}

#define MAGNITUDE(name, type)                                                                                          \
  static uint32_t name(const type *values, int64_t count) {                                                            \
    int32_t bits = 0;                                                                                                  \
    _Pragma("omp simd reduction(| : bits)") for (int64_t k = 0; k < count; k++) bits |=                                \
        (int32_t)values[k] ^ ((int32_t)values[k] >> 31);                                                               \
    return (uint32_t)bits;                                                                                             \
  }
MAGNITUDE(magnitude_u8, uint8_t)
MAGNITUDE(magnitude_s8, int8_t)
MAGNITUDE(magnitude_s32, int32_t)

static uint32_t outer_magnitude(const void *values, qe_dtype type, int64_t count) {
  if (type == QE_U8) return magnitude_u8(values, count);
  if (type == QE_S8) return magnitude_s8(values, count);
  return magnitude_s32(values, count);
}

const cpu_outer_kernels CPU_NAME(outer_kernels) = {
    .tile = outer_tile, .pack = outer_pack, .magnitude = outer_magnitude, .has_bytes = has_bytes};
