/* What a search over settings has come to: lines, the table, JSON. */
#include "tools/trial_table.h"

#include <math.h>
#include <string.h>

const char *qe_trial_values_text(const qe_trial_list *list, const qe_trial *trial, char text[QE_VALUES_TEXT]) {
  size_t used = 0;
  text[0] = 0;
  for (int32_t i = 0; i < list->n && used < QE_VALUES_TEXT; i++)
    used +=
        (size_t)snprintf(text + used, QE_VALUES_TEXT - used, "%s%s %s", i ? ", " : "", list->name[i], trial->text[i]);
  return text;
}

const char *qe_trial_outcome_text(const qe_trial *trial, char text[QE_VALUES_TEXT]) {
  if (trial->failure)
    snprintf(text, QE_VALUES_TEXT, "failed: %s", trial->failure);
  else
    snprintf(text, QE_VALUES_TEXT, "held-out loss %.4f, top-1 %.2f %%",
             qe_trial_fact_of(trial, qe_trial_fact_name(QE_TRIAL_LOSS)),
             qe_trial_fact_of(trial, qe_trial_fact_name(QE_TRIAL_TOP1)));
  return text;
}

/* ---- the table ---- */

static int width_of(const qe_trial_list *list, int32_t variable) {
  size_t most = strlen(list->name[variable]);
  for (size_t i = 0; i < list->count; i++) {
    size_t length = strlen(list->trial[i].text[variable]);
    if (length > most) most = length;
  }
  return (int)most;
}

static void print_number(const qe_trial *trial, qe_trial_fact_kind kind, int width, int places) {
  double value = qe_trial_fact_of(trial, qe_trial_fact_name(kind));
  if (isfinite(value))
    printf("  %*.*f", width, places, value);
  else
    printf("  %*s", width, "");
}

static void print_row(const qe_trial_list *list, int32_t at, const char *mark) {
  const qe_trial *trial = &list->trial[at];
  printf("%5d %1s", trial->number, mark);
  print_number(trial, QE_TRIAL_LOSS, 8, 4);
  print_number(trial, QE_TRIAL_TOP1, 7, 2);
  print_number(trial, QE_TRIAL_BYTES, 9, 0);
  for (int32_t i = 0; i < list->n; i++) printf("  %*s", width_of(list, i), trial->text[i]);
  printf("%s%s\n", trial->failure ? "  failed: " : "", trial->failure ? trial->failure : "");
}

void qe_trial_table_print(const qe_trial_list *list) {
  int32_t best = qe_trial_list_best(list);
  printf("%5s %1s  %8s  %7s  %9s", "trial", "", "loss", "top-1 %", "bytes");
  for (int32_t i = 0; i < list->n; i++) printf("  %*s", width_of(list, i), list->name[i]);
  puts("");
  for (int32_t i = 0; i < (int32_t)list->count; i++) {
    bool front = list->objectives > 1 && qe_trial_list_on_front(list, i);
    print_row(list, i, i == best ? "*" : front ? "+" : "");
  }
  printf("loss and top-1 are of the held-out training images; *: the best%s\n",
         list->objectives > 1 ? "; +: none is better in all objectives" : "");
}

/* ---- JSON ---- */

static void write_trial(qe_json *json, const qe_trial_list *list, int32_t at) {
  const qe_trial *trial = &list->trial[at];
  qe_json_open_object(json, NULL);
  qe_json_int(json, "trial", trial->number);
  qe_json_open_object(json, "values");
  for (int32_t i = 0; i < list->n; i++) qe_json_text(json, list->name[i], trial->text[i]);
  qe_json_close(json);
  for (int32_t i = 0; i < trial->facts; i++) qe_json_real(json, trial->fact[i].name, trial->fact[i].value);
  if (trial->failure) qe_json_text(json, "failed", trial->failure);
  qe_json_bool(json, "front", qe_trial_list_on_front(list, at));
  qe_json_close(json);
}

void qe_trial_table_json(const qe_trial_list *list, qe_json *json) {
  qe_json_open_array(json, "trials");
  for (int32_t i = 0; i < (int32_t)list->count; i++) write_trial(json, list, i);
  qe_json_close(json);
  qe_json_int(json, "best", qe_trial_list_best(list) + 1);
}
