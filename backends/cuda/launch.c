/* Modules, functions and launches. A file's module is loaded at the first launch of one of its kernels. */
#include "backends/cuda/cuda.h"

#include <string.h>

static const portable_kernel_info cuda_only[CUDA_KERNELS - QK_KERNELS + 1] = {
#define CUDA_KERNEL(file, name) {#file, #name},
#include "kernels_cu/kernels.def"
#undef CUDA_KERNEL
    {NULL, NULL}};

static const portable_kernel_info *info_of(cuda_kernel kernel) {
  return (int)kernel < QK_KERNELS ? &portable_kernel[kernel] : &cuda_only[(int)kernel - QK_KERNELS];
}

/* ---- modules and functions ---- */

static qe_status load_module(const cuda_device *device, const char *file, CUmodule *module) {
  const cuda_image *image = cuda_images;
  while (image->name && strcmp(image->name, file) != 0) image++;
  if (!image->name) return qe_fail(QE_DEVICE, "this build has no device code for the kernels of %s", file);
  CUresult error = cuda.cuModuleLoadData(module, image->data);
  if (error != CUDA_ERROR_NO_BINARY_FOR_GPU && error != CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
    return cuda_check(error, file);
  return qe_fail(QE_DEVICE,
                 "this build has no device code that %s and its driver take; configure it with "
                 "-DQEVO_CUDA_ARCHITECTURES=%d, or update the driver",
                 device->portable.base.name, device->capability);
}

static qe_status get_module(cuda_device *device, cuda_kernel kernel, CUmodule *module) {
  const char *file = info_of(kernel)->file;
  for (int k = 0; k < CUDA_KERNELS; k++)
    if (device->module[k] && strcmp(info_of((cuda_kernel)k)->file, file) == 0) {
      *module = device->module[k];
      return QE_OK;
    }
  QE_TRY(load_module(device, file, &device->module[kernel]));
  *module = device->module[kernel];
  return QE_OK;
}

static qe_status load_function(cuda_device *device, cuda_kernel kernel) {
  CUmodule module;
  CUfunction function;
  if (device->function[kernel]) return QE_OK;
  QE_TRY(get_module(device, kernel, &module));
  const char *name = info_of(kernel)->name;
  QE_TRY(cuda_check(cuda.cuModuleGetFunction(&function, module, name), name));
  device->function[kernel] = function;
  return QE_OK;
}

static qe_status allow_shared(cuda_device *device, cuda_kernel kernel, size_t bytes) {
  int fixed = 0;
  CUfunction function = device->function[kernel];
  if (bytes <= device->dynamic_shared[kernel]) return QE_OK;
  QE_TRY(
      cuda_check(cuda.cuFuncGetAttribute(&fixed, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function), "cuFuncGetAttribute"));
  if (bytes + (size_t)fixed > device->shared_most)
    return qe_fail(QE_DEVICE, "%s wants %zu bytes of shared memory; %s has %zu", info_of(kernel)->name,
                   bytes + (size_t)fixed, device->portable.base.name, device->shared_most);
  QE_TRY(cuda_check(cuda.cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)bytes),
                    "cuFuncSetAttribute"));
  device->dynamic_shared[kernel] = bytes;
  return QE_OK;
}

/* The function, allowed as much dynamic shared memory. The context is current. */
static qe_status get_function(cuda_device *device, cuda_kernel kernel, size_t shared_bytes, CUfunction *function) {
  (void)pthread_mutex_lock(&device->lock);
  qe_status status = load_function(device, kernel);
  if (status == QE_OK) status = allow_shared(device, kernel, shared_bytes);
  if (status == QE_OK) *function = device->function[kernel];
  (void)pthread_mutex_unlock(&device->lock);
  return status;
}

void cuda_modules_free(cuda_device *device) {
  for (int k = 0; k < CUDA_KERNELS; k++)
    if (device->module[k]) (void)cuda.cuModuleUnload(device->module[k]);
}

/* ---- launches ---- */

static qe_status launch_function(qe_queue *base, cuda_kernel kernel, const uint32_t groups[3], const uint32_t local[3],
                                 size_t shared_bytes, void **arguments) {
  CUfunction function;
  cuda_device *device = cuda_device_of(base);
  QE_TRY(cuda_enter(device));
  QE_TRY(get_function(device, kernel, shared_bytes, &function));
  return cuda_check(cuda.cuLaunchKernel(function, groups[0], groups[1], groups[2], local[0], local[1], local[2],
                                        (unsigned)shared_bytes, ((cuda_queue *)base)->stream, arguments, NULL),
                    info_of(kernel)->name);
}

qe_status cuda_run(qe_queue *queue, const cuda_launch *launch) {
  void *arguments[CUDA_MAX_ARGUMENTS];
  memcpy(arguments, launch->argument, sizeof arguments); /* the driver only reads through them */
  return launch_function(queue, launch->kernel, launch->groups, launch->local, launch->shared_bytes, arguments);
}

static qe_status launch_portable(qe_queue *queue, const portable_launch *launch) {
  CUdeviceptr base[PORTABLE_MAX_OPERANDS];
  unsigned long offset[PORTABLE_MAX_OPERANDS]; /* `ulong` of the kernels */
  void *arguments[2 * PORTABLE_MAX_OPERANDS + 1];
  uint32_t groups[3], local[3];
  int count = 0;
  for (int i = 0; i < launch->operands; i++) {
    base[i] = cuda_address(launch->operand[i].buffer, 0);
    offset[i] = launch->operand[i].offset;
    arguments[count++] = &base[i];
    arguments[count++] = &offset[i];
  }
  memcpy(&arguments[count], &launch->params, sizeof launch->params);
  for (int i = 0; i < 3; i++) {
    if (launch->groups[i] > (i ? 65535 : INT32_MAX))
      return qe_fail(QE_SHAPE, "%s: %zu work-groups along axis %d", info_of((cuda_kernel)(int)launch->kernel)->name,
                     launch->groups[i], i);
    groups[i] = (uint32_t)launch->groups[i];
    local[i] = (uint32_t)launch->local[i];
  }
  return launch_function(queue, (cuda_kernel)(int)launch->kernel, groups, local, launch->shared_bytes, arguments);
}

const portable_driver cuda_portable_driver = {
    .launch = launch_portable, .variants = cuda_net_variants, .code_peak = cuda_code_peak};

qe_status cuda_occupancy(cuda_device *device, cuda_kernel kernel, int local, size_t shared_bytes, int *groups) {
  CUfunction function;
  QE_TRY(cuda_enter(device));
  QE_TRY(get_function(device, kernel, shared_bytes, &function));
  return cuda_check(cuda.cuOccupancyMaxActiveBlocksPerMultiprocessor(groups, function, local, shared_bytes),
                    "cuOccupancyMaxActiveBlocksPerMultiprocessor");
}
