/* The convolution forms of the cpu engine, all that this machine can run, against a naive reference: random shapes and
 * codes, codes at their extremes, and weights and codes made to overflow 16-bit sums. Where a form refuses weights, the
 * reason is looked for; where it takes them, every sum must be exact. */
#include "backends/cpu/forms.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- instruction sets and their forms ---- */

#define FORMS(isa)                                                                                                     \
  &cpu_form_winograd_##isa, &cpu_form_direct_##isa, &cpu_form_lookup2_##isa, &cpu_form_lookup1_##isa,                  \
      &cpu_form_wide_##isa, &cpu_form_plain_##isa, NULL

typedef const cpu_form *form_list[10];

typedef struct instruction_set {
  const char *name;
  int lanes;
  bool (*present)(void);
  form_list form;
} instruction_set;

static bool always(void) {
  return true;
}

#if defined(__x86_64__)
static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool has_avx512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && has_avx2();
}
static bool has_vnni(void) {
  return has_avx512() && cpu_has_vnni_avx512();
}
#endif

static const instruction_set isas[] = {
    {"portable", 16, always, {FORMS(portable)}},
#if defined(__x86_64__)
    {"avx2", 16, has_avx2, {FORMS(avx2)}},
    {"avx512", 32, has_avx512, {FORMS(avx512)}},
    {"avx512 vnni", 32, has_vnni, {&cpu_form_vnni_avx512, NULL}},
#endif
};

enum { ISAS = sizeof isas / sizeof *isas, SEEDS = 400, POSITION_SEEDS = 150 };

/* ---- random numbers ---- */

static uint64_t state = 1;

static int32_t below(int64_t bound) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (int32_t)((state >> 33) % (uint64_t)bound);
}
static int32_t between(int32_t low, int32_t high) {
  return low + below((int64_t)high - low + 1);
}
static int32_t one_of(const int32_t *values, size_t count) {
  return values[below((int64_t)count)];
}
#define ONE_OF(...) one_of((const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void *allocate(int64_t bytes) {
  void *memory = aligned_alloc(64, (size_t)(bytes + 63) / 64 * 64);
  assert_non_null(memory);
  return memory;
}

/* ---- one convolution ---- */

typedef struct trial {
  cpu_conv_shape shape;
  int images;
  uint8_t *stored; /* [images, height, width, inputs] */
  int8_t *weights; /* [outputs, kernel h, kernel w, inputs of a group] */
} trial;

static int32_t group_inputs(const trial *t) {
  return t->shape.inputs / t->shape.window.groups;
}
static int64_t output_weights(const trial *t) {
  return (int64_t)t->shape.window.kernel[0] * t->shape.window.kernel[1] * group_inputs(t);
}
static int32_t weight_at(const trial *t, int32_t o, int32_t kh, int32_t kw, int32_t c) {
  return t
      ->weights[((int64_t)(o * t->shape.window.kernel[0] + kh) * t->shape.window.kernel[1] + kw) * group_inputs(t) + c];
}
static int32_t stored_at(const trial *t, int image, int32_t y, int32_t x, int32_t c) {
  bool inside = y >= 0 && y < t->shape.height && x >= 0 && x < t->shape.width && c < t->shape.inputs;
  if (!inside) return t->shape.zero;
  return t->stored[(((int64_t)image * t->shape.height + y) * t->shape.width + x) * t->shape.inputs + c];
}

static int64_t reference(const trial *t, int image, int32_t row, int32_t column, int32_t o) {
  const qe_window *w = &t->shape.window;
  int32_t group = o / (w->channels / w->groups), inputs = group_inputs(t);
  int64_t sum = 0;
  for (int32_t kh = 0; kh < w->kernel[0]; kh++) {
    for (int32_t kw = 0; kw < w->kernel[1]; kw++) {
      int32_t y = row * w->stride[0] - w->pad[0] + kh * w->dilation[0];
      int32_t x = column * w->stride[1] - w->pad[1] + kw * w->dilation[1];
      for (int32_t c = 0; c < inputs; c++)
        sum += (stored_at(t, image, y, x, group * inputs + c) - t->shape.zero) * weight_at(t, o, kh, kw, c);
    }
  }
  return sum;
}

