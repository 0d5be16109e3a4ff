/* Model files and run folders: round trips to the bit, files that do not fit, and runs that are stopped and resumed. */
#include "core/base/file.h"
#include "core/methods/method.h"
#include "tests/fixture.h"

#include <cjson/cJSON.h>

static qe_dataset *data;
static char folder[FIXTURE_PATH];

static int open_all(void **state) {
  data = small_data(8, 3, 4, 64, 20);
  folder_new(folder);
  return fixture_open(state);
}
static int close_all(void **state) {
  qe_dataset_free(data);
  folder_remove(folder);
  return fixture_close(state);
}

/* "folder/name" in static memory. */
static const char *path_of(const char *name) {
  static char path[4][2 * FIXTURE_PATH];
  static int next;
  next = (next + 1) % 4;
  snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
  return path[next];
}

static qe_model_spec small_spec(int bits) {
  qe_model_spec spec = qe_model_default("mlp");
  spec.height = spec.width = 8;
  spec.classes = 4;
  spec.bits.weights = spec.bits.activations = bits;
  return spec;
}

static qe_model *new_model(const qe_model_spec *spec, uint64_t seed) {
  qe_model *model;
  OK(qe_model_new(spec, seed, &model));
  return model;
}

static void save(const qe_model *model, const char *name) {
  qe_tensors *tensors = qe_tensors_new();
  assert_non_null(tensors);
  OK(qe_model_give(model, tensors));
  OK(qe_tensors_write(tensors, path_of(name)));
  qe_tensors_free(tensors);
}

static void assert_same_files(const char *first, const char *second) {
  char *a, *b;
  size_t a_bytes, b_bytes;
  OK(qe_file_read(first, 1 << 26, &a, &a_bytes));
  OK(qe_file_read(second, 1 << 26, &b, &b_bytes));
  assert_int_equal(a_bytes, b_bytes);
  assert_memory_equal(a, b, a_bytes);
  qe_free(a);
  qe_free(b);
}

/* ---- model files ---- */

static void models_survive_a_file(void **state) {
  (void)state;
  qe_model_spec specs[4] = {qe_model_default("resnet20"), qe_model_default("resnet20"), small_spec(32), small_spec(2)};
  specs[1].shortcut = 'B';
  specs[1].classes = 7;
  specs[1].bits = (qe_bits){.weights = 3,
                            .activations = 5,
                            .edges = 6,
                            .residual = 7,
                            .weight_rule = QE_RULE_L2,
                            .activation_rule = QE_RULE_PACT,
                            .per_channel = true,
                            .layers = "stage1.0.conv1=w2a3,fc=w8"};
  for (int i = 0; i < 4; i++) {
    qe_model *model = new_model(&specs[i], 3), *back;
    draws from = {(uint64_t)i, 0};
    for (size_t k = 0; k < model->graph->params; k++) {
      qe_param *param = &model->graph->param[k];
      draw_reals(&from, qe_model_values(model, (int)k), qe_count(&param->desc), 1e-6f, 2);
      param->initialised = true;
    }
    qe_tensors *tensors = NULL;
    save(model, "model.safetensors");
    OK(qe_model_read(path_of("model.safetensors"), &back, &tensors));
    assert_true(same_values(model, back));
    for (size_t k = 0; k < back->graph->params; k++) assert_true(back->graph->param[k].initialised);
    const qe_model_spec *a = &model->spec, *b = &back->spec;
    assert_string_equal(a->name, b->name);
    assert_true(a->shortcut == b->shortcut && a->height == b->height && a->width == b->width &&
                a->channels == b->channels && a->classes == b->classes);
    assert_string_equal(a->bits.layers ? a->bits.layers : "", b->bits.layers ? b->bits.layers : "");
    assert_true(a->bits.weights == b->bits.weights && a->bits.activations == b->bits.activations &&
                a->bits.edges == b->bits.edges && a->bits.residual == b->bits.residual &&
                a->bits.weight_rule == b->bits.weight_rule && a->bits.activation_rule == b->bits.activation_rule &&
                a->bits.per_channel == b->bits.per_channel);
    save(back, "again.safetensors");
    assert_same_files(path_of("model.safetensors"), path_of("again.safetensors"));
    qe_tensors_free(tensors);
    qe_model_free(model);
    qe_model_free(back);
  }
}

