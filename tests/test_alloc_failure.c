/* Every allocation of a small training fails once, stage by stage: a status with a message comes back, nothing crashes
 * or leaks (seen under AddressSanitizer), and afterwards all works. */
#include "core/base/file.h"
#include "core/dispatch/network_file.h"
#include "core/dispatch/population.h"
#include "core/graph/integer.h"
#include "core/methods/method.h"
#include "tests/fixture.h"

/* What the stages work on; a stage finds all that earlier ones made, and leaves nothing behind when it fails. */
typedef struct scene {
  const char *backend;
  char folder[FIXTURE_PATH];
  qe_dataset *data;
  qe_registry *registry;
  qe_device *device;
  qe_model *model;
} scene;

static void close_device(scene *s) {
  qe_device_close(s->device);
  qe_registry_close(s->registry);
  s->device = NULL;
  s->registry = NULL;
}

static qe_status open_device(scene *s) {
  qe_open_options options = {.threads = 1};
  QE_TRY(qe_registry_open(&s->registry));
  qe_status status = qe_device_open(s->registry, s->backend, 0, &options, &s->device);
  if (status != QE_OK) close_device(s);
  return status;
}

/* Convolution, batch norm, wide and low code, skip connection, linear; per-channel steps; all on integer grids. */
static qe_status fill_graph(qe_graph *g, const qe_dataset *data) {
  qe_quantizer weights = {.bits = 3, .rule = QE_RULE_LSQ, .grid = QE_GRID_SIGNED, .per_channel = true};
  qe_quantizer tanhed = {.bits = 3, .rule = QE_RULE_DOREFA, .grid = QE_GRID_ODD};
  qe_quantizer wide = {.bits = 6, .rule = QE_RULE_LSQ, .grid = QE_GRID_UNSIGNED, .step_shift = 2}, low = wide,
               act = wide;
  low.bits = 4;
  low.step_shift = 0;
  low.round_up = true;
  qe_window window = qe_square(3, 1, 1, 4);
  qe_node x = qe_graph_input(g, "input", data->height, data->width, data->channels);
  x = qe_graph_batch_norm(g, "norm", qe_graph_conv(g, "conv1", x, &window, false, &weights), 1e-5f, 0.1f);
  qe_node skip = qe_graph_quant(g, "wide", x, &wide, -1);
  x = qe_graph_conv(g, "conv2", qe_graph_quant(g, "low", skip, &low, skip), &window, true, &tanhed);
  x = qe_graph_quant(g, "act", qe_graph_add(g, "add", x, skip), &act, -1);
  x = qe_graph_quant(g, "pooled", qe_graph_global_pool(g, "pool", x), &act, -1);
  x = qe_graph_flatten(g, "flatten", x);
  qe_graph_linear(g, "fc", x, data->classes, true, &weights);
  return qe_graph_finish(g);
}

static void free_model(scene *s) {
  qe_model_free(s->model);
  s->model = NULL;
}

static qe_status build_model(scene *s) {
  qe_model *model = s->model = QE_NEW(qe_model);
  if (!model) return QE_NO_MEMORY;
  model->spec = qe_model_default(NULL);
  model->spec.name = qe_strdup("small");
  qe_status status = model->spec.name ? qe_graph_new(&model->graph) : QE_NO_MEMORY;
  if (status == QE_OK) status = fill_graph(model->graph, s->data);
  if (status == QE_OK) {
    model->values = qe_calloc(qe_graph_param_bytes(model->graph), 1);
    if (!model->values) status = QE_NO_MEMORY;
  }
  if (status == QE_OK)
    qe_model_init(model, 1);
  else
    free_model(s);
  return status;
}

static qe_status build_and_free_zoo_model(scene *s) {
  (void)s;
  qe_model_spec spec = qe_model_default("mlp");
  spec.bits.weights = spec.bits.activations = 4;
  spec.bits.layers = "fc2=w2a3";
  spec.height = spec.width = 2;
  qe_model *model;
  QE_TRY(qe_model_new(&spec, 1, &model));
  qe_model_free(model);
  return QE_OK;
}

static qe_status fit(scene *s) {
  for (size_t i = 0; i < s->model->graph->params; i++) s->model->graph->param[i].initialised = false;
  return qe_fit_steps(s->device, s->model, s->data, 1);
}

