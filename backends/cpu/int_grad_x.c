/* The implementation `pairs` of the integer input gradient: images shared out over threads. */
#include "backends/cpu/grad_x.h"
#include "backends/cpu/parallel.h"

#include <string.h>

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

/* w [O, taps, C] s8 -> [tap][pair][padded][2], zeros in the padding. */
static void pack_weights(const qe_call *call, const cpu_grad_x *plan, int16_t *to) {
  const int32_t *kernel = call->operand[1].desc.dim;
  const int8_t *w = call->operand[1].data;
  int64_t taps = (int64_t)kernel[QE_H] * kernel[QE_W], channels = kernel[QE_C];
  memset(to, 0, (size_t)(2 * taps * plan->pairs * plan->padded) * sizeof *to);
  for (int64_t o = 0; o < kernel[QE_N]; o++)
    for (int64_t tap = 0; tap < taps; tap++, w += channels)
      for (int64_t c = 0; c < channels; c++) to[((tap * plan->pairs + o / 2) * plan->padded + c) * 2 + o % 2] = w[c];
}

/* Errors before and after a line that the taps of some pixel of dx reach, a block of pixels beyond the last included.
 */
static void plan_lines(const qe_call *call, cpu_grad_x *plan) {
  const qe_window *window = &call->attrs.window;
  int64_t in = call->operand[2].desc.dim[QE_W], out = call->operand[0].desc.dim[QE_W], stride = window->stride[1];
  int64_t reach = (int64_t)(window->kernel[1] - 1) * window->dilation[1] - window->pad[1];
  plan->left = reach > 0 ? reach / stride + 1 : 0;
  int64_t last = (in - 1 + window->pad[1]) / stride + CPU_GRAD_X_PIXELS;
  plan->line = plan->left + larger(out, last + 1);
}

typedef struct images_run {
  const qe_call *call;
  const cpu_grad_x *plan;
  cpu_grad_x_kernel kernel;
  int16_t *room;
  int64_t room_values; /* of a thread */
} images_run;

static void run_images(void *context, int64_t first, int64_t last, int thread) {
  const images_run *run = context;
  for (int64_t image = first; image < last; image++)
    run->kernel(run->call, run->plan, image, run->room + thread * run->room_values);
}

static qe_status grad_x_run(qe_queue *queue, const qe_call *call, void *state) {
  const cpu_device *device = cpu_device_of(queue);
  const int32_t *out = call->operand[0].desc.dim, *kernel = call->operand[1].desc.dim;
  cpu_grad_x plan = {.pairs = (kernel[QE_N] + 1) / 2};
  (void)state;
  plan.padded = (kernel[QE_C] + CPU_GRAD_X_PADDING - 1) / CPU_GRAD_X_PADDING * CPU_GRAD_X_PADDING;
  plan_lines(call, &plan);
  int64_t weights = 2 * (int64_t)kernel[QE_H] * kernel[QE_W] * plan.pairs * plan.padded;
  int64_t room = (2 * out[QE_H] * plan.line * plan.pairs + 31) / 32 * 32;
  void *scratch;
  QE_TRY(cpu_queue_scratch((cpu_queue *)queue, (size_t)(weights + device->threads * room) * sizeof(int16_t), &scratch));
  pack_weights(call, &plan, scratch);
  plan.weights = scratch;
  images_run run = {call, &plan, device->kernels->grad_x, (int16_t *)scratch + weights, room};
  int64_t work = qe_count(&call->operand[0].desc) * kernel[QE_H] * kernel[QE_W] * kernel[QE_C];
  cpu_parallel(device, out[QE_N], 1, work, run_images, &run);
  return QE_OK;
}

const qe_impl cpu_impl_int_grad_x = {.name = "pairs", .run = grad_x_run};
