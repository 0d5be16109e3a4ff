/* Evaluation of the runs of a report, each on its own data. */
#include "tools/report_runs.h"

#include "core/base/alloc.h"

#include <string.h>

/* The data set of the run's config, unless the command line names one; sets *changed when it is another than before. */
static qe_status choose_data(qe_options *options, const qe_report *report, int run, bool *changed) {
  static const char *const keys[] = {"data", "data-dir", "image-size", "resize"};
  *changed = false;
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    const char *wanted = qe_report_config(report, run, keys[i]), *now = qe_option_text(options, keys[i]);
    if (!wanted || qe_option_source(options, keys[i]) > QE_FROM_RECIPE || (now && strcmp(now, wanted) == 0)) continue;
    QE_TRY(qe_option_set(options, keys[i], wanted, QE_FROM_RECIPE, keys[i], "the run's config.yaml"));
    *changed = true;
  }
  return QE_OK;
}

/* Images of a folder are brought to the size that the network takes, unless the run or the command line says another.
 */
static qe_status choose_side(qe_options *options, const qe_report *report, int run, bool *changed) {
  int32_t side = qe_report_image_side(report, run);
  bool said = qe_option_source(options, "image-size") > QE_FROM_RECIPE || qe_report_config(report, run, "image-size");
  if (said || side == qe_option_int(options, "image-size")) return QE_OK;
  char text[16];
  snprintf(text, sizeof text, "%d", side);
  *changed = true;
  return qe_option_set(options, "image-size", text, QE_FROM_RECIPE, "--image-size", "the network");
}

qe_status qe_choose_run_data(qe_options *options, const qe_report *report, int run, bool *changed) {
  QE_TRY(choose_data(options, report, run, changed));
  return choose_side(options, report, run, changed);
}

static qe_status evaluate(qe_options *options, qe_report *report, int run, qe_setup *setup) {
  bool changed;
  QE_TRY(qe_choose_run_data(options, report, run, &changed));
  if (changed) qe_setup_close(setup);
  if (!setup->device) QE_TRY(qe_setup_open(options, 1, setup));
  return qe_report_evaluate(report, run, setup->device, setup->data, (int32_t)qe_option_int(options, "batch"));
}

qe_status qe_evaluate_runs(qe_options *options, qe_report *report) {
  qe_setup setup = {0};
  qe_status status = QE_OK;
  for (int i = 0; status == QE_OK && i < qe_report_runs(report); i++) {
    if (!qe_report_has_network(report, i)) continue;
    status = evaluate(options, report, i, &setup);
    if (status == QE_OK || status == QE_NO_MEMORY || status == QE_USAGE) continue;
    char *why = qe_strdup(qe_message());
    status = why ? qe_report_say_not_evaluated(report, i, why) : QE_NO_MEMORY;
    if (why) fprintf(stderr, "note: %s is not evaluated: %s\n", qe_report_name(report, i), why);
    qe_free(why);
  }
  qe_setup_close(&setup);
  return status;
}
