/* The backend `cpu`: host memory, a synchronous queue, vectorised kernels and oneDNN. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "backends/cpu/network.h"
#include "backends/cpu/parallel.h"
#include "core/base/alloc.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

typedef struct cpu_buffer {
  qe_buffer base;
  void *memory; /* what was allocated; base.data lies in it */
} cpu_buffer;

static void cpu_close(qe_device *base) {
  cpu_device *device = (cpu_device *)base;
  if (device->engine) dnnl_engine_destroy(device->engine);
  cpu_pool_close(device->pool);
  qe_free(device);
}

void *cpu_large_alloc(size_t bytes, void **memory) {
  bool huge = bytes >= 2 * (size_t)HUGE_PAGE;
  *memory = bytes > SIZE_MAX - HUGE_PAGE ? qe_alloc(SIZE_MAX) : qe_alloc(bytes + (huge ? HUGE_PAGE : 0));
  char *data = *memory;
  if (data && huge) {
    data += (HUGE_PAGE - (uintptr_t)data % HUGE_PAGE) % HUGE_PAGE;
    (void)madvise(data, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* advice: without it all works, slower */
  }
  return data;
}

static qe_status cpu_buffer_new(qe_device *device, size_t bytes, qe_buffer **out) {
  cpu_buffer *buffer = QE_NEW(cpu_buffer);
  if (!buffer) return QE_NO_MEMORY;
  buffer->base.device = device;
  buffer->base.bytes = bytes;
  char *data = cpu_large_alloc(bytes, &buffer->memory);
  if (!data) {
    qe_free(buffer);
    return qe_fail_within(QE_NO_MEMORY, "a buffer of %zu MiB", bytes >> 20);
  }
  memset(data, 0, bytes);
  buffer->base.data = data;
  *out = &buffer->base;
  return QE_OK;
}

static void cpu_buffer_free(qe_buffer *base) {
  cpu_buffer *buffer = (cpu_buffer *)base;
  qe_free(buffer->memory);
  qe_free(buffer);
}

static void cpu_queue_free(qe_queue *base) {
  cpu_queue *queue = (cpu_queue *)base;
  if (queue->stream) dnnl_stream_destroy(queue->stream);
  qe_free(queue->scratch);
  qe_free(queue);
}

static qe_status cpu_queue_new(qe_device *device, qe_queue **out) {
  cpu_queue *queue = QE_NEW(cpu_queue);
  if (!queue) return QE_NO_MEMORY;
  queue->base.device = device;
  if (dnnl_stream_create(&queue->stream, ((cpu_device *)device)->engine, dnnl_stream_default_flags) != dnnl_success) {
    cpu_queue_free(&queue->base);
    return qe_fail(QE_DEVICE, "oneDNN makes no stream");
  }
  *out = &queue->base;
  return QE_OK;
}

qe_status cpu_queue_scratch(cpu_queue *queue, size_t bytes, void **scratch) {
  if (bytes > queue->scratch_bytes) {
    void *larger = qe_alloc(bytes);
    if (!larger) return QE_NO_MEMORY;
    qe_free(queue->scratch);
    queue->scratch = larger;
    queue->scratch_bytes = bytes;
  }
  *scratch = queue->scratch;
  return QE_OK;
}

static qe_status cpu_write(qe_queue *queue, qe_buffer *buffer, size_t offset, const void *source, size_t bytes) {
  (void)queue;
  memcpy((char *)buffer->data + offset, source, bytes);
  return QE_OK;
}

static qe_status cpu_read(qe_queue *queue, qe_buffer *buffer, size_t offset, void *target, size_t bytes) {
  (void)queue;
  memcpy(target, (const char *)buffer->data + offset, bytes);
  return QE_OK;
}

static qe_status cpu_wait(qe_queue *queue) {
  (void)queue;
  return QE_OK;
}

static const qe_fusion *const *cpu_fusions(const qe_device *device, int *count) {
  static const qe_fusion *const fusions[] = {&cpu_fusion_tiles};
  (void)device;
  *count = 1;
  return fusions;
}

static const qe_network_engine *const *cpu_engines(const qe_device *device, int *count) {
  static const qe_network_engine *const engines[] = {&cpu_network_engine};
  (void)device;
  *count = 1;
  return engines;
}

static const qe_device_table table = {
    .close = cpu_close,
    .buffer_new = cpu_buffer_new,
    .buffer_free = cpu_buffer_free,
    .queue_new = cpu_queue_new,
    .queue_free = cpu_queue_free,
    .write = cpu_write,
    .read = cpu_read,
    .wait = cpu_wait,
    .impls = cpu_impls,
    .fusions = cpu_fusions,
    .engines = cpu_engines,
};

static int usable_cores(void) {
  cpu_set_t set;
  int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return cores < 1 ? 1 : cores > CPU_MAX_THREADS ? CPU_MAX_THREADS : cores;
}

static int cpu_count(char *why, size_t bytes) {
  return cpu_choose_kernels(why, bytes) ? 1 : 0;
}

static void cpu_describe(int index, char *text, size_t bytes) {
  (void)index;
  char why[160], model[64];
  const cpu_kernels *kernels = cpu_choose_kernels(why, sizeof why);
  const dnnl_version_t *version = dnnl_version();
  cpu_model_name(model, sizeof model);
  snprintf(text, bytes, "%s, %s kernels, %d threads, oneDNN %d.%d.%d", model, kernels ? kernels->name : "no",
           usable_cores(), version->major, version->minor, version->patch);
}

static qe_status cpu_open(int index, const qe_open_options *options, qe_device **out);

static const qe_backend backend = {
    .api = QE_BACKEND_API,
    .name = "cpu",
    .summary = "this machine's processor: oneDNN and vectorised kernels",
    .preference = 10,
    .precisions = 1u << QE_BF16,
    .count = cpu_count,
    .describe = cpu_describe,
    .open = cpu_open,
};

/* oneDNN computes in bf16 on other processors, too, and is slower then than in f32. */
static bool has_bf16(void) {
  dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  return (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

static qe_status fill_device(cpu_device *device, const qe_open_options *options) {
  char why[160], model[64];
  int threads = options ? options->threads : 0;
  if (threads < 0 || threads > CPU_MAX_THREADS)
    return qe_fail(QE_USAGE, "%d threads asked for: must be 0 (all cores) to %d", threads, CPU_MAX_THREADS);
  device->precision = options ? options->precision : QE_FP32;
  if (device->precision == QE_BF16 && !has_bf16())
    return qe_fail(QE_DEVICE, "precision bf16 needs a processor with AVX512_BF16; use --precision fp32");
  device->threads = threads ? threads : usable_cores();
  device->kernels = cpu_choose_kernels(why, sizeof why);
  if (!device->kernels) return qe_fail(QE_DEVICE, "%s", why);
  if (dnnl_engine_create(&device->engine, dnnl_cpu, 0) != dnnl_success)
    return qe_fail(QE_DEVICE, "oneDNN makes no engine for this processor");
  QE_TRY(cpu_pool_open(device->threads, &device->pool));
  const dnnl_version_t *version = dnnl_version();
  cpu_model_name(model, sizeof model);
  snprintf(device->base.name, sizeof device->base.name, "%s, %s kernels, %d threads, oneDNN %d.%d.%d", model,
           device->kernels->name, device->threads, version->major, version->minor, version->patch);
  return QE_OK;
}

static qe_status cpu_open(int index, const qe_open_options *options, qe_device **out) {
  cpu_device *device = QE_NEW(cpu_device);
  if (!device) return QE_NO_MEMORY;
  device->base.table = &table;
  device->base.backend = &backend;
  device->base.index = index;
  device->base.host_memory = true;
  qe_status status = fill_device(device, options);
  if (status != QE_OK) {
    cpu_close(&device->base);
    return status;
  }
  *out = &device->base;
  return QE_OK;
}

__attribute__((visibility("default"))) const qe_backend *qe_backend_entry(void);

const qe_backend *qe_backend_entry(void) {
  return &backend;
}
