/* The integer network as a program: constants laid out in one buffer, one call a layer, then the integer loss. */
#include "core/base/alloc.h"
#include "core/graph/integer.h"

#include <string.h>

static size_t aligned(size_t bytes) {
  return (bytes + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
}

typedef struct constant {
  const void *data;
  qe_desc desc;
} constant;

/* The constants of a layer in the order of its op's operands; returns how many. */
static int constants_of(const qe_int_layer *layer, constant *to) {
  int32_t channels = layer->output.dim[QE_C];
  int count = 0;
  if (layer->weight) to[count++] = (constant){layer->weight, layer->weight_desc};
  for (int b = 0; b < 2; b++)
    if (layer->multiplier[b]) to[count++] = (constant){layer->multiplier[b], qe_vector(QE_S32, channels)};
  if (layer->offset) to[count++] = (constant){layer->offset, qe_vector(QE_S64, channels)};
  return count;
}

size_t qe_integer_bytes(const qe_integer *integer) {
  size_t bytes = 0;
  for (size_t i = 0; i < integer->layers; i++) {
    constant list[4];
    int count = constants_of(&integer->layer[i], list);
    for (int k = 0; k < count; k++) bytes += aligned(qe_bytes(&list[k].desc));
  }
  return bytes;
}

typedef struct emitter {
  qe_queue *queue;
  qe_program *program;
  const qe_integer *integer;
  const qe_integer_buffers *buffers;
  int32_t batch, images;
  size_t offset;    /* into the constants */
  qe_value *tensor; /* of each layer */
} emitter;

static qe_status bind_constant(emitter *e, const qe_int_layer *layer, const constant *c, qe_value *value) {
  QE_TRY(qe_program_bind(e->program, layer->name, c->desc, e->buffers->constants, e->offset, value));
  QE_TRY(qe_queue_write(e->queue, e->buffers->constants, e->offset, c->data, qe_bytes(&c->desc)));
  e->offset += aligned(qe_bytes(&c->desc));
  return QE_OK;
}

/* An input as the layer's op wants its shape: flattening is a view. */
static qe_status input_of(emitter *e, const qe_int_layer *layer, int which, qe_value *value) {
  const qe_int_layer *source = &e->integer->layer[layer->input[which]];
  *value = e->tensor[layer->input[which]];
  if (!layer->weight) return QE_OK;
  int32_t inputs = layer->weight_desc.dim[QE_C] * layer->attrs.window.groups;
  if (source->output.dim[QE_C] == inputs) return QE_OK;
  qe_desc flat = qe_map(source->output.dtype, e->batch, 1, 1, inputs);
  return qe_program_view(e->program, *value, "flat", flat, value);
}

static qe_status emit_gather(emitter *e, const qe_int_layer *layer, qe_value *output) {
  const int32_t *dim = layer->output.dim;
  qe_desc images = qe_map(QE_U8, e->images, dim[QE_H], dim[QE_W], dim[QE_C]);
  qe_value from, index;
  qe_attrs attrs = {.images = e->images};
  QE_TRY(qe_program_bind(e->program, "images", images, e->buffers->images, 0, &from));
  QE_TRY(qe_program_bind(e->program, "index", qe_map(QE_S32, e->batch, 1, 1, 1), e->buffers->index, 0, &index));
  return qe_program_call(e->program, layer->op, &attrs, (qe_value[]){from, index, *output});
}

static qe_status emit_layer(emitter *e, size_t at) {
  const qe_int_layer *layer = &e->integer->layer[at];
  qe_desc desc = layer->output;
  desc.dim[QE_N] = e->batch;
  QE_TRY(qe_program_temp(e->program, layer->name, desc, &e->tensor[at]));
  if (layer->op == QE_OP_int_gather) return emit_gather(e, layer, &e->tensor[at]);
  constant list[4];
  qe_value values[QE_MAX_OPERANDS], bound[4], input[2];
  int constants = constants_of(layer, list), used = 0;
  for (int k = 0; k < constants; k++) QE_TRY(bind_constant(e, layer, &list[k], &bound[k]));
  for (int k = 0; k < layer->inputs; k++) QE_TRY(input_of(e, layer, k, &input[k]));
  /* Operands come as input, constant, input, constant, ..., remaining constants, output. */
  for (int k = 0; k < layer->inputs; k++) {
    values[used++] = input[k];
    if (k < constants) values[used++] = bound[k];
  }
  for (int k = layer->inputs; k < constants; k++) values[used++] = bound[k];
  values[used] = e->tensor[at];
  return qe_program_call(e->program, layer->op, &layer->attrs, values);
}

static qe_status emit_loss(emitter *e) {
  qe_desc row = qe_map(QE_S32, e->batch, 1, 1, 1);
  qe_value label, loss, hits;
  QE_TRY(qe_program_bind(e->program, "labels", row, e->buffers->labels, 0, &label));
  QE_TRY(qe_program_bind(e->program, "loss", row, e->buffers->loss, 0, &loss));
  QE_TRY(qe_program_bind(e->program, "hits", row, e->buffers->hits, 0, &hits));
  qe_value logits = e->tensor[e->integer->layers - 1];
  qe_program_keep(e->program, logits);
  return qe_program_call(e->program, QE_OP_int_loss, NULL, (qe_value[]){logits, label, loss, hits});
}

static qe_status emit(emitter *e) {
  for (size_t i = 0; i < e->integer->layers; i++) {
    qe_status status = emit_layer(e, i);
    if (status != QE_OK) return qe_fail_within(status, "integer layer %s", e->integer->layer[i].name);
  }
  QE_TRY(emit_loss(e));
  QE_TRY(qe_program_plan(e->program, NULL));
  return qe_queue_wait(e->queue);
}

qe_status qe_integer_lower(const qe_integer *integer, qe_queue *queue, int32_t batch, int32_t images,
                           const qe_integer_buffers *buffers, qe_program **program, qe_value *logits) {
  emitter e = {.queue = queue, .integer = integer, .buffers = buffers, .batch = batch, .images = images};
  if (batch < 1) return qe_fail(QE_USAGE, "batch %d: must be at least 1", batch);
  e.tensor = QE_NEW_ARRAY(qe_value, integer->layers);
  if (!e.tensor) return QE_NO_MEMORY;
  qe_status status = qe_program_new(queue->device, "integer eval", &e.program);
  if (status == QE_OK) status = emit(&e);
  if (status == QE_OK) {
    *program = e.program;
    if (logits) *logits = e.tensor[integer->layers - 1];
  } else {
    qe_program_free(e.program);
  }
  qe_free(e.tensor);
  return status;
}
