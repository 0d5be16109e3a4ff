/* Sums of outer products: packing in chunks of images, tiles shared out over threads. */
#include "backends/cpu/outer.h"

#include "backends/cpu/parallel.h"

#include <string.h>

enum { CHUNK_WORDS = 1 << 18 }; /* packed at a time: what the second-level cache holds */

static int64_t round_up(int64_t value, int64_t to) {
  return (value + to - 1) / to * to;
}

static int64_t sum_rows(int64_t channels) {
  return round_up(channels, CPU_OUTER_ROWS);
}

static int64_t sum_columns(int64_t channels) {
  return round_up(channels, CPU_OUTER_PADDING);
}

size_t cpu_outer_sum_bytes(int64_t units, int64_t a_channels, int64_t b_channels) {
  return (size_t)(units * sum_rows(a_channels) * sum_columns(b_channels)) * sizeof(int64_t);
}

/* A map as it is packed. */
typedef struct packed_map {
  const cpu_outer_map *map;
  int64_t padded, words; /* channels; words of a group */
  int32_t shift, limb;
  uint32_t *data; /* of the chunk */
} packed_map;

typedef struct run {
  const cpu_device *device;
  const cpu_outer_kernels *kernels;
  const cpu_outer *outer;
  packed_map a, b;
  bool shared; /* b is a's packed memory */
  int32_t members, limbs;
  int64_t limit;
  int64_t first_group, groups; /* of the chunk */
  cpu_outer_sums sums;
} run;

static packed_map packed_of(const cpu_outer_map *map) {
  int64_t padded = round_up(map->channels, CPU_OUTER_PADDING);
  return (packed_map){.map = map, .padded = padded, .words = map->pixels * padded};
}

static int32_t bits_of(uint32_t magnitude) {
  return magnitude ? 32 - __builtin_clz(magnitude) : 0;
}

/* Members of a group, limbs of b and how many words s32 can hold, from the bits that the values have. */
static void choose_form(run *r) {
  const cpu_outer_map *a = &r->outer->a, *b = &r->outer->b;
  int32_t bits_a = bits_of(r->kernels->magnitude(a->data, a->type, r->outer->images * a->pixels * a->channels));
  int32_t bits_b =
      r->shared ? bits_a : bits_of(r->kernels->magnitude(b->data, b->type, r->outer->images * b->pixels * b->channels));
  bool bytes = r->kernels->has_bytes() && a->type == QE_U8 && bits_b <= 7;
  r->members = bytes ? 4 : 2;
  r->limbs = bits_b > CPU_OUTER_LIMB_BITS ? (bits_b + CPU_OUTER_LIMB_BITS - 1) / CPU_OUTER_LIMB_BITS : 1;
  if (r->limbs > 1) bits_b = CPU_OUTER_LIMB_BITS;
  r->limit = INT32_MAX / (r->members * (INT64_C(1) << (bits_a + bits_b)));
}

static void pack_group(const run *r, const packed_map *to, int64_t group) {
  int64_t image = (r->first_group + group) * r->members, width = 32 / r->members;
  size_t bytes = (size_t)(to->map->pixels * to->map->channels) * qe_dtype_bytes(to->map->type);
  for (int32_t k = 0; k < r->members && image + k < r->outer->images; k++) {
    cpu_outer_pack pack = {.source = (const char *)to->map->data + (size_t)(image + k) * bytes,
                           .type = to->map->type,
                           .pixels = to->map->pixels,
                           .channels = to->map->channels,
                           .padded = to->padded,
                           .place = k * (int32_t)width,
                           .width = (int32_t)width,
                           .shift = to->shift,
                           .limb = to->limb,
                           .target = to->data + group * to->words};
    r->kernels->pack(&pack);
  }
}

static void pack_some(void *context, int64_t first, int64_t last, int thread) {
  const run *r = context;
  (void)thread;
  for (int64_t at = first; at < last; at++) pack_group(r, at < r->groups ? &r->a : &r->b, at % r->groups);
}

