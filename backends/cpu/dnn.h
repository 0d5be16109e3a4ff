/* A oneDNN primitive over an op's operands, with reorders where it wants another layout than the plain one. */
#ifndef QE_BACKENDS_CPU_DNN_H
#define QE_BACKENDS_CPU_DNN_H

#include "backends/cpu/cpu.h"

enum { DNN_TENSORS = 3 };

/* One operand as oneDNN sees it. */
typedef struct dnn_operand {
  int at;                    /* index among the call's operands */
  int argument;              /* DNNL_ARG_... */
  dnnl_query_t query;        /* asks the primitive for the layout it wants */
  dnnl_memory_desc_t layout; /* in the call's memory */
} dnn_operand;

typedef struct dnn_state dnn_state;

/* Make the primitive and its reorders; takes over `pd`. Wants the thread count entered (cpu_threads_enter). */
QE_CHECKED qe_status dnn_state_new(cpu_device *device, const qe_call *call, dnnl_primitive_desc_t pd,
                                   const dnn_operand *operands, dnn_state **state);
QE_CHECKED qe_status dnn_state_run(cpu_queue *queue, dnn_state *state);
void dnn_state_free(void *memory);

/* A failure of oneDNN as a message: `what` was asked of it. */
qe_status dnn_fail(dnnl_status_t status, const char *what);

#endif
