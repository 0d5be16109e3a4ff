/* Random integer networks: every op, odd channel counts, groups, strides, dilation, signed codes, skip connections,
 * multipliers of all sizes and signs. What engines are compared on. */
#ifndef QE_TESTS_NETWORK_DRAW_H
#define QE_TESTS_NETWORK_DRAW_H

#include "core/base/alloc.h"
#include "core/dispatch/network.h"
#include "tests/draws.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#ifndef OK /* an includer without cmocka brings its own OK and assert_non_null */
#include "tests/fixture.h"
#endif

typedef struct network_limits {
  int32_t extent;      /* height and width of the images are 1...extent */
  int32_t channels;    /* of a layer at most */
  int32_t blocks;      /* of convolution and requantiser at most; 0: the classifier reads the images */
  int32_t weight_bits; /* 0: drawn for each layer */
  int32_t act_bits;    /* 0: drawn for each layer */
  bool plain;          /* 3x3 convolutions of one group only, as in a residual network */
} network_limits;

typedef struct network_draw {
  draws *from;
  network_limits limits;
  qe_network *network;
} network_draw;

static inline int32_t drawn_add(network_draw *d, const qe_network_layer *layer) {
  qe_network *to = d->network;
  char name[32];
  OK(qe_reserve(&to->layer, &to->capacity, to->layers + 1, sizeof *layer));
  snprintf(name, sizeof name, "layer%zu", to->layers);
  to->layer[to->layers] = *layer;
  to->layer[to->layers].name = qe_strdup(name);
  return (int32_t)to->layers++;
}

static inline const qe_desc *drawn_output(const network_draw *d, int32_t tensor) {
  return &d->network->layer[tensor].output;
}

static inline qe_window drawn_window(network_draw *d, const qe_desc *x) {
  qe_window w = {.kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}, .groups = 1};
  w.channels = draw_range(d->from, 1, d->limits.channels);
  if (d->limits.plain) {
    if (draw_range(d->from, 0, 4) == 0 && x->dim[QE_H] > 3) w.stride[0] = w.stride[1] = 2;
    w.channels = d->limits.channels;
    return w;
  }
  for (int axis = 0; axis < 2; axis++) {
    w.kernel[axis] = draw_range(d->from, 1, 4);
    w.dilation[axis] = draw_range(d->from, 0, 3) ? 1 : 2;
    w.stride[axis] = draw_range(d->from, 1, 3);
    int32_t reach = (w.kernel[axis] - 1) * w.dilation[axis] + 1;
    w.pad[axis] = draw_range(d->from, 0, reach - 1);
    w.pad[axis + 2] = draw_range(d->from, 0, reach - 1);
    while (x->dim[QE_H + axis] + w.pad[axis] + w.pad[axis + 2] < reach) w.pad[axis + 2]++;
  }
  int32_t kind = draw_range(d->from, 0, 3), inputs = x->dim[QE_C];
  if (kind == 0) { /* depthwise */
    w.groups = inputs;
    w.channels = inputs * draw_range(d->from, 1, 2);
  } else if (kind == 1 && inputs % 2 == 0) {
    w.groups = 2;
    w.channels = 2 * draw_range(d->from, 1, (d->limits.channels + 1) / 2);
  }
  return w;
}

static inline void drawn_sum_range(const network_draw *d, int32_t tensor, int64_t *least, int64_t *most) {
  const qe_network_layer *layer = &d->network->layer[tensor];
  *least = layer->low;
  *most = layer->high;
}

