/* Estimation of distribution: start, sampling, update. */
#include "core/search/eda.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"

#include <string.h>

enum { SAMPLES = 8 }; /* of 15 bits that one draw gives */

static uint16_t *shares_of(const qe_eda *eda, int64_t variable) {
  return eda->share + variable * eda->width;
}

/* ---- start ---- */

void qe_eda_recentre(qe_eda *eda, int64_t variable, int32_t centre) {
  int32_t reach = eda->prior.radius ? eda->prior.radius : eda->width, most = eda->most[variable];
  int32_t low = centre > reach ? centre - reach : 0;
  int32_t high = most - centre > reach ? centre + reach : most;
  if (high - low >= eda->width) { /* all values do not fit: as many as do, the centre among them */
    low = centre - (eda->width - 1) / 2;
    if (low > most - eda->width + 1) low = most - eda->width + 1;
    if (low < 0) low = 0;
    high = low + eda->width - 1;
  }
  eda->first[variable] = (uint8_t)low;
  eda->candidates[variable] = (uint8_t)(high - low + 1);
}

void qe_eda_flatten(qe_eda *eda, int64_t variable, int32_t value) {
  uint16_t *share = shares_of(eda, variable);
  int32_t candidates = eda->candidates[variable], centre = value - eda->first[variable], rest = QE_EDA_ONE;
  memset(share, 0, (size_t)eda->width * sizeof *share);
  for (int32_t k = 0; k < candidates; k++) {
    int32_t distance = k < centre ? centre - k : k - centre;
    int32_t part = distance ? eda->prior.spread >> (distance - 1) : 0;
    if (part < eda->prior.floor) part = eda->prior.floor;
    if (eda->prior.uniform) part = QE_EDA_ONE / candidates;
    share[k] = (uint16_t)part;
    rest -= part;
  }
  share[centre] = (uint16_t)(share[centre] + rest);
}

void qe_eda_lean(qe_eda *eda, int64_t variable, int32_t value, int32_t lean) {
  uint16_t *share = shares_of(eda, variable);
  int32_t centre = value - eda->first[variable];
  qe_eda_flatten(eda, variable, value);
  for (int32_t side = -1; side <= 1 && !eda->prior.uniform; side += 2) {
    int32_t k = centre + side, p = QE_EDA_STEP / 2 + side * lean;
    if (k < 0 || k >= eda->candidates[variable]) continue;
    p = p < 0 ? 0 : p > QE_EDA_STEP ? QE_EDA_STEP : p;
    int32_t part = (int32_t)((int64_t)4 * eda->prior.spread * p * p / (QE_EDA_STEP * QE_EDA_STEP));
    if (part < eda->prior.floor) part = eda->prior.floor;
    share[centre] = (uint16_t)(share[centre] + share[k] - part);
    share[k] = (uint16_t)part;
  }
}

static qe_status check_prior(const qe_eda_prior *prior) {
  if (prior->radius < 0 || prior->radius > (QE_EDA_CANDIDATES - 1) / 2)
    return qe_fail(QE_USAGE, "radius %d: must be 0 (all codes) or 1...%d", prior->radius, (QE_EDA_CANDIDATES - 1) / 2);
  if (prior->spread < 0 || prior->spread > QE_EDA_SPREAD)
    return qe_fail(QE_USAGE, "spread %d of %d: must be at most an eighth", prior->spread, QE_EDA_ONE);
  if (prior->floor < 0 || prior->floor > QE_EDA_FLOOR)
    return qe_fail(QE_USAGE, "floor %d of %d: must be at most a 32nd", prior->floor, QE_EDA_ONE);
  return QE_OK;
}

/* The most candidates that any variable has. */
static int32_t width_of(int64_t count, const uint8_t *most, const qe_eda_prior *prior) {
  int32_t values = 1, width = prior->radius ? 2 * prior->radius + 1 : QE_EDA_CANDIDATES;
  for (int64_t i = 0; i < count; i++)
    if (most[i] + 1 > values) values = most[i] + 1;
  return values < width ? values : width;
}

qe_status qe_eda_new(int64_t count, const uint8_t *most, const uint8_t *centre, const qe_eda_prior *prior,
                     qe_eda **out) {
  QE_TRY(check_prior(prior));
  if (count < 1 || count > INT64_C(1) << 28)
    return qe_fail(QE_USAGE, "%lld variables: must be 1...2^28", (long long)count);
  qe_eda *eda = QE_NEW(qe_eda);
  if (!eda) return QE_NO_MEMORY;
  *eda = (qe_eda){.count = count, .width = width_of(count, most, prior), .prior = *prior};
  eda->share = QE_NEW_ARRAY(uint16_t, count * eda->width);
  eda->first = QE_NEW_ARRAY(uint8_t, count);
  eda->candidates = QE_NEW_ARRAY(uint8_t, count);
  eda->most = QE_NEW_ARRAY(uint8_t, count);
  if (!eda->share || !eda->first || !eda->candidates || !eda->most) {
    qe_eda_free(eda);
    return QE_NO_MEMORY;
  }
  memcpy(eda->most, most, (size_t)count);
  for (int64_t i = 0; i < count; i++) {
    qe_eda_recentre(eda, i, centre[i]);
    qe_eda_flatten(eda, i, centre[i]);
  }
  *out = eda;
  return QE_OK;
}