static qe_tensors *tensors_of(const qe_model *model) {
  qe_tensors *tensors = qe_tensors_new();
  assert_non_null(tensors);
  OK(qe_model_give(model, tensors));
  return tensors;
}

static bool is_step(const qe_param *param) { return strstr(param->name, "step") != NULL; }

/* A float model has no steps to give; they are fitted to its weights and activations. */
static void float_weights_into_a_quantised_network(void **state) {
  (void)state;
  qe_model_spec floats = small_spec(32), quantized = small_spec(3);
  qe_model *from = new_model(&floats, 3), *to = new_model(&quantized, 4);
  qe_tensors *tensors = tensors_of(from);
  OK(qe_model_take(to, tensors, "float file"));
  int steps = 0;
  for (size_t i = 0; i < to->graph->params; i++) {
    const qe_param *param = &to->graph->param[i];
    assert_true(param->initialised == !is_step(param));
    int same = qe_graph_find_param(from->graph, param->name);
    if (is_step(param))
      steps++;
    else
      assert_memory_equal(qe_model_values(to, (int)i), qe_model_values(from, same), qe_bytes(&param->desc));
  }
  assert_int_equal(steps, 5);
  qe_tensors *unfitted = tensors_of(to); /* nor are defaults saved as if they were steps */
  assert_null(qe_tensors_find(unfitted, "fc2.weight_step"));
  OK(qe_tensors_write(unfitted, path_of("unfitted.safetensors")));
  qe_model *read = NULL;
  FAILS(QE_FORMAT, qe_model_read(path_of("unfitted.safetensors"), &read, NULL), "unfitted.safetensors");
  FAILS(QE_FORMAT, qe_model_read(path_of("unfitted.safetensors"), &read, NULL), "weight_step");
  assert_null(read);

  OK(qe_fit_steps(fixture_fast(), to, data, 1));
  for (size_t i = 0; i < to->graph->params; i++) {
    const qe_param *param = &to->graph->param[i];
    if (!is_step(param)) continue;
    float step = *qe_model_values(to, (int)i);
    assert_true(param->initialised && step > 0 && step < 10 && (step < 1 || step > 1));
  }
  qe_tensors_free(tensors);
  qe_tensors_free(unfitted);
  qe_model_free(from);
  qe_model_free(to);
}

static void steps_per_channel_and_per_tensor(void **state) {
  (void)state;
  qe_model_spec spec[2] = {small_spec(4), small_spec(4)};
  spec[1].bits.per_channel = true;
  for (int from = 0; from < 2; from++) {
    qe_model *a = new_model(&spec[from], 3), *b = new_model(&spec[1 - from], 4);
    OK(qe_fit_steps(fixture_fast(), a, data, 1));
    qe_tensors *tensors = tensors_of(a);
    OK(qe_model_take(b, tensors, "file"));
    int weight = qe_graph_find_param(b->graph, "fc2.weight_step"), act = qe_graph_find_param(b->graph, "relu1.step");
    assert_false(b->graph->param[weight].initialised);
    assert_true(b->graph->param[act].initialised); /* the activations' steps fit as they are */
    OK(qe_fit_steps(fixture_fast(), b, data, 1));
    assert_true(b->graph->param[weight].initialised);
    assert_true(*qe_model_values(b, act) == *qe_model_values(a, qe_graph_find_param(a->graph, "relu1.step")));
    qe_tensors_free(tensors);
    qe_model_free(a);
    qe_model_free(b);
  }
}

/* A copy of `from` without tensor `without`, and with `replaced` of another shape or with other values. */
typedef struct change {
  const char *without, *spoilt;
  float value;    /* at the end of the tensor `spoilt` */
  bool transpose; /* give `spoilt` its axes the other way round */
  const char *text;
} change;

