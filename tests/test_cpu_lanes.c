/* Requantisers, pools and moves of maps with images in lanes, on every instruction set of this machine: against a
 * naive requantiser in 128 bits, and against the references. */
#include "backends/cpu/lanes.h"
#include "cpu_ref/ref.h"
#include "tests/fixture.h"

__extension__ typedef __int128 wide;

enum { FILLER = 0xee, CHANNELS = 37, SITES = 3, ROWS = 2 };

static uint64_t random_state;

static uint64_t random_bits(void) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  uint64_t x = random_state ^ random_state >> 29;
  x *= UINT64_C(0xbf58476d1ce4e5b9);
  return x ^ x >> 32;
}

static int64_t between(int64_t low, int64_t high) {
  return low + (int64_t)(random_bits() % (uint64_t)(high - low + 1));
}

/* Often an end of the range, sometimes 0. */
static int64_t extreme(int64_t low, int64_t high) {
  uint64_t kind = random_bits() % 8;
  if (kind == 0) return low;
  if (kind == 1) return high;
  return kind == 2 && low <= 0 && high >= 0 ? 0 : between(low, high);
}

static bool runs_here(const cpu_lane_kernels *kernels) {
#ifdef __x86_64__
  if (kernels == &cpu_lane_kernels_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (kernels == &cpu_lane_kernels_avx512)
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
#endif
  return true;
}

static void for_all_kernels(void (*test)(const cpu_lane_kernels *kernels)) {
  const cpu_lane_kernels *all[] = {&cpu_lane_kernels_portable,
#ifdef __x86_64__
                                   &cpu_lane_kernels_avx2, &cpu_lane_kernels_avx512
#endif
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    random_state = 1;
    if (runs_here(all[i])) test(all[i]);
  }
}

/* ---- layouts, as the head of lanes.h describes them ---- */

static int channels_of(cpu_packing packing) {
  return packing == CPU_PAIRS ? 2 : packing == CPU_CRUMBS ? 4 : 8;
}

static int64_t vectors_of(cpu_packing packing, int64_t channels) {
  return (channels + channels_of(packing) - 1) / channels_of(packing);
}

/* Put the stored value of a channel and lane into the vectors of a pixel, whose bits are 0 there. */
static void put(uint8_t *pixel, cpu_packing packing, int64_t vector, int64_t c, int lane, int32_t stored) {
  int within = (int)(c % channels_of(packing)), half = channels_of(packing) / 2;
  uint8_t *to = pixel + c / channels_of(packing) * vector;
  if (packing == CPU_PAIRS) {
    to[2 * lane + within] = (uint8_t)stored;
    return;
  }
  uint8_t *byte = to + lane / 16 * 32 + within / half * 16 + lane % 16;
  *byte = (uint8_t)(*byte | stored << within % half * (packing == CPU_CRUMBS ? 2 : 1));
}

/* ---- requantisers ---- */

typedef struct requant_case {
  const cpu_lane_kernels *kernels;
  cpu_requant_source source;
  int32_t m[CHANNELS], n[CHANNELS], centre[2][CHANNELS];
  int64_t offset[CHANNELS], least[2][CHANNELS], most[2][CHANNELS]; /* of both branches */
  cpu_packing packing[2];
  bool written[2];
  int64_t *sums[2]; /* [ROWS * SITES][channels][lanes], true; of both branches */
  uint8_t *skip;    /* pairs [ROWS * SITES][pairs][lanes][2], stored */
} requant_case;

static int32_t coarser(const cpu_requant_source *source, int32_t code) {
  int64_t half = source->low_shift > 0 ? INT64_C(1) << (source->low_shift - 1) : 0;
  int64_t low = (code + half) >> source->low_shift;
  return (int32_t)(low < source->low_least ? source->low_least : low > source->low_most ? source->low_most : low);
}

static int32_t naive_code(const requant_case *r, int64_t site, int32_t c, int lane) {
  const cpu_requant_source *source = &r->source;
  int64_t lanes = r->kernels->lanes, pairs = (source->channels + 1) / 2;
  int64_t at = (site * source->channels + c) * lanes + lane;
  wide total = (wide)r->sums[0][at] * r->m[c] + r->offset[c];
  if (source->n && source->other_is_sums) {
    total += (wide)r->sums[1][at] * r->n[c];
  } else if (source->n) {
    int32_t stored = r->skip[((site * pairs + c / 2) * lanes + lane) * 2 + c % 2];
    total += (wide)(stored - source->skip_zero) * r->n[c];
  }
  total >>= source->attrs.shift;
  return (int32_t)(total < source->attrs.low    ? source->attrs.low
                   : total > source->attrs.high ? source->attrs.high
                                                : total);
}

/* Sums of a branch as the kernels read them. */
static void *stored_sums(const requant_case *r, int branch) {
  int64_t lanes = r->kernels->lanes, count = ROWS * SITES * r->source.channels;
  bool halves = (branch ? r->source.other : r->source.sums) == CPU_SUMS_S16;
  void *stored = calloc((size_t)(count * lanes), halves ? sizeof(int16_t) : sizeof(int32_t));
  for (int64_t i = 0; i < count; i++)
    for (int64_t lane = 0; lane < lanes; lane++) {
      int64_t value = r->sums[branch][i * lanes + lane] - r->centre[branch][i % r->source.channels];
      int64_t at = lane / 8 * 4 + lane % 4 + lane % 8 / 4 * (lanes / 2);
      if (halves)
        ((int16_t *)stored)[i * lanes + lane] = (int16_t)value;
      else
        ((int32_t *)stored)[i * lanes + at] = (int32_t)value;
    }
  return stored;
}

/* Strides leave room between vectors, sites and lines, which must stay as it is. */
static cpu_lane_out output_of(const requant_case *r, int which, size_t *bytes) {
  cpu_lane_out out = {.packing = r->packing[which], .vector = 2 * r->kernels->lanes + 64};
  out.site = vectors_of(out.packing, r->source.channels) * out.vector + 32;
  out.line = SITES * out.site + 96;
  *bytes = (size_t)(ROWS * out.line);
  return out;
}

static void expect_output(const requant_case *r, int which, const cpu_lane_out *out, uint8_t *expected) {
  const cpu_requant_source *source = &r->source;
  int64_t vectors = vectors_of(out->packing, source->channels);
  for (int64_t site = 0; site < ROWS * SITES; site++) {
    uint8_t *pixel = expected + site / SITES * out->line + site % SITES * out->site;
    for (int64_t v = 0; v < vectors; v++) memset(pixel + v * out->vector, 0, (size_t)r->kernels->lanes * 2);
    for (int32_t c = 0; c < vectors * channels_of(out->packing); c++)
      for (int lane = 0; lane < r->kernels->lanes; lane++) {
        int32_t code = c < source->channels ? naive_code(r, site, c, lane) : 0;
        if (which && c < source->channels) code = coarser(source, code);
        put(pixel, out->packing, out->vector, c, lane, code + (which ? source->low_zero : source->zero));
      }
  }
}

/* All but the outputs. */
static cpu_requant_task input_task(const requant_case *r, const void *prepared, void *const sums[2]) {
  cpu_requant_task task = {.prepared = prepared, .sums = sums[0], .rows = ROWS, .sites = SITES};
  if (r->source.other_is_sums) {
    task.other = sums[1];
    return task;
  }
  task.skip = r->skip;
  task.skip_vector = 2 * r->kernels->lanes;
  task.skip_site = (r->source.channels + 1) / 2 * task.skip_vector;
  task.skip_line = SITES * task.skip_site;
  return task;
}

static void check_outputs(const requant_case *r, const void *prepared, void *const sums[2]) {
  cpu_requant_task task = input_task(r, prepared, sums);
  size_t bytes[2];
  for (int i = 0; i < 2; i++) {
    if (!r->written[i]) continue;
    task.out[i] = output_of(r, i, &bytes[i]);
    task.out[i].data = memset(malloc(bytes[i]), FILLER, bytes[i]);
  }
  r->kernels->requant_run(&task);
  for (int i = 0; i < 2; i++) {
    if (!r->written[i]) continue;
    uint8_t *expected = memset(malloc(bytes[i]), FILLER, bytes[i]);
    expect_output(r, i, &task.out[i], expected);
    if (memcmp(expected, task.out[i].data, bytes[i]) != 0)
      fail_msg("%s %s: output %d, packing %d, %d channels, shift %d, coarser by %d", r->kernels->name,
               r->kernels->requant_kind(prepared), i, r->packing[i], r->source.channels, r->source.attrs.shift,
               r->source.low_shift);
    free(expected);
    free(task.out[i].data);
  }
}

static void check_logits(const requant_case *r, const void *prepared, void *const sums[2]) {
  int64_t lanes = r->kernels->lanes, count = ROWS * SITES * r->source.channels * lanes;
  int32_t *logits = calloc((size_t)count, sizeof *logits);
  cpu_requant_task task = input_task(r, prepared, sums);
  task.logits = logits;
  r->kernels->requant_run(&task);
  for (int64_t i = 0; i < count; i++) {
    int64_t row = i / lanes;
    int32_t c = (int32_t)(row % r->source.channels);
    assert_int_equal(logits[i], naive_code(r, row / r->source.channels, c, (int)(i % lanes)));
  }
  free(logits);
}

static void random_sums(requant_case *r, int branch) {
  int64_t lanes = r->kernels->lanes, channels = r->source.channels;
  r->sums[branch] = calloc((size_t)(ROWS * SITES * channels * lanes), sizeof *r->sums[branch]);
  for (int64_t i = 0; i < ROWS * SITES * channels * lanes; i++)
    r->sums[branch][i] = extreme(r->least[branch][i / lanes % channels], r->most[branch][i / lanes % channels]);
}

/* Random sums and skip values with all extremes, then the run. Returns the kind. */
static const char *run_case(requant_case *r) {
  int64_t lanes = r->kernels->lanes, channels = r->source.channels, pairs = (channels + 1) / 2;
  size_t bytes = (r->kernels->requant_bytes((int32_t)channels) + 63) / 64 * 64;
  void *prepared = aligned_alloc(64, bytes);
  for (int branch = 0; branch < 2; branch++) random_sums(r, branch);
  r->skip = calloc((size_t)(ROWS * SITES * pairs * lanes), 2);
  for (int64_t i = 0; i < ROWS * SITES * pairs * lanes * 2; i++) r->skip[i] = (uint8_t)extreme(0, r->source.skip_most);
  r->kernels->requant_prepare(&r->source, prepared);
  void *sums[2] = {stored_sums(r, 0), stored_sums(r, 1)};
  if (r->source.logits)
    check_logits(r, prepared, sums);
  else
    check_outputs(r, prepared, sums);
  const char *kind = r->kernels->requant_kind(prepared);
  for (int branch = 0; branch < 2; branch++) {
    free(sums[branch]);
    free(r->sums[branch]);
  }
  free(prepared);
  free(r->skip);
  return kind;
}

typedef enum second_branch { ALONE, CODES, SUMS_S16, SUMS_S32 } second_branch;

/* What a random case keeps to. */
typedef struct limits {
  const char *kind; /* that must be taken; NULL: any */
  cpu_sums sums;    /* of */
  second_branch second;
  int32_t codes;      /* at most; 0: as many as fit */
  int32_t shift[2];   /* range */
  int64_t multiplier; /* largest size, and its negative less one; channel 0 has it */
  int32_t value;      /* largest size of a sum less centre */
  int bits;           /* of offsets */
} limits;

/* Offsets near a code's first value at some sum, so that the floor matters; at centred sums they have `bits` bits. */
static int64_t tight_offset(const requant_case *r, int32_t c, int bits) {
  const int64_t bound = INT64_C(1) << (bits - 1);
  wide code = between(r->source.attrs.low, r->source.attrs.high), centre = (wide)r->centre[0][c] * r->m[c];
  wide offset = code * ((wide)1 << r->source.attrs.shift) + between(-1, 1);
  offset -= between(r->least[0][c], r->most[0][c]) * (wide)r->m[c];
  if (r->source.other_is_sums) {
    centre += (wide)r->centre[1][c] * r->n[c];
    offset -= between(r->least[1][c], r->most[1][c]) * (wide)r->n[c];
  }
  if (offset + centre < -bound || offset + centre >= bound) offset = between(-bound, bound - 1) - centre;
  return (int64_t)offset;
}

/* The source's arrays are the case's. */
static void set_arrays(requant_case *r, second_branch second) {
  r->source.m = r->m;
  r->source.n = second == ALONE ? NULL : r->n;
  r->source.offset = r->offset;
  r->source.least = r->least[0];
  r->source.most = r->most[0];
  if (r->source.sums == CPU_SUMS_S16) r->source.centre = r->centre[0];
  r->source.other_is_sums = second == SUMS_S16 || second == SUMS_S32;
  if (!r->source.other_is_sums) return;
  r->source.other = second == SUMS_S16 ? CPU_SUMS_S16 : CPU_SUMS_S32;
  r->source.other_least = r->least[1];
  r->source.other_most = r->most[1];
  if (second == SUMS_S16) r->source.other_centre = r->centre[1];
}

static void random_span(requant_case *r, const limits *l, int branch, cpu_sums sums, int32_t c) {
  bool halves = sums == CPU_SUMS_S16;
  int64_t least = halves && l->value > INT16_MAX ? INT16_MIN : -(int64_t)l->value;
  int64_t most = halves && l->value > INT16_MAX ? INT16_MAX : l->value;
  r->centre[branch][c] = halves ? (int32_t)between(-40000, 40000) : 0;
  r->least[branch][c] = r->centre[branch][c] + extreme(least, 0);
  r->most[branch][c] = r->centre[branch][c] + extreme(0, most);
}

static void random_channels(requant_case *r, const limits *l) {
  set_arrays(r, l->second);
  for (int32_t c = 0; c < r->source.channels; c++) {
    random_span(r, l, 0, l->sums, c);
    random_span(r, l, 1, r->source.other, c);
    r->m[c] = (int32_t)(c ? extreme(-l->multiplier - 1, l->multiplier) : l->multiplier);
    r->n[c] = (int32_t)extreme(-l->multiplier - 1, l->multiplier);
    r->offset[c] = tight_offset(r, c, l->bits);
  }
}

static void random_codes(requant_case *r, const limits *l) {
  qe_requant *attrs = &r->source.attrs;
  bool negative = random_bits() % 2 && l->bits > 20;
  attrs->shift = (int32_t)extreme(l->shift[0], l->shift[1]);
  attrs->low = (int32_t)(negative ? between(-128, 0) : random_bits() % 4 ? 0 : between(0, 100));
  attrs->high = (int32_t)between(attrs->low + 4, negative ? 127 : 255);
  if (l->codes) attrs->high = attrs->low + l->codes - 1 < 127 ? attrs->low + l->codes - 1 : attrs->high;
  r->source.zero = attrs->low < 0 ? 128 : 0;
}

/* The coarser code without zeros, in any packing: what networks have and what has code of its own. */
static void common_outputs(requant_case *r) {
  static const int32_t most[CPU_PACKINGS] = {127, 3, 1};
  r->written[0] = true;
  r->packing[1] = (cpu_packing)between(CPU_PAIRS, CPU_BITS);
  r->source.low_shift = r->written[1] ? (int32_t)between(1, 9) : -1;
  r->source.low_least = 0;
  r->source.low_most = (int32_t)between(0, most[r->packing[1]]);
  r->source.low_zero = 0;
}

/* Which outputs, and how coarse the second is. */
static void random_outputs(requant_case *r) {
  cpu_requant_source *s = &r->source;
  for (int i = 0; i < 2; i++) {
    r->written[i] = random_bits() % 4;
    r->packing[i] = CPU_PAIRS;
  }
  bool plain = s->attrs.low >= 0;
  if (plain && s->attrs.high < 4 && random_bits() % 2) r->packing[0] = CPU_CRUMBS;
  if (plain && s->attrs.high < 2 && random_bits() % 2) r->packing[0] = CPU_BITS;
  s->low_shift = r->written[1] ? (int32_t)between(0, 9) : -1;
  s->low_least = (int32_t)(random_bits() % 2 ? 0 : between(-8, 8));
  s->low_most = (int32_t)between(s->low_least, random_bits() % 2 ? 127 : s->low_least + 3);
  s->low_zero = s->low_least < 0 ? -s->low_least : 0;
  if (s->low_least >= 0 && s->low_most < 4 && random_bits() % 2) r->packing[1] = CPU_CRUMBS;
  if (s->low_least >= 0 && s->low_most < 2 && random_bits() % 2) r->packing[1] = CPU_BITS;
  if (random_bits() % 2) common_outputs(r);
}

static void random_case(const cpu_lane_kernels *kernels, const limits *l, bool logits) {
  requant_case r = {.kernels = kernels, .source = {.sums = l->sums, .logits = logits}};
  r.source.channels = (int32_t)(random_bits() % 2 ? between(1, CHANNELS) : 8 * between(1, CHANNELS / 8));
  r.source.skip_most = (int32_t)(random_bits() % 2 ? UINT8_MAX : between(0, UINT8_MAX));
  r.source.skip_zero = (int32_t)(random_bits() % 2 ? between(0, r.source.skip_most) : 0);
  random_codes(&r, l);
  if (logits) {
    r.source.attrs.low = INT32_MIN;
    r.source.attrs.high = INT32_MAX;
  }
  random_channels(&r, l);
  random_outputs(&r);
  const char *kind = run_case(&r);
  if (l->kind) assert_string_equal(kind, l->kind);
}

static void requant_kinds(const cpu_lane_kernels *kernels) {
  const int64_t s16 = INT16_MAX, s31 = INT32_MAX;
  const limits all[] = {
      {"step", CPU_SUMS_S16, ALONE, 2, {0, 40}, s31, 32766, 50},
      {"step", CPU_SUMS_S16, ALONE, 1, {0, 62}, 20, 900, 12},
      {"steps", CPU_SUMS_S16, ALONE, 3, {0, 40}, s31, 32766, 50},
      {"steps", CPU_SUMS_S16, ALONE, 4, {3, 8}, 40, 900, 12},
      {"narrow", CPU_SUMS_S16, ALONE, 0, {0, 20}, s16, 32767, 29},
      {"narrow", CPU_SUMS_S16, CODES, 0, {0, 20}, s16, 32767, 29},
      {"narrow", CPU_SUMS_S16, CODES, 0, {9, 14}, 70, 2000, 18},
      {"narrow", CPU_SUMS_S16, SUMS_S16, 0, {0, 20}, s16, 24000, 29},
      {"narrow", CPU_SUMS_S16, SUMS_S16, 0, {9, 14}, 70, 2000, 18},
      {"limbs", CPU_SUMS_S16, ALONE, 0, {16, 38}, 0x7fff7fff, 32767, 45},
      {"limbs", CPU_SUMS_S16, CODES, 0, {16, 38}, 0x7fff7fff, 32767, 45},
      {"limbs", CPU_SUMS_S16, CODES, 0, {6, 15}, 0xfffff, 32767, 33},
      {"limbs", CPU_SUMS_S16, SUMS_S16, 0, {16, 38}, 0x7fff7fff, 24000, 45},
      {"limbs", CPU_SUMS_S16, SUMS_S16, 0, {6, 15}, 0xfffff, 24000, 33},
      {"high", CPU_SUMS_S32, ALONE, 0, {32, 54}, s31, INT32_MAX, 61},
      {"high", CPU_SUMS_S32, CODES, 0, {32, 54}, s31, INT32_MAX, 61},
      {"high", CPU_SUMS_S32, SUMS_S32, 0, {32, 54}, s31, 1 << 30, 61},
      {"middle", CPU_SUMS_S32, ALONE, 0, {30, 31}, s31, 1 << 29, 60},
      {"middle", CPU_SUMS_S32, ALONE, 0, {0, 31}, 1000, 1000000, 29},
      {"middle", CPU_SUMS_S32, CODES, 0, {30, 31}, s31, 1 << 29, 59},
      {"middle", CPU_SUMS_S32, CODES, 0, {0, 31}, 1000, 1000000, 29},
      {"middle", CPU_SUMS_S32, SUMS_S32, 0, {30, 31}, s31, 1 << 28, 59},
      {"middle", CPU_SUMS_S32, SUMS_S32, 0, {0, 31}, 1000, 500000, 29},
      {"any", CPU_SUMS_S16, CODES, 0, {0, 3}, s31, 32767, 61},
      {"any", CPU_SUMS_S16, SUMS_S32, 0, {0, 40}, 0xfffff, 32767, 61},
      {"any", CPU_SUMS_S32, SUMS_S16, 0, {0, 40}, 0xfffff, 32767, 61},
      {NULL, CPU_SUMS_S32, CODES, 0, {0, 3}, s31, INT32_MAX, 61},
      {NULL, CPU_SUMS_S32, SUMS_S32, 0, {0, 62}, s31, 1 << 30, 61},
      {NULL, CPU_SUMS_S16, SUMS_S16, 0, {0, 62}, s31, 32768, 61},
      {NULL, CPU_SUMS_S16, CODES, 0, {0, 62}, s31, 32767, 62},
      {NULL, CPU_SUMS_S32, ALONE, 4, {0, 62}, s31, INT32_MAX, 62},
      {NULL, CPU_SUMS_S16, ALONE, 4, {0, 62}, s31, 32768, 62},
  };
  enum { FIRST_WITH_LOGITS = 4 };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    for (int run = 0; run < 60; run++) {
      random_case(kernels, &all[i], false);
      if (i >= FIRST_WITH_LOGITS && run % 3 == 0) random_case(kernels, &all[i], true);
    }
}

static void test_requant_kinds(void **state) {
  (void)state;
  for_all_kernels(requant_kinds);
}

/* Range, multipliers and offsets at which a kind just fits, and one more. */
static const char *kind_of(const cpu_lane_kernels *kernels, cpu_sums sums, int32_t shift, int64_t most, int32_t m,
                           int64_t offset, int32_t high) {
  requant_case r = {.kernels = kernels, .source = {.sums = sums, .channels = 3, .low_shift = -1}};
  r.source.attrs = (qe_requant){.shift = shift, .high = high};
  r.written[0] = true;
  for (int c = 0; c < 3; c++) {
    r.m[c] = m;
    r.most[0][c] = most;
    r.offset[c] = offset;
  }
  set_arrays(&r, ALONE);
  return run_case(&r);
}

/* Likewise of sums that both are in least...most, with the same multiplier. */
static const char *kind_of_two(const cpu_lane_kernels *kernels, cpu_sums sums, int32_t shift, int64_t least,
                               int64_t most, int32_t m, int64_t offset) {
  requant_case r = {.kernels = kernels, .source = {.sums = sums, .channels = 3, .low_shift = -1}};
  r.source.attrs = (qe_requant){.shift = shift, .high = 255};
  r.written[0] = true;
  for (int c = 0; c < 3; c++) {
    r.m[c] = r.n[c] = m;
    r.least[0][c] = r.least[1][c] = least;
    r.most[0][c] = r.most[1][c] = most;
    r.offset[c] = offset;
  }
  set_arrays(&r, sums == CPU_SUMS_S16 ? SUMS_S16 : SUMS_S32);
  return run_case(&r);
}

static void requant_limits(const cpu_lane_kernels *kernels) {
  const int32_t top = INT32_MAX;
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 20, 32767, 32767, top - 32767 * 32767, 255), "narrow");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 20, 32767, 32767, top - 32767 * 32767 + 1, 255), "limbs");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 20, 1, 1, INT32_MIN, 255), "narrow");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 20, 1, 1, INT64_C(-1) + INT32_MIN, 255), "limbs");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 20, 32767, 32768, 0, 255), "limbs");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 20, 32767, 0x7fff7fff, 0, 255), "limbs");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 20, 32767, 0x7fff8000, 0, 255), "any");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 40, 1, 1, (INT64_C(1) << 47) - 2, 255), "limbs");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 40, 1, 1, (INT64_C(1) << 47) - 1, 255), "any");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 20, 32767, 7, 0, 1), "step");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 20, 32767, 7, 0, 3), "steps");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S16, 20, 32767, 7, 0, 4), "narrow");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S32, 40, top, top, top, 255), "high");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S32, 32, top, top, top, 255), "high");
  const int64_t s31 = INT64_C(1) << 31, s62 = INT64_C(1) << 62, square = (int64_t)top * top;
  assert_string_equal(kind_of(kernels, CPU_SUMS_S32, 31, top, top, s62 - 1 - square, 255), "middle");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S32, 31, top, top, s62 - square, 255), "any");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S32, 31, top, top, -s62, 255), "middle");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S32, 31, top, top, -s62 - 1, 255), "any");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S32, 0, top, 1, 0, 255), "middle");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S32, 0, top, 1, 1, 255), "any");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S32, 0, top, 1, -s31, 255), "middle");
  assert_string_equal(kind_of(kernels, CPU_SUMS_S32, 0, top, 1, -s31 - 1, 255), "any");
  /* Two branches of sums. */
  const int64_t two = INT64_C(2) * INT16_MAX * INT16_MAX;
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S16, 20, 0, INT16_MAX, INT16_MAX, top - two), "narrow");
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S16, 20, 0, INT16_MAX, INT16_MAX, top - two + 1), "limbs");
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S16, 20, INT16_MIN, 0, INT16_MIN, -1), "narrow");
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S16, 20, INT16_MIN, 0, INT16_MIN, 0), "any");
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S16, 20, -INT16_MAX, 0, 0x18000, 65535), "limbs");
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S16, 20, INT16_MIN, 0, 0x18000, 65535), "any");
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S16, 20, -INT16_MAX, 1, 0x7fff8000, 65535), "any");
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S32, 32, INT32_MIN / 2, top / 2, top, 7), "high");
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S32, 31, 0, top, 1 << 30, s31 - 1), "middle");
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S32, 31, 0, top, 1 << 30, s31), "any");
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S32, 31, INT32_MIN, 0, 1 << 30, 0), "middle");
  assert_string_equal(kind_of_two(kernels, CPU_SUMS_S32, 31, INT32_MIN, 0, 1 << 30, -1), "any");
  /* No s16 is below every sum: a threshold that all pass. */
  requant_case r = {.kernels = kernels, .source = {.sums = CPU_SUMS_S16, .channels = 1, .low_shift = -1}};
  r.source.attrs = (qe_requant){.shift = 2, .high = 1};
  r.written[0] = true;
  r.m[0] = 3;
  r.offset[0] = 400000;
  r.least[0][0] = INT16_MIN;
  set_arrays(&r, ALONE);
  assert_string_equal(run_case(&r), "narrow");
}

