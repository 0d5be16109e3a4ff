/* Planning and launching chains (kernels_cl/chain.cl): how a map is cut, which values stay on chip. */
#include "backends/portable/chain.h"

#include <math.h>
#include <string.h>

enum { NONE = -1, GROUPS_A_UNIT = 8, END_WIDTH = 8 };

int32_t portable_end_width(const portable_limits *limits) {
  return limits->group < END_WIDTH ? limits->group : END_WIDTH;
}

#define NO_SUMS .channel_sum = {NONE, NONE}, .scalar_sum = NONE, .var = NONE
#define STEP(step_code, ...)                                                                                           \
  { .known = true, .code = step_code, __VA_ARGS__ }

static const portable_step table[QE_OPS] = {
    [QE_OP_clamp] = STEP(QK_STEP_CLAMP, .a = 0, .b = NONE, .out = 1, NO_SUMS),
    [QE_OP_clamp_grad] = STEP(QK_STEP_CLAMP_GRAD, .a = 0, .b = 1, .out = 2, NO_SUMS),
    [QE_OP_add] = STEP(QK_STEP_ADD, .a = 0, .b = 1, .out = 2, NO_SUMS),
    [QE_OP_accumulate] = STEP(QK_STEP_ADD, .a = 1, .b = 0, .out = 1, NO_SUMS),
    [QE_OP_bias_add] = STEP(QK_STEP_BIAS_ADD, .a = 0, .b = NONE, .out = 2, .vector = {1}, NO_SUMS),
    [QE_OP_channel_sum] = STEP(QK_STEP_CHANNEL_SUM, .a = 0, .b = NONE, .out = NONE, .channel_sum = {1, NONE},
                               .scalar_sum = NONE, .var = NONE),
    [QE_OP_bn_norm] = STEP(QK_STEP_BN_NORM, .a = 0, .b = NONE, .out = 5, .vector = {1, 2, 3, 4}, NO_SUMS),
    [QE_OP_bn_grad_sums] = STEP(QK_STEP_BN_GRAD_SUMS, .a = 0, .b = 1, .out = NONE, .vector = {2}, .channel_sum = {4, 5},
                                .scalar_sum = NONE, .var = 3),
    [QE_OP_bn_grad_x] = STEP(QK_STEP_BN_GRAD_X, .a = 0, .b = 1, .out = 7, .vector = {2, 3, 4, 5, 6}, NO_SUMS),
    [QE_OP_quant] = STEP(QK_STEP_QUANT, .a = 0, .b = NONE, .out = 2, .vector = {1}, NO_SUMS),
    [QE_OP_quant_grad] = STEP(QK_STEP_QUANT_GRAD, .a = 0, .b = 1, .out = 3, .vector = {2}, .channel_sum = {NONE, NONE},
                              .scalar_sum = 4, .var = NONE),
    [QE_OP_quant_gate] = STEP(QK_STEP_QUANT, .a = 0, .b = NONE, .out = 3, .vector = {1}, .gate = 2, NO_SUMS),
    [QE_OP_quant_gate_grad] = STEP(QK_STEP_QUANT_GRAD, .a = 0, .b = 1, .out = 4, .vector = {2}, .gate = 3,
                                   .channel_sum = {NONE, NONE}, .scalar_sum = 5, .var = NONE),
};

const portable_step *portable_step_of(const qe_call *call) {
  bool steps = qe_op_get_info(call->op)->shape_class == QE_CLASS_QUANT && call->attrs.quant.per_channel;
  return table[call->op].known && !steps ? &table[call->op] : NULL;
}

/* ---- how a map is cut ---- */

static int64_t up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

