/* Drawing programs. */
#include "tests/parity/script.h"

#include "core/base/alloc.h"

#include <string.h>

/* Runs of ops in which each takes the output of the one before; a fused kernel that none of them meets is reported. */
static const char *const chains[] = {
    "bn_norm clamp",
    "bn_norm clamp quant",
    "bn_norm add clamp",
    "bn_norm add clamp quant",
    "bn_norm quant",
    "bn_stats bn_running bn_norm clamp quant",
    "add clamp",
    "add clamp quant quant",
    "clamp quant",
    "bn_norm quant_gate",
    "bn_norm add quant_gate quant_gate",
    "quant_gate_grad bn_grad_sums bn_grad_x",
    "bias_add clamp",
    "tanh_norm quant",
    "quant_grad clamp_grad",
    "quant_grad clamp_grad bn_grad_sums",
    "quant_grad bn_grad_sums bn_grad_x",
    "accumulate quant_grad clamp_grad bn_grad_sums bn_grad_x",
    "quant_grad accumulate clamp_grad bn_grad_sums bn_grad_x",
    "clamp_grad bn_grad_sums bn_grad_x",
    "bn_grad_sums bn_grad_x",
    "bn_grad_x accumulate",
    "accumulate accumulate",
    "square_sum clip_norm sgd",
    "quant_grad tanh_norm_grad",
    "conv2d bn_stats bn_running bn_norm clamp quant conv2d",
    "conv2d bias_add clamp",
    "quant_grad clamp_grad bn_grad_sums bn_grad_x conv2d_grad_x accumulate",
    "bn_grad_x conv2d_grad_w conv2d_grad_x clamp_grad",
    "linear linear_grad_w linear_grad_x",
};
enum { CHAINS = sizeof chains / sizeof *chains };

static bool takes_part(const qe_op_info *info) {
  return info->shape_class == QE_CLASS_ELEMENT || info->shape_class == QE_CLASS_CHANNEL ||
         info->shape_class == QE_CLASS_QUANT || script_is_layer(info);
}

static bool is_map(qe_kind kind) {
  return kind == QE_KIND_MAP || kind == QE_KIND_RESULT || kind == QE_KIND_POSITIVE || kind == QE_KIND_SHAPE;
}

static bool is_scalar(qe_kind kind) {
  return kind == QE_KIND_SCALAR || kind == QE_KIND_SCALAR_POSITIVE;
}

/* May a value that was made as one kind be used as another? */
static bool fits(qe_kind have, qe_kind need) {
  if (have == need) return true;
  if (need == QE_KIND_SHAPE || need == QE_KIND_MAP || need == QE_KIND_RESULT) return is_map(have);
  if (need == QE_KIND_CHANNEL) return have == QE_KIND_VARIANCE;
  return is_scalar(need) && is_scalar(have); /* what the ops write there are sums of squares */
}

/* A step or a weight that was written is a gradient. */
static bool readable(const script_value *value, qe_kind kind) {
  bool given = kind == QE_KIND_STEP || kind == QE_KIND_WEIGHT;
  return given ? value->input && !value->writes : value->input || value->writes;
}

static bool in_call(const parity_script *of, const script_call *call, int operands, qe_value value) {
  for (int i = 0; i < operands; i++)
    if (script_base(of, call->value[i]) == script_base(of, value)) return true;
  return false;
}

static qe_value add_value(parity_script *to, const qe_desc *desc, qe_kind kind, int operand) {
  script_value *value = &to->value[to->values];
  *value = (script_value){.desc = *desc, .kind = kind, .view_of = -1, .operand = operand, .unread = true};
  snprintf(value->name, sizeof value->name, "v%d", to->values);
  return to->values++;
}

static qe_value add_input(parity_script *to, const script_call *call, const qe_desc *desc, qe_kind kind, int operand) {
  qe_value id = add_value(to, desc, kind, operand);
  script_value *value = &to->value[id];
  value->bound = value->input = true;
  value->filler = (parity_case){.op = call->op,
                                .seed = to->seed ^ ((uint64_t)(to->calls + 1) << 40),
                                .fill = PARITY_FILL_RANDOM,
                                .principal = call->principal,
                                .attrs = call->attrs};
  return id;
}

