/* Ops that work tile by tile: what runs before the tiles (from channel vectors and scalars to kernel parameters) and
 * after them (from the tiles' partial results to the op's). */
#ifndef QE_BACKENDS_CPU_TILE_OPS_H
#define QE_BACKENDS_CPU_TILE_OPS_H

#include "backends/cpu/kernels.h"

/* How a map is cut. It follows from the map's shape alone, so an op gives the same bits in any chain of ops and with
 * any number of threads. Maps that are one long vector are cut anywhere: channels = pattern = 0. */
typedef struct cpu_grid {
  int64_t count;             /* elements of the map */
  int64_t channels, pattern; /* see cpu_tile */
  int64_t tile;              /* elements of a tile, a multiple of the pattern */
} cpu_grid;

typedef struct cpu_tile_sums {
  const float *part;     /* of tile t at part + t * stride */
  int64_t tiles, stride; /* stride in elements */
  double *work;          /* 2 * channels elements */
} cpu_tile_sums;

typedef struct cpu_tile_op {
  bool known;
  bool after;           /* no kernel: all is done by `end`, and in the order of the calls */
  int vectors, scalars; /* parameters: vectors of `pattern` elements, or scalars */
  int channel_sums;     /* partial results of a tile: vectors of `channels` elements, */
  int scalar_sums;      /* or scalars */
  void (*begin)(const qe_call *call, const cpu_grid *grid, float *params);
  void (*end)(const qe_call *call, const cpu_grid *grid, const cpu_tile_sums *sums);
} cpu_tile_op;

/* NULL when the op, with these attributes, does not work by tiles. */
const cpu_tile_op *cpu_tile_op_of(const qe_call *call);
cpu_grid cpu_grid_of(const qe_call *call);
/* Operand `i` is cut into tiles along with the principal operand; others are vectors, scalars or shapes. */
bool cpu_tile_operand_is_map(qe_op op, int i);

#endif
