/* The trials of a search over settings, one after the other: trained, recorded, the best one kept. */
#include "tools/trial_loop.h"

#include "core/base/alloc.h"
#include "core/report/report.h"
#include "core/train/search_folder.h"
#include "tools/trial_table.h"

#include <math.h>
#include <string.h>

/* What is the trial's own: its settings do not fit together, or it diverged. A full disk is not. */
static bool is_of_trial(qe_status status) {
  return status == QE_DIVERGED || status == QE_USAGE || status == QE_SHAPE || status == QE_REFUSED ||
         status == QE_NO_MEMORY;
}

static qe_status prune(const qe_trial_loop *s, int number) {
  char *folder = qe_trial_folder(s->runner->folder, number);
  qe_status status = folder ? qe_trial_prune(folder) : QE_NO_MEMORY;
  qe_free(folder);
  return status;
}

static qe_status keep_best(const qe_trial_loop *s, const qe_trial *best) {
  char *folder, origin[32], *config = NULL, *recipe = NULL;
  qe_options *options = NULL;
  snprintf(origin, sizeof origin, "trial %d", best->number);
  QE_TRY(qe_trial_last_run(s->runner, best->number, &folder));
  qe_status status = qe_trial_options(s->runner, best->text, origin, false, &options);
  if (status == QE_OK) status = qe_trial_config(s->runner, options, &config);
  if (status == QE_OK && !(recipe = qe_format("# The best trial of a search, number %d.\n%s", best->number, config)))
    status = QE_NO_MEMORY;
  if (status == QE_OK) status = qe_trial_keep_best(s->runner->folder, folder, recipe);
  qe_options_free(options);
  qe_free(recipe);
  qe_free(config);
  qe_free(folder);
  return status;
}

/* Models that nobody will ask for again. Of a trial that failed all stays: its message names what it left. */
static bool is_spent(const qe_trial_list *list, int32_t at) {
  bool front = list->objectives > 1 && qe_trial_list_on_front(list, at);
  return at != qe_trial_list_best(list) && !front && !list->trial[at].failure;
}

/* Done again, it changes nothing: whatever a process that was killed has left undone. */
static qe_status tidy_all(const qe_trial_loop *s, const qe_trial_list *list) {
  int32_t best = qe_trial_list_best(list);
  if (best >= 0) QE_TRY(keep_best(s, &list->trial[best]));
  for (int32_t i = 0; !s->keep_all && i < (int32_t)list->count; i++)
    if (is_spent(list, i)) QE_TRY(prune(s, i + 1));
  return QE_OK;
}

/* After a trial: `before` was the best one until then. */
static qe_status tidy(const qe_trial_loop *s, const qe_trial_list *list, int32_t before) {
  int32_t best = qe_trial_list_best(list), last = (int32_t)list->count - 1;
  if (list->objectives > 1) return tidy_all(s, list);
  if (best >= 0 && best == last) QE_TRY(keep_best(s, &list->trial[best]));
  int32_t loser = best == last ? before : last;
  return !s->keep_all && loser >= 0 && is_spent(list, loser) ? prune(s, loser + 1) : QE_OK;
}

static qe_status record(const qe_trial_loop *s, const double *fact, qe_status status) {
  double value[QE_TRIAL_OBJECTIVES];
  qe_trial_fact kept[QE_TRIAL_KINDS];
  int32_t count = 0;
  for (int i = 0; i < QE_TRIAL_KINDS; i++) {
    if (!isfinite(fact[i])) continue;
    snprintf(kept[count].name, sizeof kept[count].name, "%s", qe_trial_fact_name((qe_trial_fact_kind)i));
    kept[count++].value = fact[i];
  }
  for (int32_t i = 0; i < s->objectives->count; i++)
    value[i] = qe_trial_objective(s->objectives->of[i], fact[s->objectives->of[i]]);
  char *failure = status == QE_OK ? NULL : qe_strdup(qe_message());
  qe_status written = qe_trial_search_record(s->search, status == QE_OK ? value : NULL, failure, kept, count);
  qe_free(failure);
  return written;
}

static void show_progress(const qe_trial_loop *s, const qe_trial_list *list) {
  char text[QE_VALUES_TEXT];
  int32_t best = qe_trial_list_best(list);
  const qe_trial *last = &list->trial[list->count - 1];
  fprintf(stderr, "trial %d: %s", last->number, qe_trial_outcome_text(last, text));
  if (best >= 0 && best + 1 < last->number)
    fprintf(stderr, "; best: trial %d, %s", best + 1, qe_trial_outcome_text(&list->trial[best], text));
  fputs(best + 1 == last->number ? "; the best so far\n" : "\n", stderr);
  if (best >= 0 && qe_report_folder(s->runner->folder) != QE_OK)
    fprintf(stderr, "note: %s/report.html is not written: %s\n", s->runner->folder, qe_message());
}

static qe_status run_one(const qe_trial_loop *s, const qe_trial *trial) {
  const qe_trial_list *list = qe_trial_search_list(s->search);
  double fact[QE_TRIAL_KINDS];
  char text[QE_VALUES_TEXT];
  fprintf(stderr, "trial %d of %d: %s\n", trial->number, s->most, qe_trial_values_text(list, trial, text));
  qe_status status = qe_trial_train(s->runner, trial, fact);
  if (status != QE_OK && !is_of_trial(status)) return status;
  int32_t before = qe_trial_list_best(list);
  QE_TRY(record(s, fact, status));
  QE_TRY(tidy(s, list, before));
  show_progress(s, list);
  return QE_OK;
}

static qe_status check_any(const qe_trial_list *list) {
  if (qe_trial_list_best(list) >= 0 || list->count == 0) return QE_OK;
  return qe_fail(QE_DIVERGED, "none of the %zu trials came to a result; the last: %s", list->count,
                 list->trial[list->count - 1].failure);
}

qe_status qe_trial_loop_run(const qe_trial_loop *s) {
  const qe_trial_list *list = qe_trial_search_list(s->search);
  const qe_trial *trial;
  QE_TRY(tidy_all(s, list));
  for (;;) {
    QE_TRY(qe_trial_search_next(s->search, &trial));
    if (!trial) break;
    QE_TRY(run_one(s, trial));
  }
  if (qe_trial_search_stopped(s->search))
    fprintf(stderr, "note: the search is over after %zu trials: %s\n", list->count, qe_trial_search_stopped(s->search));
  return check_any(list);
}