static qe_tensors *changed(const qe_tensors *from, const change *how) {
  qe_tensors *to = qe_tensors_new();
  assert_non_null(to);
  for (size_t i = 0; i < from->meta_count; i++) OK(qe_tensors_set_meta(to, from->meta[i].key, from->meta[i].value));
  for (size_t i = 0; i < from->count; i++) {
    const qe_named_tensor *tensor = &from->items[i];
    if (how->without && strcmp(tensor->name, how->without) == 0) continue;
    bool spoil = how->spoilt && strcmp(tensor->name, how->spoilt) == 0;
    int64_t shape[QE_MAX_RANK];
    for (int k = 0; k < tensor->rank; k++)
      shape[k] = tensor->shape[spoil && how->transpose ? tensor->rank - 1 - k : k];
    OK(qe_tensors_add(to, tensor->name, tensor->dtype, tensor->rank, shape, tensor->data));
    float *values = to->items[to->count - 1].data;
    if (spoil && !how->transpose) values[tensor->bytes / sizeof *values - 1] = how->value;
  }
  return to;
}

static void files_that_do_not_fit(void **state) {
  (void)state;
  const change changes[] = {
      {.without = "fc2.weight", .text = "has no tensor fc2.weight"},
      {.without = "bn1.running_var", .text = "has no tensor bn1.running_var"},
      {.spoilt = "bn2.gamma", .value = NAN, .text = "tensor bn2.gamma holds nan at 255"},
      {.spoilt = "fc1.weight", .value = INFINITY, .text = "tensor fc1.weight holds inf at 49151"},
      {.spoilt = "fc2.weight_step", .value = 0, .text = "tensor fc2.weight_step holds 0 at 0"},
      {.spoilt = "relu1.step", .value = -1, .text = "tensor relu1.step holds -1 at 0"},
      {.spoilt = "fc1.weight", .transpose = true, .text = "tensor fc1.weight is f32[192,256]"},
  };
  qe_model_spec spec = small_spec(4);
  qe_model *model = new_model(&spec, 3), *read = NULL;
  OK(qe_fit_steps(fixture_fast(), model, data, 1));
  qe_tensors *good = tensors_of(model);
  for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
    qe_tensors *bad = changed(good, &changes[i]);
    FAILS(QE_FORMAT, qe_model_take(model, bad, "bad.safetensors"), changes[i].text);
    assert_non_null(strstr(qe_message(), "bad.safetensors"));
    OK(qe_tensors_write(bad, path_of("bad.safetensors")));
    FAILS(QE_FORMAT, qe_model_read(path_of("bad.safetensors"), &read, NULL), changes[i].text);
    assert_non_null(strstr(qe_message(), path_of("bad.safetensors")));
    qe_tensors_free(bad);
  }
  qe_model_spec other = qe_model_default("resnet20");
  qe_model *resnet = new_model(&other, 1);
  FAILS(QE_FORMAT, qe_model_take(resnet, good, "mlp.safetensors"), "mlp.safetensors has no tensor conv1.weight");
  FAILS(QE_NOT_FOUND, qe_model_read(path_of("nothing.safetensors"), &read, NULL), "nothing.safetensors");
  assert_null(read);
  qe_tensors_free(good);
  qe_model_free(model);
  qe_model_free(resnet);
}

