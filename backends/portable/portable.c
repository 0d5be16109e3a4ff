/* The portable implementation of ops: tables, launches, a queue's scratch memory and its fault word. */
#include "backends/portable/portable.h"

#include "backends/portable/conv.h"
#include "core/dispatch/dispatch.h"

#include <string.h>

const portable_kernel_info portable_kernel[QK_KERNELS] = {
#define QK_KERNEL(file, name) {#file, #name},
#include "kernels_cl/kernels.def"
#undef QK_KERNEL
};

const portable_tunable portable_tunables[QK_TUNABLES] = {
#define QK_TUNABLE(file, macro, initial, ...) {#file, #macro, initial, {__VA_ARGS__}},
#include "kernels_cl/tunables.def"
#undef QK_TUNABLE
};

/* ---- launches ---- */

portable_launch portable_launch_of(const qe_call *call, qk_kernel kernel, const void *params, size_t params_bytes) {
  portable_launch launch = {.kernel = kernel, .params = params, .params_bytes = params_bytes};
  for (int i = 0; i < call->operands; i++)
    launch.operand[launch.operands++] = (portable_operand){call->operand[i].buffer, call->operand[i].offset};
  return launch;
}

enum { GROUPS_A_UNIT = 16 };

void portable_flat(const qe_device *device, portable_launch *launch, int64_t items) {
  const portable_limits *limits = &((const portable_device *)device)->limits;
  int64_t groups = (items + limits->group - 1) / limits->group, most = (int64_t)limits->units * GROUPS_A_UNIT;
  launch->groups[0] = (size_t)(groups < 1 ? 1 : groups < most ? groups : most);
  launch->groups[1] = launch->groups[2] = 1;
  launch->local[0] = (size_t)limits->group;
  launch->local[1] = launch->local[2] = 1;
}

qe_status portable_run(qe_queue *queue, const portable_launch *launch) {
  return portable_device_of(queue)->driver->launch(queue, launch);
}

void portable_watch(qe_queue *base, portable_launch *launch) {
  portable_queue *queue = (portable_queue *)base;
  launch->operand[launch->operands++] = (portable_operand){queue->fault, 0};
  queue->watched = true;
}

/* ---- a queue's own memory ---- */

qe_status portable_queue_open(portable_queue *queue) {
  return qe_buffer_new(queue->base.device, 4 * sizeof(int32_t), &queue->fault);
}

void portable_queue_close(portable_queue *queue) {
  qe_buffer_free(queue->scratch);
  qe_buffer_free(queue->fault);
}

qe_status portable_scratch(qe_queue *base, size_t bytes, qe_buffer **buffer) {
  portable_queue *queue = (portable_queue *)base;
  if (!queue->scratch || queue->scratch->bytes < bytes) {
    QE_TRY(qe_queue_wait(base)); /* what is queued may use the old one */
    qe_buffer_free(queue->scratch);
    queue->scratch = NULL;
    QE_TRY(qe_buffer_new(base->device, bytes, &queue->scratch));
  }
  *buffer = queue->scratch;
  return QE_OK;
}

qe_status portable_add_parts(qe_queue *queue, portable_operand parts, portable_operand to,
                             const qk_params_parts *params) {
  portable_launch launch = {.kernel = QK_qk_add_parts,
                            .operands = 2,
                            .operand = {parts, to},
                            .params = params,
                            .params_bytes = sizeof *params};
  portable_flat(queue->device, &launch, params->count);
  return portable_run(queue, &launch);
}

qe_status portable_queue_faults(portable_queue *queue) {
  if (!queue->watched) return QE_OK;
  int32_t fault[4];
  static const int32_t none[4];
  queue->watched = false;
  QE_TRY(qe_queue_read(&queue->base, queue->fault, 0, fault, sizeof fault));
  QE_TRY(qe_queue_wait(&queue->base));
  if (!fault[0]) return QE_OK;
  QE_TRY(qe_queue_write(&queue->base, queue->fault, 0, none, sizeof none));
  QE_TRY(qe_queue_wait(&queue->base));
  return qe_fail(QE_SHAPE, "%s: the value %d at place %d is out of range", qe_op_get_info((qe_op)fault[1])->name,
                 fault[3], fault[2]);
}

/* ---- ops ---- */

static const struct op_row {
  portable_op run;
  const char *(*refuse)(const qe_device *device, const qe_call *call);
} table[QE_OPS] = {
#define PORTABLE_OP(name, refuse) [QE_OP_##name] = {portable_##name, refuse},
#define PORTABLE_SHARED(name, run) [QE_OP_##name] = {portable_##run, NULL},
#include "backends/portable/ops.def"
#undef PORTABLE_OP
#undef PORTABLE_SHARED
};

static const portable_op plain[QE_OPS] = {
#define PORTABLE_PLAIN(name) [QE_OP_##name] = portable_plain_##name,
#include "backends/portable/plain.def"
#undef PORTABLE_PLAIN
};

static const char *refuse(const qe_device *device, const qe_call *call) {
  return table[call->op].refuse ? table[call->op].refuse(device, call) : NULL;
}

static qe_status run(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  return table[call->op].run(queue, call);
}

static qe_status run_plain(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  return plain[call->op](queue, call);
}

const qe_impl portable_impl = {.name = "portable", .refuse = refuse, .run = run};
const qe_impl portable_plain_impl = {.name = "plain", .run = run_plain};

/* Plain loops over codes are vectorised on processors, where they beat tiles; those over floats are not. */
static bool is_plain_first(const qe_device *device, qe_op op) {
  return device && ((const portable_device *)device)->limits.processor && op == QE_OP_int_conv2d;
}

const qe_impl *const *portable_impls(const qe_device *device, qe_op op, int *count) {
  static const qe_impl *const list[] = {&portable_impl, &portable_plain_impl, &portable_impl};
  *count = !table[op].run ? 0 : plain[op] ? 2 : 1;
  return is_plain_first(device, op) ? list + 1 : list;
}
