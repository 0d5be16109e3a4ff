/* The bench `conv`: integer networks on each backend asked for, whole ResNet-20s and chains of convolutions of one
 * shape.
 *
 * Weights are drawn at random and stay as they are; a run takes a batch of images to their losses. All cases stay open
 * and take turns, so that a change of the machine's speed meets all of them. */
#include "core/base/alloc.h"
#include "core/base/nearest.h"
#include "tools/bench_network.h"

#include <math.h>
#include <string.h>

enum { CHAIN_LAYERS = 8, DEFAULT_BATCH = 256, SLOW_BATCH = 4, WARM_UP = 2, MAX_RUNS = 100000 };
static const double turn_seconds = 0.4; /* of a case's turn, unless --steps says how long it is */

typedef struct bench_case {
  const char *name;
  qe_bench_chain chain; /* layers 0: ResNet-20 */
  int weights, activations;
  bool single; /* one image at a time */
} bench_case;

static const bench_case cases[] = {
    {"resnet20-w8a8", {0}, 8, 8, false},
    {"resnet20-w4a4", {0}, 4, 4, false},
    {"resnet20-w2a2", {0}, 2, 2, false},
    {"resnet20-w1a1", {0}, 1, 1, false},
    {"resnet20-w8a8-b1", {0}, 8, 8, true},
    {"resnet20-w4a4-b1", {0}, 4, 4, true},
    {"resnet20-w2a2-b1", {0}, 2, 2, true},
    {"resnet20-w1a1-b1", {0}, 1, 1, true},
    {"conv16x32-w4a4", {CHAIN_LAYERS, 32, 16}, 4, 4, false},
    {"conv32x16-w4a4", {CHAIN_LAYERS, 16, 32}, 4, 4, false},
    {"conv64x8-w4a4", {CHAIN_LAYERS, 8, 64}, 4, 4, false},
    {"conv16x32-w2a2", {CHAIN_LAYERS, 32, 16}, 2, 2, false},
    {"conv32x16-w2a2", {CHAIN_LAYERS, 16, 32}, 2, 2, false},
    {"conv64x8-w2a2", {CHAIN_LAYERS, 8, 64}, 2, 2, false},
    {"conv16x32-w1a1", {CHAIN_LAYERS, 32, 16}, 1, 1, false},
    {"conv32x16-w1a1", {CHAIN_LAYERS, 16, 32}, 1, 1, false},
    {"conv64x8-w1a1", {CHAIN_LAYERS, 8, 64}, 1, 1, false},
};
enum { CASES = sizeof cases / sizeof *cases, MAX_ENTRIES = CASES * QE_BENCH_BACKENDS };

typedef struct entry {
  const qe_bench_network *network; /* of the case */
  qe_bench_engine engine;
  int64_t batch, next; /* images a run; image that the next run begins with */
  int64_t runs;        /* a turn */
  int device;          /* of the bench's devices */
  qe_bench_row row;
} entry;

typedef struct bench {
  const qe_options *options;
  qe_bench_devices devices;
  qe_dataset *data;
  qe_bench_network *network[CASES];
  entry *entries;
  int count;
  int64_t batch;
  qe_bench_limits macs, bytes; /* measured before each round of turns; before the first */
} bench;

/* ---- choosing ---- */

/* Whether `name` is one of the words of the list. */
static bool is_listed(const char *list, const char *name) {
  size_t length = strlen(name);
  for (const char *at = list; (at = strstr(at, name)); at += length) {
    bool starts = at == list || at[-1] == ',';
    if (starts && (at[length] == 0 || at[length] == ',')) return true;
  }
  return false;
}

static qe_status say_unknown_case(const char *name, const char *all) {
  char hint[QE_NEAREST_TEXT];
  qe_nearest nearest = {.word = name};
  for (int i = 0; i < CASES; i++) qe_nearest_offer(&nearest, cases[i].name);
  return qe_fail(QE_USAGE, "--cases: no case is called '%s'; there are %s%s", name, all,
                 qe_nearest_hint(&nearest, "", hint));
}

static qe_status check_cases(const char *list) {
  char name[64], all[CASES * 24] = "";
  for (int i = 0; i < CASES; i++)
    snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? "," : "", cases[i].name);
  for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',') {
    snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
    if (!is_listed(all, name)) return say_unknown_case(name, all);
  }
  return QE_OK;
}

/* ---- runs ---- */

