/* Form `winograd`: exact integer Winograd F(2x2, 3x3) in 16 bits, of few-bit
 * codes.
 *
 *   y = A'[(G g G') o (B' d B)]A with G's middle rows doubled, so that all is
 * integer: G: (1 0 0) (1 1 1) (1 -1 1) (0 0 1)    B': (1 0 -1 0) (0 1 1 0) (0
 * -1 1 0) (0 1 0 -1) y0 = m0 + (m1 + m2) / 2    y1 = (m1 - m2) / 2 - m3 along
 * each axis; m1 + m2 is always even
 *
 * With stored codes 0...m, V = B'dB lies in -2m...2m, at (1, 1) in 0...4m; 2m
 * is added elsewhere, so V' is a byte when 4m <= 255. U = GgG' must fit s8, and
 * 4m times the U of one sign of a pair of channels must fit s16, or maddubs
 * would saturate. All sums are modulo 2^16, which is exact as long as no
 * halving sees a value outside 0...65535:
 *   - along a row, M(i, 1) and M(i, 2) are halved. Each runs over exactly 4m *
 * sum |U| values (the V of a channel are free of the other channels'), and
 * starts so that its least value is 0: 4m * sum_c |U(i, j)| <= 65535, j = 1, 2.
 * A block of outputs that breaks this takes its channels in two halves, each of
 * which must keep it.
 *   - along a column, T(1, x) and T(2, x), the sums of a convolution that is
 * transformed along columns only, are halved. With P(i) = row i of G g (three
 * columns of it, all channels), T(1, x) lies in 2m * (-sum P-...sum P+) and
 *     T(2, x) in m * (-sum |P|...sum |P|): 2m * sum |P(i)| <= 65535, i = 1, 2.
 *   - avg rounds up, (a + b + 1) >> 1: the constants that the starts put into a
 * + b are known here, odd ones too. The result less its centre fits s16 when
 * the output's range is at most 65535 wide. V' and the zero point add
 * constants, which end in the starts and in what is added where a row is
 * halved. */
#include "backends/cpu/form_tools.h"
#include "backends/cpu/forms.h"

/* TILES neighbours share each load of a weight and OUTPUTS each load of a code:
 * with two columns of V at a time, as many as leave the accumulators in
 * registers. GROUP neighbours have a row of V in memory at a time. */
#if defined(__AVX512BW__)
#define OUTPUTS 4
enum { TILES = 2, GROUP = 2 };
#else
#define OUTPUTS 3
enum { TILES = 2, GROUP = 4 };
#endif

/* Elements are made by rows of V, and in a row by columns, in this order; 1 and
 * 2 are halved and serve the others. */
static const int order[4] = {1, 2, 0, 3};

/* ---- the weights, transformed ---- */

/* Channels that are transformed together, one in each element of the loops that
 * the compiler vectorises. */
enum { CHUNK = 32 };

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

/* Channels channel...channel + CHUNK - 1 of an output; those that are none have
 * weights 0. */
static void transform_kernels(const cpu_conv_shape *shape, const int8_t *weights, int64_t output, int32_t channel,
                              chunk *k) {
  int16_t g[9][CHUNK] = {{0}};
  const int8_t *from = weights + output * 9 * shape->inputs + channel;
  for (int tap = 0; tap < 9; tap++, from += shape->inputs)
    for (int i = 0; i < smaller(CHUNK, shape->inputs - channel); i++) g[tap][i] = from[i];
  for (int kw = 0; kw < 3; kw++)
    transform_taps(g[kw], g[3 + kw], g[6 + kw], (int16_t *[4]){k->p[0][kw], k->p[1][kw], k->p[2][kw], k->p[3][kw]});
  for (int i = 0; i < 4; i++)
    transform_taps(k->p[i][0], k->p[i][1], k->p[i][2], (int16_t *[4]){k->u[i][0], k->u[i][1], k->u[i][2], k->u[i][3]});
}

/* Sums over the channels of an output, by sign: of U, in either half of the
 * channels, and of P. */
typedef struct kernel_sums {
  int64_t u[2][4][4][2];
  int64_t p[4][2];
} kernel_sums;

static void add_by_sign(int64_t sum[2], const int16_t *value, int32_t from, int32_t end) {
  int32_t positive = 0, negative = 0;
  for (int32_t i = from; i < end; i++) {
    positive += value[i] > 0 ? value[i] : 0;
    negative += value[i] < 0 ? -value[i] : 0;
  }
  sum[0] += positive;
  sum[1] += negative;
}

