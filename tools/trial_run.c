/* One trial of a search over settings: options, run, score. */
#include "tools/trial_run.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json_read.h"
#include "core/dispatch/network_file.h"
#include "core/graph/cost_table.h"
#include "core/train/pipeline.h"
#include "core/train/search_folder.h"
#include "tools/bench.h"
#include "tools/dry_run.h"
#include "tools/train_choice.h"
#include "tools/train_pipeline.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

enum { RESULT_LIMIT = 1 << 20 };

const char *qe_trial_fact_name(qe_trial_fact_kind kind) {
  static const char *const names[] = {
#define X(id, name) name,
      QE_TRIAL_FACT_LIST(X)
#undef X
  };
  return names[kind];
}

/* ---- objectives ---- */

static qe_status add_objective(const char *word, size_t length, qe_trial_objectives *to) {
  for (int i = 0; i < QE_TRIAL_OBJECTIVES; i++) {
    const char *name = qe_trial_fact_name((qe_trial_fact_kind)i);
    if (strlen(name) != length || strncmp(name, word, length) != 0) continue;
    for (int32_t k = 0; k < to->count; k++)
      if ((int)to->of[k] == i) return qe_fail(QE_USAGE, "--search-objective: %s stands there twice", name);
    to->of[to->count++] = (qe_trial_fact_kind)i;
    return QE_OK;
  }
  return qe_fail(QE_USAGE,
                 "--search-objective: '%.*s' is none: there are loss and top1, on held-out training images (never on "
                 "the test images), bytes and bit-ops",
                 (int)length, word);
}

qe_status qe_trial_objectives_read(const qe_options *options, qe_trial_objectives *objectives) {
  const char *at = qe_option_text(options, "search-objective");
  *objectives = (qe_trial_objectives){.count = 0};
  do {
    size_t length = strcspn(at, ",");
    QE_TRY(add_objective(at, length, objectives));
    at += length;
  } while (*at++);
  return QE_OK;
}

double qe_trial_objective(qe_trial_fact_kind kind, double fact) {
  return kind == QE_TRIAL_TOP1 ? 100 - fact : fact;
}

/* ---- options ---- */

void qe_trial_runner_close(qe_trial_runner *runner) {
  qe_setup_close(&runner->setup);
  qe_options_free(runner->opened);
  runner->opened = NULL;
}

static qe_status drop_search(qe_options *options) {
  for (size_t i = 0; i < qe_option_table_rows; i++)
    if (qe_trial_is_of_search(qe_option_table[i].name)) QE_TRY(qe_option_reset(options, qe_option_table[i].name));
  return QE_OK;
}

qe_status qe_trial_options(const qe_trial_runner *runner, char *const *text, const char *origin, bool searching,
                           qe_options **options) {
  qe_options *made;
  QE_TRY(qe_options_copy(runner->options, &made));
  qe_status status = searching ? QE_OK : drop_search(made);
  if (status == QE_OK) status = qe_trial_space_apply(runner->space, text, origin, made);
  if (status == QE_OK)
    *options = made;
  else
    qe_options_free(made);
  return status;
}

/* ---- trials of one method ---- */

static qe_status open_training(qe_trial_runner *runner, qe_options *options, qe_training *training) {
  const char *name = qe_option_text(options, "method");
  const qe_method *method = name ? qe_method_find(name) : NULL;
  if (!method) {
    (void)qe_train_say_unknown(name ? name : "");
    return QE_USAGE;
  }
  if (runner->opened && !qe_setup_serves(&runner->setup, runner->opened, options)) qe_setup_close(&runner->setup);
  qe_options_free(runner->opened);
  runner->opened = NULL;
  QE_TRY(qe_training_open(options, method, &runner->setup, training));
  training->bare = true;
  return qe_options_copy(options, &runner->opened);
}

/* ---- of a pipeline or of one method ---- */

static bool is_pipeline(const qe_options *options) {
  return qe_options_steps(options) > 0;
}

