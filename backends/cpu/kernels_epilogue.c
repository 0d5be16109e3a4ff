/* The requantiser on sums in lanes: sums, and a second branch of codes or sums, to codes, two output channels at a
 * time, or to logits. */
#include "backends/cpu/epilogue.h"
#include "backends/cpu/lane_vec.h"

/* Pairs of channels that lie in a buffer where the map is not made of pairs; a multiple of what one vector covers. */
enum { BUFFER = 16, MOST_GROUP = 4 };

/* What the loops hold in registers, or the compiler knows. */
typedef struct constants {
  vec least, most, shift, low_mask, low_most;
  vec down, up;  /* of EPILOGUE_MIDDLE */
  vec low, high; /* logits */
  int low_shift; /* less one */
  epilogue_branch branch;
  int64_t bytes, other_bytes; /* of a channel's sums */
} constants;

CPU_INLINE vec set64(int64_t value) {
  return vec_broadcast64(&value);
}

CPU_INLINE int64_t bytes_of(cpu_sums sums) {
  return sums == CPU_SUMS_S16 ? VEC : 2 * VEC;
}

CPU_INLINE constants constants_of(const epilogue *e, epilogue_branch branch, cpu_sums sums, cpu_sums other) {
  const int low_shift = e->low_plain ? e->low_shift - 1 : 0;
  return (constants){.least = vec_set8(e->least),
                     .most = vec_set8(e->most),
                     .shift = vec_set32(e->shift),
                     .low_mask = vec_set8(UINT8_MAX >> low_shift),
                     .low_most = vec_set8(e->low_most),
                     .down = set64(e->shift),
                     .up = set64(32 - e->shift),
                     .low = vec_set32(e->low),
                     .high = vec_set32(e->high),
                     .low_shift = low_shift,
                     .branch = branch,
                     .bytes = bytes_of(sums),
                     .other_bytes = bytes_of(other)};
}

/* ---- the second branch ---- */

/* Of a site's first pair of channels. */
CPU_INLINE const uint8_t *second_at(const epilogue *e, const constants *k, const cpu_requant_task *task, int64_t line,
                                    int64_t site) {
  if (k->branch == EPILOGUE_ALONE) return NULL;
  if (k->branch == EPILOGUE_CODES) return task->skip + line * task->skip_line + site * task->skip_site;
  return (const uint8_t *)task->other + (line * task->sites + site) * e->channels * k->other_bytes;
}

/* Bytes from a pair of channels to the next. */
CPU_INLINE int64_t second_step(const constants *k, const cpu_requant_task *task) {
  return k->branch == EPILOGUE_SUMS ? 2 * k->other_bytes : task->skip_vector;
}

/* Bytes from a pair's first channel to its second. */
CPU_INLINE int64_t second_half(const constants *k) {
  return k->branch == EPILOGUE_SUMS ? k->other_bytes : 0;
}

/* A channel's values as 16 bits; `odd`: it is the second of its pair. */
CPU_INLINE vec second16(const constants *k, const uint8_t *second, bool odd) {
  if (k->branch == EPILOGUE_ALONE) return vec_zero();
  if (k->branch == EPILOGUE_SUMS) return vec_load(second);
  return odd ? vec_shr16(vec_load(second), 8) : vec_and(vec_load(second), vec_set16(UINT8_MAX));
}

/* The first or second vector of a channel's values as s32. */
CPU_INLINE vec second32(const constants *k, const uint8_t *second, bool odd, int which) {
  if (k->branch == EPILOGUE_SUMS) return vec_load(second + which * VEC);
  vec codes = second16(k, second, odd);
  return which ? vec_unpackhi16(codes, vec_zero()) : vec_unpacklo16(codes, vec_zero());
}

/* ---- the kinds: a channel's sums to T >> attrs.shift ---- */

/* s32 values of a channel, laid out as s32 sums. */
typedef struct values {
  vec half[2];
} values;

/* `second` points to the channel's sums, or to the codes of its pair. */
typedef values (*values_function)(const constants *k, const epilogue_channel *channel, const uint8_t *sums,
                                  const uint8_t *second, bool odd);

