/* The trainer: it learns, and it is reproducible to the bit, also across interruptions and on an asynchronous device.
 */
#include "tests/async_device.h"
#include "tests/training.h"

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

static void all_augmentations(qe_train_options *options) {
  options->cutout = 3;
  for (int k = 0; k < QE_JITTERS; k++) options->jitter[k] = 0.3;
  options->mixup = 0.4;
}

/* Every augmentation by itself changes what is trained, and the loss on the images as they are still falls. */
static void loss_falls_on_augmented_images(void **state) {
  (void)state;
  enum { WAYS = 6 };
  FOR_EACH_DEVICE(device) {
    double seen[WAYS];
    for (int way = 0; way < WAYS; way++) {
      qe_train_options options = usual_options();
      options.pad = 0;
      options.flip = false;
      if (way == 1) options.cutout = 3;
      if (way >= 2 && way < 2 + QE_JITTERS) options.jitter[way - 2] = 0.4;
      if (way == 5) options.mixup = 1;
      qe_model *model = new_model(&float_net);
      qe_trainer *trainer;
      qe_score before, after;
      OK(qe_trainer_new(device, model, data, &options, &trainer));
      OK(qe_trainer_evaluate(trainer, QE_PART_TRAIN, false, &before));
      stop_at epoch = {0};
      for (int i = 0; i < options.epochs; i++) OK(qe_trainer_epoch(trainer, count_down, &epoch));
      OK(qe_trainer_evaluate(trainer, QE_PART_TRAIN, false, &after));
      if (!(after.loss < before.loss)) fail_msg("way %d: loss %g after %g", way, after.loss, before.loss);
      assert_true(epoch.last.train.top1 > 0 && epoch.last.train.top1 <= 100);
      seen[way] = epoch.last.train.loss;
      for (int other = 0; other < way; other++) assert_true(fabs(seen[other] - seen[way]) > 1e-6);
      qe_trainer_free(trainer);
      qe_model_free(model);
    }
  }
}

static void augmentation_out_of_range(void **state) {
  (void)state;
  qe_model *model = new_model(&float_net);
  qe_trainer *trainer;
  static const struct {
    double brightness, mixup;
    int32_t cutout, batch;
    const char *why;
  } bad[] = {{-0.1, 0, 0, 16, "brightness"}, {1.01, 0, 0, 16, "brightness"},   {0, -1, 0, 16, "mixup"},
             {0, 17, 0, 16, "mixup"},        {0, (double)NAN, 0, 16, "mixup"}, {0, 0.2, 0, 1, "make batch larger"},
             {0, 0, -1, 16, "cutout"},       {0, 0, 1025, 16, "cutout"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    qe_train_options options = usual_options();
    options.jitter[QE_JITTER_BRIGHTNESS] = bad[i].brightness;
    options.mixup = bad[i].mixup;
    options.cutout = bad[i].cutout;
    options.batch = bad[i].batch;
    FAILS(i < 6 ? QE_USAGE : QE_SHAPE, qe_trainer_new(fixture_fast(), model, data, &options, &trainer), bad[i].why);
  }
  qe_model_free(model);
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
  all_augmentations(&options);
  qe_model *far = trained(device, &low_bit_net, &options, 4),
           *near = trained(fixture_device[0], &low_bit_net, &options, 4);
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
    qe_attrs attrs = {.images = IMAGES, .pad = 4, .flip = 1, .cutout = 9, .jitter = {80, 70, 200}};
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

/* The same image all over and a rate of 0: only the draws of crop and flip tell two epochs apart. */
static void augmentation_differs_between_epochs(void **state) {
  (void)state;
  qe_dataset *same = small_data(8, 3, 4, 16, 4);
  for (int i = 1; i < 16; i++) memcpy(same->train_pixels + i * 192, same->train_pixels, 192);
  for (int i = 0; i < 16; i++) same->train_labels[i] = 0;
  for (int augmented = 0; augmented < 2; augmented++) {
    qe_train_options options = bare_options();
    options.epochs = 3;
    options.pad = augmented ? 2 : 0;
    options.flip = augmented;
    options.schedule.rate = 0;
    qe_model *model = new_model(&no_norm_net);
    qe_trainer *trainer;
    double loss[3];
    OK(qe_trainer_new(fixture_fast(), model, same, &options, &trainer));
    for (int epoch = 0; epoch < 3; epoch++) {
      stop_at seen = {0};
      OK(qe_trainer_epoch(trainer, count_down, &seen));
      loss[epoch] = seen.last.train.loss;
    }
    for (int epoch = 0; epoch < 2; epoch++)
      assert_true((fabs(loss[epoch + 1] - loss[epoch]) > 1e-5) == (augmented == 1));
    qe_trainer_free(trainer);
    qe_model_free(model);
  }
  qe_dataset_free(same);
}

/* A batch that the images do not fill counts only those that are there. */
static void scores_do_not_depend_on_the_batch(void **state) {
  (void)state;
  static const int32_t batches[] = {1, 7, 16, 40, 64};
  FOR_EACH_DEVICE(device) {
    qe_model *model = new_model(&low_bit_net);
    qe_score wanted, score;
    OK(qe_evaluate(device, model, data, 20, NULL, &wanted));
    assert_int_equal(wanted.images, 40);
    for (int i = 0; i < 5; i++) {
      OK(qe_evaluate(device, model, data, batches[i], NULL, &score));
      assert_true(fabs(score.loss - wanted.loss) < 1e-6 && fabs(score.top1 - wanted.top1) < 1e-9);
      assert_int_equal(score.images, 40);
    }
    qe_model_free(model);
  }
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
  for (int i = 0; i < 3; i++) all_augmentations(&options[i]);
  static const int64_t stops[5][2] = {{1, 12}, {3, 4}, {2, 7}, {3, 5}, {4, 6}};
  for (int i = 0; i < 5; i++) {
    check_resume(fixture_device[0], &low_bit_net, &options[i], stops[i][0]);
    if (fixture_device[1])
      for (int k = 0; k < 2; k++) check_resume(fixture_device[1], &low_bit_net, &options[i], stops[i][k]);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(loss_falls),
      cmocka_unit_test(loss_falls_on_augmented_images),
      cmocka_unit_test(augmentation_out_of_range),
      cmocka_unit_test(images_are_learnt_by_heart),
      cmocka_unit_test(same_seed_same_bits),
      cmocka_unit_test(same_bits_without_host_memory),
      cmocka_unit_test(augmentation_in_any_number_of_threads),
      cmocka_unit_test(augmentation_differs_between_epochs),
      cmocka_unit_test(scores_do_not_depend_on_the_batch),
      cmocka_unit_test(resumed_is_uninterrupted),
      cmocka_unit_test(foreign_states_are_refused),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
