/* The bench `allocations`: a generation of a search over the bits of layers, as the method gradfreebits evaluates it,
 * on each backend asked for; beside it plain evaluations of the same integer networks, one by one, made beforehand.
 * What the ratio has above 1 is the price of making networks: bits, batch norm's statistics, codes, requantisers. Of a
 * sweep, where each allocation differs from a base in one place, most leading layers agree and run once. */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/graph/integer.h"
#include "core/methods/allocation_trials.h"
#include "core/methods/gradfreebits.h"
#include "tools/bench_network.h"

enum { ALLOCATIONS = 16, BATCHES = 8, DEFAULT_IMAGES = 2000, DEFAULT_REPEATS = 3, LEAST = 2, MOST = 8, COMPARED = 4 };

typedef enum measure { SEARCH, PLAIN, RATIO, MEASURES } measure;
typedef enum kind { DRAWN, SWEEP, KINDS } kind;

/* Allocations of one kind. */
typedef struct generation {
  int32_t *bits;                 /* [ALLOCATIONS, places] */
  qe_network *made[ALLOCATIONS]; /* their networks */
} generation;

typedef struct bench {
  const qe_options *options;
  qe_bench_devices devices;
  qe_dataset *data;
  qe_bench_network *network;
  qe_bit_map *map;
  qe_step_bank *bank;
  generation generation[KINDS];
  int32_t images;
} bench;

/* ---- what is measured ---- */

static bool is_chosen(const bench *b, int32_t place) {
  return b->map->place[place].open && !b->map->place[place].edge;
}

/* All places at random. */
static void draw_bits(const bench *b, int32_t number, int32_t *bits) {
  int32_t places = b->map->places;
  for (int32_t k = 0; k < places; k++) {
    uint32_t word = qe_philox_draw(1, QE_STREAM_BITS, (uint64_t)number * (uint64_t)places + (uint64_t)k).word[0];
    if (is_chosen(b, k)) bits[k] = LEAST + (int32_t)qe_below(word, MOST - LEAST + 1);
  }
}

/* One bit less at one place; from allocation to allocation the places go through the network. */
static void sweep_bits(const bench *b, int32_t number, int32_t *bits) {
  int32_t chosen = 0, at = 0;
  for (int32_t k = 0; k < b->map->places; k++) chosen += is_chosen(b, k);
  for (int32_t k = 0; k < b->map->places; k++)
    if (is_chosen(b, k) && at++ == number * chosen / ALLOCATIONS) bits[k] += bits[k] > LEAST ? -1 : 1;
}

static qe_status choose_allocations(bench *b) {
  static void (*const choose[KINDS])(const bench *b, int32_t number, int32_t *bits) = {draw_bits, sweep_bits};
  int32_t places = b->map->places;
  for (int k = 0; k < KINDS; k++) {
    int32_t *bits = b->generation[k].bits = QE_NEW_ARRAY(int32_t, (int64_t)ALLOCATIONS * places);
    if (!bits) return QE_NO_MEMORY;
    for (int32_t i = 0; i < ALLOCATIONS; i++, bits += places) {
      qe_bit_map_default(b->map, bits);
      choose[k](b, i, bits);
    }
  }
  return QE_OK;
}

/* Steps of all bits, fitted to a few images. */
static qe_status fill_bank(bench *b) {
  qe_dataset few = *b->network->data;
  if (few.train_images > 16) few.train_images = 16;
  QE_TRY(qe_step_bank_new(b->network->model, &b->bank));
  for (int width = LEAST; width <= MOST; width++) {
    qe_bits bits = b->network->model->spec.bits;
    qe_model *model;
    bits.weights = bits.activations = width;
    QE_TRY(qe_model_requantize(b->network->model, &bits, &model));
    qe_status status = qe_fit_steps(b->devices.helper, model, &few, 1);
    if (status == QE_OK) qe_step_bank_keep(b->bank, model);
    qe_model_free(model);
    QE_TRY(status);
  }
  return QE_OK;
}