portable_grid portable_grid_of(const portable_limits *limits, const qe_call *call) {
  const qe_op_info *info = qe_op_get_info(call->op);
  const qe_desc *map = &call->operand[info->principal].desc;
  int32_t group = limits->group;
  portable_grid grid = {.count = qe_count(map), .channels = map->dim[QE_C]};
  if (info->shape_class != QE_CLASS_CHANNEL && grid.count == grid.channels) grid.channels = group; /* a plain vector */
  grid.tiles = (int32_t)up(grid.channels, group);
  grid.width = (int32_t)up(grid.channels, grid.tiles);
  grid.rows = group / grid.width;
  grid.batches = up(grid.count, (int64_t)QK_BATCH * grid.rows * grid.channels);
  int64_t most = up((int64_t)limits->units * GROUPS_A_UNIT, grid.tiles);
  grid.parts = (int32_t)(grid.batches < most ? grid.batches : most);
  return grid;
}

/* ---- which values stay on chip ---- */

/* Time runs from the reads of call c, 2 c, to its write, 2 c + 1. */
typedef struct stay {
  int from, until;
} stay;

typedef struct slot_plan {
  const qe_call *calls;
  int count;
  stay taken[QK_SLOTS][2 * QK_STEPS + QK_STEPS];
  int stays[QK_SLOTS];
} slot_plan;

static bool same_place(const qe_operand *a, const qe_operand *b) {
  return a->buffer == b->buffer && a->offset == b->offset;
}

static const qe_operand *operand_of(const qe_call *call, int i) {
  return i == NONE ? NULL : &call->operand[i];
}

static bool reads(const qe_call *call, const qe_operand *value) {
  const portable_step *step = portable_step_of(call);
  const qe_operand *a = operand_of(call, step->a), *b = operand_of(call, step->b);
  return (a && same_place(a, value)) || (b && same_place(b, value));
}

static bool writes(const qe_call *call, const qe_operand *value) {
  const qe_operand *out = operand_of(call, portable_step_of(call)->out);
  return out && same_place(out, value);
}

/* The last call after `from` that reads what `value` holds there; `from` when none does. */
static int last_read(const qe_call *calls, int count, const qe_operand *value, int from) {
  int last = from;
  for (int c = from + 1; c < count; c++) {
    if (reads(&calls[c], value)) last = c;
    if (writes(&calls[c], value)) break;
  }
  return last;
}

static int take_slot(slot_plan *plan, stay wanted) {
  for (int s = 0; s < QK_SLOTS; s++) {
    bool free = true;
    for (int i = 0; i < plan->stays[s]; i++)
      if (plan->taken[s][i].from <= wanted.until && wanted.from <= plan->taken[s][i].until) free = false;
    if (!free) continue;
    plan->taken[s][plan->stays[s]++] = wanted;
    return s + 1;
  }
  return 0;
}

enum { A_FROM = 0, A_INTO = 4, B_FROM = 8, B_INTO = 12, OUT_INTO = 16 };

/* Later readers of the value take it from the slot. */
static void serve(const slot_plan *plan, qk_step *step, const qe_operand *value, int from, int last, int slot) {
  for (int c = from + 1; c <= last; c++) {
    const qe_operand *a = operand_of(&plan->calls[c], portable_step_of(&plan->calls[c])->a);
    const qe_operand *b = operand_of(&plan->calls[c], portable_step_of(&plan->calls[c])->b);
    if (a && same_place(a, value)) step[c].slots |= slot << A_FROM;
    if (b && same_place(b, value)) step[c].slots |= slot << B_FROM;
  }
}

static void place_results(slot_plan *plan, qk_step *step, bool dead) {
  for (int c = 0; c < plan->count; c++) {
    const qe_operand *out = operand_of(&plan->calls[c], portable_step_of(&plan->calls[c])->out);
    if (!out || out->dead != dead) continue;
    int last = last_read(plan->calls, plan->count, out, c);
    if (last == c) continue;
    int slot = take_slot(plan, (stay){2 * c + 1, 2 * last});
    if (!slot) continue;
    step[c].slots |= slot << OUT_INTO;
    serve(plan, step, out, c, last, slot);
  }
}

