/* The model zoo at work, on small images: a training step on every backend that is here, and integer networks of all of
 * them, the same bits op by op and in the engines, and from a file. */
#include "core/dispatch/network_file.h"
#include "core/graph/integer.h"
#include "core/train/trainer.h"
#include "tests/fixture.h"

enum { CLASSES = 5, TEST_IMAGES = 2 };

static qe_device *opencl; /* NULL when it is not usable here */
static char folder[FIXTURE_PATH];

static int open_all(void **state) {
  setenv("QEVO_CACHE_DIR", QE_BINARY_DIR "/cache", 1);
  folder_new(folder);
  if (fixture_open(state) != 0) return -1;
  qe_open_options options = {.threads = 1};
  if (qe_device_open(fixture_registry, "opencl", 0, &options, &opencl) != QE_OK) opencl = NULL;
  return 0;
}
static int close_all(void **state) {
  qe_device_close(opencl);
  folder_remove(folder);
  return fixture_close(state);
}

/* The deeper ones of a family are the same code. Sides: the least that the pools leave something of. Batches: as few
 * images as batch norm does not turn rounding into noise for. */
static const struct {
  const char *name;
  int side, channels, batch;
  bool large; /* ten million weights and more, of layers that the others have: on the fast device only */
} zoo[] = {
    {"preresnet20", 8, 3, 4, false},   {"vgg-small", 8, 3, 4, false},     {"mobilenet-v2-cifar", 16, 3, 4, false},
    {"resnet18", 16, 3, 4, false},     {"mobilenet-v2", 32, 3, 8, false}, {"lenet5", 28, 1, 4, false},
    {"lenet5-caffe", 28, 1, 4, false}, {"resnet34", 16, 3, 4, true},      {"resnet50", 16, 3, 8, true},
    {"alexnet", 63, 3, 4, true},
};
enum { ZOO = sizeof zoo / sizeof *zoo };

static qe_model_spec spec_of(int model, int bits, const qe_dataset *data) {
  qe_model_spec spec = qe_model_default(zoo[model].name);
  spec.height = data->height;
  spec.width = data->width;
  spec.channels = data->channels;
  spec.classes = data->classes;
  spec.bits.weights = spec.bits.activations = bits;
  return spec;
}

static qe_dataset *data_of(int model) {
  return small_data(zoo[model].side, zoo[model].channels, CLASSES, zoo[model].batch, TEST_IMAGES);
}

/* ---- training ---- */

static qe_status take_loss(void *context, const qe_train_progress *progress) {
  *(double *)context = progress->train.loss;
  return QE_OK;
}

static double train_step(qe_device *device, qe_model *model, const qe_dataset *data, double rate) {
  qe_trainer *trainer;
  double loss = 0;
  qe_train_options options = qe_train_defaults();
  options.epochs = 1;
  options.batch = data->train_images;
  options.schedule.rate = rate;
  options.pad = 0;
  OK(qe_trainer_new(device, model, data, &options, &trainer));
  OK(qe_trainer_epoch(trainer, take_loss, &loss));
  OK(qe_trainer_download(trainer, false));
  qe_trainer_free(trainer);
  assert_true(isfinite(loss) && loss > 0);
  return loss;
}

static float *copy_of(const qe_model *model) {
  float *values = malloc(qe_graph_param_bytes(model->graph));
  assert_non_null(values);
  memcpy(values, model->values, qe_graph_param_bytes(model->graph));
  return values;
}

/* Batch norm over few values turns small differences into larger ones where they are nearly alike; a wrong layer or
 * gradient gives errors near 1. */
static const double loss_bound = 1e-3, step_bound = 1e-2;

/* Of the step from `start`, against the reference's. */
static double change_error(const qe_model *model, const float *start, const float *truth) {
  double error = 0, norm = 0;
  size_t trained = model->graph->group_offset[QE_GROUP_STATE] / sizeof(float);
  for (size_t i = 0; i < trained; i++) {
    double change = (double)truth[i] - (double)start[i], difference = (double)model->values[i] - (double)truth[i];
    error += difference * difference;
    norm += change * change;
  }
  assert_true(norm > 0);
  return error / norm;
}

