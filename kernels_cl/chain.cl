/* Chains of element-wise ops on maps, with sums over pixels or over the whole map at their end; contracts in
 * cpu_ref/{element,norm,quant}.c. One kernel interprets a short list of steps, the same for all work-items: what passes
 * between two steps stays on chip, so that a chain moves only what comes in and goes out.
 *
 * A map is seen as [rows, channels]. Work-items of a group stand in p.rows rows of p.width channels; each keeps its
 * channel and takes QK_BATCH elements at a time through all steps, so that loads overlap and a step is decoded once a
 * batch. Which work-item adds what depends on the map's shape and the device alone: a single op gives the bits that it
 * gives within a chain. */
#include "kernels_cl/float_ops.h"

/* The statement for each element k of a batch, unrolled by hand: drivers that do not unroll loops early would keep the
 * batch's arrays in memory. */
#define CHAIN_AT(number, statement)                                                                                    \
  {                                                                                                                    \
    const int k = number;                                                                                              \
    statement                                                                                                          \
  }
#define CHAIN_EACH(statement)                                                                                          \
  {                                                                                                                    \
    CHAIN_AT(0, statement)                                                                                             \
    CHAIN_AT(1, statement)                                                                                             \
    CHAIN_AT(2, statement)                                                                                             \
    CHAIN_AT(3, statement)                                                                                             \
  }

/* What the steps of a work-item share. */
typedef struct qk_lane {
  ulong at, stride; /* of the batch's first element; between its elements */
  int valid;        /* elements of the batch that exist */
  uint column;
  qk_sum scalar0, scalar1, channel0, channel1;
} qk_lane;

/* Values kept between steps (QK_SLOTS), each under its own name so that they stay in registers. */
typedef struct qk_slots {
  float slot1[QK_BATCH], slot2[QK_BATCH], slot3[QK_BATCH], slot4[QK_BATCH];
} qk_slots;

DEVICE void chain_keep(qk_slots *slots, uint slot, const float *value) {
  if (slot == 1) CHAIN_EACH(slots->slot1[k] = value[k];)
  if (slot == 2) CHAIN_EACH(slots->slot2[k] = value[k];)
  if (slot == 3) CHAIN_EACH(slots->slot3[k] = value[k];)
  if (slot == 4) CHAIN_EACH(slots->slot4[k] = value[k];)
}

DEVICE void chain_recall(const qk_slots *slots, uint slot, float *value) {
  if (slot == 1) CHAIN_EACH(value[k] = slots->slot1[k];)
  if (slot == 2) CHAIN_EACH(value[k] = slots->slot2[k];)
  if (slot == 3) CHAIN_EACH(value[k] = slots->slot3[k];)
  if (slot == 4) CHAIN_EACH(value[k] = slots->slot4[k];)
}

/* An operand's values: from slot `from`, or else from memory; then into slot `into`. Slot 0: none. */
DEVICE void chain_fetch(qk_memory memory, qk_slots *slots, const qk_lane *lane, qk_long place, uint from, uint into,
                        float *value) {
  CHAIN_EACH(value[k] = 0.0f;)
  chain_recall(slots, from, value);
  if (from == 0 && place >= 0) {
    GLOBAL const float *at = qk_floats_at(memory, place) + lane->at;
    CHAIN_EACH(if (k < lane->valid) value[k] = at[k * lane->stride];)
  }
  chain_keep(slots, into, value);
}

DEVICE void chain_put(qk_memory memory, qk_slots *slots, const qk_lane *lane, qk_long place, uint into,
                      const float *value) {
  chain_keep(slots, into, value);
  if (place >= 0) {
    GLOBAL float *at = qk_floats_at(memory, place) + lane->at;
    CHAIN_EACH(if (k < lane->valid) at[k * lane->stride] = value[k];)
  }
}

DEVICE float chain_vector(qk_memory memory, const qk_lane *lane, qk_long place) {
  return qk_floats_at(memory, place)[lane->column];
}

/* What a step computes from its vectors and scalars, for the work-item's channel. */
typedef struct qk_factors {
  float mean, scale, shift, slope; /* quantisers: scale is the effective step */
  bool open;                       /* a quantiser whose gate is 0 */
} qk_factors;