CPU_INLINE vec narrow_half(vec terms, const epilogue_channel *channel, vec shift) {
  vec products = vec_madd16(terms, vec_broadcast32(channel->narrow.multiplier));
  return vec_sarv32(vec_add32(products, vec_broadcast32(&channel->narrow.offset)), shift);
}

CPU_INLINE values values_narrow(const constants *k, const epilogue_channel *channel, const uint8_t *sums,
                                const uint8_t *second, bool odd) {
  vec v = vec_load(sums), u = second16(k, second, odd);
  return (values){
      {narrow_half(vec_unpacklo16(v, u), channel, k->shift), narrow_half(vec_unpackhi16(v, u), channel, k->shift)}};
}

CPU_INLINE vec limbs_half(vec terms, const epilogue_channel *channel, vec shift) {
  vec high = vec_madd16(terms, vec_broadcast32(channel->limbs.high));
  vec low = vec_madd16(terms, vec_broadcast32(channel->limbs.low));
  high = vec_add32(high, vec_broadcast32(&channel->limbs.high_offset));
  low = vec_add32(low, vec_broadcast32(&channel->limbs.low_offset));
  return vec_sarv32(vec_add32(high, vec_sar32(low, 16)), shift);
}

CPU_INLINE values values_limbs(const constants *k, const epilogue_channel *channel, const uint8_t *sums,
                               const uint8_t *second, bool odd) {
  vec v = vec_load(sums), u = second16(k, second, odd);
  return (values){
      {limbs_half(vec_unpacklo16(v, u), channel, k->shift), limbs_half(vec_unpackhi16(v, u), channel, k->shift)}};
}

/* T of the even and of the odd 32-bit elements. */
typedef struct wide_terms {
  vec even, odd;
} wide_terms;

CPU_INLINE wide_terms wide_half(const constants *k, const epilogue_channel *channel, const uint8_t *sums,
                                const uint8_t *second, bool odd, int which) {
  vec v = vec_load(sums + which * VEC), offset = vec_broadcast64(&channel->wide.offset);
  vec multiplier = vec_broadcast32(&channel->wide.multiplier[0]);
  wide_terms t = {vec_add64(vec_mul_even32(v, multiplier), offset),
                  vec_add64(vec_mul_even32(vec_shr64(v, 32), multiplier), offset)};
  if (k->branch == EPILOGUE_ALONE) return t;
  vec u = second32(k, second, odd, which);
  multiplier = vec_broadcast32(&channel->wide.multiplier[1]);
  t.even = vec_add64(t.even, vec_mul_even32(u, multiplier));
  t.odd = vec_add64(t.odd, vec_mul_even32(vec_shr64(u, 32), multiplier));
  return t;
}

CPU_INLINE values values_high(const constants *k, const epilogue_channel *channel, const uint8_t *sums,
                              const uint8_t *second, bool odd) {
  values result;
  for (int i = 0; i < 2; i++) {
    wide_terms t = wide_half(k, channel, sums, second, odd, i);
    result.half[i] = vec_sarv32(vec_blend32(vec_shr64(t.even, 32), t.odd), k->shift);
  }
  return result;
}

/* Bits shift...shift + 31 of T, which say it all. */
CPU_INLINE values values_middle(const constants *k, const epilogue_channel *channel, const uint8_t *sums,
                                const uint8_t *second, bool odd) {
  values result;
  for (int i = 0; i < 2; i++) {
    wide_terms t = wide_half(k, channel, sums, second, odd, i);
    result.half[i] = vec_blend32(vec_shrv64(t.even, k->down), vec_shlv64(t.odd, k->up));
  }
  return result;
}

/* ---- values to codes and logits ---- */

/* Two channels' sums a and b to one vector of pairs; `second` is a's, and b == a where there is no second channel. */
typedef vec (*pair_function)(const epilogue *e, const constants *k, const epilogue_channel *channel, const uint8_t *a,
                             const uint8_t *b, const uint8_t *second);
