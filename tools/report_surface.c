/* report surface RUN|MODEL…: which models it goes through, the evaluation, the files. */
#include "tools/report_surface.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/report/surface_view.h"
#include "tools/progress.h"
#include "tools/report_runs.h"

#include <dirent.h>
#include <fnmatch.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- models ---- */

typedef struct inputs {
  qe_surface_model *model;
  size_t models, capacity;
} inputs;

static void free_inputs(inputs *in) {
  for (size_t i = 0; i < in->models; i++) {
    qe_model_free((qe_model *)(uintptr_t)in->model[i].model);
    qe_free((char *)(uintptr_t)in->model[i].name);
  }
  qe_free(in->model);
}

/* The file's name without ".safetensors"; of several files called alike, with the folder. */
static char *name_of(const inputs *in, const char *path) {
  const char *base = qe_path_name(path);
  size_t length = strlen(base);
  const char end[] = ".safetensors";
  if (length > strlen(end) && strcmp(base + length - strlen(end), end) == 0) length -= strlen(end);
  char *name = qe_format("%.*s", (int)length, base);
  for (size_t i = 0; name && i < in->models; i++) {
    if (strcmp(in->model[i].name, name) != 0) continue;
    qe_free(name);
    return qe_strdup(path);
  }
  return name;
}

/* A model that is a mark only is left out, with a note, where it is of other bits. */
static qe_status add_file(inputs *in, const char *path, qe_surface_role role) {
  qe_model *model;
  QE_TRY(qe_reserve(&in->model, &in->capacity, in->models + 1, sizeof *in->model));
  QE_TRY(qe_model_read(path, &model, NULL));
  qe_surface_model made = {.name = name_of(in, path), .role = role, .model = model};
  qe_status status = made.name ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK && in->models > 0) status = qe_surface_alike(&in->model[0], &made);
  if (status == QE_OK) {
    in->model[in->models++] = made;
    return QE_OK;
  }
  qe_model_free(model);
  qe_free((char *)(uintptr_t)made.name);
  if (role == QE_ROLE_CORNER || status == QE_NO_MEMORY) return status;
  fprintf(stderr, "note: %s is not marked: %s\n", path, qe_message());
  return QE_OK;
}

/* A file of the run's folder, if it is there. */
static qe_status add_named(inputs *in, const char *folder, const char *file, qe_surface_role role, bool *added) {
  char *path = qe_path_join(folder, file);
  if (!path) return QE_NO_MEMORY;
  *added = qe_file_exists(path);
  qe_status status = *added ? add_file(in, path, role) : QE_OK;
  qe_free(path);
  return status;
}

static int is_capture(const struct dirent *entry) {
  return fnmatch("capture-*.safetensors", entry->d_name, 0) == 0;
}

static qe_status add_captures(inputs *in, const char *folder) {
  struct dirent **entry = NULL;
  int count = scandir(folder, &entry, is_capture, alphasort);
  if (count < 0) return qe_fail(QE_IO, "%s cannot be listed", folder);
  qe_status status = QE_OK;
  for (int i = 0; i < count; i++) {
    bool added;
    if (status == QE_OK) status = add_named(in, folder, entry[i]->d_name, QE_ROLE_CORNER, &added);
    free(entry[i]);
  }
  free(entry);
  return status;
}

/* The captures of a run, its average and its result; a run without captures is looked at around its result. */
static qe_status add_run(inputs *in, const char *folder) {
  bool best = false, added;
  QE_TRY(add_captures(in, folder));
  qe_surface_role result = in->models > 0 ? QE_ROLE_TUNED : QE_ROLE_CORNER;
  if (in->models > 0) QE_TRY(add_named(in, folder, "average.safetensors", QE_ROLE_AVERAGE, &added));
  if (in->models > 0) QE_TRY(add_named(in, folder, "ema.safetensors", QE_ROLE_MARK, &added));
  QE_TRY(add_named(in, folder, "best.safetensors", result, &best));
  if (!best) QE_TRY(add_named(in, folder, "last.safetensors", result, &best));
  if (in->models > 0) return QE_OK;
  return qe_fail(QE_NOT_FOUND, "%s holds no model: neither capture-*.safetensors nor best or last.safetensors", folder);
}

static qe_surface_role role_of(int place, const char *path) {
  const char *name = qe_path_name(path);
  if (place < QE_BLEND_MODELS) return QE_ROLE_CORNER;
  if (strncmp(name, "average", 7) == 0) return QE_ROLE_AVERAGE;
  return strncmp(name, "best", 4) == 0 || strncmp(name, "last", 4) == 0 ? QE_ROLE_TUNED : QE_ROLE_MARK;
}