DEVICE qk_factors chain_factors(qk_memory memory, const qk_lane *lane, const qk_step *step, int code) {
  qk_factors factors;
  factors.mean = factors.scale = factors.shift = factors.slope = 0.0f;
  factors.open = false;
  if (code == QK_STEP_BIAS_ADD) factors.shift = chain_vector(memory, lane, step->vector[0]);
  if (code == QK_STEP_QUANT || code == QK_STEP_QUANT_GRAD) {
    factors.scale = qk_floats_at(memory, step->vector[0])[0] * step->factor;
    if (step->gate >= 0) factors.open = ((GLOBAL const int *)qk_floats_at(memory, step->gate))[0] == 0;
  }
  if (code == QK_STEP_BN_NORM || code == QK_STEP_BN_GRAD_SUMS || code == QK_STEP_BN_GRAD_X)
    factors.mean = chain_vector(memory, lane, step->vector[0]);
  if (code == QK_STEP_BN_NORM || code == QK_STEP_BN_GRAD_X) {
    float inverse = qk_inverse_deviation(chain_vector(memory, lane, step->vector[1]), step->factor);
    factors.scale = inverse * chain_vector(memory, lane, step->vector[2]);
    factors.shift = chain_vector(memory, lane, step->vector[3]);
    if (code == QK_STEP_BN_GRAD_X) {
      factors.slope = factors.shift * inverse * step->low;
      factors.shift = chain_vector(memory, lane, step->vector[4]) * step->low;
    }
  }
  return factors;
}

DEVICE void chain_bn_grad_sums(qk_lane *lane, qk_factors factors, const float *dy, const float *x) {
  CHAIN_EACH(if (k < lane->valid) {
    lane->channel0 = qk_sum_add(lane->channel0, dy[k] * (x[k] - factors.mean));
    lane->channel1 = qk_sum_add(lane->channel1, dy[k]);
  })
}

DEVICE void chain_quant_grad(qk_lane *lane, const qk_step *step, qk_factors factors, float half_up, const float *dy,
                             const float *x, float *dx) {
  if (factors.open) {
    CHAIN_EACH(dx[k] = qk_open_grad(step->low, x[k], dy[k]);)
    return;
  }
  qk_sum sum = step->scalar ? lane->scalar1 : lane->scalar0;
  CHAIN_EACH(float v = qk_divide(x[k], factors.scale);
             float slope = qk_step_slope(step->rule, step->grid, v, step->low, step->high, half_up);
             if (k < lane->valid) sum = qk_sum_add(sum, dy[k] * slope);
             dx[k] = v > step->low && v < step->high ? dy[k] : 0.0f;)
  if (step->scalar)
    lane->scalar1 = sum;
  else
    lane->scalar0 = sum;
}

DEVICE bool chain_reads_b(int code) {
  return code == QK_STEP_CLAMP_GRAD || code == QK_STEP_ADD || code == QK_STEP_BN_GRAD_SUMS ||
         code == QK_STEP_BN_GRAD_X || code == QK_STEP_QUANT_GRAD;
}

/* One step on a batch; `code` and `slot` are those of the step, known when the kernel is built where it is special. */
DEVICE void chain_step(qk_memory memory, qk_slots *slots, qk_lane *lane, const qk_step *step, int code, uint slot,
                       qk_factors factors, float half_up) {
  float a[QK_BATCH], b[QK_BATCH], y[QK_BATCH];
  CHAIN_EACH(b[k] = y[k] = 0.0f;)
  chain_fetch(memory, slots, lane, step->a, slot & 15, slot >> 4 & 15, a);
  if (chain_reads_b(code)) chain_fetch(memory, slots, lane, step->b, slot >> 8 & 15, slot >> 12 & 15, b);
  switch (code) {
  case QK_STEP_CLAMP:
    CHAIN_EACH(y[k] = a[k] < step->low ? step->low : a[k] > step->high ? step->high : a[k];)
    break;
  case QK_STEP_CLAMP_GRAD:
    CHAIN_EACH(y[k] = b[k] > step->low && b[k] < step->high ? a[k] : 0.0f;)
    break;
  case QK_STEP_ADD:
    CHAIN_EACH(y[k] = a[k] + b[k];)
    break;
  case QK_STEP_BIAS_ADD:
    CHAIN_EACH(y[k] = a[k] + factors.shift;)
    break;
  case QK_STEP_CHANNEL_SUM:
    CHAIN_EACH(if (k < lane->valid) lane->channel0 = qk_sum_add(lane->channel0, a[k]);)
    break;
  case QK_STEP_BN_NORM:
    CHAIN_EACH(y[k] = (a[k] - factors.mean) * factors.scale + factors.shift;)
    break;
  case QK_STEP_BN_GRAD_SUMS:
    chain_bn_grad_sums(lane, factors, a, b);
    break;
  case QK_STEP_BN_GRAD_X:
    CHAIN_EACH(y[k] = factors.scale * ((a[k] - factors.shift) - (b[k] - factors.mean) * factors.slope);)
    break;
  case QK_STEP_QUANT:
    if (factors.open) {
      CHAIN_EACH(y[k] = qk_open_value(step->low, a[k]);)
      break;
    }
    CHAIN_EACH(float v = qk_divide(a[k], factors.scale);
               y[k] = factors.scale * qk_quant_code(step->grid, v, step->low, step->high, half_up);)
    break;
  default: /* QK_STEP_QUANT_GRAD */
    chain_quant_grad(lane, step, factors, half_up, a, b, y);
  }
  if (code != QK_STEP_CHANNEL_SUM && code != QK_STEP_BN_GRAD_SUMS)
    chain_put(memory, slots, lane, step->out, slot >> 16 & 15, y);
}

