/* Running stages: their order, the context, budgets, checkpoints from which a search goes on exactly; lists of stages;
 * the start and the teacher of the method. */
#include "core/base/rng.h"
#include "core/dispatch/network_file.h"
#include "core/evolve/stages.h"
#include "core/graph/integer.h"
#include "core/methods/coevolution.h"
#include "tests/failing.h"
#include "tests/fixture.h"

enum { SIDE = 8, CLASSES = 4, TRAIN = 64, GENERATIONS = 6, LINES = 64 };

static qe_dataset *data;
static qe_network *of_4_bits; /* made once: fitting steps takes its time */

static qe_network *small_network(int bits) {
  qe_model_spec spec = qe_model_default("mlp");
  qe_model *model;
  qe_network *network;
  spec.height = spec.width = SIDE;
  spec.classes = CLASSES;
  spec.bits = (qe_bits){.weights = bits, .activations = 4, .edges = 8, .residual = 8};
  OK(qe_model_new(&spec, 5, &model));
  OK(qe_fit_steps(fixture_device[0], model, data, 5));
  OK(qe_network_from_graph(model->graph, model->values, &network));
  qe_model_free(model);
  return network;
}

static int open_all(void **state) {
  data = small_data(SIDE, 3, CLASSES, TRAIN, 8);
  int failed = fixture_open(state);
  of_4_bits = small_network(4);
  return failed;
}
static int close_all(void **state) {
  qe_network_free(of_4_bits);
  qe_dataset_free(data);
  return fixture_close(state);
}

/* ---- two stages that do next to nothing ---- */

typedef struct walk {
  int64_t done;
} walk;

static qe_status save_walk(const void *stage, qe_tensors *state) {
  const walk *w = stage;
  return qe_tensors_add(state, "done", QE_S64, 0, NULL, &w->done);
}

/* One code moves to a place that depends on the generation; one image pays for it. */
static qe_status step_walk(qe_evolution *evolution, int64_t generation, int64_t *loss, int64_t *changed) {
  const qe_gene *gene = &evolution->layout->gene[0];
  qe_fitness_batch batch = {.part = QE_FITNESS_TRAIN, .number = (uint64_t)generation, .count = 8};
  uint8_t *genome = qe_alloc(evolution->layout->bytes);
  if (!genome) return QE_NO_MEMORY;
  memcpy(genome, evolution->genome, evolution->layout->bytes);
  qe_philox draw = qe_philox_draw(evolution->seed, QE_STREAM_TEST, (uint64_t)generation);
  genome[gene->offset + qe_below(draw.word[0], (uint32_t)gene->bytes)] ^= 0x11;
  qe_status status = qe_fitness_run(evolution->fitness, &batch, genome, 1, evolution->genome, INT64_MAX, loss, NULL);
  if (status == QE_OK) status = qe_evolution_take(evolution, genome, changed);
  qe_free(genome);
  return status;
}

static qe_status run_walk(qe_evolution *evolution, const qe_evolution_options *options) {
  (void)options;
  walk w = {0};
  if (evolution->state) w.done = *(int64_t *)qe_tensors_find(evolution->state, "done")->data;
  while (w.done < GENERATIONS && qe_evolution_left(evolution) >= 8) {
    qe_evolution_report report = {.generation = ++w.done, .mean = -1, .held_out = -1, .confident_per_myriad = -1};
    QE_TRY(step_walk(evolution, w.done, &report.best, &report.changed));
    QE_TRY(qe_evolution_generation(evolution, &report, save_walk, &w));
  }
  return QE_OK;
}

/* Every offset moves, generation by generation; nothing is saved. */
static qe_status run_shift(qe_evolution *evolution, const qe_evolution_options *options) {
  (void)options;
  for (int64_t generation = 1; generation <= 2; generation++) {
    for (size_t i = 0; i < evolution->network->layers; i++)
      if (evolution->network->layer[i].offset) evolution->network->layer[i].offset[0] += 100 * generation;
    QE_TRY(qe_evolution_renew(evolution));
    qe_evolution_report report = {.generation = generation, .best = -1, .mean = -1, .held_out = -1};
    QE_TRY(qe_evolution_generation(evolution, &report, NULL, NULL));
  }
  return QE_OK;
}