/* Width of the range of an output's sums. */
static int64_t range_width(const trial *t, int32_t o) {
  int64_t sum = 0;
  for (int64_t i = 0; i < output_weights(t); i++) sum += abs(t->weights[o * output_weights(t) + i]);
  return sum * t->shape.most;
}

static void set_out_size(cpu_conv_shape *s) {
  s->out_height =
      (s->height + s->window.pad[0] + s->window.pad[2] - s->window.dilation[0] * (s->window.kernel[0] - 1) - 1) /
          s->window.stride[0] +
      1;
  s->out_width =
      (s->width + s->window.pad[1] + s->window.pad[3] - s->window.dilation[1] * (s->window.kernel[1] - 1) - 1) /
          s->window.stride[1] +
      1;
}

/* ---- maps ---- */

/* A padded map of one form's packing. Rows of vectors, or, in positions, planes of bytes. */
typedef struct map {
  uint8_t *data;
  int64_t row, pixel, vector; /* byte strides */
} map;

static int32_t vector_channels(cpu_packing packing) {
  return packing == CPU_PAIRS ? 2 : packing == CPU_CRUMBS ? 4 : 8;
}

/* Byte of a vector that holds a channel of an image, and the bit at which its code starts. */
static int32_t byte_of(cpu_packing packing, int image, int32_t channel, int *shift) {
  int32_t half = vector_channels(packing) / 2;
  *shift = packing == CPU_PAIRS ? 0 : channel % half * (packing == CPU_CRUMBS ? 2 : 1);
  if (packing == CPU_PAIRS) return 2 * image + channel % 2;
  return image / 16 * 32 + channel % (2 * half) / half * 16 + image % 16;
}

static map pack_images(const trial *t, cpu_packing packing) {
  const int32_t *pad = t->shape.window.pad;
  int32_t each = vector_channels(packing), vectors = (t->shape.inputs + each - 1) / each;
  int32_t height = t->shape.height + pad[0] + pad[2], width = t->shape.width + pad[1] + pad[3];
  map m = {.vector = 2 * t->images, .pixel = (int64_t)2 * t->images * vectors};
  m.row = m.pixel * width;
  m.data = allocate(m.row * height);
  memset(m.data, 0, (size_t)(m.row * height));
  for (int32_t y = 0; y < height; y++)
    for (int32_t x = 0; x < width; x++)
      for (int32_t c = 0; c < vectors * each; c++)
        for (int image = 0; image < t->images; image++) {
          int shift = 0;
          int32_t byte = byte_of(packing, image, c, &shift);
          int32_t code = stored_at(t, image, y - pad[0], x - pad[1], c);
          m.data[y * m.row + x * m.pixel + c / each * m.vector + byte] |= (uint8_t)(code << shift);
        }
  return m;
}

/* Image 0 in planes of positions, with what the last vector of positions reads beyond the end. */
static map pack_positions(const trial *t, int lanes, int32_t sites) {
  const int32_t *pad = t->shape.window.pad;
  int32_t vectors = (t->shape.inputs + 1) / 2, height = t->shape.height + pad[0] + pad[2];
  int32_t width = t->shape.width + pad[1] + pad[3] + sites * lanes;
  map m = {.pixel = 2, .row = 2 * width, .vector = (int64_t)2 * width * height};
  m.data = allocate(m.vector * vectors);
  for (int32_t c = 0; c < 2 * vectors; c++)
    for (int32_t y = 0; y < height; y++)
      for (int32_t x = 0; x < width; x++)
        m.data[c / 2 * m.vector + y * m.row + x * m.pixel + c % 2] =
            (uint8_t)stored_at(t, 0, y - pad[0], x - pad[1], c);
  return m;
}

/* ---- a form's sums ---- */

typedef struct result {
  void *sums;
  int32_t *centre;
  int32_t sites;
} result;

static int64_t sum_at(const cpu_form *form, const result *r, int lanes, int64_t site, int32_t outputs, int32_t o,
                      int lane) {
  int64_t at = (site * outputs + o) * lanes;
  if (form->sums == CPU_SUMS_S16) return ((const int16_t *)r->sums)[at + lane] + r->centre[o];
  return ((const int32_t *)r->sums)[at + lane / 4 % 2 * (lanes / 2) + lane / 8 * 4 + lane % 4] + r->centre[o];
}

