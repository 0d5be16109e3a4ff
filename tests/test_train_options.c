/* What the trainer's options do, what it tells while it trains, and how it reports divergence without harm. */
#include "core/data/split.h"
#include "tests/training.h"

/* ---- what the options do ---- */

static void accumulated_batches_are_one_large_batch(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    for (int adam = 0; adam < 2; adam++) {
      qe_train_options large = usual_options(), small = usual_options();
      small.batch = 8;
      small.accumulate = 2;
      large.clip_norm = small.clip_norm = 0.5;
      large.optimizer = small.optimizer = adam ? QE_OPTIMIZER_ADAM : QE_OPTIMIZER_SGD;
      qe_model *start = new_model(&no_norm_net);
      qe_model *a = trained(device, &no_norm_net, &large, 2), *b = trained(device, &no_norm_net, &small, 4);
      int64_t count = model_count(start);
      for (int64_t i = 0; i < count; i++) {
        a->values[i] -= start->values[i];
        b->values[i] -= start->values[i];
      }
      double error = normalised_error(b->values, a->values, count);
      if (!(error < (adam ? 1e-5 : 1e-8))) fail_msg("the change differs by %g", error);
      qe_model_free(start);
      qe_model_free(a);
      qe_model_free(b);
    }
  }
}

static void weights_alone_decay(void **state) {
  (void)state;
  const double decay = 0.5, rate = 0.125;
  FOR_EACH_DEVICE(device) {
    for (int adam = 0; adam < 2; adam++) {
      qe_train_options options = bare_options();
      options.optimizer = adam ? QE_OPTIMIZER_ADAM : QE_OPTIMIZER_SGD;
      qe_model *start = new_model(&low_bit_net), *without = trained(device, &low_bit_net, &options, 1);
      options.weight_decay = decay;
      qe_model *with = trained(device, &low_bit_net, &options, 1);
      for (size_t i = 0; i < start->graph->params; i++) {
        const qe_param *param = &start->graph->param[i];
        const float *a = qe_model_values(with, (int)i), *b = qe_model_values(without, (int)i);
        const float *w = qe_model_values(start, (int)i);
        for (int64_t k = 0; k < qe_count(&param->desc); k++) {
          double wanted = param->group == QE_GROUP_WEIGHT ? -rate * decay * (double)w[k] : 0;
          if (fabs((double)a[k] - (double)b[k] - wanted) > 1e-6)
            fail_msg("%s decays by %g, must by %g", param->name, (double)a[k] - (double)b[k], wanted);
        }
      }
      qe_model_free(start);
      qe_model_free(without);
      qe_model_free(with);
    }
  }
}

static double change(const qe_model *from, const qe_model *to) {
  double square = 0;
  size_t trained_values = from->graph->group_offset[QE_GROUP_STATE] / sizeof(float);
  for (size_t i = 0; i < trained_values; i++) {
    double moved = (double)to->values[i] - (double)from->values[i];
    square += moved * moved;
  }
  return sqrt(square);
}

static void the_gradient_norm_is_clipped(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    qe_train_options options = bare_options();
    qe_model *start = new_model(&float_net), *free_step = trained(device, &float_net, &options, 1);
    double norm = change(start, free_step) / 0.125;
    const double clips[] = {norm / 4, norm * 4};
    for (int i = 0; i < 2; i++) {
      options.clip_norm = clips[i];
      qe_model *model = new_model(&float_net);
      qe_trainer *trainer;
      stop_at stop = {.steps = 1};
      OK(qe_trainer_new(device, model, data, &options, &trainer));
      assert_int_equal(qe_trainer_epoch(trainer, count_down, &stop), QE_INTERRUPTED);
      OK(qe_trainer_download(trainer, false));
      assert_true(fabs(stop.last.gradient_norm - norm) < 1e-4 * norm); /* reported before clipping */
      double wanted = 0.125 * (i ? norm : clips[0]);
      assert_true(fabs(change(start, model) - wanted) < 1e-4 * wanted);
      if (i) assert_true(same_values(model, free_step));
      qe_trainer_free(trainer);
      qe_model_free(model);
    }
    qe_model_free(start);
    qe_model_free(free_step);
  }
}

/* Adam's first step has the size of the rate, whatever the gradient, thanks to its corrections. */
static void adams_first_step(void **state) {
  (void)state;
  qe_train_options options = bare_options();
  options.optimizer = QE_OPTIMIZER_ADAM;
  options.momentum = 0.9;
  options.schedule.rate = 0.01;
  qe_model *start = new_model(&float_net), *after = trained(fixture_fast(), &float_net, &options, 1);
  int64_t count;
  const float *was = values_of(start, "conv1.weight", &count), *is = values_of(after, "conv1.weight", NULL);
  for (int64_t i = 0; i < count; i++) assert_true(fabs(fabs((double)is[i] - (double)was[i]) - 0.01) < 1e-4);
  qe_model_free(start);
  qe_model_free(after);
}

