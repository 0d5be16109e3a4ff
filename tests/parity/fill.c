/* Fillers: values of an operand by its kind, the fill of the case and, for quantisers, the step. */
#include "tests/parity/parity.h"

#include <math.h>
#include <string.h>

/* ---- real values of a fill ---- */

static float sign_of(parity_draws *draws) {
  return parity_word(draws) & 1 ? -1.0f : 1.0f;
}

static float bell(parity_draws *draws) {
  return 2 * (parity_real(draws) + parity_real(draws) + parity_real(draws) - 1.5f);
}

/* Halves, and now and then the ends of the clamp. */
static float tie(parity_draws *draws, const qe_attrs *attrs) {
  int32_t choice = parity_range(draws, 0, 9);
  if (choice == 0) return attrs->low;
  if (choice == 1 && isfinite(attrs->high)) return attrs->high;
  return 0.5f * (float)parity_range(draws, -6, 6);
}

static float denormal(parity_draws *draws) {
  int32_t choice = parity_range(draws, 0, 3);
  float size = choice == 0 ? 0 : ldexpf(1 + parity_real(draws), choice == 1 ? -126 : parity_range(draws, -149, -127));
  return sign_of(draws) * size;
}

/* `reach` binades for LARGE. */
static float real_value(parity_draws *draws, const parity_case *from, int32_t reach) {
  switch (from->fill) {
  case PARITY_FILL_LOW:
    return -2 - 0.5f * parity_real(draws);
  case PARITY_FILL_HIGH:
    return 2 + 0.5f * parity_real(draws);
  case PARITY_FILL_MIXED:
    return sign_of(draws) * ldexpf(1 + parity_real(draws), parity_range(draws, -12, 11));
  case PARITY_FILL_TIES:
    return tie(draws, &from->attrs);
  case PARITY_FILL_SMALL:
    return denormal(draws);
  case PARITY_FILL_LARGE:
    return sign_of(draws) * ldexpf(1 + parity_real(draws), parity_range(draws, reach / 2, reach));
  default:
    return bell(draws);
  }
}

/* ---- quantisers ---- */

enum { STEPS = 200 }; /* substream of the steps: the map is scaled with them */

static float step_value(const parity_case *from, uint32_t variant, int32_t channel) {
  parity_draws draws = parity_draws_start(from->seed ^ ((uint64_t)(uint32_t)channel << 32), STEPS + variant);
  int32_t exponent = parity_range(&draws, -7, 1);
  /* Few bits for ties, so that half a step times a code is exact. */
  if (from->fill == PARITY_FILL_TIES) return ldexpf((float)parity_range(&draws, 4, 7) / 4, exponent);
  return ldexpf(1 + parity_real(&draws), exponent);
}

/* The quantiser's input, in steps: over the codes' range and beyond both ends. */
static float position(parity_draws *draws, const parity_case *from) {
  const qe_quant *quant = &from->attrs.quant;
  float low = (float)quant->low, high = (float)quant->high;
  switch (from->fill) {
  case PARITY_FILL_LOW:
    return low - 2 + 3 * parity_real(draws);
  case PARITY_FILL_HIGH:
    return high + 2 - 3 * parity_real(draws);
  case PARITY_FILL_TIES:
    return (float)parity_range(draws, 2 * quant->low - 5, 2 * quant->high + 5) / 2;
  default:
    return low - 2 + (high - low + 4) * parity_real(draws);
  }
}

static void fill_quantised(parity_draws *draws, const parity_case *from, uint32_t variant, const qe_desc *desc,
                           float *values) {
  const qe_quant *quant = &from->attrs.quant;
  int64_t row = qe_count(desc) / desc->dim[QE_N];
  for (int32_t n = 0; n < desc->dim[QE_N]; n++) {
    float step = ldexpf(step_value(from, variant, quant->per_channel ? n : 0), -quant->step_shift);
    for (int64_t i = 0; i < row; i++) {
      float *value = &values[n * row + i];
      if (from->fill == PARITY_FILL_SMALL)
        *value = denormal(draws);
      else if (from->fill == PARITY_FILL_LARGE && parity_chance(draws, 50))
        *value = sign_of(draws) * ldexpf(1 + parity_real(draws), parity_range(draws, 20, 126));
      else
        *value = step * position(draws, from);
    }
  }
}

