/* The options in which a resumed run's own config wins over a recipe. */
#include "tools/overruled.h"

#include "core/base/file.h"

#include <string.h>

typedef struct telling {
  const char *config;
  int told;
} telling;

/* A run's config has paths as they were found, from wherever it was started. */
static bool same_value(const qe_option *row, const char *a, const char *b) {
  bool path = row->type == QE_OPTION_PATH || strcmp(row->name, "model") == 0 || strcmp(row->name, "data") == 0;
  return strcmp(a, b) == 0 || (path && strcmp(qe_path_name(a), qe_path_name(b)) == 0);
}

/* Bits of a file stand in the config as options of their own. */
static bool is_compared(const qe_option *row) {
  return !row->transient && row->type != QE_OPTION_STEPS && strcmp(row->name, "bits-file") != 0;
}

/* `step`: before the option's name, or "". */
static void tell(telling *t, const char *step, const char *name, const char *is, const char * not ) {
  if (t->told++ == 0) fprintf(stderr, "note: %s wins over the recipe, which differs:", t->config);
  fprintf(stderr, "%s %s%s%s %s, not %s", t->told > 1 ? "," : "", step, *step ? "." : "", name, *is ? is : "''",
          *not ? not : "''");
}

static void compare(telling *t, const char *step, const qe_options *given, const qe_options *recipe,
                    const qe_options *run) {
  for (size_t i = 0; i < qe_option_table_rows; i++) {
    const qe_option *row = &qe_option_table[i];
    if (!is_compared(row) || qe_option_source(recipe, row->name) != QE_FROM_RECIPE) continue;
    if (qe_option_source(given, row->name) > QE_FROM_RECIPE) continue;
    const char *said = qe_option_text(recipe, row->name), *is = qe_option_text(run, row->name);
    if (said && is && !same_value(row, said, is)) tell(t, step, row->name, is, said);
  }
}

static qe_status compare_step(telling *t, int at, const qe_options *given, const qe_options *recipe,
                              const qe_options *run) {
  qe_options *own = NULL, *said = NULL, *is = NULL;
  qe_status status = qe_options_step(given, at, &own);
  if (status == QE_OK) status = qe_options_step(recipe, at, &said);
  if (status == QE_OK) status = qe_options_step(run, at, &is);
  if (status == QE_OK) compare(t, qe_options_step_name(run, at), own, said, is);
  qe_options_free(is);
  qe_options_free(said);
  qe_options_free(own);
  return status;
}

/* `given` has the run's steps by now. */
static qe_status compare_steps(telling *t, const qe_options *given, const qe_options *recipe, const qe_options *run) {
  char counts[2][24];
  int is = qe_options_steps(run), said = qe_options_steps(recipe);
  snprintf(counts[0], sizeof counts[0], "%d", is);
  snprintf(counts[1], sizeof counts[1], "%d", said);
  if (is != said) tell(t, "", "steps", counts[0], counts[1]);
  for (int i = 0; is == said && i < is; i++) QE_TRY(compare_step(t, i, given, recipe, run));
  return QE_OK;
}

qe_status qe_note_overruled(const qe_options *given, const qe_options *recipe, const char *config) {
  telling t = {.config = config};
  qe_options *run;
  QE_TRY(qe_options_new(qe_option_table, qe_option_table_rows, "train", &run));
  qe_status status = qe_options_load(run, config, QE_FROM_RECIPE);
  if (status == QE_OK && qe_options_steps(recipe) + qe_options_steps(run) > 0)
    status = compare_steps(&t, given, recipe, run);
  else if (status == QE_OK)
    compare(&t, "", given, recipe, run);
  if (t.told > 0) fputs("; to change a resumed run give options beside the recipe\n", stderr);
  qe_options_free(run);
  return status;
}
