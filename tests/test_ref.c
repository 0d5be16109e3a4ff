/* The references of the network's layers against values worked out by hand. */
#include "tests/op_case.h"

/* ---- convolution and linear: one small case each, the rest is in test_gradients ---- */

/* 1 2 3 / 4 5 6 under the kernel 1 10 / 100 1000, one row of padding above: cross-correlation, not flipped. */
static void test_conv2d(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.window = (qe_window){{2, 2}, {1, 1}, {1, 1}, {1, 0, 0, 0}, 1, 1};
  case_given(&given, "x", qe_map(QE_F32, 1, 2, 3, 1), VALUES(1, 2, 3, 4, 5, 6));
  case_given(&given, "w", qe_map(QE_F32, 1, 2, 2, 1), VALUES(1, 10, 100, 1000));
  case_run(&given, "conv2d", NULL);
  EXPECT(&given, "y", 0, 2100, 3200, 5421, 6532);
  case_free(&given);
}

/* Groups: two inputs, two outputs, each output sees its own input only; stride 2 and dilation 2. */
static void test_conv2d_groups(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.window = (qe_window){{1, 2}, {1, 2}, {1, 2}, {0, 0, 0, 0}, 2, 2};
  case_given(&given, "x", qe_map(QE_F32, 1, 1, 5, 2), VALUES(1, -1, 2, -2, 3, -3, 4, -4, 5, -5));
  case_given(&given, "w", qe_map(QE_F32, 2, 1, 2, 1), VALUES(1, 10, 100, 1000));
  case_run(&given, "conv2d", NULL);
  EXPECT(&given, "y", 0, 31, -3100, 53, -5300);
  case_free(&given);
}

static void test_linear(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.window.channels = 2;
  case_given(&given, "x", qe_map(QE_F32, 2, 1, 1, 3), VALUES(1, 2, 3, 4, 5, 6));
  case_given(&given, "w", qe_map(QE_F32, 2, 1, 1, 3), VALUES(1, 10, 100, -1, 0, 1));
  case_run(&given, "linear", NULL);
  EXPECT(&given, "y", 0, 321, 2, 654, 2);
  case_free(&given);
}

/* ---- batch norm ---- */

static void test_bn_stats(void **state) {
  (void)state;
  op_case given = new_case();
  case_given(&given, "x", qe_map(QE_F32, 2, 1, 2, 2), VALUES(1, 1000001, 2, 1000001, 3, 1000003, 6, 1000003));
  case_run(&given, "bn_stats", NULL);
  EXPECT(&given, "mean", 0, 3, 1000002);
  EXPECT(&given, "var", 0, 3.5, 1); /* biased, and exact on a large mean */
  case_free(&given);
}

/* running = 3/4 running + 1/4 batch, the variance times n / (n - 1) = 4/3; n = 1: as it is. */
static void test_bn_running(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.momentum = 0.25f;
  case_given(&given, "x", qe_map(QE_F32, 2, 2, 1, 1), VALUES(NAN, NAN, NAN, NAN));
  case_given(&given, "mean", qe_vector(QE_F32, 1), VALUES(8));
  case_given(&given, "var", qe_vector(QE_F32, 1), VALUES(3));
  case_given(&given, "running_mean", qe_vector(QE_F32, 1), VALUES(4));
  case_given(&given, "running_var", qe_vector(QE_F32, 1), VALUES(8));
  case_run(&given, "bn_running", NULL);
  EXPECT(&given, "running_mean", 0, 5);
  EXPECT(&given, "running_var", 0, 7);
  case_find(&given, "x")->desc = qe_map(QE_F32, 1, 1, 1, 1);
  case_run(&given, "bn_running", NULL);
  EXPECT(&given, "running_var", 0, 0.75 * 7 + 0.25 * 3);
  case_free(&given);
}

static void test_bn_norm(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.epsilon = 1;
  case_given(&given, "x", qe_map(QE_F32, 2, 1, 1, 2), VALUES(1, 2, 3, 4));
  case_given(&given, "mean", qe_vector(QE_F32, 2), VALUES(1, 0));
  case_given(&given, "var", qe_vector(QE_F32, 2), VALUES(3, 15));
  case_given(&given, "gamma", qe_vector(QE_F32, 2), VALUES(2, -4));
  case_given(&given, "beta", qe_vector(QE_F32, 2), VALUES(10, 0));
  case_run(&given, "bn_norm", NULL);
  EXPECT(&given, "y", 0, 10, -2, 12, -4);
  case_free(&given);
}