/* A value of the right shape and kind, the youngest of up to three draws; -1 when there is none. */
static qe_value find_value(parity_draws *draws, const parity_script *from, const qe_desc *desc, qe_kind kind) {
  qe_value found = -1;
  for (int tries = 0; tries < 3 && from->values; tries++) {
    qe_value id = parity_range(draws, 0, from->values - 1);
    for (int i = 0; i < from->values; i++, id = (id + 1) % from->values) {
      const script_value *value = &from->value[id];
      if (!readable(&from->value[script_base(from, id)], kind) || !qe_same_desc(&value->desc, desc) ||
          !fits(value->kind, kind))
        continue;
      if (id > found) found = id;
      break;
    }
  }
  return found;
}

/* May another call write it? Then every version that is read must be known to the check: what the program was given, or
 * the last one. */
static bool can_be_written(const script_value *value) {
  return value->writes ? value->unread : value->input;
}

/* A value to update: one that is there already, or a fresh input. */
static qe_value find_updated(parity_draws *draws, parity_script *from, const script_call *call, const qe_desc *desc,
                             qe_kind kind, int operand) {
  if (parity_chance(draws, 60)) {
    for (qe_value id = from->values - 1; id >= 0; id--) {
      const script_value *value = &from->value[id];
      if (can_be_written(value) && qe_same_desc(&value->desc, desc) && value->kind == kind &&
          !in_call(from, call, operand, id) && parity_chance(draws, 50))
        return id;
    }
  }
  return add_input(from, call, desc, kind, operand);
}

/* The map with all of an image on one axis. */
static qe_desc flat(const parity_script *of) {
  const int32_t *dim = of->map.dim;
  return qe_map(QE_F32, dim[QE_N], 1, 1, dim[QE_H] * dim[QE_W] * dim[QE_C]);
}

/* A new view, in shape `desc`, of `link` or of any map in the other shape; -1 when there is none. */
static qe_value find_view(parity_draws *draws, parity_script *to, const qe_desc *desc, qe_kind kind, qe_value link) {
  qe_desc other = qe_same_desc(desc, &to->map) ? flat(to) : to->map;
  if (qe_count(desc) != qe_count(&to->map)) return -1;
  bool linked = link >= 0 && qe_same_desc(&to->value[link].desc, &other) && fits(to->value[link].kind, kind);
  qe_value of = linked ? link : find_value(draws, to, &other, kind);
  if (of < 0 || qe_same_desc(desc, &other) || !is_map(kind)) return -1;
  qe_value id = add_value(to, desc, to->value[of].kind, 0);
  to->value[id].view_of = script_base(to, of);
  return id;
}

/* In a chain the vector that the call before has just written as the same operand, as bn_running takes what bn_stats
 * gives; -1: none. */
static qe_value written_before(const parity_script *to, const qe_desc *desc, const qe_operand_info *info, int operand) {
  if (!to->chained || to->calls == 0 || info->role != QE_READ || is_map(info->kind)) return -1;
  const script_call *before = &to->call[to->calls - 1];
  const qe_op_info *op = qe_op_get_info(before->op);
  if (operand >= op->operands || op->operand[operand].role != QE_WRITE) return -1;
  const script_value *value = &to->value[before->value[operand]];
  return qe_same_desc(&value->desc, desc) && fits(value->kind, info->kind) ? before->value[operand] : -1;
}

static qe_value choose(parity_draws *draws, parity_script *to, const script_call *call, const qe_desc *desc,
                       int operand, qe_value link) {
  const qe_operand_info *info = &qe_op_get_info(call->op)->operand[operand];
  qe_value written = written_before(to, desc, info, operand);
  if (written >= 0) return written;
  if (info->role == QE_UPDATE) return find_updated(draws, to, call, desc, info->kind, operand);
  if (info->role == QE_WRITE) {
    qe_value old = parity_range(draws, 0, to->values - 1);
    if (to->value[old].input && !to->value[old].writes && qe_same_desc(&to->value[old].desc, desc) &&
        to->value[old].kind == info->kind && !in_call(to, call, operand, old))
      return old; /* overwrites what earlier calls read */
    qe_value id = add_value(to, desc, info->kind, operand);
    to->value[id].bound = parity_chance(draws, 15);
    to->value[id].keep = !to->value[id].bound && parity_chance(draws, 20);
    return id;
  }
  if (link >= 0 && !in_call(to, call, operand, link) && qe_same_desc(&to->value[link].desc, desc) &&
      fits(to->value[link].kind, info->kind))
    return link;
  qe_value found = parity_chance(draws, 20) ? find_view(draws, to, desc, info->kind, link) : -1;
  if (found < 0 && parity_chance(draws, 60)) found = find_value(draws, to, desc, info->kind);
  return found >= 0 ? found : add_input(to, call, desc, info->kind, operand);
}