static const qe_search_stage walk_stage = {"walk", "", run_walk}, shift_stage = {"shift", "", run_shift};

/* ---- a search that is heard ---- */

typedef struct hearing {
  char line[LINES][96]; /* what was told, in order */
  int lines, generations, stop_after;
  qe_tensors *checkpoint;
} hearing;

static qe_status hear(void *context, const qe_evolution *evolution, const qe_evolution_report *report) {
  hearing *h = context;
  assert_int_equal(report->spent, qe_evolution_spent(evolution));
  assert_true(h->lines < LINES);
  snprintf(h->line[h->lines++], sizeof h->line[0], "%s %d: spent %d best %d changed %d", report->stage,
           (int)report->generation, (int)report->spent, (int)report->best, (int)report->changed);
  return ++h->generations == h->stop_after ? QE_INTERRUPTED : QE_OK;
}

static qe_status keep(void *context, const qe_evolution *evolution) {
  hearing *h = context;
  qe_tensors_free(h->checkpoint);
  h->checkpoint = qe_tensors_new();
  return h->checkpoint ? qe_evolution_give(evolution, h->checkpoint) : QE_NO_MEMORY;
}

static qe_status between(void *context, qe_evolution *evolution) {
  hearing *h = context;
  snprintf(h->line[h->lines++], sizeof h->line[0], "between, %d done", evolution->stages_done);
  return QE_OK;
}

static qe_status try_evolution(hearing *h, int bits, int64_t budget, int save_every, qe_evolution **evolution) {
  qe_evolution_setup setup = {.device = fixture_device,
                              .devices = 1,
                              .data = data,
                              .measure = {.held_out = 16},
                              .seed = 9,
                              .budget = budget,
                              .save_every = save_every,
                              .events = {.context = h, .generation = hear, .checkpoint = keep}};
  qe_network *network = NULL;
  if (bits == 4)
    QE_TRY(qe_network_copy(of_4_bits, &network));
  else
    network = small_network(bits);
  return qe_evolution_new(&setup, network, evolution);
}

static qe_evolution *new_evolution(hearing *h, int save_every) {
  qe_evolution *evolution;
  OK(try_evolution(h, 4, 0, save_every, &evolution));
  return evolution;
}

static const qe_search_stage *const both[] = {&walk_stage, &shift_stage, &walk_stage, NULL};
static const qe_evolution_options no_options;

static void assert_same_network(const qe_network *a, const qe_network *b) {
  qe_tensors *from[2] = {qe_tensors_new(), qe_tensors_new()};
  OK(qe_network_give(a, from[0]));
  OK(qe_network_give(b, from[1]));
  assert_int_equal(from[0]->count, from[1]->count);
  for (size_t i = 0; i < from[0]->count; i++) {
    assert_int_equal(from[0]->items[i].bytes, from[1]->items[i].bytes);
    assert_memory_equal(from[0]->items[i].data, from[1]->items[i].data, from[0]->items[i].bytes);
  }
  qe_tensors_free(from[0]);
  qe_tensors_free(from[1]);
}

/* ---- what holds ---- */

static void test_order(void **state) {
  (void)state;
  hearing h = {0};
  qe_evolution *evolution = new_evolution(&h, 0);
  OK(qe_evolution_run(evolution, both, &no_options, between));
  static const char *const starts[] = {"between, 0", "walk 1:",    "walk 2:",  "walk 3:",  "walk 4:",    "walk 5:",
                                       "walk 6:",    "between, 1", "shift 1:", "shift 2:", "between, 2", "walk 1:"};
  assert_int_equal(h.lines, 18);
  for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
    assert_int_equal(strncmp(h.line[i], starts[i], strlen(starts[i])), 0);
  assert_string_equal(h.line[17], "between, 3 done");
  assert_int_equal(qe_evolution_spent(evolution), 2 * GENERATIONS * 8);
  assert_int_equal(evolution->stages_done, 3);
  qe_evolution_free(evolution);
  qe_tensors_free(h.checkpoint);
}

