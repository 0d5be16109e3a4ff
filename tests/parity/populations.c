/* Random integer networks and populations of them: every engine of a backend, and its ops, against each candidate as a
 * network of its own on ref; bit for bit, whatever the chunks, with a parent and with a bound. */
#include "core/base/alloc.h"
#include "tests/parity/parity.h"

#include <inttypes.h>
#include <stdlib.h>

/* For population_draw.h: what cannot happen but for lack of memory ends the harness. */
static void insist(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "qevo-parity: drawing a network: %s: %s\n", what, qe_message());
  exit(1);
}
#define OK(call) insist((call) == QE_OK, #call)
#define assert_non_null(pointer) insist((pointer) != NULL, #pointer)

enum { CLASSES = 5, IMAGES = 9, COUNT = 14, CANDIDATES = 6, GUARD = 2 };
#include "tests/population_draw.h"

static const char op_by_op[] = "op by op";

/* Results with guards behind them. */
typedef struct outcome {
  int64_t loss[CANDIDATES + GUARD], hits[CANDIDATES + GUARD];
  int32_t logits[CANDIDATES * COUNT * CLASSES + GUARD];
} outcome;

typedef struct scene {
  uint64_t seed;
  qe_network *network, *scratch; /* the same; one takes the candidates' values */
  qe_genome_layout *layout;
  uint8_t *genomes, *parent;
  images on;
  outcome alone; /* each candidate as a network of its own, on ref */
} scene;

typedef struct way {
  const char *name;
  size_t memory;
  int32_t batch;
  bool parent, bounded;
  int device;         /* of the target */
  parity_wrong wrong; /* what a difference means */
} way;

static const way ways[] = {
    {"at once", 0, 0, false, false, 0, PARITY_VALUE},
    {"again", 0, 0, false, false, 0, PARITY_REPEAT},
    {"one thread", 0, 0, false, false, 1, PARITY_THREADS},
    {"small batches", 0, 4, false, false, 0, PARITY_VALUE},
    {"little memory", 1 << 20, 0, false, false, 0, PARITY_VALUE},
    {"parent", 0, 0, true, false, 0, PARITY_VALUE},
    {"bound, small batches", 0, 3, false, true, 0, PARITY_VALUE},
    {"parent and bound", 0, 0, true, true, 0, PARITY_VALUE},
};

/* ---- scenes ---- */

/* Of all kinds; every other one is such as engines for residual networks take. */
static network_limits limits_of(draws *from, uint64_t seed) {
  network_limits any = {.extent = 6, .channels = 5, .blocks = 5};
  if (seed % 2 == 0) return any;
  static const int32_t channels[] = {4, 8, 16, 32};
  network_limits plain = {.extent = draw_range(from, 4, 12), .blocks = 4, .plain = true};
  plain.channels = channels[draw_range(from, 0, 3)];
  plain.weight_bits = draw_range(from, 0, 8);
  plain.act_bits = draw_range(from, 0, 8);
  return plain;
}

static void draw_gene(draws *from, const qe_gene *gene, uint8_t *genome) {
  void *part = genome + gene->offset;
  int64_t at = draw_range(from, 0, (int32_t)gene->count - 1);
  if (gene->kind == QE_GENE_WEIGHT)
    codes_change(from, gene, draw_range(from, 1, 8), part);
  else if (gene->kind == QE_GENE_MULTIPLIER)
    ((int32_t *)part)[at] /= 2;
  else
    ((int64_t *)part)[at] += draw_range(from, -5, 5);
}

/* The first candidate is the parent, the others differ from some gene on. */
static void draw_candidates(draws *from, scene *s) {
  s->parent = qe_alloc(s->layout->bytes);
  s->genomes = qe_alloc(CANDIDATES * s->layout->bytes);
  assert_non_null(s->parent);
  assert_non_null(s->genomes);
  qe_genome_from_network(s->layout, s->network, s->parent);
  for (int i = 0; i < CANDIDATES; i++) {
    uint8_t *genome = s->genomes + (size_t)i * s->layout->bytes;
    memcpy(genome, s->parent, s->layout->bytes);
    size_t first = (size_t)draw_range(from, 0, (int32_t)s->layout->genes - 1);
    for (size_t g = first; i > 0 && g < s->layout->genes; g++) draw_gene(from, &s->layout->gene[g], genome);
  }
}

/* All weights evolve, or all that can, or some of it. */
static void draw_layout(draws *from, scene *s) {
  int kind = draw_range(from, 0, 2);
  bool *evolves = QE_NEW_ARRAY(bool, s->network->layers), any = false;
  assert_non_null(evolves);
  for (size_t i = 0; i < s->network->layers; i++) {
    const qe_network_layer *layer = &s->network->layer[i];
    evolves[i] = (layer->weight || layer->offset) && (kind == 1 || draw_range(from, 0, 2) == 0);
    any = any || evolves[i];
  }
  if (!any) evolves[s->network->layers - 1] = true;
  OK(qe_genome_layout_new(s->network, kind == 0 ? NULL : evolves, &s->layout));
  qe_free(evolves);
}

