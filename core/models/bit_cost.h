/* What a network costs by the bits of its places, and budgets of it: one interface for all searches over bits.
 *
 *   QE_TRY(qe_bit_costs_new(map, &costs));
 *   QE_TRY(qe_bit_costs_take_latency(costs, "latency.json", &origin));      (if a budget needs it)
 *   QE_TRY(qe_budgets_read("weight-bits=3,bit-ops=40e6", costs, &budgets));
 *   loss + qe_budgets_penalty(&budgets, costs, bits) */
#ifndef QE_MODELS_BIT_COST_H
#define QE_MODELS_BIT_COST_H

#include "core/models/allocation.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Costs: identifier, name in budgets, unit, what it is. */
#define QE_BIT_COST_LIST(X)                                                                                            \
  X(WEIGHT_BITS, "weight-bits", "bits", "mean over the weights whose bits are open and no edge's")                     \
  X(ACT_BITS, "act-bits", "bits", "mean over the elements of codes whose bits are open and no edge's")                 \
  X(BYTES, "bytes", "bytes", "storage as qe_graph_cost counts it")                                                     \
  X(BIT_OPS, "bit-ops", "bit-operations", "of an image: multiply-adds x weight bits x code bits")                      \
  X(LATENCY, "latency", "us", "of an image, from a table that `qevo-gpu bench latency` measured")                      \
  X(ENERGY, "energy", "nJ", "of an image, from a table of the user's")

typedef enum qe_bit_cost {
#define X(id, name, unit, text) QE_BIT_COST_##id,
  QE_BIT_COST_LIST(X)
#undef X
      QE_BIT_COSTS
} qe_bit_cost;

const char *qe_bit_cost_name(qe_bit_cost cost);
const char *qe_bit_cost_unit(qe_bit_cost cost);
const char *qe_bit_cost_text(qe_bit_cost cost);

typedef struct qe_bit_costs qe_bit_costs;

/* The map must outlive it. */
QE_CHECKED qe_status qe_bit_costs_new(const qe_bit_map *map, qe_bit_costs **costs);
void qe_bit_costs_free(qe_bit_costs *costs); /* NULL is fine */
const qe_bit_map *qe_bit_costs_map(const qe_bit_costs *costs);

/* What a latency table was measured on; texts are compared as they are. NULL: not compared. */
typedef struct qe_cost_origin {
  const char *machine, *backend, *device, *model;
  int32_t height, width, channels;
} qe_cost_origin;

/* A latency table: QE_FORMAT with the file and what is wrong, QE_USAGE where it is of another machine, backend, device
 * or model than `origin` says, or lacks a layer. Bits that were not measured: between their neighbours in a line. */
QE_CHECKED qe_status qe_bit_costs_take_latency(qe_bit_costs *costs, const char *path, const qe_cost_origin *origin);
/* An energy table: lines "LAYER WEIGHT-BITS CODE-BITS NANOJOULES" (of all multiply-adds of the layer, an image), or
 * with
 * "*" for LAYER, "* WEIGHT-BITS CODE-BITS PICOJOULES" of one multiply-add of any layer; # before comments. */
QE_CHECKED qe_status qe_bit_costs_take_energy(qe_bit_costs *costs, const char *path);

/* One cost of bits [places]; NaN: its table has not been taken. */
double qe_bit_cost_of(const qe_bit_costs *costs, qe_bit_cost cost, const int32_t *bits);

/* No bits cost less; fewest [places]: the fewest bits that each place can have. Not what can be reached where more bits
 * can be faster. */
double qe_bit_cost_least(const qe_bit_costs *costs, qe_bit_cost cost, const int32_t *fewest);

/* ---- budgets ---- */

typedef struct qe_budget {
  qe_bit_cost cost;
  double limit; /* > 0 */
  double price; /* of going over: loss for once the limit too much */
} qe_budget;

typedef struct qe_budgets {
  qe_budget budget[QE_BIT_COSTS];
  int32_t count; /* each cost once at most */
} qe_budgets;

enum { QE_BUDGET_PRICE = 5 }; /* default: one percent too much costs 0.05 nats */

/* "COST=LIMIT,…", LIMIT a number, or "wNaM" for the cost of the network with N and M bits in all open places that are
 * no edge's (COST=w3a3). Empty: none. QE_USAGE with what is wrong: unknown names get the nearest; a cost without table
 * is told how to get one; a limit below qe_bit_cost_least cannot be kept. */
QE_CHECKED qe_status qe_budgets_read(const char *text, const qe_bit_costs *costs, qe_budgets *budgets);
/* max over the budgets of cost / limit - 1: 0 or below is within. -1 without budgets. */
double qe_budgets_excess(const qe_budgets *budgets, const qe_bit_costs *costs, const int32_t *bits);
/* Sum of price * max(0, cost / limit - 1). */
double qe_budgets_penalty(const qe_budgets *budgets, const qe_bit_costs *costs, const int32_t *bits);

#ifdef __cplusplus
}
#endif
#endif
