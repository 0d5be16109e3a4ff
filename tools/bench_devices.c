/* The devices that a bench measures, and the rows it hands back. */
#include "core/base/alloc.h"
#include "tools/bench.h"
#include "tools/peak.h"

#include <string.h>

static qe_status open_all(const qe_options *options, qe_bench_devices *devices) {
  const char *list = qe_option_text(options, "backend");
  int number;
  qe_open_options plain = {.threads = (int)qe_option_int(options, "threads")}, open = plain;
  open.precision = qe_precision_find(qe_option_text(options, "precision"));
  QE_TRY(qe_registry_open(&devices->registry));
  while (*list) {
    char name[64];
    size_t length = strcspn(list, ",");
    if (devices->count == QE_BENCH_BACKENDS)
      return qe_fail(QE_USAGE, "--backend: at most %d backends", QE_BENCH_BACKENDS);
    snprintf(name, sizeof name, "%.*s", (int)length, list);
    QE_TRY(qe_device_find(devices->registry, name, qe_option_text(options, "device"), &number));
    QE_TRY(qe_device_open(devices->registry, name, number, &open, &devices->device[devices->count]));
    devices->count++;
    list += length + (list[length] == ',');
  }
  return qe_device_open(devices->registry, "ref", 0, &plain, &devices->ref);
}

qe_status qe_bench_devices_open(const qe_options *options, qe_bench_devices *devices) {
  memset(devices, 0, sizeof *devices);
  devices->threads = (int)qe_option_int(options, "threads");
  if (devices->threads == 0) devices->threads = qe_peak_threads();
  qe_status status = open_all(options, devices);
  if (status != QE_OK) qe_bench_devices_close(devices);
  return status;
}

void qe_bench_devices_close(qe_bench_devices *devices) {
  for (int i = 0; i < devices->count; i++) qe_device_close(devices->device[i]);
  qe_device_close(devices->ref);
  qe_registry_close(devices->registry);
  memset(devices, 0, sizeof *devices);
}

qe_status qe_bench_add_row(const qe_bench_row *row, qe_bench_row **rows, size_t *count) {
  qe_bench_row *more = qe_realloc(*rows, *count + 1, sizeof *more);
  if (!more) return QE_NO_MEMORY;
  *rows = more;
  more[(*count)++] = *row;
  return QE_OK;
}
