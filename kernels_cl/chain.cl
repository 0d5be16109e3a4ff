/* Chains of element-wise ops on maps, with sums over pixels or over the whole map at their end; contracts in
 * cpu_ref/{element,norm,quant}.c. One kernel interprets a short list of steps, the same for all work-items: what passes
 * between two steps stays on chip, so that a chain moves only what comes in and goes out.
 *
 * A map is seen as [rows, channels]. Work-items of a group stand in p.rows rows of p.width channels; each keeps its
 * channel and takes QK_BATCH elements at a time through all steps, so that loads overlap and a step is decoded once a
 * batch. Which work-item adds what depends on the map's shape and the device alone: a single op gives the bits that it
 * gives within a chain. */

/* The statement for each element k of a batch, unrolled by hand: drivers that do not unroll loops early would keep the
 * batch's arrays in memory. */
#define CHAIN_AT(number, ...) \
  {                           \
    const int k = number;     \
    __VA_ARGS__               \
  }
#define CHAIN_EACH(...)      \
  {                           \
    CHAIN_AT(0, __VA_ARGS__)  \
    CHAIN_AT(1, __VA_ARGS__)  \
    CHAIN_AT(2, __VA_ARGS__)  \
    CHAIN_AT(3, __VA_ARGS__)  \
  }

/* What the steps of a work-item share. */
typedef struct qk_lane {
  ulong at, stride; /* of the batch's first element; between its elements */
  int valid;        /* elements of the batch that exist */
  uint column;
  qk_sum scalar0, scalar1, channel0, channel1;
} qk_lane;

/* Values kept between steps, in registers: an array's index would have to be known when the kernel is built. */
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

DEVICE void chain_bn_norm(qk_memory memory, const qk_lane *lane, const qk_step *step, const float *x, float *y) {
  float mean = chain_vector(memory, lane, step->vector[0]), beta = chain_vector(memory, lane, step->vector[3]);
  float scale = qk_inverse_deviation(chain_vector(memory, lane, step->vector[1]), step->factor) *
                chain_vector(memory, lane, step->vector[2]);
  CHAIN_EACH(y[k] = (x[k] - mean) * scale + beta;)
}

DEVICE void chain_bn_grad_x(qk_memory memory, const qk_lane *lane, const qk_step *step, const float *dy, const float *x,
                      float *dx) {
  float mean = chain_vector(memory, lane, step->vector[0]), inverse_rows = step->low;
  float inverse = qk_inverse_deviation(chain_vector(memory, lane, step->vector[1]), step->factor);
  float scale = inverse * chain_vector(memory, lane, step->vector[2]);
  float slope = chain_vector(memory, lane, step->vector[3]) * inverse * inverse_rows;
  float shift = chain_vector(memory, lane, step->vector[4]) * inverse_rows;
  CHAIN_EACH(dx[k] = scale * ((dy[k] - shift) - (x[k] - mean) * slope);)
}

DEVICE void chain_bn_grad_sums(qk_memory memory, qk_lane *lane, const qk_step *step, const float *dy, const float *x) {
  float mean = chain_vector(memory, lane, step->vector[0]);
  CHAIN_EACH(if (k < lane->valid) {
    lane->channel0 = qk_sum_add(lane->channel0, dy[k] * (x[k] - mean));
    lane->channel1 = qk_sum_add(lane->channel1, dy[k]);
  })
}

DEVICE void chain_quant(qk_memory memory, const qk_step *step, float half_up, const float *x, float *y) {
  float size = qk_floats_at(memory, step->vector[0])[0] * step->factor;
  CHAIN_EACH(y[k] = size * qk_quant_code(step->grid, qk_divide(x[k], size), step->low, step->high, half_up);)
}

DEVICE void chain_quant_grad(qk_memory memory, qk_lane *lane, const qk_step *step, float half_up, const float *dy,
                       const float *x, float *dx) {
  float size = qk_floats_at(memory, step->vector[0])[0] * step->factor;
  qk_sum sum = step->scalar ? lane->scalar1 : lane->scalar0;
  CHAIN_EACH(
    float v = qk_divide(x[k], size);
    if (k < lane->valid)
      sum = qk_sum_add(sum, dy[k] * qk_step_slope(step->rule, step->grid, v, step->low, step->high, half_up));
    dx[k] = v > step->low && v < step->high ? dy[k] : 0.0f;
  )
  if (step->scalar)
    lane->scalar1 = sum;
  else
    lane->scalar0 = sum;
}