/* Vectors of the first half of the channels. */
static int32_t half_vectors(const cpu_conv_shape *shape) {
  return form_vectors(shape) / 2;
}

/* Whether U fits s8 and the products of a pair s16. */
static bool pairs_fit(const int16_t *u, int32_t most) {
  bool fits = true;
  for (int i = 0; i < CHUNK; i += 2) {
    int32_t a = u[i], b = u[i + 1];
    fits = fits && a >= -INT8_MAX && a <= INT8_MAX && b >= -INT8_MAX && b <= INT8_MAX && form_pair_fits(4 * most, a, b);
  }
  return fits;
}

/* False when an element or a product does not fit. */
static bool sum_kernels(const cpu_conv_shape *shape, const int8_t *weights, int64_t output, kernel_sums *sums) {
  chunk k;
  bool fits = true;
  *sums = (kernel_sums){0};
  for (int32_t channel = 0; channel < shape->inputs; channel += CHUNK) {
    int32_t middle = 2 * half_vectors(shape) - channel;
    middle = middle < 0 ? 0 : middle > CHUNK ? CHUNK : middle;
    transform_kernels(shape, weights, output, channel, &k);
    for (int i = 0; i < 4; i++) {
      for (int j = 0; j < 4; j++) {
        add_by_sign(sums->u[0][i][j], k.u[i][j], 0, middle);
        add_by_sign(sums->u[1][i][j], k.u[i][j], middle, CHUNK);
        fits = fits && pairs_fit(k.u[i][j], shape->most);
      }
      for (int kw = 0; kw < 3; kw++) add_by_sign(sums->p[i], k.p[i][kw], 0, CHUNK);
    }
  }
  return fits;
}

/* ---- bounds ---- */

static int64_t absolute_u(const kernel_sums *sums, int half, int i, int j) {
  return sums->u[half][i][j][0] + sums->u[half][i][j][1];
}

/* Whether the halvings along rows are exact: of whole sums, or of those of
 * either half. */
static bool rows_fit(const kernel_sums *sums, int32_t most, bool split) {
  for (int i = 0; i < 4; i++) {
    for (int j = 1; j <= 2; j++) {
      int64_t a = absolute_u(sums, 0, i, j), b = absolute_u(sums, 1, i, j);
      if (4 * most * (split ? (a > b ? a : b) : a + b) > UINT16_MAX) return false;
    }
  }
  return true;
}

static bool columns_fit(const kernel_sums *sums, int32_t most) {
  for (int i = 1; i <= 2; i++)
    if (2 * most * (sums->p[i][0] + sums->p[i][1]) > UINT16_MAX) return false;
  return true;
}

/* ---- constants ---- */

typedef struct row_constants {
  int64_t start[2][2]; /* half, column 1 or 2: the least value becomes 0 */
  int64_t y0, y1;      /* what y0 and y1 of the middle columns then hold beyond their
                          true values */
  int64_t add[2];      /* what y0 and y1 need */
} row_constants;

/* Sum of U at (i, j): what V' adds for each unit of V' - V. */
static int64_t total_u(const kernel_sums *sums, int half, int i, int j) {
  return sums->u[half][i][j][0] - sums->u[half][i][j][1];
}

static row_constants halved_constants(const kernel_sums *sums, int32_t most, int i, int halves) {
  row_constants row = {0};
  for (int half = 0; half < halves; half++) {
    int64_t held[2];
    for (int j = 1; j <= 2; j++) {
      row.start[half][j - 1] = 4 * most * sums->u[half][i][j][1];
      /* V(1, 1) is 0 at least and has no offset. */
      int64_t offset = i == 1 && j == 1 ? 0 : 2 * most;
      held[j - 1] = row.start[half][j - 1] + offset * total_u(sums, half, i, j);
    }
    int64_t average = (held[0] + held[1] + 1) >> 1;
    row.y0 += average;
    row.y1 += average - held[1];
  }
  return row;
}

