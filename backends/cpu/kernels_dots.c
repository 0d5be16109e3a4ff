/* Integer convolutions by dot products: an image packed with zeros around each line, then runs of pixels of the result
 * with their sums in registers. Where the window is transposed and has a stride, the pixels of a run are a stride apart
 * and read neighbouring pixels of the source. Compiled once an instruction set. */
#include "backends/cpu/dots.h"
#include "backends/cpu/lane_vec.h"

enum { WORDS = VEC / CPU_DOTS_WORD, MOST_VECTORS = 2, MOST_TAPS = 64 };
#if defined(__AVX512BW__)
enum { BLOCK = CPU_DOTS_PIXELS };
#else
enum { BLOCK = CPU_DOTS_PIXELS / 2 };
#endif

typedef struct run_of_pixels {
  const cpu_dots *plan;
  int taps;
  struct {
    const uint8_t *weights, *source; /* the tap's; for the run's first pixel */
    const int32_t *starts;
  } tap[MOST_TAPS];
  int64_t source_step; /* bytes from what a pixel reads to what the next does */
  int64_t count, step; /* pixels; values from one pixel of the result to the next */
  int32_t *target;     /* the first pixel */
  bool starts;         /* taps have them */
  bool more;           /* there were taps before: add to them */
} run_of_pixels;

CPU_INLINE void store(const run_of_pixels *run, int64_t pixel, int64_t channel, vec sum) {
  if (pixel >= run->count) return;
  int32_t *to = run->target + pixel * run->step + channel;
  int64_t count = smaller(WORDS, run->plan->result.channels - channel);
  if (count == WORDS) {
    vec_store(to, run->more ? vec_add32(sum, vec_load(to)) : sum);
    return;
  }
  int32_t words[WORDS];
  vec_store(words, sum);
  for (int64_t k = 0; k < count; k++) to[k] = run->more ? to[k] + words[k] : words[k];
}

#define FORMS "backends/cpu/dots_form.h"
#include "backends/cpu/multiply_forms.h"

#if defined(__AVX512BW__)
static void run_pixels(const run_of_pixels *run) {
  if (run->plan->members == 4)
    pixels_bytes(run);
  else if (has_bytes())
    pixels_pairs_vnni(run);
  else
    pixels_pairs(run);
}
#else
static void run_pixels(const run_of_pixels *run) {
  pixels_pairs(run);
}
#endif

/* ---- packing ---- */

/* `pixels` of the source as values of another type, each filled up to whole words; `change`: bits that change. */
#define PACK(name, from_type, to_type, change)                                                                         \
  static void name(const cpu_dots *plan, const void *source, int64_t pixels, void *room) {                             \
    int64_t channels = plan->source.channels, filled = plan->words * plan->members;                                    \
    const from_type *from = source;                                                                                    \
    to_type *to = room;                                                                                                \
    if (filled == channels) {                                                                                          \
      CPU_SIMD for (int64_t k = 0; k < pixels * channels; k++) to[k] = (to_type)(from[k] ^ (change));                  \
      return;                                                                                                          \
    }                                                                                                                  \
    for (int64_t pixel = 0; pixel < pixels; pixel++, from += channels, to += filled) {                                 \
      for (int64_t k = 0; k < channels; k++) to[k] = (to_type)(from[k] ^ (change));                                    \
      for (int64_t k = channels; k < filled; k++) to[k] = (to_type)(change);                                           \
    }                                                                                                                  \
  }
PACK(pack_bytes, uint8_t, uint8_t, plan->zero)
PACK(pack_u8, uint8_t, int16_t, 0)
PACK(pack_s8, int8_t, int16_t, 0)

static void pack_image(const cpu_dots *plan, const cpu_dots_image *image) {
  int64_t bytes = plan->words * CPU_DOTS_WORD, width = plan->source.width;
  int64_t before = plan->left * bytes, after = (plan->line - plan->left - width) * bytes;
  const uint8_t *from = image->source;
  uint8_t *to = image->room;
  for (int64_t i = 0; i < plan->source.height; i++, from += width * plan->source.channels) {
    memset(to, plan->zero, (size_t)before);
    to += before;
    if (plan->members == 4)
      pack_bytes(plan, from, width, to);
    else if (plan->type == QE_U8)
      pack_u8(plan, from, width, to);
    else
      pack_s8(plan, from, width, to);
    to += width * bytes;
    memset(to, plan->zero, (size_t)after);
    to += after;
  }
}

/* ---- lines ---- */

/* The source's coordinate that the result's coordinate `at` reads under `tap`, which may lie outside the map; false
 * when the stride passes over it. */
CPU_INLINE bool source_of(const cpu_dots *plan, int axis, int64_t at, int64_t tap, int64_t *coordinate) {
  const qe_window *window = plan->window;
  int64_t stride = window->stride[axis], moved = window->pad[axis] - tap * window->dilation[axis];
  *coordinate = at * stride - moved;
  if (!plan->transposed) return true;
  int64_t rest = ((at + moved) % stride + stride) % stride;
  *coordinate = (at + moved - rest) / stride;
  return rest == 0;
}

/* The run of pixels of line h that starts at `column`. */
static void run_line(const cpu_dots *plan, const cpu_dots_image *image, run_of_pixels *run, int64_t h, int64_t column) {
  int64_t bytes = plan->words * CPU_DOTS_WORD;
  run->taps = 0;
  run->more = false;
  for (int64_t kh = 0; kh < plan->window->kernel[0]; kh++)
    for (int64_t kw = 0; kw < plan->window->kernel[1]; kw++) {
      int64_t i, j, tap = kh * plan->window->kernel[1] + kw;
      if (!source_of(plan, 0, h, kh, &i) || i < 0 || i >= plan->source.height) continue;
      if (!source_of(plan, 1, column, kw, &j)) continue;
      if (run->taps == MOST_TAPS) {
        run_pixels(run);
        run->taps = 0;
        run->more = true;
      }
      run->tap[run->taps].weights = image->weights + tap * bytes * plan->padded;
      if (run->starts) run->tap[run->taps].starts = image->starts + tap * plan->padded;
      run->tap[run->taps++].source = image->room + (i * plan->line + plan->left + j) * bytes;
    }
  run_pixels(run);
}

static void dots_run(const cpu_dots *plan, const cpu_dots_image *image) {
  int64_t stride = plan->window->stride[1], runs = plan->transposed ? stride : 1, width = plan->result.width;
  int64_t pixel = plan->words * CPU_DOTS_WORD, channels = plan->result.channels;
  run_of_pixels run = {.plan = plan,
                       .source_step = plan->transposed ? pixel : stride * pixel,
                       .step = runs * channels,
                       .starts = image->starts != NULL};
  pack_image(plan, image);
  for (int64_t h = 0; h < plan->result.height; h++)
    for (int64_t column = 0; column < smaller(runs, width); column++) {
      run.count = (width - 1 - column) / runs + 1;
      run.target = image->result + (h * width + column) * channels;
      run_line(plan, image, &run, h, column);
    }
}

const cpu_dots_kernels CPU_NAME(dots_kernels) = {.run = dots_run, .has_bytes = has_bytes};