/* ---- element-wise ---- */

static void test_clamp(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.low = 0;
  given.attrs.high = 6;
  qe_desc desc = qe_vector(QE_F32, 7);
  case_given(&given, "x", desc, VALUES(-1, 0, 1, 6, 7, NAN, INFINITY));
  case_given(&given, "dy", desc, VALUES(1, 2, 3, 4, 5, 6, 7));
  case_run(&given, "clamp", NULL);
  case_run(&given, "clamp_grad", NULL);
  EXPECT(&given, "y", 0, 0, 0, 1, 6, 6, not_a_number, 6);
  EXPECT(&given, "dx", 0, 0, 0, 3, 0, 0, 0, 0); /* the bounds themselves pass nothing */
  given.attrs.high = INFINITY;
  case_run(&given, "clamp", NULL);
  EXPECT(&given, "y", 0, 0, 0, 1, 6, 7, not_a_number, infinity);
  case_free(&given);
}

/* Both ops are compared bit for bit, so the sign of zero is part of their contract. */
static void test_signs_of_zero(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.high = 6;
  given.attrs.quant = (qe_quant){.low = 0, .high = 3};
  case_given(&given, "x", qe_vector(QE_F32, 4), VALUES(-0.0f, 0, -0.3f, -5));
  case_given(&given, "step", qe_vector(QE_F32, 1), VALUES(1));
  case_run(&given, "clamp", NULL);
  assert_memory_equal(case_f32(&given, "y"), VALUES(-0.0f, 0, 0, 0), 4 * sizeof(float));
  case_run(&given, "quant", NULL);
  assert_memory_equal(case_f32(&given, "y"), VALUES(-0.0f, 0, -0.0f, 0), 4 * sizeof(float));
  case_free(&given);
}

static void test_sums(void **state) {
  (void)state;
  op_case given = new_case();
  qe_desc desc = qe_map(QE_F32, 1, 1, 2, 2);
  case_given(&given, "a", desc, VALUES(1, 2, 3, 4));
  case_given(&given, "b", desc, VALUES(10, 20, 30, 40));
  case_run(&given, "add", NULL);
  EXPECT(&given, "y", 0, 11, 22, 33, 44);
  static const case_rename into_b[] = {{"x", "a"}, {"sum", "b"}, {NULL, NULL}};
  case_run(&given, "accumulate", into_b);
  EXPECT(&given, "b", 0, 11, 22, 33, 44);
  static const case_rename channels[] = {{"x", "b"}, {"sum", "channels"}, {NULL, NULL}};
  case_run(&given, "channel_sum", channels);
  EXPECT(&given, "channels", 0, 44, 66);
  static const case_rename squares[] = {{"x", "a"}, {"sum", "squares"}, {NULL, NULL}};
  case_run(&given, "square_sum", squares);
  EXPECT(&given, "squares", 0, 30);
  case_free(&given);
}

static void test_tanh_norm(void **state) {
  (void)state;
  op_case given = new_case();
  qe_desc desc = qe_vector(QE_F32, 3);
  case_given(&given, "x", desc, VALUES(1, -2, 0));
  case_given(&given, "dy", desc, VALUES(1, 1, 1));
  case_run(&given, "tanh_norm", NULL);
  case_run(&given, "tanh_norm_grad", NULL);
  EXPECT(&given, "y", 1e-6, 0.76159416 / 0.96402758, -1, 0);
  EXPECT(&given, "dx", 1e-6, 0.41997434 / 0.96402758, 0.07065082 / 0.96402758, 1 / 0.96402758);
  memset(case_f32(&given, "x"), 0, qe_bytes(&desc));
  case_run(&given, "tanh_norm", NULL);
  case_run(&given, "tanh_norm_grad", NULL);
  EXPECT(&given, "y", 0, 0, 0, 0);
  EXPECT(&given, "dx", 0, 0, 0, 0);
  case_free(&given);
}

