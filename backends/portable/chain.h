/* Chains: calls in a row on maps of one shape, run by qk_chain; a single call is a chain of one. */
#ifndef QE_BACKENDS_PORTABLE_CHAIN_H
#define QE_BACKENDS_PORTABLE_CHAIN_H

#include "backends/portable/portable.h"

/* How an op is a step of a chain; operands by their number, -1: none. */
typedef struct portable_step {
  bool known;
  qk_int code; /* QK_STEP_... */
  int a, b, out;
  int vector[QK_VECTORS];
  int gate;                       /* of a quantiser; 0: none */
  int channel_sum[2], scalar_sum; /* operands written once all is summed */
  int var;                        /* the first channel sum is divided by this operand's deviation */
} portable_step;

/* NULL when the call is no step. */
const portable_step *portable_step_of(const qe_call *call);

/* How a map is cut: see kernels_cl/chain.cl. */
typedef struct portable_grid {
  int64_t count, batches;
  int32_t channels, width, rows, tiles, parts;
} portable_grid;

portable_grid portable_grid_of(const portable_limits *limits, const qe_call *call);

/* Channels of a work-group that adds up partial sums. */
int32_t portable_end_width(const portable_limits *limits);

/* What the two launches of a chain need. */
typedef struct portable_chain {
  qk_kernel kernel; /* qk_chain, or one for this list of steps */
  portable_grid grid;
  qk_params_chain params;
  qk_params_chain_end end;
  portable_operand memory[QK_BUFFERS];
  int buffers;
} portable_chain;

/* At most QK_STEPS calls that portable_step_of knows, of one grid, whose operands lie in at most QK_BUFFERS buffers,
 * with sums for channels in at most one of them and for the whole map in at most two (fusion.c checks it). */
void portable_chain_plan(const portable_limits *limits, const qe_call *calls, int count, portable_chain *chain);
QE_CHECKED qe_status portable_chain_run(qe_queue *queue, const portable_chain *chain);

static inline qk_int portable_quant_grid(const qe_quant *quant) {
  return quant->odd ? QK_GRID_ODD : quant->round_up ? QK_GRID_UP : QK_GRID_UNIT;
}

static inline qk_int portable_quant_rule(const qe_quant *quant) {
  return quant->step_grad == QE_STEP_LSQ    ? QK_RULE_LSQ
         : quant->step_grad == QE_STEP_PACT ? QK_RULE_PACT
                                            : QK_RULE_FIXED;
}

/* channel.c: bn_stats, and then bn_running on its results, unless NULL. */
QE_CHECKED qe_status portable_stats_run(qe_queue *queue, const qe_call *stats, const qe_call *running);

/* How many values the calls need on chip at a time, at most. */
int portable_chain_slots(const qe_call *calls, int count);

#endif