/* Runs all rows, some at a time. */
static void run_rows(const cpu_form *form, cpu_conv_task task, const cpu_conv_shape *shape, int64_t sum_row) {
  const uint8_t *in = task.in;
  uint8_t *sums = task.sums;
  for (int32_t row = 0; row < shape->out_height; row += task.rows) {
    int32_t left = (shape->out_height - row) / form->rows;
    task.rows = form->rows * between(1, left < 3 ? left : 3);
    task.in = in + row * task.in_line;
    task.sums = sums + row * sum_row;
    form->run(&task);
  }
}

/* False when the form refuses the weights. */
static bool run_form(const cpu_form *form, const trial *t, int lanes, bool positions, result *r) {
  const cpu_conv_shape *s = &t->shape;
  void *prepared = allocate((int64_t)form->prepared_bytes(s));
  r->centre = allocate((int64_t)sizeof(int32_t) * s->window.channels);
  r->sites = positions ? (s->out_width + lanes - 1) / lanes : s->out_width;
  if (!form->prepare(s, t->weights, prepared, r->centre)) {
    free(prepared);
    free(r->centre);
    return false;
  }
  map m = positions ? pack_positions(t, lanes, r->sites) : pack_images(t, form->packing);
  void *scratch = allocate((int64_t)form->scratch_bytes(s, r->sites));
  int64_t site_bytes = (int64_t)s->window.channels * lanes * (form->sums == CPU_SUMS_S16 ? 2 : 4);
  r->sums = allocate(site_bytes * r->sites * s->out_height);
  cpu_conv_task task = {.shape = s,
                        .prepared = prepared,
                        .in = m.data,
                        .in_row = m.row * s->window.dilation[0],
                        .in_pixel = m.pixel * s->window.dilation[1],
                        .in_vector = m.vector,
                        .in_site = (positions ? lanes : 1) * m.pixel * s->window.stride[1],
                        .in_line = m.row * s->window.stride[0],
                        .sites = r->sites,
                        .sums = r->sums,
                        .scratch = scratch};
  run_rows(form, task, s, site_bytes * r->sites);
  free(m.data);
  free(prepared);
  free(scratch);
  return true;
}

static void describe_failure(const char *isa, const cpu_form *form, const trial *t, int64_t got, int64_t wanted) {
  const qe_window *w = &t->shape.window;
  fail_msg("%s %s: %lld instead of %lld; map %dx%dx%d, kernel %dx%d, stride %dx%d, dilation %dx%d, groups %d, "
           "%d outputs, stored 0...%d, zero %d",
           isa, form->name, (long long)got, (long long)wanted, t->shape.height, t->shape.width, t->shape.inputs,
           w->kernel[0], w->kernel[1], w->stride[0], w->stride[1], w->dilation[0], w->dilation[1], w->groups,
           w->channels, t->shape.most, t->shape.zero);
}

static void compare(const instruction_set *isa, const cpu_form *form, const trial *t, const result *r, bool positions) {
  const cpu_conv_shape *s = &t->shape;
  for (int32_t row = 0; row < s->out_height; row++)
    for (int32_t column = 0; column < s->out_width; column++)
      for (int32_t o = 0; o < s->window.channels; o++)
        for (int image = 0; image < t->images; image++) {
          int64_t site = (int64_t)row * r->sites + (positions ? column / isa->lanes : column);
          int64_t got =
              sum_at(form, r, isa->lanes, site, s->window.channels, o, positions ? column % isa->lanes : image);
          int64_t wanted = reference(t, image, row, column, o);
          if (got != wanted) describe_failure(isa->name, form, t, got, wanted);
        }
}

/* Whether the form took the weights; what it took must be exact. */
static bool check_form(const instruction_set *isa, const cpu_form *form, trial *t, bool positions) {
  result r = {0};
  if (!run_form(form, t, isa->lanes, positions, &r)) return false;
  compare(isa, form, t, &r, positions);
  free(r.sums);
  free(r.centre);
  return true;
}

/* ---- codes and weights ---- */

enum code_kind { CODES_ANY, CODES_EXTREME, CODES_MOST, CODES_AIMED, CODE_KINDS };
enum weight_kind { WEIGHTS_ANY, WEIGHTS_EXTREME, WEIGHTS_EQUAL, WEIGHTS_ALIKE, WEIGHTS_SMALL, WEIGHT_KINDS };