static qe_trials_setup setup_of(const bench *b, qe_device *device, int32_t batch, int32_t norm_images) {
  return (qe_trials_setup){.device = device,
                           .data = b->network->data,
                           .model = b->network->model,
                           .map = b->map,
                           .bank = b->bank,
                           .fitness = {.seed = 1},
                           .batch = batch,
                           .norm_images = norm_images};
}

static qe_status make_networks(bench *b) {
  qe_trials_setup setup = setup_of(b, b->devices.helper, b->images / BATCHES, qe_gradfreebits_defaults().norm_images);
  qe_trials *trials;
  QE_TRY(qe_trials_new(&setup, &trials));
  qe_status status = QE_OK;
  for (int i = 0; status == QE_OK && i < KINDS * ALLOCATIONS; i++) {
    generation *of = &b->generation[i / ALLOCATIONS];
    int32_t number = i % ALLOCATIONS;
    qe_model *model = NULL;
    status = qe_trials_model(trials, of->bits + (int64_t)number * b->map->places, &model);
    if (status == QE_OK) status = qe_network_from_graph(model->graph, model->values, &of->made[number]);
    qe_model_free(model);
  }
  qe_trials_free(trials);
  return status;
}

static qe_status time_search(const bench *b, const generation *of, qe_device *device, double *seconds) {
  qe_trials_setup setup = setup_of(b, device, b->images / BATCHES, qe_gradfreebits_defaults().norm_images);
  qe_trials *trials;
  qe_trial_score score[ALLOCATIONS];
  QE_TRY(qe_trials_new(&setup, &trials));
  qe_status status = qe_trials_run(trials, of->bits, 1, 1000, 1, score); /* images and threads come up */
  double since = qe_bench_clock();
  if (status == QE_OK) status = qe_trials_run(trials, of->bits, ALLOCATIONS, 0, BATCHES, score);
  *seconds = qe_bench_clock() - since;
  qe_trials_free(trials);
  return status;
}

static qe_status time_plain(const bench *b, const generation *of, qe_device *device, double *seconds) {
  qe_bench_engine images = {0};
  int64_t loss, hits;
  qe_population_result result = {.loss = &loss, .hits = &hits};
  QE_TRY(qe_bench_engine_open(device, b->network, NULL, &images));
  qe_population_call call = qe_bench_call(&images, 0, b->images / BATCHES * BATCHES);
  qe_status status = qe_population_run(images.population, &call, &result);
  double since = qe_bench_clock();
  for (int i = 0; status == QE_OK && i < ALLOCATIONS; i++) {
    qe_population *population;
    qe_population_options memory = {.memory = b->network->memory};
    status = qe_population_new(images.queue, of->made[i], NULL, &memory, &population);
    if (status != QE_OK) break;
    status = qe_population_run(population, &call, &result);
    qe_population_free(population);
  }
  *seconds = qe_bench_clock() - since;
  qe_bench_engine_close(&images);
  return status;
}

/* ---- rows ---- */

/* Losses of an allocation on a few images: exact, so the reference's. */
static qe_status check_parity(const bench *b, qe_device *device, qe_bench_row *row) {
  qe_device *const device_of[2] = {device, b->devices.ref};
  qe_trial_score score[2] = {{0}};
  for (int k = 0; k < 2; k++) {
    qe_trials_setup setup = setup_of(b, device_of[k], COMPARED, 0);
    qe_trials *trials;
    QE_TRY(qe_trials_new(&setup, &trials));
    qe_status status = qe_trials_run(trials, b->generation[DRAWN].bits, 1, 0, 1, &score[k]);
    qe_trials_free(trials);
    QE_TRY(status);
  }
  bool same = score[0].loss >= score[1].loss && score[0].loss <= score[1].loss;
  for (int k = 0; k < MEASURES; k++) {
    row[k].parity = same;
    snprintf(row[k].error, sizeof row[k].error, "loss of an allocation on %d images: %s", COMPARED,
             same ? "the same" : "differs");
  }
  return QE_OK;
}

