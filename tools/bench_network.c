/* Integer networks for the benches: built, calibrated, opened on a device, compared with the reference. */
#include "tools/bench_network.h"

#include "core/base/alloc.h"
#include "core/graph/integer.h"
#include "core/graph/layers.h"
#include "core/train/session.h"

#include <string.h>

enum { CALIBRATION_IMAGES = 16, INPUT_BITS = 8 };

/* ---- networks ---- */

/* Bytes of the source's images, one image after the other, in the shape that the network takes. */
static qe_status make_data(const qe_dataset *source, int32_t side_height, int32_t side_width, int32_t channels,
                           int32_t images, qe_dataset **out) {
  qe_dataset *data = QE_NEW(qe_dataset);
  if (!data) return QE_NO_MEMORY;
  *out = data; /* freed by the caller from here on */
  data->classes = source->classes;
  data->height = side_height;
  data->width = side_width;
  data->channels = channels;
  data->name = qe_strdup("bench");
  data->source = qe_strdup(source->source);
  if (!data->name || !data->source) return QE_NO_MEMORY;
  QE_TRY(qe_dataset_alloc(data, images, 1));
  size_t bytes = (size_t)images * (size_t)side_height * (size_t)side_width * (size_t)channels;
  size_t available =
      (size_t)source->train_images * (size_t)source->height * (size_t)source->width * (size_t)source->channels;
  for (size_t at = 0; at < bytes; at += available)
    memcpy(data->train_pixels + at, source->train_pixels, bytes - at < available ? bytes - at : available);
  memset(data->test_pixels, 0, (size_t)side_height * (size_t)side_width * (size_t)channels);
  for (int32_t i = 0; i < images; i++) data->train_labels[i] = i % source->classes;
  return QE_OK;
}

static qe_status build_chain(const qe_bench_chain *chain, const qe_bits *bits, int32_t classes, qe_graph **out) {
  QE_TRY(qe_graph_new(out));
  qe_graph *graph = *out;
  qe_quantizer weights = {.bits = bits->weights, .grid = bits->weights == 1 ? QE_GRID_ODD : QE_GRID_SIGNED};
  qe_quantizer codes = {.bits = bits->activations, .grid = QE_GRID_UNSIGNED};
  qe_quantizer wide = {.bits = INPUT_BITS, .grid = QE_GRID_UNSIGNED};
  qe_quantizer last = {.bits = INPUT_BITS, .grid = QE_GRID_SIGNED};
  const float epsilon = 1e-5f, momentum = 0.1f;
  qe_node x = qe_graph_input(graph, "input", chain->side, chain->side, chain->channels);
  x = qe_graph_quant(graph, "codes", x, &codes, -1);
  for (int32_t i = 0; i < chain->layers; i++) {
    char name[3][24];
    snprintf(name[0], sizeof name[0], "conv%d", i);
    snprintf(name[1], sizeof name[1], "bn%d", i);
    snprintf(name[2], sizeof name[2], "codes%d", i);
    qe_window window = qe_square(3, 1, 1, chain->channels);
    x = qe_graph_conv(graph, name[0], x, &window, false, &weights);
    x = qe_graph_batch_norm(graph, name[1], x, epsilon, momentum);
    x = qe_graph_quant(graph, name[2], x, &codes, -1);
  }
  x = qe_graph_global_pool(graph, "pool", x);
  x = qe_graph_quant(graph, "pool_codes", x, &wide, -1);
  (void)qe_graph_linear(graph, "fc", x, classes, true, &last);
  return qe_graph_finish(graph);
}

static qe_status new_chain(const qe_bench_chain *chain, const qe_bits *bits, const qe_dataset *source, qe_model **out) {
  qe_model *model = QE_NEW(qe_model);
  if (!model) return QE_NO_MEMORY;
  *out = model; /* freed by the caller from here on */
  model->spec.name = qe_strdup("chain");
  model->spec.height = model->spec.width = chain->side;
  model->spec.channels = chain->channels;
  model->spec.classes = source->classes;
  if (!model->spec.name) return QE_NO_MEMORY;
  QE_TRY(build_chain(chain, bits, source->classes, &model->graph));
  model->values = qe_calloc(qe_graph_param_bytes(model->graph), 1);
  if (!model->values) return QE_NO_MEMORY;
  qe_model_init(model, 1);
  return QE_OK;
}

