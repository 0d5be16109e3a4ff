/* Weight codes: what integer networks, histograms and the fake quantiser agree on. */
#include "core/graph/codes.h"

#include "core/graph/layers.h"

#include <math.h>

/* 1 / the largest |tanh(w)|; 0 when all are 0. */
static float tanh_factor(const float *values, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; i++) largest = fmaxf(largest, fabsf(tanhf(values[i])));
  return largest > 0 ? 1 / largest : 0;
}

bool qe_weight_codes_of(const qe_graph *graph, const float *values, qe_node at, qe_weight_codes *codes) {
  const qe_node_info *node = &graph->node[at];
  bool weighted = node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
  if (!weighted || node->quantizer.bits == QE_FLOAT_BITS) return false;
  const qe_param *weight = &graph->param[node->param[QE_CONV_WEIGHT]];
  const qe_param *step = &graph->param[node->param[QE_CONV_STEP]];
  qe_attrs attrs = qe_quant_attrs(&node->quantizer, &weight->desc);
  int64_t count = qe_count(&weight->desc);
  *codes = (qe_weight_codes){.values = values + weight->offset / sizeof(float),
                             .step = values + step->offset / sizeof(float),
                             .count = count,
                             .each = node->quantizer.per_channel ? count / weight->desc.dim[QE_N] : count,
                             .bits = node->quantizer.bits,
                             .low = attrs.quant.low,
                             .high = attrs.quant.high,
                             .spacing = attrs.quant.odd ? 2 : 1};
  codes->tanh = node->quantizer.rule == QE_RULE_DOREFA;
  if (codes->tanh) codes->factor = tanh_factor(codes->values, count);
  return true;
}

int32_t qe_weight_code(const qe_weight_codes *codes, int64_t i) {
  float value = codes->tanh ? tanhf(codes->values[i]) * codes->factor : codes->values[i];
  float v = value / codes->step[i / codes->each], high = (float)codes->high;
  float code = codes->spacing == 2 ? 2.0f * rintf((v + high) / 2.0f) - high : rintf(v);
  return !(code >= (float)codes->low) ? codes->low : code > high ? codes->high : (int32_t)code;
}
