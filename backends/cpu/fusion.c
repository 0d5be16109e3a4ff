/* The fusion `tiles`: which calls in a row may run as one chain of tiles. */
#include "backends/cpu/tile_ops.h"
#include "backends/cpu/tiles.h"

static bool same_grid(const cpu_grid *a, const cpu_grid *b) {
  return a->count == b->count && a->channels == b->channels && a->pattern == b->pattern && a->tile == b->tile;
}

/* When a call touches an operand: vectors and scalars are read before the tiles and written after them. Within a phase
 * the order is that of the calls: element by element in TILES. */
typedef enum phase { NEVER, BEFORE, TILES, AFTER } phase;

typedef struct access {
  phase read, write;
} access;

static access access_of(const qe_call *call, int i) {
  const qe_op_info *info = qe_op_get_info(call->op);
  const qe_operand_info *operand = &info->operand[i];
  if (operand->kind == QE_KIND_SHAPE) return (access){NEVER, NEVER};
  bool map = cpu_tile_operand_is_map(call->op, i);
  bool in_place = i == 0 && (info->flags & QE_FLAG_INPLACE); /* the plan may let the output take this memory */
  access found = {NEVER, NEVER};
  if (operand->role != QE_WRITE) found.read = map ? TILES : cpu_tile_op_of(call)->after ? AFTER : BEFORE;
  if (operand->role != QE_READ || in_place) found.write = map ? TILES : AFTER;
  return found;
}

/* `first` and `second` touch one value in this order, which the phases must keep. */
static bool in_order(access first, access second) {
  bool write_read = first.write <= second.read || second.read == NEVER;
  bool write_write = first.write <= second.write || second.write == NEVER;
  bool read_write = first.read <= second.write || second.write == NEVER;
  return write_read && write_write && read_write;
}

static bool keeps_order(const qe_call *earlier, const qe_call *later) {
  for (int i = 0; i < earlier->operands; i++)
    for (int k = 0; k < later->operands; k++) {
      const qe_operand *a = &earlier->operand[i], *b = &later->operand[k];
      if (a->buffer == b->buffer && a->offset == b->offset && !in_order(access_of(earlier, i), access_of(later, k)))
        return false;
    }
  return true;
}

static int tiles_claim(const qe_device *device, const qe_call *calls, int count) {
  (void)device;
  if (!cpu_tile_op_of(calls)) return 0;
  const cpu_grid grid = cpu_grid_of(calls);
  for (int c = 1; c < count && c < CPU_CHAIN_MAX; c++) {
    if (!cpu_tile_op_of(&calls[c])) return c;
    const cpu_grid next = cpu_grid_of(&calls[c]);
    if (!same_grid(&grid, &next)) return c;
    for (int earlier = 0; earlier < c; earlier++)
      if (!keeps_order(&calls[earlier], &calls[c])) return c;
  }
  return count < CPU_CHAIN_MAX ? count : CPU_CHAIN_MAX;
}

const qe_fusion cpu_fusion_tiles = {
    .name = "tiles",
    .claim = tiles_claim,
    .prepare = cpu_chain_prepare,
    .run = cpu_chain_run,
    .release = cpu_chain_release,
};
