/* The one interface that a backend implements: backend -> device -> queue and buffer, and lists of implementations.
 *
 * Nothing here aborts or prints. "No" is not an error: a backend without a driver reports zero devices and why, an
 * implementation that cannot take a case says why and the next one is asked. */
#ifndef QE_DISPATCH_BACKEND_H
#define QE_DISPATCH_BACKEND_H

#include "core/base/op.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_BACKEND_API = 1 };

typedef struct qe_device qe_device;
typedef struct qe_queue qe_queue;
typedef struct qe_buffer qe_buffer;

/* First member of a backend's own buffer type. */
struct qe_buffer {
  qe_device *device;
  size_t bytes;
  void *data; /* host or CUDA address of the first byte; NULL on devices whose memory has none */
};

/* First member of a backend's own queue type. Calls on one queue run in order; different queues may overlap. */
struct qe_queue {
  qe_device *device;
};

/* One way to compute an op. */
typedef struct qe_impl {
  const char *name;
  /* NULL when this implementation takes the call; else the reason why not (static text). NULL: takes every call. */
  const char *(*refuse)(const qe_device *device, const qe_call *call);
  /* Optional: what can be made once for a call that runs many times. Operand addresses are final. */
  qe_status (*prepare)(qe_device *device, const qe_call *call, void **state);
  qe_status (*run)(qe_queue *queue, const qe_call *call, void *state);
  void (*release)(void *state);
  bool not_captured; /* run() waits, allocates or copies on every run: programs with it are not captured */
} qe_impl;

/* A kernel for several calls in a row; must give what the calls would give one after the other. */
typedef struct qe_fusion {
  const char *name;
  /* How many calls from the front of calls[0..count) it takes in one run; below 2 means none. Looks at ops, shapes and
   * attributes and at whether operands are the same memory: data pointers are not final yet, but `buffer` and `offset`
   * identify a value: equal pairs are the same value. */
  int (*claim)(const qe_device *device, const qe_call *calls, int count);
  qe_status (*prepare)(qe_device *device, const qe_call *calls, int count, void **state);
  qe_status (*run)(qe_queue *queue, const qe_call *calls, int count, void *state);
  void (*release)(void *state);
  bool not_captured; /* as in qe_impl */
} qe_fusion;

struct qe_network;
struct qe_genome_layout;
struct qe_population_options;
struct qe_population_call;
struct qe_population_result;

/* A backend's own way to run whole integer networks (core/dispatch/population.h says what the parts mean). */
typedef struct qe_network_engine {
  const char *name;
  /* NULL when it takes the network; else the reason why not (static text). */
  const char *(*refuse)(const qe_device *device, const struct qe_network *network);
  qe_status (*open)(qe_queue *queue, const struct qe_network *network, const struct qe_genome_layout *layout,
                    const struct qe_population_options *options, void **state);
  void (*close)(void *state);
  /* Genomes, indices and labels have been checked; op by op runs give the same results. */
  qe_status (*run)(void *state, const struct qe_population_call *call, const struct qe_population_result *result);
  /* Optional: networks of one queue, opened without genomes, on the same images (qe_population_run_together). What
   * several of them share runs once. QE_REFUSED, and nothing done: they are to run one by one. */
  qe_status (*run_together)(void *const *state, int32_t count, const struct qe_population_call *call,
                            const struct qe_population_result *result, int64_t *reused);
  void (*explain)(const void *state, FILE *file);
} qe_network_engine;

/* What a device can do at most. */
typedef enum qe_limit {
  QE_LIMIT_FLOAT_MACS, /* multiply-adds of f32 a second, from registers */
  QE_LIMIT_CODE_MACS,  /* multiply-adds of 8-bit codes a second, from registers, by the fastest instruction in use */
  QE_LIMIT_BYTES       /* bytes a second, read and written, of a copy in device memory */
} qe_limit;

/* Work that a device's kernels are tuned for. Nothing else may be open on the device meanwhile. */
typedef struct qe_tuning {
  qe_status (*open)(void *context); /* queues, plans and all that depends on the kernels' numbers */
  qe_status (*run)(void *context);  /* once, and waits */
  void (*close)(void *context);     /* after an open, whether or not it succeeded */
  double (*clock)(void);            /* seconds; NULL: the monotonic clock */
  void (*trying)(void *context, const char *name, int32_t value);                /* optional: before each open */
  void (*tried)(void *context, const char *name, int32_t value, double seconds); /* optional; < 0: does not work */
  void *context;
} qe_tuning;

