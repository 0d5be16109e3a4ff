/* Every gradient op against central finite differences of its forward op, through a random projection of the output. */
#include "tests/op_case.h"

enum { MAX_PARTS = 3, ROUNDS = 8 };
static const double tolerance = 1e-3; /* of the normalised error, see gradient_error */
static const float half_step = 1.0f / 128;

/* A forward computation and what claims to be its gradient. For an output y the tensor dy holds the projection; for
 * every tensor t that has a tensor dt after the gradient ops ran, dt is compared with finite differences over t. */
typedef struct gradient_row {
  const char *name;
  const char *forward[MAX_PARTS], *gradient[MAX_PARTS]; /* ops, run in this order */
  const char *output;
  void (*draw)(op_case *given, int round);
  void (*surrogate)(op_case *given); /* not NULL: differentiate this instead of the forward ops */
  case_rename rename[MAX_PARTS];     /* of the gradient ops' operands */
} gradient_row;

/* ---- drawn cases ---- */

static void draw_map(op_case *given, const char *name) {
  qe_desc desc = qe_map(QE_F32, draw_range(&given->from, 1, 3), draw_range(&given->from, 2, 4),
                        draw_range(&given->from, 2, 4), draw_range(&given->from, 1, 4));
  case_fill(given, case_add(given, name, desc), QE_KIND_MAP, 0);
}

static void draw_window(op_case *given, int32_t largest_kernel, int32_t largest_dilation, const qe_desc *map) {
  qe_window *window = &given->attrs.window;
  do {
    for (int axis = 0; axis < 2; axis++) {
      window->kernel[axis] = draw_range(&given->from, 1, largest_kernel);
      window->stride[axis] = draw_range(&given->from, 1, 3);
      window->dilation[axis] = draw_range(&given->from, 1, largest_dilation);
    }
    for (int side = 0; side < 4; side++) window->pad[side] = draw_range(&given->from, 0, window->kernel[side % 2] - 1);
  } while (!qe_window_extent(window, 0, map->dim[QE_H]) || !qe_window_extent(window, 1, map->dim[QE_W]));
}

/* Cases worth naming, then random ones. */
static void draw_conv(op_case *given, int round) {
  static const struct {
    int32_t h, w, inputs;
    qe_window window;
  } named[] = {
      {5, 5, 3, {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, 4}}, /* plain */
      {6, 5, 2, {{5, 3}, {2, 1}, {1, 2}, {2, 1, 0, 3}, 1, 3}}, /* stride, dilation, asymmetric padding */
      {4, 4, 4, {{3, 3}, {2, 2}, {1, 1}, {0, 0, 1, 1}, 2, 6}}, /* groups */
      {4, 5, 3, {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 3, 3}}, /* depthwise */
      {4, 4, 2, {{2, 2}, {1, 2}, {2, 1}, {1, 0, 1, 0}, 2, 4}}, /* depthwise, multiplier 2 */
      {5, 5, 4, {{1, 1}, {2, 2}, {1, 1}, {0, 0, 0, 0}, 1, 2}}, /* pointwise, stride */
      {2, 3, 2, {{3, 3}, {2, 1}, {1, 1}, {3, 4, 3, 3}, 1, 2}}, /* windows that see only padding */
  };
  enum { NAMED = sizeof named / sizeof *named };
  if (round < NAMED) {
    given->attrs.window = named[round].window;
    qe_desc desc = qe_map(QE_F32, 2, named[round].h, named[round].w, named[round].inputs);
    case_fill(given, case_add(given, "x", desc), QE_KIND_MAP, 0);
    return;
  }
  int32_t groups = draw_range(&given->from, 1, 2);
  qe_desc desc = qe_map(QE_F32, 2, draw_range(&given->from, 1, 5), draw_range(&given->from, 1, 5),
                        groups * draw_range(&given->from, 1, 2));
  case_fill(given, case_add(given, "x", desc), QE_KIND_MAP, 0);
  draw_window(given, 3, 2, &desc);
  given->attrs.window.groups = groups;
  given->attrs.window.channels = groups * draw_range(&given->from, 1, 2);
}

