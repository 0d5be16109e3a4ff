/* Budgets of costs: read from text, and what going over them is worth. */
#include "core/base/alloc.h"
#include "core/base/nearest.h"
#include "core/models/bit_cost.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qe_status find_cost(const char *name, qe_bit_cost *cost) {
  char list[256] = "", hint[QE_NEAREST_TEXT];
  qe_nearest nearest = {.word = name};
  for (int32_t i = 0; i < QE_BIT_COSTS; i++) {
    const char *known = qe_bit_cost_name((qe_bit_cost)i);
    *cost = (qe_bit_cost)i;
    if (strcmp(name, known) == 0) return QE_OK;
    qe_nearest_offer(&nearest, known);
    snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", known);
  }
  return qe_fail(QE_USAGE, "budget: no cost is called '%s'; there are %s%s", name, list,
                 qe_nearest_hint(&nearest, "", hint));
}

/* Bits for all open places that are no edge's; 0: the fewest that open places have, edges too. */
static qe_status uniform(const qe_bit_map *map, int32_t weights, int32_t codes, int32_t **out) {
  int32_t *bits = QE_NEW_ARRAY(int32_t, map->places + 1);
  if (!bits) return QE_NO_MEMORY;
  qe_bit_map_default(map, bits);
  for (int32_t p = 0; p < map->places; p++) {
    const qe_bit_place *place = &map->place[p];
    int32_t wanted = place->letter == 'w' ? weights : codes;
    if (!place->open || (wanted && place->edge)) continue;
    bits[p] = wanted > place->least ? wanted : place->least;
  }
  *out = bits;
  return QE_OK;
}

static qe_status cost_at(const qe_bit_costs *costs, qe_bit_cost cost, int32_t weights, int32_t codes, double *value) {
  int32_t *bits = NULL;
  QE_TRY(uniform(qe_bit_costs_map(costs), weights, codes, &bits));
  *value = qe_bit_cost_of(costs, cost, bits);
  qe_free(bits);
  return QE_OK;
}

/* A number, or w3a4 for the cost of that network. */
static qe_status read_limit(const char *item, const char *text, const qe_bit_costs *costs, qe_budget *budget) {
  int32_t weights, codes;
  char rest, *end;
  if (*text == 'w') {
    bool sound = sscanf(text, "w%2da%2d%c", &weights, &codes, &rest) == 2 && weights >= 1 && weights <= 8 &&
                 codes >= 1 && codes <= 8;
    if (!sound) return qe_fail(QE_USAGE, "budget '%s': write COST=w3a4, bits 1 to 8", item);
    return cost_at(costs, budget->cost, weights, codes, &budget->limit);
  }
  budget->limit = strtod(text, &end);
  if (end == text || *end || !isfinite(budget->limit) || budget->limit <= 0)
    return qe_fail(QE_USAGE, "budget '%s': the limit must be a number above 0, or as w3a4", item);
  return QE_OK;
}

/* What the cost is at least; QE_USAGE where its table is missing. */
static qe_status least_cost(const qe_bit_costs *costs, qe_bit_cost cost, double *least) {
  int32_t *fewest = NULL;
  QE_TRY(uniform(qe_bit_costs_map(costs), 0, 0, &fewest));
  *least = qe_bit_cost_least(costs, cost, fewest);
  qe_free(fewest);
  if (!isnan(*least)) return QE_OK;
  if (cost == QE_BIT_COST_LATENCY)
    return qe_fail(QE_USAGE,
                   "budget of latency: needs a latency table of this machine: `qevo-gpu bench latency` makes one");
  return qe_fail(QE_USAGE, "budget of %s: needs a table with lines LAYER WEIGHT-BITS CODE-BITS NANOJOULES",
                 qe_bit_cost_name(cost));
}

static qe_status read_item(char *item, const qe_bit_costs *costs, qe_budgets *budgets) {
  char *equals = strchr(item, '=');
  qe_budget budget = {.price = QE_BUDGET_PRICE};
  double least;
  if (!equals) return qe_fail(QE_USAGE, "budget '%s': write COST=LIMIT", item);
  *equals = 0;
  QE_TRY(find_cost(item, &budget.cost));
  for (int32_t i = 0; i < budgets->count; i++)
    if (budgets->budget[i].cost == budget.cost) return qe_fail(QE_USAGE, "budget: %s has two limits", item);
  *equals = '=';
  QE_TRY(least_cost(costs, budget.cost, &least));
  QE_TRY(read_limit(item, equals + 1, costs, &budget));
  if (budget.limit < least)
    return qe_fail(QE_USAGE, "budget '%s': the network has %g %s at the fewest bits everywhere: it cannot be kept",
                   item, least, qe_bit_cost_unit(budget.cost));
  budgets->budget[budgets->count++] = budget;
  return QE_OK;
}

qe_status qe_budgets_read(const char *text, const qe_bit_costs *costs, qe_budgets *budgets) {
  *budgets = (qe_budgets){0};
  while (text && *text) {
    char item[96];
    int length = (int)strcspn(text, ",");
    snprintf(item, sizeof item, "%.*s", length, text);
    QE_TRY(read_item(item, costs, budgets));
    text += length + (text[length] == ',');
  }
  return QE_OK;
}

double qe_budgets_excess(const qe_budgets *budgets, const qe_bit_costs *costs, const int32_t *bits) {
  double most = -1;
  for (int32_t i = 0; i < budgets->count; i++) {
    const qe_budget *budget = &budgets->budget[i];
    double excess = qe_bit_cost_of(costs, budget->cost, bits) / budget->limit - 1;
    if (!(excess <= most)) most = excess;
  }
  return most;
}

double qe_budgets_penalty(const qe_budgets *budgets, const qe_bit_costs *costs, const int32_t *bits) {
  double sum = 0;
  for (int32_t i = 0; i < budgets->count; i++) {
    const qe_budget *budget = &budgets->budget[i];
    double excess = qe_bit_cost_of(costs, budget->cost, bits) / budget->limit - 1;
    if (!(excess <= 0)) sum += budget->price * excess;
  }
  return sum;
}