static void steps_stay_positive(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    qe_train_options options = bare_options();
    options.schedule.rate = 1000;
    qe_model *model = trained(device, &low_bit_net, &options, 1);
    int at_bound = 0;
    for (size_t i = 0; i < model->graph->params; i++) {
      const qe_param *param = &model->graph->param[i];
      const float *step = qe_model_values(model, (int)i);
      if (param->group != QE_GROUP_STEP) continue;
      for (int64_t k = 0; k < qe_count(&param->desc); k++) {
        assert_true(step[k] >= 1e-7f);
        at_bound += step[k] <= 1e-7f;
      }
    }
    assert_true(at_bound > 0);
    qe_model_free(model);
  }
}

/* Other pixels in the held-out images change nothing but the score on them. */
static void held_out_images_are_not_trained_on(void **state) {
  (void)state;
  int32_t kept[50], held[20];
  qe_train_options options = usual_options();
  options.held_out = 20;
  qe_dataset *spoilt = small_data(8, 3, 4, 70, 40);
  OK(qe_split(options.seed, data->train_labels, 70, 4, 20, kept, held));
  for (int i = 0; i < 20; i++) memset(spoilt->train_pixels + held[i] * 192, i * 10, 192);
  qe_model *a = new_model(&float_net), *b = new_model(&float_net);
  qe_trainer *clean, *dirty;
  qe_score score[2], rest[2], test[2];
  OK(qe_trainer_new(fixture_fast(), a, data, &options, &clean));
  OK(qe_trainer_new(fixture_fast(), b, spoilt, &options, &dirty));
  train(clean, &options, 0);
  train(dirty, &options, 0);
  assert_true(same_values(a, b));
  qe_trainer *const trainers[2] = {clean, dirty};
  for (int i = 0; i < 2; i++) {
    OK(qe_trainer_evaluate(trainers[i], QE_PART_HELD_OUT, false, &score[i]));
    OK(qe_trainer_evaluate(trainers[i], QE_PART_TRAIN, false, &rest[i]));
    OK(qe_trainer_evaluate(trainers[i], QE_PART_TEST, false, &test[i]));
    assert_int_equal(score[i].images, 20);
    assert_int_equal(rest[i].images, 50);
    assert_int_equal(test[i].images, 40);
  }
  assert_true(score[0].loss != score[1].loss);
  assert_true(rest[0].loss == rest[1].loss && test[0].loss == test[1].loss);
  qe_trainer_free(clean);
  qe_trainer_free(dirty);
  qe_model_free(a);
  qe_model_free(b);
  qe_dataset_free(spoilt);
}

/* The loss of the first batch is linear in the smoothing; evaluation is without. */
static void labels_are_smoothed(void **state) {
  (void)state;
  double loss[3], test[3];
  for (int i = 0; i < 3; i++) {
    qe_train_options options = bare_options();
    options.smoothing = 0.3f * (float)i;
    options.schedule.rate = 0;
    qe_model *model = new_model(&no_norm_net);
    qe_trainer *trainer;
    stop_at stop = {.steps = 1};
    qe_score score;
    OK(qe_trainer_new(fixture_fast(), model, data, &options, &trainer));
    OK(qe_trainer_evaluate(trainer, QE_PART_TEST, false, &score));
    assert_int_equal(qe_trainer_epoch(trainer, count_down, &stop), QE_INTERRUPTED);
    loss[i] = stop.last.train.loss;
    test[i] = score.loss;
    qe_trainer_free(trainer);
    qe_model_free(model);
  }
  assert_true(fabs(loss[1] - (loss[0] + loss[2]) / 2) < 1e-6);
  assert_true(fabs(loss[2] - loss[0]) > 1e-3);
  assert_true(test[0] == test[1] && test[0] == test[2]);
}

typedef struct seen {
  const qe_train_options *options;
  int64_t calls;
} seen;

static qe_status check_progress(void *context, const qe_train_progress *progress) {
  seen *so_far = context;
  int64_t at = so_far->calls++; /* 4 steps an epoch, 2 updates */
  assert_int_equal(progress->epoch, at / 4 + 1);
  assert_int_equal(progress->epochs, 3);
  assert_int_equal(progress->step, at % 4 + 1);
  assert_int_equal(progress->steps, 4);
  assert_int_equal(progress->train.images, 16 * (at % 4 + 1));
  assert_true(progress->train.loss > 0 && progress->train.top1 >= 0 && progress->train.top1 <= 100);
  if (at % 2) {
    double wanted = qe_schedule_rate(&so_far->options->schedule, at / 2, 6, 2);
    assert_true(fabs(progress->rate - wanted) < 1e-15);
    assert_true(progress->gradient_norm > 0);
  }
  return QE_OK;
}

