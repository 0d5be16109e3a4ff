/* The bench `population`: many candidates of one integer network on the same images, on each backend asked for.
 *
 * Candidates are the network with the codes of each layer shuffled: other weights, alike in distribution. Measured are
 * candidates with weights that are new each time, and beside them as many evaluations of networks packed beforehand;
 * candidates that share all layers before stage 3 (or before the last) with a parent; candidates that are dropped once
 * their loss passes half of the usual one. They take turns, so that a change of the machine's speed meets all of them.
 */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/graph/integer.h"
#include "tools/bench_network.h"

#include <stdlib.h>
#include <string.h>

enum { PREPACKED = 8, SETS = 3, DEFAULT_REPEATS = 3, COMPARED = 2, SLOW_CANDIDATES = 2, SLOW_IMAGES = 4 };

typedef enum measure { FRESH, PACKED, PREFIX, DROPPING, RATIO, PREFIX_GAIN, DROPPING_GAIN, MEASURES } measure;
static const char *const measure_name[MEASURES] = {"fresh", "prepacked",   "prefix",       "dropping",
                                                   "ratio", "prefix-gain", "dropping-gain"};

/* Genomes: two sets of new ones, so that none is met twice in a row, and one that differs from the parent late. */
enum { FRESH_A, FRESH_B, LATE };

typedef struct bench {
  const qe_options *options;
  qe_bench_devices devices;
  qe_dataset *data;
  qe_bench_network *network;
  qe_genome_layout *layout;
  uint8_t *parent, *genomes[SETS];
  int32_t candidates;
  int64_t images;
  int32_t late;          /* the layer from which the set LATE differs */
  struct entry *entries; /* one a backend */
  int count;
  qe_bench_limits macs;
} bench;

/* A backend at work. */
typedef struct entry {
  const bench *bench;
  int device;         /* of the bench's devices */
  int32_t candidates; /* the bench's, or fewer where the device is slow */
  int64_t images;
  qe_bench_engine engine, ref;
  qe_bench_network packed[PREPACKED]; /* the first candidates of FRESH_A, each a network of its own */
  qe_bench_engine packed_engine[PREPACKED];
  int64_t *loss, *hits; /* [candidates] */
  int64_t *wanted_loss, *wanted_hits;
  int32_t *logits; /* [candidates, images, classes] */
  int64_t bound;
  int turn;
  qe_bench_row row[MEASURES];
} entry;

/* ---- candidates ---- */

/* Fisher-Yates on the codes of one gene. */
static qe_status shuffle_gene(const qe_gene *gene, uint64_t seed, uint8_t *genome) {
  int8_t *codes = qe_alloc((size_t)gene->count);
  qe_philox draw = {{0}};
  if (!codes) return QE_NO_MEMORY;
  qe_status status = qe_genome_codes(gene, genome, codes);
  for (int64_t i = gene->count - 1; status == QE_OK && i > 0; i--) {
    if (i % 4 == 3 || i == gene->count - 1)
      draw = qe_philox_draw(seed, QE_STREAM_TEST, ((uint64_t)(uint32_t)gene->layer << 32) + (uint64_t)i / 4);
    int64_t k = qe_below(draw.word[i % 4], (uint32_t)i + 1);
    int8_t swapped = codes[i];
    codes[i] = codes[k];
    codes[k] = swapped;
  }
  if (status == QE_OK) qe_pack(&gene->grid, codes, gene->count, genome + gene->offset);
  qe_free(codes);
  return status;
}

static qe_status draw_genomes(bench *b, int set) {
  size_t bytes = b->layout->bytes;
  b->genomes[set] = qe_calloc((size_t)b->candidates, bytes);
  if (!b->genomes[set]) return QE_NO_MEMORY;
  for (int32_t p = 0; p < b->candidates; p++) {
    uint8_t *genome = b->genomes[set] + (size_t)p * bytes;
    memcpy(genome, b->parent, bytes);
    for (size_t i = 0; i < b->layout->genes; i++)
      if (set != LATE || b->layout->gene[i].layer >= b->late)
        QE_TRY(shuffle_gene(&b->layout->gene[i], (uint64_t)set << 32 | (uint32_t)p, genome));
  }
  return QE_OK;
}