static void metadata_that_do_not_fit(void **state) {
  (void)state;
  static const struct {
    const char *key, *value, *text;
  } bad[] = {
      {"format", "onnx", "'onnx'"},           {"model", "resnet19", "resnet19"},
      {"shortcut", "", "shortcut"},           {"shortcut", "Q", "'Q'"},
      {"input", "32x32", "'32x32'"},          {"input", "8x8x3x1", "'8x8x3x1'"},
      {"input", "-8x8x3", "input"},           {"classes", "many", "'many'"},
      {"classes", "1", "1 classes"},          {"classes", "-4", "'-4'"},
      {"weight_bits", "4.5", "'4.5'"},        {"weight_bits", "9", "9"},
      {"act_bits", "", "act_bits"},           {"residual_bits", "99999999999", "residual_bits"},
      {"weight_quantizer", "lsqq", "'lsqq'"}, {"act_quantizer", "", "act_quantizer"},
      {"layer_bits", "fc9=w4", "fc9"},        {"classes", "5", "fc3.weight"},
      {"input", "8x9x3", "fc1.weight"},
  };
  static const char *const keys[] = {"format", "model", "shortcut", "input", "classes", "weight_bits", "act_bits",
                                     "first_last_bits", "residual_bits", "weight_quantizer", "act_quantizer",
                                     "per_channel", "layer_bits"};
  qe_model_spec spec = small_spec(4);
  qe_model *model = new_model(&spec, 3), *read = NULL;
  OK(qe_fit_steps(fixture_fast(), model, data, 1));
  qe_tensors *good = tensors_of(model);
  const char *path = path_of("meta.safetensors");
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    qe_tensors *tensors = changed(good, &(change){0});
    OK(qe_tensors_set_meta(tensors, bad[i].key, bad[i].value));
    OK(qe_tensors_write(tensors, path));
    qe_message_clear();
    qe_status status = qe_model_read(path, &read, NULL);
    if (status != QE_FORMAT && status != QE_USAGE && status != QE_SHAPE)
      fail_msg("%s = '%s' gave %s", bad[i].key, bad[i].value, qe_status_name(status));
    if (!strstr(qe_message(), path) || !strstr(qe_message(), bad[i].text))
      fail_msg("%s = '%s': %s", bad[i].key, bad[i].value, qe_message());
    qe_tensors_free(tensors);
  }
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    qe_tensors *tensors = qe_tensors_new();
    assert_non_null(tensors);
    for (size_t k = 0; k < good->meta_count; k++)
      if (strcmp(good->meta[k].key, keys[i]) != 0)
        OK(qe_tensors_set_meta(tensors, good->meta[k].key, good->meta[k].value));
    OK(qe_tensors_write(tensors, path));
    FAILS(QE_FORMAT, qe_model_read(path, &read, NULL), keys[i]);
    qe_tensors_free(tensors);
  }
  assert_null(read);
  qe_tensors_free(good);
  qe_model_free(model);
}

/* ---- runs ---- */

typedef struct watcher {
  int64_t batches;     /* until `answer` is given; 0: never */
  qe_status answer;
  int epochs, notes;
} watcher;

static qe_status on_progress(void *context, const char *phase, const qe_train_progress *progress) {
  watcher *w = context;
  assert_true(strcmp(phase, "float") == 0 || strcmp(phase, "qat") == 0);
  assert_true(progress->step > 0);
  if (--w->batches != 0) return QE_OK;
  return w->answer == QE_INTERRUPTED ? QE_INTERRUPTED : qe_fail(w->answer, "the power went off");
}
static void on_epoch(void *context, const qe_epoch_report *report) {
  watcher *w = context;
  w->epochs++;
  assert_true(report->test.images == 20 && report->epoch >= 1 && report->epoch <= report->epochs);
}
static void on_note(void *context, const char *text) {
  ((watcher *)context)->notes += text[0] != 0;
}

static void clear_run(const char *run) {
  if (qe_folder_exists(path_of(run))) folder_remove(path_of(run));
}

static qe_setting small_setting(int bits) {
  qe_setting setting = {.device = fixture_fast(), .data = data, .spec = small_spec(bits)};
  setting.options = qe_train_defaults();
  setting.options.epochs = 2;
  setting.options.batch = 16;
  setting.options.eval_batch = 20;
  setting.options.pad = 1;
  setting.options.schedule.rate = 0.02;
  setting.float_options = setting.options;
  setting.float_options.schedule.rate = 0.1;
  return setting;
}

/* One call of the method on a run folder, started or resumed. */
static qe_status train(qe_setting setting, const char *run, bool resume, watcher *w, qe_result *result) {
  qe_run_options options = {.folder = path_of(run), .config = "seed: 1\n", .resume = resume, .save_every = 1, .log_every = 2};
  qe_run_events events = {.context = w, .progress = on_progress, .epoch = on_epoch, .note = on_note};
  QE_TRY(qe_run_open(&options, &events, &setting.run));
  qe_status status = qe_train_qat(&setting, result);
  qe_run_close(setting.run);
  return status;
}

static const char *in_run(const char *run, const char *file) {
  char name[FIXTURE_PATH];
  snprintf(name, sizeof name, "%s/%s", run, file);
  return path_of(name);
}

