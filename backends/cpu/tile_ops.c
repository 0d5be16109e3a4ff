/* The table of tile ops and their work before and after the tiles. */
#include "backends/cpu/tile_ops.h"

#include <math.h>

enum {
  TILE = 4096,           /* elements: 16 KiB, so that the operands of an op fit the first-level cache */
  PATTERN = 256,         /* least elements of a pattern */
  LANES = 16,            /* elements of the widest vector */
  LEAST_ROWS = 8,        /* pixels of a tile when there are many channels */
  MOST_CHANNELS = 16384, /* longer rows are taken for plain vectors where the op allows it */
};

static const float *f32_of(const qe_call *call, int operand) {
  return (const float *)call->operand[operand].data;
}
static float *result_of(const qe_call *call, int operand) {
  return (float *)call->operand[operand].data;
}

static const qe_desc *map_of(const qe_call *call) {
  return &call->operand[qe_op_get_info(call->op)->principal].desc;
}

static int64_t greatest_divisor(int64_t a, int64_t b) {
  while (b) {
    int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

cpu_grid cpu_grid_of(const qe_call *call) {
  const qe_desc *map = map_of(call);
  int64_t count = qe_count(map), channels = map->dim[QE_C];
  bool flat = qe_op_get_info(call->op)->shape_class != QE_CLASS_CHANNEL;
  if (flat && (count == channels || channels > MOST_CHANNELS)) return (cpu_grid){.count = count, .tile = TILE};
  cpu_grid grid = {.count = count, .channels = channels, .pattern = channels};
  if (channels < PATTERN) {
    int64_t period = channels / greatest_divisor(channels, LANES) * LANES;
    grid.pattern = (PATTERN + period - 1) / period * period;
  }
  int64_t patterns = TILE / grid.pattern;
  if (patterns < 1) patterns = 1;
  if (channels >= PATTERN && patterns < LEAST_ROWS) patterns = LEAST_ROWS;
  grid.tile = patterns * grid.pattern;
  return grid;
}

/* Repeat the first `channels` elements over the pattern. */
static void repeat(float *vector, const cpu_grid *grid) {
  for (int64_t k = grid->channels; k < grid->pattern; k++) vector[k] = vector[k - grid->channels];
}

static double pixels(const cpu_grid *grid) {
  return (double)(grid->count / grid->channels);
}

/* Sum over the tiles of part[at...at + count). */
static void total(const cpu_tile_sums *sums, int64_t at, int64_t count, double *sum) {
  for (int64_t c = 0; c < count; c++) sum[c] = 0;
  for (int64_t t = 0; t < sums->tiles; t++)
    for (int64_t c = 0; c < count; c++) sum[c] += (double)sums->part[t * sums->stride + at + c];
}

static double total_scalar(const cpu_tile_sums *sums) {
  double sum = 0;
  total(sums, 0, 1, &sum);
  return sum;
}

/* ---- bias and sums over pixels ---- */

static void bias_add_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  for (int64_t c = 0; c < grid->channels; c++) params[c] = f32_of(call, 1)[c];
  repeat(params, grid);
}

static void channel_sum_end(const qe_call *call, const cpu_grid *grid, const cpu_tile_sums *sums) {
  total(sums, 0, grid->channels, sums->work);
  for (int64_t c = 0; c < grid->channels; c++) result_of(call, 1)[c] = (float)sums->work[c];
}

/* ---- batch norm ---- */

/* Means and squares of the tiles are merged pairwise: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm
 * for computing sample variances", 1979. */
static void bn_stats_end(const qe_call *call, const cpu_grid *grid, const cpu_tile_sums *sums) {
  int64_t channels = grid->channels;
  double *mean = sums->work, *squares = mean + channels, before = 0;
  for (int64_t c = 0; c < channels; c++) mean[c] = squares[c] = 0;
  for (int64_t t = 0; t < sums->tiles; t++) {
    const float *part = sums->part + t * sums->stride;
    int64_t elements = t + 1 < sums->tiles ? grid->tile : grid->count - t * grid->tile;
    double here = (double)(elements / channels), share = here / (before + here), weight = before * share;
    for (int64_t c = 0; c < channels; c++) {
      double difference = (double)part[c] - mean[c];
      mean[c] += difference * share;
      squares[c] += (double)part[channels + c] + difference * difference * weight;
    }
    before += here;
  }
  for (int64_t c = 0; c < channels; c++) {
    result_of(call, 1)[c] = (float)mean[c];
    result_of(call, 2)[c] = (float)(squares[c] / before);
  }
}

static void bn_running_end(const qe_call *call, const cpu_grid *grid, const cpu_tile_sums *sums) {
  (void)sums;
  double n = pixels(grid), momentum = (double)call->attrs.momentum, unbias = n > 1 ? n / (n - 1) : 1;
  float *mean = result_of(call, 3), *var = result_of(call, 4);
  for (int64_t c = 0; c < grid->channels; c++) {
    mean[c] = (float)((1 - momentum) * (double)mean[c] + momentum * (double)f32_of(call, 1)[c]);
    var[c] = (float)((1 - momentum) * (double)var[c] + momentum * unbias * (double)f32_of(call, 2)[c]);
  }
}

static double inverse_deviation(const qe_call *call, float var) {
  return 1 / sqrt((double)var + (double)call->attrs.epsilon);
}

static void bn_norm_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  float *mean = params, *scale = mean + grid->pattern, *beta = scale + grid->pattern;
  for (int64_t c = 0; c < grid->channels; c++) {
    mean[c] = f32_of(call, 1)[c];
    scale[c] = (float)((double)f32_of(call, 3)[c] * inverse_deviation(call, f32_of(call, 2)[c]));
    beta[c] = f32_of(call, 4)[c];
  }
  repeat(mean, grid);
  repeat(scale, grid);
  repeat(beta, grid);
}