qe_status qe_trial_config(qe_trial_runner *runner, qe_options *options, char **config) {
  if (is_pipeline(options)) {
    qe_steps steps;
    QE_TRY(qe_steps_open(options, &steps));
    *config = qe_steps_dump(&steps);
    qe_steps_close(&steps);
  } else {
    qe_training training;
    QE_TRY(open_training(runner, options, &training));
    *config = qe_options_dump(options);
  }
  return *config ? QE_OK : QE_NO_MEMORY;
}

qe_status qe_trial_plan(qe_trial_runner *runner, qe_options *options, qe_json *json, double *seconds) {
  if (is_pipeline(options)) {
    qe_steps steps;
    QE_TRY(qe_steps_open(options, &steps));
    qe_status status = qe_plan_pipeline(&steps, json, seconds);
    qe_steps_close(&steps);
    return status;
  }
  qe_training training;
  QE_TRY(open_training(runner, options, &training));
  return qe_dry_run_step(&training, "a trial at the start", json, seconds);
}

/* ---- what it is worth ---- */

/* A search in integers has evaluated its network on the held-out images itself. */
static qe_status score_network(const qe_tensors *tensors, const char *path, double *fact) {
  qe_network *network;
  qe_cost_table cost = {0};
  cJSON *result;
  char *folder = qe_path_folder(path);
  qe_status status = folder ? qe_json_find(folder, "result.json", RESULT_LIMIT, &result) : QE_NO_MEMORY;
  qe_free(folder);
  if (status != QE_OK) return status;
  const cJSON *loss = cJSON_GetObjectItemCaseSensitive(result, "held_out_loss"),
              *top1 = cJSON_GetObjectItemCaseSensitive(result, "held_out_top1");
  if (cJSON_IsNumber(loss)) fact[QE_TRIAL_LOSS] = loss->valuedouble;
  if (cJSON_IsNumber(top1)) fact[QE_TRIAL_TOP1] = top1->valuedouble;
  cJSON_Delete(result);
  QE_TRY(qe_network_take(tensors, path, &network));
  status = qe_cost_of_network(network, &cost);
  fact[QE_TRIAL_BYTES] = (double)cost.sum.bytes;
  fact[QE_TRIAL_BIT_OPS] = (double)cost.sum.bit_ops;
  qe_cost_table_free(&cost);
  qe_network_free(network);
  return status;
}

static qe_status score_model(const qe_training *training, const char *path, double *fact) {
  qe_model *model;
  qe_score score = {0};
  QE_TRY(qe_model_read(path, &model, NULL));
  qe_status status =
      qe_evaluate_held_out(training->setup->device, model, training->setup->data, &training->setting.options, &score);
  qe_cost cost = qe_graph_cost(model->graph, -1);
  qe_model_free(model);
  if (status != QE_OK) return status;
  fact[QE_TRIAL_LOSS] = score.loss;
  fact[QE_TRIAL_TOP1] = score.top1;
  fact[QE_TRIAL_BYTES] = (double)((cost.bits + 7) / 8);
  fact[QE_TRIAL_BIT_OPS] = (double)cost.bit_ops;
  return QE_OK;
}

/* The best model of the folder with the trial's last run. */
static qe_status score(const qe_training *training, const char *folder, double *fact) {
  qe_tensors *tensors;
  char *path = qe_path_join(folder, "best.safetensors");
  qe_status status = path ? qe_tensors_read(path, &tensors) : QE_NO_MEMORY;
  if (status == QE_OK) {
    bool network = qe_network_is_file(tensors);
    if (network) status = score_network(tensors, path, fact);
    qe_tensors_free(tensors);
    if (!network) status = score_model(training, path, fact);
  }
  qe_free(path);
  return status;
}

/* ---- running ---- */

static qe_run_options place_of(const qe_trial_runner *runner, const qe_options *options, const char *folder,
                               const char *config, bool resume) {
  qe_run_options place = qe_training_place(options, config);
  place.folder = folder;
  place.whole = runner->folder;
  place.resume = resume;
  return place;
}