static qe_status add_all(const qe_options *options, inputs *in) {
  int files = qe_options_positionals(options) - 1;
  const char *first = qe_options_positional(options, 1);
  if (files == 1 && qe_folder_exists(first)) return add_run(in, first);
  for (int i = 0; i < files; i++) {
    char *path;
    QE_TRY(qe_file_meant(qe_options_positional(options, i + 1), QE_RUN_MODEL, &path));
    qe_status status = add_file(in, path, role_of(i, path));
    qe_free(path);
    QE_TRY(status);
  }
  return QE_OK;
}

/* ---- evaluation ---- */

static volatile sig_atomic_t stopped;

static void on_signal(int number) {
  (void)number;
  stopped = 1;
}

typedef struct course {
  double start, said; /* seconds */
} course;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static qe_status on_progress(void *context, const qe_surface_progress *progress) {
  course *c = context;
  double time = now();
  int width = qe_terminal_width(stderr);
  if (stopped) return qe_fail(QE_INTERRUPTED, "interrupted; nothing was written");
  bool last = progress->points == progress->all;
  if (!last && time - c->said < (width > 0 ? 0.1 : 10)) return QE_OK;
  c->said = time;
  char left[32], rate[48] = "";
  double each = (time - c->start) / (double)progress->points;
  if (progress->per_second > 0) snprintf(rate, sizeof rate, ", %.0f candidate-images/s", progress->per_second);
  fprintf(stderr, "%s%lld of %lld points, %s%s, left %s%s", width > 0 ? "\r" : "", (long long)progress->points,
          (long long)progress->all, progress->side == QE_SIDE_ROUNDED ? "weights quantised" : "weights as they are",
          rate, qe_duration_text(each * (double)(progress->all - progress->points), left), width > 0 ? "\033[K" : "\n");
  if (last && width > 0) fputs("\r\033[K", stderr);
  return QE_OK;
}

static qe_surface_options read_options(const qe_options *options) {
  qe_surface_options surface = qe_surface_defaults();
  surface.grid = (int)qe_option_int(options, "grid");
  surface.path = (int)qe_option_int(options, "path");
  surface.margin = qe_option_real(options, "margin");
  surface.reach = qe_option_real(options, "reach");
  surface.by_filter = qe_option_is(options, "directions", "filter");
  surface.rounded = qe_option_is(options, "through", "quantised");
  surface.estimate = qe_option_is(options, "batch-norm", "estimate");
  surface.images = (int32_t)qe_option_int(options, "images");
  surface.norm_images = (int32_t)qe_option_int(options, "norm-images");
  surface.batch = (int32_t)qe_option_int(options, "batch");
  surface.seed = (uint64_t)qe_option_int(options, "seed");
  surface.memory = (size_t)qe_option_int(options, "memory") << 20;
  return surface;
}

/* Data as the run's config and the first model have them, unless the command line names others. *is_run: the folder is
 * a run's. */
static qe_status choose_data(qe_options *options, bool *is_run) {
  const char *first = qe_options_positional(options, 1);
  qe_report *report;
  bool changed;
  QE_TRY(qe_report_new(&report));
  qe_status status = qe_report_add(report, first);
  *is_run = status == QE_OK && qe_folder_exists(first);
  if (status == QE_OK)
    status = qe_choose_run_data(options, report, 0, &changed);
  else if (status == QE_FORMAT) { /* a folder of captures and nothing else */
    qe_message_clear();
    status = QE_OK;
  }
  qe_report_free(report);
  return status;
}

static qe_status make(qe_options *options, const inputs *in, qe_surface **surface) {
  qe_setup setup = {0};
  struct sigaction action, before;
  qe_surface_options wanted = read_options(options);
  course c = {.start = now()};
  QE_TRY(qe_setup_open(options, 1, &setup));
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &before);
  qe_status status =
      qe_surface_make(setup.device, setup.data, in->model, in->models, &wanted, on_progress, &c, surface);
  sigaction(SIGINT, &before, NULL);
  qe_setup_close(&setup);
  return status;
}

/* ---- files ---- */

static qe_status write_one(const qe_surface *surface, const char *folder, const char *name,
                           qe_status (*write)(const qe_surface *surface, const char *path)) {
  char *path = qe_path_join(folder, name);
  if (!path) return QE_NO_MEMORY;
  qe_status status = write(surface, path);
  qe_free(path);
  return status;
}

static qe_status write_page(const qe_surface *surface, const char *path) {
  return qe_surface_write_page(surface, "Loss surface", path);
}