/* `logits` [batch, classes] or NULL. */
static qe_status run_once(entry *e, int32_t *logits) {
  int64_t loss, hits;
  qe_population_call call = qe_bench_call(&e->engine, e->next, e->batch);
  qe_population_result result = {.loss = &loss, .hits = &hits, .logits = logits};
  QE_TRY(qe_population_run(e->engine.population, &call, &result));
  e->next = e->next + 2 * e->batch <= e->network->data->train_images ? e->next + e->batch : 0;
  return QE_OK;
}

static qe_status time_runs(entry *e, int64_t runs, double *seconds) {
  double start = qe_bench_clock();
  for (int64_t i = 0; i < runs; i++) QE_TRY(run_once(e, NULL));
  *seconds = qe_bench_clock() - start;
  return QE_OK;
}

static qe_status take_turn(entry *e) {
  double seconds;
  QE_TRY(time_runs(e, e->runs, &seconds));
  e->row.sample[e->row.samples++] = (double)(e->runs * e->batch) / seconds;
  e->row.spent += seconds;
  return QE_OK;
}

/* All images of a case, in runs of its batch, against the reference. */
static qe_status check_parity(bench *b, entry *e) {
  int64_t images = e->network->data->train_images, classes = e->network->data->classes;
  int32_t *logits = QE_NEW_ARRAY(int32_t, images * classes);
  qe_bench_engine ref = {0};
  qe_status status = logits ? QE_OK : QE_NO_MEMORY;
  for (int64_t at = 0; status == QE_OK && at + e->batch <= images; at += e->batch) {
    e->next = at;
    status = run_once(e, logits + at * classes);
  }
  e->next = 0;
  if (status == QE_OK) status = qe_bench_engine_open(b->devices.ref, e->network, NULL, &ref);
  if (status == QE_OK) {
    qe_population_call call = qe_bench_call(&e->engine, 0, images);
    status = qe_bench_compare(&ref, NULL, &call, 0, logits, &e->row);
  }
  qe_bench_engine_close(&ref);
  qe_free(logits);
  return status;
}

static qe_status choose_runs(const bench *b, entry *e) {
  e->runs = qe_option_int(b->options, "steps");
  if (e->runs > 0) return QE_OK;
  double seconds;
  if (!qe_bench_is_slow(e->engine.queue->device)) QE_TRY(time_runs(e, WARM_UP, &seconds));
  QE_TRY(time_runs(e, WARM_UP, &seconds));
  double runs = ceil(WARM_UP * turn_seconds / seconds);
  e->runs = runs < MAX_RUNS ? (int64_t)runs : MAX_RUNS;
  return QE_OK;
}

/* ---- the whole ---- */

static qe_status open_network(bench *b, int which) {
  const bench_case *kind = &cases[which];
  qe_bits bits = {.weights = kind->weights, .activations = kind->activations, .edges = 8, .residual = 8};
  const qe_bench_chain *chain = kind->chain.layers ? &kind->chain : NULL;
  return qe_bench_network_new(b->devices.helper, "resnet20", chain, &bits, b->data, (int32_t)b->batch,
                              &b->network[which]);
}

/* Bytes that an image moves where each tensor of codes is written once to memory and read once. */
static double bytes_moved(const qe_network *network) {
  double bytes = 0;
  for (size_t i = 0; i < network->layers; i++)
    if (network->layer[i].output.dtype != QE_S32) bytes += 2 * (double)qe_bytes(&network->layer[i].output);
  return bytes;
}

static qe_status prepare_entry(bench *b, entry *e, qe_device *device) {
  QE_TRY(qe_bench_engine_open(device, e->network, NULL, &e->engine));
  QE_TRY(check_parity(b, e));
  return choose_runs(b, e);
}

static qe_status open_entry(bench *b, int which, int at) {
  entry *e = &b->entries[b->count++];
  qe_device *device = b->devices.device[at];
  *e = (entry){.network = b->network[which], .batch = cases[which].single ? 1 : b->batch, .device = at};
  bool given = qe_option_source(b->options, "batch") != QE_FROM_DEFAULT;
  if (!given && qe_bench_is_slow(device) && e->batch > SLOW_BATCH) e->batch = SLOW_BATCH;
  e->row.bench = "conv";
  e->row.unit = "images/s";
  qe_bench_name_device(device, &e->row);
  snprintf(e->row.name, sizeof e->row.name, "%s", cases[which].name);
  e->row.macs = (double)qe_graph_cost(e->network->model->graph, -1).macs;
  e->row.bytes = bytes_moved(e->network->network);
  return qe_bench_note_failure(prepare_entry(b, e, device), &e->row);
}

