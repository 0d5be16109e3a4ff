/* The implementation `plain` of the integer convolution, for any groups: weights turned to [tap][input][output] in s32,
 * lines of output shared out over threads, vectorised over output channels. Exact for all codes; a start, not the fast
 * low-bit form. */
#include "backends/cpu/int_conv.h"

#include "backends/cpu/parallel.h"

/* w [P, O, taps, I] s8 -> turned [P][group][tap][I][padded outputs of a group] s32, zeros in the padding. */
static void turn_weights(const qe_call *call, const cpu_int_conv *conv) {
  const qe_desc *w = &call->operand[1].desc;
  const int8_t *source = call->operand[1].data;
  int64_t each = (int64_t)w->dim[QE_H] * w->dim[QE_W] * w->dim[QE_C], outputs = w->dim[QE_N];
  for (int64_t p = 0; p < w->dim[QE_P]; p++)
    for (int64_t o = 0; o < outputs; o++) {
      int64_t group = o / conv->outputs, column = o % conv->outputs;
      int32_t *target = conv->turned + (p * call->attrs.window.groups + group) * each * conv->padded + column;
      for (int64_t k = 0; k < each; k++) target[k * conv->padded] = source[(p * outputs + o) * each + k];
    }
}

typedef struct lines_run {
  const qe_call *call;
  const cpu_int_conv *conv;
  cpu_int_conv_kernel kernel;
} lines_run;

static void run_lines(void *context, int64_t first, int64_t last, int thread) {
  const lines_run *run = context;
  (void)thread;
  run->kernel(run->call, run->conv, first, last);
}

static qe_status int_conv_run(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  const qe_desc *w = &call->operand[1].desc, *acc = &call->operand[2].desc;
  cpu_int_conv conv = {.outputs = w->dim[QE_N] / call->attrs.window.groups};
  conv.padded = (conv.outputs + CPU_INT_LANES - 1) / CPU_INT_LANES * CPU_INT_LANES;
  int64_t each = (int64_t)w->dim[QE_H] * w->dim[QE_W] * w->dim[QE_C];
  size_t bytes = (size_t)(w->dim[QE_P] * call->attrs.window.groups * each * conv.padded) * sizeof(int32_t);
  void *scratch;
  QE_TRY(cpu_queue_scratch((cpu_queue *)queue, bytes, &scratch));
  conv.turned = scratch;
  if (conv.padded != conv.outputs) __builtin_memset(scratch, 0, bytes);
  turn_weights(call, &conv);
  lines_run run = {call, &conv, cpu_device_of(queue)->kernels->int_conv};
  int64_t lines = (int64_t)acc->dim[QE_P] * acc->dim[QE_N] * acc->dim[QE_H];
  cpu_parallel(cpu_device_of(queue), lines, 4, qe_count(acc) * each, run_lines, &run);
  return QE_OK;
}

const qe_impl cpu_impl_int_conv = {.name = "plain", .run = int_conv_run};