static qe_status write_files(const qe_surface *surface, const char *folder) {
  QE_TRY(write_one(surface, folder, QE_SURFACE_FILE, qe_surface_write));
  QE_TRY(write_one(surface, folder, "surface.csv", qe_surface_write_csv));
  QE_TRY(write_one(surface, folder, "surface.html", write_page));
  return surface->grid > 0 ? qe_surface_write_pictures(surface, folder) : QE_OK;
}

static void json_side(qe_json *json, const qe_surface *surface, const char *side) {
  static const char *const numbers[] = {"rate", "candidate_images"};
  static const char *const keys[] = {"candidate_images_per_second", "candidate_images"};
  if (!*qe_surface_note(surface, side)) return;
  qe_json_open_object(json, side);
  qe_json_text(json, "how", qe_surface_note(surface, side));
  for (int i = 0; i < 2; i++) {
    char key[48];
    snprintf(key, sizeof key, "%s_%s", side, numbers[i]);
    qe_json_real(json, keys[i], strtod(qe_surface_note(surface, key), NULL));
  }
  qe_json_close(json);
}

static void json_mark(qe_json *json, const qe_surface *surface, size_t at) {
  static const char *const sides[QE_SURFACE_SIDES] = {"quantised", "unquantised"};
  static const char *const values[QE_SURFACE_VALUES] = {"train_loss", "train_error", "test_loss", "test_error"};
  const qe_surface_point *point = &qe_surface_marks(surface)[at];
  qe_json_open_object(json, NULL);
  qe_json_text(json, "name", surface->mark[at].name);
  qe_json_text(json, "role", qe_surface_role_name(surface->mark[at].role));
  qe_json_float(json, "x", point->x);
  qe_json_float(json, "y", point->y);
  qe_json_float(json, "off", point->off);
  for (int side = 0; side < QE_SURFACE_SIDES; side++) {
    qe_json_open_object(json, sides[side]);
    for (int v = 0; v < QE_SURFACE_VALUES; v++) qe_json_float(json, values[v], point->value[side][v]);
    qe_json_close(json);
  }
  if (at < surface->saved) {
    const float *saved = qe_surface_saved(surface)[at].value[QE_SIDE_ROUNDED];
    qe_json_open_object(json, "saved");
    for (int v = 0; v < QE_SURFACE_VALUES; v++) qe_json_float(json, values[v], saved[v]);
    qe_json_close(json);
  }
  qe_json_close(json);
}

static qe_status print_result(const qe_options *options, const qe_surface *surface, const char *folder) {
  qe_json json = {0};
  if (!qe_option_flag(options, "json")) {
    printf("%s/surface.html\n", folder);
    return QE_OK;
  }
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "out", folder);
  qe_json_int(&json, "points", (int64_t)surface->points);
  json_side(&json, surface, "quantised");
  json_side(&json, surface, "unquantised");
  qe_json_open_array(&json, "marks");
  for (size_t i = 0; i < surface->marks; i++) json_mark(&json, surface, i);
  qe_json_close(&json);
  qe_json_close(&json);
  return qe_print_json(&json);
}

/* ---- the command ---- */

bool qe_report_is_surface(const qe_options *options) {
  return strcmp(qe_options_positional(options, 0), "surface") == 0;
}

/* --out; else within the run's folder; else here. */
static char *output_folder(const qe_options *options) {
  const char *out = qe_option_text(options, "out"), *first = qe_options_positional(options, 1);
  if (out && *out) return qe_strdup(out);
  return qe_folder_exists(first) ? qe_path_join(first, QE_SURFACE_FOLDER) : qe_strdup(QE_SURFACE_FOLDER);
}

qe_status qe_report_surface(qe_options *options, const char **run) {
  inputs in = {0};
  qe_surface *surface = NULL;
  bool is_run = false;
  const char *out = qe_option_text(options, "out"), *first = qe_options_positional(options, 1);
  *run = NULL;
  if (!first) return qe_fail(QE_USAGE, "report surface needs a run's folder or model files");
  char *folder = output_folder(options);
  qe_status status = folder ? add_all(options, &in) : QE_NO_MEMORY;
  if (status == QE_OK) status = choose_data(options, &is_run);
  if (status == QE_OK) status = qe_make_folders(folder); /* before minutes of work */
  if (status == QE_OK) status = make(options, &in, &surface);
  if (status == QE_OK) status = write_files(surface, folder);
  if (status == QE_OK) status = print_result(options, surface, folder);
  if (status == QE_OK && is_run && !(out && *out)) *run = first;
  qe_surface_free(surface);
  free_inputs(&in);
  qe_free(folder);
  return status;
}
