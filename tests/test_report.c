/* Tests of reports: metrics of every shape, configs, runs that are whole, broken or none, evaluations, the page. */
#include "core/base/lock.h"
#include "core/report/report_parts.h"
#include "tests/saved.h"

#include <cjson/cJSON.h>
#include <sys/stat.h>

static void put(const char *name, const char *text) {
  OK(qe_file_write(path_of(name), text, strlen(text)));
}

static char *page_of(const char *name) {
  char *text;
  OK(qe_file_read(path_of(name), 1 << 26, &text, NULL));
  return text;
}

static void assert_has(const char *text, const char *part) {
  if (!strstr(text, part)) fail_msg("'%s' is not in the page", part);
}

/* ---- metrics ---- */

static qe_history history_of(const char *text) {
  qe_history history = {0};
  OK(qe_history_read(&history, text, strlen(text)));
  return history;
}

static void assert_points(const qe_history *history, const char *key, const char *wanted) {
  const qe_series *series = qe_history_find(history, key);
  char got[512] = "";
  size_t used = 0;
  for (size_t i = 0; series && i < series->count && used < sizeof got - 64; i++)
    used += (size_t)snprintf(got + used, sizeof got - used, "%s%g:%g", i ? " " : "", series->x[i], series->y[i]);
  assert_string_equal(got, wanted);
}

static void test_epochs(void **state) {
  (void)state;
  qe_history h =
      history_of("{\"phase\":\"float\",\"epoch\":1,\"step\":1,\"steps\":4,\"rate\":0.5}\n"
                 "{\"phase\":\"float\",\"epoch\":1,\"epochs\":2,\"test_loss\":3,\"rate\":0.4,\"seconds\":2}\n"
                 "{\"phase\":\"float\",\"epoch\":2,\"epochs\":2,\"test_loss\":2.5,\"seconds\":3}\n"
                 "{\"phase\":\"qat\",\"epoch\":1,\"epochs\":3,\"test_loss\":null,\"new_number\":7,\"seconds\":4}\n");
  assert_points(&h, "test_loss", "1:3 2:2.5 3:nan");
  assert_points(&h, "rate", "0.25:0.5 1:0.4");
  assert_points(&h, "new_number", "3:7");
  assert_points(&h, "epoch", "");
  assert_true(h.edges == 1 && strcmp(h.edge[0].name, "float") == 0 && fabs(h.edge[0].x - 2) < 1e-9);
  assert_true(h.epoch == 1 && h.epochs == 3 && fabs(h.seconds - 9) < 1e-9 && !h.searches && h.broken == 0);
  assert_true(fabs(qe_history_last(&h, "test_loss", (double)INFINITY) - 2.5) < 1e-9);
  assert_true(fabs(qe_history_last(&h, "test_loss", 1.5) - 3) < 1e-9);
  qe_history_free(&h);
}

/* What a resumed run does again replaces what it had done. */
static void test_epochs_again(void **state) {
  (void)state;
  qe_history h = history_of("{\"phase\":\"qat\",\"epoch\":1,\"epochs\":3,\"test_loss\":3}\n"
                            "{\"phase\":\"qat\",\"epoch\":2,\"epochs\":3,\"test_loss\":9}\n"
                            "{\"phase\":\"qat\",\"epoch\":3,\"epochs\":3,\"test_loss\":9}\n"
                            "{\"phase\":\"qat\",\"epoch\":2,\"epochs\":3,\"test_loss\":2}\n");
  assert_points(&h, "test_loss", "1:3 2:2");
  qe_history_free(&h);
}

static void test_search(void **state) {
  (void)state;
  qe_history h = history_of(
      "{\"phase\":\"coevolution\",\"ended\":\"start\",\"held_out_loss\":2,\"spent\":100,\"seconds\":1}\n"
      "{\"phase\":\"coevolution\",\"stage\":\"eda\",\"generation\":1,\"spent\":200,\"best\":1.5,\"seconds\":2,"
      "\"confidence\":{\"fc\":[[50,2],[99,2]],\"empty\":[]}}\n"
      "{\"phase\":\"coevolution\",\"ended\":\"eda\",\"held_out_loss\":1,\"spent\":300,\"seconds\":3}\n");
  assert_true(h.searches && h.edges == 2 && h.layers == 1 && h.cells == 1);
  assert_true(fabs(h.cell[0].mean - 0.75) < 1e-9);
  assert_points(&h, "held_out_loss", "100:2 300:1");
  assert_points(&h, "best", "200:1.5");
  qe_history_free(&h);
}