static void draw_linear(op_case *given, int round) {
  qe_desc desc = qe_map(QE_F32, 1 + round % 4, 1, 1, draw_range(&given->from, 1, 9));
  given->attrs.window.channels = draw_range(&given->from, 1, 7);
  case_fill(given, case_add(given, "x", desc), QE_KIND_MAP, 0);
}

static void draw_plain(op_case *given, int round) {
  (void)round;
  draw_map(given, "x");
}

static void draw_norm(op_case *given, int round) {
  given->attrs.epsilon = round % 2 ? 1e-5f : 0.25f;
  draw_map(given, "x");
  for (int64_t k = 0; k < qe_count(&case_find(given, "x")->desc); k++) case_f32(given, "x")[k] *= 3;
}

/* Values at least 4 half steps from both bounds, so that no difference spans a kink. */
static void draw_clamp(op_case *given, int round) {
  given->attrs.low = round % 2 ? -0.5f : 0;
  given->attrs.high = round % 2 ? 0.375f : INFINITY;
  draw_map(given, "x");
  float *x = case_f32(given, "x");
  for (int64_t k = 0; k < qe_count(&case_find(given, "x")->desc); k++)
    while (fabsf(x[k] - given->attrs.low) < 4 * half_step || fabsf(x[k] - given->attrs.high) < 4 * half_step)
      x[k] = draw_real(&given->from, -1, 1);
}

static void draw_concat(op_case *given, int round) {
  given->attrs.other = 1 + round % 4;
  draw_map(given, "a");
}

/* Values all different by at least 4 half steps, in random order, so that maxima are clear. */
static void draw_pool(op_case *given, int round) {
  (void)round;
  qe_desc desc =
      qe_map(QE_F32, 2, draw_range(&given->from, 2, 5), draw_range(&given->from, 2, 5), draw_range(&given->from, 1, 3));
  float *x = (float *)case_add(given, "x", desc)->data;
  for (int32_t k = 0; k < (int32_t)qe_count(&desc); k++) {
    int32_t swap = draw_range(&given->from, 0, k);
    x[k] = x[swap];
    x[swap] = (float)(k - 40) * 4 * half_step;
  }
  draw_window(given, 3, 1, &desc);
}

static void draw_subsample(op_case *given, int round) {
  for (int i = 0; i < 2; i++) {
    given->attrs.window.stride[i] = draw_range(&given->from, 1, 3);
    given->attrs.pad_channels[i] = round % 2 ? draw_range(&given->from, 0, 3) : 2 * i;
  }
  draw_map(given, "x");
}

static void draw_tanh(op_case *given, int round) {
  (void)round;
  draw_map(given, "x");
  case_given(given, "x at base", case_find(given, "x")->desc, case_f32(given, "x"));
}

static void draw_loss(op_case *given, int round) {
  static const float smoothings[] = {0, 0.1f, 0.5f, 1};
  given->attrs.smoothing = smoothings[round % 4];
  given->attrs.scale = round % 2 ? 1.0f : 0.25f;
  qe_desc desc = qe_map(QE_F32, draw_range(&given->from, 1, 5), 1, 1, draw_range(&given->from, 2, 10));
  case_fill(given, case_add(given, "logits", desc), QE_KIND_MAP, 0);
  for (int64_t k = 0; k < qe_count(&desc); k++) case_f32(given, "logits")[k] *= 3;
}

static void draw_mixed_loss(op_case *given, int round) {
  draw_loss(given, round);
  qe_desc images = qe_map(QE_S32, case_find(given, "logits")->desc.dim[QE_N], 1, 1, 1);
  int32_t *share = case_add(given, "share", images)->data;
  for (int32_t n = 0; n < images.dim[QE_N]; n++) share[n] = draw_range(&given->from, 0, QE_SHARE_ALL);
}

