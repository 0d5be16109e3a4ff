/* Convolution forms by table look-up of 1- and 2-bit codes against plain sums, on every instruction set that this
 * machine has: shapes, and weights and codes at their ends, where 8-bit partial sums must be widened in time. */
#include "backends/cpu/forms.h"
#include "tests/fixture.h"

/* ---- the forms that this machine can run ---- */

typedef struct runnable {
  const cpu_form *form;
  int32_t lanes, bits;
} runnable;

static runnable forms[6];
static int form_count;

static void add_forms(const cpu_form *two, const cpu_form *one, int32_t lanes) {
  forms[form_count++] = (runnable){two, lanes, 2};
  forms[form_count++] = (runnable){one, lanes, 1};
}

static int find_forms(void **state) {
  (void)state;
  form_count = 0;
  add_forms(&cpu_form_lookup2_portable, &cpu_form_lookup1_portable, 16);
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2")) add_forms(&cpu_form_lookup2_avx2, &cpu_form_lookup1_avx2, 16);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    add_forms(&cpu_form_lookup2_avx512, &cpu_form_lookup1_avx512, 32);
#endif
  return 0;
}

/* ---- one convolution ---- */

/* Code of an image's channel c at the pixel `at`; weight of output o, tap, channel. */
typedef struct filling {
  int32_t (*code)(int64_t index, int32_t channel, int32_t most);
  int32_t (*weight)(int32_t output, int64_t index, int32_t channel);
} filling;

typedef struct map {
  int32_t height, width, vectors; /* with the ring */
  uint8_t *codes;                 /* [height][width][lanes][inputs] */
  uint8_t *data;                  /* packed; the allocation ends with the map */
  int64_t pixel, row, bytes;
} map;

static void pack_vector(uint8_t *to, const uint8_t *codes, int32_t first, int32_t inputs, const runnable *on) {
  int32_t in_nibble = 4 / on->bits;
  for (int32_t image = 0; image < on->lanes; image++)
    for (int32_t c = 0; c < 2 * in_nibble && first + c < inputs; c++) {
      int32_t byte = image / 16 * 32 + c / in_nibble * 16 + image % 16;
      to[byte] |= (uint8_t)(codes[(int64_t)image * inputs + first + c] << (c % in_nibble * on->bits));
    }
}

static map make_map(const cpu_conv_shape *shape, const filling *fill, const runnable *on) {
  const int32_t *pad = shape->window.pad;
  int32_t channels = 8 / on->bits;
  map m = {.height = shape->height + pad[0] + pad[2],
           .width = shape->width + pad[1] + pad[3],
           .vectors = (shape->inputs + channels - 1) / channels};
  int64_t each = (int64_t)on->lanes * shape->inputs;
  m.pixel = (int64_t)m.vectors * 2 * on->lanes;
  m.row = m.pixel * m.width;
  m.bytes = m.row * m.height;
  m.codes = qe_calloc((size_t)m.height * (size_t)m.width, (size_t)each);
  m.data = qe_calloc(1, (size_t)m.bytes);
  assert_true(m.codes && m.data);
  for (int32_t i = 0; i < m.height; i++)
    for (int32_t j = 0; j < m.width; j++) {
      bool inside = i >= pad[0] && i < pad[0] + shape->height && j >= pad[1] && j < pad[1] + shape->width;
      uint8_t *codes = m.codes + (int64_t)(i * m.width + j) * each;
      for (int64_t k = 0; inside && k < each; k++)
        codes[k] =
            (uint8_t)fill->code((int64_t)(i * m.width + j) * each + k, (int32_t)(k % shape->inputs), shape->most);
      for (int32_t v = 0; v < m.vectors; v++)
        pack_vector(m.data + i * m.row + j * m.pixel + (int64_t)v * 2 * on->lanes, codes, v * channels, shape->inputs,
                    on);
    }
  return m;
}

static int64_t plain_sum(const cpu_conv_shape *shape, const map *m, const int8_t *weights, int32_t lanes,
                         const int32_t *at) {
  const qe_window *w = &shape->window;
  int64_t sum = 0;
  for (int32_t y = 0; y < w->kernel[0]; y++)
    for (int32_t x = 0; x < w->kernel[1]; x++) {
      int32_t i = at[0] * w->stride[0] + y * w->dilation[0], j = at[1] * w->stride[1] + x * w->dilation[1];
      const uint8_t *codes = m->codes + ((int64_t)(i * m->width + j) * lanes + at[3]) * shape->inputs;
      const int8_t *row = weights + ((int64_t)(at[2] * w->kernel[0] + y) * w->kernel[1] + x) * shape->inputs;
      for (int32_t c = 0; c < shape->inputs; c++) sum += (int64_t)codes[c] * row[c];
    }
  return sum;
}

