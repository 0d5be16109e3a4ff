/* Requantisers of a layer made ready: the cheapest kind that is exact for the ranges that its sums and its second
 * branch are proven to have. */
#include "backends/cpu/epilogue.h"

__extension__ typedef __int128 wide;

/* Values as they lie in memory: the true value less a centre. */
typedef struct span {
  int64_t least, most, centre;
} span;

/* T = v * m + u * n + offset, in least...most; v of the sums, u of the second branch. */
typedef struct terms {
  span v, u;
  wide m, n, offset;
  wide least, most;
} terms;

static bool fits(wide value, int bits) {
  wide bound = (wide)1 << (bits - 1);
  return value >= -bound && value < bound;
}

static wide least_of(wide a, wide b) {
  return a < b ? a : b;
}

static wide most_of(wide a, wide b) {
  return a > b ? a : b;
}

static int32_t clamp(wide value, int32_t low, int32_t high) {
  return (int32_t)(value < low ? low : value > high ? high : value);
}

static epilogue_branch branch_of(const cpu_requant_source *source) {
  if (!source->n) return EPILOGUE_ALONE;
  return source->other_is_sums ? EPILOGUE_SUMS : EPILOGUE_CODES;
}

/* Whether all sums are of this type. */
static bool all_sums(const cpu_requant_source *source, cpu_sums type) {
  return source->sums == type && (branch_of(source) != EPILOGUE_SUMS || source->other == type);
}

/* What is added to the codes as they are stored. */
static int32_t zero_of(const cpu_requant_source *source) {
  return source->logits ? 0 : source->zero;
}

static span sums_span(cpu_sums type, int32_t centre, int64_t least, int64_t most) {
  bool halves = type == CPU_SUMS_S16;
  int32_t low = halves ? INT16_MIN : INT32_MIN, high = halves ? INT16_MAX : INT32_MAX;
  return (span){clamp((wide)least - centre, low, high), clamp((wide)most - centre, low, high), centre};
}

static span second_span(const cpu_requant_source *source, int32_t c) {
  epilogue_branch branch = branch_of(source);
  if (branch == EPILOGUE_ALONE) return (span){0, 0, 0};
  if (branch == EPILOGUE_CODES) return (span){0, source->skip_most, -(int64_t)source->skip_zero};
  return sums_span(source->other, source->other_centre ? source->other_centre[c] : 0, source->other_least[c],
                   source->other_most[c]);
}

static wide least_product(wide factor, const span *values) {
  return least_of(factor * values->least, factor * values->most);
}

static wide most_product(wide factor, const span *values) {
  return most_of(factor * values->least, factor * values->most);
}

/* Terms of channel c whose codes shifted by 2^scale less come out shifted by attrs.shift + scale; `zero` is added to
 * the codes. */
static terms terms_of(const cpu_requant_source *source, int32_t c, int scale, int32_t zero) {
  const wide unit = (wide)1 << scale, m = source->m[c], n = source->n ? source->n[c] : 0;
  terms t = {.v = sums_span(source->sums, source->centre ? source->centre[c] : 0, source->least[c], source->most[c]),
             .u = second_span(source, c),
             .m = m * unit,
             .n = n * unit};
  wide offset = source->offset[c] + m * t.v.centre + n * t.u.centre + (wide)zero * ((wide)1 << source->attrs.shift);
  t.offset = offset * unit;
  t.least = least_product(t.m, &t.v) + least_product(t.n, &t.u) + t.offset;
  t.most = most_product(t.m, &t.v) + most_product(t.n, &t.u) + t.offset;
  return t;
}

static wide ceiling(wide a, wide b) {
  wide quotient = a / b;
  return quotient + (a % b > 0);
}

/* s16 t such that w > t says whether the code is at least `code`, where w is v, or -1 - v if m is negative. False: no
 * s16 does. */
static bool threshold_of(const cpu_requant_source *source, const terms *t, int64_t code, int16_t *threshold) {
  wide wanted = (wide)code * ((wide)1 << source->attrs.shift) - t->offset; /* v * m must reach this */
  wide w_least = t->m < 0 ? -1 - t->v.most : t->v.least, bound;
  if (t->m > 0)
    bound = ceiling(wanted, t->m) - 1;
  else if (t->m < 0)
    bound = ceiling(wanted, -t->m) - 2;
  else
    bound = wanted <= 0 ? w_least - 1 : INT16_MAX;
  bound = least_of(most_of(bound, w_least - 1), INT16_MAX);
  if (bound < INT16_MIN) return false;
  *threshold = (int16_t)bound;
  return true;
}

