/* Integer input gradients: an image's errors packed with zeros around each line, then runs of pixels of dx with their
 * sums in registers. With a stride, the pixels of a run are a stride apart and read neighbouring errors. Compiled once
 * an instruction set. */
#include "backends/cpu/grad_x.h"
#include "backends/cpu/lane_vec.h"

enum { WORDS = VEC / 4, MOST_VECTORS = 2, MOST_TAPS = 64 };
#if defined(__AVX512BW__)
enum { BLOCK = CPU_GRAD_X_PIXELS };
#else
enum { BLOCK = CPU_GRAD_X_PIXELS / 2 };
#endif

typedef struct run_of_pixels {
  const cpu_grad_x *plan;
  int taps;
  struct {
    const int16_t *weights, *errors; /* the tap's; of the run's first pixel, a packed pixel on for the next */
  } tap[MOST_TAPS];
  int64_t count, step, channels; /* pixels; values of dx from one to the next */
  int32_t *target;               /* the first pixel */
  bool more;                     /* there were taps before: add to them */
} run_of_pixels;

CPU_INLINE void store(const run_of_pixels *run, int64_t pixel, int64_t channel, vec sum) {
  if (pixel >= run->count) return;
  int32_t *to = run->target + pixel * run->step + channel;
  int64_t count = smaller(WORDS, run->channels - channel);
  if (count == WORDS) {
    vec_store(to, run->more ? vec_add32(sum, vec_load(to)) : sum);
    return;
  }
  int32_t words[WORDS];
  vec_store(words, sum);
  for (int64_t k = 0; k < count; k++) to[k] = run->more ? to[k] + words[k] : words[k];
}

#define TARGET
#define FORM pairs
#define MADD(sum, a, b) vec_add32(sum, vec_madd16(a, b))
#include "backends/cpu/grad_x_form.h"

#if defined(__AVX512BW__)
#define TARGET __attribute__((target("avx512vnni")))
#define FORM vnni
#define MADD(sum, a, b) _mm512_dpwssd_epi32(sum, a, b)
#include "backends/cpu/grad_x_form.h"

static void run_pixels(const run_of_pixels *run) {
  if (__builtin_cpu_supports("avx512vnni"))
    pixels_vnni(run);
  else
    pixels_pairs(run);
}
#else
static void run_pixels(const run_of_pixels *run) {
  pixels_pairs(run);
}
#endif

/* `pixels` of s8 errors, widened; an odd channel is followed by a zero. */
static int16_t *widen(const int8_t *dy, int64_t pixels, int64_t channels, int16_t *to) {
  if (channels % 2 == 0) {
    CPU_SIMD for (int64_t k = 0; k < pixels * channels; k++) to[k] = dy[k];
    return to + pixels * channels;
  }
  for (int64_t pixel = 0; pixel < pixels; pixel++, dy += channels, to += channels + 1) {
    CPU_SIMD for (int64_t k = 0; k < channels; k++) to[k] = dy[k];
    to[channels] = 0;
  }
  return to;
}

/* The errors of one image, with zeros around the lines. */
static void pack_errors(const qe_call *call, const cpu_grad_x *plan, int64_t image, int16_t *room) {
  const int32_t *out = call->operand[0].desc.dim;
  int64_t channels = out[QE_C], before = 2 * plan->left * plan->pairs;
  int64_t after = 2 * (plan->line - plan->left - out[QE_W]) * plan->pairs;
  const int8_t *dy = (const int8_t *)call->operand[0].data + image * out[QE_H] * out[QE_W] * channels;
  for (int64_t i = 0; i < out[QE_H]; i++, dy += out[QE_W] * channels) {
    memset(room, 0, (size_t)before * sizeof *room);
    room = widen(dy, out[QE_W], channels, room + before);
    memset(room, 0, (size_t)after * sizeof *room);
    room += after;
  }
}

/* The output coordinate that reads input coordinate `in` under `tap`, which may lie outside the map; false when the
 * stride passes over it. */
CPU_INLINE bool output_of(const qe_window *window, int axis, int64_t in, int64_t tap, int64_t *output) {
  int64_t start = in + window->pad[axis] - tap * window->dilation[axis], stride = window->stride[axis];
  int64_t rest = (start % stride + stride) % stride;
  *output = (start - rest) / stride;
  return rest == 0;
}

/* Pixels column, column + stride, ... of line h. */
static void run_line(const qe_call *call, run_of_pixels *run, int64_t h, int64_t column, const int16_t *room) {
  const qe_window *window = &call->attrs.window;
  const cpu_grad_x *plan = run->plan;
  run->taps = 0;
  run->more = false;
  for (int64_t kh = 0; kh < window->kernel[0]; kh++)
    for (int64_t kw = 0; kw < window->kernel[1]; kw++) {
      int64_t i, j;
      if (!output_of(window, 0, h, kh, &i) || i < 0 || i >= call->operand[0].desc.dim[QE_H]) continue;
      if (!output_of(window, 1, column, kw, &j)) continue;
      if (run->taps == MOST_TAPS) {
        run_pixels(run);
        run->taps = 0;
        run->more = true;
      }
      run->tap[run->taps].weights = plan->weights + 2 * (kh * window->kernel[1] + kw) * plan->pairs * plan->padded;
      run->tap[run->taps++].errors = room + 2 * (i * plan->line + plan->left + j) * plan->pairs;
    }
  run_pixels(run);
}

void CPU_NAME(grad_x)(const qe_call *call, const cpu_grad_x *plan, int64_t image, int16_t *room) {
  const int32_t *in = call->operand[2].desc.dim;
  int64_t stride = call->attrs.window.stride[1], channels = in[QE_C];
  int32_t *dx = (int32_t *)call->operand[2].data + image * in[QE_H] * in[QE_W] * channels;
  run_of_pixels run = {.plan = plan, .channels = channels, .step = stride * channels};
  pack_errors(call, plan, image, room);
  for (int64_t h = 0; h < in[QE_H]; h++)
    for (int64_t column = 0; column < smaller(stride, in[QE_W]); column++) {
      run.count = (in[QE_W] - 1 - column) / stride + 1;
      run.target = dx + (h * in[QE_W] + column) * channels;
      run_line(call, &run, h, column, room);
    }
}
