/* Convolutions of 1- and 2-bit codes by table look-up. Compiled once an instruction set.
 *
 * A byte of the map is an index of 4 bits: the codes of a few channels of one image. For each output, tap and vector of
 * channels there are two tables of 16 bytes, one for the channels of each half of a 32-byte unit; a byte shuffle looks
 * up a vector of images at once. Entries are not negative: a weight below 0 counts |w| * (most - code), so that the
 * least sum of the channel is 0. Sums of entries stay in 8 bits over as many steps as cannot overflow ("segments",
 * found while the tables are made); the halves are then added in 16 bits onto the sums in memory. */
#include "backends/cpu/forms.h"
#include "backends/cpu/lane_vec.h"

enum { UNIT = 32, ENTRIES = 16, ENTRY_MOST = UINT8_MAX, SUM_MOST = UINT16_MAX, ALIGNMENT = 64, MAX_CHANNELS = 4 };

/* Sums in registers: SITES * OUTPUTS vectors of 8 bits; the fastest of those that need no more registers than there
 * are (16; 32). */
#if defined(__AVX512BW__)
enum { SITES = 8, OUTPUTS = 2 };
#else
enum { SITES = 4, OUTPUTS = 2 };
#endif

/* ---- vectors ---- */

#ifdef VEC_OP
/* The same two tables in every unit of the vector. */
CPU_INLINE vec load_tables(const uint8_t *p) {
#if defined(__AVX512BW__)
  return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p));
#else
  return vec_load(p);
#endif
}
#endif

enum { MIDDLE_SWAPPED = 0xd8 }; /* the quarters of a unit in the order 0, 2, 1, 3 */

/* Bytes of half A and half B of the same image side by side, images in order. */
CPU_INLINE vec pair_halves(vec v) {
#ifdef VEC_OP
  static const uint8_t zip[ENTRIES] = {0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15};
  __m128i order = _mm_loadu_si128((const __m128i *)zip);
#endif
#if defined(__AVX512BW__)
  return _mm512_shuffle_epi8(_mm512_permutex_epi64(v, MIDDLE_SWAPPED), _mm512_broadcast_i32x4(order));
#elif defined(__AVX2__)
  return _mm256_shuffle_epi8(_mm256_permute4x64_epi64(v, MIDDLE_SWAPPED), _mm256_broadcastsi128_si256(order));
#else
  vec other = {{v.half[1], v.half[0]}};
  return (vec){{vec_unpacklo8(v, other).half[0], vec_unpackhi8(v, other).half[0]}};
#endif
}

/* ---- the weights' tables ---- */

/* Outputs of one block. `segments` ends follow each other in end[]; then come the tables, [steps][OUTPUTS][UNIT]. */
typedef struct block {
  int32_t start[OUTPUTS]; /* what the sums begin with, s16 twice */
  int32_t segments;
  int32_t end[]; /* the first step behind each segment */
} block;

typedef struct block_layout {
  int32_t steps; /* vectors that one sum reads */
  size_t tables; /* from a block to its tables, bytes */
  size_t bytes;  /* from a block to the next */
} block_layout;

CPU_INLINE int32_t vectors_of(const cpu_conv_shape *shape, int32_t channels) {
  return (shape->inputs + 2 * channels - 1) / (2 * channels);
}

