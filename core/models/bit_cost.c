/* Costs of the bits of a network's places. */
#include "core/models/bit_cost.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/nearest.h"
#include "core/models/latency_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double most_energy = 1e15;         /* so that sums stay finite */
enum { MOST_BITS = 8, ENERGY_LIMIT = 1 << 20 }; /* bytes of a user's table */

/* A measured cost of each layer by its weight bits - 1 and code bits - 1; NaN: not known. */
typedef struct layer_table {
  double at[MOST_BITS][MOST_BITS];
} layer_table;

struct qe_bit_costs {
  const qe_bit_map *map;
  double weights, elements;      /* behind the two means */
  layer_table *latency, *energy; /* [layers]; NULL: not taken */
  double base_us;
};

typedef struct cost_row {
  const char *name, *unit, *text;
} cost_row;
static const cost_row cost_rows[QE_BIT_COSTS] = {
#define X(id, name, unit, text) {name, unit, text},
    QE_BIT_COST_LIST(X)
#undef X
};

const char *qe_bit_cost_name(qe_bit_cost cost) {
  return cost_rows[cost].name;
}
const char *qe_bit_cost_unit(qe_bit_cost cost) {
  return cost_rows[cost].unit;
}
const char *qe_bit_cost_text(qe_bit_cost cost) {
  return cost_rows[cost].text;
}

static bool is_averaged(const qe_bit_place *place, char letter) {
  return place->letter == letter && place->open && !place->edge;
}

qe_status qe_bit_costs_new(const qe_bit_map *map, qe_bit_costs **out) {
  qe_bit_costs *costs = QE_NEW(qe_bit_costs);
  if (!costs) return QE_NO_MEMORY;
  costs->map = map;
  for (int32_t p = 0; p < map->places; p++) {
    if (is_averaged(&map->place[p], 'w')) costs->weights += (double)map->place[p].count;
    if (is_averaged(&map->place[p], 'a')) costs->elements += (double)map->place[p].count;
  }
  *out = costs;
  return QE_OK;
}

void qe_bit_costs_free(qe_bit_costs *costs) {
  if (!costs) return;
  qe_free(costs->latency);
  qe_free(costs->energy);
  qe_free(costs);
}

/* ---- one cost ---- */

static double mean_bits(const qe_bit_costs *costs, char letter, double count, const int32_t *bits) {
  double sum = 0;
  for (int32_t p = 0; p < costs->map->places; p++)
    if (is_averaged(&costs->map->place[p], letter)) sum += (double)costs->map->place[p].count * bits[p];
  return count > 0 ? sum / count : 0;
}

static double storage(const qe_bit_map *map, const int32_t *bits) {
  int64_t sum = map->fixed_bits;
  for (int32_t p = 0; p < map->places; p++)
    if (map->place[p].letter == 'w') sum += map->place[p].count * bits[p];
  return (double)((sum + 7) / 8);
}

static double bit_operations(const qe_bit_map *map, const int32_t *bits) {
  int64_t sum = 0;
  for (int32_t i = 0; i < map->layers; i++)
    sum += map->layer[i].macs * bits[map->layer[i].weight] * bits[map->layer[i].input];
  return (double)sum;
}

static double from_table(const qe_bit_map *map, const layer_table *table, double base, const int32_t *bits) {
  double sum = base;
  for (int32_t i = 0; table && i < map->layers; i++) {
    int32_t weight = bits[map->layer[i].weight], code = bits[map->layer[i].input];
    bool known = weight >= 1 && weight <= MOST_BITS && code >= 1 && code <= MOST_BITS;
    sum += known ? table[i].at[weight - 1][code - 1] : (double)NAN;
  }
  return table ? sum : (double)NAN;
}

double qe_bit_cost_of(const qe_bit_costs *costs, qe_bit_cost cost, const int32_t *bits) {
  switch (cost) {
  case QE_BIT_COST_WEIGHT_BITS:
    return mean_bits(costs, 'w', costs->weights, bits);
  case QE_BIT_COST_ACT_BITS:
    return mean_bits(costs, 'a', costs->elements, bits);
  case QE_BIT_COST_BYTES:
    return storage(costs->map, bits);
  case QE_BIT_COST_BIT_OPS:
    return bit_operations(costs->map, bits);
  case QE_BIT_COST_LATENCY:
    return from_table(costs->map, costs->latency, costs->base_us, bits);
  case QE_BIT_COST_ENERGY:
    return from_table(costs->map, costs->energy, 0, bits);
  default:
    return (double)NAN;
  }
}

