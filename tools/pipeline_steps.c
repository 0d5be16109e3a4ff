/* The steps of a pipeline, checked before any is trained. */
#include "tools/pipeline_steps.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "tools/train_choice.h"

#include <string.h>

#define BEST_FILE "best.safetensors"

const char *qe_step_label(const qe_steps *steps, int step, char text[QE_STEP_TEXT]) {
  snprintf(text, QE_STEP_TEXT, "step %d, %s", step + 1, qe_options_step_name(steps->options, step));
  return text;
}

/* ---- files of earlier steps ---- */

static bool is_reference(const char *text) {
  return text && strncmp(text, QE_STEP_PREFIX, strlen(QE_STEP_PREFIX)) == 0;
}

/* What the option of a step says of an earlier one: which, and the file. */
static qe_status read_reference(const qe_steps *steps, int at, const char *option, int *from, const char **file) {
  const qe_options *options = steps->step[at].options;
  const char *text = qe_option_text(options, option) + strlen(QE_STEP_PREFIX), *slash = strchr(text, '/');
  char *name = qe_format("%.*s", (int)(slash ? slash - text : (ptrdiff_t)strlen(text)), text),
       *label = qe_format("%s: %s", qe_option_origin(options, option), option);
  qe_status status = name && label ? qe_options_find_step(steps->options, label, name, from) : QE_NO_MEMORY;
  if (status == QE_OK && *from >= at) status = qe_fail(QE_USAGE, "%s: step %s is not before this one", label, name);
  *file = slash && slash[1] ? slash + 1 : BEST_FILE;
  qe_free(name);
  qe_free(label);
  return status;
}

/* Which step it starts from, and the file there. */
static qe_status find_start(const qe_steps *steps, int at, int *from, const char **file) {
  const char *init = qe_option_text(steps->step[at].options, "init");
  *from = at - 1;
  *file = BEST_FILE;
  if (is_reference(init)) return read_reference(steps, at, "init", from, file);
  if (at == 0 || !qe_options_step_says(steps->options, at, "init")) return QE_OK;
  return qe_fail(QE_USAGE,
                 "%s: init %s: a step starts from the model of the one before, or of the step that 'init: step:NAME' "
                 "names; a file is for the first step",
                 qe_option_origin(steps->step[at].options, "init"), init);
}

static bool is_model(const char *file) {
  const char *dot = strrchr(file, '.');
  return dot && strcmp(dot, ".safetensors") == 0;
}

/* Sets the option to the file's path below root. A plan does without files that are no models. */
static qe_status set_path(qe_steps *steps, int at, const char *option, int from, const char *file, const char *root,
                          qe_step_need need, void *context) {
  char label[QE_STEP_TEXT];
  char *path = qe_format("%s/%s/%s", root, steps->list.step[from].folder, file);
  qe_status status = path ? QE_OK : QE_NO_MEMORY;
  bool without = need && !is_model(file);
  if (status == QE_OK && need && !without) status = need(context, steps, from, path);
  if (status == QE_OK)
    status = qe_option_set(steps->step[at].options, option, without ? "" : path, QE_FROM_COMMAND, option,
                           qe_step_label(steps, from, label));
  qe_free(path);
  return status;
}

qe_status qe_steps_resolve(qe_steps *steps, int at, const char *root, qe_step_need need, void *context) {
  int from;
  const char *file;
  QE_TRY(find_start(steps, at, &from, &file));
  if (from >= 0) QE_TRY(set_path(steps, at, "init", from, file, root, need, context));
  for (size_t i = 0; i < qe_option_table_rows; i++) {
    const char *option = qe_option_table[i].name;
    if (qe_option_table[i].type != QE_OPTION_PATH || !is_reference(qe_option_text(steps->step[at].options, option)))
      continue;
    QE_TRY(read_reference(steps, at, option, &from, &file));
    QE_TRY(set_path(steps, at, option, from, file, root, need, context));
  }
  return QE_OK;
}

/* ---- setups ---- */

qe_status qe_steps_training(qe_steps *steps, int at, qe_training *training) {
  qe_step *step = &steps->step[at];
  if (steps->opened >= 0 && !qe_setup_serves(&steps->setup, steps->step[steps->opened].options, step->options))
    qe_setup_close(&steps->setup);
  steps->opened = at;
  return qe_training_open(step->options, step->method, &steps->setup, training);
}

/* ---- checks ---- */

/* Files that are named must be there before hours are spent on the steps before. */
static qe_status check_files(const qe_options *options) {
  for (size_t i = 0; i < qe_option_table_rows; i++) {
    const qe_option *row = &qe_option_table[i];
    if (row->type != QE_OPTION_PATH || row->transient || !qe_option_is_of(row, "train")) continue;
    const char *path = qe_option_text(options, row->name);
    if (path && *path && !is_reference(path) && !qe_file_exists(path))
      return qe_fail(QE_NOT_FOUND, "%s: --%s %s: no such file or folder", qe_option_origin(options, row->name),
                     row->name, path);
  }
  return QE_OK;
}

/* Sets an option that is a path as if it had been said so where it was. */
static qe_status say_again(qe_options *options, const char *name, const char *value) {
  char *origin = qe_strdup(qe_option_origin(options, name));
  qe_status status =
      origin ? qe_option_set(options, name, value, qe_option_source(options, name), origin, origin) : QE_NO_MEMORY;
  qe_free(origin);
  return status;
}

