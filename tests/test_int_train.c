/* The integer ops of search and training: references against values made by hand, and identities that tie the gradients
 * to the convolution. */
#include "tests/op_case.h"

enum { ROUNDS = 40 };

/* Any codes: bytes of an integer tensor, or small s32. */
static void fill(op_case *given, const case_tensor *tensor) {
  for (int64_t k = 0; k < qe_count(&tensor->desc); k++) {
    if (tensor->desc.dtype == QE_S32)
      ((int32_t *)tensor->data)[k] = draw_range(&given->from, -100000, 100000);
    else
      ((uint8_t *)tensor->data)[k] = (uint8_t)draw_range(&given->from, 0, 255);
  }
}

static int64_t value_of(const case_tensor *tensor, int64_t k) {
  switch (tensor->desc.dtype) {
  case QE_U8:
    return ((const uint8_t *)tensor->data)[k];
  case QE_S8:
    return ((const int8_t *)tensor->data)[k];
  case QE_S32:
    return ((const int32_t *)tensor->data)[k];
  default:
    return ((const int64_t *)tensor->data)[k];
  }
}

static int64_t product_of(op_case *given, const char *a, const char *b) {
  const case_tensor *left = case_find(given, a), *right = case_find(given, b);
  int64_t sum = 0;
  for (int64_t k = 0; k < qe_count(&left->desc); k++) sum += value_of(left, k) * value_of(right, k);
  return sum;
}

/* Codes x, a window that fits them and errors dy for it. */
static void draw_case(op_case *given, uint64_t seed, qe_dtype errors) {
  qe_window *window = &given->attrs.window;
  given->from.seed = seed;
  given->attrs.requant.from = errors;
  qe_desc x = qe_map(seed % 2 ? QE_U8 : QE_S8, draw_range(&given->from, 1, 3), draw_range(&given->from, 1, 6),
                     draw_range(&given->from, 1, 6), draw_range(&given->from, 1, 5));
  do {
    for (int axis = 0; axis < 2; axis++) {
      window->kernel[axis] = draw_range(&given->from, 1, 4);
      window->stride[axis] = draw_range(&given->from, 1, 3);
      window->dilation[axis] = draw_range(&given->from, 1, 2);
    }
    for (int side = 0; side < 4; side++) window->pad[side] = draw_range(&given->from, 0, 3);
  } while (!qe_window_extent(window, 0, x.dim[QE_H]) || !qe_window_extent(window, 1, x.dim[QE_W]));
  window->groups = 1;
  window->channels = draw_range(&given->from, 1, 4);
  fill(given, case_add(given, "x", x));
  fill(given, case_add(given, "w",
                       (qe_desc){QE_S8, {1, window->channels, window->kernel[0], window->kernel[1], x.dim[QE_C]}}));
  qe_desc dy = qe_map(errors, x.dim[QE_N], qe_window_extent(window, 0, x.dim[QE_H]),
                      qe_window_extent(window, 1, x.dim[QE_W]), window->channels);
  fill(given, case_add(given, "dy", dy));
}

/* sum dy * conv(x, w) = sum dw * w = sum dx * x: both gradients are adjoint to the convolution. */
static void test_gradients_are_adjoint(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < ROUNDS; seed++) {
    op_case given = new_case();
    draw_case(&given, seed, QE_S8);
    qe_desc dx = case_find(&given, "x")->desc;
    dx.dtype = QE_S32;
    case_add(&given, "dx", dx);
    case_run(&given, "int_conv2d", NULL);
    case_run(&given, "int_conv2d_grad_w", NULL);
    case_run(&given, "int_conv2d_grad_x", NULL);
    int64_t wanted = product_of(&given, "dy", "acc");
    assert_int_equal(product_of(&given, "dw", "w"), wanted);
    assert_int_equal(product_of(&given, "dx", "x"), wanted);
    case_free(&given);
  }
}

