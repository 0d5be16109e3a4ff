/* The trainer: it learns, it is reproducible to the bit and across interruptions, its options do what they say, and it
 * reports divergence without harm. */
#include "core/data/split.h"
#include "core/train/trainer.h"
#include "tests/async_device.h"

static qe_dataset *data; /* 8x8x3, 4 classes */

static int open_all(void **state) {
  data = small_data(8, 3, 4, 70, 40);
  return fixture_open(state);
}
static int close_all(void **state) {
  qe_dataset_free(data);
  return fixture_close(state);
}

static const net_options float_net = {0}, no_norm_net = {.no_norm = true}, low_bit_net = {.weight_bits = 4, .act_bits = 4};

static qe_model *new_model(const net_options *options) {
  qe_model *model = model_of(residual_net(data, options), 2);
  OK(qe_fit_steps(fixture_device[0], model, data, 1));
  return model;
}

/* Three epochs of four steps with all that draws random numbers switched on. */
static qe_train_options usual_options(void) {
  qe_train_options options = qe_train_defaults();
  options.epochs = 3;
  options.batch = 16;
  options.eval_batch = 20;
  options.pad = 2;
  options.schedule.rate = 0.05;
  return options;
}

/* One plain SGD step a call: the change of the parameters is -rate times the gradient. */
static qe_train_options bare_options(void) {
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

static qe_status count_down(void *context, const qe_train_progress *progress) {
  stop_at *stop = context;
  stop->last = *progress;
  return --stop->steps == 0 ? QE_INTERRUPTED : QE_OK;
}

/* Train to the end, or up to `steps` batches; the model receives the parameters. */
static void train(qe_trainer *trainer, const qe_train_options *options, int64_t steps) {
  stop_at stop = {.steps = steps};
  while (qe_trainer_epochs_done(trainer) < options->epochs) {
    qe_status status = qe_trainer_epoch(trainer, count_down, &stop);
    if (status == QE_INTERRUPTED) break;
    OK(status);
  }
  OK(qe_trainer_download(trainer, false));
}

static qe_model *trained(qe_device *device, const net_options *net, const qe_train_options *options, int64_t steps) {
  qe_model *model = new_model(net);
  qe_trainer *trainer;
  OK(qe_trainer_new(device, model, data, options, &trainer));
  train(trainer, options, steps);
  qe_trainer_free(trainer);
  return model;
}

static float *values_of(const qe_model *model, const char *name, int64_t *count) {
  int at = qe_graph_find_param(model->graph, name);
  if (at < 0) fail_msg("no parameter is called %s", name);
  if (count) *count = qe_count(&model->graph->param[at].desc);
  return qe_model_values(model, at);
}

/* ---- it learns ---- */

static void loss_falls(void **state) {
  (void)state;
  static const net_options *const nets[] = {&float_net, &no_norm_net, &low_bit_net};
  FOR_EACH_DEVICE(device) {
    for (int n = 0; n < 3; n++) {
      qe_model *model = new_model(nets[n]);
      qe_train_options options = usual_options();
      options.flip = n == 1;
      qe_trainer *trainer;
      OK(qe_trainer_new(device, model, data, &options, &trainer));
      qe_score before, after;
      OK(qe_trainer_evaluate(trainer, QE_PART_TRAIN, false, &before));
      train(trainer, &options, 0);
      OK(qe_trainer_evaluate(trainer, QE_PART_TRAIN, false, &after));
      assert_int_equal(after.images, data->train_images);
      if (!(after.loss < before.loss)) fail_msg("network %d: loss %g after %g", n, after.loss, before.loss);
      qe_trainer_free(trainer);
      qe_model_free(model);
    }
  }
}

/* Thirty-two images of noise with drawn labels can only be learnt by heart. */
static void images_are_learnt_by_heart(void **state) {
  (void)state;
  qe_dataset *noise = small_data(8, 3, 4, 32, 4);
  draws from = {5, 0};
  for (int i = 0; i < 32 * 8 * 8 * 3; i++) noise->train_pixels[i] = (uint8_t)draw_range(&from, 0, 255);
  for (int i = 0; i < 32; i++) noise->train_labels[i] = draw_range(&from, 0, 3);
  for (int quantized = 0; quantized < 2; quantized++) {
    qe_model_spec spec = qe_model_default("mlp");
    spec.height = spec.width = 8;
    spec.classes = 4;
    if (quantized) spec.bits.weights = spec.bits.activations = 3;
    qe_model *model;
    OK(qe_model_new(&spec, 1, &model));
    OK(qe_fit_steps(fixture_fast(), model, noise, 1));
    qe_train_options options = usual_options();
    options.epochs = 25;
    options.pad = 0;
    options.flip = false;
    qe_trainer *trainer;
    OK(qe_trainer_new(fixture_fast(), model, noise, &options, &trainer));
    train(trainer, &options, 0);
    qe_score score;
    OK(qe_trainer_evaluate(trainer, QE_PART_TRAIN, false, &score));
    if (score.top1 < 99 || score.loss > 0.2) fail_msg("%g %% learnt, loss %g", score.top1, score.loss);
    qe_trainer_free(trainer);
    qe_model_free(model);
  }
  qe_dataset_free(noise);
}

/* ---- reproducible ---- */

static void same_seed_same_bits(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    qe_train_options options = usual_options();
    qe_model *a = trained(device, &low_bit_net, &options, 6), *b = trained(device, &low_bit_net, &options, 6);
    options.seed = 2;
    qe_model *c = trained(device, &low_bit_net, &options, 6);
    assert_true(same_values(a, b));
    assert_false(same_values(a, c));
    qe_model_free(a);
    qe_model_free(b);
    qe_model_free(c);
  }
}

