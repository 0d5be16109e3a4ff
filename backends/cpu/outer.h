/* Sums of outer products over pixels: sum[u][r][c] = sum over images and the places of unit u of a[place][r] *
 * b[place][c]. Gram matrices (int_gram.c) and weight gradients (int_grad_w.c) are such sums.
 *
 * Codes are packed into words of 32 bits, a channel of one pixel in a group of images each: two images as s16, or four
 * as bytes. A word's products add up in one instruction, whatever the displacement between a and b. */
#ifndef QE_BACKENDS_CPU_OUTER_H
#define QE_BACKENDS_CPU_OUTER_H

#include "core/base/op.h"

enum {
  CPU_OUTER_ROWS = 8,      /* channels of a that a task takes */
  CPU_OUTER_PADDING = 16,  /* packed pixels and rows of sums are padded to a multiple of so many channels */
  CPU_OUTER_LIMB_BITS = 15 /* of values too long for s16 */
};

/* The places of a unit, a grid in both maps: place (i, j) has pixel first + i * line + j * step of each image. */
typedef struct cpu_outer_unit {
  int64_t lines, steps;
  struct {
    int64_t first, line, step;
  } a, b;
} cpu_outer_unit;

/* Rows of CPU_OUTER_ROWS channels of a, all columns, over some groups of images. */
typedef struct cpu_outer_tile {
  const int32_t *a, *b;     /* words of the first group, at the tile's first row and at column 0 */
  int64_t a_group, b_group; /* words from one group to the next */
  int64_t groups;
  cpu_outer_unit unit; /* in words */
  int64_t limit;       /* words that can be added up in s32 */
  int64_t columns;     /* a multiple of CPU_OUTER_PADDING */
  int64_t *sums;       /* [CPU_OUTER_ROWS][columns], added to modulo 2^64 */
  bool bytes;          /* words of four bytes, a unsigned and b signed; else of two s16 */
} cpu_outer_tile;

/* One image's values into its bits of a group's words. */
typedef struct cpu_outer_pack {
  const void *source;
  qe_dtype type;
  int64_t pixels, channels, padded;
  int32_t place, width; /* first bit in the word, number of bits; the image at bit 0 comes first */
  int32_t shift, limb;  /* value >> shift, of which only CPU_OUTER_LIMB_BITS when limb is 1 */
  uint32_t *target;
} cpu_outer_pack;

typedef struct cpu_outer_kernels {
  void (*tile)(const cpu_outer_tile *tile);
  void (*pack)(const cpu_outer_pack *pack);
  uint32_t (*magnitude)(const void *values, qe_dtype type, int64_t count); /* bits that a value or its complement has */
  bool (*has_bytes)(void);                                                 /* tiles of words of four bytes */
} cpu_outer_kernels;

typedef struct cpu_outer_map {
  const void *data; /* [images][pixels][channels] */
  qe_dtype type;    /* a: u8 or s8; b: s32 as well */
  int64_t pixels, channels;
} cpu_outer_map;

typedef struct cpu_outer {
  cpu_outer_map a, b; /* the same map is packed once */
  int64_t images;
  const cpu_outer_unit *unit; /* in pixels */
  int64_t units;
} cpu_outer;

/* sums: [units][row_count][column_count], valid until the queue's next call. */
typedef struct cpu_outer_sums {
  int64_t *data;
  int64_t rows, columns;
} cpu_outer_sums;

#endif