typedef void (*logits_function)(const epilogue *e, const constants *k, const epilogue_channel *channel,
                                const uint8_t *sums, const uint8_t *second, bool odd, int32_t *to);

CPU_INLINE const uint8_t *second_of_b(const constants *k, const uint8_t *a, const uint8_t *b, const uint8_t *second) {
  return a == b || k->branch != EPILOGUE_SUMS ? second : second + second_half(k);
}

CPU_INLINE vec pair_of(values_function function, const constants *k, const epilogue_channel *channel, const uint8_t *a,
                       const uint8_t *b, const uint8_t *second) {
  values even = function(k, channel, a, second, false);
  values odd = function(k, channel + 1, b, second_of_b(k, a, b, second), true);
  vec stored = vec_pairs16(vec_packs32(even.half[0], even.half[1]), vec_packs32(odd.half[0], odd.half[1]));
  return vec_max_u8(vec_min_u8(stored, k->most), k->least);
}

/* In the order of images. */
CPU_INLINE void store_logits(const constants *k, const values *value, int32_t *to) {
  enum { RUN = 4 };
  for (int i = 0; i < 2; i++) {
    int32_t clamped[LANES / 2];
    vec_store(clamped, vec_min32(vec_max32(value->half[i], k->low), k->high));
    for (int lane = 0; lane < LANES / 2; lane += RUN) memcpy(to + 2 * lane + i * RUN, clamped + lane, RUN * sizeof *to);
  }
}

#define KIND(kind)                                                                                                     \
  CPU_INLINE vec pair_##kind(const epilogue *e, const constants *k, const epilogue_channel *channel, const uint8_t *a, \
                             const uint8_t *b, const uint8_t *second) {                                                \
    (void)e;                                                                                                           \
    return pair_of(values_##kind, k, channel, a, b, second);                                                           \
  }                                                                                                                    \
  CPU_INLINE void logits_##kind(const epilogue *e, const constants *k, const epilogue_channel *channel,                \
                                const uint8_t *sums, const uint8_t *second, bool odd, int32_t *to) {                   \
    (void)e;                                                                                                           \
    values value = values_##kind(k, channel, sums, second, odd);                                                       \
    store_logits(k, &value, to);                                                                                       \
  }
KIND(narrow)
KIND(limbs)
KIND(high)
KIND(middle)

/* The stored code grows by one with each threshold that is passed. */
CPU_INLINE vec steps_channel(const constants *k, const epilogue_channel *channel, const uint8_t *sums, int thresholds) {
  vec v = vec_xor(vec_load(sums), vec_broadcast32(&channel->steps.flip));
  vec code = vec_and(k->least, vec_set16(UINT8_MAX));
  for (int i = 0; i < thresholds; i++) code = vec_count_above16(code, v, vec_broadcast32(&channel->steps.threshold[i]));
  return code;
}

CPU_INLINE vec pair_step(const epilogue *e, const constants *k, const epilogue_channel *channel, const uint8_t *a,
                         const uint8_t *b, const uint8_t *second) {
  (void)e;
  (void)second;
  return vec_or(steps_channel(k, channel, a, 1), vec_shl16(steps_channel(k, channel + 1, b, 1), 8));
}

CPU_INLINE vec pair_steps(const epilogue *e, const constants *k, const epilogue_channel *channel, const uint8_t *a,
                          const uint8_t *b, const uint8_t *second) {
  (void)e;
  (void)second;
  return vec_or(steps_channel(k, channel, a, EPILOGUE_THRESHOLDS),
                vec_shl16(steps_channel(k, channel + 1, b, EPILOGUE_THRESHOLDS), 8));
}

/* Sum of image `lane`, from either layout of sums. */
CPU_INLINE int64_t sum_at(cpu_sums type, const uint8_t *sums, int lane) {
  if (type == CPU_SUMS_S16) return ((const int16_t *)(const void *)sums)[lane];
  int at = lane / 8 * 4 + lane % 4 + (lane & 4 ? LANES / 2 : 0);
  return ((const int32_t *)(const void *)sums)[at];
}