static void test_take(void **state) {
  (void)state;
  hearing h = {0};
  qe_evolution *evolution = new_evolution(&h, 0);
  size_t bytes = evolution->layout->bytes;
  uint8_t *genome = qe_alloc(bytes);
  memcpy(genome, evolution->genome, bytes);
  const qe_gene *gene = &evolution->layout->gene[1]; /* of 4 bits: a byte holds two codes */
  genome[gene->offset] ^= 0x11;
  genome[gene->offset + 7] ^= 0x70;
  int64_t changed = 0;
  OK(qe_evolution_take(evolution, genome, &changed));
  assert_int_equal(changed, 3);
  assert_memory_equal(evolution->genome, genome, bytes);
  uint8_t *again = qe_calloc(bytes, 1);
  qe_genome_from_network(evolution->layout, evolution->network, again);
  assert_memory_equal(again, genome, bytes);
  OK(qe_evolution_take(evolution, genome, &changed));
  assert_int_equal(changed, 0);
  qe_free(again);
  qe_free(genome);
  qe_evolution_free(evolution);
}

static void test_budget(void **state) {
  (void)state;
  hearing h = {0};
  qe_evolution *evolution;
  OK(try_evolution(&h, 4, 20, 0, &evolution));
  assert_int_equal(qe_evolution_left(evolution), 20);
  OK(qe_evolution_run(evolution, both, &no_options, NULL));
  assert_int_equal(qe_evolution_spent(evolution), 16); /* a third generation would have passed it */
  assert_int_equal(qe_evolution_left(evolution), 4);
  qe_evolution_free(evolution);
  qe_tensors_free(h.checkpoint);
}

/* Stopped after any generation, also in a stage that saves nothing, and with checkpoints that were never called for. */
static void test_resume(void **state) {
  (void)state;
  static hearing whole, parts;
  memset(&whole, 0, sizeof whole);
  qe_evolution *wanted = new_evolution(&whole, 0);
  OK(qe_evolution_run(wanted, both, &no_options, between));
  for (int stop = 1; stop <= 14; stop++) {
    memset(&parts, 0, sizeof parts);
    parts.stop_after = stop;
    qe_evolution *evolution = new_evolution(&parts, stop % 2 ? 0 : 4);
    assert_int_equal(qe_evolution_run(evolution, both, &no_options, between), QE_INTERRUPTED);
    qe_evolution_free(evolution);
    parts.stop_after = 0;
    if (stop == 7 || stop == 8) parts.lines -= stop - 6; /* the stage `shift` starts anew */
    evolution = new_evolution(&parts, 0);
    OK(qe_evolution_resume(evolution, parts.checkpoint, "the checkpoint"));
    OK(qe_evolution_run(evolution, both, &no_options, between));
    assert_int_equal(parts.lines, whole.lines);
    for (int i = 0; i < whole.lines; i++) assert_string_equal(parts.line[i], whole.line[i]);
    assert_same_network(evolution->network, wanted->network);
    assert_int_equal(qe_evolution_spent(evolution), qe_evolution_spent(wanted));
    qe_evolution_free(evolution);
    qe_tensors_free(parts.checkpoint);
  }
  qe_evolution_free(wanted);
  qe_tensors_free(whole.checkpoint);
}

static void test_foreign_checkpoint(void **state) {
  (void)state;
  hearing h = {0}, other = {0};
  qe_evolution *evolution = new_evolution(&h, 0), *foreign;
  OK(qe_evolution_run(evolution, both, &no_options, NULL));
  OK(try_evolution(&other, 3, 0, 0, &foreign));
  FAILS(QE_FORMAT, qe_evolution_resume(foreign, h.checkpoint, "FILE"), "another network");
  OK(qe_evolution_resume(evolution, h.checkpoint, "FILE"));
  FAILS(QE_USAGE, qe_evolution_run(evolution, both + 1, &no_options, NULL), "with the stages that it had");
  OK(qe_tensors_set_meta(h.checkpoint, "spent", "-3"));
  FAILS(QE_FORMAT, qe_evolution_resume(evolution, h.checkpoint, "FILE"), "\"spent\"");
  OK(qe_tensors_set_meta(h.checkpoint, "spent", "3x"));
  FAILS(QE_FORMAT, qe_evolution_resume(evolution, h.checkpoint, "FILE"), "\"spent\"");
  qe_evolution_free(evolution);
  qe_evolution_free(foreign);
  qe_tensors_free(h.checkpoint);
}

