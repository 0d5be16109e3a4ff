/* Codes of the quantisers over some test images: of a model by its program with every output kept, of an integer
 * network layer by layer. */
#include "core/base/alloc.h"
#include "core/evolve/trace.h"
#include "core/graph/layers.h"
#include "core/report/report_parts.h"
#include "core/train/session.h"

#include <math.h>
#include <string.h>

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

static qe_status model_node(qe_report_run *run, const qe_session *session, qe_node at) {
  const qe_node_info *node = &run->model->graph->node[at];
  qe_value value = session->lowered.output[at];
  qe_desc desc = qe_program_desc(session->lowered.program, value);
  double step = ldexp((double)*qe_model_values(run->model, node->param[QE_QUANT_STEP]), -node->quantizer.step_shift);
  int32_t low, high;
  qe_grid_range(node->quantizer.grid, node->quantizer.bits, &low, &high);
  float *values = qe_alloc(qe_bytes(&desc));
  if (!values) return QE_NO_MEMORY;
  tally t = {0};
  qe_status status = qe_program_read(session->lowered.program, session->queue, value, values);
  if (status == QE_OK) status = qe_queue_wait(session->queue);
  for (int64_t i = 0; status == QE_OK && step > 0 && i < qe_count(&desc); i++)
    count_code(&t, rint((double)values[i] / step), high);
  qe_free(values);
  return status == QE_OK ? add_activation(&run->found, node->name, node->quantizer.bits, step, high, &t) : status;
}

static qe_status run_model(qe_report_run *run, qe_session *session, const int32_t *index, int32_t images) {
  double loss = 0;
  int64_t hits = 0;
  QE_TRY(qe_session_run(session, index, images, 0, 0, &loss, &hits));
  for (size_t i = 0; i < run->model->graph->nodes; i++)
    if (run->model->graph->node[i].layer == &qe_layer_quant) QE_TRY(model_node(run, session, (qe_node)i));
  return QE_OK;
}

static bool has_quantisers(const qe_graph *graph) {
  for (size_t i = 0; i < graph->nodes; i++)
    if (graph->node[i].layer == &qe_layer_quant) return true;
  return false;
}

static qe_status model_activations(qe_report_run *run, qe_queue *queue, const qe_image_store *store,
                                   const int32_t *index, int32_t images) {
  qe_buffer *params = NULL;
  qe_session session = {0};
  size_t bytes = qe_graph_param_bytes(run->model->graph);
  qe_lower_options lower = {.batch = images, .keep_outputs = true};
  if (!has_quantisers(run->model->graph)) return QE_OK;
  qe_status status = qe_buffer_new(queue->device, bytes, &params);
  if (status == QE_OK) status = qe_queue_write(queue, params, 0, run->model->values, bytes);
  if (status == QE_OK) status = qe_session_new(queue, run->model->graph, &lower, params, NULL, store, &session);
  if (status == QE_OK) status = run_model(run, &session, index, images);
  qe_session_free(&session);
  qe_buffer_free(params);
  return status;
}

/* ---- integer networks ---- */

static double code_of(const void *values, qe_dtype dtype, int64_t i) {
  if (dtype == QE_U8) return ((const uint8_t *)values)[i];
  return dtype == QE_S8 ? ((const int8_t *)values)[i] : (double)((const int32_t *)values)[i];
}

/* Tensors of requantisers that are codes: the last layer's are logits. */
static qe_status network_layer(qe_report_run *run, const qe_trace *trace, int32_t at) {
  const qe_network_layer *layer = &run->network->layer[at];
  qe_desc desc = qe_trace_desc(trace, at);
  if (!layer->offset || desc.dtype == QE_S32 || at + 1 == (int32_t)run->network->layers) return QE_OK;
  void *values = qe_alloc(qe_bytes(&desc));
  if (!values) return QE_NO_MEMORY;
  tally t = {0};
  double high = layer->attrs.requant.high;
  qe_status status = qe_queue_read(trace->queue, trace->tensor[at], 0, values, qe_bytes(&desc));
  if (status == QE_OK) status = qe_queue_wait(trace->queue);
  for (int64_t i = 0; status == QE_OK && i < qe_count(&desc); i++) count_code(&t, code_of(values, desc.dtype, i), high);
  qe_free(values);
  double step = ldexp((double)layer->unit.mantissa, layer->unit.exponent);
  int bits = qe_network_bits(run->network, (size_t)at);
  return status == QE_OK ? add_activation(&run->found, layer->name, bits, step, high, &t) : status;
}

static qe_status network_activations(qe_report_run *run, qe_queue *queue, const qe_image_store *store, int32_t images) {
  qe_trace trace = {0};
  qe_status status = qe_trace_open(&trace, queue, run->network, store->pixels, images);
  for (int32_t i = 0; status == QE_OK && i < (int32_t)run->network->layers; i++) {
    status = qe_trace_run(&trace, i);
    if (status == QE_OK) status = network_layer(run, &trace, i);
    if (status == QE_OK) qe_trace_forget(&trace, i);
  }
  qe_trace_close(&trace);
  return status;
}

/* ---- both ---- */

/* A data set of `images` test images from all over (they may be sorted by class), which borrows all else. */
static qe_status take_images(const qe_dataset *data, int32_t images, qe_dataset *part) {
  size_t each = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  *part = *data;
  part->test_images = images;
  part->test_pixels = qe_alloc(each * (size_t)images);
  part->test_labels = QE_NEW_ARRAY(int32_t, images);
  if (!part->test_pixels || !part->test_labels) return QE_NO_MEMORY;
  for (int32_t i = 0; i < images; i++) {
    size_t from = (size_t)i * (size_t)data->test_images / (size_t)images;
    memcpy(part->test_pixels + (size_t)i * each, data->test_pixels + from * each, each);
    part->test_labels[i] = data->test_labels[from];
  }
  return QE_OK;
}

qe_status qe_findings_activations(qe_report_run *run, qe_device *device, const qe_dataset *data) {
  int32_t images = data->test_images < QE_ACTIVATION_IMAGES ? data->test_images : QE_ACTIVATION_IMAGES;
  int32_t index[QE_ACTIVATION_IMAGES];
  qe_dataset part = {0};
  qe_queue *queue = NULL;
  qe_image_store store = {0};
  for (int32_t i = 0; i < images; i++) index[i] = i;
  qe_status status = take_images(data, images, &part);
  if (status == QE_OK) status = qe_queue_new(device, &queue);
  if (status == QE_OK) status = qe_image_store_new(queue, &part, true, &store);
  if (status == QE_OK)
    status = run->model ? model_activations(run, queue, &store, index, images)
                        : network_activations(run, queue, &store, images);
  qe_queue_free(queue); /* waits */
  qe_image_store_free(&store);
  qe_free(part.test_pixels);
  qe_free(part.test_labels);
  return status;
}