CPU_INLINE int64_t second_value(const epilogue *e, epilogue_branch branch, const uint8_t *second, bool odd, int lane) {
  if (branch == EPILOGUE_ALONE) return 0;
  return branch == EPILOGUE_SUMS ? sum_at(e->other, second, lane) : second[2 * lane + odd];
}

/* The terms are added modulo 2^64, which their true sum fits. */
CPU_INLINE void any_codes(const epilogue *e, epilogue_branch branch, const epilogue_channel *channel,
                          const uint8_t *sums, const uint8_t *second, bool odd, int32_t *code) {
  for (int lane = 0; lane < LANES; lane++) {
    uint64_t total = (uint64_t)(sum_at(e->sums, sums, lane) * channel->wide.multiplier[0]);
    total += (uint64_t)(second_value(e, branch, second, odd, lane) * channel->wide.multiplier[1]);
    total += (uint64_t)channel->wide.offset;
    int64_t value = (int64_t)total >> e->shift;
    code[lane] = (int32_t)(value < e->low ? e->low : value > e->high ? e->high : value);
  }
}

/* Codes of a channel; a loop for each branch, since the compiler does not make them. */
static void logits_any(const epilogue *e, const constants *k, const epilogue_channel *channel, const uint8_t *sums,
                       const uint8_t *second, bool odd, int32_t *to) {
  (void)k;
  if (!second)
    any_codes(e, EPILOGUE_ALONE, channel, sums, second, odd, to);
  else if (e->branch == EPILOGUE_CODES)
    any_codes(e, EPILOGUE_CODES, channel, sums, second, odd, to);
  else
    any_codes(e, EPILOGUE_SUMS, channel, sums, second, odd, to);
}

static vec pair_any(const epilogue *e, const constants *k, const epilogue_channel *channel, const uint8_t *a,
                    const uint8_t *b, const uint8_t *second) {
  int32_t even[LANES], odd[LANES];
  uint8_t bytes[VEC];
  logits_any(e, k, channel, a, second, false, even);
  logits_any(e, k, channel + 1, b, second_of_b(k, a, b, second), true, odd);
  for (int lane = 0; lane < LANES; lane++) {
    bytes[2 * lane] = (uint8_t)(even[lane] + e->zero);
    bytes[2 * lane + 1] = (uint8_t)(odd[lane] + e->zero);
  }
  return vec_load(bytes);
}

/* ---- packings ---- */

/* Pairs that one vector of a packing covers. */
CPU_INLINE int group_of(cpu_packing packing) {
  return packing == CPU_PAIRS ? 1 : packing == CPU_CRUMBS ? 2 : 4;
}

/* group_of(packing) vectors of pairs to one. */
CPU_INLINE vec packed(const vec *code, cpu_packing packing) {
  const vec crumbs = vec_set16(0x0401), bits = vec_set16(0x0201), upper_bits = vec_set16(0x0804);
  if (packing == CPU_PAIRS) return code[0];
  if (packing == CPU_CRUMBS) return vec_bytes16(vec_maddubs(code[0], crumbs), vec_maddubs(code[1], crumbs));
  return vec_bytes16(vec_or(vec_maddubs(code[0], bits), vec_maddubs(code[1], upper_bits)),
                     vec_or(vec_maddubs(code[2], bits), vec_maddubs(code[3], upper_bits)));
}

CPU_INLINE void pack_all(const uint8_t *pairs, int64_t stride, int64_t count, cpu_packing packing, uint8_t *to,
                         int64_t vector) {
  const int group = group_of(packing);
  for (int64_t p = 0; p < count; p += group, to += vector) {
    vec code[MOST_GROUP];
    for (int i = 0; i < group; i++) code[i] = p + i < count ? vec_load(pairs + (p + i) * stride) : vec_zero();
    vec_store(to, packed(code, packing));
  }
}