static qe_status open_case(bench *b, int which) {
  QE_TRY(open_network(b, which));
  for (int i = 0; i < b->devices.count; i++) QE_TRY(open_entry(b, which, i));
  return QE_OK;
}

static qe_status open_entries(bench *b) {
  const char *list = qe_option_text(b->options, "cases");
  bool all = strcmp(list, "all") == 0;
  if (!all) QE_TRY(check_cases(list));
  for (int i = 0; i < CASES; i++) {
    if (!all && !is_listed(list, cases[i].name)) continue;
    qe_status status = open_case(b, i);
    if (status != QE_OK) return qe_fail_within(status, "%s", cases[i].name);
  }
  return QE_OK;
}

static void judge(bench *b, entry *e) {
  double macs = qe_bench_limit(&b->macs, e->device), bytes = qe_bench_limit(&b->bytes, e->device);
  e->row.peak = macs / e->row.macs;
  if (!b->devices.device[e->device]->host_memory) e->row.memory = bytes / e->row.bytes; /* caches hold it elsewhere */
}

static qe_status take_turns(bench *b) {
  int repeats = (int)qe_option_int(b->options, "repeat");
  b->macs.samples = b->bytes.samples = 0;
  QE_TRY(qe_bench_limits_sample(&b->devices, QE_LIMIT_BYTES, &b->bytes));
  for (int i = 0; i < b->count; i++) b->entries[i].row.samples = 0;
  for (int turn = 0; turn < repeats; turn++) {
    QE_TRY(qe_bench_limits_sample(&b->devices, QE_LIMIT_CODE_MACS, &b->macs));
    for (int i = 0; i < b->count; i++) {
      entry *e = &b->entries[i];
      if (qe_bench_wants_turn(b->options, &e->row)) QE_TRY(qe_bench_note_failure(take_turn(e), &e->row));
    }
  }
  for (int i = 0; i < b->count; i++) judge(b, &b->entries[i]);
  qe_bench_limits_print(&b->devices, &b->macs, "G multiply-adds/s, u8 x s8");
  fprintf(stderr,
          "batch %lld, %d threads. Per cent of the peak count direct convolution; Winograd and table look-up do with "
          "fewer multiplications and can pass 100 %%\n",
          (long long)b->batch, b->devices.threads);
  return QE_OK;
}

static qe_status run_round(void *context, qe_bench_row **rows, size_t *count) {
  bench *b = context;
  QE_TRY(take_turns(b));
  for (int i = 0; i < b->count; i++) QE_TRY(qe_bench_add_row(&b->entries[i].row, rows, count));
  return QE_OK;
}

static void explain(const bench *b) {
  for (int i = 0; i < b->count; i++) {
    const entry *e = &b->entries[i];
    if (!e->engine.population) continue;
    fprintf(stderr, "%s on %s, engine %s:\n", e->row.name, e->row.backend, qe_population_engine(e->engine.population));
    qe_population_explain(e->engine.population, stderr);
  }
}

static qe_status run(bench *b, qe_bench_row **rows, size_t *count) {
  bool given = qe_option_source(b->options, "batch") != QE_FROM_DEFAULT;
  b->batch = given ? qe_option_int(b->options, "batch") : DEFAULT_BATCH;
  QE_TRY(qe_bench_devices_open(b->options, &b->devices));
  QE_TRY(qe_dataset_open(qe_option_text(b->options, "data"), qe_option_text(b->options, "data-dir"), &b->data));
  QE_TRY(open_entries(b));
  if (qe_option_flag(b->options, "explain")) explain(b);
  return qe_bench_run_rounds(b->options, run_round, b, rows, count);
}

qe_status qe_bench_conv(const qe_options *options, qe_bench_row **rows, size_t *count) {
  bench *b = QE_NEW(bench);
  entry *entries = QE_NEW_ARRAY(entry, MAX_ENTRIES);
  qe_status status = QE_NO_MEMORY;
  if (b && entries) {
    *b = (bench){.options = options, .entries = entries};
    status = run(b, rows, count);
    for (int i = 0; i < b->count; i++) qe_bench_engine_close(&entries[i].engine);
    for (int i = 0; i < CASES; i++) qe_bench_network_free(b->network[i]);
    qe_dataset_free(b->data);
    qe_bench_devices_close(&b->devices);
  }
  qe_free(entries);
  qe_free(b);
  return status;
}
