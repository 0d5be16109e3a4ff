/* What the parts of the backend `opencl` share: devices found, device, buffer, queue, programs, errors. */
#ifndef QE_BACKENDS_OPENCL_OPENCL_H
#define QE_BACKENDS_OPENCL_OPENCL_H

#include "backends/portable/portable.h"

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <pthread.h>
#include <stdatomic.h>

/* ---- find.c: what is installed ---- */

enum { OPENCL_ARGUMENTS = 1024 }; /* bytes of a kernel's arguments that every device of the full profile takes */

typedef struct opencl_found {
  cl_platform_id platform;
  cl_device_id id;
  cl_device_type type;
  int rank; /* the best first: 0 GPU with memory of its own, 1 other GPU, 2 accelerator, 3 CPU */
} opencl_found;

/* Usable devices of all platforms, best first; looked for once a process. With none, *why says what is missing. */
int opencl_devices(const opencl_found **list, const char **why);
/* Text of a device or platform; "" where the driver has none. Returns `text`. */
char *opencl_device_text(cl_device_id id, cl_device_info what, char *text, size_t bytes);
char *opencl_platform_text(cl_platform_id platform, cl_platform_info what, char *text, size_t bytes);
bool opencl_has_extension(cl_device_id id, const char *name);

/* ---- limits.c: what a device can do ---- */

/* Ways to a dot product of four bytes, each a macro of kernels_cl/platform.h. */
typedef enum opencl_dot { OPENCL_DOT_NONE, OPENCL_DOT_KHR, OPENCL_DOT_PTX, OPENCL_DOT_AMD } opencl_dot;

typedef struct opencl_traits {
  portable_limits limits;
  opencl_dot dot;
  bool divide; /* division and square root are correctly rounded */
  bool blas;   /* CLBlast may be used */
} opencl_traits;

void opencl_traits_read(const opencl_found *found, opencl_traits *traits);
/* Lower limits as a text says: "group=32,local=16384,..."; NULL or "" changes nothing. For tests: the whole of them can
 * run as on a smaller device. Keys: limits.c. QE_USAGE with the key, for values above what the device has too. */
QE_CHECKED qe_status opencl_traits_lower(opencl_traits *traits, const char *text);

/* ---- device.c, memory.c, queue.c ---- */

typedef struct opencl_device {
  portable_device portable;
  bool blas;              /* CLBlast may be used */
  atomic_bool blas_fails; /* its kernels do not fit the device */
  atomic_int references;  /* the owner's, each buffer's and each queue's: the last one frees */
  cl_platform_id platform;
  cl_device_id id;
  cl_context context;
  cl_command_queue zeroing;       /* clears new buffers, beside all other queues */
  atomic_size_t used;             /* bytes in buffers */
  char options[160];              /* of every build */
  pthread_mutex_t build_lock;     /* of the next two */
  cl_program program[QK_KERNELS]; /* at the first kernel of each file, made at first use */
  bool told;                      /* that kernels are being built */
  pthread_mutex_t complaint_lock;
  char complaint[256]; /* the driver's newest, through the context's callback; "" for none */
} opencl_device;

typedef struct opencl_buffer {
  qe_buffer base;
  cl_mem memory;
} opencl_buffer;

typedef struct opencl_queue {
  portable_queue portable;
  cl_command_queue commands;
  int unflushed;                 /* commands that the driver may not have started */
  cl_kernel kernel[QK_KERNELS];  /* arguments are a kernel object's own: one set a queue */
  size_t items_most[QK_KERNELS]; /* of a work-group of that kernel */
} opencl_queue;

static inline opencl_device *opencl_device_of(const qe_queue *queue) {
  return (opencl_device *)queue->device;
}

void opencl_device_hold(opencl_device *device);
void opencl_device_drop(opencl_device *device);

QE_CHECKED qe_status opencl_buffer_new(qe_device *device, size_t bytes, qe_buffer **buffer);
void opencl_buffer_free(qe_buffer *base);

QE_CHECKED qe_status opencl_queue_new(qe_device *device, qe_queue **queue);
void opencl_queue_free(qe_queue *base);
QE_CHECKED qe_status opencl_queue_write(qe_queue *queue, qe_buffer *buffer, size_t offset, const void *source,
                                        size_t bytes);
QE_CHECKED qe_status opencl_queue_read(qe_queue *queue, qe_buffer *buffer, size_t offset, void *target, size_t bytes);
QE_CHECKED qe_status opencl_queue_wait(qe_queue *queue);
QE_CHECKED qe_status opencl_launch(qe_queue *queue, const portable_launch *launch);

/* After each command put on the queue's driver queue: hands work to the device; passes an error on. */
QE_CHECKED qe_status opencl_enqueued(opencl_queue *queue, cl_int error, const char *what);

/* ---- impls.c ---- */

const qe_impl *const *opencl_impls(const qe_device *device, qe_op op, int *count);

/* ---- error.c ---- */

/* "CL_OUT_OF_RESOURCES" and so on; never NULL. */
const char *opencl_error_name(cl_int error);
/* QE_OK, or QE_NO_MEMORY or QE_DEVICE with what was tried and the error's name. */
QE_CHECKED qe_status opencl_check(cl_int error, const char *what);

/* ---- options.c, program.c ---- */

/* Writes device->options; clears limits.dot where the device's dot product does not work. */
void opencl_options(opencl_device *device, const opencl_traits *traits);

/* The kernel of a queue, built at first use. */
QE_CHECKED qe_status opencl_kernel(opencl_queue *queue, qk_kernel which, cl_kernel *kernel);
/* The text behind platform.h and params.h, from the cache or built with device->options. */
QE_CHECKED qe_status opencl_build(opencl_device *device, const char *name, const char *text, size_t length,
                                  cl_program *program);
void opencl_programs_free(opencl_device *device);

/* The texts of kernels_cl, ended by a row of NULL. */
typedef struct opencl_source {
  const char *name, *begin, *end;
} opencl_source;
extern const opencl_source opencl_sources[];

/* What identifies the device and its driver, one line each, new text (qe_free). */
char *opencl_identity(const opencl_device *device);
/* Forget the program of a file, so that it is built anew; kernels that queues have keep the old one. */
void opencl_program_drop(opencl_device *device, const char *file);

/* ---- tune.c ---- */

/* Takes the numbers that a tuner stored for such a device; the initial ones where there are none. */
void opencl_tuned_load(opencl_device *device);
QE_CHECKED qe_status opencl_tune(qe_device *device, const qe_tuning *tuning);

/* ---- cache.c: built programs on disk ---- */

/* What was stored under the key, in new memory (qe_free); NULL where there is nothing or it is not whole. */
void *opencl_cache_load(const char *name, const char *key, size_t *bytes);
/* Keep it, if it can be kept. */
void opencl_cache_store(const char *name, const char *key, const void *data, size_t bytes);
/* The folder of the cache, new text (qe_free); NULL when there is none. */
char *opencl_cache_folder(void);

#endif
