/* Two networks in one program: the twin's passes, and the losses between the two with their gradients to either side.
 *
 * What a network learns from counts as given: no gradient goes through it to the other one. */
#include "core/base/alloc.h"
#include "core/graph/layers.h"

const char *qe_guide_name(qe_guide guide) {
  static const char *const names[] = {
#define X(id, name) name,
      QE_GUIDE_LIST(X)
#undef X
  };
  return guide < QE_GUIDES ? names[guide] : NULL;
}

const char *qe_hint_form_name(qe_hint_form form) {
  static const char *const names[] = {
#define X(id, name) name,
      QE_HINT_LIST(X)
#undef X
  };
  return form < QE_HINT_FORMS ? names[form] : NULL;
}

static qe_node last_of(const qe_lowering *lowering) {
  return qe_graph_output(lowering->graph);
}

static qe_value logits_of(const qe_pairing *pairing, int side) {
  return pairing->side[side]->output[last_of(pairing->side[side])];
}

static bool is_trained(const qe_pairing *pairing, int side) {
  return side == QE_NET_OWN || pairing->twin->gradients;
}

static qe_status check_pair(const qe_pairing *pairing) {
  const qe_graph *own = pairing->side[QE_NET_OWN]->graph, *twin = pairing->twin->graph;
  const struct {
    const char *what;
    const qe_desc *own, *twin;
  } alike[] = {{"images", &own->node[0].output, &twin->node[0].output},
               {"logits", &own->node[own->nodes - 1].output, &twin->node[twin->nodes - 1].output}};
  for (int i = 0; i < 2; i++) {
    char first[QE_DESC_TEXT], second[QE_DESC_TEXT];
    if (!qe_same_desc(alike[i].own, alike[i].twin))
      return qe_fail(QE_SHAPE, "a network with %s %s cannot learn from one with %s", alike[i].what,
                     qe_desc_text(alike[i].own, first), qe_desc_text(alike[i].twin, second));
  }
  return QE_OK;
}

qe_status qe_lower_twin_forward(const qe_pairing *pairing) {
  qe_lowering *twin = pairing->side[QE_NET_TWIN];
  QE_TRY(check_pair(pairing));
  QE_TRY(qe_lowering_begin(twin, pairing->twin->params, pairing->twin->gradients));
  twin->output[0] = pairing->side[QE_NET_OWN]->output[0];
  return qe_lower_forward(twin);
}

/* ---- logits ---- */

/* The gradient of a side's logits from one of the divergence's: `turned`, that of KL(own || other), where the own ones
 * are the op's targets. */
static qe_status divergence_gradient(const qe_pairing *pairing, int side, bool turned, float scale,
                                     qe_value *gradient) {
  qe_lowering *own = pairing->side[side];
  qe_value logits = logits_of(pairing, side), other = logits_of(pairing, !side), unused;
  qe_attrs attrs = {.scale = scale, .temperature = pairing->twin->temperature};
  QE_TRY(qe_lower_temp(own, last_of(own), "guidance", NULL, gradient));
  QE_TRY(qe_lower_temp(own, last_of(own), "unused", NULL, &unused));
  return qe_lower_call(own, QE_OP_kl_div_grad, &attrs,
                       turned ? (qe_value[]){other, logits, unused, *gradient}
                              : (qe_value[]){logits, other, *gradient, unused});
}

static qe_status add_to(qe_lowering *lowering, qe_value part, qe_value *gradient) {
  qe_value sum;
  QE_TRY(qe_lower_temp(lowering, last_of(lowering), "gradient_sum", NULL, &sum));
  QE_TRY(qe_lower_call(lowering, QE_OP_add, NULL, (qe_value[]){*gradient, part, sum}));
  *gradient = sum;
  return QE_OK;
}

