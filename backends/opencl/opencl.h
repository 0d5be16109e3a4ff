/* What the parts of the backend `opencl` share: device, buffer, queue, errors. */
#ifndef QE_BACKENDS_OPENCL_OPENCL_H
#define QE_BACKENDS_OPENCL_OPENCL_H

#include "backends/portable/portable.h"

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

typedef struct opencl_device {
  portable_device portable;
  cl_platform_id platform;
  cl_device_id id;
  cl_context context;
  cl_program program[QK_KERNELS]; /* of each kernel's file, made at first use; kernels of one file share it */
  const char *build_options;
} opencl_device;

typedef struct opencl_buffer {
  qe_buffer base;
  cl_mem memory;
} opencl_buffer;

typedef struct opencl_queue {
  portable_queue portable;
  cl_command_queue commands;
  cl_kernel kernel[QK_KERNELS]; /* arguments are a kernel object's own: one set a queue */
} opencl_queue;

/* QE_OK, or QE_NO_MEMORY or QE_DEVICE with what was tried and the error's name. */
QE_CHECKED qe_status opencl_check(cl_int error, const char *what);

/* program.c: the kernel of a queue, built at first use. */
QE_CHECKED qe_status opencl_kernel(opencl_queue *queue, qk_kernel which, cl_kernel *kernel);
void opencl_programs_free(opencl_device *device);

/* sources.S: texts of kernels_cl. */
typedef struct opencl_source {
  const char *name, *begin, *end;
} opencl_source;
extern const opencl_source opencl_sources[];

#endif