static void bn_grad_sums_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  for (int64_t c = 0; c < grid->channels; c++) params[c] = f32_of(call, 2)[c];
  repeat(params, grid);
}

static void bn_grad_sums_end(const qe_call *call, const cpu_grid *grid, const cpu_tile_sums *sums) {
  double *sum = sums->work;
  total(sums, 0, 2 * grid->channels, sum);
  for (int64_t c = 0; c < grid->channels; c++) {
    result_of(call, 4)[c] = (float)(sum[c] * inverse_deviation(call, f32_of(call, 3)[c]));
    result_of(call, 5)[c] = (float)sum[grid->channels + c];
  }
}

static void bn_grad_x_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  float *mean = params, *scale = mean + grid->pattern, *shift = scale + grid->pattern, *slope = shift + grid->pattern;
  double n = pixels(grid);
  for (int64_t c = 0; c < grid->channels; c++) {
    double inverse = inverse_deviation(call, f32_of(call, 3)[c]);
    mean[c] = f32_of(call, 2)[c];
    scale[c] = (float)((double)f32_of(call, 4)[c] * inverse);
    shift[c] = (float)((double)f32_of(call, 6)[c] / n);
    slope[c] = (float)((double)f32_of(call, 5)[c] * inverse / n);
  }
  repeat(mean, grid);
  repeat(scale, grid);
  repeat(shift, grid);
  repeat(slope, grid);
}

/* ---- quantisers ---- */

static void quant_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  (void)grid;
  params[0] = ldexpf(f32_of(call, 1)[0], -call->attrs.quant.step_shift);
}

static void quant_grad_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  (void)grid;
  params[0] = ldexpf(f32_of(call, 2)[0], -call->attrs.quant.step_shift);
}

static float step_gradient(const qe_quant *quant, const cpu_tile_sums *sums) {
  return (float)((double)quant->grad_scale * ldexp(total_scalar(sums), -quant->step_shift));
}

static void quant_grad_end(const qe_call *call, const cpu_grid *grid, const cpu_tile_sums *sums) {
  (void)grid;
  result_of(call, 4)[0] = step_gradient(&call->attrs.quant, sums);
}

static float gate_of(const qe_call *call, int operand) {
  return *(const int32_t *)call->operand[operand].data ? 1 : 0;
}

static void quant_gate_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  quant_begin(call, grid, params);
  params[1] = gate_of(call, 2);
}

static void quant_gate_grad_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  quant_grad_begin(call, grid, params);
  params[1] = gate_of(call, 3);
}

static void quant_gate_grad_end(const qe_call *call, const cpu_grid *grid, const cpu_tile_sums *sums) {
  (void)grid;
  result_of(call, 5)[0] = step_gradient(&call->attrs.quant, sums);
}

