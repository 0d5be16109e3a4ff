/* OpenCL programs: one a file of kernels_cl, from the cache or built at first use. */
#include "backends/opencl/opencl.h"

#include "core/base/alloc.h"
#include "core/base/hash.h"
#include "core/base/notice.h"

#include <stdio.h>
#include <string.h>

enum { PARTS = 3 };

/* What one program is made of. */
typedef struct recipe {
  const char *name, *text[PARTS];
  size_t length[PARTS];
  char *options, *key; /* all that the binary depends on */
} recipe;

static const opencl_source *find_source(const char *name) {
  const opencl_source *source = opencl_sources;
  while (strcmp(source->name, name) != 0) source++;
  return source;
}

static size_t source_length(const opencl_source *source) {
  return (size_t)(source->end - source->begin);
}

char *opencl_identity(const opencl_device *device) {
  char platform[128], version[256], name[128], device_version[256], driver[128];
  return qe_format("platform %s\nversion %s\ndevice %s\ndevice version %s\ndriver %s\n",
                   opencl_platform_text(device->platform, CL_PLATFORM_NAME, platform, sizeof platform),
                   opencl_platform_text(device->platform, CL_PLATFORM_VERSION, version, sizeof version),
                   opencl_device_text(device->id, CL_DEVICE_NAME, name, sizeof name),
                   opencl_device_text(device->id, CL_DEVICE_VERSION, device_version, sizeof device_version),
                   opencl_device_text(device->id, CL_DRIVER_VERSION, driver, sizeof driver));
}

static char *make_key(const opencl_device *device, const recipe *r) {
  uint64_t hash = QE_HASH_START;
  size_t length = 0;
  for (int i = 0; i < PARTS; i++) {
    hash = qe_hash(hash, r->text[i], r->length[i]);
    length += r->length[i];
  }
  char *identity = opencl_identity(device), *key = NULL;
  if (identity)
    key = qe_format("%soptions %s\nsource %s %016llx %zu\n", identity, r->options, r->name, (unsigned long long)hash,
                    length);
  qe_free(identity);
  return key;
}

/* The device's options and the tunable numbers of the file. */
static char *make_options(const opencl_device *device, const char *file) {
  char *options = qe_strdup(device->options);
  for (qk_tunable t = 0; options && t < QK_TUNABLES; t++) {
    if (strcmp(portable_tunables[t].file, file) != 0) continue;
    char *more = qe_format("%s -D%s=%d", options, portable_tunables[t].macro, portable_tuned(&device->portable, t));
    qe_free(options);
    options = more;
  }
  return options;
}

/* A program of this binary; NULL when the driver does not take it. */
static cl_program from_binary(const opencl_device *device, const recipe *r, const void *binary, size_t bytes) {
  const unsigned char *data = binary;
  cl_int taken = CL_SUCCESS, error;
  cl_program program = clCreateProgramWithBinary(device->context, 1, &device->id, &bytes, &data, &taken, &error);
  if (error == CL_SUCCESS && taken == CL_SUCCESS)
    error = clBuildProgram(program, 1, &device->id, r->options, NULL, NULL);
  if (error == CL_SUCCESS && taken == CL_SUCCESS) return program;
  if (program) clReleaseProgram(program);
  return NULL;
}

static void keep_binary(const recipe *r, cl_program program) {
  size_t bytes = 0;
  if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) != CL_SUCCESS || !bytes) return;
  unsigned char *binary = qe_alloc(bytes);
  if (binary && clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) == CL_SUCCESS)
    opencl_cache_store(r->name, r->key, binary, bytes);
  qe_free(binary);
}

/* New text (qe_free), of any length: drivers hand a log out whole or not at all. */
static char *build_log(const opencl_device *device, cl_program program) {
  size_t bytes = 0;
  if (clGetProgramBuildInfo(program, device->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes) != CL_SUCCESS) return NULL;
  char *log = qe_calloc(1, bytes + 1);
  if (log && clGetProgramBuildInfo(program, device->id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL) != CL_SUCCESS)
    log[0] = 0;
  return log;
}

static qe_status build_failed(const opencl_device *device, cl_program program, const recipe *r, cl_int error) {
  char *log = build_log(device, program);
  const char *told = log ? log : "", *first = strstr(told, "error"); /* warnings may fill the message */
  while (first && first > told && first[-1] != '\n') first--;
  qe_status status =
      qe_fail(QE_DEVICE, "OpenCL: %s (%d) while kernels_cl/%s.cl is built for %s with %s: %s", opencl_error_name(error),
              error, r->name, device->portable.base.name, r->options, first ? first : told);
  qe_free(log);
  return status;
}

