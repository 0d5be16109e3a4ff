/* Tests of the method gradfreebits: steps by bit-width, statistics of batch norm, trials of allocations and what they
 * remember, the list of what a search has met, the choice within the budgets, bad options. How a run is resumed:
 * test_runs.c. */
#include "core/graph/integer.h"
#include "core/methods/gradfreebits_parts.h"
#include "core/report/report.h"
#include "tests/saved.h"

static qe_bit_map *map;

static qe_model *fitted_model(int bits) {
  qe_model_spec spec = small_spec(bits);
  qe_model *model = new_model(&spec, 3);
  OK(qe_fit_steps(fixture_fast(), model, data, 1));
  return model;
}

/* All open places at so many bits. */
static void uniform(int32_t *bits, int32_t width) {
  qe_bit_map_default(map, bits);
  for (int32_t i = 0; i < map->places; i++)
    if (map->place[i].open && !map->place[i].edge) bits[i] = width;
}

static int open_map(void **state) {
  qe_model_spec spec = small_spec(3);
  if (open_all(state)) return 1;
  OK(qe_bit_map_new(&spec, &map));
  return 0;
}
static int close_map(void **state) {
  qe_bit_map_free(map);
  return close_all(state);
}

/* ---- steps ---- */

static int first_step(const qe_model *model, const char *name) {
  int at = qe_graph_find_param(model->graph, name);
  if (at < 0) fail_msg("no parameter %s", name);
  return at;
}

static void steps_are_kept_by_bits(void **state) {
  (void)state;
  qe_step_bank *bank;
  qe_model *three = fitted_model(3), *five = fitted_model(5);
  const char *name = three->graph->param[0].name;
  for (size_t i = 0; i < three->graph->params; i++)
    if (three->graph->param[i].group == QE_GROUP_STEP) name = three->graph->param[i].name;
  int at = first_step(three, name);
  OK(qe_step_bank_new(three, &bank));
  qe_step_bank_keep(bank, three);
  float kept = *qe_model_values(three, at);
  *qe_model_values(three, at) = 7;
  qe_step_bank_put(bank, three);
  assert_true(*qe_model_values(three, at) == kept);
  assert_true(three->graph->param[at].initialised);
  /* Of other bits there are none yet. */
  qe_step_bank_put(bank, five);
  if (five->graph->node[five->graph->param[at].node].quantizer.bits == 5)
    assert_false(five->graph->param[at].initialised);
  qe_step_bank_free(bank);
  qe_model_free(five);
  qe_model_free(three);
}

static void steps_go_through_tensors(void **state) {
  (void)state;
  qe_step_bank *bank, *other;
  qe_model *model = fitted_model(4);
  qe_tensors *tensors = qe_tensors_new(), *again = qe_tensors_new();
  OK(qe_step_bank_new(model, &bank));
  OK(qe_step_bank_new(model, &other));
  qe_step_bank_keep(bank, model);
  OK(qe_step_bank_give(bank, tensors));
  assert_true(tensors->count > 0);
  OK(qe_step_bank_take(other, tensors, "t"));
  OK(qe_step_bank_give(other, again));
  assert_int_equal(again->count, tensors->count);
  for (size_t i = 0; i < tensors->count; i++)
    assert_memory_equal(again->items[i].data, tensors->items[i].data, tensors->items[i].bytes);
  *(float *)tensors->items[0].data = -1;
  FAILS(QE_FORMAT, qe_step_bank_take(other, tensors, "t"), tensors->items[0].name);
  qe_tensors_free(again);
  qe_tensors_free(tensors);
  qe_step_bank_free(other);
  qe_step_bank_free(bank);
  qe_model_free(model);
}

/* ---- statistics ---- */

static void statistics_are_of_the_batch_alone(void **state) {
  (void)state;
  qe_norms norms;
  qe_model_spec spec = small_spec(4);
  qe_model *model = new_model(&spec, 5);
  OK(qe_fit_steps(fixture_fast(), model, data, 1));
  OK(qe_norms_open(fixture_fast(), data, 1, 16, &norms));
  size_t first = model->graph->group_offset[QE_GROUP_STATE] / sizeof(float);
  assert_true(first < qe_graph_param_bytes(model->graph) / sizeof(float));
  float before = model->values[first];
  OK(qe_norms_estimate(&norms, NULL, model));
  float once = model->values[first];
  assert_true(once < before || once > before);
  OK(qe_norms_estimate(&norms, NULL, model));
  assert_true(once == model->values[first]); /* nothing of what was there before is left */
  qe_norms_close(&norms);
  qe_model_free(model);
}