static void test_lists(void **state) {
  (void)state;
  const qe_search_stage *stage[QE_MOST_STAGES];
  OK(qe_search_stages_find("", stage));
  assert_null(stage[0]);
  OK(qe_search_stages_find("eda,eda", stage));
  assert_string_equal(stage[1]->name, "eda");
  assert_null(stage[2]);
  FAILS(QE_USAGE, qe_search_stages_find("eda,edda", stage), "did you mean eda?");
  FAILS(QE_USAGE, qe_search_stages_find("qqqqqqqq", stage), "there is ");
  char many[4 * QE_MOST_STAGES + 1] = "";
  for (int i = 0; i < QE_MOST_STAGES; i++) strcat(many, "eda,");
  FAILS(QE_USAGE, qe_search_stages_find(many, stage), "at most 31");
  for (int i = 0; qe_search_stage_get(i); i++)
    for (int k = 0; k < i; k++) assert_string_not_equal(qe_search_stage_get(i)->name, qe_search_stage_get(k)->name);
  assert_null(qe_search_stage_get(-1));
}

/* A whole search, saved and taken up again. */
static qe_status run_once(void) {
  hearing *h = calloc(1, sizeof *h);
  qe_evolution *evolution = NULL;
  qe_status status = try_evolution(h, 4, 8, 1, &evolution);
  if (status == QE_OK) status = qe_evolution_run(evolution, both + 2, &no_options, NULL);
  if (status == QE_OK) status = qe_evolution_resume(evolution, h->checkpoint, "the checkpoint");
  qe_evolution_free(evolution);
  qe_tensors_free(h->checkpoint);
  free(h);
  return status;
}

static void test_failing_allocations(void **state) {
  (void)state;
  check_failing_allocations(run_once, 50, 0);
}

/* ---- start and teacher ---- */

static void test_teacher_of_other_classes(void **state) {
  (void)state;
  char folder[FIXTURE_PATH], path[2 * FIXTURE_PATH];
  folder_new(folder);
  snprintf(path, sizeof path, "%s/network.safetensors", folder);
  qe_network *network = of_4_bits, *teacher = NULL, *start = NULL;
  OK(qe_network_write(network, path));
  qe_dataset *others = small_data(SIDE, 3, CLASSES + 1, TRAIN, 8);
  qe_setting setting = {.device = fixture_device[0], .data = data, .search = {.teacher = path}, .init = path};
  OK(qe_coevolution_teacher(&setting, &teacher));
  assert_same_network(teacher, network);
  qe_network_free(teacher);
  OK(qe_coevolution_start(&setting, &start));
  assert_same_network(start, network);
  qe_network_free(start);
  setting.search.teacher = NULL; /* an integer network to start from is no teacher */
  OK(qe_coevolution_teacher(&setting, &teacher));
  assert_null(teacher);
  setting.search.teacher = path;
  setting.data = others;
  FAILS(QE_SHAPE, qe_coevolution_teacher(&setting, &teacher), "teacher");
  assert_null(teacher);
  FAILS(QE_SHAPE, qe_coevolution_start(&setting, &start), "classes");
  qe_dataset_free(others);
  folder_remove(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_order),
      cmocka_unit_test(test_take),
      cmocka_unit_test(test_budget),
      cmocka_unit_test(test_resume),
      cmocka_unit_test(test_lists),
      cmocka_unit_test(test_foreign_checkpoint),
      cmocka_unit_test(test_failing_allocations),
      cmocka_unit_test(test_teacher_of_other_classes),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
