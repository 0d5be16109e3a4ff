/* The implementation `outer` of the integer weight gradient: for each tap the sum of outer products of the input's
 * pixels with the errors that they met. */
#include "backends/cpu/parallel.h"
#include "core/base/alloc.h"

typedef struct grad_plan {
  int64_t units;
  cpu_outer_unit unit[]; /* a tap each; no lines where the tap sees padding only */
} grad_plan;

/* Outputs first...last-1 along an axis whose tap lies inside the image. */
static void outputs_inside(const qe_window *window, int axis, int64_t tap, int64_t in, int64_t out, int64_t *first,
                           int64_t *last) {
  int64_t stride = window->stride[axis], start = tap * window->dilation[axis] - window->pad[axis];
  *first = start < 0 ? (-start + stride - 1) / stride : 0;
  *last = start < in ? (in - 1 - start) / stride + 1 : 0;
  if (*last > out) *last = out;
}

static cpu_outer_unit unit_of_tap(const qe_call *call, int64_t kh, int64_t kw) {
  const int32_t *in = call->operand[1].desc.dim, *out = call->operand[0].desc.dim;
  const qe_window *window = &call->attrs.window;
  int64_t top, bottom, left, right, width = in[QE_W], outputs = out[QE_W];
  outputs_inside(window, 0, kh, in[QE_H], out[QE_H], &top, &bottom);
  outputs_inside(window, 1, kw, in[QE_W], out[QE_W], &left, &right);
  if (top >= bottom || left >= right) return (cpu_outer_unit){.lines = 0};
  int64_t row = top * window->stride[0] - window->pad[0] + kh * window->dilation[0];
  int64_t column = left * window->stride[1] - window->pad[1] + kw * window->dilation[1];
  return (cpu_outer_unit){.lines = bottom - top,
                          .steps = right - left,
                          .a = {row * width + column, window->stride[0] * width, window->stride[1]},
                          .b = {top * outputs + left, outputs, 1}};
}

static qe_status grad_prepare(qe_device *device, const qe_call *call, void **state) {
  const int32_t *kernel = call->operand[2].desc.dim;
  int64_t units = (int64_t)kernel[QE_H] * kernel[QE_W];
  (void)device;
  grad_plan *plan = qe_alloc(sizeof *plan + (size_t)units * sizeof plan->unit[0]);
  if (!plan) return QE_NO_MEMORY;
  plan->units = units;
  for (int64_t tap = 0; tap < units; tap++) plan->unit[tap] = unit_of_tap(call, tap / kernel[QE_W], tap % kernel[QE_W]);
  *state = plan;
  return QE_OK;
}

static cpu_outer_map map_of(const qe_operand *operand) {
  const int32_t *dim = operand->desc.dim;
  return (cpu_outer_map){operand->data, operand->desc.dtype, (int64_t)dim[QE_H] * dim[QE_W], dim[QE_C]};
}

static qe_status grad_run(qe_queue *queue, const qe_call *call, void *state) {
  const grad_plan *plan = state;
  const int32_t *kernel = call->operand[2].desc.dim;
  cpu_outer outer = {.a = map_of(&call->operand[1]),
                     .b = map_of(&call->operand[0]),
                     .images = call->operand[1].desc.dim[QE_N],
                     .unit = plan->unit,
                     .units = plan->units};
  cpu_outer_sums sums;
  QE_TRY(cpu_outer_run((cpu_queue *)queue, &outer, &sums));
  int64_t *dw = call->operand[2].data;
  for (int64_t o = 0; o < kernel[QE_N]; o++)
    for (int64_t tap = 0; tap < plan->units; tap++)
      for (int64_t c = 0; c < kernel[QE_C]; c++) *dw++ = sums.data[(tap * sums.rows + c) * sums.columns + o];
  return QE_OK;
}

const qe_impl cpu_impl_int_grad_w = {.name = "outer", .prepare = grad_prepare, .run = grad_run, .release = qe_free};
