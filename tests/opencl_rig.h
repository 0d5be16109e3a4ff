/* What the tests of the backend opencl share: its devices, an op to run on them, and how often kernels were built. */
#ifndef QE_TESTS_OPENCL_RIG_H
#define QE_TESTS_OPENCL_RIG_H

#include "core/base/notice.h"
#include "tests/fixture.h"

static qe_registry *opencl_registry;
static int opencl_builds; /* devices that have said that they build kernels from their sources */

static inline void opencl_noticed(const char *text) {
  if (strstr(text, "opencl: building kernels")) opencl_builds++;
}

static inline int opencl_setup(void **state) {
  (void)state;
  unsetenv("QEVO_OPENCL_LIMITS");
  setenv("QEVO_CACHE_DIR", QE_BINARY_DIR "/cache", 1);
  qe_notice_set(opencl_noticed);
  return qe_registry_open(&opencl_registry) == QE_OK ? 0 : -1;
}

static inline int opencl_teardown(void **state) {
  (void)state;
  qe_notice_set(NULL);
  qe_registry_close(opencl_registry);
  return 0;
}

/* NULL when it is not usable here. */
static inline const qe_backend *opencl_found(void) {
  for (int i = 0; i < qe_registry_count(opencl_registry); i++) {
    const qe_backend_entry *entry = qe_registry_get(opencl_registry, i);
    if (strcmp(entry->name, "opencl") == 0 && entry->devices > 0) return entry->backend;
  }
  return NULL;
}

/* In a test: skips it when there is none. */
static inline const qe_backend *opencl_backend(void) {
  if (!opencl_found()) skip();
  return opencl_found();
}

/* With `limits` as QEVO_OPENCL_LIMITS (NULL: none). */
static inline qe_status opencl_open(const char *limits, qe_device **device) {
  static const qe_open_options options;
  const qe_backend *backend = opencl_backend();
  if (limits) setenv("QEVO_OPENCL_LIMITS", limits, 1);
  qe_status status = backend->open(0, &options, device);
  unsetenv("QEVO_OPENCL_LIMITS");
  return status;
}

enum { CONCAT_COUNT = 1000 };

/* The op `concat` on drawn values, on a queue of its own; *right is false when the result is wrong. One whose kernel is
 * small: drivers take long over large ones, and these tests build often. */
static inline qe_status opencl_concat(qe_device *device, uint64_t seed, bool *right) {
  static const size_t bytes = CONCAT_COUNT * sizeof(float);
  float in[2 * CONCAT_COUNT], out[2 * CONCAT_COUNT];
  draws from = {.seed = seed};
  qe_call call = {.op = qe_op_find("concat"), .operands = 3, .attrs.other = CONCAT_COUNT};
  qe_queue *queue = NULL;
  qe_buffer *buffer[3] = {0};
  qe_bound_call bound;
  qe_status status = qe_queue_new(device, &queue);
  if (status != QE_OK) return status;
  draw_reals(&from, in, 2 * CONCAT_COUNT, -1, 1);
  for (int i = 0; i < 3; i++) {
    int32_t count = i < 2 ? CONCAT_COUNT : 2 * CONCAT_COUNT;
    QE_TRY_DONE(qe_buffer_new(device, (size_t)count * sizeof(float), &buffer[i]));
    qe_operand_set(&call.operand[i], qe_map(QE_F32, 1, 1, 1, count), buffer[i], 0);
    if (i < 2) QE_TRY_DONE(qe_queue_write(queue, buffer[i], 0, in + i * CONCAT_COUNT, bytes));
  }
  QE_TRY_DONE(qe_call_bind(device, &call, NULL, &bound));
  status = qe_call_run(queue, &call, &bound);
  qe_call_release(&bound);
  if (status == QE_OK) QE_TRY_DONE(qe_queue_read(queue, buffer[2], 0, out, 2 * bytes));
  if (status == QE_OK) status = qe_queue_wait(queue);
  *right = status == QE_OK;
  for (int i = 0; status == QE_OK && i < 2 * CONCAT_COUNT; i++) *right = *right && out[i] == in[i];
done:
  for (int i = 0; i < 3; i++) qe_buffer_free(buffer[i]);
  qe_queue_free(queue);
  return status;
}

#endif
