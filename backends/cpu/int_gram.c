/* The implementation `outer` of Gram matrices of patches. Two pairs of taps with the same displacement read the same
 * products of pixels, but for the map's edges: a 3x3 window of stride 1 has 45 pairs of taps and 13 displacements. So
 * products are added up once for each displacement, apart for the lines and columns that not all its pairs of taps
 * see, and a block of the matrix is the sum of the parts that its pair sees.
 *
 * With stride s, tap t reads row s * i + t = s * (i + q) + r, 0 <= r < s. On the grid u = i + q the pair (t, t') is the
 * product of rows s * u + r and s * u + r + t' - t, over an interval of u: (r, t' - t) is its key. */
#include "backends/cpu/parallel.h"
#include "core/base/alloc.h"

#include <stdlib.h>

enum { MOST_TAPS = 16 /* along an axis */, MOST_SUM_BYTES = 256 << 20 };

/* A pair of taps along an axis: its key, the interval that it sees, and the parts of the interval. */
typedef struct tap_pair {
  int64_t phase, shift, low, high;
  int32_t first_part, parts;
} tap_pair;

typedef struct axis_part {
  int64_t phase, shift, low, high;
} axis_part;

typedef struct axis_plan {
  int32_t taps, parts;
  tap_pair pair[MOST_TAPS * MOST_TAPS];
  axis_part part[2 * MOST_TAPS * MOST_TAPS]; /* of each key in order, without gaps */
} axis_plan;

typedef struct gram_plan {
  int64_t taps;
  axis_plan rows, columns;
  int32_t *unit_of; /* [rows.parts][columns.parts], -1: no pair of taps needs it */
  cpu_outer_unit *unit;
  int64_t units;
} gram_plan;

static int64_t floor_divide(int64_t a, int64_t b) {
  return a >= 0 ? a / b : -((-a + b - 1) / b);
}

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static tap_pair pair_of(const qe_window *window, int axis, int64_t in, int64_t out, int64_t k, int64_t other) {
  int64_t stride = window->stride[axis], tap = k * window->dilation[axis] - window->pad[axis];
  tap_pair pair = {.shift = (other - k) * window->dilation[axis]};
  int64_t quotient = floor_divide(tap, stride);
  pair.phase = tap - stride * quotient;
  int64_t least = larger(0, -pair.shift) - pair.phase, most = smaller(in - 1, in - 1 - pair.shift) - pair.phase;
  pair.low = larger(quotient, -floor_divide(-least, stride));
  pair.high = smaller(quotient + out, floor_divide(most, stride) + 1);
  return pair;
}

static int compare_ends(const void *a, const void *b) {
  int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
  return (left > right) - (left < right);
}

static bool same_key(const tap_pair *a, const tap_pair *b) {
  return a->phase == b->phase && a->shift == b->shift;
}

/* The parts of a key that no part was made for yet: cuts at all ends of its pairs' intervals. */
static void cut_key(axis_plan *plan, int32_t first) {
  int32_t pairs = plan->taps * plan->taps, ends = 0, start = plan->parts;
  const tap_pair *key = &plan->pair[first];
  int64_t end[2 * MOST_TAPS * MOST_TAPS];
  for (int32_t i = first; i < pairs; i++)
    if (same_key(&plan->pair[i], key) && plan->pair[i].low < plan->pair[i].high)
      end[ends++] = plan->pair[i].low, end[ends++] = plan->pair[i].high;
  qsort(end, (size_t)ends, sizeof end[0], compare_ends);
  for (int32_t k = 1; k < ends; k++)
    if (end[k - 1] < end[k]) plan->part[plan->parts++] = (axis_part){key->phase, key->shift, end[k - 1], end[k]};
  for (int32_t i = first; i < pairs; i++) {
    tap_pair *pair = &plan->pair[i];
    if (!same_key(pair, key)) continue;
    pair->first_part = start;
    for (int32_t part = start; part < plan->parts; part++) {
      pair->first_part += plan->part[part].high <= pair->low;
      pair->parts += plan->part[part].low >= pair->low && plan->part[part].high <= pair->high;
    }
  }
}

