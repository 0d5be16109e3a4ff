/* Codes of the quantisers over some test images: of a model by its program with every output kept, of an integer
 * network layer by layer. */
#include "core/base/alloc.h"
#include "core/data/loader.h"
#include "core/evolve/trace.h"
#include "core/graph/layers.h"
#include "core/report/report_parts.h"
#include "core/train/session.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 25 }; /* images at a time: every output of theirs is kept */

typedef struct tally {
  int64_t count, zero, saturated;
  double sum, reached;
} tally;

static void count_code(tally *t, double code, double high) {
  t->count++;
  t->zero += !(code > 0 || code < 0);
  t->saturated += code >= high;
  t->sum += code;
  t->reached = fmax(t->reached, code);
}

static qe_status add_activation(qe_findings *found, const char *name, int bits, double step, double high,
                                const tally *t) {
  if (t->count == 0) return QE_OK;
  QE_TRY(
      qe_reserve(&found->activation, &found->activation_capacity, found->activations + 1, sizeof *found->activation));
  double all = (double)t->count;
  qe_activation *a = &found->activation[found->activations];
  *a = (qe_activation){.name = qe_strdup(name),
                       .bits = bits,
                       .step = step,
                       .high = high,
                       .zero = (double)t->zero / all,
                       .saturated = (double)t->saturated / all,
                       .mean = t->sum / all,
                       .reached = t->reached};
  if (!a->name) return QE_NO_MEMORY;
  found->activations++;
  return QE_OK;
}

/* ---- models ---- */

static double step_of(const qe_model *model, const qe_node_info *node) {
  return ldexp((double)*qe_model_values(model, node->param[QE_QUANT_STEP]), -node->quantizer.step_shift);
}

static int32_t high_of(const qe_node_info *node) {
  int32_t low, high;
  qe_grid_range(node->quantizer.grid, node->quantizer.bits, &low, &high);
  return high;
}

static qe_status count_node(const qe_report_run *run, const qe_session *session, qe_node at, tally *t) {
  const qe_node_info *node = &run->model->graph->node[at];
  qe_value value = session->lowered.output[at];
  qe_desc desc = qe_program_desc(session->lowered.program, value);
  double step = step_of(run->model, node), high = high_of(node);
  float *values = qe_alloc(qe_bytes(&desc));
  if (!values) return QE_NO_MEMORY;
  qe_status status = qe_program_read(session->lowered.program, session->queue, value, values);
  if (status == QE_OK) status = qe_queue_wait(session->queue);
  for (int64_t i = 0; status == QE_OK && step > 0 && i < qe_count(&desc); i++)
    count_code(t, rint((double)values[i] / step), high);
  qe_free(values);
  return status;
}

static bool is_quantiser(const qe_graph *graph, size_t at) {
  return graph->node[at].layer == &qe_layer_quant;
}

static qe_status run_model(const qe_report_run *run, qe_session *session, const int32_t *index, int32_t images,
                           tally *t) {
  double loss = 0;
  int64_t hits = 0;
  QE_TRY(qe_session_run(session, index, images, 0, 0, &loss, &hits));
  for (size_t i = 0; i < run->model->graph->nodes; i++)
    if (is_quantiser(run->model->graph, i)) QE_TRY(count_node(run, session, (qe_node)i, &t[i]));
  return QE_OK;
}

static qe_status add_nodes(qe_report_run *run, const tally *t) {
  const qe_graph *graph = run->model->graph;
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *node = &graph->node[i];
    if (is_quantiser(graph, i))
      QE_TRY(add_activation(&run->found, node->name, node->quantizer.bits, step_of(run->model, node), high_of(node),
                            &t[i]));
  }
  return QE_OK;
}

static bool has_quantisers(const qe_graph *graph) {
  for (size_t i = 0; i < graph->nodes; i++)
    if (is_quantiser(graph, i)) return true;
  return false;
}

static qe_status count_model(const qe_report_run *run, qe_queue *queue, const qe_image_store *store,
                             const int32_t *index, int32_t images, tally *t) {
  qe_buffer *params = NULL;
  qe_session session = {0};
  size_t bytes = qe_graph_param_bytes(run->model->graph);
  qe_lower_options lower = {.batch = images, .keep_outputs = true};
  if (!has_quantisers(run->model->graph)) return QE_OK;
  qe_status status = qe_buffer_new(queue->device, bytes, &params);
  if (status == QE_OK) status = qe_queue_write(queue, params, 0, run->model->values, bytes);
  if (status == QE_OK) status = qe_session_new(queue, run->model->graph, &lower, params, NULL, store, &session);
  if (status == QE_OK) status = run_model(run, &session, index, images, t);
  qe_session_free(&session);
  qe_buffer_free(params);
  return status;
}

/* ---- integer networks ---- */