/* sum over pixels of (conv of one output channel)^2 = w' gram w; the gradient of s32 errors conv(x, w) is gram w. */
static void test_gram_is_the_square_of_the_convolution(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < ROUNDS; seed++) {
    op_case given = new_case();
    draw_case(&given, seed, QE_S32);
    case_run(&given, "int_conv2d", NULL);
    case_run(&given, "int_gram", NULL);
    const case_rename sums[] = {{"dy", "acc"}, {NULL, NULL}};
    case_run(&given, "int_conv2d_grad_w", sums);
    const int64_t *gram = case_find(&given, "gram")->data, *dw = case_find(&given, "dw")->data;
    int64_t size = case_find(&given, "gram")->desc.dim[QE_C];
    for (int64_t o = 0; o < given.attrs.window.channels; o++)
      for (int64_t a = 0; a < size; a++) {
        int64_t sum = 0;
        for (int64_t b = 0; b < size; b++) sum += gram[a * size + b] * value_of(case_find(&given, "w"), o * size + b);
        assert_int_equal(dw[o * size + a], sum);
      }
    case_free(&given);
  }
}

static void test_channel_sums_and_gate_by_hand(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.requant = (qe_requant){.from = QE_U8, .low = 0, .high = 15};
  case_given(&given, "a", qe_map(QE_S32, 1, 1, 3, 2), (const int32_t[]){5, -7, INT32_MAX, 2, -3, INT32_MIN});
  case_given(&given, "b", qe_map(QE_U8, 1, 1, 3, 2), (const uint8_t[]){0, 15, 1, 14, 255, 7});
  case_run(&given, "int_channel_sums", NULL);
  const int64_t sums[] = {INT64_C(2) + INT32_MAX, INT64_C(-5) + INT32_MIN};
  const int64_t products[] = {INT64_C(-765) + INT32_MAX, INT64_C(-77) + INT64_C(7) * INT32_MIN};
  assert_memory_equal(case_find(&given, "sum")->data, sums, sizeof sums);
  assert_memory_equal(case_find(&given, "product")->data, products, sizeof products);
  const case_rename names[] = {{"e", "a"}, {"y", "b"}, {NULL, NULL}};
  case_run(&given, "int_gate", names);
  const int32_t gated[] = {0, 0, INT32_MAX, 2, 0, INT32_MIN};
  assert_memory_equal(case_find(&given, "gated")->data, gated, sizeof gated);
  case_run(&given, "int_gate", (const case_rename[]){{"e", "a"}, {"y", "b"}, {"gated", "a"}, {NULL, NULL}});
  assert_memory_equal(case_find(&given, "a")->data, gated, sizeof gated);
  case_free(&given);
}

/* e = 1, 2, 3, 6 on s = 0, 2, 4, 6: means 3 and 3, covariance 4, variance 5, slope 0.8; then sums without variance. */
static void test_norm_grad_by_hand(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.images = 4;
  given.attrs.requant.shift = 20;
  qe_desc channels = qe_vector(QE_S64, 2);
  case_given(&given, "e", channels, (const int64_t[]){12, -8});
  case_given(&given, "es", channels, (const int64_t[]){52, -40});
  case_given(&given, "s", channels, (const int64_t[]){12, 20});
  case_given(&given, "ss", channels, (const int64_t[]){56, 100});
  case_given(&given, "m", qe_vector(QE_S32, 2), (const int32_t[]){1 << 20, 3 << 20});
  case_run(&given, "int_norm_grad", NULL);
  const int32_t n[] = {-838860, 0};
  const int64_t offset[] = {(1 << 19) - 629148, (1 << 19) + (6 << 20)};
  assert_memory_equal(case_find(&given, "n")->data, n, sizeof n);
  assert_memory_equal(case_find(&given, "offset")->data, offset, sizeof offset);
  case_free(&given);
}

