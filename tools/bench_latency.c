/* The bench `latency`: what the bits of each layer add to the time of an image on one backend, as a table that budgets
 * of latency are read from (core/models/latency_file.h).
 *
 * Layers of one shape change their bits together: the time of the whole integer network with them, less that of the
 * network at the base bits (--weight-bits, --act-bits), measured one after the other, divided by their number. So what
 * is counted is what a layer costs where it is used, fused with its neighbours. Networks with the same bits in all
 * layers tell how well the sum of the rows predicts. */
#define _GNU_SOURCE /* uname */
#include "core/base/alloc.h"
#include "core/models/latency_file.h"
#include "tools/bench_network.h"

#include <math.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { DEFAULT_BATCH = 256, SLOW_BATCH = 4, WARM_UP = 2, MAX_RUNS = 100000, BITS_MOST = 8 };
static const double turn_seconds = 0.1; /* of a network's part of a turn, unless --steps says how long it is */

/* A network to compare with the base: the layers of one shape at other bits, or all layers. */
typedef struct entry {
  int32_t first;          /* layer of the map; -1: all layers */
  int32_t layers;         /* of that shape */
  int32_t weights, codes; /* bits; what has none that are open stays */
  qe_bench_network *network;
  qe_bench_engine engine;
  qe_bench_row row; /* samples: us an image more than the base */
} entry;

typedef struct bench {
  const qe_options *options;
  qe_bench_devices devices;
  qe_device *device;
  qe_dataset *data;
  qe_bits bits; /* of the base */
  qe_bench_network *base;
  qe_bench_engine base_engine;
  qe_bit_map *map;
  int32_t *same; /* [layers]: the first layer of the same shape */
  entry *entries;
  size_t count, capacity;
  double base_us[QE_BENCH_REPEATS]; /* of each turn, mean over its networks */
  int64_t batch, runs;
} bench;

/* ---- layers of one shape ---- */

static bool decides_code(const qe_bit_map *map, const qe_bit_layer *layer) {
  const qe_bit_place *code = &map->place[layer->input];
  return code->open && strcmp(code->layer, layer->name) == 0;
}

static bool same_shape(const bench *b, const qe_bit_layer *x, const qe_bit_layer *y) {
  const qe_graph *graph = b->base->model->graph;
  const qe_node_info *u = &graph->node[x->node], *v = &graph->node[y->node];
  const qe_desc *in = &graph->node[u->input[0]].output, *other = &graph->node[v->input[0]].output;
  return u->layer == v->layer && memcmp(&u->attrs.window, &v->attrs.window, sizeof u->attrs.window) == 0 &&
         memcmp(in->dim, other->dim, sizeof in->dim) == 0 && decides_code(b->map, x) == decides_code(b->map, y) &&
         b->map->place[x->weight].edge == b->map->place[y->weight].edge;
}

static qe_status find_shapes(bench *b) {
  b->same = QE_NEW_ARRAY(int32_t, b->map->layers + 1);
  if (!b->same) return QE_NO_MEMORY;
  for (int32_t i = 0; i < b->map->layers; i++) {
    b->same[i] = 0;
    while (!same_shape(b, &b->map->layer[b->same[i]], &b->map->layer[i])) b->same[i]++;
  }
  return QE_OK;
}

/* Bits of an entry's network [places]; false: they are the base's. */
static bool bits_of(const bench *b, const entry *e, int32_t *bits) {
  const qe_bit_map *map = b->map;
  bool changed = false;
  qe_bit_map_default(map, bits);
  for (int32_t i = 0; i < map->layers; i++) {
    const qe_bit_layer *layer = &map->layer[i];
    if (e->first >= 0 && b->same[i] != e->first) continue;
    if (e->first < 0 && map->place[layer->weight].edge) continue;
    if (map->place[layer->weight].open) bits[layer->weight] = e->weights;
    if (decides_code(map, layer) && (e->first >= 0 || !map->place[layer->input].edge)) bits[layer->input] = e->codes;
  }
  for (int32_t p = 0; p < map->places; p++) changed |= bits[p] != map->place[p].bits;
  return changed;
}

/* ---- entries ---- */