static void plan_axis(const qe_call *call, int axis, axis_plan *plan) {
  const qe_window *window = &call->attrs.window;
  int32_t in = call->operand[0].desc.dim[QE_H + axis], out = qe_window_extent(window, axis, in);
  plan->taps = window->kernel[axis];
  int32_t pairs = plan->taps * plan->taps;
  for (int32_t i = 0; i < pairs; i++) plan->pair[i] = pair_of(window, axis, in, out, i / plan->taps, i % plan->taps);
  for (int32_t i = 0; i < pairs; i++) {
    int32_t before = 0;
    while (before < i && !same_key(&plan->pair[before], &plan->pair[i])) before++;
    if (before == i) cut_key(plan, i);
  }
}

static const tap_pair *pair_at(const axis_plan *plan, int64_t tap, int64_t other) {
  return &plan->pair[tap * plan->taps + other];
}

/* The innermost loop runs along the longer side. */
static cpu_outer_unit unit_of_parts(const qe_call *call, const axis_part *row, const axis_part *column) {
  const int32_t *stride = call->attrs.window.stride;
  int64_t width = call->operand[0].desc.dim[QE_W];
  int64_t first = (stride[0] * row->low + row->phase) * width + stride[1] * column->low + column->phase;
  int64_t lines = row->high - row->low, steps = column->high - column->low;
  int64_t line = stride[0] * width, step = stride[1];
  cpu_outer_unit unit = {.lines = lines, .steps = steps, .a = {first, line, step}};
  if (lines > steps) unit = (cpu_outer_unit){.lines = steps, .steps = lines, .a = {first, step, line}};
  unit.b = unit.a;
  unit.b.first += row->shift * width + column->shift;
  return unit;
}

/* What is done with one part of the block of taps (tap, other), tap <= other in the order of the matrix. */
typedef void (*part_visitor)(void *context, int64_t tap, int64_t other, int32_t row_part, int32_t column_part);

static void visit_block(const gram_plan *plan, int64_t tap, int64_t other, part_visitor visit, void *context) {
  int64_t width = plan->columns.taps;
  const tap_pair *row = pair_at(&plan->rows, tap / width, other / width);
  const tap_pair *column = pair_at(&plan->columns, tap % width, other % width);
  for (int32_t i = 0; i < row->parts; i++)
    for (int32_t j = 0; j < column->parts; j++) visit(context, tap, other, row->first_part + i, column->first_part + j);
}

typedef struct planning {
  const qe_call *call;
  gram_plan *plan;
} planning;

static void add_unit(void *context, int64_t tap, int64_t other, int32_t row_part, int32_t column_part) {
  const planning *at = context;
  gram_plan *plan = at->plan;
  int32_t *unit = &plan->unit_of[(int64_t)row_part * plan->columns.parts + column_part];
  (void)tap, (void)other;
  if (*unit >= 0) return;
  *unit = (int32_t)plan->units;
  plan->unit[plan->units++] = unit_of_parts(at->call, &plan->rows.part[row_part], &plan->columns.part[column_part]);
}

static void gram_release(void *state) {
  gram_plan *plan = state;
  if (plan) qe_free(plan->unit_of), qe_free(plan->unit);
  qe_free(plan);
}

static qe_status gram_plan_new(const qe_call *call, gram_plan **out) {
  gram_plan *plan = QE_NEW(gram_plan);
  if (!plan) return QE_NO_MEMORY;
  *out = plan;
  plan_axis(call, 0, &plan->rows);
  plan_axis(call, 1, &plan->columns);
  plan->taps = (int64_t)plan->rows.taps * plan->columns.taps;
  size_t places = (size_t)plan->rows.parts * (size_t)plan->columns.parts;
  plan->unit_of = QE_NEW_ARRAY(int32_t, places + 1);
  plan->unit = QE_NEW_ARRAY(cpu_outer_unit, places + 1);
  if (!plan->unit_of || !plan->unit) return QE_NO_MEMORY;
  for (size_t i = 0; i < places; i++) plan->unit_of[i] = -1;
  planning at = {call, plan};
  for (int64_t tap = 0; tap < plan->taps; tap++)
    for (int64_t other = tap; other < plan->taps; other++) visit_block(plan, tap, other, add_unit, &at);
  return QE_OK;
}