/* Options that name what earlier steps will leave are checked, and emptied meanwhile; kept: their texts, by row. */
static qe_status empty_references(const qe_steps *steps, int at, char **kept) {
  qe_options *options = steps->step[at].options;
  for (size_t i = 0; i < qe_option_table_rows; i++) {
    int from;
    const char *file, *name = qe_option_table[i].name;
    if (qe_option_table[i].type != QE_OPTION_PATH || !is_reference(qe_option_text(options, name))) continue;
    QE_TRY(read_reference(steps, at, name, &from, &file));
    if (!(kept[i] = qe_strdup(qe_option_text(options, name)))) return QE_NO_MEMORY;
    QE_TRY(say_again(options, name, ""));
  }
  return QE_OK;
}

static qe_status fill_references(const qe_steps *steps, int at, char **kept) {
  qe_status status = QE_OK;
  for (size_t i = 0; i < qe_option_table_rows; i++) {
    if (kept[i] && status == QE_OK) status = say_again(steps->step[at].options, qe_option_table[i].name, kept[i]);
    qe_free(kept[i]);
  }
  return status;
}

/* Texts of the spec that belong to the setup live on with the step. */
static qe_status keep_leaves(qe_step *step, const qe_handed *leaves) {
  step->leaves = *leaves;
  if (!leaves->spec.net) return QE_OK;
  step->leaves.spec.net = step->net = qe_strdup(leaves->spec.net);
  return step->net ? QE_OK : QE_NO_MEMORY;
}

static qe_status check_alone(qe_steps *steps, int at, bool known) {
  qe_step *step = &steps->step[at];
  qe_training training;
  char label[QE_STEP_TEXT];
  QE_TRY(qe_steps_training(steps, at, &training));
  QE_TRY(check_files(step->options));
  if (training.setting.options.held_out >= training.setting.data->train_images)
    return qe_fail(QE_USAGE, "--held-out %d: there are %d training images, and some must be left to train on",
                   training.setting.options.held_out, training.setting.data->train_images);
  const qe_handed *from = step->from >= 0 ? &steps->step[step->from].leaves : NULL;
  if (from && known)
    QE_TRY(qe_method_check_start(step->method, &training.setting, from, qe_step_label(steps, step->from, label)));
  qe_handed leaves = qe_method_hands_on(step->method, &training.setting, from);
  return keep_leaves(step, &leaves);
}

static qe_status check_step(qe_steps *steps, int at) {
  const char *file;
  QE_TRY(find_start(steps, at, &steps->step[at].from, &file));
  bool known = strcmp(file, BEST_FILE) == 0; /* what others hold depends on the method */
  char **kept = QE_NEW_ARRAY(char *, qe_option_table_rows);
  if (!kept) return QE_NO_MEMORY;
  qe_status status = empty_references(steps, at, kept);
  if (status == QE_OK) status = check_alone(steps, at, known);
  if (status == QE_OK)
    status = fill_references(steps, at, kept);
  else
    for (size_t i = 0; i < qe_option_table_rows; i++) qe_free(kept[i]);
  qe_free(kept);
  return status;
}

/* ---- opening ---- */

static qe_status find_method(qe_steps *steps, int at) {
  qe_step *step = &steps->step[at];
  char label[QE_STEP_TEXT];
  const char *name = qe_option_text(step->options, "method");
  qe_step_label(steps, at, label);
  if (!name || !*name)
    return qe_fail(QE_USAGE, "step %d of the pipeline names no method: add 'method: qat', say", at + 1);
  step->method = qe_method_find(name);
  if (!step->method) {
    qe_status status = qe_train_say_unknown(name);
    return qe_fail_within(status, "%s: %s", qe_option_origin(step->options, "method"), label);
  }
  return qe_pipeline_add(&steps->list, qe_options_step_name(steps->options, at), name);
}

static qe_status open_steps(qe_steps *steps) {
  steps->step = QE_NEW_ARRAY(qe_step, qe_options_steps(steps->options));
  if (!steps->step) return QE_NO_MEMORY;
  for (int i = 0; i < qe_options_steps(steps->options); i++) {
    QE_TRY(qe_options_step(steps->options, i, &steps->step[i].options));
    steps->count++;
    QE_TRY(find_method(steps, i));
  }
  for (int i = 0; i < steps->count; i++) {
    char label[QE_STEP_TEXT];
    qe_status status = check_step(steps, i);
    if (status != QE_OK) return qe_fail_within(status, "%s", qe_step_label(steps, i, label));
  }
  return QE_OK;
}

qe_status qe_steps_open(const qe_options *options, qe_steps *steps) {
  *steps = (qe_steps){.options = options, .opened = -1};
  qe_status status = open_steps(steps);
  if (status != QE_OK) qe_steps_close(steps);
  return status;
}

void qe_steps_close(qe_steps *steps) {
  for (int i = 0; i < steps->count; i++) {
    qe_options_free(steps->step[i].options);
    qe_free(steps->step[i].net);
  }
  qe_free(steps->step);
  qe_pipeline_free(&steps->list);
  qe_setup_close(&steps->setup);
}

char *qe_steps_dump(const qe_steps *steps) {
  qe_options **options = QE_NEW_ARRAY(qe_options *, steps->count);
  const char **name = QE_NEW_ARRAY(const char *, steps->count);
  char *text = NULL;
  for (int i = 0; options && name && i < steps->count; i++) {
    options[i] = steps->step[i].options;
    name[i] = steps->list.step[i].name;
  }
  if (options && name) text = qe_options_dump_steps(options, name, steps->count);
  qe_free(options);
  qe_free(name);
  return text;
}