/* An input that a later call reads again. */
static void place_input(slot_plan *plan, qk_step *step, int c, int i, int from_shift, int into_shift) {
  const qe_operand *value = operand_of(&plan->calls[c], i);
  if (!value || step[c].slots >> from_shift & 15 || writes(&plan->calls[c], value)) return;
  int last = last_read(plan->calls, plan->count, value, c);
  if (last == c) return;
  int slot = take_slot(plan, (stay){2 * c, 2 * last});
  if (!slot) return;
  step[c].slots |= slot << into_shift;
  const qe_operand *b = operand_of(&plan->calls[c], portable_step_of(&plan->calls[c])->b);
  if (from_shift == A_FROM && b && same_place(b, value)) step[c].slots |= slot << B_FROM; /* a is fetched first */
  serve(plan, step, value, c, last, slot);
}

static void place_values(slot_plan *plan, qk_step *step) {
  place_results(plan, step, true);
  place_results(plan, step, false);
  for (int c = 0; c < plan->count; c++) {
    const portable_step *op = portable_step_of(&plan->calls[c]);
    place_input(plan, step, c, op->a, A_FROM, A_INTO);
    place_input(plan, step, c, op->b, B_FROM, B_INTO);
  }
}

int portable_chain_slots(const qe_call *calls, int count) {
  int most = 0;
  for (int at = 1; at < count; at++) {
    int live = 0;
    for (int c = 0; c < at; c++) {
      const qe_operand *out = operand_of(&calls[c], portable_step_of(&calls[c])->out);
      live += out && last_read(calls, count, out, c) >= at;
    }
    if (live > most) most = live;
  }
  return most;
}

/* ---- parameters ---- */

static qk_long place_of(portable_chain *chain, const qe_operand *operand) {
  int i = 0;
  if (!operand || operand->dead) return NONE;
  while (i < chain->buffers && chain->memory[i].buffer != operand->buffer) i++;
  if (i == chain->buffers) chain->memory[chain->buffers++].buffer = operand->buffer;
  return (qk_long)((uint64_t)i << 56 | operand->offset);
}

static void set_numbers(const qe_call *call, const portable_grid *grid, qk_step *step) {
  const qe_attrs *attrs = &call->attrs;
  step->low = attrs->low;
  step->high = attrs->high;
  step->factor = attrs->epsilon;
  if (call->op == QE_OP_bn_grad_x) step->low = (float)(1 / ((double)grid->count / grid->channels));
  if (qe_op_get_info(call->op)->shape_class != QE_CLASS_QUANT) return;
  step->low = (float)attrs->quant.low;
  step->high = (float)attrs->quant.high;
  step->factor = ldexpf(1, -attrs->quant.step_shift);
  step->grid = portable_quant_grid(&attrs->quant);
  step->rule = portable_quant_rule(&attrs->quant);
}

static void set_sums(portable_chain *chain, const qe_call *call, const portable_step *op, qk_step *step) {
  qk_params_chain_end *end = &chain->end;
  for (int i = 0; i < 2 && op->channel_sum[i] != NONE; i++) {
    end->channel[i] = place_of(chain, operand_of(call, op->channel_sum[i]));
    end->channel_sums++;
  }
  if (op->channel_sum[0] != NONE) {
    end->var = place_of(chain, operand_of(call, op->var));
    end->epsilon = call->attrs.epsilon;
  }
  if (op->scalar_sum == NONE) return;
  step->scalar = chain->params.scalar_sums++;
  end->scalar[step->scalar] = place_of(chain, operand_of(call, op->scalar_sum));
  end->factor[step->scalar] = ldexpf(call->attrs.quant.grad_scale, -call->attrs.quant.step_shift);
}

static void set_step(portable_chain *chain, const qe_call *call, qk_step *step) {
  const portable_step *op = portable_step_of(call);
  step->code = op->code;
  step->a = place_of(chain, operand_of(call, op->a));
  step->b = place_of(chain, operand_of(call, op->b));
  step->out = place_of(chain, operand_of(call, op->out));
  for (int i = 0; i < QK_VECTORS && op->vector[i]; i++)
    step->vector[i] = place_of(chain, operand_of(call, op->vector[i]));
  step->gate = op->gate ? place_of(chain, operand_of(call, op->gate)) : NONE;
  set_numbers(call, &chain->grid, step);
  set_sums(chain, call, op, step);
}