static void fill_weights(trial *t, enum weight_kind kind, int32_t largest) {
  int64_t count = output_weights(t) * t->shape.window.channels;
  int32_t inputs = group_inputs(t), equal = between(-largest, largest);
  t->weights = allocate(count);
  for (int64_t i = 0; i < count; i++) {
    int32_t weight = between(-largest, largest);
    if (kind == WEIGHTS_EXTREME) weight = below(2) ? largest : -largest;
    if (kind == WEIGHTS_EQUAL) weight = equal;
    if (kind == WEIGHTS_ALIKE) weight = i % inputs % 3 ? largest - below(2) : -largest + below(2);
    if (kind == WEIGHTS_SMALL) weight = between(-1, 1);
    t->weights[i] = (int8_t)weight;
  }
}

/* Sign of row or column `at` in a pattern: everywhere, every other, every other two, or that shifted by one. */
static int32_t pattern_sign(int32_t pattern, int32_t at) {
  if (pattern == 0) return 1;
  if (pattern == 1) return at % 2 ? 1 : -1;
  return (at + pattern) / 2 % 2 ? 1 : -1;
}

/* Weight of a channel as the pattern sees it: what the rows and columns of Winograd's transformed kernels are. */
static int32_t pattern_weight(const trial *t, int32_t o, int32_t c, int32_t rows, int32_t columns) {
  int32_t sum = 0;
  for (int32_t kh = 0; kh < t->shape.window.kernel[0]; kh++)
    for (int32_t kw = 0; kw < t->shape.window.kernel[1]; kw++)
      sum += weight_at(t, o, kh, kw, c) * pattern_sign(rows, kh + 1) * pattern_sign(columns, kw + 1);
  return sum;
}

/* The largest code where a pattern's weight is positive, else 0; another pattern and output in each image. */
static void aim_codes(trial *t, int image) {
  int32_t rows = below(4), columns = below(4), o = below(t->shape.window.channels), turn = below(2) ? 1 : -1;
  int32_t inputs = group_inputs(t);
  uint8_t *to = t->stored + (int64_t)image * t->shape.height * t->shape.width * t->shape.inputs;
  for (int32_t c = 0; c < t->shape.inputs; c++) {
    int32_t sign = pattern_weight(t, o, c % inputs, rows, columns) > 0 ? turn : -turn;
    for (int32_t y = 0; y < t->shape.height; y++)
      for (int32_t x = 0; x < t->shape.width; x++)
        to[((int64_t)y * t->shape.width + x) * t->shape.inputs + c] =
            (uint8_t)(sign * pattern_sign(rows, y) * pattern_sign(columns, x) > 0 ? t->shape.most : 0);
  }
}

static void fill_codes(trial *t, enum code_kind kind) {
  int64_t each = (int64_t)t->shape.height * t->shape.width * t->shape.inputs;
  t->stored = allocate(each * t->images);
  for (int64_t i = 0; i < each * t->images; i++) {
    int32_t code = between(0, t->shape.most);
    if (kind == CODES_EXTREME) code = below(2) ? t->shape.most : 0;
    if (kind == CODES_MOST) code = t->shape.most;
    t->stored[i] = (uint8_t)code;
  }
  for (int image = 0; kind == CODES_AIMED && image < t->images; image++) aim_codes(t, image);
}

static void free_trial(trial *t) {
  free(t->stored);
  free(t->weights);
}

/* A window that some form besides `plain` takes, most of the time. */
static void random_shape(trial *t) {
  qe_window *w = &t->shape.window;
  bool winograd = below(2), depthwise = !winograd && below(5) == 0;
  w->groups = winograd || below(2) ? 1 : between(1, 4);
  int32_t per_group = winograd ? ONE_OF(1, 2, 3, 8, 16, 33) : below(3) ? 2 * between(1, 9) : between(1, 11);
  if (depthwise) {
    w->groups = between(1, 20);
    per_group = 1;
  }
  t->shape.inputs = w->groups * per_group;
  w->channels = w->groups * (depthwise && below(3) ? 1 : between(1, winograd ? 21 : 9));
  for (int axis = 0; axis < 2; axis++) {
    w->kernel[axis] = winograd ? 3 : between(1, 4);
    w->stride[axis] = winograd ? 1 : between(1, 3);
    w->dilation[axis] = winograd ? 1 : between(1, 2);
    w->pad[axis] = below(3);
    w->pad[axis + 2] = winograd ? w->pad[axis] : below(3);
  }
  int32_t even = winograd ? 2 : 1;
  t->shape.height = w->dilation[0] * w->kernel[0] - 1 + between(1, 4) * even;
  t->shape.width = w->dilation[1] * w->kernel[1] - 1 + between(1, 6) * even;
  set_out_size(&t->shape);
}