/* `channels`: in a nibble. */
static block_layout layout_of(const cpu_conv_shape *shape, int32_t channels) {
  int32_t steps = shape->window.kernel[0] * shape->window.kernel[1] * vectors_of(shape, channels);
  size_t head = sizeof(block) + (size_t)steps * sizeof(int32_t);
  size_t tables = (head + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  size_t bytes = (tables + (size_t)steps * OUTPUTS * UNIT + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return (block_layout){.steps = steps, .tables = tables, .bytes = bytes};
}

/* For each channel of a nibble, sign of the weight and entry: what the weight's size is multiplied by; eight entries
 * in each number, which multiply at once because no product needs more than 8 bits. */
typedef struct patterns {
  uint64_t of[MAX_CHANNELS][2][2];
} patterns;

static void make_patterns(patterns *p, int32_t channels, int32_t most) {
  int32_t bits = MAX_CHANNELS / channels;
  for (int32_t c = 0; c < channels; c++) {
    uint8_t positive[ENTRIES], negative[ENTRIES];
    for (int32_t e = 0; e < ENTRIES; e++) {
      int32_t code = (e >> (c * bits)) & ((1 << bits) - 1);
      positive[e] = (uint8_t)smaller(code, most);
      negative[e] = (uint8_t)(most - positive[e]);
    }
    memcpy(p->of[c][0], positive, ENTRIES);
    memcpy(p->of[c][1], negative, ENTRIES);
  }
}

/* One output while its tables are made. */
typedef struct output_state {
  int64_t size, least; /* of all weights so far: sum of |w|, sum of negative w */
  int32_t sum[2];      /* largest sums of the segment, by half */
  int32_t entry[2];    /* largest entries of the step, by half */
} output_state;

/* The table of one nibble; false where an entry needs more than 8 bits. */
CPU_INLINE bool make_table(const patterns *p, const int8_t *weights, int32_t channels, int32_t most,
                           output_state *state, int32_t half, uint8_t *table) {
  uint64_t entries[2] = {0, 0};
  int32_t total = 0;
  for (int32_t c = 0; c < channels; c++) {
    int32_t w = weights[c], size = w < 0 ? -w : w;
    const uint64_t *pattern = p->of[c][w < 0];
    entries[0] += pattern[0] * (uint64_t)size;
    entries[1] += pattern[1] * (uint64_t)size;
    total += size;
    state->least += w < 0 ? w : 0;
  }
  memcpy(table, entries, ENTRIES);
  state->size += total;
  state->entry[half] = total * most;
  return total * most <= ENTRY_MOST;
}

typedef struct packer {
  const cpu_conv_shape *shape;
  const int8_t *weights; /* of the block's first output */
  patterns patterns;
  int32_t channels; /* in a nibble */
  int32_t outputs;  /* of the block that exist */
  output_state state[OUTPUTS];
} packer;

/* The tables of one step: channels `first`... of a tap. */
CPU_INLINE bool make_step(packer *pack, int32_t tap, int32_t first, int32_t channels, uint8_t *tables) {
  const cpu_conv_shape *shape = pack->shape;
  int64_t taps = (int64_t)shape->window.kernel[0] * shape->window.kernel[1];
  int32_t present = (int32_t)smaller(2 * channels, shape->inputs - first);
  bool fits = true;
  for (int32_t o = 0; o < pack->outputs; o++) {
    const int8_t *from = pack->weights + (o * taps + tap) * shape->inputs + first;
    int8_t some[2 * MAX_CHANNELS] = {0};
    if (present < 2 * channels) from = memcpy(some, from, (size_t)present);
    for (int32_t half = 0; half < 2; half++)
      fits &= make_table(&pack->patterns, from + half * channels, channels, shape->most, &pack->state[o], half,
                         tables + (2 * o + half) * ENTRIES);
  }
  return fits;
}

/* Adds the step's largest entries to the segment's sums; false where one no longer fits 8 bits: a segment begins. */
CPU_INLINE bool extend_segment(packer *pack) {
  int32_t largest = 0;
  for (int32_t o = 0; o < OUTPUTS; o++)
    for (int32_t half = 0; half < 2; half++) {
      int32_t sum = pack->state[o].sum[half] += pack->state[o].entry[half];
      largest = sum > largest ? sum : largest;
    }
  if (largest <= ENTRY_MOST) return true;
  for (int32_t o = 0; o < OUTPUTS; o++) memcpy(pack->state[o].sum, pack->state[o].entry, sizeof pack->state[o].sum);
  return false;
}

/* Sums run from 0 to size * most; less the half of that they fit s16. */
static bool make_starts(const packer *pack, block *to, int32_t *centre) {
  for (int32_t o = 0; o < OUTPUTS; o++) {
    int64_t width = pack->state[o].size * pack->shape->most, half = (width + 1) / 2;
    if (width > SUM_MOST) return false;
    uint32_t start = (uint32_t)-half & SUM_MOST;
    to->start[o] = (int32_t)(start | start << 16);
    if (o < pack->outputs) centre[o] = (int32_t)(pack->state[o].least * pack->shape->most + half);
  }
  return true;
}

CPU_INLINE bool make_block(packer *pack, int32_t channels, const block_layout *layout, block *to, int32_t *centre) {
  uint8_t *tables = (uint8_t *)to + layout->tables;
  int32_t step = 0, taps = pack->shape->window.kernel[0] * pack->shape->window.kernel[1];
  memset(to, 0, pack->outputs < OUTPUTS ? layout->bytes : layout->tables);
  memset(pack->state, 0, sizeof pack->state);
  for (int32_t tap = 0; tap < taps; tap++)
    for (int32_t first = 0; first < pack->shape->inputs; first += 2 * channels, step++, tables += OUTPUTS * UNIT) {
      if (!make_step(pack, tap, first, channels, tables)) return false;
      if (!extend_segment(pack)) to->end[to->segments++] = step;
    }
  to->end[to->segments++] = step;
  return make_starts(pack, to, centre);
}

CPU_INLINE bool prepare(const cpu_conv_shape *shape, int32_t channels, const int8_t *weights, void *prepared,
                        int32_t *centre) {
  block_layout layout = layout_of(shape, channels);
  packer pack = {.shape = shape, .channels = channels};
  int64_t each = (int64_t)shape->window.kernel[0] * shape->window.kernel[1] * shape->inputs;
  uint8_t *to = prepared;
  make_patterns(&pack.patterns, channels, shape->most);
  for (int32_t o = 0; o < shape->window.channels; o += OUTPUTS, to += layout.bytes) {
    pack.weights = weights + o * each;
    pack.outputs = (int32_t)smaller(OUTPUTS, shape->window.channels - o);
    if (!make_block(&pack, channels, &layout, (block *)to, centre + o)) return false;
  }
  return true;
}

/* ---- sums ---- */

typedef struct look_up {
  const int64_t *offset; /* of each step's vector from the site's first, bytes */
  const block *block;
  const uint8_t *tables;
  int64_t in_site, out_site; /* bytes from a site to the next */
  int32_t outputs;           /* of the block that exist */
} look_up;

/* 8-bit sums of a segment onto the sums in memory, or with these the sums begin. */
CPU_INLINE void widen(vec sum, uint8_t *to, vec start, bool begins) {
  vec so_far = begins ? start : vec_load(to);
  vec_store(to, vec_add16(so_far, vec_maddubs(pair_halves(sum), vec_set8(1))));
}

/* As widen, for all sums of a block. */
CPU_INLINE void widen_all(const look_up *l, vec sum[SITES][OUTPUTS], uint8_t *out, bool begins, int sites) {
  const int64_t out_site = l->out_site; /* stores could change what is read through l, for all the compiler knows */
  const int32_t outputs = l->outputs;
  const int32_t *start = l->block->start;
  for (int o = 0; o < OUTPUTS; o++) {
    if (o >= outputs) return;
    vec first = vec_broadcast32(&start[o]);
    for (int s = 0; s < sites; s++) widen(sum[s][o], out + s * out_site + o * VEC, first, begins);
  }
}

/* Steps first...last-1 of `sites` sites that follow each other. */
#ifdef VEC_OP
CPU_INLINE void segment(const look_up *l, const uint8_t *in, uint8_t *out, int32_t first, int32_t last, int sites) {
  vec sum[SITES][OUTPUTS];
  for (int s = 0; s < sites; s++)
    for (int o = 0; o < OUTPUTS; o++) sum[s][o] = vec_zero();
  for (int32_t step = first; step < last; step++) {
    const uint8_t *at = in + l->offset[step], *tables = l->tables + (int64_t)step * OUTPUTS * UNIT;
    vec index[SITES];
    for (int s = 0; s < sites; s++) index[s] = vec_load(at + s * l->in_site);
    for (int o = 0; o < OUTPUTS; o++) {
      vec table = load_tables(tables + o * UNIT);
      for (int s = 0; s < sites; s++) sum[s][o] = vec_add8(sum[s][o], vec_shuffle8(table, index[s]));
    }
  }
  if (first == 0)
    widen_all(l, sum, out, true, sites);
  else
    widen_all(l, sum, out, false, sites);
}

#else /* without a byte shuffle: entry by entry */
CPU_INLINE void segment(const look_up *l, const uint8_t *in, uint8_t *out, int32_t first, int32_t last, int sites) {
  vec sums[SITES][OUTPUTS];
  for (int s = 0; s < sites; s++) {
    uint8_t sum[OUTPUTS][VEC] = {{0}};
    for (int32_t step = first; step < last; step++) {
      const uint8_t *index = in + s * l->in_site + l->offset[step];
      const uint8_t *tables = l->tables + (int64_t)step * OUTPUTS * UNIT;
      for (int o = 0; o < OUTPUTS; o++)
        for (int i = 0; i < VEC; i++)
          sum[o][i] = (uint8_t)(sum[o][i] + tables[o * UNIT + (i & ENTRIES) + (index[i] & (ENTRIES - 1))]);
    }
    for (int o = 0; o < OUTPUTS; o++) sums[s][o] = vec_load(sum[o]);
  }
  widen_all(l, sums, out, first == 0, sites);
}
#endif

CPU_INLINE void segments(const look_up *l, const uint8_t *in, uint8_t *out, int sites) {
  int32_t first = 0;
  for (int32_t i = 0; i < l->block->segments; i++) {
    segment(l, in, out, first, l->block->end[i], sites);
    first = l->block->end[i];
  }
}

static void line(const look_up *l, const uint8_t *in, uint8_t *out, int32_t sites) {
  int32_t at = 0;
  for (; at + SITES <= sites; at += SITES) segments(l, in + at * l->in_site, out + at * l->out_site, SITES);
  for (; at + SITES / 2 <= sites; at += SITES / 2) segments(l, in + at * l->in_site, out + at * l->out_site, SITES / 2);
  for (; at < sites; at++) segments(l, in + at * l->in_site, out + at * l->out_site, 1);
}

static void run(const cpu_conv_task *task, int32_t channels) {
  const cpu_conv_shape *shape = task->shape;
  block_layout layout = layout_of(shape, channels);
  int64_t *offset = task->scratch, out_line = (int64_t)task->sites * shape->window.channels * VEC;
  int32_t step = 0, vectors = vectors_of(shape, channels);
  for (int32_t y = 0; y < shape->window.kernel[0]; y++)
    for (int32_t x = 0; x < shape->window.kernel[1]; x++)
      for (int32_t v = 0; v < vectors; v++)
        offset[step++] = y * task->in_row + x * task->in_pixel + v * task->in_vector;
  look_up l = {.offset = offset, .in_site = task->in_site, .out_site = (int64_t)shape->window.channels * VEC};
  const uint8_t *prepared = task->prepared;
  for (int32_t o = 0; o < shape->window.channels; o += OUTPUTS, prepared += layout.bytes) {
    l.block = (const block *)prepared;
    l.tables = prepared + layout.tables;
    l.outputs = (int32_t)smaller(OUTPUTS, shape->window.channels - o);
    for (int32_t row = 0; row < task->rows; row++)
      line(&l, task->in + row * task->in_line, (uint8_t *)task->sums + row * out_line + (int64_t)o * VEC, task->sites);
  }
}

/* ---- the forms ---- */

static bool takes(const cpu_conv_shape *shape, int32_t most) {
  return shape->window.groups == 1 && shape->zero == 0 && shape->most <= most;
}

static size_t prepared_bytes(const cpu_conv_shape *shape, int32_t channels) {
  return (size_t)((shape->window.channels + OUTPUTS - 1) / OUTPUTS) * layout_of(shape, channels).bytes;
}

/* What differs by the bits of a code: MOST, its largest value, and CHANNELS in a nibble. */
#define LOOKUP_FORM(form, most, channels, packing_)                                                                    \
  static bool form##_takes(const cpu_conv_shape *shape) {                                                              \
    return takes(shape, most);                                                                                         \
  }                                                                                                                    \
  static size_t form##_prepared_bytes(const cpu_conv_shape *shape) {                                                   \
    return prepared_bytes(shape, channels);                                                                            \
  }                                                                                                                    \
  static size_t form##_scratch_bytes(const cpu_conv_shape *shape, int32_t sites) {                                     \
    (void)sites;                                                                                                       \
    return (size_t)layout_of(shape, channels).steps * sizeof(int64_t);                                                 \
  }                                                                                                                    \
  static bool form##_prepare(const cpu_conv_shape *shape, const int8_t *weights, void *prepared, int32_t *centre) {    \
    return prepare(shape, channels, weights, prepared, centre);                                                        \
  }                                                                                                                    \
  static void form##_run(const cpu_conv_task *task) {                                                                  \
    run(task, channels);                                                                                               \
  }                                                                                                                    \
  const cpu_form CPU_NAME(form_##form) = {.name = #form,                                                               \
                                          .packing = packing_,                                                         \
                                          .sums = CPU_SUMS_S16,                                                        \
                                          .rows = 1,                                                                   \
                                          .takes = form##_takes,                                                       \
                                          .prepared_bytes = form##_prepared_bytes,                                     \
                                          .scratch_bytes = form##_scratch_bytes,                                       \
                                          .prepare = form##_prepare,                                                   \
                                          .run = form##_run};

LOOKUP_FORM(lookup2, 3, 2, CPU_CRUMBS)
LOOKUP_FORM(lookup1, 1, 4, CPU_BITS)
