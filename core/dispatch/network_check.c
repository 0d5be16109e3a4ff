/* The check of an integer network: what passes can be computed with, whoever made it. */
#include "core/base/alloc.h"
#include "core/dispatch/network_parts.h"

#include <string.h>

enum { MAX_LAYERS = 1 << 16 };

/* ---- which constants an op has ---- */

static const struct {
  qe_op op;
  int inputs;
  bool weight, requant;
} kinds[] = {
    {QE_OP_int_gather, 0, false, false},    {QE_OP_int_conv2d, 1, true, false},
    {QE_OP_int_requant, 1, false, true},    {QE_OP_int_requant_add, 2, false, true},
    {QE_OP_int_sum_pool, 1, false, false},  {QE_OP_int_max_pool, 1, false, false},
    {QE_OP_int_subsample, 1, false, false},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static qe_status check_parts(const qe_network_layer *layer, size_t at) {
  size_t kind = 0;
  while (kind < KINDS && kinds[kind].op != layer->op) kind++;
  if (kind == KINDS) return qe_fail(QE_FORMAT, "op %d is no op of integer networks", (int)layer->op);
  if ((at == 0) != (layer->op == QE_OP_int_gather))
    return qe_fail(QE_FORMAT, "layer 0, and no other, gathers the images");
  if (layer->inputs != kinds[kind].inputs)
    return qe_fail(QE_FORMAT, "%d inputs, must be %d", layer->inputs, kinds[kind].inputs);
  for (int k = 0; k < layer->inputs; k++)
    if (layer->input[k] < 0 || (size_t)layer->input[k] >= at)
      return qe_fail(QE_FORMAT, "input %d, which is not a layer before it", layer->input[k]);
  bool requant = kinds[kind].requant;
  if ((layer->weight != NULL) != kinds[kind].weight || (layer->offset != NULL) != requant ||
      (layer->multiplier[0] != NULL) != requant || (layer->multiplier[1] != NULL) != (layer->inputs == 2))
    return qe_fail(QE_FORMAT, "weights, multipliers or offsets are missing, or are not its op's");
  return QE_OK;
}

/* ---- shapes ---- */

static qe_status same(const char *what, const qe_desc *given, const qe_desc *wanted) {
  char is[QE_DESC_TEXT], must[QE_DESC_TEXT];
  if ((unsigned)given->dtype >= QE_DTYPES) return qe_fail(QE_FORMAT, "its %s has no known type", what);
  if (qe_same_desc(given, wanted)) return QE_OK;
  return qe_fail(QE_FORMAT, "its %s is %s, must be %s", what, qe_desc_text(given, is), qe_desc_text(wanted, must));
}

/* The first input's shape as the op reads it: a convolution may see the whole map as channels of one pixel. */
static qe_status principal_of(const qe_network *network, const qe_network_layer *layer, qe_desc *desc) {
  const int32_t *weight = layer->weight_desc.dim;
  if (layer->op == QE_OP_int_gather) {
    *desc = layer->output;
    return QE_OK;
  }
  *desc = network->layer[layer->input[0]].output;
  if (!layer->weight || (int64_t)weight[QE_C] * layer->attrs.window.groups == desc->dim[QE_C]) return QE_OK;
  *desc = qe_map(desc->dtype, 1, 1, 1, (int32_t)qe_count(desc));
  return QE_OK;
}

static qe_status check_shapes(const qe_network *network, const qe_network_layer *layer) {
  const qe_op_info *info = qe_op_get_info(layer->op);
  qe_desc principal, desc[QE_MAX_OPERANDS];
  qe_attrs attrs = layer->attrs;
  attrs.images = 1;
  if (attrs.population != 0 || attrs.requant.shared != 0)
    return qe_fail(QE_FORMAT, "is made for a population; it must be for one candidate");
  if ((unsigned)layer->output.dtype >= QE_DTYPES) return qe_fail(QE_FORMAT, "its output has no known type");
  QE_TRY(principal_of(network, layer, &principal));
  if (qe_op_shapes(layer->op, &attrs, &principal, desc) != QE_OK) return qe_fail_within(QE_FORMAT, "its shapes");
  for (int i = 0; i < info->operands; i++) {
    qe_kind kind = info->operand[i].kind;
    if (info->operand[i].role == QE_WRITE) QE_TRY(same("output", &layer->output, &desc[i]));
    if (kind == QE_KIND_CODE_WEIGHT) QE_TRY(same("weight", &layer->weight_desc, &desc[i]));
    if (kind == QE_KIND_BRANCH) QE_TRY(same("second branch", &network->layer[layer->input[1]].output, &desc[i]));
  }
  if (layer->output.dim[QE_P] != 1 || layer->output.dim[QE_N] != 1 || qe_count(&layer->output) > INT32_MAX)
    return qe_fail(QE_FORMAT, "its output must be one image of one candidate, of less than 2^31 values");
  return QE_OK;
}

/* ---- values ---- */

static qe_status check_weights(const qe_network_layer *layer) {
  const qe_code_grid *grid = &layer->grid;
  if (!qe_grid_is_sound(grid))
    return qe_fail(QE_FORMAT, "codes %d, %d + %d, ... %d of %d bits are no grid of 8-bit codes", grid->low, grid->low,
                   grid->spacing, grid->high, grid->bits);
  int64_t bad = qe_codes_find_bad(grid, layer->weight, qe_count(&layer->weight_desc));
  if (bad >= 0)
    return qe_fail(QE_FORMAT, "weight %lld is %d, which is not on its grid", (long long)bad, layer->weight[bad]);
  return QE_OK;
}

static qe_status check_values(const qe_network *network, size_t at) {
  const qe_network_layer *layer = &network->layer[at];
  const int32_t *kernel = layer->attrs.window.kernel;
  if (layer->weight) return check_weights(layer);
  if (layer->offset && qe_network_width(network, at) == QE_SUM_OVERFLOWS)
    return qe_fail(QE_FORMAT, "its multipliers and offsets can pass 64 bits");
  if (layer->op == QE_OP_int_sum_pool && (int64_t)kernel[0] * kernel[1] > INT32_MAX >> 8)
    return qe_fail(QE_FORMAT, "a window of %d x %d can pass 32 bits", kernel[0], kernel[1]);
  return QE_OK;
}

qe_status qe_network_check_layer(const qe_network *network, size_t at) {
  const qe_network_layer *layer = &network->layer[at];
  if (!layer->name) return qe_fail(QE_FORMAT, "integer network, layer %zu: it has no name", at);
  qe_status status = check_parts(layer, at);
  if (status == QE_OK) status = check_shapes(network, layer);
  if (status == QE_OK) status = check_values(network, at);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "integer network, layer %zu (%.80s)", at, layer->name);
}

