/* References: the integer network, exact. No function here has a floating-point operation. */
#include "core/base/fixed.h"
#include "cpu_ref/codes.h"
#include "cpu_ref/ref.h"

/* Index of [p, n, h, w, c]; a population of 1 is shared by all. */
static int64_t index_of(const qe_desc *desc, int64_t p, int64_t n, int64_t h, int64_t w, int64_t c) {
  const int32_t *dim = desc->dim;
  if (dim[QE_P] == 1) p = 0;
  return (((p * dim[QE_N] + n) * dim[QE_H] + h) * dim[QE_W] + w) * dim[QE_C] + c;
}

/* x[n] = pixels of images[index[n]] - 128: the codes of the input quantiser, step 1/64. */
qe_status qe_ref_int_gather(const qe_call *call) {
  const qe_operand *images = &call->operand[0], *x = &call->operand[2];
  const int32_t *index = call->operand[1].data;
  int64_t each = qe_count(&x->desc) / x->desc.dim[QE_N];
  for (int32_t n = 0; n < x->desc.dim[QE_N]; n++) {
    if (index[n] < 0 || index[n] >= images->desc.dim[QE_N])
      return qe_fail(QE_SHAPE, "int_gather: index %d at %d is outside 0...%d", index[n], n, images->desc.dim[QE_N] - 1);
    for (int64_t i = 0; i < each; i++) store_at(x, n * each + i, value_at(images, index[n] * each + i) - 128);
  }
  return QE_OK;
}

/* One accumulator of candidate p, image n, output pixel (i, j), output channel o. */
static int64_t accumulate(const qe_call *call, int64_t p, int64_t n, int64_t i, int64_t j, int64_t o) {
  const qe_operand *x = &call->operand[0], *w = &call->operand[1];
  const qe_window *window = &call->attrs.window;
  const int32_t *in = x->desc.dim, *kernel = w->desc.dim;
  int64_t group = o / (kernel[QE_N] / window->groups), sum = 0;
  for (int64_t kh = 0; kh < kernel[QE_H]; kh++) {
    for (int64_t kw = 0; kw < kernel[QE_W]; kw++) {
      int64_t row = i * window->stride[0] - window->pad[0] + kh * window->dilation[0];
      int64_t column = j * window->stride[1] - window->pad[1] + kw * window->dilation[1];
      if (row < 0 || row >= in[QE_H] || column < 0 || column >= in[QE_W]) continue; /* padding is code 0 */
      for (int64_t c = 0; c < kernel[QE_C]; c++)
        sum += value_at(x, index_of(&x->desc, p, n, row, column, group * kernel[QE_C] + c)) *
               value_at(w, index_of(&w->desc, p, o, kh, kw, c));
    }
  }
  return sum;
}

/* acc[p][n][i][j][o] = sum of codes x times codes w over the window; s32, which the shape rule keeps from overflowing.
 */
qe_status qe_ref_int_conv2d(const qe_call *call) {
  const qe_operand *acc = &call->operand[2];
  const int32_t *dim = acc->desc.dim;
  int64_t at = 0;
  for (int64_t p = 0; p < dim[QE_P]; p++)
    for (int64_t n = 0; n < dim[QE_N]; n++)
      for (int64_t i = 0; i < dim[QE_H]; i++)
        for (int64_t j = 0; j < dim[QE_W]; j++)
          for (int64_t o = 0; o < dim[QE_C]; o++) store_at(acc, at++, accumulate(call, p, n, i, j, o));
  return QE_OK;
}

/* Index of the value that result index i meets: a population of 1 is shared by all. */
static int64_t shared_index(const qe_desc *desc, int64_t i, int64_t each) {
  return desc->dim[QE_P] == 1 ? i % each : i;
}

