/* The registry: the built-in reference, and backends loaded from modules beside the library. */
#define _GNU_SOURCE /* dladdr, strcasestr */
#include "backends/ref/ref_backend.h"
#include "core/base/alloc.h"
#include "core/base/nearest.h"
#include "core/dispatch/dispatch.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qe_registry {
  qe_backend_entry *entry;
  size_t count, capacity;
  char *folder; /* of the modules */
};

static void entry_free(qe_backend_entry *entry) {
  if (!entry->backend) qe_free((void *)(uintptr_t)entry->name);
  qe_free((void *)(uintptr_t)entry->why);
}

/* Takes over `why`; `name` is copied only for modules that did not load. */
static qe_status add_entry(qe_registry *registry, const char *name, const qe_backend *backend, char *why) {
  qe_backend_entry entry = {.name = backend ? name : NULL, .backend = backend, .why = why};
  qe_status status = why ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK && !backend) {
    entry.name = qe_strdup(name);
    if (!entry.name) status = QE_NO_MEMORY;
  }
  if (status == QE_OK) status = qe_reserve(&registry->entry, &registry->capacity, registry->count + 1, sizeof entry);
  if (status != QE_OK) {
    entry_free(&entry);
    return status;
  }
  registry->entry[registry->count++] = entry;
  return QE_OK;
}

static qe_status add_backend(qe_registry *registry, const qe_backend *backend) {
  char why[512] = "";
  int devices = backend->count(why, sizeof why);
  QE_TRY(add_entry(registry, backend->name, backend, qe_strdup(devices > 0 ? "" : why)));
  registry->entry[registry->count - 1].devices = devices > 0 ? devices : 0;
  return QE_OK;
}

/* A module stays loaded to the end of the process: its code may be in use by threads of the libraries it brought. */
static qe_status add_module(qe_registry *registry, const char *name, const char *path) {
  void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!module) return add_entry(registry, name, NULL, qe_format("%s", dlerror()));
  void *symbol = dlsym(module, QE_BACKEND_ENTRY);
  qe_backend_entry_function function;
  memcpy(&function, &symbol, sizeof function);
  const qe_backend *backend = symbol ? function() : NULL;
  if (!backend) return add_entry(registry, name, NULL, qe_format("%s exports no %s", path, QE_BACKEND_ENTRY));
  if (backend->api != QE_BACKEND_API)
    return add_entry(registry, name, NULL,
                     qe_format("%s speaks interface %d, this library %d: build both from one source", path,
                               backend->api, QE_BACKEND_API));
  return add_backend(registry, backend);
}