static inline int32_t drawn_conv(network_draw *d, int32_t x, qe_window window) {
  qe_network_layer layer = {.op = QE_OP_int_conv2d, .inputs = 1, .input = {x}, .attrs = {.window = window}};
  const qe_network_layer *source = &d->network->layer[x];
  qe_desc desc[QE_MAX_OPERANDS];
  OK(qe_op_shapes(layer.op, &layer.attrs, &source->output, desc));
  layer.weight_desc = desc[1];
  layer.output = desc[2];
  int32_t bits = d->limits.weight_bits ? d->limits.weight_bits : draw_range(d->from, 1, 8);
  bool odd = draw_range(d->from, 0, 4) == 0 && bits < 8;
  layer.grid = odd ? (qe_code_grid){bits, 1 - (1 << bits), 2, (1 << bits) - 1}
                   : (qe_code_grid){bits, -(1 << (bits - 1)), 1, (1 << (bits - 1)) - 1};
  int64_t count = qe_count(&layer.weight_desc), each = count / layer.weight_desc.dim[QE_N];
  layer.weight = qe_alloc((size_t)count);
  assert_non_null(layer.weight);
  int32_t style = draw_range(d->from, 0, 3); /* 0: one sign an output, so that sums grow large */
  for (int64_t i = 0; i < count; i++) {
    int32_t field = draw_range(d->from, 0, (1 << bits) - 1);
    if (style == 0) field = (i / each) % 2 ? (1 << bits) - 1 : 0;
    layer.weight[i] = (int8_t)(layer.grid.low + field * layer.grid.spacing);
  }
  int64_t low = INT64_MAX, high = INT64_MIN;
  for (int32_t o = 0; o < layer.weight_desc.dim[QE_N]; o++) {
    int64_t least, most;
    qe_sum_range(layer.weight + o * each, each, source->low, source->high, &least, &most);
    low = least < low ? least : low;
    high = most > high ? most : high;
  }
  layer.low = (int32_t)low;
  layer.high = (int32_t)high;
  return drawn_add(d, &layer);
}

/* Multipliers and offsets that use the output's range, some far over it. */
static inline void drawn_constants(network_draw *d, qe_network_layer *layer) {
  int32_t channels = layer->output.dim[QE_C];
  int64_t wide = 1;
  for (int k = 0; k < layer->inputs; k++) {
    const qe_network_layer *from = &d->network->layer[layer->input[k]];
    int64_t reach = from->high > -(int64_t)from->low ? from->high : -(int64_t)from->low;
    wide = reach > wide ? reach : wide;
    layer->multiplier[k] = QE_NEW_ARRAY(int32_t, channels);
  }
  layer->offset = QE_NEW_ARRAY(int64_t, channels);
  qe_requant *r = &layer->attrs.requant;
  int64_t span = (int64_t)r->high - r->low + 1, total = 0, greatest = 0;
  int32_t shift = r->to == QE_S32 ? draw_range(d->from, 8, 30) : draw_range(d->from, 4, 40);
  /* Logits of many inputs lie far from what is possible: they shall depend on the images all the same. */
  int64_t unit = r->to == QE_S32 ? INT64_C(1) << draw_range(d->from, 6, 20) : span * draw_range(d->from, 1, 6);
  while (r->to == QE_S32 && shift < 40 && (double)unit / (double)wide * ldexp(1, shift) < 256) shift++;
  while (shift > 0 && (double)unit / (double)wide * ldexp(1, shift) > 2e9) shift--;
  r->shift = shift;
  double top = (double)unit / (double)wide * ldexp(1, shift);
  for (int32_t c = 0; c < channels; c++) {
    int64_t sum = 0;
    for (int k = 0; k < layer->inputs; k++) {
      const qe_network_layer *from = &d->network->layer[layer->input[k]];
      int64_t reach = from->high > -(int64_t)from->low ? from->high : -(int64_t)from->low;
      double m = top * (double)draw_real(d->from, -1, 1);
      if (m > 2147483000.0) m = 2147483000.0;
      if (m < -2147483000.0) m = -2147483000.0;
      layer->multiplier[k][c] = draw_range(d->from, 0, 15) ? (int32_t)m : 0;
      int64_t size = layer->multiplier[k][c] < 0 ? -(int64_t)layer->multiplier[k][c] : layer->multiplier[k][c];
      greatest = size > greatest ? size : greatest;
      sum += size * reach;
    }
    layer->offset[c] =
        (int64_t)((double)(r->to == QE_S32 ? 4096 : span) * ldexp(1, shift) * (double)draw_real(d->from, -0.2f, 1)) +
        (shift ? INT64_C(1) << (shift - 1) : 0);
    sum += layer->offset[c] < 0 ? -layer->offset[c] : layer->offset[c];
    total = sum > total ? sum : total;
  }
  r->narrow = greatest <= 32767 && total <= INT32_MAX;
}