/* `rest`: what the four outputs are to hold beyond their true values. */
static void output_constants(const kernel_sums *sums, const cpu_conv_shape *shape, int64_t rest, int halves,
                             row_constants row[4]) {
  int64_t most = shape->most, least[3] = {0, 2 * most * sums->p[1][1], most * (sums->p[2][0] + sums->p[2][1])};
  int64_t z = (least[1] + least[2] + 1) >> 1, w = z - least[2];
  for (int i = 0; i < 4; i++) {
    row[i] = halved_constants(sums, shape->most, i, halves);
    int64_t edge0 = 2 * most * (total_u(sums, 0, i, 0) + total_u(sums, 1, i, 0));
    int64_t edge3 = 2 * most * (total_u(sums, 0, i, 3) + total_u(sums, 1, i, 3));
    /* Rows 1 and 2 must be 0 at least; row 0 is added to z, row 3 taken from w.
     */
    int64_t held = i == 0 ? rest - z : i == 3 ? w - rest : least[i];
    row[i].add[0] = held - row[i].y0 - edge0;
    row[i].add[1] = held - row[i].y1 + edge3;
  }
}

/* ---- the prepared weights ---- */

/* A head for each block of outputs, up to a multiple of 64 bytes; then block by
 * block, and in a block by rows in their order, items of 4 bytes an output, of
 * two columns each: start, steps (columns 1, 2); what is added to y0, y1; steps
 * (columns 0, 3) and, in a split block, start and steps of the first half of
 * the channels before those of the second. */
typedef struct block_head {
  int32_t count; /* outputs */
  bool split;
  int64_t row; /* bytes of a row */
} block_head;

typedef struct block {
  const cpu_conv_shape *shape;
  const int8_t *weights;
  int32_t first, count;
  bool split;
  uint8_t *to;
} block;

static int64_t header_bytes(int32_t outputs) {
  return (outputs * (int64_t)sizeof(block_head) + 63) / 64 * 64;
}

static int64_t row_items(int64_t vectors, bool split) {
  return 4 * vectors + (split ? 6 : 4);
}

/* Outputs of the block that starts with output `first`. */
static int32_t block_outputs(const cpu_conv_shape *shape, int32_t first) {
  int32_t left = shape->window.channels - first;
  if (left >= OUTPUTS && (left != 4 || OUTPUTS == 4)) return OUTPUTS;
  return left >= 2 ? 2 : 1;
}

static size_t prepared_bytes(const cpu_conv_shape *shape) {
  int64_t words = 4 * row_items(form_vectors(shape), true) * shape->window.channels;
  return (size_t)(header_bytes(shape->window.channels) + FORM_WORD * words);
}

/* Columns 0 and 3 are taken from what they go with where that is a difference:
 * column 3, and row 3. */
static int32_t sign_of(int i, int j) {
  if (j == 1 || j == 2) return 1;
  return (i == 3) == (j == 3) ? 1 : -1;
}

/* Items before the start of a half, and before what is added. */
static int64_t start_item(const block *b, int half) {
  return half ? 2 + 2 * (int64_t)half_vectors(b->shape) : 0;
}
static int64_t add_item(const block *b) {
  return 2 * form_vectors(b->shape) + (b->split ? 4 : 2);
}

/* Item of a row's steps that holds U(i, j) of a vector. */
static int64_t step_item(const block *b, int j, int32_t v) {
  if (j == 0 || j == 3) return add_item(b) + 2 + 2 * v + (j == 3);
  int half = b->split && v >= half_vectors(b->shape);
  return start_item(b, half) + 2 + 2 * (v - (half ? half_vectors(b->shape) : 0)) + (j == 2);
}

static void write_steps(const block *b, int32_t o) {
  chunk k;
  int64_t row = row_items(form_vectors(b->shape), b->split);
  for (int32_t channel = 0; channel < b->shape->inputs; channel += CHUNK) {
    transform_kernels(b->shape, b->weights, b->first + o, channel, &k);
    for (int at = 0; at < 4; at++) {
      for (int j = 0; j < 4; j++) {
        int32_t sign = sign_of(order[at], j);
        const int16_t *u = k.u[order[at]][j];
        for (int32_t c = 0; c < smaller(CHUNK, b->shape->inputs - channel); c += 2) {
          int64_t item = at * row + step_item(b, j, (channel + c) / 2);
          form_store_bytes(b->to + FORM_WORD * (item * b->count + o), sign * u[c], sign * u[c + 1]);
        }
      }
    }
  }
}

