/* Memory of a training from scratch: where each number lies in the blocks that go to the device and come back. */
#include "core/base/alloc.h"
#include "core/evolve/scratch_build_internal.h"

size_t qe_block_place(qe_block *block, size_t bytes) {
  size_t at = block->bytes;
  block->bytes += (bytes + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
  return at;
}

qe_status qe_scratch_make_block(const qe_scratch *trainer, qe_block *block) {
  block->host = qe_calloc(block->bytes, 1);
  if (!block->host) return QE_NO_MEMORY;
  return qe_buffer_new(trainer->queue->device, block->bytes, &block->buffer);
}

bool qe_scratch_wants(const qe_scratch *trainer, int32_t unit, const qe_scratch_unit *from) {
  const qe_scratch_plan *plan = trainer->plan;
  if (unit == QE_NONE || plan->unit[unit].source != QE_ERROR_ABOVE) return false;
  return !plan->unit[unit].headed || from->local || trainer->options.borders > 0;
}

static void place_maker(qe_scratch *trainer, qe_error_maker *maker, int32_t channels) {
  maker->channels = channels;
  maker->step = UINT64_C(1) << QE_STEP_BITS;
  for (int b = 0; b < 2; b++)
    maker->multiplier[b] = qe_block_place(&trainer->errors, (size_t)channels * sizeof(int32_t));
  maker->offset = qe_block_place(&trainer->errors, (size_t)channels * sizeof(int64_t));
  maker->sums = qe_block_place(&trainer->results, 2 * (size_t)channels * sizeof(int64_t));
}

/* Weights that stand for the network's subsamples. */
static void place_moves(qe_scratch *trainer) {
  const qe_network *network = trainer->plan->network;
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    if (layer->op != QE_OP_int_subsample) continue;
    size_t codes = (size_t)layer->output.dim[QE_C] * (size_t)network->layer[layer->input[0]].output.dim[QE_C];
    trainer->moves[i] = qe_block_place(&trainer->errors, codes);
  }
}

static void fill_moves(const qe_scratch *trainer) {
  const qe_network *network = trainer->plan->network;
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    if (layer->op != QE_OP_int_subsample) continue;
    int32_t inputs = network->layer[layer->input[0]].output.dim[QE_C];
    uint8_t *weight = trainer->errors.host + trainer->moves[i];
    for (int32_t c = 0; c < inputs; c++) {
      int32_t to = c + layer->attrs.pad_channels[0];
      if (to < layer->output.dim[QE_C]) weight[to * inputs + c] = 1;
    }
  }
}

static void place_all(qe_scratch *trainer) {
  place_moves(trainer);
  qe_scratch_plan *plan = trainer->plan;
  size_t row = (size_t)trainer->options.batch * sizeof(int32_t);
  trainer->index = qe_block_place(&trainer->batch, row);
  trainer->iota = qe_block_place(&trainer->batch, row);
  trainer->labels = qe_block_place(&trainer->batch, row);
  trainer->counter = qe_block_place(&trainer->batch, 4 * sizeof(int32_t));
  trainer->loss = qe_block_place(&trainer->results, row);
  trainer->hits = qe_block_place(&trainer->results, row);
  trainer->softmax = qe_block_place(
      &trainer->results, (size_t)trainer->options.batch * (size_t)plan->network->layer[plan->own - 1].output.dim[QE_C]);
  qe_scratch_place_signs(trainer);
  for (size_t i = 0; i < plan->units; i++) {
    qe_scratch_unit *unit = &plan->unit[i];
    int32_t channels = plan->network->layer[unit->requant].output.dim[QE_C];
    unit->stats = qe_block_place(&trainer->results, 2 * (size_t)channels * sizeof(int64_t));
    place_maker(trainer, &unit->error, channels);
    qe_scratch_place_noise(trainer, unit);
    if (unit->source != QE_ERROR_LOSS && unit->source != QE_ERROR_NONE) place_maker(trainer, &unit->wide, channels);
    if (unit->headed && trainer->options.borders > 0) place_maker(trainer, &unit->above, channels);
    if (unit->conv == QE_NONE) continue;
    const qe_desc *weight = &plan->network->layer[unit->conv].weight_desc;
    unit->inputs = qe_block_place(&trainer->results, 2 * (size_t)weight->dim[QE_C] * sizeof(int64_t));
    unit->votes = qe_block_place(&trainer->results, (size_t)qe_count(weight) * sizeof(int64_t));
  }
  trainer->constants.bytes = qe_network_place_constants(plan->network, 1, trainer->place);
}

qe_status qe_scratch_memory(qe_scratch *trainer) {
  place_all(trainer);
  QE_TRY(qe_scratch_make_block(trainer, &trainer->batch));
  QE_TRY(qe_scratch_make_block(trainer, &trainer->constants));
  QE_TRY(qe_scratch_make_block(trainer, &trainer->errors));
  QE_TRY(qe_scratch_make_block(trainer, &trainer->results));
  int32_t *iota = (int32_t *)(void *)(trainer->batch.host + trainer->iota);
  for (int32_t i = 0; i < trainer->options.batch; i++) iota[i] = i;
  fill_moves(trainer);
  return QE_OK;
}
