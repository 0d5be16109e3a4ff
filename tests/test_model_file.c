/* Model files: round trips to the bit, float weights into quantised networks, files that do not fit. */
#include "core/train/trainer.h"
#include "tests/saved.h"

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

static bool is_step(const qe_param *param) {
  return strstr(param->name, "step") != NULL;
}

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
    for (int k = 0; k < tensor->rank; k++) shape[k] = tensor->shape[spoil && how->transpose ? tensor->rank - 1 - k : k];
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
  static const char *const keys[] = {
      "format",          "model",         "shortcut",         "input",         "classes",     "weight_bits", "act_bits",
      "first_last_bits", "residual_bits", "weight_quantizer", "act_quantizer", "per_channel", "layer_bits"};
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

/* Other bits: weights and what else has no step stay, a step stays where its quantiser does. */
static void other_bits(void **state) {
  (void)state;
  qe_model_spec spec = small_spec(4);
  qe_model *model = new_model(&spec, 3), *other;
  for (size_t k = 0; k < model->graph->params; k++) {
    qe_model_values(model, (int)k)[0] = 0.5f + (float)k;
    model->graph->param[k].initialised = true;
  }
  qe_bits bits = spec.bits;
  bits.weights = 2;
  OK(qe_model_requantize(model, &bits, &other));
  int stay = 0, go = 0;
  for (size_t k = 0; k < other->graph->params; k++) {
    const qe_param *param = &other->graph->param[k];
    int before = qe_graph_find_param(model->graph, param->name);
    assert_true(before >= 0);
    assert_true(qe_model_values(other, (int)k)[0] == qe_model_values(model, before)[0]);
    const qe_quantizer *is = &other->graph->node[param->node].quantizer,
                       *was = &model->graph->node[model->graph->param[before].node].quantizer;
    bool changed = is_step(param) && is->bits != was->bits;
    assert_int_equal(param->initialised, !changed);
    stay += is_step(param) && !changed;
    go += changed;
  }
  assert_true(stay > 0 && go > 0);
  qe_model_free(other);
  qe_model_free(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(models_survive_a_file),
      cmocka_unit_test(float_weights_into_a_quantised_network),
      cmocka_unit_test(steps_per_channel_and_per_tensor),
      cmocka_unit_test(files_that_do_not_fit),
      cmocka_unit_test(metadata_that_do_not_fit),
      cmocka_unit_test(other_bits),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