static void draw_divergence(op_case *given, int round) {
  draw_loss(given, round);
  given->attrs.temperature = round % 2 ? 0 : 2.5f;
}

static void draw_pair(op_case *given, int round) {
  given->attrs.scale = round % 2 ? 1.0f : 0.25f;
  draw_map(given, "a");
}

/* Channels of the second map as they come. */
static void draw_attention(op_case *given, int round) {
  draw_pair(given, round);
  given->attrs.other = 1 + round % 4;
  for (int64_t k = 0; k < qe_count(&case_find(given, "a")->desc); k++) case_f32(given, "a")[k] += 1.5f;
}

/* ---- the quantiser: straight-through, so the surrogate that its paper differentiates ---- */

static void draw_quantiser(op_case *given, int round) {
  static const qe_quant grids[] = {{.low = -8, .high = 7},           {.low = 0, .high = 15},
                                   {.low = -3, .high = 3, .odd = 1}, {.low = -1, .high = 1, .odd = 1},
                                   {.low = -1, .high = 1},           {.low = 0, .high = 3, .round_up = 1}};
  given->attrs.quant = grids[round % 6];
  given->attrs.quant.per_channel = round % 2;
  given->attrs.quant.step_shift = round % 3;
  given->attrs.quant.grad_scale = draw_real(&given->from, 0.1f, 2);
  draw_map(given, "x");
  case_add(given, "step", qe_map(QE_F32, round % 2 ? case_find(given, "x")->desc.dim[QE_N] : 1, 1, 1, 1));
  for (int64_t s = 0; s < qe_count(&case_find(given, "step")->desc); s++)
    case_f32(given, "step")[s] = draw_real(&given->from, 0.5f, 2);
}

/* Effective step of element k of x. */
static double effective_step(op_case *given, const char *step, int64_t k) {
  int64_t steps = qe_count(&case_find(given, step)->desc), each = qe_count(&case_find(given, "x")->desc) / steps;
  return ldexp((double)case_f32(given, step)[k / each], -given->attrs.quant.step_shift);
}

/* Every x far outside the range, where the quantiser itself is differentiable. */
static void draw_quant_outside(op_case *given, int round) {
  draw_quantiser(given, round);
  given->attrs.quant.step_grad = round < ROUNDS / 2 ? QE_STEP_LSQ : QE_STEP_PACT;
  float *x = case_f32(given, "x");
  for (int64_t k = 0; k < qe_count(&case_find(given, "x")->desc); k++) {
    bool above = draw_word(&given->from) & 1;
    double v = above ? given->attrs.quant.high * 1.5 + 1 : given->attrs.quant.low * 1.5 - 1;
    x[k] = (float)(v * effective_step(given, "step", k));
  }
}

/* The nearest code of the grid, by trying all of them. */
static double nearest_code(const qe_quant *quant, double v) {
  double best = quant->low;
  for (int32_t code = quant->low; code <= quant->high; code += quant->odd ? 2 : 1)
    if (fabs(v - code) < fabs(v - best)) best = code;
  return best;
}

/* Values over the range and a quarter beyond it, and the base point that the surrogate holds constant. */
static void draw_quant_surrogate(op_case *given, int round, qe_step_grad rule) {
  draw_quantiser(given, round);
  const qe_quant *quant = &given->attrs.quant;
  given->attrs.quant.step_grad = rule;
  qe_desc desc = case_find(given, "x")->desc;
  float *x = case_f32(given, "x"), *base = (float *)case_add(given, "x at base", desc)->data;
  for (int64_t k = 0; k < qe_count(&desc); k++) {
    double v = (double)draw_real(&given->from, (float)quant->low * 1.25f - 0.5f, (float)quant->high * 1.25f + 0.5f);
    base[k] = x[k] = (float)(v * effective_step(given, "step", k));
  }
  case_given(given, "step at base", case_find(given, "step")->desc, case_f32(given, "step"));
}