static qe_status train_method(qe_trial_runner *runner, qe_options *options, const char *folder, bool finished,
                              bool begun, double *fact) {
  qe_training training;
  qe_result result;
  QE_TRY(open_training(runner, options, &training));
  char *config = qe_options_dump(options);
  if (!config) return QE_NO_MEMORY;
  qe_run_options place = place_of(runner, options, folder, config, begun);
  qe_status status = finished ? QE_OK : qe_training_run(&training, &place, &result);
  qe_free(config);
  return status == QE_OK ? score(&training, folder, fact) : status;
}

static qe_status train_steps(const qe_trial_runner *runner, qe_steps *steps, const char *folder, bool finished,
                             bool begun, double *fact) {
  char *config = qe_steps_dump(steps), *list = NULL, *last = NULL;
  qe_training training;
  qe_status status = config ? qe_pipeline_text(&steps->list, &list) : QE_NO_MEMORY;
  if (status == QE_OK && !finished) {
    qe_run_options place = place_of(runner, steps->options, folder, config, begun);
    place.pipeline = list;
    status = qe_run_pipeline(steps, &place, true);
  }
  if (status == QE_OK) status = qe_steps_resolve(steps, steps->count - 1, folder, NULL, NULL);
  if (status == QE_OK) status = qe_steps_training(steps, steps->count - 1, &training);
  if (status == QE_OK && !(last = qe_path_join(folder, steps->list.step[steps->count - 1].folder)))
    status = QE_NO_MEMORY;
  if (status == QE_OK) status = score(&training, last, fact);
  qe_free(last);
  qe_free(list);
  qe_free(config);
  return status;
}

static qe_status train_pipeline(qe_trial_runner *runner, qe_options *options, const char *folder, bool finished,
                                bool begun, double *fact) {
  qe_steps steps;
  QE_TRY(qe_option_set(options, "out", folder, QE_FROM_COMMAND, "out", "the trial"));
  QE_TRY(qe_steps_open(options, &steps));
  qe_status status = train_steps(runner, &steps, folder, finished, begun, fact);
  qe_steps_close(&steps);
  return status;
}

qe_status qe_trial_train(qe_trial_runner *runner, const qe_trial *trial, double *fact) {
  char origin[32], *folder = qe_trial_folder(runner->folder, trial->number);
  qe_options *options = NULL;
  bool finished = false, begun = false;
  double since = qe_bench_clock();
  for (int i = 0; i < QE_TRIAL_KINDS; i++) fact[i] = (double)NAN;
  snprintf(origin, sizeof origin, "trial %d", trial->number);
  qe_status status = folder ? qe_trial_stand(folder, &finished, &begun) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_trial_options(runner, trial->text, origin, false, &options);
  if (status == QE_OK && is_pipeline(options))
    status = train_pipeline(runner, options, folder, finished, begun, fact);
  else if (status == QE_OK)
    status = train_method(runner, options, folder, finished, begun, fact);
  if (!begun) fact[QE_TRIAL_SECONDS] = qe_bench_clock() - since;
  qe_options_free(options);
  qe_free(folder);
  return status;
}

qe_status qe_trial_last_run(const qe_trial_runner *runner, int number, char **folder) {
  char *trial = qe_trial_folder(runner->folder, number);
  qe_pipeline pipeline;
  if (!trial) return QE_NO_MEMORY;
  if (!qe_pipeline_is(trial)) {
    *folder = trial;
    return QE_OK;
  }
  qe_status status = qe_pipeline_read(trial, &pipeline);
  if (status == QE_OK) {
    *folder = qe_path_join(trial, pipeline.step[pipeline.steps - 1].folder);
    status = *folder ? QE_OK : QE_NO_MEMORY;
    qe_pipeline_free(&pipeline);
  }
  qe_free(trial);
  return status;
}
