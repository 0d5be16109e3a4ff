/* NaN and infinities as inputs: which operands of which ops may have them, and a pass over those ops. Its cases are
 * those of the sweep with another fill, so that no other case changes with it. */
#include "tests/parity/parity.h"

#include <math.h>
#include <string.h>

enum { SPECIAL_DRAWS = 400 }; /* substream of the draws */

/* A letter for each operand, in order:
 *   a  NaN and infinities        n  NaN        i  infinities        .  none
 *   -  written, and unspecified for these inputs: not judged
 * The seed picks one of an op's rows. Ops are listed where their contract in cpu_ref says what comes out, in words or
 * as a formula that all evaluate alike. Not listed or not filled:
 *   convolutions and linear   a sum may be transformed (Winograd, split factors), which spreads NaN to its neighbours
 *   bn_stats, infinities      the mean of partial means is NaN where the sum's is infinite
 *   vectors of batch norm     they may be folded into one factor and one summand
 *   steps, hyper-parameters   no contract */
static const struct special_row {
  qe_op op;
  const char *operands;
} rows[] = {
    {QE_OP_bias_add, "aa."},
    {QE_OP_channel_sum, "a."},
    {QE_OP_bn_stats, "n.."},
    {QE_OP_bn_running, ".aaaa"},
    {QE_OP_bn_norm, "a....."},
    {QE_OP_bn_grad_sums, "aa...."},
    {QE_OP_bn_grad_x, "aa......"},
    {QE_OP_clamp, "a."},
    {QE_OP_clamp_grad, "aa."},
    {QE_OP_add, "aa."},
    {QE_OP_accumulate, "aa"},
    {QE_OP_concat, "aa."},
    {QE_OP_concat_grad, "a.."},
    {QE_OP_max_pool, "a."},
    {QE_OP_max_pool_grad, "aa."},
    {QE_OP_avg_pool, "a."},
    {QE_OP_avg_pool_grad, "a."},
    {QE_OP_subsample, "a."},
    {QE_OP_subsample_grad, "a."},
    {QE_OP_quant, "a.."},
    {QE_OP_quant_grad, "aa..-"},
    {QE_OP_quant_grad, ".i..."},
    {QE_OP_quant_gate, "a..."},
    {QE_OP_quant_gate_grad, "aa...-"},
    {QE_OP_quant_gate_grad, ".i...."},
    {QE_OP_tanh_norm, "a."},
    {QE_OP_tanh_norm_grad, "aa."},
    {QE_OP_softmax_xent, "a..."},
    {QE_OP_softmax_xent_grad, "a.."},
    {QE_OP_mix_xent, "a....."},
    {QE_OP_mix_xent_grad, "a...."},
    {QE_OP_kl_div, "nn."},
    {QE_OP_kl_div_grad, "nn.."},
    {QE_OP_hint_square, "nn."},
    {QE_OP_hint_square_grad, "aa."},
    {QE_OP_square_sum, "a."},
    {QE_OP_clip_norm, "a.a"},
    {QE_OP_sgd, "a.aa"},
    {QE_OP_adam, "a.aaa"},
    {QE_OP_ema, "a.a"},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

/* The row of a case, or NULL. */
static const struct special_row *row_of(const parity_case *drawn) {
  int count = 0, seen = 0;
  for (int i = 0; i < ROWS; i++) count += rows[i].op == drawn->op;
  for (int i = 0; i < ROWS; i++)
    if (rows[i].op == drawn->op && seen++ == (int)(drawn->seed % (uint64_t)count)) return &rows[i];
  return NULL;
}

bool parity_special_judged(const parity_case *drawn, int operand) {
  const struct special_row *row = drawn->fill == PARITY_FILL_SPECIAL ? row_of(drawn) : NULL;
  return !row || row->operands[operand] != '-';
}

/* NaN of either sign, infinity, -infinity: those that the letter allows and the case has; some cases have one kind
 * only, as a sum of both infinities hides either. At least one kind. */
static int kinds_of(parity_draws *draws, char letter, float kinds[4]) {
  const float all[] = {NAN, -NAN, INFINITY, -INFINITY};
  int32_t first = letter == 'i' ? 2 : 0, last = letter == 'n' ? 1 : 3, chosen = parity_range(draws, first, last);
  int count = 0;
  bool mixed = parity_chance(draws, 50);
  for (int32_t k = first; k <= last; k++)
    if (k == chosen || (mixed && parity_chance(draws, 50))) kinds[count++] = all[k];
  return count;
}

void parity_special_fill(const parity_case *from, int operand, uint32_t variant, int64_t count, float *values) {
  static const int32_t one_in[] = {2, 5, 50, 1000};
  const struct special_row *row = row_of(from);
  char letter = row ? row->operands[operand] : '.';
  if (letter == '.') return;
  parity_draws draws = parity_draws_start(from->seed, SPECIAL_DRAWS + (uint32_t)operand + 16 * variant);
  bool positive = qe_op_get_info(from->op)->operand[operand].kind == QE_KIND_VARIANCE ||
                  qe_op_get_info(from->op)->operand[operand].kind == QE_KIND_POSITIVE ||
                  qe_op_get_info(from->op)->operand[operand].kind == QE_KIND_SCALAR_POSITIVE;
  float kinds[4];
  int32_t share = PARITY_PICK(&draws, one_in), known = kinds_of(&draws, letter, kinds);
  int64_t sure = (int64_t)(parity_word(&draws) % (uint64_t)count);
  for (int64_t i = 0; i < count; i++) {
    if (i != sure && parity_range(&draws, 1, share) > 1) continue;
    float value = kinds[parity_range(&draws, 0, known - 1)];
    values[i] = positive ? fabsf(value) : value;
  }
}

qe_status parity_specials(const parity_target *target, const parity_options *options, const parity_lists *lists,
                          parity_report *report) {
  for (int i = 0; i < ROWS; i++) {
    if (i > 0 && rows[i].op == rows[i - 1].op) continue;
    if (options->op && strcmp(options->op, qe_op_get_info(rows[i].op)->name) != 0) continue;
    for (int k = 0; k < options->specials; k++) {
      parity_case drawn;
      parity_case_draw(rows[i].op, options->seed + (uint64_t)k, &drawn);
      drawn.fill = PARITY_FILL_SPECIAL;
      QE_TRY(parity_case_run(target, &drawn, options, lists, report));
    }
  }
  return QE_OK;
}