static void test_damaged_metrics(void **state) {
  (void)state;
  qe_history h = history_of("");
  assert_true(h.lines == 0 && h.count == 0);
  h = history_of("\n\n{\"epoch\":1,\"epochs\":1,\"a\":1}\nnot "
                 "json\n[1]\n{\"epoch\":1e99}\n{\"epoch\":-1,\"a\":5}\n{\"epoch\":2,\"a\"");
  assert_points(&h, "a", "1:1");
  assert_true(h.broken == 2 && h.lines == 6);
  qe_history_free(&h);
  h = history_of("{\"epoch\":1,\"step\":3,\"steps\":0,\"a\":1}\n{\"spent\":\"x\",\"a\":1}\n{\"spent\":1,\"confidence\":"
                 "{\"l\":[[\"a\"],3,[1]]}}\n");
  assert_points(&h, "a", "");
  assert_int_equal(h.cells, 0);
  qe_history_free(&h);
}

static void test_many_keys(void **state) {
  (void)state;
  char text[16384] = "{\"epoch\":1";
  size_t used = strlen(text);
  for (int i = 0; i < 1000; i++) used += (size_t)snprintf(text + used, sizeof text - used, ",\"k%d\":1", i);
  snprintf(text + used, sizeof text - used, "}\n");
  qe_history h = history_of(text);
  assert_true(h.count <= 256);
  qe_history_free(&h);
}

/* ---- config ---- */

static void test_config(void **state) {
  (void)state;
  static const char text[] =
      "model: mlp # command line\nlayer-bits: \"a # b\" # f.yaml:3\nseed: 1 # default\nlist: [1, 2]\nplain: x\n";
  qe_config config = {0};
  OK(qe_config_read(&config, "config.yaml", text, strlen(text)));
  assert_int_equal(config.rows, 4);
  assert_string_equal(qe_config_get(&config, "layer-bits"), "a # b");
  assert_string_equal(config.row[1].origin, "f.yaml:3");
  assert_true(qe_config_is_default(&config.row[2]) && !qe_config_is_default(&config.row[0]));
  assert_string_equal(config.row[3].origin, "");
  assert_null(qe_config_get(&config, "no-such"));
  qe_config_free(&config);
  FAILS(QE_FORMAT, qe_config_read(&config, "c.yaml", "a: [", 4), "c.yaml:");
  qe_config_free(&config);
  FAILS(QE_FORMAT, qe_config_read(&config, "c.yaml", "- a\n", 4), "mapping");
  qe_config_free(&config);
}

/* ---- runs ---- */

static qe_report *report_of(const char *const *paths) {
  qe_report *report;
  OK(qe_report_new(&report));
  for (; *paths; paths++) OK(qe_report_add(report, *paths));
  return report;
}

static void clear_folder(void) {
  folder_remove(folder);
  assert_int_equal(mkdir(folder, 0700), 0);
}

static void test_no_run(void **state) {
  (void)state;
  qe_report *report;
  clear_folder();
  OK(qe_report_new(&report));
  FAILS(QE_NOT_FOUND, qe_report_add(report, path_of("nowhere")), "nowhere");
  FAILS(QE_FORMAT, qe_report_add(report, folder), "is no run");
  put("text", "no tensors");
  FAILS(QE_FORMAT, qe_report_add(report, path_of("text")), "text");
  assert_int_equal(qe_report_runs(report), 0);
  qe_report_free(report);
}

