/* Steps: a list of mappings in a config file, each the options of one step of many; --set STEP.NAME=VALUE reaches in.
 */
#include "core/base/alloc.h"
#include "core/base/options_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_STEPS = 99, NAME_LENGTH = 40, LABEL_TEXT = 512 };

#define NAME_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

static void step_value_free(qe_step_value *value) {
  qe_free(value->selector);
  qe_free(value->text);
  qe_free(value->label);
  qe_free(value->origin);
}

/* Those of the list, or all. */
static void drop_values(qe_option_steps *steps, bool all) {
  size_t kept = 0;
  for (size_t i = 0; i < steps->values; i++)
    if (all || !steps->value[i].selector)
      step_value_free(&steps->value[i]);
    else
      steps->value[kept++] = steps->value[i];
  steps->values = kept;
  for (int i = 0; i < steps->count; i++) qe_free(steps->name[i]);
  steps->count = 0;
}

void qe_option_steps_free(qe_option_steps *steps) {
  drop_values(steps, true);
  qe_free(steps->value);
  qe_free(steps->name);
}

/* ---- storing ---- */

bool qe_option_steps_begin(qe_options *options, qe_source source) {
  qe_option_steps *steps = &options->steps;
  if (steps->count > 0 && source < steps->source) return false;
  drop_values(steps, false);
  steps->source = source;
  return true;
}

qe_status qe_option_steps_next(qe_options *options, const char *label) {
  qe_option_steps *steps = &options->steps;
  if (steps->count == MOST_STEPS) return qe_fail(QE_USAGE, "%s: more than %d steps", label, MOST_STEPS);
  QE_TRY(qe_reserve(&steps->name, &steps->name_capacity, (size_t)steps->count + 1, sizeof *steps->name));
  steps->name[steps->count++] = NULL;
  return QE_OK;
}

qe_status qe_option_steps_check_name(const char *name, const char *label) {
  size_t length = strlen(name);
  bool is_number = *name && strspn(name, "0123456789") == length;
  if (length == 0 || length > NAME_LENGTH || strspn(name, NAME_LETTERS) != length || *name == '-' || is_number)
    return qe_fail(QE_USAGE, "%s %.60s: a step's name has letters, digits, - and _, up to %d, and is no number", label,
                   name, NAME_LENGTH);
  return QE_OK;
}

qe_status qe_option_steps_set_name(qe_options *options, const char *name) {
  char **at = &options->steps.name[options->steps.count - 1];
  char *copy = qe_strdup(name);
  if (!copy) return QE_NO_MEMORY;
  qe_free(*at);
  *at = copy;
  return QE_OK;
}

/* Whether such a row can differ between steps. */
static bool is_of_steps(const qe_option *row) {
  return !row->transient && row->type != QE_OPTION_STEPS && row->type != QE_OPTION_MAP &&
         strcmp(row->name, "config") != 0 && strcmp(row->name, "set") != 0;
}

qe_status qe_option_steps_check_value(const qe_option *row, const char *text, const char *label) {
  if (!is_of_steps(row)) return qe_fail(QE_USAGE, "%s: belongs to all steps together: say it outside of them", label);
  return qe_option_check(row, text, label);
}

/* `selector` NULL: of the list's last step. */
static qe_status add_value(qe_options *options, const char *selector, const qe_option *row, const char *text,
                           qe_source source, const char *label, const char *origin) {
  qe_option_steps *steps = &options->steps;
  QE_TRY(qe_reserve(&steps->value, &steps->value_capacity, steps->values + 1, sizeof *steps->value));
  qe_step_value value = {.step = steps->count - 1,
                         .selector = selector ? qe_strdup(selector) : NULL,
                         .row = row,
                         .text = qe_strdup(text),
                         .label = qe_strdup(label),
                         .origin = qe_strdup(origin),
                         .source = source};
  if (value.text && value.label && value.origin && (value.selector || !selector)) {
    steps->value[steps->values++] = value;
    return QE_OK;
  }
  step_value_free(&value);
  return QE_NO_MEMORY;
}

qe_status qe_option_steps_add(qe_options *options, const qe_option *row, const char *text, const char *label,
                              const char *origin) {
  return add_value(options, NULL, row, text, options->steps.source, label, origin);
}

