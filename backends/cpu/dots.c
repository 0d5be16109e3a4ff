/* The implementation `dots` of integer convolutions of one group and their input gradients: images shared out over
 * threads. */
#include "backends/cpu/dots.h"

#include "backends/cpu/parallel.h"
#include "core/base/alloc.h"

#include <string.h>

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static int64_t round_up(int64_t value, int64_t to) {
  return (value + to - 1) / to * to;
}

/* Pixels before and behind a line that the taps reach, from a block of pixels beyond the result's last one, too. */
static void plan_lines(cpu_dots *plan) {
  const qe_window *window = plan->window;
  int64_t stride = window->stride[1], pad = window->pad[1];
  int64_t reach = (int64_t)(window->kernel[1] - 1) * window->dilation[1], last;
  if (plan->transposed) {
    plan->left = reach > pad ? (reach - pad) / stride + 1 : 0;
    last = (plan->result.width - 1 + pad) / stride + CPU_DOTS_PIXELS;
  } else {
    plan->left = pad;
    last = (plan->result.width - 1 + CPU_DOTS_PIXELS) * stride - pad + reach;
  }
  plan->line = plan->left + larger(plan->source.width, last + 1);
}

static cpu_dots_map map_of(const qe_desc *desc) {
  return (cpu_dots_map){desc->dim[QE_H], desc->dim[QE_W], desc->dim[QE_C]};
}

static cpu_dots plan_of(const qe_call *call, const cpu_dots_kernels *kernels) {
  const qe_desc *source = &call->operand[0].desc, *result = &call->operand[2].desc;
  cpu_dots plan = {.window = &call->attrs.window, .transposed = call->op == QE_OP_int_conv2d_grad_x};
  plan.source = map_of(source);
  plan.result = map_of(result);
  plan.type = source->dtype;
  plan.members = source->dtype == QE_U8 && kernels->has_bytes() ? 4 : 2;
  plan.words = (plan.source.channels + plan.members - 1) / plan.members;
  plan.padded = round_up(plan.result.channels, CPU_DOTS_PADDING);
  plan_lines(&plan);
  return plan;
}

/* w [outputs, taps, inputs] s8 of one candidate -> [tap][words][padded] words, zeros in the padding. */
static void pack_weights(const cpu_dots *plan, const int32_t *kernel, const int8_t *w, void *room) {
  int64_t taps = (int64_t)kernel[QE_H] * kernel[QE_W], inputs = kernel[QE_C];
  memset(room, 0, (size_t)(taps * plan->words * plan->padded * CPU_DOTS_WORD));
  for (int64_t o = 0; o < kernel[QE_N]; o++)
    for (int64_t tap = 0; tap < taps; tap++)
      for (int64_t c = 0; c < inputs; c++, w++) {
        int64_t from = plan->transposed ? o : c, to = plan->transposed ? c : o;
        int64_t word = (tap * plan->words + from / plan->members) * plan->padded + to;
        int64_t at = word * plan->members + from % plan->members;
        if (plan->members == 4)
          ((int8_t *)room)[at] = *w;
        else
          ((int16_t *)room)[at] = *w;
      }
}

typedef struct images_run {
  const qe_call *call;
  const cpu_dots *plan;
  const cpu_dots_kernels *kernels;
  const uint8_t *weights;
  int64_t weight_bytes; /* of a candidate */
  uint8_t *room;
  int64_t room_bytes; /* of a thread */
} images_run;

/* Images of all candidates, one after the other. */
static void run_images(void *context, int64_t first, int64_t last, int thread) {
  const images_run *run = context;
  const qe_operand *source = &run->call->operand[0], *result = &run->call->operand[2];
  const cpu_dots_map *from = &run->plan->source, *to = &run->plan->result;
  int64_t images = source->desc.dim[QE_N];
  for (int64_t at = first; at < last; at++) {
    int64_t own = source->desc.dim[QE_P] == 1 ? at % images : at;
    cpu_dots_image image = {.source = (const uint8_t *)source->data + own * from->height * from->width * from->channels,
                            .weights = run->weights + at / images * run->weight_bytes,
                            .result = (int32_t *)result->data + at * to->height * to->width * to->channels,
                            .room = run->room + thread * run->room_bytes};
    run->kernels->run(run->plan, &image);
  }
}

static qe_status dots_run(qe_queue *queue, const qe_call *call, void *state) {
  const cpu_device *device = cpu_device_of(queue);
  const qe_operand *w = &call->operand[1];
  const int32_t *kernel = w->desc.dim;
  cpu_dots plan = plan_of(call, device->kernels->dots);
  (void)state;
  int64_t taps = (int64_t)kernel[QE_H] * kernel[QE_W], each = kernel[QE_N] * taps * kernel[QE_C];
  int64_t weights = taps * plan.words * plan.padded * CPU_DOTS_WORD;
  int64_t room = round_up(plan.source.height * plan.line * plan.words * CPU_DOTS_WORD, QE_ALIGNMENT);
  void *scratch;
  QE_TRY(cpu_queue_scratch((cpu_queue *)queue, (size_t)(kernel[QE_P] * weights + device->threads * room), &scratch));
  for (int64_t p = 0; p < kernel[QE_P]; p++)
    pack_weights(&plan, kernel, (const int8_t *)w->data + p * each, (uint8_t *)scratch + p * weights);
  images_run run = {call, &plan, device->kernels->dots, scratch, weights, (uint8_t *)scratch + kernel[QE_P] * weights,
                    room};
  int64_t images = (int64_t)kernel[QE_P] * call->operand[2].desc.dim[QE_N];
  cpu_parallel(device, images, 1, qe_count(&call->operand[2].desc) * taps * plan.words, run_images, &run);
  return QE_OK;
}

static const char *dots_refuse(const qe_device *device, const qe_call *call) {
  (void)device;
  return call->attrs.window.groups != 1 ? "has several groups" : NULL;
}

const qe_impl cpu_impl_dots = {.name = "dots", .refuse = dots_refuse, .run = dots_run};