typedef struct qe_device_table {
  void (*close)(qe_device *device);
  qe_status (*buffer_new)(qe_device *device, size_t bytes, qe_buffer **buffer); /* zeroed, QE_ALIGNMENT or better */
  void (*buffer_free)(qe_buffer *buffer);
  qe_status (*queue_new)(qe_device *device, qe_queue **queue);
  void (*queue_free)(qe_queue *queue); /* waits first */
  /* Ordered on the queue. `source` must stay as it is until qe_queue_wait; `target` is filled by then. */
  qe_status (*write)(qe_queue *queue, qe_buffer *buffer, size_t offset, const void *source, size_t bytes);
  qe_status (*read)(qe_queue *queue, qe_buffer *buffer, size_t offset, void *target, size_t bytes);
  qe_status (*wait)(qe_queue *queue); /* until all is done; reports what failed since the last wait */
  /* Implementations of an op, best first; may be none. */
  const qe_impl *const *(*impls)(const qe_device *device, qe_op op, int *count);
  /* Fused kernels, best first; NULL: none. */
  const qe_fusion *const *(*fusions)(const qe_device *device, int *count);
  /* Engines for whole networks, best first; NULL: networks run op by op. */
  const qe_network_engine *const *(*engines)(const qe_device *device, int *count);
  /* Measures a limit on an idle device, in some tenths of a second. NULL or QE_REFUSED: the device is the host's
   * processor, of which the caller has to know. */
  qe_status (*measure)(qe_queue *queue, qe_limit limit, double *per_second);
  /* Optional, all four or none: a recorded run of calls, put on the queue again as one. What implementations run
   * between begin and end is recorded and does not happen; nothing else may use the queue in between. capture_end is
   * always called; it fails when anything in between could not be recorded (a wait, a copy, memory that had to grow).
   */
  qe_status (*capture_begin)(qe_queue *queue);
  qe_status (*capture_end)(qe_queue *queue, void **captured);
  /* QE_REFUSED, and nothing done: the queue's own memory is no longer where it was, or it is another queue. */
  qe_status (*replay)(qe_queue *queue, void *captured);
  void (*captured_free)(qe_device *device, void *captured); /* runs of it under way go on */
  /* Optional: find the numbers with which the work is fastest, for this device and those of its kind opened later. */
  qe_status (*tune)(qe_device *device, const qe_tuning *tuning);
} qe_device_table;

/* First member of a backend's own device type. */
struct qe_device {
  const qe_device_table *table;
  const struct qe_backend *backend;
  int index;
  bool host_memory; /* qe_buffer.data can be read and written by the host between waits */
  char name[128];
};

/* What float convolutions and matrix products compute with. Values in memory are f32 always. */
typedef enum qe_precision {
  QE_FP32, /* products and sums in f32 */
  QE_TF32, /* factors rounded to 10 bits after the point, sums in f32 */
  QE_BF16, /* factors rounded to 7 bits after the point, sums in f32; cuda rounds convolutions' results likewise */
  QE_PRECISIONS
} qe_precision;

typedef struct qe_open_options {
  int threads; /* 0: all cores the process may use */
  qe_precision precision;
} qe_open_options;

typedef struct qe_backend {
  int api; /* QE_BACKEND_API */
  const char *name;
  const char *summary;
  int preference;      /* `auto` takes the usable backend with the highest; ref is 0 */
  unsigned precisions; /* bit p: can be opened with qe_precision p; QE_FP32 without a bit */
  /* Devices present. 0 is no error: then `why` (bytes long) says what is missing. */
  int (*count)(char *why, size_t bytes);
  /* One line on device `index` into text: model, memory, what is used of it. */
  void (*describe)(int index, char *text, size_t bytes);
  qe_status (*open)(int index, const qe_open_options *options, qe_device **device);
} qe_backend;

/* What a loadable module exports. */
#define QE_BACKEND_ENTRY "qe_backend_entry"
typedef const qe_backend *(*qe_backend_entry_function)(void);

#ifdef __cplusplus
}
#endif
#endif
