/* Programs: a flat list of calls over one planned arena, made once, run many times.
 *
 * Build: qe_program_new, then values (bound ones lie in the caller's buffers, temporary ones in the arena) and calls in
 * the order in which they run, then qe_program_plan. A temporary lives from its first write to its last read; values
 * marked with qe_program_keep live to the end and can be read after a run. */
#ifndef QE_DISPATCH_PROGRAM_H
#define QE_DISPATCH_PROGRAM_H

#include "core/dispatch/dispatch.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_program qe_program;
typedef int32_t qe_value; /* index of a value in its program */

QE_CHECKED qe_status qe_program_new(qe_device *device, const char *name, qe_program **program);
void qe_program_free(qe_program *program); /* NULL is fine */

/* A value in the caller's memory, which must outlive the program. The name is copied. */
QE_CHECKED qe_status qe_program_bind(qe_program *program, const char *name, qe_desc desc, qe_buffer *buffer,
                                     size_t offset, qe_value *value);
QE_CHECKED qe_status qe_program_temp(qe_program *program, const char *name, qe_desc desc, qe_value *value);
/* The same memory as `of` under another shape of equally many bytes (flattening). */
QE_CHECKED qe_status qe_program_view(qe_program *program, qe_value of, const char *name, qe_desc desc, qe_value *value);
void qe_program_keep(qe_program *program, qe_value value);
qe_desc qe_program_desc(const qe_program *program, qe_value value);
const char *qe_program_value_name(const qe_program *program, qe_value value);
int qe_program_values(const qe_program *program);

/* Append a call; `values` in the order of the op's operands. Shapes are checked here. */
QE_CHECKED qe_status qe_program_call(qe_program *program, qe_op op, const qe_attrs *attrs, const qe_value *values);

typedef struct qe_plan_options {
  bool no_fusion;   /* one implementation a call; what tests compare fused runs with */
  bool keep_all;    /* every value keeps its own memory: to look at them after a run */
  bool no_capture;  /* every run puts every step on the queue anew, also where the device can repeat a whole run */
  qe_buffer *arena; /* the caller's, taken where it is large enough: programs that never overlap can share one */
} qe_plan_options;

/* Choose fusions and implementations, lay out the arena, prepare. `options` NULL: the defaults. */
QE_CHECKED qe_status qe_program_plan(qe_program *program, const qe_plan_options *options);
/* Bytes of arena that a plan by the defaults needs. The program can only be freed then. */
QE_CHECKED qe_status qe_program_measure(qe_program *program, size_t *bytes);
/* Put a run on the queue. From the second run on a queue on, a device that can repeats what it has recorded. */
QE_CHECKED qe_status qe_program_run(qe_program *program, qe_queue *queue);

/* After a run and a wait: the value's bytes. Of temporaries only kept ones still hold what was computed. */
QE_CHECKED qe_status qe_program_read(const qe_program *program, qe_queue *queue, qe_value value, void *target);

size_t qe_program_arena_bytes(const qe_program *program);
/* Sum of the temporaries' bytes: what the arena would be without reuse. */
size_t qe_program_temp_bytes(const qe_program *program);
/* How many calls run through cpu_ref because the device has no implementation. */
int qe_program_fallbacks(const qe_program *program);
/* One line a step: the implementation or fusion taken, its calls, where the operands lie. */
void qe_program_explain(const qe_program *program, FILE *file);
/* Run it `runs` times, waiting after each step, and write each step's shortest time: summed over steps that do the
 * same, then in their order. What the program updates is updated as often. */
QE_CHECKED qe_status qe_program_profile(qe_program *program, qe_queue *queue, int runs, FILE *file);

#ifdef __cplusplus
}
#endif
#endif