/* Append a call; its first map read is `link` when that fits. Returns the first map written, or `link`. */
static qe_status append(parity_draws *draws, parity_script *to, qe_op op, qe_value *link) {
  const qe_op_info *info = qe_op_get_info(op);
  if (to->calls == SCRIPT_CALLS) return QE_OK;
  script_call *call = &to->call[to->calls];
  *call = (script_call){.op = op, .principal = to->map};
  bool element = info->shape_class == QE_CLASS_ELEMENT && parity_chance(draws, 15);
  if (element || info->shape_class == QE_CLASS_LINEAR) call->principal = flat(to);
  if (script_is_layer(info) && !script_layer_draw(draws, to, op, call)) return QE_OK;
  if (!script_is_layer(info)) parity_attrs_draw(info->shape_class, draws, &call->principal, &call->attrs);
  qe_desc desc[QE_MAX_OPERANDS];
  QE_TRY(qe_op_shapes(op, &call->attrs, &call->principal, desc));
  qe_value next = *link;
  bool made = false;
  for (int i = 0; i < info->operands; i++) {
    qe_value id = choose(draws, to, call, &desc[i], i, *link);
    call->value[i] = id;
    if (info->operand[i].role != QE_READ && is_map(info->operand[i].kind) && !made) next = id, made = true;
  }
  for (int i = 0; i < info->operands; i++) {
    script_value *value = &to->value[script_base(to, call->value[i])];
    if (info->operand[i].role == QE_READ && info->operand[i].kind != QE_KIND_SHAPE) value->unread = false;
  }
  for (int i = 0; i < info->operands; i++) {
    script_value *value = &to->value[script_base(to, call->value[i])];
    if (info->operand[i].role == QE_READ) continue;
    value->writes++, value->unread = true;
    /* Not to be updated: its bound is a layer's, not that of the op that adds to it. */
    if (script_is_layer(info) && value->kind == QE_KIND_MAP) value->kind = QE_KIND_RESULT;
  }
  *link = next;
  to->calls++;
  return QE_OK;
}

static qe_status append_chain(parity_draws *draws, parity_script *to, const char *chain) {
  char copy[128], *place = NULL;
  snprintf(copy, sizeof copy, "%s", chain);
  qe_value link = -1;
  for (char *name = strtok_r(copy, " ", &place); name; name = strtok_r(NULL, " ", &place)) {
    qe_op op = qe_op_find(name);
    if (op == QE_OPS) return qe_fail(QE_USAGE, "script.c: there is no op %s", name);
    QE_TRY(append(draws, to, op, &link));
    to->chained = true;
  }
  to->chained = false;
  return QE_OK;
}

static qe_status append_any(parity_draws *draws, parity_script *to) {
  qe_op op;
  do op = (qe_op)parity_range(draws, 0, QE_OPS - 1);
  while (!takes_part(qe_op_get_info(op)));
  qe_value link = -1;
  return append(draws, to, op, &link);
}

static void lay_out(parity_script *to) {
  size_t at = 0;
  for (int i = 0; i < to->values; i++) {
    script_value *value = &to->value[i];
    if (!value->bound) continue;
    value->at = (at + PARITY_GUARD + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
    value->end = value->at + qe_bytes(&value->desc);
    at = value->end;
  }
  to->bytes = at + PARITY_GUARD;
}

qe_status script_draw(uint64_t seed, parity_script *drawn) {
  *drawn = (parity_script){.seed = seed};
  parity_draws draws = parity_draws_start(seed, SCRIPT_DRAWS);
  drawn->map = parity_map_draw(&draws, seed, parity_chance(&draws, 15) ? 70000 : 6000);
  /* Statistics of a few rows cancel to nothing, which no bound can judge. */
  int32_t rows = drawn->map.dim[QE_N] * drawn->map.dim[QE_H] * drawn->map.dim[QE_W];
  if (rows < 8) drawn->map.dim[QE_N] = 9;
  script_windows_draw(seed, drawn);
  int calls = parity_range(&draws, 3, SCRIPT_CALLS);
  QE_TRY(append_chain(&draws, drawn, chains[seed % CHAINS])); /* so that programs in a row meet all of them */
  while (drawn->calls < calls)
    QE_TRY(parity_chance(&draws, 60) ? append_chain(&draws, drawn, chains[parity_range(&draws, 0, CHAINS - 1)])
                                     : append_any(&draws, drawn));
  lay_out(drawn);
  return QE_OK;
}