static double least_of_table(const qe_bit_map *map, const layer_table *table, double base) {
  double sum = base;
  for (int32_t i = 0; table && i < map->layers; i++) {
    double least = HUGE_VAL;
    for (int32_t k = 0; k < MOST_BITS * MOST_BITS; k++) least = fmin(least, table[i].at[k / MOST_BITS][k % MOST_BITS]);
    sum += least;
  }
  return table ? sum : (double)NAN;
}

double qe_bit_cost_least(const qe_bit_costs *costs, qe_bit_cost cost, const int32_t *fewest) {
  if (cost == QE_BIT_COST_LATENCY) return least_of_table(costs->map, costs->latency, costs->base_us);
  if (cost == QE_BIT_COST_ENERGY) return least_of_table(costs->map, costs->energy, 0);
  return qe_bit_cost_of(costs, cost, fewest);
}

/* ---- tables ---- */

static layer_table *new_table(const qe_bit_map *map) {
  layer_table *table = QE_NEW_ARRAY(layer_table, map->layers + 1);
  for (int32_t i = 0; table && i < map->layers; i++)
    for (int32_t k = 0; k < MOST_BITS * MOST_BITS; k++) table[i].at[k / MOST_BITS][k % MOST_BITS] = (double)NAN;
  return table;
}

/* What is missing in a row of values, `stride` apart, lies on the line between its neighbours, or is as the nearest. */
static void fill_line(double *line, int32_t stride) {
  int32_t last = -1;
  for (int32_t i = 0; i < MOST_BITS; i++) {
    if (isnan(line[i * stride])) continue;
    for (int32_t k = last + 1; k < i; k++) {
      double right = line[i * stride], left = last < 0 ? right : line[last * stride];
      line[k * stride] = left + (right - left) * (k - last) / (i - last);
    }
    last = i;
  }
  for (int32_t k = last + 1; last >= 0 && k < MOST_BITS; k++) line[k * stride] = line[last * stride];
}

/* Along the weight bits, then along the code bits. QE_USAGE where a layer has no value at all. */
static qe_status fill_table(const qe_bit_map *map, const char *path, layer_table *table) {
  for (int32_t i = 0; i < map->layers; i++) {
    for (int32_t code = 0; code < MOST_BITS; code++) fill_line(&table[i].at[0][code], MOST_BITS);
    for (int32_t weight = 0; weight < MOST_BITS; weight++) fill_line(&table[i].at[weight][0], 1);
    if (isnan(table[i].at[0][0]))
      return qe_fail(QE_USAGE, "%s: says nothing of the layer %s, which the network has", path, map->layer[i].name);
  }
  return QE_OK;
}

static qe_status find_layer(const qe_bit_map *map, const char *where, const char *name, int32_t *at) {
  char hint[QE_NEAREST_TEXT];
  qe_nearest nearest = {.word = name};
  *at = 0;
  for (int32_t i = 0; i < map->layers; i++) {
    *at = i;
    if (strcmp(map->layer[i].name, name) == 0) return QE_OK;
    qe_nearest_offer(&nearest, map->layer[i].name);
  }
  return qe_fail(QE_USAGE, "%s: the network has no layer '%.64s'%s", where, name, qe_nearest_hint(&nearest, "", hint));
}

static qe_status same_text(const char *path, const char *what, const char *is, const char *wanted) {
  if (!wanted || strcmp(is, wanted) == 0) return QE_OK;
  return qe_fail(QE_USAGE, "%s: was measured with the %s '%s', this is '%s': make one with `qevo-gpu bench latency`",
                 path, what, is, wanted);
}

static qe_status check_origin(const char *path, const qe_cost_origin *is, const qe_cost_origin *wanted) {
  QE_TRY(same_text(path, "model", is->model, wanted->model));
  QE_TRY(same_text(path, "backend", is->backend, wanted->backend));
  QE_TRY(same_text(path, "device", is->device, wanted->device));
  QE_TRY(same_text(path, "machine", is->machine, wanted->machine));
  if (wanted->height == 0 ||
      (is->height == wanted->height && is->width == wanted->width && is->channels == wanted->channels))
    return QE_OK;
  return qe_fail(QE_USAGE,
                 "%s: was measured on images of %dx%dx%d, these are %dx%dx%d: make one with `qevo-gpu bench latency`",
                 path, is->height, is->width, is->channels, wanted->height, wanted->width, wanted->channels);
}