static void test_requant_limits(void **state) {
  (void)state;
  for_all_kernels(requant_limits);
}

/* ---- maps ---- */

/* Codes [lanes, h, w, c] and the same in lanes, with a ring of code 0. */
typedef struct map {
  qe_desc desc;
  int32_t lanes, zero, ring;
  int8_t *codes;
  uint8_t *pairs, *origin; /* of pixel (0, 0) */
  int64_t vector, pixel, row;
  size_t bytes;
} map;

static map map_new(const cpu_lane_kernels *kernels, int32_t h, int32_t w, int32_t c, int32_t zero) {
  map m = {.desc = qe_map(QE_S8, kernels->lanes, h, w, c), .lanes = kernels->lanes, .zero = zero, .ring = 2};
  m.codes = calloc((size_t)qe_count(&m.desc), 1);
  m.vector = 2 * m.lanes;
  m.pixel = (c + 1) / 2 * m.vector;
  m.row = (w + 2 * m.ring) * m.pixel;
  m.bytes = (size_t)((h + 2 * m.ring) * m.row);
  m.pairs = memset(malloc(m.bytes), zero, m.bytes);
  m.origin = m.pairs + m.ring * (m.row + m.pixel);
  return m;
}

static void map_free(map *m) {
  free(m->codes);
  free(m->pairs);
}