static qe_status new_model(const char *name, const qe_bits *bits, const qe_dataset *source, qe_model **out) {
  qe_model_spec spec = qe_model_default(name);
  spec.height = source->height;
  spec.width = source->width;
  spec.channels = source->channels;
  spec.classes = source->classes;
  spec.bits = *bits;
  return qe_model_new_named(&spec, 1, out);
}

/* ---- calibration ---- */

/* One forward pass on batch statistics, which become the running ones. `plain`: without quantisers. */
static qe_status take_statistics(qe_device *device, qe_model *model, const qe_dataset *data, bool plain) {
  qe_queue *queue = NULL;
  qe_buffer *params = NULL;
  qe_image_store store = {0};
  qe_session session = {0};
  qe_lower_options lower = {.batch = data->train_images, .training = true, .plain = plain};
  size_t bytes = qe_graph_param_bytes(model->graph);
  int32_t index[CALIBRATION_IMAGES];
  for (int32_t i = 0; i < data->train_images; i++) index[i] = i;
  double loss = 0;
  int64_t hits = 0;
  qe_status status = qe_queue_new(device, &queue);
  if (status == QE_OK) status = qe_buffer_new(device, bytes, &params);
  if (status == QE_OK) status = qe_queue_write(queue, params, 0, model->values, bytes);
  if (status == QE_OK) status = qe_image_store_new(queue, data, false, &store);
  if (status == QE_OK) status = qe_session_new(queue, model->graph, &lower, params, NULL, &store, &session);
  if (status == QE_OK) status = qe_session_run(&session, index, data->train_images, 1, 0, &loss, &hits);
  if (status == QE_OK) status = qe_queue_read(queue, params, 0, model->values, bytes);
  if (status == QE_OK) status = qe_queue_wait(queue);
  qe_session_free(&session);
  qe_image_store_free(&store);
  qe_buffer_free(params);
  qe_queue_free(queue);
  return status;
}

/* Batch norm and steps as after training: statistics of the float network, steps fitted to it, then statistics of the
 * quantised one, so that codes of few bits stay alive through all layers. */
static qe_status calibrate(qe_device *device, qe_model *model, const qe_dataset *data) {
  qe_dataset few = *data;
  if (few.train_images > CALIBRATION_IMAGES) few.train_images = CALIBRATION_IMAGES;
  for (size_t i = 0; i < model->graph->nodes; i++)
    if (model->graph->node[i].layer == &qe_layer_batch_norm) model->graph->node[i].attrs.momentum = 1;
  QE_TRY(take_statistics(device, model, &few, true));
  QE_TRY(qe_fit_steps(device, model, &few, 1));
  return take_statistics(device, model, &few, false);
}

static qe_status fill(qe_device *device, const char *model, const qe_bench_chain *chain, const qe_bits *bits,
                      const qe_dataset *source, int32_t images, qe_bench_network *n) {
  QE_TRY(chain ? new_chain(chain, bits, source, &n->model) : new_model(model, bits, source, &n->model));
  const qe_model_spec *spec = &n->model->spec;
  QE_TRY(make_data(source, spec->height, spec->width, spec->channels, images, &n->data));
  QE_TRY(calibrate(device, n->model, n->data));
  n->index = QE_NEW_ARRAY(int32_t, images);
  if (!n->index) return QE_NO_MEMORY;
  for (int32_t i = 0; i < images; i++) n->index[i] = i;
  return qe_network_from_graph(n->model->graph, n->model->values, &n->network);
}

qe_status qe_bench_network_new(qe_device *device, const char *model, const qe_bench_chain *chain, const qe_bits *bits,
                               const qe_dataset *data, int32_t images, qe_bench_network **network) {
  qe_bench_network *n = QE_NEW(qe_bench_network);
  qe_status status = n ? fill(device, model, chain, bits, data, images, n) : QE_NO_MEMORY;
  if (status != QE_OK) {
    qe_bench_network_free(n);
    return status;
  }
  *network = n;
  return QE_OK;
}

void qe_bench_network_free(qe_bench_network *network) {
  if (!network) return;
  qe_network_free(network->network);
  qe_model_free(network->model);
  qe_dataset_free(network->data);
  qe_free(network->index);
  qe_free(network);
}