/* What the constants make of errors has no mean and no slope on the sums. */
static void test_norm_grad_leaves_no_slope(void **state) {
  (void)state;
  enum { CHANNELS = 3, PLACES = 64 };
  for (uint64_t seed = 0; seed < ROUNDS; seed++) {
    op_case given = new_case();
    given.from.seed = seed;
    given.attrs.images = PLACES;
    given.attrs.requant = (qe_requant){.shift = 20, .from = QE_S32};
    qe_desc map = qe_map(QE_S8, 1, 8, 8, CHANNELS), sums = map;
    sums.dtype = QE_S32;
    fill(&given, case_add(&given, "a", map));
    fill(&given, case_add(&given, "b", sums));
    case_given(&given, "m", qe_vector(QE_S32, CHANNELS), (const int32_t[]){1 << 20, 1 << 22, 1 << 18});
    case_run(&given, "int_channel_sums", (const case_rename[]){{"sum", "e"}, {"product", "es"}, {NULL, NULL}});
    case_run(&given, "int_channel_sums",
             (const case_rename[]){{"a", "b"}, {"sum", "s"}, {"product", "ss"}, {NULL, NULL}});
    case_run(&given, "int_norm_grad", NULL);
    for (int64_t c = 0; c < CHANNELS; c++) {
      double m = ((const int32_t *)case_find(&given, "m")->data)[c];
      double n = ((const int32_t *)case_find(&given, "n")->data)[c], sum = 0, product = 0, square = 0, size = 0;
      double offset = (double)((const int64_t *)case_find(&given, "offset")->data)[c] - (1 << 19);
      for (int64_t i = c; i < PLACES * CHANNELS; i += CHANNELS) {
        double s = (double)value_of(case_find(&given, "b"), i);
        double error = (double)value_of(case_find(&given, "a"), i) * m + s * n + offset;
        sum += error;
        product += error * s;
        square += error * error;
        size += s * s;
      }
      assert_true(fabs(sum) < 0.01 * sqrt(square * PLACES));
      assert_true(fabs(product) < 0.01 * sqrt(square * size));
    }
    case_free(&given);
  }
}

/* Logits a bit apart: p = 4/7, 2/7, 1/7; and a certain, wrong answer. */
static void test_softmax_error_by_hand(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.requant.shift = 7;
  case_given(&given, "logits", qe_map(QE_S32, 2, 1, 1, 3), (const int32_t[]){512, 256, 0, 1 << 30, -5, -(1 << 30)});
  case_given(&given, "label", qe_map(QE_S32, 2, 1, 1, 1), (const int32_t[]){0, 1});
  case_run(&given, "int_softmax_error", NULL);
  const int8_t wanted[] = {73 - 128, 37, 18, 127, -128, 0};
  assert_memory_equal(case_find(&given, "error")->data, wanted, sizeof wanted);
  case_free(&given);
}

/* The same crops and flips as those of `augment`. */
static void test_augment_is_the_float_one(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.images = 4, given.attrs.pad = 2, given.attrs.flip = 1;
  fill(&given, case_add(&given, "images", qe_map(QE_U8, 4, 5, 6, 3)));
  case_given(&given, "index", qe_map(QE_S32, 8, 1, 1, 1), (const int32_t[]){3, 1, 0, 2, 3, 3, 1, 0});
  case_given(&given, "counter", qe_vector(QE_S32, 4), (const int32_t[]){7, 8, 9, 1});
  case_add(&given, "x", qe_map(QE_F32, 8, 5, 6, 3));
  case_add(&given, "pixels", qe_map(QE_U8, 8, 5, 6, 3));
  case_run(&given, "augment", NULL);
  case_run(&given, "int_augment", (const case_rename[]){{"x", "pixels"}, {NULL, NULL}});
  const uint8_t *pixels = case_find(&given, "pixels")->data;
  for (int k = 0; k < 8 * 5 * 6 * 3; k++) assert_int_equal((int32_t)(case_f32(&given, "x")[k] * 64) + 128, pixels[k]);
  case_free(&given);
}

