/* Mixup: the table of Beta(alpha, alpha) and draws from it. */
#include "core/data/mixup.h"

#include "core/base/fixed.h"
#include "core/base/rng.h"

enum { HALF = QE_SHARE_ALL / 2, OCTAVE = 65536 /* logarithms are Q16 */ };

/* 2^(-x / 2^16) in Q30 for x >= 0, by linear interpolation between 256 points an octave. */
static int64_t exp2_negative(int64_t x) {
  int64_t high = qe_exp2_negative(x >> 8), low = qe_exp2_negative((x >> 8) + 1);
  return high - (((high - low) * (x & 255)) >> 8);
}

/* log2(x) for x >= 1. */
static int64_t log2_of(int64_t x) {
  return qe_log2_q30(x << 30);
}

/* Proportional to the probability of a share that rounds to k <= 128 (half of it for 128, the others being on the other
 * side): the integral of x^(alpha-1) (1-x)^(alpha-1) over ((2k-1) / 512, (2k+1) / 512), with the second factor
 * taken in the middle, where it is smooth, and the first integrated, because it has no bound at 0 for alpha < 1:
 * ((2b)^alpha - (2a)^alpha) (2 - 2m)^(alpha-1) / 2, at most 1. */
static int64_t mass(int64_t alpha, int64_t k) {
  int64_t a = 2 * k - 1, b = k < HALF ? 2 * k + 1 : 2 * k; /* 512ths */
  int64_t middle = k == 0 ? 1 : a + b;                     /* 1024ths */
  int64_t smooth = (alpha - QE_MIXUP_ONE) * (log2_of(1024 - middle) - 9 * OCTAVE);
  int64_t below = a < 0 ? 0 : exp2_negative(OCTAVE - (alpha * (log2_of(a) - 8 * OCTAVE) + smooth) / OCTAVE);
  int64_t above = exp2_negative(OCTAVE - (alpha * (log2_of(b) - 8 * OCTAVE) + smooth) / OCTAVE);
  return above > below ? above - below : 0;
}

qe_status qe_mixup_init(qe_mixup *mixup, int32_t alpha) {
  if (alpha < 1 || alpha > QE_MIXUP_MOST)
    return qe_fail(QE_USAGE, "mixup: alpha is %d / %d, must be above 0 and at most %d", alpha, QE_MIXUP_ONE,
                   QE_MIXUP_MOST / QE_MIXUP_ONE);
  int64_t of[QE_SHARE_ALL + 1], total = 0, sum = 0;
  for (int64_t k = 0; k < HALF; k++) of[k] = of[QE_SHARE_ALL - k] = mass(alpha, k);
  of[HALF] = 2 * mass(alpha, HALF);
  for (int k = 0; k <= QE_SHARE_ALL; k++) total += of[k];
  for (int k = 0; k < QE_SHARE_ALL; k++) {
    sum += of[k];
    uint64_t bound = ((uint64_t)sum << 32) / (uint64_t)total;
    mixup->bound[k] = bound > UINT32_MAX ? UINT32_MAX : (uint32_t)bound;
  }
  return QE_OK;
}

/* The smallest share whose bound is above the word, 256 where none is. */
static int32_t share_of(const qe_mixup *mixup, uint32_t word) {
  int32_t low = 0, high = QE_SHARE_ALL;
  while (low < high) {
    int32_t middle = (low + high) / 2;
    if (word < mixup->bound[middle])
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

void qe_mixup_draw(const qe_mixup *mixup, uint64_t seed, uint64_t position, int32_t count, int32_t *other,
                   int32_t *share) {
  int64_t distance = 0;
  for (int32_t i = 0; i < count; i++) {
    qe_philox draw = qe_philox_draw(seed, QE_STREAM_MIX, position + (uint64_t)i);
    if (i == 0 && count > 1) distance = 1 + (int64_t)qe_below(draw.word[1], (uint32_t)count - 1);
    other[i] = (int32_t)((i + distance) % count);
    share[i] = share_of(mixup, draw.word[0]);
  }
}