/* The first layer of stage 3 that evolves; of a network without stages the last layer that does. */
static int32_t late_layer(const bench *b) {
  const qe_genome_layout *layout = b->layout;
  for (size_t i = 0; i < layout->genes; i++) {
    const char *name = b->network->network->layer[layout->gene[i].layer].name;
    if (strncmp(name, "stage3", strlen("stage3")) == 0) return layout->gene[i].layer;
  }
  return layout->gene[layout->genes - 1].layer;
}

static qe_status make_candidates(bench *b) {
  QE_TRY(qe_genome_layout_new(b->network->network, NULL, &b->layout));
  b->late = late_layer(b);
  b->parent = qe_calloc(b->layout->bytes, 1);
  if (!b->parent) return QE_NO_MEMORY;
  qe_genome_from_network(b->layout, b->network->network, b->parent);
  for (int set = 0; set < SETS; set++) QE_TRY(draw_genomes(b, set));
  return QE_OK;
}

/* ---- limits ---- */

/* Multiply-adds an image of the layers before `end`. */
static double macs_before(const qe_network *network, int32_t end) {
  double macs = 0;
  for (int32_t i = 0; i < end; i++) {
    const qe_network_layer *layer = &network->layer[i];
    if (!layer->weight) continue;
    double each = (double)qe_count(&layer->weight_desc) / layer->weight_desc.dim[QE_N];
    macs += each * (double)qe_count(&layer->output);
  }
  return macs;
}

/* What sharing the first layers can gain at most, counted in multiply-adds. */
static double ideal_prefix_gain(const bench *b, int32_t candidates) {
  double all = macs_before(b->network->network, (int32_t)b->network->network->layers);
  double shared = macs_before(b->network->network, b->late);
  return all / (all - shared + shared / candidates);
}

/* What dropping can gain at most, if a candidate's loss grows evenly with the images. */
static double ideal_dropping_gain(const entry *e) {
  double work = 0;
  for (int32_t p = 0; p < e->candidates; p++) {
    double part = (double)e->bound / (double)(e->wanted_loss[p] > 0 ? e->wanted_loss[p] : 1);
    work += part < 1 ? part : 1;
  }
  return work > 0 ? e->candidates / work : 1;
}

/* ---- runs ---- */

static qe_population_call call_of(const entry *e, int set, bool with_parent) {
  qe_population_call call = qe_bench_call(&e->engine, 0, e->images);
  call.genomes = e->bench->genomes[set];
  call.candidates = e->candidates;
  if (with_parent) call.parent = e->bench->parent;
  return call;
}

static qe_status run_call(const entry *e, const qe_population_call *call, bool logits) {
  qe_population_result result = {.loss = e->loss, .hits = e->hits, .logits = logits ? e->logits : NULL};
  return qe_population_run(e->engine.population, call, &result);
}

static qe_status run_packed(const entry *e, int32_t candidate) {
  const qe_bench_engine *engine = &e->packed_engine[candidate % PREPACKED];
  qe_population_call call = qe_bench_call(engine, 0, e->images);
  qe_population_result result = {.loss = &e->loss[candidate], .hits = &e->hits[candidate]};
  return qe_population_run(engine->population, &call, &result);
}

static qe_status run_measure(const entry *e, measure which) {
  if (which == PACKED) {
    for (int32_t p = 0; p < e->candidates; p++) QE_TRY(run_packed(e, p));
    return QE_OK;
  }
  int set = which == PREFIX ? LATE : e->turn % 2 ? FRESH_B : FRESH_A;
  if (which == DROPPING) set = FRESH_A; /* its bound is of these */
  qe_population_call call = call_of(e, set, which == PREFIX);
  if (which == DROPPING) call.bound = e->bound;
  return run_call(e, &call, false);
}

static qe_status take_turn(entry *e) {
  double units = (double)e->candidates * (double)e->images, rate[DROPPING + 1];
  for (measure which = FRESH; which <= DROPPING; which++) {
    double start = qe_bench_clock();
    QE_TRY(run_measure(e, which));
    double seconds = qe_bench_clock() - start;
    rate[which] = units / seconds;
    e->row[FRESH].spent += seconds;
    e->row[which].sample[e->row[which].samples++] = rate[which];
  }
  e->row[RATIO].sample[e->row[RATIO].samples++] = rate[FRESH] / rate[PACKED];
  e->row[PREFIX_GAIN].sample[e->row[PREFIX_GAIN].samples++] = rate[PREFIX] / rate[FRESH];
  e->row[DROPPING_GAIN].sample[e->row[DROPPING_GAIN].samples++] = rate[DROPPING] / rate[FRESH];
  e->turn++;
  return QE_OK;
}