/* Stored values of the codes, at their places. */
static void lay_out(const map *m, uint8_t *origin) {
  const int32_t *dim = m->desc.dim;
  for (int64_t i = 0, n = qe_count(&m->desc); i < n; i++) {
    int64_t c = i % dim[QE_C], w = i / dim[QE_C] % dim[QE_W], h = i / dim[QE_C] / dim[QE_W] % dim[QE_H];
    int64_t lane = i / dim[QE_C] / dim[QE_W] / dim[QE_H];
    origin[h * m->row + w * m->pixel + c / 2 * m->vector + 2 * lane + c % 2] = (uint8_t)(m->codes[i] + m->zero);
  }
}

static map random_map(const cpu_lane_kernels *kernels, int32_t h, int32_t w, int32_t c, int32_t zero, int32_t most) {
  map m = map_new(kernels, h, w, c, zero);
  for (int64_t i = 0; i < qe_count(&m.desc); i++) m.codes[i] = (int8_t)extreme(-zero, most);
  lay_out(&m, m.origin);
  return m;
}

/* The written map must hold its codes, and code 0 everywhere else. */
static void assert_map(const map *m, const char *what) {
  uint8_t *expected = memset(malloc(m->bytes), m->zero, m->bytes);
  lay_out(m, expected + (m->origin - m->pairs));
  if (memcmp(expected, m->pairs, m->bytes) != 0) fail_msg("%s with %d lanes", what, m->lanes);
  free(expected);
}