static void draw_quant_lsq(op_case *given, int round) {
  draw_quant_surrogate(given, round, QE_STEP_LSQ);
}
static void draw_quant_pact(op_case *given, int round) {
  draw_quant_surrogate(given, round, QE_STEP_PACT);
}
static void draw_quant_fixed(op_case *given, int round) {
  draw_quant_surrogate(given, round, QE_STEP_FIXED);
}

/* What straight-through differentiates: inside the range x + step * (rounding error in codes, held constant), outside
 * step * bound. LSQ lets both steps vary, PACT the second, a fixed step neither. */
static void surrogate_quant(op_case *given) {
  const qe_quant *quant = &given->attrs.quant;
  if (!case_find(given, "y")) case_add(given, "y", case_find(given, "x")->desc);
  const float *x = case_f32(given, "x"), *base = case_f32(given, "x at base");
  for (int64_t k = 0; k < qe_count(&case_find(given, "x")->desc); k++) {
    double step = effective_step(given, "step", k), step_base = effective_step(given, "step at base", k);
    double v = (double)base[k] / step_base, y;
    double inner = quant->step_grad == QE_STEP_LSQ ? step : step_base;
    double outer = quant->step_grad == QE_STEP_FIXED ? step_base : step;
    if (v > quant->low && v < quant->high)
      y = (double)x[k] + inner * (nearest_code(quant, v) - v);
    else
      y = outer * (v >= quant->high ? quant->high : quant->low);
    case_f32(given, "y")[k] = (float)y;
  }
}

static void draw_gated(op_case *given, int round, int32_t gate) {
  draw_quant_outside(given, round);
  *(int32_t *)case_add(given, "gate", qe_vector(QE_S32, 1))->data = gate;
}
static void draw_gate_on(op_case *given, int round) {
  draw_gated(given, round, 1);
}
static void draw_gate_off(op_case *given, int round) {
  draw_gated(given, round, 0);
}

/* tanh_norm with the maximum of the base point: undo the maximum that the op took. The element of the largest |x| has
 * |y| = 1 whatever x is, so y is rescaled by tanh of the largest |x| now over that at the base point. */
static void surrogate_tanh(op_case *given) {
  case_run(given, "tanh_norm", NULL);
  double now = 0, base = 0;
  int64_t count = qe_count(&case_find(given, "x")->desc);
  for (int64_t k = 0; k < count; k++) {
    now = fmax(now, fabs((double)case_f32(given, "x")[k]));
    base = fmax(base, fabs((double)case_f32(given, "x at base")[k]));
  }
  for (int64_t k = 0; k < count; k++)
    case_f32(given, "y")[k] = (float)((double)case_f32(given, "y")[k] * tanh(now) / tanh(base));
}

