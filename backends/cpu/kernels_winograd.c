/* Form `winograd`: exact integer Winograd F(2x2, 3x3) in 16 bits, of few-bit codes.
 *
 *   y = A'[(G g G') o (B' d B)]A with G's middle rows doubled, so that all is integer:
 *     G: (1 0 0) (1 1 1) (1 -1 1) (0 0 1)    B': (1 0 -1 0) (0 1 1 0) (0 -1 1 0) (0 1 0 -1)
 *     y0 = m0 + (m1 + m2) / 2    y1 = (m1 - m2) / 2 - m3 along each axis; m1 + m2 is always even
 *
 * With stored codes 0...m, V = B'dB lies in -2m...2m, at (1, 1) in 0...4m; 2m is added elsewhere, so V' is a byte when
 * 4m <= 255. U = GgG' must fit s8, and 4m times the U of one sign of a pair of channels must fit s16, or maddubs would
 * saturate. All sums are modulo 2^16, which is exact as long as no halving sees a value outside 0...65535:
 *   - along a row, M(i, 1) and M(i, 2) are halved. Each runs over exactly 4m * sum |U| values (the V of a channel are
 *     free of the other channels'), and starts so that its least value is 0: 4m * sum_c |U(i, j)| <= 65535, j = 1, 2.
 *   - along a column, T(1, x) and T(2, x), the sums of a convolution that is transformed along columns only, are
 * halved. With P(i) = row i of G g (three columns of it, all channels), T(1, x) lies in 2m * (-sum P-...sum P+) and
 *     T(2, x) in m * (-sum |P|...sum |P|): 2m * sum |P(i)| <= 65535, i = 1, 2.
 *   - avg rounds up, (a + b + 1) >> 1: the constants that the starts put into a + b are known here, odd ones too.
 * Weights that break a bound take their channels in parts, each a Winograd convolution of its own that keeps the
 * bounds; what they make is added, modulo 2^16. The whole result less its centre fits s16 when the output's range is at
 * most 65535 wide. V' and the zero point add constants, which end in the starts and in what is added where a row is
 * halved. */
#include "backends/cpu/form_tools.h"
#include "backends/cpu/forms.h"

#include <stdlib.h>

/* TILES neighbours share each load of a weight, and up to OUTPUTS outputs each load of a code: as many as leave the
 * accumulators in registers. AVX-512 has registers for as many sums that are put aside. */
#define OUTPUTS 6
enum { TILES = 2, SUMS = TILES * OUTPUTS };
#if defined(__AVX512BW__)
enum { ASIDE_IN_REGISTERS = 1 };
#else
enum { ASIDE_IN_REGISTERS = 0 };
#endif

/* Rows and columns of elements are made in this order; 1 and 2 are halved and serve the others. */
static const int order[4] = {1, 2, 0, 3};

/* ---- the weights, transformed ---- */

/* Channels that are transformed together, one in each element of the loops that the compiler vectorises. */
enum { CHUNK = 16 };

typedef struct chunk {
  int16_t u[4][4][CHUNK]; /* G g G' */
  int16_t p[4][3][CHUNK]; /* G g */
} chunk;

static void transform_taps(int16_t a[CHUNK], const int16_t b[CHUNK], int16_t c[CHUNK], int16_t *const to[4]) {
  for (int i = 0; i < CHUNK; i++) {
    to[0][i] = a[i];
    to[1][i] = (int16_t)(a[i] + b[i] + c[i]);
    to[2][i] = (int16_t)(a[i] - b[i] + c[i]);
    to[3][i] = c[i];
  }
}

