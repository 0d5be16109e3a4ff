/* The tuner: tries the candidates of kernels_cl/tunables.def one number after the other, keeps the fastest, and stores
 * what it found beside the built programs as JSON, by device and driver. */
#include "backends/opencl/opencl.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/json_read.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LARGEST = 1 << 20, NAME = 96, LEAST_RUNS = 3, MOST_RUNS = 50 };
static const double enough_seconds = 0.2; /* of runs for one measurement */
#define WORTHWHILE 0.98                   /* less is taken for noise */

/* ---- the file ---- */

/* What the numbers hold for: also for lowered limits (QEVO_OPENCL_LIMITS) there are others. */
static char *make_subject(const opencl_device *device) {
  const portable_limits *limits = &device->portable.limits;
  char *identity = opencl_identity(device), *subject = NULL;
  if (identity)
    subject = qe_format("%soptions %s\ngroup %zu local %zu\n", identity, device->options, limits->group_most,
                        limits->local_bytes);
  qe_free(identity);
  return subject;
}

/* New text; NULL when there is no folder, or no memory. */
static char *make_path(const char *subject) {
  char *folder = opencl_cache_folder(), *path = NULL;
  if (folder)
    path = qe_format("%s/tuned-%016llx.json", folder,
                     (unsigned long long)qe_hash(QE_HASH_START, subject, strlen(subject)));
  qe_free(folder);
  return path;
}

static char *name_of(qk_tunable t, char name[NAME]) {
  snprintf(name, NAME, "%s.%s", portable_tunables[t].file, portable_tunables[t].macro);
  return name;
}

static bool is_candidate(qk_tunable t, int64_t value) {
  const int32_t *candidate = portable_tunables[t].candidate;
  for (int i = 0; i < PORTABLE_CANDIDATES && candidate[i]; i++)
    if (candidate[i] == value) return true;
  return false;
}

/* A number that is no candidate (of another version) is not taken. */
static void take(opencl_device *device, const cJSON *root, const char *subject) {
  const cJSON *of = cJSON_GetObjectItemCaseSensitive(root, "of");
  const cJSON *numbers = cJSON_GetObjectItemCaseSensitive(root, "numbers");
  if (!cJSON_IsString(of) || strcmp(of->valuestring, subject) != 0) return;
  for (qk_tunable t = 0; t < QK_TUNABLES; t++) {
    char name[NAME];
    int64_t value;
    if (qe_json_whole(cJSON_GetObjectItemCaseSensitive(numbers, name_of(t, name)), 1, INT32_MAX, &value) &&
        is_candidate(t, value))
      device->portable.tuned[t] = (int32_t)value;
  }
}

void opencl_tuned_load(opencl_device *device) {
  char *subject = make_subject(device), *path = subject ? make_path(subject) : NULL, *text = NULL;
  size_t bytes;
  if (path && qe_file_read(path, LARGEST, &text, &bytes) == QE_OK) {
    cJSON *root = qe_json_parse(text, bytes);
    take(device, root, subject);
    cJSON_Delete(root);
  }
  qe_free(text);
  qe_free(path);
  qe_free(subject);
}

static qe_status write_numbers(const opencl_device *device, const char *subject, const char *path) {
  qe_json json = {0};
  char *text, *folder;
  size_t bytes;
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "of", subject);
  qe_json_open_object(&json, "numbers");
  for (qk_tunable t = 0; t < QK_TUNABLES; t++) {
    char name[NAME];
    qe_json_int(&json, name_of(t, name), portable_tuned(&device->portable, t));
  }
  qe_json_close(&json);
  qe_json_close(&json);
  QE_TRY(qe_json_finish(&json, &text, &bytes));
  folder = qe_path_folder(path);
  qe_status status = folder ? qe_make_folders(folder) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_file_write(path, text, bytes);
  qe_free(folder);
  qe_free(text);
  return status;
}