/* ---- parity ---- */

/* The first and the last candidate against the reference, on a few images. */
static qe_status check_with_ref(const entry *e, int set, bool with_parent, qe_bench_row *row) {
  qe_population_call call = call_of(e, set, with_parent);
  const int32_t candidate[COMPARED] = {0, e->candidates - 1};
  bool parity = true;
  QE_TRY(run_call(e, &call, true));
  for (int i = 0; i < COMPARED && parity; i++) {
    QE_TRY(qe_bench_compare(&e->ref, e->bench->layout, &call, candidate[i], e->logits, row));
    parity = row->parity;
  }
  return QE_OK;
}

static void check_equal(const entry *e, int32_t candidates, const char *what, qe_bench_row *row) {
  int32_t differing = 0;
  for (int32_t p = 0; p < candidates; p++)
    differing += e->loss[p] != e->wanted_loss[p] || e->hits[p] != e->wanted_hits[p];
  row->parity = differing == 0;
  snprintf(row->error, sizeof row->error, "losses of %d candidates: %d differ from %s", candidates, differing, what);
}

static void keep_results(const entry *e) {
  memcpy(e->wanted_loss, e->loss, (size_t)e->candidates * sizeof *e->loss);
  memcpy(e->wanted_hits, e->hits, (size_t)e->candidates * sizeof *e->hits);
}