void CPU_NAME(pack_pairs)(const uint8_t *pairs, int64_t stride, int64_t count, cpu_packing packing, uint8_t *to,
                          int64_t vector) {
  if (packing == CPU_CRUMBS)
    pack_all(pairs, stride, count, CPU_CRUMBS, to, vector);
  else if (packing == CPU_BITS)
    pack_all(pairs, stride, count, CPU_BITS, to, vector);
  else
    pack_all(pairs, stride, count, CPU_PAIRS, to, vector);
}

/* ---- the coarser code ---- */

/* (code + half) >> shift of bytes without zeros, as ((code >> (shift - 1)) + 1) >> 1. */
CPU_INLINE vec low_bytes(const constants *k, vec code) {
  code = vec_and(vec_shr16_by(code, k->low_shift), k->low_mask);
  return vec_min_u8(vec_avg_u8(code, vec_zero()), k->low_most);
}

static void low_plain(const epilogue *e, const uint8_t *pairs, int64_t stride, int64_t count, uint8_t *to,
                      int64_t vector) {
  const constants k = constants_of(e, EPILOGUE_ALONE, CPU_SUMS_S16, CPU_SUMS_S16);
  for (int64_t p = 0; p < count; p++) vec_store(to + p * vector, low_bytes(&k, vec_load(pairs + p * stride)));
}

CPU_INLINE vec low_channel(const epilogue *e, vec stored) {
  vec code = vec_add16(stored, vec_set16(e->low_half - e->zero));
  code = vec_sar16_by(code, e->low_shift);
  code = vec_min16(vec_max16(code, vec_set16(e->low_least)), vec_set16(e->low_most));
  return vec_add16(code, vec_set16(e->low_zero));
}

static void low_general(const epilogue *e, const uint8_t *pairs, int64_t stride, int64_t count, uint8_t *to,
                        int64_t vector) {
  for (int64_t p = 0; p < count; p++) {
    vec stored = vec_load(pairs + p * stride);
    vec even = low_channel(e, vec_and(stored, vec_set16(UINT8_MAX))), odd = low_channel(e, vec_shr16(stored, 8));
    vec_store(to + p * vector, vec_or(even, vec_shl16(odd, 8)));
  }
}

/* A missing channel holds code 0, whatever the range of the others. */
CPU_INLINE vec without_odd(vec pairs, int32_t zero) {
  return vec_or(vec_and(pairs, vec_set16(UINT8_MAX)), vec_set16(zero << 8));
}

static void write_low(const epilogue *e, const uint8_t *pairs, int64_t stride, int64_t count, bool odd, uint8_t *to,
                      int64_t vector) {
  if (e->low_plain)
    low_plain(e, pairs, stride, count, to, vector);
  else
    low_general(e, pairs, stride, count, to, vector);
  uint8_t *last = to + (count - 1) * vector;
  if (odd) vec_store(last, without_odd(vec_load(last), e->low_zero));
}

/* ---- runs ---- */

/* Pairs first...first + count - 1 of one site. */
typedef struct part {
  int64_t first, count;
  bool odd;           /* the last one has one channel only */
  uint8_t *to;        /* its codes as pairs: in the map, or in a buffer */
  int64_t stride;     /* of `to` */
  uint8_t *target[2]; /* the outputs' first vector of the site */
} part;

/* All that is written besides pairs of codes. */
static void write_rest(const epilogue *e, const cpu_requant_task *task, const part *at) {
  _Alignas(64) uint8_t buffer[BUFFER * VEC];
  uint8_t *target[2];
  for (int i = 0; i < 2; i++)
    target[i] = at->target[i] ? at->target[i] + at->first / group_of(task->out[i].packing) * task->out[i].vector : NULL;
  if (target[0] && target[0] != at->to)
    CPU_NAME(pack_pairs)(at->to, at->stride, at->count, task->out[0].packing, target[0], task->out[0].vector);
  if (!target[1]) return;
  if (task->out[1].packing == CPU_PAIRS) {
    write_low(e, at->to, at->stride, at->count, at->odd, target[1], task->out[1].vector);
    return;
  }
  write_low(e, at->to, at->stride, at->count, at->odd, buffer, VEC);
  CPU_NAME(pack_pairs)(buffer, VEC, at->count, task->out[1].packing, target[1], task->out[1].vector);
}