DEVICE void chain_step(qk_memory memory, qk_slots *slots, qk_lane *lane, const qk_step *step, float half_up) {
  float a[QK_BATCH], b[QK_BATCH], y[QK_BATCH];
  uint slot = (uint)step->slots;
  chain_fetch(memory, slots, lane, step->a, slot & 15, slot >> 4 & 15, a);
  chain_fetch(memory, slots, lane, step->b, slot >> 8 & 15, slot >> 12 & 15, b);
  CHAIN_EACH(y[k] = 0.0f;)
  switch (step->code) {
  case QK_STEP_CLAMP:
    CHAIN_EACH(y[k] = a[k] < step->low ? step->low : a[k] > step->high ? step->high : a[k];)
    break;
  case QK_STEP_CLAMP_GRAD:
    CHAIN_EACH(y[k] = b[k] > step->low && b[k] < step->high ? a[k] : 0.0f;)
    break;
  case QK_STEP_ADD:
    CHAIN_EACH(y[k] = a[k] + b[k];)
    break;
  case QK_STEP_BIAS_ADD: {
    float bias = chain_vector(memory, lane, step->vector[0]);
    CHAIN_EACH(y[k] = a[k] + bias;)
    break;
  }
  case QK_STEP_CHANNEL_SUM:
    CHAIN_EACH(if (k < lane->valid) lane->channel0 = qk_sum_add(lane->channel0, a[k]);)
    break;
  case QK_STEP_BN_NORM:
    chain_bn_norm(memory, lane, step, a, y);
    break;
  case QK_STEP_BN_GRAD_SUMS:
    chain_bn_grad_sums(memory, lane, step, a, b);
    break;
  case QK_STEP_BN_GRAD_X:
    chain_bn_grad_x(memory, lane, step, a, b, y);
    break;
  case QK_STEP_QUANT:
    chain_quant(memory, step, half_up, a, y);
    break;
  default: /* QK_STEP_QUANT_GRAD */
    chain_quant_grad(memory, lane, step, half_up, a, b, y);
  }
  chain_put(memory, slots, lane, step->out, slot >> 16 & 15, y);
}

/* Sum `which`: those of channels first. */
DEVICE qk_sum chain_sum(const qk_lane *lane, int which, int channel_sums) {
  if (which < channel_sums) return which ? lane->channel1 : lane->channel0;
  return which > channel_sums ? lane->scalar1 : lane->scalar0;
}

/* Partial sums in the scratch memory: channel sums [part][sum][half][channel], half 0: high, 1: low; behind them the sums
 * over all channels [scalar][group][half]. */
KERNEL(qk_chain)(BUFFER(m0), BUFFER(m1), BUFFER(m2), BUFFER(m3), BUFFER(m4), BUFFER(m5), BUFFER(scratch),
                 const qk_params_chain p) {
  LOCAL_ARRAY(float, high, QK_GROUP);
  LOCAL_ARRAY(float, low, QK_GROUP);
  OPERAND(float, scratch);
  qk_memory memory;
  memory.buffer0 = m0_memory + m0_at, memory.buffer1 = m1_memory + m1_at, memory.buffer2 = m2_memory + m2_at;
  memory.buffer3 = m3_memory + m3_at, memory.buffer4 = m4_memory + m4_at, memory.buffer5 = m5_memory + m5_at;
  uint width = (uint)p.width, part = group_id(0) / (uint)p.tiles, row = local_id(0) / width;
  ulong channels = (ulong)p.channels;
  qk_slots slots;
  CHAIN_EACH(slots.slot1[k] = slots.slot2[k] = slots.slot3[k] = slots.slot4[k] = 0.0f;)
  qk_lane lane;
  lane.column = group_id(0) % (uint)p.tiles * width + local_id(0) % width;
  lane.stride = (ulong)p.rows * channels;
  lane.scalar0 = lane.scalar1 = lane.channel0 = lane.channel1 = qk_sum_of(0.0f, 0.0f);
  bool active = row < (uint)p.rows && lane.column < (uint)p.channels;
  uint lane_column = lane.column;
  if (!active) lane.column = 0;
  for (ulong batch = part; batch < (ulong)p.batches; batch += (uint)p.parts) {
    lane.at = batch * QK_BATCH * lane.stride + row * channels + lane.column;
    lane.valid = 0;
    if (active) CHAIN_EACH(if (lane.at + k * lane.stride < (ulong)p.count) lane.valid = k + 1;)
    for (int s = 0; s < p.steps; s++) chain_step(memory, &slots, &lane, &p.step[s], p.half_up);
  }
  for (int which = 0; which < p.channel_sums + p.scalar_sums; which++) {
    bool channel = which < p.channel_sums;
    uint columns = channel ? width : 1;
    qk_sum sum = qk_sum_columns(high, low, chain_sum(&lane, which, p.channel_sums), columns,
                                channel ? (uint)p.rows : QK_GROUP);
    ulong at = channel ? ((ulong)part * 2 * (uint)p.channel_sums + 2 * (uint)which) * channels + lane_column
                       : (ulong)p.parts * 2 * (uint)p.channel_sums * channels +
                             2 * ((ulong)(which - p.channel_sums) * group_count(0) + group_id(0));
    if (local_id(0) < columns && (!channel || active)) {
      scratch[at] = sum.high;
      scratch[at + (channel ? channels : 1)] = sum.low;
    }
  }
}

/* Totals of the partial sums that qk_chain left: groups over the channels, p.width each, then one for each scalar. */
KERNEL(qk_chain_end)(BUFFER(m0), BUFFER(m1), BUFFER(m2), BUFFER(m3), BUFFER(m4), BUFFER(m5), BUFFER(scratch),
                     const qk_params_chain_end p) {
  LOCAL_ARRAY(float, high, QK_GROUP);
  LOCAL_ARRAY(float, low, QK_GROUP);
  OPERAND(const float, scratch);
  qk_memory memory;
  memory.buffer0 = m0_memory + m0_at, memory.buffer1 = m1_memory + m1_at, memory.buffer2 = m2_memory + m2_at;
  memory.buffer3 = m3_memory + m3_at, memory.buffer4 = m4_memory + m4_at, memory.buffer5 = m5_memory + m5_at;
  bool channel = group_id(0) < (uint)p.channel_groups;
  uint scalar = channel ? 0 : group_id(0) - (uint)p.channel_groups, width = channel ? (uint)p.width : 1;
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

#undef CHAIN_EACH
#undef CHAIN_AT