/* A folder that has only a part, or a damaged one, is reported on with a remark. */
static void test_broken_run(void **state) {
  (void)state;
  clear_folder();
  put("metrics.jsonl",
      "{\"phase\":\"float\",\"epoch\":1,\"epochs\":9,\"test_loss\":null,\"train_loss\":1}\n{\"phase\":\"flo");
  put("config.yaml", "model: <mlp> # command line\nseed: 1 # default\n");
  put("best.safetensors", "damaged");
  qe_report *report = report_of((const char *const[]){folder, NULL});
  assert_false(qe_report_finished(report, 0));
  assert_false(qe_report_has_network(report, 0));
  assert_string_equal(qe_report_config(report, 0, "model"), "<mlp>");
  OK(qe_report_write(report, path_of("report.html"), 5));
  char *page = page_of("report.html");
  assert_has(page, "data-reload=\"5\"");
  assert_has(page, "running</span>");
  assert_has(page, "Not read: ");
  assert_has(page, "&lt;mlp&gt;");
  assert_null(strstr(page, "<mlp>"));
  qe_free(page);
  qe_report_free(report);
}

/* What state.json says wins over what the metrics look like. */
static void test_state(void **state) {
  (void)state;
  static const struct {
    const char *json, *stand;
    bool finished, ended;
  } row[] = {{"{\"state\":\"finished\"}", "finished", true, true},
             {"{\"state\":\"interrupted\"}", "interrupted", false, true},
             {"{\"state\":\"failed\",\"message\":\"<disk> full\"}", "failed", false, true},
             {"{\"state\":\"running\"}", "killed", false, true}, /* nobody has the folder */
             {"{\"state\":\"killed\"}", "not finished", false, false},
             {"{\"state\":3}", "not finished", false, false},
             {"{\"state", "not finished", false, false}};
  clear_folder();
  put("metrics.jsonl", "{\"phase\":\"qat\",\"epoch\":1,\"epochs\":9,\"test_loss\":1,\"train_loss\":1}\n");
  for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
    put("state.json", row[i].json);
    qe_report *report = report_of((const char *const[]){folder, NULL});
    assert_string_equal(qe_report_stand(report, 0), row[i].stand);
    assert_int_equal(qe_report_finished(report, 0), row[i].finished);
    assert_int_equal(qe_report_ended(report, 0), row[i].ended);
    OK(qe_report_write(report, path_of("report.html"), 0));
    qe_report_free(report);
    char *page = page_of("report.html");
    if (!row[i].finished) assert_has(page, row[i].stand);
    if (strcmp(row[i].stand, "failed") == 0) assert_has(page, "&lt;disk&gt; full");
    qe_free(page);
  }
  int lock;
  put("state.json", row[3].json);
  OK(qe_folder_lock(folder, &lock));
  qe_report *report = report_of((const char *const[]){folder, NULL});
  qe_folder_unlock(lock);
  assert_string_equal(qe_report_stand(report, 0), "running");
  assert_false(qe_report_ended(report, 0));
  qe_report_free(report);
}

static void test_empty_metrics(void **state) {
  (void)state;
  clear_folder();
  put("metrics.jsonl", "");
  OK(qe_report_folder(folder));
  char *page = page_of("report.html");
  assert_has(page, "The run has no metrics yet.");
  assert_has(page, "not finished");
  assert_null(strstr(page, "Course of training"));
  qe_free(page);
}

static qe_model *fitted_model(int bits, bool per_channel) {
  qe_model_spec spec = small_spec(bits);
  spec.bits.per_channel = per_channel;
  qe_model *model = new_model(&spec, 3);
  OK(qe_fit_steps(fixture_device[0], model, data, 1));
  return model;
}

static void name_data(void) {
  if (data->name) return;
  data->name = qe_strdup("small<data>");
  data->source = qe_strdup("drawn");
}