static void write_constants(const block *b, int32_t o, const row_constants row[4]) {
  int64_t items = row_items(form_vectors(b->shape), b->split);
  for (int at = 0; at < 4; at++) {
    const row_constants *r = &row[order[at]];
    for (int j = 0; j < 2; j++) {
      for (int half = 0; half <= b->split; half++)
        form_store_words(b->to + FORM_WORD * ((at * items + start_item(b, half) + j) * b->count + o), r->start[half][j],
                         r->start[half][j]);
      form_store_words(b->to + FORM_WORD * ((at * items + add_item(b) + j) * b->count + o), r->add[j], r->add[j]);
    }
  }
}

/* Sums of the channels as one half. */
static void join_halves(kernel_sums *sums) {
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 4; j++) {
      for (int sign = 0; sign < 2; sign++) {
        sums->u[0][i][j][sign] += sums->u[1][i][j][sign];
        sums->u[1][i][j][sign] = 0;
      }
    }
  }
}

/* False when the weights of an output could overflow even in two halves. */
static bool prepare_block(block *b, int32_t *centre) {
  const cpu_conv_shape *shape = b->shape;
  kernel_sums sums[OUTPUTS];
  row_constants row[4];
  b->split = false;
  for (int32_t o = 0; o < b->count; o++) {
    if (!sum_kernels(shape, b->weights, b->first + o, &sums[o]) || !columns_fit(&sums[o], shape->most)) return false;
    if (!rows_fit(&sums[o], shape->most, true)) return false;
    b->split = b->split || !rows_fit(&sums[o], shape->most, false);
  }
  for (int32_t o = 0; o < b->count; o++) {
    form_range range = form_output_range(shape, b->weights, b->first + o);
    if (range.most - range.least > UINT16_MAX) return false;
    centre[o] = form_centre(range);
    if (!b->split) join_halves(&sums[o]);
    output_constants(&sums[o], shape, -centre[o] - shape->zero * range.total, b->split ? 2 : 1, row);
    write_constants(b, o, row);
    write_steps(b, o);
  }
  return true;
}

static bool prepare(const cpu_conv_shape *shape, const int8_t *weights, void *prepared, int32_t *centre) {
  block_head *head = prepared;
  int32_t outputs = shape->window.channels;
  block b = {.shape = shape, .weights = weights, .to = (uint8_t *)prepared + header_bytes(outputs)};
  for (; b.first < outputs; b.first += b.count, head++) {
    b.count = block_outputs(shape, b.first);
    if (!prepare_block(&b, centre + b.first)) return false;
    *head = (block_head){b.count, b.split, row_items(form_vectors(shape), b.split) * FORM_WORD * b.count};
    b.to += 4 * head->row;
  }
  return true;
}

static bool takes(const cpu_conv_shape *shape) {
  const qe_window *w = &shape->window;
  bool plain = w->stride[0] == 1 && w->stride[1] == 1 && w->dilation[0] == 1 && w->dilation[1] == 1 && w->groups == 1;
  bool fits = w->kernel[0] == 3 && w->kernel[1] == 3 && shape->out_height % 2 == 0 && shape->out_width % 2 == 0;
  return plain && fits && 4 * shape->most <= UINT8_MAX;
}

/* ---- a row of V ---- */

/* Element of row `i` of B'd at a column. */
CPU_INLINE vec column_of(const uint8_t *in, int64_t in_row, const int i) {
  if (i == 0) return vec_sub8(vec_load(in), vec_load(in + 2 * in_row));
  if (i == 1) return vec_add8(vec_load(in + in_row), vec_load(in + 2 * in_row));
  if (i == 2) return vec_sub8(vec_load(in + 2 * in_row), vec_load(in + in_row));
  return vec_sub8(vec_load(in + in_row), vec_load(in + 3 * in_row));
}

/* Row `i` of V' of `tiles` tiles: [column][vector of channels][GROUP]. */
CPU_INLINE void transform_row(const cpu_conv_task *task, const uint8_t *in, int32_t tiles, uint8_t *v, const int i) {
  const int64_t in_row = task->in_row, in_pixel = task->in_pixel, vectors = form_vectors(task->shape);
  const int64_t column = vectors * GROUP * VEC;
  const vec offset = vec_set8(2 * task->shape->most);
  for (int64_t c = 0; c < vectors; c++, v += GROUP * VEC) {
    const uint8_t *at = in + c * task->in_vector;
    vec even = vec_add8(column_of(at, in_row, i), offset), odd = column_of(at + in_pixel, in_row, i);
    for (int32_t t = 0; t < tiles; t++) {
      at += 2 * in_pixel;
      vec next = column_of(at, in_row, i), next_odd = column_of(at + in_pixel, in_row, i);
      vec next_even = vec_add8(next, offset);
      vec_store(v + t * VEC, vec_sub8(even, next));
      vec_store(v + column + t * VEC, vec_add8(odd, i == 1 ? next : next_even));
      vec_store(v + 2 * column + t * VEC, vec_sub8(next_even, odd));
      vec_store(v + 3 * column + t * VEC, vec_sub8(vec_add8(odd, offset), next_odd));
      even = next_even;
      odd = next_odd;
    }
  }
}

