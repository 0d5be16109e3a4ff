/* What the tests of the trainer share: a data set, networks, options, and training that can be stopped. */
#ifndef QE_TESTS_TRAINING_H
#define QE_TESTS_TRAINING_H

#include "core/train/trainer.h"
#include "tests/fixture.h"

static qe_dataset *data; /* 8x8x3, 4 classes, 70 training and 40 test images */

static inline int open_all(void **state) {
  data = small_data(8, 3, 4, 70, 40);
  return fixture_open(state);
}
static inline int close_all(void **state) {
  qe_dataset_free(data);
  return fixture_close(state);
}

static const net_options float_net = {0}, no_norm_net = {.no_norm = true},
                         low_bit_net = {.weight_bits = 4, .act_bits = 4};

static inline qe_model *new_model(const net_options *options) {
  qe_model *model = model_of(residual_net(data, options), 2);
  OK(qe_fit_steps(fixture_device[0], model, data, 1));
  return model;
}

/* Three epochs of four steps with all that draws random numbers switched on. */
static inline qe_train_options usual_options(void) {
  qe_train_options options = qe_train_defaults();
  options.epochs = 3;
  options.batch = 16;
  options.eval_batch = 20;
  options.pad = 2;
  options.schedule.rate = 0.05;
  return options;
}

/* One plain SGD step a call: the change of the parameters is -rate times the gradient. */
static inline qe_train_options bare_options(void) {
  qe_train_options options = usual_options();
  options.epochs = 1;
  options.momentum = options.weight_decay = 0;
  options.nesterov = false;
  options.schedule.kind = QE_SCHEDULE_CONSTANT;
  options.schedule.rate = 0.125;
  return options;
}

typedef struct stop_at {
  int64_t steps; /* still to go; QE_INTERRUPTED when it gets to 0 */
  qe_train_progress last;
} stop_at;

static inline qe_status count_down(void *context, const qe_train_progress *progress) {
  stop_at *stop = context;
  stop->last = *progress;
  return --stop->steps == 0 ? QE_INTERRUPTED : QE_OK;
}

/* Train to the end, or up to `steps` batches; the model receives the parameters. */
static inline void train(qe_trainer *trainer, const qe_train_options *options, int64_t steps) {
  stop_at stop = {.steps = steps};
  while (qe_trainer_epochs_done(trainer) < options->epochs) {
    qe_status status = qe_trainer_epoch(trainer, count_down, &stop);
    if (status == QE_INTERRUPTED) break;
    OK(status);
  }
  OK(qe_trainer_download(trainer, false));
}

static inline qe_model *trained(qe_device *device, const net_options *net, const qe_train_options *options,
                                int64_t steps) {
  qe_model *model = new_model(net);
  qe_trainer *trainer;
  OK(qe_trainer_new(device, model, data, options, &trainer));
  train(trainer, options, steps);
  qe_trainer_free(trainer);
  return model;
}

static inline float *values_of(const qe_model *model, const char *name, int64_t *count) {
  int at = qe_graph_find_param(model->graph, name);
  if (at < 0) fail_msg("no parameter is called %s", name);
  if (count) *count = qe_count(&model->graph->param[at].desc);
  return qe_model_values(model, at);
}

#endif