/* Numbers of the findings that can be had otherwise. */
static void check_findings(const qe_report *report, const qe_model *model) {
  const qe_findings *found = &report->run[0]->found;
  qe_score real, integer;
  int64_t all = 0, right = 0;
  OK(qe_evaluate(fixture_device[0], model, data, 0, NULL, &real));
  OK(qe_evaluate_integer(fixture_device[0], model, data, 0, NULL, &integer));
  assert_true(fabs(found->real.top1 - real.top1) < 1e-9 && fabs(found->integer.loss - integer.loss) < 1e-12);
  for (int i = 0; i < data->classes * data->classes; i++) all += found->confusion[i];
  for (int i = 0; i < data->classes; i++) right += found->confusion[i * data->classes + i];
  assert_int_equal(all, data->test_images);
  assert_true(fabs(100.0 * (double)right / (double)all - integer.top1) < 1e-9);
  assert_int_equal(found->mistakes, all - right > QE_MOST_MISTAKES ? QE_MOST_MISTAKES : all - right);
  for (int i = 0; i < found->mistakes; i++) {
    const qe_mistake *m = &found->mistake[i];
    assert_true(m->label == data->test_labels[m->image] && m->predicted != m->label);
    assert_true(m->confidence > 1.0f / (float)data->classes - 1e-6f && m->confidence <= 1);
    assert_true(i == 0 || m->confidence <= found->mistake[i - 1].confidence);
  }
  assert_true(found->activations > 0);
  for (size_t i = 0; i < found->activations; i++) {
    const qe_activation *a = &found->activation[i];
    assert_true(a->zero >= 0 && a->zero <= 1 && a->saturated >= 0 && a->zero + a->saturated <= 1 &&
                a->reached <= a->high);
    assert_true(a->step > 0 && a->mean >= 0 && a->mean <= a->high);
  }
}

static void check_weights(const qe_report_run *run, const qe_model *model) {
  for (size_t i = 0; i < run->layers; i++) {
    const qe_layer_weights *layer = &run->layer[i];
    int64_t sum = 0;
    for (int k = 0; k < layer->bins; k++) sum += layer->count[k];
    assert_true(layer->codes && sum == layer->weights && layer->step[0] > 0 && layer->step[1] >= layer->step[0]);
    assert_true((layer->step[1] > layer->step[0]) == model->spec.bits.per_channel);
  }
}

static void test_model(void **state) {
  (void)state;
  name_data();
  for (int per_channel = 0; per_channel < 2; per_channel++) {
    clear_folder();
    qe_model *model = fitted_model(3, per_channel);
    save(model, "m.safetensors");
    qe_report *report = report_of((const char *const[]){path_of("m.safetensors"), NULL});
    assert_true(qe_report_finished(report, 0) && qe_report_has_network(report, 0));
    OK(qe_report_evaluate(report, 0, fixture_device[0], data, 0));
    check_findings(report, model);
    check_weights(report->run[0], model);
    OK(qe_report_write(report, path_of("out.html"), 0));
    char *page = page_of("out.html");
    assert_has(page, "id=\"errors\"");
    assert_has(page, "data:image/png;base64,");
    assert_has(page, "id=\"activations\"");
    assert_has(page, "small&lt;data&gt;");
    assert_has(page, "href=\"#weights\"");
    assert_null(strstr(page, "id=\"course\""));
    qe_free(page);
    qe_report_free(report);
    qe_model_free(model);
  }
}

/* A float model has no codes and no integer network; of a model with float activations the weights' codes are shown. */
static void test_float_model(void **state) {
  (void)state;
  name_data();
  for (int i = 0; i < 2; i++) {
    clear_folder();
    qe_model_spec spec = small_spec(32);
    if (i == 1) spec.bits.weights = 2;
    qe_model *model = new_model(&spec, 3);
    OK(qe_fit_steps(fixture_device[0], model, data, 1));
    save(model, "m.safetensors");
    qe_report *report = report_of((const char *const[]){path_of("m.safetensors"), NULL});
    OK(qe_report_evaluate(report, 0, fixture_device[0], data, 0));
    const qe_report_run *run = report->run[0];
    assert_true(run->found.real.images == 20 && run->found.integer.images == 0 && run->found.activations == 0);
    assert_true(run->layer[0].codes == (i == 1));
    OK(qe_report_write(report, path_of("out.html"), 0));
    qe_report_free(report);
    qe_model_free(model);
  }
}

