/* Pieces of models: quantised layers, activations and residual streams. */
#include "core/models/parts.h"

#include <math.h>
#include <stdio.h>

static qe_quantizer weight_quantizer(const qe_builder *builder, const char *name, qe_place place) {
  const qe_bits *bits = &builder->spec->bits;
  int width = qe_weight_bits(builder, name, place);
  return (qe_quantizer){.bits = width,
                        .rule = bits->weight_rule,
                        .grid = qe_weight_grid(bits->weight_rule, width),
                        .per_channel = bits->per_channel};
}

static qe_node add_conv(const qe_builder *builder, const char *name, qe_node input, const qe_window *window, bool bias,
                        qe_place place) {
  qe_quantizer quantizer = weight_quantizer(builder, name, place);
  return qe_graph_conv(builder->graph, name, input, window, bias, &quantizer);
}

qe_node qe_add_conv(const qe_builder *builder, const char *name, qe_node input, qe_window window, qe_place place) {
  return add_conv(builder, name, input, &window, false, place);
}

qe_node qe_add_biased_conv(const qe_builder *builder, const char *name, qe_node input, qe_window window,
                           qe_place place) {
  return add_conv(builder, name, input, &window, true, place);
}

qe_node qe_add_linear(const qe_builder *builder, const char *name, qe_node input, int32_t outputs, qe_place place) {
  qe_quantizer quantizer = weight_quantizer(builder, name, place);
  return qe_graph_linear(builder->graph, name, input, outputs, true, &quantizer);
}

qe_node qe_add_unbiased_linear(const qe_builder *builder, const char *name, qe_node input, int32_t outputs,
                               qe_place place) {
  qe_quantizer quantizer = weight_quantizer(builder, name, place);
  return qe_graph_linear(builder->graph, name, input, outputs, false, &quantizer);
}

qe_node qe_add_norm(const qe_builder *builder, const char *name, qe_node input) {
  return qe_graph_batch_norm(builder->graph, name, input, 1e-5f, 0.1f);
}

/* ---- activations ---- */

static qe_quantizer activation_quantizer(const qe_builder *builder, int bits, qe_grid grid) {
  qe_rule rule = builder->spec->bits.activation_rule;
  if (grid == QE_GRID_UNSIGNED) return (qe_quantizer){.bits = bits, .rule = rule, .grid = grid};
  /* DoReFa's clip at 1 is made for what a ReLU gives. One bit has no zero between two codes. */
  if (rule == QE_RULE_DOREFA) rule = QE_RULE_L2;
  return (qe_quantizer){.bits = bits < 2 ? 2 : bits, .rule = rule, .grid = grid};
}

/* Codes at `bits`; float: a ReLU that ends at `high`, or the value itself on a grid with negative codes. */
static qe_node add_codes(const qe_builder *builder, const char *name, qe_node input, const qe_quantizer *quantizer,
                         float high, qe_node share) {
  if (quantizer->bits != QE_FLOAT_BITS) return qe_graph_quant(builder->graph, name, input, quantizer, share);
  return quantizer->grid == QE_GRID_UNSIGNED ? qe_graph_clamp(builder->graph, name, input, 0, high) : input;
}

qe_node qe_add_clipped_activation(const qe_builder *builder, const char *name, qe_node input, float high,
                                  const char *reader, qe_place place) {
  qe_quantizer quantizer = activation_quantizer(builder, qe_input_bits(builder, reader, place), QE_GRID_UNSIGNED);
  return add_codes(builder, name, input, &quantizer, high, -1);
}

qe_node qe_add_activation(const qe_builder *builder, const char *name, qe_node input, const char *reader,
                          qe_place place) {
  return qe_add_clipped_activation(builder, name, input, INFINITY, reader, place);
}

/* ---- streams ---- */

/* Bits of the two codes of a stream; low 0: there is only one. */
typedef struct stream_bits {
  int wide, low, shift;
} stream_bits;

/* The wide step is the low one over 2^shift. One bit less than the difference in width leaves the skip connection
 * twice the low code's range. */