static qe_train_options train_options(void) {
  qe_train_options options = qe_train_defaults();
  options.epochs = 1;
  options.batch = options.eval_batch = 4;
  options.accumulate = 2;
  options.optimizer = QE_OPTIMIZER_ADAM;
  options.clip_norm = 1;
  options.held_out = 1;
  options.pad = 1;
  options.mixup = 1;
  options.schedule.rate = 0.01;
  return options;
}

static qe_status train_and_score(scene *s) {
  qe_train_options options = train_options();
  qe_trainer *trainer;
  qe_score score;
  QE_TRY(qe_trainer_new(s->device, s->model, s->data, &options, &trainer));
  qe_status status = qe_trainer_epoch(trainer, NULL, NULL);
  if (status == QE_OK) status = qe_trainer_evaluate(trainer, QE_PART_TEST, false, &score);
  if (status == QE_OK) status = qe_trainer_evaluate(trainer, QE_PART_HELD_OUT, false, &score);
  if (status == QE_OK) status = qe_evaluate(s->device, s->model, s->data, 4, NULL, &score);
  qe_trainer_free(trainer);
  return status;
}

static qe_status pass_state(scene *s, qe_trainer *trainer, qe_tensors *tensors) {
  char path[FIXTURE_PATH + 32];
  qe_tensors *back = NULL;
  snprintf(path, sizeof path, "%s/state.safetensors", s->folder);
  QE_TRY(qe_trainer_give(trainer, tensors));
  QE_TRY(qe_tensors_write(tensors, path));
  QE_TRY(qe_tensors_read(path, &back));
  qe_status status = qe_trainer_take(trainer, back, path);
  qe_tensors_free(back);
  return status;
}

static qe_status save_and_load(scene *s) {
  qe_train_options options = train_options();
  qe_trainer *trainer;
  QE_TRY(qe_trainer_new(s->device, s->model, s->data, &options, &trainer));
  qe_tensors *tensors = qe_tensors_new();
  qe_status status = tensors ? pass_state(s, trainer, tensors) : QE_NO_MEMORY;
  qe_tensors_free(tensors);
  qe_trainer_free(trainer);
  return status;
}

/* A step that diverges is reported as that, or as out of memory when the diagnosis runs out of it. */
static qe_status diverge(scene *s) {
  qe_train_options options = train_options();
  qe_trainer *trainer;
  float *weight = qe_model_values(s->model, qe_graph_find_param(s->model->graph, "conv2.weight")), kept = *weight;
  *weight = NAN;
  qe_status status = qe_trainer_new(s->device, s->model, s->data, &options, &trainer);
  *weight = kept;
  QE_TRY(status);
  status = qe_trainer_epoch(trainer, NULL, NULL);
  qe_trainer_free(trainer);
  return status == QE_DIVERGED ? QE_OK : status;
}

/* A population of two on the images, op by op, one of them the parent. */
static qe_status run_population(const scene *s, qe_queue *queue, const qe_network *network) {
  const int32_t index[3] = {0, 1, 2}, labels[3] = {0, 1, 2};
  int64_t loss[2], hits[2];
  size_t bytes = (size_t)s->data->test_images * (size_t)(s->data->height * s->data->width * s->data->channels);
  qe_genome_layout *layout = NULL;
  qe_population *population = NULL;
  qe_buffer *images = NULL;
  char *genomes = NULL;
  qe_population_options options = {.engine = "op by op", .batch = 2};
  qe_status status = qe_genome_layout_new(network, NULL, &layout);
  if (status == QE_OK) status = qe_buffer_new(s->device, bytes, &images);
  if (status == QE_OK) status = qe_queue_write(queue, images, 0, s->data->test_pixels, bytes);
  if (status == QE_OK) status = qe_population_new(queue, network, layout, &options, &population);
  if (status == QE_OK && !(genomes = qe_alloc(2 * layout->bytes))) status = QE_NO_MEMORY;
  if (status == QE_OK) {
    for (int i = 0; i < 2; i++) qe_genome_from_network(layout, network, genomes + (size_t)i * layout->bytes);
    genomes[layout->bytes + layout->gene[1].offset] ^= 1;
    qe_population_call call = {images, s->data->test_images, index, labels, 3, genomes, 2, genomes, INT64_MAX};
    status = qe_population_run(population, &call, &(qe_population_result){loss, hits, NULL});
  }
  qe_population_free(population);
  qe_buffer_free(images);
  qe_genome_layout_free(layout);
  qe_free(genomes);
  return status;
}