static qe_status put_latency(const qe_bit_map *map, const char *path, const qe_latency_table *read,
                             layer_table *table) {
  for (size_t i = 0; i < read->rows; i++) {
    int32_t layer;
    QE_TRY(find_layer(map, path, read->row[i].layer, &layer));
    table[layer].at[read->row[i].weight_bits - 1][read->row[i].code_bits - 1] = read->row[i].us;
  }
  return fill_table(map, path, table);
}

qe_status qe_bit_costs_take_latency(qe_bit_costs *costs, const char *path, const qe_cost_origin *origin) {
  qe_latency_table read;
  layer_table *table = NULL;
  qe_status status = qe_latency_read(path, &read);
  if (status == QE_OK) status = check_origin(path, &read.origin, origin);
  if (status == QE_OK && !(table = new_table(costs->map))) status = QE_NO_MEMORY;
  if (status == QE_OK) status = put_latency(costs->map, path, &read, table);
  if (status == QE_OK) {
    qe_free(costs->latency);
    costs->latency = table;
    costs->base_us = read.base_us;
    table = NULL;
  }
  qe_free(table);
  qe_latency_free(&read);
  return status;
}

/* ---- a user's table of energy ---- */

static qe_status put_energy(const qe_bit_map *map, const char *path, int line, const char *text, layer_table *table) {
  char name[65], where[512], rest;
  int weight, code, fields = sscanf(text, "%64s %d %d", name, &weight, &code);
  double energy;
  if (fields < 1) return QE_OK;
  bool sound = sscanf(text, "%*s %d %d %lf %c", &weight, &code, &energy, &rest) == 3 && weight >= 1 &&
               weight <= MOST_BITS && code >= 1 && code <= MOST_BITS && energy >= 0 && energy <= most_energy;
  if (!sound)
    return qe_fail(QE_FORMAT, "%s:%d: write LAYER WEIGHT-BITS CODE-BITS ENERGY, bits 1 to %d, energy 0 or more", path,
                   line, (int)MOST_BITS);
  if (strcmp(name, "*") == 0) { /* picojoules a multiply-add; what a layer's own lines say stays */
    for (int32_t i = 0; i < map->layers; i++)
      if (isnan(table[i].at[weight - 1][code - 1]))
        table[i].at[weight - 1][code - 1] = 1e-3 * energy * (double)map->layer[i].macs;
    return QE_OK;
  }
  int32_t layer;
  snprintf(where, sizeof where, "%s:%d", path, line);
  QE_TRY(find_layer(map, where, name, &layer));
  table[layer].at[weight - 1][code - 1] = energy;
  return QE_OK;
}

/* Layers' own lines wherever they stand, then those of all: two passes. */
static qe_status read_energy(const qe_bit_map *map, const char *path, const char *bytes, layer_table *table) {
  for (int32_t pass = 0; pass < 2; pass++) {
    int number = 1;
    for (const char *line = bytes; line; number++) {
      char text[256];
      snprintf(text, sizeof text, "%.*s", (int)strcspn(line, "#\r\n"), line);
      bool of_all = text[strspn(text, " \t")] == '*';
      if (of_all == (pass == 1)) QE_TRY(put_energy(map, path, number, text, table));
      const char *end = strchr(line, '\n');
      line = end ? end + 1 : NULL;
    }
  }
  return fill_table(map, path, table);
}

qe_status qe_bit_costs_take_energy(qe_bit_costs *costs, const char *path) {
  char *bytes = NULL;
  layer_table *table = NULL;
  QE_TRY(qe_file_read(path, ENERGY_LIMIT, &bytes, NULL));
  qe_status status = (table = new_table(costs->map)) ? read_energy(costs->map, path, bytes, table) : QE_NO_MEMORY;
  if (status == QE_OK) {
    qe_free(costs->energy);
    costs->energy = table;
    table = NULL;
  }
  qe_free(table);
  qe_free(bytes);
  return status;
}

const qe_bit_map *qe_bit_costs_map(const qe_bit_costs *costs) {
  return costs->map;
}
