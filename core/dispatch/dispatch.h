/* The dispatch layer: which backends and devices there are, buffers and queues, and single calls of an op.
 * Programs (many calls planned once) are in program.h. */
#ifndef QE_DISPATCH_DISPATCH_H
#define QE_DISPATCH_DISPATCH_H

#include "core/dispatch/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- registry: built-in backends and modules found beside the library ---- */

typedef struct qe_registry qe_registry;

/* Modules are looked for in $QEVO_BACKEND_DIR when set (nowhere else then), else in the folder `qevo` beside libqevo.
 * A module that cannot be loaded is listed as unusable with the reason; that is no error. */
QE_CHECKED qe_status qe_registry_open(qe_registry **registry);
void qe_registry_close(qe_registry *registry); /* after all devices are closed */

typedef struct qe_backend_entry {
  const char *name;
  const qe_backend *backend; /* NULL when the module could not be loaded */
  int devices;               /* 0 when unusable */
  const char *why;           /* why there is no device; "" otherwise */
} qe_backend_entry;

int qe_registry_count(const qe_registry *registry);
/* Where modules were looked for. */
const char *qe_registry_folder(const qe_registry *registry);
const qe_backend_entry *qe_registry_get(const qe_registry *registry, int index);

/* Open device `index` of the backend called `name`; "auto" (or NULL) takes the most preferred usable one.
 * QE_NOT_FOUND with the list of names, QE_DEVICE with the reason when it has no such device, QE_USAGE when it does not
 * compute in that precision. */
QE_CHECKED qe_status qe_device_open(const qe_registry *registry, const char *name, int index,
                                    const qe_open_options *options, qe_device **device);
/* The number that a user's text means: a number, or part of a device's line in `qevo-gpu devices`, in any case; the
 * first that fits. QE_NOT_FOUND when none does, or as qe_device_open. */
QE_CHECKED qe_status qe_device_find(const qe_registry *registry, const char *name, const char *device, int *index);
void qe_device_close(qe_device *device);
/* "fp32", "tf32", "bf16"; the precision called so, or QE_PRECISIONS. */
const char *qe_precision_name(qe_precision precision);
qe_precision qe_precision_find(const char *name);

/* ---- buffers and queues ----
 *
 * Work on a queue is asynchronous until qe_queue_wait. When one of these calls, a call of an op or a program fails, the
 * queue has been waited for: what its work used can be freed. Free a queue before the buffers that its work uses, and
 * after the populations that run on it. */

QE_CHECKED qe_status qe_buffer_new(qe_device *device, size_t bytes, qe_buffer **buffer);
void qe_buffer_free(qe_buffer *buffer); /* NULL is fine */
QE_CHECKED qe_status qe_queue_new(qe_device *device, qe_queue **queue);
void qe_queue_free(qe_queue *queue);
QE_CHECKED qe_status qe_queue_write(qe_queue *queue, qe_buffer *buffer, size_t offset, const void *source,
                                    size_t bytes);
QE_CHECKED qe_status qe_queue_read(qe_queue *queue, qe_buffer *buffer, size_t offset, void *target, size_t bytes);
QE_CHECKED qe_status qe_queue_wait(qe_queue *queue);
/* `status`; after a failure the queue is waited for, and the failure's message stays the one to tell. */
QE_CHECKED qe_status qe_queue_settle(qe_queue *queue, qe_status status);

/* ---- single calls ---- */

/* A call as it will run: the implementation chosen and its state. */
typedef struct qe_bound_call {
  const qe_impl *impl; /* NULL: the reference in cpu_ref */
  void *state;
} qe_bound_call;

/* Choose the first implementation that takes the call (`only` not NULL: that one or QE_REFUSED with its reason), else
 * cpu_ref, and prepare it. The call must stay unchanged and in place until qe_call_release. */
QE_CHECKED qe_status qe_call_bind(qe_device *device, const qe_call *call, const qe_impl *only, qe_bound_call *bound);
QE_CHECKED qe_status qe_call_run(qe_queue *queue, const qe_call *call, const qe_bound_call *bound);
void qe_call_release(qe_bound_call *bound);

/* Run the call through cpu_ref: in place on host memory, else through copies on the host. */
QE_CHECKED qe_status qe_call_run_reference(qe_queue *queue, const qe_call *call);

/* Fill an operand with a value that lies at `offset` of `buffer`. */
void qe_operand_set(qe_operand *operand, qe_desc desc, qe_buffer *buffer, size_t offset);

#ifdef __cplusplus
}
#endif
#endif