static trial random_trial(int images) {
  trial t = {.images = images};
  random_shape(&t);
  t.shape.most = ONE_OF(1, 1, 3, 3, 7, 15, 15, 15, 31, 63, 255);
  t.shape.zero = below(2) ? 0 : below(3) ? between(0, t.shape.most) : t.shape.most / 2 + 1;
  int32_t largest = ONE_OF(1, 1, 3, 7, 7, 8, 15, 127);
  fill_weights(&t, (enum weight_kind)below(WEIGHT_KINDS), largest);
  fill_codes(&t, (enum code_kind)below(CODE_KINDS));
  return t;
}

/* ---- tests ---- */

/* Widths and products that a form with plain 16-bit sums of pairs must refuse, and only those. */
static bool pairs_fit_16_bits(const trial *t) {
  for (int32_t o = 0; o < t->shape.window.channels; o++) {
    if (range_width(t, o) > 65535) return false;
    for (int32_t kh = 0; kh < t->shape.window.kernel[0]; kh++)
      for (int32_t kw = 0; kw < t->shape.window.kernel[1]; kw++)
        for (int32_t c = 0; c < group_inputs(t); c += 2) {
          int32_t a = weight_at(t, o, kh, kw, c), b = c + 1 < group_inputs(t) ? weight_at(t, o, kh, kw, c + 1) : 0;
          bool same = (a < 0) == (b < 0);
          int32_t largest = same ? abs(a + b) : abs(a) > abs(b) ? abs(a) : abs(b);
          if (largest * t->shape.most > 32767) return false;
        }
  }
  return true;
}

typedef struct tally {
  int taken, refused;
} tally;

static void try_form(const instruction_set *isa, const cpu_form *form, trial *t, bool positions, tally *count) {
  if (!form->takes(&t->shape) || (positions && !form->positions)) return;
  bool taken = check_form(isa, form, t, positions);
  if (!taken && form->sums == CPU_SUMS_S32)
    fail_msg("%s %s refuses weights, but s32 cannot overflow", isa->name, form->name);
  if (strcmp(form->name, "direct") == 0 && taken != pairs_fit_16_bits(t))
    fail_msg("%s direct %s weights that %s 16 bits", isa->name, taken ? "takes" : "refuses", taken ? "exceed" : "fit");
  if (taken)
    count->taken++;
  else
    count->refused++;
}

static void report(const instruction_set *isa, const cpu_form *form, const tally *count) {
  print_message("%-12s %-12s %4d exact, %4d refused\n", isa->name, form->name, count->taken, count->refused);
  if (!count->taken) fail_msg("%s %s was never run", isa->name, form->name);
}

static void random_convolutions_are_exact(void **unused) {
  (void)unused;
  for (int i = 0; i < ISAS; i++) {
    if (!isas[i].present()) continue;
    tally count[10] = {0};
    for (int seed = 0; seed < SEEDS; seed++) {
      state = (uint64_t)seed;
      trial t = random_trial(isas[i].lanes);
      for (int f = 0; isas[i].form[f]; f++) try_form(&isas[i], isas[i].form[f], &t, false, &count[f]);
      free_trial(&t);
    }
    for (int f = 0; isas[i].form[f]; f++) report(&isas[i], isas[i].form[f], &count[f]);
  }
}

