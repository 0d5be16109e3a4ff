/* What the libraries' parts share: plans, opening and closing. */
#include "backends/cuda/library.h"

#include "core/base/alloc.h"
#include "core/dispatch/dispatch.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- plans ---- */

static void set_key(int32_t key[CUDA_PLAN_KEY], const qe_call *call) {
  const qe_window *window = &call->attrs.window;
  const int32_t of_window[] = {window->kernel[0],   window->kernel[1],   window->stride[0], window->stride[1],
                               window->dilation[0], window->dilation[1], window->pad[0],    window->pad[1],
                               window->pad[2],      window->pad[3],      window->groups};
  int at = 0;
  memset(key, 0, CUDA_PLAN_KEY * sizeof *key);
  key[at++] = (int32_t)call->op;
  for (int i = 0; i < 3; i++)
    for (int axis = QE_N; axis <= QE_C; axis++) key[at++] = call->operand[i].desc.dim[axis];
  memcpy(&key[at], of_window, sizeof of_window);
}

cuda_plan *cuda_plan_find(cuda_device *device, cuda_plan **list, const qe_call *call,
                          cuda_plan *(*make)(cuda_device *device, const qe_call *call)) {
  int32_t key[CUDA_PLAN_KEY];
  set_key(key, call);
  (void)pthread_mutex_lock(&device->lock);
  cuda_plan *plan = *list;
  while (plan && memcmp(plan->key, key, sizeof key) != 0) plan = plan->next;
  if (!plan && (plan = make(device, call))) {
    memcpy(plan->key, key, sizeof key);
    plan->next = *list;
    *list = plan;
  }
  (void)pthread_mutex_unlock(&device->lock);
  return plan;
}

bool cuda_is_aligned(const qe_call *call) {
  for (int i = 0; i < call->operands; i++)
    if (call->operand[i].offset % CUDA_ALIGNED) return false; /* buffers start at multiples of 256 */
  return true;
}

/* ---- the libraries ---- */

void *cuda_library_load(const char *variable, const char *usual) {
  const char *chosen = getenv(variable);
  if (chosen && chosen[0]) return dlopen(chosen, RTLD_NOW | RTLD_LOCAL);
  return cuda_driver_is_real() ? dlopen(usual, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static const cuda_library *const libraries[] = {
#if HAS_CUDNN
    &cuda_cudnn,
#endif
#if HAS_CUBLASLT
    &cuda_cublas,
#endif
    NULL};

void cuda_libraries_describe(char *text, size_t bytes) {
  size_t used = 0;
  if (bytes) text[0] = 0;
  for (const cuda_library *const *library = libraries; *library && used < bytes; library++) {
    int version = (*library)->version();
    used += (size_t)(version ? snprintf(text + used, bytes - used, ", %s %d.%d.%d", (*library)->name, version / 10000,
                                        version / 100 % 100, version % 100)
                             : snprintf(text + used, bytes - used, ", no %s", (*library)->name));
  }
}

qe_status cuda_libraries_open(cuda_device *device) {
  for (const cuda_library *const *library = libraries; *library; library++)
    if ((*library)->version() && (*library)->open(device) == QE_NO_MEMORY) return QE_NO_MEMORY;
  const char *name = qe_precision_name(device->precision);
  if (device->precision == QE_FP32) return QE_OK;
  if (device->capability < CUDA_OLDEST_TENSOR_FLOAT)
    return qe_fail(QE_DEVICE, "precision %s needs compute capability %d.%d; %s has less", name,
                   CUDA_OLDEST_TENSOR_FLOAT / 10, CUDA_OLDEST_TENSOR_FLOAT % 10, device->portable.base.name);
  if (device->cudnn) return QE_OK;
  return qe_fail(QE_DEVICE,
                 "precision %s needs cuDNN 9: it is not there or does not start (qevo-gpu devices says which)", name);
}

void cuda_libraries_close(cuda_device *device) {
  for (const cuda_library *const *library = libraries; *library; library++) (*library)->close(device);
}

void cuda_libraries_leave(cuda_queue *queue) {
  for (const cuda_library *const *library = libraries; *library; library++)
    if ((*library)->leave) (*library)->leave(queue);
}
