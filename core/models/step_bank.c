/* Steps by bit-width, kept by the names of their parameters. */
#include "core/models/step_bank.h"

#include "core/base/alloc.h"
#include "core/graph/layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_BITS = 8 };

typedef struct bank_row {
  char *name;
  int64_t count;
  float *value; /* [MOST_BITS, count]; 0: none */
} bank_row;

struct qe_step_bank {
  bank_row *row;
  size_t rows;
};

static int step_of(const qe_node_info *node) {
  if (node->layer == &qe_layer_conv || node->layer == &qe_layer_linear) return node->param[QE_CONV_STEP];
  return node->layer == &qe_layer_quant ? node->param[QE_QUANT_STEP] : -1;
}

/* Bits of the quantiser that decides the step; 0: the parameter is no step. */
static int bits_of(const qe_graph *graph, int param) {
  int bits = 0;
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *node = &graph->node[i];
    if (step_of(node) == param && (bits == 0 || node->quantizer.bits < bits)) bits = node->quantizer.bits;
  }
  return bits <= MOST_BITS ? bits : 0;
}

qe_status qe_step_bank_new(const qe_model *model, qe_step_bank **out) {
  const qe_graph *graph = model->graph;
  qe_step_bank *bank = QE_NEW(qe_step_bank);
  if (!bank) return QE_NO_MEMORY;
  bank->row = QE_NEW_ARRAY(bank_row, graph->params + 1);
  qe_status status = bank->row ? QE_OK : QE_NO_MEMORY;
  for (size_t i = 0; status == QE_OK && i < graph->params; i++) {
    if (bits_of(graph, (int)i) == 0) continue;
    bank_row *row = &bank->row[bank->rows++];
    row->count = qe_count(&graph->param[i].desc);
    row->name = qe_strdup(graph->param[i].name);
    row->value = QE_NEW_ARRAY(float, MOST_BITS * row->count);
    if (!row->name || !row->value) status = QE_NO_MEMORY;
  }
  if (status == QE_OK)
    *out = bank;
  else
    qe_step_bank_free(bank);
  return status;
}

void qe_step_bank_free(qe_step_bank *bank) {
  if (!bank) return;
  for (size_t i = 0; i < bank->rows; i++) {
    qe_free(bank->row[i].name);
    qe_free(bank->row[i].value);
  }
  qe_free(bank->row);
  qe_free(bank);
}

/* The bank's values of a parameter of the model, at its bits; NULL: it is no step that the bank has. */
static float *place_of(const qe_step_bank *bank, const qe_model *model, int param) {
  const qe_param *of = &model->graph->param[param];
  int bits = bits_of(model->graph, param);
  for (size_t i = 0; bits > 0 && i < bank->rows; i++)
    if (bank->row[i].count == qe_count(&of->desc) && strcmp(bank->row[i].name, of->name) == 0)
      return bank->row[i].value + (bits - 1) * bank->row[i].count;
  return NULL;
}

void qe_step_bank_keep(qe_step_bank *bank, const qe_model *model) {
  for (size_t i = 0; i < model->graph->params; i++) {
    const qe_param *param = &model->graph->param[i];
    float *place = param->initialised ? place_of(bank, model, (int)i) : NULL;
    if (place) memcpy(place, qe_model_values(model, (int)i), qe_bytes(&param->desc));
  }
}

void qe_step_bank_put(const qe_step_bank *bank, qe_model *model) {
  for (size_t i = 0; i < model->graph->params; i++) {
    qe_param *param = &model->graph->param[i];
    const float *place = place_of(bank, model, (int)i);
    if (!place) continue;
    param->initialised = place[0] > 0;
    if (param->initialised) memcpy(qe_model_values(model, (int)i), place, qe_bytes(&param->desc));
  }
}

void qe_step_bank_forget(qe_step_bank *bank, const qe_model *model) {
  for (size_t i = 0; i < bank->rows; i++) {
    bank_row *row = &bank->row[i];
    int param = qe_graph_find_param(model->graph, row->name);
    int kept = param >= 0 ? bits_of(model->graph, param) : 0;
    for (int bits = 1; bits <= MOST_BITS; bits++)
      if (bits != kept) memset(row->value + (bits - 1) * row->count, 0, (size_t)row->count * sizeof(float));
  }
}

/* ---- as tensors ---- */

qe_status qe_step_bank_give(const qe_step_bank *bank, qe_tensors *state) {
  char name[256];
  for (size_t i = 0; i < bank->rows; i++) {
    const bank_row *row = &bank->row[i];
    for (int bits = 1; bits <= MOST_BITS; bits++) {
      const float *value = row->value + (bits - 1) * row->count;
      if (!(value[0] > 0)) continue;
      snprintf(name, sizeof name, "bank.%s.%d", row->name, bits);
      QE_TRY(qe_tensors_add(state, name, QE_F32, 1, &row->count, value));
    }
  }
  return QE_OK;
}

static qe_status take_row(bank_row *row, int bits, const qe_named_tensor *tensor, const char *file) {
  float *value = row->value + (bits - 1) * row->count;
  if (!tensor) {
    memset(value, 0, (size_t)row->count * sizeof *value);
    return QE_OK;
  }
  if (tensor->dtype != QE_F32 || tensor->bytes != (size_t)row->count * sizeof *value)
    return qe_fail(QE_FORMAT, "%s: tensor %s does not fit this network's steps", file, tensor->name);
  memcpy(value, tensor->data, tensor->bytes);
  for (int64_t k = 0; k < row->count; k++)
    if (!isfinite(value[k]) || !(value[k] > 0))
      return qe_fail(QE_FORMAT, "%s: tensor %s holds %g at %lld", file, tensor->name, (double)value[k], (long long)k);
  return QE_OK;
}

qe_status qe_step_bank_take(qe_step_bank *bank, const qe_tensors *state, const char *file) {
  char name[256];
  for (size_t i = 0; i < bank->rows; i++)
    for (int bits = 1; bits <= MOST_BITS; bits++) {
      snprintf(name, sizeof name, "bank.%s.%d", bank->row[i].name, bits);
      QE_TRY(take_row(&bank->row[i], bits, qe_tensors_find(state, name), file));
    }
  return QE_OK;
}