static qe_call reference_call(qe_op op, const qe_window *window, const map *x, void *result) {
  qe_call call = {.op = op, .operands = 2, .attrs = {.window = *window}};
  qe_desc desc[QE_MAX_OPERANDS];
  OK(qe_op_shapes(op, &call.attrs, &x->desc, desc));
  call.operand[0] = (qe_operand){.desc = x->desc, .data = x->codes};
  call.operand[1] = (qe_operand){.desc = desc[1], .data = result};
  return call;
}

static cpu_conv_task task_of(const map *x, cpu_conv_shape *shape, const qe_desc *y) {
  const qe_window *window = &shape->window;
  shape->inputs = x->desc.dim[QE_C];
  shape->zero = x->zero;
  return (cpu_conv_task){.shape = shape,
                         .in = x->origin - window->pad[0] * x->row - window->pad[1] * x->pixel,
                         .in_row = x->row,
                         .in_pixel = x->pixel,
                         .in_vector = x->vector,
                         .in_site = window->stride[1] * x->pixel,
                         .in_line = window->stride[0] * x->row,
                         .rows = y->dim[QE_H],
                         .sites = y->dim[QE_W]};
}

static const int32_t channel_counts[] = {1, 2, 3, 5, 8, 9, 16, 37};
enum { COUNTS = sizeof channel_counts / sizeof *channel_counts };

