/* The vectorised kernels: compiled once an instruction set from the same sources, collected in one table each.
 *
 * Tile kernels work on `count` consecutive elements of every map operand, a whole number of pixels. Vectors over
 * channels are given repeated to `pattern` elements, a multiple of `channels`, so that the inner loops are long and
 * plain for any number of channels. A tile starts on a multiple of the pattern. An output may be an input's memory. */
#ifndef QE_BACKENDS_CPU_KERNELS_H
#define QE_BACKENDS_CPU_KERNELS_H

#include "backends/cpu/dots.h"
#include "backends/cpu/int_conv.h"
#include "backends/cpu/lanes.h"
#include "backends/cpu/outer.h"
#include "core/base/op.h"

enum { CPU_WORK_VECTORS = 4, CPU_PACK_BLOCK = 2048 /* codes: whole words of any number of bits */ };

typedef struct cpu_tile {
  float *operand[QE_MAX_OPERANDS]; /* map operands: the tile's first element; others NULL */
  int64_t count;                   /* elements */
  int64_t channels, pattern;
  const float *params; /* what the op's begin function in tile_ops.c made */
  float *sums;         /* this tile's partial results, for the op's end function in tile_ops.c */
  float *work;         /* CPU_WORK_VECTORS * pattern elements of this thread */
  const qe_attrs *attrs;
} cpu_tile;

typedef void (*cpu_tile_kernel)(const cpu_tile *tile);

/* Rows first...last-1 of a call; rows.c says what a row of each op is. */
typedef void (*cpu_rows_kernel)(const qe_call *call, int64_t first, int64_t last);

/* Pixels first...last-1 (products of bytes: so few that they fit s32) added to sums over channels, modulo 2^64. */
typedef void (*cpu_sums_kernel)(const qe_call *call, int64_t first, int64_t last, uint64_t *sum, uint64_t *product);

typedef struct cpu_kernels {
  const char *name;
  const cpu_tile_kernel *tile; /* QE_OPS entries; NULL: the op has no tile kernel */
  const cpu_rows_kernel *rows; /* QE_OPS entries; NULL: the op has no kernel by rows */
  cpu_int_conv_kernel int_conv;
  const cpu_outer_kernels *outer;
  const cpu_dots_kernels *dots;
  cpu_sums_kernel channel_sums;
  float (*largest)(const float *x, int64_t count); /* largest |x|, NaN passed over; 0 when there is none */
  void (*tanh)(const float *x, float *y, float factor, int64_t count); /* y = tanh(x) * factor */
  /* dx = dy * (1 - tanh(x)^2) * factor */
  void (*tanh_grad)(const float *dy, const float *x, float *dx, float factor, int64_t count);
  const cpu_lane_kernels *lane_kernels;
} cpu_kernels;

extern const cpu_kernels cpu_kernels_portable;
#ifdef CPU_X86
extern const cpu_kernels cpu_kernels_avx2;
extern const cpu_kernels cpu_kernels_avx512;
#endif

#endif