void qe_eda_free(qe_eda *eda) {
  if (!eda) return;
  qe_free(eda->share);
  qe_free(eda->first);
  qe_free(eda->candidates);
  qe_free(eda->most);
  qe_free(eda);
}

static qe_status check_variable(const qe_eda *eda, int64_t variable) {
  const uint16_t *share = shares_of(eda, variable);
  int32_t candidates = eda->candidates[variable], sum = 0;
  bool sound = candidates > 0 && candidates <= eda->width;
  sound = sound && eda->first[variable] + candidates - 1 <= eda->most[variable];
  for (int32_t k = 0; k < eda->width; k++) {
    sound = sound && (k < candidates ? share[k] >= eda->prior.floor : share[k] == 0);
    sum += share[k];
  }
  if (sound && sum == QE_EDA_ONE) return QE_OK;
  return qe_fail(QE_FORMAT,
                 "the probabilities of variable %lld are no distribution: the state is damaged or of other "
                 "options",
                 (long long)variable);
}

qe_status qe_eda_check(const qe_eda *eda) {
  for (int64_t i = 0; i < eda->count; i++) QE_TRY(check_variable(eda, i));
  return QE_OK;
}

/* ---- sampling ---- */

/* The index of a draw: 28 bits for its number, 28 for the variable, 8 for the block of individuals. */
static uint64_t index_of(const qe_eda_draw *draw, int64_t variable, int32_t block) {
  return (uint64_t)draw->number << 36 | (uint64_t)variable << 8 | (uint64_t)block;
}

/* 15 bits of a draw are below so many of the variable's bounds: the number of its candidate. */
static uint8_t pick(const int32_t *bound, int32_t bounds, int32_t value) {
  int32_t candidate = 0;
  for (int32_t k = 0; k < bounds; k++) candidate += value >= bound[k];
  return (uint8_t)candidate;
}

/* One variable, `step` bytes from individual to individual. */
static void sample_variable(const qe_eda *eda, const qe_eda_draw *draw, int64_t variable, int32_t individuals,
                            uint8_t *choice, int64_t step) {
  const uint16_t *share = shares_of(eda, variable);
  int32_t bound[QE_EDA_CANDIDATES], bounds = eda->candidates[variable] - 1, sum = 0;
  for (int32_t k = 0; k < bounds; k++) bound[k] = sum += share[k];
  for (int32_t i = 0; i < individuals; i += SAMPLES) {
    qe_philox random = qe_philox_draw(draw->seed, draw->stream, index_of(draw, variable, i / SAMPLES));
    for (int32_t k = 0; k < SAMPLES && i + k < individuals; k++) {
      int32_t value = (int32_t)(random.word[k / 2] >> (k % 2 ? 17 : 1) & (QE_EDA_ONE - 1));
      choice[(i + k) * step] = pick(bound, bounds, value);
    }
  }
}

void qe_eda_sample(const qe_eda *eda, const qe_eda_draw *draw, const int32_t *list, int64_t count, int32_t individuals,
                   uint8_t *choice) {
  for (int64_t j = 0; j < count; j++) sample_variable(eda, draw, list[j], individuals, choice + j, count);
}

/* ---- update ---- */

/* What lies above the floor moves towards `tally` of `chosen`; what rounding leaves over goes to the largest
 * remainders, the lowest candidate of equal ones. */
static void update_variable(qe_eda *eda, int64_t variable, const uint16_t *tally, int32_t chosen, int32_t rate) {
  uint16_t *share = shares_of(eda, variable);
  int32_t candidates = eda->candidates[variable], floor = eda->prior.floor;
  uint64_t whole = (uint64_t)(QE_EDA_ONE - candidates * floor), unit = (uint64_t)QE_EDA_ONE * (uint64_t)chosen;
  uint64_t remainder[QE_EDA_CANDIDATES], missing = whole;
  for (int32_t k = 0; k < candidates; k++) {
    uint64_t stay = (uint64_t)(QE_EDA_ONE - rate) * (uint64_t)(share[k] - floor) * (uint64_t)chosen;
    uint64_t sum = stay + (uint64_t)rate * whole * tally[k], part = sum / unit;
    remainder[k] = sum % unit;
    share[k] = (uint16_t)((uint64_t)floor + part);
    missing -= part;
  }
  for (; missing > 0; missing--) {
    int32_t largest = 0;
    for (int32_t k = 1; k < candidates; k++)
      if (remainder[k] > remainder[largest]) largest = k;
    share[largest]++;
    remainder[largest] = 0;
  }
}

qe_status qe_eda_update(qe_eda *eda, const int32_t *list, int64_t count, const uint8_t *choice, const int32_t *best,
                        int32_t chosen, int32_t rate) {
  uint16_t *tally = QE_NEW_ARRAY(uint16_t, count * QE_EDA_CANDIDATES);
  if (!tally) return QE_NO_MEMORY;
  for (int32_t i = 0; i < chosen; i++) {
    const uint8_t *row = choice + best[i] * count;
    for (int64_t j = 0; j < count; j++) tally[j * QE_EDA_CANDIDATES + row[j]]++;
  }
  for (int64_t j = 0; j < count; j++) update_variable(eda, list[j], tally + j * QE_EDA_CANDIDATES, chosen, rate);
  qe_free(tally);
  return QE_OK;
}