/* Channels channel...channel + count - 1 of an output; up to CHUNK, weights 0. */
static void transform_kernels(const cpu_conv_shape *shape, const int8_t *weights, int64_t output, int32_t channel,
                              int32_t count, chunk *k) {
  int8_t g[9][CHUNK] = {{0}};
  int16_t wide[9][CHUNK];
  const int8_t *from = weights + output * 9 * shape->inputs + channel;
  for (int tap = 0; tap < 9; tap++, from += shape->inputs) memcpy(g[tap], from, (size_t)count);
  for (int tap = 0; tap < 9; tap++)
    for (int i = 0; i < CHUNK; i++) wide[tap][i] = g[tap][i];
  for (int kw = 0; kw < 3; kw++)
    transform_taps(wide[kw], wide[3 + kw], wide[6 + kw],
                   (int16_t *[4]){k->p[0][kw], k->p[1][kw], k->p[2][kw], k->p[3][kw]});
  for (int i = 0; i < 4; i++)
    transform_taps(k->p[i][0], k->p[i][1], k->p[i][2], (int16_t *[4]){k->u[i][0], k->u[i][1], k->u[i][2], k->u[i][3]});
}

/* Sums over channels: of values, and of their sizes. */
typedef struct size_sum {
  int64_t total, size;
} size_sum;

typedef struct kernel_sums {
  size_sum u[4][4], p[4];
} kernel_sums;

static void add_values(size_sum *sum, const int16_t value[CHUNK]) {
  int32_t total = 0, size = 0;
  for (int i = 0; i < CHUNK; i++) {
    total += value[i];
    size += abs(value[i]);
  }
  sum->total += total;
  sum->size += size;
}

/* Whether U fits s8 and the products of a pair s16. */
static bool pairs_fit(const int16_t u[CHUNK], int32_t most) {
  int16_t largest = 0;
  for (int i = 0; i < CHUNK; i++) largest = (int16_t)(abs(u[i]) > largest ? abs(u[i]) : largest);
  if (largest > INT8_MAX) return false;
  bool fits = true;
  if (4 * most * 2 * largest > INT16_MAX)
    for (int i = 0; i < CHUNK; i += 2) fits = fits && form_pair_fits(4 * most, u[i], u[i + 1]);
  return fits;
}

static void sum_chunk(const chunk *k, kernel_sums *sums) {
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 4; j++) add_values(&sums->u[i][j], k->u[i][j]);
    for (int kw = 0; kw < 3; kw++) add_values(&sums->p[i], k->p[i][kw]);
  }
}

/* Whether every halving is exact. */
static bool sums_fit(const kernel_sums *sums, int32_t most) {
  for (int i = 0; i < 4; i++)
    for (int j = 1; j <= 2; j++)
      if (4 * most * sums->u[i][j].size > UINT16_MAX) return false;
  for (int i = 1; i <= 2; i++)
    if (2 * most * sums->p[i].size > UINT16_MAX) return false;
  return true;
}

/* ---- constants ---- */

typedef struct row_constants {
  int64_t start[2]; /* of columns 1 and 2: the least value becomes 0 */
  int64_t y0, y1;   /* what y0 and y1 of these columns then hold beyond their true values */
  int64_t add[2];   /* what y0 and y1 need */
} row_constants;

static row_constants halved_constants(const kernel_sums *sums, int32_t most, int i) {
  row_constants row = {0};
  int64_t held[2];
  for (int j = 1; j <= 2; j++) {
    const size_sum *u = &sums->u[i][j];
    row.start[j - 1] = 2 * most * (u->size - u->total);
    /* V(1, 1) is 0 at least and has no offset. */
    held[j - 1] = row.start[j - 1] + (i == 1 && j == 1 ? 0 : 2 * most) * u->total;
  }
  row.y0 = (held[0] + held[1] + 1) >> 1;
  row.y1 = row.y0 - held[1];
  return row;
}

/* `rest`: what the four outputs are to hold beyond their true values. */
static void output_constants(const kernel_sums *sums, int64_t most, int64_t rest, row_constants row[4]) {
  int64_t least1 = most * (sums->p[1].size - sums->p[1].total), least2 = most * sums->p[2].size;
  int64_t z = (least1 + least2 + 1) >> 1, w = z - least2;
  /* Rows 1 and 2 must be 0 at least; row 0 is added to z, row 3 taken from w. */
  const int64_t held[4] = {rest - z, least1, least2, w - rest};
  for (int i = 0; i < 4; i++) {
    row[i] = halved_constants(sums, (int32_t)most, i);
    row[i].add[0] = held[i] - row[i].y0 - 2 * most * sums->u[i][0].total;
    row[i].add[1] = held[i] - row[i].y1 + 2 * most * sums->u[i][3].total;
  }
}