static void positions_in_the_lanes_are_exact(void **unused) {
  (void)unused;
  for (int i = 0; i < ISAS; i++) {
    if (!isas[i].present()) continue;
    tally count[10] = {0};
    for (int seed = 0; seed < POSITION_SEEDS; seed++) {
      state = (uint64_t)seed + 1000;
      trial t = random_trial(1);
      t.shape.window.stride[1] = 1;
      t.shape.width += below(3) * 20;
      set_out_size(&t.shape);
      free(t.stored);
      fill_codes(&t, (enum code_kind)below(CODE_KINDS));
      for (int f = 0; isas[i].form[f]; f++) try_form(&isas[i], isas[i].form[f], &t, true, &count[f]);
      free_trial(&t);
    }
    for (int f = 0; isas[i].form[f]; f++)
      if (isas[i].form[f]->positions) report(&isas[i], isas[i].form[f], &count[f]);
  }
}

/* A 3x3 layer of a low-bit network whose weights make the sums as large as they get. */
static trial layer(int images, int32_t channels, int32_t most, int32_t zero) {
  trial t = {
      .images = images,
      .shape = {
          .window =
              {.kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}, .groups = 1, .channels = 7},
          .height = 6,
          .width = 8,
          .inputs = channels,
          .most = most,
          .zero = zero}};
  set_out_size(&t.shape);
  return t;
}

enum channel_kind { EQUAL, MIXED, EDGES }; /* the same; signs by channel; signs by column of the kernel: + 0 - */

typedef struct bound_case {
  int32_t channels, most, zero;
  int32_t weight; /* of the last output */
  enum channel_kind kind;
  bool takes; /* whether winograd must take it */
} bound_case;

/* Weights w and most m: the largest element of a transformed kernel is 9 w, so sums along rows hold as many channels C
 * as keep C * 36 m w <= 65535; the half-transformed sums hold C * 18 m w <= 65535, and where kernels are edges, whose
 * middle elements are 0, C * 12 m w. More channels are taken in parts, of half as many each time, but 8 at least. */
static const bound_case bounds[] = {
    {64, 15, 0, 1, EQUAL, true}, /* 34560: whole */
    {64, 15, 0, 2, EQUAL, true}, /* 69120: two parts */
    {64, 15, 0, 3, EQUAL, true}, /* 103680 */
    {64, 15, 0, 4, EQUAL, true}, /* 138240: four parts */
    {64, 15, 0, 7, MIXED, true}, /* 241920: parts of 60480; the output's range is as wide */
    {64, 15, 0, 7, EQUAL, true},  {64, 15, 0, 8, EQUAL, false}, /* the output's range is 69120 wide */
    {64, 15, 0, 5, EDGES, true},                                /* 57600: whole */
    {64, 15, 0, 6, EDGES, true}, /* 69120: only the half-transformed sums need two parts */
    {64, 15, 0, 7, EDGES, true},  {62, 15, 8, 7, EDGES, true},
    {66, 15, 3, 4, EQUAL, true},  /* parts of 18, the last of 12 */
    {63, 15, 7, 4, MIXED, true},  /* parts of 16, the last of 15 */
    {16, 63, 0, 7, EQUAL, false}, /* parts of 8 are 127008 */
    {16, 63, 9, 3, EQUAL, true},  {64, 15, 0, 3, MIXED, true},
    {64, 15, 7, 3, MIXED, true},  {16, 15, 0, 7, EQUAL, true},
    {33, 15, 8, 6, EQUAL, true},  {18, 15, 0, 7, EQUAL, true}, /* 68040: parts of 10 and 8 */
    {63, 15, 1, 3, MIXED, true},  {1, 7, 0, 14, EQUAL, true},
    {1, 7, 0, 15, EQUAL, false},                               /* 9 w exceeds s8 */
    {2, 63, 0, 7, EQUAL, true},   {2, 63, 0, 8, EQUAL, false}, /* a pair of products exceeds s16 */
    {1, 64, 0, 1, EQUAL, false},                               /* 4 m exceeds u8 */
};

static void fill_last_output(trial *t, const bound_case *bound) {
  int8_t *last = t->weights + output_weights(t) * (t->shape.window.channels - 1);
  int32_t inputs = group_inputs(t);
  for (int64_t k = 0; k < output_weights(t); k++) {
    int32_t sign = bound->kind == MIXED   ? (k % inputs % 2 ? -1 : 1)
                   : bound->kind == EDGES ? 1 - (int32_t)(k / inputs % 3)
                                          : 1;
    last[k] = (int8_t)(sign * bound->weight);
  }
}