static const char *gram_refuse(const qe_device *device, const qe_call *call) {
  const int32_t *kernel = call->attrs.window.kernel;
  int64_t channels = call->operand[0].desc.dim[QE_C];
  (void)device;
  if (kernel[0] > MOST_TAPS || kernel[1] > MOST_TAPS) return "has more than 16 taps along an axis";
  /* An axis of k taps has at most 2 k^2 parts; displacements along the lines are halved by the symmetry. */
  int64_t parts = 2 * (int64_t)kernel[0] * kernel[0] * kernel[1] * kernel[1];
  if (cpu_outer_sum_bytes(parts, channels, channels) > MOST_SUM_BYTES) return "has too many parts to add up";
  return NULL;
}

static qe_status gram_prepare(qe_device *device, const qe_call *call, void **state) {
  gram_plan *plan = NULL;
  (void)device;
  qe_status status = gram_plan_new(call, &plan);
  if (status == QE_OK)
    *state = plan;
  else
    gram_release(plan);
  return status;
}

typedef struct gathering {
  const qe_call *call;
  const gram_plan *plan;
  cpu_outer_sums sums;
} gathering;

/* The part's sums to the block [tap][other]. */
static void add_part(void *context, int64_t tap, int64_t other, int32_t row_part, int32_t column_part) {
  const gathering *at = context;
  int64_t channels = at->call->operand[0].desc.dim[QE_C], size = at->plan->taps * channels;
  int64_t unit = at->plan->unit_of[(int64_t)row_part * at->plan->columns.parts + column_part];
  const int64_t *from = at->sums.data + unit * at->sums.rows * at->sums.columns;
  int64_t *gram = (int64_t *)at->call->operand[1].data + tap * channels * size + other * channels;
  for (int64_t c = 0; c < channels; c++)
    for (int64_t k = 0; k < channels; k++) gram[c * size + k] += from[c * at->sums.columns + k];
}

static void mirror_block(const gathering *at, int64_t tap, int64_t other) {
  int64_t channels = at->call->operand[0].desc.dim[QE_C], size = at->plan->taps * channels;
  int64_t *gram = at->call->operand[1].data;
  for (int64_t c = 0; c < channels && tap != other; c++)
    for (int64_t k = 0; k < channels; k++)
      gram[(other * channels + c) * size + tap * channels + k] =
          gram[(tap * channels + k) * size + other * channels + c];
}

/* Blocks (tap, other): a pair and its mirror image each. */
static void gather_some(void *context, int64_t first, int64_t last, int thread) {
  const gathering *at = context;
  int64_t taps = at->plan->taps, channels = at->call->operand[0].desc.dim[QE_C], size = taps * channels;
  (void)thread;
  for (int64_t block = first; block < last; block++) {
    int64_t tap = block / taps, other = block % taps;
    if (tap > other) continue;
    int64_t *gram = (int64_t *)at->call->operand[1].data + tap * channels * size + other * channels;
    for (int64_t c = 0; c < channels; c++)
      for (int64_t k = 0; k < channels; k++) gram[c * size + k] = 0;
    visit_block(at->plan, tap, other, add_part, context);
    mirror_block(at, tap, other);
  }
}

static qe_status gram_run(qe_queue *queue, const qe_call *call, void *state) {
  const gram_plan *plan = state;
  const qe_operand *x = &call->operand[0];
  const int32_t *dim = x->desc.dim;
  gathering at = {.call = call, .plan = plan};
  cpu_outer outer = {.images = dim[QE_N], .unit = plan->unit, .units = plan->units};
  outer.a = (cpu_outer_map){x->data, x->desc.dtype, (int64_t)dim[QE_H] * dim[QE_W], dim[QE_C]};
  outer.b = outer.a;
  QE_TRY(cpu_outer_run((cpu_queue *)queue, &outer, &at.sums));
  cpu_parallel(cpu_device_of(queue), plan->taps * plan->taps, 1, qe_count(&call->operand[1].desc), gather_some, &at);
  return QE_OK;
}

const qe_impl cpu_impl_int_gram = {
    .name = "outer", .refuse = gram_refuse, .prepare = gram_prepare, .run = gram_run, .release = gram_release};
