/* Runs so small that they can be made a thousand times, for tests of what is left of them on disk. */
#ifndef QE_TESTS_SMALL_RUNS_H
#define QE_TESTS_SMALL_RUNS_H

#include "core/dispatch/network_file.h"
#include "core/methods/method.h"
#include "tests/small_network.h"
/* After the one above, which would shadow its global `data`. */
#include "tests/run_compare.h"

static inline qe_train_options gradient_options(bool plain) {
  qe_train_options options = qe_train_defaults();
  options.epochs = 2;
  options.batch = 8;
  options.eval_batch = 20;
  options.pad = 1;
  options.ema = 0.9;
  options.held_out = 16;
  options.accumulate = 2;
  options.optimizer = QE_OPTIMIZER_ADAM;
  options.schedule.rate = plain ? 0.01 : 0.003;
  options.plain = plain;
  return options;
}

static inline qe_status train_phase(const qe_setting *setting, qe_model *model, const char *phase) {
  qe_train_options options = gradient_options(strcmp(phase, "float") == 0);
  qe_trainer *trainer;
  qe_score score;
  QE_TRY(qe_trainer_new(setting->device, model, setting->data, &options, &trainer));
  qe_status status = qe_run_phase(setting->run, trainer, model, &options, phase, &score);
  qe_trainer_free(trainer);
  return status;
}

/* Steps that are not fitted, which would take most of the time. */
static inline void set_steps(const qe_model *model) {
  for (size_t i = 0; i < model->graph->params; i++) {
    qe_param *param = &model->graph->param[i];
    if (param->group != QE_GROUP_STEP) continue;
    for (int64_t k = 0; k < qe_count(&param->desc); k++) qe_model_values(model, (int)i)[k] = 0.125f;
    param->initialised = true;
  }
}

/* Two epochs of six batches in full precision, two with 4 bits, with all that has a state; as the method qat, of a
 * network so small that it can be run a thousand times. */
static inline qe_status train_gradient(qe_setting *setting, qe_result *result) {
  (void)result;
  qe_model *model = model_of(residual_net(setting->data, &(net_options){.weight_bits = 4, .act_bits = 4}), 2);
  const char *resumed = qe_run_resumed_phase(setting->run);
  qe_status status = resumed && strcmp(resumed, "qat") == 0 ? QE_OK : train_phase(setting, model, "float");
  if (status == QE_OK && !qe_run_resumed_phase(setting->run)) set_steps(model);
  if (status == QE_OK) status = train_phase(setting, model, "qat");
  qe_model_free(model);
  return status;
}

/* Two stages, each with a distribution to be kept. */
static inline qe_status train_search(qe_setting *setting, qe_result *result) {
  static const qe_eda_options eda = {
#define QE_EDA_INT(field, name, initial, least, most, help) .field = (initial),
#define QE_EDA_FLAG(field, name, initial, help) .field = (initial),
#include "core/evolve/eda_options.def"
#undef QE_EDA_INT
#undef QE_EDA_FLAG
  };
  setting->init = path_of("init.network");
  setting->options = qe_train_defaults();
  setting->search = (qe_search_setting){.stages = "eda,eda", .evolve = "weights", .save_every = 2};
  setting->search.fitness = (qe_fitness_options){.held_out = 16, .pad = 1, .flip = true};
  qe_eda_options *to = &setting->search.options.eda;
  *to = eda;
  to->individuals = 6;
  to->best = 2;
  to->batch = 12;
  to->accept_batch = 12;
  to->group = 60;
  to->generations = 3;
  to->share = 5000;
  to->cycles = 1;
  to->elitism = true;
  return qe_train_coevolution(setting, result);
}

/* ---- events ---- */

static char noted[1024]; /* what the last call of go noted */

static inline void on_note(void *context, const char *text) {
  (void)context;
  size_t used = strlen(noted);
  snprintf(noted + used, sizeof noted - used, "%s\n", text);
}

static int steps_left; /* until the run is asked to stop; 0: it is not */

static inline qe_status on_step(void *context, const char *phase, const qe_train_progress *progress) {
  (void)context;
  (void)phase;
  (void)progress;
  return steps_left > 0 && --steps_left == 0 ? QE_INTERRUPTED : QE_OK;
}
static inline qe_status on_generation(void *context, const qe_search_report *report) {
  (void)report;
  return on_step(context, NULL, NULL);
}

static inline qe_run_options usual_options(void) {
  return (qe_run_options){.config = "seed: 1\n", .save_every = 1, .save_steps = 2, .log_every = 2, .keep = 2};
}

/* ---- how often ---- */

static inline int torture(int usual) {
  const char *times = getenv("QEVO_TORTURE");
  return usual * (times && atoi(times) > 0 ? atoi(times) : 1);
}

/* So many calls lie between two that are struck that about `points` are. */
static inline long stride(long calls, int points) {
  long each = calls / torture(points);
  return each > 0 ? each : 1;
}

static inline int open_runs(void **state) {
  /* Thousands of files are replaced: in memory, where there is such a folder. */
  if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 0);
  int failed = open_all(state);
  data->name = qe_strdup("drawn");
  data->source = qe_strdup("drawn");
  qe_network *network = small_network(5, data);
  OK(qe_network_write(network, path_of("init.network")));
  qe_network_free(network);
  setenv("QEVO_BACKEND_DIR", folder, 1); /* searches open a registry of their own: the built-in backend will do */
  return failed;
}

#endif
