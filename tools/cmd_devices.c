/* qevo-gpu devices: every backend and device, and why one cannot be used. */
#include "core/dispatch/dispatch.h"
#include "tools/command.h"

#include <string.h>

enum { DEVICE_TEXT = 256 };

/* One line of the table: a device of a backend, or a backend without one (index -1). */
typedef struct row {
  const qe_backend_entry *entry;
  int index;
  char device[DEVICE_TEXT]; /* "" when there is none */
} row;

static void print_json_row(const row *r, void *context) {
  qe_json *json = context;
  bool usable = r->index >= 0;
  qe_json_open_object(json, NULL);
  qe_json_text(json, "backend", r->entry->name);
  qe_json_text(json, "device", usable ? r->device : NULL);
  qe_json_bool(json, "usable", usable);
  qe_json_text(json, "why", usable ? "" : r->entry->why);
  qe_json_close(json);
}

static void print_table_row(const row *r, void *context) {
  (void)context;
  if (r->index >= 0)
    printf("%-8s  %6d  %-6s  %s\n", r->entry->name, r->index, "yes", r->device);
  else
    printf("%-8s  %6s  %-6s  %s\n", r->entry->name, "-", "no", r->entry->why);
}

static void each_row(const qe_registry *registry, void (*visit)(const row *, void *), void *context) {
  for (int i = 0; i < qe_registry_count(registry); i++) {
    row r = {.entry = qe_registry_get(registry, i), .index = -1};
    if (r.entry->devices == 0) visit(&r, context);
    for (r.index = 0; r.index < r.entry->devices; r.index++) {
      r.entry->backend->describe(r.index, r.device, sizeof r.device);
      visit(&r, context);
    }
  }
}

qe_status qe_cmd_devices(qe_options *options) {
  qe_registry *registry;
  qe_status status = QE_OK;
  QE_TRY(qe_registry_open(&registry));
  if (qe_option_flag(options, "json")) {
    qe_json json = {0};
    qe_json_open_array(&json, NULL);
    each_row(registry, print_json_row, &json);
    qe_json_close(&json);
    status = qe_print_json(&json);
  } else {
    printf("%-8s  %6s  %-6s  %s\n", "backend", "device", "usable", "name, or why not");
    each_row(registry, print_table_row, NULL);
  }
  if (qe_registry_count(registry) == 1)
    fprintf(stderr, "note: no backend is in %s, as libqevo-cpu.so would be; $QEVO_BACKEND_DIR names another folder\n",
            qe_registry_folder(registry));
  qe_registry_close(registry);
  return status;
}
