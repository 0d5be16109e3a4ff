/* The engine `op by op`: how many candidates and images fit the memory, and that memory. */
#include "core/base/alloc.h"
#include "core/dispatch/population_parts.h"

#include <string.h>

static size_t aligned(size_t bytes) {
  return (bytes + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
}

/* ---- what is fixed by network and layout ---- */

static void find_readers(qe_ops_engine *e) {
  for (size_t i = 0; i < e->network->layers; i++) {
    const qe_network_layer *layer = &e->network->layer[i];
    for (int k = 0; k < layer->inputs; k++) e->last_reader[layer->input[k]] = (int32_t)i;
  }
}

/* Narrow only where it is proven for all codes of the grids; it changes no value. */
static void find_widths(qe_ops_engine *e) {
  for (size_t i = 0; i < e->layout->genes; i++) e->varies[e->layout->gene[i].layer] = true;
  for (size_t i = 0; i < e->network->layers; i++) {
    const qe_network_layer *layer = &e->network->layer[i];
    e->narrow[i] = layer->offset && layer->attrs.requant.narrow && !e->varies[i] &&
                   qe_genome_width(e->layout, e->network, NULL, (int32_t)i) == QE_SUM_NARROW;
  }
}

/* Whether some candidate may start between the tensor's layer and one that reads it. */
static bool is_taken_over(const qe_ops_engine *e, int32_t tensor) {
  if (tensor == 0) return true;
  for (size_t i = 0; i < e->layout->genes; i++) {
    int32_t start = e->layout->gene[i].layer;
    if (start > tensor && start <= e->last_reader[tensor]) return true;
  }
  return false;
}

static size_t tensor_bytes(const qe_ops_engine *e, int32_t tensor, int32_t batch) {
  return aligned(qe_bytes(&e->network->layer[tensor].output) * (size_t)batch);
}

/* ---- sizes ---- */

size_t qe_ops_total(const qe_ops_engine *e, const qe_ops_chunk *size) {
  size_t rows = (size_t)size->batch * (2 + 2 * (size_t)size->candidates) * sizeof(int32_t);
  size_t logits = (size_t)size->batch * (size_t)size->candidates * (size_t)qe_ops_classes(e) * sizeof(int32_t);
  return size->own + size->shared + 2 * size->staged + size->tensors + size->arena + 2 * rows + logits;
}

/* The arena of the whole network, from a program that lies nowhere. */
static qe_status measure_arena(qe_ops_engine *e, const qe_ops_chunk *size, size_t *bytes) {
  enum { OWN, SHARED, LABELS, LOSS, HITS, TENSORS, NOWHERE };
  qe_buffer nowhere[NOWHERE];
  for (int i = 0; i < NOWHERE; i++) nowhere[i] = (qe_buffer){.device = e->queue->device, .bytes = SIZE_MAX};
  memset(e->used_place, 0, e->network->layers * sizeof *e->used_place);
  e->used_place[0].buffer = &nowhere[TENSORS];
  qe_network_part part = {.network = e->network,
                          .start = 1,
                          .stop = (int32_t)e->network->layers,
                          .population = size->candidates,
                          .batch = size->batch,
                          .varies = e->varies,
                          .narrow = e->narrow,
                          .shared = &nowhere[SHARED],
                          .own = &nowhere[OWN],
                          .shared_place = e->shared_place,
                          .own_place = e->own_place,
                          .tensor = e->used_place,
                          .labels = &nowhere[LABELS],
                          .loss = &nowhere[LOSS],
                          .hits = &nowhere[HITS]};
  qe_program *program = NULL;
  int32_t made_for;
  QE_TRY(qe_network_program_new(e->queue->device, &part, &program, NULL, &made_for));
  qe_status status = qe_program_measure(program, bytes);
  qe_program_free(program);
  return status;
}

static qe_status measure(qe_ops_engine *e, qe_ops_chunk *size) {
  size->own = qe_network_place_constants(e->network, size->candidates, e->own_place);
  size->shared = qe_network_place_constants(e->network, 1, e->shared_place);
  size->staged = size->tensors = 0;
  for (size_t i = 0; i < e->layout->genes; i++) {
    e->staged_at[i] = size->staged;
    size->staged += aligned(e->layout->gene[i].bytes * (size_t)size->candidates);
  }
  for (int32_t i = 0; i < (size->parent ? (int32_t)e->network->layers : 1); i++) {
    if (!is_taken_over(e, i)) continue;
    e->tensor_place[i].offset = size->tensors;
    size->tensors += tensor_bytes(e, i, size->batch);
  }
  return measure_arena(e, size, &size->arena);
}

/* Halve the candidates, then the batch, until all fits. */
static qe_status fit(qe_ops_engine *e, qe_ops_chunk *size) {
  for (;;) {
    qe_status status = measure(e, size);
    size_t total = qe_ops_total(e, size);
    bool least = size->candidates == 1 && size->batch == 1;
    if (status == QE_OK && total <= e->memory) return QE_OK;
    if (status != QE_OK && (least || status == QE_NO_MEMORY)) return status;
    if (least)
      return qe_fail(QE_NO_MEMORY, "one candidate and one image need %zu MiB, %zu are allowed: give it more memory",
                     (total >> 20) + 1, e->memory >> 20);
    if (size->candidates > 1)
      size->candidates = (size->candidates + 1) / 2;
    else
      size->batch = (size->batch + 1) / 2;
  }
}

/* ---- memory ---- */

static void drop_programs(qe_ops_engine *e) {
  for (size_t i = 0; i < e->programs; i++) {
    qe_program_free(e->program[i].load);
    qe_program_free(e->program[i].run);
  }
  e->programs = 0;
  e->loaded_by = NULL;
}

void qe_ops_drop_memory(qe_ops_engine *e) {
  qe_buffer **const buffers[] = {&e->own,   &e->shared, &e->staged, &e->tensors, &e->arena,
                                 &e->index, &e->labels, &e->loss,   &e->hits};
  drop_programs(e);
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
    qe_buffer_free(*buffers[i]);
    *buffers[i] = NULL;
  }
  qe_free(e->host_staged);
  qe_free(e->rows);
  qe_free(e->logits);
  e->host_staged = NULL;
  e->rows = e->logits = NULL;
  e->asked = (qe_ops_chunk){0};
}

