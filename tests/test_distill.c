/* Distillation: gradients of both networks against finite differences, what one of them trains as without the other,
 * hints, and interruptions. */
#include "core/graph/hints.h"
#include "core/train/session.h"
#include "tests/training.h"

enum { BATCH = 6 };

/* ---- one program ---- */

typedef struct pair {
  qe_queue *queue;
  qe_model *own, *twin;
  qe_buffer *params[QE_NETS], *gradients[QE_NETS];
  qe_lower_twin lower;
  qe_image_store store;
  qe_session session;
} pair;

static void pair_open(pair *p, qe_device *device, const net_options *own, const net_options *twin,
                      const qe_lower_twin *lower) {
  *p = (pair){.own = new_model(own), .twin = model_of(residual_net(data, twin), 7), .lower = *lower};
  qe_model *const models[QE_NETS] = {p->own, p->twin};
  OK(qe_queue_new(device, &p->queue));
  for (int side = 0; side < QE_NETS; side++) {
    OK(qe_buffer_new(device, qe_graph_param_bytes(models[side]->graph), &p->params[side]));
    OK(qe_buffer_new(device, qe_graph_param_bytes(models[side]->graph), &p->gradients[side]));
  }
  OK(qe_image_store_new(p->queue, data, false, &p->store));
  p->lower.graph = p->twin->graph;
  p->lower.params = p->params[QE_NET_TWIN];
  p->lower.gradients = p->gradients[QE_NET_TWIN];
  p->lower.training = true;
  qe_lower_options options = {.batch = BATCH, .training = true, .backward = true, .twin = &p->lower};
  OK(qe_session_new(p->queue, p->own->graph, &options, p->params[0], p->gradients[0], &p->store, &p->session));
}

static void pair_close(pair *p) {
  qe_session_free(&p->session);
  qe_image_store_free(&p->store);
  for (int side = 0; side < QE_NETS; side++) {
    qe_buffer_free(p->params[side]);
    qe_buffer_free(p->gradients[side]);
  }
  qe_queue_free(p->queue);
  qe_model_free(p->own);
  qe_model_free(p->twin);
}

/* The mean loss of a side, of a guide that is the same both ways. */
static double pair_run(pair *p, int side) {
  int32_t index[BATCH];
  double loss = 0;
  int64_t hits = 0;
  const qe_lower_twin *lower = &p->lower;
  for (int i = 0; i < BATCH; i++) index[i] = i;
  OK(qe_queue_write(p->queue, p->params[0], 0, p->own->values, qe_graph_param_bytes(p->own->graph)));
  OK(qe_queue_write(p->queue, p->params[1], 0, p->twin->values, qe_graph_param_bytes(p->twin->graph)));
  OK(qe_session_run(&p->session, index, BATCH, 5, 0, &loss, &hits));
  const qe_twin_sums *sums = &p->session.twin.sums;
  double labels = side == QE_NET_OWN ? loss : sums->loss;
  return ((double)lower->label_weight[side] * labels + (double)lower->guide_weight[side] * sums->guidance +
          (double)lower->hint_weight[side] * sums->hints) /
         BATCH;
}

static double difference(pair *p, int side, float *value) {
  const float half = 1.0f / 2048;
  float kept = *value;
  *value = kept + half;
  double above = pair_run(p, side);
  *value = kept - half;
  double below = pair_run(p, side);
  *value = kept;
  return (above - below) / (2 * (double)half);
}

/* Against finite differences over the parameters of a side. */
static void check_side(pair *p, int side, const char *what) {
  enum { MOST = 6 };
  const qe_model *model = side == QE_NET_OWN ? p->own : p->twin;
  size_t bytes = qe_graph_param_bytes(model->graph);
  float *gradients = qe_alloc(bytes);
  assert_non_null(gradients);
  pair_run(p, side);
  OK(qe_queue_read(p->queue, p->gradients[side], 0, gradients, bytes));
  OK(qe_queue_wait(p->queue));
  double error = 0, norm = 0;
  for (size_t i = 0; i < model->graph->params; i++) {
    const qe_param *param = &model->graph->param[i];
    if (param->group != QE_GROUP_WEIGHT) continue;
    int64_t count = qe_count(&param->desc), stride = count / MOST + 1;
    for (int64_t k = 0; k < count; k += stride) {
      size_t at = param->offset / sizeof(float) + (size_t)k;
      double wanted = difference(p, side, model->values + at), got = (double)gradients[at];
      error += (got - wanted) * (got - wanted);
      norm += wanted * wanted;
    }
  }
  qe_free(gradients);
  if (!(norm > 0 && error < 1e-3 * norm)) fail_msg("%s, side %d: error %g of %g", what, side, error, norm);
}