/* Every line is a JSON object; returns how many tell of an epoch. */
static int check_metrics(const char *run) {
  FILE *file = fopen(in_run(run, "metrics.jsonl"), "r");
  assert_non_null(file);
  char line[4096];
  int epochs = 0, steps = 0;
  while (fgets(line, sizeof line, file)) {
    cJSON *json = cJSON_Parse(line);
    if (!cJSON_IsObject(json)) fail_msg("no JSON object: %s", line);
    assert_true(cJSON_IsString(cJSON_GetObjectItem(json, "phase")));
    assert_true(cJSON_IsNumber(cJSON_GetObjectItem(json, "epoch")));
    assert_true(cJSON_IsNumber(cJSON_GetObjectItem(json, "rate")));
    bool of_epoch = cJSON_GetObjectItem(json, "epochs") != NULL;
    epochs += of_epoch;
    steps += !of_epoch;
    assert_true(cJSON_IsNumber(cJSON_GetObjectItem(json, of_epoch ? "test_top1" : "running_train_loss")));
    cJSON_Delete(json);
  }
  fclose(file);
  assert_true(steps > 0);
  return epochs;
}

static void a_run_leaves_its_files(void **state) {
  (void)state;
  clear_run("whole");
  watcher w = {0};
  qe_result result;
  OK(train(small_setting(4), "whole", false, &w, &result));
  assert_true(result.quantized);
  assert_int_equal(result.start.images, 20);
  assert_int_equal(result.final.images, 20);
  assert_int_equal(w.epochs, 4);
  assert_true(w.notes >= 3);
  assert_int_equal(check_metrics("whole"), 4);
  char *config;
  OK(qe_file_read(in_run("whole", "config.yaml"), 1000, &config, NULL));
  assert_string_equal(config, "seed: 1\n");
  qe_free(config);
  static const char *const files[] = {"last.safetensors", "best.safetensors"};
  for (int i = 0; i < 2; i++) { /* what was saved has the accuracy that was told */
    qe_model *model;
    qe_score score;
    OK(qe_model_read(in_run("whole", files[i]), &model, NULL));
    OK(qe_evaluate(fixture_fast(), model, data, 20, NULL, &score));
    assert_true(score.loss == result.final.loss && score.top1 == result.final.top1);
    qe_model_free(model);
  }
  FAILS(QE_USAGE, train(small_setting(4), "whole", false, &w, &result), "holds a run already");
  FAILS(QE_USAGE, train(small_setting(4), "whole", false, &w, &result), "--resume");

  qe_result again; /* resuming a finished run only says how it ended */
  watcher quiet = {0};
  OK(train(small_setting(4), "whole", true, &quiet, &again));
  assert_int_equal(quiet.epochs, 0);
  assert_true(again.final.loss == result.final.loss);
  folder_remove(path_of("whole"));
}

static void bad_folders_are_refused(void **state) {
  (void)state;
  qe_run *run = NULL;
  qe_run_options options = {.resume = true};
  FAILS(QE_USAGE, qe_run_open(&options, NULL, &run), "--out");
  options.folder = path_of("empty");
  FAILS(QE_NOT_FOUND, qe_run_open(&options, NULL, &run), "no checkpoint to resume from");
  folder_remove(options.folder);
  OK(qe_file_write(path_of("file"), "x", 1));
  options = (qe_run_options){.folder = path_of("file")};
  FAILS(QE_IO, qe_run_open(&options, NULL, &run), path_of("file"));
  assert_null(run);
  assert_int_equal(unlink(path_of("file")), 0);
  qe_run_close(NULL);
}

/* A copy of a checkpoint whose phase is that of another, damaged, or cut off: an error, no crash. */
static void damaged_checkpoints_are_refused(void **state) {
  (void)state;
  clear_run("cut");
  watcher w = {.batches = 3, .answer = QE_INTERRUPTED};
  qe_result result;
  FAILS(QE_INTERRUPTED, train(small_setting(4), "cut", false, &w, &result), "--resume");
  char *bytes;
  size_t size;
  OK(qe_file_read(in_run("cut", "checkpoint.safetensors"), 1 << 26, &bytes, &size));
  OK(qe_file_write(in_run("cut", "checkpoint.safetensors"), bytes, size - 5));
  FAILS(QE_FORMAT, train(small_setting(4), "cut", true, &w, &result), "checkpoint.safetensors");
  OK(qe_file_write(in_run("cut", "checkpoint.safetensors"), bytes, size));
  qe_setting setting = small_setting(4);
  setting.options.seed = setting.float_options.seed = 8;
  FAILS(QE_USAGE, train(setting, "cut", true, &w, &result), "seed 1");
  setting = small_setting(4);
  setting.spec.bits.layers = "fc2=w32";
  FAILS(QE_USAGE, train(setting, "cut", true, &w, &result), "layer_bits ''");
  setting = small_setting(3);
  FAILS(QE_USAGE, train(setting, "cut", true, &w, &result), "weight_bits '4', this run has '3'");
  OK(train(small_setting(4), "cut", true, &(watcher){0}, &result));
  qe_free(bytes);
  folder_remove(path_of("cut"));
}

