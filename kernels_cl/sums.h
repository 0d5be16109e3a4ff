/* Sums, compensated so that floats do where the reference has doubles, and reductions over a work-group. */
#ifndef QK_SUMS_H
#define QK_SUMS_H

/* A sum and what rounding has lost of it (Knuth's two-sum): about twice the digits of a float, without doubles. */
typedef struct qk_sum {
  float high, low;
} qk_sum;

DEVICE qk_sum qk_sum_of(float high, float low) {
  qk_sum sum;
  sum.high = high;
  sum.low = low;
  return sum;
}

DEVICE qk_sum qk_sum_add(qk_sum sum, float x) {
  float total = sum.high + x, x_part = total - sum.high;
  float lost = (sum.high - (total - x_part)) + (x - x_part);
  return qk_sum_of(total, sum.low + lost);
}

DEVICE qk_sum qk_sum_merge(qk_sum a, qk_sum b) {
  qk_sum sum = qk_sum_add(a, b.high);
  return qk_sum_of(sum.high, sum.low + b.low);
}

/* Once `high` is infinite, `low` is NaN. */
DEVICE float qk_sum_value(qk_sum sum) {
  float value = sum.high + sum.low;
  return value == value ? value : sum.high;
}

/* x * y, exactly but for underflow. */
DEVICE qk_sum qk_product(float x, float y) {
  float high = x * y;
  return qk_sum_of(high, fma(x, y, -high));
}

/* Work-items stand in rows of `width`, column by column: the sum of each column, valid in row 0. Work-items beyond
 * rows * width take no part. Every work-item of the group must call it; `high` and `low` have QK_GROUP places. */
DEVICE qk_sum qk_sum_columns(LOCAL float *high, LOCAL float *low, qk_sum own, uint width, uint rows) {
  uint lane = local_id(0), row = lane / width, gap = 1;
  while (gap < rows) gap *= 2;
  BARRIER();
  high[lane] = own.high;
  low[lane] = own.low;
  BARRIER();
  for (gap /= 2; gap > 0; gap /= 2) {
    if (row < gap && row + gap < rows) {
      uint other = lane + gap * width;
      qk_sum sum = qk_sum_merge(qk_sum_of(high[lane], low[lane]), qk_sum_of(high[other], low[other]));
      high[lane] = sum.high;
      low[lane] = sum.low;
    }
    BARRIER();
  }
  return qk_sum_of(high[lane], low[lane]);
}

/* The sum over the whole group, valid in work-item 0. */
DEVICE qk_sum qk_sum_group(LOCAL float *high, LOCAL float *low, qk_sum own) {
  return qk_sum_columns(high, low, own, 1, QK_GROUP);
}

/* The largest of all work-items' values, which are not negative; valid in all. As above, for `shared`. */
DEVICE float qk_group_largest(LOCAL float *shared, float own) {
  uint lane = local_id(0);
  BARRIER();
  shared[lane] = own;
  BARRIER();
  for (uint gap = QK_GROUP / 2; gap > 0; gap /= 2) {
    if (lane < gap && shared[lane + gap] > shared[lane]) shared[lane] = shared[lane + gap];
    BARRIER();
  }
  return shared[0];
}

#endif
