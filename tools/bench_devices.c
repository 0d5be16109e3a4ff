/* The devices that a bench measures, and the rows it hands back. */
#include "core/base/alloc.h"
#include "tools/bench.h"
#include "tools/peak.h"

#include <string.h>

static const char all_word[] = "all";

bool qe_bench_is_slow(const qe_device *device) {
  return device->backend->preference == 0;
}

static qe_status add_device(qe_bench_devices *devices, const char *name, int number, const qe_open_options *open) {
  if (devices->count == QE_BENCH_BACKENDS)
    return qe_fail(QE_USAGE, "--backend: at most %d backends", QE_BENCH_BACKENDS);
  QE_TRY(qe_device_open(devices->registry, name, number, open, &devices->device[devices->count]));
  devices->count++;
  return QE_OK;
}

/* The usable backend that comes after `last` in order of preference, ref left out; -1: none. */
static int next_backend(const qe_registry *registry, int last) {
  int best = -1, after = last < 0 ? 0 : qe_registry_get(registry, last)->backend->preference;
  for (int i = 0; i < qe_registry_count(registry); i++) {
    const qe_backend_entry *entry = qe_registry_get(registry, i);
    if (!entry->devices || entry->backend->preference == 0) continue;
    int preference = entry->backend->preference;
    bool later = preference > after || (preference == after && i > last);
    if (later && (best < 0 || preference < qe_registry_get(registry, best)->backend->preference)) best = i;
  }
  return best;
}

/* Those whose memory is the host's first, which makes the processor what ratios are of. */
static void host_first(qe_bench_devices *devices) {
  for (int i = 1; i < devices->count; i++)
    for (int k = i; k > 0 && devices->device[k]->host_memory && !devices->device[k - 1]->host_memory; k--) {
      qe_device *swapped = devices->device[k];
      devices->device[k] = devices->device[k - 1];
      devices->device[k - 1] = swapped;
    }
}

/* Every usable backend but ref; that one when there is no other. */
static qe_status open_usable(qe_bench_devices *devices, const qe_open_options *open) {
  for (int i = next_backend(devices->registry, -1); i >= 0; i = next_backend(devices->registry, i)) {
    const char *name = qe_registry_get(devices->registry, i)->name;
    qe_status status = add_device(devices, name, 0, open);
    if (status == QE_USAGE) return status;
    if (status != QE_OK) fprintf(stderr, "%s: skipped: %s\n", name, qe_message());
  }
  host_first(devices);
  return devices->count ? QE_OK : add_device(devices, "ref", 0, open);
}

static qe_status open_named(qe_bench_devices *devices, const char *list, const char *device,
                            const qe_open_options *open) {
  while (*list) {
    char name[64];
    size_t length = strcspn(list, ",");
    snprintf(name, sizeof name, "%.*s", (int)length, list);
    int number;
    QE_TRY(qe_device_find(devices->registry, name, device, &number));
    QE_TRY(add_device(devices, name, number, open));
    list += length + (list[length] == ',');
  }
  return QE_OK;
}

static void choose_helper(qe_bench_devices *devices, const qe_open_options *open) {
  static const char name[] = "cpu";
  for (int i = 0; i < devices->count; i++)
    if (strcmp(devices->device[i]->backend->name, name) == 0) devices->helper = devices->device[i];
  if (devices->helper) return;
  devices->own_helper = qe_device_open(devices->registry, name, 0, open, &devices->helper) == QE_OK;
  if (!devices->own_helper) devices->helper = devices->device[0];
}

static qe_status open_all(const qe_options *options, qe_bench_devices *devices) {
  const char *list = qe_option_text(options, "backend");
  qe_open_options plain = {.threads = (int)qe_option_int(options, "threads")}, open = plain;
  open.precision = qe_precision_find(qe_option_text(options, "precision"));
  QE_TRY(qe_registry_open(&devices->registry));
  QE_TRY(strcmp(list, all_word) == 0 ? open_usable(devices, &open)
                                     : open_named(devices, list, qe_option_text(options, "device"), &open));
  choose_helper(devices, &plain);
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
  if (devices->own_helper) qe_device_close(devices->helper);
  qe_device_close(devices->ref);
  qe_registry_close(devices->registry);
  memset(devices, 0, sizeof *devices);
}

qe_status qe_bench_print_skipped(const qe_options *options, FILE *file, const char *before) {
  qe_registry *registry = NULL;
  if (strcmp(qe_option_text(options, "backend"), all_word) != 0) return QE_OK;
  QE_TRY(qe_registry_open(&registry));
  for (int i = 0; i < qe_registry_count(registry); i++) {
    const qe_backend_entry *entry = qe_registry_get(registry, i);
    bool reference = entry->devices && entry->backend->preference == 0;
    if (!entry->devices || reference)
      fprintf(file, "%s%s: skipped: %s\n", before, entry->name,
              reference ? "what the others are compared with; name it to measure it" : entry->why);
  }
  qe_registry_close(registry);
  return QE_OK;
}

/* ---- rows ---- */

void qe_bench_name_device(const qe_device *device, qe_bench_row *row) {
  row->backend = device->backend->name;
  snprintf(row->device, sizeof row->device, "%s", device->name);
}

qe_status qe_bench_add_row(const qe_bench_row *row, qe_bench_row **rows, size_t *count) {
  qe_bench_row *more = qe_realloc(*rows, *count + 1, sizeof *more);
  if (!more) return QE_NO_MEMORY;
  *rows = more;
  more[(*count)++] = *row;
  return QE_OK;
}

bool qe_bench_wants_turn(const qe_options *options, const qe_bench_row *row) {
  static const double most_seconds = 15;
  if (row->failed) return false;
  bool given = qe_option_source(options, "repeat") != QE_FROM_DEFAULT;
  return given || row->samples == 0 || row->spent < most_seconds;
}

qe_status qe_bench_note_failure(qe_status status, qe_bench_row *row) {
  if (status != QE_DEVICE && status != QE_NO_MEMORY && status != QE_REFUSED && status != QE_SHAPE) return status;
  row->failed = true;
  row->parity = false;
  row->samples = 0;
  snprintf(row->error, sizeof row->error, "%s", qe_message()[0] ? qe_message() : qe_status_text(status));
  return QE_OK;
}