static int32_t twice(int16_t value) {
  return (int32_t)((uint16_t)value * UINT32_C(0x10001));
}

static bool fill_steps(const cpu_requant_source *source, int32_t c, epilogue_channel *channel) {
  terms t = terms_of(source, c, 0, 0);
  if (source->sums != CPU_SUMS_S16 || source->n) return false;
  if ((int64_t)source->attrs.high - source->attrs.low > EPILOGUE_THRESHOLDS) return false;
  channel->steps.flip = t.m < 0 ? -1 : 0;
  for (int32_t k = 0; k < EPILOGUE_THRESHOLDS; k++) {
    int64_t code = (int64_t)source->attrs.low + k + 1;
    int16_t threshold = INT16_MAX;
    if (code <= source->attrs.high && !threshold_of(source, &t, code, &threshold)) return false;
    channel->steps.threshold[k] = twice(threshold);
  }
  return true;
}

static bool fill_step(const cpu_requant_source *source, int32_t c, epilogue_channel *channel) {
  return (int64_t)source->attrs.high - source->attrs.low <= 1 && fill_steps(source, c, channel);
}

static bool fill_narrow(const cpu_requant_source *source, int32_t c, epilogue_channel *channel) {
  terms t = terms_of(source, c, 0, zero_of(source));
  if (!all_sums(source, CPU_SUMS_S16) || !fits(t.m, 16) || !fits(t.n, 16)) return false;
  if (!fits(t.least, 32) || !fits(t.most, 32)) return false;
  channel->narrow.multiplier[0] = (int16_t)t.m;
  channel->narrow.multiplier[1] = (int16_t)t.n;
  channel->narrow.offset = (int32_t)(uint32_t)t.offset;
  return true;
}

static int limbs_scale(const cpu_requant_source *source) {
  return source->attrs.shift < 16 ? 16 - source->attrs.shift : 0;
}

/* value = high * 2^16 + low with s16 halves. */
static bool split(wide value, int16_t *high, int16_t *low) {
  *low = (int16_t)(uint16_t)value;
  wide rest = (value - *low) / 65536;
  *high = (int16_t)rest;
  return fits(rest, 16);
}

/* The low parts of the multipliers and the offset give sums that fit s32: always so with one branch of sums, whose
 * size is at most 2^30 + 255 * 2^15 + 2^16. */
static bool low_part_fits(const terms *t, const epilogue_channel *channel) {
  const wide m = channel->limbs.low[0], n = channel->limbs.low[1], offset = channel->limbs.low_offset;
  return fits(least_product(m, &t->v) + least_product(n, &t->u) + offset, 32) &&
         fits(most_product(m, &t->v) + most_product(n, &t->u) + offset, 32);
}

/* T >> 16 = v * m_high + u * n_high + offset_high + ((v * m_low + u * n_low + offset_low) >> 16) exactly, since the
 * floor passes over the multiples of 2^16. */
static bool fill_limbs(const cpu_requant_source *source, int32_t c, epilogue_channel *channel) {
  terms t = terms_of(source, c, limbs_scale(source), zero_of(source));
  if (!all_sums(source, CPU_SUMS_S16) || !fits(t.least, 48) || !fits(t.most, 48)) return false;
  if (!split(t.m, &channel->limbs.high[0], &channel->limbs.low[0])) return false;
  if (!split(t.n, &channel->limbs.high[1], &channel->limbs.low[1])) return false;
  int32_t low = (int32_t)((uint32_t)t.offset & 65535);
  channel->limbs.low_offset = low;
  channel->limbs.high_offset = (int32_t)(uint32_t)((t.offset - low) / 65536);
  return low_part_fits(&t, channel);
}

static void set_wide(const terms *t, epilogue_channel *channel) {
  channel->wide.multiplier[0] = (int32_t)t->m;
  channel->wide.multiplier[1] = (int32_t)t->n;
  channel->wide.offset = (int64_t)(uint64_t)t->offset;
}