static inline int32_t drawn_requant(network_draw *d, int32_t v, int32_t u, qe_dtype to) {
  qe_network_layer layer = {.op = u < 0 ? QE_OP_int_requant : QE_OP_int_requant_add,
                            .inputs = u < 0 ? 1 : 2,
                            .input = {v, u < 0 ? 0 : u},
                            .output = *drawn_output(d, v)};
  int32_t bits = d->limits.act_bits ? d->limits.act_bits : draw_range(d->from, 1, 8);
  bool is_signed = to != QE_S32 && !d->limits.plain && draw_range(d->from, 0, 3) == 0;
  qe_requant *r = &layer.attrs.requant;
  *r = (qe_requant){.low = 0, .high = (1 << bits) - 1, .to = is_signed ? QE_S8 : QE_U8};
  if (is_signed) *r = (qe_requant){.low = -(1 << (bits - 1)), .high = (1 << (bits - 1)) - 1, .to = QE_S8};
  if (to == QE_S32) *r = (qe_requant){.low = -(1 << 24), .high = 1 << 24, .to = QE_S32};
  r->from = u < 0 ? drawn_output(d, v)->dtype : drawn_output(d, u)->dtype;
  layer.output.dtype = r->to;
  layer.low = r->low;
  layer.high = r->high;
  drawn_constants(d, &layer);
  return drawn_add(d, &layer);
}

/* The wide code of a skip connection and the code that is a shift of it. */
static inline int32_t drawn_wide_and_low(network_draw *d, int32_t v, int32_t u, int32_t *wide) {
  int32_t bits = d->limits.act_bits ? d->limits.act_bits : draw_range(d->from, 1, 8), k = 8 - bits;
  network_limits limits = d->limits;
  bool plain = d->limits.plain;
  d->limits.act_bits = 8;
  d->limits.plain = true; /* unsigned */
  *wide = drawn_requant(d, v, u, QE_U8);
  d->limits = limits;
  d->limits.plain = plain;
  qe_network_layer low = {.op = QE_OP_int_requant, .inputs = 1, .input = {*wide}, .output = *drawn_output(d, *wide)};
  low.attrs.requant = (qe_requant){.shift = k, .high = (1 << bits) - 1, .narrow = 1, .from = QE_U8, .to = QE_U8};
  low.high = low.attrs.requant.high;
  int32_t channels = low.output.dim[QE_C];
  low.multiplier[0] = QE_NEW_ARRAY(int32_t, channels);
  low.offset = QE_NEW_ARRAY(int64_t, channels);
  for (int32_t c = 0; c < channels; c++) {
    low.multiplier[0][c] = 1;
    low.offset[c] = k ? 1 << (k - 1) : 0;
  }
  return drawn_add(d, &low);
}