typedef struct special {
  qk_kernel kernel;
  int code_slots[12]; /* code and slots of each step */
} special;

/* The kernel for this list of steps. */
static qk_kernel kernel_for(const qk_params_chain *params) {
  static const special list[] = {
#define SPECIAL(name, ...) {QK_##name, {__VA_ARGS__}},
      QK_CHAINS(SPECIAL)
#undef SPECIAL
  };
  for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
    bool same = true;
    for (int s = 0; s < 6; s++) {
      bool present = s < params->steps;
      int code = present ? params->step[s].code : NONE, slots = present ? params->step[s].slots : 0;
      same = same && list[i].code_slots[2 * s] == code && list[i].code_slots[2 * s + 1] == slots;
    }
    if (same && params->steps <= 6) return list[i].kernel;
  }
  return QK_qk_chain;
}

void portable_chain_plan(const portable_limits *limits, const qe_call *calls, int count, portable_chain *chain) {
  slot_plan plan = {.calls = calls, .count = count};
  memset(chain, 0, sizeof *chain);
  chain->grid = portable_grid_of(limits, calls);
  const portable_grid *grid = &chain->grid;
  qk_params_chain *params = &chain->params;
  for (int c = 0; c < count; c++) set_step(chain, &calls[c], &params->step[c]);
  place_values(&plan, params->step);
  params->count = grid->count;
  params->batches = grid->batches;
  params->steps = count;
  params->channels = grid->channels;
  params->width = grid->width;
  params->rows = grid->rows;
  params->tiles = grid->tiles;
  params->parts = grid->parts;
  params->channel_sums = chain->end.channel_sums;
  params->half_up = QE_HALF_UP;
  chain->kernel = kernel_for(params);
  qk_params_chain_end *end = &chain->end;
  end->channels = grid->channels;
  end->width = portable_end_width(limits);
  end->parts = grid->parts;
  end->groups = grid->parts * grid->tiles;
  end->channel_groups = end->channel_sums ? (qk_int)up(grid->channels, end->width) : 0;
  for (int i = chain->buffers; i < QK_BUFFERS; i++) chain->memory[i] = chain->memory[0];
}

/* ---- launches ---- */

static portable_launch launch_of(const portable_chain *chain, qk_kernel kernel, qe_buffer *scratch, size_t groups,
                                 int32_t group) {
  portable_launch launch = {.kernel = kernel, .operands = QK_BUFFERS + 1, .groups = {groups, 1, 1}};
  memcpy(launch.operand, chain->memory, sizeof chain->memory);
  launch.operand[QK_BUFFERS].buffer = scratch ? scratch : chain->memory[0].buffer;
  launch.local[0] = (size_t)group;
  launch.local[1] = launch.local[2] = 1;
  return launch;
}

qe_status portable_chain_run(qe_queue *queue, const portable_chain *chain) {
  const qk_params_chain_end *end = &chain->end;
  int32_t group = portable_device_of(queue)->limits.group;
  size_t groups = (size_t)end->groups, scalars = (size_t)chain->params.scalar_sums;
  size_t sums = (size_t)end->parts * (size_t)end->channel_sums * (size_t)end->channels + scalars * groups;
  qe_buffer *scratch = NULL;
  if (sums) QE_TRY(portable_scratch(queue, sums * 2 * sizeof(float), &scratch));
  portable_launch launch = launch_of(chain, chain->kernel, scratch, groups, group);
  launch.params = &chain->params;
  launch.params_bytes = sizeof chain->params;
  QE_TRY(portable_run(queue, &launch));
  if (!sums) return QE_OK;
  launch = launch_of(chain, QK_qk_chain_end, scratch, (size_t)end->channel_groups + scalars, group);
  launch.params = end;
  launch.params_bytes = sizeof *end;
  return portable_run(queue, &launch);
}

qe_status portable_chain_single(qe_queue *queue, const qe_call *call) {
  portable_chain chain;
  portable_chain_plan(&portable_device_of(queue)->limits, call, 1, &chain);
  return portable_chain_run(queue, &chain);
}
