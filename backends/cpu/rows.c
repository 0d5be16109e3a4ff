/* The implementation `rows`: ops whose results are independent row by row, shared out over threads. */
#include "backends/cpu/parallel.h"

enum { CHUNK = 16384 }; /* elements that a thread takes at a time, about */

static const qe_desc *desc_of(const qe_call *call, int operand) {
  return &call->operand[operand].desc;
}

static int64_t images(const qe_call *call, int operand) {
  return desc_of(call, operand)->dim[QE_N];
}

static int64_t lines(const qe_call *call, int operand) {
  return images(call, operand) * desc_of(call, operand)->dim[QE_H];
}

static int64_t pixels(const qe_call *call, int operand) {
  return lines(call, operand) * desc_of(call, operand)->dim[QE_W];
}

static int64_t population_pixels(const qe_call *call, int operand) {
  return pixels(call, operand) * desc_of(call, operand)->dim[QE_P];
}

static int64_t population_lines(const qe_call *call, int operand) {
  return lines(call, operand) * desc_of(call, operand)->dim[QE_P];
}

/* Blocks of a candidate's codes. */
static int64_t code_blocks(const qe_call *call, int operand) {
  const qe_desc *codes = desc_of(call, operand);
  int64_t each = qe_count(codes) / codes->dim[QE_P];
  return codes->dim[QE_P] * ((each + CPU_PACK_BLOCK - 1) / CPU_PACK_BLOCK);
}

/* What a row is: a pixel, line, image, block of codes of an operand, or an index of axis N. */
static const struct rows_op {
  int64_t (*rows)(const qe_call *call, int operand);
  int operand;
} table[QE_OPS] = {
    [QE_OP_concat] = {pixels, 0},
    [QE_OP_concat_grad] = {pixels, 0},
    [QE_OP_max_pool] = {lines, 1},
    [QE_OP_max_pool_grad] = {images, 2},
    [QE_OP_avg_pool] = {lines, 1},
    [QE_OP_avg_pool_grad] = {images, 1},
    [QE_OP_subsample] = {lines, 1},
    [QE_OP_subsample_grad] = {lines, 1},
    [QE_OP_quant] = {images, 1},
    [QE_OP_quant_grad] = {images, 2},
    [QE_OP_quant_gate] = {images, 1},
    [QE_OP_quant_gate_grad] = {images, 2},
    [QE_OP_softmax_xent] = {images, 0},
    [QE_OP_softmax_xent_grad] = {images, 0},
    [QE_OP_mix_xent] = {images, 0},
    [QE_OP_mix_xent_grad] = {images, 0},
    [QE_OP_kl_div] = {images, 0},
    [QE_OP_kl_div_grad] = {images, 0},
    [QE_OP_hint_square] = {images, 0},
    [QE_OP_hint_square_grad] = {images, 0},
    [QE_OP_hint_attention] = {images, 0},
    [QE_OP_hint_attention_grad] = {images, 0},
    [QE_OP_augment] = {images, 3},
    [QE_OP_mix] = {images, 4},
    [QE_OP_int_requant] = {population_pixels, 3},
    [QE_OP_int_requant_add] = {population_pixels, 5},
    [QE_OP_int_perturb] = {images, 3},
    [QE_OP_int_augment] = {images, 3},
    [QE_OP_int_mix] = {images, 4},
    [QE_OP_int_softmax_error] = {images, 0},
    [QE_OP_int_gate] = {pixels, 0},
    [QE_OP_int_sum_pool] = {population_pixels, 1},
    [QE_OP_int_spread] = {population_pixels, 1},
    [QE_OP_int_subsample] = {population_lines, 1},
    [QE_OP_int_pack] = {code_blocks, 0},
    [QE_OP_int_unpack] = {code_blocks, 1},
};

typedef struct rows_run {
  const qe_call *call;
  cpu_rows_kernel kernel;
} rows_run;

static void run_some(void *context, int64_t first, int64_t last, int thread) {
  const rows_run *run = context;
  (void)thread;
  run->kernel(run->call, first, last);
}

static qe_status rows_run_call(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  const struct rows_op *op = &table[call->op];
  QE_TRY(qe_call_check_values(call));
  rows_run run = {call, cpu_device_of(queue)->kernels->rows[call->op]};
  int64_t rows = op->rows(call, op->operand), work = 1;
  for (int i = 0; i < call->operands; i++) {
    /* Data sets are not read whole: all else is. */
    int64_t count = qe_count(&call->operand[i].desc);
    if (qe_op_get_info(call->op)->operand[i].kind != QE_KIND_IMAGES && count > work) work = count;
  }
  int64_t chunk = rows * CHUNK / work;
  cpu_parallel(cpu_device_of(queue), rows, chunk < 1 ? 1 : chunk, work, run_some, &run);
  return QE_OK;
}

const qe_impl cpu_impl_rows = {.name = "rows", .run = rows_run_call};
