/* Implementations of each op, best first. */
#include "backends/cpu/cpu.h"

static const qe_impl *const conv[] = {&cpu_impl_conv};
static const qe_impl *const linear[] = {&cpu_impl_linear};
static const qe_impl *const int_conv[] = {&cpu_impl_dots, &cpu_impl_int_conv};
static const qe_impl *const int_gram[] = {&cpu_impl_int_gram};
static const qe_impl *const int_grad_w[] = {&cpu_impl_int_grad_w};
static const qe_impl *const dots[] = {&cpu_impl_dots};
static const qe_impl *const channel_sums[] = {&cpu_impl_channel_sums};
static const qe_impl *const tiles[] = {&cpu_impl_tiles};
static const qe_impl *const tiles_or_rows[] = {&cpu_impl_tiles, &cpu_impl_rows};
static const qe_impl *const rows[] = {&cpu_impl_rows};
static const qe_impl *const tanh_norm[] = {&cpu_impl_tanh};

#define LIST(list)                                                                                                     \
  { list, sizeof list / sizeof *list }

static const struct impl_list {
  const qe_impl *const *impl;
  int count;
} table[QE_OPS] = {
    [QE_OP_conv2d] = LIST(conv),
    [QE_OP_conv2d_grad_x] = LIST(conv),
    [QE_OP_conv2d_grad_w] = LIST(conv),
    [QE_OP_linear] = LIST(linear),
    [QE_OP_linear_grad_x] = LIST(linear),
    [QE_OP_linear_grad_w] = LIST(linear),
    [QE_OP_bias_add] = LIST(tiles),
    [QE_OP_channel_sum] = LIST(tiles),
    [QE_OP_bn_stats] = LIST(tiles),
    [QE_OP_bn_running] = LIST(tiles),
    [QE_OP_bn_norm] = LIST(tiles),
    [QE_OP_bn_grad_sums] = LIST(tiles),
    [QE_OP_bn_grad_x] = LIST(tiles),
    [QE_OP_clamp] = LIST(tiles),
    [QE_OP_clamp_grad] = LIST(tiles),
    [QE_OP_add] = LIST(tiles),
    [QE_OP_accumulate] = LIST(tiles),
    [QE_OP_concat] = LIST(rows),
    [QE_OP_concat_grad] = LIST(rows),
    [QE_OP_max_pool] = LIST(rows),
    [QE_OP_max_pool_grad] = LIST(rows),
    [QE_OP_avg_pool] = LIST(rows),
    [QE_OP_avg_pool_grad] = LIST(rows),
    [QE_OP_subsample] = LIST(rows),
    [QE_OP_subsample_grad] = LIST(rows),
    [QE_OP_quant] = LIST(tiles_or_rows),
    [QE_OP_quant_grad] = LIST(tiles_or_rows),
    [QE_OP_quant_gate] = LIST(tiles_or_rows),
    [QE_OP_quant_gate_grad] = LIST(tiles_or_rows),
    [QE_OP_tanh_norm] = LIST(tanh_norm),
    [QE_OP_tanh_norm_grad] = LIST(tanh_norm),
    [QE_OP_softmax_xent] = LIST(rows),
    [QE_OP_softmax_xent_grad] = LIST(rows),
    [QE_OP_mix_xent] = LIST(rows),
    [QE_OP_mix_xent_grad] = LIST(rows),
    [QE_OP_kl_div] = LIST(rows),
    [QE_OP_kl_div_grad] = LIST(rows),
    [QE_OP_hint_square] = LIST(rows),
    [QE_OP_hint_square_grad] = LIST(rows),
    [QE_OP_hint_attention] = LIST(rows),
    [QE_OP_hint_attention_grad] = LIST(rows),
    [QE_OP_square_sum] = LIST(tiles),
    [QE_OP_clip_norm] = LIST(tiles),
    [QE_OP_sgd] = LIST(tiles),
    [QE_OP_adam] = LIST(tiles),
    [QE_OP_ema] = LIST(tiles),
    [QE_OP_augment] = LIST(rows),
    [QE_OP_mix] = LIST(rows),
    [QE_OP_int_conv2d] = LIST(int_conv),
    [QE_OP_int_requant] = LIST(rows),
    [QE_OP_int_requant_add] = LIST(rows),
    [QE_OP_int_perturb] = LIST(rows),
    [QE_OP_int_gram] = LIST(int_gram),
    [QE_OP_int_conv2d_grad_w] = LIST(int_grad_w),
    [QE_OP_int_conv2d_grad_x] = LIST(dots),
    [QE_OP_int_channel_sums] = LIST(channel_sums),
    [QE_OP_int_augment] = LIST(rows),
    [QE_OP_int_mix] = LIST(rows),
    [QE_OP_int_softmax_error] = LIST(rows),
    [QE_OP_int_gate] = LIST(rows),
    [QE_OP_int_sum_pool] = LIST(rows),
    [QE_OP_int_spread] = LIST(rows),
    [QE_OP_int_subsample] = LIST(rows),
    [QE_OP_int_pack] = LIST(rows),
    [QE_OP_int_unpack] = LIST(rows),
};

const qe_impl *const *cpu_impls(const qe_device *device, qe_op op, int *count) {
  (void)device;
  *count = table[op].count;
  return table[op].impl;
}