/* ---- the prepared weights ---- */

/* A head of HEAD bytes: vectors of channels of a part; the last part has as many as are left. Then, part by part and
 * block by block, rows in their order, of items of FORM_WORD bytes an output: start and steps of column 1; of column 2;
 * what is added to y0, and y1; steps of column 0; of column 3. A part of fewer than LEAST_PART vectors would be no
 * faster than `direct`. */
enum { HEAD = 64, LEAST_PART = 4 };

/* Outputs of the next block where so many are left, and the row of its kernels in a table. */
static int32_t block_outputs(int32_t left) {
  if (left >= OUTPUTS && left != 8) return OUTPUTS;
  return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}
static int block_index(int32_t outputs) {
  return outputs == OUTPUTS ? 0 : outputs == 4 ? 1 : outputs == 2 ? 2 : 3;
}

static int64_t row_items(int64_t vectors) {
  return 4 * vectors + 4;
}

static size_t prepared_bytes(const cpu_conv_shape *shape) {
  int64_t vectors = form_vectors(shape), parts = (vectors + LEAST_PART - 1) / LEAST_PART;
  return (size_t)(HEAD + 4 * (4 * vectors + 4 * parts) * FORM_WORD * shape->window.channels);
}

/* Item of a row at which the steps of a column begin. */
static int64_t steps_item(int64_t vectors, int j) {
  if (j == 1) return 1;
  if (j == 2) return 2 + vectors;
  return j == 0 ? 4 + 2 * vectors : 4 + 3 * vectors;
}

/* One output's weights of a part, in the block that holds it. */
typedef struct output_part {
  const cpu_conv_shape *shape;
  const int8_t *weights;
  int64_t output;
  int32_t from, vectors; /* of channels */
  int32_t centre;        /* what the part takes away */
  uint8_t *to;           /* the output's word of the block's first item */
  int64_t item;          /* bytes */
} output_part;

static uint8_t *item_of(const output_part *p, int at, int64_t item) {
  return p->to + (at * row_items(p->vectors) + item) * p->item;
}

/* Pairs of bytes, each twice. */
static void write_pairs(const int16_t u[CHUNK], int sign, int32_t pairs, uint8_t *to, int64_t item) {
  int8_t byte[CHUNK];
  for (int i = 0; i < CHUNK; i++) byte[i] = (int8_t)(sign * u[i]);
  for (int32_t c = 0; c < pairs; c++, to += item) {
    uint16_t pair;
    memcpy(&pair, byte + 2 * c, sizeof pair);
    uint32_t word = pair * 0x10001u;
    memcpy(to, &word, sizeof word);
  }
}

static void write_steps(const output_part *p, const chunk *k, int32_t first, int32_t pairs) {
  for (int at = 0; at < 4; at++)
    for (int j = 0; j < 4; j++)
      write_pairs(k->u[order[at]][j], j == 3 ? -1 : 1, pairs, item_of(p, at, steps_item(p->vectors, j) + first),
                  p->item);
}

static void write_constants(const output_part *p, const row_constants row[4]) {
  for (int at = 0; at < 4; at++) {
    const row_constants *r = &row[order[at]];
    form_store_words(item_of(p, at, 0), r->start[0], r->start[0]);
    form_store_words(item_of(p, at, 1 + p->vectors), r->start[1], r->start[1]);
    for (int x = 0; x < 2; x++) form_store_words(item_of(p, at, 2 + 2 * p->vectors + x), r->add[x], r->add[x]);
  }
}

typedef enum fit { FITS, TOO_MANY, NEVER } fit;

