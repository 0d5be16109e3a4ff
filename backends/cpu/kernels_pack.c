/* Kernels that pack and unpack codes, by blocks of codes of a candidate. Compiled once an instruction set. */
#include "backends/cpu/kernels_isa.h"

/* A word of 8 codes is `bits` bytes. With `bits` and `spacing` constant, each is plain vector code. */
CPU_INLINE void pack_words(const int8_t *codes, int64_t words, int bits, int spacing, int low, uint8_t *packed) {
  for (int64_t i = 0; i < words; i++) {
    uint64_t word = 0;
    for (int k = 0; k < 8; k++) {
      uint32_t distance = (uint32_t)(codes[8 * i + k] - low);
      word |= (uint64_t)(distance >> (spacing - 1) & ((1U << bits) - 1)) << k * bits;
    }
    memcpy(packed + i * bits, &word, (size_t)bits);
  }
}

CPU_INLINE void unpack_words(const uint8_t *packed, int64_t words, int bits, int spacing, int low, int8_t *codes) {
  for (int64_t i = 0; i < words; i++) {
    uint64_t word = 0;
    memcpy(&word, packed + i * bits, (size_t)bits);
    for (int k = 0; k < 8; k++)
      codes[8 * i + k] = (int8_t)(low + spacing * (int)(word >> k * bits & ((1U << bits) - 1)));
  }
}

/* Bits that divide a byte: a byte at a time, 8 / bits codes of it. */
CPU_INLINE void pack_bytes(const int8_t *codes, int64_t bytes, int bits, int spacing, int low, uint8_t *packed) {
  int fields = 8 / bits;
  CPU_SIMD for (int64_t i = 0; i < bytes; i++) {
    uint32_t byte = 0;
    for (int k = 0; k < fields; k++) {
      uint32_t distance = (uint8_t)(codes[fields * i + k] - low);
      if (spacing == 2) distance = (uint32_t)(codes[fields * i + k] - low) >> 1;
      byte |= (distance & ((1U << bits) - 1)) << k * bits;
    }
    packed[i] = (uint8_t)byte;
  }
}

CPU_INLINE void unpack_bytes(const uint8_t *packed, int64_t bytes, int bits, int spacing, int low, int8_t *codes) {
  int fields = 8 / bits;
  CPU_SIMD for (int64_t i = 0; i < bytes; i++) for (int k = 0; k < fields; k++) codes[fields * i + k] =
      (int8_t)(low + spacing * (packed[i] >> k * bits & ((1 << bits) - 1)));
}

#define EACH_BITS(X, form_a, form_b)                                                                                   \
  X(1, form_a)                                                                                                         \
  X(2, form_a)                                                                                                         \
  X(3, form_b)                                                                                                         \
  X(4, form_a)                                                                                                         \
  X(5, form_b)                                                                                                         \
  X(6, form_b)                                                                                                         \
  X(7, form_b)                                                                                                         \
  X(8, form_a)

/* Whole words; a unit is a byte of pack_bytes and a word of pack_words. */
static void pack_whole(const qe_code_grid *grid, const int8_t *codes, int64_t words, uint8_t *packed) {
  int low = grid->low;
#define BITS(b, form)                                                                                                  \
  if (grid->bits == b && grid->spacing == 1)                                                                           \
    pack_##form(codes, units_##form(words, b), b, 1, low, packed);                                                     \
  else if (grid->bits == b)                                                                                            \
    pack_##form(codes, units_##form(words, b), b, 2, low, packed);
#define units_bytes(words, b) ((words)*b)
#define units_words(words, b) (words)
  EACH_BITS(BITS, bytes, words)
#undef BITS
}

static void unpack_whole(const qe_code_grid *grid, const uint8_t *packed, int64_t words, int8_t *codes) {
  int low = grid->low, spacing = grid->spacing;
#define BITS(b, form)                                                                                                  \
  if (grid->bits == b) unpack_##form(packed, units_##form(words, b), b, spacing, low, codes);
  EACH_BITS(BITS, bytes, words)
#undef BITS
}

typedef struct block {
  int64_t codes, packed; /* offsets of the first */
  int64_t count;
} block;

static block block_at(const qe_desc *codes, const qe_desc *packed, const qe_code_grid *grid, int64_t at) {
  int64_t each = qe_count(codes) / codes->dim[QE_P], blocks = (each + CPU_PACK_BLOCK - 1) / CPU_PACK_BLOCK;
  int64_t p = at / blocks, first = at % blocks * CPU_PACK_BLOCK;
  return (block){.codes = p * each + first,
                 .packed = p * packed->dim[QE_C] + first / 8 * grid->bits,
                 .count = smaller(CPU_PACK_BLOCK, each - first)};
}

void CPU_NAME(int_pack_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_operand *codes = &call->operand[0], *packed = &call->operand[1];
  const qe_code_grid *grid = &call->attrs.grid;
  for (int64_t at = first; at < last; at++) {
    block b = block_at(&codes->desc, &packed->desc, grid, at);
    const int8_t *from = (const int8_t *)codes->data + b.codes;
    uint8_t *to = (uint8_t *)packed->data + b.packed;
    int64_t words = b.count / 8;
    pack_whole(grid, from, words, to);
    qe_pack(grid, from + 8 * words, b.count % 8, to + words * grid->bits);
  }
}

void CPU_NAME(int_unpack_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_operand *packed = &call->operand[0], *codes = &call->operand[1];
  const qe_code_grid *grid = &call->attrs.grid;
  for (int64_t at = first; at < last; at++) {
    block b = block_at(&codes->desc, &packed->desc, grid, at);
    const uint8_t *from = (const uint8_t *)packed->data + b.packed;
    int8_t *to = (int8_t *)codes->data + b.codes;
    int64_t words = b.count / 8;
    unpack_whole(grid, from, words, to);
    qe_unpack(grid, from + words * grid->bits, b.count % 8, to + 8 * words);
  }
}