/* A unit's places in words. */
static cpu_outer_unit in_words(const run *r, const cpu_outer_unit *pixels) {
  cpu_outer_unit unit = *pixels;
  unit.a.first *= r->a.padded, unit.a.line *= r->a.padded, unit.a.step *= r->a.padded;
  unit.b.first *= r->b.padded, unit.b.line *= r->b.padded, unit.b.step *= r->b.padded;
  return unit;
}

/* Task: CPU_OUTER_ROWS rows of a unit. */
static void tile_some(void *context, int64_t first, int64_t last, int thread) {
  const run *r = context;
  int64_t tiles = r->sums.rows / CPU_OUTER_ROWS;
  (void)thread;
  for (int64_t at = first; at < last; at++) {
    int64_t row = at % tiles * CPU_OUTER_ROWS;
    cpu_outer_tile tile = {.a = (const int32_t *)r->a.data + row,
                           .b = (const int32_t *)r->b.data,
                           .a_group = r->a.words,
                           .b_group = r->b.words,
                           .groups = r->groups,
                           .unit = in_words(r, &r->outer->unit[at / tiles]),
                           .limit = r->limit,
                           .columns = r->sums.columns,
                           .sums = r->sums.data + (at / tiles * r->sums.rows + row) * r->sums.columns,
                           .bytes = r->members == 4};
    r->kernels->tile(&tile);
  }
}

static void run_chunks(run *r, int64_t chunk) {
  int64_t groups = (r->outer->images + r->members - 1) / r->members;
  int64_t tasks = r->outer->units * (r->sums.rows / CPU_OUTER_ROWS);
  for (r->first_group = 0; r->first_group < groups; r->first_group += chunk) {
    r->groups = groups - r->first_group < chunk ? groups - r->first_group : chunk;
    int64_t words = r->groups * (r->a.words + (r->shared ? 0 : r->b.words));
    cpu_parallel(r->device, r->shared ? r->groups : 2 * r->groups, 1, words, pack_some, r);
    cpu_parallel(r->device, tasks, 1, words * r->outer->units, tile_some, r);
  }
}

/* The limbs of b from the highest on: the sums move up between them. */
static void run_limbs(run *r, int64_t chunk) {
  int64_t count = r->outer->units * r->sums.rows * r->sums.columns;
  memset(r->sums.data, 0, (size_t)count * sizeof *r->sums.data);
  for (int32_t limb = r->limbs - 1; limb >= 0; limb--) {
    r->b.shift = limb * CPU_OUTER_LIMB_BITS;
    r->b.limb = limb < r->limbs - 1;
    run_chunks(r, chunk);
    for (int64_t i = 0; limb && i < count; i++)
      r->sums.data[i] = (int64_t)((uint64_t)r->sums.data[i] << CPU_OUTER_LIMB_BITS);
  }
}

qe_status cpu_outer_run(cpu_queue *queue, const cpu_outer *outer, cpu_outer_sums *sums) {
  const cpu_device *device = cpu_device_of(&queue->base);
  run r = {.device = device, .kernels = device->kernels->outer, .outer = outer};
  r.a = packed_of(&outer->a);
  r.b = packed_of(&outer->b);
  r.shared = outer->a.data == outer->b.data && outer->a.type == outer->b.type && r.a.words == r.b.words &&
             r.a.padded == r.b.padded;
  choose_form(&r);
  int64_t words = r.a.words + (r.shared ? 0 : r.b.words), groups = (outer->images + r.members - 1) / r.members;
  int64_t chunk = words < CHUNK_WORDS ? CHUNK_WORDS / words : 1;
  if (chunk > groups) chunk = groups;
  size_t sum_bytes = cpu_outer_sum_bytes(outer->units, outer->a.channels, outer->b.channels);
  void *scratch;
  QE_TRY(cpu_queue_scratch(queue, sum_bytes + (size_t)(chunk * words) * sizeof(uint32_t), &scratch));
  r.sums = *sums = (cpu_outer_sums){scratch, sum_rows(outer->a.channels), sum_columns(outer->b.channels)};
  r.a.data = r.b.data = (uint32_t *)(void *)((char *)scratch + sum_bytes);
  if (!r.shared) r.b.data += chunk * r.a.words;
  run_limbs(&r, chunk);
  return QE_OK;
}