CPU_INLINE void run_part(const epilogue *e, const constants *k, pair_function pair, const part *at, const uint8_t *sums,
                         const uint8_t *second, int64_t second_vector) {
  const int64_t bytes = k->bytes, full = at->count - at->odd, stride = at->stride;
  const epilogue_channel *channel = e->channel + 2 * at->first;
  uint8_t *to = at->to;
  sums += 2 * at->first * bytes;
  if (second) second += at->first * second_vector;
  for (int64_t p = 0; p < full; p++) {
    vec code = pair(e, k, channel + 2 * p, sums + 2 * p * bytes, sums + (2 * p + 1) * bytes,
                    second ? second + p * second_vector : NULL);
    vec_store(to + p * stride, code);
  }
  if (!at->odd) return;
  sums += 2 * full * bytes;
  vec code = pair(e, k, channel + 2 * full, sums, sums, second ? second + full * second_vector : NULL);
  vec_store(to + full * stride, without_odd(code, e->zero));
}

/* All parts of one site; `buffer` [BUFFER * VEC]. */
CPU_INLINE void run_site(const epilogue *e, const constants *k, pair_function pair, const cpu_requant_task *task,
                         int64_t line, int64_t site, uint8_t *buffer) {
  const cpu_lane_out *out = task->out;
  const int64_t pairs = (e->channels + 1) / 2;
  const uint8_t *sums = (const uint8_t *)task->sums + (line * task->sites + site) * e->channels * k->bytes;
  const uint8_t *second = second_at(e, k, task, line, site);
  const bool direct = out[0].data && out[0].packing == CPU_PAIRS;
  part at = {.stride = direct ? out[0].vector : VEC};
  for (int i = 0; i < 2; i++)
    if (out[i].data) at.target[i] = out[i].data + line * out[i].line + site * out[i].site;
  for (at.first = 0; at.first < pairs; at.first += at.count) {
    at.count = direct && !out[1].data ? pairs : smaller(BUFFER, pairs - at.first);
    at.odd = e->channels % 2 && at.first + at.count == pairs;
    at.to = direct ? at.target[0] + at.first * at.stride : buffer;
    run_part(e, k, pair, &at, sums, second, second_step(k, task));
    if (!direct || out[1].data) write_rest(e, task, &at);
  }
}

CPU_INLINE void run_parts(const cpu_requant_task *task, pair_function pair, epilogue_branch branch, cpu_sums sums,
                          cpu_sums other) {
  const epilogue *e = task->prepared;
  const constants k = constants_of(e, branch, sums, other);
  _Alignas(64) uint8_t buffer[BUFFER * VEC];
  for (int64_t line = 0; line < task->rows; line++)
    for (int64_t site = 0; site < task->sites; site++) run_site(e, &k, pair, task, line, site, buffer);
}

CPU_INLINE void run_logits(const cpu_requant_task *task, logits_function logits, epilogue_branch branch, cpu_sums sums,
                           cpu_sums other) {
  const epilogue *e = task->prepared;
  const constants k = constants_of(e, branch, sums, other);
  const uint8_t *at = task->sums;
  int32_t *to = task->logits;
  for (int64_t line = 0; line < task->rows; line++)
    for (int64_t site = 0; site < task->sites; site++) {
      const uint8_t *second = second_at(e, &k, task, line, site);
      for (int64_t c = 0; c < e->channels; c++, at += k.bytes, to += LANES)
        logits(e, &k, &e->channel[c], at,
               second ? second + c / 2 * second_step(&k, task) + c % 2 * second_half(&k) : NULL, c % 2, to);
    }
}

/* ---- the common outputs, straight from registers ---- */

enum { NO_LOW = CPU_PACKINGS }; /* in the place of a packing: no coarser code */

/* A site: the first output in `packing`, the coarser code in `low`. One of the two covers one pair a vector, or there
 * is but one; channels are a multiple of what the other covers. */
