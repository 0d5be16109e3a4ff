/* Tile kernels with a vector over channels, and sums over pixels. Compiled once an instruction set.
 *
 * Vectors in params and work are `pattern` elements long; sums are `channels` long. */
#include "backends/cpu/kernels_isa.h"

/* sum[c] = sum of the pattern's elements of channel c */
static void fold(const float *pattern, const cpu_tile *tile, float *sum) {
  memcpy(sum, pattern, (size_t)tile->channels * sizeof *sum);
  for (int64_t at = tile->channels; at < tile->pattern; at += tile->channels)
    CPU_SIMD for (int64_t c = 0; c < tile->channels; c++) sum[c] += pattern[at + c];
}

/* The inverse: repeat a vector of `channels` over the pattern. */
static void repeat(const float *vector, const cpu_tile *tile, float *pattern) {
  for (int64_t at = 0; at < tile->pattern; at += tile->channels)
    memcpy(pattern + at, vector, (size_t)tile->channels * sizeof *pattern);
}

/* params: bias */
void CPU_NAME(bias_add_tile)(const cpu_tile *tile) {
  const float *bias = tile->params;
  for (int64_t at = 0; at < tile->count; at += tile->pattern) {
    const float *x = tile->operand[0] + at;
    float *y = tile->operand[2] + at;
    int64_t count = smaller(tile->pattern, tile->count - at);
    CPU_SIMD for (int64_t k = 0; k < count; k++) y[k] = x[k] + bias[k];
  }
}

static void sum_pattern(const cpu_tile *tile, const float *from, float *sum) {
  memset(sum, 0, (size_t)tile->pattern * sizeof *sum);
  for (int64_t at = 0; at < tile->count; at += tile->pattern) {
    const float *x = from + at;
    int64_t count = smaller(tile->pattern, tile->count - at);
    CPU_SIMD for (int64_t k = 0; k < count; k++) sum[k] += x[k];
  }
}

/* sums: sum of x */
void CPU_NAME(channel_sum_tile)(const cpu_tile *tile) {
  sum_pattern(tile, tile->operand[0], tile->work);
  fold(tile->work, tile, tile->sums);
}

/* sums: the tile's mean, then its sum of (x - that mean)^2 */
void CPU_NAME(bn_stats_tile)(const cpu_tile *tile) {
  float *squares = tile->work, *mean = squares + tile->pattern, *tile_mean = tile->sums;
  float per_pixel = 1.0f / (float)(tile->count / tile->channels);
  sum_pattern(tile, tile->operand[0], squares);
  fold(squares, tile, tile_mean);
  CPU_SIMD for (int64_t c = 0; c < tile->channels; c++) tile_mean[c] *= per_pixel;
  repeat(tile_mean, tile, mean);
  memset(squares, 0, (size_t)tile->pattern * sizeof *squares);
  for (int64_t at = 0; at < tile->count; at += tile->pattern) {
    const float *x = tile->operand[0] + at;
    int64_t count = smaller(tile->pattern, tile->count - at);
    CPU_SIMD for (int64_t k = 0; k < count; k++) {
      float deviation = x[k] - mean[k];
      squares[k] += deviation * deviation;
    }
  }
  fold(squares, tile, tile->sums + tile->channels);
}

/* params: mean, gamma / deviation, beta */
void CPU_NAME(bn_norm_tile)(const cpu_tile *tile) {
  const float *mean = tile->params, *scale = mean + tile->pattern, *beta = scale + tile->pattern;
  for (int64_t at = 0; at < tile->count; at += tile->pattern) {
    const float *x = tile->operand[0] + at;
    float *y = tile->operand[5] + at;
    int64_t count = smaller(tile->pattern, tile->count - at);
    CPU_SIMD for (int64_t k = 0; k < count; k++) y[k] = (x[k] - mean[k]) * scale[k] + beta[k];
  }
}

/* params: mean; sums: sum of dy * (x - mean), sum of dy */
void CPU_NAME(bn_grad_sums_tile)(const cpu_tile *tile) {
  const float *mean = tile->params;
  float *products = tile->work, *sum = products + tile->pattern;
  memset(products, 0, 2 * (size_t)tile->pattern * sizeof *products);
  for (int64_t at = 0; at < tile->count; at += tile->pattern) {
    const float *dy = tile->operand[0] + at, *x = tile->operand[1] + at;
    int64_t count = smaller(tile->pattern, tile->count - at);
    CPU_SIMD for (int64_t k = 0; k < count; k++) {
      products[k] += dy[k] * (x[k] - mean[k]);
      sum[k] += dy[k];
    }
  }
  fold(products, tile, tile->sums);
  fold(sum, tile, tile->sums + tile->channels);
}

/* params: mean, gamma / deviation, dbeta / n, dgamma / (n * deviation) */
void CPU_NAME(bn_grad_x_tile)(const cpu_tile *tile) {
  const float *mean = tile->params, *scale = mean + tile->pattern;
  const float *shift = scale + tile->pattern, *slope = shift + tile->pattern;
  for (int64_t at = 0; at < tile->count; at += tile->pattern) {
    const float *dy = tile->operand[0] + at, *x = tile->operand[1] + at;
    float *dx = tile->operand[7] + at;
    int64_t count = smaller(tile->pattern, tile->count - at);
    CPU_SIMD for (int64_t k = 0; k < count; k++) dx[k] = scale[k] * ((dy[k] - shift[k]) - (x[k] - mean[k]) * slope[k]);
  }
}
