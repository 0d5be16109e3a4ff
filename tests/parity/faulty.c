/* A backend that computes with cpu_ref in host memory and, while a fault is selected, wrongly. */
#include "core/base/alloc.h"
#include "cpu_ref/ref.h"
#include "tests/parity/parity.h"

#include <float.h>
#include <math.h>
#include <string.h>

static parity_fault selected;

void parity_faulty_select(parity_fault fault) {
  selected = fault;
}
parity_fault parity_faulty_selected(void) {
  return selected;
}

typedef struct faulty_device {
  qe_device base;
  int threads;
} faulty_device;

/* What is kept from a bound call's first run on. */
typedef struct faulty_state {
  int runs;
  size_t bytes;
  void *first; /* the first written operand after the first run */
} faulty_state;

/* ---- faults of one call ---- */

/* The first operand written, of type f32 unless `integer`; NULL when there is none. */
static const qe_operand *find_operand(const qe_call *call, bool written, bool integer) {
  const qe_op_info *info = qe_op_get_info(call->op);
  for (int i = 0; i < call->operands; i++) {
    const qe_operand_info *operand = &info->operand[i];
    if ((operand->role != QE_READ) == written && operand->kind != QE_KIND_SHAPE &&
        (call->operand[i].desc.dtype == QE_S32) == integer)
      return &call->operand[i];
  }
  return NULL;
}

static float *output_of(const qe_call *call) {
  return find_operand(call, true, false)->data;
}
static int64_t outputs_of(const qe_call *call) {
  return qe_count(&find_operand(call, true, false)->desc);
}

/* Scale the output so that the normalised squared error is `part` of the bound. */
static void miss_bound(const qe_call *call, double part) {
  double factor = 1 + sqrt(part * qe_op_get_info(call->op)->bound);
  float *y = output_of(call);
  for (int64_t i = 0; i < outputs_of(call); i++) y[i] = (float)((double)y[i] * factor);
}

/* The next representable number: far within any bound. */
static void nudge(const qe_call *call) {
  float *y = output_of(call);
  for (int64_t i = 0; i < outputs_of(call); i++) y[i] = nextafterf(y[i], 2 * y[i] + 1);
}

static void off_by_one(const qe_call *call, faulty_state *state) {
  (void)state;
  output_of(call)[outputs_of(call) / 2] += 1;
}

static void shifted(const qe_call *call, faulty_state *state) {
  (void)state;
  float *y = output_of(call) + outputs_of(call) - 1;
  *y += 0.01f * (1 + fabsf(*y));
}

static void past_end(const qe_call *call, faulty_state *state) {
  (void)state;
  float *behind = output_of(call) + outputs_of(call);
  *behind = 0;
}

static void before_start(const qe_call *call, faulty_state *state) {
  (void)state;
  float *before = output_of(call) - 1;
  *before = 0;
}

static void read_only(const qe_call *call, faulty_state *state) {
  (void)state;
  ((float *)find_operand(call, false, false)->data)[0] = 0.125f;
}

static void read_past_end(const qe_call *call, faulty_state *state) {
  (void)state;
  const qe_operand *input = find_operand(call, false, false);
  output_of(call)[0] += 1e-30f * ((const float *)input->data)[qe_count(&input->desc)];
}

static void race(const qe_call *call, faulty_state *state) {
  if (state->runs % 2) nudge(call);
}

static void stale(const qe_call *call, faulty_state *state) {
  if (state->runs == 0) {
    state->bytes = qe_bytes(&find_operand(call, true, false)->desc);
    state->first = qe_alloc(state->bytes);
    if (state->first) memcpy(state->first, output_of(call), state->bytes);
  } else if (state->first) {
    memcpy(output_of(call), state->first, state->bytes);
  }
}

static void hits(const qe_call *call, faulty_state *state) {
  (void)state;
  ((int32_t *)find_operand(call, true, true)->data)[0] += 1;
}

static void over_bound(const qe_call *call, faulty_state *state) {
  (void)state;
  miss_bound(call, 1.1);
}

static void under_bound(const qe_call *call, faulty_state *state) {
  (void)state;
  miss_bound(call, 0.8);
}

static void not_a_number(const qe_call *call, faulty_state *state) {
  (void)state;
  output_of(call)[outputs_of(call) - 1] = NAN;
}

static void infinite(const qe_call *call, faulty_state *state) {
  (void)state;
  output_of(call)[0] = INFINITY;
}

static void nan_lost(const qe_call *call, faulty_state *state) {
  (void)state;
  float *y = output_of(call);
  for (int64_t i = 0; i < outputs_of(call); i++)
    if (isnan(y[i])) y[i] = 0;
}

static void infinity_lost(const qe_call *call, faulty_state *state) {
  (void)state;
  float *y = output_of(call);
  for (int64_t i = 0; i < outputs_of(call); i++)
    if (isinf(y[i])) y[i] = copysignf(FLT_MAX, y[i]);
}

