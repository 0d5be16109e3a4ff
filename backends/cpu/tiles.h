/* Chains of tile ops: one call, or several fused. */
#ifndef QE_BACKENDS_CPU_TILES_H
#define QE_BACKENDS_CPU_TILES_H

#include "backends/cpu/cpu.h"

enum { CPU_CHAIN_MAX = 24 }; /* calls */

/* All calls have one grid, and none reads before the tiles what another writes (fusion.c checks it). Dead maps live in
 * a tile of scratch memory, dead vectors and scalars in scratch memory. */
qe_status cpu_chain_prepare(qe_device *device, const qe_call *calls, int count, void **state);
qe_status cpu_chain_run(qe_queue *queue, const qe_call *calls, int count, void *state);
void cpu_chain_release(void *state);

#endif