/* ---- stopped and resumed ---- */

static void check_stop(qe_setting setting, int64_t batches, qe_status answer, const char *reference) {
  watcher w = {.batches = batches, .answer = answer}, quiet = {0};
  qe_result result;
  clear_run("stopped");
  qe_status status = train(setting, "stopped", false, &w, &result);
  assert_int_equal(status, answer);
  bool saved = qe_file_exists(in_run("stopped", "checkpoint.safetensors"));
  if (answer == QE_INTERRUPTED) assert_true(saved);
  if (saved)
    OK(train(setting, "stopped", true, &quiet, &result));
  else /* nothing was finished yet: begin again */
    FAILS(QE_NOT_FOUND, train(setting, "stopped", true, &quiet, &result), "no checkpoint");
  if (saved) {
    assert_same_files(in_run("stopped", "last.safetensors"), in_run(reference, "last.safetensors"));
    assert_same_files(in_run("stopped", "best.safetensors"), in_run(reference, "best.safetensors"));
    check_metrics("stopped");
  }
  folder_remove(path_of("stopped"));
}

/* Four batches an epoch, two epochs in full precision, two quantised: stopped after every one of the 16 batches. */
static void resumed_runs_end_the_same(void **state) {
  (void)state;
  qe_setting setting = small_setting(3);
  qe_result result;
  clear_run("reference");
  OK(train(setting, "reference", false, &(watcher){0}, &result));
  for (int64_t batches = 1; batches <= 16; batches++) check_stop(setting, batches, QE_INTERRUPTED, "reference");
  /* without warning: the last epoch's checkpoint is there */
  for (int64_t batches = 2; batches <= 16; batches += 3) check_stop(setting, batches, QE_DEVICE, "reference");
  folder_remove(path_of("reference"));
}

static void resumed_with_held_out_images(void **state) {
  (void)state;
  qe_setting setting = small_setting(3);
  setting.options.held_out = 12;
  setting.options.epochs = 3;
  setting.options.accumulate = 3;
  setting.options.optimizer = QE_OPTIMIZER_ADAM;
  setting.options.schedule.rate = 0.003;
  setting.float_options.epochs = 0;
  qe_result result;
  clear_run("reference");
  OK(train(setting, "reference", false, &(watcher){0}, &result));
  for (int64_t batches = 1; batches <= 9; batches += 2) check_stop(setting, batches, QE_INTERRUPTED, "reference");
  folder_remove(path_of("reference"));
}

/* best.safetensors is that of the least held-out loss, not the last. */
static void the_best_model_is_kept(void **state) {
  (void)state;
  qe_setting setting = small_setting(32);
  setting.options.held_out = 16;
  setting.options.epochs = 6;
  setting.options.schedule.kind = QE_SCHEDULE_CONSTANT;
  setting.options.schedule.rate = 0.5;
  qe_result result;
  clear_run("best");
  OK(train(setting, "best", false, &(watcher){0}, &result));
  FILE *file = fopen(in_run("best", "metrics.jsonl"), "r");
  assert_non_null(file);
  char line[4096], wanted[32] = "", *fact = NULL;
  double least = HUGE_VAL;
  while (fgets(line, sizeof line, file)) {
    cJSON *json = cJSON_Parse(line), *loss = cJSON_GetObjectItem(json, "held_out_loss");
    if (loss && loss->valuedouble < least) {
      least = loss->valuedouble;
      snprintf(wanted, sizeof wanted, "%d of 6", cJSON_GetObjectItem(json, "epoch")->valueint);
    }
    cJSON_Delete(json);
  }
  fclose(file);
  qe_tensors *tensors;
  OK(qe_tensors_read(in_run("best", "best.safetensors"), &tensors));
  fact = qe_strdup(qe_tensors_get_meta(tensors, "epoch"));
  qe_tensors_free(tensors);
  assert_string_equal(fact, wanted);
  qe_free(fact);
  folder_remove(path_of("best"));
}