CPU_INLINE void run_direct_site(const epilogue *e, const constants *k, pair_function pair, const uint8_t *sums,
                                const uint8_t *second, int64_t second_vector, const cpu_lane_out out[2],
                                cpu_packing packing, int low) {
  const int group = packing != CPU_PAIRS ? group_of(packing) : low != NO_LOW ? group_of((cpu_packing)low) : 1;
  const int64_t pairs = e->channels / 2;
  for (int64_t p = 0; p < pairs; p += group) {
    vec code[MOST_GROUP], coarser[MOST_GROUP];
    for (int i = 0; i < group; i++) {
      code[i] = pair(e, k, e->channel + 2 * (p + i), sums, sums + k->bytes, second);
      sums += 2 * k->bytes;
      if (k->branch != EPILOGUE_ALONE) second += second_vector;
      if (low != NO_LOW) coarser[i] = low_bytes(k, code[i]);
      if (packing == CPU_PAIRS) vec_store(out[0].data + (p + i) * out[0].vector, code[i]);
    }
    if (packing != CPU_PAIRS) vec_store(out[0].data + p / group * out[0].vector, packed(code, packing));
    if (low != NO_LOW) vec_store(out[1].data + p / group * out[1].vector, packed(coarser, (cpu_packing)low));
  }
}

CPU_INLINE void run_direct(const cpu_requant_task *task, pair_function pair, epilogue_branch branch, cpu_sums type,
                           cpu_packing packing, int low) {
  const epilogue *e = task->prepared;
  const constants k = constants_of(e, branch, type, type);
  const uint8_t *sums = task->sums;
  for (int64_t line = 0; line < task->rows; line++) {
    for (int64_t site = 0; site < task->sites; site++, sums += e->channels * k.bytes) {
      cpu_lane_out out[2] = {task->out[0], task->out[1]};
      out[0].data += line * out[0].line + site * out[0].site;
      if (low != NO_LOW) out[1].data += line * out[1].line + site * out[1].site;
      run_direct_site(e, &k, pair, sums, second_at(e, &k, task, line, site), second_step(&k, task), out, packing, low);
    }
  }
}

/* ---- one function a kind and way to store ---- */

typedef enum store_mode {
  STORE_OTHER, /* by way of a buffer */
  STORE_PAIRS, /* the first output alone */
  STORE_CRUMBS,
  STORE_BITS,
  STORE_LOW_PAIRS, /* pairs, and the coarser code */
  STORE_LOW_CRUMBS,
  STORE_LOW_BITS,
  STORE_LOGITS, /* never of steps */
  STORE_MODES
} store_mode;

typedef void (*run_function)(const cpu_requant_task *task);

#define RUN(name, way, ...)                                                                                            \
  static void name(const cpu_requant_task *task) {                                                                     \
    way(task, __VA_ARGS__);                                                                                            \
  }