/* "libqevo-NAME.so" -> NAME into name (size bytes); false for other files. */
static bool module_name(const char *file, char *name, size_t size) {
  static const char prefix[] = "libqevo-", suffix[] = ".so";
  size_t length = strlen(file), fixed = sizeof prefix - 1 + sizeof suffix - 1;
  if (length <= fixed || length - fixed >= size || strncmp(file, prefix, sizeof prefix - 1) != 0 ||
      strcmp(file + length - (sizeof suffix - 1), suffix) != 0)
    return false;
  snprintf(name, size, "%.*s", (int)(length - fixed), file + sizeof prefix - 1);
  return true;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static qe_status add_modules_of(qe_registry *registry, const char *folder) {
  struct dirent **file;
  int files = scandir(folder, &file, NULL, by_name);
  if (files < 0) return QE_OK; /* no folder, no modules */
  qe_status status = QE_OK;
  for (int i = 0; i < files; i++) {
    char name[64];
    if (status == QE_OK && module_name(file[i]->d_name, name, sizeof name)) {
      char *path = qe_format("%s/%s", folder, file[i]->d_name);
      status = path ? add_module(registry, name, path) : QE_NO_MEMORY;
      qe_free(path);
    }
    free(file[i]);
  }
  free(file);
  return status;
}

/* The folder `qevo` beside the shared library that holds this function. */
static char *default_folder(void) {
  Dl_info info;
  static const char here;
  if (!dladdr(&here, &info) || !info.dli_fname) return qe_strdup("qevo");
  const char *slash = strrchr(info.dli_fname, '/');
  int length = slash ? (int)(slash - info.dli_fname) : 0;
  return slash ? qe_format("%.*s/qevo", length, info.dli_fname) : qe_strdup("qevo");
}

qe_status qe_registry_open(qe_registry **out) {
  qe_registry *registry = QE_NEW(qe_registry);
  if (!registry) return QE_NO_MEMORY;
  const char *chosen = getenv("QEVO_BACKEND_DIR");
  qe_status status = add_backend(registry, qe_ref_backend());
  if (status == QE_OK) {
    registry->folder = chosen && chosen[0] ? qe_strdup(chosen) : default_folder();
    status = registry->folder ? add_modules_of(registry, registry->folder) : QE_NO_MEMORY;
  }
  if (status != QE_OK) {
    qe_registry_close(registry);
    return status;
  }
  *out = registry;
  return QE_OK;
}

void qe_registry_close(qe_registry *registry) {
  if (!registry) return;
  for (size_t i = 0; i < registry->count; i++) entry_free(&registry->entry[i]);
  qe_free(registry->entry);
  qe_free(registry->folder);
  qe_free(registry);
}

const char *qe_registry_folder(const qe_registry *registry) {
  return registry->folder;
}

int qe_registry_count(const qe_registry *registry) {
  return (int)registry->count;
}

const qe_backend_entry *qe_registry_get(const qe_registry *registry, int index) {
  return &registry->entry[index];
}

static const qe_backend_entry *most_preferred(const qe_registry *registry) {
  const qe_backend_entry *best = NULL;
  for (size_t i = 0; i < registry->count; i++) {
    const qe_backend_entry *entry = &registry->entry[i];
    if (entry->devices > 0 && (!best || entry->backend->preference > best->backend->preference)) best = entry;
  }
  return best;
}

/* Those that this project has. */
static bool is_module(const char *name) {
  static const char *const names[] = {"cpu", "cuda", "opencl"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(names[i], name) == 0) return true;
  return false;
}

static qe_status say_unknown(const qe_registry *registry, const char *name) {
  char list[512], hint[QE_NEAREST_TEXT];
  size_t used = 0;
  qe_nearest nearest = {.word = name};
  qe_nearest_offer(&nearest, "auto");
  for (size_t i = 0; i < registry->count && used < sizeof list; i++) {
    qe_nearest_offer(&nearest, registry->entry[i].name);
    used += (size_t)snprintf(list + used, sizeof list - used, ", %s", registry->entry[i].name);
  }
  if (is_module(name))
    return qe_fail(
        QE_NOT_FOUND,
        "no backend %s here: %s has no libqevo-%s.so; when a build is configured CMake says which backends it "
        "has, and what the others lack; there are auto%s",
        name, registry->folder, name, list);
  return qe_fail(QE_NOT_FOUND, "no backend is called '%s'; there are auto%s%s", name, list,
                 qe_nearest_hint(&nearest, "", hint));
}

const char *qe_precision_name(qe_precision precision) {
  static const char *const names[QE_PRECISIONS] = {"fp32", "tf32", "bf16"};
  return names[precision];
}

qe_precision qe_precision_find(const char *name) {
  int precision = 0;
  while (precision < QE_PRECISIONS && strcmp(qe_precision_name((qe_precision)precision), name) != 0) precision++;
  return (qe_precision)precision;
}

static qe_status check_precision(const qe_backend *backend, qe_precision precision) {
  if (precision == QE_FP32) return QE_OK;
  if (precision < QE_PRECISIONS && (backend->precisions >> precision & 1)) return QE_OK;
  return qe_fail(QE_USAGE, "backend %s computes in fp32 only, not in %s", backend->name,
                 precision < QE_PRECISIONS ? qe_precision_name(precision) : "an unknown precision");
}

/* The usable backend of that name; NULL, and *status says why, where there is none. */
static const qe_backend_entry *find_usable(const qe_registry *registry, const char *name, qe_status *status) {
  const qe_backend_entry *found = NULL;
  if (!name || strcmp(name, "auto") == 0) found = most_preferred(registry);
  for (size_t i = 0; !found && name && i < registry->count; i++)
    if (strcmp(registry->entry[i].name, name) == 0) found = &registry->entry[i];
  if (!found) {
    *status = say_unknown(registry, name ? name : "auto");
  } else if (found->devices == 0) {
    *status = qe_fail(QE_DEVICE, "backend %s is not usable here: %s; 'qevo-gpu devices' lists those that are",
                      found->name, found->why);
    found = NULL;
  }
  return found;
}

qe_status qe_device_open(const qe_registry *registry, const char *name, int index, const qe_open_options *options,
                         qe_device **device) {
  qe_status status = QE_OK;
  const qe_backend_entry *found = find_usable(registry, name, &status);
  if (!found) return status;
  if (index < 0 || index >= found->devices)
    return qe_fail(QE_NOT_FOUND, "backend %s has devices 0...%d, not %d", found->name, found->devices - 1, index);
  static const qe_open_options defaults;
  if (!options) options = &defaults;
  QE_TRY(check_precision(found->backend, options->precision));
  return found->backend->open(index, options, device);
}

qe_status qe_device_find(const qe_registry *registry, const char *name, const char *device, int *index) {
  enum { NUMBER_MOST = 1023, TEXT = 256 };
  char *end, text[TEXT];
  qe_status status = QE_OK;
  const qe_backend_entry *found = find_usable(registry, name, &status);
  if (!found) return status;
  long number = strtol(device, &end, 10);
  if (end != device && !*end && number >= 0 && number <= NUMBER_MOST) {
    *index = (int)number;
    return QE_OK;
  }
  for (int i = 0; i < found->devices && *device; i++) {
    found->backend->describe(i, text, sizeof text);
    if (!strcasestr(text, device)) continue;
    *index = i;
    return QE_OK;
  }
  found->backend->describe(0, text, sizeof text);
  return qe_fail(QE_NOT_FOUND, "no device of backend %s is called '%s'; device 0 of %d is %s", found->name, device,
                 found->devices, text);
}

void qe_device_close(qe_device *device) {
  if (device) device->table->close(device);
}
