/* What the parts of the backend `cuda` share: device, buffers, queue, kernels and launches.
 *
 * A qe_buffer's `data` is the device address (CUdeviceptr) of its first byte. */
#ifndef QE_BACKENDS_CUDA_CUDA_H
#define QE_BACKENDS_CUDA_CUDA_H

#include "backends/cuda/driver.h"
#include "backends/portable/portable.h"

#include <pthread.h>

/* Every kernel: those of kernels_cl first, with the numbers of qk_kernel, then those of kernels_cu/kernels.def, where a
 * row CUDA_KERNEL(file, ck_name) stands for `extern "C" __global__ void ck_name(...)` in kernels_cu/FILE.cu. */
typedef enum cuda_kernel {
  CUDA_BEFORE_FIRST_KERNEL = QK_KERNELS - 1,
#define CUDA_KERNEL(file, name) CUDA_##name,
#include "kernels_cu/kernels.def"
#undef CUDA_KERNEL
  CUDA_KERNELS
} cuda_kernel;

enum {
  CUDA_MAX_ARGUMENTS = 16,
  CUDA_STATIC_SHARED = 49152,   /* bytes of shared memory that every kernel may use without asking */
  CUDA_OLDEST = 75,             /* compute capability x 10 of the oldest device taken */
  CUDA_OLDEST_TENSOR_FLOAT = 80 /* of the oldest that multiplies in tf32 and bf16 */
};

enum { CUDA_MAX_IMPLS = 6 };

/* Implementations of an op, best first. */
typedef struct cuda_impl_list {
  const qe_impl *impl[CUDA_MAX_IMPLS];
  int count;
} cuda_impl_list;

typedef struct cuda_device {
  portable_device portable;
  CUdevice id;
  CUcontext context;             /* the device's primary context */
  CUstream stream;               /* for the zeroing of new memory */
  int32_t capability;            /* 75, 80, 86, 89, 90, 100, 120, ... */
  size_t shared_most;            /* bytes of shared memory, static and dynamic, that a work-group may ask for */
  size_t shared_unit;            /* bytes of shared memory of a multiprocessor */
  size_t cache_bytes;            /* L2 */
  qe_precision precision;        /* of float convolutions and matrix products */
  pthread_mutex_t lock;          /* of what is made at first use: modules, functions, libraries' plans */
  CUmodule module[CUDA_KERNELS]; /* of a kernel's file; kernels of one file share that of the first used */
  CUfunction function[CUDA_KERNELS];
  size_t dynamic_shared[CUDA_KERNELS]; /* what the kernel has been allowed */
  struct cuda_cudnn *cudnn;            /* cudnn.c; NULL: not there */
  struct cuda_cublas *cublas;          /* cublas.c; NULL: not there */
  cuda_impl_list impls[QE_OPS];
} cuda_device;

typedef struct cuda_queue {
  portable_queue portable;
  CUstream stream;
  uint64_t serial;        /* tells a queue from one that had its address before */
  struct cuda_ring *ring; /* transfer.c */
  void *cudnn;            /* cudnnHandle_t of this stream; made at first use */
  bool capturing;         /* launches are recorded, not run; nothing may wait, allocate or copy */
} cuda_queue;

/* One launch of a kernel of kernels_cu. `argument` points to each argument's value, in the kernel's order: pointers are
 * passed as the address of a CUdeviceptr (cuda_address makes one), structs and numbers by their own address. */
typedef struct cuda_launch {
  cuda_kernel kernel;
  const void *argument[CUDA_MAX_ARGUMENTS];
  uint32_t groups[3], local[3];
  size_t shared_bytes; /* dynamic shared memory: up to cuda_device.shared_most less the kernel's static */
} cuda_launch;

static inline cuda_device *cuda_device_of(const qe_queue *queue) {
  return (cuda_device *)queue->device;
}

/* Device address of a place in a buffer; 0 where there is none. */
static inline CUdeviceptr cuda_address(const qe_buffer *buffer, size_t offset) {
  return buffer ? (CUdeviceptr)(uintptr_t)buffer->data + offset : 0;
}

static inline CUdeviceptr cuda_operand(const qe_call *call, int i) {
  return cuda_address(call->operand[i].buffer, call->operand[i].offset);
}

/* device.c: makes the device's context current on the calling thread. What calls the driver or a library other than
 * through the functions below calls it first. */
QE_CHECKED qe_status cuda_enter(const cuda_device *device);
qe_status cuda_buffer_new(qe_device *base, size_t bytes, qe_buffer **out);
void cuda_buffer_free(qe_buffer *buffer);

/* launch.c: puts a launch on the queue. The first launch of a kernel loads the module of its file. */
QE_CHECKED qe_status cuda_run(qe_queue *queue, const cuda_launch *launch);
/* Work-groups of `local` work-items that a multiprocessor holds at a time; 0: none fits. */
QE_CHECKED qe_status cuda_occupancy(cuda_device *device, cuda_kernel kernel, int local, size_t shared_bytes,
                                    int *groups);
extern const portable_driver cuda_portable_driver;
/* tensor.c: members of portable_driver. */
struct net_variant;
const struct net_variant *cuda_net_variants(const qe_device *device, int *count);
int cuda_code_peak(const qe_device *device, qk_kernel *kernel);
/* Whether the device has matrix instructions for codes, and so has the code that this build brings for it: kernels
 * only trap in code for older devices, which a driver would compile for newer ones. */
bool cuda_multiplies_codes(const cuda_device *device);
void cuda_modules_free(cuda_device *device);

/* queue.c and capture.c: members of the device's table */
qe_status cuda_queue_new(qe_device *base, qe_queue **out);
void cuda_queue_free(qe_queue *base);
qe_status cuda_queue_wait(qe_queue *base);
qe_status cuda_capture_begin(qe_queue *base);
qe_status cuda_capture_end(qe_queue *base, void **out);
qe_status cuda_replay(qe_queue *base, void *what);
void cuda_captured_free(qe_device *device, void *what);
/* QE_DEVICE while the queue captures: `what` cannot be recorded. */
QE_CHECKED qe_status cuda_not_captured(const cuda_queue *queue, const char *what);

/* transfer.c: copies between host and device, small ones by way of pinned memory so that the host need not wait. */
typedef struct cuda_ring cuda_ring;
QE_CHECKED qe_status cuda_ring_new(cuda_ring **out);
void cuda_ring_free(cuda_ring *ring); /* NULL is fine; when all copies are done */
qe_status cuda_queue_write(qe_queue *base, qe_buffer *buffer, size_t offset, const void *source, size_t bytes);
qe_status cuda_queue_read(qe_queue *base, qe_buffer *buffer, size_t offset, void *target, size_t bytes);

/* impls.c: once the libraries are open, what each op has. */
void cuda_impls_choose(cuda_device *device);
const qe_impl *const *cuda_impls(const qe_device *device, qe_op op, int *count);

/* images.c, made by the build: the fatbin of each file, by its name without extension. */
typedef struct cuda_image {
  const char *name;
  const void *data;
} cuda_image;
extern const cuda_image cuda_images[];

#endif