static inline int32_t drawn_move(network_draw *d, int32_t x, qe_op op) {
  const qe_network_layer *source = &d->network->layer[x];
  const qe_desc *in = &source->output;
  qe_network_layer layer = {.op = op, .inputs = 1, .input = {x}, .low = source->low, .high = source->high};
  qe_window *w = &layer.attrs.window;
  *w = (qe_window){.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .channels = in->dim[QE_C]};
  for (int axis = 0; axis < 2; axis++) {
    w->stride[axis] = draw_range(d->from, 1, 2);
    if (op == QE_OP_int_subsample) continue;
    int32_t extent = in->dim[QE_H + axis];
    w->kernel[axis] = draw_range(d->from, 1, extent < 3 ? extent : 3);
    if (op == QE_OP_int_sum_pool) w->kernel[axis] = w->stride[axis] = extent;
    if (op == QE_OP_int_max_pool && source->low >= 0) w->pad[axis] = w->kernel[axis] / 2;
  }
  if (op == QE_OP_int_subsample) {
    layer.attrs.pad_channels[0] = draw_range(d->from, 0, 3);
    layer.attrs.pad_channels[1] = draw_range(d->from, 0, 3);
    if (layer.low > 0) layer.low = 0;
    if (layer.high < 0) layer.high = 0;
  }
  qe_desc desc[QE_MAX_OPERANDS];
  OK(qe_op_shapes(op, &layer.attrs, in, desc));
  layer.output = desc[1];
  if (op == QE_OP_int_sum_pool) {
    layer.low *= w->kernel[0] * w->kernel[1];
    layer.high *= w->kernel[0] * w->kernel[1];
  }
  return drawn_add(d, &layer);
}

/* An earlier map of codes of the same shape; -1 when there is none or the draw says so. */
static inline int32_t drawn_skip(network_draw *d, int32_t of) {
  for (int32_t i = 1; i < (int32_t)d->network->layers; i++)
    if (i != of && drawn_output(d, i)->dtype != QE_S32 && draw_range(d->from, 0, 1) &&
        memcmp(drawn_output(d, i)->dim, drawn_output(d, of)->dim, sizeof drawn_output(d, i)->dim) == 0)
      return i;
  return -1;
}

static inline int32_t drawn_block(network_draw *d, int32_t x) {
  int32_t kind = draw_range(d->from, 0, 9), wide;
  if (!d->limits.plain && kind == 0) return drawn_move(d, x, QE_OP_int_max_pool);
  if (!d->limits.plain && kind == 1 && drawn_output(d, x)->dim[QE_C] <= d->limits.channels)
    return drawn_move(d, x, QE_OP_int_subsample);
  if (!d->limits.plain && kind == 2) return drawn_requant(d, x, drawn_skip(d, x), QE_U8);
  qe_window window = drawn_window(d, drawn_output(d, x));
  int32_t sums = drawn_conv(d, x, window), skip = drawn_skip(d, sums);
  if (kind == 3) skip = drawn_conv(d, x, window); /* sums of two convolutions meet */
  if (kind < 5) return drawn_requant(d, sums, skip, QE_U8);
  return drawn_wide_and_low(d, sums, skip, &wide);
}

/* Classifier: pooled or flattened, then one linear layer. */
static inline void drawn_head(network_draw *d, int32_t x, int32_t classes) {
  qe_window window = {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .channels = classes};
  if (draw_range(d->from, 0, 1)) {
    x = drawn_requant(d, drawn_move(d, x, QE_OP_int_sum_pool), -1, QE_U8);
  } else {
    window.kernel[0] = drawn_output(d, x)->dim[QE_H];
    window.kernel[1] = drawn_output(d, x)->dim[QE_W];
  }
  drawn_requant(d, drawn_conv(d, x, window), -1, QE_S32);
}

static inline qe_network *network_drawn(draws *from, network_limits limits, int32_t classes) {
  network_draw d = {.from = from, .limits = limits, .network = QE_NEW(qe_network)};
  assert_non_null(d.network);
  int32_t height = limits.plain ? limits.extent : draw_range(from, 1, limits.extent);
  int32_t width = limits.plain ? limits.extent : draw_range(from, 1, limits.extent);
  qe_network_layer gather = {.op = QE_OP_int_gather, .low = -128, .high = 127};
  gather.output = qe_map(QE_S8, 1, height, width, draw_range(from, 1, 4));
  int32_t x = drawn_add(&d, &gather), blocks = limits.blocks ? draw_range(from, 1, limits.blocks) : 0;
  for (int32_t b = 0; b < blocks; b++) x = drawn_block(&d, x);
  drawn_head(&d, x, classes);
  return d.network;
}

#endif