#define RUN_BRANCH(name, kind, branch, sums)                                                                           \
  RUN(name##_other, run_parts, pair_##kind, branch, sums, sums)                                                        \
  RUN(name##_pairs, run_direct, pair_##kind, branch, sums, CPU_PAIRS, NO_LOW)                                          \
  RUN(name##_low_pairs, run_direct, pair_##kind, branch, sums, CPU_PAIRS, CPU_PAIRS)                                   \
  RUN(name##_low_crumbs, run_direct, pair_##kind, branch, sums, CPU_PAIRS, CPU_CRUMBS)                                 \
  RUN(name##_low_bits, run_direct, pair_##kind, branch, sums, CPU_PAIRS, CPU_BITS)                                     \
  RUN(name##_logits, run_logits, logits_##kind, branch, sums, sums)                                                    \
  static const run_function                                                                                            \
      name##_run[STORE_MODES] = {[STORE_OTHER] = name##_other,         [STORE_PAIRS] = name##_pairs,                   \
                                 [STORE_CRUMBS] = name##_other,        [STORE_BITS] = name##_other,                    \
                                 [STORE_LOW_PAIRS] = name##_low_pairs, [STORE_LOW_CRUMBS] = name##_low_crumbs,         \
                                 [STORE_LOW_BITS] = name##_low_bits,   [STORE_LOGITS] = name##_logits};
#define RUN_WIDE(kind, sums)                                                                                           \
  RUN_BRANCH(kind, kind, EPILOGUE_ALONE, sums)                                                                         \
  RUN_BRANCH(kind##_codes, kind, EPILOGUE_CODES, sums)                                                                 \
  RUN_BRANCH(kind##_sums, kind, EPILOGUE_SUMS, sums)
#define RUN_STEPS(kind)                                                                                                \
  RUN(kind##_other, run_parts, pair_##kind, EPILOGUE_ALONE, CPU_SUMS_S16, CPU_SUMS_S16)                                \
  RUN(kind##_pairs, run_direct, pair_##kind, EPILOGUE_ALONE, CPU_SUMS_S16, CPU_PAIRS, NO_LOW)                          \
  RUN(kind##_crumbs, run_direct, pair_##kind, EPILOGUE_ALONE, CPU_SUMS_S16, CPU_CRUMBS, NO_LOW)                        \
  RUN(kind##_bits, run_direct, pair_##kind, EPILOGUE_ALONE, CPU_SUMS_S16, CPU_BITS, NO_LOW)                            \
  static const run_function kind##_run[STORE_MODES] = {                                                                \
      [STORE_OTHER] = kind##_other,   [STORE_PAIRS] = kind##_pairs,     [STORE_CRUMBS] = kind##_crumbs,                \
      [STORE_BITS] = kind##_bits,     [STORE_LOW_PAIRS] = kind##_other, [STORE_LOW_CRUMBS] = kind##_other,             \
      [STORE_LOW_BITS] = kind##_other};
RUN_STEPS(step)
RUN_STEPS(steps)
RUN_WIDE(narrow, CPU_SUMS_S16)
RUN_WIDE(limbs, CPU_SUMS_S16)
RUN_WIDE(high, CPU_SUMS_S32)
RUN_WIDE(middle, CPU_SUMS_S32)

static void run_any(const cpu_requant_task *task) {
  const epilogue *e = task->prepared;
  if (e->logits)
    run_logits(task, logits_any, e->branch, e->sums, e->other);
  else
    run_parts(task, pair_any, e->branch, e->sums, e->other);
}

static const run_function any_run[STORE_MODES] = {run_any, run_any, run_any, run_any,
                                                  run_any, run_any, run_any, run_any};

static store_mode mode_of(const epilogue *e, const cpu_requant_task *task) {
  static const store_mode alone[CPU_PACKINGS] = {STORE_PAIRS, STORE_CRUMBS, STORE_BITS};
  static const store_mode with_low[CPU_PACKINGS] = {STORE_LOW_PAIRS, STORE_LOW_CRUMBS, STORE_LOW_BITS};
  const cpu_lane_out *out = task->out;
  const bool low = out[1].data;
  const cpu_packing widest = out[low].packing;
  if (e->logits) return STORE_LOGITS;
  if (!out[0].data || e->channels % (2 * group_of(widest)) != 0) return STORE_OTHER;
  if (!low) return alone[widest];
  return e->low_plain && out[0].packing == CPU_PAIRS ? with_low[widest] : STORE_OTHER;
}

void CPU_NAME(requant_run)(const cpu_requant_task *task) {
  static const run_function *const run[EPILOGUE_KINDS][EPILOGUE_BRANCHES] = {
      [EPILOGUE_STEP] = {step_run, NULL, NULL},
      [EPILOGUE_STEPS] = {steps_run, NULL, NULL},
      [EPILOGUE_NARROW] = {narrow_run, narrow_codes_run, narrow_sums_run},
      [EPILOGUE_LIMBS] = {limbs_run, limbs_codes_run, limbs_sums_run},
      [EPILOGUE_HIGH] = {high_run, high_codes_run, high_sums_run},
      [EPILOGUE_MIDDLE] = {middle_run, middle_codes_run, middle_sums_run},
      [EPILOGUE_ANY] = {any_run, any_run, any_run},
  };
  const epilogue *e = task->prepared;
  run[e->kind][e->branch][mode_of(e, task)](task);
}
