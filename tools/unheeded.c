/* Notes on what is allowed, but rarely meant. */
#include "tools/unheeded.h"

#include <string.h>

/* `--stages` has a stage that reads the options NAME-…; those of `local` are of `calibrate`, too. */
static bool stage_runs(const qe_search_stage *const *run, const char *name) {
  for (; *run; run++)
    if (strcmp((*run)->name, name) == 0 || (strcmp((*run)->name, "calibrate") == 0 && strcmp(name, "local") == 0))
      return true;
  return false;
}

/* The stage whose option NAME-… the row is; NULL: of none. */
static const char *stage_of(const qe_option *row) {
  const qe_search_stage *stage;
  for (int i = 0; (stage = qe_search_stage_get(i)); i++) {
    size_t length = strlen(stage->name);
    if (strncmp(row->name, stage->name, length) == 0 && row->name[length] == '-') return stage->name;
  }
  return NULL;
}

static void note_of_others(const qe_training *t) {
  const qe_search_stage *run[QE_MOST_STAGES] = {NULL};
  bool searches = t->method->searches && qe_search_stages_find(t->setting.search.stages, run) == QE_OK;
  for (size_t i = 0; i < qe_option_table_rows; i++) {
    const qe_option *row = &qe_option_table[i];
    if (qe_option_source(t->options, row->name) != QE_FROM_COMMAND) continue;
    const char *stage = searches ? stage_of(row) : NULL;
    if (!qe_option_is_heeded_by(row, t->method->name))
      fprintf(stderr, "note: --%s has no effect on the method %s\n", row->name, t->method->name);
    else if (stage && !stage_runs(run, stage))
      fprintf(stderr, "note: --%s has no effect: --stages %s has no stage %s\n", row->name, t->setting.search.stages,
              stage);
  }
}

void qe_note_unheeded(const qe_training *t) {
  const qe_train_options *options = &t->setting.options;
  const qe_schedule *schedule = &options->schedule;
  note_of_others(t);
  if (t->method->searches) return;
  if (options->distill.teacher && !qe_distill_has_model(options->distill.mode))
    fputs("note: nothing learns from --teacher without --distill frozen or joint\n", stderr);
  if (schedule->rate <= 0) fputs("note: --rate 0: nothing but batch norm's averages will change\n", stderr);
  if (schedule->kind == QE_SCHEDULE_STEP && schedule->milestones == 0)
    fputs("note: --schedule step has no --milestones: the rate stays as it is\n", stderr);
  if (schedule->warmup > 0 && schedule->warmup >= options->epochs)
    fprintf(stderr, "note: --warmup %g: the rate rises through all %d epochs and never falls\n", schedule->warmup,
            options->epochs);
}
