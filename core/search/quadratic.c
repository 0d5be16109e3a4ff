/* Coordinate descent on a quadratic form over the codes of a grid. The gradient is kept as r at the present codes: a
 * move of code k by d adds d G[k] to it, and changes the error by d d G[k][k] + 2 d r[k]. */
#include "core/search/quadratic.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/base/wide.h"

#include <string.h>

enum { LEAST_PERTURBED = 2, MOST_PERTURBED = 16, PERTURBED_SHARE = 32 };

typedef struct descent {
  const qe_quadratic *q;
  int8_t *codes;
  int64_t *residual;
  const int64_t *own; /* [K]: spacing^2 G[k][k] */
  int64_t change;
} descent;

static int64_t magnitude(int64_t value) {
  return value < 0 ? -value : value;
}

/* ---- bounds ---- */

qe_status qe_quadratic_check(const qe_quadratic *q, const int64_t *residual, int64_t rows) {
  const qe_s128 limit = INT64_MAX / 4; /* a move doubles r and takes it twice at most */
  int64_t span = (int64_t)q->grid.high - q->grid.low;
  qe_s128 matrix = 0, vector = 0;
  for (int64_t k = 0; k < q->size; k++) {
    qe_s128 row = 0;
    for (int64_t j = 0; j < q->size; j++) row += magnitude(q->gram[k * q->size + j]);
    if (row > matrix) matrix = row;
  }
  for (int64_t i = 0; i < rows * q->size; i++)
    if (magnitude(residual[i]) > vector) vector = magnitude(residual[i]);
  if ((vector * 2 + matrix * span) * span <= limit / q->size) return QE_OK;
  return qe_fail(QE_REFUSED, "a quadratic form of %d codes can pass 63 bits: give it fewer images", q->size);
}

/* ---- moves ---- */

static bool can_move(const descent *s, int64_t k, int32_t by) {
  int32_t code = s->codes[k] + by;
  return code >= s->q->grid.low && code <= s->q->grid.high;
}

/* The step that lowers the error more. */
static int32_t step_against(const descent *s, int64_t residual) {
  return residual > 0 ? -s->q->grid.spacing : s->q->grid.spacing;
}

static int64_t change_by(const descent *s, int64_t k, int64_t residual, int32_t by) {
  return s->own[k] + 2 * by * residual;
}

static void move(descent *s, int64_t k, int32_t by) {
  const int64_t *row = s->q->gram + k * s->q->size;
  s->change += change_by(s, k, s->residual[k], by);
  s->codes[k] = (int8_t)(s->codes[k] + by);
  for (int64_t j = 0; j < s->q->size; j++) s->residual[j] += by * row[j];
}

/* The best move, given that code `with` has moved by `by` (0: none has); its change of the error, INT64_MAX without
 * one. */
static int64_t best_move(const descent *s, int64_t with, int32_t by, int64_t *best) {
  const int64_t *row = s->q->gram + with * s->q->size;
  int64_t least = INT64_MAX;
  for (int64_t k = 0; k < s->q->size; k++) {
    int64_t residual = s->residual[k] + by * row[k];
    int64_t change = s->own[k] - 2 * s->q->grid.spacing * magnitude(residual);
    if (change >= least || (by != 0 && k == with) || !can_move(s, k, step_against(s, residual))) continue;
    least = change;
    *best = k;
  }
  return least;
}

static void descend_singly(descent *s) {
  int64_t k = 0;
  while (best_move(s, 0, 0, &k) < 0) move(s, k, step_against(s, s->residual[k]));
}

/* Move k by `by` together with the best other code, if both lower the error. */
static bool move_two(descent *s, int64_t k, int32_t by) {
  int64_t other = 0;
  if (!can_move(s, k, by)) return false;
  int64_t first = change_by(s, k, s->residual[k], by), second = best_move(s, k, by, &other);
  if (second == INT64_MAX || first + second >= 0) return false;
  move(s, k, by);
  move(s, other, step_against(s, s->residual[other]));
  return true;
}

/* Until no pair helps that has been looked at since the last that did. */
static void descend(descent *s) {
  descend_singly(s);
  if (!s->q->pairs) return;
  int32_t size = s->q->size;
  for (int32_t k = 0, idle = 0; idle < size; k = (k + 1) % size, idle++) {
    if (!move_two(s, k, s->q->grid.spacing) && !move_two(s, k, -s->q->grid.spacing)) continue;
    descend_singly(s);
    idle = -1;
  }
}

/* ---- restarts ---- */

static void perturb(descent *s, uint64_t row, int32_t restart) {
  int32_t count = s->q->size / PERTURBED_SHARE;
  count = count < LEAST_PERTURBED ? LEAST_PERTURBED : count > MOST_PERTURBED ? MOST_PERTURBED : count;
  for (int32_t i = 0; i < count; i++) {
    uint64_t index = row << 32 | (uint64_t)(uint32_t)restart << 8 | (uint32_t)i;
    qe_philox draw = qe_philox_draw(s->q->seed, QE_STREAM_DESCENT, index);
    int64_t k = qe_below(draw.word[0], (uint32_t)s->q->size);
    int32_t by = draw.word[1] & 1 ? s->q->grid.spacing : -s->q->grid.spacing;
    if (can_move(s, k, by)) move(s, k, by);
  }
}

/* Codes and r of the best so far, to go back to. */
typedef struct kept {
  int64_t *residual, change;
  int8_t *codes;
} kept;

static void copy(const descent *s, kept *to) {
  memcpy(to->residual, s->residual, (size_t)s->q->size * sizeof *to->residual);
  memcpy(to->codes, s->codes, (size_t)s->q->size);
  to->change = s->change;
}

static void back(descent *s, const kept *from) {
  memcpy(s->residual, from->residual, (size_t)s->q->size * sizeof *from->residual);
  memcpy(s->codes, from->codes, (size_t)s->q->size);
  s->change = from->change;
}

static void restart(descent *s, uint64_t row, kept *best) {
  copy(s, best);
  for (int32_t i = 0; i < s->q->restarts; i++) {
    perturb(s, row, i);
    descend(s);
    if (s->change < best->change)
      copy(s, best);
    else
      back(s, best);
  }
}

qe_status qe_quadratic_descend(const qe_quadratic *q, uint64_t row, int8_t *codes, int64_t *residual, int64_t *change,
                               int64_t *moves) {
  int64_t square = (int64_t)q->grid.spacing * q->grid.spacing;
  int64_t *own = QE_NEW_ARRAY(int64_t, q->size);
  int8_t *before = qe_alloc((size_t)q->size);
  kept best = {.residual = QE_NEW_ARRAY(int64_t, q->size), .codes = qe_alloc((size_t)q->size)};
  descent s = {.q = q, .codes = codes, .residual = residual, .own = own};
  qe_status status = own && before && best.residual && best.codes ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) {
    for (int64_t k = 0; k < q->size; k++) own[k] = square * q->gram[k * q->size + k];
    memcpy(before, codes, (size_t)q->size);
    descend(&s);
    restart(&s, row, &best);
    *change = s.change;
    if (moves) *moves = 0;
    for (int64_t k = 0; moves && k < q->size; k++) *moves += codes[k] != before[k];
  }
  qe_free(best.codes);
  qe_free(best.residual);
  qe_free(before);
  qe_free(own);
  return status;
}