/* ---- moving average ---- */

typedef struct averaging {
  qe_trainer *trainer;
  qe_model *model;
  float *wanted; /* the average as it should be */
  int steps;
} averaging;

/* After each update: average = d average + (1 - d) parameters, d = min(ema, t / (t + 9)). */
static qe_status follow_average(void *context, const qe_train_progress *progress) {
  (void)progress;
  averaging *a = context;
  double t = ++a->steps, decay = fmin(0.5, t / (t + 9));
  QE_TRY(qe_trainer_download(a->trainer, false));
  for (int64_t i = 0; i < model_count(a->model); i++)
    a->wanted[i] = (float)(decay * (double)a->wanted[i] + (1 - decay) * (double)a->model->values[i]);
  return QE_OK;
}

static void the_average_follows_the_parameters(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    averaging a = {.model = new_model(&float_net)};
    qe_train_options options = usual_options();
    options.epochs = 2;
    options.ema = 0.5;
    OK(qe_trainer_new(device, a.model, data, &options, &a.trainer));
    a.wanted = qe_alloc(qe_graph_param_bytes(a.model->graph));
    assert_non_null(a.wanted);
    memcpy(a.wanted, a.model->values, qe_graph_param_bytes(a.model->graph));
    for (int epoch = 0; epoch < options.epochs; epoch++) OK(qe_trainer_epoch(a.trainer, follow_average, &a));
    OK(qe_trainer_download(a.trainer, false));
    assert_true(normalised_error(a.model->values, a.wanted, model_count(a.model)) > 1e-8); /* not the parameters */
    OK(qe_trainer_download(a.trainer, true));
    assert_true(normalised_error(a.model->values, a.wanted, model_count(a.model)) < 1e-12);
    qe_score score;
    OK(qe_trainer_evaluate(a.trainer, QE_PART_TEST, true, &score));
    qe_trainer_free(a.trainer);
    qe_free(a.wanted);
    qe_model_free(a.model);
  }
}

static void progress_is_told(void **state) {
  (void)state;
  qe_train_options options = usual_options();
  options.accumulate = 2;
  options.schedule.warmup = 1;
  seen so_far = {&options, 0};
  qe_model *model = new_model(&float_net);
  qe_trainer *trainer;
  OK(qe_trainer_new(fixture_fast(), model, data, &options, &trainer));
  for (int epoch = 0; epoch < 3; epoch++) OK(qe_trainer_epoch(trainer, check_progress, &so_far));
  assert_int_equal(so_far.calls, 12); /* 70 images are 4 batches of 16, the rest is left for another epoch */
  FAILS(QE_USAGE, qe_trainer_epoch(trainer, NULL, NULL), "all 3 epochs are done");
  assert_true(qe_trainer_bytes(trainer) > 3 * qe_graph_param_bytes(model->graph));
  qe_trainer_free(trainer);
  qe_model_free(model);
}

/* ---- divergence ---- */

static void a_planted_nan_is_named(void **state) {
  (void)state;
  static const struct {
    const char *param, *layer;
  } planted[] = {{"conv2.weight", "layer conv2;"},
                 {"conv1_norm.gamma", "layer conv1_norm;"},
                 {"fc.bias", "layer fc;"},
                 {"act2.step", "layer act2;"}};
  FOR_EACH_DEVICE(device) {
    for (int i = 0; i < 4; i++) {
      qe_train_options options = usual_options();
      qe_model *model = new_model(&low_bit_net), *before = new_model(&low_bit_net);
      qe_trainer *trainer;
      OK(qe_trainer_new(device, model, data, &options, &trainer));
      OK(qe_trainer_epoch(trainer, NULL, NULL));
      stop_at stop = {.steps = 2};
      assert_int_equal(qe_trainer_epoch(trainer, count_down, &stop), QE_INTERRUPTED);
      OK(qe_trainer_download(trainer, false));
      *values_of(model, planted[i].param, NULL) = NAN;
      memcpy(before->values, model->values, qe_graph_param_bytes(model->graph));
      OK(qe_trainer_upload(trainer));
      FAILS(QE_DIVERGED, qe_trainer_epoch(trainer, NULL, NULL), "epoch 2, step 3");
      if (!strstr(qe_message(), planted[i].layer)) fail_msg("%s: %s", planted[i].param, qe_message());
      OK(qe_trainer_download(trainer, false));
      assert_true(same_values(model, before)); /* running statistics too */
      qe_trainer_free(trainer);
      qe_model_free(model);
      qe_model_free(before);
    }
  }
}

typedef struct snapshot {
  qe_trainer *trainer;
  qe_model *model;
  float *values;
  int64_t steps;
} snapshot;