/* ---- trials ---- */

typedef struct trying {
  qe_model *model;
  qe_step_bank *bank;
  qe_trials *trials;
} trying;

static void open_trying(trying *t, int32_t norm_images) {
  t->model = fitted_model(3);
  OK(qe_step_bank_new(t->model, &t->bank));
  for (int bits = 2; bits <= 8; bits++) {
    qe_model *at = fitted_model(bits);
    qe_step_bank_keep(t->bank, at);
    qe_model_free(at);
  }
  qe_trials_setup setup = {.device = fixture_fast(),
                           .data = data,
                           .model = t->model,
                           .map = map,
                           .bank = t->bank,
                           .fitness = {.seed = 1, .pad = 1, .flip = true},
                           .augmented = true,
                           .batch = 8,
                           .norm_images = norm_images};
  OK(qe_trials_new(&setup, &t->trials));
}

static void close_trying(trying *t) {
  qe_trials_free(t->trials);
  qe_step_bank_free(t->bank);
  qe_model_free(t->model);
}

/* A score is that of the allocation's own integer network, evaluated by itself. */
static void scores_are_those_of_plain_networks(void **state) {
  (void)state;
  trying t;
  open_trying(&t, 0);
  int32_t *bits = QE_NEW_ARRAY(int32_t, map->places);
  qe_trial_score score;
  uniform(bits, 4);
  OK(qe_trials_run(t.trials, bits, 1, 5, 2, &score));
  qe_model *model;
  qe_network *network;
  qe_fitness *fitness;
  qe_device *device = fixture_fast();
  OK(qe_trials_model(t.trials, bits, &model));
  OK(qe_network_from_graph(model->graph, model->values, &network));
  qe_fitness_options options = {.seed = 1, .pad = 1, .flip = true};
  OK(qe_fitness_new(&device, 1, network, NULL, data, &options, &fitness));
  int64_t sum = 0, right = 0;
  for (uint64_t number = 5; number < 7; number++) {
    int64_t loss, hits;
    qe_fitness_batch batch = {.number = number, .count = 8, .augmented = true};
    OK(qe_fitness_run(fitness, &batch, NULL, 1, NULL, INT64_MAX, &loss, &hits));
    sum += loss;
    right += hits;
  }
  assert_true(score.loss == (double)sum * (0.6931471805599453 / 65536) / 16);
  assert_true(score.top1 == 100.0 * (double)right / 16);
  qe_fitness_free(fitness);
  qe_network_free(network);
  qe_model_free(model);
  qe_free(bits);
  close_trying(&t);
}

static void known_allocations_cost_nothing(void **state) {
  (void)state;
  trying t;
  open_trying(&t, 0);
  int32_t *bits = QE_NEW_ARRAY(int32_t, 3 * (int64_t)map->places);
  qe_trial_score score[3], again[3];
  uniform(bits, 3);
  uniform(bits + map->places, 5);
  uniform(bits + 2 * map->places, 3);
  OK(qe_trials_run(t.trials, bits, 3, 0, 4, score));
  assert_int_equal(qe_trials_made(t.trials), 2);
  assert_int_equal(qe_trials_known(t.trials), 1);
  assert_true(score[0].loss == score[2].loss);
  OK(qe_trials_run(t.trials, bits, 3, 0, 4, again));
  assert_int_equal(qe_trials_made(t.trials), 2);
  assert_true(again[1].loss == score[1].loss);
  /* A batch further on, only that batch is new; asked for are all. */
  OK(qe_trials_run(t.trials, bits, 1, 1, 4, again));
  assert_int_equal(qe_trials_made(t.trials), 3);
  assert_int_equal(qe_trials_spent(t.trials), 7 * 4 * 8);
  qe_free(bits);
  close_trying(&t);
}

