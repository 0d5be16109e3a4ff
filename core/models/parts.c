/* Pieces of models: quantised layers, activations and residual streams. */
#include "core/models/parts.h"

#include <math.h>
#include <stdio.h>

static qe_grid weight_grid(const qe_bits *bits) {
  static const qe_grid grid_of[QE_RULES] = {
      [QE_RULE_LSQ] = QE_GRID_SIGNED,   [QE_RULE_PACT] = QE_GRID_SYMMETRIC, [QE_RULE_DOREFA] = QE_GRID_ODD,
      [QE_RULE_L2] = QE_GRID_SYMMETRIC, [QE_RULE_L2_ODD] = QE_GRID_ODD,     [QE_RULE_MAX] = QE_GRID_SYMMETRIC};
  return grid_of[bits->weight_rule];
}

static qe_quantizer weight_quantizer(const qe_builder *builder, const char *name, qe_place place) {
  const qe_bits *bits = &builder->spec->bits;
  int width = qe_weight_bits(builder, name, place);
  /* One bit has no zero between two codes, on any rule's grid. Odd codes of 8 bits would not fit s8; the rule l2-odd
   * asks for the best grid of its size, and there the signed one has a step as fine. */
  qe_grid grid = width == 1 ? QE_GRID_ODD : weight_grid(bits);
  if (bits->weight_rule == QE_RULE_L2_ODD && width == 8) grid = QE_GRID_SIGNED;
  return (qe_quantizer){.bits = width, .rule = bits->weight_rule, .grid = grid, .per_channel = bits->per_channel};
}

qe_node qe_add_conv(const qe_builder *builder, const char *name, qe_node input, qe_window window, qe_place place) {
  qe_quantizer quantizer = weight_quantizer(builder, name, place);
  return qe_graph_conv(builder->graph, name, input, &window, false, &quantizer);
}

qe_node qe_add_linear(const qe_builder *builder, const char *name, qe_node input, int32_t outputs, qe_place place) {
  qe_quantizer quantizer = weight_quantizer(builder, name, place);
  return qe_graph_linear(builder->graph, name, input, outputs, true, &quantizer);
}

qe_quantizer qe_activation_quantizer(const qe_builder *builder, int bits) {
  return (qe_quantizer){.bits = bits, .rule = builder->spec->bits.activation_rule, .grid = QE_GRID_UNSIGNED};
}

qe_node qe_add_activation(const qe_builder *builder, const char *name, qe_node input, const char *reader,
                          qe_place place) {
  int bits = qe_input_bits(builder, reader, place);
  if (bits == QE_FLOAT_BITS) return qe_graph_clamp(builder->graph, name, input, 0, INFINITY);
  qe_quantizer quantizer = qe_activation_quantizer(builder, bits);
  return qe_graph_quant(builder->graph, name, input, &quantizer, -1);
}

qe_stream qe_add_stream(const qe_builder *builder, const char *name, qe_node input, const char *reader) {
  const qe_bits *bits = &builder->spec->bits;
  int low = reader ? qe_input_bits(builder, reader, QE_INNER_LAYER) : bits->activations;
  qe_stream stream;
  if (low == QE_FLOAT_BITS || bits->residual == QE_FLOAT_BITS) {
    stream.wide = stream.low = qe_graph_clamp(builder->graph, name, input, 0, INFINITY);
    if (low == QE_FLOAT_BITS || !reader) return stream;
    char low_name[96];
    snprintf(low_name, sizeof low_name, "%s_low", name);
    qe_quantizer quantizer = qe_activation_quantizer(builder, low);
    stream.low = qe_graph_quant(builder->graph, low_name, stream.wide, &quantizer, -1);
    return stream;
  }
  /* The wide step is the low one over 2^shift. One bit less than the difference in width leaves the skip connection
   * twice the low code's range. */
  int wide = bits->residual > low ? bits->residual : low, difference = wide - low;
  qe_quantizer quantizer = qe_activation_quantizer(builder, wide);
  if (!reader || difference == 0) {
    stream.wide = stream.low = qe_graph_quant(builder->graph, name, input, &quantizer, -1);
    return stream;
  }
  quantizer.step_shift = difference > 1 ? difference - 1 : difference;
  stream.wide = qe_graph_quant(builder->graph, name, input, &quantizer, -1);
  quantizer = qe_activation_quantizer(builder, low);
  quantizer.round_up = true;
  char low_name[96];
  snprintf(low_name, sizeof low_name, "%s_low", name);
  stream.low = qe_graph_quant(builder->graph, low_name, stream.wide, &quantizer, stream.wide);
  return stream;
}
