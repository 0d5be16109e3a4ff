/* What the parts of the cpu backend share: device, queue, lists of implementations. */
#ifndef QE_BACKENDS_CPU_CPU_H
#define QE_BACKENDS_CPU_CPU_H

#include "backends/cpu/kernels.h"
#include "core/dispatch/backend.h"

#include <oneapi/dnnl/dnnl.h>

enum { CPU_MAX_THREADS = 256 };

typedef struct cpu_pool cpu_pool; /* parallel.c */

typedef struct cpu_device {
  qe_device base;
  int threads;
  qe_precision precision; /* of float convolutions: QE_FP32 or QE_BF16 */
  const cpu_kernels *kernels;
  dnnl_engine_t engine;
  cpu_pool *pool; /* builds without OpenMP */
} cpu_device;

typedef struct cpu_queue {
  qe_queue base;
  dnnl_stream_t stream;
  void *scratch; /* grows to what the largest call needs */
  size_t scratch_bytes;
} cpu_queue;

/* At least `bytes` of memory for the call at work on this queue, aligned to QE_ALIGNMENT; not cleared. */
QE_CHECKED qe_status cpu_queue_scratch(cpu_queue *queue, size_t bytes, void **scratch);

/* Uninitialised memory that starts on a huge page when it is large: fewer misses in the page table and, since physical
 * neighbours stay neighbours, in the second-level cache. `*memory` is what to free; NULL with a message. */
void *cpu_large_alloc(size_t bytes, void **memory);

static inline cpu_device *cpu_device_of(const qe_queue *queue) {
  return (cpu_device *)queue->device;
}

/* isa.c: the kernels that $QEVO_CPU_ISA names, or the best that the machine can run; NULL with the reason in `why`. */
const cpu_kernels *cpu_choose_kernels(char *why, size_t bytes);
/* The processor's name for people. */
void cpu_model_name(char *text, size_t bytes);

/* impls.c: implementations of an op, best first. */
const qe_impl *const *cpu_impls(const qe_device *device, qe_op op, int *count);

extern const qe_impl cpu_impl_conv;     /* conv.c */
extern const qe_impl cpu_impl_linear;   /* conv.c */
extern const qe_impl cpu_impl_int_conv; /* int_conv.c */
/* outer.c; `sums` lie in the queue's scratch memory. */
QE_CHECKED qe_status cpu_outer_run(cpu_queue *queue, const cpu_outer *outer, cpu_outer_sums *sums);
/* Bytes of the sums. */
size_t cpu_outer_sum_bytes(int64_t units, int64_t a_channels, int64_t b_channels);

extern const qe_impl cpu_impl_int_gram;     /* int_gram.c */
extern const qe_impl cpu_impl_int_grad_w;   /* int_grad_w.c */
extern const qe_impl cpu_impl_dots;         /* dots.c */
extern const qe_impl cpu_impl_channel_sums; /* channel_sums.c */
extern const qe_impl cpu_impl_tiles;        /* tiles.c */
extern const qe_impl cpu_impl_rows;         /* rows.c */
extern const qe_impl cpu_impl_tanh;         /* tanh.c */
extern const qe_fusion cpu_fusion_tiles;    /* fusion.c */

#endif