/* The model of an allocation, without statistics of its own. */
static qe_model *model_at(const trying *t, const int32_t *bits) {
  char *text;
  qe_model *model;
  qe_bits spec = t->model->spec.bits;
  OK(qe_bit_map_text(map, bits, &text));
  spec.layers = text;
  OK(qe_model_requantize(t->model, &spec, &model));
  qe_step_bank_put(t->bank, model);
  qe_free(text);
  return model;
}

/* Wherever the first change is, statistics are those of an estimate from the start, to the bit. */
static void statistics_go_on_from_the_model_before(void **state) {
  (void)state;
  trying t;
  qe_norms norms, other;
  int32_t *bits = QE_NEW_ARRAY(int32_t, map->places);
  open_trying(&t, 0);
  uniform(bits, 4);
  FOR_EACH_DEVICE(device) {
    qe_model *before = model_at(&t, bits);
    OK(qe_norms_open(device, data, 1, 8, &norms));
    OK(qe_norms_open(device, data, 1, 8, &other));
    OK(qe_norms_estimate(&norms, NULL, before));
    for (int32_t at = map->places - 1; at >= 0; at--) {
      if (!map->place[at].open) continue;
      int32_t was = bits[at];
      bits[at] = at % 2 ? 8 : 2;
      qe_model *model = model_at(&t, bits), *fresh = model_at(&t, bits);
      OK(qe_norms_estimate(&norms, before, model));
      OK(qe_norms_estimate(&other, NULL, fresh));
      assert_memory_equal(model->values, fresh->values, qe_graph_param_bytes(model->graph));
      bits[at] = was;
      qe_model_free(fresh);
      qe_model_free(before);
      before = model;
    }
    qe_model_free(before);
    qe_norms_close(&norms);
    qe_norms_close(&other);
  }
  qe_free(bits);
  close_trying(&t);
}

/* Allocations that run together give what each gives by itself; what is before the first change runs once. */
static void what_agrees_is_reused(void **state) {
  (void)state;
  enum { CHANGED = 5 };
  trying t, alone;
  qe_trial_score score[CHANGED], one;
  int32_t places = map->places, *bits = QE_NEW_ARRAY(int32_t, CHANGED * (int64_t)places);
  open_trying(&t, 8);
  for (int32_t i = 0, at = 0; i < CHANGED; i++) {
    uniform(bits + i * places, 4);
    while (i > 0 && (!map->place[at].open || map->place[at].edge)) at = (at + 1) % places;
    if (i > 0) bits[i * places + at] = 2 + i % 2;
    at = (at + 2) % places;
  }
  for (int32_t i = 0; i < CHANGED; i++) {
    open_trying(&alone, 8);
    OK(qe_trials_run(alone.trials, bits + i * places, 1, 0, 2, &score[i]));
    assert_true(qe_trials_reused(alone.trials) <= 0);
    close_trying(&alone);
  }
  qe_trial_score together[CHANGED];
  OK(qe_trials_run(t.trials, bits, 1, 7, 1, &one)); /* the engine is known from here on */
  OK(qe_trials_run(t.trials, bits, CHANGED, 0, 2, together));
  for (int32_t i = 0; i < CHANGED; i++) {
    assert_true(together[i].loss == score[i].loss);
    assert_true(together[i].top1 == score[i].top1);
  }
  if (fixture_device[1]) assert_true(qe_trials_reused(t.trials) > 0.1);
  assert_true(qe_trials_reused(t.trials) < 1);
  qe_free(bits);
  close_trying(&t);
}

/* ---- the list ---- */