static void winograd_splits_or_refuses_what_overflows(void **unused) {
  (void)unused;
  for (int i = 0; i < ISAS; i++) {
    if (!isas[i].present() || strcmp(isas[i].form[0]->name, "winograd") != 0) continue;
    const cpu_form *form = isas[i].form[0];
    for (size_t b = 0; b < sizeof bounds / sizeof *bounds; b++) {
      for (int kind = CODES_EXTREME; kind < CODE_KINDS; kind++) {
        state = b + 1;
        trial t = layer(isas[i].lanes, bounds[b].channels, bounds[b].most, bounds[b].zero);
        fill_weights(&t, WEIGHTS_SMALL, 1);
        fill_last_output(&t, &bounds[b]);
        fill_codes(&t, (enum code_kind)kind);
        bool taken = form->takes(&t.shape) && check_form(&isas[i], form, &t, false);
        if (taken != bounds[b].takes)
          fail_msg("%s winograd: case %zu was %s", isas[i].name, b, taken ? "taken" : "refused");
        free_trial(&t);
      }
    }
  }
}

/* Sums of |weights| times `most` on either side of 65535. */
static void direct_takes_all_that_fits_16_bits(void **unused) {
  (void)unused;
  static const struct {
    int32_t most, total;
    bool takes;
  } edge[] = {{255, 257, true}, {64, 1024, false}, {15, 4369, true}, {16, 4096, false}};
  for (int i = 0; i < ISAS; i++) {
    if (!isas[i].present()) continue;
    for (size_t e = 0; e < sizeof edge / sizeof *edge; e++) {
      for (int kind = CODES_EXTREME; kind < CODE_KINDS; kind++) {
        state = e + 1;
        trial t = layer(isas[i].lanes, 18, edge[e].most, below(2) ? edge[e].most / 3 : 0);
        fill_weights(&t, WEIGHTS_SMALL, 1);
        int64_t count = output_weights(&t);
        for (int64_t k = 0; k < count; k++) {
          int32_t size = (int32_t)(edge[e].total * (k + 1) / count - edge[e].total * k / count);
          t.weights[k] = (int8_t)(below(2) ? size : -size);
        }
        fill_codes(&t, (enum code_kind)kind);
        tally count_direct = {0};
        for (int f = 0; isas[i].form[f]; f++)
          if (strcmp(isas[i].form[f]->name, "direct") == 0)
            try_form(&isas[i], isas[i].form[f], &t, false, &count_direct);
        if (count_direct.taken + count_direct.refused) assert_int_equal(count_direct.taken, edge[e].takes);
        free_trial(&t);
      }
    }
  }
}

/* 4-bit weights as trained ones are, neighbours alike, and codes aimed at every transformed element. */
static void correlated_weights_are_exact(void **unused) {
  (void)unused;
  for (int i = 0; i < ISAS; i++) {
    if (!isas[i].present()) continue;
    for (int seed = 0; seed < 24; seed++) {
      state = (uint64_t)seed + 5000;
      trial t = layer(isas[i].lanes, ONE_OF(16, 32, 64), 15, ONE_OF(0, 8));
      fill_weights(&t, WEIGHTS_ANY, 2);
      int32_t pattern = below(4), strength = between(0, 3), inputs = group_inputs(&t);
      for (int64_t k = 0; k < output_weights(&t) * t.shape.window.channels; k++) {
        int32_t tap = (int32_t)(k / inputs % 9), sign = k % inputs * 2654435761u >> 7 & 1 ? 1 : -1;
        t.weights[k] =
            (int8_t)(t.weights[k] + sign * strength * pattern_sign(pattern, tap / 3) * pattern_sign(pattern, tap % 3));
      }
      fill_codes(&t, CODES_AIMED);
      tally count = {0};
      for (int f = 0; isas[i].form[f]; f++) try_form(&isas[i], isas[i].form[f], &t, false, &count);
      assert_true(count.taken > 0);
      free_trial(&t);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_convolutions_are_exact),
      cmocka_unit_test(positions_in_the_lanes_are_exact),
      cmocka_unit_test(winograd_splits_or_refuses_what_overflows),
      cmocka_unit_test(direct_takes_all_that_fits_16_bits),
      cmocka_unit_test(correlated_weights_are_exact),
  };
  return cmocka_run_group_tests_name("cpu_forms", tests, NULL, NULL);
}