static qe_status open_network(bench *b, entry *e) {
  qe_bits bits = b->bits;
  char *text = NULL;
  int32_t *vector = QE_NEW_ARRAY(int32_t, b->map->places + 1);
  if (!vector) return QE_NO_MEMORY;
  (void)bits_of(b, e, vector);
  qe_status status = qe_bit_map_text(b->map, vector, &text);
  bits.layers = text;
  if (status == QE_OK)
    status = qe_bench_network_new(b->devices.helper, qe_option_text(b->options, "model"), NULL, &bits, b->data,
                                  (int32_t)b->batch, &e->network);
  if (status == QE_OK) status = qe_bench_engine_open(b->device, e->network, NULL, &e->engine);
  qe_free(text);
  qe_free(vector);
  return status;
}

/* `logits` [batch, classes] or NULL. */
static qe_status run_once(const bench *b, const qe_bench_engine *engine, int32_t *logits) {
  int64_t loss, hits;
  qe_population_call call = qe_bench_call(engine, 0, b->batch);
  qe_population_result result = {.loss = &loss, .hits = &hits, .logits = logits};
  return qe_population_run(engine->population, &call, &result);
}

static qe_status check_parity(const bench *b, entry *e) {
  qe_bench_engine ref = {0};
  int32_t *logits = QE_NEW_ARRAY(int32_t, b->batch * e->network->data->classes);
  qe_status status = logits ? run_once(b, &e->engine, logits) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_bench_engine_open(b->devices.ref, e->network, NULL, &ref);
  if (status == QE_OK) {
    qe_population_call call = qe_bench_call(&e->engine, 0, b->batch);
    status = qe_bench_compare(&ref, NULL, &call, 0, logits, &e->row);
  }
  qe_bench_engine_close(&ref);
  qe_free(logits);
  return status;
}

static void name_entry(const bench *b, entry *e) {
  const char *model = b->base->model->spec.name;
  char more[32] = "";
  if (e->layers > 1) snprintf(more, sizeof more, "+%d", e->layers - 1);
  if (e->first < 0)
    snprintf(e->row.name, sizeof e->row.name, "%s-w%da%d", model, e->weights, e->codes);
  else
    snprintf(e->row.name, sizeof e->row.name, "%.64s%s-w%da%d", b->map->layer[e->first].name, more, e->weights,
             e->codes);
  e->row.bench = "latency";
  e->row.unit = e->first < 0 ? "us" : "us more a layer";
  qe_bench_name_device(b->device, &e->row);
}

/* An entry for these bits, unless they are the base's or cannot be. */
static qe_status add_entry(bench *b, int32_t first, int32_t weights, int32_t codes) {
  entry e = {.first = first, .weights = weights, .codes = codes};
  int32_t *bits = QE_NEW_ARRAY(int32_t, b->map->places + 1);
  if (!bits) return QE_NO_MEMORY;
  bool changed = bits_of(b, &e, bits), can_be = true;
  for (int32_t p = 0; p < b->map->places; p++) can_be &= !b->map->place[p].open || bits[p] >= b->map->place[p].least;
  qe_free(bits);
  for (int32_t i = 0; i < b->map->layers; i++) e.layers += first >= 0 && b->same[i] == first;
  if (!changed || !can_be) return QE_OK;
  QE_TRY(qe_reserve(&b->entries, &b->capacity, b->count + 1, sizeof e));
  b->entries[b->count++] = e;
  return QE_OK;
}

/* Each pair of bits of a shape; where its layers' codes or weights are not open, only what they have. */
static qe_status add_shape(bench *b, int32_t first, const int64_t *list, size_t bits) {
  const qe_bit_layer *layer = &b->map->layer[first];
  const qe_bit_place *weight = &b->map->place[layer->weight], *code = &b->map->place[layer->input];
  size_t weights = weight->open ? bits : 1, codes = decides_code(b->map, layer) ? bits : 1;
  for (size_t w = 0; w < weights; w++)
    for (size_t a = 0; a < codes; a++)
      QE_TRY(add_entry(b, first, weight->open ? (int32_t)list[w] : weight->bits,
                       codes > 1 || decides_code(b->map, layer) ? (int32_t)list[a] : code->bits));
  return QE_OK;
}

