/* What devices can do at most, for the benches: of the processor what peak.c measures, of others what they measure
 * themselves. */
#include "tools/bench.h"
#include "tools/peak.h"

static qe_status measure_host(int threads, qe_limit limit, double *rate, const char **how) {
  if (limit == QE_LIMIT_CODE_MACS) return qe_peak_code_macs(threads, rate, how);
  *how = limit == QE_LIMIT_FLOAT_MACS ? qe_peak_isa() : "copy";
  return limit == QE_LIMIT_FLOAT_MACS ? qe_peak_macs(threads, rate) : qe_peak_bytes(threads, rate);
}

/* QE_REFUSED: the device is the processor. */
static qe_status measure_device(qe_device *device, qe_limit limit, double *rate) {
  qe_queue *queue = NULL;
  if (device->host_memory || !device->table->measure) return QE_REFUSED;
  QE_TRY(qe_queue_new(device, &queue));
  qe_status status = device->table->measure(queue, limit, rate);
  qe_queue_free(queue);
  return status;
}

qe_status qe_bench_limits_sample(const qe_bench_devices *devices, qe_limit limit, qe_bench_limits *limits) {
  if (limits->samples == QE_BENCH_REPEATS) return QE_OK;
  double host = 0; /* the processor is measured once, whatever number of devices it is */
  const char *how = "";
  for (int i = 0; i < devices->count; i++) {
    double *rate = &limits->sample[i][limits->samples];
    qe_status status = measure_device(devices->device[i], limit, rate);
    limits->how[i] = limit == QE_LIMIT_BYTES ? "copy" : "from registers";
    if (status == QE_OK) continue;
    if (status != QE_REFUSED) {
      fprintf(stderr, "%s: its limits cannot be measured: %s\n", devices->device[i]->backend->name, qe_message());
      continue;
    }
    if (host == 0) QE_TRY(measure_host(devices->threads, limit, &host, &how));
    *rate = host;
    limits->how[i] = how;
  }
  limits->samples++;
  return QE_OK;
}

double qe_bench_limit(const qe_bench_limits *limits, int device) {
  return qe_bench_median(limits->sample[device], limits->samples);
}

void qe_bench_limits_print(const qe_bench_devices *devices, const qe_bench_limits *limits, const char *unit) {
  for (int i = 0; i < devices->count; i++)
    fprintf(stderr, "%s: measured here: %.1f %s (%s)\n", devices->device[i]->backend->name,
            1e-9 * qe_bench_limit(limits, i), unit, limits->how[i]);
}