static int ascending(const void *a, const void *b) {
  const int64_t *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

/* Half of the median loss. */
static qe_status choose_bound(entry *e) {
  size_t count = (size_t)e->candidates;
  int64_t *sorted = QE_NEW_ARRAY(int64_t, count);
  if (!sorted) return QE_NO_MEMORY;
  memcpy(sorted, e->wanted_loss, count * sizeof *sorted);
  qsort(sorted, count, sizeof *sorted, ascending);
  e->bound = sorted[count / 2] / 2;
  qe_free(sorted);
  return QE_OK;
}

/* What dropping must give, from the whole losses. */
static void drop_wanted(const entry *e) {
  for (int32_t p = 0; p < e->candidates; p++) {
    if (e->wanted_loss[p] <= e->bound) continue;
    e->wanted_loss[p] = QE_DROPPED;
    e->wanted_hits[p] = 0;
  }
}

/* Runs every measure once, which warms it up, and compares. */
static qe_status check_parity(entry *e) {
  int32_t packed = e->candidates < PREPACKED ? e->candidates : PREPACKED;
  qe_population_call late = call_of(e, LATE, false);
  QE_TRY(run_call(e, &late, false));
  keep_results(e);
  QE_TRY(check_with_ref(e, LATE, true, &e->row[PREFIX]));
  bool same_as_ref = e->row[PREFIX].parity;
  check_equal(e, e->candidates, "those without a parent", &e->row[PREFIX]);
  e->row[PREFIX].parity &= same_as_ref;
  QE_TRY(check_with_ref(e, FRESH_A, false, &e->row[FRESH]));
  keep_results(e);
  for (int32_t p = 0; p < packed; p++) QE_TRY(run_packed(e, p));
  check_equal(e, packed, "those of their genomes", &e->row[PACKED]);
  QE_TRY(choose_bound(e));
  e->row[DROPPING_GAIN].peak = ideal_dropping_gain(e);
  drop_wanted(e);
  QE_TRY(run_measure(e, DROPPING));
  check_equal(e, e->candidates, "what their whole losses say", &e->row[DROPPING]);
  return QE_OK;
}

/* A ratio is as right as what it is made of. */
static void combine_parity(qe_bench_row *row, const qe_bench_row *a, const qe_bench_row *b) {
  row->parity = a->parity && b->parity;
  snprintf(row->error, sizeof row->error, "%s", a->parity ? b->error : a->error);
}

/* ---- the whole ---- */

static qe_status open_packed(entry *e, qe_device *device, int32_t candidate) {
  const bench *b = e->bench;
  qe_bench_network *network = &e->packed[candidate];
  *network = *b->network; /* but for the network proper, which is the candidate's own */
  network->network = NULL;
  QE_TRY(qe_network_from_graph(network->model->graph, network->model->values, &network->network));
  const uint8_t *genome = b->genomes[FRESH_A] + (size_t)(candidate % b->candidates) * b->layout->bytes;
  QE_TRY(qe_genome_to_network(b->layout, genome, network->network));
  return qe_bench_engine_open(device, network, NULL, &e->packed_engine[candidate]);
}

static qe_status open_entry(entry *e, qe_device *device) {
  const bench *b = e->bench;
  QE_TRY(qe_bench_engine_open(device, b->network, b->layout, &e->engine));
  QE_TRY(qe_bench_engine_open(b->devices.ref, b->network, b->layout, &e->ref));
  for (int32_t p = 0; p < PREPACKED; p++) QE_TRY(open_packed(e, device, p));
  e->loss = QE_NEW_ARRAY(int64_t, b->candidates);
  e->hits = QE_NEW_ARRAY(int64_t, b->candidates);
  e->wanted_loss = QE_NEW_ARRAY(int64_t, b->candidates);
  e->wanted_hits = QE_NEW_ARRAY(int64_t, b->candidates);
  e->logits = QE_NEW_ARRAY(int32_t, b->candidates * b->images * b->network->data->classes);
  return e->loss && e->hits && e->wanted_loss && e->wanted_hits && e->logits ? QE_OK : QE_NO_MEMORY;
}

static void close_entry(entry *e) {
  for (int p = 0; p < PREPACKED; p++) {
    qe_bench_engine_close(&e->packed_engine[p]);
    qe_network_free(e->packed[p].network);
  }
  qe_bench_engine_close(&e->engine);
  qe_bench_engine_close(&e->ref);
  qe_free(e->loss);
  qe_free(e->hits);
  qe_free(e->wanted_loss);
  qe_free(e->wanted_hits);
  qe_free(e->logits);
}

static void name_rows(const bench *b, const qe_device *device, int32_t candidates, qe_bench_row *row) {
  double macs = macs_before(b->network->network, (int32_t)b->network->network->layers);
  for (int i = 0; i < MEASURES; i++) {
    row[i].bench = "population";
    row[i].unit = i <= DROPPING ? "candidate-images/s" : "times";
    qe_bench_name_device(device, &row[i]);
    snprintf(row[i].name, sizeof row[i].name, "%s-w%da%d-%s", b->network->model->spec.name,
             b->network->model->spec.bits.weights, b->network->model->spec.bits.activations, measure_name[i]);
  }
  row[FRESH].macs = row[PACKED].macs = macs;
  row[RATIO].peak = 1;
  row[PREFIX_GAIN].peak = ideal_prefix_gain(b, candidates);
}

static qe_status prepare_entry(const bench *b, entry *e, qe_device *device) {
  QE_TRY(open_entry(e, device));
  QE_TRY(check_parity(e));
  combine_parity(&e->row[RATIO], &e->row[FRESH], &e->row[PACKED]);
  combine_parity(&e->row[PREFIX_GAIN], &e->row[FRESH], &e->row[PREFIX]);
  combine_parity(&e->row[DROPPING_GAIN], &e->row[FRESH], &e->row[DROPPING]);
  fprintf(stderr, "%s: engine %s\n", device->backend->name, qe_population_engine(e->engine.population));
  if (qe_option_flag(b->options, "explain")) qe_population_explain(e->engine.population, stderr);
  return QE_OK;
}

/* All rows of an entry fail together. */
static qe_status note_failure(qe_status status, entry *e) {
  for (int k = 0; status != QE_OK && k < MEASURES; k++) {
    qe_status handled = qe_bench_note_failure(status, &e->row[k]);
    if (handled != QE_OK) return qe_fail_within(handled, "population on %s", e->row[k].backend);
  }
  return QE_OK;
}

static int32_t fewer(const bench *b, const char *option, bool slow, int32_t most) {
  int32_t wanted = (int32_t)qe_option_int(b->options, option);
  bool given = qe_option_source(b->options, option) != QE_FROM_DEFAULT;
  return slow && !given && wanted > most ? most : wanted;
}

static qe_status add_entry(bench *b, int number) {
  entry *e = &b->entries[b->count++];
  qe_device *device = b->devices.device[number];
  bool slow = qe_bench_is_slow(device);
  e->bench = b;
  e->device = number;
  e->candidates = fewer(b, "candidates", slow, SLOW_CANDIDATES);
  e->images = fewer(b, "images", slow, SLOW_IMAGES);
  name_rows(b, device, e->candidates, e->row);
  return note_failure(prepare_entry(b, e, device), e);
}

static qe_status take_turns(bench *b) {
  bool given = qe_option_source(b->options, "repeat") != QE_FROM_DEFAULT;
  int repeats = given ? (int)qe_option_int(b->options, "repeat") : DEFAULT_REPEATS;
  for (int i = 0; i < b->count; i++)
    for (int k = 0; k < MEASURES; k++) b->entries[i].row[k].samples = 0;
  for (int turn = 0; turn < repeats; turn++)
    for (int i = 0; i < b->count; i++) {
      entry *e = &b->entries[i];
      if (qe_bench_wants_turn(b->options, &e->row[FRESH])) QE_TRY(note_failure(take_turn(e), e));
    }
  return QE_OK;
}

static qe_status run_round(void *context, qe_bench_row **rows, size_t *count) {
  bench *b = context;
  b->macs.samples = 0;
  QE_TRY(qe_bench_limits_sample(&b->devices, QE_LIMIT_CODE_MACS, &b->macs));
  QE_TRY(take_turns(b));
  for (int i = 0; i < b->count; i++) {
    qe_bench_row *row = b->entries[i].row;
    row[FRESH].peak = row[PACKED].peak = qe_bench_limit(&b->macs, b->entries[i].device) / row[FRESH].macs;
    for (int k = 0; k < MEASURES; k++) QE_TRY(qe_bench_add_row(&row[k], rows, count));
  }
  qe_bench_limits_print(&b->devices, &b->macs, "G multiply-adds/s, u8 x s8");
  fprintf(stderr,
          "%d candidates, %lld images, %d threads. Of gains, per cent of what the multiply-adds left out allow\n",
          b->candidates, (long long)b->images, b->devices.threads);
  return QE_OK;
}

static qe_status run(bench *b, qe_bench_row **rows, size_t *count) {
  qe_bits bits = {.weights = (int)qe_option_int(b->options, "weight-bits"),
                  .activations = (int)qe_option_int(b->options, "act-bits"),
                  .edges = 8,
                  .residual = 8};
  b->candidates = (int32_t)qe_option_int(b->options, "candidates");
  b->images = qe_option_int(b->options, "images");
  QE_TRY(qe_bench_devices_open(b->options, &b->devices));
  QE_TRY(qe_dataset_open(qe_option_text(b->options, "data"), qe_option_text(b->options, "data-dir"), &b->data));
  QE_TRY(qe_bench_network_new(b->devices.helper, qe_option_text(b->options, "model"), NULL, &bits, b->data,
                              (int32_t)b->images, &b->network));
  b->network->memory = (size_t)qe_option_int(b->options, "memory") << 20;
  QE_TRY(make_candidates(b));
  b->entries = QE_NEW_ARRAY(entry, b->devices.count);
  if (!b->entries) return QE_NO_MEMORY;
  for (int i = 0; qe_option_flag(b->options, "tune") && i < b->devices.count; i++)
    QE_TRY(qe_bench_tune(b->devices.device[i], b->network, b->layout, b->genomes[FRESH_A], b->candidates, b->images));
  for (int i = 0; i < b->devices.count; i++) QE_TRY(add_entry(b, i));
  return qe_bench_run_rounds(b->options, run_round, b, rows, count);
}

qe_status qe_bench_population(const qe_options *options, qe_bench_row **rows, size_t *count) {
  bench b = {.options = options};
  qe_status status = run(&b, rows, count);
  for (int i = 0; i < b.count; i++) close_entry(&b.entries[i]);
  qe_free(b.entries);
  for (int set = 0; set < SETS; set++) qe_free(b.genomes[set]);
  qe_free(b.parent);
  qe_genome_layout_free(b.layout);
  qe_bench_network_free(b.network);
  qe_dataset_free(b.data);
  qe_bench_devices_close(&b.devices);
  return status;
}