/* Writes the part, if its sums fit. */
static fit prepare_output(const output_part *p) {
  const cpu_conv_shape *shape = p->shape;
  kernel_sums sums = {0};
  row_constants row[4];
  chunk k;
  for (int32_t done = 0; done < p->vectors; done += CHUNK / 2) {
    int32_t pairs = (int32_t)smaller(CHUNK / 2, p->vectors - done), channel = 2 * (p->from + done);
    transform_kernels(shape, p->weights, p->output, channel, (int32_t)smaller(2 * pairs, shape->inputs - channel), &k);
    for (int i = 0; i < 4; i++)
      for (int j = 0; j < 4; j++)
        if (!pairs_fit(k.u[i][j], shape->most)) return NEVER;
    sum_chunk(&k, &sums);
    write_steps(p, &k, done, pairs);
  }
  if (!sums_fit(&sums, shape->most)) return TOO_MANY;
  int64_t total = sums.p[0].total + sums.p[3].total + (sums.p[1].total - sums.p[2].total) / 2;
  output_constants(&sums, shape->most, -p->centre - shape->zero * total, row);
  write_constants(p, row);
  return FITS;
}

/* All weights in parts of so many vectors. */
static fit prepare_parts(const cpu_conv_shape *shape, const int8_t *weights, const int32_t *centre, int32_t part,
                         uint8_t *to) {
  output_part p = {.shape = shape, .weights = weights};
  for (; p.from < form_vectors(shape); p.from += p.vectors) {
    p.vectors = (int32_t)smaller(part, form_vectors(shape) - p.from);
    for (int32_t first = 0, count; first < shape->window.channels; first += count) {
      count = block_outputs(shape->window.channels - first);
      p.item = FORM_WORD * count;
      for (int32_t o = 0; o < count; o++) {
        p.output = first + o;
        p.to = to + FORM_WORD * o;
        p.centre = p.from == 0 ? centre[first + o] : 0;
        fit result = prepare_output(&p);
        if (result != FITS) return result;
      }
      to += 4 * row_items(p.vectors) * p.item;
    }
  }
  return FITS;
}

static bool prepare(const cpu_conv_shape *shape, const int8_t *weights, void *prepared, int32_t *centre) {
  int32_t *head = prepared, part = form_vectors(shape);
  for (int32_t o = 0; o < shape->window.channels; o++) {
    form_range range = form_output_range(shape, weights, o);
    if (range.most - range.least > UINT16_MAX) return false;
    centre[o] = form_centre(range);
  }
  for (;; part = (part + 1) / 2) {
    fit result = prepare_parts(shape, weights, centre, part, (uint8_t *)prepared + HEAD);
    *head = part;
    if (result != TOO_MANY) return result == FITS;
    if (part < 2 * LEAST_PART) return false;
  }
}

static bool takes(const cpu_conv_shape *shape) {
  const qe_window *w = &shape->window;
  bool plain = w->stride[0] == 1 && w->stride[1] == 1 && w->dilation[0] == 1 && w->dilation[1] == 1 && w->groups == 1;
  bool fits = w->kernel[0] == 3 && w->kernel[1] == 3 && shape->out_height % 2 == 0 && shape->out_width % 2 == 0;
  return plain && fits && 4 * shape->most <= UINT8_MAX;
}

/* ---- V ---- */

/* V' of some tiles lies in 16 planes, by rows and in a row by columns in their order: [vector][TILES]. Planes are a
 * cache line more than that apart, lest all 16 should fall into the same sets of a cache. */
CPU_INLINE int64_t plane_bytes(int64_t vectors) {
  enum { LINE = 64 };
  return vectors * TILES * VEC + LINE;
}

/* Element of row `i` of B'd at a column. */
CPU_INLINE vec column_of(const uint8_t *in, int64_t in_row, const int i) {
  if (i == 0) return vec_sub8(vec_load(in), vec_load(in + 2 * in_row));
  if (i == 1) return vec_add8(vec_load(in + in_row), vec_load(in + 2 * in_row));
  if (i == 2) return vec_sub8(vec_load(in + 2 * in_row), vec_load(in + in_row));
  return vec_sub8(vec_load(in + in_row), vec_load(in + 3 * in_row));
}