static void sum_pool_of(const cpu_lane_kernels *kernels, const map *x, const qe_window *window) {
  int32_t *wanted = calloc((size_t)qe_count(&x->desc), sizeof *wanted), lanes = x->lanes;
  qe_call call = reference_call(QE_OP_int_sum_pool, window, x, wanted);
  OK(qe_ref_int_sum_pool(&call));
  const qe_desc *y = &call.operand[1].desc;
  int32_t *sums = calloc((size_t)qe_count(y), sizeof *sums);
  cpu_conv_shape shape = {.window = *window};
  cpu_conv_task task = task_of(x, &shape, y);
  task.sums = sums;
  kernels->sum_pool(&task);
  int64_t rows = qe_count(y) / lanes; /* [pixels][channels] */
  for (int64_t i = 0; i < rows; i++)
    for (int lane = 0; lane < lanes; lane++)
      assert_int_equal(sums[i * lanes + lane / 8 * 4 + lane % 4 + lane % 8 / 4 * (lanes / 2)], wanted[lane * rows + i]);
  free(sums);
  free(wanted);
}

static void max_pool_of(const cpu_lane_kernels *kernels, const map *x, const qe_window *window) {
  int8_t *wanted = calloc((size_t)qe_count(&x->desc), 1);
  qe_call call = reference_call(QE_OP_int_max_pool, window, x, wanted);
  OK(qe_ref_int_max_pool(&call));
  const qe_desc *y = &call.operand[1].desc;
  map to = map_new(kernels, y->dim[QE_H], y->dim[QE_W], y->dim[QE_C], x->zero);
  memcpy(to.codes, wanted, (size_t)qe_count(y));
  cpu_conv_shape shape = {.window = *window};
  cpu_conv_task task = task_of(x, &shape, y);
  kernels->max_pool(&task, to.origin, to.row, to.pixel, to.vector);
  assert_map(&to, "max_pool");
  map_free(&to);
  free(wanted);
}