static qe_status from_source(opencl_device *device, const recipe *r, cl_program *program) {
  cl_int error;
  if (!device->told) qe_notice("opencl: building kernels for %s, once", device->portable.base.name);
  device->told = true;
  const char *text[PARTS];
  size_t length[PARTS];
  memcpy(text, r->text, sizeof text);
  memcpy(length, r->length, sizeof length);
  *program = clCreateProgramWithSource(device->context, PARTS, text, length, &error);
  QE_TRY(opencl_check(error, "clCreateProgramWithSource"));
  error = clBuildProgram(*program, 1, &device->id, r->options, NULL, NULL);
  if (error != CL_SUCCESS) {
    qe_status status = build_failed(device, *program, r, error);
    clReleaseProgram(*program);
    *program = NULL;
    return status;
  }
  keep_binary(r, *program);
  return QE_OK;
}

qe_status opencl_build(opencl_device *device, const char *name, const char *text, size_t length, cl_program *program) {
  const opencl_source *platform = find_source("platform.h"), *params = find_source("params.h");
  recipe r = {.name = name,
              .text = {platform->begin, params->begin, text},
              .length = {source_length(platform), source_length(params), length}};
  r.options = make_options(device, name);
  r.key = r.options ? make_key(device, &r) : NULL;
  qe_status status = r.key ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) {
    size_t bytes;
    void *binary = opencl_cache_load(name, r.key, &bytes);
    *program = binary ? from_binary(device, &r, binary, bytes) : NULL;
    qe_free(binary);
    if (!*program) status = from_source(device, &r, program);
  }
  qe_free(r.key);
  qe_free(r.options);
  return status;
}

void opencl_programs_free(opencl_device *device) {
  for (int k = 0; k < QK_KERNELS; k++)
    if (device->program[k]) clReleaseProgram(device->program[k]);
}

/* ---- kernels ---- */

/* The first kernel of the file: its place holds the program. QK_KERNELS: there is no such file. */
static qk_kernel place_of(const char *file) {
  qk_kernel first = 0;
  while (first < QK_KERNELS && strcmp(portable_kernel[first].file, file) != 0) first++;
  return first;
}

void opencl_program_drop(opencl_device *device, const char *file) {
  const qk_kernel place = place_of(file);
  if (place == QK_KERNELS) return;
  pthread_mutex_lock(&device->build_lock);
  if (device->program[place]) clReleaseProgram(device->program[place]);
  device->program[place] = NULL;
  pthread_mutex_unlock(&device->build_lock);
}

/* A queue of another thread may want the same program: one builds, the other waits. */
static qe_status get_program(opencl_device *device, qk_kernel which, cl_program *program) {
  qk_kernel place = place_of(portable_kernel[which].file);
  qe_status status = QE_OK;
  pthread_mutex_lock(&device->build_lock);
  if (!device->program[place]) {
    const opencl_source *source = find_source(portable_kernel[which].file);
    status = opencl_build(device, source->name, source->begin, source_length(source), &device->program[place]);
  }
  *program = device->program[place];
  pthread_mutex_unlock(&device->build_lock);
  return status;
}

/* What the compiled kernel needs of the device; more than there is fails here rather than in the driver. */
static qe_status check_needs(const opencl_device *device, cl_kernel kernel, const char *name, size_t *items_most) {
  cl_ulong local = 0;
  *items_most = device->portable.limits.group_most;
  size_t most = *items_most;
  (void)clGetKernelWorkGroupInfo(kernel, device->id, CL_KERNEL_WORK_GROUP_SIZE, sizeof most, &most, NULL);
  if (most && most < *items_most) *items_most = most;
  (void)clGetKernelWorkGroupInfo(kernel, device->id, CL_KERNEL_LOCAL_MEM_SIZE, sizeof local, &local, NULL);
  if (local <= device->portable.limits.local_bytes) return QE_OK;
  return qe_fail(QE_DEVICE, "%s has %zu bytes of local memory, %s needs %llu", device->portable.base.name,
                 device->portable.limits.local_bytes, name, (unsigned long long)local);
}

qe_status opencl_kernel(opencl_queue *queue, qk_kernel which, cl_kernel *kernel) {
  opencl_device *device = opencl_device_of(&queue->portable.base);
  if (!queue->kernel[which]) {
    cl_program program;
    cl_int error;
    QE_TRY(get_program(device, which, &program));
    cl_kernel made = clCreateKernel(program, portable_kernel[which].name, &error);
    QE_TRY(opencl_check(error, portable_kernel[which].name));
    qe_status status = check_needs(device, made, portable_kernel[which].name, &queue->items_most[which]);
    if (status != QE_OK) {
      clReleaseKernel(made);
      return status;
    }
    queue->kernel[which] = made;
  }
  *kernel = queue->kernel[which];
  return QE_OK;
}
