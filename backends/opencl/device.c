/* The backend `opencl`: its devices, opened and closed. */
#include "backends/opencl/opencl.h"

#ifdef OPENCL_CLBLAST
#include "backends/opencl/blas.h"
#endif
#include "core/base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFERENCE_GPU = 20, PREFERENCE_OTHER = 5 };

static qe_backend backend;

static int backend_count(char *why, size_t bytes) {
  const opencl_found *list;
  const char *reason;
  int count = opencl_devices(&list, &reason);
  backend.preference = count && list[0].type & CL_DEVICE_TYPE_GPU ? PREFERENCE_GPU : PREFERENCE_OTHER;
  if (!count) snprintf(why, bytes, "%s", reason);
  return count;
}

static void describe(const opencl_found *found, char *text, size_t bytes) {
  char name[96], platform[96], driver[64];
  cl_ulong memory = 0;
  cl_uint units = 0;
  (void)clGetDeviceInfo(found->id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof memory, &memory, NULL);
  (void)clGetDeviceInfo(found->id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
  snprintf(text, bytes, "%s, %s, driver %s, %llu.%llu GiB, %u units",
           opencl_device_text(found->id, CL_DEVICE_NAME, name, sizeof name),
           opencl_platform_text(found->platform, CL_PLATFORM_NAME, platform, sizeof platform),
           opencl_device_text(found->id, CL_DRIVER_VERSION, driver, sizeof driver), (unsigned long long)(memory >> 30),
           (unsigned long long)((memory >> 20 & 1023) * 10 >> 10), (unsigned)units);
}

static void backend_describe(int index, char *text, size_t bytes) {
  const opencl_found *list;
  const char *why;
  if (bytes) text[0] = 0;
  if (index >= 0 && index < opencl_devices(&list, &why)) describe(&list[index], text, bytes);
}

/* ---- life of a device ---- */

void opencl_device_hold(opencl_device *device) {
  atomic_fetch_add(&device->references, 1);
}

void opencl_device_drop(opencl_device *device) {
  if (atomic_fetch_sub(&device->references, 1) > 1) return;
  opencl_programs_free(device);
#ifdef OPENCL_CLBLAST
  if (device->blas) opencl_blas_forget();
#endif
  if (device->zeroing) clReleaseCommandQueue(device->zeroing);
  if (device->context) clReleaseContext(device->context);
  pthread_mutex_destroy(&device->complaint_lock);
  pthread_mutex_destroy(&device->build_lock);
  qe_free(device);
}

static void device_close(qe_device *base) {
  opencl_device_drop((opencl_device *)base);
}

static const qe_device_table table = {
    .close = device_close,
    .buffer_new = opencl_buffer_new,
    .buffer_free = opencl_buffer_free,
    .queue_new = opencl_queue_new,
    .queue_free = opencl_queue_free,
    .write = opencl_queue_write,
    .read = opencl_queue_read,
    .wait = opencl_queue_wait,
    .impls = opencl_impls,
    .engines = portable_engines,
    .tune = opencl_tune,
    .fusions = portable_fusions,
    .measure = portable_measure,
};

static const portable_driver driver = {.launch = opencl_launch};

/* From any thread of the driver, also for errors that a call returns besides; Oclgrind hands no context over. */
static void CL_CALLBACK complain(const char *text, const void *data, size_t bytes, void *context) {
  opencl_device *device = context;
  (void)data;
  (void)bytes;
  if (!device) return;
  pthread_mutex_lock(&device->complaint_lock);
  snprintf(device->complaint, sizeof device->complaint, "%s", text);
  pthread_mutex_unlock(&device->complaint_lock);
}

static qe_status make_context(opencl_device *device) {
  cl_int error;
  device->context = clCreateContext(NULL, 1, &device->id, complain, device, &error);
  QE_TRY(opencl_check(error, "clCreateContext"));
  device->zeroing = clCreateCommandQueue(device->context, device->id, 0, &error);
  return opencl_check(error, "clCreateCommandQueue");
}

static qe_status backend_open(int index, const qe_open_options *options, qe_device **out) {
  const opencl_found *list;
  const char *why;
  (void)options;
  int count = opencl_devices(&list, &why);
  if (index < 0 || index >= count) return qe_fail(QE_DEVICE, "OpenCL has no device %d: %s", index, why);
  opencl_traits traits = {0};
  opencl_traits_read(&list[index], &traits);
  QE_TRY(opencl_traits_lower(&traits, getenv("QEVO_OPENCL_LIMITS")));
  opencl_device *device = QE_NEW(opencl_device);
  if (!device) return QE_NO_MEMORY;
  device->portable.base.table = &table;
  device->portable.base.backend = &backend;
  device->portable.base.index = index;
  device->portable.driver = &driver;
  device->portable.limits = traits.limits;
  device->platform = list[index].platform;
  device->id = list[index].id;
  device->blas = traits.blas;
  atomic_store(&device->references, 1);
  pthread_mutex_init(&device->build_lock, NULL);
  pthread_mutex_init(&device->complaint_lock, NULL);
  opencl_device_text(device->id, CL_DEVICE_NAME, device->portable.base.name, sizeof device->portable.base.name);
  qe_status status = make_context(device);
  if (status == QE_OK) {
    opencl_options(device, &traits);
    opencl_tuned_load(device);
  }
  if (status != QE_OK) {
    opencl_device_drop(device);
    return status;
  }
  *out = &device->portable.base;
  return QE_OK;
}

/* ---- the module ---- */

static qe_backend backend = {
    .api = QE_BACKEND_API,
    .name = "opencl",
    .summary = "any OpenCL 1.2 device: portable kernels, built at first use",
    .preference = PREFERENCE_OTHER,
    .count = backend_count,
    .describe = backend_describe,
    .open = backend_open,
};

__attribute__((visibility("default"))) const qe_backend *qe_backend_entry(void);

const qe_backend *qe_backend_entry(void) {
  return &backend;
}