static void scene_draw(uint64_t seed, scene *s) {
  draws from = {seed, 0};
  *s = (scene){.seed = seed};
  network_limits limits = limits_of(&from, seed);
  draws twin = from;
  s->network = network_drawn(&from, limits, CLASSES);
  s->scratch = network_drawn(&twin, limits, CLASSES);
  qe_network_prove(s->network);
  qe_network_prove(s->scratch);
  draw_layout(&from, s);
  draw_candidates(&from, s);
  images_draw(&s->on, &from, &s->network->layer[0].output);
}

static void scene_free(scene *s) {
  qe_network_free(s->network);
  qe_network_free(s->scratch);
  qe_genome_layout_free(s->layout);
  qe_free(s->genomes);
  qe_free(s->parent);
  qe_free(s->on.pixels);
}

/* ---- runs ---- */

/* The oracle: a candidate's values in a network of its own, which runs as it is. */
static qe_status run_alone(scene *s, qe_queue *queue, const qe_buffer *pixels, int candidate) {
  qe_population *population = NULL;
  qe_population_options options = {.engine = op_by_op};
  QE_TRY(qe_genome_to_network(s->layout, s->genomes + (size_t)candidate * s->layout->bytes, s->scratch));
  QE_TRY(qe_population_new(queue, s->scratch, NULL, &options, &population));
  qe_population_call call = images_call(&s->on, pixels, NULL, 1);
  qe_population_result result = {&s->alone.loss[candidate], &s->alone.hits[candidate],
                                 &s->alone.logits[candidate * COUNT * CLASSES]};
  qe_status status = qe_population_run(population, &call, &result);
  qe_population_free(population);
  return status;
}

static qe_status run_oracle(scene *s, qe_queue *ref) {
  qe_buffer *pixels = NULL;
  qe_status status = images_upload(&s->on, ref, &pixels);
  for (int i = 0; status == QE_OK && i < CANDIDATES; i++) status = run_alone(s, ref, pixels, i);
  qe_buffer_free(pixels);
  return status;
}

static qe_status run_way(const scene *s, const parity_target *target, const char *engine, const way *how, int64_t bound,
                         outcome *got) {
  qe_population *population = NULL;
  qe_buffer *pixels = NULL;
  qe_queue *queue = target->queue[how->device];
  qe_population_options options = {.memory = how->memory, .engine = engine, .batch = how->batch};
  qe_status status = images_upload(&s->on, queue, &pixels);
  if (status == QE_OK) status = qe_population_new(queue, s->network, s->layout, &options, &population);
  if (status == QE_OK) {
    qe_population_call call = images_call(&s->on, pixels, s->genomes, CANDIDATES);
    if (how->parent) call.parent = s->parent;
    call.bound = bound;
    memset(got, 0xA5, sizeof *got);
    status = qe_population_run(population, &call, &(qe_population_result){got->loss, got->hits, got->logits});
  }
  qe_population_free(population);
  qe_buffer_free(pixels);
  return status;
}

/* ---- judgement ---- */

typedef struct judge {
  const scene *scene;
  const way *how;
  parity_cell *cell;
  parity_report *report;
} judge;

static void say(const judge *j, parity_wrong wrong, const char *what) {
  char rerun[64];
  snprintf(rerun, sizeof rerun, "population seed=%" PRIu64, j->scene->seed);
  parity_report_wrong(j->report, wrong, j->cell, rerun, "  %s: %s\n  line for regress.txt: %s\n", j->how->name, what,
                      rerun);
}

static bool check_candidate(const judge *j, const outcome *got, int64_t bound, int i) {
  const outcome *alone = &j->scene->alone;
  bool dropped = alone->loss[i] > bound;
  int64_t loss = dropped ? QE_DROPPED : alone->loss[i], hits = dropped ? 0 : alone->hits[i];
  const int32_t *logits = &got->logits[i * COUNT * CLASSES], *wanted = &alone->logits[i * COUNT * CLASSES];
  int at = 0;
  while (!dropped && at < COUNT * CLASSES && logits[at] == wanted[at]) at++;
  bool same = dropped || at == COUNT * CLASSES;
  if (got->loss[i] == loss && got->hits[i] == hits && same) return true;
  char what[256];
  snprintf(what, sizeof what,
           "candidate %d: loss %" PRId64 ", must be %" PRId64 "; hits %" PRId64 ", must be %" PRId64 "; logits %s%.0d",
           i, got->loss[i], loss, got->hits[i], hits, same ? "equal" : "differ from number ", same ? 0 : at);
  say(j, j->how->wrong, what);
  return false;
}