static void the_list_is_in_order(void **state) {
  (void)state;
  qe_gfb_list list = {0}, copy = {0};
  for (int32_t i = 0; i < 300; i++) {
    int32_t bits[2] = {i, 2};
    OK(qe_gfb_list_add(&list, 2, bits, (double)((i * 37) % 300)));
  }
  assert_int_equal(list.count, 256);
  for (size_t i = 1; i < list.count; i++) assert_true(list.found[i - 1].sum <= list.found[i].sum);
  /* One that comes again goes to the place of its mean. */
  int32_t worst[2] = {list.found[0].bits[0], 2};
  OK(qe_gfb_list_add(&list, 2, worst, 1000));
  assert_int_equal(list.found[255].bits[0], worst[0]);
  assert_int_equal(list.found[255].count, 2);
  qe_tensors *tensors = qe_tensors_new();
  OK(qe_gfb_list_give(&list, 2, tensors));
  OK(qe_gfb_list_take(&copy, 2, tensors, "t"));
  for (size_t i = 0; i < list.count; i++) {
    assert_int_equal(copy.found[i].bits[0], list.found[i].bits[0]);
    assert_true(copy.found[i].sum == list.found[i].sum);
  }
  qe_gfb_list_free(&copy);
  FAILS(QE_FORMAT, qe_gfb_list_take(&copy, 3, tensors, "t"), "no fitting list");
  qe_tensors_free(tensors);
  qe_gfb_list_free(&list);
}

/* ---- onto the budgets ---- */

static void allocations_fill_the_budgets(void **state) {
  (void)state;
  qe_setting setting = {.options = {.seed = 1}};
  qe_gradfreebits_options options = qe_gradfreebits_defaults();
  qe_gradfreebits s = {.setting = &setting, .options = &options, .map = map};
  int32_t *bits = QE_NEW_ARRAY(int32_t, map->places), *again = QE_NEW_ARRAY(int32_t, map->places);
  s.variable = QE_NEW_ARRAY(int32_t, map->places);
  for (int32_t i = 0; i < map->places; i++)
    if (map->place[i].open && !map->place[i].edge) s.variable[s.variables++] = i;
  assert_true(s.variables > 0);
  OK(qe_bit_costs_new(map, &s.costs));
  OK(qe_budgets_read("weight-bits=3,act-bits=4", s.costs, &s.budgets));
  draws from = {5, 0};
  for (int trial = 0; trial < 50; trial++) {
    qe_bit_map_default(map, bits);
    for (int32_t i = 0; i < s.variables; i++) bits[s.variable[i]] = draw_range(&from, 2, 8);
    memcpy(again, bits, (size_t)map->places * sizeof *bits);
    qe_gfb_repair(&s, bits);
    qe_gfb_repair(&s, again);
    assert_memory_equal(bits, again, (size_t)map->places * sizeof *bits);
    assert_true(qe_budgets_excess(&s.budgets, s.costs, bits) <= 0);
    for (int32_t i = 0; i < s.variables; i++) {
      int32_t *one = &bits[s.variable[i]];
      assert_in_range(*one, 2, 8);
      ++*one; /* not even one more bit fits */
      assert_true(*one > 8 || qe_budgets_excess(&s.budgets, s.costs, bits) > 0);
      --*one;
    }
  }
  qe_bit_costs_free(s.costs);
  qe_free(s.variable);
  qe_free(again);
  qe_free(bits);
}

/* ---- the whole ---- */

static qe_setting small_setting(void) {
  qe_setting setting = {.device = fixture_fast(), .data = data, .spec = small_spec(3)};
  setting.options = qe_train_defaults();
  setting.options.epochs = 1;
  setting.options.batch = 16;
  setting.options.eval_batch = 20;
  setting.options.schedule.rate = 0.01;
  setting.search.save_every = 1;
  qe_gradfreebits_options *to = &setting.gradfreebits;
  *to = qe_gradfreebits_defaults();
  to->rounds = 1;
  to->pretrain_epochs = to->random_epochs = 1;
  to->generations = 3;
  to->population = 6;
  to->batch = 8;
  to->batches = to->confirm_batches = 2;
  to->norm_images = 8;
  return setting;
}

