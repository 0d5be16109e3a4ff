/* The host side of kernels_cl, the same for every backend that can run them (opencl, cuda): which kernel an op takes,
 * with which parameters and how many work-groups. A backend brings memory, queues and one launch function. */
#ifndef QE_BACKENDS_PORTABLE_PORTABLE_H
#define QE_BACKENDS_PORTABLE_PORTABLE_H

#include "core/dispatch/backend.h"
#include "kernels_cl/params.h"

#include <stdatomic.h>

typedef enum qk_kernel {
#define QK_KERNEL(file, name) QK_##name,
#include "kernels_cl/kernels.def"
#undef QK_KERNEL
  QK_KERNELS
} qk_kernel;

typedef struct portable_kernel_info {
  const char *file, *name; /* kernels_cl/FILE.cl */
} portable_kernel_info;
extern const portable_kernel_info portable_kernel[QK_KERNELS];

enum { PORTABLE_MAX_OPERANDS = 12 };

typedef struct portable_operand {
  qe_buffer *buffer; /* NULL: a null pointer, for operands that a kernel does not read */
  size_t offset;     /* bytes */
} portable_operand;

/* One launch: groups[0] x groups[1] x groups[2] work-groups of local[0] x local[1] x local[2] work-items. */
typedef struct portable_launch {
  qk_kernel kernel;
  int operands;
  portable_operand operand[PORTABLE_MAX_OPERANDS];
  const void *params; /* the kernel's struct of params.h */
  size_t params_bytes;
  size_t groups[3], local[3];
  size_t shared_bytes; /* CUDA: dynamic shared memory */
} portable_launch;

typedef struct portable_limits {
  int32_t group;          /* work-items of a plain work-group: QK_GROUP, a power of two, at most 256 */
  size_t group_most;      /* of any work-group */
  size_t local_bytes;     /* local memory of a work-group */
  size_t memory_bytes;    /* of the device */
  size_t allocation_most; /* of one buffer */
  int32_t units;          /* multiprocessors or cores */
  int32_t vector_bytes;   /* of a processor's vectors; 0 where not known */
  bool dot;               /* an instruction for the dot product of four bytes */
  bool processor;         /* a CPU: one work-item a core at a time, wide vectors within it */
} portable_limits;

/* Numbers in kernels that a tuner may choose. */
typedef enum qk_tunable {
#define QK_TUNABLE(file, macro, initial, ...) QK_TUNABLE_##macro,
#include "kernels_cl/tunables.def"
#undef QK_TUNABLE
  QK_TUNABLES
} qk_tunable;

enum { PORTABLE_CANDIDATES = 8 };

typedef struct portable_tunable {
  const char *file, *macro;
  int32_t initial, candidate[PORTABLE_CANDIDATES]; /* ended by a 0, if fewer */
} portable_tunable;
extern const portable_tunable portable_tunables[QK_TUNABLES];

/* What the backend brings beside its qe_device_table. */
struct net_variant;
typedef struct portable_driver {
  qe_status (*launch)(qe_queue *queue, const portable_launch *launch);
  /* Kernels of its own for the engine `batched` on maps in rows (engine.h), best first; NULL: none. */
  const struct net_variant *(*variants)(const qe_device *device, int *count);
  /* A kernel to measure QE_LIMIT_CODE_MACS with, and its multiply-adds a work-item, chain and round; 0: the portable
   * one. NULL: always that. */
  int (*code_peak)(const qe_device *device, qk_kernel *kernel);
} portable_driver;

/* First member of a backend's own device type. */
typedef struct portable_device {
  qe_device base;
  const portable_driver *driver;
  portable_limits limits;
  int32_t tuned[QK_TUNABLES];    /* 0: the initial value */
  atomic_bool used[QK_TUNABLES]; /* work that depends on the number ran since this was cleared */
} portable_device;

/* First member of a backend's own queue type. portable_queue_open and _close around its life. */
typedef struct portable_queue {
  qe_queue base;
  qe_buffer *scratch; /* grows to what the largest call needs */
  qe_buffer *fault;   /* s32 [4]: what kernels found wrong: code, op, place, value; 0: nothing */
  bool watched;       /* a kernel that may report a fault was launched since the last wait */
} portable_queue;