/* What the layer claims must hold what is proven; layers behind are proven from the claim. */
static qe_status check_claims(const qe_network *network, qe_network *proven, size_t at) {
  const qe_network_layer *claim = &network->layer[at];
  qe_network_layer *truth = &proven->layer[at];
  qe_network_prove_layer(proven, at);
  bool codes = claim->output.dtype != QE_S32;
  int32_t least = claim->output.dtype == QE_U8 ? 0 : INT8_MIN,
          most = claim->output.dtype == QE_U8 ? UINT8_MAX : INT8_MAX;
  if (claim->low > truth->low || claim->high < truth->high || (codes && (claim->low < least || claim->high > most)))
    return qe_fail(QE_FORMAT, "integer network, layer %zu (%.80s): its values lie in %d...%d, not in %d...%d", at,
                   claim->name, truth->low, truth->high, claim->low, claim->high);
  if (claim->attrs.requant.narrow && claim->offset && qe_network_width(proven, at) != QE_SUM_NARROW)
    return qe_fail(QE_FORMAT, "integer network, layer %zu (%.80s): its sums do not fit 32 bits: it is not narrow", at,
                   claim->name);
  truth->low = claim->low;
  truth->high = claim->high;
  return QE_OK;
}

static qe_status check_ends(const qe_network *network) {
  if (!network->layer || network->layers < 2 || network->layers > MAX_LAYERS)
    return qe_fail(QE_FORMAT, "integer network: %zu layers; it needs 2 to %d", network->layers, MAX_LAYERS);
  const qe_network_layer *last = &network->layer[network->layers - 1];
  const int32_t *dim = last->output.dim;
  if (last->output.dtype != QE_S32 || dim[QE_H] != 1 || dim[QE_W] != 1 ||
      (last->op != QE_OP_int_requant && last->op != QE_OP_int_requant_add))
    return qe_fail(QE_FORMAT,
                   "integer network: its last layer must be a requantiser that gives s32 logits of one pixel");
  return QE_OK;
}

qe_status qe_network_check(const qe_network *network) {
  QE_TRY(check_ends(network));
  qe_network proven = {.layer = QE_NEW_ARRAY(qe_network_layer, network->layers), .layers = network->layers};
  if (!proven.layer) return QE_NO_MEMORY;
  memcpy(proven.layer, network->layer, network->layers * sizeof *network->layer);
  qe_status status = QE_OK;
  for (size_t i = 0; status == QE_OK && i < network->layers; i++) {
    status = qe_network_check_layer(&proven, i);
    if (status == QE_OK) status = check_claims(network, &proven, i);
  }
  qe_free(proven.layer);
  return status;
}