static const gradient_row rows[] = {
    {"conv2d", {"conv2d"}, {"conv2d_grad_x", "conv2d_grad_w"}, "y", draw_conv, NULL, {{0}}},
    {"linear", {"linear"}, {"linear_grad_x", "linear_grad_w"}, "y", draw_linear, NULL, {{0}}},
    {"bias", {"bias_add"}, {"channel_sum"}, "y", draw_plain, NULL, {{"x", "dy"}, {"sum", "dbias"}}},
    {"batch norm", {"bn_stats", "bn_norm"}, {"bn_grad_sums", "bn_grad_x"}, "y", draw_norm, NULL, {{0}}},
    {"clamp", {"clamp"}, {"clamp_grad"}, "y", draw_clamp, NULL, {{0}}},
    {"concat", {"concat"}, {"concat_grad"}, "y", draw_concat, NULL, {{0}}},
    {"max pool", {"max_pool"}, {"max_pool_grad"}, "y", draw_pool, NULL, {{0}}},
    {"average pool", {"avg_pool"}, {"avg_pool_grad"}, "y", draw_pool, NULL, {{0}}},
    {"subsample", {"subsample"}, {"subsample_grad"}, "y", draw_subsample, NULL, {{0}}},
    {"quant, outside", {"quant"}, {"quant_grad"}, "y", draw_quant_outside, NULL, {{0}}},
    {"quant, LSQ", {"quant"}, {"quant_grad"}, "y", draw_quant_lsq, surrogate_quant, {{0}}},
    {"quant, PACT", {"quant"}, {"quant_grad"}, "y", draw_quant_pact, surrogate_quant, {{0}}},
    {"quant, fixed", {"quant"}, {"quant_grad"}, "y", draw_quant_fixed, surrogate_quant, {{0}}},
    {"quant, gate on", {"quant_gate"}, {"quant_gate_grad"}, "y", draw_gate_on, NULL, {{0}}},
    {"quant, gate off", {"quant_gate"}, {"quant_gate_grad"}, "y", draw_gate_off, NULL, {{0}}},
    {"tanh_norm", {"tanh_norm"}, {"tanh_norm_grad"}, "y", draw_tanh, surrogate_tanh, {{0}}},
    {"loss", {"softmax_xent"}, {"softmax_xent_grad"}, "loss", draw_loss, NULL, {{0}}},
    {"divergence", {"kl_div"}, {"kl_div_grad"}, "loss", draw_divergence, NULL, {{0}}},
    {"hint, squared", {"hint_square"}, {"hint_square_grad"}, "loss", draw_pair, NULL, {{0}}},
    {"hint, attention", {"hint_attention"}, {"hint_attention_grad"}, "loss", draw_attention, NULL, {{0}}},
    {"loss of mixed images", {"mix_xent"}, {"mix_xent_grad"}, "loss", draw_mixed_loss, NULL, {{0}}},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* ---- the check ---- */

static void run_forward(op_case *given, const gradient_row *row) {
  if (row->surrogate) {
    row->surrogate(given);
    return;
  }
  for (int i = 0; i < MAX_PARTS && row->forward[i]; i++) case_run(given, row->forward[i], NULL);
}

static const case_tensor *gradient_of(op_case *given, const char *name) {
  char gradient[CASE_NAME + 1];
  snprintf(gradient, sizeof gradient, "d%s", name);
  return case_find(given, gradient);
}

/* sum of output * projection; a loss has no projection, its gradient op scales by attrs.scale */
static double project(op_case *given, const gradient_row *row) {
  const float *y = case_f32(given, row->output);
  const case_tensor *projection = gradient_of(given, row->output);
  double sum = 0;
  for (int64_t k = 0; k < qe_count(&case_find(given, row->output)->desc); k++)
    sum += (double)y[k] * (double)(projection ? ((const float *)projection->data)[k] : given->attrs.scale);
  return sum;
}

static double difference_quotient(op_case *given, const gradient_row *row, float *at) {
  float base = *at;
  volatile float above = base + half_step, below = base - half_step;
  *at = above;
  run_forward(given, row);
  double high = project(given, row);
  *at = below;
  run_forward(given, row);
  double low = project(given, row);
  *at = base;
  return (high - low) / ((double)above - (double)below);
}

/* || finite differences - gradient || / || gradient ||; where the gradient is 0 everywhere, the numerator itself */
static double gradient_error(op_case *given, const gradient_row *row, const case_tensor *of) {
  const float *gradient = (const float *)gradient_of(given, of->name)->data;
  double factor = strcmp(of->name, "step") == 0 ? (double)given->attrs.quant.grad_scale : 1;
  double error = 0, norm = 0;
  for (int64_t k = 0; k < qe_count(&of->desc); k++) {
    double claimed = (double)gradient[k];
    double difference = factor * difference_quotient(given, row, (float *)of->data + k) - claimed;
    error += difference * difference;
    norm += claimed * claimed;
  }
  return sqrt(norm > 0 ? error / norm : error);
}

/* A case with forward and gradient computed. */
static void prepare(op_case *given, const gradient_row *row, int round) {
  memset(given, 0, sizeof *given);
  given->from.seed = (uint64_t)(row - rows) << 32 | (uint32_t)round;
  row->draw(given, round);
  for (int i = 0; i < MAX_PARTS && row->forward[i]; i++) case_run(given, row->forward[i], NULL);
  for (int i = 0; i < MAX_PARTS && row->gradient[i]; i++) case_run(given, row->gradient[i], row->rename);
}

static void test_gradients(void **state) {
  (void)state;
  for (const gradient_row *row = rows; row < rows + ROWS; row++)
    for (int round = 0; round < (row->draw == draw_conv ? 2 : 1) * ROUNDS; round++) {
      op_case given;
      prepare(&given, row, round);
      int compared = 0, tensors = given.tensors;
      for (int i = 0; i < tensors; i++) {
        const case_tensor *of = &given.tensor[i];
        if (strcmp(of->name, row->output) == 0 || !gradient_of(&given, of->name)) continue;
        double error = gradient_error(&given, row, of);
        char text[QE_CALL_TEXT];
        if (!(error < tolerance))
          fail_msg("%s, round %d: gradient of %s is off by %g\n%s", row->name, round, of->name, error,
                   case_text(&given, row->forward[0], text));
        compared++;
      }
      if (!compared) fail_msg("%s: nothing was compared", row->name);
      case_free(&given);
    }
}

/* Every tensor that a gradient op writes must have been compared, not only one of them. */
static void test_all_outputs_are_compared(void **state) {
  (void)state;
  for (const gradient_row *row = rows; row < rows + ROWS; row++) {
    op_case given;
    prepare(&given, row, 0);
    for (int i = 0; i < MAX_PARTS && row->gradient[i]; i++) {
      const qe_op_info *info = qe_op_get_info(qe_op_find(row->gradient[i]));
      for (int k = 0; k < info->operands; k++) {
        if (info->operand[k].role != QE_WRITE) continue;
        const char *name = case_renamed(row->rename, info->operand[k].name);
        if (name[0] != 'd' || !case_find(&given, name + 1))
          fail_msg("%s: output %s of %s belongs to no input", row->name, name, row->gradient[i]);
      }
    }
    case_free(&given);
  }
}

/* The check can fail: a gradient off by one part in a hundred is seen, in every row. */
static void test_wrong_gradient_is_seen(void **state) {
  (void)state;
  for (const gradient_row *row = rows; row < rows + ROWS; row++) {
    op_case given;
    prepare(&given, row, 0);
    for (int i = 0, tensors = given.tensors; i < tensors; i++) {
      const case_tensor *of = &given.tensor[i], *gradient = gradient_of(&given, of->name);
      if (strcmp(of->name, row->output) == 0 || !gradient) continue;
      for (int64_t k = 0; k < qe_count(&gradient->desc); k++)
        ((float *)gradient->data)[k] = ((float *)gradient->data)[k] * 1.01f + 0.003f;
      if (gradient_error(&given, row, of) < tolerance) fail_msg("%s: a wrong d%s passes", row->name, of->name);
    }
    case_free(&given);
  }
}

static bool has_row(const char *op_name) {
  for (int row = 0; row < ROWS; row++)
    for (int i = 0; i < MAX_PARTS && rows[row].gradient[i]; i++)
      if (strcmp(rows[row].gradient[i], op_name) == 0) return true;
  return false;
}

static void test_every_gradient_op_has_a_row(void **state) {
  (void)state;
  for (int op = 0; op < QE_OPS; op++) {
    const char *name = qe_op_get_info((qe_op)op)->name;
    if (strncmp(name, "int_", 4) == 0) continue; /* exact: tests/test_int_train.c has them */
    if (strstr(name, "_grad") && !has_row(name)) fail_msg("op %s has no row in the table of gradients", name);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_gradients),
      cmocka_unit_test(test_all_outputs_are_compared),
      cmocka_unit_test(test_wrong_gradient_is_seen),
      cmocka_unit_test(test_every_gradient_op_has_a_row),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