static qe_status add_entries(bench *b) {
  size_t bits;
  const int64_t *list = qe_option_ints(b->options, "latency-bits", &bits);
  if (bits == 0) return qe_fail(QE_USAGE, "--latency-bits: needs bits to measure, as in 2,4,8");
  for (int32_t i = 0; i < b->map->layers; i++)
    if (b->same[i] == i) QE_TRY(add_shape(b, i, list, bits));
  for (size_t k = 0; k < bits; k++) QE_TRY(add_entry(b, -1, (int32_t)list[k], (int32_t)list[k]));
  for (size_t i = 0; i < b->count; i++) {
    name_entry(b, &b->entries[i]);
    if (isatty(STDERR_FILENO))
      fprintf(stderr, "\rbench latency: network %zu of %zu: %-40s", i + 1, b->count, b->entries[i].row.name);
    qe_status status = open_network(b, &b->entries[i]);
    if (status == QE_OK) status = check_parity(b, &b->entries[i]);
    if (status != QE_OK) return qe_fail_within(status, "%s", b->entries[i].row.name);
  }
  if (isatty(STDERR_FILENO)) fputs("\n", stderr);
  return QE_OK;
}

/* ---- measuring ---- */

/* us an image of the fastest run: differences between networks are small beside what other programs take away. */
static qe_status time_runs(const bench *b, const qe_bench_engine *engine, int64_t runs, double *us) {
  double least = HUGE_VAL;
  for (int64_t i = 0; i < runs; i++) {
    double start = qe_bench_clock();
    QE_TRY(run_once(b, engine, NULL));
    least = fmin(least, qe_bench_clock() - start);
  }
  *us = 1e6 * least / (double)b->batch;
  return QE_OK;
}

static qe_status choose_runs(bench *b) {
  double us;
  b->runs = qe_option_int(b->options, "steps");
  QE_TRY(time_runs(b, &b->base_engine, WARM_UP, &us));
  QE_TRY(time_runs(b, &b->base_engine, WARM_UP, &us));
  double runs = ceil(1e6 * turn_seconds / (us * (double)b->batch));
  if (b->runs == 0) b->runs = runs < MAX_RUNS ? (int64_t)runs : MAX_RUNS;
  return QE_OK;
}

/* The base before and after an entry, so that a machine that gets slower evenly cancels out. */
static qe_status take_turn(bench *b, entry *e, int turn) {
  double before, now, after;
  QE_TRY(time_runs(b, &b->base_engine, b->runs, &before));
  QE_TRY(time_runs(b, &e->engine, b->runs, &now));
  QE_TRY(time_runs(b, &b->base_engine, b->runs, &after));
  double base = (before + after) / 2;
  e->row.sample[turn] = e->first < 0 ? now : (now - base) / e->layers;
  e->row.samples = turn + 1;
  b->base_us[turn] += base / (double)b->count;
  return QE_OK;
}

/* ---- the table ---- */

static qe_status add_rows(const bench *b, qe_latency_table *table) {
  for (int32_t i = 0; i < b->map->layers; i++) {
    const qe_bit_layer *layer = &b->map->layer[i];
    int32_t weights = b->map->place[layer->weight].bits, codes = b->map->place[layer->input].bits;
    QE_TRY(qe_latency_add(table, layer->name, weights, codes, 0));
    for (size_t k = 0; k < b->count; k++) {
      const entry *e = &b->entries[k];
      if (e->first < 0 || b->same[i] != e->first) continue;
      QE_TRY(qe_latency_add(table, layer->name, e->weights, e->codes, qe_bench_value(&e->row)));
    }
  }
  return QE_OK;
}

/* What the table says of the networks with the same bits everywhere, beside what they took. */
static qe_status say_predictions(const bench *b, const char *path) {
  qe_bit_costs *costs = NULL;
  qe_cost_origin any = {0};
  int32_t *bits = QE_NEW_ARRAY(int32_t, b->map->places + 1);
  qe_status status = bits ? qe_bit_costs_new(b->map, &costs) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_bit_costs_take_latency(costs, path, &any);
  for (size_t k = 0; status == QE_OK && k < b->count; k++) {
    const entry *e = &b->entries[k];
    if (e->first >= 0) continue;
    (void)bits_of(b, e, bits);
    fprintf(stderr, "%s: %.2f us an image measured, %.2f by the table\n", e->row.name, qe_bench_value(&e->row),
            qe_bit_cost_of(costs, QE_BIT_COST_LATENCY, bits));
  }
  qe_bit_costs_free(costs);
  qe_free(bits);
  return status;
}