static void check_steps(int at, const qe_dataset *data) {
  const double rate = 0.01;
  qe_device *devices[] = {fixture_device[1], opencl};
  qe_model_spec spec = spec_of(at, QE_FLOAT_BITS, data);
  qe_model *model;
  OK(qe_model_new(&spec, 1, &model));
  float *start = copy_of(model);
  double loss = train_step(fixture_device[0], model, data, rate);
  float *truth = copy_of(model);
  for (int i = 0; i < 2; i++) {
    if (!devices[i]) continue;
    memcpy(model->values, start, qe_graph_param_bytes(model->graph));
    double own = train_step(devices[i], model, data, rate), error = change_error(model, start, truth);
    if (!(fabs(own - loss) <= loss_bound * loss) || !(error <= step_bound))
      fail_msg("%s on %s: loss %.6f, reference %.6f; the step differs by %g", zoo[at].name, devices[i]->backend->name,
               own, loss, error);
  }
  free(start);
  free(truth);
  qe_model_free(model);
}

static void a_training_step_on_every_backend(void **state) {
  (void)state;
  for (int at = 0; at < ZOO; at++) {
    if (zoo[at].large) continue;
    qe_dataset *data = data_of(at);
    check_steps(at, data);
    qe_dataset_free(data);
  }
}

/* ---- integers ---- */

static void same_score(const char *name, const qe_score *a, const qe_score *b) {
  if (fabs(a->loss - b->loss) > 0 || fabs(a->top1 - b->top1) > 0)
    fail_msg("%s: loss %.9f and %.9f", name, a->loss, b->loss);
}

static void compare_evaluations(const char *name, const qe_network *network, const qe_network *back,
                                const qe_dataset *data) {
  qe_device *devices[] = {fixture_device[1], opencl};
  qe_score truth, score;
  OK(qe_evaluate_network(fixture_device[0], network, data, 0, NULL, &truth));
  assert_true(isfinite(truth.loss) && truth.loss > 0);
  for (int i = 0; i < 2; i++) {
    if (!devices[i]) continue;
    OK(qe_evaluate_network(devices[i], back, data, 0, NULL, &score));
    same_score(name, &truth, &score);
  }
}

/* Steps fitted and trained once, then op by op on the reference, and in engines from a file. */
static void check_integers(int at, const qe_dataset *data) {
  qe_model_spec spec = spec_of(at, 4, data);
  qe_model *model;
  qe_network *network, *back;
  qe_tensors *tensors;
  char path[FIXTURE_PATH + 16];
  snprintf(path, sizeof path, "%s/network", folder);
  OK(qe_model_new(&spec, 1, &model));
  OK(qe_fit_steps(fixture_fast(), model, data, 1));
  train_step(fixture_fast(), model, data, 1e-4);
  OK(qe_network_from_graph(model->graph, model->values, &network));
  OK(qe_network_write(network, path));
  OK(qe_tensors_read(path, &tensors));
  OK(qe_network_take(tensors, path, &back));
  compare_evaluations(zoo[at].name, network, back, data);
  qe_tensors_free(tensors);
  qe_network_free(network);
  qe_network_free(back);
  qe_model_free(model);
}

/* A low-bit step on the fast device, and the integer network. */
static void check_large(int at, const qe_dataset *data) {
  qe_model_spec spec = spec_of(at, 4, data);
  qe_model *model;
  qe_network *network;
  OK(qe_model_new(&spec, 1, &model));
  train_step(fixture_fast(), model, data, 1e-4);
  OK(qe_network_from_graph(model->graph, model->values, &network));
  qe_network_free(network);
  qe_model_free(model);
}

static void integer_networks_of_all(void **state) {
  (void)state;
  for (int at = 0; at < ZOO; at++) {
    qe_dataset *data = data_of(at);
    (zoo[at].large ? check_large : check_integers)(at, data);
    qe_dataset_free(data);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_training_step_on_every_backend),
      cmocka_unit_test(integer_networks_of_all),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
