/* What `train` is asked to do: method, recipe, and the files that recipe and config files name. */
#define _GNU_SOURCE /* readlink, realpath */
#include "tools/train_choice.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/nearest.h"
#include "core/data/image_set.h"
#include "core/train/search_folder.h"
#include "tools/overruled.h"
#include "tools/recipes.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_LIMIT = 1 << 20 };

/* ---- method and recipe ---- */

qe_status qe_train_say_unknown(const char *name) {
  char hint[QE_NEAREST_TEXT];
  qe_nearest nearest = {.word = name};
  qe_recipe recipe;
  for (int i = 0; qe_method_get(i); i++) qe_nearest_offer(&nearest, qe_method_get(i)->name);
  for (int i = 0; qe_recipe_get(i, &recipe); i++) qe_nearest_offer(&nearest, recipe.name);
  return qe_fail(QE_USAGE, "no method or recipe is called '%s'; 'qevo-gpu train --list' lists them%s", name,
                 qe_nearest_hint(&nearest, "", hint));
}

static bool is_yaml(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0);
}

/* A recipe in a file. Where a file is missing whose name is a built-in recipe's, that is what was meant. */
static qe_status load_file(qe_options *options, const char *path) {
  qe_status status = qe_options_load(options, path, QE_FROM_RECIPE);
  if (status != QE_NOT_FOUND) return status;
  const char *file = qe_path_name(path);
  char *name = qe_format("%.*s", (int)(strrchr(file, '.') - file), file);
  qe_recipe recipe;
  if (!name) return QE_NO_MEMORY;
  if (qe_recipe_find(name, &recipe))
    status = qe_fail(status, "%s: no such file; the recipe is built in: 'qevo-gpu train %s'", path, name);
  qe_free(name);
  return status;
}

/* A config file may name another method than the command line: said, for it is rarely meant. */
static qe_status take_method(qe_options *options, const char *name) {
  const char *other = qe_option_text(options, "method");
  if (other && strcmp(other, name) != 0)
    fprintf(stderr, "note: the method is %s, as the command line says; %s has %s\n", name,
            qe_option_origin(options, "method"), other);
  return qe_option_set(options, "method", name, QE_FROM_COMMAND, "METHOD", "command line");
}

/* As the folder of a run, begun or ended. */
static qe_status find_config(const char *folder, bool *has) {
  char *config = qe_path_join(folder, "config.yaml");
  if (!config) return QE_NO_MEMORY;
  *has = qe_file_exists(config);
  qe_free(config);
  return QE_OK;
}

/* What is there under this name, but is neither method nor recipe. */
static qe_status say_no_recipe(const char *name) {
  bool run;
  QE_TRY(find_config(name, &run));
  if (run)
    return qe_fail(QE_USAGE,
                   "%s is a run's folder: 'qevo-gpu train --resume --out %s' goes on with it; a new run needs "
                   "METHOD or RECIPE, and --out for another folder",
                   name, name);
  if (!qe_file_exists(name) || qe_folder_exists(name)) return qe_train_say_unknown(name);
  return qe_fail(QE_USAGE,
                 "%s is a file, but no recipe, which would end in .yaml; a model to start from is given as in "
                 "'qevo-gpu train qat --init %s'",
                 name, name);
}

static qe_status load_recipe(qe_options *options, const char *name) {
  qe_recipe recipe;
  if (qe_recipe_find(name, &recipe)) return qe_recipe_load(&recipe, options);
  return is_yaml(name) ? load_file(options, name) : say_no_recipe(name);
}

static qe_status take_argument(qe_options *options) {
  const char *name = qe_options_positional(options, 0);
  if (!name) return QE_OK;
  return qe_method_find(name) ? take_method(options, name) : load_recipe(options, name);
}

/* What the recipe that the command line names says otherwise than the run's config, which has been loaded. */
static qe_status note_overruled(const qe_options *options, const char *config) {
  const char *name = qe_options_positional(options, 0);
  qe_options *recipe;
  if (!name || qe_method_find(name)) return QE_OK;
  QE_TRY(qe_options_new(qe_option_table, qe_option_table_rows, "train", &recipe));
  qe_status status = load_recipe(recipe, name);
  if (status == QE_OK) status = qe_note_overruled(options, recipe, config);
  qe_options_free(recipe);
  return status;
}

/* Blanks the line where it says that its value was a default. */
static void drop_default(char *line, size_t length) {
  static const char plain[] = " # default", of[] = " # default of ";
  size_t at = length;
  while (at > 0 && strncmp(line + at, " # ", 3) != 0) at--;
  bool drop = strncmp(line + at, of, sizeof of - 1) == 0 ||
              (length - at == sizeof plain - 1 && strncmp(line + at, plain, sizeof plain - 1) == 0);
  if (drop) memset(line, ' ', length);
}