static void pools(const cpu_lane_kernels *kernels) {
  const qe_window small = {.kernel = {3, 2}, .stride = {2, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 0}, .groups = 1};
  const qe_window whole = {.kernel = {2, 290}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1};
  for (int i = 0; i < COUNTS; i++) {
    map x = random_map(kernels, 5, 7, channel_counts[i], 0, 127);
    sum_pool_of(kernels, &x, &small);
    max_pool_of(kernels, &x, &small);
    map_free(&x);
    x = random_map(kernels, 3, 291, channel_counts[i], 128, 127);
    sum_pool_of(kernels, &x, &whole);
    max_pool_of(kernels, &x, &whole);
    memset(x.codes, 127, (size_t)qe_count(&x.desc)); /* sums beyond 16 bits */
    lay_out(&x, x.origin);
    sum_pool_of(kernels, &x, &whole);
    map_free(&x);
  }
}

static void test_pools(void **state) {
  (void)state;
  for_all_kernels(pools);
}

static void subsample_of(const cpu_lane_kernels *kernels, const map *x, const int32_t *pad) {
  qe_call call = {.op = QE_OP_int_subsample, .operands = 2};
  qe_desc desc[QE_MAX_OPERANDS];
  call.attrs.window.stride[0] = 2;
  call.attrs.window.stride[1] = 2;
  memcpy(call.attrs.pad_channels, pad, sizeof call.attrs.pad_channels);
  OK(qe_op_shapes(QE_OP_int_subsample, &call.attrs, &x->desc, desc));
  map to = map_new(kernels, desc[1].dim[QE_H], desc[1].dim[QE_W], desc[1].dim[QE_C], x->zero);
  call.operand[0] = (qe_operand){.desc = x->desc, .data = x->codes};
  call.operand[1] = (qe_operand){.desc = desc[1], .data = to.codes};
  OK(qe_call_check(&call));
  OK(qe_ref_int_subsample(&call));
  cpu_conv_shape shape = {.window = call.attrs.window};
  cpu_conv_task task = task_of(x, &shape, &desc[1]);
  kernels->subsample(&task, pad, to.origin, to.row, to.pixel, to.vector);
  assert_map(&to, "subsample");
  map_free(&to);
}