/* ---- optimizers ---- */

static void square_sum_end(const qe_call *call, const cpu_grid *grid, const cpu_tile_sums *sums) {
  (void)grid;
  result_of(call, 1)[0] = (float)total_scalar(sums);
}

static void clip_norm_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  (void)grid;
  double clip = (double)f32_of(call, 1)[QE_HYPER_CLIP];
  double factor = clip / (sqrt((double)f32_of(call, 0)[0]) + 1e-6);
  params[0] = clip > 0 && factor < 1 ? (float)factor : 1.0f;
}

static void sgd_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  (void)grid;
  for (int i = 0; i < QE_HYPERS; i++) params[i] = f32_of(call, 1)[i];
}

static void adam_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  const float *hyper = f32_of(call, 1);
  sgd_begin(call, grid, params);
  params[QE_HYPERS] = (float)(1 - (double)hyper[QE_HYPER_MOMENTUM]);
  params[QE_HYPERS + 1] = (float)(1 - (double)hyper[QE_HYPER_BETA2]);
  params[QE_HYPERS + 2] = (float)(1 - (double)hyper[QE_HYPER_RATE] * (double)hyper[QE_HYPER_DECAY]);
}

static void ema_begin(const qe_call *call, const cpu_grid *grid, float *params) {
  (void)grid;
  params[0] = f32_of(call, 1)[QE_HYPER_AVERAGE];
  params[1] = (float)(1 - (double)params[0]);
}

static const cpu_tile_op table[QE_OPS] = {
    [QE_OP_bias_add] = {.known = true, .vectors = 1, .begin = bias_add_begin},
    [QE_OP_channel_sum] = {.known = true, .channel_sums = 1, .end = channel_sum_end},
    [QE_OP_bn_stats] = {.known = true, .channel_sums = 2, .end = bn_stats_end},
    [QE_OP_bn_running] = {.known = true, .after = true, .end = bn_running_end},
    [QE_OP_bn_norm] = {.known = true, .vectors = 3, .begin = bn_norm_begin},
    [QE_OP_bn_grad_sums] =
        {.known = true, .vectors = 1, .channel_sums = 2, .begin = bn_grad_sums_begin, .end = bn_grad_sums_end},
    [QE_OP_bn_grad_x] = {.known = true, .vectors = 4, .begin = bn_grad_x_begin},
    [QE_OP_clamp] = {.known = true},
    [QE_OP_clamp_grad] = {.known = true},
    [QE_OP_add] = {.known = true},
    [QE_OP_accumulate] = {.known = true},
    [QE_OP_quant] = {.known = true, .scalars = 1, .begin = quant_begin},
    [QE_OP_quant_grad] =
        {.known = true, .scalars = 1, .scalar_sums = 1, .begin = quant_grad_begin, .end = quant_grad_end},
    [QE_OP_quant_gate] = {.known = true, .scalars = 2, .begin = quant_gate_begin},
    [QE_OP_quant_gate_grad] =
        {.known = true, .scalars = 2, .scalar_sums = 1, .begin = quant_gate_grad_begin, .end = quant_gate_grad_end},
    [QE_OP_square_sum] = {.known = true, .scalar_sums = 1, .end = square_sum_end},
    [QE_OP_clip_norm] = {.known = true, .scalars = 1, .begin = clip_norm_begin},
    [QE_OP_sgd] = {.known = true, .scalars = QE_HYPERS, .begin = sgd_begin},
    [QE_OP_adam] = {.known = true, .scalars = QE_HYPERS + 3, .begin = adam_begin},
    [QE_OP_ema] = {.known = true, .scalars = 2, .begin = ema_begin},
};

const cpu_tile_op *cpu_tile_op_of(const qe_call *call) {
  const cpu_tile_op *op = &table[call->op];
  bool steps = qe_op_get_info(call->op)->shape_class == QE_CLASS_QUANT && call->attrs.quant.per_channel;
  return op->known && !steps ? op : NULL;
}

bool cpu_tile_operand_is_map(qe_op op, int i) {
  qe_kind kind = qe_op_get_info(op)->operand[i].kind;
  return kind == QE_KIND_MAP || kind == QE_KIND_POSITIVE;
}