qe_status qe_option_steps_copy(const qe_options *from, qe_options *to) {
  const qe_option_steps *steps = &from->steps;
  (void)qe_option_steps_begin(to, steps->source);
  for (int i = 0; i < steps->count; i++) {
    QE_TRY(qe_option_steps_next(to, "steps"));
    if (steps->name[i]) QE_TRY(qe_option_steps_set_name(to, steps->name[i]));
  }
  for (size_t i = 0; i < steps->values; i++) {
    const qe_step_value *value = &steps->value[i];
    QE_TRY(add_value(to, value->selector, value->row, value->text, value->source, value->label, value->origin));
    to->steps.value[i].step = value->step;
  }
  return QE_OK;
}

static bool has_steps_row(const qe_options *options) {
  for (size_t i = 0; i < options->count; i++)
    if (options->table[i].type == QE_OPTION_STEPS && qe_options_belongs(options, &options->table[i])) return true;
  return false;
}

qe_status qe_option_steps_set(qe_options *options, const char *pair, const char *value, const char *label,
                              const char *origin) {
  char hint[QE_HINT_TEXT];
  const char *dot = strchr(pair, '.'), *key = dot + 1;
  const qe_option *row = qe_options_row(options, key);
  if (!has_steps_row(options)) return qe_fail(QE_USAGE, "%s: \"%s\" has no steps", label, options->command);
  if (!row || !qe_options_belongs(options, row))
    return qe_fail(QE_USAGE, "%s: no such option: %.60s%s", label, key, qe_options_hint(options, key, "", hint));
  QE_TRY(qe_option_steps_check_value(row, value, label));
  char *selector = qe_format("%.*s", (int)(dot - pair), pair);
  if (!selector) return QE_NO_MEMORY;
  qe_status status = add_value(options, selector, row, value, QE_FROM_COMMAND, label, origin);
  qe_free(selector);
  return status;
}

/* ---- names ---- */

int qe_options_steps(const qe_options *options) {
  return options->steps.count;
}

/* The step's value in the list, or NULL. */
static const qe_step_value *listed(const qe_options *options, int step, const qe_option *row) {
  const qe_option_steps *steps = &options->steps;
  for (size_t i = 0; i < steps->values; i++)
    if (!steps->value[i].selector && steps->value[i].step == step && steps->value[i].row == row)
      return &steps->value[i];
  return NULL;
}

const char *qe_options_step_name(const qe_options *options, int step) {
  const qe_option *row = qe_options_row(options, "method");
  if (options->steps.name[step]) return options->steps.name[step];
  if (!row) return "step";
  const qe_step_value *own = listed(options, step, row);
  const qe_option_value *common = &options->values[row - options->table];
  const char *text = own && own->source >= common->source ? own->text : common->text;
  return text ? text : "step";
}

/* By number from 1, or by name. */
static bool selects(const qe_options *options, const char *selector, int step) {
  char number[16];
  snprintf(number, sizeof number, "%d", step + 1);
  return strcmp(selector, number) == 0 || strcmp(selector, qe_options_step_name(options, step)) == 0;
}

static qe_status say_unknown(const qe_options *options, const char *label, const char *name) {
  char hint[QE_HINT_TEXT], list[LABEL_TEXT] = "";
  qe_nearest nearest = {.word = name};
  int count = options->steps.count;
  if (count == 0) return qe_fail(QE_USAGE, "%s: there is no step %.60s: this is no pipeline", label, name);
  for (int i = 0; i < count; i++) {
    size_t used = strlen(list);
    qe_nearest_offer(&nearest, qe_options_step_name(options, i));
    snprintf(list + used, sizeof list - used, "%s%d %s", i ? ", " : "", i + 1, qe_options_step_name(options, i));
  }
  return qe_fail(QE_USAGE, "%s: there is no step %.60s; the steps are %s%s", label, name, list,
                 qe_nearest_hint(&nearest, "", hint));
}