static void check_outcome(const judge *j, const outcome *got, int64_t bound) {
  outcome untouched;
  memset(&untouched, 0xA5, sizeof untouched);
  for (int i = 0; i < CANDIDATES; i++)
    if (!check_candidate(j, got, bound, i)) return;
  if (memcmp(&got->loss[CANDIDATES], &untouched.loss[CANDIDATES], GUARD * sizeof *got->loss) != 0 ||
      memcmp(&got->hits[CANDIDATES], &untouched.hits[CANDIDATES], GUARD * sizeof *got->hits) != 0 ||
      memcmp(&got->logits[CANDIDATES * COUNT * CLASSES], untouched.logits, GUARD * sizeof *got->logits) != 0)
    say(j, PARITY_AFTER, "written behind the results");
}

/* The first thing wrong ends a scene on an engine. */
static void check_engine(const scene *s, const parity_target *target, const char *engine, parity_cell *cell,
                         parity_report *report) {
  int64_t failed = report->failed;
  cell->ran++;
  for (size_t i = 0; i < sizeof ways / sizeof ways[0] && report->failed == failed; i++) {
    judge j = {s, &ways[i], cell, report};
    outcome got;
    if (ways[i].device >= target->devices) continue;
    int64_t bound = ways[i].bounded ? s->alone.loss[s->seed % CANDIDATES] - (ways[i].parent ? 1 : 0) : INT64_MAX;
    qe_status status = run_way(s, target, engine, &ways[i], bound, &got);
    if (status == QE_NO_MEMORY && ways[i].memory) continue;
    if (status == QE_OK)
      check_outcome(&j, &got, bound);
    else
      say(&j, PARITY_STATUS, qe_message());
  }
  report->passed += report->failed == failed;
}

static const qe_network_engine *const *engines_of(const parity_target *target, int *count) {
  const qe_device *device = target->device[0];
  *count = 0;
  return device->table->engines ? device->table->engines(device, count) : NULL;
}

static qe_status run_scene(const parity_target *target, const parity_options *options, qe_queue *ref, uint64_t seed,
                           parity_report *report) {
  scene *s = QE_NEW(scene);
  if (!s) return QE_NO_MEMORY;
  scene_draw(seed, s);
  qe_status status = run_oracle(s, ref);
  int count;
  const qe_network_engine *const *engines = engines_of(target, &count);
  for (int i = 0; status == QE_OK && i <= count; i++) {
    const char *name = i < count ? engines[i]->name : op_by_op;
    if (options->impl && strcmp(options->impl, name) != 0) continue;
    parity_cell *cell = parity_report_cell(report, target->name, PARITY_POPULATION, name);
    char rerun[64];
    snprintf(rerun, sizeof rerun, "population seed=%" PRIu64, seed);
    parity_crash_note(target->name, name, rerun);
    if (!cell)
      status = QE_NO_MEMORY;
    else if (i < count && engines[i]->refuse && engines[i]->refuse(target->device[0], s->network))
      cell->refused++;
    else
      check_engine(s, target, name, cell, report);
  }
  scene_free(s);
  qe_free(s);
  return status;
}

/* An engine that took no network, unless refusals.txt says that a machine may lack what it needs. */
static void check_coverage(const parity_target *target, const parity_lists *lists, parity_report *report) {
  int count;
  const qe_network_engine *const *engines = engines_of(target, &count);
  for (int i = 0; i < count; i++) {
    parity_cell *cell = parity_report_cell(report, target->name, PARITY_POPULATION, engines[i]->name);
    if (cell && !cell->ran && cell->refused && !parity_is_allowed(lists, "machine", cell, NULL))
      parity_report_wrong(report, PARITY_NEVER_RAN, cell, NULL, "  it refused all %lld networks that were drawn\n",
                          (long long)cell->refused);
  }
}

static qe_status run_seeds(const parity_target *target, const parity_options *options, const parity_lists *lists,
                           qe_queue *ref, parity_report *report) {
  uint64_t seed;
  if (options->only_case) {
    if (sscanf(options->only_case, "population seed=%" SCNu64, &seed) != 1)
      return qe_fail(QE_USAGE, "'%s' is not 'population seed=N'", options->only_case);
    return run_scene(target, options, ref, seed, report);
  }
  for (int i = 0; i < options->populations; i++)
    QE_TRY(run_scene(target, options, ref, options->seed + (uint64_t)i, report));
  for (size_t i = 0; i < lists->regress.count; i++)
    if (sscanf(lists->regress.line[i], "population seed=%" SCNu64, &seed) == 1)
      QE_TRY(run_scene(target, options, ref, seed, report));
  check_coverage(target, lists, report);
  return QE_OK;
}

qe_status parity_populations(const parity_target *target, const parity_options *options, const parity_lists *lists,
                             parity_report *report) {
  qe_registry *registry = NULL;
  qe_device *device = NULL;
  qe_queue *queue = NULL;
  QE_TRY(qe_registry_open(&registry));
  qe_status status = qe_device_open(registry, "ref", 0, NULL, &device);
  if (status == QE_OK) status = qe_queue_new(device, &queue);
  if (status == QE_OK) status = run_seeds(target, options, lists, queue, report);
  qe_queue_free(queue);
  qe_device_close(device);
  qe_registry_close(registry);
  return status;
}
