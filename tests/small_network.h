/* A small residual integer network for the images of a data set: what searches are tested on. All that a low-bit ResNet
 * has: a wide code with a coarser one, a block with a skip connection, a global pool, a linear layer. */
#ifndef QE_TESTS_SMALL_NETWORK_H
#define QE_TESTS_SMALL_NETWORK_H

#include "core/data/dataset.h"
#include "tests/network_draw.h"

static inline int32_t small_conv(network_draw *d, int32_t x) {
  qe_window window = {
      .kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}, .groups = 1, .channels = 4};
  return drawn_conv(d, x, window);
}

/* Weights and constants by the seed. */
static inline qe_network *small_network(uint64_t seed, const qe_dataset *data) {
  draws from = {seed, 0};
  network_draw d = {.from = &from,
                    .limits = {.channels = 4, .weight_bits = 4, .act_bits = 4, .plain = true},
                    .network = QE_NEW(qe_network)};
  assert_non_null(d.network);
  qe_network_layer gather = {.op = QE_OP_int_gather, .low = -128, .high = 127};
  gather.output = qe_map(QE_S8, 1, data->height, data->width, data->channels);
  int32_t wide, last, low = drawn_wide_and_low(&d, small_conv(&d, drawn_add(&d, &gather)), -1, &wide);
  int32_t inner = drawn_requant(&d, small_conv(&d, low), -1, QE_U8);
  low = drawn_wide_and_low(&d, small_conv(&d, inner), wide, &last);
  qe_window head = {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .channels = data->classes};
  int32_t pooled = drawn_requant(&d, drawn_move(&d, low, QE_OP_int_sum_pool), -1, QE_U8);
  drawn_requant(&d, drawn_conv(&d, pooled, head), -1, QE_S32);
  qe_network_prove(d.network);
  OK(qe_network_check(d.network));
  return d.network;
}

#endif