/* ---- vectors of a fixed meaning ---- */

static void fill_hyper(parity_draws *draws, float *values) {
  float beta1 = parity_chance(draws, 20) ? 0 : 0.9f, beta2 = parity_chance(draws, 50) ? 0.999f : 0.95f;
  float time = (float)parity_range(draws, 1, 1000);
  values[QE_HYPER_RATE] = 0.2f * parity_real(draws);
  values[QE_HYPER_MOMENTUM] = beta1;
  values[QE_HYPER_BETA2] = beta2;
  values[QE_HYPER_EPSILON] = parity_chance(draws, 50) ? 1e-8f : 1e-5f;
  values[QE_HYPER_DECAY] = parity_chance(draws, 30) ? 0 : 5e-4f;
  values[QE_HYPER_NESTEROV] = parity_chance(draws, 50) ? 1 : 0;
  values[QE_HYPER_CORRECTION1] = 1 / (1 - powf(beta1, time));
  values[QE_HYPER_CORRECTION2] = 1 / (1 - powf(beta2, time));
  values[QE_HYPER_CLIP] = parity_chance(draws, 30) ? 0 : 10 * parity_real(draws);
  values[QE_HYPER_AVERAGE] = 1 - 0.1f * parity_real(draws);
}

static void fill_reals(parity_draws *draws, const parity_case *from, qe_kind kind, const qe_desc *desc, float *values) {
  bool map = kind == QE_KIND_MAP || kind == QE_KIND_RESULT || kind == QE_KIND_OTHER || kind == QE_KIND_POSITIVE;
  bool positive = kind == QE_KIND_POSITIVE || kind == QE_KIND_VARIANCE || kind == QE_KIND_SCALAR_POSITIVE;
  int64_t count = qe_count(desc);
  for (int64_t i = 0; i < count; i++) {
    float value = real_value(draws, from, map ? 36 : 8);
    values[i] = positive ? fabsf(value) : value;
    if (kind == QE_KIND_SCALAR_POSITIVE && values[i] < 1e-6f) values[i] = 1e-6f;
  }
}

static void fill_integers(parity_draws *draws, const parity_case *from, qe_kind kind, const qe_desc *desc,
                          int32_t *values) {
  int32_t limit = qe_kind_limit(kind, &from->attrs, &from->principal);
  int64_t count = qe_count(desc);
  for (int64_t i = 0; i < count; i++) {
    uint32_t word = parity_word(draws);
    memcpy(&values[i], &word, sizeof word);
    if (limit < 1) continue;
    values[i] = from->fill == PARITY_FILL_LOW    ? 0
                : from->fill == PARITY_FILL_HIGH ? limit - 1
                                                 : (int32_t)qe_below(word, (uint32_t)limit);
  }
}

/* ---- the integer network ---- */

/* Uniform in [-reach, reach], or near one of its ends. */
static int64_t integer_value(parity_draws *draws, const parity_case *from, int64_t reach) {
  uint64_t word = (uint64_t)parity_word(draws) << 32 | parity_word(draws);
  if (from->fill == PARITY_FILL_LOW) return -reach + (int64_t)(word % 3 < (uint64_t)reach ? word % 3 : 0);
  if (from->fill == PARITY_FILL_HIGH) return reach - (int64_t)(word % 3 < (uint64_t)reach ? word % 3 : 0);
  if (from->fill == PARITY_FILL_SMALL) return (int64_t)(word % 5) - 2;
  return (int64_t)(word % (2 * (uint64_t)reach + 1)) - reach;
}

/* How far values of an s32 or s64 operand may reach, so that no sum leaves its type: s32 for narrow requantisers. */
static int64_t reach_of_kind(const parity_case *from, qe_kind kind) {
  qe_shape_class shape_class = qe_op_get_info(from->op)->shape_class;
  bool narrow = from->attrs.requant.narrow != 0, loss = shape_class == QE_CLASS_INT_LOSS;
  if (shape_class == QE_CLASS_INT_ERROR && from->fill != PARITY_FILL_LARGE) return 1 << 11;
  if (kind == QE_KIND_MULTIPLIER) return narrow ? 32767 : INT64_C(1) << 30;
  if (kind == QE_KIND_OFFSET) return narrow ? INT64_C(1) << 29 : INT64_C(1) << 60;
  if (kind == QE_KIND_CHANNEL_SUMS) return INT64_C(1) << (from->fill == PARITY_FILL_LARGE ? 62 : 44);
  return loss ? 1 << 20 : narrow ? 20000 : INT32_MAX;
}

