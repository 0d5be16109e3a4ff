/* Batch statistics; contracts in cpu_ref/norm.c. Maps are cut as in chain.cl. */
#include "kernels_cl/sums.h"

/* Values seen: how many, their mean, and the sum of squared deviations from it. */
typedef struct moments {
  float count;
  qk_sum mean;
  float squares;
} moments;

/* Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979 */
DEVICE moments moments_merge(moments a, moments b) {
  if (b.count == 0.0f) return a;
  if (a.count == 0.0f) return b;
  float count = a.count + b.count, share = b.count / count;
  float difference = (b.mean.high - a.mean.high) + (b.mean.low - a.mean.low);
  a.squares += b.squares + difference * difference * a.count * share;
  a.mean = qk_sum_add(a.mean, difference * share);
  a.count = count;
  return a;
}

/* From sums of deviations from `shift` and of their squares. */
DEVICE moments moments_of(float count, float shift, qk_sum sum, qk_sum squares) {
  moments result;
  float mean = sum.high / count, rest = (fma(-mean, count, sum.high) + sum.low) / count;
  qk_sum product = qk_product(sum.high, mean);
  product.low += sum.high * rest + sum.low * mean;
  float deviations = (squares.high - product.high) + (squares.low - product.low);
  result.count = count;
  result.mean = qk_sum_add(qk_sum_of(shift, rest), mean);
  result.squares = deviations < 0.0f ? 0.0f : deviations;
  return result;
}

/* shared: [4][QK_GROUP] */
DEVICE moments moments_load(LOCAL const float *shared, uint lane) {
  moments at;
  at.count = shared[lane];
  at.mean = qk_sum_of(shared[QK_GROUP + lane], shared[2 * QK_GROUP + lane]);
  at.squares = shared[3 * QK_GROUP + lane];
  return at;
}

DEVICE void moments_store(LOCAL float *shared, uint lane, moments at) {
  shared[lane] = at.count;
  shared[QK_GROUP + lane] = at.mean.high;
  shared[2 * QK_GROUP + lane] = at.mean.low;
  shared[3 * QK_GROUP + lane] = at.squares;
}

/* As qk_sum_columns. */
DEVICE moments moments_merge_columns(LOCAL float *shared, moments own, uint width, uint rows) {
  uint lane = local_id(0), row = lane / width, gap = 1;
  while (gap < rows) gap *= 2;
  moments_store(shared, lane, own);
  BARRIER();
  for (gap /= 2; gap > 0; gap /= 2) {
    if (row < gap && row + gap < rows)
      moments_store(shared, lane, moments_merge(moments_load(shared, lane), moments_load(shared, lane + gap * width)));
    BARRIER();
  }
  return moments_load(shared, lane);
}

/* partial: [part][4][channels], the members of moments. Each work-item takes its first value for the shift. */
KERNEL(qk_bn_stats)(BUFFER(x), BUFFER(partial), const qk_params_stats p) {
  LOCAL_ARRAY(float, shared, 4 * QK_GROUP);
  OPERAND(const float, x);
  OPERAND(float, partial);
  uint width = (uint)p.width, part = group_id(0) / (uint)p.tiles, row = local_id(0) / width;
  uint column = group_id(0) % (uint)p.tiles * width + local_id(0) % width;
  bool active = row < (uint)p.rows && column < (uint)p.channels;
  ulong channels = (ulong)p.channels, stride = (ulong)p.rows * channels;
  ulong at = (ulong)part * stride + row * channels + column, step = stride * (ulong)p.parts;
  qk_sum sum = qk_sum_of(0.0f, 0.0f), squares = sum;
  float count = 0.0f, shift = active && at < (ulong)p.count ? x[at] : 0.0f;
  for (; active && at < (ulong)p.count; at += step) {
    float deviation = x[at] - shift;
    qk_sum square = qk_product(deviation, deviation);
    sum = qk_sum_add(sum, deviation);
    squares = qk_sum_merge(squares, square);
    count += 1.0f;
  }
  moments own;
  own.count = own.squares = 0.0f;
  own.mean = qk_sum_of(0.0f, 0.0f);
  if (count > 0.0f) own = moments_of(count, shift, sum, squares);
  own = moments_merge_columns(shared, own, width, (uint)p.rows);
  if (!active || row != 0) return;
  GLOBAL float *to = partial + (ulong)part * 4 * channels + column;
  to[0] = own.count;
  to[channels] = own.mean.high;
  to[2 * channels] = own.mean.low;
  to[3 * channels] = own.squares;
}

/* keep * running + take * batch; products are exact, so that little is lost where the two cancel. */
DEVICE float running_blend(float keep, float keep_rest, float running, float take, float take_rest, float batch) {
  qk_sum kept = qk_product(keep, running), taken = qk_product(take, batch);
  qk_sum sum = qk_sum_merge(kept, taken);
  sum.low += keep_rest * running + take_rest * batch;
  return qk_sum_value(sum);
}

DEVICE void running_update(const qk_params_running *p, GLOBAL float *running_mean, GLOBAL float *running_var, ulong c,
                           float mean, float var) {
  running_mean[c] = running_blend(p->keep, p->keep_rest, running_mean[c], p->take, p->take_rest, mean);
  running_var[c] = running_blend(p->keep, p->keep_rest, running_var[c], p->take_var, p->take_var_rest, var);
}

/* One group for p.width channels; then bn_running, if wanted. */
KERNEL(qk_bn_stats_end)
(BUFFER(partial), BUFFER(mean), BUFFER(var), BUFFER(running_mean), BUFFER(running_var), const qk_params_stats_end p) {
  LOCAL_ARRAY(float, shared, 4 * QK_GROUP);
  OPERAND(const float, partial);
  OPERAND(float, mean);
  OPERAND(float, var);
  OPERAND(float, running_mean);
  OPERAND(float, running_var);
  uint width = (uint)p.width, row = local_id(0) / width, rows = QK_GROUP / width;
  uint column = group_id(0) * width + local_id(0) % width;
  ulong channels = (ulong)p.channels;
  moments own;
  own.count = own.squares = 0.0f;
  own.mean = qk_sum_of(0.0f, 0.0f);
  for (ulong part = row; column < channels && part < (ulong)p.parts; part += rows) {
    GLOBAL const float *from = partial + part * 4 * channels + column;
    moments other;
    other.count = from[0];
    other.mean = qk_sum_of(from[channels], from[2 * channels]);
    other.squares = from[3 * channels];
    own = moments_merge(own, other);
  }
  own = moments_merge_columns(shared, own, width, rows);
  if (row != 0 || column >= channels) return;
  float average = own.mean.high + own.mean.low, spread = own.squares / own.count;
  mean[column] = average;
  var[column] = spread;
  if (p.running.count > 0) running_update(&p.running, running_mean, running_var, column, average, spread);
}

KERNEL(qk_bn_running)(BUFFER(mean), BUFFER(var), BUFFER(running_mean), BUFFER(running_var), const qk_params_running p) {
  OPERAND(const float, mean);
  OPERAND(const float, var);
  OPERAND(float, running_mean);
  OPERAND(float, running_var);
  for (ulong c = flat_start(); c < (ulong)p.count; c += flat_stride())
    running_update(&p, running_mean, running_var, c, mean[c], var[c]);
}