static bool fill_high(const cpu_requant_source *source, int32_t c, epilogue_channel *channel) {
  terms t = terms_of(source, c, 0, zero_of(source));
  if (!all_sums(source, CPU_SUMS_S32) || source->attrs.shift < 32) return false;
  set_wide(&t, channel);
  return fits(t.least, 64) && fits(t.most, 64);
}

static bool fill_middle(const cpu_requant_source *source, int32_t c, epilogue_channel *channel) {
  terms t = terms_of(source, c, 0, zero_of(source));
  const int bits = 32 + source->attrs.shift;
  if (!all_sums(source, CPU_SUMS_S32) || source->attrs.shift >= 32) return false;
  set_wide(&t, channel);
  return fits(t.least, bits) && fits(t.most, bits);
}

static bool fill_any(const cpu_requant_source *source, int32_t c, epilogue_channel *channel) {
  terms t = terms_of(source, c, 0, 0);
  set_wide(&t, channel);
  return true;
}

static const struct {
  const char *name;
  bool (*fill)(const cpu_requant_source *source, int32_t c, epilogue_channel *channel);
} kind_table[EPILOGUE_KINDS] = {
    [EPILOGUE_STEP] = {"step", fill_step},       [EPILOGUE_STEPS] = {"steps", fill_steps},
    [EPILOGUE_NARROW] = {"narrow", fill_narrow}, [EPILOGUE_LIMBS] = {"limbs", fill_limbs},
    [EPILOGUE_HIGH] = {"high", fill_high},       [EPILOGUE_MIDDLE] = {"middle", fill_middle},
    [EPILOGUE_ANY] = {"any", fill_any},
};

static bool fill_all(const cpu_requant_source *source, epilogue_kind kind, epilogue *e) {
  for (int32_t c = 0; c < source->channels; c++)
    if (!kind_table[kind].fill(source, c, &e->channel[c])) return false;
  return true;
}

static int32_t shift_of(const cpu_requant_source *source, epilogue_kind kind) {
  int32_t shift = source->attrs.shift;
  if (kind == EPILOGUE_ANY) return shift;
  if (kind == EPILOGUE_LIMBS) shift += limbs_scale(source) - 16;
  if (kind == EPILOGUE_HIGH) shift -= 32;
  return shift < 31 ? shift : 31; /* of an s32: more changes nothing */
}

static void prepare_low(const cpu_requant_source *source, epilogue *e) {
  const int32_t vanished = 9; /* from here on every code of 8 bits and a sign gives 0 */
  e->low_shift = source->low_shift < vanished ? source->low_shift : vanished;
  e->low_half = e->low_shift > 0 ? 1 << (e->low_shift - 1) : 0;
  e->low_zero = source->low_zero;
  e->low_least = clamp(source->low_least, -source->low_zero, 255 - source->low_zero);
  e->low_most = clamp(source->low_most, -source->low_zero, 255 - source->low_zero);
  e->low_plain = e->low_shift >= 1 && !source->zero && !source->low_zero && e->low_least == 0;
}

size_t CPU_NAME(requant_bytes)(int32_t channels) {
  return sizeof(epilogue) + ((size_t)channels + 1) * sizeof(epilogue_channel);
}

void CPU_NAME(requant_prepare)(const cpu_requant_source *source, void *prepared) {
  epilogue *e = prepared;
  const qe_requant *attrs = &source->attrs;
  memset(e, 0, CPU_NAME(requant_bytes)(source->channels));
  e->branch = branch_of(source);
  e->sums = source->sums;
  e->other = source->other;
  e->channels = source->channels;
  e->low = attrs->low;
  e->high = attrs->high;
  e->zero = zero_of(source);
  e->least = clamp((int64_t)attrs->low + source->zero, 0, UINT8_MAX);
  e->most = clamp((int64_t)attrs->high + source->zero, 0, UINT8_MAX);
  e->logits = source->logits;
  prepare_low(source, e);
  e->kind = source->logits ? EPILOGUE_NARROW : EPILOGUE_STEP;
  while (!fill_all(source, e->kind, e)) e->kind++; /* EPILOGUE_ANY takes all */
  e->shift = shift_of(source, e->kind);
}

const char *CPU_NAME(requant_kind)(const void *prepared) {
  return kind_table[((const epilogue *)prepared)->kind].name;
}