/* Sum `which`: those of channels first. */
DEVICE qk_sum chain_sum(const qk_lane *lane, int which, int channel_sums) {
  if (which < channel_sums) return which ? lane->channel1 : lane->channel0;
  return which > channel_sums ? lane->scalar1 : lane->scalar0;
}

/* Partial sums in the scratch memory: channel sums [part][sum][half][channel], half 0: high, 1: low; behind them the
 * sums over all channels [scalar][group][half]. Every work-item calls it. */
DEVICE void chain_store_sums(LOCAL float *high, LOCAL float *low, GLOBAL float *scratch, const qk_params_chain *p,
                             const qk_lane *lane, uint part, bool active) {
  ulong channels = (ulong)p->channels;
  for (int which = 0; which < p->channel_sums + p->scalar_sums; which++) {
    bool channel = which < p->channel_sums;
    uint columns = channel ? (uint)p->width : 1;
    qk_sum sum =
        qk_sum_columns(high, low, chain_sum(lane, which, p->channel_sums), columns, channel ? (uint)p->rows : QK_GROUP);
    ulong at = channel ? ((ulong)part * 2 * (uint)p->channel_sums + 2 * (uint)which) * channels + lane->column
                       : (ulong)p->parts * 2 * (uint)p->channel_sums * channels +
                             2 * ((ulong)(which - p->channel_sums) * group_count(0) + group_id(0));
    if (local_id(0) < columns && (!channel || active)) {
      scratch[at] = sum.high;
      scratch[at + (channel ? channels : 1)] = sum.low;
    }
  }
}

/* The kernel `name` for the list of steps that is known when it is built, by their codes and slots, -1: no step; with
 * QK_STEP_ANY in front for every list, from the parameters. Both compute the same. */