static void gradients_of_both_are_those_of_their_losses(void **state) {
  (void)state;
  qe_hint hints[QE_MOST_HINTS];
  qe_graph *graph = residual_net(data, &float_net);
  int count;
  OK(qe_hints_find(graph, graph, QE_HINT_SQUARE, NULL, hints, &count));
  assert_true(count >= 1);
  const struct {
    const char *what;
    qe_guide guide;
    qe_hint_form form;
    float weight;
    bool both; /* sides: KL is not the same seen from the other */
  } ways[] = {{"divergence", QE_GUIDE_KL, QE_HINT_NONE, 1, false},
              {"reverse", QE_GUIDE_REVERSE, QE_HINT_NONE, 1, false},
              {"logits", QE_GUIDE_MSE, QE_HINT_NONE, 1, true},
              {"square", QE_GUIDE_MSE, QE_HINT_SQUARE, 2, true},
              {"attention", QE_GUIDE_MSE, QE_HINT_ATTENTION, 3, true}};
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
    bool hinted = ways[i].form != QE_HINT_NONE;
    qe_lower_twin lower = {.guide = ways[i].guide,
                           .temperature = 2,
                           .label_weight = {0.5f, 0.25f},
                           .guide_weight = {0.75f, 0.5f},
                           .hint_weight = {hinted ? ways[i].weight : 0, hinted ? 0.5f : 0},
                           .hint_form = ways[i].form,
                           .hint = hints,
                           .hints = hinted ? count : 0};
    pair p;
    pair_open(&p, fixture_fast(), &float_net, &float_net, &lower);
    for (int side = 0; side < 1 + ways[i].both; side++) check_side(&p, side, ways[i].what);
    pair_close(&p);
  }
  qe_graph_free(graph);
}

/* ---- what each trains as ---- */

static qe_train_options distilling(qe_distill mode, qe_model *twin) {
  qe_train_options options = usual_options();
  options.distill.mode = mode;
  options.distill.twin = twin;
  return options;
}

/* With weight 0 the two have nothing to do with each other: each is trained as alone, to the bit. */
static void unguided_networks_train_as_alone(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    for (int accumulate = 1; accumulate <= 2; accumulate++) {
      qe_train_options options = distilling(QE_DISTILL_JOINT, new_model(&float_net)), alone = usual_options();
      options.accumulate = alone.accumulate = accumulate;
      options.distill.weight = options.distill.twin_weight = 0;
      options.distill.label_weight = 1;
      qe_model *own = trained(device, &low_bit_net, &options, 0), *wanted = trained(device, &low_bit_net, &alone, 0),
               *float_wanted = trained(device, &float_net, &alone, 0);
      assert_true(same_values(own, wanted));
      assert_true(same_values(options.distill.twin, float_wanted));
      qe_model_free(own);
      qe_model_free(wanted);
      qe_model_free(float_wanted);
      qe_model_free(options.distill.twin);
    }
  }
}

/* The teacher stays as it is, and the network's running statistics are its own. */
static void teachers_are_not_touched(void **state) {
  (void)state;
  static const qe_distill modes[] = {QE_DISTILL_FROZEN, QE_DISTILL_SELF, QE_DISTILL_AVERAGE};
  for (int i = 0; i < 3; i++) {
    qe_model *twin = new_model(&float_net), *before = new_model(&float_net);
    qe_train_options options = distilling(modes[i], modes[i] == QE_DISTILL_FROZEN ? twin : NULL),
                     alone = usual_options();
    options.ema = alone.ema = modes[i] == QE_DISTILL_AVERAGE ? 0.9 : 0;
    options.distill.label_weight = 1;
    options.distill.weight = 0;
    qe_model *own = trained(fixture_fast(), &low_bit_net, &options, 0),
             *wanted = trained(fixture_fast(), &low_bit_net, &alone, 0);
    assert_true(same_values(own, wanted));
    assert_true(same_values(twin, before));
    options.distill.weight = 1;
    qe_model *guided = trained(fixture_fast(), &low_bit_net, &options, 0);
    assert_false(same_values(guided, wanted));
    qe_model_free(guided);
    qe_model_free(own);
    qe_model_free(wanted);
    qe_model_free(twin);
    qe_model_free(before);
  }
}

/* From the answers alone, without a label, a network comes nearer to its teacher; labels are never read. */
static void answers_alone_teach(void **state) {
  (void)state;
  qe_train_options options = usual_options();
  qe_model *teacher = trained(fixture_fast(), &float_net, &options, 0), *own = new_model(&low_bit_net);
  options = distilling(QE_DISTILL_FROZEN, teacher);
  options.distill.label_weight = 0;
  options.distill.weight = 1;
  options.mixup = 0.3;
  options.cutout = 2;
  qe_trainer *trainer;
  OK(qe_trainer_new(fixture_fast(), own, data, &options, &trainer));
  stop_at stop = {0};
  OK(qe_trainer_epoch(trainer, count_down, &stop));
  double first = stop.last.distill.guidance;
  while (qe_trainer_epochs_done(trainer) < options.epochs) OK(qe_trainer_epoch(trainer, count_down, &stop));
  assert_true(stop.last.distill.guidance > 0 && stop.last.distill.guidance < first);
  assert_int_equal(stop.last.distill.twin.images, 0);
  qe_trainer_free(trainer);
  qe_model_free(own);
  qe_model_free(teacher);
}