static void transform_rows(const cpu_conv_task *task, const uint8_t *in, int32_t tiles, uint8_t *v, int i) {
  if (i == 0) transform_row(task, in, tiles, v, 0);
  if (i == 1) transform_row(task, in, tiles, v, 1);
  if (i == 2) transform_row(task, in, tiles, v, 2);
  if (i == 3) transform_row(task, in, tiles, v, 3);
}

/* ---- elements ---- */

/* A row of V' of some tiles, times a block of outputs. */
typedef struct element {
  const uint8_t *v;           /* of the first tile and vector */
  int64_t column;             /* bytes of a column */
  int64_t vectors, from, end; /* of channels: all, and those of columns 1 and 2 */
  const uint8_t *weights;
  const uint8_t *base; /* y0's partner; y1's lies base_pair bytes further on */
  int64_t base_pair, base_tile;
  uint8_t *out; /* of y0; y1's lies out_pair bytes further on. HALVED: T(1, x),
                   becomes z */
  int64_t out_pair, out_tile;
  int64_t out_w; /* HALVED: bytes from z to w */
} element;

/* What becomes of columns 1 and 2 when they are halved... */
enum { ALONE, ADDED, TAKEN };
/* ... and of the row: nothing yet, columns 0 and 3 are not in it; or it is
 * stored; or halved with that of row 1. */
enum { PART, STORED, HALVED };

/* Two columns, `second` bytes apart, of some vectors; returns the weights
 * behind. */
CPU_INLINE const uint8_t *accumulate(vec *sum, const uint8_t *v, int64_t second, int64_t vectors,
                                     const uint8_t *weights, const int tiles, const int outputs) {
  const uint8_t *end = v + vectors * GROUP * VEC;
#pragma GCC unroll 1
  do {
#pragma GCC unroll 2
    for (int s = 0; s < 2; s++) {
      vec code[TILES];
#pragma GCC unroll 8
      for (int t = 0; t < tiles; t++) code[t] = vec_load(v + s * second + t * VEC);
#pragma GCC unroll 8
      for (int o = 0; o < outputs; o++) {
        vec weight = vec_broadcast32(weights + FORM_WORD * (s * outputs + o));
#pragma GCC unroll 8
        for (int t = 0; t < tiles; t++) form_add16(&sum[(s * tiles + t) * outputs + o], vec_maddubs(code[t], weight));
      }
    }
    v += GROUP * VEC;
    weights += 2 * FORM_WORD * outputs;
  } while (v < end);
  return weights;
}

/* y0 and y1 of each output and tile in the place of columns 1 and 2. */
CPU_INLINE void halve(const element *e, vec *sum, const uint8_t *add, const int tiles, const int outputs,
                      const int base) {
#pragma GCC unroll 8
  for (int o = 0; o < outputs; o++) {
#pragma GCC unroll 8
    for (int t = 0; t < tiles; t++) {
      vec *y0 = &sum[t * outputs + o], *y1 = &sum[(tiles + t) * outputs + o];
      vec half = vec_avg16(*y0, *y1), rest = vec_sub16(half, *y1);
      if (add) {
        half = vec_add16(half, vec_broadcast32(add + FORM_WORD * o));
        rest = vec_add16(rest, vec_broadcast32(add + FORM_WORD * (outputs + o)));
      }
      if (base != ALONE) {
        const uint8_t *at = e->base + t * e->base_tile + o * VEC;
        vec base0 = vec_load(at), base1 = vec_load(at + e->base_pair);
        half = base == ADDED ? vec_add16(base0, half) : vec_sub16(base0, half);
        rest = base == ADDED ? vec_add16(base1, rest) : vec_sub16(base1, rest);
      }
      *y0 = half;
      *y1 = rest;
    }
  }
}