/* Unlike built programs these cost much to make: that they cannot be stored is an error. */
static qe_status store(const opencl_device *device) {
  char *subject = make_subject(device);
  if (!subject) return QE_NO_MEMORY;
  qe_message_clear();
  char *path = make_path(subject);
  qe_status status = QE_NO_MEMORY;
  if (path)
    status = write_numbers(device, subject, path);
  else if (!*qe_message())
    status = qe_fail(QE_IO, "no folder to store what was found in: set HOME or QEVO_CACHE_DIR");
  qe_free(path);
  qe_free(subject);
  return status;
}

/* ---- measuring ---- */

static double monotonic_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The shortest of some runs, after one that builds what is not built yet. */
static qe_status measure_open(const qe_tuning *tuning, double *seconds) {
  double (*now)(void) = tuning->clock ? tuning->clock : monotonic_clock, total = 0;
  QE_TRY(tuning->run(tuning->context));
  for (int i = 0; i < MOST_RUNS && (i < LEAST_RUNS || total < enough_seconds); i++) {
    double start = now();
    QE_TRY(tuning->run(tuning->context));
    double taken = now() - start;
    if (i == 0 || taken < *seconds) *seconds = taken;
    total += taken;
  }
  return QE_OK;
}

static qe_status measure(const qe_tuning *tuning, double *seconds) {
  qe_status status = tuning->open(tuning->context);
  if (status == QE_OK) status = measure_open(tuning, seconds);
  tuning->close(tuning->context);
  return status;
}

static void set_number(opencl_device *device, qk_tunable t, int32_t value) {
  device->portable.tuned[t] = value;
  opencl_program_drop(device, portable_tunables[t].file);
}

/* Whether the present value is as fast when measured once more: the machine may have been busy the first time. */
static bool holds(opencl_device *device, const qe_tuning *tuning, qk_tunable t, int32_t present, double best_seconds) {
  double seconds;
  set_number(device, t, present);
  if (tuning->trying) {
    char name[NAME];
    tuning->trying(tuning->context, name_of(t, name), present);
  }
  return measure(tuning, &seconds) == QE_OK && best_seconds >= seconds * WORTHWHILE;
}

/* A candidate with which the work fails is none; with the present value it must not fail. */
static qe_status tune_one(opencl_device *device, const qe_tuning *tuning, qk_tunable t) {
  const portable_tunable *tunable = &portable_tunables[t];
  int32_t best = portable_tuned(&device->portable, t), present = best;
  double best_seconds = -1;
  char name[NAME];
  name_of(t, name);
  atomic_store(&device->portable.used[t], false);
  for (int i = -1; i < PORTABLE_CANDIDATES && (i < 0 || tunable->candidate[i]); i++) {
    int32_t value = i < 0 ? present : tunable->candidate[i];
    double seconds = -1;
    if (i >= 0 && value == present) continue;
    set_number(device, t, value);
    if (tuning->trying) tuning->trying(tuning->context, name, value);
    qe_status status = measure(tuning, &seconds);
    if (status == QE_INTERRUPTED || (status != QE_OK && i < 0)) {
      set_number(device, t, present);
      return status;
    }
    if (i < 0 && !atomic_load(&device->portable.used[t])) return QE_OK; /* the work does without it */
    if (status != QE_OK) seconds = -1;
    if (tuning->tried) tuning->tried(tuning->context, name, value, seconds);
    if (seconds >= 0 && (best_seconds < 0 || seconds < best_seconds * WORTHWHILE)) {
      best = value;
      best_seconds = seconds;
    }
  }
  if (best != present && holds(device, tuning, t, present, best_seconds)) best = present;
  set_number(device, t, best);
  return QE_OK;
}

qe_status opencl_tune(qe_device *base, const qe_tuning *tuning) {
  opencl_device *device = (opencl_device *)base;
  for (qk_tunable t = 0; t < QK_TUNABLES; t++) QE_TRY(tune_one(device, tuning, t));
  return store(device);
}