/* Nothing happens before a wait, and the host sees no memory: the same bits as on the reference. */
static void same_bits_without_host_memory(void **state) {
  (void)state;
  qe_device *device = async_open(NULL, 0);
  qe_train_options options = usual_options();
  options.accumulate = 2;
  options.clip_norm = 0.5;
  qe_model *far = trained(device, &low_bit_net, &options, 4), *near = trained(fixture_device[0], &low_bit_net, &options, 4);
  assert_true(same_values(far, near));
  qe_score a, b;
  OK(qe_evaluate(device, far, data, 16, NULL, &a));
  OK(qe_evaluate(fixture_device[0], near, data, 16, NULL, &b));
  assert_true(a.loss == b.loss && a.top1 == b.top1 && a.images == 40);
  qe_model_free(far);
  qe_model_free(near);
  qe_device_close(device);
}

/* Augmentation draws by counter, so the number of threads is nothing to it. */
static void augmentation_in_any_number_of_threads(void **state) {
  (void)state;
  enum { IMAGES = 64, SIDE = 32, BYTES = IMAGES * SIDE * SIDE * 3 };
  static float made[3][BYTES];
  uint8_t *pixels = qe_alloc(BYTES);
  assert_non_null(pixels);
  draws from = {1, 0};
  for (int i = 0; i < BYTES; i++) pixels[i] = (uint8_t)draw_range(&from, 0, 255);
  if (!fixture_device[1]) skip();
  for (int run = 0; run < 3; run++) {
    qe_device *device;
    OK(qe_device_open(fixture_registry, run ? "cpu" : "ref", 0, &(qe_open_options){.threads = run}, &device));
    qe_attrs attrs = {.images = IMAGES, .pad = 4, .flip = 1};
    qe_desc desc[QE_MAX_OPERANDS], x = qe_map(QE_F32, IMAGES, SIDE, SIDE, 3);
    OK(qe_op_shapes(QE_OP_augment, &attrs, &x, desc));
    int32_t index[IMAGES], counter[4] = {7, 0, -3, 1};
    for (int i = 0; i < IMAGES; i++) index[i] = (i * 37) % IMAGES;
    const void *source[3] = {pixels, index, counter};
    qe_call call = {.op = QE_OP_augment, .operands = 4, .attrs = attrs};
    qe_buffer *buffer[4];
    qe_queue *queue;
    qe_bound_call bound;
    OK(qe_queue_new(device, &queue));
    for (int i = 0; i < 4; i++) {
      OK(qe_buffer_new(device, qe_bytes(&desc[i]), &buffer[i]));
      if (i < 3) OK(qe_queue_write(queue, buffer[i], 0, source[i], qe_bytes(&desc[i])));
      qe_operand_set(&call.operand[i], desc[i], buffer[i], 0);
    }
    OK(qe_call_bind(device, &call, NULL, &bound));
    OK(qe_call_run(queue, &call, &bound));
    OK(qe_queue_read(queue, buffer[3], 0, made[run], sizeof made[run]));
    OK(qe_queue_wait(queue));
    qe_call_release(&bound);
    for (int i = 0; i < 4; i++) qe_buffer_free(buffer[i]);
    qe_queue_free(queue);
    qe_device_close(device);
  }
  assert_memory_equal(made[1], made[0], sizeof made[0]);
  assert_memory_equal(made[2], made[0], sizeof made[0]);
  qe_free(pixels);
}

/* ---- interruptions ---- */

static void check_resume(qe_device *device, const net_options *net, const qe_train_options *options, int64_t stop) {
  qe_model *whole = trained(device, net, options, 0), *first = new_model(net), *second = new_model(net);
  qe_trainer *before, *after;
  qe_tensors *tensors = qe_tensors_new();
  assert_non_null(tensors);
  OK(qe_trainer_new(device, first, data, options, &before));
  train(before, options, stop);
  OK(qe_trainer_give(before, tensors));
  OK(qe_trainer_new(device, second, data, options, &after));
  OK(qe_trainer_take(after, tensors, "checkpoint"));
  assert_int_equal(qe_trainer_epochs_done(after), qe_trainer_epochs_done(before));
  train(after, options, 0);
  if (!same_values(whole, second)) fail_msg("resumed after %d steps: other parameters", (int)stop);
  train(before, options, 0); /* and the one that was interrupted can go on itself */
  if (!same_values(whole, first)) fail_msg("gone on after %d steps: other parameters", (int)stop);
  qe_trainer_free(before);
  qe_trainer_free(after);
  qe_tensors_free(tensors);
  qe_model_free(whole);
  qe_model_free(first);
  qe_model_free(second);
}