/* Every sum of the map against plain_sum. */
static void compare(const cpu_conv_shape *shape, const map *m, const int8_t *weights, const int16_t *sums,
                    const int32_t *centre, const runnable *on) {
  int64_t next = 0;
  int32_t at[4];
  for (at[0] = 0; at[0] < shape->out_height; at[0]++)
    for (at[1] = 0; at[1] < shape->out_width; at[1]++)
      for (at[2] = 0; at[2] < shape->window.channels; at[2]++)
        for (at[3] = 0; at[3] < on->lanes; at[3]++, next++) {
          int64_t wanted = plain_sum(shape, m, weights, on->lanes, at), got = sums[next] + (int64_t)centre[at[2]];
          if (got != wanted)
            fail_msg("%s, %d lanes, %d to %d channels, %dx%d: sum (%d, %d), output %d, image %d is %lld, must be %lld",
                     on->form->name, on->lanes, shape->inputs, shape->window.channels, shape->window.kernel[0],
                     shape->window.kernel[1], at[0], at[1], at[2], at[3], (long long)got, (long long)wanted);
        }
}

static void run_form(const cpu_conv_shape *shape, const map *m, const void *prepared, int16_t *sums,
                     const runnable *on) {
  const qe_window *w = &shape->window;
  void *scratch = qe_alloc(on->form->scratch_bytes(shape, shape->out_width));
  assert_non_null(scratch);
  cpu_conv_task task = {.shape = shape,
                        .prepared = prepared,
                        .in = m->data,
                        .in_row = m->row * w->dilation[0],
                        .in_pixel = m->pixel * w->dilation[1],
                        .in_vector = 2 * on->lanes,
                        .in_site = m->pixel * w->stride[1],
                        .in_line = m->row * w->stride[0],
                        .rows = shape->out_height,
                        .sites = shape->out_width,
                        .sums = sums,
                        .scratch = scratch};
  on->form->run(&task);
  qe_free(scratch);
}

/* Whether the form takes the weights; sums are checked if so. */
static bool convolve(const cpu_conv_shape *shape, const filling *fill, const runnable *on) {
  int64_t taps = (int64_t)shape->window.kernel[0] * shape->window.kernel[1], outputs = shape->window.channels;
  int64_t sites = (int64_t)shape->out_height * shape->out_width;
  int8_t *weights = qe_alloc((size_t)(outputs * taps * shape->inputs));
  int32_t *centre = qe_alloc((size_t)outputs * sizeof *centre);
  void *prepared = qe_alloc(on->form->prepared_bytes(shape));
  int16_t *sums = qe_alloc((size_t)(sites * outputs * on->lanes) * sizeof *sums);
  assert_true(weights && centre && prepared && sums);
  assert_true(on->form->takes(shape));
  for (int64_t k = 0; k < outputs * taps * shape->inputs; k++)
    weights[k] = (int8_t)fill->weight((int32_t)(k / shape->inputs / taps), k, (int32_t)(k % shape->inputs));
  bool taken = on->form->prepare(shape, weights, prepared, centre);
  if (taken) {
    map m = make_map(shape, fill, on);
    run_form(shape, &m, prepared, sums, on);
    compare(shape, &m, weights, sums, centre, on);
    qe_free(m.codes);
    qe_free(m.data);
  }
  qe_free(weights);
  qe_free(centre);
  qe_free(prepared);
  qe_free(sums);
  return taken;
}

/* A square kernel with the padding that keeps the size at stride 1, on a map of 7 rows and `width` columns. */
static cpu_conv_shape shape_of(const runnable *on, int32_t inputs, int32_t outputs, int32_t kernel, int32_t stride,
                               int32_t width) {
  int32_t pad = kernel / 2;
  cpu_conv_shape shape = {.height = 7, .width = width, .inputs = inputs, .most = (1 << on->bits) - 1};
  shape.window = (qe_window){.kernel = {kernel, kernel},
                             .stride = {stride, stride},
                             .dilation = {1, 1},
                             .pad = {pad, pad, pad, pad},
                             .groups = 1,
                             .channels = outputs};
  shape.out_height = qe_window_extent(&shape.window, 0, shape.height);
  shape.out_width = qe_window_extent(&shape.window, 1, shape.width);
  return shape;
}