/* The model's integer network, through a file, and a population of it. */
static qe_status integer_network(scene *s) {
  char path[FIXTURE_PATH + 32];
  qe_network *network = NULL, *back = NULL;
  qe_queue *queue = NULL;
  snprintf(path, sizeof path, "%s/network", s->folder);
  qe_status status = qe_network_from_graph(s->model->graph, s->model->values, &network);
  if (status == QE_OK) status = qe_network_write(network, path);
  if (status == QE_OK) status = qe_network_read(path, &back);
  if (status == QE_OK) status = qe_queue_new(s->device, &queue);
  if (status == QE_OK) status = run_population(s, queue, back);
  qe_network_free(network);
  qe_network_free(back);
  qe_queue_free(queue);
  return status;
}

/* The whole of a small run with its folder. */
static qe_status run_method(scene *s) {
  char folder[FIXTURE_PATH + 8];
  snprintf(folder, sizeof folder, "%s/run", s->folder);
  qe_run_options options = {.folder = folder, .config = "seed: 1\n", .save_every = 1, .log_every = 1};
  qe_setting setting = {.device = s->device, .data = s->data, .spec = qe_model_default("mlp")};
  setting.spec.height = setting.spec.width = s->data->height;
  setting.spec.channels = s->data->channels;
  setting.spec.classes = s->data->classes;
  setting.spec.bits.weights = 4;
  setting.spec.bits.weight_rule = QE_RULE_MAX; /* fits fast */
  setting.options = setting.float_options = train_options();
  setting.float_options.epochs = 0;
  qe_result result;
  qe_status status = qe_run_open(&options, NULL, &setting.run);
  if (status == QE_OK) {
    status = qe_train_qat(&setting, &result);
    qe_run_close(setting.run);
  }
  if (qe_folder_exists(folder)) folder_remove(folder);
  return status;
}

/* Fail the first, second, ... allocation of a stage until it passes. */
static void fail_each(scene *s, const char *name, qe_status (*stage)(scene *), void (*undo)(scene *), int64_t least) {
  for (int64_t nth = 1;; nth++) {
    int64_t before = qe_alloc_count();
    qe_message_clear();
    qe_alloc_fail_nth(nth);
    qe_status status = stage(s);
    qe_alloc_fail_nth(0);
    bool failed = qe_alloc_count() - before >= nth;
    if (status == QE_OK && failed) fail_msg("%s on %s: failure %d went unnoticed", name, s->backend, (int)nth);
    if (status != QE_OK && !failed) fail_msg("%s on %s: %s", name, s->backend, qe_message());
    if (status != QE_OK && (status != QE_NO_MEMORY || !qe_message()[0]))
      fail_msg("%s on %s, allocation %d: %s '%s'", name, s->backend, (int)nth, qe_status_name(status), qe_message());
    if (status == QE_OK) {
      print_message("  %s on %s: %d allocations\n", name, s->backend, (int)nth - 1);
      assert_true(nth > least);
      break;
    }
  }
  if (undo) {
    undo(s);
    OK(stage(s)); /* without faults, after all those failures */
  }
}

static void every_allocation_fails_once(void **state) {
  (void)state;
  static const char *const backends[] = {"ref", "cpu"};
  for (int i = 0; i < fixture_devices; i++) {
    if (!fixture_device[i]) continue;
    scene s = {.backend = backends[i]};
    folder_new(s.folder);
    s.data = small_data(4, 2, 3, 9, 4);
    fail_each(&s, "open", open_device, close_device, 3);
    fail_each(&s, "build", build_model, free_model, 30);
    fail_each(&s, "zoo", build_and_free_zoo_model, NULL, 30);
    fail_each(&s, "fit", fit, NULL, 50);
    fail_each(&s, "integer", integer_network, NULL, 200);
    fail_each(&s, "train", train_and_score, NULL, 200);
    fail_each(&s, "diverge", diverge, NULL, 200);
    fail_each(&s, "save", save_and_load, NULL, 200);
    if (fixture_device[i] == fixture_fast()) fail_each(&s, "run", run_method, NULL, 300);
    OK(train_and_score(&s));
    qe_dataset_free(s.data);
    free_model(&s);
    close_device(&s);
    folder_remove(s.folder);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_fails_once)};
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