qe_status qe_options_find_step(const qe_options *options, const char *label, const char *name, int *step) {
  int found = 0;
  for (int i = 0; i < options->steps.count; i++)
    if (selects(options, name, i)) {
      *step = i;
      found++;
    }
  if (found == 0) return say_unknown(options, label, name);
  return found == 1 ? QE_OK
                    : qe_fail(QE_USAGE, "%s: %d steps are called %.60s: say it by number, or give them names", label,
                              found, name);
}

qe_status qe_options_check_steps(const qe_options *options) {
  const qe_option_steps *steps = &options->steps;
  for (size_t i = 0; i < steps->values; i++) {
    int step;
    if (steps->value[i].selector)
      QE_TRY(qe_options_find_step(options, steps->value[i].label, steps->value[i].selector, &step));
  }
  return QE_OK;
}

/* ---- the options of a step ---- */

static bool is_of(const qe_options *options, const qe_step_value *value, int step) {
  return value->selector ? selects(options, value->selector, step) : value->step == step;
}

bool qe_options_step_says(const qe_options *options, int step, const char *name) {
  for (size_t i = 0; i < options->steps.values; i++) {
    const qe_step_value *value = &options->steps.value[i];
    if (strcmp(value->row->name, name) == 0 && is_of(options, value, step)) return true;
  }
  return false;
}

static qe_status fill_step(const qe_options *options, int step, qe_options *to) {
  for (size_t i = 0; i < options->count; i++) {
    const qe_option *row = &options->table[i];
    const qe_option_value *value = &options->values[i];
    if (!value->text || (row->chained && step > 0)) continue;
    QE_TRY(qe_option_set(to, row->name, value->text, value->source, row->name, value->origin));
  }
  for (size_t i = 0; i < options->steps.values; i++) {
    const qe_step_value *value = &options->steps.value[i];
    if (is_of(options, value, step))
      QE_TRY(qe_option_set(to, value->row->name, value->text, value->source, value->label, value->origin));
  }
  return QE_OK;
}

qe_status qe_options_step(const qe_options *options, int step, qe_options **out) {
  qe_options *made;
  QE_TRY(qe_options_new(options->table, options->count, options->command, &made));
  qe_status status = fill_step(options, step, made);
  if (status == QE_OK)
    *out = made;
  else
    qe_options_free(made);
  return status;
}

/* ---- dumping ---- */

static const char *text_of(const qe_options *options, size_t row) {
  return options->values[row].text;
}

/* Whether it can be said once for all steps. */
static bool is_common(qe_options *const *step, int count, size_t row) {
  const char *first = text_of(step[0], row);
  if (step[0]->table[row].chained && count > 1) return false;
  for (int i = 1; i < count; i++) {
    const char *text = text_of(step[i], row);
    if (!first != !text || (first && strcmp(first, text) != 0)) return false;
  }
  return true;
}

/* Rows that all steps have in common, or those that they do not. */
static void dump_rows(FILE *file, qe_options *const *step, int count, int which, bool common, const char *indent) {
  for (size_t i = 0; i < step[0]->count; i++)
    if (is_of_steps(&step[0]->table[i]) && is_common(step, count, i) == common)
      qe_option_dump_row(file, step[which], i, indent);
}

typedef struct dumped_steps {
  qe_options *const *step;
  const char *const *name;
  int count;
} dumped_steps;

static void write_steps(FILE *file, const void *what) {
  const dumped_steps *d = what;
  dump_rows(file, d->step, d->count, 0, true, "");
  for (size_t i = 0; i < d->step[0]->count; i++)
    if (d->step[0]->table[i].type == QE_OPTION_MAP) qe_option_dump_row(file, d->step[0], i, "");
  for (size_t i = 0; i < d->step[0]->count; i++)
    if (d->step[0]->table[i].type == QE_OPTION_STEPS) fprintf(file, "%s:\n", d->step[0]->table[i].name);
  for (int i = 0; i < d->count; i++) {
    fprintf(file, "  - name: \"%s\"\n", d->name[i]);
    dump_rows(file, d->step, d->count, i, false, "    ");
  }
}

char *qe_options_dump_steps(qe_options *const *step, const char *const *name, int count) {
  const dumped_steps all = {step, name, count};
  return qe_options_text(write_steps, &all);
}
