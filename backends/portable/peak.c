/* What a device can do at most, measured by kernels_cl/peak.cl: `measure` of the device table of backends on portable
 * kernels. */
#include "backends/portable/portable.h"
#include "core/dispatch/dispatch.h"

#include <time.h>

enum {
  CHAINS = 8, /* of a work-item, in the kernels */
  BYTES_A_WORD = 4,
  WORDS_AT_ONCE = 4, /* that a work-item copies */
  ROUNDS = 2048,
  REPEATS = 3,
  SEED = 0x35D1A7F3 /* any four bytes that are not 0 */
};
static const double long_enough = 0.05;             /* seconds of one measurement */
static const size_t copy_bytes = (size_t)256 << 20; /* beyond every cache, where the memory allows it */

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static qe_status time_launches(qe_queue *queue, const portable_launch *launch, int count, double *time) {
  double start = seconds();
  for (int i = 0; i < count; i++) QE_TRY(portable_run(queue, launch));
  QE_TRY(qe_queue_wait(queue));
  *time = seconds() - start;
  return QE_OK;
}

/* The best of a few measurements, each of as many launches as make it long enough; the first launch builds. */
static qe_status best_rate(qe_queue *queue, const portable_launch *launch, double units, double *per_second) {
  enum { MOST = 1 << 20 };
  double time = 0;
  int count = 1;
  QE_TRY(time_launches(queue, launch, 1, &time));
  QE_TRY(time_launches(queue, launch, count, &time));
  while (time < long_enough && count < MOST) {
    count *= 2;
    QE_TRY(time_launches(queue, launch, count, &time));
  }
  *per_second = 0;
  for (int i = 0; i < REPEATS; i++) {
    QE_TRY(time_launches(queue, launch, count, &time));
    double rate = time > 0 ? units * count / time : 0;
    if (rate > *per_second) *per_second = rate;
  }
  return QE_OK;
}

static qe_status arithmetic(qe_queue *queue, qk_kernel kernel, int macs, double *per_second) {
  qe_buffer *out = NULL;
  qk_params_peak params = {.rounds = ROUNDS, .seed = kernel == QK_qk_peak_float ? 1 : SEED};
  portable_launch launch = {.kernel = kernel, .operands = 1, .params = &params, .params_bytes = sizeof params};
  portable_flat(queue->device, &launch, INT64_MAX / 2);
  size_t items = launch.groups[0] * launch.local[0];
  QE_TRY(qe_buffer_new(queue->device, items * BYTES_A_WORD, &out));
  launch.operand[0] = (portable_operand){out, 0};
  qe_status status = best_rate(queue, &launch, (double)items * ROUNDS * CHAINS * macs, per_second);
  qe_buffer_free(out);
  return status;
}

/* Bytes of each side of the copy: a multiple of what the work-items copy at once. */
static size_t side_bytes(const portable_limits *limits, size_t at_once) {
  size_t bytes = limits->memory_bytes / 8 < copy_bytes ? limits->memory_bytes / 8 : copy_bytes;
  if (limits->allocation_most && bytes > limits->allocation_most) bytes = limits->allocation_most;
  return bytes < at_once ? at_once : bytes / at_once * at_once;
}

static qe_status copy(qe_queue *queue, double *per_second) {
  const portable_limits *limits = &portable_device_of(queue)->limits;
  qe_buffer *source = NULL, *target = NULL;
  qk_params_peak params = {0};
  portable_launch launch = {.kernel = QK_qk_peak_copy, .operands = 2, .params = &params, .params_bytes = sizeof params};
  portable_flat(queue->device, &launch, INT64_MAX / 2);
  size_t bytes = side_bytes(limits, launch.groups[0] * launch.local[0] * WORDS_AT_ONCE * BYTES_A_WORD);
  params.count = (qk_long)(bytes / BYTES_A_WORD);
  qe_status status = qe_buffer_new(queue->device, bytes, &source);
  if (status == QE_OK) status = qe_buffer_new(queue->device, bytes, &target);
  if (status == QE_OK) {
    launch.operand[0] = (portable_operand){source, 0};
    launch.operand[1] = (portable_operand){target, 0};
    status = best_rate(queue, &launch, 2.0 * (double)bytes, per_second);
  }
  qe_buffer_free(source);
  qe_buffer_free(target);
  return status;
}

qe_status portable_measure(qe_queue *queue, qe_limit limit, double *per_second) {
  if (portable_device_of(queue)->limits.processor) return qe_fail(QE_REFUSED, "the device is the host's processor");
  if (limit == QE_LIMIT_BYTES) return copy(queue, per_second);
  if (limit == QE_LIMIT_FLOAT_MACS) return arithmetic(queue, QK_qk_peak_float, 1, per_second);
  const portable_driver *driver = portable_device_of(queue)->driver;
  qk_kernel kernel = QK_qk_peak_codes;
  int macs = driver->code_peak ? driver->code_peak(queue->device, &kernel) : 0;
  return arithmetic(queue, kernel, macs ? macs : 4, per_second);
}
