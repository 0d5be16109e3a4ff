/* Running oneDNN primitives on operands in plain layout. */
#include "backends/cpu/dnn.h"

#include "backends/cpu/parallel.h"
#include "core/base/alloc.h"

enum { SMALL_REORDER = 1 << 18 /* bytes below which one thread is faster */ };

typedef struct dnn_tensor {
  int argument;
  bool output;
  dnnl_memory_t plain; /* in the call's memory */
  dnnl_memory_t own;   /* in the primitive's layout; NULL: plain serves */
  void *memory;        /* of `own` */
  dnnl_primitive_t reorder;
  int reorder_threads;
} dnn_tensor;

struct dnn_state {
  int threads;
  dnnl_primitive_t primitive;
  dnn_tensor tensor[DNN_TENSORS];
  dnnl_memory_t scratchpad; /* NULL: needs none */
  size_t scratchpad_bytes;
};

qe_status dnn_fail(dnnl_status_t status, const char *what) {
  if (status == dnnl_out_of_memory) return qe_fail(QE_NO_MEMORY, "oneDNN ran out of memory: %s", what);
  return qe_fail(QE_DEVICE, "oneDNN failed with status %d: %s", (int)status, what);
}

#define DNN_TRY(call)                                                                                                  \
  do {                                                                                                                 \
    dnnl_status_t dnn_status_ = (call);                                                                                \
    if (dnn_status_ != dnnl_success) return dnn_fail(dnn_status_, #call);                                              \
  } while (0)

static qe_status make_reorder(dnn_tensor *tensor, dnnl_engine_t engine, const dnnl_memory_desc_t *plain,
                              const dnnl_memory_desc_t *own) {
  const dnnl_memory_desc_t *from = tensor->output ? own : plain, *to = tensor->output ? plain : own;
  dnnl_primitive_desc_t pd;
  DNN_TRY(dnnl_reorder_primitive_desc_create(&pd, from, engine, to, engine, NULL));
  dnnl_status_t status = dnnl_primitive_create(&tensor->reorder, pd);
  dnnl_primitive_desc_destroy(pd);
  return status == dnnl_success ? QE_OK : dnn_fail(status, "creating a reorder");
}

static qe_status make_tensor(dnn_tensor *tensor, const cpu_device *device, const qe_call *call,
                             const_dnnl_primitive_desc_t pd, const dnn_operand *operand) {
  const dnnl_memory_desc_t *wanted = dnnl_primitive_desc_query_md(pd, operand->query, 0);
  tensor->argument = operand->argument;
  tensor->output = qe_op_get_info(call->op)->operand[operand->at].role == QE_WRITE;
  DNN_TRY(dnnl_memory_create(&tensor->plain, &operand->layout, device->engine, call->operand[operand->at].data));
  if (dnnl_memory_desc_equal(wanted, &operand->layout)) return QE_OK;
  size_t bytes = dnnl_memory_desc_get_size(wanted);
  tensor->memory = qe_calloc(1, bytes);
  if (!tensor->memory) return QE_NO_MEMORY;
  DNN_TRY(dnnl_memory_create(&tensor->own, wanted, device->engine, tensor->memory));
  tensor->reorder_threads = bytes < SMALL_REORDER ? 1 : device->threads;
  return make_reorder(tensor, device->engine, &operand->layout, wanted);
}

static qe_status make_state(dnn_state *state, cpu_device *device, const qe_call *call, dnnl_primitive_desc_t pd,
                            const dnn_operand *operands) {
  state->threads = device->threads;
  for (int i = 0; i < DNN_TENSORS; i++) QE_TRY(make_tensor(&state->tensor[i], device, call, pd, &operands[i]));
  const dnnl_memory_desc_t *scratchpad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
  state->scratchpad_bytes = scratchpad ? dnnl_memory_desc_get_size(scratchpad) : 0;
  if (state->scratchpad_bytes)
    DNN_TRY(dnnl_memory_create(&state->scratchpad, scratchpad, device->engine, DNNL_MEMORY_NONE));
  DNN_TRY(dnnl_primitive_create(&state->primitive, pd));
  return QE_OK;
}

qe_status dnn_state_new(cpu_device *device, const qe_call *call, dnnl_primitive_desc_t pd, const dnn_operand *operands,
                        dnn_state **out) {
  dnn_state *state = QE_NEW(dnn_state);
  qe_status status = state ? make_state(state, device, call, pd, operands) : QE_NO_MEMORY;
  dnnl_primitive_desc_destroy(pd);
  if (status == QE_OK)
    *out = state;
  else
    dnn_state_free(state);
  return status;
}

void dnn_state_free(void *memory) {
  dnn_state *state = memory;
  if (!state) return;
  for (int i = 0; i < DNN_TENSORS; i++) {
    dnn_tensor *tensor = &state->tensor[i];
    if (tensor->reorder) dnnl_primitive_destroy(tensor->reorder);
    if (tensor->own) dnnl_memory_destroy(tensor->own);
    if (tensor->plain) dnnl_memory_destroy(tensor->plain);
    qe_free(tensor->memory);
  }
  if (state->primitive) dnnl_primitive_destroy(state->primitive);
  if (state->scratchpad) dnnl_memory_destroy(state->scratchpad);
  qe_free(state);
}

static qe_status run_reorder(const dnn_tensor *tensor, dnnl_stream_t stream) {
  dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, tensor->output ? tensor->own : tensor->plain},
                             {DNNL_ARG_TO, tensor->output ? tensor->plain : tensor->own}};
  int before = cpu_threads_enter(tensor->reorder_threads);
  dnnl_status_t status = dnnl_primitive_execute(tensor->reorder, stream, 2, args);
  cpu_threads_leave(before);
  return status == dnnl_success ? QE_OK : dnn_fail(status, "running a reorder");
}

static qe_status run_primitive(const dnn_state *state, dnnl_stream_t stream) {
  dnnl_exec_arg_t args[DNN_TENSORS + 1];
  int count = 0;
  for (; count < DNN_TENSORS; count++) {
    const dnn_tensor *tensor = &state->tensor[count];
    args[count] = (dnnl_exec_arg_t){tensor->argument, tensor->own ? tensor->own : tensor->plain};
  }
  if (state->scratchpad) args[count++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, state->scratchpad};
  int before = cpu_threads_enter(state->threads);
  dnnl_status_t status = dnnl_primitive_execute(state->primitive, stream, count, args);
  cpu_threads_leave(before);
  return status == dnnl_success ? QE_OK : dnn_fail(status, "running a primitive");
}

qe_status dnn_state_run(cpu_queue *queue, dnn_state *state) {
  if (state->scratchpad) {
    void *scratch;
    QE_TRY(cpu_queue_scratch(queue, state->scratchpad_bytes, &scratch));
    DNN_TRY(dnnl_memory_set_data_handle(state->scratchpad, scratch));
  }
  for (int i = 0; i < DNN_TENSORS; i++)
    if (state->tensor[i].reorder && !state->tensor[i].output) QE_TRY(run_reorder(&state->tensor[i], queue->stream));
  QE_TRY(run_primitive(state, queue->stream));
  for (int i = 0; i < DNN_TENSORS; i++)
    if (state->tensor[i].reorder && state->tensor[i].output) QE_TRY(run_reorder(&state->tensor[i], queue->stream));
  DNN_TRY(dnnl_stream_wait(queue->stream));
  return QE_OK;
}