static void name_rows(const bench *b, const qe_device *device, kind which, qe_bench_row *row) {
  static const struct {
    const char *name, *unit;
  } of[MEASURES] = {{"", "allocations/s"}, {"-plain", "networks/s"}, {"-ratio", "times"}};
  for (int k = 0; k < MEASURES; k++) {
    row[k] = (qe_bench_row){.bench = "allocations", .unit = of[k].unit};
    snprintf(row[k].name, sizeof row[k].name, "%s-%dx%d%s%s", qe_option_text(b->options, "model"), ALLOCATIONS,
             b->images, which == SWEEP ? "-sweep" : "", of[k].name);
    qe_bench_name_device(device, &row[k]);
  }
}

/* Both in turn, so that a change of the machine's speed meets both. */
static qe_status measure_device(const bench *b, kind which, qe_device *device, qe_bench_row *row) {
  bool given = qe_option_source(b->options, "repeat") != QE_FROM_DEFAULT;
  int repeats = given ? (int)qe_option_int(b->options, "repeat") : DEFAULT_REPEATS;
  const generation *of = &b->generation[which];
  QE_TRY(check_parity(b, device, row));
  for (int turn = 0; turn < repeats && (turn == 0 || qe_bench_wants_turn(b->options, &row[SEARCH])); turn++) {
    double search, plain;
    QE_TRY(time_search(b, of, device, &search));
    QE_TRY(time_plain(b, of, device, &plain));
    row[SEARCH].spent += search + plain;
    row[SEARCH].sample[row[SEARCH].samples++] = ALLOCATIONS / search;
    row[PLAIN].sample[row[PLAIN].samples++] = ALLOCATIONS / plain;
    row[RATIO].sample[row[RATIO].samples++] = search / plain;
  }
  return QE_OK;
}

static qe_status add_rows(const bench *b, kind which, qe_device *device, qe_bench_row **rows, size_t *count) {
  qe_bench_row row[MEASURES];
  name_rows(b, device, which, row);
  QE_TRY(qe_bench_note_failure(measure_device(b, which, device, row), &row[SEARCH]));
  for (int k = 0; k < MEASURES; k++)
    if (k == SEARCH || !row[SEARCH].failed) QE_TRY(qe_bench_add_row(&row[k], rows, count));
  return QE_OK;
}

static qe_status run(bench *b, qe_bench_row **rows, size_t *count) {
  qe_bits bits = {.weights = (int)qe_option_int(b->options, "weight-bits"),
                  .activations = (int)qe_option_int(b->options, "act-bits"),
                  .edges = 8,
                  .residual = 8};
  bool given = qe_option_source(b->options, "images") != QE_FROM_DEFAULT;
  b->images = given ? (int32_t)qe_option_int(b->options, "images") : DEFAULT_IMAGES;
  if (b->images < BATCHES) return qe_fail(QE_USAGE, "bench allocations: --images %d: at least %d", b->images, BATCHES);
  QE_TRY(qe_bench_devices_open(b->options, &b->devices));
  QE_TRY(qe_dataset_open(qe_option_text(b->options, "data"), qe_option_text(b->options, "data-dir"), &b->data));
  QE_TRY(qe_bench_network_new(b->devices.helper, qe_option_text(b->options, "model"), NULL, &bits, b->data, b->images,
                              &b->network));
  b->network->memory = (size_t)qe_option_int(b->options, "memory") << 20;
  QE_TRY(qe_bit_map_new(&b->network->model->spec, &b->map));
  QE_TRY(fill_bank(b));
  QE_TRY(choose_allocations(b));
  QE_TRY(make_networks(b));
  for (int i = 0; i < b->devices.count; i++)
    for (int k = 0; k < KINDS && !qe_bench_is_slow(b->devices.device[i]); k++)
      QE_TRY(add_rows(b, (kind)k, b->devices.device[i], rows, count));
  return QE_OK;
}

qe_status qe_bench_allocations(const qe_options *options, qe_bench_row **rows, size_t *count) {
  bench b = {.options = options};
  qe_status status = run(&b, rows, count);
  for (int k = 0; k < KINDS; k++) {
    for (int i = 0; i < ALLOCATIONS; i++) qe_network_free(b.generation[k].made[i]);
    qe_free(b.generation[k].bits);
  }
  qe_step_bank_free(b.bank);
  qe_bit_map_free(b.map);
  qe_bench_network_free(b.network);
  qe_dataset_free(b.data);
  qe_bench_devices_close(&b.devices);
  return status;
}
