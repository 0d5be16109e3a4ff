/* Training and evaluation on images that are decoded while they run: the same results as from memory, exact resume, and
 * errors that name the file. */
#define _GNU_SOURCE /* nftw */
#include "core/data/image_set.h"
#include "tests/images.h"

#define data usual_data /* tests/training.h has a data set of its own name */
#include "tests/training.h"
#undef data

enum { SIDE = 8 };

static qe_dataset *open_set(double area, bool hold) {
  char name[300];
  qe_image_options options = {.side = SIDE, .resize = 10, .least_area = area, .threads = 2, .prefetch = 2};
  qe_dataset *set = NULL;
  snprintf(name, sizeof name, "folder:%s", below("set"));
  OK(qe_dataset_open_images(name, NULL, &options, &set));
  if (hold) OK(qe_dataset_hold(set, 1 << 20));
  return set;
}

static int set_up(void **state) {
  if (images_set_up(state)) return -1;
  put_tree("set", 4, 16, 9);
  return 0;
}

static qe_train_options options_of(int epochs) {
  qe_train_options options = usual_options();
  options.epochs = epochs;
  options.held_out = 8;
  options.pad = 0;
  return options;
}

static qe_model *model_for(const qe_dataset *set) {
  qe_model *model = model_of(residual_net(set, &low_bit_net), 2);
  OK(qe_fit_steps(fixture_fast(), model, set, 1));
  return model;
}

static void check_scores(const qe_score *a, const qe_score *b) {
  assert_true(a->images == b->images);
  assert_true(a->loss >= b->loss && a->loss <= b->loss); /* equal */
  assert_true(a->top1 >= b->top1 && a->top1 <= b->top1);
}

/* With the middle of each image there is no difference from a set in memory: steps fitted, trained, evaluated. */
static void test_as_from_memory(void **state) {
  (void)state;
  qe_dataset *sets[2] = {open_set(1, false), open_set(1, true)};
  qe_model *models[2];
  qe_score score[2][3];
  qe_train_options options = options_of(2);
  assert_non_null(sets[0]->images);
  assert_null(sets[1]->images);
  for (int i = 0; i < 2; i++) {
    qe_trainer *trainer;
    models[i] = model_for(sets[i]);
    OK(qe_trainer_new(fixture_fast(), models[i], sets[i], &options, &trainer));
    train(trainer, &options, 0);
    OK(qe_trainer_evaluate(trainer, QE_PART_TEST, false, &score[i][0]));
    OK(qe_trainer_evaluate(trainer, QE_PART_HELD_OUT, false, &score[i][1]));
    qe_trainer_free(trainer);
    OK(qe_evaluate(fixture_fast(), models[i], sets[i], 7, NULL, &score[i][2]));
  }
  for (int k = 0; k < 3; k++) check_scores(&score[0][k], &score[1][k]);
  assert_int_equal(score[0][2].images, 36);
  assert_true(same_values(models[0], models[1]));
  for (int i = 0; i < 2; i++) {
    qe_model_free(models[i]);
    qe_dataset_free(sets[i]);
  }
}

/* The integer network, evaluated in parts. */
static void test_integer_network(void **state) {
  (void)state;
  qe_dataset *sets[2] = {open_set(1, false), open_set(1, true)};
  qe_score score[2];
  qe_twins twins[2];
  for (int i = 0; i < 2; i++) {
    qe_model *model;
    qe_model_spec spec = qe_model_default("mlp");
    spec.height = spec.width = SIDE;
    spec.channels = 3;
    spec.classes = 4;
    spec.bits = (qe_bits){.weights = 4, .activations = 4, .edges = 8, .residual = 8};
    OK(qe_model_new(&spec, 1, &model));
    OK(qe_fit_steps(fixture_fast(), model, sets[i], 1));
    OK(qe_evaluate_integer(fixture_fast(), model, sets[i], 7, NULL, &score[i]));
    OK(qe_evaluate_twins(fixture_fast(), model, sets[i], 7, &twins[i]));
    qe_model_free(model);
    qe_dataset_free(sets[i]);
  }
  check_scores(&score[0], &score[1]);
  check_scores(&twins[0].integer, &score[1]);
  check_scores(&twins[0].real, &twins[1].real);
  assert_true(twins[0].agreement >= twins[1].agreement && twins[0].agreement <= twins[1].agreement);
  assert_int_equal(score[0].images, 36);
}

/* Stopped after any number of batches and restored, training ends where it would have ended. */
static void test_resume(void **state) {
  (void)state;
  qe_dataset *set = open_set(0.3, false);
  qe_train_options options = options_of(3);
  qe_trainer *trainer;
  qe_model *whole = model_for(set);
  OK(qe_trainer_new(fixture_fast(), whole, set, &options, &trainer));
  train(trainer, &options, 0);
  qe_trainer_free(trainer);
  for (int64_t stop = 1; stop < 9; stop += 3) { /* of nine batches */
    qe_model *model = model_for(set), *later = model_for(set);
    qe_tensors *tensors = qe_tensors_new();
    OK(qe_trainer_new(fixture_fast(), model, set, &options, &trainer));
    train(trainer, &options, stop);
    OK(qe_trainer_give(trainer, tensors));
    qe_trainer_free(trainer);
    OK(qe_trainer_new(fixture_fast(), later, set, &options, &trainer));
    OK(qe_trainer_take(trainer, tensors, "checkpoint"));
    train(trainer, &options, 0);
    qe_trainer_free(trainer);
    assert_true(same_values(whole, later));
    assert_false(same_values(whole, model));
    qe_tensors_free(tensors);
    qe_model_free(model);
    qe_model_free(later);
  }
  qe_model_free(whole);
  qe_dataset_free(set);
}

/* An image that goes bad ends the epoch with its name; the trainer can still be freed. */
static void test_bad_image(void **state) {
  (void)state;
  qe_dataset *set = open_set(0.3, false);
  qe_train_options options = options_of(1);
  qe_trainer *trainer;
  qe_model *model = model_for(set);
  options.held_out = 0;
  for (int class = 0; class < 4; class ++) {
    char path[64];
    snprintf(path, sizeof path, "set/train/class%d/005.jpg", class);
    put_text(path, "\xff\xd8\xff\xe0 no more");
  }
  OK(qe_trainer_new(fixture_fast(), model, set, &options, &trainer));
  FAILS(QE_FORMAT, qe_trainer_epoch(trainer, NULL, NULL), "/005.jpg: cut short");
  qe_trainer_free(trainer);
  qe_model_free(model);
  qe_dataset_free(set);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, images_tear_down)
  const struct CMUnitTest tests[] = {TEST(test_as_from_memory), TEST(test_integer_network), TEST(test_resume),
                                     TEST(test_bad_image)};
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