/* ---- fillings ---- */

static uint32_t random_below(int64_t index, uint64_t seed, uint32_t bound) {
  return qe_below(qe_philox_draw(seed, QE_STREAM_TEST, (uint64_t)index).word[0], bound);
}
static int32_t random_code(int64_t index, int32_t channel, int32_t most) {
  (void)channel;
  return (int32_t)random_below(index, 1, (uint32_t)most + 1);
}
static int32_t random_weight(int32_t output, int64_t index, int32_t channel) {
  (void)output;
  (void)channel;
  return (int32_t)random_below(index, 2, 4) - 2;
}
static int32_t sign_weight(int32_t output, int64_t index, int32_t channel) {
  (void)output;
  (void)channel;
  return (int32_t)random_below(index, 3, 2) * 2 - 1;
}
static int32_t wide_weight(int32_t output, int64_t index, int32_t channel) {
  (void)output;
  (void)channel;
  return (int32_t)random_below(index, 4, 84) - 42;
}
static int32_t most_code(int64_t index, int32_t channel, int32_t most) {
  (void)index;
  (void)channel;
  return most;
}
/* Output 0 sees the largest sum, output 1 the least, of weights that alternate from channel to channel. */
static int32_t even_code(int64_t index, int32_t channel, int32_t most) {
  (void)index;
  return channel % 2 ? 0 : most;
}
static int32_t alternating_weight(int32_t output, int64_t index, int32_t channel) {
  (void)index;
  return (output + channel) % 2 ? -7 : 7;
}
/* All weights of an output at one end: 1, -1, 2, -2, and so on up to the widest that a table holds. */
static int32_t end_weight(int32_t output, int64_t index, int32_t channel) {
  (void)index;
  (void)channel;
  int32_t size = (output / 2) % 42 + 1;
  return output % 2 ? -size : size;
}

/* ---- tests ---- */

static void test_shapes(void **state) {
  (void)state;
  const filling fill[] = {{random_code, random_weight}, {random_code, sign_weight}, {random_code, wide_weight}};
  const struct {
    int32_t inputs, outputs, kernel, stride, width;
  } cases[] = {{1, 1, 1, 1, 1},  {3, 5, 3, 1, 6},   {4, 16, 3, 1, 8},  {5, 7, 3, 2, 9},   {8, 4, 1, 2, 5},
               {9, 3, 5, 1, 7},  {16, 16, 3, 1, 9}, {17, 2, 2, 1, 4},  {31, 33, 3, 2, 8}, {32, 6, 3, 1, 11},
               {64, 9, 3, 1, 5}, {70, 70, 1, 1, 3}, {70, 3, 5, 2, 13}, {64, 10, 1, 1, 1}, {7, 8, 4, 2, 12}};
  for (int f = 0; f < form_count; f++)
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
      cpu_conv_shape shape =
          shape_of(&forms[f], cases[k].inputs, cases[k].outputs, cases[k].kernel, cases[k].stride, cases[k].width);
      for (size_t i = 0; i < sizeof fill / sizeof *fill; i++) {
        bool taken = convolve(&shape, &fill[i], &forms[f]);
        assert_true(taken || fill[i].weight == wide_weight);
      }
    }
}

static void test_channels(void **state) {
  (void)state;
  const filling fill = {random_code, random_weight};
  for (int f = 0; f < form_count; f++)
    for (int32_t channels = 1; channels <= 70; channels += channels < 12 ? 1 : 7) {
      cpu_conv_shape shape = shape_of(&forms[f], channels, 71 - channels, 3, 1, 4);
      assert_true(convolve(&shape, &fill, &forms[f]));
    }
}