/* y = clamp((v m[c] + u n[c] + offset[c]) >> shift, low, high); the second branch is left out when `u` is NULL. */
static qe_status requant(const qe_call *call, const qe_operand *u, const int32_t *n, const int64_t *offset,
                         const qe_operand *y) {
  const qe_operand *v = &call->operand[0];
  const int32_t *m = call->operand[1].data;
  const qe_requant *requant = &call->attrs.requant;
  int64_t channels = y->desc.dim[QE_C], count = qe_count(&y->desc), each = count / y->desc.dim[QE_P];
  for (int64_t i = 0; i < count; i++) {
    int64_t c = i / each * channels + i % channels;
    int64_t sum = value_at(v, shared_index(&v->desc, i, each)) * m[c] + offset[c];
    if (u) sum += value_at(u, shared_index(&u->desc, i, each)) * n[c];
    int64_t code = sum >> requant->shift;
    code = code < requant->low ? requant->low : code > requant->high ? requant->high : code;
    store_at(y, i, code);
  }
  return QE_OK;
}

/* y = clamp((v m[c] + offset[c]) >> shift, low, high), arithmetic shift; the sum must fit s64. */
qe_status qe_ref_int_requant(const qe_call *call) {
  return requant(call, NULL, NULL, call->operand[2].data, &call->operand[3]);
}

/* y = clamp((v m[c] + u n[c] + offset[c]) >> shift, low, high): a skip connection meets an accumulator. */
qe_status qe_ref_int_requant_add(const qe_call *call) {
  return requant(call, &call->operand[2], call->operand[3].data, call->operand[4].data, &call->operand[5]);
}

typedef int64_t (*pool_step)(int64_t so_far, int64_t value, bool first);

static int64_t step_sum(int64_t so_far, int64_t value, bool first) {
  return first ? value : so_far + value;
}
static int64_t step_max(int64_t so_far, int64_t value, bool first) {
  return first || value > so_far ? value : so_far;
}

static int64_t pool_at(const qe_call *call, pool_step step, int64_t p, int64_t n, int64_t i, int64_t j, int64_t c) {
  const qe_operand *x = &call->operand[0];
  const qe_window *window = &call->attrs.window;
  int64_t result = 0;
  bool first = true;
  for (int64_t kh = 0; kh < window->kernel[0]; kh++) {
    for (int64_t kw = 0; kw < window->kernel[1]; kw++) {
      int64_t row = i * window->stride[0] - window->pad[0] + kh;
      int64_t column = j * window->stride[1] - window->pad[1] + kw;
      if (row < 0 || row >= x->desc.dim[QE_H] || column < 0 || column >= x->desc.dim[QE_W]) continue;
      result = step(result, value_at(x, index_of(&x->desc, p, n, row, column, c)), first);
      first = false;
    }
  }
  return result;
}

static qe_status pool(const qe_call *call, pool_step step) {
  const qe_operand *y = &call->operand[1];
  const int32_t *dim = y->desc.dim;
  int64_t at = 0;
  for (int64_t p = 0; p < dim[QE_P]; p++)
    for (int64_t n = 0; n < dim[QE_N]; n++)
      for (int64_t i = 0; i < dim[QE_H]; i++)
        for (int64_t j = 0; j < dim[QE_W]; j++)
          for (int64_t c = 0; c < dim[QE_C]; c++) store_at(y, at++, pool_at(call, step, p, n, i, j, c));
  return QE_OK;
}

/* Sum of the window's codes inside the image. The mean's division belongs to the requantiser that follows. */
qe_status qe_ref_int_sum_pool(const qe_call *call) {
  return pool(call, step_sum);
}

/* Largest code of the window inside the image. */
qe_status qe_ref_int_max_pool(const qe_call *call) {
  return pool(call, step_max);
}

/* y[p][n][i][j][c + pad_channels[0]] = x[p][n][i stride][j stride][c]; padded channels hold code 0. */
qe_status qe_ref_int_subsample(const qe_call *call) {
  const qe_operand *x = &call->operand[0], *y = &call->operand[1];
  const int32_t *dim = y->desc.dim, *stride = call->attrs.window.stride;
  int64_t at = 0;
  for (int64_t p = 0; p < dim[QE_P]; p++)
    for (int64_t n = 0; n < dim[QE_N]; n++)
      for (int64_t i = 0; i < dim[QE_H]; i++)
        for (int64_t j = 0; j < dim[QE_W]; j++)
          for (int64_t c = 0; c < dim[QE_C]; c++) {
            int64_t from = c - call->attrs.pad_channels[0];
            bool inside = from >= 0 && from < x->desc.dim[QE_C];
            int64_t code = inside ? value_at(x, index_of(&x->desc, p, n, i * stride[0], j * stride[1], from)) : 0;
            store_at(y, at++, code);
          }
  return QE_OK;
}

