/* A model with other bits: the values stay, steps of quantisers that change are forgotten. */
#include "core/graph/layers.h"
#include "core/models/model.h"

#include <string.h>

static int step_of(const qe_node_info *node) {
  if (node->layer == &qe_layer_conv || node->layer == &qe_layer_linear) return node->param[QE_CONV_STEP];
  return node->layer == &qe_layer_quant ? node->param[QE_QUANT_STEP] : -1;
}

/* Whether every quantiser of `model` that uses the step is in `from` as it is here. */
static bool step_stays(const qe_model *from, const qe_model *model, int step) {
  for (size_t i = 0; i < model->graph->nodes; i++) {
    const qe_node_info *node = &model->graph->node[i];
    if (step_of(node) != step) continue;
    qe_node before = qe_graph_find_node(from->graph, node->name);
    if (before < 0 || !qe_same_quantizer(&from->graph->node[before].quantizer, &node->quantizer)) return false;
  }
  return true;
}

static void take_values(const qe_model *from, qe_model *model) {
  for (size_t i = 0; i < model->graph->params; i++) {
    qe_param *param = &model->graph->param[i];
    int before = qe_graph_find_param(from->graph, param->name);
    if (before < 0 || qe_bytes(&from->graph->param[before].desc) != qe_bytes(&param->desc)) {
      qe_model_init_param(model, (int)i, 0);
      continue;
    }
    memcpy(qe_model_values(model, (int)i), qe_model_values(from, before), qe_bytes(&param->desc));
    bool is_step = false;
    for (size_t n = 0; n < model->graph->nodes; n++) is_step |= step_of(&model->graph->node[n]) == (int)i;
    param->initialised = from->graph->param[before].initialised && (!is_step || step_stays(from, model, (int)i));
  }
}

qe_status qe_model_requantize(const qe_model *from, const qe_bits *bits, qe_model **model) {
  qe_model_spec spec = from->spec;
  spec.bits = *bits;
  QE_TRY(qe_model_new_blank(&spec, model));
  take_values(from, *model);
  return QE_OK;
}