/* Data of another shape: the report says so, and shows the rest. */
static void test_other_data(void **state) {
  (void)state;
  name_data();
  clear_folder();
  qe_dataset *other = small_data(6, 3, 4, 8, 8);
  other->name = qe_strdup("other");
  other->source = qe_strdup("drawn");
  qe_model *model = fitted_model(4, false);
  save(model, "m.safetensors");
  qe_report *report = report_of((const char *const[]){path_of("m.safetensors"), NULL});
  FAILS(QE_SHAPE, qe_report_evaluate(report, 0, fixture_device[0], other, 0), "choose other --data");
  OK(qe_report_write(report, path_of("out.html"), 0));
  char *page = page_of("out.html");
  assert_has(page, "Not evaluated: the model takes 8x8x3");
  qe_free(page);
  qe_report_free(report);
  qe_model_free(model);
  qe_dataset_free(other);
}

/* Several runs, a name twice: charts together, the rest run by run; and the summary as JSON. */
static void test_several(void **state) {
  (void)state;
  clear_folder();
  put("metrics.jsonl", "{\"phase\":\"qat\",\"epoch\":1,\"epochs\":1,\"test_loss\":2,\"test_top1\":30}\n");
  qe_model *model = fitted_model(4, false);
  save(model, "best.safetensors");
  char twice[FIXTURE_PATH + 8];
  snprintf(twice, sizeof twice, "%s/.", folder);
  qe_report *report = report_of((const char *const[]){folder, twice, path_of("best.safetensors"), NULL});
  assert_true(strcmp(qe_report_name(report, 0), qe_report_name(report, 1)) != 0);
  OK(qe_report_write(report, path_of("several.html"), 0));
  char *page = page_of("several.html"), *text;
  assert_has(page, "3 runs");
  assert_has(page, "<details class=\"run\" open>");
  assert_has(page, "id=\"weights-3\"");
  qe_free(page);
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_report_json(report, &json);
  qe_json_close(&json);
  OK(qe_json_finish(&json, &text, NULL));
  cJSON *tree = cJSON_Parse(text);
  const cJSON *runs = cJSON_GetObjectItem(tree, "runs");
  assert_int_equal(cJSON_GetArraySize(runs), 3);
  assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(runs, 0), "method")), "qat");
  assert_true(cJSON_IsTrue(cJSON_GetObjectItem(cJSON_GetArrayItem(runs, 0), "finished")));
  cJSON_Delete(tree);
  qe_free(text);
  qe_report_free(report);
  qe_model_free(model);
}

/* Each allocation of reading, evaluating and writing fails once. */
static void test_no_memory(void **state) {
  (void)state;
  name_data();
  clear_folder();
  qe_model_spec spec = small_spec(3);
  qe_model *model = new_model(&spec, 3);
  OK(qe_fit_steps(fixture_device[0], model, data, 1));
  save(model, "best.safetensors");
  put("metrics.jsonl", "{\"phase\":\"qat\",\"epoch\":1,\"epochs\":1,\"test_loss\":2}\n");
  put("config.yaml", "model: mlp # default\n");
  qe_status status = QE_NO_MEMORY;
  int64_t nth = 1;
  for (; status == QE_NO_MEMORY && nth < 4000; nth += 1 + nth / 8) {
    qe_report *report = NULL;
    qe_alloc_fail_nth(nth);
    status = qe_report_new(&report);
    if (status == QE_OK) status = qe_report_add(report, folder);
    if (status == QE_OK) status = qe_report_evaluate(report, 0, fixture_device[0], data, 0);
    if (status == QE_OK) status = qe_report_write(report, path_of("out.html"), 0);
    qe_alloc_fail_nth(0);
    qe_report_free(report);
  }
  assert_int_equal(status, QE_OK);
  assert_true(nth > 50);
  qe_model_free(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_epochs),          cmocka_unit_test(test_epochs_again), cmocka_unit_test(test_search),
      cmocka_unit_test(test_damaged_metrics), cmocka_unit_test(test_many_keys),    cmocka_unit_test(test_config),
      cmocka_unit_test(test_no_run),          cmocka_unit_test(test_broken_run),   cmocka_unit_test(test_state),
      cmocka_unit_test(test_empty_metrics),   cmocka_unit_test(test_model),        cmocka_unit_test(test_float_model),
      cmocka_unit_test(test_other_data),      cmocka_unit_test(test_several),      cmocka_unit_test(test_no_memory),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