static stream_bits bits_of_stream(const qe_builder *builder, const char *reader) {
  const qe_bits *bits = &builder->spec->bits;
  int low = reader ? qe_input_bits(builder, reader, QE_INNER_LAYER) : bits->activations;
  if (low == QE_FLOAT_BITS) return (stream_bits){.wide = QE_FLOAT_BITS};
  if (bits->residual == QE_FLOAT_BITS) return (stream_bits){.wide = QE_FLOAT_BITS, .low = reader ? low : 0};
  int wide = bits->residual > low ? bits->residual : low, difference = wide - low;
  if (!reader || difference == 0) return (stream_bits){.wide = wide};
  return (stream_bits){.wide = wide, .low = low, .shift = difference > 1 ? difference - 1 : difference};
}

static qe_stream add_stream(const qe_builder *builder, const char *name, qe_node input, qe_grid grid,
                            const qe_window *pool, const char *reader) {
  stream_bits bits = bits_of_stream(builder, reader);
  qe_quantizer quantizer = activation_quantizer(builder, bits.wide, grid);
  quantizer.step_shift = bits.shift;
  qe_stream stream;
  qe_node coder = stream.wide = add_codes(builder, name, input, &quantizer, INFINITY, -1);
  if (pool) stream.wide = qe_graph_max_pool(builder->graph, "pool1", stream.wide, pool);
  stream.low = stream.wide;
  if (!bits.low) return stream;
  bool shared = bits.wide != QE_FLOAT_BITS;
  char low_name[96];
  snprintf(low_name, sizeof low_name, "%s_low", name);
  quantizer = activation_quantizer(builder, bits.low, grid);
  quantizer.round_up = shared;
  stream.low = add_codes(builder, low_name, stream.wide, &quantizer, INFINITY, shared ? coder : -1);
  return stream;
}

qe_stream qe_add_stream(const qe_builder *builder, const char *name, qe_node input, const char *reader) {
  return add_stream(builder, name, input, QE_GRID_UNSIGNED, NULL, reader);
}

qe_stream qe_add_pooled_stream(const qe_builder *builder, const char *name, qe_node input, const qe_window *pool,
                               const char *reader) {
  return add_stream(builder, name, input, QE_GRID_UNSIGNED, pool, reader);
}

qe_stream qe_add_signed_stream(const qe_builder *builder, const char *name, qe_node input, const char *reader) {
  return add_stream(builder, name, input, QE_GRID_SIGNED, NULL, reader);
}

qe_node qe_add_last_activation(const qe_builder *builder, const char *name, qe_node input, float high) {
  qe_quantizer quantizer = activation_quantizer(builder, bits_of_stream(builder, NULL).wide, QE_GRID_UNSIGNED);
  return add_codes(builder, name, input, &quantizer, high, -1);
}

qe_node qe_add_signed_codes(const qe_builder *builder, const char *name, qe_node input, const char *reader) {
  qe_quantizer quantizer =
      activation_quantizer(builder, qe_input_bits(builder, reader, QE_INNER_LAYER), QE_GRID_SIGNED);
  return add_codes(builder, name, input, &quantizer, INFINITY, -1);
}

/* ---- the end of a network ---- */

void qe_add_pooled_classifier(const qe_builder *builder, qe_node input) {
  qe_node x = qe_graph_global_pool(builder->graph, "pool", input);
  int bits = qe_input_bits(builder, "fc", QE_EDGE_LAYER);
  if (bits != QE_FLOAT_BITS) {
    qe_quantizer quantizer = activation_quantizer(builder, bits, QE_GRID_UNSIGNED);
    x = qe_graph_quant(builder->graph, "pool_quant", x, &quantizer, -1);
  }
  qe_add_linear(builder, "fc", x, builder->spec->classes, QE_EDGE_LAYER);
}

qe_label qe_label_of(const char *block, const char *part) {
  qe_label label;
  snprintf(label.text, sizeof label.text, "%s.%s", block, part);
  return label;
}