/* ---- pooling, concatenation, subsampling ---- */

/* 3x3 map of negative values, 2x2 windows, stride 2, padding 1: zeros of the padding must not win. */
static void test_max_pool(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.window = (qe_window){{2, 2}, {2, 2}, {1, 1}, {1, 1, 0, 0}, 0, 0};
  case_given(&given, "x", qe_map(QE_F32, 1, 3, 3, 1), VALUES(-1, -3, -2, -5, -4, -4, -6, -4, -4));
  case_given(&given, "dy", qe_map(QE_F32, 1, 2, 2, 1), VALUES(1, 10, 100, 1000));
  case_run(&given, "max_pool", NULL);
  case_run(&given, "max_pool_grad", NULL);
  EXPECT(&given, "y", 0, -1, -2, -5, -4);
  EXPECT(&given, "dx", 0, 1, 0, 10, 100, 1000, 0, 0, 0, 0); /* four equal maxima: the first has it all */
  case_free(&given);
}

/* Overlapping windows add up in the same maximum. */
static void test_max_pool_overlap(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.window = (qe_window){{1, 3}, {1, 1}, {1, 1}, {0, 1, 0, 1}, 0, 0};
  case_given(&given, "x", qe_map(QE_F32, 1, 1, 4, 1), VALUES(1, 9, 2, 3));
  case_given(&given, "dy", qe_map(QE_F32, 1, 1, 4, 1), VALUES(1, 10, 100, 1000));
  case_run(&given, "max_pool", NULL);
  case_run(&given, "max_pool_grad", NULL);
  EXPECT(&given, "y", 0, 9, 9, 9, 3);
  EXPECT(&given, "dx", 0, 0, 111, 0, 1000);
  case_free(&given);
}

/* Padding counts as zeros: every sum is divided by the full area, 4. */
static void test_avg_pool(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.window = (qe_window){{2, 2}, {2, 2}, {1, 1}, {1, 1, 0, 0}, 0, 0};
  case_given(&given, "x", qe_map(QE_F32, 1, 3, 3, 1), VALUES(1, 2, 3, 4, 5, 6, 7, 8, 9));
  case_given(&given, "dy", qe_map(QE_F32, 1, 2, 2, 1), VALUES(4, 40, 400, 4000));
  case_run(&given, "avg_pool", NULL);
  case_run(&given, "avg_pool_grad", NULL);
  EXPECT(&given, "y", 0, 0.25, 1.25, 2.75, 7);
  EXPECT(&given, "dx", 0, 1, 10, 10, 100, 1000, 1000, 100, 1000, 1000);
  case_free(&given);
}

static void test_concat(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.other = 1;
  case_given(&given, "a", qe_map(QE_F32, 1, 2, 1, 2), VALUES(1, 2, 3, 4));
  case_given(&given, "b", qe_map(QE_F32, 1, 2, 1, 1), VALUES(10, 20));
  case_run(&given, "concat", NULL);
  EXPECT(&given, "y", 0, 1, 2, 10, 3, 4, 20);
  case_given(&given, "dy", qe_map(QE_F32, 1, 2, 1, 3), case_f32(&given, "y"));
  case_run(&given, "concat_grad", NULL);
  EXPECT(&given, "da", 0, 1, 2, 3, 4);
  EXPECT(&given, "db", 0, 10, 20);
  case_free(&given);
}