/* Stopped within an epoch, within an accumulation, at the last batch of an epoch, and between epochs. */
static void resumed_is_uninterrupted(void **state) {
  (void)state;
  qe_train_options options[5];
  for (int i = 0; i < 5; i++) options[i] = usual_options();
  options[1].accumulate = 2;
  options[2].optimizer = QE_OPTIMIZER_ADAM;
  options[2].accumulate = 2;
  options[3].held_out = 10;
  options[3].clip_norm = 0.25;
  options[3].schedule.kind = QE_SCHEDULE_CYCLICAL;
  options[3].schedule.cycle = 1;
  options[4].plain = true;
  options[4].momentum = 0;
  options[4].nesterov = false;
  options[4].seed = UINT64_MAX - 5;
  static const int64_t stops[] = {1, 2, 3, 4, 7, 12};
  FOR_EACH_DEVICE(device) {
    for (int i = 0; i < 5; i++)
      for (size_t k = 0; k < sizeof stops / sizeof *stops; k++)
        if (device_at == 1 || k == (size_t)i) check_resume(device, &low_bit_net, &options[i], stops[k]);
  }
}

static void foreign_states_are_refused(void **state) {
  (void)state;
  qe_train_options options = usual_options();
  qe_device *device = fixture_fast();
  qe_model *model = new_model(&low_bit_net);
  qe_trainer *trainer;
  qe_tensors *tensors = qe_tensors_new();
  assert_non_null(tensors);
  OK(qe_trainer_new(device, model, data, &options, &trainer));
  OK(qe_trainer_give(trainer, tensors));
  qe_trainer_free(trainer);

  qe_train_options other = options;
  other.seed = 9;
  OK(qe_trainer_new(device, model, data, &other, &trainer));
  FAILS(QE_USAGE, qe_trainer_take(trainer, tensors, "file"), "file was made with seed 1");
  qe_trainer_free(trainer);
  other = options;
  other.batch = 8;
  OK(qe_trainer_new(device, model, data, &other, &trainer));
  FAILS(QE_USAGE, qe_trainer_take(trainer, tensors, "file"), "4 steps an epoch");
  qe_trainer_free(trainer);
  other = options;
  other.optimizer = QE_OPTIMIZER_ADAM;
  OK(qe_trainer_new(device, model, data, &other, &trainer));
  FAILS(QE_FORMAT, qe_trainer_take(trainer, tensors, "file"), "optimizer.second");
  qe_trainer_free(trainer);

  OK(qe_trainer_new(device, model, data, &options, &trainer));
  static const char *const keys[] = {"position.epoch", "position.step", "position.updates", "position.hits"};
  for (int i = 0; i < 4; i++) {
    char kept[32];
    snprintf(kept, sizeof kept, "%s", qe_tensors_get_meta(tensors, keys[i]));
    OK(qe_tensors_set_meta(tensors, keys[i], i % 2 ? "-1" : "1x"));
    FAILS(QE_FORMAT, qe_trainer_take(trainer, tensors, "file"), keys[i]);
    OK(qe_tensors_set_meta(tensors, keys[i], kept));
  }
  OK(qe_tensors_set_meta(tensors, "position.step", "5")); /* of 4 */
  FAILS(QE_FORMAT, qe_trainer_take(trainer, tensors, "file"), "position.step");
  qe_trainer_free(trainer);
  qe_tensors_free(tensors);
  qe_model_free(model);
}

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
      cmocka_unit_test(loss_falls),
      cmocka_unit_test(images_are_learnt_by_heart),
      cmocka_unit_test(same_seed_same_bits),
      cmocka_unit_test(same_bits_without_host_memory),
      cmocka_unit_test(augmentation_in_any_number_of_threads),
      cmocka_unit_test(resumed_is_uninterrupted),
      cmocka_unit_test(foreign_states_are_refused),
      cmocka_unit_test(accumulated_batches_are_one_large_batch),
      cmocka_unit_test(weights_alone_decay),
      cmocka_unit_test(the_gradient_norm_is_clipped),
      cmocka_unit_test(adams_first_step),
      cmocka_unit_test(steps_stay_positive),
      cmocka_unit_test(held_out_images_are_not_trained_on),
      cmocka_unit_test(labels_are_smoothed),
      cmocka_unit_test(progress_is_told),
      cmocka_unit_test(a_planted_nan_is_named),
      cmocka_unit_test(a_huge_rate_diverges),
      cmocka_unit_test(bad_options_are_refused),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