/* Row `i` of V' of `tiles` neighbours. */
CPU_INLINE void transform_row(const cpu_conv_task *task, const uint8_t *in, int64_t vectors, uint8_t *v,
                              const int tiles, const int i) {
  const int64_t in_row = task->in_row, in_pixel = task->in_pixel, plane = plane_bytes(vectors);
  const vec offset = vec_set8(2 * task->shape->most);
#pragma GCC unroll 1
  for (int64_t c = 0; c < vectors; c++, v += TILES * VEC, in += task->in_vector) {
    const uint8_t *at = in;
    vec even = vec_add8(column_of(at, in_row, i), offset), odd = column_of(at + in_pixel, in_row, i);
#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++) {
      at += 2 * in_pixel;
      vec next = column_of(at, in_row, i), next_odd = column_of(at + in_pixel, in_row, i);
      vec next_even = vec_add8(next, offset);
      vec_store(v + t * VEC, vec_add8(odd, i == 1 ? next : next_even));
      vec_store(v + plane + t * VEC, vec_sub8(next_even, odd));
      vec_store(v + 2 * plane + t * VEC, vec_sub8(even, next));
      vec_store(v + 3 * plane + t * VEC, vec_sub8(vec_add8(odd, offset), next_odd));
      even = next_even;
      odd = next_odd;
    }
  }
}

/* `tiles` neighbours, from the first vector of channels on. */
CPU_INLINE void transform(const cpu_conv_task *task, const uint8_t *in, int64_t vectors, uint8_t *v, const int tiles) {
#pragma GCC unroll 4
  for (int at = 0; at < 4; at++) transform_row(task, in, vectors, v + 4 * at * plane_bytes(vectors), tiles, order[at]);
}

/* ---- a block of outputs ---- */

/* V' of some tiles, times a block of outputs of a part of the channels. */
typedef struct tile_site {
  const uint8_t *v;
  int64_t vectors;
  const uint8_t *weights;
  uint8_t *sums;      /* of the first output of the first tile */
  int64_t site, line; /* of the sums, bytes */
  bool joins;         /* another part's sums are there */
  uint8_t *work;      /* WORK_BYTES, aligned as `scratch` */
} tile_site;

/* Parts of the work memory: z and w, of x = 0 and 1, T(1, x) before it becomes z; and sums that are put aside. */
enum { WORK_PART = SUMS * VEC, WORK_Z = 0, WORK_W = 2 * WORK_PART, WORK_ASIDE = 4 * WORK_PART };
enum { WORK_BYTES = 5 * WORK_PART };

/* What is put aside while other sums are made: M(i, 1), then y1. */
typedef struct aside {
  vec sum[SUMS];
  uint8_t *memory;
} aside;

CPU_INLINE void put_aside(aside *a, int k, vec sum) {
  if (ASIDE_IN_REGISTERS)
    a->sum[k] = sum;
  else
    vec_store(a->memory + k * VEC, sum);
}
CPU_INLINE vec from_aside(const aside *a, int k) {
  return ASIDE_IN_REGISTERS ? a->sum[k] : vec_load(a->memory + k * VEC);
}

/* Makes each sum a value of its own that lies in a register; gcc 12 else mixes up those that begin or end alike, and
 * spills them inside the loops, and keeps what is stored for later in registers that it spills as well. */
CPU_INLINE void fix_sums(vec *sum, const int count) {
#ifdef VEC_OP
#pragma GCC unroll 16
  for (int k = 0; k < count; k++) __asm__("" : "+v"(sum[k]) : : "memory");
#else
  (void)sum;
  (void)count;
#endif
}

/* Adds a plane of V' times its steps to all sums; returns the weights behind. */
CPU_INLINE const uint8_t *accumulate(vec *sum, const uint8_t *v, int64_t vectors, const uint8_t *weights,
                                     const int tiles, const int outputs) {
  fix_sums(sum, tiles * outputs);
#pragma GCC unroll 1
  do {
    vec code[TILES];
#pragma GCC unroll 8
    for (int t = 0; t < tiles; t++) code[t] = vec_load(v + t * VEC);
#pragma GCC unroll 8
    for (int o = 0; o < outputs; o++) {
      vec weight = vec_broadcast32(weights + FORM_WORD * o);
#pragma GCC unroll 8
      for (int t = 0; t < tiles; t++) form_add16(&sum[t * outputs + o], vec_maddubs(code[t], weight));
    }
    v += TILES * VEC;
    weights += FORM_WORD * outputs;
  } while (--vectors != 0);
  fix_sums(sum, tiles * outputs);
  return weights;
}

