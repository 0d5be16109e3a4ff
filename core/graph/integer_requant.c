/* Requantisers of an integer network: forms with real scales become multipliers, offsets and a shift. */
#include "core/base/alloc.h"
#include "core/graph/integer_parts.h"
#include "core/graph/layers.h"

#include <math.h>

enum { LOGIT_UNITS = 256 };

/* Largest multiplier and largest partial sum that shift `s` gives. */
static void measure(const qe_int_form *f, const qe_network *network, int32_t channels, double step, int s,
                    double *multiplier, double *sum) {
  double unit = ldexp(1 / step, s);
  *multiplier = *sum = 0;
  for (int32_t c = 0; c < channels; c++) {
    double total = fabs(f->bias[c] * unit) + ldexp(1, s);
    for (int b = 0; b < f->branches; b++) {
      const qe_network_layer *layer = &network->layer[f->tensor[b]];
      double reach = fmax(fabs((double)layer->low), fabs((double)layer->high)), m = fabs(f->scale[b][c] * unit) + 1;
      *multiplier = fmax(*multiplier, m);
      total += reach * m;
    }
    *sum = fmax(*sum, total);
  }
}

/* The largest shift whose multipliers and sums stay within the limits; below 0: none. */
static int largest_shift(const qe_int_form *f, const qe_network *network, int32_t channels, double step, int most,
                         double multiplier_limit, double sum_limit) {
  for (int s = most; s >= 0; s--) {
    double multiplier, sum;
    measure(f, network, channels, step, s, &multiplier, &sum);
    if (multiplier <= multiplier_limit && sum <= sum_limit) return s;
  }
  return -1;
}

/* Largest error, in output codes, that rounding the multipliers at shift s can make. */
static double rounding_error(const qe_int_form *f, const qe_network *network, int s) {
  double error = 0.5;
  for (int b = 0; b < f->branches; b++) {
    const qe_network_layer *layer = &network->layer[f->tensor[b]];
    error += 0.5 * fmax(fabs((double)layer->low), fabs((double)layer->high));
  }
  return ldexp(error, -s);
}

/* Narrow where 16-bit multipliers are exact enough, else wide: at two bits the network magnifies every flipped code. */
static const double NARROW_ERROR = 1.0 / 128; /* of an output code */

static qe_status choose_shift(const qe_int_form *f, const qe_network *network, int32_t channels, double step,
                              qe_requant *requant) {
  int s = largest_shift(f, network, channels, step, 30, 32767, 2147483647.0);
  requant->narrow = s >= 0 && requant->to != QE_S32 && rounding_error(f, network, s) <= NARROW_ERROR;
  if (!requant->narrow) s = largest_shift(f, network, channels, step, 46, 2147483647.0, 4.6e18);
  if (s < 0) return qe_fail(QE_REFUSED, "its multipliers do not fit 32 bits; is a step or batch norm degenerate?");
  requant->shift = s;
  return QE_OK;
}

/* Codes of a coarser grid, 2^k wider: multiplier 1, so that the requantiser is a shift. */
static bool is_shift(const qe_int_form *f, int32_t channels, double step, int *k) {
  if (!qe_int_is_codes(f, channels)) return false;
  int exponent;
  double mantissa = frexp(step / f->scale[0][0], &exponent);
  *k = exponent - 1;
  return mantissa <= 0.5 && *k >= 0 && *k <= 16;
}

/* A convolution's sums of few-bit codes are few integers, each met by many pixels: where one lies so near a code's edge
 * that the rounded multiplier takes it across, they all change. So the offset is moved, if it must be, to where every
 * sum of a proven range gets the code of the real value; there are such offsets unless two edges are that near. */
static int64_t fit_offset(double scale, double bias, int32_t low, int32_t high, const qe_requant *requant, double half,
                          int64_t multiplier, int64_t offset) {
  int64_t least = INT64_MIN, most = INT64_MAX;
  for (int64_t code = requant->low + INT64_C(1); code <= requant->high; code++) {
    double edge = fmin(fmax(ceil(((double)code - half - bias) / scale), low), high + 1.0);
    int64_t reached = (int64_t)edge, bound = code * (INT64_C(1) << requant->shift);
    if (reached <= high && bound - reached * multiplier > least) least = bound - reached * multiplier;
    if (reached > low && bound - (reached - 1) * multiplier - 1 < most) most = bound - (reached - 1) * multiplier - 1;
  }
  if (least > most) return offset;
  return offset < least ? least : offset > most ? most : offset;
}