/* The result is within the budgets, which are those of the start, and is a model that knows its bits. */
static void the_result_keeps_the_budgets(void **state) {
  (void)state;
  qe_setting setting = small_setting();
  qe_run_options options = {.folder = path_of("run"), .keep = 1};
  qe_run_events none = {0};
  qe_result result;
  OK(qe_run_open(&options, &none, &setting.run));
  OK(qe_train_gradfreebits(&setting, &result));
  qe_run_close(setting.run);
  assert_true(result.quantized && result.final.images == 20);
  qe_model *model;
  qe_bit_costs *costs;
  int32_t *bits = QE_NEW_ARRAY(int32_t, map->places), *start = QE_NEW_ARRAY(int32_t, map->places);
  OK(qe_model_read(path_of("run/last.safetensors"), &model, NULL));
  OK(qe_bit_costs_new(map, &costs));
  qe_bit_map_default(map, start);
  qe_bit_map_of_graph(map, model->graph, bits);
  assert_true(qe_bit_cost_of(costs, QE_BIT_COST_WEIGHT_BITS, bits) <=
              qe_bit_cost_of(costs, QE_BIT_COST_WEIGHT_BITS, start));
  assert_true(qe_bit_cost_of(costs, QE_BIT_COST_ACT_BITS, bits) <= qe_bit_cost_of(costs, QE_BIT_COST_ACT_BITS, start));
  /* The file says the same. */
  qe_model_spec spec = small_spec(8);
  char *layers;
  OK(qe_bits_file_read(path_of("run/bits.txt"), &spec, &layers));
  qe_graph *graph;
  OK(qe_model_build(&spec, &graph));
  qe_bit_map_of_graph(map, graph, start);
  assert_memory_equal(start, bits, (size_t)map->places * sizeof *bits);
  qe_graph_free(graph);
  qe_free(layers);
  qe_bit_costs_free(costs);
  qe_free(start);
  qe_free(bits);
  qe_model_free(model);
  folder_remove(path_of("run"));
}

/* A front, and right answers by size, in the report. */
static void several_objectives_give_a_front(void **state) {
  (void)state;
  qe_setting setting = small_setting();
  setting.gradfreebits.searcher = QE_SEARCHER_PARETO;
  setting.gradfreebits.population = 8;
  setting.gradfreebits.pretrain_epochs = setting.gradfreebits.random_epochs = 0;
  qe_run_options options = {.folder = path_of("front"), .keep = 1};
  qe_run_events none = {0};
  qe_result result;
  char *text;
  OK(qe_run_open(&options, &none, &setting.run));
  OK(qe_train_gradfreebits(&setting, &result));
  qe_run_close(setting.run);
  OK(qe_file_read(path_of("front/rounds.json"), 1 << 24, &text, NULL));
  assert_non_null(strstr(text, "\"front\":[{\"bits\":["));
  qe_free(text);
  OK(qe_report_folder(path_of("front")));
  OK(qe_file_read(path_of("front/report.html"), 1 << 26, &text, NULL));
  assert_non_null(strstr(text, "Bits by layer and round"));
  assert_non_null(strstr(text, "uniform, 3 bits"));
  qe_free(text);
  folder_remove(path_of("front"));
}

static void bad_options_are_refused(void **state) {
  (void)state;
  qe_result result;
  qe_setting setting = small_setting();
  setting.gradfreebits.least = 5;
  setting.gradfreebits.most = 4;
  FAILS(QE_USAGE, qe_train_gradfreebits(&setting, &result), "gfb-least 5");
  setting = small_setting();
  setting.spec = small_spec(QE_FLOAT_BITS);
  FAILS(QE_USAGE, qe_train_gradfreebits(&setting, &result), "--weight-bits");
  setting = small_setting();
  setting.gradfreebits.held_out = true;
  FAILS(QE_USAGE, qe_train_gradfreebits(&setting, &result), "held-out");
  setting = small_setting();
  setting.gradfreebits.budgets = "weight-bit=3";
  FAILS(QE_USAGE, qe_train_gradfreebits(&setting, &result), "weight-bits");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(steps_are_kept_by_bits),
      cmocka_unit_test(steps_go_through_tensors),
      cmocka_unit_test(statistics_are_of_the_batch_alone),
      cmocka_unit_test(scores_are_those_of_plain_networks),
      cmocka_unit_test(known_allocations_cost_nothing),
      cmocka_unit_test(statistics_go_on_from_the_model_before),
      cmocka_unit_test(what_agrees_is_reused),
      cmocka_unit_test(the_list_is_in_order),
      cmocka_unit_test(allocations_fill_the_budgets),
      cmocka_unit_test(the_result_keeps_the_budgets),
      cmocka_unit_test(several_objectives_give_a_front),
      cmocka_unit_test(bad_options_are_refused),
  };
  return cmocka_run_group_tests(tests, open_map, close_map);
}