/* ---- on a device ---- */

qe_status qe_bench_engine_open(qe_device *device, const qe_bench_network *network, const qe_genome_layout *layout,
                               qe_bench_engine *engine) {
  const qe_dataset *data = network->data;
  size_t bytes = (size_t)data->train_images * (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  qe_population_options options = {.memory = network->memory};
  *engine = (qe_bench_engine){.network = network};
  qe_status status = qe_queue_new(device, &engine->queue);
  if (status == QE_OK) status = qe_buffer_new(device, bytes, &engine->images);
  if (status == QE_OK) status = qe_queue_write(engine->queue, engine->images, 0, data->train_pixels, bytes);
  if (status == QE_OK) status = qe_queue_wait(engine->queue);
  if (status == QE_OK)
    status = qe_population_new(engine->queue, network->network, layout, &options, &engine->population);
  if (status != QE_OK) qe_bench_engine_close(engine);
  return status;
}

void qe_bench_engine_close(qe_bench_engine *engine) {
  qe_population_free(engine->population);
  qe_buffer_free(engine->images);
  qe_queue_free(engine->queue);
  memset(engine, 0, sizeof *engine);
}

qe_population_call qe_bench_call(const qe_bench_engine *engine, int64_t first, int64_t count) {
  const qe_bench_network *network = engine->network;
  return (qe_population_call){.images = engine->images,
                              .image_count = network->data->train_images,
                              .index = network->index + first,
                              .labels = network->data->train_labels + first,
                              .count = count,
                              .candidates = 1,
                              .bound = INT64_MAX};
}

/* ---- against the reference ---- */

static qe_status check_alive(const int32_t *logits, int picks, size_t classes) {
  for (int i = 1; i < picks; i++)
    if (memcmp(logits, logits + (size_t)i * classes, classes * sizeof *logits) == 0)
      return qe_fail(QE_DEVICE, "the logits of two images are the same; such a network hides faults");
  return QE_OK;
}

/* The picked images through the reference, logits [picks, classes]. */
static qe_status reference_logits(const qe_bench_engine *ref, const qe_genome_layout *layout,
                                  const qe_population_call *call, int32_t candidate, const int64_t *pick, int picks,
                                  int32_t *logits) {
  int32_t index[QE_BENCH_PICKS], labels[QE_BENCH_PICKS];
  int64_t loss, hits;
  qe_population_call few = qe_bench_call(ref, 0, picks);
  qe_population_result result = {.loss = &loss, .hits = &hits, .logits = logits};
  for (int i = 0; i < picks; i++) {
    index[i] = call->index[pick[i]];
    labels[i] = call->labels[pick[i]];
  }
  few.index = index;
  few.labels = labels;
  if (call->genomes) few.genomes = (const uint8_t *)call->genomes + (size_t)candidate * layout->bytes;
  return qe_population_run(ref->population, &few, &result);
}

qe_status qe_bench_compare(const qe_bench_engine *ref, const qe_genome_layout *layout, const qe_population_call *call,
                           int32_t candidate, const int32_t *logits, qe_bench_row *row) {
  const int64_t pick[QE_BENCH_PICKS] = {0, call->count - 1, call->count / 2};
  int picks = call->count < QE_BENCH_PICKS ? (int)call->count : QE_BENCH_PICKS, differing = 0;
  size_t classes = (size_t)ref->network->data->classes;
  int32_t *wanted = QE_NEW_ARRAY(int32_t, (size_t)picks * classes);
  if (!wanted) return QE_NO_MEMORY;
  qe_status status = reference_logits(ref, layout, call, candidate, pick, picks, wanted);
  if (status == QE_OK) status = check_alive(wanted, picks, classes);
  for (int i = 0; status == QE_OK && i < picks; i++) {
    size_t at = ((size_t)candidate * (size_t)call->count + (size_t)pick[i]) * classes;
    differing += memcmp(logits + at, wanted + (size_t)i * classes, classes * sizeof *logits) != 0;
  }
  qe_free(wanted);
  if (status != QE_OK) return status;
  row->parity = differing == 0;
  snprintf(row->error, sizeof row->error, "logits of %d images: %d differ, bit for bit", picks, differing);
  return QE_OK;
}