static inline const portable_device *portable_device_of(const qe_queue *queue) {
  return (const portable_device *)queue->device;
}

/* The value that the device's kernels are built with. */
static inline int32_t portable_tuned(const portable_device *device, qk_tunable which) {
  return device->tuned[which] ? device->tuned[which] : portable_tunables[which].initial;
}

/* To be called where work that depends on the number is run: a tuner leaves alone what its work does without. */
static inline void portable_uses(const qe_queue *queue, qk_tunable which) {
  atomic_store_explicit(&((portable_device *)queue->device)->used[which], true, memory_order_relaxed);
}

QE_CHECKED qe_status portable_queue_open(portable_queue *queue);
void portable_queue_close(portable_queue *queue);
/* At the end of a backend's wait, when all is done: QE_SHAPE with op and value where a kernel met an index or label out
 * of range; the fault is then forgotten. */
QE_CHECKED qe_status portable_queue_faults(portable_queue *queue);
/* Device memory for the call at work on this queue, of undefined content; calls run in order, so that they share it. */
QE_CHECKED qe_status portable_scratch(qe_queue *base, size_t bytes, qe_buffer **buffer);
/* Launch qk_add_parts: the sum of float vectors that lie one behind the other in `parts`. */
QE_CHECKED qe_status portable_add_parts(qe_queue *queue, portable_operand parts, portable_operand to,
                                        const qk_params_parts *params);

/* Implementations of an op, best first, of the portable kernels. `device` may be NULL: for a GPU. */
const qe_impl *const *portable_impls(const qe_device *device, qe_op op, int *count);
extern const qe_impl portable_impl, portable_plain_impl;
/* Engines for whole networks on portable kernels: the table's `engines` where a backend has none of its own. */
const qe_network_engine *const *portable_engines(const qe_device *device, int *count);
/* Fused kernels, best first. */
const qe_fusion *const *portable_fusions(const qe_device *device, int *count);

/* `measure` of the device table, by kernels_cl/peak.cl. */
qe_status portable_measure(qe_queue *queue, qe_limit limit, double *per_second);

/* ---- for the files of this folder ---- */

/* Of any parameters with a window: how it moves over the map. */
#define PORTABLE_STEPS(window)                                                                                         \
  .stride_h = (window)->stride[0], .stride_w = (window)->stride[1], .pad_top = (window)->pad[0],                       \
  .pad_left = (window)->pad[1]

/* The type of codes or sums as kernels name it. */
static inline qk_int portable_code_type(const qe_operand *operand) {
  return operand->desc.dtype == QE_U8 ? QK_TYPE_U8 : operand->desc.dtype == QE_S8 ? QK_TYPE_S8 : QK_TYPE_S32;
}

/* Operands of the call in their order, then the parameters. */
portable_launch portable_launch_of(const qe_call *call, qk_kernel kernel, const void *params, size_t params_bytes);
/* groups = as many plain work-groups as `items` work-items need, but no more than keep the device busy. */
void portable_flat(const qe_device *device, portable_launch *launch, int64_t items);
qe_status portable_run(qe_queue *queue, const portable_launch *launch);
/* Hands the queue's fault buffer to the kernel as its next operand (int *fault, for qk_report) and has the next wait
 * look at it. */
void portable_watch(qe_queue *base, portable_launch *launch);

/* How an op runs, from ops.def; the functions lie in the files of their kin. */
typedef qe_status (*portable_op)(qe_queue *queue, const qe_call *call);
#define PORTABLE_OP(name, refuse) qe_status portable_##name(qe_queue *queue, const qe_call *call);
#define PORTABLE_SHARED(name, run)
#include "backends/portable/ops.def"
#undef PORTABLE_OP
#undef PORTABLE_SHARED
qe_status portable_chain_single(qe_queue *queue, const qe_call *call);
qe_status portable_pool(qe_queue *queue, const qe_call *call);
qe_status portable_pool_grad(qe_queue *queue, const qe_call *call);
#define PORTABLE_PLAIN(name) qe_status portable_plain_##name(qe_queue *queue, const qe_call *call);
#include "backends/portable/plain.def"
#undef PORTABLE_PLAIN

#endif