/* ---- interruptions ---- */

static void check_resume(const qe_train_options *given, int64_t stop) {
  bool has_twin = qe_distill_has_model(given->distill.mode);
  qe_model *own[3], *twin[3];
  qe_trainer *trainer[3];
  qe_tensors *tensors = qe_tensors_new();
  assert_non_null(tensors);
  for (int i = 0; i < 3; i++) {
    qe_train_options options = *given;
    own[i] = new_model(&low_bit_net);
    twin[i] = has_twin ? model_of(residual_net(data, &float_net), i < 2 ? 9 : 10) : NULL;
    options.distill.twin = twin[i];
    OK(qe_trainer_new(fixture_fast(), own[i], data, &options, &trainer[i]));
  }
  train(trainer[0], given, 0);
  train(trainer[1], given, stop);
  OK(qe_trainer_give(trainer[1], tensors));
  OK(qe_trainer_take(trainer[2], tensors, "checkpoint")); /* whose twin began elsewhere */
  train(trainer[2], given, 0);
  assert_true(same_values(own[0], own[2]));
  if (has_twin) assert_true(same_values(twin[0], twin[2]));
  for (int i = 0; i < 3; i++) {
    qe_trainer_free(trainer[i]);
    qe_model_free(own[i]);
    qe_model_free(twin[i]);
  }
  qe_tensors_free(tensors);
}

static void resumed_is_uninterrupted(void **state) {
  (void)state;
  qe_train_options joint = distilling(QE_DISTILL_JOINT, NULL);
  joint.distill.hint = QE_HINT_CODES;
  joint.distill.twin_hint_weight = 0.5;
  joint.accumulate = 2;
  check_resume(&joint, 3);
  joint.optimizer = QE_OPTIMIZER_ADAM;
  joint.schedule.rate = 0.01;
  joint.ema = 0.9;
  check_resume(&joint, 6);
  qe_train_options frozen = distilling(QE_DISTILL_FROZEN, NULL), average = distilling(QE_DISTILL_AVERAGE, NULL);
  check_resume(&frozen, 5);
  average.ema = 0.8;
  check_resume(&average, 5);
}

/* ---- what is refused ---- */

static qe_status make(const qe_train_options *options) {
  qe_model *model = new_model(&low_bit_net);
  qe_trainer *trainer = NULL;
  qe_status status = qe_trainer_new(fixture_fast(), model, data, options, &trainer);
  qe_trainer_free(trainer);
  qe_model_free(model);
  return status;
}

static void what_is_refused(void **state) {
  (void)state;
  qe_model *twin = new_model(&float_net);
  qe_train_options options = distilling(QE_DISTILL_FROZEN, twin);
  options.distill.temperature = 0;
  FAILS(QE_USAGE, make(&options), "temperature");
  options = distilling(QE_DISTILL_AVERAGE, NULL);
  FAILS(QE_USAGE, make(&options), "ema");
  options = distilling(QE_DISTILL_FROZEN, twin);
  options.distill.hint = QE_HINT_SQUARE;
  options.distill.hint_at = "nowhere";
  FAILS(QE_USAGE, make(&options), "'nowhere'");
  options.distill.hint_at = "conv1,input=conv1";
  FAILS(QE_SHAPE, make(&options), "input=conv1");
  options.distill.hint_at = "fc=fc";
  OK(make(&options));
  options = distilling(QE_DISTILL_FROZEN, NULL);
  options.distill.teacher = "/nowhere/teacher.safetensors";
  FAILS(QE_NOT_FOUND, make(&options), "/nowhere/teacher.safetensors");
  qe_dataset *other = small_data(8, 3, 5, 12, 6), *kept = data;
  data = other;
  qe_model *wider = new_model(&float_net);
  data = kept;
  options = distilling(QE_DISTILL_FROZEN, wider);
  FAILS(QE_SHAPE, make(&options), "logits");
  qe_model_free(wider);
  qe_model_free(twin);
  qe_dataset_free(other);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradients_of_both_are_those_of_their_losses),
      cmocka_unit_test(unguided_networks_train_as_alone),
      cmocka_unit_test(teachers_are_not_touched),
      cmocka_unit_test(answers_alone_teach),
      cmocka_unit_test(resumed_is_uninterrupted),
      cmocka_unit_test(what_is_refused),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