/* The network's own constants, `copies` times. */
static qe_status write_constants(qe_ops_engine *e, qe_buffer *buffer, const qe_constant_places *places,
                                 int32_t copies) {
  for (size_t i = 0; i < e->network->layers; i++)
    for (int k = 0; k < QE_NETWORK_CONSTANTS; k++) {
      qe_constant constant = qe_network_constant(&e->network->layer[i], k);
      size_t each = constant.data ? qe_bytes(&constant.desc) : 0;
      for (int32_t copy = 0; each && copy < copies; copy++)
        QE_TRY(qe_queue_write(e->queue, buffer, places[i].at[k] + (size_t)copy * each, constant.data, each));
    }
  return qe_queue_wait(e->queue);
}

static qe_status make_memory(qe_ops_engine *e) {
  qe_device *device = e->queue->device;
  const qe_ops_chunk *size = &e->size;
  size_t row = (size_t)size->batch * sizeof(int32_t), values = (size_t)size->batch * (size_t)size->candidates;
  QE_TRY(qe_buffer_new(device, size->own, &e->own));
  QE_TRY(qe_buffer_new(device, size->shared, &e->shared));
  QE_TRY(qe_buffer_new(device, size->staged, &e->staged));
  QE_TRY(qe_buffer_new(device, size->tensors, &e->tensors));
  QE_TRY(qe_buffer_new(device, size->arena, &e->arena));
  QE_TRY(qe_buffer_new(device, row, &e->index));
  QE_TRY(qe_buffer_new(device, row, &e->labels));
  QE_TRY(qe_buffer_new(device, values * sizeof(int32_t), &e->loss));
  QE_TRY(qe_buffer_new(device, values * sizeof(int32_t), &e->hits));
  e->host_staged = qe_alloc(size->staged);
  e->rows = QE_NEW_ARRAY(int32_t, 2 * (size_t)size->batch + 2 * values);
  e->logits = QE_NEW_ARRAY(int32_t, values * (size_t)qe_ops_classes(e));
  if (!e->host_staged || !e->rows || !e->logits) return QE_NO_MEMORY;
  for (size_t i = 0; i < e->network->layers; i++)
    e->tensor_place[i].buffer = (i == 0 || size->parent) && is_taken_over(e, (int32_t)i) ? e->tensors : NULL;
  QE_TRY(write_constants(e, e->own, e->own_place, size->candidates));
  return write_constants(e, e->shared, e->shared_place, 1);
}

static bool holds(const qe_ops_chunk *have, const qe_ops_chunk *wanted) {
  return have->candidates >= wanted->candidates && have->batch >= wanted->batch && (have->parent || !wanted->parent);
}

qe_status qe_ops_make_room(qe_ops_engine *e, const qe_population_call *call) {
  qe_ops_chunk wanted = {.candidates = call->candidates < QE_OPS_CANDIDATES ? call->candidates : QE_OPS_CANDIDATES,
                         .batch = call->count < e->most_batch ? (int32_t)call->count : e->most_batch,
                         .parent = call->parent != NULL};
  if (holds(&e->asked, &wanted)) return QE_OK;
  if (wanted.candidates < e->asked.candidates) wanted.candidates = e->asked.candidates;
  if (wanted.batch < e->asked.batch) wanted.batch = e->asked.batch;
  wanted.parent = wanted.parent || e->asked.parent;
  qe_ops_drop_memory(e);
  e->size = wanted;
  qe_status status = fit(e, &e->size);
  if (status == QE_OK) status = make_memory(e);
  if (status == QE_OK)
    e->asked = wanted;
  else
    qe_ops_drop_memory(e);
  return status;
}

qe_status qe_ops_prepare(qe_ops_engine *e) {
  size_t layers = e->network->layers;
  e->varies = QE_NEW_ARRAY(bool, layers);
  e->narrow = QE_NEW_ARRAY(bool, layers);
  e->last_reader = QE_NEW_ARRAY(int32_t, layers);
  e->own_place = QE_NEW_ARRAY(qe_constant_places, layers);
  e->shared_place = QE_NEW_ARRAY(qe_constant_places, layers);
  e->tensor_place = QE_NEW_ARRAY(qe_tensor_place, layers);
  e->used_place = QE_NEW_ARRAY(qe_tensor_place, layers);
  e->staged_at = QE_NEW_ARRAY(size_t, e->layout->genes + 1);
  if (!e->varies || !e->narrow || !e->last_reader || !e->own_place || !e->shared_place || !e->tensor_place ||
      !e->used_place || !e->staged_at)
    return QE_NO_MEMORY;
  find_readers(e);
  find_widths(e);
  qe_ops_chunk least = {.candidates = 1, .batch = 1};
  return fit(e, &least);
}