static void in_place(const qe_call *call, faulty_state *state) {
  (void)state;
  if (call->operand[0].data == find_operand(call, true, false)->data) nudge(call);
}

static void code_wrong(const qe_call *call, faulty_state *state) {
  (void)state;
  if (call->op == QE_OP_int_requant) ((uint8_t *)call->operand[call->operands - 1].data)[0] ^= 1;
}

/* The update of one weight is a little too large. */
static void update_wrong(const qe_call *call, faulty_state *state) {
  if (call->op == QE_OP_sgd || call->op == QE_OP_adam) shifted(call, state);
}

static void gradient_wrong(const qe_call *call, faulty_state *state) {
  (void)state;
  if (call->op == QE_OP_linear_grad_w) output_of(call)[0] *= 1.5f;
}

/* What one queue leaves behind shows on another. */
static void queues_mixed(const qe_call *call, faulty_state *state) {
  static const void *last;
  (void)state;
  const void *now = call->operand[0].buffer;
  if (last && last != now && find_operand(call, true, false))
    ((uint8_t *)find_operand(call, true, false)->data)[0] ^= 1;
  last = now;
}

static void (*const after_run[PARITY_FAULTS])(const qe_call *, faulty_state *) = {
    [PARITY_FAULT_OFF_BY_ONE] = off_by_one,
    [PARITY_FAULT_SHIFTED] = shifted,
    [PARITY_FAULT_PAST_END] = past_end,
    [PARITY_FAULT_BEFORE_START] = before_start,
    [PARITY_FAULT_READ_ONLY] = read_only,
    [PARITY_FAULT_READ_PAST_END] = read_past_end,
    [PARITY_FAULT_RACE] = race,
    [PARITY_FAULT_STALE] = stale,
    [PARITY_FAULT_HITS] = hits,
    [PARITY_FAULT_OVER_BOUND] = over_bound,
    [PARITY_FAULT_UNDER_BOUND] = under_bound,
    [PARITY_FAULT_NAN] = not_a_number,
    [PARITY_FAULT_INFINITY] = infinite,
    [PARITY_FAULT_NAN_LOST] = nan_lost,
    [PARITY_FAULT_INFINITY_LOST] = infinity_lost,
    [PARITY_FAULT_IN_PLACE] = in_place,
    [PARITY_FAULT_CODE] = code_wrong,
    [PARITY_FAULT_UPDATE] = update_wrong,
    [PARITY_FAULT_GRADIENT] = gradient_wrong,
    [PARITY_FAULT_QUEUES] = queues_mixed,
};

/* ---- the implementation ---- */

static const char *faulty_refuse(const qe_device *device, const qe_call *call) {
  (void)device;
  if (selected == PARITY_FAULT_REFUSES_ALL) return "not today";
  if (selected == PARITY_FAULT_REFUSES_SOME && qe_count(&call->operand[0].desc) % 2) return "an odd number of elements";
  return NULL;
}

static qe_status faulty_prepare(qe_device *device, const qe_call *call, void **state) {
  (void)device;
  (void)call;
  *state = QE_NEW(faulty_state);
  return *state ? QE_OK : QE_NO_MEMORY;
}

static void faulty_release(void *state) {
  qe_free(((faulty_state *)state)->first);
  qe_free(state);
}

static qe_status faulty_run(qe_queue *queue, const qe_call *call, void *state) {
  float last = 0;
  const qe_operand *output = find_operand(call, true, false);
  if (selected == PARITY_FAULT_FAILS) return qe_fail(QE_DEVICE, "the device is on fire");
  if (selected == PARITY_FAULT_MISSING_TAIL) last = output_of(call)[qe_count(&output->desc) - 1];
  QE_TRY(qe_ref_get(call->op)(call));
  if (selected == PARITY_FAULT_MISSING_TAIL) output_of(call)[qe_count(&output->desc) - 1] = last;
  if (selected == PARITY_FAULT_THREADS && ((const faulty_device *)queue->device)->threads == 1) nudge(call);
  if (after_run[selected]) after_run[selected](call, state);
  ((faulty_state *)state)->runs++;
  return QE_OK;
}

static const qe_impl faulty_impl = {
    .name = "faulty", .refuse = faulty_refuse, .prepare = faulty_prepare, .run = faulty_run, .release = faulty_release};

static const qe_impl *const *faulty_impls(const qe_device *device, qe_op op, int *count) {
  static const qe_impl *const list[] = {&faulty_impl};
  (void)device;
  (void)op;
  *count = 1;
  return list;
}

/* ---- a fused kernel for clamp after bn_norm ---- */

static bool same_memory(const qe_operand *a, const qe_operand *b) {
  return a->buffer == b->buffer && a->offset == b->offset;
}