static void subsamples(const cpu_lane_kernels *kernels) {
  const int32_t pads[][2] = {{0, 0}, {8, 8}, {1, 2}, {3, 0}, {0, 5}};
  for (int i = 0; i < COUNTS; i++) {
    map x = random_map(kernels, 5, 4, channel_counts[i], i % 2 ? 7 : 0, 100);
    for (size_t k = 0; k < sizeof pads / sizeof *pads; k++) subsample_of(kernels, &x, pads[k]);
    map_free(&x);
  }
}

static void test_subsample(void **state) {
  (void)state;
  for_all_kernels(subsamples);
}

static void loads(const cpu_lane_kernels *kernels) {
  for (int i = 0; i < COUNTS; i++) {
    int32_t channels = channel_counts[i], lanes = kernels->lanes;
    map x = random_map(kernels, 2, 3, channels, 128, 127);
    cpu_conv_shape shape = {.window = {.kernel = {1, 1}, .stride = {1, 1}}};
    cpu_conv_task task = task_of(&x, &shape, &x.desc);
    int16_t *sums = calloc((size_t)qe_count(&x.desc), sizeof *sums);
    task.sums = sums;
    kernels->load(&task);
    for (int64_t at = 0; at < 2 * 3 * channels; at++)
      for (int lane = 0; lane < lanes; lane++)
        assert_int_equal(sums[at * lanes + lane], x.codes[lane * 2 * 3 * channels + at]);
    free(sums);
    map_free(&x);
  }
}