CPU_INLINE const uint8_t *start_sums(vec *sum, const uint8_t *weights, const int tiles, const int outputs) {
#pragma GCC unroll 8
  for (int o = 0; o < outputs; o++)
#pragma GCC unroll 8
    for (int t = 0; t < tiles; t++) sum[t * outputs + o] = vec_broadcast32(weights + FORM_WORD * o);
  return weights + FORM_WORD * outputs;
}

/* M(i, 2) becomes y0, and M(i, 1) y1. */
CPU_INLINE const uint8_t *halve(vec *sum, aside *other, const uint8_t *weights, const int tiles, const int outputs) {
#pragma GCC unroll 8
  for (int o = 0; o < outputs; o++) {
    vec add0 = vec_broadcast32(weights + FORM_WORD * o), add1 = vec_broadcast32(weights + FORM_WORD * (outputs + o));
#pragma GCC unroll 8
    for (int t = 0; t < tiles; t++) {
      const int k = t * outputs + o;
      vec half = vec_avg16(from_aside(other, k), sum[k]);
      put_aside(other, k, vec_add16(vec_sub16(half, sum[k]), add1));
      sum[k] = vec_add16(half, add0);
      fix_sums(&sum[k], 1);
    }
  }
  return weights + 2 * FORM_WORD * outputs;
}

CPU_INLINE void store_sums(const vec *sum, uint8_t *to, const int count) {
#pragma GCC unroll 16
  for (int k = 0; k < count; k++) vec_store(to + k * VEC, sum[k]);
}

/* T(2, x), halved with T(1, x). */
CPU_INLINE void store_halved(const vec *sum, uint8_t *z, uint8_t *w, const int count) {
#pragma GCC unroll 16
  for (int k = 0; k < count; k++) {
    vec half = vec_avg16(vec_load(z + k * VEC), sum[k]);
    vec_store(z + k * VEC, half);
    vec_store(w + k * VEC, vec_sub16(half, sum[k]));
  }
}

/* Outputs: z + T(0, x), or w - T(3, x). */
CPU_INLINE void store_outputs(const tile_site *site, const vec *sum, const uint8_t *base, uint8_t *to, const bool taken,
                              const int tiles, const int outputs) {
  const int64_t tile = 2 * site->site;
  const bool joins = site->joins;
#pragma GCC unroll 8
  for (int t = 0; t < tiles; t++) {
#pragma GCC unroll 8
    for (int o = 0; o < outputs; o++) {
      const int k = t * outputs + o;
      uint8_t *at = to + t * tile + o * VEC;
      vec value = vec_load(base + k * VEC);
      value = taken ? vec_sub16(value, sum[k]) : vec_add16(value, sum[k]);
      if (joins) value = vec_add16(value, vec_load(at));
      vec_store(at, value);
    }
  }
}

/* What T(i, x), the row's y0 or y1, is for. */
CPU_INLINE void finish(const tile_site *site, const vec *sum, const int i, const int x, const int tiles,
                       const int outputs) {
  uint8_t *z = site->work + WORK_Z + x * WORK_PART, *w = site->work + WORK_W + x * WORK_PART;
  uint8_t *to = site->sums + x * site->site;
  if (i == 1) store_sums(sum, z, tiles * outputs);
  if (i == 2) store_halved(sum, z, w, tiles * outputs);
  if (i == 0) store_outputs(site, sum, z, to, false, tiles, outputs);
  if (i == 3) store_outputs(site, sum, w, to + site->line, true, tiles, outputs);
}