static qe_status write_table(const bench *b, const char *path) {
  const qe_model_spec *spec = &b->base->model->spec;
  struct utsname names;
  bool named = uname(&names) == 0;
  qe_latency_table table = {.origin = {.machine = named ? names.nodename : "unknown",
                                       .backend = b->device->backend->name,
                                       .device = b->device->name,
                                       .model = spec->name,
                                       .height = spec->height,
                                       .width = spec->width,
                                       .channels = spec->channels},
                            .batch = b->batch,
                            .base_us = qe_bench_median(b->base_us, (int)qe_option_int(b->options, "repeat"))};
  qe_status status = add_rows(b, &table);
  if (status == QE_OK) status = qe_latency_write(&table, path);
  if (status == QE_OK) status = say_predictions(b, path);
  qe_latency_free_rows(&table);
  return status;
}

/* ---- the whole ---- */

static qe_status run_round(void *context, qe_bench_row **rows, size_t *count) {
  bench *b = context;
  int repeats = (int)qe_option_int(b->options, "repeat");
  for (int turn = 0; turn < repeats; turn++) {
    b->base_us[turn] = 0;
    for (size_t i = 0; i < b->count; i++) QE_TRY(take_turn(b, &b->entries[i], turn));
  }
  for (size_t i = 0; i < b->count; i++) QE_TRY(qe_bench_add_row(&b->entries[i].row, rows, count));
  const char *path = qe_option_text(b->options, "latency-file");
  return path ? write_table(b, path) : QE_OK;
}

static qe_status open_base(bench *b) {
  bool given = qe_option_source(b->options, "batch") != QE_FROM_DEFAULT;
  b->batch = given ? qe_option_int(b->options, "batch") : qe_bench_is_slow(b->device) ? SLOW_BATCH : DEFAULT_BATCH;
  b->bits = (qe_bits){.weights = (int)qe_option_int(b->options, "weight-bits"),
                      .activations = (int)qe_option_int(b->options, "act-bits"),
                      .edges = BITS_MOST,
                      .residual = BITS_MOST};
  if (b->bits.weights > BITS_MOST || b->bits.activations > BITS_MOST)
    return qe_fail(QE_USAGE, "bench latency: --weight-bits and --act-bits must be 1 to %d", (int)BITS_MOST);
  QE_TRY(qe_bench_network_new(b->devices.helper, qe_option_text(b->options, "model"), NULL, &b->bits, b->data,
                              (int32_t)b->batch, &b->base));
  QE_TRY(qe_bench_engine_open(b->device, b->base, NULL, &b->base_engine));
  return qe_bit_map_new(&b->base->model->spec, &b->map);
}

static qe_status run(bench *b, qe_bench_row **rows, size_t *count) {
  QE_TRY(qe_bench_devices_open(b->options, &b->devices));
  if (b->devices.count != 1)
    return qe_fail(QE_USAGE, "bench latency measures one backend, these are %d: name one by --backend",
                   b->devices.count);
  b->device = b->devices.device[0];
  QE_TRY(qe_dataset_open(qe_option_text(b->options, "data"), qe_option_text(b->options, "data-dir"), &b->data));
  QE_TRY(open_base(b));
  QE_TRY(find_shapes(b));
  QE_TRY(add_entries(b));
  QE_TRY(choose_runs(b));
  return qe_bench_run_rounds(b->options, run_round, b, rows, count);
}

qe_status qe_bench_latency(const qe_options *options, qe_bench_row **rows, size_t *count) {
  bench *b = QE_NEW(bench);
  if (!b) return QE_NO_MEMORY;
  b->options = options;
  qe_status status = run(b, rows, count);
  for (size_t i = 0; i < b->count; i++) {
    qe_bench_engine_close(&b->entries[i].engine);
    qe_bench_network_free(b->entries[i].network);
  }
  qe_bench_engine_close(&b->base_engine);
  qe_bench_network_free(b->base);
  qe_bit_map_free(b->map);
  qe_dataset_free(b->data);
  qe_bench_devices_close(&b->devices);
  qe_free(b->same);
  qe_free(b->entries);
  qe_free(b);
  return status;
}