CPU_INLINE void store_row(const element *e, const vec *sum, const int tiles, const int outputs, const int end) {
  const int64_t pair = e->out_pair, tile = e->out_tile, out_w = e->out_w;
  uint8_t *out = e->out;
#pragma GCC unroll 2
  for (int s = 0; s < 2; s++) {
#pragma GCC unroll 8
    for (int t = 0; t < tiles; t++) {
#pragma GCC unroll 8
      for (int o = 0; o < outputs; o++) {
        uint8_t *to = out + s * pair + t * tile + o * VEC;
        vec value = sum[(s * tiles + t) * outputs + o];
        if (end == HALVED) {
          vec z = vec_avg16(vec_load(to), value);
          vec_store(to + out_w, vec_sub16(z, value));
          value = z;
        }
        vec_store(to, value);
      }
    }
  }
}

CPU_INLINE void make_row(const element *e, const int tiles, const int outputs, const int base, const int end) {
  vec sum[2 * TILES * OUTPUTS];
  const uint8_t *weights = e->weights;
#pragma GCC unroll 2
  for (int s = 0; s < 2; s++)
#pragma GCC unroll 8
    for (int o = 0; o < outputs; o++)
#pragma GCC unroll 8
      for (int t = 0; t < tiles; t++)
        sum[(s * tiles + t) * outputs + o] = vec_broadcast32(weights + FORM_WORD * (s * outputs + o));
  const uint8_t *middle = e->v + e->column + e->from * GROUP * VEC;
  weights = accumulate(sum, middle, e->column, e->end - e->from, weights + 2 * FORM_WORD * outputs, tiles, outputs);
  halve(e, sum, end == PART ? NULL : weights, tiles, outputs, base);
  if (end != PART) accumulate(sum, e->v, 3 * e->column, e->vectors, weights + 2 * FORM_WORD * outputs, tiles, outputs);
  store_row(e, sum, tiles, outputs, end);
}

typedef void (*row_kernel)(const element *e);

#define KERNEL(outputs, name, tiles, base, end)                                                                        \
  static void row_##outputs##_##name##_##base##_##end(const element *e) {                                              \
    make_row(e, tiles, outputs, base, end);                                                                            \
  }
#define KINDS(outputs, name, tiles)                                                                                    \
  KERNEL(outputs, name, tiles, ALONE, PART)                                                                            \
  KERNEL(outputs, name, tiles, ADDED, PART)                                                                            \
  KERNEL(outputs, name, tiles, TAKEN, PART)                                                                            \
  KERNEL(outputs, name, tiles, ALONE, STORED)                                                                          \
  KERNEL(outputs, name, tiles, ADDED, STORED)                                                                          \
  KERNEL(outputs, name, tiles, TAKEN, STORED)                                                                          \
  KERNEL(outputs, name, tiles, ALONE, HALVED)                                                                          \
  KERNEL(outputs, name, tiles, ADDED, HALVED)
#define KERNELS(outputs) KINDS(outputs, one, 1) KINDS(outputs, many, TILES)
KERNELS(OUTPUTS)
KERNELS(2)
KERNELS(1)

