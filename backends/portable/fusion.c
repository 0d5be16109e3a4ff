/* Fusions of the portable kernels: chains of steps, and batch statistics with their running averages. */
#include "backends/portable/chain.h"
#include "core/base/alloc.h"

/* ---- chains ---- */

/* How a call uses an operand: element by element, read by every work-item, or written once all is done. */
typedef enum use { UNUSED, ELEMENT, VECTOR, SUM } use;

static use use_of(const qe_call *call, int i) {
  const portable_step *step = portable_step_of(call);
  if (i == step->a || i == step->b || i == step->out) return ELEMENT;
  return qe_op_get_info(call->op)->operand[i].role == QE_READ ? VECTOR : SUM;
}

/* Nothing that the two calls share must be written by one and used by the other in another way: work-items do not wait
 * for each other. */
static bool independent(const qe_call *earlier, const qe_call *later) {
  for (int i = 0; i < earlier->operands; i++)
    for (int k = 0; k < later->operands; k++) {
      const qe_operand *a = &earlier->operand[i], *b = &later->operand[k];
      use first = use_of(earlier, i), second = use_of(later, k);
      if (a->buffer == b->buffer && a->offset == b->offset && (first != second || first == SUM)) return false;
    }
  return true;
}

static bool same_grid(const portable_grid *a, const portable_grid *b) {
  return a->count == b->count && a->channels == b->channels;
}

static bool fits(const qe_call *calls, int count) {
  const qe_buffer *buffer[QK_BUFFERS];
  int buffers = 0, channel_sums = 0, scalar_sums = 0;
  for (int c = 0; c < count; c++) {
    const portable_step *step = portable_step_of(&calls[c]);
    channel_sums += step->channel_sum[0] >= 0;
    scalar_sums += step->scalar_sum >= 0;
    for (int i = 0; i < calls[c].operands; i++) {
      int known = 0;
      while (known < buffers && buffer[known] != calls[c].operand[i].buffer) known++;
      if (known < buffers) continue;
      if (buffers == QK_BUFFERS) return false;
      buffer[buffers++] = calls[c].operand[i].buffer;
    }
  }
  return channel_sums <= 1 && scalar_sums <= 2 && portable_chain_slots(calls, count) <= QK_SLOTS;
}

static int chain_claim(const qe_device *device, const qe_call *calls, int count) {
  const portable_limits *limits = &((const portable_device *)device)->limits;
  if (!portable_step_of(calls)) return 0;
  portable_grid grid = portable_grid_of(limits, calls);
  for (int c = 1; c < count && c < QK_STEPS; c++) {
    if (!portable_step_of(&calls[c])) return c;
    portable_grid next = portable_grid_of(limits, &calls[c]);
    if (!same_grid(&grid, &next) || !fits(calls, c + 1)) return c;
    for (int earlier = 0; earlier < c; earlier++)
      if (!independent(&calls[earlier], &calls[c])) return c;
  }
  return count < QK_STEPS ? count : QK_STEPS;
}

static qe_status chain_prepare(qe_device *device, const qe_call *calls, int count, void **state) {
  portable_chain *chain = QE_NEW(portable_chain);
  if (!chain) return QE_NO_MEMORY;
  portable_chain_plan(&((const portable_device *)device)->limits, calls, count, chain);
  *state = chain;
  return QE_OK;
}

static qe_status chain_run(qe_queue *queue, const qe_call *calls, int count, void *state) {
  (void)calls;
  (void)count;
  return portable_chain_run(queue, state);
}

static void chain_release(void *state) {
  qe_free(state);
}

static const qe_fusion chain_fusion = {
    .name = "chain",
    .claim = chain_claim,
    .prepare = chain_prepare,
    .run = chain_run,
    .release = chain_release,
};

/* ---- batch statistics ---- */

static int stats_claim(const qe_device *device, const qe_call *calls, int count) {
  (void)device;
  if (count < 2 || calls[0].op != QE_OP_bn_stats || calls[1].op != QE_OP_bn_running) return 0;
  for (int i = 1; i <= 2; i++)
    if (calls[0].operand[i].buffer != calls[1].operand[i].buffer ||
        calls[0].operand[i].offset != calls[1].operand[i].offset)
      return 0;
  return qe_same_desc(&calls[0].operand[0].desc, &calls[1].operand[0].desc) ? 2 : 0;
}

static qe_status stats_run(qe_queue *queue, const qe_call *calls, int count, void *state) {
  (void)count;
  (void)state;
  return portable_stats_run(queue, &calls[0], &calls[1]);
}

static const qe_fusion stats_fusion = {.name = "stats", .claim = stats_claim, .run = stats_run};

const qe_fusion *const *portable_fusions(const qe_device *device, int *count) {
  static const qe_fusion *const list[] = {&chain_fusion, &stats_fusion};
  (void)device;
  *count = 2;
  return list;
}