static void test_load(void **state) {
  (void)state;
  for_all_kernels(loads);
}

/* Images that end where their memory ends; some lanes are empty. */
static void gathers(const cpu_lane_kernels *kernels) {
  for (int i = 0; i < COUNTS + 1; i++) {
    int32_t channels = i < COUNTS ? channel_counts[i] : 401, height = 3, width = 23;
    map x = map_new(kernels, height, width, channels, 128);
    uint8_t *image[CPU_MAX_LANES] = {0};
    int64_t each = (int64_t)height * width * channels;
    for (int lane = 0; lane < x.lanes; lane++) {
      if (lane % 5 == 3) continue;
      image[lane] = malloc((size_t)each);
      for (int64_t k = 0; k < each; k++) {
        image[lane][k] = (uint8_t)random_bits();
        x.codes[lane * each + k] = (int8_t)(image[lane][k] - 128);
      }
    }
    kernels->gather((const uint8_t *const *)image, height, width, channels, x.origin, x.row, x.pixel, x.vector);
    assert_map(&x, "gather");
    for (int lane = 0; lane < x.lanes; lane++) free(image[lane]);
    map_free(&x);
  }
}

static void test_gather(void **state) {
  (void)state;
  for_all_kernels(gathers);
}

static void losses(const cpu_lane_kernels *kernels) {
  for (int run = 0; run < 200; run++) {
    int32_t classes = (int32_t)between(1, 12), lanes = kernels->lanes;
    int32_t logits[12 * CPU_MAX_LANES], rows[12 * CPU_MAX_LANES], label[CPU_MAX_LANES];
    int32_t loss[2][CPU_MAX_LANES], hit[2][CPU_MAX_LANES];
    const int32_t sizes[] = {0, 3, 2000, INT32_MAX};
    int64_t size = sizes[run % 4];
    for (int32_t i = 0; i < classes * lanes; i++) {
      logits[i] = (int32_t)extreme(-size - 1, size);
      rows[i % lanes * classes + i / lanes] = logits[i];
    }
    for (int lane = 0; lane < lanes; lane++) label[lane] = (int32_t)between(0, classes - 1);
    qe_desc row = qe_map(QE_S32, lanes, 1, 1, 1);
    qe_call call = {.op = QE_OP_int_loss,
                    .operands = 4,
                    .operand = {{.desc = qe_map(QE_S32, lanes, 1, 1, classes), .data = rows},
                                {.desc = row, .data = label},
                                {.desc = row, .data = loss[0]},
                                {.desc = row, .data = hit[0]}}};
    OK(qe_ref_int_loss(&call));
    kernels->loss(logits, classes, label, loss[1], hit[1]);
    assert_memory_equal(loss[0], loss[1], (size_t)lanes * sizeof *label);
    assert_memory_equal(hit[0], hit[1], (size_t)lanes * sizeof *label);
  }
}

static void test_loss(void **state) {
  (void)state;
  for_all_kernels(losses);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_requant_kinds), cmocka_unit_test(test_requant_limits), cmocka_unit_test(test_pools),
      cmocka_unit_test(test_subsample),     cmocka_unit_test(test_load),           cmocka_unit_test(test_gather),
      cmocka_unit_test(test_loss),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