#define CHAIN_FACTORS(s)                                                                                               \
  if (code##s >= 0) factors##s = chain_factors(memory, &lane, &p.step[s], code##s);
#define CHAIN_STEP(s)                                                                                                  \
  if (code##s >= 0) chain_step(memory, &slots, &lane, &p.step[s], code##s, slot##s, factors##s, p.half_up);
#define CHAIN_KERNEL(name, c0, s0, c1, s1, c2, s2, c3, s3, c4, s4, c5, s5)                                             \
  KERNEL(name)                                                                                                         \
  (BUFFER(m0), BUFFER(m1), BUFFER(m2), BUFFER(m3), BUFFER(m4), BUFFER(m5), BUFFER(scratch), const qk_params_chain p) { \
    LOCAL_ARRAY(float, high, QK_GROUP);                                                                                \
    LOCAL_ARRAY(float, low, QK_GROUP);                                                                                 \
    OPERAND(float, scratch);                                                                                           \
    const int code0 = c0, code1 = c1, code2 = c2, code3 = c3, code4 = c4, code5 = c5;                                  \
    const uint slot0 = s0, slot1 = s1, slot2 = s2, slot3 = s3, slot4 = s4, slot5 = s5;                                 \
    qk_memory memory;                                                                                                  \
    memory.buffer0 = m0_memory + m0_at, memory.buffer1 = m1_memory + m1_at, memory.buffer2 = m2_memory + m2_at;        \
    memory.buffer3 = m3_memory + m3_at, memory.buffer4 = m4_memory + m4_at, memory.buffer5 = m5_memory + m5_at;        \
    uint part = group_id(0) / (uint)p.tiles, row = local_id(0) / (uint)p.width;                                        \
    qk_slots slots;                                                                                                    \
    CHAIN_EACH(slots.slot1[k] = slots.slot2[k] = slots.slot3[k] = slots.slot4[k] = 0.0f;)                              \
    qk_lane lane;                                                                                                      \
    lane.column = group_id(0) % (uint)p.tiles * (uint)p.width + local_id(0) % (uint)p.width;                           \
    lane.stride = (ulong)p.rows * (ulong)p.channels;                                                                   \
    lane.scalar0 = lane.scalar1 = lane.channel0 = lane.channel1 = qk_sum_of(0.0f, 0.0f);                               \
    bool active = row < (uint)p.rows && lane.column < (uint)p.channels;                                                \
    if (!active) lane.column = 0;                                                                                      \
    qk_factors factors0, factors1, factors2, factors3, factors4, factors5;                                             \
    CHAIN_FACTORS(0)                                                                                                   \
    CHAIN_FACTORS(1)                                                                                                   \
    CHAIN_FACTORS(2)                                                                                                   \
    CHAIN_FACTORS(3)                                                                                                   \
    CHAIN_FACTORS(4)                                                                                                   \
    CHAIN_FACTORS(5)                                                                                                   \
    for (ulong batch = part; batch < (ulong)p.batches; batch += (uint)p.parts) {                                       \
      lane.at = batch * QK_BATCH * lane.stride + row * (ulong)p.channels + lane.column;                                \
      lane.valid = 0;                                                                                                  \
      if (active) CHAIN_EACH(if (lane.at + k * lane.stride < (ulong)p.count) lane.valid = k + 1;)                      \
      CHAIN_STEP(0)                                                                                                    \
      CHAIN_STEP(1)                                                                                                    \
      CHAIN_STEP(2)                                                                                                    \
      CHAIN_STEP(3)                                                                                                    \
      CHAIN_STEP(4)                                                                                                    \
      CHAIN_STEP(5)                                                                                                    \
      for (int s = 0; code0 == QK_STEP_ANY && s < p.steps; s++) {                                                      \
        factors0 = chain_factors(memory, &lane, &p.step[s], p.step[s].code);                                           \
        chain_step(memory, &slots, &lane, &p.step[s], p.step[s].code, (uint)p.step[s].slots, factors0, p.half_up);     \
      }                                                                                                                \
    }                                                                                                                  \
    chain_store_sums(high, low, scratch, &p, &lane, part, active);                                                     \
  }

CHAIN_KERNEL(qk_chain, QK_STEP_ANY, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0)
QK_CHAINS(CHAIN_KERNEL)

/* Totals of the partial sums that qk_chain left: groups over the channels, p.width each, then one for each scalar. */
KERNEL(qk_chain_end)
(BUFFER(m0), BUFFER(m1), BUFFER(m2), BUFFER(m3), BUFFER(m4), BUFFER(m5), BUFFER(scratch), const qk_params_chain_end p) {
  LOCAL_ARRAY(float, high, QK_GROUP);
  LOCAL_ARRAY(float, low, QK_GROUP);
  OPERAND(const float, scratch);
  qk_memory memory;
  memory.buffer0 = m0_memory + m0_at, memory.buffer1 = m1_memory + m1_at, memory.buffer2 = m2_memory + m2_at;
  memory.buffer3 = m3_memory + m3_at, memory.buffer4 = m4_memory + m4_at, memory.buffer5 = m5_memory + m5_at;
  bool channel = group_id(0) < (uint)p.channel_groups;
  uint scalar = group_id(0) - (uint)p.channel_groups, width = channel ? (uint)p.width : 1;
  uint column = channel ? group_id(0) * width + local_id(0) % width : 0, row = local_id(0) / width;
  ulong channels = (ulong)p.channels, between = channel ? 2 * (uint)p.channel_sums * channels : 2;
  ulong parts = (uint)(channel ? p.parts : p.groups), lag = channel ? channels : 1;
  ulong start = channel ? column : (ulong)p.parts * 2 * (uint)p.channel_sums * channels + 2 * (ulong)scalar * parts;
  for (int which = 0; which < (channel ? p.channel_sums : 1); which++) {
    qk_sum sum = qk_sum_of(0.0f, 0.0f);
    for (ulong part = row; column < channels && part < parts; part += QK_GROUP / width) {
      GLOBAL const float *from = scratch + start + part * between + 2 * (uint)which * channels;
      sum = qk_sum_merge(sum, qk_sum_of(from[0], from[lag]));
    }
    float value = qk_sum_value(qk_sum_columns(high, low, sum, width, QK_GROUP / width));
    if (row == 0 && column < channels) {
      if (channel && which == 0 && p.var >= 0)
        value *= qk_inverse_deviation(qk_floats_at(memory, p.var)[column], p.epsilon);
      qk_long to = channel ? p.channel[which] : p.scalar[scalar];
      qk_floats_at(memory, to)[column] = channel ? value : p.factor[scalar] * value;
    }
  }
}

#undef CHAIN_KERNEL
#undef CHAIN_STEP
#undef CHAIN_FACTORS
#undef CHAIN_EACH
#undef CHAIN_AT