static void a_run_that_diverges(void **state) {
  (void)state;
  qe_setting setting = small_setting(32);
  setting.options.schedule = (qe_schedule){
      .kind = QE_SCHEDULE_STEP, .rate = 0.05, .gamma = 1e25, .milestones = 1, .milestone = {1}};
  setting.options.epochs = 3;
  qe_result result;
  clear_run("diverged");
  FAILS(QE_DIVERGED, train(setting, "diverged", false, &(watcher){0}, &result), "is kept in");
  qe_tensors *tensors;
  OK(qe_tensors_read(in_run("diverged", "checkpoint.safetensors"), &tensors));
  assert_string_equal(qe_tensors_get_meta(tensors, "position.epoch"), "1");
  qe_tensors_free(tensors);
  folder_remove(path_of("diverged"));
}

/* ---- starting from a model file ---- */

static void runs_start_from_a_file(void **state) {
  (void)state;
  qe_setting setting = small_setting(4);
  qe_result result, from_random;
  qe_model_spec spec = small_spec(32);
  qe_model *model = new_model(&spec, 3);
  save(model, "init.safetensors");
  char init[2 * FIXTURE_PATH];
  snprintf(init, sizeof init, "%s", path_of("init.safetensors"));
  setting.init = init;
  setting.options.epochs = 1;
  clear_run("init");
  watcher w = {0};
  OK(train(setting, "init", false, &w, &result));
  assert_int_equal(w.epochs, 1); /* no pre-training */
  folder_remove(path_of("init"));
  setting.init = NULL;
  OK(train(setting, "init", false, &w, &from_random));
  assert_int_equal(w.epochs, 1 + 2 + 1);
  assert_true(result.start.loss != from_random.start.loss);
  folder_remove(path_of("init"));

  setting.init = init;
  setting.spec = qe_model_default("resnet20");
  FAILS(QE_USAGE, train(setting, "init", false, &w, &result), "init.safetensors is a mlp");
  folder_remove(path_of("init"));
  setting.spec = small_spec(4);
  setting.spec.classes = 3;
  FAILS(QE_FORMAT, train(setting, "init", false, &w, &result), "fc3.weight");
  folder_remove(path_of("init"));
  setting.spec = small_spec(4);
  setting.init = "/nowhere/init.safetensors";
  FAILS(QE_NOT_FOUND, train(setting, "init", false, &w, &result), "/nowhere/init.safetensors");
  folder_remove(path_of("init"));
  qe_model_free(model);
}

static void methods_are_found_by_name(void **state) {
  (void)state;
  assert_ptr_equal(qe_method_find("qat"), qe_method_get(0));
  assert_null(qe_method_find("magic"));
  assert_null(qe_method_get(-1));
  int count = 0;
  while (qe_method_get(count)) count++;
  assert_true(count >= 1 && !qe_method_get(count + 1));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(models_survive_a_file),
      cmocka_unit_test(float_weights_into_a_quantised_network),
      cmocka_unit_test(steps_per_channel_and_per_tensor),
      cmocka_unit_test(files_that_do_not_fit),
      cmocka_unit_test(metadata_that_do_not_fit),
      cmocka_unit_test(a_run_leaves_its_files),
      cmocka_unit_test(bad_folders_are_refused),
      cmocka_unit_test(damaged_checkpoints_are_refused),
      cmocka_unit_test(resumed_runs_end_the_same),
      cmocka_unit_test(resumed_with_held_out_images),
      cmocka_unit_test(the_best_model_is_kept),
      cmocka_unit_test(a_run_that_diverges),
      cmocka_unit_test(runs_start_from_a_file),
      cmocka_unit_test(methods_are_found_by_name),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