/* A search's config without its defaults: those of a method may depend on the variables. */
static qe_status load_search_config(qe_options *options, const char *path) {
  char *text;
  size_t bytes;
  QE_TRY(qe_file_read(path, CONFIG_LIMIT, &text, &bytes));
  for (size_t at = 0; at < bytes; at += strcspn(text + at, "\n") + 1) drop_default(text + at, strcspn(text + at, "\n"));
  qe_status status = qe_options_load_text(options, path, text, bytes, QE_FROM_RECIPE);
  qe_free(text);
  return status;
}

/* A resumed run has the options it was started with, but for those given now; so has a new one that goes on with the
 * models of another. */
static qe_status load_run_config(qe_options *options) {
  const char *folder = qe_option_text(options, qe_option_flag(options, "resume") ? "out" : "sqwa-from");
  if (!folder || !*folder) return QE_OK;
  char *path = qe_path_join(folder, "config.yaml");
  if (!path) return QE_NO_MEMORY;
  qe_status status =
      qe_search_is(folder) ? load_search_config(options, path) : qe_options_load(options, path, QE_FROM_RECIPE);
  if (status == QE_OK) {
    status = note_overruled(options, path);
  } else if (status == QE_NOT_FOUND) {
    qe_message_clear();
    status = QE_OK;
  }
  qe_free(path);
  return status;
}

/* Without METHOD a resumed run's config would have named it. */
static qe_status say_no_run(const qe_options *options) {
  const char *folder = qe_option_text(options, "out");
  if (!folder) return qe_fail(QE_USAGE, "--resume needs the run's folder: add --out");
  bool has;
  QE_TRY(find_config(folder, &has));
  if (has)
    return qe_fail(QE_FORMAT,
                   "%s/config.yaml names no method, so it is no whole config of a run; give METHOD and the "
                   "run's options again",
                   folder);
  return qe_fail(QE_NOT_FOUND, "%s has no config.yaml, so no run to go on with; start one without --resume", folder);
}

/* A pipeline's steps have their methods themselves. */
static qe_status check_pipeline(const qe_options *options) {
  const char *argument = qe_options_positional(options, 0);
  if (argument && qe_method_find(argument))
    return qe_fail(QE_USAGE,
                   "METHOD %s: there is a pipeline in the config, whose steps name their methods: leave it out",
                   argument);
  return qe_options_check_steps(options);
}

qe_status qe_train_choose(qe_options *options, const qe_method **method) {
  const char *out = qe_option_text(options, "out");
  *method = NULL;
  if (out && !*out) return qe_fail(QE_USAGE, "--out '': needs the name of a folder");
  QE_TRY(take_argument(options));
  QE_TRY(load_run_config(options));
  if (qe_options_steps(options) > 0) return check_pipeline(options);
  QE_TRY(qe_options_check_steps(options));
  const char *name = qe_option_text(options, "method"), *from = qe_option_text(options, "sqwa-from");
  if (from && *from && name && qe_method_find(name) && strcmp(name, "sqwa") != 0)
    return qe_fail(QE_USAGE, "--sqwa-from %s: takes captured models of a run of sqwa, the method is %s", from, name);
  if ((!name || !*name) && qe_option_flag(options, "resume")) return say_no_run(options);
  if ((!name || !*name) && from && *from)
    return qe_fail(QE_NOT_FOUND, "--sqwa-from %s: it has no config.yaml; name the folder of a run of sqwa", from);
  if (!name || !*name)
    return qe_fail(QE_USAGE, "needs METHOD or RECIPE, as in 'qevo-gpu train qat'; 'qevo-gpu train --list' lists them");
  *method = qe_method_find(name);
  if (*method) return QE_OK;
  qe_status status = qe_train_say_unknown(name);
  return qe_fail_within(status, "%s", qe_option_origin(options, "method"));
}

/* ---- files that recipes name ---- */

/* New text: the folder with recipes/ and models/ that belongs to the program, installed or in its build tree; NULL:
 * there is none. */
static char *own_folder(void) {
  static const char *const beside[] = {"../share/qevo-gpu", "../.."};
  char program[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
  if (length <= 0) return NULL;
  program[length] = 0;
  char *slash = strrchr(program, '/');
  if (slash) *slash = 0;
  for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
    char *recipes = qe_format("%s/%s/recipes", program, beside[i]), real[PATH_MAX];
    bool found = recipes && realpath(recipes, real);
    qe_free(recipes);
    if (found) return qe_path_folder(real);
  }
  return NULL;
}

/* New text: folder/path without links and "..", if it exists; else NULL. */
static char *found_in(const char *folder, const char *path) {
  char *whole = folder ? qe_path_join(folder, path) : NULL;
  char real[PATH_MAX];
  bool found = whole && realpath(whole, real);
  qe_free(whole);
  return found ? qe_strdup(real) : NULL;
}

/* Looks for `path`, which the config file `file` (NULL: a built-in recipe) names. */
static char *look_around(const char *file, const char *path, const char *own) {
  char *beside = file ? qe_path_folder(file) : NULL, *above = beside ? qe_path_join(beside, "..") : NULL;
  char *found = found_in(beside, path);
  if (!found) found = found_in(above, path);
  if (!found) found = found_in(own, path);
  qe_free(above);
  qe_free(beside);
  return found;
}