/* Halves round up; a share of 256 leaves the image as it is; `mix` is the same before rounding. */
static void test_mix_by_hand(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.images = 2;
  case_given(&given, "images", qe_map(QE_U8, 2, 1, 1, 3), (const uint8_t[]){0, 255, 10, 255, 0, 13});
  case_given(&given, "index", qe_map(QE_S32, 4, 1, 1, 1), (const int32_t[]){0, 0, 1, 0});
  case_given(&given, "other", qe_map(QE_S32, 4, 1, 1, 1), (const int32_t[]){1, 1, 1, 1});
  case_given(&given, "share", qe_map(QE_S32, 4, 1, 1, 1), (const int32_t[]){256, 128, 77, 1});
  case_add(&given, "x", qe_map(QE_F32, 4, 1, 1, 3));
  case_add(&given, "pixels", qe_map(QE_U8, 4, 1, 1, 3));
  case_run(&given, "mix", NULL);
  case_run(&given, "int_mix", (const case_rename[]){{"x", "pixels"}, {NULL, NULL}});
  const uint8_t wanted[] = {0, 255, 10, 128, 128, 12, 255, 0, 13, 254, 1, 13};
  assert_memory_equal(case_find(&given, "pixels")->data, wanted, sizeof wanted);
  EXPECT(&given, "x", 0, -2, 1.984375, -1.84375, -0.0078125, -0.0078125, -1.8203125, 1.984375, -2, -1.796875,
         (255 * 255 - 32768) / 16384.0, (255 - 32768) / 16384.0, (10 + 255 * 13 - 32768) / 16384.0);
  case_s32(&given, "share")[2] = 257;
  qe_call call = case_bind(&given, "mix", NULL);
  assert_int_equal(qe_ref_mix(&call), QE_SHAPE);
  assert_string_equal(qe_message(), "mix: share[2] is 257, must be in 0...256");
  case_free(&given);
}

static void expect_refused(const char *op_name, qe_attrs attrs, qe_desc principal, const char *why) {
  qe_desc desc[QE_MAX_OPERANDS];
  assert_int_equal(qe_op_shapes(qe_op_find(op_name), &attrs, &principal, desc), QE_SHAPE);
  if (!strstr(qe_message(), why)) fail_msg("'%s' does not say '%s'", qe_message(), why);
}

static void test_what_does_not_fit_is_refused(void **state) {
  (void)state;
  qe_attrs attrs;
  memset(&attrs, 0, sizeof attrs);
  attrs.window = (qe_window){{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, 4};
  attrs.requant.from = QE_S8;
  qe_desc codes = qe_map(QE_U8, 2, 4, 4, 4), sums = qe_map(QE_S32, 2, 4, 4, 4);
  expect_refused("int_gram", attrs, sums, "needs codes");
  expect_refused("int_conv2d_grad_x", attrs, codes, "gives s32 sums");
  attrs.window.groups = 2;
  expect_refused("int_conv2d_grad_w", attrs, codes, "one group");
  attrs.window.groups = 1;
  attrs.requant.from = QE_U8;
  expect_refused("int_conv2d_grad_w", attrs, codes, "s8 or s32");
  codes.dim[QE_P] = 2;
  expect_refused("int_gate", attrs, codes, "population of 1");
  attrs.requant.shift = 8;
  expect_refused("int_softmax_error", attrs, qe_map(QE_S32, 2, 1, 1, 4), "0...7");
  expect_refused("int_augment", attrs, qe_map(QE_U8, 2, 4, 4, 3), "at least one image");
  attrs.window = (qe_window){{1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1, 140000};
  expect_refused("int_conv2d_grad_x", attrs, sums, "can pass 2^31");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_gradients_are_adjoint),
      cmocka_unit_test(test_gram_is_the_square_of_the_convolution),
      cmocka_unit_test(test_channel_sums_and_gate_by_hand),
      cmocka_unit_test(test_norm_grad_by_hand),
      cmocka_unit_test(test_norm_grad_leaves_no_slope),
      cmocka_unit_test(test_softmax_error_by_hand),
      cmocka_unit_test(test_augment_is_the_float_one),
      cmocka_unit_test(test_mix_by_hand),
      cmocka_unit_test(test_what_does_not_fit_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