static double code_of(const void *values, qe_dtype dtype, int64_t i) {
  if (dtype == QE_U8) return ((const uint8_t *)values)[i];
  return dtype == QE_S8 ? ((const int8_t *)values)[i] : (double)((const int32_t *)values)[i];
}

/* Tensors of requantisers are codes, but the last layer's, which are logits. */
static bool has_codes(const qe_network *network, size_t at) {
  const qe_network_layer *layer = &network->layer[at];
  return layer->offset && layer->output.dtype != QE_S32 && at + 1 < network->layers;
}

static qe_status count_layer(const qe_report_run *run, const qe_trace *trace, int32_t at, tally *t) {
  qe_desc desc = qe_trace_desc(trace, at);
  void *values = qe_alloc(qe_bytes(&desc));
  if (!values) return QE_NO_MEMORY;
  double high = run->network->layer[at].attrs.requant.high;
  qe_status status = qe_queue_read(trace->queue, trace->tensor[at], 0, values, qe_bytes(&desc));
  if (status == QE_OK) status = qe_queue_wait(trace->queue);
  for (int64_t i = 0; status == QE_OK && i < qe_count(&desc); i++) count_code(t, code_of(values, desc.dtype, i), high);
  qe_free(values);
  return status;
}

static qe_status count_network(const qe_report_run *run, qe_queue *queue, const qe_image_store *store, int32_t images,
                               tally *t) {
  qe_trace trace = {0};
  qe_status status = qe_trace_open(&trace, queue, run->network, store->pixels, images);
  for (int32_t i = 0; status == QE_OK && i < (int32_t)run->network->layers; i++) {
    status = qe_trace_run(&trace, i);
    if (status == QE_OK && has_codes(run->network, (size_t)i)) status = count_layer(run, &trace, i, &t[i]);
    if (status == QE_OK) qe_trace_forget(&trace, i);
  }
  qe_trace_close(&trace);
  return status;
}

static qe_status add_layers(qe_report_run *run, const tally *t) {
  for (size_t i = 0; i < run->network->layers; i++) {
    const qe_network_layer *layer = &run->network->layer[i];
    double step = ldexp((double)layer->unit.mantissa, layer->unit.exponent), high = layer->attrs.requant.high;
    if (has_codes(run->network, i))
      QE_TRY(add_activation(&run->found, layer->name, qe_network_bits(run->network, i), step, high, &t[i]));
  }
  return QE_OK;
}

/* ---- both ---- */

/* Images `first` on of QE_ACTIVATION_IMAGES from all over the test images (they may be sorted by class), as a data set
 * that borrows all else. */
static qe_status take_images(const qe_dataset *data, int32_t all, int32_t first, int32_t images, qe_dataset *part) {
  size_t each = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  int32_t index[CHUNK];
  *part = *data;
  part->images = NULL;
  part->test_images = images;
  part->test_pixels = qe_alloc(each * (size_t)images);
  part->test_labels = QE_NEW_ARRAY(int32_t, images);
  if (!part->test_pixels || !part->test_labels) return QE_NO_MEMORY;
  for (int32_t i = 0; i < images; i++) {
    index[i] = (int32_t)((int64_t)(first + i) * data->test_images / all);
    part->test_labels[i] = data->test_labels[index[i]];
  }
  return qe_loader_copy(data, true, index, images, part->test_pixels);
}

static qe_status count_images(const qe_report_run *run, qe_queue *queue, const qe_dataset *part, tally *t) {
  int32_t index[CHUNK];
  qe_image_store store = {0};
  for (int32_t i = 0; i < part->test_images; i++) index[i] = i;
  qe_status status = qe_image_store_new(queue, part, true, &store);
  if (status == QE_OK)
    status = run->model ? count_model(run, queue, &store, index, part->test_images, t)
                        : count_network(run, queue, &store, part->test_images, t);
  qe_image_store_free(&store);
  return status;
}

qe_status qe_findings_activations(qe_report_run *run, qe_device *device, const qe_dataset *data) {
  int32_t all = data->test_images < QE_ACTIVATION_IMAGES ? data->test_images : QE_ACTIVATION_IMAGES;
  qe_queue *queue = NULL;
  tally *t = QE_NEW_ARRAY(tally, run->model ? run->model->graph->nodes : run->network->layers);
  qe_status status = t ? qe_queue_new(device, &queue) : QE_NO_MEMORY;
  for (int32_t first = 0; status == QE_OK && first < all; first += CHUNK) {
    qe_dataset part = {0};
    status = take_images(data, all, first, all - first < CHUNK ? all - first : CHUNK, &part);
    if (status == QE_OK) status = count_images(run, queue, &part, t);
    qe_free(part.test_pixels);
    qe_free(part.test_labels);
  }
  if (status == QE_OK) status = run->model ? add_nodes(run, t) : add_layers(run, t);
  qe_queue_free(queue); /* waits */
  qe_free(t);
  return status;
}