static qe_status take_snapshot(void *context, const qe_train_progress *progress) {
  snapshot *shot = context;
  (void)progress;
  shot->steps++;
  OK(qe_trainer_download(shot->trainer, false));
  memcpy(shot->values, shot->model->values, qe_graph_param_bytes(shot->model->graph));
  return QE_OK;
}

/* With rates beyond reason the parameters stay those after the last good step. */
static void a_huge_rate_diverges(void **state) {
  (void)state;
  static const double rates[] = {1e6, 1e18, 1e30};
  static const net_options *const nets[] = {&no_norm_net, &float_net, &low_bit_net};
  int diverged = 0;
  FOR_EACH_DEVICE(device) {
    for (int i = 0; i < 9; i++) {
      qe_train_options options = usual_options();
      options.schedule.rate = rates[i % 3];
      qe_model *model = new_model(nets[i / 3]);
      snapshot shot = {.model = model, .values = qe_alloc(qe_graph_param_bytes(model->graph))};
      assert_non_null(shot.values);
      OK(qe_trainer_new(device, model, data, &options, &shot.trainer));
      qe_status status = QE_OK;
      for (int epoch = 0; epoch < 3 && status == QE_OK; epoch++)
        status = qe_trainer_epoch(shot.trainer, take_snapshot, &shot);
      if (status != QE_OK) {
        char step[64];
        assert_int_equal(status, QE_DIVERGED);
        snprintf(step, sizeof step, "epoch %d, step %d ", (int)shot.steps / 4 + 1, (int)shot.steps % 4 + 1);
        if (!strstr(qe_message(), step)) fail_msg("'%s' lacks '%s'", qe_message(), step);
        assert_non_null(strstr(qe_message(), "lower the learning rate"));
        OK(qe_trainer_download(shot.trainer, false));
        assert_memory_equal(model->values, shot.values, qe_graph_param_bytes(model->graph));
        diverged++;
      }
      qe_trainer_free(shot.trainer);
      qe_free(shot.values);
      qe_model_free(model);
    }
  }
  assert_true(diverged > 5);
}

/* ---- what is refused ---- */

static qe_status try_options(const qe_train_options *options) {
  qe_model *model = new_model(&float_net);
  qe_trainer *trainer = NULL;
  qe_status status = qe_trainer_new(fixture_device[0], model, data, options, &trainer);
  qe_trainer_free(trainer);
  qe_model_free(model);
  return status;
}

#define REFUSED(change, text)                                                                                          \
  do {                                                                                                                 \
    qe_train_options options = usual_options();                                                                        \
    options.change;                                                                                                    \
    FAILS(QE_USAGE, try_options(&options), text);                                                                      \
  } while (0)

static void bad_options_are_refused(void **state) {
  (void)state;
  REFUSED(epochs = 0, "epochs 0");
  REFUSED(batch = 0, "batch 0");
  REFUSED(accumulate = 0, "accumulate 0");
  REFUSED(batch = 71, "70 training images");
  REFUSED(accumulate = 5, "70 training images");
  REFUSED(held_out = -1, "held out");
  REFUSED(held_out = 70, "held out");
  REFUSED(schedule.rate = -1, "learning rate");
  REFUSED(schedule.rate = (double)NAN, "learning rate");
  REFUSED(schedule.rate = (double)INFINITY, "learning rate");
  REFUSED(schedule.kind = QE_SCHEDULE_CYCLICAL; options.schedule.cycle = 0, "cycle");

  qe_train_options options = usual_options();
  qe_model *model = new_model(&float_net);
  qe_trainer *trainer;
  qe_score score;
  OK(qe_trainer_new(fixture_device[0], model, data, &options, &trainer));
  FAILS(QE_USAGE, qe_trainer_evaluate(trainer, QE_PART_HELD_OUT, false, &score), "held-out");
  FAILS(QE_USAGE, qe_trainer_evaluate(trainer, QE_PART_TEST, true, &score), "ema");
  qe_trainer_free(trainer);
  qe_trainer_free(NULL);
  qe_model_free(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(accumulated_batches_are_one_large_batch),
      cmocka_unit_test(weights_alone_decay),
      cmocka_unit_test(the_gradient_norm_is_clipped),
      cmocka_unit_test(adams_first_step),
      cmocka_unit_test(steps_stay_positive),
      cmocka_unit_test(held_out_images_are_not_trained_on),
      cmocka_unit_test(labels_are_smoothed),
      cmocka_unit_test(the_average_follows_the_parameters),
      cmocka_unit_test(progress_is_told),
      cmocka_unit_test(a_planted_nan_is_named),
      cmocka_unit_test(a_huge_rate_diverges),
      cmocka_unit_test(bad_options_are_refused),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