/* Window and map that differ by axis, and dilation. */
static void test_axes(void **state) {
  (void)state;
  const filling fill = {random_code, random_weight};
  for (int f = 0; f < form_count; f++) {
    cpu_conv_shape shape = shape_of(&forms[f], 13, 6, 3, 1, 10);
    shape.window = (qe_window){
        .kernel = {3, 2}, .stride = {1, 2}, .dilation = {2, 3}, .pad = {1, 0, 2, 3}, .groups = 1, .channels = 6};
    shape.out_height = qe_window_extent(&shape.window, 0, shape.height);
    shape.out_width = qe_window_extent(&shape.window, 1, shape.width);
    assert_true(convolve(&shape, &fill, &forms[f]));
  }
}

/* Partial sums that pass 8 bits soon: codes and weights at their ends, many channels. Random codes do not see a sum
 * that is widened too late. */
static void test_partial_sums_at_their_ends(void **state) {
  (void)state;
  const filling fill[] = {
      {most_code, end_weight}, {even_code, alternating_weight}, {most_code, sign_weight}, {most_code, random_weight}};
  for (int f = 0; f < form_count; f++)
    for (int32_t channels = 8; channels <= 136; channels += 64)
      for (size_t i = 0; i < sizeof fill / sizeof *fill; i++) {
        cpu_conv_shape shape = shape_of(&forms[f], channels, channels == 8 ? 84 : 5, 3, 1, 6);
        assert_true(convolve(&shape, &fill[i], &forms[f]));
      }
}

/* Codes that use less than their bits: weights may be wider by as much. */
static void test_smaller_codes(void **state) {
  (void)state;
  const filling fill[] = {{random_code, random_weight}, {most_code, end_weight}};
  for (int f = 0; f < form_count; f++)
    for (size_t i = 0; i < sizeof fill / sizeof *fill; i++) {
      cpu_conv_shape shape = shape_of(&forms[f], 19, 84, 3, 1, 5);
      for (shape.most = 0; shape.most < 1 << forms[f].bits; shape.most++)
        assert_true(convolve(&shape, &fill[i], &forms[f]));
    }
}

static int32_t plain_weight; /* of every weight but index 0 of an output, which is last_weight */
static int32_t first_weight;

static int32_t given_weight(int32_t output, int64_t index, int32_t channel) {
  (void)channel;
  return output == 0 && index == 0 ? first_weight : plain_weight;
}

static bool takes_weights(const runnable *on, int32_t inputs, int32_t kernel, int32_t plain, int32_t first) {
  const filling fill = {most_code, given_weight};
  cpu_conv_shape shape = shape_of(on, inputs, 1, kernel, 1, kernel);
  plain_weight = plain;
  first_weight = first;
  return convolve(&shape, &fill, on);
}

/* What a table entry and a sum hold, to the last unit: 255 and 65,535. */
static void test_limits(void **state) {
  (void)state;
  for (int f = 0; f < form_count; f++) {
    const runnable *on = &forms[f];
    bool two = on->bits == 2;
    assert_true(two ? takes_weights(on, 2, 1, 42, 43) : takes_weights(on, 4, 1, -64, -63));
    assert_false(two ? takes_weights(on, 2, 1, 43, 43) : takes_weights(on, 4, 1, -64, -64));
    assert_false(takes_weights(on, 8, 1, -128, -128));
    /* 3 * 21845 = 65535 = 3 * 5 * 17 * 257: 1 tap of 21845 / 5 channels of 5; 65535 / 5 of 5 */
    int32_t channels = two ? 21845 / 5 : 65535 / 5;
    assert_true(takes_weights(on, channels, 1, 5, 5));
    assert_true(takes_weights(on, channels, 1, -5, -5));
    assert_false(takes_weights(on, channels, 1, 5, 6));
    assert_false(takes_weights(on, channels, 1, -5, -6));
  }
}

static void test_refusals(void **state) {
  (void)state;
  for (int f = 0; f < form_count; f++) {
    const runnable *on = &forms[f];
    cpu_conv_shape shape = shape_of(on, 8, 8, 3, 1, 4);
    assert_true(on->form->takes(&shape));
    shape.window.groups = 2;
    assert_false(on->form->takes(&shape));
    shape.window.groups = 1;
    shape.zero = 1;
    assert_false(on->form->takes(&shape));
    shape.zero = 0;
    shape.most++;
    assert_false(on->form->takes(&shape));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shapes),        cmocka_unit_test(test_channels),
      cmocka_unit_test(test_axes),          cmocka_unit_test(test_partial_sums_at_their_ends),
      cmocka_unit_test(test_smaller_codes), cmocka_unit_test(test_limits),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, find_forms, NULL);
}