CPU_INLINE void tile_block(const tile_site *site, const int tiles, const int outputs) {
  const uint8_t *weights = site->weights, *v = site->v;
  const int64_t vectors = site->vectors, plane = plane_bytes(vectors);
#pragma GCC unroll 4
  for (int at = 0; at < 4; at++, v += 4 * plane) {
    vec sum[SUMS];
    aside other = {.memory = site->work + WORK_ASIDE};
    weights = start_sums(sum, weights, tiles, outputs);
    weights = accumulate(sum, v, vectors, weights, tiles, outputs);
#pragma GCC unroll 16
    for (int k = 0; k < tiles * outputs; k++) put_aside(&other, k, sum[k]);
    weights = start_sums(sum, weights, tiles, outputs);
    weights = accumulate(sum, v + plane, vectors, weights, tiles, outputs);
    weights = halve(sum, &other, weights, tiles, outputs);
    weights = accumulate(sum, v + 2 * plane, vectors, weights, tiles, outputs);
    finish(site, sum, order[at], 0, tiles, outputs);
#pragma GCC unroll 16
    for (int k = 0; k < tiles * outputs; k++) sum[k] = from_aside(&other, k);
    weights = accumulate(sum, v + 3 * plane, vectors, weights, tiles, outputs);
    finish(site, sum, order[at], 1, tiles, outputs);
  }
}

typedef void (*tile_kernel)(const tile_site *site);

#define KERNEL(outputs, name, tiles)                                                                                   \
  static void block_##outputs##_##name(const tile_site *site) {                                                        \
    tile_block(site, tiles, outputs);                                                                                  \
  }
#define KERNELS(outputs) KERNEL(outputs, one, 1) KERNEL(outputs, many, TILES)
KERNELS(OUTPUTS)
KERNELS(4)
KERNELS(2)
KERNELS(1)

#define LIST_(outputs)                                                                                                 \
  { block_##outputs##_one, block_##outputs##_many }
#define LIST(outputs) LIST_(outputs)
/* [block_index][tiles: 1, TILES] */
static const tile_kernel kernels[4][2] = {LIST(OUTPUTS), LIST(4), LIST(2), LIST(1)};

/* ---- tiles ---- */

static size_t scratch_bytes(const cpu_conv_shape *shape, int32_t sites) {
  (void)sites;
  return (size_t)(WORK_BYTES + 16 * plane_bytes(form_vectors(shape)));
}

/* All outputs of `tiles` neighbours; `in` and `sums` are those of the first. */
static void run_tiles(const cpu_conv_task *task, const uint8_t *in, uint8_t *sums, int32_t tiles) {
  const cpu_conv_shape *shape = task->shape;
  const int32_t *part = task->prepared;
  uint8_t *v = (uint8_t *)task->scratch + WORK_BYTES;
  tile_site at = {.v = v,
                  .weights = (const uint8_t *)task->prepared + HEAD,
                  .site = shape->window.channels * VEC,
                  .work = task->scratch};
  at.line = task->sites * at.site;
  for (int32_t from = 0; from < form_vectors(shape); from += *part) {
    at.vectors = smaller(*part, form_vectors(shape) - from);
    at.joins = from > 0;
    if (tiles > 1)
      transform(task, in + from * task->in_vector, at.vectors, v, TILES);
    else
      transform(task, in + from * task->in_vector, at.vectors, v, 1);
    at.sums = sums;
    for (int32_t first = 0, count; first < shape->window.channels; first += count) {
      count = block_outputs(shape->window.channels - first);
      kernels[block_index(count)][tiles > 1](&at);
      at.weights += 4 * row_items(at.vectors) * FORM_WORD * count;
      at.sums += count * VEC;
    }
  }
}

static void run(const cpu_conv_task *task) {
  const int64_t site = task->shape->window.channels * VEC;
  for (int32_t row = 0; row < task->rows; row += 2) {
    for (int32_t tile = 0, tiles; tile < task->sites / 2; tile += tiles) {
      tiles = task->sites / 2 - tile >= TILES ? TILES : 1;
      run_tiles(task, task->in + row * task->in_line + 2 * tile * task->in_site,
                (uint8_t *)task->sums + ((int64_t)row * task->sites + 2 * tile) * site, tiles);
    }
  }
}

const cpu_form CPU_NAME(form_winograd) = {
    .name = "winograd",
    .packing = CPU_PAIRS,
    .sums = CPU_SUMS_S16,
    .rows = 2,
    .positions = false,
    .takes = takes,
    .prepared_bytes = prepared_bytes,
    .scratch_bytes = scratch_bytes,
    .prepare = prepare,
    .run = run,
};