static int faulty_claim(const qe_device *device, const qe_call *calls, int count) {
  (void)device;
  bool pair = count >= 2 && calls[0].op == QE_OP_bn_norm && calls[1].op == QE_OP_clamp &&
              same_memory(&calls[0].operand[5], &calls[1].operand[0]);
  return pair && selected != PARITY_FAULT_FUSION_NEVER ? 2 : 0;
}

static qe_status fused_run(qe_queue *queue, const qe_call *calls, int count, void *state) {
  (void)queue;
  (void)count;
  (void)state;
  qe_call norm = calls[0], clamp = calls[1];
  size_t bytes = qe_bytes(&norm.operand[5].desc);
  void *between = qe_alloc(bytes);
  if (!between) return QE_NO_MEMORY;
  norm.operand[5].data = clamp.operand[0].data = between;
  qe_status status = qe_ref_get(norm.op)(&norm);
  if (status == QE_OK) status = qe_ref_get(clamp.op)(&clamp);
  if (status == QE_OK && !calls[0].operand[5].dead && selected != PARITY_FAULT_FUSION_UNWRITTEN &&
      calls[0].operand[5].data != clamp.operand[1].data)
    memcpy(calls[0].operand[5].data, between, bytes);
  if (status == QE_OK && selected == PARITY_FAULT_FUSION_VALUE) nudge(&clamp);
  qe_free(between);
  return status;
}

static const qe_fusion fused = {.name = "bn_norm-clamp", .claim = faulty_claim, .run = fused_run};

static const qe_fusion *const *faulty_fusions(const qe_device *device, int *count) {
  static const qe_fusion *const list[] = {&fused};
  (void)device;
  *count = 1;
  return list;
}

/* ---- device, buffers, queue ---- */

static void faulty_close(qe_device *device) {
  qe_free(device);
}

static qe_status faulty_buffer_new(qe_device *device, size_t bytes, qe_buffer **out) {
  qe_buffer *buffer = QE_NEW(qe_buffer);
  if (!buffer) return QE_NO_MEMORY;
  *buffer = (qe_buffer){.device = device, .bytes = bytes, .data = qe_calloc(bytes, 1)};
  if (!buffer->data) {
    qe_free(buffer);
    return QE_NO_MEMORY;
  }
  *out = buffer;
  return QE_OK;
}

static void faulty_buffer_free(qe_buffer *buffer) {
  qe_free(buffer->data);
  qe_free(buffer);
}

static qe_status faulty_queue_new(qe_device *device, qe_queue **out) {
  qe_queue *queue = QE_NEW(qe_queue);
  if (!queue) return QE_NO_MEMORY;
  queue->device = device;
  *out = queue;
  return QE_OK;
}

static void faulty_queue_free(qe_queue *queue) {
  qe_free(queue);
}

static qe_status faulty_write(qe_queue *queue, qe_buffer *buffer, size_t offset, const void *source, size_t bytes) {
  (void)queue;
  memcpy((char *)buffer->data + offset, source, bytes);
  return QE_OK;
}

static qe_status faulty_read(qe_queue *queue, qe_buffer *buffer, size_t offset, void *target, size_t bytes) {
  (void)queue;
  memcpy(target, (const char *)buffer->data + offset, bytes);
  return QE_OK;
}

static qe_status faulty_wait(qe_queue *queue) {
  (void)queue;
  return QE_OK;
}

static const qe_device_table table = {
    .close = faulty_close,
    .buffer_new = faulty_buffer_new,
    .buffer_free = faulty_buffer_free,
    .queue_new = faulty_queue_new,
    .queue_free = faulty_queue_free,
    .write = faulty_write,
    .read = faulty_read,
    .wait = faulty_wait,
    .impls = faulty_impls,
    .fusions = faulty_fusions,
    .engines = parity_faulty_engines,
};

static int faulty_count(char *why, size_t bytes) {
  if (bytes) why[0] = 0;
  return 1;
}

static void faulty_describe(int index, char *text, size_t bytes) {
  (void)index;
  snprintf(text, bytes, "wrong on purpose");
}

static qe_status faulty_open(int index, const qe_open_options *options, qe_device **out) {
  faulty_device *device = QE_NEW(faulty_device);
  if (!device) return QE_NO_MEMORY;
  device->base = (qe_device){.table = &table, .backend = parity_faulty_backend(), .index = index, .host_memory = true};
  device->threads = options->threads;
  faulty_describe(index, device->base.name, sizeof device->base.name);
  *out = &device->base;
  return QE_OK;
}

const qe_backend *parity_faulty_backend(void) {
  static const qe_backend backend = {.api = QE_BACKEND_API,
                                     .name = "faulty",
                                     .summary = "the harness's own test",
                                     .count = faulty_count,
                                     .describe = faulty_describe,
                                     .open = faulty_open};
  return &backend;
}