qe_status qe_lower_guide_gradient(const qe_pairing *pairing, int side, qe_value *gradient) {
  qe_lowering *own = pairing->side[side];
  qe_guide guide = pairing->twin->guide;
  float scale = pairing->scale * pairing->twin->guide_weight[side];
  qe_value part;
  if (!(scale > 0)) return QE_OK;
  if (guide == QE_GUIDE_MSE) {
    qe_attrs attrs = {.scale = scale};
    QE_TRY(qe_lower_temp(own, last_of(own), "guidance", NULL, &part));
    QE_TRY(qe_lower_call(own, QE_OP_hint_square_grad, &attrs,
                         (qe_value[]){logits_of(pairing, side), logits_of(pairing, !side), part}));
    return add_to(own, part, gradient);
  }
  if (guide == QE_GUIDE_BOTH) scale *= 0.5f;
  for (int turned = 0; turned < 2; turned++) {
    if (guide == (turned ? QE_GUIDE_KL : QE_GUIDE_REVERSE)) continue;
    QE_TRY(divergence_gradient(pairing, side, turned, scale, &part));
    QE_TRY(add_to(own, part, gradient));
  }
  return QE_OK;
}

/* ---- hints ---- */

/* The map that is compared: of the twin, where codes are, as the other network's quantiser codes it. `quantised`: its
 * own value before that. */
static qe_status hinted_map(const qe_pairing *pairing, const qe_hint *hint, int side, qe_value *map, qe_value *source) {
  qe_lowering *lowering = pairing->side[side], *own = pairing->side[QE_NET_OWN];
  QE_TRY(qe_lower_output(lowering, hint->node[side], source));
  *map = *source;
  const qe_node_info *coder = &own->graph->node[hint->node[QE_NET_OWN]];
  bool coded = pairing->twin->hint_form == QE_HINT_CODES && coder->layer == &qe_layer_quant;
  if (!coded || side == QE_NET_OWN) return QE_OK;
  qe_attrs attrs = qe_quant_attrs(&coder->quantizer, &coder->output);
  QE_TRY(qe_lower_temp(lowering, hint->node[side], "codes", NULL, map));
  return qe_lower_call(lowering, QE_OP_quant, &attrs,
                       (qe_value[]){*source, own->param[coder->param[QE_QUANT_STEP]], *map});
}

static qe_attrs hint_attrs(const qe_pairing *pairing, const qe_hint *hint, int other, float scale) {
  const qe_graph *graph = pairing->side[other]->graph;
  return (qe_attrs){.scale = scale, .other = graph->node[hint->node[other]].output.dim[QE_C]};
}

static qe_status lower_hint(const qe_pairing *pairing, const qe_hint *hint, qe_value loss) {
  qe_value map[QE_NETS], source;
  bool attention = pairing->twin->hint_form == QE_HINT_ATTENTION;
  qe_attrs attrs = hint_attrs(pairing, hint, QE_NET_TWIN, 0);
  for (int side = 0; side < QE_NETS; side++) QE_TRY(hinted_map(pairing, hint, side, &map[side], &source));
  return qe_lower_call(pairing->side[QE_NET_OWN], attention ? QE_OP_hint_attention : QE_OP_hint_square, &attrs,
                       (qe_value[]){map[QE_NET_OWN], map[QE_NET_TWIN], loss});
}

static qe_status hint_gradient(const qe_pairing *pairing, const qe_hint *hint, int side) {
  qe_lowering *lowering = pairing->side[side];
  qe_node node = hint->node[side];
  qe_value map, source, other, unused, gradient, through;
  bool attention = pairing->twin->hint_form == QE_HINT_ATTENTION;
  qe_attrs attrs = hint_attrs(pairing, hint, !side, pairing->scale * pairing->twin->hint_weight[side]);
  QE_TRY(hinted_map(pairing, hint, side, &map, &source));
  QE_TRY(hinted_map(pairing, hint, !side, &other, &unused));
  QE_TRY(qe_lower_temp(lowering, node, "hint", NULL, &gradient));
  QE_TRY(qe_lower_call(lowering, attention ? QE_OP_hint_attention_grad : QE_OP_hint_square_grad, &attrs,
                       (qe_value[]){map, other, gradient}));
  if (map == source) return qe_lower_add_gradient(lowering, node, gradient);
  qe_lowering *own = pairing->side[QE_NET_OWN]; /* its step learns from its own network alone */
  const qe_node_info *coder = &own->graph->node[hint->node[QE_NET_OWN]];
  const qe_desc *step = &own->graph->param[coder->param[QE_QUANT_STEP]].desc;
  qe_attrs quant = qe_quant_attrs(&coder->quantizer, &coder->output);
  QE_TRY(qe_lower_temp(lowering, node, "hint_through", NULL, &through));
  QE_TRY(qe_lower_temp(lowering, node, "unused", step, &unused));
  QE_TRY(qe_lower_call(lowering, QE_OP_quant_grad, &quant,
                       (qe_value[]){gradient, source, own->param[coder->param[QE_QUANT_STEP]], through, unused}));
  return qe_lower_add_gradient(lowering, node, through);
}