static void test_subsample(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.window.stride[0] = 2;
  given.attrs.window.stride[1] = 3;
  given.attrs.pad_channels[0] = 1;
  given.attrs.pad_channels[1] = 2;
  case_given(&given, "x", qe_map(QE_F32, 1, 3, 4, 1), VALUES(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
  case_run(&given, "subsample", NULL);
  EXPECT(&given, "y", 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0, 12, 0, 0);
  case_given(&given, "dy", qe_map(QE_F32, 1, 2, 2, 4), VALUES(9, 1, 9, 9, 9, 2, 9, 9, 9, 3, 9, 9, 9, 4, 9, 9));
  case_run(&given, "subsample_grad", NULL);
  EXPECT(&given, "dx", 0, 1, 0, 0, 2, 0, 0, 0, 0, 3, 0, 0, 4);
  case_free(&given);
}

/* ---- quantiser ---- */

static void quantise(qe_quant quant, float step, int32_t count, const float *x, const double *wanted) {
  op_case given = new_case();
  given.attrs.quant = quant;
  case_given(&given, "x", qe_vector(QE_F32, count), x);
  case_given(&given, "step", qe_vector(QE_F32, 1), &step);
  case_run(&given, "quant", NULL);
  case_expect(&given, "y", wanted, 0);
  case_free(&given);
}

#define QUANTISE(quant, step, x, ...)                                                                                  \
  quantise(quant, step, (int32_t)(sizeof(x) / sizeof *(x)), x, (const double[]){__VA_ARGS__})

static void test_quant_grids(void **state) {
  (void)state;
  static const float halves[] = {-2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, 3.4f, -9, 9, NAN, INFINITY, -INFINITY};
  QUANTISE(((qe_quant){.low = -4, .high = 3}), 1, halves, -2, -2, 0, 0, 2, 2, 3, -4, 3, not_a_number, 3, -4);
  QUANTISE(((qe_quant){.low = -4, .high = 3, .round_up = 1}), 1, halves, -2, -1, 0, 1, 2, 3, 3, -4, 3, not_a_number, 3,
           -4);
  QUANTISE(((qe_quant){.low = 0, .high = 15}), 1, halves, 0, 0, 0, 0, 2, 2, 3, 0, 9, not_a_number, 15, 0);
  QUANTISE(((qe_quant){.low = -4, .high = 3, .step_shift = 2}), 4, halves, -2, -2, 0, 0, 2, 2, 3, -4, 3, not_a_number,
           3, -4);
  /* step 1/2: codes of -5 ... 5, outermost clamped */
  QUANTISE(((qe_quant){.low = -4, .high = 3}), 0.5f, halves, -2, -1.5, -0.5, 0.5, 1.5, 1.5, 1.5, -2, 1.5, not_a_number,
           1.5, -2);
}

/* Odd codes only: -3 -1 1 3; an even v lies half-way, (v + 3) / 2 goes to the even neighbour. */
static void test_quant_odd(void **state) {
  (void)state;
  static const float x[] = {-7, -3, -2.1f, -2, -1.9f, 0, 0.1f, 1.9f, 2, 2.1f, 3, 50, NAN};
  QUANTISE(((qe_quant){.low = -3, .high = 3, .odd = 1}), 1, x, -3, -3, -3, -3, -1, 1, 1, 1, 1, 3, 3, 3, not_a_number);
  static const float signs[] = {-2, -0.1f, 0, 0.1f, 5};
  QUANTISE(((qe_quant){.low = -1, .high = 1, .odd = 1}), 0.5f, signs, -0.5, -0.5, -0.5, 0.5, 0.5);
}

/* One step for each index of axis N. */
static void test_quant_per_channel(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.quant = (qe_quant){.low = -2, .high = 1, .per_channel = 1};
  case_given(&given, "x", qe_map(QE_F32, 2, 1, 1, 3), VALUES(-9, 0.6f, 9, -9, 0.6f, 9));
  case_given(&given, "step", qe_map(QE_F32, 2, 1, 1, 1), VALUES(1, 0.25f));
  case_run(&given, "quant", NULL);
  EXPECT(&given, "y", 0, -2, 1, 1, -0.5, 0.25, 0.25);
  case_free(&given);
}

/* The quotient x / eff is rounded to single precision before it is rounded to a code: shown on the first pair near 2.5
 * for which a quotient in double gives another code. */
static void test_quant_is_single_precision(void **state) {
  (void)state;
  for (uint32_t i = 1; i < 100000; i++) {
    float step = 1 + (float)i * 0x1p-23f, x = (float)(2.5 * (double)step), quotient = x / step;
    float code = rintf(quotient);
    double code_in_double = rint((double)x / (double)step);
    if ((double)code > code_in_double || (double)code < code_in_double) {
      quantise((qe_quant){.low = -4, .high = 3}, step, 1, &x, (const double[]){(double)(step * code)});
      return;
    }
  }
  fail_msg("no pair was found on which the precision shows");
}

/* Inside -2 ... 2 (codes), on the bounds and outside; step 2 with shift 1, so v = x. */
static void test_quant_grad(void **state) {
  (void)state;
  op_case given = new_case();
  qe_desc desc = qe_vector(QE_F32, 6);
  given.attrs.quant = (qe_quant){.low = -2, .high = 2, .step_shift = 1, .grad_scale = 4};
  case_given(&given, "x", desc, VALUES(-3, -2, -0.75f, 0.25f, 2, 5));
  case_given(&given, "dy", desc, VALUES(1, 10, 100, 1000, 10000, 100000));
  case_given(&given, "step", qe_vector(QE_F32, 1), VALUES(2));
  case_run(&given, "quant_grad", NULL);
  EXPECT(&given, "dx", 0, 0, 0, 100, 1000, 0, 0);
  EXPECT(&given, "dstep", 0, 0);
  given.attrs.quant.step_grad = QE_STEP_PACT;
  case_run(&given, "quant_grad", NULL);
  EXPECT(&given, "dstep", 0, 4 * 0.5 * (-2 * 11 + 2 * 110000));
  given.attrs.quant.step_grad = QE_STEP_LSQ;
  case_run(&given, "quant_grad", NULL);
  EXPECT(&given, "dx", 0, 0, 0, 100, 1000, 0, 0);
  EXPECT(&given, "dstep", 0, 4 * 0.5 * (-2 * 11 - 0.25 * 100 - 0.25 * 1000 + 2 * 110000));
  case_free(&given);
}

/* ---- in place ---- */

/* Every float op marked INPLACE gives the same bits when its output is operand 0's memory. */
static void test_in_place(void **state) {
  (void)state;
  int checked = 0;
  for (int op = 0; op < QE_OPS; op++) {
    const qe_op_info *info = qe_op_get_info((qe_op)op);
    if (!(info->flags & QE_FLAG_INPLACE) || strncmp(info->name, "int_", 4) == 0) continue;
    op_case given = new_case();
    given.attrs.low = -0.25f;
    given.attrs.high = 0.25f;
    given.attrs.epsilon = 1e-5f;
    given.attrs.quant = (qe_quant){.low = -2, .high = 1, .step_grad = QE_STEP_LSQ, .grad_scale = 1};
    const char *first = info->operand[0].name;
    case_fill(&given, case_add(&given, info->operand[info->principal].name, qe_map(QE_F32, 2, 2, 3, 4)), QE_KIND_MAP,
              0);
    qe_call call = case_bind(&given, info->name, NULL);
    assert_int_equal(qe_ref_get(call.op)(&call), QE_OK);
    int out = 0;
    while (info->operand[out].role != QE_WRITE || info->operand[out].kind != QE_KIND_MAP) out++;
    size_t bytes = qe_bytes(&call.operand[out].desc);
    op_case copy = new_case();
    case_given(&copy, "wanted", call.operand[out].desc, call.operand[out].data);
    call.operand[out].data = call.operand[0].data;
    assert_int_equal(qe_ref_get(call.op)(&call), QE_OK);
    if (memcmp(case_f32(&given, first), case_f32(&copy, "wanted"), bytes) != 0) fail_msg("%s in place", info->name);
    case_free(&given);
    case_free(&copy);
    checked++;
  }
  assert_true(checked > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_conv2d),
      cmocka_unit_test(test_conv2d_groups),
      cmocka_unit_test(test_linear),
      cmocka_unit_test(test_bn_stats),
      cmocka_unit_test(test_bn_running),
      cmocka_unit_test(test_bn_norm),
      cmocka_unit_test(test_clamp),
      cmocka_unit_test(test_signs_of_zero),
      cmocka_unit_test(test_sums),
      cmocka_unit_test(test_tanh_norm),
      cmocka_unit_test(test_max_pool),
      cmocka_unit_test(test_max_pool_overlap),
      cmocka_unit_test(test_avg_pool),
      cmocka_unit_test(test_concat),
      cmocka_unit_test(test_subsample),
      cmocka_unit_test(test_quant_grids),
      cmocka_unit_test(test_quant_odd),
      cmocka_unit_test(test_quant_per_channel),
      cmocka_unit_test(test_quant_is_single_precision),
      cmocka_unit_test(test_quant_grad),
      cmocka_unit_test(test_in_place),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