static void fill_codes(parity_draws *draws, const parity_case *from, const qe_desc *desc, void *target) {
  uint8_t least = desc->dtype == QE_S8 ? 0x80 : 0, most = desc->dtype == QE_S8 ? 0x7F : 0xFF;
  for (int64_t i = 0, count = qe_count(desc); i < count; i++)
    ((uint8_t *)target)[i] = from->fill == PARITY_FILL_LOW    ? least
                             : from->fill == PARITY_FILL_HIGH ? most
                                                              : (uint8_t)parity_word(draws);
}

static bool fill_integer_network(parity_draws *draws, const parity_case *from, qe_kind kind, const qe_desc *desc,
                                 void *target) {
  if (kind < QE_KIND_CODES && desc->dtype != QE_U8) return false;
  int64_t count = qe_count(desc);
  if (desc->dtype == QE_S64)
    for (int64_t i = 0; i < count; i++) ((int64_t *)target)[i] = integer_value(draws, from, reach_of_kind(from, kind));
  else if (desc->dtype == QE_S32)
    for (int64_t i = 0; i < count; i++)
      ((int32_t *)target)[i] = (int32_t)integer_value(draws, from, reach_of_kind(from, kind));
  else
    fill_codes(draws, from, desc, target);
  return true;
}

void parity_fill_operand(const parity_case *from, int operand, const qe_desc *desc, uint32_t variant, void *target) {
  const qe_op_info *info = qe_op_get_info(from->op);
  qe_kind kind = info->operand[operand].kind;
  parity_draws draws = parity_draws_start(from->seed, 1 + (uint32_t)operand + 16 * variant);
  if (fill_integer_network(&draws, from, kind, desc, target)) return;
  if (desc->dtype == QE_S32) {
    fill_integers(&draws, from, kind, desc, target);
  } else if (kind == QE_KIND_HYPER) {
    fill_hyper(&draws, target);
  } else if (kind == QE_KIND_STEP) {
    for (int32_t n = 0; n < desc->dim[QE_N]; n++) ((float *)target)[n] = step_value(from, variant, n);
  } else if (info->shape_class == QE_CLASS_QUANT && operand == info->principal) {
    fill_quantised(&draws, from, variant, desc, target);
  } else {
    fill_reals(&draws, from, kind, desc, target);
  }
  if (from->fill == PARITY_FILL_SPECIAL && desc->dtype == QE_F32)
    parity_special_fill(from, operand, variant, qe_count(desc), target);
}

/* ---- garbage ---- */

static uint64_t mix(uint64_t *state) {
  uint64_t word = *state += UINT64_C(0x9E3779B97F4A7C15);
  word = (word ^ word >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  word = (word ^ word >> 27) * UINT64_C(0x94D049BB133111EB);
  return word ^ word >> 31;
}

/* Two words of four bytes: an f32 NaN, or any bits. */
static uint64_t garbage_word(uint64_t *state, bool only_nan) {
  uint64_t word = mix(state);
  if (only_nan || word & 1 << 20) word |= UINT64_C(0x7FC000007FC00000);
  return word;
}

static void fill_words(uint64_t round, bool only_nan, void *target, size_t bytes) {
  uint64_t state = round * UINT64_C(0xD1342543DE82EF95) + bytes;
  for (size_t i = 0; i < bytes; i += 8) {
    uint64_t word = garbage_word(&state, only_nan);
    memcpy((char *)target + i, &word, bytes - i < 8 ? bytes - i : 8);
  }
}

void parity_fill_garbage(uint64_t round, void *target, size_t bytes) {
  fill_words(round, false, target, bytes);
}

void parity_fill_unwritten(uint64_t round, const qe_desc *desc, void *target) {
  fill_words(round, desc->dtype == QE_F32, target, qe_bytes(desc));
}
