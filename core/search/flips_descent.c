/* Flips by a quadratic form: votes pull, the inputs' Gram matrix holds back what moves of one row do together. */
#include "core/base/alloc.h"
#include "core/search/flips.h"
#include "core/search/quadratic.h"

#include <string.h>

enum { SCALE_BITS = 12, LEAST_SCALE = 64, FIRST = -40, LAST = 20 };

/* sum / scale, 0 where the vote is not sure. */
static int64_t pull_of(const qe_vote_sums *sums, const qe_flips_curve *curve, int64_t i) {
  const int64_t most = INT64_MAX >> (SCALE_BITS + 2);
  int64_t scale = curve->scale[i / (sums->count / curve->rows)], sum = sums->sum[i];
  if (!qe_flips_is_sure(sums, i, curve->least)) return 0;
  sum = sum > most ? most : sum < -most ? -most : sum;
  return sum * (1 << SCALE_BITS) / (scale < LEAST_SCALE ? LEAST_SCALE : scale);
}

/* value * 2^exponent towards 0, at most 2^46 in magnitude. */
static int64_t scaled(int64_t value, int32_t exponent) {
  const int64_t most = INT64_C(1) << 46;
  if (exponent < 0) return value / (INT64_C(1) << -exponent);
  if (value > most >> exponent) return most;
  return value < -(most >> exponent) ? -most : value * (INT64_C(1) << exponent);
}

/* Codes that would gain by a move of their own: 2 |r| > G_kk spacing. */
static int64_t count_gains(const qe_vote_sums *sums, const qe_code_grid *grid, const qe_flips_curve *curve,
                           const int64_t *pull, int32_t exponent, const int8_t *codes) {
  int64_t each = sums->count / curve->rows, count = 0;
  for (int64_t i = 0; i < sums->count; i++) {
    int64_t r = scaled(pull[i], exponent), k = i % each;
    int32_t to = codes[i] + (r > 0 ? -grid->spacing : grid->spacing);
    if (r == 0 || to < grid->low || to > grid->high) continue;
    count += 2 * (r < 0 ? -r : r) > curve->gram[k * each + k] * grid->spacing;
  }
  return count;
}

static int32_t find_exponent(const qe_vote_sums *sums, const qe_code_grid *grid, const qe_flips_curve *curve,
                             const int64_t *pull, int64_t flips, const int8_t *codes) {
  int32_t exponent = FIRST;
  while (exponent < LAST && count_gains(sums, grid, curve, pull, exponent, codes) < flips) exponent++;
  return exponent;
}

static bool has_room(const qe_quadratic *form, const int64_t *residual, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (residual[i] > form->room || residual[i] < -form->room) return false;
  return true;
}

/* Moves from one code to the next between two lists of codes. */
static int64_t distance(const int8_t *a, const int8_t *b, int64_t count, const qe_code_grid *grid) {
  int64_t sum = 0;
  for (int64_t i = 0; i < count; i++) sum += (a[i] < b[i] ? b[i] - a[i] : a[i] - b[i]) / grid->spacing;
  return sum;
}

static qe_status descend_rows(const qe_quadratic *form, int64_t rows, int64_t *residual, int8_t *codes) {
  int64_t change;
  for (int64_t row = 0; row < rows; row++)
    QE_TRY(qe_quadratic_descend(form, (uint64_t)row, codes + row * form->size, residual + row * form->size, &change));
  return QE_OK;
}

/* No move where the sums of the form could pass 63 bits. */
static qe_status descend(const qe_vote_sums *sums, const qe_code_grid *grid, const qe_flips_curve *curve,
                         int64_t *residual, int8_t *codes, int64_t *moved) {
  qe_quadratic form = {0};
  int8_t *before = qe_alloc((size_t)sums->count);
  qe_status status =
      before ? qe_quadratic_open(curve->gram, (int32_t)(sums->count / curve->rows), grid, &form) : QE_NO_MEMORY;
  bool room = status == QE_OK && has_room(&form, residual, sums->count);
  if (status == QE_REFUSED) {
    qe_message_clear();
    status = QE_OK;
  }
  if (room) {
    memcpy(before, codes, (size_t)sums->count);
    status = descend_rows(&form, curve->rows, residual, codes);
    *moved += distance(before, codes, sums->count, grid);
  }
  qe_quadratic_close(&form);
  qe_free(before);
  return status;
}

qe_status qe_flips_descend(const qe_vote_sums *sums, const qe_code_grid *grid, const qe_flips_curve *curve,
                           int64_t flips, int32_t step, int8_t *codes, int64_t *moved) {
  int64_t *pull = QE_NEW_ARRAY(int64_t, sums->count), *residual = QE_NEW_ARRAY(int64_t, sums->count);
  qe_status status = pull && residual ? QE_OK : QE_NO_MEMORY;
  *moved = 0;
  if (status == QE_OK) {
    for (int64_t i = 0; i < sums->count; i++) pull[i] = pull_of(sums, curve, i);
    int32_t exponent = find_exponent(sums, grid, curve, pull, flips, codes) + step;
    for (int64_t i = 0; i < sums->count; i++) residual[i] = scaled(pull[i], exponent);
    status = descend(sums, grid, curve, residual, codes, moved);
  }
  qe_free(pull);
  qe_free(residual);
  return status;
}