#define LIST_END(outputs, name, end)                                                                                   \
  { row_##outputs##_##name##_ALONE_##end, row_##outputs##_##name##_ADDED_##end, row_##outputs##_##name##_TAKEN_##end }
#define LIST_HALVED(outputs, name)                                                                                     \
  { row_##outputs##_##name##_ALONE_HALVED, row_##outputs##_##name##_ADDED_HALVED, NULL }
#define LIST_NAME(outputs, name)                                                                                       \
  { LIST_END(outputs, name, PART), LIST_END(outputs, name, STORED), LIST_HALVED(outputs, name) }
#define LIST(outputs)                                                                                                  \
  { LIST_NAME(outputs, one), LIST_NAME(outputs, many) }
/* [block: OUTPUTS, 2, 1][tiles: 1, TILES][end][base] */
static const row_kernel kernels[3][2][3][3] = {LIST(OUTPUTS), LIST(2), LIST(1)};

/* ---- tiles ---- */

enum { WORK_PART = TILES * OUTPUTS * VEC };

/* A group of tiles: its memory in scratch, where it reads and writes, and sizes
 * in bytes. */
typedef struct group {
  const cpu_conv_task *task;
  const uint8_t *in; /* of the first tile */
  uint8_t *sums;     /* of its first output */
  int32_t tiles;     /* at most GROUP */
  uint8_t *v;        /* a row of V' */
  uint8_t *halved;   /* of columns: z of x = 0, 1, then w: [GROUP][outputs] each */
  uint8_t *work;     /* y0 and y1 of half the channels */
  int64_t vectors;   /* of channels */
  int64_t column;    /* of V' */
  int64_t site;      /* of the sums */
  int64_t line;      /* a row of them */
  int64_t part;      /* of z and w */
} group;

static size_t scratch_bytes(const cpu_conv_shape *shape, int32_t sites) {
  (void)sites;
  return (size_t)(4 * GROUP * (int64_t)VEC * (form_vectors(shape) + shape->window.channels) + 2 * WORK_PART);
}

/* Columns 1 and 2 of the first half of the channels; the second half is added
 * to what they leave. */
static void half_row(element *e, row_kernel kernel, const group *g, int32_t outputs) {
  element first = *e;
  first.end = e->from = g->vectors / 2;
  first.out = g->work;
  first.out_pair = WORK_PART;
  first.out_tile = outputs * VEC;
  kernel(&first);
  e->weights += (first.end + 1) * 2 * FORM_WORD * outputs;
  e->base = g->work;
  e->base_pair = WORK_PART;
  e->base_tile = first.out_tile;
}

/* One row of V' of some tiles times the weights of one block. `z` and `sums`
 * are those of its first output. */
static void block_row(const group *g, int i, const block_head *head, const uint8_t *v, const uint8_t *weights,
                      bool many, uint8_t *z, uint8_t *sums) {
  const row_kernel(*kernel)[3] = kernels[head->count > 2 ? 0 : 2 - head->count + 1][many];
  const bool middle = i == 1 || i == 2;
  int base = i == 0 ? ADDED : i == 3 ? TAKEN : ALONE;
  element e = {.v = v,
               .column = g->column,
               .vectors = g->vectors,
               .end = g->vectors,
               .weights = weights,
               .base = i == 3 ? z + 2 * g->part : z,
               .base_pair = g->part,
               .base_tile = g->site,
               .out = middle ? z : sums,
               .out_pair = middle ? g->part : g->site,
               .out_tile = middle ? g->site : 2 * g->site,
               .out_w = 2 * g->part};
  if (head->split) {
    half_row(&e, kernel[PART][base], g, head->count);
    if (base == ALONE) base = ADDED;
  }
  kernel[i == 2 ? HALVED : STORED][base](&e);
}

/* One row of V' times all weights. */
static void group_row(const group *g, int at) {
  const block_head *head = g->task->prepared;
  const uint8_t *weights = (const uint8_t *)head + header_bytes(g->task->shape->window.channels);
  const int i = order[at];
  uint8_t *z = g->halved, *sums = g->sums + (i == 3 ? g->line : 0), *end = z + g->site;
  for (; z < end; head++) {
    for (int32_t tile = 0, many; tile < g->tiles; tile += many) {
      many = g->tiles - tile >= TILES ? TILES : 1;
      block_row(g, i, head, g->v + tile * VEC, weights + at * head->row, many > 1, z + tile * g->site,
                sums + 2 * tile * g->site);
    }
    weights += 4 * head->row;
    z += head->count * VEC;
    sums += head->count * VEC;
  }
}

static void run(const cpu_conv_task *task) {
  const cpu_conv_shape *shape = task->shape;
  group g = {.task = task, .v = task->scratch, .vectors = form_vectors(shape), .site = shape->window.channels * VEC};
  g.column = g.vectors * GROUP * VEC;
  g.line = task->sites * g.site;
  g.part = GROUP * g.site;
  g.halved = g.v + 4 * g.column;
  g.work = g.halved + 4 * g.part;
  for (int32_t row = 0; row < task->rows; row += 2) {
    for (int32_t tile = 0; tile < task->sites / 2; tile += GROUP) {
      g.tiles = (int32_t)smaller(GROUP, task->sites / 2 - tile);
      g.in = task->in + row * task->in_line + 2 * tile * task->in_site;
      g.sums = (uint8_t *)task->sums + row * g.line + 2 * tile * g.site;
      for (int at = 0; at < 4; at++) {
        transform_rows(task, g.in, g.tiles, g.v, order[at]);
        group_row(&g, at);
      }
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