static qe_status fill_requant(const qe_int_form *f, const qe_network *network, int32_t channels, double step,
                              double half, qe_network_layer *layer) {
  const qe_requant *requant = &layer->attrs.requant;
  layer->offset = QE_NEW_ARRAY(int64_t, channels);
  if (!layer->offset) return QE_NO_MEMORY;
  double unit = ldexp(1 / step, requant->shift);
  int64_t rounding = requant->shift > 0 ? llrint(ldexp(half, requant->shift)) : 0;
  for (int b = 0; b < f->branches; b++) {
    layer->multiplier[b] = QE_NEW_ARRAY(int32_t, channels);
    if (!layer->multiplier[b]) return QE_NO_MEMORY;
    for (int32_t c = 0; c < channels; c++) layer->multiplier[b][c] = (int32_t)llrint(f->scale[b][c] * unit);
  }
  for (int32_t c = 0; c < channels; c++) layer->offset[c] = llrint(f->bias[c] * unit) + rounding;
  if (f->branches == 2 || requant->to == QE_S32) return QE_OK;
  const qe_network_layer *sums = &network->layer[f->tensor[0]];
  for (int32_t c = 0; c < channels; c++) {
    int64_t multiplier = layer->multiplier[0][c];
    double scale = f->scale[0][c] / step, bias = f->bias[c] / step;
    if (multiplier > 0)
      layer->offset[c] = fit_offset(scale, bias, sums->low, sums->high, requant, half, multiplier, layer->offset[c]);
    else if (multiplier < 0) /* the same of the sums turned round */
      layer->offset[c] =
          fit_offset(-scale, bias, -sums->high, -sums->low, requant, half, -multiplier, layer->offset[c]);
  }
  return QE_OK;
}

/* A requantiser of the form to the grid of `step`; `half`: of a code, added before rounding down. */
static qe_status add_requant(qe_int_lowering *l, const qe_node_info *node, const qe_int_form *f, double step,
                             double half, int32_t low, int32_t high, qe_dtype to, int *tensor) {
  int32_t channels = node->output.dim[QE_C];
  qe_network *network = l->network;
  qe_network_layer layer = {.op = f->branches == 2 ? QE_OP_int_requant_add : QE_OP_int_requant,
                            .inputs = f->branches,
                            .input = {f->tensor[0], f->tensor[f->branches - 1]},
                            .output = node->output,
                            .unit = qe_int_unit(step)};
  qe_requant *requant = &layer.attrs.requant;
  *requant = (qe_requant){.low = low, .high = high, .to = to};
  requant->from = network->layer[layer.input[1]].output.dtype;
  layer.output.dtype = to;
  int k;
  if (to != QE_S32 && is_shift(f, channels, step, &k)) {
    requant->shift = k;
    requant->narrow = 1;
  } else {
    QE_TRY(choose_shift(f, network, channels, step, requant));
  }
  qe_status status = fill_requant(f, network, channels, step, half, &layer);
  if (status != QE_OK) {
    qe_network_layer_clear(&layer);
    return status;
  }
  return qe_int_add_layer(l, node, &layer, tensor);
}

qe_status qe_int_lower_quant(qe_int_lowering *l, qe_node at, qe_int_form *out) {
  const qe_node_info *node = &l->graph->node[at];
  const qe_int_form *in = &l->form[node->input[0]];
  qe_attrs attrs = qe_quant_attrs(&node->quantizer, &node->output);
  if (in->rectified && attrs.quant.low < 0)
    return qe_fail(QE_REFUSED, "a signed quantiser after a float ReLU has no integer form");
  double step = ldexp((double)*qe_int_param(l, node->param[QE_QUANT_STEP]), -attrs.quant.step_shift);
  double half = attrs.quant.round_up ? (double)QE_HALF_UP : 0.5;
  int tensor;
  QE_TRY(add_requant(l, node, in, step, half, attrs.quant.low, attrs.quant.high, attrs.quant.low < 0 ? QE_S8 : QE_U8,
                     &tensor));
  return qe_int_form_codes(out, tensor, step, l->graph->node[at].output.dim[QE_C]);
}

qe_status qe_int_lower_logits(qe_int_lowering *l) {
  qe_node last = qe_graph_output(l->graph);
  const qe_int_form *f = &l->form[last];
  if (f->rectified) return qe_fail(QE_REFUSED, "logits behind a float ReLU have no integer form");
  int tensor;
  double log2_of_e = 1.4426950408889634;
  return add_requant(l, &l->graph->node[last], f, 1 / (LOGIT_UNITS * log2_of_e), 0.5, -(1 << 24), 1 << 24, QE_S32,
                     &tensor);
}