/* Logits z in units of 2^-8 bits. loss = log2(sum_j 2^(z_j - z_max)) + z_max - z_label in Q16, at most 2^31 - 1;
 * hit = 1 when the first largest logit is the label's. */
qe_status qe_ref_int_loss(const qe_call *call) {
  const qe_operand *logits = &call->operand[0];
  const int32_t *label = call->operand[1].data, *dim = logits->desc.dim;
  for (int64_t row = 0; row < (int64_t)dim[QE_P] * dim[QE_N]; row++) {
    int32_t truth = label[row % dim[QE_N]];
    int64_t best = 0, sum = 0;
    if (truth < 0 || truth >= dim[QE_C])
      return qe_fail(QE_SHAPE, "int_loss: label %d is outside 0...%d", truth, dim[QE_C] - 1);
    for (int64_t j = 1; j < dim[QE_C]; j++)
      if (value_at(logits, row * dim[QE_C] + j) > value_at(logits, row * dim[QE_C] + best)) best = j;
    int64_t top = value_at(logits, row * dim[QE_C] + best);
    for (int64_t j = 0; j < dim[QE_C]; j++) sum += qe_exp2_negative(top - value_at(logits, row * dim[QE_C] + j));
    int64_t loss = qe_log2_q30(sum) + (top - value_at(logits, row * dim[QE_C] + truth)) * 256;
    store_at(&call->operand[2], row, loss > INT32_MAX ? INT32_MAX : loss);
    store_at(&call->operand[3], row, best == truth);
  }
  return QE_OK;
}

/* Each candidate's codes, in the order of their axes, as the fields of one packed row (core/base/pack.h). A code that
 * is not on the grid gives the bits of its distance from `low`, divided by the spacing. */
qe_status qe_ref_int_pack(const qe_call *call) {
  const qe_operand *codes = &call->operand[0], *packed = &call->operand[1];
  const qe_code_grid *grid = &call->attrs.grid;
  int64_t each = qe_count(&codes->desc) / codes->desc.dim[QE_P], bytes = packed->desc.dim[QE_C];
  for (int64_t i = 0; i < bytes * packed->desc.dim[QE_P]; i++) store_at(packed, i, 0);
  for (int64_t i = 0; i < qe_count(&codes->desc); i++) {
    uint32_t distance = (uint32_t)(value_at(codes, i) - grid->low) / (uint32_t)grid->spacing;
    for (int64_t bit = 0; bit < grid->bits; bit++) {
      int64_t to = i % each * grid->bits + bit, byte = i / each * bytes + to / 8;
      store_at(packed, byte, value_at(packed, byte) | (int64_t)(distance >> bit & 1) << to % 8);
    }
  }
  return QE_OK;
}

/* The inverse: code = low + spacing * field modulo 2^8, whatever the field. */
qe_status qe_ref_int_unpack(const qe_call *call) {
  const qe_operand *packed = &call->operand[0], *codes = &call->operand[1];
  const qe_code_grid *grid = &call->attrs.grid;
  int64_t each = qe_count(&codes->desc) / codes->desc.dim[QE_P], bytes = packed->desc.dim[QE_C];
  for (int64_t i = 0; i < qe_count(&codes->desc); i++) {
    int64_t field = 0;
    for (int64_t bit = 0; bit < grid->bits; bit++) {
      int64_t from = i % each * grid->bits + bit;
      field |= (value_at(packed, i / each * bytes + from / 8) >> from % 8 & 1) << bit;
    }
    store_at(codes, i, (int8_t)(uint8_t)(grid->low + grid->spacing * field));
  }
  return QE_OK;
}