qe_status qe_lower_hint_gradients(qe_lowering *lowering, qe_node node) {
  const qe_pairing *pairing = lowering->pairing;
  const qe_lower_twin *twin = pairing->twin;
  int side = lowering == pairing->side[QE_NET_TWIN] ? QE_NET_TWIN : QE_NET_OWN;
  for (int i = 0; i < twin->hints; i++)
    if (twin->hint[i].node[side] == node && twin->hint_weight[side] > 0)
      QE_TRY(hint_gradient(pairing, &twin->hint[i], side));
  return QE_OK;
}

/* ---- both ---- */

static qe_status bind_row(const qe_pairing *pairing, const char *name, qe_buffer *buffer, qe_value *value) {
  const qe_lowering *own = pairing->side[QE_NET_OWN];
  return qe_program_bind(own->program, name, qe_map(QE_F32, own->batch, 1, 1, 1), buffer, 0, value);
}

qe_status qe_lower_guidance(const qe_pairing *pairing, const qe_lower_buffers *buffers) {
  const qe_lower_twin *twin = pairing->twin;
  qe_lowering *own = pairing->side[QE_NET_OWN];
  qe_value guidance, sum, part;
  bool reversed = twin->guide == QE_GUIDE_REVERSE;
  qe_attrs attrs = {.temperature = twin->temperature};
  QE_TRY(bind_row(pairing, "guidance", buffers->guidance, &guidance));
  QE_TRY(qe_lower_call(own, twin->guide == QE_GUIDE_MSE ? QE_OP_hint_square : QE_OP_kl_div, &attrs,
                       (qe_value[]){logits_of(pairing, reversed), logits_of(pairing, !reversed), guidance}));
  if (twin->hints == 0) return QE_OK;
  QE_TRY(bind_row(pairing, "hints", buffers->hints, &sum));
  QE_TRY(lower_hint(pairing, &twin->hint[0], sum));
  qe_desc row = qe_map(QE_F32, own->batch, 1, 1, 1);
  for (int i = 1; i < twin->hints; i++) {
    QE_TRY(qe_lower_temp(own, twin->hint[i].node[QE_NET_OWN], "hint_loss", &row, &part));
    QE_TRY(lower_hint(pairing, &twin->hint[i], part));
    QE_TRY(qe_lower_call(own, QE_OP_accumulate, NULL, (qe_value[]){part, sum}));
  }
  return QE_OK;
}

qe_status qe_lower_twin_backward(const qe_pairing *pairing, const qe_lower_options *options,
                                 const qe_lower_buffers *buffers) {
  qe_lowering *twin = pairing->side[QE_NET_TWIN];
  if (!is_trained(pairing, QE_NET_TWIN)) return QE_OK;
  qe_lower_buffers own = *buffers;
  qe_value gradient;
  own.loss = buffers->twin_loss;
  own.hits = buffers->twin_hits;
  QE_TRY(qe_lower_loss(twin, options, &own, pairing->scale * pairing->twin->label_weight[QE_NET_TWIN], &gradient));
  QE_TRY(qe_lower_guide_gradient(pairing, QE_NET_TWIN, &gradient));
  return qe_lower_backward(twin, gradient, false);
}