/* New text: the file of an origin such as "FOLDER/f.yaml:3"; NULL when it is none. */
static char *file_of_origin(const char *origin) {
  const char *colon = strrchr(origin, ':');
  return colon && strncmp(origin, "recipe ", 7) != 0 ? qe_format("%.*s", (int)(colon - origin), origin) : NULL;
}

static qe_status find_file(qe_options *options, const qe_option *row, const char *path, const char *own) {
  const char *origin = qe_option_origin(options, row->name);
  char *file = file_of_origin(origin), *found = look_around(file, path, own);
  qe_status status = QE_OK;
  if (found) {
    char *label = qe_strdup(origin);
    fprintf(stderr, "note: --%s is %s\n", row->name, found);
    status = label ? qe_option_set(options, row->name, found, qe_option_source(options, row->name), label, label)
                   : QE_NO_MEMORY;
    qe_free(label);
  } else {
    status =
        qe_fail(QE_NOT_FOUND, "%s: %s: no file %s, from here%s%s%s; say where it is by --%s PATH", origin, row->name,
                path, file ? ", beside that file, above it" : "", own ? ", or in " : "", own ? own : "", row->name);
  }
  qe_free(found);
  qe_free(file);
  return status;
}

/* The path of a row that is to be looked for; NULL where it was typed, is absolute, or is there. */
static const char *missing_path(const qe_options *options, const qe_option *row) {
  bool is_model = strcmp(row->name, "model") == 0;
  if (!is_model && row->type != QE_OPTION_PATH) return NULL;
  if (row->transient || !row->commands || !strstr(row->commands, "train")) return NULL;
  const char *path = qe_option_text(options, row->name);
  if (is_model && !qe_model_is_file(path)) return NULL;
  qe_source source = qe_option_source(options, row->name);
  bool named = source == QE_FROM_RECIPE || source == QE_FROM_CONFIG;
  if (path && strncmp(path, QE_STEP_PREFIX, strlen(QE_STEP_PREFIX)) == 0) return NULL;
  return path && *path && named && *path != '/' && !qe_file_exists(path) ? path : NULL;
}

/* A run that has a checkpoint needs its start no more. *left: it has, and the option is empty now. */
static qe_status leave_start(qe_options *options, bool *left) {
  const char *folder = qe_option_text(options, "out"), *init = qe_option_text(options, "init");
  *left = false;
  if (!qe_option_flag(options, "resume") || !folder) return QE_OK;
  char *checkpoint = qe_path_join(folder, "checkpoint.safetensors"), *origin = qe_format("%s, which is gone", init);
  qe_status status = checkpoint && origin ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK && qe_file_exists(checkpoint)) {
    fprintf(stderr, "note: --init %s is gone; the run goes on from its checkpoint, which needs it no more\n", init);
    status = qe_option_set(options, "init", "", QE_FROM_RECIPE, "init", origin);
    *left = true;
  }
  qe_free(origin);
  qe_free(checkpoint);
  return status;
}

static qe_status find_or_leave(qe_options *options, const qe_option *row, const char *path, const char *own) {
  bool left = false, start = strcmp(row->name, "init") == 0 && qe_option_source(options, "init") == QE_FROM_RECIPE;
  qe_status status = find_file(options, row, path, own);
  if (status != QE_NOT_FOUND || !start) return status;
  char *why = qe_strdup(qe_message());
  if (!why) return QE_NO_MEMORY;
  status = leave_start(options, &left);
  if (status == QE_OK && left)
    qe_message_clear();
  else if (status == QE_OK)
    status = qe_fail(QE_NOT_FOUND, "%s", why);
  qe_free(why);
  return status;
}

qe_status qe_train_find_files(qe_options *options) {
  char *own = own_folder();
  qe_status status = QE_OK;
  for (size_t i = 0; status == QE_OK && i < qe_option_table_rows; i++) {
    const char *path = missing_path(options, &qe_option_table[i]);
    if (path) status = find_or_leave(options, &qe_option_table[i], path, own);
  }
  qe_free(own);
  return status;
}

/* ---- where the data lie ---- */

/* The option's value is `prefix` and a path; a relative one becomes absolute, if it is there. */
static qe_status fix_path(qe_options *options, const char *name, const char *prefix) {
  const char *value = qe_option_text(options, name);
  char real[PATH_MAX];
  if (!value || strncmp(value, prefix, strlen(prefix)) != 0) return QE_OK;
  const char *path = value + strlen(prefix);
  if (!*path || *path == '/' || !realpath(path, real)) return QE_OK;
  char *whole = qe_format("%s%s", prefix, real), *origin = qe_strdup(qe_option_origin(options, name));
  qe_status status = whole && origin
                         ? qe_option_set(options, name, whole, qe_option_source(options, name), name, origin)
                         : QE_NO_MEMORY;
  qe_free(origin);
  qe_free(whole);
  return status;
}

qe_status qe_train_fix_paths(qe_options *options) {
  QE_TRY(fix_path(options, "data", QE_FOLDER_PREFIX));
  return fix_path(options, "data-dir", "");
}
